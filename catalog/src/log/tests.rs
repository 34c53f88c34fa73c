//! Commits of several servers, the chain, checkpoints, bodies, and what storage does to them.

mod leftovers;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::environment::ManualClock;
use crate::environment::faults::{Fault, FaultyStore};
use crate::state::{Role, Schema};
use crate::text::Text;

fn memory() -> Environment {
    Environment::open("memory://").unwrap()
}

async fn open(environment: &Environment) -> Result<Catalog> {
    Catalog::open(environment.clone(), "server").await
}

static AUTHOR: LazyLock<Author> = LazyLock::new(|| Author {
    role: 10,
    statement_id: "s".to_owned(),
    action: "CREATE ROLE".to_owned(),
});

fn role(state: &State, name: &str) -> Change {
    Change::PutRole(Role {
        oid: state.new_oid(0),
        name: name.to_owned(),
        login: true,
        verifier: None,
        member_of: BTreeMap::new(),
        connection_limit: None,
        valid_until_ms: None,
        comment: None,
        bypass_rls: false,
        attributes: Default::default(),
        default_grants: Vec::new(),
    })
}

fn commented(state: &State, environment: &Environment, comment: &str) -> Change {
    let comment = Text::new(comment, environment.new_id(), environment.salt());
    Change::PutSchema(Schema {
        oid: state.new_oid(0),
        name: "health".to_owned(),
        owner: 10,
        grants: vec![],
        comment: Some(comment),
    })
}

async fn add_role(catalog: &Catalog, name: &str) -> Result<Arc<State>> {
    catalog.commit(&AUTHOR, |state| Ok(vec![role(state, name)])).await
}

async fn add_roles(catalog: &Catalog, count: usize) {
    for number in 0..count {
        add_role(catalog, &format!("role {number}")).await.unwrap();
    }
}

async fn overwrite(environment: &Environment, name: &str, change: impl Fn(String) -> String) {
    let location = Path::from(name);
    let found = environment.store().get(&location).await.unwrap().bytes().await.unwrap();
    let text = change(String::from_utf8(found.to_vec()).unwrap());
    environment.store().put(&location, text.into()).await.unwrap();
}

async fn names(environment: &Environment, prefix: &str) -> Vec<String> {
    let prefix = Path::from(prefix);
    let found: Vec<_> = environment.store().list(Some(&prefix)).try_collect().await.unwrap();
    let mut names: Vec<_> = found.into_iter().map(|it| it.location.to_string()).collect();
    names.sort();
    names
}

fn json(state: &State) -> String {
    serde_json::to_string(state).unwrap()
}

fn log_name(version: u64) -> String {
    format!("catalog/log/{version:020}.json")
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test]
async fn the_first_entry_makes_the_warehouse() {
    let environment = memory();
    let catalog = open(&environment).await.unwrap();
    assert!(catalog.is_new());
    assert_eq!(catalog.verify().await.unwrap(), 0);
    let made = is_send(catalog.commit(&AUTHOR, |state| Ok(vec![role(state, "an")])));
    let made = made.await.unwrap();
    assert!(!catalog.is_new());
    assert_eq!(made.version, 0);
    let nothing = catalog.commit(&AUTHOR, |_| Ok(vec![])).await.unwrap();
    assert_eq!(nothing.version, 0);
    add_role(&catalog, "binh").await.unwrap();
    let entries = catalog.history(0..=1).await.unwrap();
    assert_eq!(entries[0].previous, "");
    assert_eq!(entries[1].previous, made.head);
    assert_eq!((entries[1].role, entries[1].server.as_str()), (10, "server"));
    let refused = catalog.commit(&AUTHOR, |_| Err(Error::internal("no"))).await.unwrap_err();
    assert_eq!(refused.sqlstate(), "XX000");
    assert_eq!(names(&environment, "catalog/log").await.len(), 2);
}

async fn race(environment: Environment) {
    let servers = [open(&environment).await.unwrap(), open(&environment).await.unwrap()];
    let tasks = (0..40).map(|number| {
        let catalog = servers[number % 2].clone();
        tokio::spawn(async move { add_role(&catalog, &format!("role {number}")).await })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap().unwrap();
    }
    let [one, two] = &servers;
    let (one, two) = (one.refresh().await.unwrap(), two.refresh().await.unwrap());
    assert_eq!(one.version, 39);
    assert_eq!(one.roles.len(), 40);
    assert_eq!(json(&one), json(&two));
    assert_eq!(json(&one), json(&open(&environment).await.unwrap().current().unwrap()));
    assert_eq!(servers[0].verify().await.unwrap(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_never_lose_each_others_commits() {
    race(memory()).await;
    let folder = tempfile::tempdir().unwrap();
    race(Environment::open(folder.path().to_str().unwrap()).unwrap()).await;
}

#[tokio::test]
async fn a_changed_missing_or_foreign_entry_is_refused() {
    let environment = memory();
    add_roles(&open(&environment).await.unwrap(), 4).await;
    overwrite(&environment, &log_name(1), |text| text.replace("role 1", "role 9")).await;
    let error = open(&environment).await.unwrap_err();
    assert_eq!(error.sqlstate(), "XX001");
    assert_eq!(error.message(), "catalog entry 2 does not follow from the one before it");
    overwrite(&environment, &log_name(1), |text| text.replace("\"version\":1", "\"version\":7"))
        .await;
    let error = open(&environment).await.unwrap_err();
    assert_eq!(error.message(), "catalog entry 1 says that it is another one");
    environment.store().delete(&Path::from(log_name(1))).await.unwrap();
    let error = open(&environment).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.message()), ("XX001", "catalog entry 1 is missing"));
}

#[tokio::test]
async fn an_unreadable_or_newer_entry_is_refused() {
    let environment = memory();
    let catalog = open(&environment).await.unwrap();
    add_roles(&catalog, 2).await;
    let next = Path::from(log_name(2));
    environment.store().put(&next, "{\"format\":2,\"new\":true}".into()).await.unwrap();
    for error in [catalog.refresh().await.unwrap_err(), open(&environment).await.unwrap_err()] {
        assert_eq!(error.sqlstate(), "0A000");
        assert_eq!(error.hint(), Some("A newer Kho wrote it; upgrade this server."));
    }
    environment.store().put(&next, "{\"format\":1".into()).await.unwrap();
    assert_eq!(catalog.refresh().await.unwrap_err().sqlstate(), "XX001");
    assert_eq!(add_role(&catalog, "x").await.unwrap_err().sqlstate(), "XX001");
    assert_eq!(catalog.current().unwrap().version, 1);
}

#[tokio::test]
async fn a_checkpoint_and_a_replay_give_the_same_state() {
    let environment = memory();
    let catalog = open(&environment).await.unwrap();
    add_roles(&catalog, 105).await;
    catalog.close().await;
    let checkpoint = format!("catalog/checkpoint/{:020}.json", 100);
    assert_eq!(names(&environment, "catalog/checkpoint").await, [checkpoint.as_str()]);
    let expected = json(&catalog.current().unwrap());
    let at_50 = json(&catalog.state_at(50).await.unwrap());
    assert_eq!(catalog.state_at(50).await.unwrap().roles.len(), 51);
    assert_eq!(catalog.state_at(103).await.unwrap().version, 103);
    assert_eq!(catalog.state_at(105).await.unwrap_err().sqlstate(), "42704");

    // Broken in three ways: each time the log itself gives the same answer.
    for (from, to) in [("role 7\"", "role 8\""), ("\"format\":1", "\"format\":2"), ("{", "")] {
        overwrite(&environment, &checkpoint, |text| text.replace(from, to)).await;
        let opened = open(&environment).await.unwrap();
        assert_eq!(json(&opened.current().unwrap()), expected);
        environment.store().delete(&Path::from(checkpoint.as_str())).await.unwrap();
        let state = opened.state_at(100).await.unwrap();
        checkpoint::write(&environment, &state).await.unwrap();
    }
    // A sound one is used: what is before it is not read.
    for version in 0..100 {
        environment.store().delete(&Path::from(log_name(version))).await.unwrap();
    }
    let opened = open(&environment).await.unwrap();
    assert_eq!(json(&opened.current().unwrap()), expected);
    assert_eq!(opened.verify().await.unwrap_err().sqlstate(), "XX001");
    assert_ne!(at_50, expected);
}

#[tokio::test]
async fn a_failed_checkpoint_does_not_fail_the_commit() {
    let plain = memory();
    let faulty = FaultyStore::over(plain.store());
    let catalog = open(&plain.clone().with_store(faulty.clone())).await.unwrap();
    faulty.fail_put("catalog/checkpoint", Fault::Before);
    add_roles(&catalog, 101).await;
    catalog.close().await;
    assert_eq!(names(&plain, "catalog/checkpoint").await, [""; 0]);
    catalog.checkpoint().await.unwrap();
    assert_eq!(names(&plain, "catalog/checkpoint").await.len(), 1);
}

#[tokio::test]
async fn texts_lie_beside_the_chain_and_can_be_erased() {
    let environment = memory();
    let catalog = open(&environment).await.unwrap();
    let other = open(&environment).await.unwrap();
    let comment = "bệnh nhân Nguyễn Văn A";
    let made = catalog.commit(&AUTHOR, |state| Ok(vec![commented(state, &environment, comment)]));
    let made = made.await.unwrap();
    let text = |state: &State| {
        let schema = state.schema("health").unwrap();
        schema.comment.as_ref().unwrap().value().map(str::to_owned)
    };
    assert_eq!(text(&made).as_deref(), Some(comment));
    assert_eq!(text(&other.refresh().await.unwrap()).as_deref(), Some(comment));
    catalog.checkpoint().await.unwrap();
    let opened = open(&environment).await.unwrap().current().unwrap();
    assert_eq!(text(&opened).as_deref(), Some(comment));
    for name in names(&environment, "catalog").await {
        if !name.starts_with("catalog/body/") {
            overwrite(&environment, &name, |found| {
                assert!(!found.contains("Nguyễn"), "{name}");
                found
            })
            .await;
        }
    }
    let body = names(&environment, "catalog/body").await.remove(0);
    overwrite(&environment, &body, |found| found.replace("Nguyễn", "Trần")).await;
    assert_eq!(open(&environment).await.unwrap_err().sqlstate(), "XX001");

    environment.store().delete(&Path::from(body)).await.unwrap();
    assert_eq!(text(&open(&environment).await.unwrap().current().unwrap()), None);
    assert_eq!(catalog.verify().await.unwrap(), 1);
    // A server that still has the words in memory does not bring the body back.
    let renamed = catalog.commit(&AUTHOR, |state| {
        let mut schema = Schema::clone(state.schema("health").unwrap());
        schema.name = "clinics".to_owned();
        Ok(vec![Change::PutSchema(schema)])
    });
    renamed.await.unwrap();
    assert_eq!(names(&environment, "catalog/body").await, [""; 0]);
}

#[tokio::test]
async fn an_attempt_that_lost_leaves_no_body() {
    let environment = memory();
    let (catalog, other) = (open(&environment).await.unwrap(), open(&environment).await.unwrap());
    let mut attempts = 0;
    let committed = catalog.commit(&AUTHOR, |state| {
        attempts += 1;
        if attempts == 1 {
            // Somebody else takes the number while we decide.
            let other = other.clone();
            let work = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                let runtime = runtime.unwrap();
                runtime.block_on(add_role(&other, "first")).unwrap();
            };
            std::thread::spawn(work).join().unwrap();
        }
        Ok(vec![commented(state, &environment, "words")])
    });
    let state = committed.await.unwrap();
    assert_eq!((attempts, state.version), (2, 1));
    assert_eq!(names(&environment, "catalog/body").await.len(), 1);
    let mut asked = 0;
    let refused = catalog.commit(&AUTHOR, |state| {
        asked += 1;
        if asked == 2 {
            return Err(Error::internal("no longer"));
        }
        let other = other.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.unwrap();
            runtime.block_on(add_role(&other, "second")).unwrap();
        };
        std::thread::spawn(work).join().unwrap();
        Ok(vec![commented(state, &environment, "more words")])
    });
    assert_eq!(refused.await.unwrap_err().message(), "no longer");
    assert_eq!(names(&environment, "catalog/body").await.len(), 1);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_finds_itself() {
    let plain = memory();
    let faulty = FaultyStore::over(plain.store());
    let catalog = open(&plain.clone().with_store(faulty.clone())).await.unwrap();
    faulty.fail_put("catalog/log", Fault::After);
    assert_eq!(add_role(&catalog, "an").await.unwrap().version, 0);
    faulty.fail_put("catalog/log", Fault::Before);
    assert_eq!(add_role(&catalog, "binh").await.unwrap().version, 1);
    assert_eq!(names(&plain, "catalog/log").await.len(), 2);

    for fault in [Fault::Before; 3] {
        faulty.fail_put("catalog/log", fault);
    }
    let error = add_role(&catalog, "chi").await.unwrap_err();
    assert_eq!(error.sqlstate(), "58030");
    assert_eq!(error.message(), "it is not known whether the change was stored");
    assert_eq!(add_role(&catalog, "chi").await.unwrap().version, 2);
    assert_eq!(catalog.verify().await.unwrap(), 3);
}

#[tokio::test]
async fn a_body_that_fails_fails_the_commit_cleanly() {
    let plain = memory();
    let faulty = FaultyStore::over(plain.store());
    let catalog = open(&plain.clone().with_store(faulty.clone())).await.unwrap();
    faulty.fail_put("catalog/body", Fault::After);
    let failed = catalog.commit(&AUTHOR, |state| Ok(vec![commented(state, &plain, "words")]));
    assert_eq!(failed.await.unwrap_err().sqlstate(), "58030");
    assert_eq!(names(&plain, "catalog").await, [""; 0]);
}

#[tokio::test]
async fn a_follower_sees_what_others_commit() {
    let environment = memory();
    let (catalog, other) = (open(&environment).await.unwrap(), open(&environment).await.unwrap());
    let mut states = catalog.subscribe();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let follower = catalog.clone();
    let task = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        follower.follow(Duration::from_millis(1), shutdown).await;
    });
    add_role(&other, "an").await.unwrap();
    states.wait_for(|state| state.role("an").is_some()).await.unwrap();
    drop(stop);
    task.await.unwrap();
}

#[tokio::test]
async fn a_follower_that_cannot_read_refuses() {
    let plain = memory();
    let faulty = FaultyStore::over(plain.store());
    let clock = Arc::new(ManualClock::new(0));
    let environment = plain.with_store(faulty.clone()).with_clock(clock.clone());
    let catalog = open(&environment).await.unwrap();
    add_role(&catalog, "an").await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let follower = catalog.clone();
    faulty.set_down(true);
    let task = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        follower.follow(Duration::from_secs(3600), shutdown).await;
    });
    // The clock stands still until moved, so this turns on nothing but the follower's start.
    while !catalog.inner.following.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_millis(2_000));
    catalog.current().unwrap();
    clock.advance(Duration::from_millis(1));
    assert_eq!(catalog.current().unwrap_err().sqlstate(), "57P03");
    assert_eq!(catalog.fresh().await.unwrap_err().sqlstate(), "57P03");
    assert_eq!(add_role(&catalog, "binh").await.unwrap_err().sqlstate(), "58030");
    faulty.set_down(false);
    assert_eq!(catalog.fresh().await.unwrap().version, 0);
    catalog.current().unwrap();
    clock.advance(Duration::from_secs(60));
    assert!(catalog.current().is_err());
    drop(stop);
    task.await.unwrap();
    catalog.current().unwrap();
}

/// Entries that were written before there were keys are read as tables without one.
#[test]
fn a_table_of_an_older_entry_has_no_keys() {
    let written = serde_json::json!({
        "dataset": "d", "generation": 0, "next_column": 2, "checks": [], "created_ms": 0,
        "governance": {
            "classification": "internal", "update_frequency": null, "retention": null,
            "retention_column": null, "allowed_purposes": [], "requires_agreement": false,
        },
    });
    let table: crate::state::Table = serde_json::from_value(written).unwrap();
    assert!(table.keys.is_empty() && table.indexes.is_empty());
    let text = serde_json::to_value(&table).unwrap();
    assert_eq!(text["keys"], serde_json::json!([]));
}

#[tokio::test]
async fn a_log_whose_end_is_gone_is_not_taken_for_no_news() {
    let environment = memory();
    let catalog = open(&environment).await.unwrap();
    add_roles(&catalog, 3).await;
    assert!(catalog.refresh().await.is_ok());
    let newest = names(&environment, "catalog/log").await.pop().unwrap();
    environment.store().delete(&Path::from(newest)).await.unwrap();
    assert_eq!(catalog.refresh().await.unwrap_err().sqlstate(), "XX001");
    let commit = catalog.commit(&AUTHOR, |_| Ok(Vec::new()));
    assert_eq!(commit.await.unwrap_err().sqlstate(), "XX001");
}
