//! Correlated subqueries over system tables, evaluated row by row.
//!
//! What it is: DataFusion turns a correlated scalar subquery into a join, and can only if it is
//! aggregated and compared by equality alone. Clients' catalog queries are not. Such a subquery,
//! if it reads system tables and nothing else, becomes a call of one of these functions: its text
//! with parameters, and the outer values.
//! What it guarantees: the subquery sees the same view as the statement, once for each distinct
//! combination of outer values; it can read no dataset. More than one row is `21000`.
//! What it does not: it is no way to run other text. A text that reads anything but system tables
//! does not plan here, because nothing else is in this context.
//! On failure: out of memory and of time as any statement (`53200`, `57014`).

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arrow::datatypes::{DataType, Field, FieldRef};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::common::{DataFusionError, internal_datafusion_err};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionConfig;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind};
use sqlparser::ast::{Expr, Statement, Value as SqlValue, VisitMut, VisitorMut};
use sqlparser::parser::Parser;

use super::function::{argument, external, functions};
use super::rewrite::literal;
use super::{CatalogView, definition, table};

/// The function that gives the one value of a subquery.
pub const SCALAR: &str = "pg_apply_scalar";
/// The function that gives all values of a subquery's first column.
pub const ARRAY: &str = "pg_apply_array";

const MEMORY_LIMIT_BYTES: usize = 64 << 20;
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// One of the two functions.
pub struct Apply {
    view: Arc<CatalogView>,
    name: &'static str,
    signature: Signature,
    context: OnceLock<SessionState>,
}

impl Apply {
    pub fn all(view: &Arc<CatalogView>) -> impl Iterator<Item = Arc<ScalarUDF>> {
        [SCALAR, ARRAY].into_iter().map(|name| {
            Arc::new(ScalarUDF::from(Apply {
                view: Arc::clone(view),
                name,
                signature: Signature::variadic_any(Volatility::Stable),
                context: OnceLock::new(),
            }))
        })
    }

    /// The planner's context, made when the first subquery is seen.
    fn context(&self) -> Result<&SessionState, DataFusionError> {
        if let Some(state) = self.context.get() {
            return Ok(state);
        }
        let state = new_context(&self.view)?;
        Ok(self.context.get_or_init(|| state))
    }

    fn plan(
        &self,
        text: &str,
        values: &[ScalarValue],
    ) -> Result<impl Future<Output = Result<Vec<ScalarValue>, DataFusionError>>, DataFusionError>
    {
        let statement = bind(text, values)?;
        let state = self.context()?.clone();
        Ok(async move {
            let plan = state.statement_to_plan(wrap(statement)).await?;
            let plan = state.create_physical_plan(&plan).await?;
            let batches = collect(plan, state.task_ctx()).await?;
            let mut rows = Vec::new();
            for batch in &batches {
                let column = batch.columns().first();
                let column = column.ok_or_else(|| internal_datafusion_err!("no column"))?;
                for row in 0..batch.num_rows() {
                    rows.push(ScalarValue::try_from_array(column, row)?);
                }
            }
            Ok(rows)
        })
    }

    fn element_type(
        &self,
        text: &str,
        arguments: &[FieldRef],
    ) -> Result<DataType, DataFusionError> {
        let nulls = arguments
            .iter()
            .map(|field| ScalarValue::try_from(field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        let statement = bind(text, &nulls)?;
        let state = self.context()?.clone();
        let plan = on_own_thread(async move { state.statement_to_plan(wrap(statement)).await })?;
        let first = plan.schema().fields().first().cloned();
        Ok(first.ok_or_else(|| internal_datafusion_err!("no column"))?.data_type().clone())
    }

    /// The result for one combination of outer values.
    fn result(
        &self,
        rows: Vec<ScalarValue>,
        to: &DataType,
    ) -> Result<ScalarValue, DataFusionError> {
        if let DataType::List(element) = to
            && self.name == ARRAY
        {
            let of = element.data_type();
            let rows = rows.iter().map(|it| it.cast_to(of)).collect::<Result<Vec<_>, _>>()?;
            return Ok(ScalarValue::List(ScalarValue::new_list(&rows, of, true)));
        }
        match rows.as_slice() {
            [] => ScalarValue::try_from(to),
            [one] => one.cast_to(to),
            _ => Err(external(Error::new(
                Kind::CardinalityViolation,
                "more than one row returned by a subquery used as an expression",
            ))),
        }
    }
}

impl ScalarUDFImpl for Apply {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Err(internal_datafusion_err!("the type of a subquery is its query's"))
    }

    fn return_field_from_args(
        &self,
        args: ReturnFieldArgs<'_>,
    ) -> Result<FieldRef, DataFusionError> {
        let text = match args.scalar_arguments.first() {
            Some(Some(ScalarValue::Utf8(Some(text)))) => text,
            _ => return Err(not_for_users(self.name)),
        };
        let element = self.element_type(text, args.arg_fields.get(1..).unwrap_or_default())?;
        let data_type = match self.name {
            ARRAY => DataType::List(Arc::new(Field::new_list_field(element, true))),
            _ => element,
        };
        Ok(Arc::new(Field::new(self.name, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let text = match args.args.first() {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text)))) => text.clone(),
            _ => return Err(not_for_users(self.name)),
        };
        let to = args.return_field.data_type().clone();
        let outer = args.args.get(1..).unwrap_or_default();
        let rows = (0..args.number_rows)
            .map(|row| outer.iter().map(|it| argument(it, row).map_err(external)).collect())
            .collect::<Result<Vec<Vec<ScalarValue>>, _>>()?;
        // Planned here, so that a mistake is found before a thread is started.
        let mut distinct: HashMap<Vec<ScalarValue>, Option<ScalarValue>> = HashMap::new();
        let mut plans = Vec::new();
        for row in &rows {
            if distinct.insert(row.clone(), None).is_none() {
                plans.push((row.clone(), self.plan(&text, row)?));
            }
        }
        let results = on_own_thread(async move {
            let mut results = Vec::new();
            for (row, plan) in plans {
                results.push((row, plan.await?));
            }
            Ok(results)
        })?;
        for (row, values) in results {
            distinct.insert(row, Some(self.result(values, &to)?));
        }
        let values = rows
            .iter()
            .map(|row| {
                let value = distinct.get(row).and_then(Option::clone);
                value.ok_or_else(|| internal_datafusion_err!("a subquery gave no result"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if values.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&to)));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?))
    }
}

impl fmt::Debug for Apply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Apply {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.view, &other.view)
    }
}

impl Eq for Apply {}

impl Hash for Apply {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// One of the two schemas of system tables, as the planner looks tables up in it. A table is built
/// when it is first asked for, and kept: the view does not change.
pub struct SystemSchema {
    view: Arc<CatalogView>,
    name: &'static str,
    built: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
}

impl SystemSchema {
    /// Both schemas.
    pub fn all(view: &Arc<CatalogView>) -> [(&'static str, Arc<SystemSchema>); 2] {
        ["pg_catalog", "information_schema"].map(|name| {
            let (view, built) = (Arc::clone(view), Mutex::default());
            (name, Arc::new(SystemSchema { view, name, built }))
        })
    }
}

impl fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        let own = definition::all().filter(|it| it.schema == self.name);
        own.map(|it| it.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        // A thread that panicked here left no half-built table behind.
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = built.get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let table = table(&self.view, self.name, name).transpose().map_err(external)?;
        if let Some(table) = &table {
            built.insert(name.to_owned(), Arc::clone(table));
        }
        Ok(table)
    }

    fn table_exist(&self, name: &str) -> bool {
        definition::find(self.name, name).is_some()
    }
}

pub(super) fn new_context(view: &Arc<CatalogView>) -> Result<SessionState, DataFusionError> {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema("kho", "pg_catalog");
    let pool = Arc::new(GreedyMemoryPool::new(MEMORY_LIMIT_BYTES));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
    let catalog = MemoryCatalogProvider::new();
    for (name, schema) in SystemSchema::all(view) {
        catalog.register_schema(name, schema)?;
    }
    let list = MemoryCatalogProviderList::new();
    datafusion::catalog::CatalogProviderList::register_catalog(
        &list,
        "kho".to_owned(),
        Arc::new(catalog),
    );
    let mut state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_catalog_list(Arc::new(list))
        .with_type_planner(Arc::new(crate::bind::Oids))
        .build();
    for function in functions(view) {
        state.register_udf(function)?;
    }
    Ok(state)
}

/// The statement that `text` is, with the values in place of its parameters.
fn bind(text: &str, values: &[ScalarValue]) -> Result<Statement, DataFusionError> {
    let literals = values.iter().map(literal).collect::<Result<Vec<_>, _>>().map_err(external)?;
    let mut statements = Parser::parse_sql(&crate::parse::DIALECT, text)
        .map_err(|error| internal_datafusion_err!("a subquery does not parse: {error}"))?;
    let mut statement =
        statements.pop().ok_or_else(|| internal_datafusion_err!("a subquery is empty"))?;
    let _whole = statement.visit(&mut Binder { literals: &literals });
    Ok(statement)
}

struct Binder<'a> {
    literals: &'a [Expr],
}

impl VisitorMut for Binder<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(value) = expr
            && let SqlValue::Placeholder(name) = &value.value
            && let Some(number) = name.strip_prefix('$').and_then(|it| it.parse::<usize>().ok())
            && let Some(literal) = number.checked_sub(1).and_then(|at| self.literals.get(at))
        {
            *expr = literal.clone();
        }
        ControlFlow::Continue(())
    }
}

fn wrap(statement: Statement) -> datafusion::sql::parser::Statement {
    datafusion::sql::parser::Statement::Statement(Box::new(statement))
}

/// Runs `work` to its end on a thread of its own: an operator must not wait inside the runtime
/// that runs it, and what it waits for must not need that runtime.
fn on_own_thread<T: Send>(
    work: impl Future<Output = Result<T, DataFusionError>> + Send,
) -> Result<T, DataFusionError> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(async {
            let late =
                |_| external(Error::new(Kind::QueryCanceled, "a catalog subquery took too long"));
            tokio::time::timeout(TIME_LIMIT, work).await.map_err(late)?
        })
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .map_err(|_| internal_datafusion_err!("a catalog subquery stopped"))?
}

fn not_for_users(name: &str) -> DataFusionError {
    external(Error::unsupported(format!("{name} is not called by users")))
}
