//! Conditions that ask subqueries, in three values.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{
    BinaryExpr, Case, Exists, InSubquery, SetComparison, SetQuantifier,
};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, Subquery, lit};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::Error;

use super::set::{Set, counted, distinct_or_not, of};
use super::{asks, correlated};
use crate::errors::to_engine;

/// What is made of an answer that is not known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It stays.
    Null,
    /// Whoever asks takes NULL for false, as `WHERE` does.
    False,
    /// Whoever asks takes NULL for true: it stands under `NOT` in a `WHERE`.
    True,
}

impl Unknown {
    fn negated(self) -> Unknown {
        match self {
            Unknown::Null => Unknown::Null,
            Unknown::False => Unknown::True,
            Unknown::True => Unknown::False,
        }
    }
}

/// Where an expression stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a filter, where the engine makes joins of `EXISTS`.
    Condition,
    /// Among values, where it makes joins of subqueries that give one value.
    Value,
}

/// What an expression sees.
pub(super) struct Within<'a> {
    pub schema: &'a DFSchema,
    pub place: Place,
}

/// `value operator ANY (subquery)`, or not.
struct Member {
    value: Expr,
    operator: Operator,
    subquery: Subquery,
    negated: bool,
}

impl Within<'_> {
    /// The predicate of a filter.
    pub(super) fn predicate(&self, predicate: Expr) -> Result<Expr> {
        let parts = split_conjunction_owned(predicate).into_iter();
        let parts: Vec<Expr> = parts.map(|it| self.conjunct(it)).collect::<Result<_>>()?;
        Ok(conjunction(parts).unwrap_or_else(|| lit(true)))
    }

    fn conjunct(&self, part: Expr) -> Result<Expr> {
        if !asks(&part)? {
            return Ok(part);
        }
        let (bare, negated) = bare(part);
        let is_member = matches!(bare, Expr::InSubquery(_) | Expr::SetComparison(_));
        if !is_member {
            let part = if negated { Expr::Not(Box::new(bare)) } else { bare };
            return self.value(part, Unknown::False);
        }
        let mut member = self.member(bare)?;
        member.negated ^= negated;
        if !is_joined_rightly(&member)? {
            return self.answer(member, Unknown::False);
        }
        let Member { value, subquery, negated, .. } = member;
        let subquery = Set::new(subquery)?.in_one_column()?;
        Ok(Expr::InSubquery(InSubquery { expr: Box::new(value), subquery, negated }))
    }

    /// `expr` with PostgreSQL's answers.
    pub(super) fn value(&self, expr: Expr, unknown: Unknown) -> Result<Expr> {
        let boxed = |it: Box<Expr>, unknown| self.value(*it, unknown).map(Box::new);
        match expr {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: op @ (Operator::And | Operator::Or),
                right,
            }) => {
                let (left, right) = (boxed(left, unknown)?, boxed(right, unknown)?);
                Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::Not(it) => boxed(it, unknown.negated()).map(Expr::Not),
            Expr::IsTrue(it) => boxed(it, Unknown::False).map(Expr::IsTrue),
            Expr::IsNotTrue(it) => boxed(it, Unknown::False).map(Expr::IsNotTrue),
            Expr::IsFalse(it) => boxed(it, Unknown::True).map(Expr::IsFalse),
            Expr::IsNotFalse(it) => boxed(it, Unknown::True).map(Expr::IsNotFalse),
            Expr::Case(Case { expr: None, when_then_expr, else_expr }) => {
                let when_then = when_then_expr.into_iter();
                let when_then_expr = when_then
                    .map(|(when, then)| Ok((boxed(when, Unknown::False)?, boxed(then, unknown)?)))
                    .collect::<Result<_>>()?;
                let else_expr = else_expr.map(|it| boxed(it, unknown)).transpose()?;
                Ok(Expr::Case(Case { expr: None, when_then_expr, else_expr }))
            }
            Expr::InSubquery(_) | Expr::SetComparison(_) => {
                self.answer(self.member(expr)?, unknown)
            }
            Expr::Exists(it) => self.exists(it),
            Expr::ScalarSubquery(it) => {
                correlated::require_value(&it.subquery)?;
                Ok(Expr::ScalarSubquery(it))
            }
            other => {
                let of_part = |part| self.value(part, Unknown::Null).map(Transformed::yes);
                other.map_children(of_part).map(|it| it.data)
            }
        }
    }

    fn member(&self, expr: Expr) -> Result<Member> {
        let member = match expr {
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                Member { value: *expr, operator: Operator::Eq, subquery, negated }
            }
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
                use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
                let known = matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq);
                // For all of them it holds where it fails for none.
                let (operator, negated) = match (quantifier, op.negate().filter(|_| known)) {
                    (SetQuantifier::Any, Some(_)) => (op, false),
                    (SetQuantifier::All, Some(opposite)) => (opposite, true),
                    (_, None) => return Err(unsupported(&format!("{op} ANY over a subquery"))),
                };
                Member { value: *expr, operator, subquery, negated }
            }
            _ => return Err(to_engine(Error::internal("not a question about a subquery"))),
        };
        let value = self.value(member.value, Unknown::Null)?;
        Ok(Member { value, ..member })
    }

    fn answer(&self, member: Member, unknown: Unknown) -> Result<Expr> {
        let Member { value, operator, subquery, negated } = member;
        let unknown = if negated { unknown.negated() } else { unknown };
        let set = Set::new(subquery)?;
        let answer = match set.one_row() {
            Some(row) => {
                correlated::require_value(&row.subquery)?;
                let row = Expr::ScalarSubquery(row);
                Expr::BinaryExpr(BinaryExpr::new(Box::new(value), operator, Box::new(row)))
            }
            None => self.among(&set, value, operator, unknown)?,
        };
        Ok(if negated { Expr::Not(Box::new(answer)) } else { answer })
    }

    fn among(&self, set: &Set, value: Expr, operator: Operator, unknown: Unknown) -> Result<Expr> {
        let value = set.like_its_rows(value);
        if asks_outer_row(&value)? {
            return Err(unsupported("a subquery that is compared with the rows of another one"));
        }
        if value.contains_outer() {
            return Err(unsupported(
                "a value of the outer row that is compared with the rows of a subquery within \
                 another",
            ));
        }
        set.require_sound(&value)?;
        let found = set.any(operator, &value, self)?;
        if unknown == Unknown::False {
            return Ok(found);
        }
        let mut unknowns: Option<Expr> = None;
        if value.nullable(self.schema).unwrap_or(true) {
            let unknown_value = Expr::IsNull(Box::new(value));
            unknowns = Some(unknown_value.and(set.any_row(self)?));
        }
        if set.has_nulls() {
            let null = set.any_null(self)?;
            unknowns = Some(match unknowns {
                Some(others) => others.or(null),
                None => null,
            });
        }
        let Some(unknowns) = unknowns else { return Ok(found) };
        set.require_lasting()?;
        Ok(match unknown {
            Unknown::True => found.or(unknowns),
            _ => Expr::Case(Case {
                expr: None,
                when_then_expr: vec![
                    (Box::new(found), Box::new(lit(true))),
                    (Box::new(unknowns), Box::new(lit(ScalarValue::Boolean(None)))),
                ],
                else_expr: Some(Box::new(lit(false))),
            }),
        })
    }

    fn exists(&self, Exists { subquery, negated }: Exists) -> Result<Expr> {
        let rows = correlated::rows(&subquery.subquery)?;
        if self.place == Place::Condition {
            let subquery = match correlated::is(rows) {
                true => of(distinct_or_not(rows).clone()),
                false => subquery,
            };
            return Ok(Expr::Exists(Exists { subquery, negated }));
        }
        let found = counted(distinct_or_not(rows).clone())?;
        Ok(if negated { Expr::Not(Box::new(found)) } else { found })
    }
}

/// `expr` without what says that it does not hold, and whether that was said.
fn bare(mut expr: Expr) -> (Expr, bool) {
    let mut negated = false;
    while let Expr::Not(inner) = expr {
        negated = !negated;
        expr = *inner;
    }
    (expr, negated)
}

/// Whether the engine makes a join of it that gives the right rows, as a whole condition.
fn is_joined_rightly(member: &Member) -> Result<bool> {
    let plan = &member.subquery.subquery;
    let of_outer = member.value.contains_outer() || asks_outer_row(&member.value)?;
    if member.operator != Operator::Eq || of_outer {
        return Ok(false);
    }
    if correlated::is(plan) {
        let is_apart = correlated::require_apart(plan, None).is_ok();
        return Ok(!member.negated && is_apart && correlated::require(plan).is_ok());
    }
    // Of other expressions it does not ask whether they can be NULL, but whether their columns can.
    let of_column = match &member.value {
        Expr::Cast(it) => it.expr.as_ref(),
        other => other,
    };
    Ok(!member.negated || matches!(of_column, Expr::Column(_)))
}

/// Whether it has a subquery of its own that the engine makes a join of.
fn asks_outer_row(value: &Expr) -> Result<bool> {
    value.exists(|part| {
        Ok(match part {
            Expr::ScalarSubquery(it) => correlated::is(&it.subquery),
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => true,
            _ => false,
        })
    })
}

fn unsupported(what: &str) -> datafusion::error::DataFusionError {
    to_engine(Error::unsupported(format!("{what} is not supported")))
}
