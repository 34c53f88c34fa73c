//! What a session says of itself and of its server.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Oid;

use super::Function;
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::object;
use crate::pg_catalog::value::Value;

pub const FUNCTIONS: &[Function] = &[
    Function::new("kho.purpose", (0, 0), "text", |view, _| {
        Ok(setting(view, "kho.purpose").filter(|it| !it.is_empty()).into())
    }),
    Function::new("kho.role_attribute", (1, 1), "text", |view, it| {
        let name = it.first().and_then(Value::text).unwrap_or_default();
        let role = view.state.roles.get(&view.session_role);
        Ok(role.and_then(|role| role.attributes.get(name)).map(String::as_str).into())
    }),
    Function::new("version", (0, 0), "text", |view, _| Ok(version(view).into())),
    Function::new("current_database", (0, 0), "name", database),
    Function::new("current_catalog", (0, 0), "name", database),
    Function::new("current_schema", (0, 0), "name", |view, _| {
        Ok(object::explicit_path(view).into_iter().next().into())
    }),
    Function::new("current_schemas", (1, 1), "name[]", current_schemas),
    Function::new("current_user", (0, 0), "name", |view, _| role(view, view.role)),
    Function::new("current_role", (0, 0), "name", |view, _| role(view, view.role)),
    Function::new("user", (0, 0), "name", |view, _| role(view, view.role)),
    Function::new("session_user", (0, 0), "name", |view, _| role(view, view.session_role)),
    Function::new("pg_backend_pid", (0, 0), "int4", |view, _| Ok(view.process_id.into())),
    Function::new("current_setting", (1, 2), "text", current_setting),
    Function::new("pg_is_in_recovery", (0, 0), "bool", |_, _| Ok(false.into())),
    Function::new("pg_is_wal_replay_paused", (0, 0), "bool", |_, _| Ok(false.into())),
    Function::new("pg_my_temp_schema", (0, 0), "oid", |_, _| Ok(Value::Int(0))),
    Function::new("pg_is_other_temp_schema", (1, 1), "bool", |_, _| Ok(false.into())),
    Function::new("pg_postmaster_start_time", (0, 0), "timestamptz", |view, _| {
        Ok(Value::Time(view.server_started_us))
    }),
    Function::new("inet_client_addr", (0, 0), "inet", |view, _| {
        Ok(view.client.map(|it| it.ip().to_string()).into())
    }),
    Function::new("inet_client_port", (0, 0), "int4", |view, _| {
        Ok(view.client.map(|it| i64::from(it.port())).into())
    }),
    Function::new("inet_server_addr", (0, 0), "inet", |view, _| {
        Ok(view.server.map(|it| it.ip().to_string()).into())
    }),
    Function::new("inet_server_port", (0, 0), "int4", |view, _| {
        Ok(view.server.map(|it| i64::from(it.port())).into())
    }),
    Function::new("getdatabaseencoding", (0, 0), "name", |_, _| Ok("UTF8".into())),
    Function::new("pg_client_encoding", (0, 0), "name", |_, _| Ok("UTF8".into())),
    Function::new("pg_encoding_to_char", (1, 1), "name", |_, it| {
        Ok(encoding_name(it.first().and_then(Value::int)).into())
    }),
    Function::new("pg_char_to_encoding", (1, 1), "int4", |_, it| {
        let name = it.first().and_then(Value::text).unwrap_or_default().to_uppercase();
        let known = ENCODINGS.iter().find(|(_, it)| *it == name.replace('-', ""));
        Ok(known.map_or(-1, |(number, _)| *number).into())
    }),
    // There are no such locks; a pool gives them back whenever it takes a connection back.
    Function::new("pg_advisory_unlock_all", (0, 0), "text", |_, _| Ok("".into())),
    Function::new("txid_current", (0, 0), "int8", no_transaction_ids),
    Function::new("pg_current_xact_id", (0, 0), "int8", no_transaction_ids),
];

const ENCODINGS: &[(i64, &str)] = &[(0, "SQL_ASCII"), (6, "UTF8"), (8, "LATIN1")];

fn version(view: &CatalogView) -> String {
    let server = setting(view, "server_version").unwrap_or("15.0");
    let number = server.split(' ').next().unwrap_or(server);
    format!("PostgreSQL {number} (Kho {})", env!("CARGO_PKG_VERSION"))
}

fn database(view: &CatalogView, _: &[Value]) -> Result<Value> {
    Ok(view.database.as_str().into())
}

fn role(view: &CatalogView, role: Oid) -> Result<Value> {
    Ok(object::role_name(view, role).into())
}

fn current_schemas(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let implicit = arguments.first().and_then(Value::bool).unwrap_or_default();
    let path = if implicit { object::search_path(view) } else { object::explicit_path(view) };
    Ok(path.into())
}

fn current_setting(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let name = arguments.first().and_then(Value::text).unwrap_or_default();
    let missing_ok = arguments.get(1).and_then(Value::bool).unwrap_or_default();
    match setting(view, name) {
        Some(value) => Ok(value.into()),
        None if missing_ok => Ok(Value::Null),
        None => Err(Error::new(
            Kind::UndefinedObject,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

fn setting<'a>(view: &'a CatalogView, name: &str) -> Option<&'a str> {
    let mut settings = view.settings.iter();
    settings.find(|(it, ..)| it.eq_ignore_ascii_case(name)).map(|(_, value, _)| value.as_str())
}

fn encoding_name(number: Option<i64>) -> &'static str {
    ENCODINGS.iter().find(|(it, _)| Some(*it) == number).map_or("", |(_, name)| name)
}

fn no_transaction_ids(_: &CatalogView, _: &[Value]) -> Result<Value> {
    Err(Error::unsupported("transactions have no numbers")
        .with_hint("Each commit of a table has a version: see kho.table_history."))
}
