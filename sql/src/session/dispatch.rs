//! From a statement to what does it.

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::scalar::ScalarValue;
use kho_catalog::audit::RecordKind;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::limit;
use kho_catalog::privilege::RelationAction;
use kho_catalog::state::{LimitName, Relation};
use sqlparser::ast;
use tokio_util::sync::CancellationToken;

use super::record::{self, Facts, Stated};
use super::{Session, set_config, value_fields, with_parameters};
use crate::authorize::{AuthorizedPlan, authorize, purpose};
use crate::bind::{self, Bound};
use crate::copy::{self, CopyIn};
use crate::execute::{self, Limits};
use crate::limit::running::Place;
use crate::outcome::{Notice, Outcome, Rows, Tag};
use crate::parse::{Ast, CopyDirection, CursorStatement, Statement};
use crate::plans;
use crate::scope::Scope;
use crate::settings::{Saved, Settings};
use crate::system::SCHEMA;
use crate::transaction::Transaction;
use crate::write::Pending;
use crate::write::modify::{Given, Parameters};
use crate::write::{Returning, insert, merge, modify};
use crate::{ddl, explain, show};

/// How often a statement outside of a block is run when others' commits come first.
const RUNS_MAX: usize = 10;

/// What a statement came to, before its record is closed.
#[expect(clippy::large_enum_variant, reason = "there is one of it at a time")]
pub(super) enum Done {
    Rows(Rows),
    CopyOut(Rows, copy::CopyOptions),
    CopyIn(Box<CopyIn>),
    Tag(Tag),
    Write(Pending),
    /// The cursor of this name, whose end closes the record.
    Declared(String),
    Empty,
}

/// The columns that a statement gives which concerns the session alone.
pub(super) fn own_columns(settings: &Settings, statement: &Statement) -> Result<Option<SchemaRef>> {
    match statement.ast() {
        Ast::Sql(sql) => match sql.as_ref() {
            ast::Statement::ShowVariable { variable } => show::schema(settings, variable).map(Some),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// Binds far enough to say what a statement takes and gives; `None` for one that takes no
/// parameters and gives no rows.
pub(super) async fn bind_for_description(
    scope: &Scope,
    settings: &Settings,
    statement: &Statement,
    parameters: &[Option<FieldRef>],
) -> Result<Option<(Vec<Option<FieldRef>>, Option<SchemaRef>)>> {
    let sql = match statement.ast() {
        Ast::Sql(sql) => sql,
        Ast::Cursor(cursor) => match cursor.as_ref() {
            CursorStatement::Declare(it) => {
                let bound = bind::bind(scope, &it.query, parameters, Vec::new()).await?;
                return Ok(Some((bind::parameter_fields(&bound.plan)?, None)));
            }
            CursorStatement::Fetch(_) => return Ok(None),
        },
        _ => return Ok(None),
    };
    let (bound, returned) = match sql.as_ref() {
        ast::Statement::Query(_) => {
            let bound = match set_config::described(sql) {
                Some(sql) => bind::bind(scope, &sql, parameters, Vec::new()).await?,
                // It will be run with what was found out here.
                None => plans::bind(scope, statement, sql, parameters).await?,
            };
            let schema = shown_schema(&bound);
            return Ok(Some((bind::parameter_fields(&bound.plan)?, Some(schema))));
        }
        ast::Statement::Insert(insert) => insert::describe(scope, insert, parameters).await?,
        ast::Statement::Update(update) => {
            let change = merge::of_update(update)?;
            modify::describe(scope, &change, Given::default(), parameters).await?
        }
        ast::Statement::Delete(delete) => {
            let change = merge::of_delete(delete)?;
            modify::describe(scope, &change, Given::default(), parameters).await?
        }
        ast::Statement::Merge(merge) => {
            let relation = merged(scope, merge)?;
            let change = merge::of_merge(merge, &relation)?;
            modify::describe(scope, &change, Given::default(), parameters).await?
        }
        ast::Statement::Call(function) => {
            return Ok(crate::call::described(function)?.map(|it| (Vec::new(), Some(it))));
        }
        ast::Statement::Explain { statement: inner, .. } => {
            let fields = match **inner {
                ast::Statement::Query(_) => {
                    let scope = &Scope { explains: true, ..scope.clone() };
                    let bound = bind::bind(scope, inner, parameters, Vec::new()).await?;
                    bind::parameter_fields(&bound.plan)?
                }
                // It is refused when it is run.
                _ => Vec::new(),
            };
            return Ok(Some((fields, Some(explain::schema()))));
        }
        ast::Statement::ShowVariable { .. } => {
            return Ok(Some((Vec::new(), own_columns(settings, statement)?)));
        }
        _ => return Ok(None),
    };
    let mut fields = bind::parameter_fields(&bound.plan)?;
    if let Some(returned) = &returned {
        let more = bind::parameter_fields(&returned.plan)?;
        fields.resize(fields.len().max(more.len()), None);
        for (field, other) in fields.iter_mut().zip(more) {
            *field = field.take().or(other);
        }
    }
    Ok(Some((fields, returned.as_ref().map(shown_schema))))
}

impl Session {
    pub(super) async fn run_recorded(
        &mut self,
        statement: &Statement,
        parameters: &[ScalarValue],
        stop: &CancellationToken,
        place: &mut Option<Place>,
    ) -> Result<Outcome> {
        let mut entry = self.entry(RecordKind::Statement, Some(statement));
        entry.parameters = record::hashed(self.engine.shared.ledger.keys(), parameters);
        let opened = self.engine.shared.ledger.begin(entry).await?;
        let facts = Facts::default();
        self.act = Some((opened.id().to_owned(), facts.clone()));
        let taken = match self.refuse_in_failed_block(statement) {
            Ok(()) => self.take_place(statement),
            Err(error) => Err(error),
        };
        match taken {
            Ok(taken) => *place = taken,
            Err(error) => {
                record::failed(opened, &error, &facts);
                return Err(error);
            }
        }
        let limits = Limits::new(stop, self.watch(), self.settings.statement_timeout_ms());
        // Alone, a statement has told nobody what it read: run anew it is simply later. The end of a
        // block is not alone: what it was to commit is gone with it.
        let is_alone = self.block.is_none() && !super::is_own(statement.ast());
        let mut runs = 0;
        let done = loop {
            let done = self.perform_and_settle(statement, parameters, &limits).await;
            let again = matches!(&done, Err(error) if error.kind() == Kind::SerializationFailure);
            runs += 1;
            if !(again && is_alone && runs < RUNS_MAX) {
                break done;
            }
        };
        match done {
            Ok(Done::Rows(rows)) => {
                Ok(Outcome::Rows(record::given(rows, opened, facts).until(limits.deadline)))
            }
            Ok(Done::CopyOut(rows, options)) => {
                let rows = record::given(rows, opened, facts).until(limits.deadline);
                Ok(Outcome::CopyOut(rows, options))
            }
            Ok(Done::CopyIn(mut copy)) => {
                copy.record = Some((opened, facts));
                copy.deadline = limits.deadline;
                Ok(Outcome::CopyIn(copy))
            }
            Ok(Done::Tag(tag)) => {
                record::succeed(opened, &tag, &facts);
                Ok(Outcome::Done(tag))
            }
            Ok(Done::Declared(cursor)) => {
                self.cursors.record(&cursor, opened, facts, place.take());
                Ok(Outcome::Done(Tag::new("DECLARE CURSOR")))
            }
            Ok(Done::Empty | Done::Write(_)) => {
                record::succeed(opened, &Tag::new(""), &facts);
                Ok(Outcome::Empty)
            }
            Err(error) => {
                record::failed(opened, &error, &facts);
                Err(error)
            }
        }
    }

    /// The place that a statement takes among those that run, where it takes one.
    fn take_place(&self, statement: &Statement) -> Result<Option<Place>> {
        if super::is_own(statement.ast()) || statement.takes_of_cursor() || cancels(statement) {
            return Ok(None);
        }
        let shared = &self.engine.shared;
        let state = shared.catalog.subscribe().borrow().clone();
        let limit = limit::of_role(&state, self.role).get(LimitName::ConcurrentStatements);
        let limit = limit.map(|limit| (state.as_ref(), limit));
        let of_server = u64::from(shared.of_server.concurrent_statements);
        shared.running.take(self.role, limit, of_server).map(Some)
    }

    /// One run of a statement, up to its commit or into its block.
    async fn perform_and_settle(
        &mut self,
        statement: &Statement,
        parameters: &[ScalarValue],
        limits: &Limits,
    ) -> Result<Done> {
        let mut pending = match self.perform(statement, parameters, limits).await? {
            Done::Write(pending) => pending,
            other => return Ok(other),
        };
        if let Some(reply) = pending.reply.take() {
            self.settle(pending).await?;
            let batches = futures::stream::iter([Ok(reply.clone())]);
            return Ok(Done::Rows(Rows::new(reply.schema(), "CALL", batches)));
        }
        let returning = pending.returning.take();
        // What cannot be computed is to fail the statement, not what comes after it.
        let (act, facts) = self.act.clone().unwrap_or_default();
        let meter = returning.as_ref().and_then(|it| it.plan.standing().meter(&facts, &act));
        let kept = match &returning {
            Some(returning) => limits.run(returning.rehearse(meter.clone())).await?,
            None => None,
        };
        let settled = self.settle(pending).await;
        if let (Err(_), Some(meter)) = (&settled, &meter) {
            meter.give_back();
        }
        let tag = settled?;
        let Some(Returning { plan, names, command }) = returning else {
            return Ok(Done::Tag(tag));
        };
        let rows = match kept {
            Some(batches) => {
                let shown = renamed(plan.plan().schema().inner().as_ref(), &names);
                let batches = futures::stream::iter(batches.into_iter().map(Ok));
                Rows::new(shown, command, batches).standing_on(Some(plan.standing().clone()))
            }
            None => rows(&plan, limits, command, names).await?,
        };
        Ok(Done::Rows(rows))
    }

    pub(super) async fn finish_copy_inner(&mut self, copy: &mut CopyIn) -> Result<Tag> {
        let opened = copy.record.take();
        let result = match copy.finish().await {
            Ok(pending) => self.settle(pending).await,
            Err(error) => Err(error),
        };
        match (opened, &result) {
            (Some((opened, facts)), Ok(tag)) => record::succeed(opened, tag, &facts),
            (Some((opened, facts)), Err(error)) => record::failed(opened, error, &facts),
            (None, _) => {}
        }
        result
    }

    /// Holds a write until the block ends, or makes it visible now.
    async fn settle(&mut self, mut pending: Pending) -> Result<Tag> {
        self.watch().check()?;
        if pending.changes_something() {
            self.refuse_change()?;
        }
        if let Some(mut standing) = pending.standing.take() {
            standing.check()?;
        }
        let shared = &self.engine.shared;
        match self.block.transaction() {
            Some(transaction) => transaction.take(shared, pending).await,
            None => {
                let stated = Stated::by(&self.settings);
                let (tag, version) = pending.commit(shared, &stated).await?;
                self.version = version;
                Ok(tag)
            }
        }
    }

    pub(super) async fn commit_transaction(&mut self, transaction: Transaction) -> Result<()> {
        self.watch().check()?;
        let stated = Stated::by(&self.settings);
        let serializable = self.settings.is_serializable();
        self.version = transaction.commit(&self.engine.shared, &stated, serializable).await?;
        Ok(())
    }

    pub(super) async fn perform(
        &mut self,
        statement: &Statement,
        parameters: &[ScalarValue],
        limits: &Limits,
    ) -> Result<Done> {
        self.watch().check()?;
        if super::is_own(statement.ast()) {
            return self.perform_own(statement).await;
        }
        let scope = self.scope().await?;
        let mut done = self.perform_in(&scope, statement, parameters, limits).await?;
        if let Done::Write(pending) = &mut done {
            pending.stand_on(&scope)?;
        }
        match (self.block.transaction(), &mut done) {
            (Some(transaction), _) => transaction.note_reads(&scope.reads),
            (None, Done::Write(pending)) => pending.depend(&scope),
            (None, _) => {}
        }
        Ok(done)
    }

    async fn perform_in(
        &mut self,
        scope: &Scope,
        statement: &Statement,
        parameters: &[ScalarValue],
        limits: &Limits,
    ) -> Result<Done> {
        match statement.ast() {
            Ast::Cursor(it) => self.perform_cursor(scope, it, parameters, limits).await,
            Ast::Sql(sql) if matches!(**sql, ast::Statement::Prepare { .. }) => {
                limits.run(self.prepare(scope, statement)).await
            }
            Ast::Sql(sql) if matches!(**sql, ast::Statement::Execute { .. }) => {
                self.execute(scope, sql, limits).await
            }
            Ast::Sql(sql) => self.perform_sql(scope, (statement, sql), parameters, limits).await,
            Ast::Copy(copy) => match copy.direction {
                CopyDirection::ServerSide => {
                    Err(Error::unsupported("COPY to or from the server's files is not supported")
                        .with_hint("Use COPY … FROM STDIN, or psql's \\copy."))
                }
                CopyDirection::FromStdin => {
                    self.refuse_write()?;
                    let begun = copy::begin_in(scope, copy, limits).await?;
                    Ok(Done::CopyIn(Box::new(begun)))
                }
                CopyDirection::ToStdout => {
                    let (plan, options) = limits.run(copy::plan_out(scope, copy)).await?;
                    let rows = rows(&plan, limits, "COPY", Vec::new()).await?;
                    Ok(Done::CopyOut(rows, options))
                }
            },
            Ast::Role(role) => self.change_catalog(scope, ddl::role(scope, role)),
            Ast::Membership(it) => self.change_catalog(scope, ddl::membership(scope, it)),
            Ast::Relation(it) => self.change_catalog(scope, ddl::relation(scope, it)),
            Ast::Privilege(it) => self.change_catalog(scope, ddl::privilege(scope, it)),
            Ast::Default(it) => self.change_catalog(scope, ddl::default_privilege(scope, it)),
            Ast::Owned(it) => self.change_catalog(scope, ddl::owned(scope, it)),
        }
    }

    async fn perform_sql(
        &mut self,
        scope: &Scope,
        (statement, sql): (&Statement, &ast::Statement),
        parameters: &[ScalarValue],
        limits: &Limits,
    ) -> Result<Done> {
        let fields = value_fields(parameters);
        let values = Parameters { fields: &fields, values: parameters };
        match sql {
            ast::Statement::Query(_) => {
                if let Some(items) = set_config::items(sql) {
                    return self.select_and_set(scope, &items, values, limits).await;
                }
                let query = async {
                    let bound = plans::bind(scope, statement, sql, values.fields).await?;
                    allowed(scope, bound, values)
                };
                let (plan, names) = limits.run(query).await?;
                Ok(Done::Rows(rows(&plan, limits, "SELECT", names).await?))
            }
            ast::Statement::Explain { .. } => {
                let rows = explain::explain(scope, sql, values, limits).await?;
                Ok(Done::Rows(rows))
            }
            ast::Statement::Insert(it) => {
                self.refuse_write()?;
                Ok(Done::Write(insert::insert(scope, it, values, limits).await?))
            }
            ast::Statement::Update(it) => {
                self.refuse_write()?;
                let change = merge::of_update(it)?;
                let given = Given::default();
                Ok(Done::Write(modify::modify(scope, &change, given, values, limits).await?))
            }
            ast::Statement::Delete(it) => {
                self.refuse_write()?;
                let change = merge::of_delete(it)?;
                let given = Given::default();
                Ok(Done::Write(modify::modify(scope, &change, given, values, limits).await?))
            }
            ast::Statement::Merge(it) => {
                self.refuse_write()?;
                let relation = merged(scope, it)?;
                let change = merge::of_merge(it, &relation)?;
                let given = Given::default();
                Ok(Done::Write(modify::modify(scope, &change, given, values, limits).await?))
            }
            ast::Statement::Truncate(it) => {
                self.refuse_write()?;
                let name = truncated_table(it)?;
                let name = bind::object_name(name)?;
                let relation = bind::find_for(scope, &name, RelationAction::Truncate)?;
                Ok(Done::Write(modify::truncate(scope, &relation, limits).await?))
            }
            ast::Statement::Call(function) => {
                // A procedure that only reads is for who may only read, too.
                self.refuse_read_only()?;
                let pending = crate::call::call(scope, function, limits).await?;
                if pending.catalog.is_some() {
                    let table = pending.table.as_ref().map(|it| it.relation);
                    scope.block.refuse_catalog_change(table)?;
                }
                Ok(Done::Write(pending))
            }
            other => {
                self.refuse_write()?;
                let change = ddl::change(scope, other, limits).await?;
                self.change_catalog(scope, Ok(change))
            }
        }
    }

    fn change_catalog(&mut self, scope: &Scope, change: Result<ddl::Change>) -> Result<Done> {
        self.refuse_write()?;
        let ddl::Change { pending, notices } = change?;
        if pending.catalog.is_some() {
            scope.block.refuse_catalog_change(pending.table.as_ref().map(|it| it.relation))?;
        }
        self.notices.extend(notices);
        Ok(Done::Write(pending))
    }

    /// Statements that concern the session alone.
    async fn perform_own(&mut self, statement: &Statement) -> Result<Done> {
        let Ast::Sql(sql) = statement.ast() else { return Ok(Done::Empty) };
        match sql.as_ref() {
            ast::Statement::StartTransaction {
                modes,
                modifier: None,
                statements,
                exception: None,
                ..
            } if statements.is_empty() => {
                let modes = show::modes(modes);
                if self.block.begin() {
                    self.saved.get_or_insert_with(|| Saved::of(&self.settings));
                    self.settings.begin_transaction(modes);
                } else {
                    self.warn(
                        Kind::ActiveTransaction,
                        "there is already a transaction in progress",
                    );
                    self.change_settings(true, |settings| settings.set_transaction(modes)).await?;
                }
                Ok(Done::Tag(Tag::new("BEGIN")))
            }
            ast::Statement::Commit { chain: false, .. } => {
                let ended = self.commit_block().await;
                self.begin_again();
                ended.map(Done::Tag)
            }
            ast::Statement::Rollback { chain: false, savepoint: None } => {
                if self.block.is_implicit() {
                    self.warn(Kind::NoActiveTransaction, "there is no transaction in progress");
                }
                if let Some((_, transaction)) = self.block.end() {
                    if let Some(transaction) = transaction {
                        transaction.roll_back().await;
                    }
                    self.end_settings(false);
                }
                self.begin_again();
                Ok(Done::Tag(Tag::new("ROLLBACK")))
            }
            ast::Statement::ShowVariable { variable } => {
                Ok(Done::Rows(show::show(&self.settings, variable)?))
            }
            ast::Statement::Savepoint { name } => self.savepoint(name).map(Done::Tag),
            ast::Statement::ReleaseSavepoint { name } => {
                self.release_savepoint(name).map(Done::Tag)
            }
            ast::Statement::Rollback { chain: false, savepoint: Some(name) } => {
                self.roll_back_to(name).await.map(Done::Tag)
            }
            ast::Statement::Close { cursor } => self.cursors.close(cursor).map(Done::Tag),
            ast::Statement::Deallocate { name, .. } => {
                self.prepared.deallocate(name).map(Done::Tag)
            }
            ast::Statement::Discard { object_type } => self.discard(object_type).map(Done::Tag),
            other => self.set(other).await.map(Done::Tag),
        }
    }

    /// Of a query of several statements, those after a `COMMIT` are a transaction again.
    fn begin_again(&mut self) {
        if self.of_several {
            self.block.begin_implicit();
            self.saved.get_or_insert_with(|| Saved::of(&self.settings));
        }
    }

    async fn commit_block(&mut self) -> Result<Tag> {
        if self.block.is_implicit() {
            self.warn(Kind::NoActiveTransaction, "there is no transaction in progress");
        }
        match self.block.end() {
            None => Ok(Tag::new("COMMIT")),
            Some((true, _)) => {
                self.end_settings(false);
                Ok(Tag::new("ROLLBACK"))
            }
            Some((false, transaction)) => {
                let committed = match transaction {
                    Some(transaction) => self.commit_transaction(transaction).await,
                    None => Ok(()),
                };
                self.end_settings(committed.is_ok());
                committed.map(|()| Tag::new("COMMIT"))
            }
        }
    }

    /// `SET` and its kin.
    async fn set(&mut self, statement: &ast::Statement) -> Result<Tag> {
        let local = show::is_local(statement);
        if local && self.saved.is_none() {
            if let Some(message) = show::no_block(statement) {
                self.warn(Kind::NoActiveTransaction, message);
            }
            // Nothing of it stays, but it must be right.
            let mut settings = self.settings.clone();
            let tag = show::set(&mut settings, statement)?;
            self.refuse_purpose(&self.settings.clone(), &settings).await?;
            return Ok(tag);
        }
        self.change_settings(local, |settings| show::set(settings, statement)).await
    }

    /// Changes settings. What a block sets is undone with the block; what it sets `local` holds in
    /// it only. What is refused changes nothing.
    pub(super) async fn change_settings<T>(
        &mut self,
        local: bool,
        change: impl Fn(&mut Settings) -> Result<T>,
    ) -> Result<T> {
        let before = self.settings.clone();
        let changed = change(&mut self.settings);
        let refused = match changed {
            Ok(_) => self.refuse_settings(&before).await.err(),
            Err(_) => None,
        };
        if changed.is_err() || refused.is_some() {
            self.settings = before;
            return refused.map_or(changed, Err);
        }
        if let Some(saved) = self.saved.as_mut().filter(|_| !local) {
            change(saved.kept())?;
        }
        self.tell_of_tighter_time(&before);
        changed
    }

    /// A time that the session gives its statements is not silently less than it said.
    fn tell_of_tighter_time(&mut self, before: &Settings) {
        let timeout_ms = self.settings.statement_timeout_ms();
        if timeout_ms == before.statement_timeout_ms() {
            return;
        }
        let tighter = self.watch().time_limit();
        if let Some((_, limit)) = tighter.filter(|(ms, _)| timeout_ms == 0 || timeout_ms > *ms) {
            let message = format!("statements may take less time than statement_timeout: {limit}");
            let message = message.trim_end_matches('.').to_owned();
            self.notices.push(Notice { severity: "WARNING", sqlstate: "01000", message });
        }
    }

    /// Refuses settings, made from those `before`, that the session cannot have now.
    async fn refuse_settings(&mut self, before: &Settings) -> Result<()> {
        let has_looked = self.block.transaction().is_some();
        if has_looked && before.is_read_only() && !self.settings.is_read_only() {
            let message = "transaction read-write mode must be set before any query";
            return Err(Error::new(Kind::ActiveTransaction, message));
        }
        if self.settings.as_of() != before.as_of() {
            self.scope().await?;
        }
        self.refuse_purpose(before, &self.settings.clone()).await
    }

    /// Refuses a purpose that is not in the list, and another one in the middle of a transaction. In
    /// a query of several statements that begins none, it can be set before anything is looked at.
    async fn refuse_purpose(&mut self, before: &Settings, after: &Settings) -> Result<()> {
        if purpose::is_same(before, after)? {
            return Ok(());
        }
        self.credential.refuse_purpose(&purpose::stated(after)?)?;
        if !self.block.is_implicit() || self.block.transaction().is_some() {
            return Err(purpose::in_transaction());
        }
        let state = self.engine.shared.catalog.fresh().await?;
        purpose::refuse_unknown(&state, after)
    }

    /// Whether a statement may write now, and the session at all.
    fn refuse_write(&self) -> Result<()> {
        self.refuse_change()?;
        self.refuse_read_only()
    }

    /// Whether what the session came by lets it change anything.
    fn refuse_change(&self) -> Result<()> {
        self.credential.within.as_ref().map_or(Ok(()), |within| within.refuse_change())
    }

    /// Whether a statement may write now.
    fn refuse_read_only(&self) -> Result<()> {
        if self.settings.as_of().is_some() {
            let message = "cannot write while kho.as_of is set";
            return Err(Error::new(Kind::ReadOnlyTransaction, message)
                .with_hint("RESET kho.as_of goes back to the data of now."));
        }
        if self.settings.is_read_only() {
            let message = "cannot execute a statement that writes in a read-only transaction";
            return Err(Error::new(Kind::ReadOnlyTransaction, message));
        }
        Ok(())
    }

    fn warn(&mut self, kind: Kind, message: &str) {
        self.notices.push(Notice {
            severity: "WARNING",
            sqlstate: kind.sqlstate(),
            message: message.to_owned(),
        });
    }
}

/// Binds and authorizes a query.
pub(crate) async fn query(
    scope: &Scope,
    sql: &ast::Statement,
    parameters: Parameters<'_>,
) -> Result<(AuthorizedPlan, Vec<Option<String>>)> {
    let bound = bind::bind(scope, sql, parameters.fields, Vec::new()).await?;
    allowed(scope, bound, parameters)
}

/// The plan with the values of its parameters, if it may run.
fn allowed(
    scope: &Scope,
    mut bound: Bound,
    parameters: Parameters<'_>,
) -> Result<(AuthorizedPlan, Vec<Option<String>>)> {
    bound.plan = with_parameters(bound.plan, parameters.values)?;
    let names = std::mem::take(&mut bound.names);
    Ok((authorize(scope, bound)?, names))
}

/// Whether a statement stops others: it must be there when nothing else may run any more.
fn cancels(statement: &Statement) -> bool {
    let Ast::Sql(sql) = statement.ast() else { return false };
    let ast::Statement::Call(function) = sql.as_ref() else { return false };
    bind::object_name(&function.name)
        .is_ok_and(|it| it.schema.as_deref() == Some(SCHEMA) && it.name == "cancel")
}

/// The table that a `MERGE` changes.
fn merged(scope: &Scope, merge: &ast::Merge) -> Result<std::sync::Arc<Relation>> {
    bind::find(scope, &bind::object_name(&merge::merge_target(merge)?)?)
}

pub(super) async fn rows(
    plan: &AuthorizedPlan,
    limits: &Limits,
    command: &'static str,
    names: Vec<Option<String>>,
) -> Result<Rows> {
    plan.standing().refuse_used_up()?;
    let shown = renamed(plan.plan().schema().inner().as_ref(), &names);
    let (_, stream) = execute::spawn(plan, limits).await?;
    Ok(Rows::new(shown, command, stream).standing_on(Some(plan.standing().clone())))
}

fn shown_schema(bound: &Bound) -> SchemaRef {
    renamed(bound.plan.schema().inner().as_ref(), &bound.names)
}

fn renamed(schema: &arrow::datatypes::Schema, names: &[Option<String>]) -> SchemaRef {
    let fields = schema.fields().iter().enumerate().map(|(index, field)| {
        match names.get(index).and_then(Option::as_ref) {
            Some(name) => field.as_ref().clone().with_name(name),
            None => field.as_ref().clone(),
        }
    });
    std::sync::Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

fn truncated_table(truncate: &ast::Truncate) -> Result<&ast::ObjectName> {
    let restarts = matches!(truncate.identity, Some(ast::TruncateIdentityOption::Restart));
    let cascades = matches!(truncate.cascade, Some(ast::CascadeOption::Cascade));
    if truncate.partitions.is_some() || restarts || cascades || truncate.on_cluster.is_some() {
        return Err(Error::unsupported("this form of TRUNCATE is not supported"));
    }
    match truncate.table_names.as_slice() {
        [table] => Ok(&table.name),
        _ => Err(Error::unsupported("one table is truncated at a time")),
    }
}
