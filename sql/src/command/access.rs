//! Purposes, agreements, third parties, requests, freezes and limits: what the procedures of these
//! names change.
//!
//! What it guarantees: purposes, third parties, freezes and limits of roles are `kho_admin`'s; an agreement is made
//! and ended by the dataset's owner alone.
//! What it does not: it decides about no reader; `kho_catalog::agreement` does.

mod agreement;
mod freeze;
mod identity;
mod limit;
mod purpose;
mod request;
pub(crate) mod tied;
mod token;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::KHO_ADMIN;
use kho_catalog::state::{AccessChange, Change};

pub(crate) use self::agreement::unset_third_party;
pub(crate) use self::agreement::{Access, Wish, end_agreement, grant_agreement, set_third_party};
pub(crate) use self::freeze::{Frozen, freeze, unfreeze};
pub(crate) use self::identity::{Named, map_identity, unmap_identity};
pub(crate) use self::limit::{quota_number, set_role_limit};
pub(crate) use self::purpose::{add_purpose, remove_purpose};
pub(crate) use self::request::{
    Asked, answerable, approve_access, refuse_access, request_access, withdraw_access,
};
pub(crate) use self::tied::Rows;
pub(crate) use self::token::{TokenWish, create_api_token, revoke_api_token};
use super::{Context, Planned};

/// What a procedure that changed this is answered with.
fn called(change: AccessChange) -> Planned {
    let mut planned = Planned::new("CALL");
    planned.changes.push(Change::Access(change));
    planned
}

fn require_admin(ctx: &Context<'_>, what: &str) -> Result<()> {
    if ctx.who.serves(KHO_ADMIN) {
        return Ok(());
    }
    Err(Error::new(Kind::InsufficientPrivilege, format!("permission denied to {what}"))
        .with_hint("Members of kho_admin may."))
}

/// A text that must say something.
fn said<'a>(text: &'a str, argument: &str) -> Result<&'a str> {
    match text.trim() {
        "" => Err(invalid(format!("argument \"{argument}\" is empty"))),
        text => Ok(text),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidParameterValue, message)
}
