//! What clients were told of one table, and whether that is what the table holds.
//!
//! What it guarantees: after any failure and restart, [`Witness::check`] finds a lost, doubled or
//! half-done statement, a version that does not read, and a catalog that does not fit its table.
//! What it does not: it knows no table but its own.
//! On failure: an error for whoever reads the test's output.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kho_catalog::audit::Source;
use kho_sql::session::Session;

use crate::inside::{Reply, Server, run};
use crate::model::{Fate, Rows, Told, Value, explain};
use crate::work::Unit;

/// How a unit of work ended, as its client saw it.
#[derive(Clone, Debug)]
pub enum Ended {
    Done(Reply),
    /// It was refused, and nothing of it was done.
    Refused,
    /// Whether it was done is not known.
    Unknown,
    /// The connection was lost, and nothing of it was done.
    Lost,
}

/// Hears what the clients of one table are told; they may be many.
#[derive(Debug)]
pub struct Witness {
    table: String,
    clock: AtomicU64,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    created: Option<Fate>,
    told: Vec<Told>,
    reads: Vec<Rows>,
}

impl Ended {
    /// What an error means for a unit of work, by its SQLSTATE; `last` says whether it came of the
    /// unit's last step, before which nothing of it is done.
    pub fn of_refusal(sqlstate: &str, last: Step) -> Ended {
        let unclear = ["08", "57", "58", "XX"].iter().any(|class| sqlstate.starts_with(class));
        match last {
            Step::Last if unclear => Ended::Unknown,
            _ => Ended::Refused,
        }
    }
}

/// Whether more of a unit was to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Earlier,
    Last,
}

impl Witness {
    /// For the table `schema.name`.
    pub fn new(table: &str) -> Witness {
        let heard = Mutex::default();
        Witness { table: table.to_owned(), clock: AtomicU64::new(0), heard }
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// The moment before a unit is sent.
    pub fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Hears how `CREATE TABLE` ended.
    pub fn created(&self, fate: Fate) {
        let mut heard = self.heard();
        if heard.created != Some(Fate::Done(None)) {
            heard.created = Some(fate);
        }
    }

    pub fn is_created(&self) -> bool {
        self.heard().created == Some(Fate::Done(None))
    }

    /// Hears how a unit that was begun at `begun` ended.
    pub fn hear(&self, unit: &Unit, begun: u64, ended: &Ended) {
        let now = self.now();
        match (ended, &unit.effect) {
            (Ended::Done(reply), _) if unit.reads => self.heard().reads.push(read(reply)),
            // The end of a block that had failed.
            (Ended::Done(reply), _) if reply.tag == "ROLLBACK" => {}
            (Ended::Done(reply), Some(effect)) => {
                let fate = Fate::Done(reply.count());
                let effect = effect.clone();
                self.heard().told.push(Told { effect, fate, begun, ended: now });
            }
            (Ended::Unknown, Some(effect)) => {
                let (effect, fate) = (effect.clone(), Fate::Unknown);
                self.heard().told.push(Told { effect, fate, begun, ended: u64::MAX });
            }
            (Ended::Refused | Ended::Lost, _) | (_, None) => {}
        }
    }

    /// Holds the table, as `server` finds it after a start, against what was heard.
    pub async fn check(&self, server: &Server) -> Result<(), String> {
        let catalog = server.engine.catalog();
        catalog.verify().await.map_err(|error| format!("the catalog is broken: {error:?}"))?;
        let environment = catalog.environment();
        let verified = Source::new(environment, environment).verify(catalog, None).await;
        verified.map_err(|error| format!("the ledger is broken: {error:?}"))?;
        let session = server.connect().await;
        let mut session = session.map_err(|error| format!("no session: {error:?}"))?;
        let history = format!(
            "SELECT version, operation FROM kho.table_history('{}') ORDER BY version",
            self.table
        );
        let history = match run(&mut session, &history).await {
            Ok(history) => history.rows,
            Err(error) if error.sqlstate() == "42P01" => return self.check_absent(),
            Err(error) => return Err(format!("no history: {error:?}")),
        };
        let mut versions = Vec::new();
        for (expected, row) in history.iter().enumerate() {
            if row[0].as_deref() != Some(expected.to_string().as_str()) {
                return Err(format!("version {expected} is missing from {history:?}"));
            }
            let question = format!("SELECT * FROM {} VERSION AS OF {expected}", self.table);
            let rows = read(&ask(&mut session, &question).await?);
            // A compaction is a version with the rows of the one before.
            match (row[1].as_deref(), versions.last()) {
                (Some("OPTIMIZE"), Some(before)) if rows.reads_as(before) => {}
                (Some("OPTIMIZE"), _) => return Err(format!("{expected} changed rows: {rows:?}")),
                _ => versions.push(rows),
            }
        }
        self.check_current(&mut session, &versions).await?;
        if !versions.first().is_some_and(|it| it.reads_as(&Rows::of(["k", "v"], Vec::new()))) {
            return Err(format!("the table did not begin empty: {versions:?}"));
        }
        explain(&versions, &self.heard().told)?;
        let heard = self.heard();
        match heard.reads.iter().find(|read| !versions.iter().any(|it| it.reads_as(read))) {
            Some(read) => Err(format!("a client read what no version holds: {read:?}")),
            None => Ok(()),
        }
    }

    /// Holds the newest version against the catalog, and sees whether it can be written.
    async fn check_current(&self, session: &mut Session, versions: &[Rows]) -> Result<(), String> {
        let Some(last) = versions.last() else { return Err("there is no version".to_owned()) };
        let (schema, name) = self.table.split_once('.').unwrap_or(("public", &self.table));
        let columns = format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = '{schema}' \
             AND table_name = '{name}' ORDER BY ordinal_position"
        );
        let columns = ask(session, &columns).await?.rows;
        let columns: Vec<&str> = columns.iter().flatten().flatten().map(String::as_str).collect();
        if !last.names().eq(columns.iter().copied()) {
            return Err(format!("the catalog says {columns:?}, the table is {last:?}"));
        }
        let now = read(&ask(session, &format!("SELECT * FROM {}", self.table)).await?);
        if !now.reads_as(last) {
            return Err(format!("the newest version reads {now:?} and {last:?}"));
        }
        let more = format!("INSERT INTO {} (k, v) VALUES (0, 0)", self.table);
        ask(session, &more).await?;
        let count = ask(session, &format!("SELECT count(*) FROM {}", self.table)).await?.rows;
        let wanted = (last.rows().len() + 1).to_string();
        match count[0][0].as_deref() == Some(wanted.as_str()) {
            true => Ok(()),
            false => Err(format!("one row more than {} are {count:?}", last.rows().len())),
        }
    }

    fn check_absent(&self) -> Result<(), String> {
        let heard = self.heard();
        let acknowledged = heard.told.iter().any(|it| it.fate != Fate::Unknown);
        match heard.created {
            Some(Fate::Done(_)) => Err("the table is gone".to_owned()),
            _ if acknowledged => Err("a table that rows were put into is gone".to_owned()),
            _ => Ok(()),
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(session: &mut Session, question: &str) -> Result<Reply, String> {
    run(session, question).await.map_err(|error| format!("{question}: {error:?}"))
}

/// The rows of an answer, as the model has them.
pub fn read(reply: &Reply) -> Rows {
    let number = |text: &Option<String>| -> Value {
        let text = text.as_ref()?;
        Some(text.parse().unwrap_or_else(|_| panic!("not a number: {text}")))
    };
    let rows = reply.rows.iter().map(|row| row.iter().map(number).collect()).collect();
    Rows::of(reply.names.iter().map(String::as_str), rows)
}
