//! Procedures on what one logs in by: their arguments, and the one answer with a secret in it.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kho_catalog::error::Result;
use sqlparser::ast::FunctionArg;

use super::access::planned;
use crate::command::access::{self, Named, TokenWish};
use crate::command::{Context, Planned};
use crate::errors::from_arrow;
use crate::scope::Scope;
use crate::session::{TOKEN_PREFIX, token_hash};
use crate::system::{Arguments, Given};
use crate::write::Pending;

/// The procedure that answers with a row.
pub(super) const CREATE_API_TOKEN: &str = "create_api_token";

/// Runs the procedure `name`; `None` where it is none of these.
pub(super) fn call(
    scope: &Scope,
    name: &str,
    arguments: &[FunctionArg],
) -> Option<Result<Pending>> {
    Some(match name {
        CREATE_API_TOKEN => create_api_token(scope, arguments),
        "revoke_api_token" => revoke_api_token(scope, arguments),
        "map_identity" => named(scope, arguments, access::map_identity),
        "unmap_identity" => named(scope, arguments, access::unmap_identity),
        _ => return None,
    })
}

/// What `create_api_token` answers with.
pub(super) fn token_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("token", DataType::Utf8, false)]))
}

/// The token is in the answer and nowhere else: the catalog has its hash.
fn create_api_token(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let names = &["name", "role", "valid_until", "scope", "datasets", "purposes"];
    let given = Given::new(scope, Arguments::new(names, arguments)?)?;
    let secret = scope.shared.catalog.environment().secret()?;
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let wish = TokenWish {
        name: given.required("name")?,
        role: given.text("role")?,
        valid_until_ms: given
            .time_ms("valid_until")?
            .ok_or_else(|| given.missing("valid_until"))?,
        reach: given.required("scope")?,
        datasets: given.text("datasets")?,
        purposes: given.text("purposes")?,
        hash: token_hash(&token),
    };
    let pending = planned(scope, move |ctx| access::create_api_token(ctx, &wish))?;
    let column = Arc::new(StringArray::from(vec![token]));
    let reply = RecordBatch::try_new(token_schema(), vec![column]);
    let reply = reply.map_err(|error| from_arrow(&error))?;
    Ok(Pending { reply: Some(reply), ..pending })
}

fn revoke_api_token(scope: &Scope, arguments: &[FunctionArg]) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["name", "role"], arguments)?)?;
    let (name, role) = (given.required("name")?, given.text("role")?);
    planned(scope, move |ctx| access::revoke_api_token(ctx, &name, role.as_deref()))
}

fn named(
    scope: &Scope,
    arguments: &[FunctionArg],
    command: impl Fn(&mut Context<'_>, &Named) -> Result<Planned> + Send + 'static,
) -> Result<Pending> {
    let given = Given::new(scope, Arguments::new(&["kind", "identity", "role"], arguments)?)?;
    let named = Named {
        kind: given.required("kind")?,
        identity: given.required("identity")?,
        role: given.required("role")?,
    };
    planned(scope, move |ctx| command(ctx, &named))
}
