//! What a statement that runs stands on: that its role and its datasets are not frozen, that what
//! its session came by has not ended, and that what it was allowed to read for, it still is.
//!
//! What it guarantees: rows are given only while that holds, by the clock and by the newest catalog
//! that this server has read: at every batch, and while a batch is waited for. A block that sees
//! an older catalog is bound by the newer one, too.
//! What it does not: rights that are revoked meanwhile hold from the next statement on.
//! On failure: the error is the one that the statement would get now.

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
use kho_catalog::log::Catalog;
use kho_catalog::privilege::Principal;
use kho_catalog::state::{Oid, State};
use tokio::sync::watch;

use super::purpose;
use crate::bind::Read;
use crate::errors::to_engine;
use crate::scope::Scope;
use crate::session::Credential;
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
    /// The catalog by which it was last decided, and until when that decision holds.
    seen: Arc<State>,
    until_ms: Option<i64>,
}

/// Whether a session may still do anything: its role, by what it came by.
#[derive(Clone)]
pub(crate) struct SessionWatch {
    environment: Environment,
    states: watch::Receiver<Arc<State>>,
    role: Oid,
    credential: Arc<Credential>,
}

impl Standing {
    /// Decides about `reads`.
    ///
    /// # Errors
    /// Those of [`agreement::decide`]; `28000` and `55000` for what is frozen.
    pub(super) fn take(scope: &Scope, reads: &[Read]) -> Result<Standing> {
        let catalog = &scope.shared.catalog;
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
        let mut standing = Standing {
            environment: catalog.environment().clone(),
            states: catalog.subscribe(),
            role,
            credential: Arc::clone(&scope.credential),
            stated,
            reads: shared.into(),
            seen: Arc::clone(&scope.state),
            until_ms: None,
        };
        for agreement in standing.decide_by(Arc::clone(&scope.latest))? {
            scope.facts.decided_by(format!("agreement {agreement}"));
        }
        Ok(standing)
    }

    /// Whether it still holds.
    pub fn check(&mut self) -> Result<()> {
        let latest = Arc::clone(&self.states.borrow());
        let over = self.until_ms.is_some_and(|until_ms| self.environment.now_ms() >= until_ms);
        if Arc::ptr_eq(&latest, &self.seen) && !over {
            return Ok(());
        }
        self.decide_by(latest).map(drop)
    }

    /// The same for a session that by now says something else of its use of data.
    pub(crate) fn restate(&mut self, settings: &Settings) -> Result<()> {
        self.stated = purpose::stated(settings)?;
        let latest = Arc::clone(&self.states.borrow());
        self.decide_by(latest).map(drop)
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

    /// Decides anew; gives the agreements that it stands on.
    fn decide_by(&mut self, state: Arc<State>) -> Result<Vec<Oid>> {
        let now_ms = self.environment.now_ms();
        let by = (self.role, self.credential.as_ref());
        let term = decide(&state, by, &self.stated, &self.reads, now_ms)?;
        self.until_ms = term.until_ms;
        self.seen = state;
        Ok(term.agreements)
    }
}

impl SessionWatch {
    pub(crate) fn new(catalog: &Catalog, role: Oid, credential: &Arc<Credential>) -> SessionWatch {
        SessionWatch {
            environment: catalog.environment().clone(),
            states: catalog.subscribe(),
            role,
            credential: Arc::clone(credential),
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
