//! Purposes, agreements and freezes against a clock and against what runs: an end holds at every
//! batch, on every server, for whatever was begun before it.

mod ends;
mod frozen;
mod prepared;
mod revoked;
mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kho_catalog::environment::ManualClock;
use kho_sql::session::Session;
use kho_tests::inside::{Server, Warehouse, play, run};

/// Rows of the dataset: several batches, more than a statement works ahead.
const ROWS: usize = 400_000;
/// How long an agreement holds.
const HOUR: Duration = Duration::from_secs(3600);

/// A warehouse with the dataset `s.t`, which `officer` owns and `an` may read for `d` within an
/// agreement that holds for an hour, by the clock.
struct City {
    clock: Arc<ManualClock>,
    warehouse: Warehouse,
    server: Server,
    officer: Session,
}

impl City {
    async fn build() -> City {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let clock = Arc::new(ManualClock::new(i64::try_from(now.as_millis()).unwrap()));
        let warehouse = Warehouse::in_memory();
        let server = warehouse.serve_by("first", clock.clone()).await.unwrap();
        let mut admin = server.connect().await.unwrap();
        for statement in [
            "CREATE ROLE officer LOGIN",
            "CREATE ROLE an LOGIN",
            "CREATE SCHEMA o AUTHORIZATION officer",
        ] {
            run(&mut admin, statement).await.unwrap();
        }
        let mut officer = server.connect_as("officer", &[]).await.unwrap();
        let until = (now + HOUR).as_secs();
        let rows =
            format!("INSERT INTO o.t SELECT x, 'secret' FROM generate_series(1, {ROWS}) AS g (x)");
        let agreement = format!(
            "CALL kho.grant_agreement('o.t', 'an', 'd', '{}', 'CV 1')",
            chrono::DateTime::from_timestamp(i64::try_from(until).unwrap(), 0)
                .unwrap()
                .to_rfc3339()
        );
        for statement in [
            "CREATE TABLE o.t (id bigint, name text) \
             WITH (allowed_purposes = 'c,d', requires_agreement = true)",
            "GRANT USAGE ON SCHEMA o TO an",
            "GRANT SELECT ON o.t TO an",
            &rows,
            &agreement,
        ] {
            run(&mut officer, statement).await.unwrap();
        }
        City { clock, warehouse, server, officer }
    }

    /// A session that reads for `d`.
    async fn an(&self) -> Session {
        self.server.connect_as("an", &[("kho.purpose", "d")]).await.unwrap()
    }

    fn now_ms(&self) -> i64 {
        kho_catalog::environment::Clock::now_ms(self.clock.as_ref())
    }

    async fn end_agreement(&mut self) {
        let found = run(&mut self.officer, "SELECT id FROM kho.agreements").await.unwrap();
        let id = found.rows[0][0].clone().unwrap();
        let end = format!("CALL kho.end_agreement({id}, 'over')");
        run(&mut self.officer, &end).await.unwrap();
    }
}

/// The SQLSTATE that a statement is refused with.
async fn refusal(session: &mut Session, statement: &str) -> String {
    match run(session, statement).await {
        Ok(reply) => panic!("{statement}: was not refused: {} rows", reply.rows.len()),
        Err(error) => error.sqlstate().to_owned(),
    }
}
