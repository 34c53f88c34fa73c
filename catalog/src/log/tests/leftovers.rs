//! Bodies without an entry go, those of any entry stay; a dataset is named soon or not at all.

use std::time::Duration;

use super::*;
use crate::environment::{Clock, SystemClock};
use crate::state::{Classification, Governance, Purposes, Relation, RelationKind, Table};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn on_a_clock() -> (Environment, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
    (memory().with_clock(clock.clone()), clock)
}

fn table(state: &State, dataset: &str) -> Change {
    Change::PutRelation(Box::new(Relation {
        oid: state.new_oid(0),
        schema: 16384,
        name: dataset.to_owned(),
        owner: 10,
        columns: vec![],
        grants: vec![],
        comment: None,
        kind: RelationKind::Table(Table {
            dataset: dataset.to_owned(),
            generation: 0,
            next_column: 1,
            checks: vec![],
            keys: vec![],
            indexes: vec![],
            dropped: vec![],
            row_security: Default::default(),
            policies: vec![],
            governance: Governance {
                classification: Classification::Internal,
                update_frequency: None,
                retention: None,
                retention_column: None,
                allowed_purposes: Purposes::default().0.into_keys().collect(),
                requires_agreement: false,
            },
            created_ms: 0,
        }),
    }))
}

#[tokio::test]
async fn bodies_that_no_entry_ever_named_are_removed() {
    let (environment, clock) = on_a_clock();
    let catalog = open(&environment).await.unwrap();
    // One text in force, one that was replaced, one of a commit that never was.
    for comment in ["old", "new"] {
        let change = |state: &State| Ok(vec![commented(state, &environment, comment)]);
        catalog.commit(&AUTHOR, change).await.unwrap();
    }
    let location = Path::from("catalog/body/orphan.json");
    environment.store().put(&location, "{}".into()).await.unwrap();
    let named = catalog.named().await.unwrap();
    assert_eq!(catalog.sweep_bodies(&named, Duration::ZERO).await.unwrap(), 0, "at least a day");
    clock.advance(DAY + Duration::from_secs(60));
    assert_eq!(catalog.sweep_bodies(&named, Duration::ZERO).await.unwrap(), 1);
    assert_eq!(names(&environment, "catalog/body").await.len(), 2);
}

/// History names what was dropped long ago.
#[tokio::test]
async fn a_dropped_dataset_stays_named() {
    let (environment, _) = on_a_clock();
    let catalog = open(&environment).await.unwrap();
    let state = catalog.commit(&AUTHOR, |state| Ok(vec![table(state, "gone")])).await.unwrap();
    let oid = state.relations.values().next().unwrap().oid;
    catalog.commit(&AUTHOR, |_| Ok(vec![Change::RemoveRelation(oid)])).await.unwrap();
    assert!(catalog.named().await.unwrap().datasets.contains("gone"));
}

/// A folder that may have been swept is not named any more; one that is known goes on.
#[tokio::test]
async fn a_dataset_that_was_begun_long_ago_is_refused() {
    let (environment, clock) = on_a_clock();
    let catalog = open(&environment).await.unwrap();
    let (early, late) = (environment.new_id(), environment.new_id());
    let state = catalog.commit(&AUTHOR, |state| Ok(vec![table(state, &early)])).await.unwrap();
    clock.advance(NEW_DATASET_AGE_MAX + Duration::from_secs(60));
    let refused = catalog.commit(&AUTHOR, |state| Ok(vec![table(state, &late)])).await;
    assert_eq!(refused.unwrap_err().sqlstate(), "40001");
    let mut known = Relation::clone(state.relations.values().next().unwrap());
    known.name = "renamed".to_owned();
    let put = |_: &State| Ok(vec![Change::PutRelation(Box::new(known.clone()))]);
    catalog.commit(&AUTHOR, put).await.unwrap();
}
