//! Names to relations, as one role sees them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::TableSource;
use datafusion::scalar::ScalarValue;
use datafusion::sql::resolve::resolve_table_references;
use futures::FutureExt;
use futures::future::BoxFuture;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, RelationAction};
use kho_catalog::state::{Relation, RelationKind};
use sqlparser::ast::{ObjectName, ObjectNamePart, Statement};

use super::constant::constant;
use super::prepare::{Special, SpecialKind};
use super::{Extra, Needs, Read, context, view};
use crate::errors::from_engine;
use crate::scope::Scope;
use crate::secure;
use crate::session::qualified;

/// Resolved tables by the name the planner asks for.
pub(super) type Sources = HashMap<TableReference, Arc<dyn TableSource>>;

/// A relation's name as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub schema: Option<String>,
    pub name: String,
}

impl Name {
    pub(crate) fn from_ast(name: &ObjectName) -> Result<Name> {
        object_name(name)
    }

    /// As the user would write it.
    pub(crate) fn written(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The name that an identifier stands for: unquoted ones are folded, ASCII alone, as PostgreSQL does.
pub(crate) fn folded(ident: &sqlparser::ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// A name of one to three parts; the first of three is the database.
pub(crate) fn object_name(name: &ObjectName) -> Result<Name> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Ok(folded(ident)),
        ObjectNamePart::Function(_) => Err(Error::unsupported("a function cannot be a name")),
    };
    let parts = name.0.iter().map(part).collect::<Result<Vec<_>>>()?;
    name_of_parts(&parts)
}

fn name_of_parts(parts: &[String]) -> Result<Name> {
    match parts {
        [name] => Ok(Name { schema: None, name: name.clone() }),
        [schema, name] => Ok(Name { schema: Some(schema.clone()), name: name.clone() }),
        [database, schema, name] if database == "kho" => {
            Ok(Name { schema: Some(schema.clone()), name: name.clone() })
        }
        _ => Err(Error::unsupported("a reference to another database is not supported")),
    }
}

pub(crate) struct Resolver<'a> {
    scope: &'a Scope,
    session: &'a SessionState,
    specials: Vec<Special>,
    extra: Extra,
    depth: usize,
    sources: Sources,
    reads: Vec<Read>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        scope: &'a Scope,
        session: &'a SessionState,
        specials: Vec<Special>,
        extra: Extra,
        depth: usize,
    ) -> Self {
        Resolver {
            scope,
            session,
            specials,
            extra,
            depth,
            sources: HashMap::new(),
            reads: Vec::new(),
        }
    }

    /// Resolves every relation that `statement` names.
    pub(super) async fn resolve(&mut self, statement: &Statement) -> Result<()> {
        let wrapped = datafusion::sql::parser::Statement::Statement(Box::new(statement.clone()));
        let (references, _) = resolve_table_references(&wrapped, true).map_err(from_engine)?;
        for reference in references {
            match self.source(&reference).await {
                Ok(source) => {
                    self.sources.insert(reference, source);
                }
                // Functions in FROM are among the names; the planner looks them up itself.
                Err(error)
                    if error.kind() == Kind::UndefinedTable && context::generates(&reference) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> (Sources, Vec<Read>) {
        (self.sources, self.reads)
    }

    fn source<'b>(
        &'b mut self,
        reference: &'b TableReference,
    ) -> BoxFuture<'b, Result<Arc<dyn TableSource>>> {
        async move {
            let internal = reference.table();
            if let Some((_, provider)) = self.extra.iter().find(|(name, _)| name == internal) {
                return Ok(provider_as_source(Arc::clone(provider)));
            }
            if let Some(special) = self.specials.iter().find(|it| it.internal == internal).cloned()
            {
                return self.special(special).await;
            }
            let parts: Vec<String> =
                reference.to_vec().into_iter().map(|part| part.to_string()).collect();
            self.relation(&name_of_parts(&parts)?, None).await
        }
        .boxed()
    }

    async fn special(&mut self, special: Special) -> Result<Arc<dyn TableSource>> {
        let name = object_name(&special.of)?;
        match special.kind {
            SpecialKind::Function(arguments) => {
                let function =
                    crate::system::table_function(self.scope, self.session, &name.name, &arguments)
                        .await?;
                self.reads.extend(function.reads);
                Ok(provider_as_source(function.provider))
            }
            SpecialKind::Version(number) => {
                let number = constant(self.scope, self.session, &number, &DataType::Int64)?;
                let version = match number {
                    ScalarValue::Int64(Some(number)) => u64::try_from(number).ok(),
                    _ => None,
                };
                let version = version.ok_or_else(|| {
                    Error::new(Kind::InvalidParameterValue, "a version is a number from 0")
                })?;
                self.relation(&name, Some(version)).await
            }
            SpecialKind::Time(time) => {
                let time_ms = super::constant::instant(self.scope, self.session, &time)?;
                let relation = find(self.scope, &name)?;
                let version = self.scope.version_at(&relation, time_ms).await?;
                self.relation(&name, Some(version)).await
            }
        }
    }

    async fn relation(
        &mut self,
        name: &Name,
        version: Option<u64>,
    ) -> Result<Arc<dyn TableSource>> {
        if let Some(system) = crate::system::table(self.scope, name) {
            if version.is_some() {
                return Err(Error::unsupported("a system table has no versions"));
            }
            return Ok(provider_as_source(system?));
        }
        let relation = find(self.scope, name)?;
        match &relation.kind {
            RelationKind::Table(_) => {
                let snapshot = self.scope.snapshot(&relation, version).await?;
                self.reads.push(Read {
                    relation: relation.oid,
                    by: self.scope.who.role(),
                    version: Some(snapshot.version()),
                    newest: version.is_none() && self.scope.as_of_ms.is_none(),
                    needs: Needs::Used,
                });
                let secured = secure::table(self.scope, self.session, &relation, &snapshot);
                let secured = secured.await?;
                self.reads.extend(secured.reads);
                Ok(provider_as_source(secured.provider))
            }
            RelationKind::View(_) if version.is_some() => {
                Err(Error::unsupported(format!("view \"{}\" has no versions", relation.name))
                    .with_hint("SET kho.as_of reads everything at one time, views too."))
            }
            RelationKind::View(_) => {
                self.reads.push(Read {
                    relation: relation.oid,
                    by: self.scope.who.role(),
                    version: None,
                    newest: false,
                    needs: Needs::Used,
                });
                let (provider, reads) =
                    view::expand(self.scope, self.session, &relation, self.depth).await?;
                self.reads.extend(reads);
                Ok(provider_as_source(provider))
            }
        }
    }
}

/// The relation `name` as the scope's role sees it.
///
/// # Errors
/// `42P01` where there is none, or none that the role has any right on.
pub(crate) fn find(scope: &Scope, name: &Name) -> Result<Arc<Relation>> {
    let written = name.written();
    let path = match &name.schema {
        Some(schema) => vec![schema.clone()],
        None => scope.search_path(),
    };
    let found = path.iter().find_map(|schema| {
        privilege::find_relation(&scope.state, &scope.who, schema, &name.name, &written).ok()
    });
    let found = found.ok_or_else(|| {
        Error::new(Kind::UndefinedTable, format!("relation \"{written}\" does not exist"))
    })?;
    if found.table().is_some() {
        scope.facts.dataset(qualified(scope, found), found.oid, None);
    }
    Ok(Arc::clone(found))
}

/// The relation `name`, if the scope's role may do `action` to it.
pub(crate) fn find_for(
    scope: &Scope,
    name: &Name,
    action: RelationAction,
) -> Result<Arc<Relation>> {
    let relation = find(scope, name)?;
    scope.require(scope.who.role(), privilege::Action::Relation(relation.oid, action))?;
    Ok(relation)
}
