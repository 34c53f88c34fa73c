//! What depends on what: views on relations, `CHECK`s on columns.
//!
//! What it guarantees: nothing a view reads goes away under it, and a name that changes is changed
//! in the stored queries of views, too. Views that the principal may not see are not named.
//! What it does not: it follows a column into a view by name, so it may see a use where there is
//! none; it never misses one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::Policy;
use kho_catalog::privilege::{self, Action, Decision, RelationAction};
use kho_catalog::state::{Change, Oid, Relation, RelationKind, State, View};
use sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
    visit_expressions, visit_expressions_mut, visit_relations,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::name::{self, DATABASE, fold};
use super::policy;
use super::{Context, notice};
use crate::outcome::Notice;
use crate::parse;

const ONLY_OWNERS: &str = "Only who owns those views, or their schema, may drop them.";

/// A relation's schema and name before and after; an empty table name is every table in it.
#[derive(Clone, Debug)]
pub(crate) struct Renaming<'a> {
    pub schema: &'a str,
    /// `None`: the schema itself is renamed.
    pub relation: Option<&'a str>,
    pub to_schema: &'a str,
    pub to_relation: Option<&'a str>,
}

/// The views that read any of `oids`, directly or through another view; not `oids` themselves.
pub(crate) fn views_on<'a>(state: &'a State, oids: &BTreeSet<Oid>) -> Vec<&'a Arc<Relation>> {
    let mut reached = oids.clone();
    let mut found = Vec::new();
    loop {
        let before = found.len();
        for relation in state.relations.values() {
            let reads = |view: &View| view.depends_on.iter().any(|oid| reached.contains(oid));
            if !reached.contains(&relation.oid) && relation.view().is_some_and(reads) {
                reached.insert(relation.oid);
                found.push(relation);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// The changes that take `targets` away, and with `cascade` the views that read them; the actor
/// must be allowed to drop each of those.
pub(crate) fn drop_all(
    ctx: &Context<'_>,
    targets: &[&Arc<Relation>],
    cascade: bool,
) -> Result<(Vec<Change>, Vec<Notice>)> {
    let oids: BTreeSet<Oid> = targets.iter().map(|relation| relation.oid).collect();
    let dependents = views_on(ctx.state, &oids);
    if !dependents.is_empty() && (!cascade || !dependents.iter().all(|it| may_drop(ctx, it))) {
        let what = match targets {
            [one] => format!("{} {}", kind(one), one.name),
            _ => "desired object(s)".to_owned(),
        };
        let refusal = in_use(ctx, &format!("cannot drop {what}"), &dependents);
        return Err(if cascade {
            refusal.with_hint(ONLY_OWNERS)
        } else {
            refusal.with_hint("Use DROP … CASCADE to drop the dependent objects too.")
        });
    }
    let reading = policy::reading(ctx.state, &oids);
    // To take a policy away can show rows, so it is for the table's owner alone.
    if !reading.is_empty() && (!cascade || !reading.iter().all(|(of, _)| ctx.who.is(of.owner))) {
        let lines: Vec<String> = (reading.iter())
            .filter(|(relation, _)| ctx.who.is(relation.owner))
            .map(|(relation, policy)| {
                format!("policy {} on table {} depends on it", policy.name, relation.name)
            })
            .collect();
        let lines =
            if lines.is_empty() { vec!["a policy depends on it".to_owned()] } else { lines };
        let message = "cannot drop desired object(s) because other objects depend on them";
        return Err(Error::new(Kind::DependentObjects, message).with_detail(lines.join("\n")));
    }
    let mut changes: Vec<Change> = Vec::new();
    for (relation, _) in &reading {
        let mut changed = Relation::clone(relation);
        if let RelationKind::Table(table) = &mut changed.kind {
            table.policies.retain(|it| !it.depends_on.iter().any(|oid| oids.contains(oid)));
        }
        changes.push(Change::PutRelation(Box::new(changed)));
    }
    let notices = match dependents.as_slice() {
        [] => vec![],
        [one] => vec![notice(format!("drop cascades to view {}", one.name))],
        many => vec![notice(format!("drop cascades to {} other objects", many.len()))],
    };
    let oids: BTreeSet<Oid> = oids.into_iter().chain(dependents.iter().map(|it| it.oid)).collect();
    changes.extend(oids.into_iter().map(Change::RemoveRelation));
    Ok((changes, notices))
}

/// The changes that drop `views` and what reads them, if the actor may drop each.
pub(crate) fn drop_views(
    ctx: &Context<'_>,
    views: &[&Arc<Relation>],
    what: &str,
) -> Result<(Vec<Change>, Vec<Notice>)> {
    if !views.iter().all(|view| may_drop(ctx, view)) {
        return Err(in_use(ctx, what, views).with_hint(ONLY_OWNERS));
    }
    let (changes, mut notices) = drop_all(ctx, views, true)?;
    notices.extend(views.iter().map(|it| notice(format!("drop cascades to view {}", it.name))));
    Ok((changes, notices))
}

/// The error that `what` cannot be done because `views` are there; those that may be seen are named.
pub(crate) fn in_use(ctx: &Context<'_>, what: &str, views: &[&Arc<Relation>]) -> Error {
    let seen = |it: &&&Arc<Relation>| {
        let action = Action::Relation(it.oid, RelationAction::See);
        matches!(privilege::decide(ctx.state, ctx.who, action), Decision::Allowed(_))
    };
    let mut lines: Vec<String> = (views.iter().filter(seen))
        .map(|it| format!("view {} depends on it", full_name(ctx.state, it)))
        .collect();
    if lines.len() < views.len() {
        lines.push("other objects depend on it".to_owned());
    }
    let message = format!("{what} because other objects depend on it");
    Error::new(Kind::DependentObjects, message).with_detail(lines.join("\n"))
}

/// `table` or `view`.
pub(crate) fn kind(relation: &Relation) -> &'static str {
    match relation.kind {
        RelationKind::Table(_) => "table",
        RelationKind::View(_) => "view",
    }
}

/// `schema.name`, for messages to who may see it.
pub(crate) fn full_name(state: &State, relation: &Relation) -> String {
    match state.schemas.get(&relation.schema) {
        Some(schema) => format!("{}.{}", schema.name, relation.name),
        None => relation.name.clone(),
    }
}

/// The views that read the relation `oid` directly and name `column` or take every column.
pub(crate) fn views_using<'a>(
    state: &'a State,
    oid: Oid,
    column: &str,
) -> Result<Vec<&'a Arc<Relation>>> {
    let mut found = Vec::new();
    for relation in state.relations.values() {
        let Some(view) = relation.view() else { continue };
        let names = |view| words(view).map(|it| it.is_none_or(|words| words.contains(column)));
        if view.depends_on.contains(&oid) && names(view)? {
            found.push(relation);
        }
    }
    Ok(found)
}

/// The columns that an expression over one relation names, in the order they first appear.
pub(crate) fn columns_of(expression: &Expr) -> Vec<String> {
    let mut found = Vec::new();
    let _ = visit_expressions::<_, (), _>(expression, |expression| {
        if let Some(ident) = column_ident(expression) {
            let column = fold(ident);
            if !found.contains(&column) {
                found.push(column);
            }
        }
        ControlFlow::Continue(())
    });
    found
}

/// The text of an expression over one relation, `from` written `to`.
pub(crate) fn rename_column(text: &str, from: &str, to: &str) -> Result<String> {
    let mut expression = parse::expression(text)?;
    let _ = visit_expressions_mut::<_, (), _>(&mut expression, |expression| {
        let ident = match expression {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.last_mut(),
            _ => None,
        };
        if let Some(ident) = ident
            && fold(ident) == from
        {
            *ident = name::ident(to);
        }
        ControlFlow::Continue(())
    });
    Ok(expression.to_string())
}

/// The changes that write new names into the queries of all views that read any of `oids`.
pub(crate) fn rename_in_views(
    ctx: &mut Context<'_>,
    oids: &BTreeSet<Oid>,
    renaming: &Renaming<'_>,
) -> Result<Vec<Change>> {
    let state = ctx.state;
    let mut changes = Vec::new();
    for relation in state.relations.values() {
        let Some(view) = relation.view() else {
            changes.extend(renamed_in_policies(ctx, relation, oids, renaming)?);
            continue;
        };
        // A text that was erased has no names in it any more.
        let Some(text) = view.query.value() else { continue };
        if !view.depends_on.iter().any(|oid| oids.contains(oid)) {
            continue;
        }
        let mut query = parse::query(text)?;
        let _ = VisitMut::visit(&mut query, &mut Rewriter(renaming));
        let query = (ctx.text)(&query.to_string());
        let mut changed = Relation::clone(relation);
        changed.kind = RelationKind::View(View { query, depends_on: view.depends_on.clone() });
        changes.push(Change::PutRelation(Box::new(changed)));
    }
    Ok(changes)
}

/// The change that writes new names into the policies of `relation` that read any of `oids`.
fn renamed_in_policies(
    ctx: &mut Context<'_>,
    relation: &Relation,
    oids: &BTreeSet<Oid>,
    renaming: &Renaming<'_>,
) -> Result<Option<Change>> {
    let mut changed = relation.clone();
    let RelationKind::Table(table) = &mut changed.kind else { return Ok(None) };
    let reads = |policy: &&mut Policy| policy.depends_on.iter().any(|oid| oids.contains(oid));
    for policy in table.policies.iter_mut().filter(reads) {
        for text in policy.using.iter_mut().chain(&mut policy.with_check) {
            let Some(written) = text.value() else { continue };
            let mut expression = parse::expression(written)?;
            let _ = VisitMut::visit(&mut expression, &mut Rewriter(renaming));
            *text = (ctx.text)(&expression.to_string());
        }
    }
    Ok((changed != *relation).then(|| Change::PutRelation(Box::new(changed))))
}

fn may_drop(ctx: &Context<'_>, relation: &Relation) -> bool {
    let action = Action::Relation(relation.oid, RelationAction::Drop);
    matches!(privilege::decide(ctx.state, ctx.who, action), Decision::Allowed(_))
}

fn column_ident(expression: &Expr) -> Option<&Ident> {
    match expression {
        Expr::Identifier(ident) => Some(ident),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    }
}

/// Schema and name of the relations in the `FROM`s of a view's query; of those without a schema
/// there is none, they are common table expressions.
pub(crate) fn named_relations(view: &View) -> Result<BTreeSet<(String, String)>> {
    let Some(text) = view.query.value() else { return Ok(BTreeSet::new()) };
    let mut named = BTreeSet::new();
    let query = parse::query(text)?;
    let _ = visit_relations::<_, (), _>(&query, |name| {
        let parts: Vec<String> = name.0.iter().filter_map(|it| it.as_ident()).map(fold).collect();
        if let [.., schema, name] = parts.as_slice() {
            named.insert((schema.clone(), name.clone()));
        }
        ControlFlow::Continue(())
    });
    Ok(named)
}

/// The words of a view's query, one of which each column is that it names; `None` where it may take
/// columns without naming them.
pub(crate) fn words(view: &View) -> Result<Option<BTreeSet<String>>> {
    let Some(text) = view.query.value() else { return Ok(None) };
    if takes_everything(&parse::query(text)?) {
        return Ok(None);
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize()
        .map_err(|error| Error::internal("a view's text does not parse").with_source(error))?;
    let word = |token: Token| match token {
        Token::Word(word) => Some(fold(&word.into_ident(sqlparser::tokenizer::Span::empty()))),
        _ => None,
    };
    Ok(Some(tokens.into_iter().filter_map(word).collect()))
}

/// Whether `*`, `TABLE t` or a natural join is anywhere in it.
pub(crate) fn takes_everything(query: &Query) -> bool {
    let mut wild = TakesEverything(false);
    let _ = Visit::visit(query, &mut wild);
    wild.0
}

/// Finds `*` and natural joins.
struct TakesEverything(bool);

impl Visitor for TakesEverything {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let wild = |item: &SelectItem| {
            matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
        };
        let joins = select.from.iter().flat_map(|from| &from.joins);
        self.0 |= select.projection.iter().any(wild)
            || joins.into_iter().any(|join| is_natural(&join.join_operator));
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        // `TABLE t` is `SELECT * FROM t`.
        self.0 |= matches!(*query.body, sqlparser::ast::SetExpr::Table(_));
        ControlFlow::Continue(())
    }
}

fn is_natural(operator: &JoinOperator) -> bool {
    matches!(
        operator,
        JoinOperator::Join(JoinConstraint::Natural)
            | JoinOperator::Inner(JoinConstraint::Natural)
            | JoinOperator::Left(JoinConstraint::Natural)
            | JoinOperator::LeftOuter(JoinConstraint::Natural)
            | JoinOperator::Right(JoinConstraint::Natural)
            | JoinOperator::RightOuter(JoinConstraint::Natural)
            | JoinOperator::FullOuter(JoinConstraint::Natural)
    )
}

/// Writes new names into a query in which every relation is named with its schema.
///
/// A relation without an alias gets its old name as one, so that `patient.ward` keeps its meaning;
/// `health.patient.ward` loses the schema, for the same reason.
struct Rewriter<'a>(&'a Renaming<'a>);

impl Rewriter<'_> {
    /// Where in `parts` the relation's own name is, if its schema and it are what is renamed.
    fn matches(&self, parts: &[&Ident]) -> Option<usize> {
        let at = match parts {
            [schema, relation, ..] if self.names(schema, relation) => 1,
            [database, schema, relation, ..]
                if fold(database) == DATABASE && self.names(schema, relation) =>
            {
                2
            }
            _ => return None,
        };
        Some(at)
    }

    fn names(&self, schema: &Ident, relation: &Ident) -> bool {
        fold(schema) == self.0.schema
            && self.0.relation.is_none_or(|renamed| fold(relation) == renamed)
    }
}

impl VisitorMut for Rewriter<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name: written, alias, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let parts: Vec<&Ident> = written.0.iter().filter_map(|part| part.as_ident()).collect();
        let Some(relation) = self.matches(&parts).and_then(|at| parts.get(at)) else {
            return ControlFlow::Continue(());
        };
        let old = Ident::clone(relation);
        let new = self.0.to_relation.map_or_else(|| old.clone(), name::ident);
        if alias.is_none() {
            *alias = Some(TableAlias { explicit: true, name: old, columns: vec![], at: None });
        }
        *written = ObjectName::from(vec![name::ident(self.0.to_schema), new]);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expression {
            let borrowed: Vec<&Ident> = parts.iter().collect();
            // Only with a column after it; `health.patient` alone may be a column of a struct.
            if let Some(at) = self.matches(&borrowed)
                && parts.len() > at + 1
            {
                parts.drain(..at);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(written),
                _,
            ) = item
            {
                let parts: Vec<&Ident> =
                    written.0.iter().filter_map(|part| part.as_ident()).collect();
                if let Some(at) = self.matches(&parts) {
                    written.0.drain(..at);
                }
            }
        }
        ControlFlow::Continue(())
    }
}
