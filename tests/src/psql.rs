//! psql, run as a person would: what is typed, and what comes back.
//!
//! What it guarantees: no start-up file, no pager, UTF-8; an end after its time.
//! What it does not: it hides nothing; both streams are given as they are.
//! On failure: it panics when psql is not installed or does not end.

use std::process::Command;
use std::time::Duration;

use crate::kho::Kho;
use crate::output::{Output, run};

const TIMEOUT: Duration = Duration::from_secs(120);

/// psql as `role` on `kho`; the role's password is its name.
pub fn psql(kho: &Kho, role: &str) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["--no-psqlrc", "--host", "127.0.0.1", "--port", &kho.pg.port().to_string()])
        .args(["--username", role, "--dbname", "kho"])
        .env("PGPASSWORD", role)
        .env("PGCLIENTENCODING", "UTF8")
        .env("PGCONNECT_TIMEOUT", "30")
        .env("PAGER", "cat")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Types `input` into psql as `role`, unaligned and without the frills.
pub fn script(kho: &Kho, role: &str, input: &str) -> Output {
    let mut command = psql(kho, role);
    command.args(["--quiet", "--no-align", "--tuples-only"]);
    run(&mut command, input, TIMEOUT)
}

/// Runs `psql` with more arguments, feeding it `input`.
pub fn with_arguments(kho: &Kho, role: &str, arguments: &[&str], input: &str) -> Output {
    run(psql(kho, role).args(arguments), input, TIMEOUT)
}
