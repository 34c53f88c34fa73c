//! Which relation of a `FROM` a column name belongs to.
//!
//! What it is: enough of name resolution to tell, before planning, whether a subquery reads
//! system tables alone, which of its names come from outside, and what type a system column has.
//! What it does not: it knows no column of a user's table; it then says that it does not know.

use std::ops::ControlFlow;

use kho_catalog::state::Relation;
use sqlparser::ast::{
    Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor,
    TableWithJoins, Visit, Visitor,
};
use sqlparser::parser::Parser;

use super::definition::{self, Definition};

/// What one `SELECT` can name.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    sources: Vec<Source>,
    /// Names that the select list gives, which `ORDER BY` may use.
    aliases: Vec<String>,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    /// The unqualified name of the relation itself, if it has no other.
    table: Option<String>,
    columns: Columns,
    /// Whether all its rows come from system tables.
    system: bool,
}

#[derive(Clone, Debug)]
enum Columns {
    System(&'static Definition),
    Named(Vec<String>),
    Unknown,
}

/// What a name is, seen from a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A column of a system table, with its PostgreSQL type.
    System(&'static str),
    /// Another name of this scope.
    Other,
    /// Perhaps a column of a relation whose columns are not known here.
    Perhaps,
    Absent,
}

impl Scope {
    pub fn of_select(select: &Select) -> Scope {
        let mut scope = Scope::default();
        for from in &select.from {
            scope.add(from);
        }
        scope.aliases = select.projection.iter().filter_map(output_name).collect();
        scope
    }

    /// The scope of all that a set operation's sides name.
    pub fn of_body(body: &SetExpr) -> Scope {
        match body {
            SetExpr::Select(select) => Scope::of_select(select),
            SetExpr::Query(query) => Scope::of_body(&query.body),
            SetExpr::SetOperation { left, right, .. } => {
                let mut scope = Scope::of_body(left);
                let other = Scope::of_body(right);
                scope.sources.extend(other.sources);
                scope.aliases.extend(other.aliases);
                scope
            }
            _ => Scope::default(),
        }
    }

    /// Whether there is a `FROM` and nothing but system tables is in it.
    pub fn is_system(&self) -> bool {
        !self.sources.is_empty() && self.sources.iter().all(|it| it.system)
    }

    pub fn find(&self, parts: &[Ident]) -> Found {
        match parts {
            [column] => self.find_column(&fold(column)),
            [.., relation, column] => {
                let (relation, column) = (fold(relation), fold(column));
                match self.sources.iter().find(|it| it.name == relation) {
                    Some(source) => match source.column(&column) {
                        Found::Absent => Found::Other,
                        found => found,
                    },
                    None => Found::Absent,
                }
            }
            [] => Found::Absent,
        }
    }

    /// The system table that the alias `name` stands for.
    pub fn system_table(&self, name: &Ident) -> Option<&'static Definition> {
        let name = fold(name);
        self.sources.iter().find(|it| it.name == name).and_then(|it| match it.columns {
            Columns::System(definition) => Some(definition),
            _ => None,
        })
    }

    /// Takes the relations that `WITH` names for what they are.
    fn resolve_common(&mut self, common: &[(String, Vec<String>)]) {
        for source in self.sources.iter_mut().filter(|it| !it.system) {
            let named = common.iter().rev().find(|(name, _)| Some(name) == source.table.as_ref());
            if let Some((_, columns)) = named {
                source.columns = Columns::Named(columns.clone());
                source.system = true;
            }
        }
    }

    fn find_column(&self, column: &str) -> Found {
        let mut found = Found::Absent;
        for source in &self.sources {
            match source.column(column) {
                Found::Absent => {}
                Found::Perhaps => found = Found::Perhaps,
                other => return other,
            }
        }
        // A relation's name alone is its row; a select alias is what ORDER BY means.
        let named = self.aliases.iter().any(|it| it == column)
            || self.sources.iter().any(|it| it.name == column);
        if named { Found::Other } else { found }
    }

    fn add(&mut self, from: &TableWithJoins) {
        self.add_factor(&from.relation);
        for join in &from.joins {
            self.add_factor(&join.relation);
        }
    }

    fn add_factor(&mut self, factor: &TableFactor) {
        match factor {
            TableFactor::Table { name, alias, args, .. } => match args {
                Some(_) => self.add_function(name, alias.as_ref()),
                None => self.add_table(name, alias.as_ref()),
            },
            TableFactor::Function { name, alias, .. } => self.add_function(name, alias.as_ref()),
            TableFactor::UNNEST { alias, .. } => {
                self.add_named("unnest".to_owned(), alias.as_ref(), vec!["unnest".to_owned()]);
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let scope = Scope::of_body(&subquery.body);
                let columns = match output_names(&subquery.body) {
                    Some(names) => Columns::Named(renamed(names, alias.as_ref())),
                    None => Columns::Unknown,
                };
                let name = alias.as_ref().map_or(String::new(), |it| fold(&it.name));
                self.sources.push(Source { name, table: None, columns, system: scope.is_system() });
            }
            TableFactor::NestedJoin { table_with_joins, .. } => self.add(table_with_joins),
            _ => self.sources.push(Source {
                name: String::new(),
                table: None,
                columns: Columns::Unknown,
                system: false,
            }),
        }
    }

    fn add_table(&mut self, name: &ObjectName, alias: Option<&TableAlias>) {
        let parts: Vec<String> =
            name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
        let (schema, table) = match parts.as_slice() {
            [table] => (None, table.as_str()),
            [.., schema, table] => (Some(schema.as_str()), table.as_str()),
            [] => return,
        };
        // Unqualified, only PostgreSQL's own prefix is taken for a system table.
        let schema = schema.or_else(|| table.starts_with("pg_").then_some("pg_catalog"));
        let schema = schema.filter(|it| *it != crate::system::SCHEMA);
        let definition = schema.and_then(|schema| definition::find(schema, table));
        let columns = definition.map_or(Columns::Unknown, Columns::System);
        let name = alias.map_or_else(|| table.to_owned(), |it| fold(&it.name));
        let system = definition.is_some();
        let table = (parts.len() == 1).then(|| table.to_owned());
        self.sources.push(Source { name, table, columns, system });
    }

    fn add_function(&mut self, name: &ObjectName, alias: Option<&TableAlias>) {
        let name = name.0.last().and_then(|it| it.as_ident()).map_or(String::new(), fold);
        self.add_named(name.clone(), alias, vec![name]);
    }

    fn add_named(&mut self, name: String, alias: Option<&TableAlias>, columns: Vec<String>) {
        let columns = match alias {
            // A function's alias names its column too.
            Some(alias) if alias.columns.is_empty() => vec![fold(&alias.name)],
            _ => renamed(columns, alias),
        };
        let name = alias.map_or(name, |it| fold(&it.name));
        let columns = Columns::Named(columns);
        self.sources.push(Source { name, table: None, columns, system: true });
    }
}

impl Source {
    fn column(&self, name: &str) -> Found {
        match &self.columns {
            Columns::System(definition) => match definition.column(name) {
                Some(column) => Found::System(column.pg_type),
                None => Found::Absent,
            },
            Columns::Named(names) if names.iter().any(|it| it == name) => Found::Other,
            Columns::Named(_) => Found::Absent,
            Columns::Unknown => Found::Perhaps,
        }
    }
}

/// What an identifier names: unquoted ones are folded.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The names and parameters in `query` that come from outside of it; `None` where one of them
/// may or may not, or where the query reads more than system tables.
pub fn free_names(query: &Query) -> Option<Vec<Expr>> {
    let mut finder =
        FreeNames { scopes: Vec::new(), common: Vec::new(), free: Vec::new(), system: true };
    let whole = query.visit(&mut finder).is_continue();
    (whole && finder.system).then_some(finder.free)
}

struct FreeNames {
    scopes: Vec<Scope>,
    /// What `WITH` names; a query in it is looked at as any other.
    common: Vec<(String, Vec<String>)>,
    free: Vec<Expr>,
    system: bool,
}

impl FreeNames {
    fn look_up(&mut self, expr: &Expr, parts: &[Ident]) -> ControlFlow<()> {
        for scope in self.scopes.iter().rev() {
            match scope.find(parts) {
                Found::System(_) | Found::Other => return ControlFlow::Continue(()),
                Found::Perhaps => return ControlFlow::Break(()),
                Found::Absent => {}
            }
        }
        if !self.free.contains(expr) {
            self.free.push(expr.clone());
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for FreeNames {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let names = output_names(&table.query.body).unwrap_or_default();
            let columns = renamed(names, Some(&table.alias));
            self.common.push((fold(&table.alias.name), columns));
        }
        let mut scope = Scope::of_body(&query.body);
        scope.resolve_common(&self.common);
        self.system &= scope.is_system();
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.look_up(expr, std::slice::from_ref(ident)),
            Expr::CompoundIdentifier(parts) => self.look_up(expr, parts),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The positions, from 1, of the columns of `relation` that the expression `text` names.
pub fn columns_of(text: &str, relation: &Relation) -> Vec<i64> {
    let parsed =
        Parser::new(&crate::parse::DIALECT).try_with_sql(text).and_then(|mut it| it.parse_expr());
    let mut names = Names(Vec::new());
    if let Ok(expr) = parsed {
        let _whole = expr.visit(&mut names);
    }
    let positions = relation.columns.iter().enumerate();
    positions
        .filter(|(_, column)| names.0.contains(&column.name))
        .filter_map(|(at, _)| i64::try_from(at.saturating_add(1)).ok())
        .collect()
}

struct Names(Vec<String>);

impl Visitor for Names {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.0.push(fold(ident)),
            Expr::CompoundIdentifier(parts) => self.0.extend(parts.last().map(fold)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The name that a select item has; `None` for a wildcard or an unnamed expression.
pub fn output_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(fold(ident)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(fold),
        _ => None,
    }
}

fn output_names(body: &SetExpr) -> Option<Vec<String>> {
    match body {
        SetExpr::Select(select) => {
            let wild = |it: &SelectItem| {
                matches!(it, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
            };
            if select.projection.iter().any(wild) {
                return None;
            }
            let name = |it: &SelectItem| output_name(it).unwrap_or_default();
            Some(select.projection.iter().map(name).collect())
        }
        SetExpr::Query(query) => output_names(&query.body),
        SetExpr::SetOperation { left, .. } => output_names(left),
        _ => None,
    }
}

fn renamed(mut columns: Vec<String>, alias: Option<&TableAlias>) -> Vec<String> {
    for (column, to) in columns.iter_mut().zip(alias.into_iter().flat_map(|it| &it.columns)) {
        *column = fold(&to.name);
    }
    columns
}
