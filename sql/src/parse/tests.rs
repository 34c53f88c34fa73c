//! Splitting, redacting, versions, positions, and what nests too deeply.

use sqlparser::dialect::PostgreSqlDialect;

use super::*;

fn redacted(text: &str) -> Vec<String> {
    statements(text).unwrap().iter().map(|it| it.redacted().to_owned()).collect()
}

#[test]
fn a_copy_does_not_swallow_what_follows() {
    let parsed = statements("COPY t FROM STDIN; SELECT 1").unwrap();
    assert_eq!(parsed.len(), 2);
    assert!(matches!(parsed[0].ast(), Ast::Copy(_)));
    assert!(parsed[1].gives_rows());
}

#[test]
fn the_redacted_text_holds_no_literal_and_no_comment() {
    let text = "SELECT 'Ánh', 46, $$x$$, E'\\n' /* 046 */ FROM t -- An\n WHERE id = $1";
    assert_eq!(redacted(text), ["SELECT ?, ?, ?, ? FROM t WHERE id = $1"]);
    assert_eq!(redacted("CREATE ROLE a PASSWORD 'secret'"), ["CREATE ROLE a PASSWORD ?"]);
}

/// In the ledger a literal leaves a hash of its value, however it was written; a password does not.
#[test]
fn the_ledgers_text_has_a_hash_in_the_place_of_each_literal() {
    let hashed = |text: &str| {
        let statement = statements(text).unwrap().remove(0);
        statement.with_literals_as(|literal| format!("<{literal}>"))
    };
    let text = "SELECT 'Ân', E'x', $$y$$, 1.5 -- Ân\nFROM t WHERE a ? 'b' AND id = $1";
    assert_eq!(hashed(text), "SELECT #<Ân>, #<x>, #<y>, #<1.5> FROM t WHERE a ? #<b> AND id = $1");
    assert_eq!(hashed("CREATE ROLE a PASSWORD 'secret'"), "CREATE ROLE a PASSWORD ?");
    let prepared = statements("PREPARE p (text) AS SELECT 7, $1").unwrap().remove(0);
    let (_, _, body) = prepared.prepares().unwrap();
    assert_eq!(body.with_literals_as(|literal| format!("<{literal}>")), "SELECT #<7>, $1");
}

#[test]
fn versions_are_parsed_and_their_words_stay_aliases() {
    for text in [
        "SELECT * FROM t VERSION AS OF 3",
        "SELECT * FROM t TIMESTAMP AS OF '2026-01-01'",
        "SELECT * FROM t FOR SYSTEM_TIME AS OF now() x",
        "SELECT at.a FROM t at, u before, v changes",
    ] {
        assert_eq!(statements(text).unwrap().len(), 1, "{text}");
    }
}

/// An upgrade of sqlparser that overrides another method for PostgreSQL would be missed by hand.
#[test]
fn our_dialect_parses_as_postgresqls() {
    for text in ["a::int[]", "E'x' || U&'\\0041'", "x OPERATOR(pg_catalog.~) 'a'", "5!", "a << 2"] {
        let plain = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).unwrap().parse_expr();
        let ours = Parser::new(&DIALECT).try_with_sql(text).unwrap().parse_expr();
        assert_eq!(format!("{plain:?}"), format!("{ours:?}"), "{text}");
    }
}

#[test]
fn a_syntax_error_tells_the_character() {
    let error = statements("SELECT 'Ánh',\n FROM FROM x").unwrap_err();
    assert_eq!(error.sqlstate(), "42601");
    assert!(error.position().is_some_and(|at| at > 14), "{error:?}");
}

fn refused(text: &str) -> Option<&'static str> {
    statements(text).err().map(|error| error.sqlstate())
}

#[test]
fn what_nests_too_deeply_is_refused_before_it_is_parsed() {
    let wrapped = |open: &str, inner: &str, close: &str, times: usize| {
        format!("SELECT {}{inner}{}", open.repeat(times), close.repeat(times))
    };
    for times in [101, 50_000] {
        for (open, close) in
            [("(", ")"), ("NOT ", ""), ("- ", ""), ("CASE WHEN a THEN ", " END"), ("ARRAY[", "]")]
        {
            assert_eq!(refused(&wrapped(open, "1", close, times)), Some("54001"), "{open}");
        }
        let derived = wrapped("* FROM (SELECT ", "1", ") AS x", times);
        assert_eq!(refused(&derived), Some("54001"));
        assert_eq!(refused(&format!("SELECT 1{}", " + 1 - (".repeat(times))), Some("54001"));
    }
    assert_eq!(refused(&wrapped("1 WHERE EXISTS (SELECT ", "1", ")", 20)), Some("54001"));
    assert_eq!(refused(&wrapped("(", "1", ")", 90)), None);
    assert_eq!(refused(&wrapped("* FROM (SELECT ", "1", ") AS x", 90)), None);
    // Not deep, only long.
    assert_eq!(refused(&format!("SELECT {}1", "(-1), ".repeat(50_000))), None);
    assert_eq!(refused(&format!("SELECT a IN (1{})", ", 1".repeat(50_000))), None);
}

#[test]
fn long_chains_are_refused_before_they_become_a_deep_tree() {
    let chains = [
        " + 1",
        " AND b",
        " OR a = 1",
        " || 'x'",
        "::int",
        " IS NULL",
        " AT TIME ZONE 'UTC'",
        "[1]",
        " UNION SELECT 1",
        " UNION ALL SELECT a FROM t WHERE b",
    ];
    for link in chains {
        assert_eq!(refused(&format!("SELECT a{}", link.repeat(20_000))), Some("54001"), "{link}");
        assert_eq!(refused(&format!("SELECT a{}", link.repeat(100))), None, "{link}");
    }
    for link in [" JOIN t USING (a)", ", t", " CROSS JOIN t"] {
        let refused = refused(&format!("SELECT 1 FROM t{}", link.repeat(1000)));
        assert_eq!(refused, Some("54001"), "{link}");
    }
    // What is left open is as deep, and was built when the parser finds out.
    assert_eq!(refused(&format!("SELECT (1{}", " + 1".repeat(20_000))), Some("54001"));
    assert_eq!(refused(&format!("SELECT a = 1{}", " OR a = 1 AND b".repeat(490))), None);
    let whens = " WHEN a = 1 AND b THEN 1 + 1".repeat(1000);
    assert_eq!(refused(&format!("SELECT CASE{whens} END")), None);
}

/// sqlparser's own dialect takes twice as long for each level.
#[test]
fn nested_calls_are_parsed_in_no_time() {
    let calls = format!("SELECT {}1{}", "f(".repeat(90), ")".repeat(90));
    assert_eq!(refused(&calls), None);
    assert_eq!(refused("SELECT f(a => 1, b => 'x')"), None);
}
