//! `REASSIGN OWNED` and `DROP OWNED`: all that a role has, handed on or taken away.
//!
//! What it guarantees: only who belongs to the role may do it, and only who belongs to the new
//! owner may make it one: who manages accounts comes to no data by this. Afterwards the role can
//! be dropped.
//! What it does not: it takes no membership away; dropping the role does.

use std::collections::BTreeSet;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Change, Grant, Oid, Relation, Role, Schema};

use super::grant::{forget_schema, supported};
use super::relation::inherited;
use super::{Context, Planned, depend, name};
use crate::parse::{OwnedAct, OwnedStatement};

/// A whole statement.
pub(crate) fn apply(ctx: &mut Context<'_>, statement: &OwnedStatement) -> Result<Planned> {
    let what = match statement.act {
        OwnedAct::GiveTo(_) => "permission denied to reassign objects",
        OwnedAct::Drop { .. } => "permission denied to drop objects",
    };
    let of: BTreeSet<Oid> =
        statement.of.iter().map(|role| own(ctx, role, what)).collect::<Result<_>>()?;
    match &statement.act {
        OwnedAct::GiveTo(role) => {
            let to = own(ctx, role, what)?;
            Ok(reassign(ctx, &of, to))
        }
        OwnedAct::Drop { cascade } => drop(ctx, &of, *cascade),
    }
}

fn own(ctx: &Context<'_>, role: &str, what: &str) -> Result<Oid> {
    let found = name::find_role(ctx, role)?.oid;
    if name::is_built_in(found) {
        let message = "objects that every warehouse has cannot change hands";
        return Err(Error::new(Kind::DependentObjects, message));
    }
    match ctx.who.is(found) {
        true => Ok(found),
        false => Err(Error::new(Kind::InsufficientPrivilege, what)),
    }
}

fn reassign(ctx: &Context<'_>, of: &BTreeSet<Oid>, to: Oid) -> Planned {
    let mut planned = Planned::new("REASSIGN OWNED");
    for schema in ctx.state.schemas.values().filter(|it| of.contains(&it.owner)) {
        let mut schema = Schema::clone(schema);
        schema.grants = inherited(&schema.grants, schema.owner, to);
        schema.owner = to;
        planned.changes.push(Change::PutSchema(schema));
    }
    for relation in ctx.state.relations.values().filter(|it| of.contains(&it.owner)) {
        let mut relation = Relation::clone(relation);
        relation.grants = inherited(&relation.grants, relation.owner, to);
        relation.owner = to;
        planned.changes.push(Change::PutRelation(Box::new(relation)));
    }
    planned
}

fn drop(ctx: &Context<'_>, of: &BTreeSet<Oid>, cascade: bool) -> Result<Planned> {
    let mut planned = Planned::new("DROP OWNED");
    let state = ctx.state;
    let schemas: BTreeSet<Oid> =
        state.schemas.values().filter(|it| of.contains(&it.owner)).map(|it| it.oid).collect();
    let goes = |it: &&Arc<Relation>| of.contains(&it.owner) || schemas.contains(&it.schema);
    let targets: Vec<&Arc<Relation>> = state.relations.values().filter(goes).collect();
    if !cascade && targets.iter().any(|it| !of.contains(&it.owner)) {
        let message = "cannot drop desired object(s) because other objects depend on them";
        return Err(Error::new(Kind::DependentObjects, message)
            .with_hint("Use DROP OWNED … CASCADE to drop the dependent objects too."));
    }
    let (changes, notices) = depend::drop_all(ctx, &targets, cascade)?;
    let gone = |oid: Oid| {
        changes.iter().any(|it| matches!(it, Change::RemoveRelation(removed) if *removed == oid))
    };
    for schema in state.schemas.values().filter(|it| !schemas.contains(&it.oid)) {
        if let Some(grants) = without(&schema.grants, schema.owner, of) {
            planned.changes.push(Change::PutSchema(Schema { grants, ..Schema::clone(schema) }));
        }
    }
    for relation in state.relations.values().filter(|it| !gone(it.oid)) {
        if let Some(grants) = without(&relation.grants, relation.owner, of) {
            let relation = Relation { grants, ..Relation::clone(relation) };
            planned.changes.push(Change::PutRelation(Box::new(relation)));
        }
    }
    planned.changes.extend(changes);
    planned.changes.extend(schemas.iter().copied().map(Change::RemoveSchema));
    planned.changes.extend(defaults(ctx, of, &schemas));
    planned.notices = notices;
    Ok(planned)
}

/// `grants` without those to these roles, and without what stood on them; `None` for no change.
fn without(grants: &[Grant], owner: Oid, of: &BTreeSet<Oid>) -> Option<Vec<Grant>> {
    let kept: Vec<Grant> = grants.iter().filter(|it| !of.contains(&it.grantee)).cloned().collect();
    (kept.len() < grants.len()).then(|| supported(&kept, owner))
}

/// What these roles were to give or to be given with objects to come, and what was to be given in
/// schemas that go.
fn defaults(ctx: &Context<'_>, of: &BTreeSet<Oid>, schemas: &BTreeSet<Oid>) -> Vec<Change> {
    let mut state = ctx.state.clone();
    let forgotten = forget_schema(&state, |oid| schemas.contains(&oid));
    state = state.apply(&forgotten);
    let mut touched: BTreeSet<Oid> = forgotten
        .iter()
        .filter_map(|it| match it {
            Change::PutRole(role) => Some(role.oid),
            _ => None,
        })
        .collect();
    let mut changed = Vec::new();
    for role in state.roles.values() {
        let mut role = Role::clone(role);
        let before = role.default_grants.len();
        match of.contains(&role.oid) {
            true => role.default_grants.clear(),
            false => role.default_grants.retain(|it| !of.contains(&it.grantee)),
        }
        if role.default_grants.len() < before || touched.remove(&role.oid) {
            changed.push(Change::PutRole(role));
        }
    }
    changed
}
