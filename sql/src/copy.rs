//! `COPY`: its options, and the end that batches are fed into.
//!
//! What it guarantees: an option is obeyed or refused; nothing is visible before
//! `Session::finish_copy`, and a dropped [`CopyIn`] leaves nothing visible behind. While rows come,
//! others write the table: it is waited for and asked again when the rows are all there, unless the
//! open block has it already.
//! What it does not: it reads and writes no bytes of a format; the wire does.

mod fit;
mod options;

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use kho_catalog::audit::Opened;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::PolicyCommand;
use kho_catalog::privilege::{ColumnAction, RelationAction};
use kho_catalog::state::Relation;
use sqlparser::ast;

pub(crate) use fit::decimals;
pub use fit::{Fit, Pieces};
pub use options::{CopyFormat, CopyHeader, CopyOptions};

use crate::authorize::AuthorizedPlan;
use crate::bind;
use crate::errors::from_arrow;
use crate::execute::Limits;
use crate::outcome::Deadline;
use crate::parse::{CopySource, CopyStatement};
use crate::scope::Scope;
use crate::session::{Facts, query};
use crate::write::insert::{Append, Closed};
use crate::write::modify::Parameters;
use crate::write::{Base, Pending, rights};

/// Where a `COPY … FROM STDIN` puts its rows.
pub struct CopyIn {
    relation: String,
    schema: SchemaRef,
    options: CopyOptions,
    scope: Scope,
    append: Option<Append>,
    /// Its rows, when they are all there and wait for the table.
    closed: Option<Closed>,
    /// When it ends before its work is done.
    limits: Limits,
    /// For each column of the table: its place among the copied ones, or its default.
    sources: Vec<Source>,
    found: u64,
    applied: bool,
    pub(crate) record: Option<(Opened, Facts)>,
    /// Until when the rows must be in.
    pub deadline: Deadline,
}

enum Source {
    Copied(usize),
    Default(datafusion::scalar::ScalarValue),
}

impl CopyIn {
    /// The columns to be delivered, in order. Text columns are `Utf8`; declared types that Arrow
    /// lacks are in the field metadata (`kho_catalog::types::Type::from_field`).
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn options(&self) -> &CopyOptions {
        &self.options
    }

    /// The version of the table that the rows go behind: the one that was found first, and once the
    /// copy has finished, the one that it was checked against.
    pub fn found_version(&self) -> u64 {
        self.found
    }

    /// Whether the session's load was applied before: then its rows are checked and dropped.
    pub fn is_applied(&self) -> bool {
        self.applied
    }

    /// Takes one batch of [`CopyIn::schema`]; waits while the storage is slower than the client.
    ///
    /// # Errors
    /// What the write path says: `23502`, `23514`, `22001`, `58030`. The copy is over then.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let Some(append) = self.append.as_mut() else {
            return Err(Error::internal("a COPY that failed was fed again"));
        };
        let whole = widen(&batch, &self.sources, append.schema())?;
        let written = append.write(&whole).await;
        if written.is_err()
            && let Some(append) = self.append.take()
        {
            append.abort().await;
        }
        written
    }

    /// Waits for the table, for as long as the statement may take; what is left is the commit.
    pub(crate) async fn finish(&mut self) -> Result<Pending> {
        let Some(append) = self.append.take() else {
            return Err(Error::internal("a COPY that failed was finished"));
        };
        let closed = append.close().await?;
        // Kept here while it waits: whoever gives that up gives the files up, too.
        let closed = self.closed.insert(closed);
        let claimed = self.limits.run(closed.claim(&self.scope)).await;
        let Some(closed) = self.closed.take() else {
            return Err(Error::internal("the rows of a COPY were lost"));
        };
        if let Err(error) = claimed {
            closed.discard().await;
            return Err(error);
        }
        (self.found, self.applied) = (closed.version(), closed.is_applied());
        let mut pending = closed.into_pending(&self.scope, "COPY", None).await?;
        pending.stand_on(&self.scope)?;
        Ok(pending)
    }
}

impl Drop for CopyIn {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the files are orphans maintenance removes.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if let Some(append) = self.append.take() {
            runtime.spawn(append.abort());
        }
        if let Some(closed) = self.closed.take() {
            runtime.spawn(closed.discard());
        }
    }
}

/// Begins a `COPY … FROM STDIN`.
pub(crate) async fn begin_in(
    scope: &Scope,
    copy: &CopyStatement,
    limits: &Limits,
) -> Result<CopyIn> {
    let CopySource::Table { name, columns } = &copy.source else {
        return Err(Error::new(Kind::Syntax, "a query cannot be copied into"));
    };
    let name = bind::object_name(name)?;
    let relation = bind::find_for(scope, &name, RelationAction::InsertAny)?;
    match columns.as_slice() {
        [] => {
            let all = relation.columns.iter().map(|column| column.name.as_str());
            rights::require(scope, &relation, ColumnAction::Insert, all)?;
        }
        columns => {
            let given = columns.iter().map(String::as_str);
            rights::require(scope, &relation, ColumnAction::Insert, given)?;
        }
    }
    let session = scope.shared.session_state(scope)?;
    let base = Base::look(scope, &relation, limits).await?;
    let (found, applied) = (base.snapshot.version(), base.loaded);
    let commands = [PolicyCommand::Insert];
    let append = Append::begin(scope, &session, &relation, base, &commands).await?;
    let table = append.schema().clone();
    let places = copied_columns(&relation, &table, columns)?;
    let mut sources = Vec::new();
    for (index, field) in table.fields().iter().enumerate() {
        let source = match places.iter().position(|place| *place == index) {
            Some(place) => Source::Copied(place),
            None => Source::Default(default(scope, &session, &relation, field)?),
        };
        sources.push(source);
    }
    // Whether NULL is allowed is checked where the row is whole.
    let fields = places.iter().filter_map(|place| table.fields().get(*place));
    let fields: Vec<_> = fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let options = options::parse(&copy.options, &schema)?;
    Ok(CopyIn {
        relation: relation.name.clone(),
        schema,
        options,
        scope: scope.clone(),
        append: Some(append),
        closed: None,
        limits: limits.clone(),
        sources,
        found,
        applied,
        record: None,
        deadline: Deadline::default(),
    })
}

/// Plans a `COPY … TO STDOUT`.
pub(crate) async fn plan_out(
    scope: &Scope,
    copy: &CopyStatement,
) -> Result<(AuthorizedPlan, CopyOptions)> {
    let statement = match &copy.source {
        CopySource::Query(query) => ast::Statement::Query(query.clone()),
        CopySource::Table { name, columns } => {
            if bind::find(scope, &bind::object_name(name)?)?.view().is_some() {
                return Err(Error::new(
                    Kind::WrongObjectType,
                    format!("cannot copy from view \"{name}\""),
                )
                .with_hint("Try the COPY (SELECT …) TO variant."));
            }
            select_columns(name, columns)?
        }
    };
    let none = Parameters { fields: &[], values: &[] };
    let (plan, _) = query(scope, &statement, none).await?;
    let schema: SchemaRef = plan.plan().schema().inner().clone();
    let options = options::parse(&copy.options, &schema)?;
    Ok((plan, options))
}

fn select_columns(name: &ast::ObjectName, columns: &[String]) -> Result<ast::Statement> {
    let mut query = crate::parse::query("SELECT * FROM x")?;
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        if let Some(ast::TableFactor::Table { name: from, .. }) =
            select.from.first_mut().map(|from| &mut from.relation)
        {
            *from = name.clone();
        }
        if !columns.is_empty() {
            let item = |column: &String| {
                let ident = ast::Ident::with_quote('"', column.as_str());
                ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(ident))
            };
            select.projection = columns.iter().map(item).collect();
        }
    }
    Ok(ast::Statement::Query(Box::new(query)))
}

fn copied_columns(relation: &Relation, table: &Schema, columns: &[String]) -> Result<Vec<usize>> {
    if columns.is_empty() {
        return Ok((0..table.fields().len()).collect());
    }
    let mut places = Vec::new();
    for column in columns {
        let place = table.index_of(column).map_err(|_| {
            Error::new(
                Kind::UndefinedColumn,
                format!("column \"{column}\" of relation \"{}\" does not exist", relation.name),
            )
        })?;
        if places.contains(&place) {
            return Err(Error::new(
                Kind::DuplicateColumn,
                format!("column \"{column}\" specified more than once"),
            ));
        }
        places.push(place);
    }
    Ok(places)
}

fn default(
    scope: &Scope,
    session: &datafusion::execution::SessionState,
    relation: &Relation,
    field: &arrow::datatypes::Field,
) -> Result<datafusion::scalar::ScalarValue> {
    match relation.column(field.name()).and_then(|column| column.default.as_ref()) {
        Some(text) => {
            let expression = crate::parse::expression(text.required()?)?;
            bind::constant::constant(scope, session, &expression, field.data_type())
        }
        None => datafusion::scalar::ScalarValue::try_from(field.data_type())
            .map_err(crate::errors::from_engine),
    }
}

/// The copied columns among the table's, the others at their defaults.
fn widen(batch: &RecordBatch, sources: &[Source], table: &SchemaRef) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut columns = Vec::with_capacity(sources.len());
    let mut fields = Vec::with_capacity(sources.len());
    for (source, field) in sources.iter().zip(table.fields()) {
        let column = match source {
            Source::Copied(place) => match batch.columns().get(*place) {
                Some(column) => column.clone(),
                None => return Err(Error::internal("a copied row lacks a column")),
            },
            Source::Default(value) if value.is_null() => new_null_array(field.data_type(), rows),
            Source::Default(value) => {
                value.to_array_of_size(rows).map_err(crate::errors::from_engine)?
            }
        };
        fields.push(arrow::datatypes::Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|it| from_arrow(&it))
}
