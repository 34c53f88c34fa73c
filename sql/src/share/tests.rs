//! What is the same is made once, and what is not is not.

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::physical_optimizer::PhysicalOptimizerRule as _;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionContext, col};

use super::*;

fn numbers(values: std::ops::Range<i64>) -> Arc<dyn TableProvider> {
    let keys = Int64Array::from_iter_values(values.clone().map(|it| it % 7));
    let columns: Vec<(&str, ArrayRef)> =
        vec![("k", Arc::new(keys)), ("v", Arc::new(Int64Array::from_iter_values(values)))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch.clone()], vec![batch]]).unwrap())
}

fn context() -> SessionContext {
    let context = SessionContext::new();
    context.register_table("t", numbers(0..1000)).unwrap();
    context
}

fn readers<'a>(plan: &'a Arc<dyn ExecutionPlan>, found: &mut Vec<&'a Arc<dyn ExecutionPlan>>) {
    if plan.name() == "SharedExec" {
        found.push(plan.children()[0]);
        return;
    }
    plan.children().into_iter().for_each(|below| readers(below, found));
}

/// How many read shared rows in the plan, and of how many plans; the rows are those of the engine alone.
async fn told(context: &SessionContext, plan: LogicalPlan) -> (usize, usize) {
    let state = context.state();
    let with = planned(&plan, &state).await.unwrap();
    let with = Opening.optimize(with, state.config_options()).unwrap();
    let mut found = Vec::new();
    readers(&with, &mut found);
    let plans: HashSet<_> = found.iter().map(|it| Arc::as_ptr(it).cast::<()>().addr()).collect();
    let counts = (found.len(), plans.len());
    let alone = state.create_physical_plan(&plan).await.unwrap();
    let (with, alone) = (
        collect(Arc::clone(&with), context.task_ctx()).await.unwrap(),
        collect(alone, context.task_ctx()).await.unwrap(),
    );
    let lines = |rows: &[RecordBatch]| {
        let text = pretty_format_batches(rows).unwrap().to_string();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&with), lines(&alone));
    counts
}

async fn sql(text: &str) -> (usize, usize) {
    let context = context();
    let plan = context.state().create_logical_plan(text).await.unwrap();
    told(&context, plan).await
}

#[tokio::test]
async fn groups_of_a_query_that_is_named_twice_are_made_once() {
    const WITH: &str = "WITH g AS (SELECT k, sum(v) AS s FROM t GROUP BY k) SELECT";
    let most = format!("{WITH} k, s FROM g WHERE s = (SELECT max(s) FROM g)");
    assert_eq!(sql(&most).await, (2, 1));
    let joined = format!("{WITH} a.s, b.s, c.s FROM g a JOIN g b USING (k) JOIN g c USING (k)");
    assert_eq!(sql(&joined).await, (3, 1));
    let united = format!("{WITH} k, s FROM g UNION ALL SELECT s, k FROM g");
    assert_eq!(sql(&united).await, (2, 1));
}

#[tokio::test]
async fn two_columns_of_one_name_are_told_apart() {
    let text = "WITH g AS (SELECT a.k, b.k AS o, count(*) AS n FROM t a JOIN t b USING (v) GROUP BY a.k, b.k)
        SELECT x.k, x.o, x.n, y.n FROM g x JOIN g y ON x.k = y.o";
    assert_eq!(sql(text).await, (2, 1));
}

#[tokio::test]
async fn groups_within_shared_groups_are_not_shared_again() {
    let text = "WITH g AS (SELECT k, sum(v) AS s FROM t GROUP BY k),
        h AS (SELECT s % 2 AS o, count(*) AS n FROM g GROUP BY 1)
        SELECT a.n, b.n FROM h a JOIN h b USING (o)";
    assert_eq!(sql(text).await, (2, 1));
    // One within, and one beside.
    let text = "WITH g AS (SELECT k, sum(v) AS s FROM t GROUP BY k),
        h AS (SELECT s % 2 AS o, count(*) AS n FROM g GROUP BY 1)
        SELECT a.n, b.n FROM h a JOIN h b USING (o) JOIN g ON g.k = a.o";
    assert_eq!(sql(text).await, (2, 1));
}

#[tokio::test]
async fn what_is_not_the_same_is_made_for_each() {
    let filtered = "WITH g AS (SELECT k, sum(v) AS s FROM t GROUP BY k)
        SELECT a.s, b.s FROM (SELECT * FROM g WHERE k = 1) a, (SELECT * FROM g WHERE k = 2) b";
    assert_eq!(sql(filtered).await, (0, 0));
    let once = "SELECT k, sum(v) FROM t GROUP BY k";
    assert_eq!(sql(once).await, (0, 0));
    let itself = "WITH RECURSIVE r AS (SELECT 1::bigint AS n UNION ALL
            SELECT n + 1 FROM r JOIN (SELECT max(k) AS k FROM t) a ON n < a.k
                            JOIN (SELECT max(k) AS k FROM t) b ON n < b.k) SELECT n FROM r";
    assert_eq!(sql(itself).await, (0, 0));
}

#[tokio::test]
async fn what_is_volatile_is_made_for_each() {
    let context = context();
    let text = "WITH g AS (SELECT k, sum(v * random()) AS s FROM t GROUP BY k)
        SELECT a.k FROM g a JOIN g b USING (k) WHERE a.s >= 0 AND b.s >= 0";
    let plan = context.state().create_logical_plan(text).await.unwrap();
    assert_eq!(told(&context, plan).await, (0, 0));
}

#[tokio::test]
async fn tables_of_one_name_are_two() {
    let context = context();
    let groups = |table: Arc<dyn TableProvider>| {
        LogicalPlanBuilder::scan("t", provider_as_source(table), None)
            .and_then(|it| it.aggregate([col("k")], [sum(col("v"))]))
            .unwrap()
    };
    let (some, others) = (numbers(0..10), numbers(50..70));
    let two = groups(Arc::clone(&some)).union(groups(others).build().unwrap());
    assert_eq!(told(&context, two.unwrap().build().unwrap()).await, (0, 0));
    // The source is what is compared, and each scan here has one of its own.
    let source = provider_as_source(some);
    let same = || {
        LogicalPlanBuilder::scan("t", Arc::clone(&source), None)
            .and_then(|it| it.aggregate([col("k")], [sum(col("v"))]))
            .unwrap()
    };
    let one = same().union(same().build().unwrap()).unwrap().build().unwrap();
    assert_eq!(told(&context, one).await, (2, 1));
}
