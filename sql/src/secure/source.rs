//! What a role sees of a table, as a query over it.
//!
//! What it is: the policies and masks that hold are written, with columns by their ids, into
//! `SELECT <masks> FROM <table> WHERE <policies>`, and that is bound like any query, by the role
//! whose rights count: so subqueries over other tables mean what they mean everywhere, policies of
//! those tables included.
//! What it guarantees: without a permissive policy for the role there is no row. Two different masks
//! on one column leave NULL. A column that a policy names and the table's version lacks refuses the
//! query; a policy that comes back to its own table is `42P17`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr as PlanExpr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::{self, Applied, Policy, PolicyCommand};
use kho_catalog::state::{Column, Relation};
use kho_catalog::types::COLUMN_ID_KEY;
use sqlparser::ast;

use super::{Secured, guarded, infallible, lasting, stored_name};
use crate::bind;
use crate::errors::from_engine;
use crate::scope::{Governing, Scope};
use crate::system::pseudonym::{HASH, PSEUDONYM};

/// The names of the table in its own query: no user can write them.
const STORED: &str = "\u{1}stored";
const NUMBERED: &str = "\u{1}numbered";

/// A table's columns, and who looks at them.
pub(super) struct Source<'a> {
    scope: &'a Scope,
    /// Whose policies and masks hold, and those.
    rules: Governing,
    /// What the files have: `id` is `None` for a column that is not the table's own.
    columns: Vec<(Field, Option<u32>)>,
    with_stored: bool,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        scope: &'a Scope,
        relation: &Relation,
        provider: &Arc<dyn TableProvider>,
    ) -> Source<'a> {
        let fields = provider.schema().fields().clone();
        let column = |field: &Arc<Field>| (field.as_ref().clone(), column_id(relation, field));
        let columns = fields.iter().map(column).collect();
        let rules = scope.governing(relation);
        Source { scope, rules, columns, with_stored: false }
    }

    /// The same, with the stored values beside masked ones.
    pub(super) fn with_stored(mut self) -> Source<'a> {
        self.with_stored = true;
        self
    }

    /// The rows that satisfy the policies for each of `commands`, masked.
    pub(super) async fn secured(
        self,
        session: &SessionState,
        provider: Arc<dyn TableProvider>,
        commands: &[PolicyCommand],
    ) -> Result<Secured> {
        let filter = self.filter(commands)?;
        let masks = self.masks()?;
        if filter.is_none() && masks.is_empty() {
            return Ok(Secured { provider, reads: Vec::new() });
        }
        let size = super::plain::size_of(&datafusion::datasource::provider_as_source(Arc::clone(
            &provider,
        )));
        let statement = self.query(filter, &masks)?;
        let scope = self.scope.within_policy_of(&self.rules.relation)?;
        let extra = vec![(STORED.to_owned(), provider)];
        let (plan, reads) = bind::within(&scope, session, statement, extra, 0).await?;
        let plan = self.typed(plan)?;
        let lasts = lasting::of_policies(&plan);
        let plan = infallible::folded(session, plan)?;
        let schema = self.described(&plan);
        let known = guarded::Known {
            name: &self.rules.relation.name,
            relation: Some(self.rules.relation.oid),
            size,
            estimates: !self.scope.explains,
            lasts,
        };
        let provider = guarded::guarded(known, plan, schema)?;
        Ok(Secured { provider, reads })
    }

    /// What rows must satisfy; `None` where every row may be seen.
    fn filter(&self, commands: &[PolicyCommand]) -> Result<Option<ast::Expr>> {
        let Governing { state, relation, who, .. } = &self.rules;
        let mut all: Option<ast::Expr> = None;
        for command in commands {
            let Some(applied) = policy::applied(state, relation, who, *command) else {
                continue;
            };
            note(self.scope, relation, &applied);
            let mut one = any(applied.permissive.iter().map(|it| using(it)))?;
            for policy in applied.restrictive {
                one = both(one, using(policy)?);
            }
            all = Some(match all {
                Some(all) => both(all, one),
                None => one,
            });
        }
        Ok(all)
    }

    /// What stands in place of each masked column, by its place.
    fn masks(&self) -> Result<BTreeMap<usize, ast::Expr>> {
        let Governing { state, relation, session, .. } = &self.rules;
        let mut masks = BTreeMap::new();
        for (place, (_, id)) in self.columns.iter().enumerate() {
            let Some(column) = id.and_then(|id| self.known(id)) else { continue };
            let found = policy::masks(state, relation, column, session);
            let mask = match found.as_slice() {
                [] => continue,
                [mask] => masked(mask.using.required()?, column.id)?,
                _ => ast::Expr::Value(ast::Value::Null.into()),
            };
            let name = &column.name;
            self.scope.facts.mask(format!("{name} of {}", full_name(self.scope, relation)));
            masks.insert(place, mask);
        }
        Ok(masks)
    }

    /// The column with this id, also one that was dropped since.
    fn known(&self, id: u32) -> Option<&Column> {
        let dropped = self.rules.relation.table().map(|table| table.dropped.as_slice());
        let mut columns = self.rules.relation.columns.iter().chain(dropped.unwrap_or_default());
        columns.find(|column| column.id == id)
    }

    fn query(
        &self,
        filter: Option<ast::Expr>,
        masks: &BTreeMap<usize, ast::Expr>,
    ) -> Result<ast::Statement> {
        let named = |place: usize, id: Option<u32>| match id {
            Some(id) => policy::column_name(id),
            None => format!("\u{1}of {place}"),
        };
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        for (place, (field, id)) in self.columns.iter().enumerate() {
            let numbered = quoted(&named(place, *id));
            inner.push(alias(quoted(field.name()), &named(place, *id)));
            match masks.get(&place) {
                Some(mask) => {
                    outer.push(alias(mask.clone(), field.name()));
                    if self.with_stored {
                        outer.push(alias(numbered, &stored_name(field.name())));
                    }
                }
                None => outer.push(alias(numbered, field.name())),
            }
        }
        skeleton(inner, outer, filter)
    }

    /// The fields of the plan, with what is said of the table's columns: their ids and types.
    fn described(&self, plan: &LogicalPlan) -> SchemaRef {
        let fields = plan.schema().fields().iter().map(|field| {
            let of = |(known, _): &&(Field, Option<u32>)| {
                known.name() == field.name() || stored_name(known.name()) == *field.name()
            };
            let known = self.columns.iter().find(of).map(|(known, _)| known.metadata().clone());
            field.as_ref().clone().with_metadata(known.unwrap_or_default())
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The plan with the types of the columns as they are stored, and what is said of them.
    fn typed(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let schema = Arc::clone(plan.schema());
        let wanted = |name: &String| self.columns.iter().find(|(field, _)| field.name() == name);
        let mut columns = Vec::new();
        for (qualifier, field) in schema.iter() {
            let column = PlanExpr::from((qualifier, field));
            let wanted = wanted(field.name()).map(|(wanted, _)| wanted.data_type());
            columns.push(match wanted {
                Some(of) if of != field.data_type() => {
                    let cast = column.cast_to(of, schema.as_ref()).map_err(from_engine)?;
                    cast.alias(field.name())
                }
                _ => column,
            });
        }
        let plan = LogicalPlanBuilder::from(plan).project(columns);
        plan.and_then(LogicalPlanBuilder::build).map_err(from_engine)
    }
}

/// Tells the ledger which policies decided.
pub(super) fn note(scope: &Scope, relation: &Relation, applied: &Applied<'_>) {
    let table = full_name(scope, relation);
    for policy in applied.permissive.iter().chain(&applied.restrictive) {
        scope.facts.policy(format!("{} on {table}", policy.name));
    }
}

fn full_name(scope: &Scope, relation: &Relation) -> String {
    crate::command::depend::full_name(&scope.state, relation)
}

/// The query for the values of `items`, which name columns of `relation` by their ids, over rows of
/// `table`, and what its tables are.
pub(super) fn over_numbered(
    relation: &Relation,
    table: Arc<dyn TableProvider>,
    items: Vec<ast::Expr>,
) -> Result<(ast::Statement, bind::Extra)> {
    let numbered = |field: &Arc<Field>| {
        let id = column_id(relation, field)?;
        Some(alias(quoted(field.name()), &policy::column_name(id)))
    };
    let inner = table.schema().fields().iter().filter_map(numbered).collect();
    let named = |(place, item)| alias(item, &format!("\u{1}{place}"));
    let outer = items.into_iter().enumerate().map(named).collect();
    Ok((skeleton(inner, outer, None)?, vec![(STORED.to_owned(), table)]))
}

/// An expression of a new policy or mask in the form that is kept: columns of `relation` by their
/// ids, so that renaming one frees nothing.
///
/// # Errors
/// `42703` for a column that is not there.
pub(crate) fn in_terms_of_ids(expression: &ast::Expr, relation: &Relation) -> Result<ast::Expr> {
    let mut expression = expression.clone();
    let mut depth = 0_usize;
    let mut pass = Renaming {
        depth: &mut depth,
        name: &mut |parts: &[String], nested| match parts {
            [column] if !nested => id_of(relation, column).map(Some),
            [table, column] if *table == relation.name => id_of(relation, column).map(Some),
            _ => Ok(None),
        },
    };
    match ast::VisitMut::visit(&mut expression, &mut pass) {
        ControlFlow::Continue(()) => Ok(expression),
        ControlFlow::Break(error) => Err(error),
    }
}

/// A kept expression with the names of now, to be shown.
pub(crate) fn in_terms_of_names(text: &str, relation: &Relation) -> Result<String> {
    let mut expression = crate::parse::expression(text)?;
    let name_of = |number: &str| -> Option<String> {
        let id: u32 = number.strip_prefix('\u{1}')?.parse().ok()?;
        Some(relation.columns.iter().find(|column| column.id == id)?.name.clone())
    };
    let _ = ast::visit_expressions_mut::<_, (), _>(&mut expression, |expr| {
        if let ast::Expr::Identifier(ident) = expr
            && let Some(name) = name_of(&ident.value)
        {
            *ident = crate::command::name::ident(&name);
        }
        ControlFlow::Continue(())
    });
    Ok(expression.to_string())
}

type Name<'a> = dyn FnMut(&[String], bool) -> Result<Option<String>> + 'a;

/// Gives columns other names; `nested` ones are in a subquery.
struct Renaming<'a, 'b> {
    depth: &'a mut usize,
    name: &'a mut Name<'b>,
}

impl ast::VisitorMut for Renaming<'_, '_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Error> {
        *self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Error> {
        *self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        let parts: Vec<String> = match expr {
            // Words that PostgreSQL's grammar has for functions look like columns to the parser.
            ast::Expr::Identifier(ident) if is_keyword(ident) => return ControlFlow::Continue(()),
            ast::Expr::Identifier(ident) => vec![bind::folded(ident)],
            ast::Expr::CompoundIdentifier(parts) => parts.iter().map(bind::folded).collect(),
            _ => return ControlFlow::Continue(()),
        };
        match (self.name)(&parts, *self.depth > 0) {
            Ok(Some(name)) => {
                *expr = quoted(&name);
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn is_keyword(ident: &ast::Ident) -> bool {
    const WORDS: &[&str] = &[
        "current_user",
        "session_user",
        "current_role",
        "user",
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "current_catalog",
        "current_schema",
    ];
    ident.quote_style.is_none() && WORDS.iter().any(|word| ident.value.eq_ignore_ascii_case(word))
}

fn id_of(relation: &Relation, column: &str) -> Result<String> {
    match relation.column(column) {
        Some(column) => Ok(policy::column_name(column.id)),
        None => {
            Err(Error::new(Kind::UndefinedColumn, format!("column \"{column}\" does not exist")))
        }
    }
}

fn column_id(relation: &Relation, field: &Field) -> Option<u32> {
    let stored = field.metadata().get(COLUMN_ID_KEY).and_then(|id| id.parse().ok());
    stored.or_else(|| relation.column(field.name()).map(|column| column.id))
}

/// What a row that is there must satisfy by a policy.
pub(super) fn using(policy: &Policy) -> Result<ast::Expr> {
    match &policy.using {
        Some(text) => crate::parse::expression(text.required()?),
        // A policy for INSERT says nothing of rows that are there.
        None => Ok(boolean(true)),
    }
}

/// A mask's expression, over the column with this id in place of `value`; other names in it are none.
pub(crate) fn masked(text: &str, id: u32) -> Result<ast::Expr> {
    let mut mask = crate::parse::expression(text)?;
    let mut depth = 0;
    let mut pass = Renaming {
        depth: &mut depth,
        name: &mut |parts, _| Ok((parts == [policy::VALUE]).then(|| policy::column_name(id))),
    };
    let _ = ast::visit_expressions_mut::<_, (), _>(&mut mask, |expr| {
        if let ast::Expr::Function(function) = expr {
            let internal = match function.name.to_string().to_ascii_lowercase().as_str() {
                "kho.hash" => Some(HASH),
                "kho.pseudonym" => Some(PSEUDONYM),
                _ => None,
            };
            if let Some(internal) = internal {
                let ident = ast::Ident::with_quote('"', internal);
                function.name = ast::ObjectName::from(vec![ident]);
            }
        }
        ControlFlow::Continue(())
    });
    match ast::VisitMut::visit(&mut mask, &mut pass) {
        ControlFlow::Continue(()) => Ok(mask),
        ControlFlow::Break(error) => Err(error),
    }
}

/// One of them; false where there is none.
pub(super) fn any(all: impl Iterator<Item = Result<ast::Expr>>) -> Result<ast::Expr> {
    let mut either: Option<ast::Expr> = None;
    for one in all {
        let one = nested(one?);
        either = Some(match either {
            Some(either) => operation(either, ast::BinaryOperator::Or, one),
            None => one,
        });
    }
    Ok(either.map_or(boolean(false), nested))
}

pub(super) fn both(one: ast::Expr, other: ast::Expr) -> ast::Expr {
    operation(nested(one), ast::BinaryOperator::And, nested(other))
}

fn operation(left: ast::Expr, op: ast::BinaryOperator, right: ast::Expr) -> ast::Expr {
    ast::Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn nested(expr: ast::Expr) -> ast::Expr {
    ast::Expr::Nested(Box::new(expr))
}

fn boolean(value: bool) -> ast::Expr {
    ast::Expr::Value(ast::Value::Boolean(value).into())
}

fn quoted(name: &str) -> ast::Expr {
    ast::Expr::Identifier(ast::Ident::with_quote('"', name))
}

fn alias(expr: ast::Expr, name: &str) -> ast::SelectItem {
    ast::SelectItem::ExprWithAlias { expr, alias: ast::Ident::with_quote('"', name) }
}

/// The query, from a parsed one that keeps every part of the tree that is not ours at its default.
fn skeleton(
    inner: Vec<ast::SelectItem>,
    outer: Vec<ast::SelectItem>,
    filter: Option<ast::Expr>,
) -> Result<ast::Statement> {
    let text = format!("SELECT 1 FROM (SELECT 1 FROM \"{STORED}\") AS \"{NUMBERED}\"");
    let mut query = crate::parse::query(&text)?;
    let torn = || Error::internal("a template is no SELECT");
    let ast::SetExpr::Select(select) = query.body.as_mut() else { return Err(torn()) };
    (select.projection, select.selection) = (outer, filter);
    let from = select.from.first_mut().map(|from| &mut from.relation);
    let Some(ast::TableFactor::Derived { subquery, .. }) = from else { return Err(torn()) };
    let ast::SetExpr::Select(numbered) = subquery.body.as_mut() else { return Err(torn()) };
    numbered.projection = inner;
    Ok(ast::Statement::Query(Box::new(query)))
}
