//! The `kho.*` relations and table functions, and the way to `pg_catalog`.
//!
//! What it guarantees: each shows a principal only what exists for them; a function about a table
//! needs the right to read that table.

mod access;
mod activity;
mod backend;
mod columns;
mod credentials;
mod datasets;
mod explain_access;
mod history;
mod jobs;
pub(crate) mod ledger;
mod limits;
mod masks;
pub(crate) mod pseudonym;

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::ScalarUDF;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Relation;
use kho_catalog::types::Type;
use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr};

use crate::bind::constant::{constant, text};
use crate::bind::{self, Name, Needs, Read};
use crate::scope::{Scope, location};
use crate::secure;

/// The schema of Kho's own views, functions and procedures.
pub(crate) const SCHEMA: &str = "kho";

/// What a table function came to, and what it reads.
pub(crate) struct TableFunction {
    pub provider: Arc<dyn TableProvider>,
    pub reads: Vec<Read>,
}

/// The system relation `name`; `None` where there is no such.
pub(crate) fn table(scope: &Scope, name: &Name) -> Option<Result<Arc<dyn TableProvider>>> {
    match name.schema.as_deref() {
        Some(SCHEMA) => match name.name.as_str() {
            "access_requests" => Some(access::access_requests(scope)),
            "agreements" => Some(access::agreements(scope)),
            "freezes" => Some(access::freezes(scope)),
            "purposes" => Some(access::purposes(scope)),
            "third_parties" => Some(access::third_parties(scope)),
            "activity" => Some(activity::activity(scope)),
            "api_tokens" => Some(credentials::api_tokens(scope)),
            "audit_log" => Some(ledger::audit_log(scope)),
            "deletion_log" => Some(ledger::deletion_log(scope)),
            "datasets" => Some(datasets::datasets(scope)),
            "identities" => Some(credentials::identities(scope)),
            "jobs" => Some(jobs::jobs(scope)),
            "masks" => Some(masks::masks(scope)),
            "role_limits" => Some(limits::role_limits(scope)),
            "role_attributes" => Some(masks::attributes(scope)),
            "tagged_columns" => Some(masks::tagged(scope)),
            "tags" => Some(masks::tags(scope)),
            _ => None,
        },
        Some(schema @ ("pg_catalog" | "information_schema")) => {
            crate::pg_catalog::table(&scope.shared.catalog_view(scope), schema, &name.name)
        }
        // PostgreSQL looks into pg_catalog before the search path.
        None => {
            crate::pg_catalog::table(&scope.shared.catalog_view(scope), "pg_catalog", &name.name)
        }
        Some(_) => None,
    }
}

/// Scalar functions that do something.
pub(crate) fn functions(scope: &Scope) -> Vec<Arc<ScalarUDF>> {
    let mut functions = pseudonym::functions(scope);
    functions.push(backend::cancel(scope));
    functions
}

/// A column of points in time, given in milliseconds since the epoch.
fn times(of: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let microseconds = of.map(|time| time.map(|milliseconds| milliseconds.saturating_mul(1000)));
    Arc::new(microseconds.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// The field of such a column.
fn utc(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))), true)
}

/// Calls a table function of the schema `kho`.
///
/// # Errors
/// `42883` for an unknown one, `42P01` for a table that does not exist for the scope's role.
pub(crate) async fn table_function(
    scope: &Scope,
    session: &SessionState,
    name: &str,
    arguments: &[FunctionArg],
) -> Result<TableFunction> {
    let arguments = |names: &'static [&'static str]| Arguments::new(names, arguments);
    match name {
        "table_history" => {
            let arguments = arguments(&["dataset"])?;
            let relation = arguments.relation(scope, session, "dataset")?;
            let provider = history::history(scope, &relation).await?;
            Ok(TableFunction { provider, reads: vec![read(scope, &relation)] })
        }
        "table_changes" => {
            let arguments = arguments(&["dataset", "from_version", "to_version"])?;
            let relation = arguments.relation(scope, session, "dataset")?;
            let first = arguments.version(scope, session, "from_version")?;
            let last = arguments.version(scope, session, "to_version")?;
            let first = first.ok_or_else(|| arguments.missing("from_version"))?;
            let location = location(&relation)?;
            let newest = last.is_none() && scope.as_of_ms.is_none();
            let last = match last {
                Some(last) => last,
                None => scope.snapshot(&relation, None).await?.version(),
            };
            let changes = scope.shared.tables.changes(&location, first, last).await?;
            let secured = secure::derived(scope, session, &relation, last, changes).await?;
            let read = Read { version: Some(last), newest, ..read(scope, &relation) };
            let reads = std::iter::once(read).chain(secured.reads).collect();
            Ok(TableFunction { provider: secured.provider, reads })
        }
        "explain_access" => {
            let given = Given::new(scope, arguments(&["role", "dataset"])?)?;
            let (role, dataset) = (given.required("role")?, given.required("dataset")?);
            let provider = explain_access::explain_access(scope, &role, &dataset)?;
            Ok(TableFunction { provider, reads: Vec::new() })
        }
        _ => Err(Error::new(
            Kind::UndefinedFunction,
            format!("function {SCHEMA}.{name} does not exist"),
        )),
    }
}

/// That a row is among the changes tells that one of its columns changed, whichever are asked for:
/// so they, and their numbers, are for who may read all of them.
fn read(scope: &Scope, relation: &Relation) -> Read {
    let by = scope.who.role();
    Read { relation: relation.oid, by, version: None, newest: false, needs: Needs::Whole }
}

/// Arguments of a function or procedure, by place or by name.
pub(crate) struct Arguments<'a> {
    names: &'static [&'static str],
    values: Vec<Option<&'a Expr>>,
}

impl<'a> Arguments<'a> {
    /// Matches what was given to the parameters `names`.
    ///
    /// # Errors
    /// `42883` for too many, an unknown name, or a parameter given twice.
    pub(crate) fn new(
        names: &'static [&'static str],
        given: &'a [FunctionArg],
    ) -> Result<Arguments<'a>> {
        let mut values: Vec<Option<&Expr>> = vec![None; names.len()];
        for (index, argument) in given.iter().enumerate() {
            let (place, value) = match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (Some(index), value),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                    let name = name.value.to_lowercase();
                    (names.iter().position(|known| *known == name), value)
                }
                // `name => value` parses as this: PostgreSQL's dialect takes any expression there.
                FunctionArg::ExprNamed {
                    name: Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(value),
                    ..
                } => {
                    let name = name.value.to_lowercase();
                    (names.iter().position(|known| *known == name), value)
                }
                _ => return Err(mismatch(names)),
            };
            match place.and_then(|place| values.get_mut(place)) {
                Some(slot @ None) => *slot = Some(value),
                _ => return Err(mismatch(names)),
            }
        }
        Ok(Arguments { names, values })
    }

    pub(crate) fn missing(&self, name: &str) -> Error {
        Error::new(Kind::InvalidParameterValue, format!("argument \"{name}\" is missing"))
            .with_hint(format!("The arguments are: {}.", self.names.join(", ")))
    }

    fn get(&self, name: &str) -> Option<&'a Expr> {
        let place = self.names.iter().position(|known| *known == name)?;
        self.values.get(place).copied().flatten()
    }

    /// The relation that a text argument names.
    pub(crate) fn relation(
        &self,
        scope: &Scope,
        session: &SessionState,
        name: &str,
    ) -> Result<Arc<Relation>> {
        let given = self.get(name).ok_or_else(|| self.missing(name))?;
        let written = text(scope, session, given)?.ok_or_else(|| self.missing(name))?;
        let parsed = crate::parse::relation_name(&written)?;
        let relation = bind::find(scope, &bind::object_name(&parsed)?)?;
        match relation.table() {
            Some(_) => Ok(relation),
            None => Err(Error::new(Kind::WrongObjectType, format!("\"{written}\" is not a table"))),
        }
    }

    /// A text; `None` where it was not given or is NULL.
    pub(crate) fn text(
        &self,
        scope: &Scope,
        session: &SessionState,
        name: &str,
    ) -> Result<Option<String>> {
        match self.get(name) {
            Some(given) => text(scope, session, given),
            None => Ok(None),
        }
    }

    /// A version number; `None` where it was not given or is NULL.
    pub(crate) fn version(
        &self,
        scope: &Scope,
        session: &SessionState,
        name: &str,
    ) -> Result<Option<u64>> {
        let Some(number) = self.number(scope, session, name)? else { return Ok(None) };
        match u64::try_from(number) {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(Error::new(Kind::InvalidParameterValue, "a version is a number from 0")),
        }
    }

    /// A whole number; `None` where it was not given or is NULL.
    pub(crate) fn number(
        &self,
        scope: &Scope,
        session: &SessionState,
        name: &str,
    ) -> Result<Option<i64>> {
        let Some(given) = self.get(name) else { return Ok(None) };
        match constant(scope, session, given, &DataType::Int64)? {
            ScalarValue::Int64(number) => Ok(number),
            _ => Err(Error::internal("a whole number is not one")),
        }
    }
}

/// The values of a procedure's arguments.
pub(crate) struct Given<'a> {
    scope: &'a Scope,
    session: SessionState,
    arguments: Arguments<'a>,
}

impl<'a> Given<'a> {
    pub(crate) fn new(scope: &'a Scope, arguments: Arguments<'a>) -> Result<Given<'a>> {
        Ok(Given { scope, session: scope.shared.session_state(scope)?, arguments })
    }

    pub(crate) fn missing(&self, name: &str) -> Error {
        self.arguments.missing(name)
    }

    /// Whether the argument is there, if only as NULL.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.arguments.get(name).is_some()
    }

    pub(crate) fn relation(&self, name: &str) -> Result<Arc<Relation>> {
        self.arguments.relation(self.scope, &self.session, name)
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>> {
        self.arguments.number(self.scope, &self.session, name)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        let given = self.arguments.get(name);
        given.map_or(Ok(None), |given| text(self.scope, &self.session, given))
    }

    pub(crate) fn required(&self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>> {
        match self.value(name, &DataType::Boolean)? {
            Some(ScalarValue::Boolean(value)) => Ok(value),
            _ => Ok(None),
        }
    }

    /// A point in time in milliseconds since the epoch; without a zone it is in the session's, and
    /// of a day it is the first moment.
    pub(crate) fn time_ms(&self, name: &str) -> Result<Option<i64>> {
        let of = Type::TimestampTz.to_arrow();
        match self.value(name, &of)? {
            Some(ScalarValue::TimestampMicrosecond(time, _)) => {
                Ok(time.map(|time| time.div_euclid(1000)))
            }
            _ => Ok(None),
        }
    }

    /// The moment from which on something is over: as [`Given::time_ms`], but what ends on a day that
    /// is written alone, `'2027-12-31'`, is over with that day, in the session's zone.
    pub(crate) fn until_ms(&self, name: &str) -> Result<Option<i64>> {
        let last_day = self.arguments.get(name).and_then(day);
        let Some(after) = last_day.and_then(|day| day.succ_opt()) else {
            return self.time_ms(name);
        };
        bind::constant::instant_of_text(self.scope, &self.session, &after.to_string()).map(Some)
    }

    fn value(&self, name: &str, of: &DataType) -> Result<Option<ScalarValue>> {
        let given = self.arguments.get(name);
        given.map(|given| constant(self.scope, &self.session, given, of)).transpose()
    }
}

/// The day that is written as a text or a `date`, without a time.
fn day(expression: &Expr) -> Option<NaiveDate> {
    let text = match expression {
        Expr::Nested(inner) => return day(inner),
        Expr::Cast { expr, data_type: ast::DataType::Date, .. } => return day(expr),
        Expr::TypedString(it) if it.data_type == ast::DataType::Date => &it.value.value,
        Expr::Value(value) => &value.value,
        _ => return None,
    };
    match text {
        ast::Value::SingleQuotedString(text) => {
            NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d").ok()
        }
        _ => None,
    }
}

fn mismatch(names: &[&str]) -> Error {
    Error::new(Kind::UndefinedFunction, "no function matches the given arguments")
        .with_hint(format!("The arguments are: {}.", names.join(", ")))
}
