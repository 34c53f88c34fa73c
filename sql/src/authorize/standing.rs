//! What a statement that runs stands on: that its role and its datasets are not frozen, that what
//! its session came by has not ended, that what it was allowed to do and to read for, it still is,
//! and that the row policies and masks by which it was planned are those that hold.
//!
//! What it guarantees: rows are given only while that holds, by the clock and by the newest catalog
//! that this server has read: at every batch, and while a batch is waited for; a write is committed
//! only if it holds then. A block that sees an older catalog is bound by the newer one, too.
//! What it does not: nothing is decided anew while the catalog is the same. What a block has written
//! before a right was taken is committed with the block.
//! On failure: the error is the one that the statement would get now; where other rows or values are
//! to be shown now, `40001`: run again, it shows those.

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kho_catalog::agreement::{self, Stated, Term};
use kho_catalog::environment::Environment;
use kho_catalog::error::{Error, Result};
use kho_catalog::freeze;
use kho_catalog::limit;
use kho_catalog::privilege::Principal;
use kho_catalog::state::{LimitName, Oid, State};
use tokio::sync::watch;

use super::purpose;
use super::rights::{Rights, refuse_changed};
use crate::bind::Read;
use crate::engine::Shared;
use crate::errors::to_engine;
use crate::limit::bound::refuse_used_up_agreements;
use crate::limit::meter::{Meter, Tally, Under};
use crate::limit::{OfServer, STATEMENT_TIME};
use crate::scope::{Scope, lock};
use crate::session::{Credential, Facts};
use crate::settings::Settings;

/// An end is noticed this late at most, also where the clock is set meanwhile.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(250);

/// What a plan, or the rows of one, stand on. A copy stands on the same by itself.
#[derive(Clone)]
pub struct Standing {
    environment: Environment,
    states: watch::Receiver<Arc<State>>,
    role: Oid,
    /// What the session came by.
    credential: Arc<Credential>,
    stated: Stated,
    /// What is read, and whose right is used: all but what the open block made itself.
    reads: Arc<[(Oid, Oid)]>,
    /// What was allowed, and the relations whose policies and masks it was planned by.
    rights: Rights,
    shown: Arc<[(Oid, Oid)]>,
    /// The catalog that had those; `None` where it is the open block's own.
    planned: Option<Arc<State>>,
    /// The catalog by which it was last decided, and until when that decision holds.
    seen: Arc<State>,
    until_ms: Option<i64>,
    /// Under which agreements that is.
    agreements: Under,
    shared: Arc<Shared>,
    /// What was given of it; `None` where no dataset is read.
    tally: Option<Tally>,
}

/// Whether a session may still do anything: its role, by what it came by; and for how long a
/// statement of it may go on.
#[derive(Clone)]
pub(crate) struct SessionWatch {
    environment: Environment,
    states: watch::Receiver<Arc<State>>,
    role: Oid,
    credential: Arc<Credential>,
    of_server: OfServer,
}

impl Standing {
    /// Decides about `reads`, for which `rights` were asked for.
    ///
    /// # Errors
    /// Those of [`agreement::decide`]; `28000` and `55000` for what is frozen.
    pub(super) fn take(scope: &Scope, reads: &[Read], rights: Rights) -> Result<Standing> {
        let of_others = |it: &&Read| !scope.block.made_here(it.relation);
        let shared: Vec<_> =
            reads.iter().filter(of_others).map(|it| (it.relation, it.by)).collect();
        let stated = purpose::stated(&scope.settings)?;
        let all: Vec<_> = reads.iter().map(|it| (it.relation, it.by)).collect();
        let role = scope.who.role();
        // The block's own catalog may be older, and what it changed itself binds it already.
        if !Arc::ptr_eq(&scope.state, &scope.latest) {
            decide(&scope.state, (role, &scope.credential), &stated, &all, scope.now_ms)?;
        }
        let shared: Arc<[_]> = shared.into();
        let mut standing = Standing {
            reads: Arc::clone(&shared),
            rights: rights.of_others(scope),
            shown: shared,
            tally: (!reads.is_empty()).then(Tally::default),
            ..Standing::of_role(scope, stated)
        };
        standing.decide_by(Arc::clone(&scope.latest))?;
        let agreements = standing.agreements.get();
        for agreement in agreements.iter() {
            scope.facts.decided_by(format!("agreement {agreement}"));
        }
        refuse_used_up_agreements(&scope.shared, &scope.latest, &agreements)?;
        Ok(standing)
    }

    /// What a write stands on until its commit: all that was asked for it.
    pub(crate) fn of_write(scope: &Scope) -> Result<Standing> {
        let rights = Rights::new(lock(&scope.asked).clone()).of_others(scope);
        let shown = rights.relations();
        let mut reads = lock(&scope.sources).clone();
        reads.retain(|(oid, _)| !scope.block.made_here(*oid));
        let stated = purpose::stated(&scope.settings)?;
        // Decided first when it is checked: an agreement may have ended while rows were staged.
        let until_ms = Some(i64::MIN);
        let reads = reads.into();
        Ok(Standing { rights, shown, reads, until_ms, ..Standing::of_role(scope, stated) })
    }

    fn of_role(scope: &Scope, stated: Stated) -> Standing {
        let catalog = &scope.shared.catalog;
        let is_own = scope.block.changed_catalog();
        Standing {
            environment: catalog.environment().clone(),
            states: catalog.subscribe(),
            role: scope.who.role(),
            credential: Arc::clone(&scope.credential),
            stated,
            reads: Arc::from([]),
            rights: Rights::default(),
            shown: Arc::from([]),
            planned: (!is_own).then(|| Arc::clone(&scope.latest)),
            seen: Arc::clone(&scope.latest),
            until_ms: None,
            agreements: Under::default(),
            shared: Arc::clone(&scope.shared),
            tally: None,
        }
    }

    /// What counts the rows for an act; `None` where they are of no dataset.
    pub(crate) fn meter(&self, facts: &Facts, act: &str) -> Option<Meter> {
        let tally = self.tally.clone()?;
        Some(Meter {
            shared: Arc::clone(&self.shared),
            role: self.role,
            tally,
            agreements: self.agreements.clone(),
            facts: facts.clone(),
            act: act.to_owned(),
        })
    }

    /// # Errors
    /// `53400` where the role may be given nothing more today.
    pub(crate) fn refuse_used_up(&self) -> Result<()> {
        self.meter(&Facts::default(), "").map_or(Ok(()), |meter| meter.refuse_used_up())
    }

    /// Whether it still holds.
    pub fn check(&mut self) -> Result<()> {
        let latest = Arc::clone(&self.states.borrow());
        let over = self.until_ms.is_some_and(|until_ms| self.environment.now_ms() >= until_ms);
        if Arc::ptr_eq(&latest, &self.seen) && !over {
            return Ok(());
        }
        self.check_by(latest)
    }

    /// The same by a catalog that may be newer than the one it was decided by.
    fn check_by(&mut self, latest: Arc<State>) -> Result<()> {
        if !Arc::ptr_eq(&latest, &self.seen) {
            self.rights.require_in(&latest)?;
            if let Some(planned) = &self.planned {
                let changed = |it: &(Oid, Oid)| refuse_changed(planned, &latest, self.role, *it);
                self.shown.iter().try_for_each(changed)?;
            }
        }
        self.decide_by(latest)
    }

    /// The same for a session that by now says something else of its use of data.
    pub(crate) fn restate(&mut self, settings: &Settings) -> Result<()> {
        self.stated = purpose::stated(settings)?;
        let latest = Arc::clone(&self.states.borrow());
        self.check_by(latest)
    }

    /// Returns when it holds no longer, with the reason.
    async fn ends(mut self) -> Error {
        let mut states = self.states.clone();
        loop {
            // Before it is looked at, so that no change is missed.
            states.mark_unchanged();
            if let Err(error) = self.check() {
                return error;
            }
            let again = nearer(self.until_ms, &self.environment);
            tokio::select! {
                changed = states.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = again => {}
            }
        }
    }

    /// Decides anew.
    fn decide_by(&mut self, state: Arc<State>) -> Result<()> {
        let now_ms = self.environment.now_ms();
        let by = (self.role, self.credential.as_ref());
        let term = decide(&state, by, &self.stated, &self.reads, now_ms)?;
        self.until_ms = term.until_ms;
        self.agreements.set(term.agreements);
        self.seen = state;
        Ok(())
    }
}

impl SessionWatch {
    pub(crate) fn new(shared: &Shared, role: Oid, credential: &Arc<Credential>) -> SessionWatch {
        SessionWatch {
            environment: shared.catalog.environment().clone(),
            states: shared.catalog.subscribe(),
            role,
            credential: Arc::clone(credential),
            of_server: shared.of_server,
        }
    }

    /// The milliseconds that a statement may take, by the newest catalog, and in words which limit
    /// that is.
    pub(crate) fn time_limit(&mut self) -> Option<(u64, String)> {
        let state = self.states.borrow_and_update();
        let of_server = self.of_server.statement_time_ms;
        let limit = limit::of_role(&state, self.role).get(LimitName::StatementTime);
        match limit.filter(|it| of_server == 0 || it.value <= of_server) {
            Some(it) => Some((it.value, format!("The {} is {} ms.", it.shown(&state), it.value))),
            None if of_server == 0 => None,
            None => Some((of_server, format!("The setting {STATEMENT_TIME} is {of_server}."))),
        }
    }

    /// Returns when there is a newer catalog than the last one that was looked at.
    pub(crate) async fn changed(&mut self) {
        if self.states.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// # Errors
    /// `28000` where the role is frozen, or what the session came by has ended.
    pub(crate) fn check(&self) -> Result<()> {
        let state = self.states.borrow();
        freeze::refuse_frozen_role(&state, &Principal::of(&state, self.role))?;
        self.credential.check(&state, self.environment.now_ms())
    }

    /// Returns when it is so.
    pub(crate) async fn ended(mut self) -> Error {
        loop {
            self.states.mark_unchanged();
            if let Err(error) = self.check() {
                return error;
            }
            let again = nearer(self.credential.until_ms, &self.environment);
            tokio::select! {
                changed = self.states.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = again => {}
            }
        }
    }
}

/// Returns at that time, or earlier, so that it is looked again; never where there is none.
async fn nearer(until_ms: Option<i64>, environment: &Environment) {
    match until_ms {
        Some(until_ms) => {
            let left_ms = until_ms.saturating_sub(environment.now_ms());
            let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
            tokio::time::sleep(left.min(LOOKED_AT_EVERY)).await;
        }
        None => std::future::pending().await,
    }
}

/// What all of `reads` stands on together.
fn decide(
    state: &State,
    (role, credential): (Oid, &Credential),
    stated: &Stated,
    reads: &[(Oid, Oid)],
    now_ms: i64,
) -> Result<Term> {
    let who = Principal::of(state, role);
    freeze::refuse_frozen_role(state, &who)?;
    credential.check(state, now_ms)?;
    credential.refuse_purpose(stated)?;
    let mut all = Term { until_ms: credential.until_ms, ..Term::default() };
    for (oid, by) in reads {
        // Dropped since: its rows are there as long as its version is.
        let Some(relation) = state.relations.get(oid) else { continue };
        freeze::refuse_frozen_relation(state, *oid)?;
        if *by != role {
            freeze::refuse_frozen_role(state, &Principal::of(state, *by))?;
        }
        let term = agreement::decide(state, &who, relation, stated, now_ms)?;
        all.until_ms = [all.until_ms, term.until_ms].into_iter().flatten().min();
        all.agreements.extend(term.agreements);
    }
    Ok(all)
}

/// `rows`, as long as `standing` holds.
pub(crate) fn while_it_holds(
    rows: SendableRecordBatchStream,
    standing: Standing,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let ends: BoxFuture<'static, Error> = standing.clone().ends().boxed();
    let state = Some((rows, standing, ends));
    let guarded = futures::stream::unfold(state, |state| async move {
        let (mut rows, mut standing, mut ends) = state?;
        let next = tokio::select! {
            biased;
            error = &mut ends => Err(error),
            next = rows.next() => match next {
                // The clock may have come to the end without anyone being woken.
                Some(batch) => standing.check().map(|()| batch),
                None => return None,
            },
        };
        match next {
            Ok(batch) => Some((batch, Some((rows, standing, ends)))),
            Err(error) => Some((Err(to_engine(error)), None)),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, guarded))
}
