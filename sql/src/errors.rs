//! What the engine says, translated once into Kho's error.
//!
//! What it guarantees: every engine error gets a kind; the original is kept as the source, for the
//! trace. What it does not: a message of the engine can quote a value of the data; the barrier of
//! policied tables will replace such messages.

use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use kho_catalog::error::{Error, Kind};

use crate::memory;

/// Translates an error of planning or running a query.
pub(crate) fn from_engine(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => from_foreign(other),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_engine(*inner)
        }
        DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
            Ok(inner) => from_engine(inner),
            Err(shared) => from_shared(&shared),
        },
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => from_engine(first),
            None => Error::internal("the engine failed without an error"),
        },
        other => from_shared(&other).with_source(other),
    }
}

/// Wraps our error for a path that only takes the engine's.
pub(crate) fn to_engine(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn from_foreign(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.downcast::<ArrowError>() {
        Ok(arrow) => from_arrow(&arrow),
        Err(other) if other.to_string().contains("regex parse error") => {
            Error::new(Kind::InvalidRegularExpression, "invalid regular expression")
                .with_detail(other.to_string())
        }
        Err(other) => Error::internal("the engine failed").with_source(other),
    }
}

fn from_shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.again(),
            None => match inner.downcast_ref::<ArrowError>() {
                Some(arrow) => from_arrow(arrow),
                None => Error::internal(first_line(&inner.to_string())),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_shared(inner)
        }
        DataFusionError::Shared(inner) => from_shared(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => from_shared(first),
            None => Error::internal("the engine failed without an error"),
        },
        DataFusionError::ArrowError(arrow, _) => from_arrow(arrow),
        DataFusionError::SchemaError(schema, _) => from_schema(schema),
        DataFusionError::NotImplemented(message) => not_done(message),
        DataFusionError::Plan(message) => from_plan(message),
        DataFusionError::SQL(_, _) => Error::new(Kind::Syntax, first_line(&error.to_string())),
        DataFusionError::ResourcesExhausted(message) => exhausted(message),
        DataFusionError::Execution(message) => from_execution(message),
        DataFusionError::ObjectStore(_) => of_storage(error),
        DataFusionError::IoError(error) => from_spill(error),
        DataFusionError::ParquetError(inner) => match inner.as_ref() {
            // A predicate is computed while a file is read; what fails is the predicate.
            ParquetError::ArrowError(message) => from_cast(message),
            ParquetError::External(inner) => match inner.downcast_ref::<DataFusionError>() {
                Some(engine) => from_shared(engine),
                None => of_storage(inner.as_ref()),
            },
            _ => of_storage(error),
        },
        DataFusionError::ExecutionJoin(_) => Error::internal("a task of the query ended early"),
        other => Error::internal(first_line(&other.to_string())),
    }
}

/// What the engine does not do. A subquery that it made no join of it would show as it holds it.
fn not_done(message: &str) -> Error {
    let is_of_one = ["Exists(", "InSubquery(", "ScalarSubquery("].iter().any(|kind| {
        message.starts_with(&format!("Physical plan does not support logical expression {kind}"))
    });
    match is_of_one {
        true => of_subquery(),
        false => Error::unsupported(first_line(message)),
    }
}

fn of_subquery() -> Error {
    Error::unsupported("this subquery is not supported here")
        .with_detail("No join can be made of how it depends on the outer row.")
        .with_hint("Compare columns of both with =, or write a join.")
}

/// What failed below the reading of a file.
fn of_storage(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::of_storage(error).unwrap_or_else(|| Error::new(Kind::Io, "a data file cannot be read"))
}

/// No memory is left, or a function would have made too much at once: the message begins with the
/// setting that says how much there is.
fn exhausted(message: &str) -> Error {
    let detail = message.split_once(": ").map_or(message, |(_, detail)| detail);
    Error::new(Kind::OutOfMemory, "the query needs more memory than it may use")
        .with_detail(format!("{}.", upper_first(&first_line(detail))))
        .with_hint(raise(message))
}

/// What can be done about memory that is used up.
fn raise(message: &str) -> String {
    match message.split_once(": ").map(|(setting, _)| setting) {
        Some(memory::TOTAL) => format!(
            "Make the statement smaller, try again when less is running, or raise {}.",
            memory::TOTAL
        ),
        Some(memory::ROLE) => {
            "Make the statement smaller, try again when less of the role is running, \
             or ask a member of kho_admin, who can change it with kho.set_role_limit."
                .to_owned()
        }
        Some(memory::MAINTENANCE) => format!("Raise {}.", memory::MAINTENANCE),
        _ => format!("Make the statement smaller, or raise {}.", memory::STATEMENT),
    }
}

/// An error from below the engine; where memory was used up, with the setting to raise.
pub(crate) fn with_setting(error: Error) -> Error {
    let source = std::error::Error::source(&error);
    let engine = source.and_then(|source| source.downcast_ref::<DataFusionError>());
    match engine.map(DataFusionError::find_root) {
        Some(DataFusionError::ResourcesExhausted(message)) if error.hint().is_none() => {
            let hint = raise(message);
            error.with_hint(hint)
        }
        _ => error,
    }
}

/// The engine itself reads and writes no file but those it spills to.
fn from_spill(error: &std::io::Error) -> Error {
    if error.to_string().contains(memory::SPILL_LIMIT_MESSAGE) {
        let message = "the query needs more temporary space than there may be";
        return Error::new(Kind::ConfigurationLimitExceeded, message)
            .with_hint("Try again when less is running, or raise limits.spill_bytes.");
    }
    match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Error::new(Kind::DiskFull, "no space left for temporary files")
                .with_hint("Free space at limits.spill_directory, or name another place.")
        }
        kind => Error::new(Kind::Io, format!("temporary files failed: {kind}"))
            .with_hint("See limits.spill_directory."),
    }
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => not_found(field, valid_fields),
        SchemaError::AmbiguousReference { field } => Error::new(
            Kind::AmbiguousColumn,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once"))
        }
    }
}

/// A column that is not there; or, where nothing in `FROM` has its table's name, that table.
fn not_found(field: &Column, valid: &[Column]) -> Error {
    if let Some(table) = &field.relation {
        let names =
            |it: &Column| it.relation.as_ref().is_some_and(|it| it.table() == table.table());
        if !valid.iter().any(names) {
            let message = format!("missing FROM-clause entry for table \"{}\"", table.table());
            return Error::new(Kind::UndefinedTable, message);
        }
    }
    if SYSTEM_COLUMNS.contains(&field.name.as_str()) {
        return Error::unsupported(format!("system column \"{}\" is not supported", field.name))
            .with_detail("A row has no address: where it lies would tell of rows that are hidden.")
            .with_hint("Name a row by its key.");
    }
    Error::new(Kind::UndefinedColumn, format!("column \"{}\" does not exist", field.flat_name()))
}

/// What every table of PostgreSQL has beside its columns.
const SYSTEM_COLUMNS: [&str; 5] = ["ctid", "xmin", "xmax", "cmin", "cmax"];

/// Arrow's errors are about values.
pub(crate) fn from_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::new(Kind::DivisionByZero, "division by zero"),
        ArrowError::ArithmeticOverflow(message) => {
            Error::new(Kind::NumericOutOfRange, "numeric value out of range")
                .with_detail(first_line(message))
        }
        ArrowError::CastError(message) | ArrowError::ParseError(message) => from_cast(message),
        ArrowError::InvalidArgumentError(message) => from_execution(message),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.again(),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(engine) => from_shared(engine),
                None => Error::internal(first_line(&inner.to_string())),
            },
        },
        ArrowError::IoError(_, error) => from_spill(error),
        ArrowError::NotYetImplemented(message) => Error::unsupported(first_line(message)),
        ArrowError::ComputeError(message) => from_execution(message),
        other => Error::internal(first_line(&other.to_string())),
    }
}

fn from_cast(message: &str) -> Error {
    let lower = message.to_lowercase();
    let kind = if lower.contains("overflow")
        || lower.contains("out of range")
        || lower.contains("too large")
        || lower.contains("can't cast value")
        || lower.contains("cannot be represented")
    {
        Kind::NumericOutOfRange
    } else if lower.contains("timestamp") || lower.contains("date") || lower.contains("time") {
        Kind::InvalidDatetime
    } else {
        Kind::InvalidTextRepresentation
    };
    Error::new(kind, first_line(message))
}

fn from_execution(message: &str) -> Error {
    let lower = message.to_lowercase();
    if lower.contains("cannot access field at argument") {
        Error::unsupported("a field of a column that has none was asked for")
            .with_detail(
                "Of a name with a point the first part is a column here, before it is a table of a \
                 query around.",
            )
            .with_hint("Give that table another alias.")
    } else if lower.contains("divide by zero") || lower.contains("division by zero") {
        Error::new(Kind::DivisionByZero, "division by zero")
    } else if lower.contains("overflow") || lower.contains("out of range") {
        Error::new(Kind::NumericOutOfRange, first_line(message))
    } else if lower.contains("scalar subquery") || lower.contains("more than one row") {
        Error::new(
            Kind::CardinalityViolation,
            "more than one row returned by a subquery used as an expression",
        )
    } else if lower.contains("regular expression") || lower.contains("regex") {
        Error::new(Kind::InvalidRegularExpression, "invalid regular expression")
            .with_detail(first_line(message))
    } else if lower.contains("too large to store in a decimal") {
        Error::new(Kind::NumericOutOfRange, "numeric field overflow")
            .with_detail(first_line(message))
    } else if lower.contains("parsing timestamp") || lower.contains("parse timestamp") {
        Error::new(Kind::InvalidDatetime, first_line(message))
    } else {
        Error::new(Kind::DataException, first_line(message))
    }
}

fn from_plan(message: &str) -> Error {
    let line = first_line(message);
    let lower = line.to_lowercase();
    let has = |needle: &str| lower.contains(needle);
    if has("subquery can only be used in") {
        return of_subquery();
    }
    // What checks a plan says the whole of it.
    if lower.starts_with("plan: [") {
        return Error::unsupported("this order of a UNION is not supported")
            .with_hint("Sort in a query around it.");
    }
    if has("limit must be >=") {
        return Error::new(Kind::InvalidLimit, "LIMIT must not be negative");
    }
    if has("offset must be >=") {
        return Error::new(Kind::InvalidOffset, "OFFSET must not be negative");
    }
    let kind = if has("invalid function") || has("function") && has("not found") {
        return undefined_function(&line);
    } else if has("no function matches") || has("failed to coerce arguments") {
        Kind::UndefinedFunction
    } else if has("aggregate functions are not allowed") || has("must appear in the group by") {
        Kind::GroupingError
    } else if has("order by column out of bounds") || has("for select distinct, order by") {
        Kind::InvalidColumnReference
    } else if has("then (") && has("else (")
        || has("non-boolean predicate")
        || has("incompatible inputs for union")
    {
        Kind::DatatypeMismatch
    } else if has("table") && has("not found") {
        Kind::UndefinedTable
    } else if has("could not be resolved from available columns") || has("must appear in the group")
    {
        Kind::GroupingError
    } else if has("no field named") {
        Kind::UndefinedColumn
    } else if has("cannot coerce") || has("types") && has("compatible") || has("cannot infer") {
        Kind::DatatypeMismatch
    } else if has("column count doesn't match") || has("number of columns") {
        Kind::Syntax
    } else if has("unsupported") || has("not supported") || has("not implemented") {
        Kind::FeatureNotSupported
    } else {
        Kind::Syntax
    };
    Error::new(kind, lower_first(&line))
}

fn undefined_function(line: &str) -> Error {
    let name = line.split('\'').nth(1).unwrap_or_default();
    Error::new(Kind::UndefinedFunction, format!("function {name} does not exist")).with_hint(
        "No function matches the given name and argument types. You might need to add explicit \
         type casts.",
    )
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim().trim_end_matches('.');
    let prefixes = ["Error during planning: ", "Arrow error: ", "Execution error: "];
    let line = prefixes.iter().fold(line, |line, prefix| line.strip_prefix(prefix).unwrap_or(line));
    line.chars().take(500).collect()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
