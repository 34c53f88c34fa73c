//! Random statements over a table, many of which fail on some rows.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::world::{TRAPS, World};

/// One statement, `{t}` standing for the table.
pub struct Query {
    text: String,
    /// Sent before; `{statement}` is the statement itself, and [`Query::main`] is what is compared.
    pub before: Vec<String>,
    pub main: String,
    pub after: Vec<String>,
    /// Whether it orders its rows.
    pub is_ordered: bool,
    /// Whether it can be asked of another table with the same rows.
    pub is_read: bool,
}

impl Query {
    pub fn random(random: &mut StdRng, world: &World) -> Query {
        let select = select(random);
        let plain = |text: String, is_ordered| Query {
            text,
            before: Vec::new(),
            main: String::new(),
            after: Vec::new(),
            is_ordered,
            is_read: true,
        };
        let name = world.table.clone();
        match random.random_range(0..20) {
            0 => Query { is_read: false, ..plain(format!("EXPLAIN {}", select.0), true) },
            1 => Query { is_read: false, ..plain(format!("EXPLAIN ANALYZE {}", select.0), true) },
            2 => plain(format!("COPY ({}) TO STDOUT", select.0), select.1),
            3 => Query {
                before: vec!["BEGIN".into(), "DECLARE c CURSOR FOR {statement}".into()],
                main: "FETCH 3 FROM c".into(),
                after: vec!["ROLLBACK".into()],
                is_ordered: true,
                is_read: false,
                ..plain(format!("SELECT id, n FROM {{t}} WHERE {} ORDER BY id, n", condition(random)), true)
            },
            4 => Query {
                before: vec!["PREPARE p AS {statement}".into()],
                main: "EXECUTE p".into(),
                after: vec!["DEALLOCATE p".into()],
                is_read: false,
                ..plain(select.0, select.1)
            },
            5 => Query {
                is_read: false,
                ..plain(
                    format!(
                        "SELECT version, operation, rows_inserted, rows_deleted, files_added FROM \
                         kho.table_history('{name}') ORDER BY version"
                    ),
                    true,
                )
            },
            6 => Query {
                is_read: false,
                ..plain(
                    format!(
                        "SELECT id, n, name, _change_type FROM kho.table_changes('{name}', 0) WHERE {}",
                        condition(random)
                    ),
                    false,
                )
            },
            7 => Query {
                is_read: false,
                ..plain(
                    format!("SELECT id, name FROM {{t}} VERSION AS OF 1 WHERE {}", condition(random)),
                    false,
                )
            },
            8 => change(random, plain),
            9 => Query {
                is_read: false,
                ..plain(
                    "SELECT relname, reltuples, relpages FROM pg_class WHERE relname LIKE 't%' ORDER \
                     BY relname"
                        .to_owned(),
                    true,
                )
            },
            _ => plain(select.0, select.1),
        }
    }

    pub fn text(&self, table: &str) -> String {
        self.text.replace("{t}", table)
    }
}

fn change(random: &mut StdRng, plain: impl Fn(String, bool) -> Query) -> Query {
    let condition = condition(random);
    let text = match random.random_range(0..4) {
        0 => format!("UPDATE {{t}} SET n = n + 1 WHERE {condition}"),
        1 => format!("DELETE FROM {{t}} WHERE {condition} RETURNING id, name"),
        2 => format!("UPDATE {{t}} SET ward = ward WHERE {condition} RETURNING id, n, name, m"),
        _ => format!(
            "INSERT INTO {{t}} SELECT id + 5000, ward, n, 'x', 1 FROM {{t}} WHERE {condition}"
        ),
    };
    // The statement itself is what is compared, in a block that leaves nothing.
    let query = plain(text, false);
    Query {
        before: vec!["BEGIN".into()],
        main: "{statement}".into(),
        after: vec!["ROLLBACK".into()],
        is_read: false,
        ..query
    }
}

fn trap(random: &mut StdRng) -> i32 {
    TRAPS.choose(random).copied().unwrap_or_default()
}

/// A condition, most often one that fails on some rows.
///
/// Two that fail are never in one statement, nor one beside another condition: which of them is
/// computed first, or at all, is decided batch by batch, and PostgreSQL promises nothing either.
fn condition(random: &mut StdRng) -> String {
    let k = trap(random);
    let small = random.random_range(0..100);
    match random.random_range(0..12) {
        0 => format!("1 / (n - {k}) >= 0"),
        1 => "name::integer > 0".to_owned(),
        2 => format!("CASE WHEN n = {k} THEN 1 / (n - {k}) ELSE 1 END = 1"),
        3 => format!("(ward || '{small}')::integer > 0"),
        4 => format!("n * 100000 > {small}"),
        5 => format!("substr(name, 2)::integer > {small}"),
        6 => format!("1 / (m - {small}) >= 0"),
        7 => {
            format!("EXISTS (SELECT 1 FROM {{t}} o WHERE 10 / (o.n - {k}) > 0)")
        }
        _ => safe(random),
    }
}

/// A condition that no row makes fail.
fn safe(random: &mut StdRng) -> String {
    let k = trap(random);
    let small = random.random_range(0..100);
    match random.random_range(0..8) {
        0 => format!("n = {k}"),
        1 => format!("n > {small} AND ward = 'a'"),
        2 => format!("m = {small}"),
        3 => format!("name LIKE '7%' OR n < {small}"),
        4 => "ward IS NULL".to_owned(),
        5 => format!("id IN (1, 2, {small}, 1001, 1002)"),
        6 => format!("left(name, 1) <> 'A' AND m < {small}"),
        _ => "true".to_owned(),
    }
}

/// A query and whether it orders its rows.
fn select(random: &mut StdRng) -> (String, bool) {
    let (one, two, other) = (condition(random), safe(random), safe(random));
    let (k, small) = (trap(random), random.random_range(0..100));
    match random.random_range(0..18) {
        0 => (format!("SELECT * FROM {{t}} WHERE {one}"), false),
        1 => (format!("SELECT count(*), sum(n), min(name), max(m) FROM {{t}} WHERE {one}"), false),
        2 => (format!("SELECT ward, count(*), sum(100 / (n - {k})) FROM {{t}} GROUP BY ward"), false),
        3 => (format!("SELECT id, n FROM {{t}} WHERE {other} AND {two}"), false),
        4 => (format!("SELECT id FROM {{t}} WHERE {other} OR {two}"), false),
        5 => (
            format!("SELECT a.id, b.id FROM {{t}} a JOIN {{t}} b ON a.n = b.n + 1 WHERE a.id < {small}"),
            false,
        ),
        6 => (
            format!("SELECT v.x, a.id FROM (VALUES ({k}), ({small})) AS v (x) LEFT JOIN {{t}} a ON a.n = v.x"),
            false,
        ),
        7 => (
            "SELECT id, row_number() OVER (PARTITION BY ward ORDER BY id, n), lag(n) OVER (ORDER BY \
             id, n) FROM {t}"
                .to_owned(),
            false,
        ),
        8 => (format!("SELECT n FROM {{t}} WHERE {one} UNION SELECT m FROM {{t}} WHERE {two}"), false),
        9 => (format!("SELECT n FROM {{t}} EXCEPT SELECT m FROM {{t}} WHERE {one}"), false),
        10 => (format!("SELECT id, name FROM {{t}} ORDER BY id, name, n LIMIT {}", small % 7), true),
        11 => (format!("SELECT 100 / (n - {k}), name FROM {{t}}"), false),
        12 => ("SELECT name::integer FROM {t}".to_owned(), false),
        13 => (
            format!("WITH s AS (SELECT * FROM {{t}} WHERE {other}) SELECT count(*) FROM s WHERE {two}"),
            false,
        ),
        14 => (format!("SELECT (SELECT max(n) FROM {{t}}), (SELECT count(*) FROM {{t}} WHERE {one})"), false),
        15 => (
            format!("SELECT id FROM {{t}} WHERE n IN (SELECT m FROM {{t}} WHERE {one})"),
            false,
        ),
        16 => (
            format!("SELECT ward, max(name) FROM {{t}} GROUP BY ward HAVING sum(10 / (n - {k})) > 0"),
            false,
        ),
        _ => (format!("SELECT DISTINCT m, left(name, 1) FROM {{t}} WHERE {one}"), false),
    }
}
