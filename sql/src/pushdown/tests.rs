//! Columns of nodes in their inputs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::joins::{HashJoinExecBuilder, PartitionMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;

use super::columns::{self, Columns};

fn relation(columns: &[&str]) -> Arc<dyn ExecutionPlan> {
    let fields = columns.iter().map(|name| Field::new(*name, DataType::Boolean, true));
    Arc::new(EmptyExec::new(Arc::new(Schema::new(fields.collect::<Vec<_>>()))))
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

/// What a condition that is the column at `index` is in the input `at`.
fn moved(node: &Arc<dyn ExecutionPlan>, index: usize, at: usize) -> Option<String> {
    let condition = column(node.schema().field(index).name(), index);
    let by_name = Arc::clone(&condition);
    columns::of(node, at).moved(&condition, by_name).unwrap().map(|it| it.to_string())
}

fn join(kind: JoinType, projection: Option<Vec<usize>>) -> Arc<dyn ExecutionPlan> {
    let on = vec![(column("k", 0), column("j", 1))];
    let join =
        HashJoinExecBuilder::new(relation(&["k", "t"]), relation(&["k", "j", "t"]), on, kind)
            .with_partition_mode(PartitionMode::CollectLeft)
            .with_projection(projection)
            .build();
    Arc::new(join.unwrap())
}

#[test]
fn sides_of_a_join_are_told_apart() {
    let node = join(JoinType::Left, None);
    assert_eq!(moved(&node, 1, 0).as_deref(), Some("t@1"));
    assert_eq!(moved(&node, 1, 1), None);
    assert_eq!(moved(&node, 4, 1).as_deref(), Some("t@2"));
    assert_eq!(moved(&node, 4, 0), None);
    let node = join(JoinType::Left, Some(vec![4, 1]));
    assert_eq!(moved(&node, 0, 1).as_deref(), Some("t@2"));
    assert_eq!(moved(&node, 1, 0).as_deref(), Some("t@1"));
}

#[test]
fn a_key_of_a_semi_join_is_its_partner() {
    let node = join(JoinType::LeftSemi, None);
    // Not the column of the same name.
    assert_eq!(moved(&node, 0, 1).as_deref(), Some("j@1"));
    assert_eq!(moved(&node, 1, 1), None);
    assert_eq!(moved(&join(JoinType::LeftAnti, None), 0, 1), None);
}

#[test]
fn a_projection_that_swaps_is_followed() {
    let given = [(3, "t"), (1, "t"), (0, "j")].map(|(index, alias)| ProjectionExpr {
        expr: column(["k", "t", "k", "t"][index], index),
        alias: alias.to_owned(),
    });
    let input = relation(&["k", "t", "k", "t"]);
    let node: Arc<dyn ExecutionPlan> = Arc::new(ProjectionExec::try_new(given, input).unwrap());
    assert_eq!(moved(&node, 0, 0).as_deref(), Some("t@3"));
    assert_eq!(moved(&node, 1, 0).as_deref(), Some("t@1"));
    assert_eq!(moved(&node, 2, 0).as_deref(), Some("k@0"));
}

#[test]
fn filters_pass_and_project() {
    let filter = |places| -> Arc<dyn ExecutionPlan> {
        let filter = FilterExecBuilder::new(column("t", 3), relation(&["k", "t", "k", "t"]));
        Arc::new(filter.apply_projection(places).unwrap().build().unwrap())
    };
    assert_eq!(moved(&filter(None), 3, 0).as_deref(), Some("t@3"));
    assert_eq!(moved(&filter(Some(vec![3, 0])), 0, 0).as_deref(), Some("t@3"));
}

#[test]
fn a_column_of_a_union_is_found_by_its_place() {
    let parts = vec![relation(&["a", "b"]), relation(&["b", "a"])];
    let node = UnionExec::try_new(parts).unwrap();
    for at in 0..2 {
        assert!(moved(&node, 0, at).unwrap().ends_with("@0"));
        assert!(moved(&node, 1, at).unwrap().ends_with("@1"));
    }
}

#[test]
fn names_say_it_where_they_are_one_columns() {
    let unique = ["a".to_owned()].into();
    let named = Columns::Named { unique };
    let of = |name| {
        let condition = column(name, 0);
        named.moved(&condition, Arc::clone(&condition)).unwrap().is_some()
    };
    assert!(of("a"));
    assert!(!of("t"));
}
