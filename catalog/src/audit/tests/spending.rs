//! What was released since a moment is found again, whenever the server was cut off.

use super::sealing::catalog;
use super::*;
use crate::environment::ManualClock;
use crate::state::Oid;

const AN: Oid = 20_000;
const AGREEMENT: Oid = 30_000;
const START_MS: i64 = 1_700_000_000_000;

fn released(rows: u64) -> Released {
    let agreements = vec![AGREEMENT];
    Released { role: AN, rows, bytes: rows * 8, kept_rows: 1, kept_bytes: 8, agreements }
}

async fn ends(ledger: &Ledger, rows: u64) {
    let completion = Completion { released: Some(released(rows)), ..done(rows) };
    ledger.begin(record("a query")).await.unwrap().complete(completion);
    // Nobody waits for an end to be written, but whoever begins later does.
    drop(ledger.begin(record("a later one")).await.unwrap());
}

/// Rows of the role and those under the agreement, since `since_ms`.
async fn found(spent: &mut Spent, since_ms: i64) -> (u64, u64) {
    spent.read_on(since_ms).await.unwrap();
    let rows = |sums: std::collections::HashMap<Oid, Used>, of: Oid| {
        sums.get(&of).map_or(0, |used| used.rows)
    };
    (rows(spent.by_role(), AN), rows(spent.by_agreement(), AGREEMENT))
}

async fn adds_up(environment: Environment, clock: Arc<ManualClock>) {
    let warehouse = catalog(&environment).await;
    let ledger = open(&environment, "kho").await;
    let mut own = ledger.spent();
    let mut keeping = ledger.keep(&warehouse).await.unwrap();
    ends(&ledger, 1).await;
    clock.advance(Duration::from_secs(60));
    let since = START_MS + 60_000;
    ends(&ledger, 10).await;
    keeping.seal().await.unwrap();
    ends(&ledger, 100).await;
    // What is put down of an act counts until it ends, and then what it says at its end.
    let opened = ledger.begin(record("a portal")).await.unwrap();
    ledger.releasing(opened.id(), released(2_000)).await.unwrap();
    ledger.releasing(opened.id(), released(4_000)).await.unwrap();
    let other = open(&environment, "other").await;
    let mut elsewhere = other.spent();
    assert_eq!(found(&mut elsewhere, since).await, (4_110, 4_113));
    assert_eq!(found(&mut own, since).await, (0, 0), "a run counts its own itself");
    opened.complete(Completion { released: Some(released(3_000)), ..done(3_000) });
    let cut_off = ledger.begin(record("another portal")).await.unwrap();
    ledger.releasing(cut_off.id(), released(500)).await.unwrap();
    assert_eq!(found(&mut elsewhere, since).await, (3_610, 3_614));
    keeping.seal().await.unwrap();
    assert_eq!(found(&mut elsewhere, since).await, (3_610, 3_614), "each link counts once");
    // The act is never ended: the next run of the server finds what was put down.
    std::mem::forget(cut_off);
    let ledger = open(&environment, "kho").await;
    let mut next = ledger.spent();
    ends(&ledger, 7).await;
    assert_eq!(found(&mut next, since).await, (3_610, 3_614));
    assert_eq!(found(&mut elsewhere, since).await, (3_617, 3_622));
    // A later day begins anew.
    clock.advance(Duration::from_secs(60));
    assert_eq!(found(&mut elsewhere, since + 60_000).await, (0, 0));
    ends(&ledger, 5).await;
    assert_eq!(found(&mut elsewhere, since + 60_000).await, (5, 6));
    let fresh = open(&environment, "fresh").await;
    assert_eq!(found(&mut fresh.spent(), since + 60_000).await, (5, 6));
    assert_eq!(found(&mut fresh.spent(), START_MS).await, (3_623, 3_630));
}

#[tokio::test]
async fn what_was_released_adds_up_over_runs_and_servers() {
    let clock = || Arc::new(ManualClock::new(START_MS));
    let one = clock();
    adds_up(memory().with_clock(one.clone()), one).await;
    let (one, (_folder, environment)) = (clock(), local());
    adds_up(environment.with_clock(one.clone()), one).await;
}
