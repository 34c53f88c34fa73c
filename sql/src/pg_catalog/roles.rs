//! Accounts: `pg_roles`, `pg_user`, `pg_group`, `pg_auth_members`, `pg_shdescription`, and what
//! they give with objects to come, `pg_default_acl`.
//!
//! What it guarantees: no password and no verifier is in any of them. Every role is listed, as in
//! PostgreSQL: owners and grantors must have names.

use kho_catalog::error::Result;
use kho_catalog::state::{DefaultGrant, DefaultOn, Grant, MembershipOption, Oid, Role};

use super::CatalogView;
use super::acl;
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
        "pg_default_acl" => default_rights(view, rows),
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

/// One row for each role, schema and kind of object. What holds in every schema is written with
/// the owner's rights, as the whole of what a new object gets; what holds in one is added to it.
fn default_rights(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for role in object::roles(view) {
        let is_visible = |it: &&DefaultGrant| {
            it.schema.is_none_or(|schema| view.visible.schemas().contains(&schema))
        };
        let mut entries: Vec<(Option<Oid>, DefaultOn)> = Vec::new();
        for it in role.default_grants.iter().filter(is_visible) {
            if !entries.contains(&(it.schema, it.on)) {
                entries.push((it.schema, it.on));
            }
        }
        for (at, (schema, on)) in entries.into_iter().enumerate() {
            let (kind, all) = match on {
                DefaultOn::Tables => ("r", acl::RELATION),
                DefaultOn::Schemas => ("n", acl::SCHEMA),
            };
            let given = role.default_grants.iter().filter(|it| (it.schema, it.on) == (schema, on));
            let given: Vec<Grant> = given.map(|it| granted(role.oid, it)).collect();
            let items = match schema {
                Some(_) => Some(acl::written(view, &given, all)),
                None => acl::items(view, role.oid, &given, all),
            };
            rows.push([
                ("oid", default_oid(role.oid, at).into()),
                ("defaclrole", role.oid.into()),
                ("defaclnamespace", schema.unwrap_or_default().into()),
                ("defaclobjtype", kind.into()),
                ("defaclacl", items.into()),
            ])?;
        }
    }
    Ok(())
}

fn granted(maker: Oid, it: &DefaultGrant) -> Grant {
    Grant {
        grantee: it.grantee,
        grantor: maker,
        privilege: it.privilege,
        grantable: it.grantable,
        column: None,
    }
}

/// An entry has no oid in Kho's catalog; it is computed from its role's, above all others.
fn default_oid(role: Oid, at: usize) -> Oid {
    let at = Oid::try_from(at).unwrap_or(Oid::MAX);
    0xc000_0000 | ((role & 0x003f_ffff) << 8) | at.min(0xff)
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
