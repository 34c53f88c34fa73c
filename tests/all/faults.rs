//! Whatever fails, whenever: no acknowledged commit is lost, none is applied twice, and one that
//! was not acknowledged is whole or absent (promise 3), with one server and with two (promise 6).
//!
//! A seed is a warehouse, some lives of one or two servers on it, and what fails in each. It ends
//! with a server that nothing happens to, which must find what the clients were told.

use std::sync::{Arc, Mutex};

use kho_sql::session::Session;
use kho_tests::faults::{Access, Area, Fault, FaultyStore, Planned};
use kho_tests::inside::{Server, Warehouse, copy, run};
use kho_tests::model::{Effect, Fate, Rows, Told, explain};
use kho_tests::python::script;
use kho_tests::seeds;
use kho_tests::witness::{Ended, Step as Place, Witness, read};
use kho_tests::work::{Source, Step, Unit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Seeds that failed once.
const KEPT_ONE: &[u64] = &[];
const KEPT_TWO: &[u64] = &[];

const TABLE: &str = "s.t";
/// So many tables of each test are read in DuckDB and delta-rs, too.
const READ_BY_OTHERS: usize = 16;

#[test]
fn one_server_loses_and_doubles_nothing() {
    let count = seeds::from_environment("KHO_FAULT_SEEDS", 500);
    let folders = Mutex::new(Vec::new());
    seeds::all("faults with one server", KEPT_ONE, count, async |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        keep(&folders, play(&mut random, &["a"]).await?).await
    });
    others_read(&folders.into_inner().unwrap());
}

#[test]
fn two_servers_lose_and_double_nothing() {
    let count = seeds::from_environment("KHO_FAULT_SEEDS", 500);
    let folders = Mutex::new(Vec::new());
    seeds::all("faults with two servers", KEPT_TWO, count, async |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        keep(&folders, play(&mut random, &["a", "b"]).await?).await
    });
    others_read(&folders.into_inner().unwrap());
}

/// A warehouse in a folder, and what Kho reads there.
struct Kept {
    _warehouse: Warehouse,
    table: Value,
}

/// Keeps some of the warehouses that lie in folders for other readers.
async fn keep(folders: &Mutex<Vec<Kept>>, warehouse: Warehouse) -> Result<(), String> {
    let Some(folder) = warehouse.folder() else { return Ok(()) };
    if folders.lock().unwrap().len() >= READ_BY_OTHERS {
        return Ok(());
    }
    let server = warehouse.serve_well("keep").await.map_err(|error| format!("{error:?}"))?;
    let Some(place) = server.place("s", "t") else { return Ok(()) };
    let mut session = server.connect().await.map_err(|error| format!("{error:?}"))?;
    let reply = run(&mut session, "SELECT * FROM s.t").await;
    let reply = reply.map_err(|error| format!("{error:?}"))?;
    let rows = read(&reply);
    let table = json!({ "folder": folder.join(place), "names": reply.names, "rows": rows.rows() });
    folders.lock().unwrap().push(Kept { _warehouse: warehouse, table });
    Ok(())
}

fn others_read(kept: &[Kept]) {
    let tables: Vec<&Value> = kept.iter().map(|kept| &kept.table).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tables.json");
    std::fs::write(&path, serde_json::to_vec(&tables).unwrap()).unwrap();
    script("plain_readers", &[("KHO_TABLES", path.to_str().unwrap())]);
}

/// A server in one of its lives.
struct Life {
    store: Arc<FaultyStore>,
    server: Option<Server>,
    session: Option<Session>,
}

/// Some lives of the servers `names`, and the reckoning.
async fn play(random: &mut StdRng, names: &[&str]) -> Result<Warehouse, String> {
    let warehouse = match random.random_ratio(1, 8) {
        true => Warehouse::in_folder().await,
        false => Warehouse::in_memory(),
    };
    let (witness, mut source) = (Witness::new(TABLE), Source::new(TABLE));
    if random.random_bool(0.5) {
        source = source.keyed();
    }
    let mut dead: Vec<Arc<FaultyStore>> = Vec::new();
    for _ in 0..random.random_range(1..=3) {
        let mut lives = Vec::new();
        for name in names {
            lives.push(Life::begin(&warehouse, name, plan(random)).await);
        }
        for _ in 0..random.random_range(3..=6) {
            let turn = random.random_range(0..lives.len());
            if lives.len() > 1 && random.random_bool(0.4) && witness.is_created() {
                let (one, other) = (source.unit(random), source.unit(random));
                let [first, second] = lives.as_mut_slice() else { continue };
                tokio::join!(first.work(&one, &witness), second.work(&other, &witness));
            } else if witness.is_created() {
                let unit = source.unit(random);
                lives[turn].work(&unit, &witness).await;
            } else {
                lives[turn].create(&source, &witness).await;
            }
            // What a server that ended left on its way arrives when it arrives.
            if random.random_bool(0.3)
                && let Some(store) = dead.pop()
            {
                store.settle().await;
            }
        }
        for life in lives {
            life.store.cut();
            dead.push(life.store);
        }
    }
    for store in dead {
        store.settle().await;
    }
    let server = warehouse.serve_well("check").await;
    let server = server.map_err(|error| format!("no server starts: {error:?}"))?;
    witness.check(&server).await?;
    Ok(warehouse)
}

impl Life {
    async fn begin(warehouse: &Warehouse, name: &str, plan: Vec<Planned>) -> Life {
        let store = Arc::new(FaultyStore::new(&warehouse.store, warehouse.folder(), plan));
        let mut life = Life { store: Arc::clone(&store), server: None, session: None };
        // It may fail to start: it is started again with its next task.
        life.server = warehouse.serve(name, store).await.ok();
        life
    }

    /// A session that sees what the others committed; one that failed to begin is begun again.
    async fn session(&mut self) -> Option<&mut Session> {
        let server = self.server.as_ref()?;
        // As in a running server, what was read last holds where the log cannot be read.
        drop(server.follow().await);
        if self.session.is_none() {
            self.session = server.connect().await.ok();
        }
        self.session.as_mut()
    }

    async fn create(&mut self, source: &Source, witness: &Witness) {
        let Some(session) = self.session().await else { return };
        match run(session, &source.create()).await {
            Ok(_) => witness.created(Fate::Done(None)),
            Err(error) if error.sqlstate() == "42P07" => witness.created(Fate::Done(None)),
            Err(_) => witness.created(Fate::Unknown),
        }
    }

    async fn work(&mut self, unit: &Unit, witness: &Witness) {
        let Some(session) = self.session().await else { return };
        let begun = witness.now();
        let ended = perform(session, unit).await;
        witness.hear(unit, begun, &ended);
    }
}

async fn perform(session: &mut Session, unit: &Unit) -> Ended {
    let Some((last, earlier)) = unit.steps.split_last() else { return Ended::Refused };
    for step in earlier {
        if let Err(error) = send(session, step).await {
            // Whatever it was: the block was not committed, and is given up.
            drop(run(session, "ROLLBACK").await);
            return Ended::of_refusal(error.sqlstate(), Place::Earlier);
        }
    }
    match send(session, last).await {
        Ok(reply) => Ended::Done(reply),
        Err(error) => Ended::of_refusal(error.sqlstate(), Place::Last),
    }
}

async fn send(
    session: &mut Session,
    step: &Step,
) -> kho_catalog::error::Result<kho_tests::inside::Reply> {
    match step {
        Step::Sql(text) => run(session, text).await,
        Step::Copy(rows) => copy(session, TABLE, rows).await,
    }
}

/// What fails in one life: sometimes nothing, at most three things, the last of which may be the
/// end.
fn plan(random: &mut StdRng) -> Vec<Planned> {
    let count = random.random_range(0..=3);
    let ends = random.random_bool(0.5);
    (0..count)
        .map(|index| {
            let area = match random.random_range(0..10) {
                0..2 => Area::Catalog,
                2 => Area::Ledger,
                3..8 => Area::Log,
                _ => Area::Data,
            };
            let access = match random.random_ratio(1, 5) {
                true => Access::Read,
                false => Access::Write,
            };
            let fault = match random.random_range(0..10) {
                0..3 => Fault::Before,
                3..6 => Fault::After,
                6..8 => Fault::Late(random.random_range(1..20)),
                8 => Fault::Torn,
                _ => Fault::Delay(random.random_range(1..50)),
            };
            let nth = random.random_range(0..12);
            Planned { area, access, nth, fault, cut: ends && index + 1 == count }
        })
        .collect()
}

/// A reckoning that finds nothing wrong with a lost, doubled or half-done statement proves nothing.
#[test]
fn the_reckoning_finds_what_is_wrong() {
    let rows = |rows: &[(i64, i64)]| {
        let rows = rows.iter().map(|(k, v)| vec![Some(*k), Some(*v)]);
        Rows::of(["k", "v"], rows.collect())
    };
    let told = |effect: Effect, fate: Fate, at: u64| {
        let ended = if fate == Fate::Unknown { u64::MAX } else { at + 1 };
        Told { effect, fate, begun: at, ended }
    };
    let insert = Effect::Insert(vec![(1, 0), (2, 0)]);
    let update = Effect::Update { value: 9, modulus: 2, remainder: 0 };
    let delete = Effect::Delete { modulus: 2, remainder: 1 };
    let all = [
        told(insert.clone(), Fate::Done(Some(2)), 0),
        told(update.clone(), Fate::Done(Some(1)), 2),
        told(delete.clone(), Fate::Unknown, 4),
    ];
    let (empty, two, changed) = (rows(&[]), rows(&[(1, 0), (2, 0)]), rows(&[(1, 0), (2, 9)]));
    let history = |versions: &[&Rows]| versions.iter().map(|it| (*it).clone()).collect::<Vec<_>>();
    let holds = |versions: &[&Rows]| explain(&history(versions), &all).is_ok();
    assert!(holds(&[&empty, &two, &changed]));
    assert!(holds(&[&empty, &two, &changed, &rows(&[(2, 9)])]), "an unknown one may be there");
    assert!(!holds(&[&empty, &two]), "the update is lost");
    assert!(!holds(&[&empty, &rows(&[(1, 0)]), &changed]), "half of an insert is seen");
    assert!(!holds(&[&empty, &two, &two, &changed]), "a version comes of nothing");
    let twice = rows(&[(1, 0), (1, 0), (2, 0), (2, 0)]);
    assert!(!holds(&[&empty, &two, &twice]), "the insert is there twice");
    assert!(!holds(&[&empty, &rows(&[(2, 0)]), &changed]), "the delete came before its time");
    // Told to have found nothing, it must have found nothing in its turn.
    let idle = [all[0].clone(), told(update, Fate::Done(Some(0)), 2)];
    assert!(explain(&history(&[&empty, &two]), &idle).is_err(), "the update is lost");
}
