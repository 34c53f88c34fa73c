//! The queries of psql 15's own commands, captured with `psql -E`.

use super::{PATIENT, apply, ask, ask_in, officer};

const CAPTURED: &str = include_str!("psql.sql");

/// The captured queries of one command.
fn queries(command: &str) -> Vec<&'static str> {
    all().into_iter().filter(|(it, _)| *it == command).map(|(_, query)| query).collect()
}

fn all() -> Vec<(&'static str, &'static str)> {
    CAPTURED
        .split("\n-- ")
        .filter_map(|it| it.trim_start_matches("-- ").split_once('\n'))
        .map(|(command, query)| (command, query.trim().trim_end_matches(';')))
        .collect()
}

#[test]
fn every_captured_query_is_answered() {
    let state = apply::new_context(&officer()).unwrap();
    let mut failed = Vec::new();
    for (command, query) in all() {
        if let Err(error) = ask_in(&state, query) {
            failed.push(format!("{command}: {error:?}\n{query}\n"));
        }
    }
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n"));
}
