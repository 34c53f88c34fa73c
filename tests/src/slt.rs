//! Runs the `.slt` files: statements and the answers they must have.
//!
//! What it guarantees: a record runs on the connection it names, over the protocol asked for; the
//! types of columns are compared (`I` whole numbers, `R` other numbers, `T` everything else), and
//! `statement error (42P01)` compares the SQLSTATE. NULL is written `NULL`, the empty text
//! `(empty)`, a line break in a value `\n`.
//! What it does not: it retries nothing and sleeps never: a file that asks for it is refused.
//! On failure: the file is run to its end, then it panics with each record that failed: its line,
//! what was expected and what came.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sqllogictest::{
    Connection, DB, DBOutput, DefaultColumnType, ExpectedError, Record, Runner, StatementExpect,
    strict_column_validator,
};

use crate::flight::Flight;
use crate::wire::{Answer, Error, Target, Wire};

/// How statements travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `Query`: one message, text both ways.
    Simple,
    /// `Parse`, `Bind`, `Describe`, `Execute`, `Sync`.
    Extended,
    /// `GetFlightInfo` and `DoGet`, or `DoPut`.
    Flight,
}

/// Runs `tests/slt/<name>.slt` over the PostgreSQL wire; `target` says how a role connects.
///
/// Records without a connection run as `admin`; a connection named `an` is the role `an`, whose
/// password is `an`; `an#2` is a second session of the same role.
pub fn run(name: &str, protocol: Protocol, target: impl Fn(&str) -> Target) {
    let speaker = |role: &str| Ok(Speaker::Wire { wire: Wire::connect(&target(role))?, protocol });
    run_over(name, protocol, speaker, |_| {});
}

/// The same over Flight.
pub fn run_over_flight(name: &str, connect: impl Fn(&str) -> Result<Flight, Error>) {
    let counts = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&counts);
    let speaker = move |role: &str| {
        let flight = Box::new(connect(role)?);
        Ok(Speaker::Flight { flight, counts: Arc::clone(&told) })
    };
    run_over(name, Protocol::Flight, speaker, |record| {
        let counted =
            matches!(record, Record::Statement { expected: StatementExpect::Count(_), .. });
        counts.store(counted, Ordering::Relaxed);
        copies_are_refused(record);
    });
}

/// `COPY` has no place in Flight SQL: there it is refused, whatever else would have to be said of it.
fn copies_are_refused(record: &mut Record<DefaultColumnType>) {
    if let Record::Statement { sql, expected, .. } = record
        && sql.trim_start().to_ascii_uppercase().starts_with("COPY")
        && !matches!(expected, StatementExpect::Error(ExpectedError::Empty))
    {
        *expected = StatementExpect::Error(ExpectedError::SqlState("0A000".to_owned()));
    }
}

fn run_over(
    name: &str,
    protocol: Protocol,
    connect: impl Fn(&str) -> Result<Speaker, Error>,
    prepare: impl Fn(&mut Record<DefaultColumnType>),
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt").join(format!("{name}.slt"));
    let records = sqllogictest::parse_file::<DefaultColumnType>(&path);
    let records = records.unwrap_or_else(|error| panic!("{error}"));
    let role = Arc::new(Mutex::new("admin".to_owned()));
    let next = role.clone();
    let mut runner = Runner::new(move || {
        let role = next.lock().map(|role| role.clone()).unwrap_or_default();
        std::future::ready(connect(role.split('#').next().unwrap_or_default()))
    });
    let mut failures = Vec::new();
    runner.with_column_validator(strict_column_validator);
    for mut record in records {
        prepare(&mut record);
        if let Some(name) = connection(&record)
            && let Ok(mut role) = role.lock()
        {
            *role = name.to_owned();
        }
        check(&record, name);
        if let Err(error) = runner.run(record) {
            failures.push(error.display(false).to_string());
        }
    }
    assert!(
        failures.is_empty(),
        "{name} over the {protocol:?} protocol, {} records failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A connection that speaks one of the protocols.
enum Speaker {
    Wire { wire: Wire, protocol: Protocol },
    Flight { flight: Box<Flight>, counts: Arc<AtomicBool> },
}

impl DB for Speaker {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, statement: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let answer = match self {
            Speaker::Wire { wire, protocol: Protocol::Simple } => {
                wire.simple(statement)?.pop().unwrap_or_default()
            }
            Speaker::Wire { wire, .. } => wire.extended(statement)?,
            Speaker::Flight { flight, counts } => match counts.load(Ordering::Relaxed) {
                true => flight.count(statement)?,
                false => flight.run(statement)?,
            },
        };
        if !answer.has_rows {
            return Ok(DBOutput::StatementComplete(answer.affected()));
        }
        let types = answer.columns.iter().map(|(_, oid)| column_type(*oid)).collect();
        Ok(DBOutput::Rows { types, rows: shown(answer) })
    }

    fn error_sql_state(error: &Error) -> Option<String> {
        error.sqlstate().map(str::to_owned)
    }
}

fn shown(answer: Answer) -> Vec<Vec<String>> {
    let show = |value: Option<String>| match value {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() => "(empty)".to_owned(),
        Some(text) => text.replace('\n', "\\n"),
    };
    answer.rows.into_iter().map(|row| row.into_iter().map(show).collect()).collect()
}

/// The letter of PostgreSQL's type number.
fn column_type(oid: u32) -> DefaultColumnType {
    match oid {
        // smallint, integer, bigint, oid
        21 | 23 | 20 | 26 => DefaultColumnType::Integer,
        // real, double precision, numeric
        700 | 701 | 1700 => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

fn connection(record: &Record<DefaultColumnType>) -> Option<&str> {
    let connection = match record {
        Record::Statement { connection, .. }
        | Record::Query { connection, .. }
        | Record::Let { connection, .. } => connection,
        _ => return None,
    };
    match connection {
        Connection::Default => Some("admin"),
        Connection::Named(name) => Some(name),
    }
}

fn check(record: &Record<DefaultColumnType>, name: &str) {
    let retried = match record {
        Record::Statement { retry, .. }
        | Record::Query { retry, .. }
        | Record::System { retry, .. } => retry.is_some(),
        _ => false,
    };
    let sleeps = matches!(record, Record::Sleep { .. });
    assert!(!retried && !sleeps, "{name}: a test neither retries nor sleeps: {record}");
}
