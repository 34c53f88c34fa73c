//! What new rows must satisfy, and what may be said in a policy or a mask at all.
//!
//! What it guarantees: a row that the policies do not let a role write is refused (`42501`) before
//! its file is committed, by whatever statement it comes. An expression is bound when it is set: a
//! wrong one is refused then, and so is one of another type, and one that a row could make fail.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as PlanResult;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::{self, Policy, PolicyCommand};
use kho_catalog::state::{Oid, Relation};
use sqlparser::ast;
use std::sync::{Arc, Mutex};

use super::infallible;
use super::source::{any, both, note, over_numbered, using};
use crate::authorize::{AuthorizedPlan, authorize};
use crate::bind::{self, Bound};
use crate::errors::{from_arrow, from_engine};
use crate::execute;
use crate::scope::{Governing, Scope, lock};

/// What rows written to one table must satisfy.
pub(crate) struct Checks {
    relation: Relation,
    conditions: Vec<Condition>,
    /// The rows that are asked about, one batch after another.
    rows: Arc<Proposed>,
    /// What is asked of them, bound and authorized once.
    plan: AuthorizedPlan,
}

/// A table of the rows that are being checked.
#[derive(Debug)]
struct Proposed {
    schema: SchemaRef,
    batch: Mutex<RecordBatch>,
}

struct Condition {
    expression: ast::Expr,
    /// The restrictive policy that says so.
    policy: Option<String>,
    /// Whether it is about rows that are there, not about new ones.
    stored: bool,
}

impl Checks {
    /// What the policies ask of rows that are written by `commands`; `None` where that is nothing.
    /// With [`PolicyCommand::Select`] among them the writer must be able to see the rows, too.
    ///
    /// # Errors
    /// Of binding the policies, and for a table that their queries read and the role may not.
    pub(crate) async fn new(
        scope: &Scope,
        session: &SessionState,
        relation: &Relation,
        schema: &SchemaRef,
        commands: &[PolicyCommand],
    ) -> Result<Option<Checks>> {
        let mut conditions = Vec::new();
        let Governing { state, relation: governed, who, .. } = scope.governing(relation);
        for command in commands {
            let applied = policy::applied(&state, &governed, &who, *command);
            let Some(applied) = applied else { continue };
            note(scope, relation, &applied);
            let checked = |policy: &Policy| check_of(policy, *command);
            let expression = any(applied.permissive.iter().map(|it| checked(it)))?;
            conditions.push(Condition { expression, policy: None, stored: false });
            for policy in applied.restrictive {
                let name = Some(policy.name.clone());
                let expression = checked(policy)?;
                conditions.push(Condition { expression, policy: name, stored: false });
            }
        }
        if conditions.is_empty() {
            return Ok(None);
        }
        Checks::of(scope, session, relation, schema, conditions).await.map(Some)
    }

    /// What the policies ask of rows that are there before `command` touches them.
    ///
    /// # Errors
    /// As [`Checks::new`].
    pub(crate) async fn of_stored(
        scope: &Scope,
        session: &SessionState,
        relation: &Relation,
        schema: &SchemaRef,
        command: PolicyCommand,
    ) -> Result<Option<Checks>> {
        let Governing { state, relation: governed, who, .. } = scope.governing(relation);
        let applied = policy::applied(&state, &governed, &who, command);
        let Some(applied) = applied else { return Ok(None) };
        note(scope, relation, &applied);
        let mut expression = any(applied.permissive.iter().map(|it| using(it)))?;
        for policy in applied.restrictive {
            expression = both(expression, using(policy)?);
        }
        let conditions = vec![Condition { expression, policy: None, stored: true }];
        Checks::of(scope, session, relation, schema, conditions).await.map(Some)
    }

    async fn of(
        scope: &Scope,
        session: &SessionState,
        relation: &Relation,
        schema: &SchemaRef,
        conditions: Vec<Condition>,
    ) -> Result<Checks> {
        let nothing = RecordBatch::new_empty(Arc::clone(schema));
        let batch = Mutex::new(nothing.clone());
        let rows = Arc::new(Proposed { schema: Arc::clone(schema), batch });
        let items = conditions.iter().map(|it| it.expression.clone()).collect();
        let (statement, extra) = over_numbered(relation, Arc::clone(&rows) as _, items)?;
        let scope = scope.within_policy_of(relation)?;
        let (plan, reads) = bind::within(&scope, session, statement, extra, 0).await?;
        let plan = infallible::folded(session, plan)?;
        let bound = Bound {
            plan,
            session: Arc::new(session.clone()),
            reads,
            names: Vec::new(),
            rows: None,
        };
        let plan = authorize(&scope, bound)?;
        let mut checks = Checks { relation: relation.clone(), conditions, rows, plan };
        // A wrong or forbidden one fails the statement, whether or not it writes a row.
        checks.refuse(&nothing).await?;
        Ok(checks)
    }

    /// Refuses `rows`, which have the table's columns, if one of them may not be written.
    pub(crate) async fn refuse(&mut self, rows: &RecordBatch) -> Result<()> {
        let schema = Arc::clone(&self.rows.schema);
        let rows = RecordBatch::try_new(schema, rows.columns().to_vec());
        *lock(&self.rows.batch) = rows.map_err(|error| from_arrow(&error))?;
        let mut answers = execute::stream(&self.plan).await?;
        while let Some(batch) = answers.next().await {
            let batch = batch.map_err(from_engine)?;
            for (condition, answer) in self.conditions.iter().zip(batch.columns()) {
                let answer = arrow::compute::cast(answer, &DataType::Boolean)
                    .map_err(|error| from_arrow(&error))?;
                let answer = answer.as_boolean();
                if answer.true_count() < answer.len() {
                    return Err(self.violation(condition));
                }
            }
        }
        Ok(())
    }

    fn violation(&self, condition: &Condition) -> Error {
        let table = &self.relation.name;
        let message = match &condition.policy {
            Some(policy) => format!(
                "new row violates row-level security policy \"{policy}\" for table \"{table}\""
            ),
            None if condition.stored => format!(
                "target row violates row-level security policy (USING expression) for table \
                 \"{table}\""
            ),
            None => format!("new row violates row-level security policy for table \"{table}\""),
        };
        Error::new(Kind::InsufficientPrivilege, message)
    }
}

#[async_trait::async_trait]
impl TableProvider for Proposed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let batch = lock(&self.batch).clone();
        let table = MemTable::try_new(Arc::clone(&self.schema), vec![vec![batch]])?;
        table.scan(session, projection, filters, limit).await
    }
}

/// Binds an expression of a policy or a mask, with columns by their ids, that is to be kept; gives
/// the relations that it reads.
///
/// # Errors
/// `42804` for a type that is not `wanted`, `0A000` for one that a row could make fail.
pub(crate) async fn refuse_unsafe(
    scope: &Scope,
    session: &SessionState,
    relation: &Relation,
    expression: ast::Expr,
    (what, of): (String, &DataType),
) -> Result<Vec<Oid>> {
    let fields: Vec<_> = relation
        .columns
        .iter()
        .map(|column| column.data_type.to_field(&column.name, true))
        .collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let table = Arc::new(MemTable::try_new(schema, vec![vec![]]).map_err(from_engine)?);
    let (statement, extra) = over_numbered(relation, table, vec![expression])?;
    // Who sets it knows no more than they may know; who is bound by it later need not know as much.
    let scope = Scope { who: scope.who.clone(), ..scope.within_policy_of(relation)? };
    let (plan, reads) = bind::within(&scope, session, statement, extra, 0).await?;
    let plan = infallible::folded(session, plan)?;
    let found = plan.schema().fields().first().map(|field| field.data_type().clone());
    let fits = match &found {
        Some(DataType::Null) => true,
        Some(found) => found == of || (found.is_string() && of.is_string()),
        None => false,
    };
    if !fits {
        let found = found.map_or_else(String::new, |it| it.to_string());
        let message = format!("argument of {what} must be type {of}, not type {found}");
        return Err(Error::new(Kind::DatatypeMismatch, message));
    }
    infallible::require(&plan)?;
    let mut oids: Vec<Oid> = reads.iter().map(|read| read.relation).collect();
    oids.sort_unstable();
    oids.dedup();
    authorize(
        &scope,
        Bound { plan, session: Arc::new(session.clone()), reads, names: Vec::new(), rows: None },
    )?;
    Ok(oids)
}

/// What a row that is written by `command` must satisfy by a policy.
fn check_of(policy: &Policy, command: PolicyCommand) -> Result<ast::Expr> {
    let text = match command {
        // To be seen by the writer it must satisfy what rows that are there must.
        PolicyCommand::Select => policy.using.as_ref(),
        _ => policy.with_check.as_ref().or(policy.using.as_ref()),
    };
    match text {
        Some(text) => crate::parse::expression(text.required()?),
        None => Ok(ast::Expr::Value(ast::Value::Boolean(true).into())),
    }
}
