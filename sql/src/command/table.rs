//! `CREATE`, `ALTER` and `DROP TABLE`; `CREATE` and `DROP INDEX`.
//!
//! What it guarantees: what is accepted is kept and enforced; references and everything else that
//! Kho does not enforce are refused. Columns have ids that are never used again.
//! What it does not: it touches no rows; [`Alteration`] says what is to be done to them.

mod alter;
mod constraint;
mod define;
mod index;
mod key;

use kho_catalog::error::Result;
use kho_catalog::state::{Change, Relation, RelationKind};
use sqlparser::ast::ObjectName;

pub(crate) use self::alter::{Alteration, alter};
pub(crate) use self::define::{Definition, define, define_as};
pub(crate) use self::index::{create as create_index, drop as drop_indexes};
use super::name::Expected;
use super::relation::found_or_notice;
use super::{Context, Planned, options, relation};

/// `DROP TABLE`.
pub(crate) fn drop(
    ctx: &mut Context<'_>,
    names: &[ObjectName],
    if_exists: bool,
    cascade: bool,
) -> Result<Planned> {
    relation::drop(ctx, names, if_exists, cascade, Expected::Table)
}

/// `ALTER TABLE … RESET (…)`; `keys` are folded.
pub(crate) fn reset_options(
    ctx: &Context<'_>,
    name: &ObjectName,
    keys: &[String],
    if_exists: bool,
) -> Result<Planned> {
    let mut planned = Planned::new("ALTER TABLE");
    let found = found_or_notice(ctx, name, if_exists, Expected::Table, &mut planned)?;
    if let Some(relation) = found {
        let mut changed = Relation::clone(relation);
        if let RelationKind::Table(table) = &mut changed.kind {
            table.governance = options::without_options(&table.governance, keys)?;
        }
        planned.changes.push(Change::PutRelation(Box::new(changed)));
    }
    Ok(planned)
}
