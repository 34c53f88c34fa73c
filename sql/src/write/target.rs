//! What an `INSERT` means: its target's columns, defaults, and the plan of its rows.
//!
//! What it guarantees: the plan gives the table's columns, complete and in order. A value of one
//! kind is not taken for another (`42804`); `VALUES` and a query follow the same rules.
//! What it does not: `NOT NULL` and `CHECK` are kept where rows are written.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::Column as PlanColumn;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, LogicalPlanBuilder, TableType, lit};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::ColumnAction;
use kho_catalog::state::{Column, Relation};
use kho_catalog::types::Type;
use sqlparser::ast;

use super::change::state_type;
use super::rights;
use crate::bind::constant::expression_over;
use crate::bind::{self, Bound};
use crate::errors::{from_engine, to_engine};
use crate::scope::Scope;

/// The name under which the planner sees the target: no user can write it.
const TARGET: &str = "\u{1}target";

/// The name of the table that rows are inserted into.
pub(crate) fn target_name(insert: &ast::Insert) -> Result<&ast::ObjectName> {
    match &insert.table {
        ast::TableObject::TableName(name) => Ok(name),
        _ => Err(Error::unsupported("rows are inserted into tables only")),
    }
}

/// Binds an `INSERT` into `relation`: the plan of the rows, complete and in the table's order.
pub(crate) async fn bind_insert(
    scope: &Scope,
    insert: &ast::Insert,
    relation: &Relation,
    parameters: &[Option<FieldRef>],
) -> Result<Bound> {
    refuse_options(insert)?;
    let snapshot = scope.shape(relation).await?;
    let session = scope.shared.session_state(scope)?;
    let target = Target::new(&session, relation, &snapshot.schema())?;
    let mut insert = insert.clone();
    (insert.on, insert.returning) = (None, None);
    insert.table = ast::TableObject::TableName(internal(TARGET));
    insert.table_alias = None;
    let columns = target_columns(&insert, relation)?;
    require_rights(scope, &insert, relation, &columns)?;
    fill_defaults(&mut insert, relation, &columns)?;
    if let Some(source) = insert.source.as_ref().filter(|it| !is_values(it)) {
        let query = ast::Statement::Query(source.clone());
        let mut bound = bind::bind(scope, &query, parameters, Vec::new()).await?;
        let given = bound.plan.schema().fields().len();
        let given = columns.iter().take(given).map(String::as_str);
        rights::require(scope, relation, ColumnAction::Insert, given)?;
        bound.names.clear();
        bound.plan = target.assigned(bound.plan, &columns, !insert.columns.is_empty())?;
        return Ok(bound);
    }
    let extra: bind::Extra = vec![(TARGET.to_owned(), Arc::new(target))];
    let statement = ast::Statement::Insert(insert);
    let mut bound = bind::bind(scope, &statement, parameters, extra).await?;
    bound.plan = match bound.plan {
        LogicalPlan::Dml(dml) => Arc::unwrap_or_clone(dml.input),
        _ => return Err(Error::internal("an INSERT was planned as something else")),
    };
    Ok(bound)
}

/// An `INSERT`, for who asks what its parameters are: one that a query gives to a column is of the type
/// of that.
pub(super) fn with_typed_parameters(
    insert: &ast::Insert,
    relation: &Relation,
) -> Result<ast::Insert> {
    let columns = target_columns(insert, relation)?;
    let mut typed = insert.clone();
    if let Some(query) = &mut typed.source
        && let ast::SetExpr::Select(select) = query.body.as_mut()
    {
        for (item, column) in select.projection.iter_mut().zip(&columns) {
            let (ast::SelectItem::UnnamedExpr(value)
            | ast::SelectItem::ExprWithAlias { expr: value, .. }) = item
            else {
                // Behind a wildcard nobody knows the places.
                break;
            };
            if let Some(column) = relation.column(column) {
                state_type(value, &column.data_type);
            }
        }
    }
    Ok(typed)
}

/// That the role may give values to the columns that `VALUES` gives values to; how many a query
/// gives is known when it is bound.
fn require_rights(
    scope: &Scope,
    insert: &ast::Insert,
    relation: &Relation,
    columns: &[String],
) -> Result<()> {
    let given = match insert.source.as_ref().map(|source| source.body.as_ref()) {
        None => 0,
        Some(ast::SetExpr::Values(values)) => {
            values.rows.first().map_or(0, |row| row.content.len())
        }
        Some(_) => return Ok(()),
    };
    let given = columns.iter().take(given).map(String::as_str);
    rights::require(scope, relation, ColumnAction::Insert, given)
}

/// A name made of one part that is taken as it is.
pub(super) fn internal(name: &str) -> ast::ObjectName {
    let ident = ast::Ident::with_quote('"', name);
    ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ident)])
}

fn refuse_options(insert: &ast::Insert) -> Result<()> {
    let refused = [
        (insert.output.is_some(), "OUTPUT"),
        (insert.or.is_some() || insert.ignore || insert.replace_into, "INSERT OR …"),
        (insert.overwrite, "INSERT OVERWRITE"),
        (insert.partitioned.is_some() || !insert.after_columns.is_empty(), "PARTITION"),
        (!insert.assignments.is_empty(), "INSERT … SET"),
        (insert.settings.is_some() || insert.format_clause.is_some(), "this clause"),
        (insert.multi_table_insert_type.is_some(), "INSERT ALL"),
        (insert.priority.is_some() || insert.insert_alias.is_some(), "this clause"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(Error::unsupported(format!("{what} is not supported"))),
        None => Ok(()),
    }
}

/// The names of the columns that are given values, in order.
fn target_columns(insert: &ast::Insert, relation: &Relation) -> Result<Vec<String>> {
    if insert.columns.is_empty() {
        return Ok(relation.columns.iter().map(|column| column.name.clone()).collect());
    }
    let mut names: Vec<String> = Vec::new();
    for written in &insert.columns {
        let name = bind::object_name(written)?.name;
        if relation.column(&name).is_none() {
            let table = &relation.name;
            let message = format!("column \"{name}\" of relation \"{table}\" does not exist");
            return Err(Error::new(Kind::UndefinedColumn, message));
        }
        if names.contains(&name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(Error::new(Kind::DuplicateColumn, message));
        }
        names.push(name);
    }
    Ok(names)
}

/// `VALUES` alone; with an order or a limit it is a query as any other.
fn is_values(query: &ast::Query) -> bool {
    matches!(query.body.as_ref(), ast::SetExpr::Values(_))
        && query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
}

/// A number is no boolean and no date, nor the other way round, whatever the engine would make of it.
fn refuse_literal(value: &ast::Expr, column: &Column) -> Result<()> {
    let ast::Expr::Value(literal) = value else { return Ok(()) };
    let of = match &literal.value {
        ast::Value::Number(..) => DataType::Int32,
        ast::Value::Boolean(_) => DataType::Boolean,
        _ => return Ok(()),
    };
    require_assignable(&of, &column.data_type.to_arrow(), &column.name)
}

fn require_assignable(from: &DataType, to: &DataType, column: &str) -> Result<()> {
    let class = |of: &DataType| match of {
        DataType::Null => None,
        DataType::Boolean => Some(1),
        _ if of.is_numeric() => Some(2),
        _ if of.is_temporal() => Some(3),
        _ if of.is_binary() => Some(4),
        _ if of.is_nested() => Some(5),
        _ => None,
    };
    match (class(from), class(to)) {
        (Some(one), Some(other)) if one != other => {
            let name = |of: &DataType| {
                let field = Field::new("", of.clone(), true);
                Type::from_field(&field).map_or_else(|| of.to_string(), |of| of.to_string())
            };
            let (from, to) = (name(from), name(to));
            let message =
                format!("column \"{column}\" is of type {to} but expression is of type {from}");
            Err(Error::new(Kind::DatatypeMismatch, message)
                .with_hint("You will need to rewrite or cast the expression."))
        }
        _ => Ok(()),
    }
}

/// Writes the defaults' expressions where `VALUES` says `DEFAULT`, and for `DEFAULT VALUES`.
fn fill_defaults(insert: &mut ast::Insert, relation: &Relation, columns: &[String]) -> Result<()> {
    let default = |name: &str| -> Result<ast::Expr> {
        let column = relation.column(name);
        match column.and_then(|column| column.default.as_ref()) {
            Some(text) => crate::parse::expression(text.required()?),
            None => Ok(ast::Expr::Value(ast::Value::Null.into())),
        }
    };
    let Some(source) = &mut insert.source else {
        let row = columns.iter().map(|name| default(name)).collect::<Result<Vec<_>>>()?;
        insert.source = Some(Box::new(values_query(row)?));
        return Ok(());
    };
    if let ast::SetExpr::Values(values) = source.body.as_mut() {
        for row in &mut values.rows {
            for (value, column) in row.content.iter_mut().zip(columns) {
                if is_default(value) {
                    *value = default(column)?;
                }
                if let Some(column) = relation.column(column) {
                    refuse_literal(value, column)?;
                }
            }
        }
        // PostgreSQL takes fewer values than columns when no columns are named.
        let width = values.rows.first().map_or(0, |row| row.content.len());
        if insert.columns.is_empty() && width < columns.len() {
            insert.columns = columns.iter().take(width).map(|name| internal(name)).collect();
        }
    }
    Ok(())
}

pub(super) fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn values_query(row: Vec<ast::Expr>) -> Result<ast::Query> {
    let mut query = crate::parse::query("VALUES (1)")?;
    if let ast::SetExpr::Values(values) = query.body.as_mut() {
        values.rows = vec![sqlparser::ast::Parens::with_empty_span(row)];
    }
    Ok(query)
}

/// What the planner needs of an `INSERT`'s target: its columns and their defaults. It reads nothing.
#[derive(Debug)]
struct Target {
    schema: SchemaRef,
    defaults: Vec<(String, Expr)>,
}

impl Target {
    fn new(session: &SessionState, relation: &Relation, schema: &SchemaRef) -> Result<Target> {
        let mut defaults = Vec::new();
        for column in &relation.columns {
            if let Some(text) = &column.default {
                let expr = crate::parse::expression(text.required()?)?;
                let empty = datafusion::common::DFSchema::empty();
                defaults.push((column.name.clone(), expression_over(session, &expr, &empty)?));
            }
        }
        // NOT NULL is checked where rows are written, which names the column.
        let fields = schema.fields().iter().map(|it| it.as_ref().clone().with_nullable(true));
        Ok(Target { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), defaults })
    }

    /// The rows of `source`, whose columns are for `columns`, as rows of the table.
    fn assigned(
        &self,
        source: LogicalPlan,
        columns: &[String],
        named: bool,
    ) -> Result<LogicalPlan> {
        let given: Vec<(DataType, Expr)> = (source.schema().iter())
            .map(|(table, field)| {
                let column = PlanColumn::new(table.cloned(), field.name());
                (field.data_type().clone(), Expr::Column(column))
            })
            .collect();
        if given.len() > columns.len() {
            let message = "INSERT has more expressions than target columns";
            return Err(Error::new(Kind::Syntax, message));
        }
        if named && given.len() < columns.len() {
            let message = "INSERT has more target columns than expressions";
            return Err(Error::new(Kind::Syntax, message));
        }
        let mut values = Vec::new();
        for field in self.schema.fields() {
            let (name, of) = (field.name(), field.data_type());
            let value = match columns.iter().position(|column| column == name) {
                Some(place) if place < given.len() => given.get(place).cloned(),
                _ => None,
            };
            let value = match value {
                Some((from, value)) => {
                    require_assignable(&from, of, name)?;
                    value
                }
                None => self.get_column_default(name).cloned().unwrap_or(lit(ScalarValue::Null)),
            };
            let cast = Expr::Cast(Cast::new_from_field(Box::new(value), Arc::clone(field)));
            values.push(cast.alias(name));
        }
        let plan = LogicalPlanBuilder::from(source).project(values);
        plan.and_then(LogicalPlanBuilder::build).map_err(from_engine)
    }
}

#[async_trait::async_trait]
impl TableProvider for Target {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.iter().find(|(name, _)| name == column).map(|(_, expr)| expr)
    }

    async fn scan(
        &self,
        _session: &dyn datafusion::catalog::Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
        Err(to_engine(Error::internal("the target of an INSERT is not read")))
    }
}
