//! The queries of psql 15's own commands, captured with `psql -E`.

use super::{HEALTH, PATIENT, WARD, apply, ask, ask_in, officer, view_of};

const CAPTURED: &str = include_str!("psql.sql");

fn all() -> Vec<(&'static str, &'static str)> {
    let parts = CAPTURED.split("\n-- ");
    let parts = parts.filter_map(|it| it.trim_start_matches("-- ").split_once('\n'));
    parts.map(|(command, query)| (command, query.trim().trim_end_matches(';'))).collect()
}

/// The answer to the nth query of a command, from 0, for the datasets' owner.
fn answer(command: &str, nth: usize) -> Vec<Vec<String>> {
    let mut queries = all().into_iter().filter(|(it, _)| *it == command);
    let (_, query) = queries.nth(nth).expect(command);
    ask(&officer(), query).unwrap()
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

#[test]
fn d_table_shows_columns_defaults_and_checks() {
    assert_eq!(answer("\\d health.patient", 0), [["16390", "health", "patient"]]);
    let columns: Vec<_> =
        answer("\\d health.patient", 2).iter().map(|row| row[..4].to_vec()).collect();
    assert_eq!(
        columns,
        [
            ["id", "bigint", "∅", "true"],
            ["national_id", "text", "∅", "true"],
            ["full_name", "character varying(80)", "'x'", "false"],
            ["ward", "text", "∅", "false"],
            ["born", "date", "∅", "false"],
            ["amount", "numeric(10,2)", "∅", "false"],
            ["tags", "text[]", "∅", "false"],
        ]
    );
    assert_eq!(answer("\\d health.patient", 3), [["amount_ok", "CHECK (amount > 0)"]]);
    for nth in 4..9 {
        assert!(answer("\\d health.patient", nth).is_empty(), "query {nth}");
    }
}

#[test]
fn d_plus_shows_comments_options_and_the_definition_of_a_view() {
    let relation = &answer("\\d+ health.patient", 0)[0];
    assert_eq!(
        relation[9],
        "classification=personal, update_frequency=P1D, allowed_purposes=c,d, \
         requires_agreement=true"
    );
    assert_eq!(relation[14], "delta");
    let columns = answer("\\d+ health.patient", 1);
    assert_eq!(columns[3][10], "Ward");
    let definition =
        ask(&officer(), "SELECT pg_catalog.pg_get_viewdef('16397'::pg_catalog.oid, true)");
    assert_eq!(
        definition.unwrap(),
        [[" SELECT ward, count(*) AS n FROM health.patient GROUP BY ward;"]]
    );
}

#[test]
fn dt_dv_and_dn_list_what_the_path_leads_to() {
    assert!(answer("\\dt", 0).is_empty(), "health is not in the search path");
    assert_eq!(answer("\\dt health.*", 0), [["health", "patient", "table", "health_officer"]]);
    assert_eq!(answer("\\dn", 0), [["health", "health_officer"], ["kho", "kho_admin"]]);
    assert_eq!(
        answer("\\dn+", 0),
        [
            [
                "health",
                "health_officer",
                "health_officer=UC/health_officer\nanalyst=U/health_officer",
                "The schema health",
            ],
            ["kho", "kho_admin", "=U/kho_admin", "∅"],
        ]
    );
    let mut view = (*officer()).clone();
    view.search_path = vec!["health".to_owned()];
    let (_, query) = all().into_iter().find(|(it, _)| *it == "\\dt+").unwrap();
    assert_eq!(
        ask(&view.into(), query).unwrap(),
        [["health", "patient", "table", "health_officer", "permanent", "delta", "∅", "Patients"]]
    );
}

#[test]
fn du_lists_roles_and_what_they_belong_to() {
    let roles = answer("\\du", 0);
    let memberships: Vec<_> = roles.iter().map(|row| [&row[0], &row[5], &row[8]]).collect();
    assert!(memberships.contains(&[&"admin".into(), &"true".into(), &"[kho_admin]".into()]));
    assert!(memberships.contains(&[&"ward_office".into(), &"true".into(), &"[analyst]".into()]));
    assert!(memberships.contains(&[&"analyst".into(), &"false".into(), &"[]".into()]));
    assert!(roles.iter().all(|row| row[1] == "false"), "nobody is a superuser");
    let described = answer("\\du+", 0);
    let officer = described.iter().find(|row| row[0] == "health_officer").unwrap();
    assert_eq!(officer[9], "Runs the health desk");
}

#[test]
fn l_dp_and_df_tell_the_truth() {
    assert_eq!(answer("\\l", 0)[0][..3], ["kho", "kho_admin", "UTF8"]);
    let rights = answer("\\dp health.*", 0);
    assert_eq!(
        rights[0],
        [
            "health",
            "patient",
            "table",
            "health_officer=arwdD/health_officer\nanalyst=r/health_officer",
            "",
            "",
        ]
    );
    assert_eq!(answer("\\df", 0), Vec::<Vec<String>>::new());
    assert_eq!(answer("\\db", 0), [["pg_default", "kho_admin", ""]]);
    assert!(answer("\\dx", 0).is_empty());
    assert!(answer("\\dT", 0).is_empty(), "row types of relations are not listed");
}

#[test]
fn what_is_hidden_is_not_found() {
    let nobody = view_of(WARD, &[], &[]);
    let reader = view_of(WARD, &[PATIENT], &[HEALTH]);
    let (_, query) = all().into_iter().find(|(it, _)| *it == "\\d health.*").unwrap();
    assert_eq!(ask(&nobody, query).unwrap(), Vec::<Vec<String>>::new());
    assert_eq!(ask(&reader, query).unwrap(), [["16390", "health", "patient"]]);
}
