//! Windows by their names.
//!
//! # Why
//! The planner knows `OVER w`, and passes over the name in `OVER (w ROWS …)` and in `w2 AS (w ORDER BY …)`:
//! its partitions and its order would be lost.
//! What it guarantees: every window says all that it is. What a window adds to another one is what
//! PostgreSQL lets it add: an order where there is none, and a frame.
//! On failure: `42704` for a window that is not there, `42P20` for one that cannot be added to.

use std::ops::ControlFlow;

use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast::{
    Expr, Ident, NamedWindowExpr, OrderByKind, Query, Select, SetExpr, Statement, VisitMut,
    VisitorMut, WindowSpec, WindowType,
};

use super::folded;

/// Writes each window of `statement` out.
pub(super) fn written_out(statement: &mut Statement) -> Result<()> {
    match statement.visit(&mut EachQuery) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct EachQuery;

impl VisitorMut for EachQuery {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let mut sorted: Vec<&mut Expr> = Vec::new();
        if let Some(by) = &mut query.order_by
            && let OrderByKind::Expressions(by) = &mut by.kind
        {
            sorted = by.iter_mut().map(|it| &mut it.expr).collect();
        }
        match in_body(&mut query.body, sorted) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn in_body(body: &mut SetExpr, sorted: Vec<&mut Expr>) -> Result<()> {
    match body {
        SetExpr::Select(select) => in_select(select, sorted),
        SetExpr::SetOperation { left, right, .. } => {
            in_body(left, Vec::new())?;
            in_body(right, Vec::new())
        }
        // Another query is visited by itself.
        _ => Ok(()),
    }
}

fn in_select(select: &mut Select, sorted: Vec<&mut Expr>) -> Result<()> {
    let mut known = Named(Vec::new());
    for definition in std::mem::take(&mut select.named_window) {
        let spec = match definition.1 {
            NamedWindowExpr::NamedWindow(other) => known.find(&other)?.clone(),
            NamedWindowExpr::WindowSpec(spec) => known.whole(spec)?,
        };
        let name = folded(&definition.0);
        if known.0.iter().any(|(it, _)| *it == name) {
            return Err(refused(format!("window \"{name}\" is already defined")));
        }
        known.0.push((name, spec));
    }
    match everywhere(select, sorted, &mut InSelect { known, depth: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Where windows can be: in what is given, and in what that is sorted by.
fn everywhere(
    select: &mut Select,
    sorted: Vec<&mut Expr>,
    pass: &mut InSelect,
) -> ControlFlow<Error> {
    for item in &mut select.projection {
        item.visit(pass)?;
    }
    if let Some(qualify) = &mut select.qualify {
        qualify.visit(pass)?;
    }
    for by in sorted {
        by.visit(pass)?;
    }
    ControlFlow::Continue(())
}

/// Windows that a SELECT names, each whole.
struct Named(Vec<(String, WindowSpec)>);

impl Named {
    fn find(&self, name: &Ident) -> Result<&WindowSpec> {
        let name = folded(name);
        let found = self.0.iter().find(|(it, _)| *it == name).map(|(_, spec)| spec);
        let missing = || format!("window \"{name}\" does not exist");
        found.ok_or_else(|| Error::new(Kind::UndefinedObject, missing()))
    }

    /// `spec` with what it takes from the window that it begins with.
    fn whole(&self, mut spec: WindowSpec) -> Result<WindowSpec> {
        let Some(name) = spec.window_name.take() else { return Ok(spec) };
        let of = self.find(&name)?;
        let name = folded(&name);
        if !spec.partition_by.is_empty() {
            let message = format!("cannot override PARTITION BY clause of window \"{name}\"");
            return Err(refused(message));
        }
        if !spec.order_by.is_empty() && !of.order_by.is_empty() {
            let message = format!("cannot override ORDER BY clause of window \"{name}\"");
            return Err(refused(message));
        }
        if of.window_frame.is_some() {
            let message = format!("cannot copy window \"{name}\" because it has a frame clause");
            return Err(refused(message));
        }
        spec.partition_by.clone_from(&of.partition_by);
        if spec.order_by.is_empty() {
            spec.order_by.clone_from(&of.order_by);
        }
        Ok(spec)
    }
}

/// Writes out the windows of one SELECT, not those of queries within it.
struct InSelect {
    known: Named,
    depth: usize,
}

impl VisitorMut for InSelect {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let whole = match function.over.take() {
            None => return ControlFlow::Continue(()),
            Some(WindowType::NamedWindow(name)) => self.known.find(&name).cloned(),
            Some(WindowType::WindowSpec(spec)) => self.known.whole(spec),
        };
        match whole {
            Ok(spec) => {
                function.over = Some(WindowType::WindowSpec(spec));
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(Kind::Windowing, message)
}
