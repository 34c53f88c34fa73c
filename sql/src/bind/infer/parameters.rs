//! One type for each parameter, whatever places it stands in.
//!
//! What it guarantees: as in PostgreSQL, the first type that is found for a parameter holds for it
//! everywhere. Of what tells the type only the type is kept: neither the column's id, nor a length.
//! What it does not: a type that the client stated is not asked about again. Where nothing tells the type,
//! or several would do, the parameter is [open](is_open): a client that does not say is taken to send
//! text, or what comes nearest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Values};
use kho_catalog::types::{TYPE_KEY, Type};

/// The name of a parameter's field whose type is a guess: no column can have it.
const OPEN: &str = "\u{1}open";

/// Whether the type of a parameter with this field is a guess: what the client sends may be of another.
pub(crate) fn is_open(field: Option<&Field>) -> bool {
    field.is_none_or(|field| field.name() == OPEN)
}

/// The fields of `$1`, `$2`, … in a plan; `None` where nothing is known.
pub(in crate::bind) fn fields(plan: &LogicalPlan) -> Result<Vec<Option<FieldRef>>> {
    let found = Found::in_plan(plan)?;
    let by_number: BTreeMap<usize, Option<FieldRef>> = (found.names.iter())
        .filter_map(|name| Some((name.strip_prefix('$')?.parse().ok()?, found.of(name))))
        .collect();
    let count = by_number.keys().next_back().copied().unwrap_or_default();
    Ok((1..=count).map(|number| by_number.get(&number).cloned().flatten()).collect())
}

/// Gives each parameter of a plan its type; `stated` are those that are known beforehand.
pub(in crate::bind) fn infer(
    plan: LogicalPlan,
    stated: &[Option<FieldRef>],
) -> Result<LogicalPlan> {
    if Found::in_plan(&plan)?.is_settled {
        return Ok(plan);
    }
    let plan = everywhere(plan, stated)?;
    if Found::in_plan(&plan)?.is_settled {
        return Ok(plan);
    }
    let plan = changed(plan, &|expr, schema| super::operands::tell(expr, schema))?;
    let found = Found::in_plan(&plan)?;
    let text = guess(DataType::Utf8);
    let or_text = |name: &str| found.of(name).or_else(|| Some(Arc::clone(&text)));
    let told = |expr: &mut Expr, _: &DFSchema| restate(expr, &or_text);
    match found.names.iter().all(|name| found.of(name).is_some()) {
        true => changed(plan, &told),
        // What takes no text says so when it is given some.
        false => changed(plan.clone(), &told)
            .or_else(|_| changed(plan, &|expr, _| restate(expr, &|name| found.of(name)))),
    }
}

/// The planner forgets what was stated within `array[…]`.
fn everywhere(plan: LogicalPlan, stated: &[Option<FieldRef>]) -> Result<LogicalPlan> {
    if stated.iter().all(Option::is_none) {
        return Ok(plan);
    }
    let field_of = |name: &str| {
        let number: usize = name.strip_prefix('$')?.parse().ok()?;
        stated.get(number.checked_sub(1)?).cloned().flatten()
    };
    changed(plan, &|expr, _| {
        matches!(expr, Expr::Placeholder(it) if is_untold(it)) && restate(expr, &field_of)
    })
}

/// The field of a parameter that is of this type, or of another.
pub(super) fn guess(of: DataType) -> FieldRef {
    Arc::new(Field::new(OPEN, of, true))
}

/// What is known of the parameters of a plan.
#[derive(Default)]
struct Found {
    names: HashSet<String>,
    told: HashMap<String, FieldRef>,
    guessed: HashMap<String, FieldRef>,
    /// Whether each has one type, and has it everywhere.
    is_settled: bool,
}

impl Found {
    fn in_plan(plan: &LogicalPlan) -> Result<Found> {
        let mut found = Found { is_settled: true, ..Found::default() };
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    found.see(expr);
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(found)
    }

    fn see(&mut self, expr: &Expr) {
        match expr {
            Expr::Cast(cast) => {
                if let Expr::Placeholder(it) = cast.expr.as_ref()
                    && is_untold(it)
                {
                    self.told.entry(it.id.clone()).or_insert_with(|| taken(&cast.field));
                }
            }
            Expr::Placeholder(it) => self.note(it),
            _ => {}
        }
    }

    fn note(&mut self, it: &Placeholder) {
        if !self.names.contains(&it.id) {
            self.names.insert(it.id.clone());
        }
        let Some(field) = it.field.as_ref().filter(|_| !is_untold(it)) else {
            self.is_settled = false;
            return;
        };
        let known = if is_open(Some(field)) { &mut self.guessed } else { &mut self.told };
        let of = plain(field);
        let first = known.entry(it.id.clone()).or_insert_with(|| Arc::clone(&of));
        self.is_settled &= *first == of;
    }

    fn of(&self, name: &str) -> Option<FieldRef> {
        self.told.get(name).or_else(|| self.guessed.get(name)).cloned()
    }
}

/// Whether nothing has told a parameter's type: beside another of which nothing is known the engine
/// takes it for a NULL.
pub(super) fn is_untold(it: &Placeholder) -> bool {
    it.field.as_ref().is_none_or(|field| field.data_type().is_null())
}

/// What is given to be cast to `of`: a length or a precision is of the cast alone.
fn taken(of: &FieldRef) -> FieldRef {
    match Type::from_field(of) {
        Some(Type::Numeric(..)) => Arc::new(Field::new("", DataType::Decimal128(38, 10), true)),
        _ => plain(of),
    }
}

/// A type as a parameter has it, from a field of that type.
pub(super) fn plain(of: &FieldRef) -> FieldRef {
    let name = if is_open(Some(of)) { OPEN } else { "" };
    let data_type = match of.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    let field = Field::new(name, data_type, true);
    let declared = of
        .metadata()
        .get(TYPE_KEY)
        .filter(|_| matches!(Type::from_field(of), Some(Type::Uuid | Type::Json)));
    Arc::new(match declared {
        Some(declared) => {
            field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), declared.clone())]))
        }
        None => field,
    })
}

fn restate(expr: &mut Expr, field_of: &dyn Fn(&str) -> Option<FieldRef>) -> bool {
    let Expr::Placeholder(it) = expr else { return false };
    match field_of(&it.id) {
        Some(field) if it.field.as_ref() != Some(&field) => {
            it.field = Some(field);
            true
        }
        _ => false,
    }
}

/// The plan with each expression as `change` makes it, which says whether it did anything; what comes of
/// it above has its types then.
fn changed(
    plan: LogicalPlan,
    change: &dyn Fn(&mut Expr, &DFSchema) -> bool,
) -> Result<LogicalPlan> {
    let mut any = false;
    let plan = plan.transform_up_with_subqueries(|node| {
        if matches!(node, LogicalPlan::TableScan(_)) {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let alone = super::operands::of_node(&node);
        let node = node.map_expressions(|mut expr| {
            let name = names.save(&expr);
            let told = alone.as_ref().is_some_and(|of| super::operands::state(&mut expr, of));
            let expr = expr.transform_up(|mut expr| {
                let changed = change(&mut expr, &schema);
                Ok(Transformed::new_transformed(expr, changed))
            })?;
            any |= told || expr.transformed;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        match (any, node.data) {
            (true, LogicalPlan::Values(values)) => of_values(values).map(Transformed::yes),
            (true, LogicalPlan::Union(union)) => {
                crate::numeric::union_alike(union).map(Transformed::yes)
            }
            (true, other) => other.recompute_schema().map(Transformed::yes),
            (false, other) => Ok(Transformed::no(other)),
        }
    })?;
    Ok(plan.data)
}

/// A list of values of which some columns had no type until now. Others are of the type that their
/// table has.
fn of_values(values: Values) -> Result<LogicalPlan> {
    let Values { schema, values } = values;
    let nothing = DFSchema::empty();
    let fields = schema.iter().enumerate().map(|(place, (qualifier, field))| {
        let mut of = field.data_type().clone();
        if of.is_null() {
            let of_row = |row: &Vec<Expr>| row.get(place)?.get_type(&nothing).ok();
            of = values.iter().filter_map(of_row).find(|of| !of.is_null()).unwrap_or(of);
        }
        (qualifier.cloned(), Arc::new(field.as_ref().clone().with_data_type(of)))
    });
    let schema = DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())?;
    Ok(LogicalPlan::Values(Values { schema: Arc::new(schema), values }))
}
