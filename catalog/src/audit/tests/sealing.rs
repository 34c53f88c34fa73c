//! What is sealed is there once, whenever the sealing was cut off.

use std::collections::BTreeSet;

use super::*;
use crate::log::{Author, Catalog};
use crate::state::{Change, Role};

/// A catalog with one entry.
pub(super) async fn catalog(environment: &Environment) -> Catalog {
    let catalog = Catalog::open(environment.clone(), "kho").await.unwrap();
    let author =
        Author { role: 10, statement_id: environment.new_id(), action: "BOOTSTRAP".to_owned() };
    let role = Role {
        oid: 10,
        name: "kho_admin".to_owned(),
        login: false,
        verifier: None,
        member_of: std::collections::BTreeMap::new(),
        connection_limit: None,
        valid_until_ms: None,
        comment: None,
        bypass_rls: false,
        attributes: Default::default(),
        default_grants: Vec::new(),
    };
    let first = |state: &crate::state::State| {
        Ok(if state.is_new() { vec![Change::PutRole(role.clone())] } else { vec![] })
    };
    catalog.commit(&author, first).await.unwrap();
    catalog
}

async fn act(ledger: &Ledger, name: &str) {
    ledger.begin(record(name)).await.unwrap().complete(done(1));
}

async fn names(environment: &Environment) -> Vec<String> {
    statements(environment).await.into_iter().filter(|it| it != "complete").collect()
}

async fn seals_and_goes_on(environment: Environment) {
    let catalog = catalog(&environment).await;
    let ledger = open(&environment, "kho").await;
    let mut keeping = ledger.keep(&catalog).await.unwrap();
    let mut wanted = Vec::new();
    for round in 0..4 {
        for turn in 0..5 {
            let name = format!("{round}.{turn}");
            act(&ledger, &name).await;
            wanted.push(name);
        }
        keeping.seal().await.unwrap();
        assert_eq!(segments(&environment).await, Vec::<String>::new());
        assert_eq!(names(&environment).await, wanted);
    }
    act(&ledger, "unsealed").await;
    wanted.push("unsealed".to_owned());
    assert_eq!(names(&environment).await, wanted);
    ledger.close().await.unwrap();
    keeping.finish().await.unwrap();
    let verified = ledger.source().verify(&catalog, Some(&keys().public())).await.unwrap();
    assert_eq!((verified.servers, verified.records, verified.erased), (1, 43, 0));
    assert_eq!(verified.anchors.last().unwrap().links, 43);

    // The next run's chain goes on from what is sealed.
    let ledger = open(&environment, "kho").await;
    act(&ledger, "next run").await;
    ledger.close().await.unwrap();
    let verified = ledger.source().verify(&catalog, None).await.unwrap();
    assert_eq!(verified.records, 46);
    assert_eq!(verified.lost, []);
}

#[tokio::test]
async fn what_is_sealed_is_read_on_and_the_chain_goes_on() {
    seals_and_goes_on(memory()).await;
    let (_folder, environment) = local();
    seals_and_goes_on(environment).await;
}

/// Many small sealings of two servers are put together, and are read in order all the same.
#[tokio::test]
async fn sealed_files_are_put_together_and_stay_in_order() {
    let environment = memory();
    let catalog = catalog(&environment).await;
    let (one, two) = (open(&environment, "kho-1").await, open(&environment, "kho-2").await);
    let mut keeping = [one.keep(&catalog).await.unwrap(), two.keep(&catalog).await.unwrap()];
    for round in 0..20 {
        for (ledger, keeping) in [&one, &two].into_iter().zip(&mut keeping) {
            act(ledger, &round.to_string()).await;
            keeping.seal().await.unwrap();
        }
    }
    let tables = crate::table::Tables::new(environment.clone());
    let snapshot = sealed::snapshot(&tables).await.unwrap().unwrap();
    assert!(snapshot.files().len() < 25, "{:?}", snapshot.files());
    let verified = one.source().verify(&catalog, None).await.unwrap();
    assert_eq!((verified.servers, verified.records), (2, 82));
}

/// Every write of a sealing fails once, before or after it was done.
#[tokio::test]
async fn a_sealing_that_is_cut_off_loses_and_doubles_nothing() {
    for fault in [Fault::Before, Fault::After] {
        for place in ["audit/bodies", "audit/sealed/_delta_log", "audit/sealed/", "audit/anchor"] {
            let plain = memory();
            let catalog = catalog(&plain).await;
            let faulty = FaultyStore::over(plain.store());
            let ledger = open(&plain.clone().with_store(faulty.clone()), "kho").await;
            let mut keeping = ledger.keep(&catalog).await.unwrap();
            act(&ledger, "one").await;
            keeping.seal().await.unwrap();
            act(&ledger, "two").await;
            faulty.fail_put(place, fault);
            // Some of these are tried again below, and then it goes well.
            drop(keeping.seal().await);
            act(&ledger, "three").await;
            assert_eq!(names(&plain).await, ["one", "two", "three"], "{place} {fault:?}");
            // As after a restart.
            ledger.close().await.unwrap();
            let ledger = open(&plain, "kho").await;
            let mut keeping = ledger.keep(&catalog).await.unwrap();
            act(&ledger, "four").await;
            keeping.seal().await.unwrap();
            keeping.seal().await.unwrap();
            let wanted = ["one", "two", "three", "four"];
            assert_eq!(names(&plain).await, wanted, "{place} {fault:?}");
            ledger.source().verify(&catalog, None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_body_can_be_erased_and_the_chain_holds() {
    let environment = memory();
    let catalog = catalog(&environment).await;
    let ledger = open(&environment, "kho").await;
    let mut keeping = ledger.keep(&catalog).await.unwrap();
    act(&ledger, "sealed person").await;
    keeping.seal().await.unwrap();
    act(&ledger, "unsealed person").await;
    act(&ledger, "other").await;
    keeping.anchor().await.unwrap();
    let lines = read_all(&environment).await.unwrap();
    let is_person = |it: &&Line| statement_of(it).is_some_and(|it| it.contains("person"));
    let persons: BTreeSet<u64> = lines.iter().filter(is_person).map(|it| it.sequence).collect();
    assert_eq!(ledger.erase("kho", &persons).await.unwrap(), 2);
    assert_eq!(ledger.erase("kho", &persons).await.unwrap(), 0);
    let found: Vec<_> = environment.store().list(None).try_collect().await.unwrap();
    for object in found {
        let bytes = environment.store().get(&object.location).await.unwrap().bytes().await.unwrap();
        let holds = bytes.windows(6).any(|it| it == b"person");
        assert!(!holds, "{} holds what was erased", object.location);
    }
    keeping.seal().await.unwrap();
    let verified = ledger.source().verify(&catalog, None).await.unwrap();
    assert_eq!(verified.erased, 2);
    let lines = read_all(&environment).await.unwrap();
    let left: Vec<_> = lines.iter().filter_map(statement_of).collect();
    assert_eq!(left, ["other"]);
}

fn statement_of(line: &Line) -> Option<String> {
    match &line.event {
        Event::Begin(record) => record.statement.clone(),
        _ => None,
    }
}

/// A disk that is lost takes its unsealed records with it, and the next run says which.
#[tokio::test]
async fn a_lost_disk_loses_its_unsealed_tail_and_says_so() {
    let (warehouse, disk) = (memory(), memory());
    let catalog = catalog(&warehouse).await;
    let ledger = Ledger::open(Source::new(&warehouse, &disk), keys(), "kho").await.unwrap();
    let mut keeping = ledger.keep(&catalog).await.unwrap();
    act(&ledger, "sealed").await;
    keeping.seal().await.unwrap();
    act(&ledger, "lost").await;
    ledger.close().await.unwrap();
    keeping.anchor().await.unwrap();

    let source = Source::new(&warehouse, &memory());
    let error = source.verify(&catalog, None).await.unwrap_err();
    assert_eq!(error.sqlstate(), "XX001");
    let message = "audit record 3 of server kho is missing: the end was cut off";
    assert_eq!(error.message(), message);
    let ledger = Ledger::open(source, keys(), "kho").await.unwrap();
    let mut keeping = ledger.keep(&catalog).await.unwrap();
    act(&ledger, "after").await;
    keeping.seal().await.unwrap();
    let verified = ledger.source().verify(&catalog, None).await.unwrap();
    assert_eq!(verified.lost, [("kho".to_owned(), 3, 4)]);
    let lines: Vec<Line> = ledger.source().lines("kho").try_collect().await.unwrap();
    assert_eq!(lines.iter().filter_map(statement_of).collect::<Vec<_>>(), ["sealed", "after"]);
}

#[tokio::test]
async fn a_journal_of_the_first_format_is_refused_with_a_hint() {
    let environment = memory();
    let old = "{\"format\":1,\"server\":\"kho\",\"first_sequence\":0}\n";
    let place = Path::from("audit/journal/kho-0000000000.jsonl");
    environment.store().put(&place, old.into()).await.unwrap();
    let error = Ledger::passing(&environment, "kho").await.unwrap_err();
    assert_eq!(error.sqlstate(), "0A000");
    assert!(error.hint().unwrap().contains("Move the folder audit/journal"));
}

#[tokio::test]
async fn acts_are_joined_and_a_killed_run_leaves_them_unknown() {
    let environment = memory();
    let ledger = open(&environment, "kho").await;
    let _killed = ledger.begin(record("killed")).await.unwrap();
    act(&ledger, "done").await;
    let removing = Removal {
        act: "1".to_owned(),
        role: "an".to_owned(),
        role_id: Some(100),
        purpose: None,
        order_number: None,
        operation: "DELETE".to_owned(),
        dataset: "health.patient".to_owned(),
        relation: 16_400,
        location: "tables/1/0".to_owned(),
        rows: 3,
        version_before: 7,
    };
    ledger.remove(removing.clone()).await.unwrap().done(Some(8));
    ledger.remove(removing.clone()).await.unwrap().kept();
    drop(ledger.remove(removing).await.unwrap());
    // Another run on the same journal, as after a kill.
    let next = open(&environment, "kho").await;
    let _running = next.begin(record("running")).await.unwrap();
    let source = next.source();
    let acts: Vec<Act> = source.acts("kho").try_collect().await.unwrap();
    let ends = acts.iter().map(|act| (act.record.statement.as_deref().unwrap(), &act.end));
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends.len(), 3);
    assert!(matches!(ends[0], ("done", End::Completed { .. })));
    assert_eq!(ends[1], ("killed", &End::Unknown));
    assert_eq!(ends[2], ("running", &End::Running));
    let removals: Vec<Removed> = source.removals("kho").try_collect().await.unwrap();
    assert_eq!(removals.iter().map(|it| it.end).collect::<Vec<_>>(), [Some(Some(8)), None]);
}
