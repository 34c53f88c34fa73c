//! What literals and casts become, in plans and over columns.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{Int32Type, TimeUnit};
use datafusion::logical_expr::expr_fn::{cast, col};
use datafusion::logical_expr::{EmptyRelation, LogicalPlanBuilder, lit};
use kho_catalog::error::Kind;

use super::super::function::read_column;
use super::*;
use crate::errors::from_engine;

fn table() -> DFSchema {
    let fields = [
        Type::Integer.to_field("number", true),
        Type::Numeric(6, 2).to_field("price", true),
        Type::Bytea.to_field("scan", true),
        Type::Uuid.to_field("id", true),
        Type::TimestampTz.to_field("moment", true),
        Type::Text.to_field("word", true),
    ];
    DFSchema::try_from(arrow::datatypes::Schema::new(fields.to_vec())).unwrap()
}

/// `expr` over the table as the analyzer leaves it.
fn analyzed(expr: Expr) -> Result<Expr> {
    let empty = EmptyRelation { produce_one_row: false, schema: Arc::new(table()) };
    let plan = LogicalPlanBuilder::from(LogicalPlan::EmptyRelation(empty));
    let plan = plan.project([expr.alias("x")]).unwrap().build().unwrap();
    let mut state = SessionStateBuilder::new().with_default_features().build();
    state.config_mut().options_mut().execution.time_zone = Some("Asia/Ho_Chi_Minh".to_owned());
    install(&mut state);
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {});
    Ok(plan.map_err(from_engine)?.expressions().remove(0).unalias())
}

fn right_of(expr: Expr) -> ScalarValue {
    match analyzed(expr).unwrap() {
        Expr::BinaryExpr(binary) => match *binary.right {
            Expr::Literal(value, _) => value,
            // The coercion widens a numeric literal to the column's digits.
            Expr::Cast(cast) => cast.expr.as_literal().unwrap().clone(),
            other => panic!("no literal: {other}"),
        },
        other => panic!("no comparison: {other}"),
    }
}

#[test]
fn a_literal_is_read_as_what_it_is_compared_with() {
    assert_eq!(right_of(col("number").eq(lit(" 7 "))), ScalarValue::Int32(Some(7)));
    let bytes = ScalarValue::Binary(Some(vec![0, 255, 16]));
    assert_eq!(right_of(col("scan").eq(lit("\\x00ff10"))), bytes);
    let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    assert_eq!(right_of(col("id").eq(lit(id.to_uppercase()))), ScalarValue::from(id));
    assert_eq!(right_of(col("word").eq(lit(" 7 "))), ScalarValue::from(" 7 "));
    assert_eq!(
        analyzed(col("number").eq(lit("x"))).unwrap_err().kind(),
        Kind::InvalidTextRepresentation
    );
}

#[test]
fn a_numeric_literal_is_not_rounded_to_be_compared() {
    let value = right_of(col("price").gt(lit("1.239")));
    assert!(matches!(value, ScalarValue::Decimal128(Some(1_239), _, 3)), "{value:?}");
}

#[test]
fn a_moment_without_offset_is_the_sessions() {
    let value = right_of(col("moment").eq(lit("2026-11-01 08:30")));
    let utc = right_of(col("moment").eq(lit("2026-11-01 01:30Z")));
    assert!(!value.is_null());
    assert_eq!(value, utc);
}

#[test]
fn a_cast_literal_is_a_constant_or_an_error_at_once() {
    let date = cast(lit("2026-01-31"), DataType::Date32);
    assert_eq!(analyzed(date).unwrap(), lit(ScalarValue::Date32(Some(20_484))));
    let short = cast(lit("2026-01-31 10:00"), DataType::Timestamp(TimeUnit::Microsecond, None));
    assert!(matches!(analyzed(short), Ok(Expr::Literal(..))));
    let refused = [
        ("99999999999", Type::Integer, Kind::NumericOutOfRange),
        ("1000", Type::Numeric(3, 0), Kind::NumericOutOfRange),
        ("1.5", Type::Integer, Kind::InvalidTextRepresentation),
        ("2026-02-30", Type::Date, Kind::DatetimeOverflow),
        ("soon", Type::Date, Kind::InvalidDatetime),
        ("a0eebc99", Type::Uuid, Kind::InvalidTextRepresentation),
        ("{", Type::Json, Kind::InvalidTextRepresentation),
    ];
    for (text, of, kind) in refused {
        let field = Arc::new(of.to_field("cast", true));
        let cast = Expr::Cast(Cast::new_from_field(Box::new(lit(text)), field));
        assert_eq!(analyzed(cast).unwrap_err().kind(), kind, "{text}");
    }
}

#[test]
fn a_cast_column_is_read_by_the_function() {
    match analyzed(cast(col("word"), DataType::Int32)).unwrap() {
        Expr::ScalarFunction(call) => assert_eq!(call.name(), "text_input"),
        other => panic!("{other}"),
    }
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("7"), None, Some(" -2 ")]));
    let field = Type::Integer.to_field("x", true);
    let numbers = read_column(&words, &field, Zone::Utc).unwrap();
    let numbers: Vec<_> = numbers.as_primitive::<Int32Type>().iter().collect();
    assert_eq!(numbers, [Some(7), None, Some(-2)]);
}

#[test]
fn every_encoding_of_text_is_read() {
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("{1,NULL}"), None]));
    let field = Type::Array(Box::new(Type::Integer)).to_field("x", true);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for encoding in [DataType::LargeUtf8, DataType::Utf8View, dictionary] {
        let words = arrow::compute::cast(&words, &encoding).unwrap();
        let arrays = read_column(&words, &field, Zone::Utc).unwrap();
        assert_eq!(arrays.data_type(), field.data_type());
        assert_eq!((arrays.len(), arrays.null_count()), (2, 1));
    }
}
