//! Plain functions with clauses that aggregates and windows have.
//!
//! # Why
//! The planner passes over them: `lower(x) FILTER (WHERE false)` would be `lower(x)`.
//! On failure: `42809`, as in PostgreSQL.

use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, Statement,
    Visit, Visitor,
};

/// Refuses a plain function of `session` that has such a clause.
pub(super) fn refuse_clauses(session: &SessionState, statement: &Statement) -> Result<()> {
    match statement.visit(&mut Plain { session }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Plain<'a> {
    session: &'a SessionState,
}

impl Visitor for Plain<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        if let Expr::Function(function) = expr
            && let Some(what) = clause(function)
            && let Some(name) = self.plain(function)
        {
            let kind = match what {
                "OVER" => "a window function nor an aggregate function",
                _ => "an aggregate function",
            };
            let message = format!("{what} specified, but {name} is not {kind}");
            return ControlFlow::Break(Error::new(Kind::WrongObjectType, message));
        }
        ControlFlow::Continue(())
    }
}

impl Plain<'_> {
    /// The function's name, where it is neither an aggregate nor one of windows.
    fn plain(&self, function: &Function) -> Option<String> {
        let name = function.name.to_string().to_lowercase();
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name).to_owned();
        let is_other = self.session.aggregate_functions().contains_key(&name)
            || self.session.window_functions().contains_key(&name);
        (!is_other && self.session.scalar_functions().contains_key(&name)).then_some(name)
    }
}

/// The first such clause.
fn clause(function: &Function) -> Option<&'static str> {
    let list = match &function.args {
        FunctionArguments::List(list) => Some(list),
        _ => None,
    };
    let is_distinct =
        list.is_some_and(|it| it.duplicate_treatment == Some(DuplicateTreatment::Distinct));
    let is_ordered = list.is_some_and(|it| {
        it.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)))
    });
    if function.over.is_some() {
        Some("OVER")
    } else if function.filter.is_some() {
        Some("FILTER")
    } else if !function.within_group.is_empty() {
        Some("WITHIN GROUP")
    } else if is_distinct {
        Some("DISTINCT")
    } else if is_ordered {
        Some("ORDER BY")
    } else {
        None
    }
}
