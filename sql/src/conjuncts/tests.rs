//! What costs least comes first, and what can fail is asked last.

use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::Operator::{Eq, Gt, Lt, Plus};
use datafusion::physical_expr::expressions::{binary, col, lit};

use super::*;

fn schema() -> Schema {
    let field = |name, kind| Field::new(name, kind, true);
    Schema::new(vec![
        field("a", DataType::Int64),
        field("b", DataType::Date32),
        field("c", DataType::Decimal128(15, 2)),
        field("t", DataType::Utf8View),
    ])
}

/// `parts`, read from the left as the engine reads them, and how they are read in the end.
fn order(parts: Vec<Arc<dyn PhysicalExpr>>) -> String {
    let predicate = parts.into_iter().reduce(and).unwrap();
    ordered(&predicate, &schema())
        .unwrap()
        .map_or_else(|| "as it was".to_owned(), |it| it.to_string())
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    col(name, &schema()).unwrap()
}

fn compare(
    left: Arc<dyn PhysicalExpr>,
    operator: Operator,
    right: Arc<dyn PhysicalExpr>,
) -> Arc<dyn PhysicalExpr> {
    binary(left, operator, right, &schema()).unwrap()
}

#[test]
fn numbers_are_compared_first_and_at_once() {
    let text = || compare(column("t"), Eq, lit("x"));
    let sum = || compare(compare(column("a"), Plus, lit(1_i64)), Gt, lit(0_i64));
    let a = || compare(column("a"), Gt, lit(1_i64));
    let b = || compare(column("b"), Lt, column("b"));
    let c = || compare(column("c"), Eq, column("c"));
    let (told_text, told_sum) = (text().to_string(), sum().to_string());
    assert_eq!(
        order(vec![text(), a(), sum(), b(), c()]),
        format!(
            "CASE WHEN a@0 > 1 AND b@1 < b@1 AND c@2 = c@2 AND {told_text} THEN {told_sum} \
             ELSE false END"
        )
    );
    assert_eq!(order(vec![sum(), text()]), format!("{told_sum} AND {told_text}"));
    assert_eq!(order(vec![a()]), "as it was");
}

#[test]
fn numbers_are_one_part_that_leans_to_the_right() {
    let part = |value: i64| compare(column("a"), Gt, lit(value));
    let text = compare(column("t"), Eq, lit("x"));
    let predicate = vec![part(1), text, part(2), part(3)].into_iter().reduce(and).unwrap();
    let ordered = ordered(&predicate, &schema()).unwrap().unwrap();
    let sides = |it: &Arc<dyn PhysicalExpr>| {
        let it = it.downcast_ref::<BinaryExpr>().unwrap();
        (Arc::clone(it.left()), Arc::clone(it.right()))
    };
    let (numbers, text) = sides(&ordered);
    assert_eq!(text.to_string(), "t@3 = x");
    let (first, others) = sides(&numbers);
    assert_eq!(first.to_string(), "a@0 > 1");
    assert_eq!(others.to_string(), "a@0 > 2 AND a@0 > 3");
}

#[test]
fn a_cast_that_keeps_every_value_cannot_fail() {
    let schema = schema();
    let fails = |from: &str, to: DataType| {
        let cast = datafusion::physical_expr::expressions::cast(column(from), &schema, to).unwrap();
        failing::can_fail(cast.as_ref(), &schema)
    };
    assert!(!fails("a", DataType::Decimal128(21, 2)));
    assert!(fails("a", DataType::Decimal128(20, 2)));
    assert!(fails("a", DataType::Int32));
    assert!(!fails("a", DataType::Float64));
    assert!(!fails("c", DataType::Decimal128(21, 7)));
    assert!(fails("c", DataType::Decimal128(15, 4)));
    assert!(fails("t", DataType::Int64));
    assert!(!fails("t", DataType::Utf8));
}
