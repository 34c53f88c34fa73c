//! `COMMENT ON`.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, SchemaAction, WarehouseAction};
use kho_catalog::state::{Change, Relation, Role, Schema};
use kho_catalog::text::Text;
use sqlparser::ast::{CommentObject, ObjectName};

use super::name::{self, Expected};
use super::{Context, Planned, notice};

/// Sets the comment of an object; `None` and the empty text take it away.
pub(crate) fn apply(
    ctx: &mut Context<'_>,
    object_type: CommentObject,
    object_name: &ObjectName,
    text: Option<&str>,
    if_exists: bool,
) -> Result<Planned> {
    let mut planned = Planned::new("COMMENT");
    let text = text.filter(|text| !text.is_empty());
    match change(ctx, object_type, object_name, text) {
        Ok(change) => planned.changes.push(change),
        Err(error) if if_exists && is_missing(&error) => {
            planned.notices.push(notice(format!("{error}, skipping")));
        }
        Err(error) => return Err(error),
    }
    Ok(planned)
}

fn change(
    ctx: &mut Context<'_>,
    object_type: CommentObject,
    written: &ObjectName,
    text: Option<&str>,
) -> Result<Change> {
    match object_type {
        CommentObject::Table => relation(ctx, written, Expected::Table, text),
        CommentObject::View => relation(ctx, written, Expected::View, text),
        CommentObject::Column => column(ctx, written, text),
        CommentObject::Schema => {
            let schema_name = name::schema_name(written)?;
            let schema = privilege::find_schema(ctx.state, ctx.who, &schema_name)?;
            let own = Action::Schema(schema.oid, SchemaAction::Own);
            privilege::require(ctx.state, ctx.who, own)?;
            let comment = new_text(ctx, text);
            Ok(Change::PutSchema(Schema { comment, ..Schema::clone(schema) }))
        }
        CommentObject::Role | CommentObject::User => role(ctx, written, text),
        other => Err(Error::unsupported(format!("COMMENT ON {other} is not supported"))),
    }
}

fn relation(
    ctx: &mut Context<'_>,
    written: &ObjectName,
    expected: Expected,
    text: Option<&str>,
) -> Result<Change> {
    let relation = name::find_owned(ctx, &name::qualified(written)?, expected)?;
    let comment = new_text(ctx, text);
    Ok(Change::PutRelation(Box::new(Relation { comment, ..Relation::clone(relation) })))
}

fn column(ctx: &mut Context<'_>, written: &ObjectName, text: Option<&str>) -> Result<Change> {
    let mut parts = name::parts(written)?;
    let column = match parts.pop() {
        Some(column) if !parts.is_empty() => column,
        _ => return Err(Error::new(Kind::Syntax, "column name must be qualified")),
    };
    let relation = name::find_owned(ctx, &name::qualify(parts)?, Expected::Any)?;
    let comment = new_text(ctx, text);
    let mut changed = Relation::clone(relation);
    match changed.columns.iter_mut().find(|it| it.name == column) {
        Some(found) => found.comment = comment,
        None => {
            let name = &relation.name;
            let message = format!("column \"{column}\" of relation \"{name}\" does not exist");
            return Err(Error::new(Kind::UndefinedColumn, message));
        }
    }
    Ok(Change::PutRelation(Box::new(changed)))
}

fn role(ctx: &mut Context<'_>, written: &ObjectName, text: Option<&str>) -> Result<Change> {
    privilege::require(ctx.state, ctx.who, Action::Warehouse(WarehouseAction::ManageRoles))?;
    let parts = name::parts(written)?;
    let [role] = parts.as_slice() else {
        return Err(Error::new(Kind::Syntax, format!("\"{written}\" is not a role's name")));
    };
    let role = name::find_role(ctx, role)?;
    if name::is_built_in(role.oid) {
        let message = format!("role name \"{}\" is reserved", role.name);
        return Err(Error::new(Kind::ReservedName, message)
            .with_detail("Built-in roles cannot be altered."));
    }
    let comment = new_text(ctx, text);
    Ok(Change::PutRole(Role { comment, ..Role::clone(role) }))
}

fn new_text(ctx: &mut Context<'_>, text: Option<&str>) -> Option<Text> {
    text.map(|text| (ctx.text)(text))
}

fn is_missing(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::UndefinedTable
            | Kind::UndefinedColumn
            | Kind::UndefinedSchema
            | Kind::UndefinedObject
    )
}
