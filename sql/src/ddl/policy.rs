//! `CREATE POLICY` and `ALTER POLICY`: expressions are bound once, so that a wrong one is refused
//! with the statement.

use arrow::datatypes::DataType;
use kho_catalog::error::Result;
use kho_catalog::state::Relation;
use sqlparser::ast::{self, VisitMut};

use super::view::Qualify;
use super::{Change, planned};
use crate::bind;
use crate::command::policy::{self, Expressions};
use crate::scope::Scope;
use crate::secure;

pub(super) async fn create(scope: &Scope, statement: &ast::CreatePolicy) -> Result<Change> {
    let clauses = (statement.using.as_ref(), statement.with_check.as_ref());
    let expressions = bound(scope, &statement.table_name, clauses).await?;
    let statement = statement.clone();
    planned(scope, move |context| policy::create(context, &statement, &expressions))
}

pub(super) async fn alter(scope: &Scope, statement: &ast::AlterPolicy) -> Result<Change> {
    let clauses = match &statement.operation {
        ast::AlterPolicyOperation::Rename { .. } => (None, None),
        ast::AlterPolicyOperation::Apply { using, with_check, .. } => {
            (using.as_ref(), with_check.as_ref())
        }
    };
    let expressions = bound(scope, &statement.table_name, clauses).await?;
    let statement = statement.clone();
    planned(scope, move |context| policy::alter(context, &statement, &expressions))
}

async fn bound(
    scope: &Scope,
    table: &ast::ObjectName,
    (using, with_check): (Option<&ast::Expr>, Option<&ast::Expr>),
) -> Result<Expressions> {
    let mut bound = Expressions::default();
    if using.is_none() && with_check.is_none() {
        return Ok(bound);
    }
    let relation = bind::find(scope, &bind::object_name(table)?)?;
    let own = kho_catalog::privilege::RelationAction::Own;
    let own = kho_catalog::privilege::Action::Relation(relation.oid, own);
    kho_catalog::privilege::require(&scope.state, &scope.who, own)?;
    for (clause, kept) in [(using, true), (with_check, false)] {
        let Some(clause) = clause else { continue };
        let (text, reads) = expression(scope, &relation, clause).await?;
        bound.depends_on.extend(reads);
        match kept {
            true => bound.using = Some(text),
            false => bound.with_check = Some(text),
        }
    }
    bound.depends_on.sort_unstable();
    bound.depends_on.dedup();
    Ok(bound)
}

/// What is kept of a policy's expression over `relation`, and the relations that it reads.
pub(crate) async fn expression(
    scope: &Scope,
    relation: &Relation,
    clause: &ast::Expr,
) -> Result<(String, Vec<u32>)> {
    let mut kept = secure::in_terms_of_ids(clause, relation)?;
    let _ = kept.visit(&mut Qualify::new(scope));
    let session = scope.shared.session_state(scope)?;
    let wanted = ("POLICY".to_owned(), &DataType::Boolean);
    let reads = secure::refuse_unsafe(scope, &session, relation, kept.clone(), wanted).await?;
    Ok((kept.to_string(), reads))
}
