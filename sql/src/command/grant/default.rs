//! `ALTER DEFAULT PRIVILEGES`: what is given with each object that a role makes.
//!
//! What it guarantees: one sets them for oneself and for roles one belongs to. They are looked at
//! once, when an object is made; those for every schema and those for its schema add up.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{
    Change, DefaultGrant, DefaultOn, Grant, Oid, PUBLIC, Privilege, Role, State,
};

use super::words::{ON_RELATION, ON_SCHEMA, on_whole};
use super::{grantees, name, only_by_oneself, schemas};
use crate::command::{Context, Planned};
use crate::parse::DefaultStatement;

/// `ALTER DEFAULT PRIVILEGES`.
pub(crate) fn apply(ctx: &mut Context<'_>, statement: &DefaultStatement) -> Result<Planned> {
    let mut planned = Planned::new("ALTER DEFAULT PRIVILEGES");
    let given = &statement.given;
    only_by_oneself(ctx, given)?;
    let (on, privileges) = wanted(statement)?;
    let roles = grantees(ctx, &given.roles)?;
    if !given.revoke && given.option && roles.contains(&PUBLIC) {
        let message = "grant options can only be granted to roles";
        return Err(Error::new(Kind::InvalidGrantOperation, message));
    }
    let schemas: Vec<Option<Oid>> = match statement.schemas.as_slice() {
        [] => vec![None],
        names => schemas(ctx, names)?.into_iter().map(|it| Some(it.oid)).collect(),
    };
    for maker in makers(ctx, &statement.makers)? {
        let mut role = Role::clone(
            ctx.state.roles.get(&maker).ok_or_else(|| Error::internal("a role is not there"))?,
        );
        let before = role.default_grants.clone();
        for (schema, privilege, grantee) in each(&schemas, &privileges, &roles) {
            let new = DefaultGrant { schema, on, grantee, privilege, grantable: given.option };
            match given.revoke {
                true => take(&mut role.default_grants, &new, maker)?,
                false if grantee == maker => {}
                false => give(&mut role.default_grants, new),
            }
        }
        if role.default_grants != before {
            planned.changes.push(Change::PutRole(role));
        }
    }
    Ok(planned)
}

/// The grants that a new object of `owner` comes with; it is in `schema`, or is a schema itself.
pub(crate) fn of_new(state: &State, owner: Oid, on: DefaultOn, schema: Option<Oid>) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    let defaults = state.roles.get(&owner).into_iter().flat_map(|role| &role.default_grants);
    let holds = |it: &&DefaultGrant| it.on == on && (it.schema.is_none() || it.schema == schema);
    for it in defaults.filter(holds) {
        let known = grants
            .iter_mut()
            .find(|grant| grant.grantee == it.grantee && grant.privilege == it.privilege);
        match known {
            Some(grant) => grant.grantable |= it.grantable,
            None => grants.push(Grant {
                grantee: it.grantee,
                grantor: owner,
                privilege: it.privilege,
                grantable: it.grantable,
                column: None,
            }),
        }
    }
    grants
}

/// The changes that take away what was to be given in these schemas, which are dropped.
pub(crate) fn forget_schema(state: &State, dropped: impl Fn(Oid) -> bool) -> Vec<Change> {
    let forgotten = |it: &DefaultGrant| it.schema.is_some_and(&dropped);
    let roles = state.roles.values().filter(|it| it.default_grants.iter().any(forgotten));
    roles
        .map(|role| {
            let mut role = Role::clone(role);
            role.default_grants.retain(|it| !forgotten(it));
            Change::PutRole(role)
        })
        .collect()
}

fn wanted(statement: &DefaultStatement) -> Result<(DefaultOn, Vec<Privilege>)> {
    if statement.rights.iter().any(|right| !right.columns.is_empty()) {
        let message = "default privileges cannot be set for columns";
        return Err(Error::new(Kind::InvalidGrantOperation, message));
    }
    match statement.on.as_str() {
        "TABLES" => {
            let (privileges, _) = on_whole(&statement.rights, ON_RELATION, "table")?;
            Ok((DefaultOn::Tables, privileges))
        }
        "SCHEMAS" => {
            if !statement.schemas.is_empty() {
                let message = "cannot use IN SCHEMA clause when using GRANT/REVOKE ON SCHEMAS";
                return Err(Error::new(Kind::InvalidGrantOperation, message));
            }
            let (privileges, _) = on_whole(&statement.rights, ON_SCHEMA, "schema")?;
            Ok((DefaultOn::Schemas, privileges))
        }
        "SEQUENCES" | "FUNCTIONS" | "ROUTINES" | "TYPES" => {
            let kind = &statement.on;
            let message = format!("default privileges on {kind} are not supported");
            Err(Error::unsupported(message)
                .with_hint("There are default privileges on TABLES and on SCHEMAS."))
        }
        other => {
            let message = format!("syntax error: expected the kind of an object, found {other}");
            Err(Error::new(Kind::Syntax, message))
        }
    }
}

fn makers(ctx: &Context<'_>, written: &[String]) -> Result<Vec<Oid>> {
    if written.is_empty() {
        return Ok(vec![ctx.who.role()]);
    }
    let maker = |role: &String| {
        let found = name::find_role(ctx, role)?.oid;
        match ctx.who.is(found) {
            true => Ok(found),
            false => {
                let message = format!("must be member of role \"{role}\"");
                Err(Error::new(Kind::InsufficientPrivilege, message))
            }
        }
    };
    written.iter().map(maker).collect()
}

fn each<'a>(
    schemas: &'a [Option<Oid>],
    privileges: &'a [Privilege],
    roles: &'a [Oid],
) -> impl Iterator<Item = (Option<Oid>, Privilege, Oid)> + 'a {
    schemas.iter().flat_map(move |schema| {
        let of_role = move |role: &'a Oid| privileges.iter().map(move |it| (*schema, *it, *role));
        roles.iter().flat_map(of_role)
    })
}

fn give(grants: &mut Vec<DefaultGrant>, new: DefaultGrant) {
    match grants.iter_mut().find(|it| is_for_the_same(it, &new)) {
        Some(held) => held.grantable |= new.grantable,
        None => grants.push(new),
    }
}

fn take(grants: &mut Vec<DefaultGrant>, taken: &DefaultGrant, maker: Oid) -> Result<()> {
    if taken.grantee == maker {
        return Err(Error::unsupported("the rights of an owner cannot be revoked")
            .with_hint("Make another role the owner."));
    }
    match taken.grantable {
        // `GRANT OPTION FOR`.
        true => grants
            .iter_mut()
            .filter(|it| is_for_the_same(it, taken))
            .for_each(|it| it.grantable = false),
        false => grants.retain(|it| !is_for_the_same(it, taken)),
    }
    Ok(())
}

fn is_for_the_same(one: &DefaultGrant, other: &DefaultGrant) -> bool {
    let key = |it: &DefaultGrant| (it.schema, it.on, it.grantee, it.privilege);
    key(one) == key(other)
}
