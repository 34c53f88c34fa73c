//! What an operator can set: defaults, then `kho.toml`, then `KHO_SECTION__KEY`.
//!
//! What it guarantees: a key or a `KHO_` variable that is not known is refused, so that a mistyped
//! limit is not a missing one; numbers carry their unit in their name; no key holds a secret.
//! What it does not: it touches nothing but the file; whether an address is free or a folder can be
//! written is found out by whoever uses it.
//! On failure: `F0000`, in one line that names the key and where it was set.

mod credentials;
pub mod s3;
mod variable;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use kho_catalog::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

pub use self::credentials::{Oidc, Passwords};
use self::s3::{S3, SecretName};
use self::variable::Variable;

/// Read when no other file is named and it exists.
pub const DEFAULT_FILE: &str = "kho.toml";
/// The one `KHO_` variable that is no setting: it is a secret, so it has no key in the file.
const ADMIN_PASSWORD: &str = "KHO_ADMIN_PASSWORD";
/// An hour: longer than other programs take between writing a file and committing it.
const LEFTOVERS_AGE_MIN_S: u64 = 60 * 60;
const PREFIX: &str = "KHO_";

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The warehouse's root: a directory or a URL.
    pub data: String,
    pub pg: Pg,
    pub http: Http,
    pub flight: Flight,
    pub tls: Tls,
    pub passwords: Passwords,
    pub oidc: Oidc,
    pub keys: Keys,
    pub s3: S3,
    pub audit: Audit,
    pub limits: Limits,
    pub maintenance: Maintenance,
    pub log: Log,
    /// For the role `admin`, when the warehouse is made.
    #[serde(skip)]
    pub admin_password: Option<Password>,
}

/// The PostgreSQL wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pg {
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
}

/// Health and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// A loopback address; port 0 picks a free one.
    pub listen: SocketAddr,
}

/// Arrow Flight SQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flight {
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    /// How long a bearer token holds, and a client that says nothing is kept.
    pub token_lifetime_s: u64,
}

/// The certificate of every listener; without one, a self-signed one is made and kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file, the server's certificate first.
    pub certificate: Option<PathBuf>,
    /// A PEM file.
    pub key: Option<PathBuf>,
    /// A PEM file of authorities: a client with a certificate of theirs logs in by it as the role
    /// that `kho.map_identity` maps it to.
    pub client_ca: Option<PathBuf>,
    /// A PEM file with the lists of what those authorities have revoked, one of each.
    pub client_crl: Option<PathBuf>,
}

/// Where Kho keeps the keys it makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// `None`: beside the data, see [`Config::keys_directory`].
    pub directory: Option<PathBuf>,
    /// Where the ledger's keys are; `None`: a file in that directory, made at the first start.
    pub ledger: Option<SecretName>,
}

/// Where this server's part of the ledger lies until it is sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    pub journal: JournalPlace,
    /// `None`: in a warehouse that is a directory, else beside the keys, see
    /// [`Config::journal_directory`]. A disk that is lost takes its unsealed records with it.
    pub journal_directory: Option<PathBuf>,
    /// How often what was written is sealed into the warehouse, where other servers see it.
    pub seal_interval_s: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { journal: JournalPlace::default(), journal_directory: None, seal_interval_s: 60 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalPlace {
    /// On a local disk: one sync for all who wait.
    #[default]
    Disk,
    /// In the warehouse, wherever that is: for a machine without a disk of its own. Each batch of
    /// records is then one request and one object.
    Warehouse,
}

/// What clients may use up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// At one time, over all protocols.
    pub connections: u32,
    /// Of these, kept for members of `kho_admin`; of few connections half at most.
    pub reserved_connections: u32,
    /// 0 is no limit; a session may set its own.
    pub statement_timeout_ms: u64,
    /// The most that any statement may take, whatever its session says; 0 is no limit.
    pub statement_time_ms: u64,
    /// Statements that run at one time; more are refused. 0 is no limit.
    pub concurrent_statements: u32,
    /// The most rows that a statement on datasets gives; 0 is no limit.
    pub rows_per_statement: u64,
    /// Of all running statements; what needs more spills.
    pub memory_bytes: u64,
    /// Of one statement, within the same of all.
    pub query_memory_bytes: u64,
    /// The largest message a client may send.
    pub message_bytes: u32,
    /// `None`: the system's folder for temporary files.
    pub spill_directory: Option<PathBuf>,
    pub spill_bytes: u64,
    /// What is kept of tables' logs, beside the memory of statements.
    pub snapshot_cache_bytes: u64,
    /// What is kept of data files' footers, likewise.
    pub footer_cache_bytes: u64,
    /// What is kept of the plans of prepared statements, likewise.
    pub plan_cache_bytes: u64,
    /// Threads of one statement; 0 is one for each core.
    pub threads: u32,
    /// How long running statements may go on when the server is asked to stop.
    pub stop_grace_ms: u64,
}

/// What the server does to its tables by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    pub enabled: bool,
    /// How long a written table is left alone, so that writes are gathered.
    pub delay_ms: u64,
    /// How often every table is looked at, whoever wrote it.
    pub round_interval_s: u64,
    /// How often leftovers of crashed writes are looked for.
    pub sweep_interval_s: u64,
    /// Leftovers are at least this old. Other programs that write must not take longer.
    pub leftovers_age_s: u64,
    /// For sorting rows that are compacted; what needs more spills.
    pub memory_bytes: u64,
}

/// The log on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// `level` or `target=level,…`, as `tracing_subscriber::EnvFilter` reads it. Below `warn` the
    /// libraries underneath tell of schemas and predicates: that is data, and for debugging alone.
    pub filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// A password that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Default for Config {
    fn default() -> Self {
        Config {
            data: "./kho-data".to_owned(),
            pg: Pg { listen: SocketAddr::from(([127, 0, 0, 1], 5433)) },
            http: Http { listen: SocketAddr::from(([127, 0, 0, 1], 8080)) },
            flight: Flight {
                listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
                token_lifetime_s: 60 * 60,
            },
            tls: Tls::default(),
            passwords: Passwords::default(),
            oidc: Oidc::default(),
            keys: Keys::default(),
            s3: S3::default(),
            audit: Audit::default(),
            limits: Limits {
                connections: 200,
                reserved_connections: 3,
                statement_timeout_ms: 0,
                statement_time_ms: 0,
                concurrent_statements: 0,
                rows_per_statement: 0,
                memory_bytes: 4 << 30,
                query_memory_bytes: 2 << 30,
                message_bytes: 256 << 20,
                spill_directory: None,
                spill_bytes: 64 << 30,
                snapshot_cache_bytes: 256 << 20,
                footer_cache_bytes: 128 << 20,
                plan_cache_bytes: 64 << 20,
                threads: 0,
                stop_grace_ms: 30_000,
            },
            maintenance: Maintenance {
                enabled: true,
                delay_ms: 1_000,
                round_interval_s: 60 * 60,
                sweep_interval_s: 24 * 60 * 60,
                leftovers_age_s: 24 * 60 * 60,
                memory_bytes: 256 << 20,
            },
            log: Log { format: LogFormat::Text, filter: "warn,kho=info".to_owned() },
            admin_password: None,
        }
    }
}

impl Config {
    /// Reads `file`, or `kho.toml` if it is there, and the `KHO_` variables of `environment`.
    ///
    /// # Errors
    /// `F0000` with the key, the reason and the place; [`Config::check`] is not called yet, since
    /// the command line may still change something.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config> {
        let defaults = Config::default();
        let mut figment = Figment::from(Serialized::defaults(&defaults));
        let file = match file {
            Some(path) if !path.is_file() => {
                let message = format!("config file \"{}\" does not exist", path.display());
                return Err(Error::new(Kind::ConfigFile, message));
            }
            Some(path) => Some(path),
            None => Some(Path::new(DEFAULT_FILE)).filter(|path| path.is_file()),
        };
        if let Some(path) = file {
            figment = figment.merge(Toml::file_exact(path));
        }
        let mut admin_password = None;
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            if name == ADMIN_PASSWORD {
                admin_password = Some(Password::new(value)?);
                continue;
            }
            let variable = Variable::new(&name, key, value, &figment)?;
            figment = figment.merge(variable);
        }
        let mut config: Config = figment.extract().map_err(|error| {
            let all: Vec<String> = error.into_iter().map(|error| error.to_string()).collect();
            // The TOML parser draws a picture over several lines.
            let line = all.join("; ").split_whitespace().collect::<Vec<_>>().join(" ");
            // Profiles are the library's idea; a user knows none.
            Error::new(Kind::ConfigFile, line.replace("key \"default.", "key \""))
        })?;
        config.admin_password = admin_password;
        Ok(config)
    }

    /// Refuses what cannot be obeyed, or must not be.
    pub fn check(&self) -> Result<()> {
        if !self.http.listen.ip().is_loopback() {
            let message =
                format!("http.listen must be a loopback address, not {}", self.http.listen);
            return Err(Error::unsupported(message)
                .with_hint("Plain HTTP leaves the machine only through a proxy that adds TLS."));
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err(invalid("tls.certificate and tls.key must be set together"));
        }
        if self.tls.client_crl.is_some() && self.tls.client_ca.is_none() {
            return Err(invalid("tls.client_crl is of no use without tls.client_ca"));
        }
        self.passwords.check()?;
        self.oidc.check()?;
        let limits = &self.limits;
        let times = [
            ("limits.statement_timeout_ms", limits.statement_timeout_ms),
            ("limits.statement_time_ms", limits.statement_time_ms),
        ];
        if let Some((key, _)) = times.iter().find(|(_, ms)| i32::try_from(*ms).is_err()) {
            return Err(invalid(format!("{key} must be at most 2147483647")));
        }
        let positive = [
            ("limits.connections", u64::from(limits.connections)),
            ("limits.memory_bytes", limits.memory_bytes),
            ("limits.query_memory_bytes", limits.query_memory_bytes),
            ("limits.message_bytes", u64::from(limits.message_bytes)),
            ("flight.token_lifetime_s", self.flight.token_lifetime_s),
            ("audit.seal_interval_s", self.audit.seal_interval_s),
            ("maintenance.round_interval_s", self.maintenance.round_interval_s),
            ("maintenance.sweep_interval_s", self.maintenance.sweep_interval_s),
            ("maintenance.memory_bytes", self.maintenance.memory_bytes),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(invalid(format!("{key} must be greater than 0")));
        }
        if self.maintenance.leftovers_age_s < LEFTOVERS_AGE_MIN_S {
            let message =
                format!("maintenance.leftovers_age_s must be at least {LEFTOVERS_AGE_MIN_S}");
            return Err(invalid(message).with_hint(
                "What another program is still writing must not be taken for a leftover.",
            ));
        }
        if self.audit.journal == JournalPlace::Warehouse && self.audit.journal_directory.is_some() {
            return Err(invalid("audit.journal_directory is for audit.journal = \"disk\""));
        }
        self.s3.check()?;
        self.check_data()?;
        self.check_keys()
    }

    /// Where keys that Kho makes are kept: as set, or beside the data under a name of its own, so
    /// that two warehouses in one folder do not share keys by accident.
    pub fn keys_directory(&self) -> PathBuf {
        if let Some(directory) = &self.keys.directory {
            return directory.clone();
        }
        let named = self.data_directory().and_then(|data| match data.file_name() {
            Some(_) => Some(data),
            None => std::path::absolute(data).ok(),
        });
        let Some(data) = named.filter(|data| data.file_name().is_some()) else {
            let stem = self.bucket_name().unwrap_or_else(|| "kho".to_owned());
            return PathBuf::from(format!("./{stem}-keys"));
        };
        let name = data.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix("-data").unwrap_or(&name);
        data.with_file_name(format!("{stem}-keys"))
    }

    /// The folder of the ledger's journal; `None` where it lies in the warehouse. Beside the keys
    /// it has a name of its own, and with it its own keys' server names: the journals of two
    /// warehouses never mix.
    pub fn journal_directory(&self) -> Option<PathBuf> {
        if self.audit.journal == JournalPlace::Warehouse {
            return None;
        }
        if let Some(directory) = &self.audit.journal_directory {
            return Some(directory.clone());
        }
        self.bucket_name()?;
        let keys = self.keys_directory();
        let name = keys.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix("-keys").unwrap_or(&name);
        Some(keys.with_file_name(format!("{stem}-journal")))
    }

    /// Bucket and prefix as one name, where the warehouse lies in a bucket.
    fn bucket_name(&self) -> Option<String> {
        let path = self.data.strip_prefix("s3://")?.trim_matches('/');
        Some(path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-"))
    }

    /// The data root, where it is a directory.
    pub fn data_directory(&self) -> Option<PathBuf> {
        match self.data.split_once("://") {
            None => Some(PathBuf::from(&self.data)),
            Some(("file", path)) => Some(PathBuf::from(path)),
            Some(_) => None,
        }
    }

    fn check_data(&self) -> Result<()> {
        if self.data.is_empty() {
            return Err(invalid("data must name a directory or a URL"));
        }
        let authority = self.data.split_once("://").map(|(_, rest)| rest.split('/').next());
        if authority.flatten().is_some_and(|authority| authority.contains('@')) {
            return Err(invalid("data must not hold a secret")
                .with_hint("Give the store's credentials in its own environment variables."));
        }
        Ok(())
    }

    fn check_keys(&self) -> Result<()> {
        let Some(data) = self.data_directory() else {
            return Ok(());
        };
        let keys = self.keys_directory();
        if let Some(file) = self.keys.ledger.as_ref().and_then(SecretName::file)
            && absolute(file)?.starts_with(absolute(&data)?)
        {
            let message = format!("keys.ledger \"{}\" is under the data", file.display());
            return Err(invalid(message).with_hint("Name a file outside of the data root."));
        }
        if absolute(&keys)?.starts_with(absolute(&data)?) {
            // A copy of the data would carry the keys that protect it.
            let message = format!("keys.directory \"{}\" is under the data", keys.display());
            return Err(invalid(message).with_hint("Name a folder outside of the data root."));
        }
        Ok(())
    }
}

impl Password {
    /// # Errors
    /// `F0000` for an empty one.
    pub fn new(text: impl Into<String>) -> Result<Password> {
        let text = text.into();
        if text.is_empty() {
            return Err(invalid(format!("{ADMIN_PASSWORD} must not be empty")));
        }
        Ok(Password(text))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The `KHO_` variables of this process.
///
/// # Errors
/// `F0000` for a value that is not Unicode.
pub fn environment() -> Result<Vec<(String, String)>> {
    let ours = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX));
    ours.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(invalid(format!("environment variable {name} is not Unicode"))),
    })
    .collect()
}

/// The path from the root, its links followed as far as it exists, without `.` and `..`.
fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
        if let Ok(real) = whole.canonicalize() {
            whole = real;
        }
    }
    Ok(whole)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigFile, message)
}
