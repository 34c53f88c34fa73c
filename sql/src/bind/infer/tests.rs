//! What parameters are taken to be.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;
use kho_catalog::types::{COLUMN_ID_KEY, Type};

use super::*;
use crate::outcome::parameter_type;

/// A table with a column of each kind, each with an id as those of the catalog have.
fn table() -> EmptyTable {
    let numbered = |(index, field): (usize, Field)| {
        let mut metadata = field.metadata().clone();
        metadata.extend(HashMap::from([(COLUMN_ID_KEY.to_owned(), index.to_string())]));
        field.with_metadata(metadata)
    };
    let fields = [
        Type::Integer.to_field("i", true),
        Type::Text.to_field("t", true).with_data_type(DataType::Utf8View),
        Type::Varchar(10).to_field("vc", true).with_data_type(DataType::Utf8View),
        Type::Numeric(10, 2).to_field("n", true),
        Type::Real.to_field("r", true),
        Type::Timestamp.to_field("at", true),
        Type::Uuid.to_field("code", true),
        Type::Text.to_field("unknown", true),
    ];
    let fields: Vec<Field> = fields.into_iter().enumerate().map(numbered).collect();
    EmptyTable::new(Arc::new(Schema::new(fields)))
}

async fn inferred(query: &str) -> Vec<(Type, bool)> {
    let context = SessionContext::new();
    context.register_table("w", Arc::new(table())).unwrap();
    let plan = context.state().create_logical_plan(query).await.unwrap();
    let fields = fields(&infer(plan, &[]).unwrap()).unwrap();
    let told = fields.iter().map(|it| (parameter_type(it.as_deref()), is_open(it.as_deref())));
    told.collect()
}

async fn types(query: &str) -> Vec<Type> {
    inferred(query).await.into_iter().map(|(of, _)| of).collect()
}

#[tokio::test]
async fn a_parameter_is_of_the_first_type_that_is_found() {
    for query in [
        "SELECT i FROM w WHERE t = $1 OR $1 = '*'",
        "SELECT i FROM w WHERE t = $1 OR vc = $1",
        "SELECT i FROM w WHERE t LIKE $1 OR vc LIKE $1",
        "SELECT i FROM w WHERE $1 = '' OR t = $1",
        "SELECT i FROM w WHERE t = $1 OR CAST(i AS varchar) = $1",
        "SELECT i FROM w WHERE unknown = $1",
    ] {
        assert_eq!(inferred(query).await, [(Type::Text, false)], "{query}");
    }
    assert_eq!(types("SELECT i FROM w WHERE r = $1 OR n = $1").await, [Type::Real]);
    assert_eq!(types("SELECT i FROM w WHERE i = $1 OR n = $1").await, [Type::Integer]);
    assert_eq!(types("SELECT i FROM w WHERE $1 IS NULL OR i = $1").await, [Type::Integer]);
    assert_eq!(types("SELECT i FROM w WHERE code = $1 OR $1 IS NULL").await, [Type::Uuid]);
    let cast = "SELECT i FROM w WHERE CAST($1 AS integer) IS NULL OR n = $1";
    assert_eq!(types(cast).await, [Type::Integer]);
    let cast = "SELECT CAST($1 AS numeric(5, 2)), CAST($2 AS varchar)";
    assert_eq!(types(cast).await, [Type::Numeric(38, 10), Type::Text]);
}

#[tokio::test]
async fn what_is_counted_is_bigint_and_what_is_asked_is_boolean() {
    let limits = "SELECT i FROM w LIMIT $1 OFFSET $2";
    assert_eq!(types(limits).await, [Type::BigInt, Type::BigInt]);
    assert_eq!(types("SELECT i FROM w WHERE $1").await, [Type::Boolean]);
    let case = "SELECT CASE WHEN $1 THEN i ELSE $2 END FROM w";
    assert_eq!(types(case).await, [Type::Boolean, Type::Integer]);
}

#[tokio::test]
async fn where_nothing_tells_it_is_open_and_taken_for_text() {
    for query in [
        "SELECT $1",
        "SELECT i, $1 FROM w",
        "SELECT DISTINCT $1 FROM w",
        "SELECT $1 AS k, count(*) FROM w GROUP BY 1",
        "SELECT * FROM (VALUES ($1)) AS v (x)",
        "SELECT $1 IS NULL",
    ] {
        assert_eq!(inferred(query).await, [(Type::Text, true)], "{query}");
    }
    let both = [(Type::Text, true), (Type::Text, true)];
    assert_eq!(inferred("SELECT make_array($1, $2)").await, both);
    assert_eq!(inferred("SELECT $1 = $2").await, both);
}

#[tokio::test]
async fn a_column_that_is_a_parameter_is_text_to_what_reads_it() {
    let context = SessionContext::new();
    for query in ["SELECT $1 AS x", "SELECT x FROM (SELECT DISTINCT $1 AS x)", "VALUES ($1)"] {
        let plan = context.state().create_logical_plan(query).await.unwrap();
        let plan = infer(plan, &[]).unwrap();
        let field = plan.schema().field(0);
        assert_eq!(field.data_type(), &DataType::Utf8, "{query}");
    }
}

#[tokio::test]
async fn a_function_tells_what_it_takes() {
    for (query, expected) in [
        ("SELECT substring(t, $1, $2) FROM w", vec![Type::Integer, Type::Integer]),
        ("SELECT left(t, $1) FROM w", vec![Type::Integer]),
        ("SELECT lpad(t, $1, '0') FROM w", vec![Type::Integer]),
        ("SELECT repeat('a', $1)", vec![Type::Integer]),
        ("SELECT repeat($1, $2)", vec![Type::Text, Type::Integer]),
        ("SELECT round(n, $1) FROM w", vec![Type::Integer]),
        ("SELECT upper($1)", vec![Type::Text]),
        ("SELECT sqrt($1)", vec![Type::Double]),
        ("SELECT power($1, 2)", vec![Type::Double]),
        ("SELECT abs($1)", vec![Type::Double]),
        ("SELECT date_trunc('day', $1)", vec![Type::Timestamp]),
        ("SELECT date_trunc($1, at) FROM w", vec![Type::Text]),
        ("SELECT extract(year FROM $1)", vec![Type::Timestamp]),
        ("SELECT coalesce(i, $1) FROM w", vec![Type::Integer]),
        ("SELECT coalesce($1, 0)", vec![Type::Integer]),
        ("SELECT nullif(t, $1) FROM w", vec![Type::Text]),
        ("SELECT string_agg(t, $1) FROM w", vec![Type::Text]),
        ("SELECT max($1) FROM w", vec![Type::Text]),
        ("SELECT i FROM w WHERE i = ANY ($1)", vec![Type::Array(Box::new(Type::Integer))]),
        ("SELECT i FROM w WHERE i IN ($1, $2)", vec![Type::Integer, Type::Integer]),
        ("SELECT i FROM w WHERE $1 IN (i)", vec![Type::Integer]),
    ] {
        assert_eq!(types(query).await, expected, "{query}");
    }
    assert!(inferred("SELECT abs($1)").await.iter().all(|(_, is_open)| *is_open));
    assert!(inferred("SELECT left(t, $1) FROM w").await.iter().all(|(_, is_open)| !is_open));
}

/// The planner does not look for it there.
#[tokio::test]
async fn what_is_stated_holds_in_an_array_too() {
    let context = SessionContext::new();
    let plan = context.state().create_logical_plan("SELECT make_array($1, 1)").await.unwrap();
    let stated = [Some(Arc::new(Field::new("", DataType::Float64, true)))];
    let plan = infer(plan, &stated).unwrap();
    assert_eq!(parameter_type(fields(&plan).unwrap()[0].as_deref()), Type::Double);
}
