//! What clients set: by the metadata of a call, or as options of their session.
//!
//! What it is: `kho-purpose` and `kho-order-number` in a call's metadata are the settings of these
//! names, from that call on. `kho-compression` (`none`, `lz4`, `zstd`), `kho-arrow-views` (`true`,
//! `false`) and `kho-endpoints` (1 to 16: the most that a query without an order, not prepared, is
//! handed out by) are about the rows of that call. The session options of
//! Flight SQL are the settings of the PostgreSQL wire; `schema` is the search path, and `catalog` the
//! one there is.
//! What it guarantees: an option is obeyed or refused; settings are set by `SET`, like everywhere.
//! What it does not: Arrow's crate does not make the messages of session options, so they stand here.
//! On failure: what `SET` says; for session options one answer for each.

use std::collections::HashMap;

use arrow::ipc::CompressionType;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::{DATABASE, Session, TransactionStatus};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

use super::ingest::LoadName;
use super::name::quoted;
use super::run;
use super::run::values::texts;

/// Metadata that are settings.
const SETTINGS: &[(&str, &str)] =
    &[("kho-purpose", "kho.purpose"), ("kho-order-number", "kho.order_number")];
const LOAD_STREAM: &str = "kho-load-stream";
const LOAD_SEQUENCE: &str = "kho-load-sequence";
const COMPRESSION: &str = "kho-compression";
const VIEWS: &str = "kho-arrow-views";
const ENDPOINTS: &str = "kho-endpoints";
const MOST_ENDPOINTS: usize = 16;
const SCHEMA: &str = "schema";
const CATALOG: &str = "catalog";
const SEARCH_PATH: &str = "search_path";

/// How the rows of a call are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub compression: Option<CompressionType>,
    /// Whether the client knows Arrow's view types.
    pub views: bool,
    pub endpoints: usize,
}

/// `arrow.flight.protocol.SessionOptionValue`.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(oneof = "Given", tags = "1, 2, 3, 4, 5")]
    pub given: Option<Given>,
}

/// The kinds of values; without one an option is reset.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Given {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(sfixed64, tag = "3")]
    Number(i64),
    #[prost(double, tag = "4")]
    Real(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, Message)]
pub struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    pub options: HashMap<String, Value>,
}

/// What became of the options that were not set.
#[derive(Clone, PartialEq, Message)]
pub struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, Failure>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    #[prost(enumeration = "Reason", tag = "1")]
    pub reason: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub options: HashMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CloseSessionResult {
    /// 1: it is closed.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// The settings that a call's metadata state.
///
/// # Errors
/// `22023` for a value that is no text.
pub fn said(metadata: &MetadataMap) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    for (header, setting) in SETTINGS {
        if let Some(value) = text(metadata, header)? {
            settings.push(((*setting).to_owned(), value.to_owned()));
        }
    }
    Ok(settings)
}

/// The load that a call says its rows are.
///
/// # Errors
/// `22023` for a stream without a number, or a number without a stream.
pub fn load(metadata: &MetadataMap) -> Result<Option<LoadName>> {
    match (text(metadata, LOAD_STREAM)?, text(metadata, LOAD_SEQUENCE)?) {
        (None, None) => Ok(None),
        (Some(stream), Some(sequence)) if !stream.is_empty() && !sequence.is_empty() => {
            Ok(Some(LoadName { stream: stream.to_owned(), sequence: sequence.to_owned() }))
        }
        _ => {
            let message = "kho-load-stream and kho-load-sequence are set together, or neither is";
            Err(Error::new(Kind::InvalidParameterValue, message))
        }
    }
}

/// How a call wants its rows.
///
/// # Errors
/// `22023` for a form there is not.
pub fn form(metadata: &MetadataMap) -> Result<Form> {
    let invalid = |name: &str, value: &str, known: &str| {
        Error::new(Kind::InvalidParameterValue, format!("{name} is \"{value}\""))
            .with_hint(format!("It is {known}."))
    };
    let compression = match text(metadata, COMPRESSION)? {
        None | Some("none") => None,
        Some("lz4") => Some(CompressionType::LZ4_FRAME),
        Some("zstd") => Some(CompressionType::ZSTD),
        Some(other) => return Err(invalid(COMPRESSION, other, "none, lz4 or zstd")),
    };
    let views = match text(metadata, VIEWS)? {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(invalid(VIEWS, other, "true or false")),
    };
    let endpoints = match text(metadata, ENDPOINTS)? {
        None => 1,
        Some(value) => match value.parse() {
            Ok(count) if (1..=MOST_ENDPOINTS).contains(&count) => count,
            _ => return Err(invalid(ENDPOINTS, value, "a number from 1 to 16")),
        },
    };
    Ok(Form { compression, views, endpoints })
}

/// Sets what is not so yet.
///
/// # Errors
/// What `SET` says.
pub async fn apply(
    session: &mut Session,
    settings: &[(String, String)],
    stop: &CancellationToken,
) -> Result<()> {
    for (name, value) in settings {
        // What a failed block takes is its end alone.
        let is_failed = session.status() == TransactionStatus::Failed;
        if !is_failed && session.setting(name)? != value {
            set(session, name, Some(value), stop).await?;
        }
    }
    Ok(())
}

/// `SetSessionOptions`: each by itself, as the protocol has it.
pub async fn set_all(
    session: &mut Session,
    request: SetSessionOptionsRequest,
    stop: &CancellationToken,
) -> SetSessionOptionsResult {
    let mut errors = HashMap::new();
    for (name, value) in request.options {
        if let Err(error) = set_one(session, &name, value, stop).await {
            let reason = match error.kind() {
                Kind::UndefinedObject => Reason::InvalidName,
                Kind::InvalidParameterValue | Kind::InvalidTextRepresentation => {
                    Reason::InvalidValue
                }
                _ => Reason::Error,
            };
            errors.insert(name, Failure { reason: reason as i32 });
        }
    }
    SetSessionOptionsResult { errors }
}

/// `GetSessionOptions`: every setting there is.
///
/// # Errors
/// What reading the settings says.
pub async fn all(
    session: &mut Session,
    stop: &CancellationToken,
) -> Result<GetSessionOptionsResult> {
    let query = "SELECT name, setting FROM pg_settings \
                 UNION ALL SELECT 'schema', current_schema()::text";
    let mut options = HashMap::new();
    for batch in run::rows(session, query, &[], stop).await? {
        for (name, value) in texts(&batch, 0).flatten().zip(texts(&batch, 1)) {
            options.insert(name, of_text(&value.unwrap_or_default()));
        }
    }
    options.insert(CATALOG.to_owned(), of_text(DATABASE));
    Ok(GetSessionOptionsResult { options })
}

fn of_text(text: &str) -> Value {
    Value { given: Some(Given::Text(text.to_owned())) }
}

async fn set_one(
    session: &mut Session,
    name: &str,
    value: Value,
    stop: &CancellationToken,
) -> Result<()> {
    let invalid = |message: &str| Error::new(Kind::InvalidParameterValue, message);
    let value = match value.given {
        None => None,
        Some(Given::Text(text)) => Some(text),
        Some(Given::Flag(flag)) => Some(flag.to_string()),
        Some(Given::Number(number)) => Some(number.to_string()),
        Some(Given::Real(real)) => Some(real.to_string()),
        Some(Given::Texts(_)) if !name.eq_ignore_ascii_case("search_path") => {
            return Err(invalid("a list is given for a session option that is none"));
        }
        Some(Given::Texts(texts)) => {
            let names = texts.values.iter().map(|it| quoted(it));
            Some(names.collect::<Vec<_>>().join(", "))
        }
    };
    match name {
        CATALOG if value.as_deref().is_none_or(|it| it == DATABASE) => Ok(()),
        CATALOG => Err(invalid("there is one catalog, kho")),
        SCHEMA => {
            // One name, as it is told.
            let path = value.map(|it| quoted(&it));
            set(session, SEARCH_PATH, path.as_deref(), stop).await
        }
        name => set(session, name, value.as_deref(), stop).await,
    }
}

/// Sets, or resets; only what looks like a setting's name gets into its text.
async fn set(
    session: &mut Session,
    name: &str,
    value: Option<&str>,
    stop: &CancellationToken,
) -> Result<()> {
    let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        let message = format!("unrecognized configuration parameter \"{name}\"");
        return Err(Error::new(Kind::UndefinedObject, message));
    }
    match value {
        // A function, since a list in a text is one there.
        Some(value) => {
            let texts = [name, value].map(|it| ScalarValue::Utf8(Some(it.to_owned())));
            run::rows(session, "SELECT set_config($1, $2, false)", &texts, stop).await.map(drop)
        }
        None => run::done(session, &format!("RESET {name}"), stop).await.map(drop),
    }
}

fn text<'a>(metadata: &'a MetadataMap, name: &str) -> Result<Option<&'a str>> {
    let mut values = metadata.get_all(name).iter();
    let value = values.next().map(|value| value.to_str());
    if values.next().is_some() {
        let message = format!("{name} is said more than once");
        return Err(Error::new(Kind::InvalidParameterValue, message));
    }
    value.transpose().map_err(|_| {
        Error::new(Kind::InvalidParameterValue, format!("what {name} says is no text"))
    })
}
