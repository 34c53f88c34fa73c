//! A view: its query, bound with its owner's rights.
//!
//! # Why
//! What a view may read is its owner's to give; who reads it needs a right on the view alone.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use futures::FutureExt;
use futures::future::BoxFuture;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Relation;
use sqlparser::ast::Statement;

use super::Read;
use crate::errors::from_engine;
use crate::scope::Scope;
use crate::secure;

/// Views may be built on views so deep.
const DEPTH_LIMIT: usize = 16;

/// What stands in for a view in a plan, and what it reads.
type Expanded = (Arc<dyn TableProvider>, Vec<Read>);

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
