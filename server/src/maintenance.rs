//! When the server keeps its tables in shape: soon after a write, in rounds over all of them, and
//! now and then for leftovers.
//!
//! What it guarantees: one piece of work at a time, so that statements keep the machine; a table is
//! looked at within the delay after a write through this server, and within a round after one from
//! elsewhere. It ends soon after it is asked to, whatever it is doing.
//! What it does not: two servers on one warehouse do not divide the work; one is faster, the other
//! finds nothing to do.
//! On failure: it is logged and counted, and the next write or round tries again.

use std::time::Duration;

use kho_catalog::error::Result;
use kho_catalog::table::Location;
use kho_sql::maintenance::{Maintenance, Tended};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::config;

/// A server that was just started has better things to do than look for leftovers.
const FIRST_SWEEP: Duration = Duration::from_secs(10 * 60);

enum Work {
    Tables(Vec<Location>),
    Round,
    Sweep,
}

/// Keeps the tables in shape until `stop`.
pub async fn run(
    maintenance: Maintenance,
    config: config::Maintenance,
    stop: CancellationToken,
) -> Result<()> {
    describe();
    let round = Duration::from_secs(config.round_interval_s);
    let sweep = Duration::from_secs(config.sweep_interval_s);
    let mut rounds = ticks(round, round);
    let mut sweeps = ticks(sweep.min(FIRST_SWEEP), sweep);
    loop {
        let work = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            _ = sweeps.tick() => Work::Sweep,
            _ = rounds.tick() => Work::Round,
            written = maintenance.written() => Work::Tables(written),
        };
        match work {
            Work::Tables(tables) => {
                let delay = tokio::time::sleep(Duration::from_millis(config.delay_ms));
                if stop.run_until_cancelled(delay).await.is_none() {
                    return Ok(());
                }
                tend(&maintenance, tables, &stop).await;
            }
            Work::Round => match maintenance.tables().await {
                Ok(tables) => tend(&maintenance, tables, &stop).await,
                Err(error) => failed(&error, "the tables could not be listed"),
            },
            Work::Sweep => {
                let age = Duration::from_secs(config.leftovers_age_s);
                match maintenance.sweep(age, &stop).await {
                    Ok(removed) => {
                        metrics::counter!("kho_maintenance_leftovers_total")
                            .increment(removed as u64);
                    }
                    Err(error) => failed(&error, "leftovers could not be removed"),
                }
            }
        }
    }
}

async fn tend(maintenance: &Maintenance, tables: Vec<Location>, stop: &CancellationToken) {
    for table in tables {
        if stop.is_cancelled() {
            return;
        }
        match maintenance.tend(&table, stop).await {
            Ok(Tended { compactions, rows, checkpoints }) => {
                metrics::counter!("kho_maintenance_compactions_total").increment(compactions);
                metrics::counter!("kho_maintenance_rows_total").increment(rows);
                metrics::counter!("kho_maintenance_checkpoints_total").increment(checkpoints);
            }
            Err(error) => failed(&error, "a table could not be kept in shape"),
        }
    }
}

fn failed(error: &kho_catalog::error::Error, what: &'static str) {
    metrics::counter!("kho_maintenance_failures_total").increment(1);
    tracing::warn!(?error, what);
}

fn ticks(first: Duration, every: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn describe() {
    use metrics::describe_counter;
    describe_counter!("kho_maintenance_compactions_total", "Compactions committed.");
    describe_counter!("kho_maintenance_rows_total", "Rows rewritten by compactions.");
    describe_counter!("kho_maintenance_checkpoints_total", "Checkpoints of tables written.");
    describe_counter!("kho_maintenance_leftovers_total", "Files of crashed writes removed.");
    describe_counter!("kho_maintenance_failures_total", "Pieces of work that failed.");
}
