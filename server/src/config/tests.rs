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
    let error = refused("[flight]\nlisten = '127.0.0.1:50051'", &[]);
    assert_eq!(error.kind(), Kind::FeatureNotSupported);
    let error = refused("[http]\nlisten = '0.0.0.0:80'", &[]);
    assert_eq!(error.kind(), Kind::FeatureNotSupported);
    for toml in [
        "[tls]\nkey = 'k.pem'",
        "[limits]\nconnections = 0",
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
}
