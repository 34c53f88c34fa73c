//! `kho.map_identity`, `kho.unmap_identity`: who is which role, by the word of somebody else.
//!
//! What it guarantees: only `kho_admin` maps, and not to a role of its own; one identity is not mapped
//! to both a role that manages accounts and one that owns or reads data then (`KH014`).
//! What it does not: what its roles are given later is not looked at for the identity's sake; it knows no certificate and no token. Whoever holds the authority's key, or the
//! identity provider's, is whoever they say: that is what it is to trust them.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{KHO_ADMIN, Principal, reaches_data};
use kho_catalog::state::{AccessChange, Identity, IdentityKind, Oid};

use super::{called, invalid, require_admin, said};
use crate::command::{Context, Planned, name};

/// More than any certificate or token says.
const LONGEST: usize = 1000;
const PREFIXES: &[&str] = &["dns:", "email:", "uri:"];

/// An identity and a role, as written.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub kind: String,
    pub identity: String,
    pub role: String,
}

pub(crate) fn map_identity(ctx: &mut Context<'_>, named: &Named) -> Result<Planned> {
    require_admin(ctx, "map an identity")?;
    let (kind, identity) = checked(named)?;
    let role = name::find_role(ctx, &named.role)?.oid;
    if name::is_built_in(role) {
        return Err(invalid(format!("role \"{}\" cannot log in", named.role)));
    }
    if ctx.who.is(role) {
        let message = "an identity cannot be mapped to a role of one's own";
        return Err(Error::new(Kind::SeparationOfDuties, message)
            .with_hint("Let another member of kho_admin do it."));
    }
    let others = || ctx.state.mapped(kind, &identity).map(|it| it.role);
    if others().any(|it| it == role) {
        let message = format!("the identity is mapped to role \"{}\" already", named.role);
        return Err(Error::new(Kind::DuplicateObject, message));
    }
    refuse_both(ctx, role, others())?;
    let text = (ctx.text)(&identity);
    Ok(called(AccessChange::PutIdentity(Box::new(Identity {
        oid: ctx.state.new_oid(0),
        kind,
        identity: text,
        role,
        mapped_by: ctx.who.role(),
        mapped_ms: ctx.now_ms,
    }))))
}

pub(crate) fn unmap_identity(ctx: &mut Context<'_>, named: &Named) -> Result<Planned> {
    require_admin(ctx, "unmap an identity")?;
    let (kind, identity) = checked(named)?;
    let role = name::find_role(ctx, &named.role)?.oid;
    match ctx.state.mapped(kind, &identity).find(|it| it.role == role) {
        Some(found) => Ok(called(AccessChange::RemoveIdentity(found.oid))),
        None => {
            let message = format!("the identity is not mapped to role \"{}\"", named.role);
            Err(Error::new(Kind::UndefinedObject, message))
        }
    }
}

/// Whoever manages accounts is not to get the sight of data by being somebody else as well.
fn refuse_both(ctx: &Context<'_>, role: Oid, others: impl Iterator<Item = Oid>) -> Result<()> {
    let (mut manages, mut reads) = (false, false);
    for role in others.chain([role]) {
        let who = Principal::of(ctx.state, role);
        manages |= who.is(KHO_ADMIN);
        reads |= reaches_data(ctx.state, &who);
    }
    match manages && reads {
        false => Ok(()),
        true => {
            let message = "the identity would manage accounts and own or read data";
            Err(Error::new(Kind::SeparationOfDuties, message)
                .with_detail("It is mapped to another role already."))
        }
    }
}

/// The kind, and the identity as it is compared.
fn checked(named: &Named) -> Result<(IdentityKind, String)> {
    let identity = said(&named.identity, "identity")?;
    if identity.len() > LONGEST || identity.chars().any(char::is_control) {
        return Err(invalid("the identity is too long, or has control characters"));
    }
    match named.kind.as_str() {
        "oidc" => Ok((IdentityKind::Oidc, identity.to_owned())),
        "certificate" => Ok((IdentityKind::Certificate, of_certificate(identity)?)),
        other => Err(invalid(format!("invalid kind of identity \"{other}\""))
            .with_hint("It is certificate or oidc.")),
    }
}

fn of_certificate(identity: &str) -> Result<String> {
    if let Some(name) = identity.strip_prefix("dns:") {
        return Ok(format!("dns:{}", name.to_ascii_lowercase()));
    }
    if PREFIXES.iter().any(|prefix| identity.starts_with(prefix)) {
        return Ok(identity.to_owned());
    }
    let blank = identity.match_indices(", ").any(|(at, _)| !identity[..at].ends_with('\\'));
    if !identity.contains('=') || blank {
        return Err(invalid("the identity is no name of a certificate").with_hint(
            "Write the subject as CN=etl,O=City (RFC 4514: the last part first, no blanks between), or \
             dns:, email: or uri: and an alternative name. kho.audit_log shows what came.",
        ));
    }
    Ok(identity.to_owned())
}
