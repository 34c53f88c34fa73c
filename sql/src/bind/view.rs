//! A view: its query, bound with its owner's rights.
//!
//! # Why
//! What a view may read is its owner's to give; who reads it needs a right on the view alone.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use futures::FutureExt;
use futures::future::BoxFuture;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Oid, Relation};
use sqlparser::ast::Statement;

use super::Read;
use crate::errors::from_engine;
use crate::scope::Scope;
use crate::secure;

/// Views may be built on views so deep.
const DEPTH_LIMIT: usize = 16;

/// What stands in for a view in a plan, and what it reads.
type Expanded = (Arc<dyn TableProvider>, Vec<Read>);

/// Begins the name of the place in a plan below which a view's owner reads; no user can write it.
const MARK: &str = "\u{1}view ";

fn mark(view: Oid) -> TableReference {
    TableReference::bare(format!("{MARK}{view}"))
}

/// The view that is below a place in a plan of this name; `None` for any other place.
pub(crate) fn view_of_mark(name: &TableReference) -> Option<Oid> {
    match name {
        TableReference::Bare { table } => table.strip_prefix(MARK)?.parse().ok(),
        _ => None,
    }
}

/// The view's plan under the view's column names, and what it reads.
pub(super) fn expand<'a>(
    scope: &'a Scope,
    session: &'a SessionState,
    relation: &'a Relation,
    depth: usize,
) -> BoxFuture<'a, Result<Expanded>> {
    async move {
        if depth >= DEPTH_LIMIT {
            return Err(Error::new(Kind::ProgramLimitExceeded, "views nest too deeply"));
        }
        let view = relation.view().ok_or_else(|| Error::internal("not a view"))?;
        let query = crate::parse::query(view.query.required()?)?;
        let statement = Statement::Query(Box::new(query));
        let owner = scope.as_role(relation.owner);
        let (plan, reads) =
            super::within(&owner, session, statement, Vec::new(), depth + 1).await?;
        let columns = (plan.schema().columns().into_iter().zip(&relation.columns))
            .map(|(from, to)| datafusion::logical_expr::Expr::Column(from).alias(&to.name));
        let plan = LogicalPlanBuilder::from(plan.clone())
            .project(columns)
            .and_then(|plan| plan.alias(mark(relation.oid)))
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_engine)?;
        // What is in it is the owner's to see; another's predicates stay outside.
        let provider: Arc<dyn TableProvider> = match scope.who.is(relation.owner) {
            true => Arc::new(ViewTable::new(plan, None)),
            false => secure::view(scope, &relation.name, plan)?,
        };
        Ok((provider, reads))
    }
    .boxed()
}
