//! What a server answers to one statement: columns, rows, a tag, or an error.

use std::fmt;

use bytes::BytesMut;
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Message};

use super::Error;

/// One statement's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Name and type (PostgreSQL's number for it) of each column.
    pub columns: Vec<(String, u32)>,
    /// Whether it gave rows at all, be they none.
    pub has_rows: bool,
    pub rows: Vec<Vec<Option<String>>>,
    /// Bytes of a `COPY … TO STDOUT`.
    pub copied: Vec<u8>,
    /// `INSERT 0 3`; empty for an empty statement.
    pub tag: String,
    /// The portal has more rows than were asked for.
    pub suspended: bool,
}

impl Answer {
    /// Takes in one message; true when it is the statement's last.
    pub(super) fn take(&mut self, message: &Message) -> Result<bool, Error> {
        match message {
            Message::RowDescription(body) => {
                self.has_rows = true;
                self.columns = columns(body)?;
            }
            Message::DataRow(body) => self.rows.push(row(body)?),
            Message::CopyData(body) => self.copied.extend_from_slice(body.data()),
            Message::CommandComplete(body) => {
                self.tag = body.tag()?.to_owned();
                return Ok(true);
            }
            Message::EmptyQueryResponse => return Ok(true),
            Message::PortalSuspended => {
                self.suspended = true;
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    /// How many rows the tag names.
    pub fn affected(&self) -> u64 {
        self.tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

/// The rows of some `DataRow` messages.
///
/// # Errors
/// What is wrong with a message.
pub fn rows_of(messages: &[u8]) -> Result<Vec<Vec<Option<String>>>, Error> {
    let mut bytes = BytesMut::from(messages);
    let mut rows = Vec::new();
    while let Some(message) = Message::parse(&mut bytes)? {
        if let Message::DataRow(body) = message {
            rows.push(row(&body)?);
        }
    }
    Ok(rows)
}

fn columns(
    body: &postgres_protocol::message::backend::RowDescriptionBody,
) -> Result<Vec<(String, u32)>, Error> {
    use fallible_iterator::FallibleIterator;
    let mut columns = Vec::new();
    let mut fields = body.fields();
    while let Some(field) = fields.next()? {
        columns.push((field.name().to_owned(), field.type_oid()));
    }
    Ok(columns)
}

fn row(body: &DataRowBody) -> Result<Vec<Option<String>>, Error> {
    use fallible_iterator::FallibleIterator;
    let mut values = Vec::new();
    let mut ranges = body.ranges();
    while let Some(range) = ranges.next()? {
        let bytes = range.map(|range| &body.buffer()[range]);
        values.push(bytes.map(|bytes| match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            // A value in the binary format.
            Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        }));
    }
    Ok(values)
}

/// An error or a notice as the server worded it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub position: Option<String>,
}

impl ServerError {
    pub fn read(mut fields: ErrorFields<'_>) -> ServerError {
        use fallible_iterator::FallibleIterator;
        let mut error = ServerError::default();
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' => error.severity = value,
                b'C' => error.sqlstate = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'P' => error.position = Some(value),
                _ => {}
            }
        }
        error
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.sqlstate, self.message)?;
        for (name, text) in [("detail", &self.detail), ("hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, "; {name}: {text}")?;
            }
        }
        Ok(())
    }
}
