//! What a write begins with: the right to write the table, and the version it goes behind.
//!
//! What it guarantees: the version is taken after the lease, so within this server nobody comes in
//! between; a block goes on behind its own writes; a load that was applied is known as such.
//! Rows that a client has yet to send begin without the lease ([`Base::look`]), or a client that is
//! silent would keep everybody from the table; once they are all there, [`Base::claim`] takes it and
//! asks again what was found before.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Oid, Relation};
use kho_catalog::table::Snapshot;
use tokio::sync::OwnedMutexGuard;

use super::keys;
use super::reshaping::{changed_meanwhile, refuse_reshaped};
use crate::execute::Limits;
use crate::scope::{Scope, location};

/// Where a write begins.
pub(crate) struct Base {
    pub relation: Oid,
    /// `None` where the block holds it already, and before it is claimed.
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

    /// The same for rows that are added when a client has sent them: others write the table
    /// meanwhile. To be claimed before anything is committed.
    ///
    /// # Errors
    /// As [`Base::take`].
    pub(crate) async fn look(scope: &Scope, relation: &Relation, limits: &Limits) -> Result<Base> {
        let look = async {
            refuse(scope, relation)?;
            Base::behind(scope, relation, None, true).await
        };
        limits.run(look).await
    }

    /// Takes the lease of a table that was only looked at, for rows that were made for `relation`, and
    /// the version that is the newest by then; gives the table with the rules it has now, `None`
    /// where its block held it all along.
    ///
    /// # Errors
    /// `40001` where the table is gone, or has other columns or a rule that the rows were not made by;
    /// `55000` where other loads have come in between; `55P03` beyond `lock_timeout`.
    pub(crate) async fn claim(
        &mut self,
        scope: &Scope,
        relation: &Relation,
    ) -> Result<Option<Relation>> {
        if self.lease.is_some() || scope.block.head(relation.oid).is_some() {
            return Ok(None);
        }
        self.lease = Some(scope.lease(&location(relation)?).await?);
        let now = keys::current(scope, relation).await?;
        refuse_gone(scope, relation)?;
        refuse_new_rules(&now, relation)?;
        // What a block sees stays as it was, and so does what the rows came of: their commit finds out
        // whether they may go behind what others did.
        if scope.block.began_ms(relation.oid).is_some() || scope.has_read(relation.oid) {
            return Ok(Some(now));
        }
        let newest = scope.shared.tables.latest(self.snapshot.location()).await?;
        if !newest.has_shape_of(&self.snapshot) {
            return Err(changed_meanwhile());
        }
        refuse_reshaped(&now, &newest)?;
        self.loaded = was_loaded(scope, &newest).await?;
        self.snapshot = newest;
        Ok(Some(now))
    }

    async fn begin(scope: &Scope, relation: &Relation, adds: bool) -> Result<Base> {
        refuse(scope, relation)?;
        let lease = match scope.block.head(relation.oid) {
            Some(_) => None,
            None => Some(scope.lease(&location(relation)?).await?),
        };
        Base::behind(scope, relation, lease, adds).await
    }

    async fn behind(
        scope: &Scope,
        relation: &Relation,
        lease: Option<OwnedMutexGuard<()>>,
        adds: bool,
    ) -> Result<Base> {
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

/// Refuses what cannot be written, whoever has the table.
fn refuse(scope: &Scope, relation: &Relation) -> Result<()> {
    scope.block.refuse_second(relation.oid)?;
    scope.refuse_frozen(relation.oid)?;
    // A load that is half named is not taken for none.
    scope.settings.load().map(drop)
}

/// Refuses rows for a table that was dropped, or put elsewhere, while they came.
fn refuse_gone(scope: &Scope, relation: &Relation) -> Result<()> {
    // What the transaction made itself nobody else has dropped.
    if scope.block.made_here(relation.oid) {
        return Ok(());
    }
    let states = scope.shared.catalog.subscribe();
    let now = states.borrow().relations.get(&relation.oid).cloned();
    match now {
        Some(now) if location(&now)? == location(relation)? => Ok(()),
        _ => Err(changed_meanwhile()),
    }
}

/// Refuses rows that were made before a rule of the table was.
fn refuse_new_rules(now: &Relation, then: &Relation) -> Result<()> {
    let checks = |of: &Relation| of.table().map(|it| it.checks.clone()).unwrap_or_default();
    let before = checks(then);
    let has_new_key = now.keys().iter().any(|key| !then.keys().contains(key));
    match has_new_key || checks(now).iter().any(|check| !before.contains(check)) {
        true => Err(changed_meanwhile()),
        false => Ok(()),
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
