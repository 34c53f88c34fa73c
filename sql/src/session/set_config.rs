//! `set_config(name, value, is_local)`: `SET` as a function, as an item of a `SELECT` without
//! `FROM`.
//!
//! What it guarantees: it obeys what `SET` and `SET LOCAL` obey, and gives the new value as `SHOW`
//! does. Items are evaluated from left to right, each with the settings that those before it made.
//! A statement that fails has set nothing.
//! What it does not: called anywhere else it is `0A000`, from where names are resolved; but for one setting
//! by the row of its name, which is how pgAdmin begins.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt as _;
use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast::{
    self, DataType as SqlType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    SelectItem, SetExpr,
};

use super::Session;
use super::dispatch::{Done, query, rows};
use crate::authorize::purpose;
use crate::bind;
use crate::errors::from_arrow;
use crate::execute::Limits;
use crate::limit::meter::metered;
use crate::outcome::Rows;
use crate::scope::Scope;
use crate::settings::{Saved, is_of_transaction};
use crate::write::modify::Parameters;

/// One item of the select list, as a statement of its own.
pub(super) enum Item {
    /// Gives name, value and `is_local`; the result has this name.
    Call(ast::Statement, String),
    Other(ast::Statement),
}

/// The items of a `SELECT` of nothing but items, of which one or more call `set_config`; `None` of
/// any other statement.
pub(super) fn items(statement: &ast::Statement) -> Option<Vec<Item>> {
    let statement = &*of_one_setting(statement);
    let select = plain(statement)?;
    let calls = select.iter().any(|item| called(item).is_some());
    let item = |item: &SelectItem| match called(item) {
        Some(call) => {
            let list = call.arguments.map(SelectItem::UnnamedExpr).to_vec();
            Some(Item::Call(with_items(statement, list)?, call.shown))
        }
        None => Some(Item::Other(with_items(statement, vec![item.clone()])?)),
    };
    if calls { select.iter().map(item).collect() } else { None }
}

/// A statement that takes and gives what such a `SELECT` does, and sets nothing.
pub(super) fn described(statement: &ast::Statement) -> Option<ast::Statement> {
    let statement = &*of_one_setting(statement);
    let select = plain(statement)?;
    let mut calls = false;
    let items = select.iter().map(|item| match called(item) {
        Some(call) => {
            calls = true;
            let [name, value, local] = call.arguments.map(Box::new);
            let when = ast::CaseWhen { condition: *local, result: *name };
            let expr = Expr::Case {
                case_token: ast::helpers::attached_token::AttachedToken::empty(),
                end_token: ast::helpers::attached_token::AttachedToken::empty(),
                operand: None,
                conditions: vec![when],
                else_result: Some(value),
            };
            let alias = Ident::with_quote('"', call.shown);
            SelectItem::ExprWithAlias { expr, alias }
        }
        None => item.clone(),
    });
    let items = items.collect();
    if calls { with_items(statement, items) } else { None }
}

/// `SELECT set_config('x', …) FROM pg_show_all_settings() WHERE name = 'x'`, by which pgAdmin sets what a
/// server knows, without the row that it asks for: a setting that is known has one.
fn of_one_setting(statement: &ast::Statement) -> Cow<'_, ast::Statement> {
    let bare = || {
        let ast::Statement::Query(query) = statement else { return None };
        let SetExpr::Select(select) = query.body.as_ref() else { return None };
        let ([source], [item]) = (select.from.as_slice(), select.projection.as_slice()) else {
            return None;
        };
        let call = called(item)?;
        let [Expr::Cast { expr: name, .. }, _, _] = &call.arguments else { return None };
        let Expr::Value(value) = name.as_ref() else { return None };
        let name = value.value.clone().into_string()?;
        let is_of_it = matches!(
            source.to_string().to_lowercase().as_str(),
            "pg_show_all_settings()" | "pg_catalog.pg_show_all_settings()" | "pg_settings"
        ) && select.selection.as_ref()?.to_string() == format!("name = '{name}'");
        if !is_of_it || !crate::settings::is_known(&name) {
            return None;
        }
        let mut query = query.clone();
        let SetExpr::Select(select) = query.body.as_mut() else { return None };
        select.from.clear();
        select.selection = None;
        Some(ast::Statement::Query(query))
    };
    bare().map_or(Cow::Borrowed(statement), Cow::Owned)
}

struct Call {
    /// Cast to what the function takes: text, text and boolean.
    arguments: [Expr; 3],
    shown: String,
}

/// The select list of a statement that has nothing else.
fn plain(statement: &ast::Statement) -> Option<&[SelectItem]> {
    let ast::Statement::Query(query) = statement else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    if !select.from.is_empty() || !select.projection.iter().any(|it| called(it).is_some()) {
        return None;
    }
    let items: Vec<String> = select.projection.iter().map(ToString::to_string).collect();
    // Any clause more would be written out.
    (query.to_string() == format!("SELECT {}", items.join(", "))).then_some(&select.projection)
}

fn called(item: &SelectItem) -> Option<Call> {
    let (expr, shown) = match item {
        SelectItem::UnnamedExpr(expr) => (expr, "set_config".to_owned()),
        SelectItem::ExprWithAlias { expr, alias } => (expr, bind::folded(alias)),
        _ => return None,
    };
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(name)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(local)),
    ] = list.args.as_slice()
    else {
        return None;
    };
    let is_plain = function.filter.is_none()
        && function.over.is_none()
        && function.within_group.is_empty()
        && list.clauses.is_empty()
        && list.duplicate_treatment.is_none();
    let text = |expr: &Expr| cast(expr, SqlType::Text);
    (is_plain && bind::sets_config(&function.name)).then(|| Call {
        arguments: [text(name), text(value), cast(local, SqlType::Boolean)],
        shown,
    })
}

fn cast(expr: &Expr, data_type: SqlType) -> Expr {
    let (kind, expr) = (ast::CastKind::Cast, Box::new(expr.clone()));
    Expr::Cast { kind, expr, data_type, array: false, format: None }
}

fn with_items(statement: &ast::Statement, items: Vec<SelectItem>) -> Option<ast::Statement> {
    let mut statement = statement.clone();
    let ast::Statement::Query(query) = &mut statement else { return None };
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    select.projection = items;
    Some(statement)
}

/// The one row that is made, column by column.
#[derive(Default)]
struct Row {
    fields: Vec<FieldRef>,
    columns: Vec<ArrayRef>,
}

impl Session {
    pub(super) async fn select_and_set(
        &mut self,
        scope: &Scope,
        items: &[Item],
        values: Parameters<'_>,
        limits: &Limits,
    ) -> Result<Done> {
        let is_alone = self.saved.is_none();
        self.saved.get_or_insert_with(|| Saved::of(&self.settings));
        let row = self.each(scope, items, values, limits).await;
        if is_alone {
            self.end_settings(row.is_ok());
        }
        let Row { fields, columns } = row?;
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        let batch = batch.map_err(|error| from_arrow(&error))?;
        let rows = Rows::new(schema, "SELECT", futures::stream::iter([Ok(batch)]));
        Ok(Done::Rows(rows))
    }

    async fn each(
        &mut self,
        scope: &Scope,
        items: &[Item],
        values: Parameters<'_>,
        limits: &Limits,
    ) -> Result<Row> {
        let mut row = Row::default();
        let mut changed: Option<Scope> = None;
        for item in items {
            let scope = changed.as_ref().unwrap_or(scope);
            match item {
                Item::Other(statement) => {
                    let (fields, columns) = one(scope, statement, values, limits).await?;
                    row.fields.extend(fields);
                    row.columns.extend(columns);
                }
                Item::Call(statement, shown) => {
                    let (_, columns) = one(scope, statement, values, limits).await?;
                    refuse_purpose(&columns, items.len())?;
                    let value = self.set_as_told(&columns).await?;
                    row.fields.push(Arc::new(Field::new(shown, DataType::Utf8, true)));
                    row.columns.push(Arc::new(StringArray::from(vec![value])));
                    changed = Some(self.scope().await?);
                }
            }
            if let (Some(scope), Some(transaction)) = (&changed, self.block.transaction()) {
                transaction.note_reads(&scope.reads);
            }
        }
        Ok(row)
    }

    /// Sets what one call says; gives the new value.
    async fn set_as_told(&mut self, columns: &[ArrayRef]) -> Result<String> {
        let argument = |at: usize| -> Result<ScalarValue> {
            let column =
                columns.get(at).ok_or_else(|| Error::internal("an argument is missing"))?;
            ScalarValue::try_from_array(column, 0).map_err(crate::errors::from_engine)
        };
        let text = |value: ScalarValue| value.try_as_str().flatten().map(str::to_owned);
        let name = text(argument(0)?)
            .ok_or_else(|| Error::new(Kind::NullValueNotAllowed, "SET requires parameter name"))?;
        let value = text(argument(1)?);
        let local = matches!(argument(2)?, ScalarValue::Boolean(Some(true)));
        let local = local || is_of_transaction(&name);
        self.change_settings(local, |settings| settings.set(&name, value.as_deref())).await?;
        self.settings.shown(&name)
    }
}

/// What a statement is recorded to be for, all of it is for: the purpose is not set beside something
/// else, nor for this statement alone.
fn refuse_purpose(arguments: &[ArrayRef], items: usize) -> Result<()> {
    let Some(name) = arguments.first() else { return Ok(()) };
    let name = ScalarValue::try_from_array(name, 0).map_err(crate::errors::from_engine)?;
    let states = name.try_as_str().flatten().is_some_and(purpose::states);
    if states && items > 1 { Err(purpose::of_part()) } else { Ok(()) }
}

/// Runs a `SELECT` of one row.
async fn one(
    scope: &Scope,
    statement: &ast::Statement,
    values: Parameters<'_>,
    limits: &Limits,
) -> Result<(Vec<FieldRef>, Vec<ArrayRef>)> {
    let (plan, names) = limits.run(query(scope, statement, values)).await?;
    let found = rows(&plan, limits, "SELECT", names).await?;
    let fields = found.schema.fields().iter().cloned().collect();
    // What is put together of it has no standing of its own.
    let found = metered(found, plan.standing().meter(&scope.facts, &scope.statement_id));
    let mut batches: Vec<RecordBatch> = limits.run(found.try_collect()).await?;
    batches.retain(|batch| batch.num_rows() > 0);
    match batches.as_slice() {
        [batch] if batch.num_rows() == 1 => Ok((fields, batch.columns().to_vec())),
        _ => Err(Error::unsupported("beside set_config an item gives one row")),
    }
}
