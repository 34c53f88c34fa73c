//! From a parsed statement to a plan over secured tables.
//!
//! What it is: every name in the statement is resolved here, as the session's role sees it, and
//! handed to DataFusion's planner as a table that `secure` made. There is no other catalog, so no
//! plan can hold a raw table, whatever the SQL looks like.
//! What it guarantees: a relation the role has no right on is not found (`42P01`). A modifier of a
//! table that is not handled is refused: the planner would ignore it in silence.
//! What it does not: it does not decide whether the role may read; `authorize` does.

mod casts;
pub(crate) mod constant;
mod context;
mod counted;
mod empty;
mod grouped;
mod infer;
mod members;
mod names;
mod nested;
mod ordered;
mod patterns;
mod plain;
mod prepare;
mod recursive;
mod repeated;
mod sole;
mod sorted;
mod spelling;
mod star;
mod types;
mod using;
mod view;
mod wildcard;
mod windows;

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use kho_catalog::error::Result;
use kho_catalog::state::Oid;
use sqlparser::ast;

pub(crate) use infer::is_open;
use names::Resolver;
pub(crate) use names::{Name, find, find_for, folded, object_name};
pub(crate) use prepare::sets_config;
pub(crate) use recursive::saying_nothing;
pub(crate) use types::{Oids, sql_type};
pub(crate) use using::merges_columns;
pub(crate) use view::view_of_mark;

use crate::apart::apart;
use crate::errors::from_engine;
use crate::scope::Scope;

/// A plan, and what it touches.
pub(crate) struct Bound {
    pub plan: LogicalPlan,
    pub session: Arc<SessionState>,
    pub reads: Vec<Read>,
    /// Names of the result's columns where they differ from the plan's.
    pub names: Vec<Option<String>>,
    /// What stands in the plan for rows that are being written.
    pub rows: Option<Rows>,
}

/// Rows of a table in a plan that writes them: not the catalog's table to the binder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// What they are called in the plan.
    pub name: &'static str,
    pub relation: Oid,
    /// How many of the first columns of the result nobody reads: they are carried along.
    pub carried: usize,
}

/// Which of a relation's columns must be readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Those the plan uses; where it uses none, any one.
    Used,
    /// Those the plan uses, and these by id; none at all is none.
    Rows(Vec<u32>),
    /// The relation as a whole: what is told depends on every column.
    Whole,
    Nothing,
}

/// A dataset or view that a plan reads, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub relation: Oid,
    /// The role whose right counts: the session's, or the owner of the view it is read through.
    pub by: Oid,
    /// The version read; `None` for a view.
    pub version: Option<u64>,
    /// Whether that is read as what the table is now, and not as what it was once.
    pub newest: bool,
    pub needs: Needs,
}

/// Tables that the statement names and that are not the catalog's: the target of a write.
pub(crate) type Extra = Vec<(String, Arc<dyn TableProvider>)>;

/// Binds a query (or an `INSERT`, whose input is then the plan's).
pub(crate) async fn bind(
    scope: &Scope,
    statement: &ast::Statement,
    parameters: &[Option<FieldRef>],
    extra: Extra,
) -> Result<Bound> {
    let session = Arc::new(scope.shared.session_state(scope)?);
    bind_in(scope, &session, statement, parameters, extra).await
}

/// The same in a state of the planner that the statement has already.
pub(crate) async fn bind_in(
    scope: &Scope,
    session: &Arc<SessionState>,
    statement: &ast::Statement,
    parameters: &[Option<FieldRef>],
    extra: Extra,
) -> Result<Bound> {
    let mut statement = statement.clone();
    windows::written_out(&mut statement)?;
    star::expand(scope, &mut statement)?;
    ordered::by_columns_given(&mut statement);
    let names = prepare::output_names(&mut statement);
    nested::apart(&mut statement);
    sorted::by_columns_read(&mut statement);
    nested::name(&mut statement);
    crate::pg_catalog::rewrite(&mut statement);
    using::merged(scope, &mut statement)?;
    let specials = prepare::prepare(&mut statement)?;
    plain::refuse_clauses(session, &statement)?;
    let mut resolver = Resolver::new(scope, session, specials, extra, 0);
    resolver.resolve(&statement).await?;
    let (tables, reads) = resolver.finish();
    let (parameters, of_it) = (infer::told(&statement, parameters), Arc::clone(session));
    let planned = apart(async move { plan(&of_it, tables, statement, parameters) });
    let plan = planned.await?;
    let names = if names.is_empty() { prepare::marked_names(plan.schema()) } else { names };
    Ok(Bound { plan, session: Arc::clone(session), reads, names, rows: None })
}

/// Binds a query that is a part of another: a view's, or what a role sees of a table.
pub(crate) async fn within(
    scope: &Scope,
    session: &SessionState,
    mut statement: ast::Statement,
    extra: Extra,
    depth: usize,
) -> Result<(LogicalPlan, Vec<Read>)> {
    windows::written_out(&mut statement)?;
    ordered::by_columns_given(&mut statement);
    nested::apart(&mut statement);
    sorted::by_columns_read(&mut statement);
    nested::name(&mut statement);
    crate::pg_catalog::rewrite(&mut statement);
    using::merged(scope, &mut statement)?;
    let specials = prepare::prepare(&mut statement)?;
    plain::refuse_clauses(session, &statement)?;
    let mut resolver = Resolver::new(scope, session, specials, extra, depth);
    resolver.resolve(&statement).await?;
    let (tables, reads) = resolver.finish();
    Ok((plan(session, tables, statement, Vec::new())?, reads))
}

/// Plans a statement whose relations are all in `tables`.
fn plan(
    session: &SessionState,
    tables: names::Sources,
    mut statement: ast::Statement,
    parameters: Vec<Option<FieldRef>>,
) -> Result<LogicalPlan> {
    let are_apart = casts::tell_apart(&mut statement);
    let context = context::Context::new(session, tables);
    let planner = SqlToRel::new_with_options(&context, parser_options(&context));
    let mut planning = PlannerContext::new().with_prepare_param_data_types(parameters.clone());
    planner
        .sql_statement_to_plan_with_context(statement, &mut planning)
        .and_then(using::settled)
        .and_then(repeated::refuse_repeated)
        .and_then(counted::counted)
        .and_then(grouped::by_columns)
        .and_then(|plan| if are_apart { casts::settled(plan) } else { Ok(plan) })
        .and_then(|plan| infer::infer(plan, &parameters))
        .and_then(crate::times::beside)
        .and_then(crate::numeric::type_as_postgres)
        .and_then(sole::aggregated)
        .and_then(empty::can_be_null)
        .and_then(members::as_postgres)
        .and_then(recursive::with_like_terms)
        .map_err(from_engine)
}

fn parser_options(context: &impl ContextProvider) -> ParserOptions {
    ParserOptions::new()
        // `1.5` is numeric, as in PostgreSQL: exact.
        .with_parse_float_as_decimal(true)
        .with_enable_ident_normalization(true)
        .with_support_varchar_with_length(true)
        .with_map_string_types_to_utf8view(
            context.options().sql_parser.map_string_types_to_utf8view,
        )
}

/// The types of `$1`, `$2`, … that a plan was bound to; `None` where nothing tells.
pub(crate) fn parameter_fields(plan: &LogicalPlan) -> Result<Vec<Option<FieldRef>>> {
    infer::fields(plan).map_err(from_engine)
}
