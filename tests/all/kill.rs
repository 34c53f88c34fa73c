//! `kill -9` of the real server while clients write: what they were told holds after a restart.
//!
//! Half of the seeds kill it from outside once so many answers came; the others let a debug build
//! end itself between two steps of a write (a file's sync, its name, the sync of its folder, the
//! ledger's), so that every step has its turn.

use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;

use kho_tests::inside::{Reply, Server};
use kho_tests::kho::{Folders, Kho};
use kho_tests::model::Fate;
use kho_tests::seeds;
use kho_tests::wire::{Answer, Error, Target, Wire, copy_in};
use kho_tests::witness::{Ended, Step as Place, Witness};
use kho_tests::work::{Source, Step, Unit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Seeds that failed once.
const KEPT: &[u64] = &[];
const CLIENTS: u32 = 3;
/// What each client does, if it may live so long.
const UNITS: usize = 8;
/// Steps of writes in one seed, more or less; an end beyond them is a server that lives on.
const STEPS_MAX: u32 = 400;

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_step() {
    let count = seeds::from_environment("KHO_KILL_SEEDS", 60);
    seeds::all("kill -9", KEPT, count, async |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let (folders, witness) = life(&mut random, seed);
        // The real server starts again and serves; it is killed again, at rest.
        let kho = Kho::start_in(folders);
        kho.admin().value("SELECT count(*) FROM s.t");
        let folders = kho.kill();
        let server = Server::open(&folders.data(), "check").await;
        let server = server.map_err(|error| format!("no server starts: {error:?}"))?;
        witness.check(&server).await
    });
}

/// One life of a server, from a start to its violent end.
fn life(random: &mut StdRng, seed: u64) -> (Folders, Witness) {
    let witness = Witness::new("s.t");
    witness.created(Fate::Done(None));
    let step = random.random_range(1..STEPS_MAX).to_string();
    let told = [("KHOTEST_END_AT_STEP", step.as_str())];
    let from_outside = seed.is_multiple_of(2);
    let told: &[(&str, &str)] = if from_outside { &[] } else { &told };
    let kho = match Kho::try_start_with(template().copied(), told) {
        Ok(kho) => kho,
        Err(folders) => return (folders, witness),
    };
    let answers = random.random_range(1..CLIENTS * 8);
    let (sender, receiver) = mpsc::channel();
    let target = kho.target("admin", "admin");
    let folders = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut random = StdRng::seed_from_u64(seed * 16 + u64::from(client));
            let (sender, target, witness) = (sender.clone(), target.clone(), &witness);
            scope.spawn(move || {
                let mut source = Source::starting_at("s.t", i64::from(client) * 1000);
                let answered = || sender.send(()).unwrap_or_default();
                work(&target, &mut source, &mut random, witness, answered);
            });
        }
        drop(sender);
        // Every client ends in the end, and then there is nothing to wait for.
        let left = receiver.iter().take(answers as usize).count();
        if from_outside || left < answers as usize {
            return kho.kill();
        }
        receiver.iter().for_each(drop);
        kho.kill()
    });
    (folders, witness)
}

/// What one client does until the server is gone.
fn work(
    target: &Target,
    source: &mut Source,
    random: &mut StdRng,
    witness: &Witness,
    answered: impl Fn(),
) {
    let Ok(mut wire) = Wire::connect(target) else { return };
    for _ in 0..UNITS {
        let unit = source.unit(random);
        let begun = witness.now();
        let ended = perform(&mut wire, &unit);
        witness.hear(&unit, begun, &ended);
        if matches!(ended, Ended::Lost | Ended::Unknown) {
            return;
        }
        answered();
    }
}

fn perform(wire: &mut Wire, unit: &Unit) -> Ended {
    let Some((last, earlier)) = unit.steps.split_last() else { return Ended::Refused };
    for step in earlier {
        if let Err(error) = send(wire, step) {
            return match error.sqlstate() {
                Some(_) if wire.simple("ROLLBACK").is_ok() => Ended::Refused,
                _ => Ended::Lost,
            };
        }
    }
    match send(wire, last) {
        Ok(reply) => Ended::Done(reply),
        Err(error) => match error.sqlstate() {
            Some(sqlstate) => Ended::of_refusal(sqlstate, Place::Last),
            None => Ended::Unknown,
        },
    }
}

fn send(wire: &mut Wire, step: &Step) -> Result<Reply, Error> {
    match step {
        Step::Sql(text) => {
            let Answer { columns, rows, tag, .. } = wire.simple(text)?.pop().unwrap_or_default();
            let names = columns.into_iter().map(|(name, _)| name).collect();
            Ok(Reply { tag, names, rows })
        }
        Step::Copy(rows) => {
            let data: String = rows.iter().map(|(k, v)| format!("{k}\t{v}\n")).collect();
            let copied = copy_in(wire, "COPY s.t (k, v) FROM STDIN", data.as_bytes(), 64)?;
            Ok(Reply { tag: format!("COPY {copied}"), names: Vec::new(), rows: Vec::new() })
        }
    }
}

/// A warehouse with the table, made once.
fn template() -> &'static Folders {
    static TEMPLATE: OnceLock<Folders> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let kho = Kho::start();
        kho.admin().run("CREATE SCHEMA s");
        kho.admin().run(&Source::new("s.t").create());
        kho.stop().1
    })
}
