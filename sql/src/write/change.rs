//! `UPDATE`, `DELETE`, `MERGE` and `INSERT … ON CONFLICT` in one form, and the query that finds
//! their rows.
//!
//! # Why positions
//! The statement's conditions are planned and run as an ordinary query that also gives each row's
//! file and place in it; so joins and subqueries in them mean what they mean in a `SELECT`, and can
//! never come to mean "all rows".

use std::ops::ControlFlow;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::PolicyCommand;
use kho_catalog::state::Relation;
use kho_catalog::table::{FILE_COLUMN, ROW_COLUMN};
use kho_catalog::types::Type;
use sqlparser::ast;

use super::target::{internal, is_default};
use crate::bind;
use crate::secure;

/// The name of the table whose rows are changed, in the query that finds them.
pub(super) const ROWS: &str = "\u{1}rows";
/// A column of the joined source that is NULL where a row of the table has no partner in it.
pub(super) const PARTNER: &str = "\u{1}partner";

/// A statement that changes rows.
#[derive(Clone)]
pub(crate) struct Modification {
    pub target: ast::ObjectName,
    pub alias: Option<ast::Ident>,
    pub from: From,
    pub selection: Option<ast::Expr>,
    /// Of those whose condition holds, the first is done.
    pub clauses: Vec<Clause>,
    /// The command's tag.
    pub command: &'static str,
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// What the table is joined to.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a statement has one")]
pub(crate) enum From {
    /// `UPDATE … FROM`, `DELETE … USING`: a row found twice is changed once, by either.
    Beside(Vec<ast::TableWithJoins>),
    /// `MERGE … USING … ON`, `ON CONFLICT`: a row found twice is an error.
    Joined { source: ast::TableFactor, on: ast::Expr, outer: Outer },
}

/// Whose rows are kept though they have no partner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outer {
    Source,
    Both,
}

#[derive(Clone)]
pub(crate) struct Clause {
    pub when: When,
    pub condition: Option<ast::Expr>,
    pub act: Act,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Matched,
    NotMatched,
    NotMatchedBySource,
}

#[derive(Clone)]
pub(crate) enum Act {
    Update(Vec<(String, ast::Expr)>),
    Delete,
    Insert(Vec<(String, ast::Expr)>),
    /// Checked as if it were inserted, and then not: of a row that is in another's way nobody learns
    /// that from what is not checked.
    Propose(Vec<(String, ast::Expr)>),
    Nothing,
    /// The statement would affect this row twice.
    Fail,
}

/// A clause's act, with the places of new values among the query's columns, one for each column of
/// the table.
pub(super) enum Step {
    Update(Vec<usize>),
    Delete,
    Insert(Vec<usize>),
    Propose(Vec<usize>),
    Nothing,
    Fail,
}

/// The query for the rows to be changed: place, old values, the number of the clause to be done,
/// and the clauses' new values.
pub(super) struct RowQuery {
    pub query: ast::Query,
    pub steps: Vec<Step>,
}

impl Modification {
    /// The columns that are given new values in rows that were there.
    pub(crate) fn updated_columns(&self) -> impl Iterator<Item = &str> {
        self.clauses
            .iter()
            .flat_map(|clause| match &clause.act {
                Act::Update(assignments) => assignments.as_slice(),
                _ => &[],
            })
            .map(|(column, _)| column.as_str())
    }

    /// Whether what is done depends on stored values: then the count of rows tells of them, and
    /// the right to read those is needed besides the right to change, as in PostgreSQL.
    pub(super) fn looks_at_rows(&self) -> bool {
        let names_column = |expr: &ast::Expr| {
            let found = ast::visit_expressions(expr, |inner| match inner {
                ast::Expr::Identifier(_)
                | ast::Expr::CompoundIdentifier(_)
                | ast::Expr::Subquery(_)
                | ast::Expr::Exists { .. }
                | ast::Expr::InSubquery { .. } => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            found.is_break()
        };
        let is_beside = matches!(&self.from, From::Beside(others) if !others.is_empty());
        let values = self.clauses.iter().flat_map(|clause| match &clause.act {
            Act::Update(assignments) => assignments.as_slice(),
            _ => &[],
        });
        let values = values.map(|(_, value)| value).filter(|value| !is_default(value));
        is_beside
            || matches!(self.from, From::Joined { .. })
            || self.selection.iter().chain(values).any(names_column)
    }

    /// The same, for who asks what its parameters are: one that is a new value is of the type of its
    /// column.
    pub(super) fn with_typed_parameters(&self, relation: &Relation) -> Modification {
        let mut typed = self.clone();
        for clause in &mut typed.clauses {
            let (Act::Update(given) | Act::Insert(given)) = &mut clause.act else { continue };
            for (column, value) in given {
                if let Some(column) = relation.column(column) {
                    state_type(value, &column.data_type);
                }
            }
        }
        typed
    }

    /// Whether nothing is asked of the table's rows but whether their key is there: `ON CONFLICT DO
    /// NOTHING`, which adds no second row of a key, whoever may see the first.
    pub(super) fn asks_for_keys_alone(&self) -> bool {
        let inserts = |clause: &Clause| matches!(clause.act, Act::Insert(_) | Act::Propose(_));
        self.command == "INSERT" && self.clauses.iter().all(inserts)
    }

    /// What the table is called in the statement.
    pub(super) fn shown(&self) -> Result<ast::Ident> {
        match &self.alias {
            Some(alias) => Ok(alias.clone()),
            None => Ok(ast::Ident::with_quote('"', bind::object_name(&self.target)?.name)),
        }
    }

    /// The query over a table with `columns`; of those in `masked` the stored value has a name of its
    /// own.
    pub(super) fn row_query(
        &self,
        relation: &Relation,
        columns: &[String],
        masked: &[String],
    ) -> Result<RowQuery> {
        self.refuse_masked(masked)?;
        let shown = self.shown()?;
        let of_rows = |name: &str| column_of(&shown, name);
        let mut projection: Vec<ast::Expr> =
            [FILE_COLUMN, ROW_COLUMN].into_iter().map(of_rows).collect();
        projection.extend(columns.iter().map(|name| match masked.contains(name) {
            true => of_rows(&secure::stored_name(name)),
            false => of_rows(name),
        }));
        let number = self.number(&of_rows(FILE_COLUMN))?;
        projection.push(number.clone().unwrap_or(integer(0)));
        let mut steps = Vec::new();
        for (index, clause) in self.clauses.iter().enumerate() {
            let given = match &clause.act {
                Act::Update(given) | Act::Insert(given) | Act::Propose(given) => given,
                Act::Delete => {
                    steps.push(Step::Delete);
                    continue;
                }
                Act::Nothing => {
                    steps.push(Step::Nothing);
                    continue;
                }
                Act::Fail => {
                    steps.push(Step::Fail);
                    continue;
                }
            };
            refuse_unknown(given, relation, columns)?;
            let mut places = Vec::new();
            for (place, column) in columns.iter().enumerate() {
                let value = match given.iter().find(|(name, _)| name == column) {
                    Some((_, value)) if !is_default(value) => value.clone(),
                    None if matches!(clause.act, Act::Update(_)) => {
                        places.push(2 + place);
                        continue;
                    }
                    _ => default_of(relation, column)?,
                };
                places.push(projection.len());
                // Only where the clause is done: its values may fail on other rows.
                projection.push(match &number {
                    Some(number) => only_when(number, index, value)?,
                    None => value,
                });
            }
            steps.push(match &clause.act {
                Act::Update(_) => Step::Update(places),
                Act::Propose(_) => Step::Propose(places),
                _ => Step::Insert(places),
            });
        }
        Ok(RowQuery { query: self.select(projection, shown)?, steps })
    }

    /// A mask in a new value would be written over the data.
    fn refuse_masked(&self, masked: &[String]) -> Result<()> {
        if masked.is_empty() {
            return Ok(());
        }
        let shown = bind::folded(&self.shown()?);
        let is_masked = |expr: &ast::Expr| match expr {
            ast::Expr::Identifier(ident) => Some(bind::folded(ident)),
            ast::Expr::CompoundIdentifier(parts) => {
                let parts: Vec<String> = parts.iter().map(bind::folded).collect();
                match parts.as_slice() {
                    [.., table, column] if *table == shown => Some(column.clone()),
                    _ => None,
                }
            }
            _ => None,
        };
        let values = self.clauses.iter().flat_map(|clause| match &clause.act {
            Act::Update(given) | Act::Insert(given) | Act::Propose(given) => given.as_slice(),
            _ => &[],
        });
        for (_, value) in values {
            let found = ast::visit_expressions(value, |expr| match is_masked(expr) {
                Some(column) if masked.contains(&column) => ControlFlow::Break(column),
                _ => ControlFlow::Continue(()),
            });
            if let ControlFlow::Break(column) = found {
                let message = format!("column \"{column}\" is masked and cannot be a new value");
                return Err(Error::new(Kind::InsufficientPrivilege, message)
                    .with_detail("The mask would be written in place of the data."));
            }
        }
        Ok(())
    }

    /// The commands whose policies the rows must satisfy that this statement touches.
    pub(super) fn policy_commands(&self) -> Vec<PolicyCommand> {
        let mut commands = Vec::new();
        if self.looks_at_rows() || self.returning.is_some() {
            commands.push(PolicyCommand::Select);
        }
        // Of joined rows those that may be seen are found; what is done to them is checked then.
        if matches!(self.from, From::Beside(_)) {
            commands.extend(self.clauses.iter().filter_map(Clause::policy_command));
        }
        commands
    }

    /// Which clause is done, as an expression; `None` where it is always the first.
    fn number(&self, file: &ast::Expr) -> Result<Option<ast::Expr>> {
        if let (From::Beside(_), [Clause { condition: None, .. }]) =
            (&self.from, self.clauses.as_slice())
        {
            return Ok(None);
        }
        let of = |when: When| -> Result<ast::Expr> {
            let clauses = self.clauses.iter().enumerate().filter(|(_, it)| it.when == when);
            let branches: Vec<(ast::Expr, ast::Expr)> = clauses
                .map(|(index, clause)| {
                    let always = || ast::Expr::Value(ast::Value::Boolean(true).into());
                    (clause.condition.clone().unwrap_or_else(always), integer(index))
                })
                .collect();
            match branches.is_empty() {
                true => Ok(integer_null()),
                false => case(branches, None),
            }
        };
        let is_null = |expr: ast::Expr| ast::Expr::IsNull(Box::new(expr));
        let mut branches = vec![(is_null(file.clone()), of(When::NotMatched)?)];
        if let From::Joined { outer: Outer::Both, .. } = self.from {
            let partner = ast::Expr::Identifier(ast::Ident::with_quote('"', PARTNER));
            branches.push((is_null(partner), of(When::NotMatchedBySource)?));
        }
        case(branches, Some(of(When::Matched)?)).map(Some)
    }

    /// `SELECT … FROM …` from a parsed skeleton, which keeps every field of the tree that is not
    /// ours at its default.
    fn select(&self, projection: Vec<ast::Expr>, shown: ast::Ident) -> Result<ast::Query> {
        let skeleton = match &self.from {
            From::Beside(_) => "SELECT 1 FROM x AS y",
            From::Joined { outer: Outer::Source, .. } => "SELECT 1 FROM s LEFT JOIN x AS y ON true",
            From::Joined { outer: Outer::Both, .. } => "SELECT 1 FROM s FULL JOIN x AS y ON true",
        };
        let mut query = crate::parse::query(skeleton)?;
        let ast::SetExpr::Select(select) = query.body.as_mut() else {
            return Err(Error::internal("a template is no SELECT"));
        };
        select.projection = (projection.into_iter().enumerate())
            .map(|(index, expr)| match index {
                0 => aliased(expr, FILE_COLUMN),
                1 => aliased(expr, ROW_COLUMN),
                _ => aliased(expr, &format!("\u{1}{index}")),
            })
            .collect();
        let first = select.from.first_mut().ok_or_else(|| Error::internal("an empty template"))?;
        match &self.from {
            From::Beside(_) => name_rows(&mut first.relation, shown),
            From::Joined { source, on, .. } => {
                first.relation = source.clone();
                let join = first.joins.first_mut();
                let join = join.ok_or_else(|| Error::internal("a template without a join"))?;
                name_rows(&mut join.relation, shown);
                if let ast::JoinOperator::Left(constraint)
                | ast::JoinOperator::LeftOuter(constraint)
                | ast::JoinOperator::FullOuter(constraint) = &mut join.join_operator
                {
                    *constraint = ast::JoinConstraint::On(on.clone());
                }
            }
        }
        if let From::Beside(others) = &self.from {
            select.from.extend(others.iter().cloned());
        }
        select.selection = self.selection.clone();
        Ok(query)
    }
}

impl Clause {
    /// The command whose policies the rows that are there must satisfy.
    pub(super) fn policy_command(&self) -> Option<PolicyCommand> {
        match self.act {
            Act::Update(_) => Some(PolicyCommand::Update),
            Act::Delete => Some(PolicyCommand::Delete),
            Act::Insert(_) | Act::Propose(_) | Act::Nothing | Act::Fail => None,
        }
    }
}

/// What an assignment gives to which columns.
pub(super) fn assignments(list: &[ast::Assignment]) -> Result<Vec<(String, ast::Expr)>> {
    let mut assignments: Vec<(String, ast::Expr)> = Vec::new();
    for (column, value) in list.iter().map(assigned).collect::<Result<Vec<_>>>()?.concat() {
        if assignments.iter().any(|(known, _)| *known == column) {
            let message = format!("multiple assignments to same column \"{column}\"");
            return Err(Error::new(Kind::Syntax, message));
        }
        assignments.push((column, value));
    }
    Ok(assignments)
}

/// The name and alias of a table that is to be changed.
pub(super) fn single_table(
    table: &ast::TableFactor,
) -> Result<(ast::ObjectName, Option<ast::Ident>)> {
    match table {
        ast::TableFactor::Table {
            name, alias, args: None, version: None, sample: None, ..
        } => Ok((name.clone(), alias.as_ref().map(|alias| alias.name.clone()))),
        _ => Err(Error::unsupported("only a table's newest version can be changed")),
    }
}

pub(super) fn refuse(options: &[(bool, &str)]) -> Result<()> {
    match options.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(Error::unsupported(format!("{what} is not supported"))),
        None => Ok(()),
    }
}

pub(super) fn column_of(table: &ast::Ident, column: &str) -> ast::Expr {
    ast::Expr::CompoundIdentifier(vec![table.clone(), ast::Ident::with_quote('"', column)])
}

fn assigned(assignment: &ast::Assignment) -> Result<Vec<(String, ast::Expr)>> {
    let column = |name: &ast::ObjectName| bind::object_name(name).map(|name| name.name);
    match &assignment.target {
        ast::AssignmentTarget::ColumnName(name) => {
            Ok(vec![(column(name)?, assignment.value.clone())])
        }
        ast::AssignmentTarget::Tuple(names) => match &assignment.value {
            ast::Expr::Tuple(values) if values.len() == names.len() => names
                .iter()
                .map(column)
                .zip(values.iter().cloned())
                .map(|(name, value)| Ok((name?, value)))
                .collect(),
            _ => Err(Error::unsupported("a row can be assigned from a list of values only")),
        },
    }
}

fn refuse_unknown(
    given: &[(String, ast::Expr)],
    relation: &Relation,
    columns: &[String],
) -> Result<()> {
    match given.iter().find(|(name, _)| !columns.contains(name)) {
        Some((name, _)) => Err(Error::new(
            Kind::UndefinedColumn,
            format!("column \"{name}\" of relation \"{}\" does not exist", relation.name),
        )),
        None => Ok(()),
    }
}

fn default_of(relation: &Relation, column: &str) -> Result<ast::Expr> {
    match relation.column(column).and_then(|column| column.default.as_ref()) {
        Some(text) => crate::parse::expression(text.required()?),
        None => Ok(ast::Expr::Value(ast::Value::Null.into())),
    }
}

/// Says of a parameter what it is; of what cannot be said in SQL, nothing.
pub(super) fn state_type(value: &mut ast::Expr, of: &Type) {
    let is_parameter = matches!(
        value,
        ast::Expr::Value(it) if matches!(it.value, ast::Value::Placeholder(_))
    );
    if is_parameter
        && let Ok(mut stated) = crate::parse::expression(&format!("CAST(NULL AS {of})"))
        && let ast::Expr::Cast { expr, .. } = &mut stated
    {
        **expr = value.clone();
        *value = stated;
    }
}

fn name_rows(factor: &mut ast::TableFactor, shown: ast::Ident) {
    if let ast::TableFactor::Table { name, alias, .. } = factor {
        *name = internal(ROWS);
        if let Some(alias) = alias {
            alias.name = shown;
        }
    }
}

fn aliased(expr: ast::Expr, name: &str) -> ast::SelectItem {
    ast::SelectItem::ExprWithAlias { expr, alias: ast::Ident::with_quote('"', name) }
}

fn integer(number: usize) -> ast::Expr {
    ast::Expr::Value(ast::Value::Number(number.to_string(), false).into())
}

fn integer_null() -> ast::Expr {
    ast::Expr::Value(ast::Value::Null.into())
}

fn only_when(number: &ast::Expr, index: usize, value: ast::Expr) -> Result<ast::Expr> {
    let done = ast::Expr::BinaryOp {
        left: Box::new(ast::Expr::Nested(Box::new(number.clone()))),
        op: ast::BinaryOperator::Eq,
        right: Box::new(integer(index)),
    };
    case(vec![(done, value)], None)
}

/// `CASE WHEN … THEN … ELSE … END`.
fn case(branches: Vec<(ast::Expr, ast::Expr)>, other: Option<ast::Expr>) -> Result<ast::Expr> {
    let mut expr = crate::parse::expression("CASE WHEN true THEN 1 END")?;
    let ast::Expr::Case { conditions, else_result, .. } = &mut expr else {
        return Err(Error::internal("a template is no CASE"));
    };
    *conditions = (branches.into_iter())
        .map(|(condition, result)| ast::CaseWhen { condition, result })
        .collect();
    *else_result = other.map(Box::new);
    Ok(expr)
}
