//! `GRANT` and `REVOKE` of rights on schemas and relations.
//!
//! What it guarantees: a right is given only by the owner or by who holds it `WITH GRANT OPTION`,
//! and lives only as long as the right of who gave it.
//! What it does not: rights on columns, functions and databases; they are refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, RelationAction, SchemaAction, grantor_for};
use kho_catalog::state::{Change, Grant, Oid, PUBLIC, Privilege, Relation, Schema};
use sqlparser::ast::{
    self, Action as Act, CascadeOption, GrantObjects, Grantee, GranteeName, GranteesType,
    ObjectName, Privileges,
};

use super::relation::same;
use super::{Context, Planned, name, warning};
use crate::outcome::Notice;

const ON_SCHEMA: &[Privilege] = &[Privilege::Usage, Privilege::Create];
const ON_RELATION: &[Privilege] = &[
    Privilege::Select,
    Privilege::Insert,
    Privilege::Update,
    Privilege::Delete,
    Privilege::Truncate,
];

/// `GRANT … ON … TO …`.
pub(crate) fn apply(ctx: &mut Context<'_>, statement: &ast::Grant) -> Result<Planned> {
    let refused = [
        (statement.as_grantor.is_some(), "AS"),
        (statement.granted_by.is_some(), "GRANTED BY"),
        (statement.current_grants.is_some(), "CURRENT GRANTS"),
    ];
    refuse(&refused)?;
    let mut planned = Planned::new("GRANT");
    let to = grantees(ctx, &statement.grantees)?;
    let objects = objects(ctx, statement.objects.as_ref())?;
    let privileges = privileges(&statement.privileges, &objects)?;
    if statement.with_grant_option && to.contains(&PUBLIC) {
        let message = "grant options can only be granted to roles";
        return Err(Error::new(Kind::InvalidGrantOperation, message));
    }
    let wish = Wish { privileges, roles: to, verb: "granted", state: "01007" };
    let give = |grants: &mut Vec<Grant>, owner: Oid, grant: Grant| {
        // An owner has every right anyway; a grant to it would only outlive its ownership.
        if grant.grantee == owner {
            return Ok(());
        }
        let grant = Grant { grantable: statement.with_grant_option, ..grant };
        match grants.iter_mut().find(|it| same(it, &grant)) {
            Some(held) => held.grantable |= grant.grantable,
            None => grants.push(grant),
        }
        Ok(())
    };
    planned.changes = each(ctx, objects, &wish, &mut planned.notices, give)?;
    Ok(planned)
}

/// `REVOKE … ON … FROM …`.
pub(crate) fn revoke(ctx: &mut Context<'_>, statement: &ast::Revoke) -> Result<Planned> {
    take(ctx, statement, false)
}

/// `REVOKE GRANT OPTION FOR … ON … FROM …`: the right stays, but cannot be given on.
pub(crate) fn revoke_option(ctx: &mut Context<'_>, statement: &ast::Revoke) -> Result<Planned> {
    take(ctx, statement, true)
}

fn take(ctx: &mut Context<'_>, statement: &ast::Revoke, only_option: bool) -> Result<Planned> {
    refuse(&[(statement.granted_by.is_some(), "GRANTED BY")])?;
    let mut planned = Planned::new("REVOKE");
    let from = grantees(ctx, &statement.grantees)?;
    let objects = objects(ctx, statement.objects.as_ref())?;
    let privileges = privileges(&statement.privileges, &objects)?;
    let cascade = matches!(statement.cascade, Some(CascadeOption::Cascade));
    let wish = Wish { privileges, roles: from, verb: "revoked", state: "01006" };
    let take = |grants: &mut Vec<Grant>, owner: Oid, grant: Grant| {
        if grant.grantee == owner {
            return Err(Error::unsupported("the rights of an owner cannot be revoked")
                .with_hint("Make another role the owner."));
        }
        if only_option {
            grants.iter_mut().filter(|it| same(it, &grant)).for_each(|it| it.grantable = false);
        } else {
            grants.retain(|it| !same(it, &grant));
        }
        let supported = supported(grants, owner);
        if !cascade && supported.len() < grants.len() {
            return Err(Error::new(Kind::DependentObjects, "dependent privileges exist")
                .with_hint("Use CASCADE to revoke them too."));
        }
        *grants = supported;
        Ok(())
    };
    planned.changes = each(ctx, objects, &wish, &mut planned.notices, take)?;
    Ok(planned)
}

/// What is asked for, and how a partial success is said.
struct Wish {
    privileges: Vec<Privilege>,
    roles: Vec<Oid>,
    verb: &'static str,
    state: &'static str,
}

enum Objects<'a> {
    Schemas(Vec<&'a Arc<Schema>>),
    Relations(Vec<&'a Arc<Relation>>),
}

/// Does `act` with every right and role of `wish` on every object, and puts what changed.
fn each(
    ctx: &Context<'_>,
    objects: Objects<'_>,
    wish: &Wish,
    notices: &mut Vec<Notice>,
    act: impl Fn(&mut Vec<Grant>, Oid, Grant) -> Result<()>,
) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    match objects {
        Objects::Schemas(schemas) => {
            for schema in schemas {
                let mut changed = Schema::clone(schema);
                let denied = Action::Schema(schema.oid, SchemaAction::Own);
                let on = On { name: &schema.name, owner: schema.owner, denied };
                on_one(ctx, &on, &mut changed.grants, wish, notices, &act)?;
                if changed != **schema {
                    changes.push(Change::PutSchema(changed));
                }
            }
        }
        Objects::Relations(relations) => {
            for relation in relations {
                let mut changed = Relation::clone(relation);
                let denied = Action::Relation(relation.oid, RelationAction::Own);
                let on = On { name: &relation.name, owner: relation.owner, denied };
                on_one(ctx, &on, &mut changed.grants, wish, notices, &act)?;
                if changed != **relation {
                    changes.push(Change::PutRelation(Box::new(changed)));
                }
            }
        }
    }
    Ok(changes)
}

/// One object: its name, its owner, and what to ask `privilege` for the words of a refusal.
struct On<'a> {
    name: &'a str,
    owner: Oid,
    denied: Action,
}

fn on_one(
    ctx: &Context<'_>,
    on: &On<'_>,
    grants: &mut Vec<Grant>,
    wish: &Wish,
    notices: &mut Vec<Notice>,
    act: impl Fn(&mut Vec<Grant>, Oid, Grant) -> Result<()>,
) -> Result<()> {
    // Decided before anything changes: a statement cannot take its own ground away half-way.
    let grantors: Vec<(Privilege, Oid)> = (wish.privileges.iter())
        .filter_map(|it| Some((*it, grantor_for(ctx.who, on.owner, grants, *it)?)))
        .collect();
    if grantors.is_empty() {
        privilege::require(ctx.state, ctx.who, on.denied)?;
    }
    if grantors.len() < wish.privileges.len() {
        let message = format!("not all privileges were {} for \"{}\"", wish.verb, on.name);
        notices.push(warning(wish.state, message));
    }
    for (privilege, grantor) in grantors {
        for grantee in &wish.roles {
            act(
                grants,
                on.owner,
                Grant { grantee: *grantee, grantor, privilege, grantable: false },
            )?;
        }
    }
    Ok(())
}

/// The grants that can be traced to the owner, each giver holding the right with grant option.
fn supported(grants: &[Grant], owner: Oid) -> Vec<Grant> {
    let mut givers: BTreeSet<(Privilege, Oid)> = BTreeSet::new();
    let gives = |givers: &BTreeSet<(Privilege, Oid)>, it: &Grant| {
        it.grantor == owner || givers.contains(&(it.privilege, it.grantor))
    };
    loop {
        let next: BTreeSet<(Privilege, Oid)> = (grants.iter())
            .filter(|it| it.grantable && gives(&givers, it))
            .map(|it| (it.privilege, it.grantee))
            .collect();
        if next == givers {
            return grants.iter().filter(|it| gives(&givers, it)).cloned().collect();
        }
        givers = next;
    }
}

fn objects<'a>(ctx: &Context<'a>, written: Option<&GrantObjects>) -> Result<Objects<'a>> {
    match written {
        Some(GrantObjects::Schemas(names)) => Ok(Objects::Schemas(schemas(ctx, names)?)),
        Some(GrantObjects::Tables(names)) => {
            let find = |written: &ObjectName| name::find(ctx, &name::qualified(written)?);
            Ok(Objects::Relations(names.iter().map(find).collect::<Result<_>>()?))
        }
        Some(GrantObjects::AllTablesInSchema { schemas: names }) => {
            let mut found = Vec::new();
            for schema in schemas(ctx, names)? {
                let see = |it: &&Arc<Relation>| {
                    let see = Action::Relation(it.oid, RelationAction::See);
                    privilege::require(ctx.state, ctx.who, see).is_ok()
                };
                found.extend(ctx.state.relations_of(schema.oid).filter(see));
            }
            Ok(Objects::Relations(found))
        }
        Some(_) => Err(Error::unsupported("rights on this kind of object are not supported")
            .with_hint("There are rights on schemas, on tables and on views.")),
        None => Err(Error::new(Kind::Syntax, "GRANT and REVOKE need ON and an object")),
    }
}

fn schemas<'a>(ctx: &Context<'a>, names: &[ObjectName]) -> Result<Vec<&'a Arc<Schema>>> {
    let find = |written: &ObjectName| {
        privilege::find_schema(ctx.state, ctx.who, &name::schema_name(written)?)
    };
    names.iter().map(find).collect()
}

fn privileges(written: &Privileges, objects: &Objects<'_>) -> Result<Vec<Privilege>> {
    let (known, kind) = match objects {
        Objects::Schemas(_) => (ON_SCHEMA, "schema"),
        Objects::Relations(_) => (ON_RELATION, "table"),
    };
    let actions = match written {
        Privileges::All { .. } => return Ok(known.to_vec()),
        Privileges::Actions(actions) => actions,
    };
    let mut found = Vec::with_capacity(actions.len());
    for action in actions {
        let privilege = privilege(action)?;
        if !known.contains(&privilege) {
            let message = format!("invalid privilege type {action} for {kind}");
            return Err(Error::new(Kind::InvalidGrantOperation, message));
        }
        if !found.contains(&privilege) {
            found.push(privilege);
        }
    }
    Ok(found)
}

fn privilege(action: &Act) -> Result<Privilege> {
    match action {
        Act::Select { columns: None } => Ok(Privilege::Select),
        Act::Insert { columns: None } => Ok(Privilege::Insert),
        Act::Update { columns: None } => Ok(Privilege::Update),
        Act::Delete => Ok(Privilege::Delete),
        Act::Truncate => Ok(Privilege::Truncate),
        Act::Usage => Ok(Privilege::Usage),
        Act::Create { obj_type: None } => Ok(Privilege::Create),
        Act::Select { .. } | Act::Insert { .. } | Act::Update { .. } => {
            Err(Error::unsupported("rights on columns are not supported")
                .with_hint("Grant on a view that has only those columns."))
        }
        other => Err(Error::unsupported(format!("the privilege {other} is not supported"))),
    }
}

fn grantees(ctx: &Context<'_>, written: &[Grantee]) -> Result<Vec<Oid>> {
    written
        .iter()
        .map(|grantee| match (&grantee.grantee_type, &grantee.name) {
            (GranteesType::Public, _) => Ok(PUBLIC),
            (
                GranteesType::None | GranteesType::Group | GranteesType::Role,
                Some(GranteeName::ObjectName(written)),
            ) => match name::parts(written)?.as_slice() {
                [role] if role == "public" => Ok(PUBLIC),
                [role] => Ok(name::find_role(ctx, role)?.oid),
                _ => Err(Error::new(Kind::Syntax, format!("\"{written}\" is not a role's name"))),
            },
            _ => Err(Error::unsupported("rights are given to roles and to PUBLIC")),
        })
        .collect()
}

fn refuse(clauses: &[(bool, &str)]) -> Result<()> {
    match clauses.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, clause)) => Err(Error::unsupported(format!("{clause} is not supported"))
            .with_hint("The grantor is the owner, or who holds the right with grant option.")),
    }
}
