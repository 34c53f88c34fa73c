//! An ordinary role tries to read without the purpose, or without the agreement, that a dataset
//! asks for.
//!
//! What it guarantees: each attempt is refused as it should be, and nothing that it was ever
//! answered on the way holds a value or the size of what it was after.

use kho_tests::kho::Kho;
use kho_tests::wire::{Answer, Error, Wire, bind};
use postgres_protocol::message::frontend;

/// In every row of what is guarded.
const CANARY: &str = "canary-8675309";
/// How many rows that has: an answer with this number tells of them.
const ROWS: &str = "1237";

/// `s.guarded` names purposes and requires an agreement, `s.named` names a purpose, `s.free` asks for
/// nothing. `mallory` may read all three and write all she likes of them; she owns the schema `m`,
/// and has an agreement on `s.other`, which is none on `s.guarded`.
fn city() -> Kho {
    let kho = Kho::start();
    let mut admin = kho.admin();
    for statement in [
        "CREATE ROLE officer LOGIN PASSWORD 'officer'",
        "CREATE ROLE partner LOGIN PASSWORD 'partner'",
        "CREATE ROLE mallory LOGIN PASSWORD 'mallory'",
        "CREATE SCHEMA s AUTHORIZATION officer",
        "CREATE SCHEMA m AUTHORIZATION mallory",
    ] {
        admin.run(statement);
    }
    let mut officer = kho.connect("officer");
    for (table, with) in [
        ("guarded", "WITH (allowed_purposes = 'c,d,g', requires_agreement = true)"),
        ("named", "WITH (allowed_purposes = 'e')"),
        ("other", "WITH (requires_agreement = true)"),
        ("free", ""),
    ] {
        officer.run(&format!("CREATE TABLE s.{table} (id bigint, name text) {with}"));
    }
    let rows = format!("SELECT x, '{CANARY}' FROM generate_series(1, {ROWS}) AS g (x)");
    officer.run(&format!("INSERT INTO s.guarded {rows}"));
    officer.run(&format!("INSERT INTO s.named {rows}"));
    officer.run("INSERT INTO s.free VALUES (1, 'free')");
    officer.run("SET kho.purpose = 'd'");
    officer.run("CALL kho.grant_agreement('s.guarded', 'officer', 'd', '2999-12-31', 'own')");
    officer.run("CALL kho.grant_agreement('s.guarded', 'partner', 'd', '2999-12-31', 'CV 1')");
    officer.run("CALL kho.grant_agreement('s.other', 'mallory', 'd', '2999-12-31', 'CV 2')");
    officer.run("CREATE VIEW s.shown AS SELECT id, name FROM s.guarded");
    officer.run("CREATE VIEW s.counted AS SELECT count(*) AS n FROM s.shown");
    officer.run("GRANT USAGE ON SCHEMA s TO mallory, partner");
    officer.run("GRANT SELECT, INSERT, UPDATE, DELETE ON s.guarded, s.named, s.free TO mallory");
    officer.run("GRANT SELECT ON s.other, s.shown, s.counted TO mallory");
    officer.run("GRANT SELECT ON s.guarded TO partner");
    let mut mallory = kho.connect("mallory");
    mallory.run("CREATE TABLE m.mine (id bigint PRIMARY KEY, name text)");
    mallory.run("INSERT INTO m.mine VALUES (1, 'mine')");
    kho
}

fn refuse_leak(attempt: &str, answers: &[Answer]) {
    for value in answers.iter().flat_map(|it| &it.rows).flatten().flatten() {
        assert!(!value.contains(CANARY) && value != ROWS, "{attempt}: told \"{value}\"");
    }
}

/// Runs an attempt in a session of its own: its last statement must be refused, with one of these.
/// Says what came instead.
fn unrefused(kho: &Kho, statements: &[&str], expected: &[&str]) -> Option<String> {
    let attempt = statements.join("; ");
    for extended in [false, true] {
        let mut wire = kho.connect("mallory");
        let (last, before) = statements.split_last().unwrap();
        for statement in before {
            // What leads up to it may fail: then it does not lead there.
            match wire.simple(statement) {
                Ok(answers) => refuse_leak(&attempt, &answers),
                Err(Error::Server(error)) => refuse_words(&attempt, &error.to_string()),
                Err(error) => panic!("{attempt}: {error}"),
            }
        }
        let answer = match extended {
            true => wire.extended(last).map(|answer| vec![answer]),
            false => wire.simple(last),
        };
        match answer {
            Ok(answers) => {
                refuse_leak(&attempt, &answers);
                return Some(format!("{attempt}: was not refused (extended: {extended})"));
            }
            Err(Error::Server(error)) => {
                refuse_words(&attempt, &error.to_string());
                if !expected.contains(&error.sqlstate.as_str()) {
                    return Some(format!("{attempt}: {error}, not {expected:?}"));
                }
            }
            Err(error) => panic!("{attempt}: {error}"),
        }
    }
    None
}

fn refuse_words(attempt: &str, words: &str) {
    assert!(!words.contains(CANARY) && !words.contains(ROWS), "{attempt}: told \"{words}\"");
}

/// Every way to read one relation, `{}`, with columns `id` and `name`.
const READS: &[&str] = &[
    "SELECT * FROM {}",
    "SELECT count(*) FROM {}",
    "SELECT 1 FROM {} LIMIT 1",
    "SELECT 1 FROM {} WHERE false",
    "SELECT EXISTS (SELECT 1 FROM {})",
    "SELECT (SELECT max(name) FROM {})",
    "WITH x AS (SELECT * FROM {}) SELECT count(*) FROM x",
    "WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x, {} WHERE n < 2) SELECT * FROM x",
    "SELECT * FROM s.free, {} AS g",
    "SELECT * FROM s.free LEFT JOIN {} AS g ON g.id = free.id",
    "SELECT * FROM s.free WHERE id IN (SELECT id FROM {})",
    "SELECT * FROM s.free UNION ALL SELECT id, name FROM {}",
    "SELECT * FROM s.free EXCEPT SELECT id, name FROM {}",
    "SELECT 1 / (id - 7) FROM {}",
    "SELECT CAST(name AS integer) FROM {}",
    "SELECT row_number() OVER (ORDER BY name) FROM {}",
    "SELECT CASE WHEN false THEN (SELECT max(id) FROM {}) ELSE 0 END",
    "EXPLAIN SELECT * FROM {}",
    "EXPLAIN ANALYZE SELECT * FROM {}",
    "COPY (SELECT * FROM {}) TO STDOUT",
    "COPY (SELECT * FROM {}) TO STDOUT (FORMAT binary)",
    "INSERT INTO m.mine SELECT id, name FROM {}",
    "INSERT INTO m.mine VALUES (2, (SELECT max(name) FROM {})) RETURNING name",
    "INSERT INTO m.mine SELECT id, name FROM {} ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    "UPDATE m.mine SET name = g.name FROM {} AS g WHERE g.id = mine.id",
    "UPDATE m.mine SET name = (SELECT max(name) FROM {})",
    "DELETE FROM m.mine USING {} AS g WHERE g.id = mine.id",
    "MERGE INTO m.mine USING {} AS g ON g.id = mine.id WHEN MATCHED THEN UPDATE SET name = g.name",
    "CREATE TABLE m.stolen AS SELECT * FROM {}",
    "CREATE VIEW m.stolen AS SELECT * FROM {}",
    "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM {}",
];

/// Ways that only a table has.
const READS_OF_TABLE: &[&str] = &[
    "COPY {} TO STDOUT",
    "SELECT * FROM {} VERSION AS OF 1",
    "SELECT * FROM {} TIMESTAMP AS OF now()",
    "SELECT * FROM kho.table_history('{}')",
    "SELECT * FROM kho.table_changes('{}', 0)",
    "SELECT count(*) FROM kho.table_changes('{}', 1, 1)",
    "INSERT INTO {} VALUES (0, 'x') RETURNING (SELECT count(*) FROM {})",
    "INSERT INTO {} VALUES (0, 'x') RETURNING id",
    "UPDATE {} SET name = name WHERE id = 7",
    "UPDATE {} SET name = 'x' RETURNING id",
    "DELETE FROM {} WHERE 1 / (id - 7) = 0",
    "DELETE FROM {} RETURNING name",
    "MERGE INTO {} AS g USING m.mine ON g.id = mine.id WHEN MATCHED THEN DELETE",
];

#[test]
fn no_way_of_reading_goes_without_a_purpose_and_an_agreement() {
    let kho = city();
    let mut found = Vec::new();
    for (relation, is_table) in [("s.guarded", true), ("s.shown", false)] {
        let more: &[&str] = if is_table { READS_OF_TABLE } else { &[] };
        for read in READS.iter().chain(more) {
            let read = read.replace("{}", relation);
            found.extend(unrefused(&kho, &[&read], &["KH001"]));
            found.extend(unrefused(&kho, &["SET kho.purpose = 'd'", &read], &["KH004"]));
        }
    }
    for read in READS.iter().chain(READS_OF_TABLE) {
        let read = read.replace("{}", "s.named");
        found.extend(unrefused(&kho, &["SET kho.purpose = 'd'", &read], &["KH002"]));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Tricks with settings: to read for one purpose under another's name, or for none.
#[test]
fn no_trick_with_settings_lends_a_purpose() {
    let kho = city();
    let read = "SELECT count(*) FROM s.named";
    let attempts: &[(&[&str], &[&str])] = &[
        (&["SET LOCAL kho.purpose = 'e'", read], &["KH001"]),
        (&["BEGIN", "SET LOCAL kho.purpose = 'e'"], &["25001"]),
        (&["BEGIN", "SET kho.purpose = 'e'"], &["25001"]),
        (&["BEGIN", "SELECT 1", "SET SESSION kho.purpose TO 'e'"], &["25001"]),
        (&["BEGIN", "SET kho.purpose = 'e'", "ROLLBACK", read], &["KH001"]),
        (&["BEGIN", "SAVEPOINT s", "SET kho.purpose = 'e'", "ROLLBACK TO s", read], &["KH001"]),
        (&["SET kho.purpose = 'e'", "BEGIN", "SAVEPOINT s", "RESET kho.purpose"], &["25001"]),
        (&["SET kho.purpose = 'e'", "BEGIN", "RESET ALL"], &["25001"]),
        (&["BEGIN", "SELECT set_config('kho.purpose', 'e', true)"], &["25001"]),
        (&["SELECT set_config('kho.purpose', 'e', true)", read], &["KH001"]),
        (
            &["SELECT set_config('kho.purpose', 'e', true), (SELECT count(*) FROM s.named)"],
            &["0A000"],
        ),
        (
            &[
                "SELECT (SELECT 1), set_config('KHO.Purpose', 'e', false), (SELECT count(*) FROM s.named)",
            ],
            &["0A000"],
        ),
        (&["SELECT set_config('kho.purpose', name, false) FROM s.free"], &["0A000"]),
        (&["SELECT * FROM (SELECT set_config('kho.purpose', 'e', true)) x, s.named"], &["0A000"]),
        (
            &["UPDATE pg_settings SET setting = 'e' WHERE name = 'kho.purpose'"],
            &["42P01", "42501", "0A000", "42809"],
        ),
        (&["SET kho.purpose = ' e'"], &["22023"]),
        (&["SET kho.purpose = 'e,d'"], &["22023"]),
        (&["SET kho.purpose = 'E'"], &["22023"]),
        (&["SET kho.purpose = '*'"], &["22023"]),
        (&["SET \"kho.purpose\" = 'e'", "SET kho.purpose TO DEFAULT", read], &["KH001"]),
        (&["SET kho.purpose = 'e'", "RESET kho.purpose", read], &["KH001"]),
        (&["SET kho.purpose = 'e'", "RESET ALL", read], &["KH001"]),
        (&["SET kho.purpose = 'e'", "DISCARD ALL", read], &["KH001"]),
        (&["SET kho.purpose = 'e'; SELECT broken", read], &["KH001"]),
        (
            &[
                "SET kho.purpose = 'e'",
                "PREPARE p AS SELECT count(*) FROM s.named",
                "SET kho.purpose = 'd'",
                "EXECUTE p",
            ],
            &["KH002"],
        ),
        (&["PREPARE p AS SELECT count(*) FROM s.named", "EXECUTE p"], &["KH001"]),
        (&["SET kho.as_of = '2999-01-01'", read], &["KH001", "22023"]),
        (&["SET kho.purpose = 'g'", "SELECT count(*) FROM s.guarded"], &["KH002"]),
        (
            &[
                "SET kho.purpose = 'g'",
                "SET kho.order_number = '  '",
                "SELECT count(*) FROM s.guarded",
            ],
            &["KH002"],
        ),
        (
            &[
                "SET kho.purpose = 'g'",
                "SET kho.order_number = '1'",
                "SELECT count(*) FROM s.guarded",
            ],
            &["KH004"],
        ),
        (
            &["SET search_path = s", "SET kho.purpose = 'd'", "SELECT count(*) FROM named"],
            &["KH002"],
        ),
        (&["SET row_security = off", read], &["KH001"]),
    ];
    let unrefused =
        |(statements, expected): &(&[&str], &[&str])| unrefused(&kho, statements, expected);
    let found: Vec<String> = attempts.iter().filter_map(unrefused).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Tricks with roles and rights: to be somebody whom the dataset knows.
#[test]
fn no_trick_with_roles_lends_an_agreement() {
    let kho = city();
    let read = "SELECT count(*) FROM s.guarded";
    let purpose = "SET kho.purpose = 'd'";
    let attempts: &[(&[&str], &[&str])] = &[
        (&[purpose, "SET ROLE partner", read], &["KH004"]),
        (&[purpose, "SET ROLE officer"], &["0A000", "42501"]),
        (&[purpose, "SET SESSION AUTHORIZATION partner", read], &["KH004"]),
        (&["GRANT partner TO mallory"], &["42501"]),
        (&["ALTER ROLE mallory RENAME TO partner"], &["42501"]),
        (&["CREATE ROLE partner2 IN ROLE partner"], &["42501"]),
        (&["CALL kho.grant_agreement('s.guarded', 'mallory', 'd', '2999-12-31', 'x')"], &["42501"]),
        (&["CALL kho.grant_agreement('s.shown', 'mallory', 'd', '2999-12-31', 'x')"], &["42809"]),
        (&["ALTER TABLE s.guarded SET (requires_agreement = false)"], &["42501"]),
        (&["ALTER TABLE s.guarded RESET (allowed_purposes)"], &["42501"]),
        (&["ALTER TABLE s.guarded OWNER TO mallory"], &["42501"]),
        (&["ALTER TABLE s.guarded SET SCHEMA m"], &["42501"]),
        (&["CALL kho.add_purpose('x', 'x')"], &["42501"]),
        (&["CALL kho.remove_purpose('d')"], &["42501"]),
        (&["CALL kho.set_third_party('partner', 'x')"], &["42501"]),
        (&["CALL kho.unset_third_party('mallory')"], &["42501"]),
        (&["CALL kho.freeze(role => 'officer', reason => 'x')"], &["42501"]),
        (&["CALL kho.freeze(dataset => 's.nowhere', reason => 'x')"], &["42501"]),
        (&["CALL kho.unfreeze(dataset => 's.guarded')"], &["42501"]),
        (&["CALL kho.restore_table('s.guarded', 0)"], &["42501"]),
        (
            &["INSERT INTO kho.agreements SELECT * FROM kho.agreements"],
            &["42P01", "42501", "0A000", "42809"],
        ),
        (&["DELETE FROM kho.freezes"], &["42P01", "42501", "0A000", "42809"]),
        // Writing views over what she may not read, and giving them to herself.
        (
            &[
                "CREATE VIEW m.v AS SELECT 1 AS one FROM s.free",
                "CREATE OR REPLACE VIEW m.v AS SELECT 1 AS one FROM s.guarded",
            ],
            &["KH001", "0A000"],
        ),
        // A rule that looks at the rows of another table.
        (
            &[purpose, "ALTER TABLE m.mine ADD CHECK (id NOT IN (SELECT id FROM s.guarded))"],
            &["0A000", "KH004", "42P01"],
        ),
        (
            &[
                purpose,
                "ALTER TABLE m.mine ALTER COLUMN name SET DEFAULT (SELECT max(name) FROM s.guarded)",
            ],
            &["0A000", "KH004", "42P01"],
        ),
        (&["ALTER TABLE s.guarded ADD CHECK (id < 7)"], &["42501"]),
        (&["CREATE INDEX i ON s.guarded (id)"], &["42501"]),
    ];
    let unrefused =
        |(statements, expected): &(&[&str], &[&str])| unrefused(&kho, statements, expected);
    let found: Vec<String> = attempts.iter().filter_map(unrefused).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    // Nobody's agreement but hers is told to her.
    let mut mallory = kho.connect("mallory");
    assert_eq!(mallory.value("SELECT string_agg(basis, ',') FROM kho.agreements"), "CV 2");
    assert_eq!(mallory.value("SELECT count(*) FROM kho.freezes"), "0");
}

/// A sequence of messages is one transaction up to its `Sync`.
#[test]
fn no_pipeline_changes_the_purpose_between_its_statements() {
    let kho = city();
    let mut wire = kho.connect("mallory");
    wire.run("SET kho.purpose = 'd'");
    wire.send(|buffer| {
        for statement in
            ["SELECT count(*) FROM s.free", "SET kho.purpose = 'e'", "SELECT count(*) FROM s.named"]
        {
            frontend::parse("", statement, [], buffer)?;
            bind("", "", &[], buffer)?;
            frontend::execute("", 0, buffer)?;
        }
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap_err().sqlstate(), Some("25001"));
    assert_eq!(wire.value("SHOW kho.purpose"), "d");
    // The same in one text.
    let text = "SELECT count(*) FROM s.free; SET kho.purpose = 'e'; SELECT count(*) FROM s.named";
    assert_eq!(wire.refusal(text).sqlstate, "25001");
    assert_eq!(wire.value("SHOW kho.purpose"), "d");
    // Set first, it is set; and undone with what fails after it.
    let text = "SET kho.purpose = 'e'; SELECT count(*) FROM s.named; SELECT broken";
    assert_eq!(wire.refusal(text).sqlstate, "42703");
    assert_eq!(wire.value("SHOW kho.purpose"), "d");
}

#[test]
fn no_option_of_a_connection_lends_a_purpose() {
    let kho = city();
    let target = kho.target("mallory", "mallory");
    let options: &[(&[(&str, &str)], &str)] = &[
        (&[("kho.purpose", "E")], "22023"),
        (&[("kho.purpose", "e;d")], "22023"),
        (&[("options", "-c kho.purpose=nonsense")], "22023"),
        (&[("options", "--kho.purpose=e --kho.purpose=x")], "22023"),
        (&[("kho.purposes", "e")], "42704"),
        (&[("role", "officer")], "42704"),
        (&[("session_authorization", "officer")], "55P02"),
    ];
    for (with, state) in options {
        let refused = Wire::connect_with(&target, with).err();
        let refused = refused.unwrap_or_else(|| panic!("{with:?} was not refused"));
        assert_eq!(refused.sqlstate(), Some(*state), "{with:?}: {refused}");
    }
    let mut wire = Wire::connect_with(&target, &[("kho.purpose", "d")]).unwrap();
    assert_eq!(wire.refusal("SELECT count(*) FROM s.guarded").sqlstate, "KH004");
    assert_eq!(wire.refusal("SELECT count(*) FROM s.named").sqlstate, "KH002");
}
