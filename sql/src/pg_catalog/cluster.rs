//! What PostgreSQL keeps of the server and the database: the one database, its two tablespaces,
//! the access method, languages, collations, settings, the session itself.
//!
//! What it guarantees: of sessions those are shown that `kho.activity` shows, and statements without
//! their literals.

use kho_catalog::error::Result;

use super::CatalogView;
use super::definition::PG_CATALOG;
use super::object::{self, DATABASE, SYSTEM_OWNER};
use super::rows::Rows;
use super::value::Value;

/// The access method of datasets: Delta tables.
pub const ACCESS_METHOD: i64 = 2;
/// PostgreSQL's oid of `btree`, which clients look for behind a key.
pub const INDEX_METHOD: i64 = 403;
const DEFAULT_TABLESPACE: i64 = 1663;
const UTF8: i64 = 6;

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    match table {
        "pg_database" => database(view, rows),
        "pg_tablespace" => rows.push([
            ("oid", DEFAULT_TABLESPACE.into()),
            ("spcname", "pg_default".into()),
            ("spcowner", SYSTEM_OWNER.into()),
        ]),
        "pg_am" => {
            let methods = [(ACCESS_METHOD, "delta", "t"), (INDEX_METHOD, "btree", "i")];
            methods.into_iter().try_for_each(|(oid, name, of)| {
                rows.push([("oid", oid.into()), ("amname", name.into()), ("amtype", of.into())])
            })
        }
        "pg_language" => languages(rows),
        "pg_collation" => collations(rows),
        "pg_settings" => settings(view, rows),
        "pg_stat_activity" => activity(view, rows),
        // Nobody is known by a ticket of Kerberos.
        "pg_stat_gssapi" => rows.push([
            ("pid", Value::Int(view.process_id.into())),
            ("gss_authenticated", false.into()),
            ("encrypted", false.into()),
        ]),
        "pg_timezone_names" => time_zones(rows),
        "pg_get_keywords" => object::RESERVED.iter().try_for_each(|word| {
            rows.push([
                ("word", (*word).into()),
                ("catcode", "R".into()),
                ("catdesc", "reserved".into()),
            ])
        }),
        _ => Ok(()),
    }
}

fn database(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("oid", DATABASE.into()),
        ("datname", view.database.as_str().into()),
        ("datdba", SYSTEM_OWNER.into()),
        ("encoding", UTF8.into()),
        ("datlocprovider", "c".into()),
        ("datallowconn", true.into()),
        ("datconnlimit", Value::Int(-1)),
        ("dattablespace", DEFAULT_TABLESPACE.into()),
        // Text is compared byte by byte.
        ("datcollate", "C".into()),
        ("datctype", "C".into()),
    ])
}

fn languages(rows: &mut Rows) -> Result<()> {
    for (oid, name, trusted) in [(12, "internal", false), (14, "sql", true)] {
        rows.push([
            ("oid", Value::Int(oid)),
            ("lanname", name.into()),
            ("lanowner", SYSTEM_OWNER.into()),
            ("lanpltrusted", trusted.into()),
        ])?;
    }
    Ok(())
}

fn collations(rows: &mut Rows) -> Result<()> {
    for (oid, name, provider, locale) in [
        (100, "default", "d", None),
        (950, "C", "c", Some("C")),
        (951, "POSIX", "c", Some("POSIX")),
    ] {
        rows.push([
            ("oid", Value::Int(oid)),
            ("collname", name.into()),
            ("collnamespace", PG_CATALOG.into()),
            ("collowner", SYSTEM_OWNER.into()),
            ("collprovider", provider.into()),
            ("collisdeterministic", true.into()),
            ("collencoding", Value::Int(-1)),
            ("collcollate", locale.into()),
            ("collctype", locale.into()),
        ])?;
    }
    Ok(())
}

fn settings(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for (name, value, description) in &view.settings {
        rows.push([
            ("name", name.as_str().into()),
            ("setting", value.as_str().into()),
            ("category", "Kho".into()),
            ("short_desc", description.as_str().into()),
            ("context", "user".into()),
            ("vartype", "string".into()),
            ("source", "session".into()),
            ("pending_restart", false.into()),
        ])?;
    }
    Ok(())
}

fn activity(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    let setting = |wanted: &str| {
        view.settings.iter().find(|(name, ..)| name == wanted).map(|(_, value, _)| value.clone())
    };
    for session in view.activity.visible(&view.state, &view.who) {
        let own = session.process_id == view.process_id;
        // What a client says at the start it may say anew; of one's own session that is known.
        let application = own.then(|| setting("application_name")).flatten();
        rows.push([
            ("datid", DATABASE.into()),
            ("datname", view.database.as_str().into()),
            ("pid", session.process_id.into()),
            ("usesysid", session.role.into()),
            ("usename", object::role_name(view, session.role).into()),
            ("application_name", application.or(session.application.clone()).into()),
            ("client_addr", session.client.map(|it| it.ip().to_string()).into()),
            ("client_port", session.client.map(|it| i64::from(it.port())).into()),
            ("backend_start", Value::Time(session.connected_ms.saturating_mul(1000))),
            ("query_start", time(session.running_since_ms())),
            ("state_change", time(Some(session.changed_ms))),
            ("state", session.state().into()),
            ("query", session.statement.clone().into()),
            ("backend_type", "client backend".into()),
        ])?;
    }
    Ok(())
}

fn time(milliseconds: Option<i64>) -> Value {
    milliseconds.map_or(Value::Null, |it| Value::Time(it.saturating_mul(1000)))
}

fn time_zones(rows: &mut Rows) -> Result<()> {
    use chrono::{Offset, TimeZone, Utc};
    let now = Utc::now();
    for zone in chrono_tz::TZ_VARIANTS {
        let local = now.with_timezone(&zone);
        let offset = zone.offset_from_utc_datetime(&now.naive_utc());
        let seconds = offset.fix().local_minus_utc();
        rows.push([
            ("name", zone.name().into()),
            ("abbrev", local.format("%Z").to_string().into()),
            ("utc_offset", interval(seconds).into()),
            ("is_dst", is_summer_time(&offset).into()),
        ])?;
    }
    Ok(())
}

fn is_summer_time(offset: &impl chrono_tz::OffsetComponents) -> bool {
    !offset.dst_offset().is_zero()
}

fn interval(seconds: i32) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let (hours, rest) = (seconds.abs() / 3600, seconds.abs() % 3600);
    format!("{sign}{hours:02}:{:02}:{:02}", rest / 60, rest % 60)
}
