//! `kho.set_role_limit`.
//!
//! What it guarantees: `kho_admin` sets limits, and nobody makes an own one wider, nor one of a role
//! that one belongs to (`KH014`); making it tighter is no favour to oneself, but nobody stops
//! themselves.
//! What it does not: how many connections a role has is `ALTER ROLE … CONNECTION LIMIT`'s to say.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{AccessChange, LimitName, RoleLimits};

use super::{called, invalid, require_admin};
use crate::command::{Context, Planned, name};
use crate::settings::milliseconds;

/// PostgreSQL's units of memory.
const BYTE_UNITS: &[(&str, u64)] =
    &[("", 1), ("B", 1), ("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];
/// With less a statement cannot so much as sort a few rows.
const MEMORY_LEAST: u64 = 1 << 20;
/// With less a change of the catalog may not come to its end.
const OWN_TIME_LEAST_MS: u64 = 1000;

/// Sets one limit of a role; without a value, it has none of its own.
///
/// # Errors
/// `42501` for who is not `kho_admin`, `22023` for an unknown name or a value that is none.
pub(crate) fn set_role_limit(
    ctx: &Context<'_>,
    role: &str,
    limit: &str,
    value: Option<&str>,
) -> Result<Planned> {
    require_admin(ctx, "set limits of a role")?;
    let role = name::find_role(ctx, role)?;
    let limit = known(limit)?;
    let value = value.map(|value| parsed(limit, value)).transpose()?;
    let stored = ctx.state.access.limits.get(&role.oid);
    let mut changed = stored.map_or_else(RoleLimits::default, |it| RoleLimits::clone(it));
    let before = changed.values.get(&limit).copied();
    if before == value {
        return Ok(Planned::new("CALL"));
    }
    let widens = before.is_some_and(|before| value.is_none_or(|value| value > before));
    if widens && ctx.who.is(role.oid) {
        let message = format!("you belong to role \"{}\" and cannot widen its limits", role.name);
        return Err(Error::new(Kind::SeparationOfDuties, message)
            .with_hint("Another member of kho_admin may."));
    }
    if value.is_some_and(|value| stops(limit, value)) && ctx.who.is(role.oid) {
        let message =
            format!("a limit so tight cannot be set for role \"{}\" by one of its own", role.name);
        return Err(Error::new(Kind::ObjectInUse, message)
            .with_detail("Nobody might be left who can take it back."));
    }
    match value {
        Some(value) => changed.values.insert(limit, value),
        None => changed.values.remove(&limit),
    };
    changed.role = role.oid;
    Ok(called(AccessChange::PutLimits(changed)))
}

/// One number of an agreement's quota, which has the names of the limits of roles.
pub(crate) fn quota_number(name: &str, written: &str) -> Result<u64> {
    parsed(known(name)?, written)
}

/// Whether nothing can be done any more by who is bound by it.
fn stops(limit: LimitName, value: u64) -> bool {
    match limit {
        LimitName::ConcurrentStatements => value == 0,
        LimitName::StatementTime => value < OWN_TIME_LEAST_MS,
        _ => false,
    }
}

fn known(written: &str) -> Result<LimitName> {
    if written == "connections" {
        let message = "the limit of connections is an option of the role";
        return Err(invalid(message).with_hint("Use ALTER ROLE … CONNECTION LIMIT."));
    }
    LimitName::ALL.iter().copied().find(|it| it.name() == written).ok_or_else(|| {
        invalid(format!("there is no limit with the name \"{written}\""))
            .with_hint(format!("Limits are: {}.", LimitName::listed()))
    })
}

fn parsed(limit: LimitName, written: &str) -> Result<u64> {
    let written = written.trim();
    let number = match limit {
        LimitName::StatementTime => milliseconds(written).filter(|it| *it > 0),
        LimitName::Memory => bytes(written).filter(|it| *it >= MEMORY_LEAST),
        LimitName::BytesPerStatement | LimitName::BytesPerDay => bytes(written),
        LimitName::ConcurrentStatements | LimitName::RowsPerStatement | LimitName::RowsPerDay => {
            written.parse().ok()
        }
    };
    // It is shown as a bigint.
    number.filter(|it| i64::try_from(*it).is_ok()).ok_or_else(|| {
        let hint = match limit {
            LimitName::StatementTime => "A time is a number of milliseconds, or as '30s', '5min'.",
            LimitName::Memory => "It is a number of bytes, or as '64MB'; 1MB is the least.",
            LimitName::BytesPerStatement | LimitName::BytesPerDay => {
                "It is a number of bytes, or as '64MB'."
            }
            _ => "It is a whole number from 0.",
        };
        invalid(format!("invalid value for limit {}: \"{written}\"", limit.name())).with_hint(hint)
    })
}

/// A number of bytes as PostgreSQL writes it: `1048576`, `64MB`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_in_postgresql() {
        let value = |limit, text| parsed(limit, text).ok();
        assert_eq!(value(LimitName::Memory, "64MB"), Some(64 << 20));
        assert_eq!(value(LimitName::Memory, "64 MB"), Some(64 << 20));
        assert_eq!(value(LimitName::Memory, "1kB"), None);
        assert_eq!(value(LimitName::Memory, "64mb"), None);
        assert_eq!(value(LimitName::BytesPerDay, "0"), Some(0));
        assert_eq!(value(LimitName::BytesPerDay, "99999999TB"), None);
        assert_eq!(value(LimitName::StatementTime, "5 min"), Some(300_000));
        assert_eq!(value(LimitName::StatementTime, "0"), None);
        assert_eq!(value(LimitName::RowsPerDay, "10"), Some(10));
        for text in ["", "-1", "1.5", "ten", "9223372036854775808", "10MB"] {
            assert_eq!(value(LimitName::RowsPerDay, text), None, "{text}");
        }
    }
}
