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
fn time_travel_parses_all_else_as_postgresql() {
    for text in ["a::int[]", "E'x' || U&'\\0041'", "x OPERATOR(pg_catalog.~) 'a'", "5!", "a << 2"] {
        let plain = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).unwrap().parse_expr();
        let ours =
            Parser::new(&dialect::TimeTravelDialect).try_with_sql(text).unwrap().parse_expr();
        assert_eq!(format!("{plain:?}"), format!("{ours:?}"), "{text}");
    }
}

#[test]
fn a_syntax_error_tells_the_character() {
    let error = statements("SELECT 'Ánh',\n FROM FROM x").unwrap_err();
    assert_eq!(error.sqlstate(), "42601");
    assert!(error.position().is_some_and(|at| at > 14), "{error:?}");
}
