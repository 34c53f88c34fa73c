//! `information_schema`, as SQL:2011 and PostgreSQL define it.
//!
//! What it guarantees: the same visibility as `pg_catalog`; grants are listed if the principal is
//! their grantee or grantor, or the object's owner.

use std::collections::BTreeSet;

use kho_catalog::error::Result;
use kho_catalog::state::{Grant, MembershipOption, Oid, PUBLIC, Relation};

use super::CatalogView;
use super::acl;
use super::definition::{self, SYSTEM_SCHEMAS};
use super::keys;
use super::object::{self, SYSTEM_OWNER};
use super::rows::Rows;
use super::scope;
use super::types;
use super::value::Value;

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    match table {
        "information_schema_catalog_name" => {
            rows.push([("catalog_name", view.database.as_str().into())])
        }
        "schemata" => schemata(view, rows),
        "tables" => tables(view, rows),
        "views" => views(view, rows),
        "columns" => columns(view, rows),
        "table_constraints" | "check_constraints" | "constraint_column_usage" => {
            checks(view, table, rows)?;
            keys::information(view, table, rows)
        }
        "key_column_usage" => keys::information(view, table, rows),
        "table_privileges" | "role_table_grants" => table_privileges(view, table, rows),
        "column_privileges" | "role_column_grants" => column_privileges(view, table, rows),
        "applicable_roles" | "administrable_role_authorizations" => {
            applicable_roles(view, table, rows)
        }
        "enabled_roles" => acl::closure(&view.state, view.role)
            .into_iter()
            .filter(|role| *role != PUBLIC)
            .try_for_each(|role| rows.push([("role_name", object::role_name(view, role).into())])),
        "character_sets" => rows.push([
            ("character_set_name", "UTF8".into()),
            ("character_repertoire", "UCS".into()),
            ("form_of_use", "UTF8".into()),
            ("default_collate_catalog", view.database.as_str().into()),
            ("default_collate_schema", "pg_catalog".into()),
            ("default_collate_name", "C".into()),
        ]),
        "routines" => routines(view, rows),
        _ => Ok(()),
    }
}

fn schemata(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    let system = SYSTEM_SCHEMAS.map(|(_, it)| (it.to_owned(), SYSTEM_OWNER));
    let own = object::schemas(view).map(|it| (it.name.clone(), it.owner));
    for (name, owner) in own.chain(system) {
        rows.push([
            ("catalog_name", view.database.as_str().into()),
            ("schema_name", name.into()),
            ("schema_owner", object::role_name(view, owner).into()),
        ])?;
    }
    Ok(())
}

fn tables(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for relation in object::relations(view) {
        let is_table = relation.table().is_some();
        rows.push([
            ("table_catalog", view.database.as_str().into()),
            ("table_schema", object::schema_name(view, relation.schema).into()),
            ("table_name", relation.name.as_str().into()),
            ("table_type", if is_table { "BASE TABLE" } else { "VIEW" }.into()),
            ("is_insertable_into", yes(is_table)),
            ("is_typed", yes(false)),
        ])?;
    }
    for it in definition::all() {
        rows.push([
            ("table_catalog", view.database.as_str().into()),
            ("table_schema", it.schema.into()),
            ("table_name", it.name.into()),
            ("table_type", if it.kind == "r" { "BASE TABLE" } else { "VIEW" }.into()),
            ("is_insertable_into", yes(false)),
            ("is_typed", yes(false)),
        ])?;
    }
    Ok(())
}

fn views(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    let enabled = acl::closure(&view.state, view.role);
    for relation in object::relations(view) {
        let Some(of) = relation.view() else {
            continue;
        };
        // The standard shows the definition to the owner alone.
        let text = of.query.value().filter(|_| enabled.contains(&relation.owner));
        rows.push([
            ("table_catalog", view.database.as_str().into()),
            ("table_schema", object::schema_name(view, relation.schema).into()),
            ("table_name", relation.name.as_str().into()),
            ("view_definition", text.map(|text| format!(" {text};")).into()),
            ("check_option", "NONE".into()),
            ("is_updatable", yes(false)),
            ("is_insertable_into", yes(false)),
            ("is_trigger_updatable", yes(false)),
            ("is_trigger_deletable", yes(false)),
            ("is_trigger_insertable_into", yes(false)),
        ])?;
    }
    Ok(())
}

struct ColumnRow<'a> {
    schema: String,
    table: &'a str,
    at: usize,
    name: &'a str,
    type_oid: Oid,
    modifier: i32,
    nullable: bool,
    default: Option<&'a str>,
    updatable: bool,
}

fn columns(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for relation in object::relations(view) {
        let schema = object::schema_name(view, relation.schema).unwrap_or_default();
        for (at, column) in relation.columns.iter().enumerate() {
            let row = ColumnRow {
                schema: schema.clone(),
                table: &relation.name,
                at,
                name: &column.name,
                type_oid: types::type_oid(&column.data_type),
                modifier: types::type_modifier(&column.data_type),
                nullable: !column.not_null,
                default: column.default.as_ref().and_then(|it| it.value()),
                updatable: relation.table().is_some(),
            };
            push_column(view, &row, rows)?;
        }
    }
    for table in definition::all() {
        for (at, column) in table.columns.iter().enumerate() {
            let row = ColumnRow {
                schema: table.schema.to_owned(),
                table: table.name,
                at,
                name: column.name,
                type_oid: types::by_name(column.pg_type).map_or(0, |it| it.oid),
                modifier: -1,
                nullable: !column.not_null,
                default: None,
                updatable: false,
            };
            push_column(view, &row, rows)?;
        }
    }
    Ok(())
}

fn push_column(view: &CatalogView, it: &ColumnRow<'_>, rows: &mut Rows) -> Result<()> {
    let built_in = types::by_oid(it.type_oid);
    let internal = built_in.map_or("record", |it| it.name);
    let data_type = match built_in.filter(|it| it.name.starts_with('_')) {
        Some(_) => "ARRAY".to_owned(),
        None => types::format_type(view, i64::from(it.type_oid), None),
    };
    let declared = i64::from(it.modifier).checked_sub(4).filter(|it| *it >= 0);
    let numeric = Numeric::of(internal, declared);
    let at = it.at.saturating_add(1);
    let text = matches!(internal, "text" | "varchar" | "bpchar");
    let length = declared.filter(|_| internal == "varchar");
    // PostgreSQL reckons four bytes for a character of UTF-8, and knows no text above 1 GiB.
    let bytes = length.map_or(1_073_741_824, |it| it.saturating_mul(4));
    rows.push([
        ("table_catalog", view.database.as_str().into()),
        ("table_schema", it.schema.as_str().into()),
        ("table_name", it.table.into()),
        ("column_name", it.name.into()),
        ("ordinal_position", at.into()),
        ("column_default", it.default.into()),
        ("is_nullable", yes(it.nullable)),
        ("data_type", data_type.into()),
        ("character_maximum_length", length.into()),
        ("character_octet_length", text.then_some(bytes).into()),
        ("numeric_precision", numeric.precision.into()),
        ("numeric_precision_radix", numeric.radix.into()),
        ("numeric_scale", numeric.scale.into()),
        ("datetime_precision", datetime_precision(internal).into()),
        ("udt_catalog", view.database.as_str().into()),
        ("udt_schema", "pg_catalog".into()),
        ("udt_name", internal.into()),
        ("dtd_identifier", at.to_string().into()),
        ("is_self_referencing", yes(false)),
        ("is_identity", yes(false)),
        ("identity_cycle", yes(false)),
        ("is_generated", "NEVER".into()),
        ("is_updatable", yes(it.updatable)),
    ])
}

#[derive(Default)]
struct Numeric {
    precision: Option<i64>,
    radix: Option<i64>,
    scale: Option<i64>,
}

impl Numeric {
    fn of(internal: &str, declared: Option<i64>) -> Numeric {
        let binary = |bits, scale| Numeric { precision: Some(bits), radix: Some(2), scale };
        match (internal, declared) {
            ("int2", _) => binary(16, Some(0)),
            ("int4", _) => binary(32, Some(0)),
            ("int8", _) => binary(64, Some(0)),
            ("float4", _) => binary(24, None),
            ("float8", _) => binary(53, None),
            ("numeric", Some(both)) => {
                Numeric { precision: Some(both >> 16), radix: Some(10), scale: Some(both & 0x7ff) }
            }
            _ => Numeric::default(),
        }
    }
}

fn datetime_precision(internal: &str) -> Option<i64> {
    match internal {
        "date" => Some(0),
        "timestamp" | "timestamptz" | "time" | "interval" => Some(6),
        _ => None,
    }
}

fn checks(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    for relation in object::relations(view) {
        let schema = object::schema_name(view, relation.schema);
        for check in relation.table().into_iter().flat_map(|it| &it.checks) {
            let database = || Value::from(view.database.as_str());
            let text = check.expression.value();
            match table {
                "table_constraints" => rows.push([
                    ("constraint_catalog", database()),
                    ("constraint_schema", schema.clone().into()),
                    ("constraint_name", check.name.as_str().into()),
                    ("table_catalog", database()),
                    ("table_schema", schema.clone().into()),
                    ("table_name", relation.name.as_str().into()),
                    ("constraint_type", "CHECK".into()),
                    ("is_deferrable", yes(false)),
                    ("initially_deferred", yes(false)),
                    ("enforced", yes(true)),
                ])?,
                "check_constraints" => rows.push([
                    ("constraint_catalog", database()),
                    ("constraint_schema", schema.clone().into()),
                    ("constraint_name", check.name.as_str().into()),
                    ("check_clause", text.into()),
                ])?,
                _ => {
                    let positions = text.map(|text| scope::columns_of(text, relation));
                    for at in positions.unwrap_or_default() {
                        let at = usize::try_from(at).ok().and_then(|it| it.checked_sub(1));
                        let column = at.and_then(|at| relation.columns.get(at));
                        rows.push([
                            ("table_catalog", database()),
                            ("table_schema", schema.clone().into()),
                            ("table_name", relation.name.as_str().into()),
                            ("column_name", column.map(|it| it.name.as_str()).into()),
                            ("constraint_catalog", database()),
                            ("constraint_schema", schema.clone().into()),
                            ("constraint_name", check.name.as_str().into()),
                        ])?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// The rights on a relation that the principal may know of: its own, and on what it owns all.
fn grants<'a>(
    relation: &'a Relation,
    enabled: &'a BTreeSet<Oid>,
    roles_only: bool,
) -> impl Iterator<Item = Grant> + 'a {
    let owner = acl::RELATION.iter().map(|privilege| Grant {
        grantee: relation.owner,
        grantor: relation.owner,
        privilege: *privilege,
        grantable: true,
        column: None,
    });
    let given = relation.grants.iter().filter(|it| it.grantee != relation.owner).cloned();
    owner.chain(given).filter(move |it| {
        let own = |role: &Oid| *role != PUBLIC && enabled.contains(role);
        let public = it.grantee == PUBLIC && !roles_only;
        public || own(&it.grantee) || own(&it.grantor)
    })
}

fn table_privileges(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    let enabled = acl::closure(&view.state, view.role);
    for relation in object::relations(view) {
        let of_whole = grants(relation, &enabled, table == "role_table_grants");
        for grant in of_whole.filter(|it| it.column.is_none()) {
            let reads = grant.privilege == kho_catalog::state::Privilege::Select;
            rows.push([
                ("grantor", object::role_name(view, grant.grantor).into()),
                ("grantee", grantee(view, grant.grantee)),
                ("table_catalog", view.database.as_str().into()),
                ("table_schema", object::schema_name(view, relation.schema).into()),
                ("table_name", relation.name.as_str().into()),
                ("privilege_type", acl::name(grant.privilege).into()),
                ("is_grantable", yes(grant.grantable)),
                ("with_hierarchy", yes(reads)),
            ])?;
        }
    }
    Ok(())
}

fn column_privileges(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    use kho_catalog::state::Privilege::{Insert, Select, Update};
    let enabled = acl::closure(&view.state, view.role);
    for relation in object::relations(view) {
        let of_columns: Vec<Grant> = grants(relation, &enabled, table == "role_column_grants")
            .filter(|it| matches!(it.privilege, Select | Insert | Update))
            .collect();
        for column in &relation.columns {
            for (grant, grantable) in on_column(&of_columns, column.id) {
                rows.push([
                    ("grantor", object::role_name(view, grant.grantor).into()),
                    ("grantee", grantee(view, grant.grantee)),
                    ("table_catalog", view.database.as_str().into()),
                    ("table_schema", object::schema_name(view, relation.schema).into()),
                    ("table_name", relation.name.as_str().into()),
                    ("column_name", column.name.as_str().into()),
                    ("privilege_type", acl::name(grant.privilege).into()),
                    ("is_grantable", yes(grantable)),
                ])?;
            }
        }
    }
    Ok(())
}

/// The rights on one column, whether they come with the whole or were given on it alone; each
/// once, with whether it can be given on.
fn on_column(grants: &[Grant], column: u32) -> Vec<(&Grant, bool)> {
    let mut on_it: Vec<(&Grant, bool)> = Vec::new();
    for grant in grants.iter().filter(|it| it.column.is_none() || it.column == Some(column)) {
        let key = |it: &Grant| (it.grantee, it.grantor, it.privilege);
        match on_it.iter_mut().find(|(known, _)| key(known) == key(grant)) {
            Some((_, grantable)) => *grantable |= grant.grantable,
            None => on_it.push((grant, grant.grantable)),
        }
    }
    on_it
}

fn applicable_roles(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    for role in acl::closure(&view.state, view.role) {
        let Some(role) = view.state.roles.get(&role) else {
            continue;
        };
        for (of, option) in &role.member_of {
            let admin = *option == MembershipOption::Admin;
            if admin || table == "applicable_roles" {
                rows.push([
                    ("grantee", role.name.as_str().into()),
                    ("role_name", object::role_name(view, *of).into()),
                    ("is_grantable", yes(admin)),
                ])?;
            }
        }
    }
    Ok(())
}

fn routines(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for (at, (schema, name, kind)) in view.functions.iter().enumerate() {
        rows.push([
            ("specific_catalog", view.database.as_str().into()),
            ("specific_schema", schema.as_str().into()),
            ("specific_name", format!("{name}_{at}").into()),
            ("routine_catalog", view.database.as_str().into()),
            ("routine_schema", schema.as_str().into()),
            ("routine_name", name.as_str().into()),
            ("routine_type", if *kind == 'p' { "PROCEDURE" } else { "FUNCTION" }.into()),
            ("routine_body", "EXTERNAL".into()),
            ("external_language", "INTERNAL".into()),
            ("security_type", "INVOKER".into()),
        ])?;
    }
    Ok(())
}

fn grantee(view: &CatalogView, role: Oid) -> Value {
    if role == PUBLIC { "PUBLIC".into() } else { object::role_name(view, role).into() }
}

fn yes(truth: bool) -> Value {
    if truth { "YES" } else { "NO" }.into()
}
