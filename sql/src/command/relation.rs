//! What tables and views have in common: a name, a schema, an owner.
//!
//! What it guarantees: a relation that is renamed or moved stays readable through the views on it;
//! one that changes hands keeps its grants, given by the new owner from then on.

use std::collections::BTreeSet;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, Principal, SchemaAction};
use kho_catalog::state::{Change, Grant, Oid, Relation};
use sqlparser::ast::{Ident, ObjectName, Owner};

use super::depend::{self, Renaming};
use super::name::{self, Expected};
use super::{Context, Planned, notice, table};
use crate::parse::{RelationAction, RelationStatement};

/// What is done to a table or a view that sqlparser has no words for.
pub(crate) fn apply(ctx: &mut Context<'_>, statement: &RelationStatement) -> Result<Planned> {
    let RelationStatement { view, if_exists, name, action } = statement;
    // PostgreSQL's ALTER TABLE takes a view, too.
    let expected = if *view { Expected::View } else { Expected::Any };
    match action {
        RelationAction::Rename(to) => rename(ctx, name, to, *if_exists, expected),
        RelationAction::OwnerTo(owner) => set_owner(ctx, name, owner, *if_exists, expected),
        RelationAction::SetSchema(schema) => set_schema(ctx, name, schema, *if_exists, expected),
        RelationAction::Reset(keys) if *view => {
            Err(Error::unsupported(format!("a view has no options ({})", keys.join(", "))))
        }
        RelationAction::Reset(keys) => table::reset_options(ctx, name, keys, *if_exists),
    }
}

/// `DROP TABLE` and `DROP VIEW`.
pub(crate) fn drop(
    ctx: &Context<'_>,
    names: &[ObjectName],
    if_exists: bool,
    cascade: bool,
    expected: Expected,
) -> Result<Planned> {
    let (tag, what) = match expected {
        Expected::View => ("DROP VIEW", "view"),
        Expected::Table | Expected::Any => ("DROP TABLE", "table"),
    };
    let mut planned = Planned::new(tag);
    let mut targets: Vec<&Arc<Relation>> = Vec::new();
    for written in names {
        let qualified = name::qualified(written)?;
        let relation = match name::find(ctx, &qualified) {
            Ok(relation) => relation,
            Err(error) if if_exists && error.kind() == Kind::UndefinedTable => {
                let message = format!("{what} \"{qualified}\" does not exist, skipping");
                planned.notices.push(notice(message));
                continue;
            }
            Err(error) => return Err(error),
        };
        name::require_kind(relation, expected)?;
        let drop = Action::Relation(relation.oid, privilege::RelationAction::Drop);
        privilege::require(ctx.state, ctx.who, drop)?;
        if !targets.iter().any(|target| target.oid == relation.oid) {
            targets.push(relation);
        }
    }
    let (changes, notices) = depend::drop_all(ctx, &targets, cascade)?;
    planned.changes = changes;
    planned.notices.extend(notices);
    Ok(planned)
}

/// `RENAME TO`.
pub(crate) fn rename(
    ctx: &mut Context<'_>,
    written: &ObjectName,
    to: &Ident,
    if_exists: bool,
    expected: Expected,
) -> Result<Planned> {
    let mut planned = Planned::new(alter_tag(expected));
    let Some(relation) = found_or_notice(ctx, written, if_exists, expected, &mut planned)? else {
        return Ok(planned);
    };
    let to = name::created(to, &mut planned.notices)?;
    planned.changes = moved(ctx, relation, relation.schema, &to)?;
    Ok(planned)
}

/// `SET SCHEMA`, which also needs the right to create there.
fn set_schema(
    ctx: &mut Context<'_>,
    written: &ObjectName,
    schema: &Ident,
    if_exists: bool,
    expected: Expected,
) -> Result<Planned> {
    let mut planned = Planned::new(alter_tag(expected));
    let Some(relation) = found_or_notice(ctx, written, if_exists, expected, &mut planned)? else {
        return Ok(planned);
    };
    let to = name::Qualified { schema: Some(name::fold(schema)), name: relation.name.clone() };
    let schema = name::target(ctx, &to)?.oid;
    if schema != relation.schema {
        planned.changes = moved(ctx, relation, schema, &relation.name)?;
    }
    Ok(planned)
}

/// `OWNER TO`.
pub(crate) fn set_owner(
    ctx: &mut Context<'_>,
    written: &ObjectName,
    owner: &Owner,
    if_exists: bool,
    expected: Expected,
) -> Result<Planned> {
    let mut planned = Planned::new(alter_tag(expected));
    let Some(relation) = found_or_notice(ctx, written, if_exists, expected, &mut planned)? else {
        return Ok(planned);
    };
    let mut changed = Relation::clone(relation);
    give(ctx, &mut changed, owner)?;
    planned.changes.push(Change::PutRelation(Box::new(changed)));
    Ok(planned)
}

/// Makes `owner` the owner of `relation`; it must be able to create in its schema.
pub(super) fn give(ctx: &Context<'_>, relation: &mut Relation, owner: &Owner) -> Result<()> {
    let owner = name::new_owner(ctx, owner)?;
    if owner == relation.owner {
        return Ok(());
    }
    let create = Action::Schema(relation.schema, SchemaAction::CreateIn);
    privilege::require(ctx.state, &Principal::of(ctx.state, owner), create).map_err(|_| {
        let role = name::role_name(ctx, owner);
        let message = format!("role \"{role}\" may not create in the schema of this relation");
        Error::new(Kind::InsufficientPrivilege, message)
    })?;
    relation.grants = inherited(&relation.grants, relation.owner, owner);
    relation.owner = owner;
    Ok(())
}

/// The changes that put `relation` into `schema` under the name `to`.
pub(super) fn moved(
    ctx: &mut Context<'_>,
    relation: &Relation,
    schema: Oid,
    to: &str,
) -> Result<Vec<Change>> {
    let create = Action::Schema(schema, SchemaAction::CreateIn);
    privilege::require(ctx.state, ctx.who, create)?;
    name::require_free(ctx, schema, to)?;
    if schema != relation.schema {
        // An index goes where its table goes.
        relation
            .searched()
            .iter()
            .try_for_each(|key| name::require_free(ctx, schema, &key.name))?;
    }
    let state = ctx.state;
    let (Some(old_schema), Some(new_schema)) =
        (state.schemas.get(&relation.schema), state.schemas.get(&schema))
    else {
        return Err(Error::internal("a relation's schema is not there"));
    };
    let renaming = Renaming {
        schema: &old_schema.name,
        relation: Some(&relation.name),
        to_schema: &new_schema.name,
        to_relation: Some(to),
    };
    let mut changes = depend::rename_in_views(ctx, &BTreeSet::from([relation.oid]), &renaming)?;
    let mut changed = relation.clone();
    changed.schema = schema;
    to.clone_into(&mut changed.name);
    changes.push(Change::PutRelation(Box::new(changed)));
    Ok(changes)
}

/// Grants after a change of owner: what the old one gave, the new one gives; the new owner's own
/// are needless.
pub(super) fn inherited(grants: &[Grant], old: Oid, new: Oid) -> Vec<Grant> {
    let mut kept: Vec<Grant> = Vec::with_capacity(grants.len());
    for grant in grants.iter().filter(|grant| grant.grantee != new) {
        let grantor = if grant.grantor == old { new } else { grant.grantor };
        let grant = Grant { grantor, ..grant.clone() };
        match kept.iter_mut().find(|it| same(it, &grant)) {
            Some(twin) => twin.grantable |= grant.grantable,
            None => kept.push(grant),
        }
    }
    kept
}

/// Whether two grants differ in nothing but the grant option.
pub(in crate::command) fn same(one: &Grant, other: &Grant) -> bool {
    let key = |it: &Grant| (it.grantee, it.grantor, it.privilege, it.column);
    key(one) == key(other)
}

/// The relation an `ALTER` is about; `None`, with a notice, where `IF EXISTS` finds nothing.
pub(super) fn found_or_notice<'a>(
    ctx: &Context<'a>,
    written: &ObjectName,
    if_exists: bool,
    expected: Expected,
    planned: &mut Planned,
) -> Result<Option<&'a Arc<Relation>>> {
    let qualified = name::qualified(written)?;
    match name::find_owned(ctx, &qualified, expected) {
        Ok(relation) => Ok(Some(relation)),
        Err(error) if if_exists && error.kind() == Kind::UndefinedTable => {
            let message = format!("relation \"{qualified}\" does not exist, skipping");
            planned.notices.push(notice(message));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn alter_tag(expected: Expected) -> &'static str {
    match expected {
        Expected::View => "ALTER VIEW",
        Expected::Table | Expected::Any => "ALTER TABLE",
    }
}
