//! From a statement to what does it.

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use kho_catalog::audit::RecordKind;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::RelationAction;
use sqlparser::ast;
use tokio_util::sync::CancellationToken;

use super::{Session, record, value_fields, with_parameters};
use crate::authorize::{AuthorizedPlan, authorize};
use crate::bind::{self, Bound};
use crate::copy::{self, CopyIn};
use crate::errors::from_engine;
use crate::execute::{self, Limits};
use crate::outcome::{Notice, Outcome, Rows, Tag};
use crate::parse::{Ast, CopyDirection, Statement};
use crate::scope::Scope;
use crate::settings::{Saved, Settings};
use crate::write::Pending;
use crate::write::insert::insert;
use crate::write::modify::{Modification, Parameters, modify, truncate};
use crate::write::target::bind_insert;
use crate::{ddl, explain, show};

/// What a statement came to, before its record is closed.
enum Done {
    Rows(Rows, Vec<kho_catalog::audit::TableVersion>),
    CopyOut(Rows, copy::CopyOptions, Vec<kho_catalog::audit::TableVersion>),
    CopyIn(Box<CopyIn>),
    Tag(Tag),
    Write(Pending),
    Empty,
}

/// Binds far enough to say what a statement takes and gives; `None` for one that takes no
/// parameters and gives no rows.
pub(super) async fn bind_for_description(
    scope: &Scope,
    settings: &Settings,
    statement: &Statement,
    parameters: &[Option<FieldRef>],
) -> Result<Option<(Vec<Option<FieldRef>>, Option<SchemaRef>)>> {
    let Ast::Sql(sql) = statement.ast() else { return Ok(None) };
    let bound = match sql.as_ref() {
        ast::Statement::Query(_) => {
            let bound = bind::bind(scope, sql, parameters, Vec::new()).await?;
            let schema = shown_schema(&bound);
            return Ok(Some((bind::parameter_fields(&bound.plan)?, Some(schema))));
        }
        ast::Statement::Insert(insert) => bind_insert(scope, insert, parameters).await?.1,
        ast::Statement::Update(update) => {
            Modification::of_update(update)?.bind_parameters(scope, parameters).await?
        }
        ast::Statement::Delete(delete) => {
            Modification::of_delete(delete)?.bind_parameters(scope, parameters).await?
        }
        ast::Statement::Explain { .. } => {
            return Ok(Some((Vec::new(), Some(explain::schema()))));
        }
        ast::Statement::ShowVariable { variable } => {
            return Ok(Some((Vec::new(), Some(show::schema(settings, variable)?))));
        }
        _ => return Ok(None),
    };
    Ok(Some((bind::parameter_fields(&bound.plan)?, None)))
}

impl Session {
    pub(super) async fn run_recorded(
        &mut self,
        statement: &Statement,
        parameters: &[ScalarValue],
        stop: &CancellationToken,
    ) -> Result<Outcome> {
        self.refuse_in_failed_block(statement)?;
        let mut entry = record::of_session(RecordKind::Statement, &self.login, &self.id);
        entry.statement = Some(statement.redacted().to_owned());
        let opened = self.engine.shared.ledger.begin(entry).await?;
        let limits = Limits::new(stop, self.settings.statement_timeout_ms());
        let done = match self.perform(statement, parameters, &limits).await {
            Ok(Done::Write(pending)) => self.settle(pending).await.map(Done::Tag),
            other => other,
        };
        match done {
            Ok(Done::Rows(rows, versions)) => {
                let (schema, command) = (rows.schema.clone(), rows.command);
                let rows = record::counted(rows, opened, command, versions);
                Ok(Outcome::Rows(Rows::new(schema, command, rows).until(limits.deadline)))
            }
            Ok(Done::CopyOut(rows, options, versions)) => {
                let (schema, command) = (rows.schema.clone(), rows.command);
                let rows = record::counted(rows, opened, command, versions);
                let rows = Rows::new(schema, command, rows).until(limits.deadline);
                Ok(Outcome::CopyOut(rows, options))
            }
            Ok(Done::CopyIn(mut copy)) => {
                copy.record = Some(opened);
                copy.deadline = limits.deadline;
                Ok(Outcome::CopyIn(copy))
            }
            Ok(Done::Tag(tag)) => {
                record::succeed(opened, &tag, Vec::new());
                Ok(Outcome::Done(tag))
            }
            Ok(Done::Empty | Done::Write(_)) => Ok(Outcome::Empty),
            Err(error) => {
                record::failed(opened, &error);
                Err(error)
            }
        }
    }

    pub(super) async fn finish_copy_inner(&mut self, mut copy: CopyIn) -> Result<Tag> {
        let opened = copy.record.take();
        let result = match copy.into_pending().await {
            Ok(pending) => self.settle(pending).await,
            Err(error) => Err(error),
        };
        match (opened, &result) {
            (Some(opened), Ok(tag)) => record::succeed(opened, tag, Vec::new()),
            (Some(opened), Err(error)) => record::failed(opened, error),
            (None, _) => {}
        }
        result
    }

    /// Holds a write until the block ends, or makes it visible now.
    async fn settle(&mut self, pending: Pending) -> Result<Tag> {
        if self.block.holds_writes() && !pending.is_nothing() {
            let tag = pending.tag.clone();
            self.block.hold(pending);
            return Ok(tag);
        }
        self.commit_pending(pending).await
    }

    pub(super) async fn commit_pending(&mut self, pending: Pending) -> Result<Tag> {
        let (tag, _version) = pending.commit(&self.engine.shared).await?;
        Ok(tag)
    }

    async fn perform(
        &mut self,
        statement: &Statement,
        parameters: &[ScalarValue],
        limits: &Limits,
    ) -> Result<Done> {
        if super::is_own(statement.ast()) {
            return self.perform_own(statement).await;
        }
        let scope = self.scope().await?;
        match statement.ast() {
            Ast::Sql(sql) => self.perform_sql(&scope, sql, parameters, limits).await,
            Ast::Copy(copy) => match copy.direction {
                CopyDirection::ServerSide => {
                    Err(Error::unsupported("COPY to or from the server's files is not supported")
                        .with_hint("Use COPY … FROM STDIN, or psql's \\copy."))
                }
                CopyDirection::FromStdin => {
                    self.refuse_write()?;
                    let begun = limits.run(copy::begin_in(&scope, copy)).await?;
                    Ok(Done::CopyIn(Box::new(begun)))
                }
                CopyDirection::ToStdout => {
                    self.block.refuse_read_after_write()?;
                    let (plan, options) = limits.run(copy::plan_out(&scope, copy)).await?;
                    let versions = record::versions(&scope.state, plan.reads());
                    Ok(Done::CopyOut(
                        rows(&plan, limits, "COPY", Vec::new()).await?,
                        options,
                        versions,
                    ))
                }
            },
            Ast::Role(role) => self.change_catalog(ddl::role(&scope, role)),
            Ast::Membership(membership) => self.change_catalog(ddl::membership(&scope, membership)),
            Ast::Relation(it) => self.change_catalog(ddl::relation(&scope, it)),
            Ast::RevokeOption(revoke) => self.change_catalog(ddl::revoke_option(&scope, revoke)),
        }
    }

    async fn perform_sql(
        &mut self,
        scope: &Scope,
        sql: &ast::Statement,
        parameters: &[ScalarValue],
        limits: &Limits,
    ) -> Result<Done> {
        let fields = value_fields(parameters);
        let values = Parameters { fields: &fields, values: parameters };
        match sql {
            ast::Statement::Query(_) => {
                let (plan, names) = limits.run(query(scope, sql, values)).await?;
                if reads_something(plan.plan())? {
                    self.block.refuse_read_after_write()?;
                }
                let versions = record::versions(&scope.state, plan.reads());
                Ok(Done::Rows(rows(&plan, limits, "SELECT", names).await?, versions))
            }
            ast::Statement::Explain { .. } => {
                self.block.refuse_read_after_write()?;
                let rows = explain::explain(scope, sql, values, limits).await?;
                Ok(Done::Rows(rows, Vec::new()))
            }
            ast::Statement::Insert(it) => {
                self.refuse_write()?;
                let (relation, mut bound) = bind_insert(scope, it, &fields).await?;
                bound.plan = with_parameters(bound.plan, parameters)?;
                Ok(Done::Write(insert(scope, &relation, bound, limits).await?))
            }
            ast::Statement::Update(it) => {
                self.refuse_write()?;
                let change = Modification::of_update(it)?;
                Ok(Done::Write(modify(scope, &change, values, limits).await?))
            }
            ast::Statement::Delete(it) => {
                self.refuse_write()?;
                let change = Modification::of_delete(it)?;
                Ok(Done::Write(modify(scope, &change, values, limits).await?))
            }
            ast::Statement::Truncate(it) => {
                self.refuse_write()?;
                let name = truncated_table(it)?;
                let name = bind::object_name(name)?;
                let relation = bind::find_for(scope, &name, RelationAction::Truncate)?;
                Ok(Done::Write(limits.run(truncate(scope, &relation)).await?))
            }
            ast::Statement::Call(function) => {
                self.refuse_write()?;
                Ok(Done::Write(limits.run(crate::call::call(scope, function)).await?))
            }
            other => {
                self.refuse_write()?;
                let change = ddl::change(scope, other, limits).await?;
                self.change_catalog(Ok(change))
            }
        }
    }

    fn change_catalog(&mut self, change: Result<ddl::Change>) -> Result<Done> {
        self.refuse_write()?;
        let ddl::Change { pending, notices } = change?;
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
                if self.block.begin() {
                    self.saved.get_or_insert_with(|| Saved::of(&self.settings));
                } else {
                    self.warn(
                        Kind::ActiveTransaction,
                        "there is already a transaction in progress",
                    );
                }
                if show::is_read_only(modes) {
                    self.block.set_read_only();
                }
                Ok(Done::Tag(Tag::new("BEGIN")))
            }
            ast::Statement::Commit { chain: false, .. } => self.commit_block().await.map(Done::Tag),
            ast::Statement::Rollback { chain: false, savepoint: None } => {
                match self.block.end() {
                    None => {
                        self.warn(Kind::NoActiveTransaction, "there is no transaction in progress");
                    }
                    Some((_, held)) => {
                        drop(held);
                        self.end_settings(false);
                    }
                }
                Ok(Done::Tag(Tag::new("ROLLBACK")))
            }
            ast::Statement::ShowVariable { variable } => {
                Ok(Done::Rows(show::show(&self.settings, variable)?, Vec::new()))
            }
            other => self.set(other).await.map(Done::Tag),
        }
    }

    async fn commit_block(&mut self) -> Result<Tag> {
        match self.block.end() {
            None => {
                self.warn(Kind::NoActiveTransaction, "there is no transaction in progress");
                Ok(Tag::new("COMMIT"))
            }
            Some((true, _)) => {
                self.end_settings(false);
                Ok(Tag::new("ROLLBACK"))
            }
            Some((false, held)) => {
                let committed = match held {
                    Some(pending) => self.commit_pending(pending).await.map(|_| ()),
                    None => Ok(()),
                };
                self.end_settings(committed.is_ok());
                committed.map(|()| Tag::new("COMMIT"))
            }
        }
    }

    /// `SET` and its kin. What a block sets is undone with the block; what it sets `LOCAL` holds in
    /// it only.
    async fn set(&mut self, statement: &ast::Statement) -> Result<Tag> {
        if let ast::Statement::Set(ast::Set::SetTransaction { modes, session: false, .. }) =
            statement
            && show::is_read_only(modes)
        {
            self.block.set_read_only();
        }
        let local = show::is_local(statement);
        if local && self.saved.is_none() {
            let message = "SET LOCAL can only be used in transaction blocks";
            self.warn(Kind::NoActiveTransaction, message);
            return Ok(Tag::new("SET"));
        }
        let before = self.settings.clone();
        let tag = show::set(&mut self.settings, statement)?;
        if self.settings.as_of() != before.as_of()
            && let Err(error) = self.scope().await
        {
            self.settings = before;
            return Err(error);
        }
        if let Some(saved) = self.saved.as_mut().filter(|_| !local) {
            show::set(saved.kept(), statement)?;
        }
        Ok(tag)
    }

    /// Whether a statement may write now.
    fn refuse_write(&self) -> Result<()> {
        if self.settings.as_of().is_some() {
            let message = "cannot write while kho.as_of is set";
            return Err(Error::new(Kind::ReadOnlyTransaction, message)
                .with_hint("RESET kho.as_of goes back to the data of now."));
        }
        self.block.refuse_write()
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
    let mut bound = bind::bind(scope, sql, parameters.fields, Vec::new()).await?;
    bound.plan = with_parameters(bound.plan, parameters.values)?;
    let names = std::mem::take(&mut bound.names);
    Ok((authorize(scope, bound)?, names))
}

/// Whether a plan reads any relation, the catalog's own among them.
fn reads_something(plan: &LogicalPlan) -> Result<bool> {
    let mut reads = false;
    let looked = plan.apply_with_subqueries(|node| {
        reads |= matches!(node, LogicalPlan::TableScan(_));
        Ok(TreeNodeRecursion::Continue)
    });
    looked.map(|_| reads).map_err(from_engine)
}

async fn rows(
    plan: &AuthorizedPlan,
    limits: &Limits,
    command: &'static str,
    names: Vec<Option<String>>,
) -> Result<Rows> {
    let shown = renamed(plan.plan().schema().inner().as_ref(), &names);
    let (_, stream) = execute::spawn(plan, limits).await?;
    Ok(Rows::new(shown, command, stream))
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
