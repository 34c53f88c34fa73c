//! The ledger of the real server: verified by its files alone, and whole after every kill.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use futures::TryStreamExt;
use kho_catalog::audit::{Act, Keys, Source};
use kho_catalog::environment::Environment;
use kho_catalog::log::Catalog;
use kho_tests::kho::{Folders, Kho, kho};
use kho_tests::python::client;
use kho_tests::seeds;
use kho_tests::wire::{Target, Wire, bind};
use postgres_protocol::message::frontend;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const CLIENTS: u64 = 4;
/// What each client asks, if the server lives so long.
const QUESTIONS: u64 = 40;
/// Steps of writes in one life, more or less.
const STEPS_MAX: u32 = 120;
/// So that segments are sealed while they are killed.
const SEALING: (&str, &str) = ("KHO_AUDIT__SEAL_INTERVAL_S", "1");

/// What `kho` says to a command on a warehouse: whether it succeeded, and all it said.
fn told(folders: (&Path, &Path), arguments: &[&str]) -> (bool, String) {
    let mut command = kho(arguments[0]);
    command.args(&arguments[1..]).env("KHO_DATA", folders.0);
    command.env("KHO_KEYS__DIRECTORY", folders.1);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_files_and_the_public_key_tell_whether_a_record_was_changed() {
    let kho = Kho::start_with(Folders::new(), &[SEALING]);
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer, name text)");
    admin.run("INSERT INTO s.t VALUES (1, 'Nguyễn Thị Bí Mật')");
    assert_eq!(admin.value("SELECT count(*) FROM s.t WHERE name = 'Nguyễn Thị Bí Mật'"), "1");
    let (ended, folders) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);
    let (data, keys) = (folders.data(), folders.keys());
    let (shown, key) = told((&data, &keys), &["keys", "show"]);
    assert!(shown && key.trim().len() == 64, "{key}");
    // Neither the secret key nor the literal is anywhere in the warehouse's ledger.
    let secret = std::fs::read_to_string(keys.join("ledger.key")).unwrap();
    let hashing = secret.split("\"hashing\":\"").nth(1).unwrap()[..64].to_owned();
    assert!(super::files::files_with(&data, hashing.as_bytes()).is_empty());
    assert!(super::files::files_with(&data.join("audit"), "Bí Mật".as_bytes()).is_empty());

    // No key but the public one is needed, nor the folder of keys.
    let away = data.with_file_name("away");
    let verify = ["audit", "verify", "--key", key.trim()];
    let (whole, said) = told((&data, &away), &verify);
    assert!(whole && said.starts_with("the ledger is whole: "), "{said}");
    let other = "00".repeat(32);
    let (whole, said) = told((&data, &away), &["audit", "verify", "--key", &other]);
    assert!(!whole && said.contains("is not signed by the warehouse"), "{said}");

    // A body that is changed is found and named.
    let bodies = data.join("audit/bodies");
    let first = std::fs::read_dir(&bodies).unwrap().map(|it| it.unwrap().path()).min().unwrap();
    let text = std::fs::read_to_string(&first).unwrap();
    let at = text.find("CREATE SCHEMA").unwrap();
    let number = text[..at].rsplit("\"body\":").next().unwrap().split(',').next().unwrap();
    let number = number.to_owned();
    std::fs::write(&first, text.replace("CREATE SCHEMA", "CREATE SCHEMB")).unwrap();
    let (whole, said) = told((&data, &away), &verify);
    let wanted = format!("kho: audit record {number} of server ");
    assert!(!whole && said.starts_with(&wanted), "{said}, not {wanted}");
    let kho = Kho::start_in(folders);
    let mut admin = kho.admin();
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor'; GRANT kho_auditor TO auditor");
    let refused = kho.connect("auditor").refusal("CALL kho.verify_audit_log()");
    assert_eq!(refused.sqlstate, "XX001");
    assert!(refused.message.contains(&format!("audit record {number} of server ")), "{refused:?}");
    std::fs::write(&first, text).unwrap();
    kho.connect("auditor").run("CALL kho.verify_audit_log()");
}

#[test]
fn a_ledger_is_verified_by_either_key_over_a_rotation() {
    let kho = Kho::start_with(Folders::new(), &[SEALING]);
    let mut admin = kho.admin();
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor'; GRANT kho_auditor TO auditor");
    let (data, keys) = (kho.data(), kho.keys());
    let folders = (data.as_path(), keys.as_path());
    let first = told(folders, &["keys", "show"]).1.trim().to_owned();
    // A server that runs goes on with its key until it is started anew.
    let (rotated, second) = told(folders, &["keys", "rotate"]);
    let second = second.trim().to_owned();
    assert!(rotated && second.len() == 64 && second != first, "{second}");
    assert_eq!(told(folders, &["keys", "show"]).1.trim(), second);
    admin.run("CREATE SCHEMA s");
    kho.connect("auditor").run("CALL kho.verify_audit_log()");
    let (ended, folders) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);

    // Cut off between the catalog and the file, a rotation goes on with the next start.
    let file = keys.join("ledger.key");
    let old = std::fs::read(&file).unwrap();
    let (_, third) = told((&data, &keys), &["keys", "rotate"]);
    std::fs::rename(&file, keys.join("ledger.key.next")).unwrap();
    std::fs::write(&file, old).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let kho = Kho::start_in(folders);
    assert_eq!(told((&data, &keys), &["keys", "show"]).1, third);
    kho.admin().run("CREATE TABLE s.t (id integer)");
    kho.connect("auditor").run("CALL kho.verify_audit_log()");
    let (ended, _folders) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);

    let away = data.with_file_name("away");
    for key in [&first, &second, third.trim()] {
        let (whole, said) = told((&data, &away), &["audit", "verify", "--key", key]);
        assert!(whole && said.starts_with("the ledger is whole: "), "{key}: {said}");
    }
    assert!(told((&data, &away), &["audit", "verify"]).0);
    let (whole, said) = told((&data, &away), &["audit", "verify", "--key", &"00".repeat(32)]);
    assert!(!whole && said.contains("is not signed by the warehouse"), "{said}");
}

#[test]
fn a_server_without_the_warehouses_keys_does_not_start() {
    let kho = Kho::start();
    kho.admin().run("CREATE SCHEMA s");
    let (_, folders) = kho.stop();
    std::fs::remove_file(folders.keys().join("ledger.key")).unwrap();
    let (served, said) = told((&folders.data(), &folders.keys()), &["serve"]);
    assert!(!served && said.contains("ledger.key is missing"), "{said}");
    std::fs::write(folders.keys().join("ledger.key"), Keys::generate().unwrap()).unwrap();
    let (served, said) = told((&folders.data(), &folders.keys()), &["serve"]);
    assert!(!served && said.contains("ledger.key"), "{said}");
}

#[test]
fn duckdb_and_delta_rs_read_the_sealed_ledger() {
    let kho = Kho::start();
    kho.admin().run("CREATE SCHEMA s");
    let (ended, folders) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);
    let sealed = folders.data().join("audit/sealed");
    let kho = Kho::start_in(folders);
    client(&kho, "sealed_ledger", &[("KHO_SEALED", sealed.to_str().unwrap())]);
}

/// What is refused when it is prepared or bound is in the ledger as a refusal, with its dataset.
#[test]
fn what_is_refused_before_it_runs_is_in_the_ledger() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor'; GRANT kho_auditor TO auditor");
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    let mut refuse = |text: &str, value: Option<&str>, sqlstate: &str| {
        let values: Vec<Option<&str>> = value.into_iter().map(Some).collect();
        admin
            .send(|buffer| {
                frontend::parse("", text, [], buffer)?;
                bind("", "", &values, buffer)?;
                frontend::execute("", 0, buffer)?;
                frontend::sync(buffer);
                Ok(())
            })
            .unwrap();
        assert_eq!(admin.answers().unwrap_err().sqlstate(), Some(sqlstate), "{text}");
    };
    refuse("SELECT wrong FROM s.t", None, "42703");
    refuse("SELECT id FROM s.t WHERE id = $1", Some("x"), "22P02");
    refuse("SELECT id FROM s.t WHERE id = $1", None, "08P01");
    refuse("SELECT 1; SELECT 2", None, "42601");
    let mut auditor = kho.connect("auditor");
    let question = "SELECT outcome, statement, dataset FROM kho.audit_log \
                    WHERE kind = 'statement_refused' ORDER BY time, outcome";
    let found = auditor.rows(question);
    let said: Vec<_> = found.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(said.len(), 4, "{found:?}");
    for sqlstate in ["42703", "22P02", "08P01", "42601"] {
        assert!(said.iter().any(|it| it == sqlstate), "{found:?}");
    }
    let wrong = found.iter().find(|row| row[0].as_deref() == Some("42703")).unwrap();
    assert_eq!(wrong[1].as_deref(), Some("SELECT wrong FROM s.t"));
    assert_eq!(wrong[2].as_deref(), Some("s.t"));
}

/// A login that is refused is in the ledger; the name that was given is no part of the chain.
#[test]
fn a_refused_login_is_in_the_ledger() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor'; GRANT kho_auditor TO auditor");
    assert!(Wire::connect(&kho.target("auditor", "wrong")).is_err());
    assert!(Wire::connect(&kho.target("my-secret-password", "x")).is_err());
    let mut auditor = kho.connect("auditor");
    let question = "SELECT role, outcome FROM kho.audit_log WHERE kind = 'login_refused' \
                    ORDER BY time";
    let found = auditor.rows(question);
    let text = |text: &str| Some(text.to_owned());
    let wanted =
        [vec![text("auditor"), text("28P01")], vec![text("my-secret-password"), text("28P01")]];
    assert_eq!(found, wanted);
}

/// Results that a client got have their record, whenever the server was killed.
#[test]
fn what_was_released_is_in_the_ledger_after_a_kill() {
    let count = seeds::from_environment("KHO_LEDGER_KILLS", 100);
    // Lives of one warehouse follow each other; as many as cores go on at one time.
    let lives = 10;
    seeds::all("kill -9 and the ledger", &[], count / lives, async |seed| {
        let mut folders = Folders::new();
        let mut released = BTreeSet::new();
        for life in 0..lives {
            let moment = seed * lives + life;
            folders = one_life(folders, moment, &mut released);
            check(&folders, &released).await.map_err(|error| format!("life {life}: {error}"))?;
        }
        Ok(())
    });
}

/// A server, its clients, and its violent end; what the clients got is added to `released`.
fn one_life(folders: Folders, moment: u64, released: &mut BTreeSet<u64>) -> Folders {
    let mut random = StdRng::seed_from_u64(moment);
    let step = random.random_range(1..STEPS_MAX).to_string();
    let inside = [SEALING, ("KHOTEST_END_AT_STEP", step.as_str())];
    let from_outside = moment.is_multiple_of(2);
    let told: &[(&str, &str)] = if from_outside { &inside[..1] } else { &inside };
    let kho = match Kho::try_start_with(folders, told) {
        Ok(kho) => kho,
        Err(folders) => return folders,
    };
    let answers = random.random_range(1..CLIENTS * QUESTIONS);
    let (sender, receiver) = mpsc::channel();
    let target = kho.target("admin", "admin");
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (sender, target) = (sender.clone(), target.clone());
            let first = 1_000_000 + (moment * CLIENTS + client) * QUESTIONS;
            scope.spawn(move || ask(&target, first, &sender));
        }
        drop(sender);
        let mut got = 0;
        let mut kho = Some(kho);
        let mut folders = None;
        for question in receiver {
            released.insert(question);
            got += 1;
            if got == answers
                && let Some(kho) = kho.take()
            {
                folders = Some(kho.kill());
            }
        }
        folders.or_else(|| kho.map(Kho::kill)).unwrap()
    })
}

/// Asks until the server is gone, and tells what was answered.
fn ask(target: &Target, first: u64, answered: &mpsc::Sender<u64>) {
    let Ok(mut wire) = Wire::connect(target) else { return };
    for question in first..first + QUESTIONS {
        let simple = question.is_multiple_of(2);
        let text = format!("SELECT {question} AS n");
        let answer = match simple {
            true => wire.simple(&text).ok().and_then(|mut answers| answers.pop()),
            false => wire.extended(&text).ok(),
        };
        let Some(answer) = answer else { return };
        assert_eq!(answer.rows, [vec![Some(question.to_string())]]);
        if answered.send(question).is_err() {
            return;
        }
    }
}

/// Holds the ledger, as the files of a server that is dead say it, against what was released.
async fn check(folders: &Folders, released: &BTreeSet<u64>) -> Result<(), String> {
    let keys = folders.keys().join("ledger.key");
    // Killed before it had one, it released nothing.
    let Ok(text) = std::fs::read_to_string(keys) else { return Ok(()) };
    let keys = Keys::parse(&text).map_err(|error| format!("no keys: {error:?}"))?;
    let environment = Environment::open(&folders.data().to_string_lossy());
    let environment = environment.map_err(|error| format!("no warehouse: {error:?}"))?;
    let source = Source::new(&environment, &environment);
    let broken = |error| format!("the ledger is broken: {error:?}");
    let catalog = Catalog::open(environment.clone(), "check").await.map_err(broken)?;
    let found = source.verify(&catalog, Some(&keys.public())).await.map_err(broken)?;
    if !found.lost.is_empty() || found.erased > 0 {
        return Err(format!("something is lost: {found:?}"));
    }
    let mut recorded = BTreeSet::new();
    for server in source.servers().await.map_err(broken)? {
        let acts: Vec<Act> = source.acts(&server).try_collect().await.map_err(broken)?;
        recorded.extend(acts.into_iter().filter_map(|act| act.record.statement));
    }
    let lacks = |question: &&u64| {
        !recorded.contains(&format!("SELECT #{} AS n", keys.hash(&question.to_string())))
    };
    match released.iter().find(lacks) {
        Some(question) => Err(format!("{question} was answered and has no record")),
        None => Ok(()),
    }
}
