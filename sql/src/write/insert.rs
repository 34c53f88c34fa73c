//! The rows of `INSERT`, of `COPY … FROM` and of `CREATE TABLE AS`, from a plan into files.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::execution::SessionState;
use futures::StreamExt;
use kho_catalog::error::Result;
use kho_catalog::policy::PolicyCommand;
use kho_catalog::privilege::RelationAction;
use kho_catalog::state::Relation;
use kho_catalog::table::{Commit, Stage, Staged};
use sqlparser::ast;

use super::base::Base;
use super::conform::Conformer;
use super::keys::{self, Recheck, Told};
use super::modify::Parameters;
use super::reshaping::refuse_reshaped;
use super::returning::{self, Wanted, Which};
use super::target::{bind_insert, target_name, with_typed_parameters};
use super::{Pending, commit_author, tables, upsert};
use crate::authorize::{AuthorizedPlan, authorize};
use crate::bind::{self, Bound};
use crate::errors::from_engine;
use crate::execute::{self, Limits};
use crate::outcome::Tag;
use crate::scope::Scope;
use crate::secure::{self, Checks};
use crate::session::with_parameters;

/// Rows that are all in files, which no version names yet.
pub(crate) struct Closed {
    base: Base,
    relation: Arc<Relation>,
    staged: Staged,
    rows: u64,
    keyed: Option<SessionState>,
}

/// Rows being added to one table.
pub(crate) struct Append {
    base: Base,
    relation: Arc<Relation>,
    conformer: Conformer,
    stage: Stage,
    rows: u64,
    /// What its keys are checked by, where it has any.
    keyed: Option<SessionState>,
    /// What the policies ask of new rows.
    policies: Option<Checks>,
}

impl Append {
    /// Begins to add rows to `relation` behind `base`; the right to was checked. `commands` are
    /// those whose policies the rows must satisfy.
    pub(crate) async fn begin(
        scope: &Scope,
        session: &SessionState,
        relation: &Arc<Relation>,
        base: Base,
        commands: &[PolicyCommand],
    ) -> Result<Append> {
        let relation = keys::current(scope, relation).await?;
        refuse_reshaped(&relation, &base.snapshot)?;
        let stage = scope.stage(&relation, &base.snapshot.columns()?)?;
        let stage = stage.behind(&base.snapshot).spreading();
        let conformer = Conformer::new(session, &relation, stage.schema())?;
        let keyed = (!relation.keys().is_empty()).then(|| session.clone());
        let policies = Checks::new(scope, session, &relation, stage.schema(), commands).await?;
        let relation = Arc::new(relation);
        Ok(Append { base, relation, conformer, stage, rows: 0, keyed, policies })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.conformer.schema()
    }

    /// Takes a batch. Of a load that was applied before, the rows are checked and dropped.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.conformer.conform(batch)?;
        if let Some(policies) = &mut self.policies {
            policies.refuse(&batch).await?;
        }
        self.rows += batch.num_rows() as u64;
        match self.base.loaded {
            true => Ok(()),
            false => self.stage.write(&batch).await,
        }
    }

    /// Closes the files; what is left is the commit, and what is given back.
    pub(crate) async fn finish(
        self,
        scope: &Scope,
        command: &str,
        wanted: Option<(&Wanted, Parameters<'_>)>,
    ) -> Result<Pending> {
        self.close().await?.into_pending(scope, command, wanted).await
    }

    /// Closes the files.
    pub(crate) async fn close(self) -> Result<Closed> {
        let Append { base, relation, stage, rows, keyed, .. } = self;
        let staged = stage.finish().await?;
        Ok(Closed { base, relation, staged, rows, keyed })
    }

    pub(crate) async fn abort(self) {
        self.stage.abort().await;
    }
}

impl Closed {
    /// The version that the rows go behind.
    pub(crate) fn version(&self) -> u64 {
        self.base.snapshot.version()
    }

    /// Whether the session's load was applied before.
    pub(crate) fn is_applied(&self) -> bool {
        self.base.loaded
    }

    /// Takes the table for rows that came before its lease; see [`Base::claim`]. Where nothing is to
    /// be committed there is nothing to wait for.
    pub(crate) async fn claim(&mut self, scope: &Scope) -> Result<()> {
        if !self.changes_something(scope) {
            return Ok(());
        }
        let now = self.base.claim(scope, &self.relation).await?;
        if let Some(now) = now {
            self.relation = Arc::new(now);
        }
        Ok(())
    }

    /// The commit, and what is given back.
    pub(crate) async fn into_pending(
        self,
        scope: &Scope,
        command: &str,
        wanted: Option<(&Wanted, Parameters<'_>)>,
    ) -> Result<Pending> {
        let tag = Tag::with_rows(command, self.rows);
        let changes = self.changes_something(scope);
        let staged = self.staged;
        let returning = match wanted {
            Some((wanted, parameters)) => {
                let version = self.base.snapshot.version();
                let (rows, relation) = ((&staged, Which::Written), &self.relation);
                let plan = returning::plan(scope, relation, version, wanted, rows, parameters);
                match plan.await {
                    Ok(returning) => Some(returning),
                    Err(error) => {
                        staged.discard().await;
                        return Err(error);
                    }
                }
            }
            None => None,
        };
        let mut pending = match changes {
            true => commit_of(scope, self.base, self.relation, self.keyed, staged, tag).await?,
            false => {
                // Another one may have applied the load while these rows came.
                staged.discard().await;
                Pending::nothing(tag)
            }
        };
        pending.returning = returning;
        Ok(pending)
    }

    pub(crate) async fn discard(self) {
        self.staged.discard().await;
    }

    fn changes_something(&self, scope: &Scope) -> bool {
        !self.base.loaded && (self.rows > 0 || scope.load.is_some())
    }
}

/// What is to be committed of staged rows, once their keys were checked.
async fn commit_of(
    scope: &Scope,
    base: Base,
    relation: Arc<Relation>,
    keyed: Option<SessionState>,
    staged: Staged,
    tag: Tag,
) -> Result<Pending> {
    let author = commit_author(scope);
    let Some(session) = keyed else {
        let commit = Commit::append(&base.snapshot, staged, author);
        return Ok(Pending::rows(scope, base, commit, tag));
    };
    let told = Told::of_write(scope, &relation);
    if let Err(error) = check_keys(scope, &session, &relation, &staged, &base, told).await {
        staged.discard().await;
        return Err(error);
    }
    // What was added because of other rows cannot be moved behind other commits.
    if scope.has_read(relation.oid) {
        let commit = Commit::append(&base.snapshot, staged, author);
        return Ok(Pending::rows(scope, base, commit, tag));
    }
    let (relation, load) = (Arc::unwrap_or_clone(relation), scope.load.clone());
    let rows = Recheck { session, relation, staged, author, load, told };
    Ok(Pending::keyed_rows(base, rows, tag))
}

/// Checks new rows against those there are: in a block that has written the table, against a version
/// of it and the keys that the block added since, while they are few.
async fn check_keys(
    scope: &Scope,
    session: &SessionState,
    relation: &Relation,
    staged: &Staged,
    base: &Base,
    told: Told,
) -> Result<()> {
    let tables = tables(scope);
    let Some(head) = scope.block.head(relation.oid) else {
        return keys::check(&tables, session, relation, staged, &base.snapshot, (&[], told)).await;
    };
    if let (Some(_), Some((known, since))) = (staged.new_keys(), head.with_keys_since())
        && keys::are_told(relation, since)
    {
        keys::check_among(session, relation, staged, since, told)?;
        return keys::check(&tables, session, relation, staged, known, (&[], told)).await;
    }
    let whole = head.snapshot().await?;
    keys::check(&tables, session, relation, staged, &whole, (&[], told)).await
}

/// Runs an `INSERT` up to its commit.
pub(crate) async fn insert(
    scope: &Scope,
    insert: &ast::Insert,
    parameters: Parameters<'_>,
    limits: &Limits,
) -> Result<Pending> {
    let relation = target(scope, insert)?;
    // Before the rows' query is bound, so that it reads the version that the rows go behind.
    let base = match insert.on {
        Some(_) => Base::take(scope, &relation, limits).await?,
        None => Base::take_to_add(scope, &relation, limits).await?,
    };
    if let Some((change, given)) = upsert::of_insert(scope, insert, &relation, parameters).await? {
        return super::modify::modify_behind(scope, &change, base, given, parameters, limits).await;
    }
    let work = async {
        let mut bound = bind_insert(scope, insert, &relation, parameters.fields).await?;
        bound.plan = with_parameters(bound.plan, parameters.values)?;
        authorize(scope, bound)
    };
    let plan = limits.run(work).await?;
    let wanted = wanted(insert)?;
    let commands = match wanted {
        // Rows that are given back are seen.
        Some(_) => vec![PolicyCommand::Insert, PolicyCommand::Select],
        None => vec![PolicyCommand::Insert],
    };
    let append = Append::begin(scope, plan.session(), &relation, base, &commands).await?;
    let wanted = wanted.as_ref().map(|wanted| (wanted, parameters));
    fill(append, scope, &plan, limits, wanted).await
}

/// What an `INSERT` takes and gives back.
pub(crate) async fn describe(
    scope: &Scope,
    insert: &ast::Insert,
    parameters: &[Option<FieldRef>],
) -> Result<(Bound, Option<Bound>)> {
    let relation = target(scope, insert)?;
    let none = Parameters { fields: parameters, values: &[] };
    if let Some((change, given)) = upsert::of_insert(scope, insert, &relation, none).await? {
        return super::modify::describe(scope, &change, given, parameters).await;
    }
    let typed = with_typed_parameters(insert, &relation)?;
    let bound = bind_insert(scope, &typed, &relation, parameters).await?;
    let returned = match wanted(insert)? {
        Some(wanted) => {
            let snapshot = scope.shape(&relation).await?;
            let rows = returning::no_rows(snapshot.schema())?;
            let session = scope.shared.session_state(scope)?;
            let rows = secure::written(scope, &session, &relation, rows).await?.provider;
            Some(returning::bind_over(scope, rows, &wanted, parameters).await?)
        }
        None => None,
    };
    Ok((bound, returned))
}

fn target(scope: &Scope, insert: &ast::Insert) -> Result<Arc<Relation>> {
    let name = bind::Name::from_ast(target_name(insert)?)?;
    bind::find_for(scope, &name, RelationAction::InsertAny)
}

/// What an `INSERT` is to give back.
pub(super) fn wanted(insert: &ast::Insert) -> Result<Option<Wanted>> {
    let Some(items) = insert.returning.clone() else { return Ok(None) };
    let shown = shown(insert)?;
    Ok(Some(Wanted { items, shown, command: "INSERT" }))
}

/// What the table is called in an `INSERT`.
pub(super) fn shown(insert: &ast::Insert) -> Result<ast::Ident> {
    match &insert.table_alias {
        Some(alias) => Ok(alias.alias.clone()),
        None => {
            let name = bind::object_name(target_name(insert)?)?;
            Ok(ast::Ident::with_quote('"', name.name))
        }
    }
}

async fn fill(
    mut append: Append,
    scope: &Scope,
    plan: &AuthorizedPlan,
    limits: &Limits,
    wanted: Option<(&Wanted, Parameters<'_>)>,
) -> Result<Pending> {
    let filled = limits
        .run(async {
            let mut rows = execute::stream_kept(plan, scope).await?;
            while let Some(batch) = rows.next().await {
                append.write(&batch.map_err(from_engine)?).await?;
            }
            Ok(())
        })
        .await;
    match filled {
        Ok(()) => limits.run(append.finish(scope, "INSERT", wanted)).await,
        Err(error) => {
            append.abort().await;
            Err(error)
        }
    }
}

/// Stages the rows of `plan` for a table that does not exist yet.
pub(crate) async fn stage_new(
    scope: &Scope,
    plan: &AuthorizedPlan,
    conformer: &Conformer,
    mut stage: Stage,
    limits: &Limits,
) -> Result<Staged> {
    let staged = limits
        .run(async {
            let mut rows = execute::stream_kept(plan, scope).await?;
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(from_engine)?;
                crate::told::check(&batch, plan.plan().schema().as_ref().as_arrow())?;
                stage.write(&conformer.conform(&batch)?).await?;
            }
            Ok(())
        })
        .await;
    match staged {
        Ok(()) => stage.finish().await,
        Err(error) => {
            stage.abort().await;
            Err(error)
        }
    }
}
