//! `CREATE VIEW`: the query is bound once, so that a wrong one is refused with the statement.

use std::ops::ControlFlow;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use sqlparser::ast::{self, VisitMut, VisitorMut};

use super::table::result_columns;
use super::{Change, planned};
use crate::authorize::authorize;
use crate::bind::{self, Bound};
use crate::command::{depend, view};
use crate::parse;
use crate::scope::Scope;

pub(super) async fn create(scope: &Scope, statement: &ast::CreateView) -> Result<Change> {
    let mut query = statement.query.clone();
    let (mut bound, mut columns) = bound(scope, &query).await?;
    if depend::takes_everything(&query) {
        query = fixed(&query, &columns)?;
        (bound, columns) = self::bound(scope, &query).await?;
    }
    let depends_on = reads(&bound);
    authorize(scope, bound)?;
    let _ = query.visit(&mut Qualify::new(scope));
    let text = query.to_string();
    let statement = statement.clone();
    planned(scope, move |context| {
        let bound = view::Bound {
            columns: columns.clone(),
            query: text.clone(),
            depends_on: depends_on.clone(),
        };
        view::create(context, &statement, bound)
    })
}

async fn bound(scope: &Scope, query: &ast::Query) -> Result<(Bound, Vec<(String, Type)>)> {
    let sql = ast::Statement::Query(Box::new(query.clone()));
    let mut bound = bind::bind(scope, &sql, &[], Vec::new()).await?;
    let names = std::mem::take(&mut bound.names);
    let columns = result_columns(bound.plan.schema().as_ref().as_arrow(), &names)?;
    Ok((bound, columns))
}

/// `query`, which takes every column of something, made to give the columns of now by name: what
/// is added to its tables later does not come into the view, nor shift its columns.
fn fixed(query: &ast::Query, columns: &[(String, Type)]) -> Result<Box<ast::Query>> {
    for (index, (name, _)) in columns.iter().enumerate() {
        if columns.iter().skip(index + 1).any(|(other, _)| other == name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(Error::new(Kind::DuplicateColumn, message)
                .with_hint("Name the columns in place of \"*\"."));
        }
    }
    let quoted = |(name, _): &(String, Type)| ast::Ident::with_quote('"', name).to_string();
    let names: Vec<String> = columns.iter().map(quoted).collect();
    let text = format!("SELECT {} FROM ({query}) AS \"every\"", names.join(", "));
    parse::query(&text).map(Box::new)
}

fn reads(bound: &Bound) -> Vec<u32> {
    let mut oids: Vec<u32> = bound.reads.iter().map(|read| read.relation).collect();
    oids.sort_unstable();
    oids.dedup();
    oids
}

/// Names every relation with its schema: a view means the same whatever the reader's search path.
pub(super) struct Qualify<'a> {
    scope: &'a Scope,
    /// The names that `WITH` gave, by the query they hold in.
    ctes: Vec<Vec<String>>,
}

impl<'a> Qualify<'a> {
    pub(super) fn new(scope: &'a Scope) -> Qualify<'a> {
        Qualify { scope, ctes: Vec::new() }
    }
}

impl VisitorMut for Qualify<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.push(ctes.map(|cte| bind::folded(&cte.alias.name)).collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<()> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ast::ObjectName) -> ControlFlow<()> {
        let Ok(name) = bind::object_name(relation) else { return ControlFlow::Continue(()) };
        if name.schema.is_some() || self.ctes.iter().flatten().any(|cte| *cte == name.name) {
            return ControlFlow::Continue(());
        }
        let Ok(found) = bind::find(self.scope, &name) else { return ControlFlow::Continue(()) };
        if let Some(schema) = self.scope.state.schemas.get(&found.schema) {
            let part =
                |name: &str| ast::ObjectNamePart::Identifier(ast::Ident::with_quote('"', name));
            *relation = ast::ObjectName(vec![part(&schema.name), part(&found.name)]);
        }
        ControlFlow::Continue(())
    }
}
