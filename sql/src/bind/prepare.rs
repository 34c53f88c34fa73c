//! The pass over the syntax tree before names are resolved.
//!
//! # Why
//! DataFusion's planner drops what it does not know of a table in `FROM`: a version, a sample, an
//! ordinality. Here each is either turned into a name of its own, that resolves to the right
//! thing, or refused.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::common::DFSchema;
use kho_catalog::error::{Error, Result};
use sqlparser::ast::{
    AccessExpr, DataType, Expr, FunctionArg, Ident, ObjectName, ObjectNamePart, OrderByExpr,
    OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableFactor,
    TableVersion, VisitMut, VisitorMut,
};

/// Frames the number in the name of a column that stands beside a wildcard; in no text that parses.
const BESIDE: char = '\u{2}';

/// What a name made here stands for.
#[derive(Clone, Debug)]
pub(super) struct Special {
    /// The name to be looked up by.
    pub internal: String,
    pub of: ObjectName,
    pub kind: SpecialKind,
}

#[derive(Clone, Debug)]
pub(super) enum SpecialKind {
    Version(Expr),
    Time(Expr),
    /// A table function of the schema `kho`.
    Function(Vec<FunctionArg>),
}

/// Replaces versions and table functions by names, and refuses what would be ignored.
pub(super) fn prepare(statement: &mut Statement) -> Result<Vec<Special>> {
    super::spelling::respell(statement)?;
    let mut pass = Pass { specials: Vec::new() };
    match statement.visit(&mut pass) {
        ControlFlow::Continue(()) => Ok(pass.specials),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Pass {
    specials: Vec<Special>,
}

impl VisitorMut for Pass {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match self.factor(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Function(function) if sets_config(&function.name) => {
                ControlFlow::Break(set_config_elsewhere())
            }
            Expr::InSubquery { expr, .. } if matches!(**expr, Expr::Tuple(_)) => {
                ControlFlow::Break(
                    Error::unsupported("a row is not compared with the rows of a subquery")
                        .with_hint("Compare its columns in the condition of an EXISTS."),
                )
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if !query.locks.is_empty() {
            return ControlFlow::Break(
                Error::unsupported("rows cannot be locked")
                    .with_hint("A statement reads one snapshot; a conflict is told by 40001."),
            );
        }
        if query.settings.is_some() || query.format_clause.is_some() || query.for_clause.is_some() {
            return ControlFlow::Break(Error::unsupported("this clause is not PostgreSQL's"));
        }
        super::wildcard::qualify(&mut query.body);
        ControlFlow::Continue(())
    }
}

impl Pass {
    fn factor(&mut self, factor: &mut TableFactor) -> Result<()> {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } = factor
        else {
            return refuse_other(factor);
        };
        let refused = [
            (sample.is_some(), "TABLESAMPLE"),
            (!with_hints.is_empty() || !index_hints.is_empty(), "a table hint"),
            (!partitions.is_empty(), "PARTITION"),
            (json_path.is_some(), "a path into a table"),
            (*with_ordinality, "WITH ORDINALITY"),
        ];
        if let Some((_, what)) = refused.iter().find(|(given, _)| *given) {
            return Err(Error::unsupported(format!("{what} is not supported")));
        }
        let kind = match (version.take(), args.take()) {
            (None, None) => return Ok(()),
            (Some(TableVersion::VersionAsOf(number)), None) => SpecialKind::Version(number),
            (
                Some(TableVersion::TimestampAsOf(time) | TableVersion::ForSystemTimeAsOf(time)),
                None,
            ) => SpecialKind::Time(time),
            (Some(_), _) => return Err(Error::unsupported("this table version is not supported")),
            (None, Some(arguments)) => {
                if sets_config(name) {
                    return Err(set_config_elsewhere());
                }
                if !is_ours(name) {
                    *args = Some(arguments);
                    return Ok(());
                }
                SpecialKind::Function(arguments.args)
            }
        };
        let internal = format!("\u{1}{}", self.specials.len());
        if alias.is_none() {
            let shown = name.0.last().map(ToString::to_string).unwrap_or_default();
            *alias = Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('"', unquoted(&shown)),
                columns: Vec::new(),
                at: None,
            });
        }
        let of = std::mem::replace(
            name,
            ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('"', &internal))]),
        );
        self.specials.push(Special { internal, of, kind });
        Ok(())
    }
}

/// Names the result's columns as PostgreSQL does: `count`, `case`, `?column?`. The planner wants
/// names that differ, so equal ones get a number for it, and the name to show is given back.
pub(super) fn output_names(statement: &mut Statement) -> Vec<Option<String>> {
    let Statement::Query(query) = statement else { return Vec::new() };
    let sorted = sorted_by(query);
    let select = match query.body.as_mut() {
        SetExpr::Select(select) => select,
        other => return names_of_parts(other),
    };
    // What a wildcard gives is only known later.
    if select.projection.iter().any(is_wildcard) {
        if select.distinct.is_none() {
            mark(&mut select.projection, &sorted);
        }
        return Vec::new();
    }
    named(select, Renamed::AsShown)
}

/// Which columns get the names that are shown, or one like it, for the planner too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renamed {
    /// All of them.
    AsShown,
    /// Those that are no columns, or whose name another has already.
    Apart,
}

/// The columns of `UNION`, `INTERSECT` and `EXCEPT` are named as those of the first part; within
/// each part the planner wants names that differ.
pub(super) fn names_of_parts(body: &mut SetExpr) -> Vec<Option<String>> {
    match body {
        SetExpr::Select(select) if !select.projection.iter().any(is_wildcard) => {
            named(select, Renamed::Apart)
        }
        SetExpr::Query(query) => names_of_parts(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            let names = names_of_parts(left);
            names_of_parts(right);
            names
        }
        _ => Vec::new(),
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

/// Gives the columns names that differ, and back those that are shown.
fn named(select: &mut Select, which: Renamed) -> Vec<Option<String>> {
    let grouped = !matches!(
        &select.group_by,
        sqlparser::ast::GroupByExpr::Expressions(by, _) if by.is_empty()
    );
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (shown, aliased) = match item {
            SelectItem::UnnamedExpr(expr) => (shown_name(expr).unwrap_or_default(), None),
            SelectItem::ExprWithAlias { alias, .. } => {
                let name = match alias.quote_style {
                    Some(_) => alias.value.clone(),
                    None => alias.value.to_ascii_lowercase(),
                };
                (name.clone(), Some(name))
            }
            _ => return Vec::new(),
        };
        if shown.is_empty() {
            names.push(None);
            continue;
        }
        // A cast is named as its column; as an alias that name would capture the grouping.
        let captures = grouped && matches!(item, SelectItem::UnnamedExpr(Expr::Cast { .. }));
        let mut unique = if captures && which == Renamed::AsShown {
            format!("\u{1}{shown}")
        } else {
            shown.clone()
        };
        let mut number = 1;
        while !seen.insert(unique.clone()) {
            unique = format!("{shown}_{number}");
            number += 1;
        }
        let plain = matches!(
            item,
            SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        );
        // To the engine a cast of a literal has the literal's name.
        let is_apart = unique == shown && (plain || aliased.is_some());
        match which {
            Renamed::Apart if is_apart => {}
            Renamed::Apart => rename(item, &beside(at, &shown)),
            Renamed::AsShown if aliased.as_ref() == Some(&unique) => {}
            Renamed::AsShown if plain && unique == shown => {}
            Renamed::AsShown => rename(item, &unique),
        }
        names.push(Some(shown));
    }
    names
}

/// `t.id, t.*` gives `id` twice, which the planner does not take: what stands beside a wildcard gets
/// a name of its own. [`marked_names`] gives its name back.
fn mark(projection: &mut [SelectItem], sorted: &HashSet<String>) {
    for (index, item) in projection.iter_mut().enumerate() {
        let shown = match item {
            SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => {
                shown_name(expr)
            }
            SelectItem::ExprWithAlias { alias, .. } => Some(super::folded(alias)),
            _ => None,
        };
        if let Some(shown) = shown.filter(|shown| !sorted.contains(shown)) {
            rename(item, &beside(index, &shown));
        }
    }
}

/// A name of the column at `index` that no other has, and that is shown as `shown`.
pub(super) fn beside(index: usize, shown: &str) -> String {
    format!("{BESIDE}{index}{BESIDE}{shown}")
}

/// What a name that [`beside`] made is shown as.
pub(super) fn shown(name: &str) -> Option<&str> {
    name.strip_prefix(BESIDE)?.split_once(BESIDE).map(|(_, it)| it)
}

/// The names to show of a plan's columns, where one of them was given another by [`output_names`].
pub(super) fn marked_names(schema: &DFSchema) -> Vec<Option<String>> {
    let shown = |name: &String| shown(name).map(str::to_owned);
    let names: Vec<_> = schema.fields().iter().map(|field| shown(field.name())).collect();
    if names.iter().any(Option::is_some) { names } else { Vec::new() }
}

/// What a query is sorted by that can be the name of a column of its result.
fn sorted_by(query: &Query) -> HashSet<String> {
    let kind = query.order_by.as_ref().map(|it| &it.kind);
    let Some(OrderByKind::Expressions(by)) = kind else { return HashSet::new() };
    let name = |by: &OrderByExpr| match &by.expr {
        Expr::Identifier(ident) => Some(super::folded(ident)),
        _ => None,
    };
    by.iter().filter_map(name).collect()
}

fn rename(item: &mut SelectItem, to: &str) {
    let alias = Ident::with_quote('"', to);
    match item {
        SelectItem::UnnamedExpr(expr) => {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        SelectItem::ExprWithAlias { alias: old, .. } => *old = alias,
        _ => {}
    }
}

/// PostgreSQL's name for a column without one (`FigureColname`).
pub(super) fn shown_name(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Identifier(ident) => super::folded(ident),
        Expr::CompoundIdentifier(parts) => super::folded(parts.last()?),
        Expr::Function(function) => match function.name.0.last()? {
            ObjectNamePart::Identifier(ident) => super::folded(ident),
            ObjectNamePart::Function(_) => return None,
        },
        Expr::Nested(inner) => return shown_name(inner),
        Expr::Case { .. } => "case".to_owned(),
        // The name of a type is a weak one: another cast of it has its own.
        Expr::Cast { expr, data_type, .. } if is_typed(expr) => type_name(data_type),
        Expr::Cast { expr, data_type, .. } => shown_name(expr)
            .filter(|name| name != "?column?")
            .unwrap_or_else(|| type_name(data_type)),
        Expr::TypedString(it) => type_name(&it.data_type),
        Expr::Interval(_) => "interval".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::Overlay { .. } => "overlay".to_owned(),
        Expr::Collate { expr, .. } => return shown_name(expr),
        Expr::AtTimeZone { .. } => "timezone".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Subquery(query) => subquery_name(query)?,
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last()? {
            AccessExpr::Dot(Expr::Identifier(field)) => super::folded(field),
            AccessExpr::Dot(_) => return None,
            AccessExpr::Subscript(_) => return shown_name(root),
        },
        _ => "?column?".to_owned(),
    })
}

/// Whether a value is named by its type alone.
fn is_typed(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_typed(inner),
        Expr::Cast { expr, .. } => {
            is_typed(expr) || shown_name(expr).is_none_or(|name| name == "?column?")
        }
        Expr::TypedString(_) | Expr::Interval(_) => true,
        _ => false,
    }
}

/// What PostgreSQL calls the type itself: `int4`.
fn type_name(of: &DataType) -> String {
    let written = of.to_string();
    let known = crate::pg_catalog::types::internal_name(written.trim_end_matches("[]"));
    known.map_or_else(|| written.to_ascii_lowercase(), str::to_owned)
}

/// A scalar subquery is named as its one column.
fn subquery_name(query: &Query) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Some("?column?".to_owned()) };
    match select.projection.first()? {
        SelectItem::UnnamedExpr(expr) => shown_name(expr),
        SelectItem::ExprWithAlias { alias, .. } => {
            Some(shown(&alias.value).map_or_else(|| super::folded(alias), str::to_owned))
        }
        _ => None,
    }
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_ascii_lowercase(),
    }
}

/// Whether a function is the one that changes a setting.
pub(crate) fn sets_config(name: &ObjectName) -> bool {
    let parts: Vec<String> = name.0.iter().map(|part| unquoted(&part.to_string())).collect();
    match parts.as_slice() {
        [name] => name == "set_config",
        [schema, name] => schema == "pg_catalog" && name == "set_config",
        _ => false,
    }
}

/// A session's items of a select list are taken before this is asked.
fn set_config_elsewhere() -> Error {
    Error::unsupported("set_config is called only as an item of a SELECT without FROM")
}

fn is_ours(name: &ObjectName) -> bool {
    let parts: Vec<String> = name.0.iter().map(|part| unquoted(&part.to_string())).collect();
    matches!(parts.as_slice(), [schema, _] | [_, schema, _] if schema == "kho")
}

fn refuse_other(factor: &TableFactor) -> Result<()> {
    match factor {
        TableFactor::Derived { sample: None, .. }
        | TableFactor::UNNEST { .. }
        | TableFactor::Function { .. }
        | TableFactor::TableFunction { .. }
        | TableFactor::NestedJoin { .. } => Ok(()),
        _ => Err(Error::unsupported("this kind of table in FROM is not supported")),
    }
}
