//! The rules of the house, so that they hold without anyone having to remember them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kho_tests::kho::workspace;
use serde_json::Value;

/// The crates, each before those that may use it.
const ORDER: &[&str] =
    &["kho-catalog", "kho-connectors", "kho-sql", "kho-server", "kho-tests", "kho-benches"];

/// Every Rust file of the workspace, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let root = workspace();
    let mut folders: Vec<PathBuf> =
        ORDER.iter().map(|name| root.join(name.trim_start_matches("kho-"))).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn is_test(path: &Path) -> bool {
    path.starts_with("tests")
        || path.file_name().is_some_and(|it| it == "tests.rs")
        || path.components().any(|it| it.as_os_str() == "tests")
}

/// Text without comments, near enough: whole-line comments are left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn crates_depend_one_way() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap();
        let ours = dependencies.iter().filter_map(|it| it["name"].as_str());
        let ours = ours.filter(|name| name.starts_with("kho-")).map(str::to_owned);
        uses.insert(package["name"].as_str().unwrap().to_owned(), ours.collect());
    }
    let names: Vec<_> = uses.keys().map(String::as_str).collect();
    let mut known = ORDER.to_vec();
    known.sort_unstable();
    assert_eq!(names, known, "a crate is missing from the order, or from the workspace");
    let place = |name: &str| ORDER.iter().position(|it| *it == name).unwrap();
    for (name, dependencies) in &uses {
        for dependency in dependencies {
            assert!(place(dependency) < place(name), "{name} must not use {dependency}");
            assert!(place(dependency) < place("kho-tests"), "nothing may use {dependency}");
        }
    }
}

#[test]
fn versions_and_lints_are_in_one_place() {
    for name in ORDER {
        let path = workspace().join(name.trim_start_matches("kho-")).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} has no lints", path.display());
        for line in manifest.lines().skip_while(|line| !line.starts_with("[dependencies]")) {
            if line.contains('=') && !line.trim_start().starts_with('#') {
                let inherited = line.contains("workspace");
                assert!(
                    inherited,
                    "{}: {line}: the version is not the workspace's",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn no_file_is_long() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 800)
        .collect();
    assert!(long.is_empty(), "over 800 lines: {long:?}");
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no //! at the top: {silent:?}");
    let placeholders: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.starts_with("//! placeholder"))
        .map(|(path, _)| path)
        .collect();
    assert!(placeholders.is_empty(), "{placeholders:?}");
}

#[test]
fn no_module_is_called_mod() {
    let found: Vec<_> = sources()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.ends_with("mod.rs"))
        .collect();
    assert!(found.is_empty(), "foo.rs and foo/, not foo/mod.rs: {found:?}");
}

/// The files, other than those `may`, whose code holds one of `words`.
fn holding(words: &[&str], may: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources() {
        // This file names what it forbids.
        if may(&path) || path.ends_with("house.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn only_the_table_module_names_delta() {
    let found = holding(&["deltalake_core", "delta_kernel", "buoyant_kernel"], |path| {
        path == Path::new("catalog/src/table.rs") || path.starts_with("catalog/src/table")
    });
    assert!(found.is_empty(), "only catalog::table calls delta-rs:\n{}", found.join("\n"));
}

#[test]
fn only_the_environment_names_a_store() {
    let words = ["LocalFileSystem", "AmazonS3", "GoogleCloudStorage", "MicrosoftAzure"];
    let found = holding(&words, |path| {
        path == Path::new("catalog/src/environment.rs")
            || path.starts_with("catalog/src/environment")
            || is_test(path)
    });
    assert!(found.is_empty(), "only catalog::environment names a store:\n{}", found.join("\n"));
}

/// `SessionContext::sql` runs DDL, `COPY … TO` a path and `SET` for whoever sends them.
#[test]
fn no_text_is_given_to_the_engine_to_run() {
    let words = ["ctx.sql(", "context.sql(", "session_context.sql(", "SessionContext::sql"];
    let found = holding(&words, |_| false);
    assert!(found.is_empty(), "plan it and verify it instead:\n{}", found.join("\n"));
}

#[test]
fn no_test_sleeps_or_retries() {
    let words = ["thread::sleep", "time::sleep", "sleep_until"];
    let found = holding(&words, |path| !is_test(path));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_lock_file_holds_one_of_each_engine_and_no_openssl() {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    let names: Vec<_> = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    for forbidden in ["\"openssl-sys\"", "\"aws-sdk-s3\"", "\"aws-config\"", "\"native-tls\""] {
        assert!(!names.contains(&forbidden), "{forbidden} came in");
    }
    for one in ["\"arrow\"", "\"parquet\"", "\"datafusion\"", "\"object_store\"", "\"pgwire\""] {
        let count = names.iter().filter(|name| **name == one).count();
        assert_eq!(count, 1, "{count} versions of {one}");
    }
}
