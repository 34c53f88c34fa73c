//! A Kho of one test: the real binary, on a fresh folder, on ports the system chose.
//!
//! What it guarantees: it serves when [`Kho::start`] returns; nothing of it is left when dropped.
//! What it does not: it hides no failure of the server; a server that is not ready panics here.
//! On failure: it panics with what the server printed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::flight::Flight;
use crate::process::{Ended, Process};
use crate::wire::{Target, Wire};

/// The first role's password, in tests.
pub const ADMIN_PASSWORD: &str = "admin";

/// A running Kho and its folders.
pub struct Kho {
    process: Process,
    folders: Folders,
    pub pg: SocketAddr,
    pub flight: SocketAddr,
    pub http: SocketAddr,
}

/// Where a warehouse lives: its data, and its keys, which are never under the data.
pub struct Folders {
    root: TempDir,
}

impl Folders {
    pub fn new() -> Folders {
        let root = tempfile::Builder::new().prefix("kho-test-").tempdir();
        Folders { root: root.unwrap_or_else(|error| panic!("no temporary folder: {error}")) }
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn keys(&self) -> PathBuf {
        self.root.path().join("keys")
    }

    /// Where its servers spill: gone with the rest, also where one was killed.
    pub fn spill(&self) -> PathBuf {
        spill_beside(&self.keys())
    }

    /// Other folders with the same in them; nothing may be serving them.
    pub fn copied(&self) -> Folders {
        let copy = Folders::new();
        copy_folder(self.root.path(), copy.root.path())
            .unwrap_or_else(|error| panic!("the folders are not copied: {error}"));
        copy
    }
}

impl Default for Folders {
    fn default() -> Self {
        Folders::new()
    }
}

impl Kho {
    /// Starts a Kho on a fresh warehouse.
    pub fn start() -> Kho {
        Kho::start_in(Folders::new())
    }

    /// Starts a Kho on a warehouse that may have been served before.
    pub fn start_in(folders: Folders) -> Kho {
        Kho::start_with(folders, &[])
    }

    /// The same, with more environment (`KHO_…`).
    pub fn start_with(folders: Folders, environment: &[(&str, &str)]) -> Kho {
        let mut command = serve(&folders.data(), &folders.keys());
        command.envs(environment.iter().copied());
        Kho::start_by(folders, &mut command)
    }

    /// Starts a Kho by a command of the test's own, which serves on `folders`.
    pub fn start_by(folders: Folders, command: &mut Command) -> Kho {
        let process = Process::start(command);
        let (pg, flight, http) = process.wait_for(ready);
        Kho { process, folders, pg, flight, http }
    }

    /// The same for one that may end before it serves: then its folders are given back.
    pub fn try_start_with(folders: Folders, environment: &[(&str, &str)]) -> Result<Kho, Folders> {
        let process = Kho::spawn(&folders, environment);
        match process.wait_for_or_end(ready) {
            Some((pg, flight, http)) => Ok(Kho { process, folders, pg, flight, http }),
            None => Err(folders),
        }
    }

    fn spawn(folders: &Folders, environment: &[(&str, &str)]) -> Process {
        let mut command = serve(&folders.data(), &folders.keys());
        command.envs(environment.iter().copied());
        Process::start(&mut command)
    }

    /// How `role` connects with `password`.
    pub fn target(&self, role: &str, password: &str) -> Target {
        Target::tcp(self.pg, "kho", role, password)
    }

    /// A connection of the first role.
    pub fn admin(&self) -> Wire {
        self.connect("admin")
    }

    /// A connection of `role`, whose password is its name, as in every test.
    pub fn connect(&self, role: &str) -> Wire {
        let connected = Wire::connect(&self.target(role, role));
        connected.unwrap_or_else(|error| panic!("{role} cannot connect: {error}\n{}", self.log()))
    }

    /// The same over Flight.
    pub fn fly(&self, role: &str) -> Flight {
        let connected = Flight::connect(self.flight, role, role);
        connected.unwrap_or_else(|error| panic!("{role} cannot connect: {error}\n{}", self.log()))
    }

    pub fn data(&self) -> PathBuf {
        self.folders.data()
    }

    /// The folder of its keys.
    pub fn keys(&self) -> PathBuf {
        self.folders.keys()
    }

    /// The certificate that the server made for itself: what a client trusts.
    pub fn certificate(&self) -> PathBuf {
        self.folders.keys().join("server.crt")
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to stop, and gives back how it ended and its folders.
    pub fn stop(self) -> (Ended, Folders) {
        (self.process.stop("TERM"), self.folders)
    }

    /// Ends it as a power cut would, and gives back its folders.
    pub fn kill(self) -> Folders {
        self.process.kill();
        self.folders
    }
}

/// The command that serves a warehouse, on ports the system chooses.
pub fn serve(data: &Path, keys: &Path) -> Command {
    let mut command = kho("serve");
    command
        .env("KHO_DATA", data)
        .env("KHO_KEYS__DIRECTORY", keys)
        .env("KHO_LIMITS__SPILL_DIRECTORY", spill_beside(keys))
        .env("KHO_PG__LISTEN", "127.0.0.1:0")
        .env("KHO_FLIGHT__LISTEN", "127.0.0.1:0")
        .env("KHO_HTTP__LISTEN", "127.0.0.1:0")
        .env("KHO_ADMIN_PASSWORD", ADMIN_PASSWORD);
    command
}

/// The data may be no folder; the keys always are one.
fn spill_beside(keys: &Path) -> PathBuf {
    keys.with_file_name("spill")
}

/// The command `kho SUBCOMMAND`, configured by nothing that surrounds the tests: what steers them
/// (`KHO_BINARY`, `KHO_PYTHON`) is no setting of Kho's, and Kho refuses what it does not know.
pub fn kho(subcommand: &str) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("KHO_") || name_text.starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.arg(subcommand);
    command
}

/// The `kho` binary: `KHO_BINARY` when set, else built now from this source.
///
/// # Why
/// Cargo knows no stable dependency of a test on another package's binary. Taking whatever lies in
/// the target folder would test an old server; asking Cargo costs a second when nothing changed.
/// The whole workspace is named so that features, and with them the dependencies, stay the same.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("KHO_BINARY") {
            return PathBuf::from(path);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let target = target_folder();
        let mut build = Command::new(cargo);
        for (name, _) in std::env::vars_os() {
            if of_this_test(&name.to_string_lossy()) {
                build.env_remove(name);
            }
        }
        let built = build
            .args(["build", "--locked", "--workspace", "--bin", "kho", "--target-dir"])
            .arg(&target)
            .current_dir(workspace())
            .output();
        let built = built.unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
        assert!(
            built.status.success(),
            "the kho binary does not build:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
        target.join("debug").join("kho")
    })
}

/// Whether Cargo set a variable to describe this test. Build scripts look at such (ring's names
/// them all), so a build that inherited them would compile most dependencies anew, each time.
fn of_this_test(name: &str) -> bool {
    let described = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_CFG_"];
    described.iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, to) = (entry?, to.to_owned());
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// The root of the source tree.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The target folder this test was built into: `<target>/<profile>/deps/<test>`.
fn target_folder() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("no current_exe: {error}"));
    let target = test.ancestors().nth(3);
    target.unwrap_or_else(|| panic!("{} is in no target folder", test.display())).to_owned()
}

/// Reads `ready pg=HOST:PORT flight=HOST:PORT http=HOST:PORT`.
fn ready(line: &str) -> Option<(SocketAddr, SocketAddr, SocketAddr)> {
    let rest = line.strip_prefix("ready ")?;
    let value = |key: &str| {
        rest.split_whitespace().find_map(|word| word.strip_prefix(key)?.parse::<SocketAddr>().ok())
    };
    Some((value("pg=")?, value("flight=")?, value("http=")?))
}
