//! `CALL kho.…`: procedures.

mod access;
mod credential;
mod masks;
mod running;

use arrow::datatypes::SchemaRef;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, RelationAction};
use kho_catalog::state::{Change, Column, KeyKind, Relation};
use kho_catalog::table::{Commit, TableColumn};
use sqlparser::ast;

use self::credential::CREATE_API_TOKEN;
use crate::authorize::require_rows;
use crate::bind;
use crate::execute::Limits;
use crate::outcome::Tag;
use crate::scope::{Scope, location};
use crate::system::{Arguments, SCHEMA, ledger};
use crate::write::reshaping::announce;
use crate::write::{Base, Decide, Pending, commit_author, keys, tables};

/// The one procedure that changes nothing.
const VERIFY_AUDIT_LOG: &str = "verify_audit_log";

/// The columns of the row that a procedure answers with; most answer with none.
pub(crate) fn described(function: &ast::Function) -> Result<Option<SchemaRef>> {
    let name = bind::object_name(&function.name)?;
    let answers = name.schema.as_deref() == Some(SCHEMA) && name.name == CREATE_API_TOKEN;
    Ok(answers.then(credential::token_schema))
}

/// Runs a procedure up to its commit.
pub(crate) async fn call(
    scope: &Scope,
    function: &ast::Function,
    limits: &Limits,
) -> Result<Pending> {
    let name = bind::object_name(&function.name)?;
    let none = Vec::new();
    let arguments = match &function.args {
        ast::FunctionArguments::List(list) if list.clauses.is_empty() => &list.args,
        ast::FunctionArguments::None => &none,
        _ => return Err(Error::new(Kind::Syntax, "a procedure takes a list of arguments")),
    };
    if (name.schema.as_deref(), name.name.as_str()) != (Some(SCHEMA), VERIFY_AUDIT_LOG) {
        scope.who.refuse_change()?;
    }
    match (name.schema.as_deref(), name.name.as_str()) {
        (Some(SCHEMA), "restore_table") => {
            restore(scope, &Arguments::new(&["dataset", "version"], arguments)?, limits).await
        }
        (Some(SCHEMA), "compact_table") => {
            running::compact_table(scope, &Arguments::new(&["dataset"], arguments)?).await
        }
        (Some(SCHEMA), "set_mask") => {
            masks::set_mask(scope, &Arguments::new(masks::SET_MASK, arguments)?).await
        }
        (Some(SCHEMA), "drop_mask") => {
            masks::drop_mask(scope, &Arguments::new(masks::DROP_MASK, arguments)?)
        }
        (Some(SCHEMA), name @ ("tag_column" | "untag_column")) => {
            let arguments = Arguments::new(masks::TAG_COLUMN, arguments)?;
            masks::tag_column(scope, &arguments, name == "tag_column").await
        }
        (Some(SCHEMA), "add_tag") => {
            masks::add_tag(scope, &Arguments::new(masks::ADD_TAG, arguments)?)
        }
        (Some(SCHEMA), "remove_tag") => {
            masks::remove_tag(scope, &Arguments::new(masks::REMOVE_TAG, arguments)?)
        }
        (Some(SCHEMA), "set_role_attribute") => {
            let arguments = Arguments::new(masks::SET_ROLE_ATTRIBUTE, arguments)?;
            masks::set_role_attribute(scope, &arguments)
        }
        (Some(SCHEMA), VERIFY_AUDIT_LOG) => {
            Arguments::new(&[], arguments)?;
            verify_audit_log(scope, limits).await
        }
        (Some(SCHEMA), "cancel") => running::cancel(scope, &Arguments::new(&["id"], arguments)?),
        _ => {
            let called = match name.schema.as_deref() {
                Some(SCHEMA) => match credential::call(scope, &name.name, arguments) {
                    Some(called) => Some(called),
                    None => access::call(scope, &name.name, arguments).await,
                },
                _ => None,
            };
            called.unwrap_or_else(|| {
                let message = format!("procedure {} does not exist", name.written());
                Err(Error::new(Kind::UndefinedFunction, message))
            })
        }
    }
}

/// Goes through the whole ledger; `XX001` names the first record that is not what it was.
async fn verify_audit_log(scope: &Scope, limits: &Limits) -> Result<Pending> {
    if !ledger::is_auditor(scope) {
        let message = "permission denied to verify the audit log";
        return Err(Error::new(Kind::InsufficientPrivilege, message)
            .with_hint("Only members of kho_auditor can do that."));
    }
    let catalog = &scope.shared.catalog;
    limits.run(scope.shared.ledger.source().verify(catalog, None)).await?;
    Ok(Pending::nothing(Tag::new("CALL")))
}

/// Makes an old version's rows and columns the newest; what lies between stays in the history.
async fn restore(scope: &Scope, arguments: &Arguments<'_>, limits: &Limits) -> Result<Pending> {
    let session = scope.shared.session_state(scope)?;
    let relation = arguments.relation(scope, &session, "dataset")?;
    let own = Action::Relation(relation.oid, RelationAction::Own);
    privilege::require(&scope.state, &scope.who, own)?;
    let version = arguments
        .version(scope, &session, "version")?
        .ok_or_else(|| arguments.missing("version"))?;
    if !relation.keys().is_empty() {
        // Whether they hold for the rows of then tells of those.
        require_rows(scope, relation.oid)?;
    }
    let scope = &scope.without_load();
    let base = Base::take(scope, &relation, limits).await?;
    let then = tables(scope).at_version(&location(&relation)?, version).await?;
    let now = &base.snapshot;
    if now.version() == version {
        return Ok(Pending::nothing(Tag::new("CALL")));
    }
    let columns = then.columns()?;
    refuse_unfit(&relation, &columns)?;
    // A key that was added since must hold for the rows that come back.
    let keys: Vec<String> = relation.keys().iter().map(|key| key.name.clone()).collect();
    keys::check_stored(&session, &relation, &keys, &then).await?;
    let reshaped = columns != now.columns()?;
    let commit = Commit::restore(now, &then, commit_author(scope))?;
    let pending = Pending::rows(scope, base, commit, Tag::new("CALL"));
    if !reshaped {
        return Ok(pending);
    }
    let (oid, after) = (relation.oid, merged(&relation.columns, &columns));
    let dataset = relation.table().map(|table| table.dataset.clone());
    let decide: Decide = Box::new(move |state| {
        let current = state.relations.get(&oid);
        let current = current
            .filter(|it| it.table().map(|table| &table.dataset) == dataset.as_ref())
            .ok_or_else(gone)?;
        let mut next = Relation::clone(current);
        next.columns = merged(&next.columns, &columns);
        next.drop_lost_indexes();
        next.drop_lost_grants();
        Ok(vec![Change::PutRelation(Box::new(next))])
    });
    Ok(announce(scope, pending, oid, &after, decide))
}

/// Today's rules must be able to hold for the columns of then.
fn refuse_unfit(relation: &Relation, columns: &[TableColumn]) -> Result<()> {
    if columns.iter().any(|column| column.id.is_none()) {
        return Err(Error::unsupported("that version has columns that another tool made"));
    }
    let lost = |column: &Column| !columns.iter().any(|then| then.id == Some(column.id));
    let in_key = |id: u32| relation.keys().iter().any(|key| key.columns.contains(&id));
    if relation.columns.iter().any(|column| in_key(column.id) && lost(column)) {
        return Err(Error::new(
            Kind::DependentObjects,
            "that version lacks a column of a key of the table",
        )
        .with_hint("Drop the key first."));
    }
    let primary = |id: u32| {
        let mut keys = relation.keys().iter();
        keys.any(|key| key.kind == KeyKind::Primary && key.columns.contains(&id))
    };
    let nullable = |column: &TableColumn| !column.not_null && column.id.is_some_and(primary);
    if columns.iter().any(nullable) {
        return Err(Error::new(
            Kind::DependentObjects,
            "a column of the primary key may be NULL in that version",
        )
        .with_hint("Drop the primary key first."));
    }
    let checks = relation.table().map(|table| table.checks.as_slice()).unwrap_or_default();
    if !checks.is_empty() && relation.columns.iter().any(lost) {
        return Err(Error::new(
            Kind::DependentObjects,
            "that version lacks a column, and the table has CHECK constraints",
        )
        .with_hint("Drop the constraints first."));
    }
    Ok(())
}

/// The columns of then, with what only the catalog knows of them.
fn merged(now: &[Column], then: &[TableColumn]) -> Vec<Column> {
    let column = |then: &TableColumn| {
        let id = then.id?;
        let known = now.iter().find(|column| column.id == id);
        Some(Column {
            id,
            name: then.name.clone(),
            data_type: then.data_type.clone(),
            not_null: then.not_null,
            default: known.and_then(|column| column.default.clone()),
            comment: known.and_then(|column| column.comment.clone()),
            mask: known.and_then(|column| column.mask.clone()),
            inherited: known.map(|column| column.inherited.clone()).unwrap_or_default(),
            tags: known.map(|column| column.tags.clone()).unwrap_or_default(),
        })
    };
    then.iter().filter_map(column).collect()
}

fn gone() -> Error {
    Error::new(Kind::UndefinedTable, "the table was dropped meanwhile")
}
