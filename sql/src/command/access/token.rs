//! `kho.create_api_token`, `kho.revoke_api_token`.
//!
//! What it guarantees: a token is made by who logged in with a password, for itself: whoever has it
//! can log in as its role. It ends, and is bounded by what exists for who makes it.
//! What it does not: it makes no secret, and sees none; it is given the hash of one.

use std::collections::BTreeSet;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Covered, KHO_ADMIN, Reach};
use kho_catalog::state::{AccessChange, ApiToken, Change, Oid, Revoked};

use super::{called, invalid, said};
use crate::command::{Context, Planned, name, options};
use crate::parse;

/// A program that is forgotten is not to log in for ever.
const LONGEST_MS: i64 = 366 * DAY_MS;
/// Those that have ended are listed for so long; the ledger says the rest.
const LISTED_MS: i64 = 90 * DAY_MS;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Live ones of one role.
const MOST: usize = 100;
const LONGEST_NAME: usize = 63;

/// What a token is to be.
#[derive(Clone, Debug)]
pub(crate) struct TokenWish {
    pub name: String,
    /// `None` is who makes it.
    pub role: Option<String>,
    pub valid_until_ms: i64,
    /// `read` or `write`.
    pub reach: String,
    /// `schema.name` and `schema.*`, separated by commas; `None` is all.
    pub datasets: Option<String>,
    /// Codes, separated by commas; `None` is all.
    pub purposes: Option<String>,
    pub hash: String,
}

pub(crate) fn create_api_token(ctx: &mut Context<'_>, wish: &TokenWish) -> Result<Planned> {
    let role = ctx.who.role();
    if ctx.who.bounds().is_some() {
        let message = "permission denied to create an API token";
        return Err(Error::new(Kind::InsufficientPrivilege, message)
            .with_detail("This session was not let in by a password."));
    }
    if let Some(other) = &wish.role
        && name::find_role(ctx, other)?.oid != role
    {
        let message = format!("permission denied to create an API token of role \"{other}\"");
        return Err(Error::new(Kind::InsufficientPrivilege, message)
            .with_detail("Whoever has a token of a role can log in as it.")
            .with_hint("Let the role create it for itself."));
    }
    let of_role = || ctx.state.access.tokens.values().filter(|token| token.role == role);
    let live = || of_role().filter(|token| token.standing(ctx.now_ms) == "live");
    let name = token_name(&wish.name)?;
    if live().any(|token| token.name == name) {
        let message = format!("API token \"{name}\" already exists");
        return Err(Error::new(Kind::DuplicateObject, message));
    }
    if live().count() >= MOST {
        let message = format!("a role has {MOST} API tokens at most");
        return Err(Error::new(Kind::ProgramLimitExceeded, message)
            .with_hint("Revoke those that are no longer needed with kho.revoke_api_token."));
    }
    if !(1..=LONGEST_MS).contains(&wish.valid_until_ms.saturating_sub(ctx.now_ms)) {
        let days = LONGEST_MS / DAY_MS;
        return Err(invalid(format!("an API token ends in the future, within {days} days")));
    }
    let token = ApiToken {
        oid: ctx.state.new_oid(0),
        role,
        name: name.to_owned(),
        hash: wish.hash.clone(),
        created_by: role,
        created_ms: ctx.now_ms,
        valid_until_ms: wish.valid_until_ms,
        reach: reach(&wish.reach)?,
        datasets: wish.datasets.as_deref().map(|it| datasets(ctx, it)).transpose()?,
        purposes: wish.purposes.as_deref().map(|it| purposes(ctx, it)).transpose()?,
        revoked: None,
    };
    let mut planned = called(AccessChange::PutToken(Box::new(token)));
    let old = of_role().filter(|token| ended_ms(token) < ctx.now_ms.saturating_sub(LISTED_MS));
    planned.changes.extend(old.map(|it| Change::Access(AccessChange::RemoveToken(it.oid))));
    Ok(planned)
}

pub(crate) fn revoke_api_token(
    ctx: &mut Context<'_>,
    written: &str,
    role: Option<&str>,
) -> Result<Planned> {
    let role = match role {
        Some(role) => name::find_role(ctx, role)?.oid,
        None => ctx.who.role(),
    };
    if role != ctx.who.role() && !ctx.who.serves(KHO_ADMIN) {
        let message = "permission denied to revoke an API token of another role";
        return Err(
            Error::new(Kind::InsufficientPrivilege, message).with_hint("Members of kho_admin may.")
        );
    }
    let tokens = ctx.state.access.tokens.values();
    let mut named = tokens.filter(|token| token.role == role && token.name == written);
    let live = named.clone().find(|token| token.standing(ctx.now_ms) == "live");
    let Some(token) = live else {
        return Err(match named.next_back() {
            Some(token) => Error::new(
                Kind::NotInPrerequisiteState,
                format!("API token \"{written}\" is {} already", token.standing(ctx.now_ms)),
            ),
            None => {
                let message = format!("API token \"{written}\" does not exist");
                Error::new(Kind::UndefinedObject, message)
            }
        });
    };
    let mut token = ApiToken::clone(token);
    token.revoked = Some(Revoked { at_ms: ctx.now_ms, by: ctx.who.role() });
    Ok(called(AccessChange::PutToken(Box::new(token))))
}

fn ended_ms(token: &ApiToken) -> i64 {
    token.revoked.as_ref().map_or(token.valid_until_ms, |it| it.at_ms.min(token.valid_until_ms))
}

/// It is shown in logs, and in the ledger.
fn token_name(written: &str) -> Result<&str> {
    let name = said(written, "name")?;
    match name.len() <= LONGEST_NAME && !name.chars().any(char::is_control) {
        true => Ok(name),
        false => Err(invalid(format!(
            "the name of an API token has at most {LONGEST_NAME} bytes and no control characters"
        ))),
    }
}

fn reach(written: &str) -> Result<Reach> {
    match written {
        "read" => Ok(Reach::Read),
        "write" => Ok(Reach::Write),
        other => {
            Err(invalid(format!("invalid scope \"{other}\"")).with_hint("It is read or write."))
        }
    }
}

fn purposes(ctx: &Context<'_>, written: &str) -> Result<BTreeSet<String>> {
    let purposes = options::purposes(written, &ctx.state.access.purposes)?;
    match purposes.is_empty() {
        true => {
            Err(invalid("an API token is for one purpose at least, or without purposes for all"))
        }
        false => Ok(purposes),
    }
}

fn datasets(ctx: &Context<'_>, written: &str) -> Result<Vec<Covered>> {
    let parts = separate(written).into_iter();
    let covered = parts.map(|part| match part.strip_suffix(".*") {
        Some(schema) => Ok(Covered::Schema(schema_of(ctx, schema)?)),
        None => {
            let qualified = name::qualified(&parse::relation_name(part)?)?;
            Ok(Covered::Relation(name::find(ctx, &qualified)?.oid))
        }
    });
    covered.collect()
}

fn schema_of(ctx: &Context<'_>, written: &str) -> Result<Oid> {
    let schema = name::schema_name(&parse::relation_name(written)?)?;
    Ok(privilege::find_schema(ctx.state, ctx.who, &schema)?.oid)
}

/// The parts between commas that are not within quotes.
fn separate(written: &str) -> Vec<&str> {
    let mut quoted = false;
    let parts = written.split(|character: char| {
        quoted ^= character == '"';
        character == ',' && !quoted
    });
    parts.map(str::trim).collect()
}
