//! What a change makes of what was made of the state before.

use super::{Change, State};
use crate::audit::Anchor;
use std::sync::Arc;

#[test]
fn a_head_of_the_ledger_changes_no_meaning_and_everything_else_does() {
    let anchor = Anchor {
        format: 1,
        server: "one".to_owned(),
        number: 0,
        previous: String::new(),
        time_ms: 0,
        links: 1,
        head: String::new(),
        catalog_version: 0,
        catalog_head: String::new(),
        signature: String::new(),
    };
    let before = State::default();
    let anchored = before.apply(&[Change::PutAnchor(Box::new(anchor.clone()))]);
    assert!(Arc::ptr_eq(before.meaning(), anchored.meaning()));
    assert_eq!(anchored.ledger.anchors.len(), 1);
    let key = Change::PutLedgerKey("x".to_owned());
    for changes in [vec![key.clone()], vec![Change::PutAnchor(Box::new(anchor)), key]] {
        let changed = anchored.apply(&changes);
        assert!(!Arc::ptr_eq(anchored.meaning(), changed.meaning()));
    }
    assert!(
        !Arc::ptr_eq(State::default().meaning(), before.meaning()),
        "two are never taken for one"
    );
}
