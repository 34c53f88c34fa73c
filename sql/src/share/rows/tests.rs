//! All who read shared rows get all of them, or the error.

use arrow::array::Int64Array;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;

const BATCHES: i64 = 40;
const BATCH_ROWS: i64 = 100;

fn batch(number: i64) -> RecordBatch {
    let values = Int64Array::from_iter_values(number * BATCH_ROWS..(number + 1) * BATCH_ROWS);
    RecordBatch::try_from_iter([("v", Arc::new(values) as _)]).unwrap()
}

fn sum(batches: &[RecordBatch]) -> i64 {
    let values = batches.iter().flat_map(|it| {
        it.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    });
    values.sum()
}

#[tokio::test]
async fn what_finds_no_room_is_written_and_read_again() {
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(10_000));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build_arc().unwrap();
    let metrics = ExecutionPlanMetricsSet::new();
    let schema = batch(0).schema();
    let spills = SpillManager::new(runtime, SpillMetrics::new(&metrics, 0), Arc::clone(&schema));
    let rows = stream::iter((0..BATCHES).map(|it| Ok(batch(it))));
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    let memory = MemoryConsumer::new("rows").register(&pool);
    let made = Arc::new(made(rows, memory, spills).await.unwrap());
    assert!((1..BATCHES as usize).contains(&made.batches.len()), "{}", made.batches.len());
    assert_eq!(metrics.clone_inner().spill_count(), Some(1));
    assert!(pool.reserved() > 0);
    let first: Vec<_> = Arc::clone(&made).rows().unwrap().try_collect().await.unwrap();
    let second: Vec<_> = Arc::clone(&made).rows().unwrap().try_collect().await.unwrap();
    let all = BATCHES * BATCH_ROWS;
    assert_eq!((sum(&first), sum(&second)), (all * (all - 1) / 2, all * (all - 1) / 2));
    drop(made);
    assert_eq!(pool.reserved(), 0);
}

async fn shared(text: &str) -> (SessionContext, Arc<SharedRows>) {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    let state = context.state();
    let plan = state.create_logical_plan(text).await.unwrap();
    let plan = state.create_physical_plan(&plan).await.unwrap();
    (context, Arc::new(SharedRows::of(plan)))
}

#[tokio::test]
async fn one_who_leaves_takes_nothing_from_the_others() {
    let (context, rows) = shared("SELECT value AS v FROM generate_series(1, 100000)").await;
    let read = || SharedExec::new(Arc::clone(&rows)).execute(0, context.task_ctx()).unwrap();
    let mut first = read();
    assert!(first.next().now_or_never().is_none_or(|it| it.is_some()));
    let second = read();
    drop(first);
    let all: Vec<_> = second.try_collect().await.unwrap();
    assert_eq!(sum(&all), 100_000 * 100_001 / 2);
}

#[tokio::test]
async fn an_error_is_everybodys() {
    let (context, rows) = shared("SELECT 1 / (value - 5) AS v FROM generate_series(1, 10)").await;
    for _ in 0..2 {
        let read = SharedExec::new(Arc::clone(&rows)).execute(0, context.task_ctx()).unwrap();
        let failed: Result<Vec<_>> = read.try_collect().await;
        let error = failed.unwrap_err().find_root().to_string();
        assert!(error.contains("Divide by zero"), "{error}");
    }
    assert!(rows.part(7, &context.task_ctx()).is_err());
}
