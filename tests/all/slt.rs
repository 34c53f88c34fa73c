//! The files in `tests/slt`, each over the simple and the extended protocol.
//!
//! What it guarantees: every file runs against Kho, with the warehouse in a folder and in a bucket; every `pg_*` file against a real PostgreSQL
//! too, so that what we call PostgreSQL's behaviour is. A file that is not listed here fails
//! `every_file_is_listed`.

use kho_tests::flight::Flight;
use kho_tests::slt::{Protocol, run};

macro_rules! files {
    ($check:ident: $($name:ident)*) => { $(
        mod $name {
            $check!($name);
        }
    )* };
}

macro_rules! on_kho {
    ($name:ident) => {
        #[test]
        fn kho_simple() {
            super::run_on_kho(stringify!($name), super::Protocol::Simple);
        }

        #[test]
        fn kho_extended() {
            super::run_on_kho(stringify!($name), super::Protocol::Extended);
        }

        #[test]
        fn kho_over_flight() {
            super::run_over_flight(stringify!($name));
        }

        #[test]
        fn kho_on_s3() {
            super::run_on_s3(stringify!($name));
        }
    };
}

macro_rules! on_both {
    ($name:ident) => {
        on_kho!($name);

        #[test]
        fn postgres() {
            super::run_on_postgres(stringify!($name));
        }
    };
}

files! { on_both:
    pg_aggregates
    pg_alter_table
    pg_arrays
    pg_averages
    pg_bad_values
    pg_blocks
    pg_booleans
    pg_bytes_ids_documents
    pg_casts_of_one_column
    pg_catalog_views
    pg_changing_needs_reading
    pg_comments
    pg_common_table_expressions
    pg_common_types
    pg_conditions_above_joins
    pg_constraints
    pg_create_table_as
    pg_cursors
    pg_dates_and_times
    pg_decimal_numbers
    pg_delete
    pg_dependencies
    pg_division
    pg_duplicates
    pg_explain
    pg_expressions
    pg_floating_numbers
    pg_grants
    pg_grant_columns
    pg_grant_columns_in_writes
    pg_grant_defaults
    pg_grant_options
    pg_grant_views
    pg_identifiers
    pg_indexes
    pg_insert
    pg_joins
    pg_joins_tell_groups
    pg_keys
    pg_key_lookups
    pg_looked_up_values
    pg_merge
    pg_missing_values
    pg_named_windows
    pg_names_in_subqueries
    pg_names_of_nested_columns
    pg_null
    pg_null_safe_joins_and_offsets
    pg_on_conflict
    pg_order_and_limit
    pg_patterns
    pg_policy_commands
    pg_policy_read
    pg_policy_write
    pg_prepared_statements
    pg_result_types
    pg_roles
    pg_returning
    pg_rules_on_old_rows
    pg_savepoints
    pg_search_path
    pg_sets_in_select
    pg_set_config
    pg_set_operations
    pg_settings
    pg_snapshots
    pg_sorted_by_columns
    pg_sorted_by_columns_given
    pg_spans_and_parts_of_time
    pg_subqueries_and_null
    pg_subqueries_in_writes
    pg_table_as_query
    pg_text
    pg_text_and_places
    pg_time_zones
    pg_transaction_modes
    pg_transactions
    pg_unknown_names
    pg_update
    pg_using
    pg_views
    pg_views_and_rights
    pg_whole_numbers
    pg_windows
}

files! { on_kho:
    attack_policies
    access_requests
    agreements
    api_tokens
    explain_access
    freezes
    identities
    attack_privileges
    changes_of_hidden_rows
    columns_of_a_star
    governance_options
    loads_are_applied_once
    masks_and_tags
    hidden_from_strangers
    keys_refused_and_restored
    ledger_shows_who_did_what
    nothing_leaks_between_sessions
    policy_expressions
    prepared_and_governed
    purposes
    refused_statements
    refused_types
    quotas
    restore_table
    role_limits
    roles_of_the_warehouse
    separation_of_duties
    set_config_elsewhere
    structures
    third_parties
    table_history_and_changes
    time_travel
    transactions_one_table
}

fn run_over_flight(name: &str) {
    let kho = kho_tests::kho::Kho::start();
    kho_tests::slt::run_over_flight(name, |role| Flight::connect(kho.flight, role, role));
}

fn run_on_kho(name: &str, protocol: Protocol) {
    let kho = kho_tests::kho::Kho::start();
    run(name, protocol, |role| kho.target(role, role));
}

/// Where the rows lie changes nothing of what a client sees, so that one protocol will do.
fn run_on_s3(name: &str) {
    let bucket = kho_tests::s3::S3::shared().bucket();
    let kho = bucket.serve();
    run(name, Protocol::Extended, |role| kho.target(role, role));
}

fn run_on_postgres(name: &str) {
    let postgres = kho_tests::postgres::Postgres::start();
    for protocol in [Protocol::Simple, Protocol::Extended] {
        postgres.reset();
        run(name, protocol, |role| postgres.target(role));
    }
}

#[test]
fn every_file_is_listed() {
    let folder = kho_tests::kho::workspace().join("tests/slt");
    let source = include_str!("slt.rs");
    let listed: Vec<&str> = source.split_whitespace().collect();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".slt").unwrap_or_else(|| panic!("{name} is no .slt file"));
        assert!(listed.contains(&name), "tests/slt/{name}.slt is not listed in tests/all/slt.rs");
    }
}
