//! What the server says: errors, notices, settings, descriptions of rows.
//!
//! What it guarantees: a text with a zero byte in it cannot cut a message short.
//! What it does not: it chooses no words; errors are shown as they are.

use arrow::datatypes::SchemaRef;
use kho_catalog::error::Error;
use kho_sql::outcome::Notice;
use kho_sql::session::TransactionStatus;
use pgwire::messages::data::{FieldDescription, RowDescription};
use pgwire::messages::response::{self, ErrorResponse, NoticeResponse, ReadyForQuery};

use crate::pgwire::value::{self, FormatCode};

/// How far an error reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement is over.
    Error,
    /// The connection is over.
    Fatal,
}

/// An `ErrorResponse` with the fields that are known: S, V, C, M, D, H, P.
pub fn error_response(severity: Severity, error: &Error) -> ErrorResponse {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let optional = [
        (b'D', error.detail().map(str::to_owned)),
        (b'H', error.hint().map(str::to_owned)),
        (b'P', error.position().map(|position| position.to_string())),
    ];
    let mut fields = message_fields(severity, error.sqlstate(), error.message());
    fields.extend(optional.into_iter().filter_map(|(tag, text)| Some((tag, clean(&text?)))));
    ErrorResponse::new(fields)
}

/// A `NoticeResponse`.
pub fn notice_response(notice: &Notice) -> NoticeResponse {
    NoticeResponse::new(message_fields(notice.severity, notice.sqlstate, &notice.message))
}

/// A `RowDescription`; `formats` has one code for each column.
pub fn row_description(schema: &SchemaRef, formats: &[FormatCode]) -> RowDescription {
    let fields = schema.fields().iter().zip(formats).map(|(field, format)| {
        let of = value::field_oid(field);
        let (name, format) = (clean(field.name()), number(*format));
        FieldDescription::new(name, 0, 0, of.oid, of.length, of.modifier, format)
    });
    RowDescription::new(fields.collect())
}

/// The number of a format on the wire.
pub fn number(format: FormatCode) -> i16 {
    match format {
        FormatCode::Text => 0,
        FormatCode::Binary => 1,
    }
}

/// A `ReadyForQuery`.
pub fn ready_for_query(status: TransactionStatus) -> ReadyForQuery {
    ReadyForQuery::new(match status {
        TransactionStatus::Idle => response::TransactionStatus::Idle,
        TransactionStatus::InTransaction => response::TransactionStatus::Transaction,
        TransactionStatus::Failed => response::TransactionStatus::Error,
    })
}

fn message_fields(severity: &str, sqlstate: &str, message: &str) -> Vec<(u8, String)> {
    vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', sqlstate.to_owned()),
        (b'M', clean(message)),
    ]
}

fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
