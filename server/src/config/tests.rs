//! What an operator writes, and what comes of it.

use std::path::{Path, PathBuf};

use kho_catalog::error::{Error, Kind, Result};

use super::{Config, LogFormat};

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kho.toml");
    std::fs::write(&path, toml).unwrap();
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = Config::load(Some(&path), environment)?;
    config.check()?;
    Ok(config)
}

fn refused(toml: &str, environment: &[(&str, &str)]) -> Error {
    let error = load(toml, environment).unwrap_err();
    assert!(!error.message().contains('\n'), "{error}");
    error
}

#[test]
fn the_environment_is_above_the_file_and_the_file_above_the_defaults() {
    let toml = "data = 'warehouse'\n[pg]\nlisten = '127.0.0.1:1'\n[limits]\nmessage_bytes = 7";
    let config = load(toml, &[("KHO_PG__LISTEN", "127.0.0.1:0"), ("PATH", "/bin")]).unwrap();
    assert_eq!(config.data, "warehouse");
    assert_eq!(config.pg.listen.port(), 0);
    assert_eq!(config.limits.message_bytes, 7);
    assert_eq!(config.http, Config::default().http);
    assert_eq!(config.admin_password, None);
}

#[test]
fn every_kind_of_value_can_come_from_the_environment() {
    let config = load(
        "",
        &[
            ("KHO_DATA", "2026"),
            ("KHO_KEYS__DIRECTORY", "17"),
            ("KHO_LIMITS__STOP_GRACE_MS", "1500"),
            ("KHO_LIMITS__SPILL_DIRECTORY", "/var/tmp"),
            ("KHO_LOG__FORMAT", "json"),
            ("KHO_LOG__FILTER", "info,kho_sql=debug"),
            ("KHO_ADMIN_PASSWORD", "12345"),
        ],
    )
    .unwrap();
    assert_eq!(config.data, "2026");
    assert_eq!(config.keys.directory, Some(PathBuf::from("17")));
    assert_eq!(config.limits.stop_grace_ms, 1500);
    assert_eq!(config.limits.spill_directory, Some(PathBuf::from("/var/tmp")));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.filter, "info,kho_sql=debug");
    assert_eq!(config.admin_password.as_ref().unwrap().expose(), "12345");
    assert!(!format!("{config:?}").contains("12345"));
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (toml, environment, named) in [
        ("colour = 'red'", [].as_slice(), "colour"),
        ("[pg]\nport = 5433", &[], "port"),
        ("[limits]\nmemory = 1", &[], "memory"),
        ("", &[("KHO_LIMITS__MEMORY", "1")], "KHO_LIMITS__MEMORY"),
        ("", &[("KHO_PASSWORD", "x")], "KHO_PASSWORD"),
        ("", &[("KHO_", "x")], "KHO_"),
        ("", &[("KHO_PG__", "x")], "KHO_PG__"),
        ("[pg]\nlisten = 'here'", &[], "pg.listen"),
        ("[limits]\nconnections = '100 MB'", &[], "limits.connections"),
        ("[log]\nformat = 'xml'", &[], "xml"),
        ("no toml", &[], "TOML"),
    ] {
        let error = refused(toml, environment);
        assert_eq!(error.kind(), Kind::ConfigFile, "{error}");
        assert!(error.message().contains(named), "{named}: {error}");
    }
}

#[test]
fn what_cannot_be_obeyed_is_refused() {
    let error = refused("[http]\nlisten = '0.0.0.0:80'", &[]);
    assert_eq!(error.kind(), Kind::FeatureNotSupported);
    for toml in [
        "[tls]\nkey = 'k.pem'",
        "[limits]\nconnections = 0",
        "[flight]\ntoken_lifetime_s = 0",
        "[maintenance]\nround_interval_s = 0",
        "[maintenance]\nleftovers_age_s = 60",
        "data = ''",
        "data = 's3://key:secret@bucket/warehouse'",
        "data = '/srv/kho'\n[keys]\ndirectory = '/srv/other/../kho/keys'",
        "data = '/'",
    ] {
        let error = refused(toml, &[]);
        assert_eq!(error.kind(), Kind::ConfigFile, "{toml}: {error}");
        assert!(!error.message().contains("secret@"), "{error}");
    }
    assert!(refused("", &[("KHO_ADMIN_PASSWORD", "")]).message().contains("must not be empty"));
    let missing = Config::load(Some(Path::new("/nowhere/kho.toml")), []).unwrap_err();
    assert!(missing.message().contains("does not exist"));
}

#[test]
fn keys_lie_beside_the_data_under_a_name_of_their_own() {
    let keys = |data: &str| Config { data: data.to_owned(), ..Config::default() }.keys_directory();
    assert_eq!(keys("./kho-data"), Path::new("./kho-keys"));
    assert_eq!(keys("/srv/city"), Path::new("/srv/city-keys"));
    assert_eq!(keys("file:///srv/city-data"), Path::new("/srv/city-keys"));
    assert_eq!(keys("memory://"), Path::new("./kho-keys"));
    assert_eq!(keys("s3://city/warehouse/"), Path::new("./city-warehouse-keys"));
}

#[test]
fn the_journal_lies_in_the_warehouse_or_on_a_disk_beside_the_keys() {
    let journal = |toml: &str| load(toml, &[]).unwrap().journal_directory();
    assert_eq!(journal("data = '/srv/city'"), None);
    assert_eq!(journal("data = 'memory://'"), None);
    let beside = Some(PathBuf::from("./city-journal"));
    assert_eq!(journal("data = 's3://city'"), beside);
    let with_keys = "data = 's3://city'\n[keys]\ndirectory = '/srv/k'";
    assert_eq!(journal(with_keys), Some(PathBuf::from("/srv/k-journal")));
    assert_eq!(journal("data = 's3://city'\n[audit]\njournal = 'warehouse'"), None);
    let named = "[audit]\njournal_directory = '/srv/j'";
    assert_eq!(journal(named), Some(PathBuf::from("/srv/j")));
    let both = "[audit]\njournal = 'warehouse'\njournal_directory = '/srv/j'";
    assert_eq!(refused(both, &[]).kind(), Kind::ConfigFile);
}

#[test]
fn a_secret_of_s3_is_named_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "from-a-file\n").unwrap();
    let toml = format!(
        "[s3]\naccess_key_id = 'id'\nsecret_access_key = 'file:{}'\nsession_token = 'env:TOKEN'",
        path.display()
    );
    let config = load(&toml, &[]).unwrap();
    let variables = |token: &str| [("TOKEN".to_owned(), token.to_owned())];
    config.s3.options(variables("from-a-variable")).unwrap();
    let error = config.s3.options([]).unwrap_err();
    assert!(error.message().contains("TOKEN"), "{error}");
    assert_eq!(config.s3.options(variables("\n")).unwrap_err().kind(), Kind::ConfigFile);
    for (toml, environment) in [
        ("[s3]\nsecret_access_key = 'hunter2'", [].as_slice()),
        ("", &[("KHO_S3__SECRET_ACCESS_KEY", "hunter2")]),
        ("[s3]\nsession_token = 'env:'", &[]),
    ] {
        let error = refused(toml, environment);
        assert!(error.message().contains("env:NAME"), "{error}");
        assert!(!error.message().contains("hunter2"), "{error}");
    }
    assert!(refused("[s3]\nconditional_put = 'disabled'", &[]).message().contains("conditional"));
    assert!(refused("[s3]\nretry_timeout_ms = 0", &[]).message().contains("retry_timeout_ms"));
}
