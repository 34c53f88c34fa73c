//! Errors as gRPC tells them.
//!
//! What it guarantees: the same message as on the PostgreSQL wire, and in the metadata the SQLSTATE
//! (`sqlstate`), the detail and the hint (`kho-detail-bin`, `kho-hint-bin`, in UTF-8). The gRPC code is
//! the nearest there is, for clients that know nothing else.
//! What it does not: it logs nothing that a client brings about; what is the server's own fault is logged.

use kho_catalog::error::{Error, Kind};
use tonic::metadata::{AsciiMetadataValue, MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// The metadata key of an error's SQLSTATE.
pub const SQLSTATE: &str = "sqlstate";
/// Further keys, whose values are UTF-8.
pub const DETAIL: &str = "kho-detail-bin";
pub const HINT: &str = "kho-hint-bin";
/// What a statement that was given up says.
const CANCELED: &str = "canceling statement due to user request";
/// Of each text: metadata has little room in some clients.
const LONGEST_TEXT_BYTES: usize = 2048;

/// What a client is told of an error.
pub fn status(error: &Error) -> Status {
    metrics::counter!("kho_flight_errors_total", "sqlstate" => error.sqlstate()).increment(1);
    match error.kind() {
        Kind::Internal | Kind::Io | Kind::DataCorrupted | Kind::DiskFull => {
            tracing::error!(?error, "a call failed");
        }
        _ => tracing::debug!(?error, "a call failed"),
    }
    let mut metadata = MetadataMap::new();
    metadata.insert(SQLSTATE, AsciiMetadataValue::from_static(error.sqlstate()));
    for (name, text) in [(DETAIL, error.detail()), (HINT, error.hint())] {
        if let Some(text) = text {
            metadata.insert_bin(name, MetadataValue::from_bytes(cut(text).as_bytes()));
        }
    }
    Status::with_metadata(code(error), cut(error.message()), metadata)
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT_BYTES)).unwrap_or_default()
}

/// A bug, which concerns one call.
pub fn bug() -> Error {
    Error::internal("the call ended by a bug of the server")
}

pub fn canceled() -> Error {
    Error::new(Kind::QueryCanceled, CANCELED)
}

fn code(error: &Error) -> Code {
    let sqlstate = error.sqlstate();
    let class = sqlstate.get(..2).unwrap_or_default();
    match (class, sqlstate) {
        ("28", _) => Code::Unauthenticated,
        (_, "42501") | ("KH", _) => Code::PermissionDenied,
        (_, "42P01" | "42704" | "42883" | "3F000" | "3D000" | "26000" | "34000") => Code::NotFound,
        (_, "42P07" | "42710" | "23505") => Code::AlreadyExists,
        ("0A", _) => Code::Unimplemented,
        (_, "22003" | "22008") => Code::OutOfRange,
        ("08" | "22" | "42", _) => Code::InvalidArgument,
        ("23" | "25" | "2B" | "2D" | "55", _) => Code::FailedPrecondition,
        ("40", _) => Code::Aborted,
        ("53" | "54", _) => Code::ResourceExhausted,
        // What took too long was not given up by anybody, whom a client would take for its own user.
        (_, "57014") if error.message() == CANCELED => Code::Cancelled,
        (_, "57014") => Code::DeadlineExceeded,
        ("57", _) => Code::Unavailable,
        (_, "XX001") => Code::DataLoss,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests;
