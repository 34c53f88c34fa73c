//! Prepared statements of SQL: `PREPARE`, `EXECUTE`, `DEALLOCATE`.
//!
//! What it guarantees: a prepared statement is bound when it is prepared, so that its errors come
//! then, and authorized again each time it is executed, as what the wire prepares is; [`crate::plans`]
//! says when it is bound again.
//! What it does not: what was prepared by the wire's `Parse` is known to the wire alone.

use std::collections::HashMap;

use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use sqlparser::ast;

use super::dispatch::{self, Done};
use super::{Session, parameter_field};
use crate::bind::{self, folded};
use crate::execute::Limits;
use crate::outcome::{Tag, parameter_type};
use crate::parse::{self, Ast, Statement};
use crate::scope::Scope;

/// As many as the wire takes of its own.
const STATEMENTS_MAX: usize = 4096;
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The prepared statements of one session, by name.
#[derive(Default)]
pub(super) struct Prepared(HashMap<String, Named>);

#[derive(Clone)]
struct Named {
    statement: Statement,
    parameters: Vec<Type>,
}

impl Prepared {
    /// The statement that `statement` executes, and the types of its parameters.
    pub(super) fn executed(&self, statement: &Statement) -> Option<(&Statement, &[Type])> {
        let Ast::Sql(sql) = statement.ast() else { return None };
        let ast::Statement::Execute { name: Some(name), .. } = sql.as_ref() else { return None };
        let named = self.0.get(&bind::object_name(name).ok()?.name)?;
        Some((&named.statement, &named.parameters))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// `DEALLOCATE`.
    pub(super) fn deallocate(&mut self, name: &ast::Ident) -> Result<Tag> {
        if parse::means_all(name) {
            self.clear();
            return Ok(Tag::new("DEALLOCATE ALL"));
        }
        match self.0.remove(&folded(name)) {
            Some(_) => Ok(Tag::new("DEALLOCATE")),
            None => Err(no_statement(&folded(name))),
        }
    }

    fn make_room(&self, bytes: usize) -> Result<()> {
        let held = self.0.values().map(|it| it.statement.text_bytes()).sum::<usize>();
        if self.0.len() < STATEMENTS_MAX && held.saturating_add(bytes) <= BYTES_MAX {
            return Ok(());
        }
        let message = "this session has too many prepared statements";
        Err(Error::new(Kind::ProgramLimitExceeded, message)
            .with_hint("DEALLOCATE those that are no longer needed."))
    }
}

impl Session {
    /// `PREPARE`: `statement` is the whole of it.
    pub(super) async fn prepare(&mut self, scope: &Scope, statement: &Statement) -> Result<Done> {
        let Some((name, types, body)) = statement.prepares() else {
            return Err(Error::new(Kind::Syntax, "this statement cannot be prepared"));
        };
        let name = folded(name);
        if self.prepared.0.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::new(Kind::DuplicateStatement, message));
        }
        self.prepared.make_room(body.text_bytes())?;
        let stated = types.iter().map(stated_type).collect::<Result<Vec<_>>>()?;
        let fields: Vec<_> = stated.iter().map(parameter_field).collect();
        let bound = dispatch::bind_for_description(scope, &self.settings, &body, &fields).await?;
        let inferred = bound.map(|(parameters, _)| parameters).unwrap_or_default();
        let parameters = super::parameter_fields(&fields, &inferred);
        let parameters = parameters.iter().map(|it| parameter_type(it.as_deref())).collect();
        body.plan().is_prepared();
        self.prepared.0.insert(name, Named { statement: body, parameters });
        Ok(Done::Tag(Tag::new("PREPARE")))
    }

    /// `EXECUTE`: runs what was prepared, with these values.
    pub(super) async fn execute(
        &mut self,
        scope: &Scope,
        statement: &ast::Statement,
        limits: &Limits,
    ) -> Result<Done> {
        let ast::Statement::Execute { name: Some(name), parameters: given, .. } = statement else {
            return Err(Error::unsupported("this form of EXECUTE is not supported"));
        };
        let name = bind::object_name(name)?.name;
        let Named { statement, parameters } =
            self.prepared.0.get(&name).cloned().ok_or_else(|| no_statement(&name))?;
        if given.len() != parameters.len() {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            let detail =
                format!("Expected {} parameters but got {}.", parameters.len(), given.len());
            return Err(Error::new(Kind::Syntax, message).with_detail(detail));
        }
        let session = scope.shared.session_state(scope)?;
        let values = given.iter().zip(&parameters);
        let values = values
            .map(|(value, of)| argument(scope, &session, value, of))
            .collect::<Result<Vec<_>>>()?;
        Box::pin(self.perform(&statement, &values, limits)).await
    }
}

/// The value of an argument as the type of its parameter.
fn argument(
    scope: &Scope,
    session: &datafusion::execution::SessionState,
    value: &ast::Expr,
    of: &Type,
) -> Result<ScalarValue> {
    // A parameter's numeric is as wide as it comes, whatever it is compared with.
    let name = match of {
        Type::Numeric(..) => "numeric".to_owned(),
        other => other.to_string(),
    };
    let mut cast = parse::expression(&format!("CAST(NULL AS {name})"))?;
    let ast::Expr::Cast { expr, .. } = &mut cast else {
        return Err(Error::internal("a cast is no cast"));
    };
    **expr = value.clone();
    let of = match of {
        Type::Numeric(..) => arrow::datatypes::DataType::Decimal128(38, 10),
        other => other.to_arrow(),
    };
    bind::constant::constant(scope, session, &cast, &of)
}

/// A numeric of no stated size takes the size that the statement gives it.
fn stated_type(of: &ast::DataType) -> Result<Option<Type>> {
    use ast::ExactNumberInfo::None as Unsized;
    match of {
        ast::DataType::Numeric(Unsized)
        | ast::DataType::Decimal(Unsized)
        | ast::DataType::Dec(Unsized) => Ok(None),
        ast::DataType::Custom(name, _) if name.to_string().eq_ignore_ascii_case("unknown") => {
            Ok(None)
        }
        of => bind::sql_type(of).map(Some),
    }
}

fn no_statement(name: &str) -> Error {
    Error::new(Kind::InvalidStatementName, format!("prepared statement \"{name}\" does not exist"))
}
