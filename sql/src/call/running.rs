//! Procedures on what runs: `kho.cancel`, `kho.compact_table`.

use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, RelationAction};
use kho_catalog::table::Effort;
use tokio_util::sync::CancellationToken;

use crate::activity::is_keeper;
use crate::maintenance;
use crate::outcome::Tag;
use crate::scope::Scope;
use crate::system::Arguments;
use crate::write::Pending;

/// Stops the statement that a session runs, or all of them where it runs several at once.
///
/// # Errors
/// `42704` for a session that does not exist for this role, `55000` for one that runs nothing.
pub(super) fn cancel(scope: &Scope, arguments: &Arguments<'_>) -> Result<Pending> {
    let session = scope.shared.session_state(scope)?;
    let id = arguments.number(scope, &session, "id")?.ok_or_else(|| arguments.missing("id"))?;
    let stopped = scope.shared.activity.cancel(&scope.state, &scope.who, |it| it.id == id)?;
    if !stopped {
        return Err(Error::new(
            Kind::NotInPrerequisiteState,
            format!("session {id} runs no statement"),
        ));
    }
    Ok(Pending::nothing(Tag::new("CALL")))
}

/// Puts the rows of a table into as few files as possible, now. It is a commit of its own, in a
/// transaction block too: the rows are the same rows, so there is nothing to roll back.
///
/// # Errors
/// `42501` for who is neither the owner nor a keeper, `0A000` for a layout of another tool.
pub(super) async fn compact_table(scope: &Scope, arguments: &Arguments<'_>) -> Result<Pending> {
    let session = scope.shared.session_state(scope)?;
    let relation = arguments.relation(scope, &session, "dataset")?;
    if !is_keeper(&scope.state, &scope.who) {
        let own = Action::Relation(relation.oid, RelationAction::Own);
        privilege::require(&scope.state, &scope.who, own)?;
    }
    scope.refuse_frozen(relation.oid)?;
    let runtime = Arc::clone(&scope.memory);
    // The statement's own end drops this; what it wrote until then is a leftover.
    let never = CancellationToken::new();
    maintenance::compact(&scope.shared, &relation, Effort::All, &scope.role, runtime, &never)
        .await?;
    Ok(Pending::nothing(Tag::new("CALL")))
}
