//! `pg_policy` and `pg_policies`.
//!
//! What it guarantees: a policy is shown with its table and never without it. Its expressions can
//! quote what they are to hide, so they are shown to the table's owner and to `kho_auditor` alone;
//! for others they are NULL, where PostgreSQL shows them.

use kho_catalog::error::Result;
use kho_catalog::policy::{Policy, PolicyCommand};
use kho_catalog::privilege::KHO_AUDITOR;
use kho_catalog::state::{Oid, Relation};
use kho_catalog::text::Text;

use super::CatalogView;
use super::object;
use super::rows::Rows;
use super::value::Value;

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    let push: fn(&CatalogView, &Relation, &Policy, &mut Rows) -> Result<()> = match table {
        "pg_policy" => policy,
        "pg_policies" => listed,
        _ => return Ok(()),
    };
    for relation in object::relations(view) {
        let policies = relation.table().map(|table| table.policies.as_slice());
        for policy in policies.unwrap_or_default() {
            push(view, relation, policy, rows)?;
        }
    }
    Ok(())
}

fn policy(view: &CatalogView, relation: &Relation, policy: &Policy, rows: &mut Rows) -> Result<()> {
    let command = match policy.command {
        PolicyCommand::All => "*",
        PolicyCommand::Select => "r",
        PolicyCommand::Insert => "a",
        PolicyCommand::Update => "w",
        PolicyCommand::Delete => "d",
    };
    let roles: Vec<i64> = policy.roles.iter().map(|role| i64::from(*role)).collect();
    rows.push([
        ("oid", policy.oid.into()),
        ("polname", policy.name.as_str().into()),
        ("polrelid", relation.oid.into()),
        ("polcmd", command.into()),
        ("polpermissive", policy.permissive.into()),
        ("polroles", roles.into()),
        ("polqual", expression(view, relation, policy.using.as_ref())),
        ("polwithcheck", expression(view, relation, policy.with_check.as_ref())),
    ])
}

fn listed(view: &CatalogView, relation: &Relation, policy: &Policy, rows: &mut Rows) -> Result<()> {
    let name = |role: &Oid| match role {
        0 => "public".to_owned(),
        role => object::role_name(view, *role),
    };
    let roles: Vec<String> = policy.roles.iter().map(name).collect();
    let permissive = if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
    rows.push([
        ("schemaname", object::schema_name(view, relation.schema).into()),
        ("tablename", relation.name.as_str().into()),
        ("policyname", policy.name.as_str().into()),
        ("permissive", permissive.into()),
        ("roles", roles.into()),
        ("cmd", policy.command.name().into()),
        ("qual", expression(view, relation, policy.using.as_ref())),
        ("with_check", expression(view, relation, policy.with_check.as_ref())),
    ])
}

fn expression(view: &CatalogView, relation: &Relation, text: Option<&Text>) -> Value {
    let who = &view.who;
    if !who.is(relation.owner) && !who.serves(KHO_AUDITOR) {
        return Value::Null;
    }
    let text = text.and_then(Text::value);
    let shown = text.map(|text| crate::secure::in_terms_of_names(text, relation));
    shown.and_then(Result::ok).map(|text| format!("({text})")).into()
}
