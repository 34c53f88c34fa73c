//! The rights on the columns that a write gives values.

use kho_catalog::error::Result;
use kho_catalog::privilege::{Action, ColumnAction, RelationAction};
use kho_catalog::state::Relation;

use crate::scope::Scope;

/// That the scope's role may do `action` to each of these columns, or, where there are none, to
/// any one. A name of no column is for others to refuse.
///
/// # Errors
/// `42501`, in the words that name the table alone, as in PostgreSQL.
pub(crate) fn require<'a>(
    scope: &Scope,
    relation: &Relation,
    action: ColumnAction,
    columns: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let mut named = columns.into_iter().peekable();
    if named.peek().is_none() {
        let any = match action {
            ColumnAction::Select => RelationAction::SelectAny,
            ColumnAction::Insert => RelationAction::InsertAny,
            ColumnAction::Update => RelationAction::UpdateAny,
        };
        let action = Action::Relation(relation.oid, any);
        return scope.require(scope.who.role(), action);
    }
    for column in named.filter_map(|name| relation.column(name)) {
        let action = Action::Column(relation.oid, column.id, action);
        scope.require(scope.who.role(), action)?;
    }
    Ok(())
}
