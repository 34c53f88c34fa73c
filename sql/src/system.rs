//! The `kho.*` relations and table functions, and the way to `pg_catalog`.
//!
//! What it guarantees: each shows a principal only what exists for them; a function about a table
//! needs the right to read that table.

mod activity;
mod backend;
mod datasets;
mod history;
mod jobs;

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::ScalarUDF;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Relation;
use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr};

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
            "activity" => Some(activity::activity(scope)),
            "datasets" => Some(datasets::datasets(scope)),
            "jobs" => Some(jobs::jobs(scope)),
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
    vec![backend::cancel(scope)]
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
            let last = match last {
                Some(last) => last,
                None => scope.snapshot(&relation, None).await?.version(),
            };
            let changes = scope.shared.tables.changes(&location, first, last).await?;
            let provider = secure::derived(&relation, last, changes);
            Ok(TableFunction { provider, reads: vec![read(scope, &relation)] })
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
    Read { relation: relation.oid, by, version: None, needs: Needs::Whole }
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

fn mismatch(names: &[&str]) -> Error {
    Error::new(Kind::UndefinedFunction, "no function matches the given arguments")
        .with_hint(format!("The arguments are: {}.", names.join(", ")))
}
