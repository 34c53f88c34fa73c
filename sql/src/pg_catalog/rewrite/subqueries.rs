//! Subqueries over system tables that DataFusion does not plan.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Array, Expr, FunctionArgumentClause, FunctionArguments, LimitClause, OrderByKind, Query,
    Select, SelectItem, SetExpr, UnaryOperator, Value, VisitMut, VisitorMut, visit_expressions_mut,
};

use super::call;
use super::literals::{number, text};
use crate::pg_catalog::apply;
use crate::pg_catalog::scope::free_names;

/// A correlated scalar subquery over system tables becomes a call.
pub fn scalar(expr: &mut Expr) {
    let Expr::Subquery(query) = expr else {
        return;
    };
    if let Some(call) = applied(query, apply::SCALAR) {
        *expr = call;
    }
}

/// A correlated `EXISTS` over system tables among what a query gives becomes a call; as a
/// condition DataFusion plans it.
pub fn exists_in(select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let _whole = visit_expressions_mut::<_, (), _>(expr, |expr| {
                exists(expr);
                ControlFlow::Continue(())
            });
        }
    }
}

fn exists(expr: &mut Expr) {
    let Expr::Exists { subquery, negated } = expr else {
        return;
    };
    let mut query = Query::clone(subquery);
    let SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    let truth = |of: bool| Expr::Value(Value::Boolean(of).with_empty_span());
    select.projection = vec![SelectItem::UnnamedExpr(truth(true))];
    query.limit_clause = Some(LimitClause::LimitOffset {
        limit: Some(number(1)),
        offset: None,
        limit_by: Vec::new(),
    });
    if let Some(call_of) = applied(&query, apply::SCALAR) {
        let found = call("coalesce", vec![call_of, truth(false)]);
        *expr = match negated {
            true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) },
            false => found,
        };
    }
}

/// `ARRAY(SELECT …)`: a call where it is correlated over system tables, an aggregate elsewhere.
pub fn array(expr: &mut Expr) {
    let Expr::Function(function) = expr else {
        return;
    };
    let FunctionArguments::Subquery(query) = &function.args else {
        return;
    };
    if let Some(call) = applied(query, apply::ARRAY) {
        *expr = call;
    } else if let Some(aggregated) = aggregated(query) {
        let empty = Expr::Array(Array { elem: Vec::new(), named: true });
        *expr = call("coalesce", vec![Expr::Subquery(Box::new(aggregated)), empty]);
    }
}

fn applied(query: &Query, function: &str) -> Option<Expr> {
    let free = free_names(query)?;
    let mut query = query.clone();
    let mut parameters = Parameters { free: &free, outer: Vec::new() };
    let _whole = query.visit(&mut parameters);
    if parameters.outer.is_empty() {
        return None;
    }
    let mut arguments = vec![text(&query.to_string())];
    arguments.extend(parameters.outer);
    Some(call(function, arguments))
}

/// Puts parameters in place of the outer names, and of the statement's own parameters.
struct Parameters<'a> {
    free: &'a [Expr],
    outer: Vec<Expr>,
}

impl VisitorMut for Parameters<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let outer = match &*expr {
            // The cast tells the parameter's type.
            Expr::Cast { expr: inner, .. } => is_parameter(inner),
            other => is_parameter(other) || self.free.contains(other),
        };
        if outer {
            let at = match self.outer.iter().position(|it| it == expr) {
                Some(at) => at,
                None => {
                    self.outer.push(expr.clone());
                    self.outer.len().saturating_sub(1)
                }
            };
            let name = format!("${}", at.saturating_add(1));
            // Not an expression that is visited again: a value has no children.
            *expr = Expr::Value(Value::Placeholder(name).with_empty_span());
        }
        ControlFlow::Continue(())
    }
}

fn is_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

/// The query with its one column gathered into an array, in its order.
fn aggregated(query: &Query) -> Option<Query> {
    let mut query = query.clone();
    let limited = query.limit_clause.is_some() || query.fetch.is_some();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let grouped = select.distinct.is_some()
        || select.having.is_some()
        || !matches!(&select.group_by, sqlparser::ast::GroupByExpr::Expressions(it, _) if it.is_empty());
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
        select.projection.as_slice()
    else {
        return None;
    };
    if limited || grouped || query.with.is_some() {
        return None;
    }
    let item = item.clone();
    let mut clauses = Vec::new();
    if let Some(order_by) = query.order_by.take() {
        let OrderByKind::Expressions(mut keys) = order_by.kind else {
            return None;
        };
        for key in &mut keys {
            if key.expr == number(1) {
                key.expr = item.clone();
            }
        }
        clauses.push(FunctionArgumentClause::OrderBy(keys));
    }
    let mut gathered = call("array_agg", vec![item]);
    if let Expr::Function(function) = &mut gathered
        && let FunctionArguments::List(list) = &mut function.args
    {
        list.clauses = clauses;
    }
    select.projection = vec![SelectItem::UnnamedExpr(gathered)];
    query.limit_clause = None::<LimitClause>;
    Some(query)
}
