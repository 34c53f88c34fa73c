//! `kho.add_purpose`, `kho.remove_purpose`.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{AccessChange, Purpose};

use super::{called, invalid, require_admin, said};
use crate::command::{Context, Planned};

/// Characters of a code: it is stated with every session.
const LONGEST_CODE: usize = 32;

pub(crate) fn add_purpose(
    ctx: &Context<'_>,
    code: &str,
    name: &str,
    needs_order: bool,
) -> Result<Planned> {
    require_admin(ctx, "add a purpose")?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if code.is_empty() || code.len() > LONGEST_CODE || !code.bytes().all(plain) {
        return Err(invalid(format!("invalid code of a purpose: \"{code}\""))
            .with_hint("A code is up to 32 small letters, digits and underscores."));
    }
    if ctx.state.access.purposes.get(code).is_some() {
        let message = format!("purpose \"{code}\" already exists");
        return Err(Error::new(Kind::DuplicateObject, message));
    }
    let (code, name) = (code.to_owned(), said(name, "name")?.to_owned());
    Ok(called(AccessChange::PutPurpose(Purpose { code, name, needs_order })))
}

/// One that a dataset names, or an agreement that holds or will hold, is used.
pub(crate) fn remove_purpose(ctx: &Context<'_>, code: &str) -> Result<Planned> {
    require_admin(ctx, "remove a purpose")?;
    if ctx.state.access.purposes.get(code).is_none() {
        let message = format!("purpose \"{code}\" does not exist");
        return Err(Error::new(Kind::UndefinedObject, message));
    }
    let tables = ctx.state.relations.values().filter_map(|it| it.table());
    let datasets = tables.filter(|it| it.governance.allowed_purposes.contains(code)).count();
    let agreements = (ctx.state.access.agreements.values())
        .filter(|it| it.ended.is_none() && it.valid_until_ms > ctx.now_ms)
        .filter(|it| it.purposes.contains(code))
        .count();
    if datasets + agreements > 0 {
        let message = format!("cannot remove purpose \"{code}\" because it is used");
        return Err(Error::new(Kind::DependentObjects, message).with_detail(format!(
            "Datasets that name it: {datasets}. Agreements for it: {agreements}."
        )));
    }
    Ok(called(AccessChange::RemovePurpose(code.to_owned())))
}
