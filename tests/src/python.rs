//! Client programs in Python, from `tests/clients`.
//!
//! What it guarantees: a script runs to its end within its time, with `KHO_PG_PORT`, `KHO_DATA`,
//! `KHO_CERTIFICATE` and what the test adds in its environment.
//! What it does not: it installs nothing; `tests/run` makes the environment that `KHO_PYTHON`
//! names, from the pinned `tests/clients/requirements.txt`.
//! On failure: it panics with what the script printed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::kho::Kho;
use crate::output::run;

const TIMEOUT: Duration = Duration::from_secs(300);

/// Runs `tests/clients/<name>.py` against `kho`; it must succeed.
pub fn client(kho: &Kho, name: &str, environment: &[(&str, &str)]) -> String {
    let mut command = command(name, &[]);
    told(kho, &mut command).envs(environment.iter().copied());
    run(&mut command, "", TIMEOUT).expect_success()
}

/// Runs a client program, told where `kho` is.
pub(crate) fn succeed(kho: &Kho, command: &mut Command) -> String {
    run(told(kho, command), "", TIMEOUT).expect_success()
}

fn told<'a>(kho: &Kho, command: &'a mut Command) -> &'a mut Command {
    command
        .env("KHO_PG_PORT", kho.pg.port().to_string())
        .env("KHO_FLIGHT_PORT", kho.flight.port().to_string())
        .env("KHO_HTTP_PORT", kho.http.port().to_string())
        .env("KHO_DATA", kho.data())
        .env("KHO_CERTIFICATE", kho.certificate())
}

/// Where `tests/run` puts what it installs.
pub(crate) fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    cache.unwrap_or_else(|| panic!("neither XDG_CACHE_HOME nor HOME is set")).join("kho")
}

/// Runs one that needs no server, only what `environment` tells it.
pub fn script(name: &str, environment: &[(&str, &str)]) -> String {
    run(&mut command(name, environment), "", TIMEOUT).expect_success()
}

fn command(name: &str, environment: &[(&str, &str)]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(format!("{name}.py"));
    let mut command = Command::new(python());
    command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1").envs(environment.iter().copied());
    command
}

/// The interpreter with the pinned clients.
pub(crate) fn python() -> PathBuf {
    let named = std::env::var_os("KHO_PYTHON").map(PathBuf::from);
    named.unwrap_or_else(|| cache().join("clients").join("bin").join("python"))
}
