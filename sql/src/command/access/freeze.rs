//! `kho.freeze`, `kho.unfreeze`.
//!
//! What it guarantees: who freezes is not frozen by it, so somebody is left who can unfreeze.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{AccessChange, Freeze, Oid};

use super::{called, require_admin, said};
use crate::command::{Context, Planned, name};
use crate::parse;

/// What is to be frozen, by its name.
#[derive(Clone, Debug)]
pub(crate) enum Frozen {
    Role(String),
    /// Any relation there is: who freezes need not have the sight of it.
    Dataset(String),
}

pub(crate) fn freeze(ctx: &mut Context<'_>, what: &Frozen, reason: &str) -> Result<Planned> {
    require_admin(ctx, "freeze")?;
    let of = found(ctx, what)?;
    if let Frozen::Role(role) = what {
        if name::is_built_in(of) {
            let message = format!("role \"{role}\" cannot be frozen: every warehouse has it");
            return Err(Error::new(Kind::ObjectInUse, message));
        }
        if ctx.who.is(of) {
            let message = format!("role \"{role}\" cannot be frozen by one of its own");
            return Err(Error::new(Kind::ObjectInUse, message));
        }
    }
    if ctx.state.access.freezes.contains_key(&of) {
        return Err(Error::new(
            Kind::NotInPrerequisiteState,
            format!("{} is frozen already", shown(what)),
        ));
    }
    let reason = (ctx.text)(said(reason, "reason")?);
    let by = ctx.who.role();
    Ok(called(AccessChange::PutFreeze(Freeze { of, by, at_ms: ctx.now_ms, reason })))
}

pub(crate) fn unfreeze(ctx: &mut Context<'_>, what: &Frozen) -> Result<Planned> {
    require_admin(ctx, "unfreeze")?;
    let of = found(ctx, what)?;
    match ctx.state.access.freezes.contains_key(&of) {
        true => Ok(called(AccessChange::RemoveFreeze(of))),
        false => {
            let message = format!("{} is not frozen", shown(what));
            Err(Error::new(Kind::NotInPrerequisiteState, message))
        }
    }
}

fn found(ctx: &Context<'_>, what: &Frozen) -> Result<Oid> {
    match what {
        Frozen::Role(role) => Ok(name::find_role(ctx, role)?.oid),
        Frozen::Dataset(written) => {
            let qualified = name::qualified(&parse::relation_name(written)?)?;
            let path = match &qualified.schema {
                Some(schema) => std::slice::from_ref(schema),
                None => ctx.search_path,
            };
            let mut schemas = path.iter().filter_map(|schema| ctx.state.schema(schema));
            let relation = schemas.find_map(|it| ctx.state.relation(it.oid, &qualified.name));
            relation.map(|it| it.oid).ok_or_else(|| {
                let message = format!("relation \"{qualified}\" does not exist");
                Error::new(Kind::UndefinedTable, message)
            })
        }
    }
}

fn shown(what: &Frozen) -> String {
    match what {
        Frozen::Role(name) => format!("role \"{name}\""),
        Frozen::Dataset(name) => format!("relation \"{name}\""),
    }
}
