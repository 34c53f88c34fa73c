//! What a write begins with: the right to write the table, and the version it goes behind.
//!
//! What it guarantees: the version is taken after the lease, so within this server nobody comes in
//! between; a block goes on behind its own writes; a load that was applied is known as such.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Oid, Relation};
use kho_catalog::table::Snapshot;
use tokio::sync::OwnedMutexGuard;

use crate::execute::Limits;
use crate::scope::{Scope, location};

/// Where a write begins.
pub(crate) struct Base {
    pub relation: Oid,
    /// `None` where the block holds it already.
    pub lease: Option<OwnedMutexGuard<()>>,
    pub snapshot: Snapshot,
    /// Whether the session's load was applied before: nothing is to be done, successfully.
    pub loaded: bool,
}

impl Base {
    /// Waits for the lease of `relation` and takes its version.
    ///
    /// # Errors
    /// `0A000` where the open block cannot take the write, `55000` for a load out of turn and for a
    /// table that is frozen.
    pub(crate) async fn take(scope: &Scope, relation: &Relation, limits: &Limits) -> Result<Base> {
        limits.run(Base::begin(scope, relation, false)).await
    }

    /// The same for rows that are added: the version of a table that the block has written need not
    /// hold what the block wrote.
    pub(crate) async fn take_to_add(
        scope: &Scope,
        relation: &Relation,
        limits: &Limits,
    ) -> Result<Base> {
        limits.run(Base::begin(scope, relation, true)).await
    }

    async fn begin(scope: &Scope, relation: &Relation, adds: bool) -> Result<Base> {
        scope.block.refuse_second(relation.oid)?;
        scope.refuse_frozen(relation.oid)?;
        // A load that is half named is not taken for none.
        scope.settings.load()?;
        let lease = match scope.block.head(relation.oid) {
            Some(_) => None,
            None => Some(scope.lease(&location(relation)?).await?),
        };
        let snapshot = match adds {
            true => scope.shape(relation).await?,
            false => scope.snapshot(relation, None).await?,
        };
        // A block's own load is one load, however many statements it takes.
        let before = scope.block.base(relation.oid).unwrap_or(&snapshot);
        let loaded = was_loaded(scope, before).await?;
        Ok(Base { relation: relation.oid, lease, snapshot, loaded })
    }
}

/// Whether the session's load is in the table. A load comes when its turn is, or again.
async fn was_loaded(scope: &Scope, snapshot: &Snapshot) -> Result<bool> {
    let Some(load) = &scope.load else { return Ok(false) };
    let Some(newest) = snapshot.newest_load(&load.stream).await? else { return Ok(false) };
    if load.sequence == newest {
        return Ok(true);
    }
    if load.sequence == newest.saturating_add(1) {
        return Ok(false);
    }
    let message = format!("load {} of stream \"{}\" is out of turn", load.sequence, load.stream);
    Err(Error::new(Kind::NotInPrerequisiteState, message)
        .with_detail(format!("The newest load that was applied is {newest}."))
        .with_hint(format!("The next one is {}.", newest.saturating_add(1))))
}
