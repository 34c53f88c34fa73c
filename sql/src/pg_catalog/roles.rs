//! Accounts: `pg_roles`, `pg_user`, `pg_group`, `pg_auth_members`, `pg_shdescription`.
//!
//! What it guarantees: no password and no verifier is in any of them. Every role is listed, as in
//! PostgreSQL: owners and grantors must have names.

use kho_catalog::error::Result;
use kho_catalog::state::{MembershipOption, Oid, Role};

use super::CatalogView;
use super::object;
use super::relations::PG_AUTHID;
use super::rows::Rows;
use super::value::Value;

const HIDDEN: &str = "********";
/// `kho_admin` manages accounts; who belongs to it may create roles.
const ADMIN: Oid = 10;

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    match table {
        "pg_roles" => object::roles(view).try_for_each(|role| roles(role, rows)),
        "pg_user" => object::roles(view).filter(|it| it.login).try_for_each(|it| user(it, rows)),
        "pg_group" => groups(view, rows),
        "pg_auth_members" => members(view, rows),
        "pg_shdescription" => descriptions(view, rows),
        _ => Ok(()),
    }
}

fn roles(role: &Role, rows: &mut Rows) -> Result<()> {
    let manages = role.oid == ADMIN || role.member_of.contains_key(&ADMIN);
    rows.push([
        ("rolname", role.name.as_str().into()),
        ("rolsuper", false.into()),
        ("rolinherit", true.into()),
        ("rolcreaterole", manages.into()),
        ("rolcreatedb", false.into()),
        ("rolcanlogin", role.login.into()),
        ("rolreplication", false.into()),
        ("rolconnlimit", role.connection_limit.map_or(-1, i64::from).into()),
        ("rolpassword", HIDDEN.into()),
        ("rolvaliduntil", until(role)),
        ("rolbypassrls", role.bypass_rls.into()),
        ("oid", role.oid.into()),
    ])
}

fn user(role: &Role, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("usename", role.name.as_str().into()),
        ("usesysid", role.oid.into()),
        ("usecreatedb", false.into()),
        ("usesuper", false.into()),
        ("userepl", false.into()),
        ("usebypassrls", role.bypass_rls.into()),
        ("passwd", HIDDEN.into()),
        ("valuntil", until(role)),
    ])
}

fn until(role: &Role) -> Value {
    role.valid_until_ms.map_or(Value::Null, |ms| Value::Time(ms.saturating_mul(1000)))
}

fn groups(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for group in object::roles(view).filter(|role| !role.login) {
        let members: Vec<i64> = object::roles(view)
            .filter(|role| role.member_of.contains_key(&group.oid))
            .map(|role| i64::from(role.oid))
            .collect();
        rows.push([
            ("groname", group.name.as_str().into()),
            ("grosysid", group.oid.into()),
            ("grolist", members.into()),
        ])?;
    }
    Ok(())
}

fn members(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for role in object::roles(view) {
        for (of, option) in &role.member_of {
            rows.push([
                ("roleid", (*of).into()),
                ("member", role.oid.into()),
                ("grantor", ADMIN.into()),
                ("admin_option", (*option == MembershipOption::Admin).into()),
            ])?;
        }
    }
    Ok(())
}

fn descriptions(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for role in object::roles(view) {
        if let Some(text) = role.comment.as_ref().and_then(|it| it.value()) {
            rows.push([
                ("objoid", role.oid.into()),
                ("classoid", PG_AUTHID.into()),
                ("description", text.into()),
            ])?;
        }
    }
    Ok(())
}
