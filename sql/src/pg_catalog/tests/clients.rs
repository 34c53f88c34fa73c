//! What drivers ask when they connect and when they are asked for tables and columns.

use super::{apply, ask, ask_in, officer};

const CAPTURED: &str = include_str!("clients.sql");

pub(super) fn all() -> Vec<(&'static str, &'static str)> {
    let parts = CAPTURED.split("\n-- ");
    let parts = parts.filter_map(|it| it.trim_start_matches("-- ").split_once('\n'));
    parts.map(|(client, query)| (client, query.trim())).collect()
}

#[test]
fn every_captured_query_is_answered() {
    let state = apply::new_context(&officer()).unwrap();
    let mut failed = Vec::new();
    for (client, query) in all() {
        if let Err(error) = ask_in(&state, query) {
            failed.push(format!("{client}: {error:?}\n"));
        }
    }
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n"));
}

fn named(client: &str) -> Vec<Vec<String>> {
    let (_, query) = all().into_iter().find(|(it, _)| *it == client).expect(client);
    ask(&officer(), query).unwrap()
}

#[test]
fn jdbc_lists_tables_and_columns() {
    let tables: Vec<_> = named("jdbc tables").iter().map(|row| row[1..5].to_vec()).collect();
    assert_eq!(
        tables,
        [["health", "patient", "TABLE", "Patients"], ["health", "per_ward", "VIEW", "∅"]]
    );
    let columns = named("jdbc columns");
    assert_eq!(columns.len(), 7);
    // Name, type, NOT NULL, modifier.
    assert_eq!(columns[0][3..7], ["id", "20", "true", "-1"]);
    assert_eq!(columns[2][3..7], ["full_name", "1043", "false", "84"]);
    assert_eq!(columns[2][12], "'x'");
    assert_eq!(columns[3][13], "Ward");
    assert_eq!(columns[6][3..7], ["tags", "1009", "false", "-1"]);
    assert_eq!(named("jdbc type"), [["true", "b", "_text", "1009"]]);
    assert!(named("jdbc primary keys").is_empty());
}

#[test]
fn sqlalchemy_reads_columns_with_defaults_and_comments() {
    let (_, query) = all().into_iter().find(|(_, it)| it.contains("\"default\"")).unwrap();
    let rows = ask(&officer(), query).unwrap();
    let shown: Vec<_> = rows.iter().map(|row| [&row[0], &row[1], &row[2], &row[5]]).collect();
    assert_eq!(shown[0], ["id", "bigint", "∅", "∅"]);
    assert_eq!(shown[2], ["full_name", "character varying(80)", "'x'", "∅"]);
    assert_eq!(shown[3], ["ward", "text", "∅", "Ward"]);
    assert_eq!(shown[5], ["amount", "numeric(10,2)", "∅", "∅"]);
}

#[test]
fn asyncpg_learns_an_array_type_and_its_element() {
    let (_, query) = all().into_iter().find(|(it, _)| *it == "asyncpg").unwrap();
    let rows = ask(&officer(), query).unwrap();
    let shown: Vec<_> = rows.iter().map(|row| [&row[0], &row[2], &row[3]]).collect();
    assert_eq!(shown, [["25", "text", "b"], ["1009", "_text", "b"]]);
}

#[test]
fn psycopg_learns_a_row_type() {
    let queries: Vec<_> = all().into_iter().filter(|(it, _)| *it == "psycopg").collect();
    let (_, query) = queries.iter().find(|(_, it)| it.contains("field_names")).unwrap();
    let rows = ask(&officer(), query).unwrap();
    assert_eq!(rows[0][0], "patient");
    assert_eq!(rows[0][4], "[id, national_id, full_name, ward, born, amount, tags]");
    assert_eq!(rows[0][5], "[20, 25, 1043, 25, 1082, 1700, 1009]");
}
