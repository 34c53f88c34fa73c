//! Statements that change the catalog, joined to what they do to data.
//!
//! What it is: `command` says what is to be committed; here that becomes a pending write, with the
//! Delta side of creating and reshaping tables around it.
//! What it guarantees: a statement is checked when it is given, and decided again, on the newest
//! state, when it is committed. A table exists for others once the catalog names it.
//! On failure: a table's files that no catalog entry names are orphans, which maintenance removes.

mod policy;
mod table;
mod view;

use std::sync::Arc;

use kho_catalog::error::{Error, Result};
use kho_catalog::freeze;
use kho_catalog::privilege::{Principal, Within};
use kho_catalog::state::State;
use kho_catalog::text::Text;
use sqlparser::ast;

pub(crate) use self::policy::expression as policy_expression;
use crate::command::{self, Context, Planned};
use crate::execute::Limits;
use crate::outcome::{Notice, Tag};
use crate::parse::{
    DefaultStatement, Membership, OwnedStatement, PrivilegeStatement, RelationStatement,
    RoleStatement,
};
use crate::passwords::Rules;
use crate::scope::Scope;
use crate::write::{Decide, Pending, author};

/// A pending change, and what the client is told now.
pub(crate) struct Change {
    pub pending: Pending,
    pub notices: Vec<Notice>,
}

/// `CREATE`, `ALTER`, `DROP ROLE`.
pub(crate) fn role(scope: &Scope, statement: &RoleStatement) -> Result<Change> {
    let statement = statement.clone();
    planned(scope, move |context| command::role::apply(context, &statement))
}

/// `GRANT role TO role`, `REVOKE role FROM role`.
pub(crate) fn membership(scope: &Scope, statement: &Membership) -> Result<Change> {
    let statement = statement.clone();
    planned(scope, move |context| command::role::membership(context, &statement))
}

/// `ALTER TABLE … SET SCHEMA`, `RESET`; `ALTER VIEW`.
pub(crate) fn relation(scope: &Scope, statement: &RelationStatement) -> Result<Change> {
    let statement = statement.clone();
    planned(scope, move |context| command::relation::apply(context, &statement))
}

/// `GRANT` and `REVOKE` of rights on objects.
pub(crate) fn privilege(scope: &Scope, statement: &PrivilegeStatement) -> Result<Change> {
    let statement = statement.clone();
    planned(scope, move |context| command::grant::apply(context, &statement))
}

/// `ALTER DEFAULT PRIVILEGES`.
pub(crate) fn default_privilege(scope: &Scope, statement: &DefaultStatement) -> Result<Change> {
    let statement = statement.clone();
    planned(scope, move |context| command::grant::apply_default(context, &statement))
}

/// `REASSIGN OWNED`, `DROP OWNED`.
pub(crate) fn owned(scope: &Scope, statement: &OwnedStatement) -> Result<Change> {
    let statement = statement.clone();
    planned(scope, move |context| command::owned::apply(context, &statement))
}

/// Every other statement that changes the catalog.
///
/// # Errors
/// `0A000` for a statement that nothing here does.
pub(crate) async fn change(
    scope: &Scope,
    statement: &ast::Statement,
    limits: &Limits,
) -> Result<Change> {
    use ast::Statement as S;
    match statement {
        S::CreateTable(create) if create.query.is_some() => {
            table::create_as(scope, create, limits).await
        }
        S::CreateTable(create) => table::create(scope, create).await,
        S::AlterTable(alter) => table::alter(scope, alter, limits).await,
        S::CreateView(create) => view::create(scope, create).await,
        S::CreatePolicy(create) => policy::create(scope, create).await,
        S::AlterPolicy(alter) => policy::alter(scope, alter).await,
        other => pure(scope, other),
    }
}

/// Statements that concern the catalog alone.
fn pure(scope: &Scope, statement: &ast::Statement) -> Result<Change> {
    use ast::Statement as S;
    let statement = statement.clone();
    match &statement {
        S::CreateSchema { .. }
        | S::AlterSchema(_)
        | S::Comment { .. }
        | S::CreateIndex(_)
        | S::DropPolicy(_)
        | S::Drop { object_type: ast::ObjectType::Index, table: None, .. }
        | S::Drop { object_type: ast::ObjectType::Schema, .. }
        | S::Drop { object_type: ast::ObjectType::Table, temporary: false, .. }
        | S::Drop { object_type: ast::ObjectType::View, .. } => {}
        _ => return Err(Error::unsupported("this statement is not supported")),
    }
    planned(scope, move |context| match &statement {
        S::CreateSchema { .. } => command::schema::create(context, &statement),
        S::AlterSchema(alter) => command::schema::alter(context, alter),
        S::CreateIndex(create) => command::table::create_index(context, create),
        S::DropPolicy(drop) => command::policy::drop(context, drop),
        S::Comment { object_type, object_name, comment, if_exists } => command::comment::apply(
            context,
            *object_type,
            object_name,
            comment.as_deref(),
            *if_exists,
        ),
        S::Drop { object_type, if_exists, names, cascade, .. } => match object_type {
            ast::ObjectType::Schema => command::schema::drop(context, names, *if_exists, *cascade),
            ast::ObjectType::View => command::view::drop(context, names, *if_exists, *cascade),
            ast::ObjectType::Index => command::table::drop_indexes(context, names, *if_exists),
            _ => command::table::drop(context, names, *if_exists, *cascade),
        },
        _ => Err(Error::unsupported("this statement is not supported")),
    })
}

/// A pending catalog change from a command: run once now, for its errors and notices, and again
/// on whatever the state is when it is committed.
pub(crate) fn planned(
    scope: &Scope,
    command: impl FnMut(&mut Context<'_>) -> Result<Planned> + Send + 'static,
) -> Result<Change> {
    let mut decider = Decider::new(scope, command);
    let Planned { changes, tag, notices } = decider.plan(&scope.state)?;
    let pending = match changes.is_empty() {
        true => Pending::nothing(Tag::new(tag)),
        false => Pending::catalog(decider.decide(), author(scope, tag), Tag::new(tag)),
    };
    Ok(Change { pending, notices })
}

/// Asks something of the scope's catalog with what a command knows.
pub(crate) fn look<T>(
    scope: &Scope,
    look: impl FnOnce(&mut Context<'_>) -> Result<T>,
) -> Result<T> {
    let none = |_: &mut Context<'_>| Err(Error::internal("nothing is to be changed"));
    Decider::new(scope, none).with_context(&scope.state, look)
}

/// A command, and the values it takes besides the state.
struct Decider<F> {
    role: u32,
    /// What the session has less than its role.
    within: Option<Arc<Within>>,
    search_path: Vec<String>,
    now_ms: i64,
    dataset: String,
    salt: [u8; 16],
    passwords: Rules,
    environment: kho_catalog::environment::Environment,
    command: F,
}

impl<F> Decider<F>
where
    F: FnMut(&mut Context<'_>) -> Result<Planned> + Send + 'static,
{
    fn new(scope: &Scope, command: F) -> Decider<F> {
        let environment = scope.shared.catalog.environment().clone();
        Decider {
            role: scope.who.role(),
            within: scope.who.bounds().cloned(),
            search_path: scope.search_path(),
            now_ms: scope.now_ms,
            dataset: environment.new_id(),
            salt: *uuid::Uuid::new_v4().as_bytes(),
            passwords: scope.shared.passwords,
            environment,
            command,
        }
    }

    fn plan(&mut self, state: &State) -> Result<Planned> {
        let planned = self.with_context_of(state, |command, context| command(context))?;
        freeze::refuse_frozen_changes(state, &planned.changes)?;
        let who = Principal::of(state, self.role).within(self.within.as_ref());
        who.refuse_changes(state, &planned.changes)?;
        Ok(planned)
    }

    /// Runs something else with the same context.
    fn with_context<T>(
        &mut self,
        state: &State,
        look: impl FnOnce(&mut Context<'_>) -> Result<T>,
    ) -> Result<T> {
        self.with_context_of(state, |_, context| look(context))
    }

    fn with_context_of<T>(
        &mut self,
        state: &State,
        run: impl FnOnce(&mut F, &mut Context<'_>) -> Result<T>,
    ) -> Result<T> {
        let who = Principal::of(state, self.role).within(self.within.as_ref());
        let environment = &self.environment;
        let mut text = |text: &str| Text::new(text, environment.new_id(), environment.salt());
        let mut context = Context {
            state,
            who: &who,
            search_path: &self.search_path,
            now_ms: self.now_ms,
            dataset: &self.dataset,
            salt: self.salt,
            passwords: &self.passwords,
            text: &mut text,
        };
        run(&mut self.command, &mut context)
    }

    fn decide(mut self) -> Decide {
        Box::new(move |state| self.plan(state).map(|planned| planned.changes))
    }
}
