//! Each row is a type as written, and what it becomes: its name, or a SQLSTATE.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::*;

const ROWS: &[(&str, &str)] = &[
    ("boolean", "boolean"),
    ("bool", "boolean"),
    ("int2", "smallint"),
    ("int", "integer"),
    ("pg_catalog.int4", "integer"),
    ("int8", "bigint"),
    ("bigint", "bigint"),
    ("real", "real"),
    ("float(24)", "real"),
    ("float", "double precision"),
    ("double precision", "double precision"),
    ("float(54)", "22023"),
    ("numeric(38,38)", "numeric(38,38)"),
    ("numeric(10)", "numeric(10,0)"),
    ("decimal(10,2)", "numeric(10,2)"),
    ("numeric", "0A000"),
    ("numeric(39,0)", "0A000"),
    ("numeric(0)", "22023"),
    ("numeric(2,3)", "0A000"),
    ("text", "text"),
    ("varchar", "text"),
    ("varchar(7)", "character varying(7)"),
    ("character varying(7)", "character varying(7)"),
    ("varchar(0)", "22023"),
    ("varchar(10485761)", "22023"),
    ("char(3)", "0A000"),
    ("bytea", "bytea"),
    ("date", "date"),
    ("timestamp", "timestamp without time zone"),
    ("timestamp with time zone", "timestamp with time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("timestamptz(6)", "timestamp with time zone"),
    ("timestamp(3)", "0A000"),
    ("time", "0A000"),
    ("interval", "0A000"),
    ("uuid", "uuid"),
    ("json", "json"),
    ("jsonb", "0A000"),
    ("int[]", "integer[]"),
    ("int[3]", "0A000"),
    ("int[][]", "0A000"),
    ("serial", "0A000"),
    ("money", "0A000"),
    ("tinyint", "42704"),
    ("nonsense", "42704"),
    ("a.b.c", "42704"),
];

#[test]
fn types_are_stored_as_declared_or_refused() {
    for (written, expected) in ROWS {
        let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(written).unwrap();
        let declared = parser.parse_data_type().unwrap();
        let got = match from_sql(&declared) {
            Ok(found) => found.to_string(),
            Err(error) => error.sqlstate().to_owned(),
        };
        assert_eq!(&got, expected, "{written}");
    }
}
