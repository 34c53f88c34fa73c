//! Procedures on purposes, agreements, third parties, requests, freezes and limits: their arguments.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Quota, Relation};
use sqlparser::ast::FunctionArg;

use crate::command::access::{self, Access, Asked, Frozen, Rows, Wish};
use crate::command::{Context, Planned};
use crate::ddl;
use crate::scope::Scope;
use crate::system::{Arguments, Given};
use crate::write::Pending;

/// Runs the procedure `name`; `None` where it is none of these.
pub(super) async fn call(
    scope: &Scope,
    name: &str,
    arguments: &[FunctionArg],
) -> Option<Result<Pending>> {
    Some(match name {
        "add_purpose" => add_purpose(scope, arguments),
        "remove_purpose" => remove_purpose(scope, arguments),
        "grant_agreement" => grant_agreement(scope, arguments).await,
        "end_agreement" => end_agreement(scope, arguments),
        "set_third_party" => set_third_party(scope, arguments),
        "unset_third_party" => unset_third_party(scope, arguments),
        "request_access" => request_access(scope, arguments),
        "withdraw_access" => withdraw_access(scope, arguments),
        "approve_access" => approve_access(scope, arguments).await,
        "refuse_access" => refuse_access(scope, arguments),
        "freeze" => freeze(scope, arguments),
        "unfreeze" => unfreeze(scope, arguments),
        "set_role_limit" => set_role_limit(scope, arguments),
        _ => return None,
    })
}

fn add_purpose(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["code", "name", "needs_order"], arguments)?)?;
    let (code, name) = (given.required("code")?, given.required("name")?);
    let needs_order = given.boolean("needs_order")?.unwrap_or(false);
    planned(scope, move |ctx| access::add_purpose(ctx, &code, &name, needs_order))
}

fn remove_purpose(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["code"], arguments)?)?;
    let code = given.required("code")?;
    planned(scope, move |ctx| access::remove_purpose(ctx, &code))
}

/// With `columns` or `row_predicate` the rights on those come with the agreement.
async fn grant_agreement(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let names = &[
        "dataset",
        "role",
        "purposes",
        "valid_until",
        "basis",
        "third_party",
        "valid_from",
        "columns",
        "row_predicate",
        "order_number",
        "rows_per_day",
        "bytes_per_day",
    ];
    let given = Given::new(scope, Arguments::new(names, arguments)?)?;
    let relation = given.relation("dataset")?;
    let (columns, predicate) = (given.text("columns")?, given.text("row_predicate")?);
    let access = match (&columns, &predicate) {
        (None, None) => None,
        _ => Some(Access { columns, rows: rows(scope, &relation, predicate.as_deref()).await? }),
    };
    let table = relation.table().ok_or_else(|| Error::internal("a dataset is no table"))?;
    let wish = Wish {
        relation: relation.oid,
        folder: table.dataset.clone(),
        role: given.required("role")?,
        purposes: given.required("purposes")?,
        valid_from_ms: given.time_ms("valid_from")?,
        valid_until_ms: given
            .until_ms("valid_until")?
            .ok_or_else(|| given.missing("valid_until"))?,
        quota: quota(&given)?,
        basis: given.required("basis")?,
        third_party: given.text("third_party")?,
        order_number: given.text("order_number")?,
        access,
    };
    planned(scope, move |ctx| access::grant_agreement(ctx, &wish))
}

fn end_agreement(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["id", "reason"], arguments)?)?;
    let id = given.number("id")?.ok_or_else(|| given.missing("id"))?;
    let reason = given.required("reason")?;
    planned(scope, move |ctx| access::end_agreement(ctx, id, &reason))
}

fn set_third_party(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["role", "party"], arguments)?)?;
    let (role, party) = (given.required("role")?, given.required("party")?);
    planned(scope, move |ctx| access::set_third_party(ctx, &role, &party))
}

fn unset_third_party(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["role"], arguments)?)?;
    let role = given.required("role")?;
    planned(scope, move |ctx| access::unset_third_party(ctx, &role))
}

fn request_access(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let names = &[
        "dataset",
        "columns",
        "row_predicate",
        "purposes",
        "until",
        "basis",
        "order_number",
        "rows_per_day",
        "bytes_per_day",
    ];
    let given = Given::new(scope, Arguments::new(names, arguments)?)?;
    let asked = Asked {
        dataset: given.required("dataset")?,
        columns: given.text("columns")?,
        row_predicate: given.text("row_predicate")?,
        purposes: given.required("purposes")?,
        until_ms: given.until_ms("until")?.ok_or_else(|| given.missing("until"))?,
        quota: quota(&given)?,
        basis: given.required("basis")?,
        order_number: given.text("order_number")?,
    };
    planned(scope, move |ctx| access::request_access(ctx, &asked))
}

fn withdraw_access(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["id"], arguments)?)?;
    let id = given.number("id")?.ok_or_else(|| given.missing("id"))?;
    planned(scope, move |ctx| access::withdraw_access(ctx, id))
}

async fn approve_access(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let names = &["id", "rows_per_day", "bytes_per_day"];
    let given = Given::new(scope, Arguments::new(names, arguments)?)?;
    let id = given.number("id")?.ok_or_else(|| given.missing("id"))?;
    let quota = quota(&given)?;
    let (predicate, relation) = ddl::look(scope, |ctx| {
        let (request, relation) = access::answerable(ctx, id)?;
        let predicate = request.row_predicate.as_ref().map(|it| it.required().map(str::to_owned));
        Ok((predicate.transpose()?, relation.clone()))
    })?;
    let rows = rows(scope, &relation, predicate.as_deref()).await?;
    planned(scope, move |ctx| access::approve_access(ctx, id, &rows, quota))
}

/// The rows that are asked for are bound once, so that a wrong predicate is told to the owner.
async fn rows(scope: &Scope, relation: &Relation, predicate: Option<&str>) -> Result<Rows> {
    let Some(predicate) = predicate else { return Ok(Rows::default()) };
    let clause = crate::parse::expression(predicate)?;
    let (using, depends_on) = ddl::policy_expression(scope, relation, &clause).await?;
    Ok(Rows { using: Some(using), depends_on })
}

fn refuse_access(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["id", "reason", "legal_basis"], arguments)?)?;
    let id = given.number("id")?.ok_or_else(|| given.missing("id"))?;
    let (reason, legal_basis) = (given.required("reason")?, given.required("legal_basis")?);
    planned(scope, move |ctx| access::refuse_access(ctx, id, &reason, &legal_basis))
}

fn freeze(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["role", "dataset", "reason"], arguments)?)?;
    let (what, reason) = (frozen(&given)?, given.required("reason")?);
    planned(scope, move |ctx| access::freeze(ctx, &what, &reason))
}

fn unfreeze(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["role", "dataset"], arguments)?)?;
    let what = frozen(&given)?;
    planned(scope, move |ctx| access::unfreeze(ctx, &what))
}

fn set_role_limit(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["role", "name", "value"], arguments)?)?;
    let (role, name) = (given.required("role")?, given.required("name")?);
    // Without a word on the value nothing is taken away.
    if !given.is_given("value") {
        return Err(given.missing("value"));
    }
    let value = given.text("value")?;
    planned(scope, move |ctx| access::set_role_limit(ctx, &role, &name, value.as_deref()))
}

/// How much may be read in a day; what is not given is without limit.
fn quota(given: &Given<'_>) -> Result<Quota> {
    let number = |name: &str| -> Result<Option<u64>> {
        let number = given.text(name)?;
        number.map(|it| access::quota_number(name, &it)).transpose()
    };
    Ok(Quota { rows_per_day: number("rows_per_day")?, bytes_per_day: number("bytes_per_day")? })
}

fn frozen(given: &Given<'_>) -> Result<Frozen> {
    match (given.text("role")?, given.text("dataset")?) {
        (Some(role), None) => Ok(Frozen::Role(role)),
        (None, Some(dataset)) => Ok(Frozen::Dataset(dataset)),
        _ => Err(Error::new(
            Kind::InvalidParameterValue,
            "either a role is named or a dataset, and not both",
        )),
    }
}

pub(super) fn planned(
    scope: &Scope,
    command: impl FnMut(&mut Context<'_>) -> Result<Planned> + Send + 'static,
) -> Result<Pending> {
    ddl::planned(scope, command).map(|change| change.pending)
}
