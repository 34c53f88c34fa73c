//! What DataFusion's planner may ask: the resolved tables, and the session's functions.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{
    DFSchema, Result, TableReference, not_impl_err, plan_datafusion_err, plan_err,
};
use datafusion::config::ConfigOptions;
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::{
    AggregateUDF, Cast, Expr, ExprSchemable as _, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder,
    ScalarUDF, TableSource, WindowUDF,
};
use datafusion::scalar::ScalarValue;

use super::names::Sources;
use super::types::Types;
use super::using::Merging;
use crate::errors::to_engine;
use crate::write::conform::coerced;

pub(super) struct Context<'a> {
    session: &'a SessionState,
    tables: Sources,
    types: Arc<dyn TypePlanner>,
    relations: [Arc<dyn RelationPlanner>; 1],
}

/// Functions in `FROM` that make their rows from their arguments: none reads a file.
const GENERATORS: &[&str] = &["generate_series", "range"];

/// What they call their column.
const GENERATED: &str = "value";

/// Whether a name can be one of those functions.
pub(super) fn generates(name: &TableReference) -> bool {
    name.schema().is_none() && GENERATORS.contains(&name.table())
}

impl<'a> Context<'a> {
    pub(super) fn new(session: &'a SessionState, tables: Sources) -> Self {
        Context { session, tables, types: Arc::new(Types), relations: [Arc::new(Merging)] }
    }
}

/// The arguments of a generator are computed now: it takes literals only.
fn literal(session: &SessionState, arg: Expr) -> Result<Expr> {
    let schema = DFSchema::empty();
    let arg = coerced(session, arg, &schema).map_err(to_engine)?;
    let mut value = super::constant::computed(session, arg).map_err(to_engine)?;
    // Of timestamps it takes those with nanoseconds only.
    if let ScalarValue::TimestampMicrosecond(_, zone) = &value {
        value = value.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()))?;
    }
    Ok(Expr::Literal(value, None))
}

fn has_parameter(arg: &Expr) -> bool {
    arg.exists(|it| Ok(matches!(it, Expr::Placeholder(_)))).unwrap_or(false)
}

/// A generator whose arguments are known when it is run: the elements of the list that the function of
/// its name gives, which is as long as a statement can hold.
fn of_list(list: Arc<ScalarUDF>, args: Vec<Expr>) -> Result<LogicalPlan> {
    let schema = DFSchema::empty();
    let args = args.into_iter().map(|arg| {
        let of = arg.get_type(&schema)?;
        Ok(match of.is_integer() || of.is_null() {
            true => Expr::Cast(Cast::new(Box::new(arg), DataType::Int64)),
            false => arg,
        })
    });
    let list = Expr::ScalarFunction(ScalarFunction::new_udf(list, args.collect::<Result<_>>()?));
    LogicalPlanBuilder::empty(true)
        .project([list.alias(GENERATED)])?
        .unnest_column(GENERATED)?
        .build()
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.tables.get(&name) {
            Some(source) => Ok(Arc::clone(source)),
            None => plan_err!("table '{name}' not found"),
        }
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        let function = self.session.table_functions().get(name);
        match function.filter(|_| GENERATORS.contains(&name)) {
            Some(_) if args.iter().any(has_parameter) => {
                let list = self.session.scalar_functions().get(name).cloned();
                let list = list.ok_or_else(|| plan_datafusion_err!("Invalid function '{name}'"))?;
                Ok(provider_as_source(Arc::new(ViewTable::new(of_list(list, args)?, None))))
            }
            Some(function) => {
                let mut args = args;
                if let [from, _, step @ Expr::Literal(ScalarValue::Utf8(_), _)] = &mut args[..]
                    && from.get_type(&DFSchema::empty())?.is_temporal()
                {
                    let span = DataType::Interval(IntervalUnit::MonthDayNano);
                    *step = Expr::Cast(Cast::new(Box::new(step.clone()), span));
                }
                let args = args.into_iter().map(|arg| literal(self.session, arg));
                let args = args.collect::<Result<Vec<_>>>()?;
                let args = datafusion::catalog::TableFunctionArgs::new(&args, self.session);
                Ok(provider_as_source(function.create_table_provider_with_args(args)?))
            }
            None => plan_err!("Invalid function '{name}'"),
        }
    }

    fn create_cte_work_table(
        &self,
        name: &str,
        schema: arrow::datatypes::SchemaRef,
    ) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.session.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        super::casts::function(name).or_else(|| self.session.scalar_functions().get(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.session.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.session.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.session.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn get_variable_field(&self, _names: &[String]) -> Option<FieldRef> {
        None
    }

    fn get_file_type(
        &self,
        _extension: &str,
    ) -> Result<Arc<dyn datafusion::common::file_options::file_type::FileType>> {
        not_impl_err!("files of the server cannot be written")
    }

    fn options(&self) -> &ConfigOptions {
        self.session.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.session.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.session.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.session.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.session.window_functions().keys().cloned().collect()
    }
}
