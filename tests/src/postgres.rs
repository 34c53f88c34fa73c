//! A real PostgreSQL of one test, to hold Kho's behaviour against.
//!
//! What it guarantees: a fresh cluster, reached through a socket in its own folder (so no port to
//! lose a race for); the role `admin` owns the database `kho` and may create roles, as in Kho.
//! What it does not: it is not durable (`fsync=off`), and its roles are PostgreSQL's own.
//! On failure: it panics with what `initdb` or the server printed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::process::Process;
use crate::wire::{Target, Wire};

/// A running PostgreSQL.
pub struct Postgres {
    // Before the folder: fields are dropped in order, and the server must be gone first.
    _process: Process,
    folder: TempDir,
}

impl Postgres {
    /// Starts a fresh cluster with the role `admin` and no database of its own yet.
    pub fn start() -> Postgres {
        let folder = tempfile::Builder::new().prefix("kho-pg-").tempdir();
        let folder = folder.unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let path = folder.path();
        give_to_account(path);
        let password = path.join("password");
        fs::write(&password, "postgres\n").unwrap_or_else(|error| panic!("{error}"));
        give_to_account(&password);
        let mut initdb = program("initdb");
        initdb.args(["--no-sync", "--locale=C.UTF-8", "--encoding=UTF8", "--username=postgres"]);
        initdb.arg("--auth=scram-sha-256").arg("--pwfile").arg(&password);
        initdb.arg("-D").arg(path.join("data"));
        crate::output::run(&mut initdb, "", std::time::Duration::from_secs(120)).expect_success();
        let mut server = program("postgres");
        server.arg("-D").arg(path.join("data"));
        server.arg("-c").arg(format!("unix_socket_directories={}", path.display()));
        server.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "TimeZone=UTC"]);
        let process = Process::start(&mut server);
        process.wait_for(|line| line.contains("ready to accept connections").then_some(()));
        let postgres = Postgres { _process: process, folder };
        postgres.superuser("CREATE ROLE admin LOGIN CREATEROLE PASSWORD 'admin'");
        postgres
    }

    /// Gives an empty database `kho`, and takes away every role but `admin`.
    pub fn reset(&self) {
        self.superuser("DROP DATABASE IF EXISTS kho");
        let mut wire = self.connect_superuser();
        let roles = wire.simple(
            "SELECT quote_ident(rolname) FROM pg_roles \
             WHERE rolname NOT IN ('postgres', 'admin') AND rolname NOT LIKE 'pg\\_%'",
        );
        let roles = roles.unwrap_or_else(|error| panic!("{error}"));
        for row in roles.iter().flat_map(|answer| &answer.rows) {
            if let Some(Some(role)) = row.first() {
                self.superuser(&format!("DROP ROLE {role}"));
            }
        }
        self.superuser("CREATE DATABASE kho OWNER admin");
    }

    /// How `role` connects; its password is its name, as in every test.
    pub fn target(&self, role: &str) -> Target {
        Target::unix(self.socket(), "kho", role, role)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    fn superuser(&self, statement: &str) {
        let done = self.connect_superuser().simple(statement);
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    fn connect_superuser(&self) -> Wire {
        let target = Target::unix(self.socket(), "postgres", "postgres", "postgres");
        Wire::connect(&target).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Where PostgreSQL's server programs are: the newest version Debian installed, or `PATH`.
pub fn program(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").ok();
    let mut found: Vec<(u32, PathBuf)> = versions
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .map(|(version, path)| (version, path.join("bin").join(name)))
        .filter(|(_, path)| path.exists())
        .collect();
    found.sort();
    let path = found.pop().map_or_else(|| PathBuf::from(name), |(_, path)| path);
    let mut command = Command::new(path);
    command.current_dir("/");
    if let Some((user, group)) = account() {
        command.uid(user).gid(group);
    }
    command
}

/// The account PostgreSQL runs as when we are root, which it refuses to be.
fn account() -> Option<(u32, u32)> {
    static ACCOUNT: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *ACCOUNT.get_or_init(|| {
        let mine = fs::read_to_string("/proc/self/status").ok()?;
        let user = mine.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        if user.split_whitespace().next() != Some("0") {
            return None;
        }
        let accounts = fs::read_to_string("/etc/passwd").ok()?;
        let line = accounts.lines().find(|line| line.starts_with("postgres:"));
        let mut fields = line?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn give_to_account(path: &Path) {
    if let Some((user, group)) = account() {
        chown(path, Some(user), Some(group)).unwrap_or_else(|error| panic!("{error}"));
    }
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set.unwrap_or_else(|error| panic!("{error}"));
}
