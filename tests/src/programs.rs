//! Client programs in Java and JavaScript, from `tests/clients`.
//!
//! What it guarantees: what [`crate::python`] does for those in Python.
//! What it does not: it installs nothing; `tests/run` installs Debian's JDBC driver, and into
//! `KHO_NODE_MODULES` what the pinned `tests/clients/node/package-lock.json` says.
//! On failure: it panics with what the program printed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kho::Kho;
use crate::python::{cache, succeed};

/// Where Debian's `libpostgresql-jdbc-java` puts the driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// Runs `tests/clients/jdbc/Client.java` from its source.
pub fn java(kho: &Kho) -> String {
    let mut command = Command::new("java");
    command.args(["-cp", JDBC]).arg(folder().join("jdbc/Client.java"));
    succeed(kho, &mut command)
}

/// Runs `tests/clients/node/client.js`.
pub fn node(kho: &Kho) -> String {
    let modules = std::env::var_os("KHO_NODE_MODULES").map(PathBuf::from);
    let modules = modules.unwrap_or_else(|| cache().join("node/node_modules"));
    let mut command = Command::new("node");
    command.arg(folder().join("node/client.js")).env("NODE_PATH", modules);
    succeed(kho, &mut command)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}
