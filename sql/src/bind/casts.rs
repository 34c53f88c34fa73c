//! Two casts of one expression, told apart while the planner makes a plan of them.
//!
//! # Why
//! The engine names an expression by what is cast and not by the cast, and of two columns of one name it
//! takes neither: `sum(n), sum(n::float8)`, or `GROUP BY at, at::date`, which tools for charts write.
//! What it guarantees: of a SELECT that has two such, each cast stands, while it is planned, in a call of
//! [`Told`] that says its type. [`settled`] takes the calls out again; what is called by them keeps the name.
//! What it does not: a SELECT without two such is not changed, nor are casts of literals and parameters,
//! whose type is inferred.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr as engine;
use datafusion::logical_expr::{
    ColumnarValue, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, ObjectName, OrderByKind, Query, Select, SelectItem,
    SetExpr, Statement, Value, Visit, VisitMut, Visitor, VisitorMut,
};

use super::spelling::called;

/// What the call is named by; in no text that parses.
const TOLD: &str = "\u{3}cast";

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Told::default().into()));

/// Tells casts apart in each SELECT of `statement` that has two of one name; whether there was one.
pub(super) fn tell_apart(statement: &mut Statement) -> bool {
    let mut queries = EachQuery { any: false };
    let _whole = VisitMut::visit(statement, &mut queries);
    queries.any
}

/// The function by which casts are told apart, where `name` is its.
pub(super) fn function(name: &str) -> Option<Arc<ScalarUDF>> {
    (name == TOLD).then(|| Arc::clone(&FUNCTION))
}

/// `plan` without the calls.
pub(super) fn settled(plan: LogicalPlan) -> Result<LogicalPlan> {
    crate::numeric::rewrite(plan, &|expr, _| match expr {
        engine::Expr::ScalarFunction(mut call) if call.func.name() == TOLD => {
            Ok(Transformed::yes(call.args.swap_remove(0)))
        }
        other => Ok(Transformed::no(other)),
    })
}

struct EachQuery {
    any: bool,
}

impl VisitorMut for EachQuery {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut sorted: Vec<&mut Expr> = Vec::new();
        if let Some(by) = &mut query.order_by
            && let OrderByKind::Expressions(by) = &mut by.kind
        {
            sorted = by.iter_mut().map(|it| &mut it.expr).collect();
        }
        self.any |= in_each_select(&mut query.body, sorted);
        ControlFlow::Continue(())
    }
}

/// The sorting of a query can name what its SELECT computes, if it is of one.
fn in_each_select(body: &mut SetExpr, sorted: Vec<&mut Expr>) -> bool {
    match body {
        SetExpr::Select(select) => in_select(select, sorted),
        SetExpr::SetOperation { left, right, .. } => {
            in_each_select(left, Vec::new()) | in_each_select(right, Vec::new())
        }
        // Another query is visited by itself.
        _ => false,
    }
}

fn in_select(select: &mut Select, sorted: Vec<&mut Expr>) -> bool {
    let mut of_it = sorted;
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            of_it.push(expr);
        }
    }
    if let GroupByExpr::Expressions(by, _) = &mut select.group_by {
        of_it.extend(by);
    }
    if let Some(Distinct::On(on)) = &mut select.distinct {
        of_it.extend(on);
    }
    of_it.extend(&mut select.having);
    // Most have no cast at all.
    if !of_it.iter().any(|expr| has_cast(expr)) {
        return false;
    }
    let mut names = Names::default();
    for expr in &of_it {
        names.add(expr);
        let _whole = Visit::visit(&**expr, &mut names);
    }
    if names.collide {
        for expr in of_it {
            let _whole = VisitMut::visit(expr, &mut Wrapping { depth: 0 });
        }
    }
    names.collide
}

/// What the engine would name groups and calls by, and what each really is.
#[derive(Default)]
struct Names {
    by_name: HashMap<String, String>,
    depth: usize,
    collide: bool,
}

impl Names {
    fn add(&mut self, expr: &Expr) {
        // The engine's names are of what is meant: one column has many spellings.
        let mut bare = expr.clone();
        let _whole = VisitMut::visit(&mut bare, &mut Plain);
        let real = bare.to_string();
        let mut casts = Bare { any: false };
        let _whole = VisitMut::visit(&mut bare, &mut casts);
        let name = if casts.any { bare.to_string() } else { real.clone() };
        let first = self.by_name.entry(name).or_insert_with(|| real.clone());
        self.collide |= *first != real;
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            _ if self.depth > 0 => {}
            Expr::Function(_) => self.add(expr),
            // What a set computes stands beside all that it could be made of.
            Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => {
                self.collide |= sets.iter().flatten().any(has_cast);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn has_cast(expr: &Expr) -> bool {
    struct Casts;
    impl Visitor for Casts {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Cast { expr, .. } if !is_value(expr) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(expr, &mut Casts).is_break()
}

/// Spells every column and every function in one way: without tables, quotes and brackets.
struct Plain;

impl VisitorMut for Plain {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Nested(inner) => *expr = (**inner).clone(),
            Expr::Identifier(it) => *it = Ident::new(super::folded(it)),
            Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.last() {
                    *expr = Expr::Identifier(Ident::new(super::folded(last)));
                }
            }
            Expr::Function(it) => {
                it.name = ObjectName::from(vec![Ident::new(it.name.to_string().to_lowercase())]);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Takes casts away.
struct Bare {
    any: bool,
}

impl VisitorMut for Bare {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr: inner, .. } = expr
            && !is_value(inner)
        {
            *expr = (**inner).clone();
            self.any = true;
        }
        ControlFlow::Continue(())
    }
}

struct Wrapping {
    depth: usize,
}

impl VisitorMut for Wrapping {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Cast { expr: inner, data_type, .. } = &*expr
            && !is_value(inner)
        {
            // One type has many names, and whoever groups by one may show another.
            let to = match super::sql_type(data_type) {
                Ok(of) => format!("{of:?}"),
                Err(_) => data_type.to_string(),
            };
            let to = Expr::Value(Value::SingleQuotedString(to).into());
            *expr = called(TOLD, [expr.clone(), to]);
        }
        ControlFlow::Continue(())
    }
}

fn is_value(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_value(inner),
        other => matches!(other, Expr::Value(_)),
    }
}

/// What is cast, and its type as text: the name is of both. Never computed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Told {
    signature: Signature,
}

impl Default for Told {
    fn default() -> Self {
        Told { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Told {
    fn name(&self) -> &str {
        TOLD
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, of: &[DataType]) -> Result<DataType> {
        match of.first() {
            Some(of) => Ok(of.clone()),
            None => plan_err!("a cast that is told apart has none"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields.first() {
            Some(of) => Ok(Arc::clone(of)),
            None => plan_err!("a cast that is told apart has none"),
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("a cast that is told apart is not computed")
    }
}
