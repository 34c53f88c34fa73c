//! The world outside, as values: the object store, the clock, fresh ids and salts.
//!
//! What it is: one [`Environment`] is made where a server starts and handed to whoever needs it;
//! there is no global. This module alone knows where a warehouse lies.
//! What it guarantees: on a local directory an object that was acknowledged survives a power cut.
//! In a bucket the service promises that, and puts one object where none is, which is proved.
//! What it does not: `memory://` keeps nothing once the process ends; removals may come back after
//! a power cut (whoever must know that something is gone looks again).
//! On failure: a place that cannot be opened is refused at once, with what to do.

mod crash;
#[cfg(test)]
pub(crate) mod faults;
mod held;
mod local;
mod s3;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;
use uuid::Uuid;

pub(crate) use self::crash::step;
use self::held::Held;
pub(crate) use self::held::Hold;
use self::local::DurableLocal;
pub(crate) use self::local::{make_folders, sync_folder};
pub use self::s3::S3Options;
use crate::error::{Error, Kind, Result};

/// What time it is. Tests have their own.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since the epoch, UTC; may jump when the machine's clock is set.
    fn now_ms(&self) -> i64;
    /// Milliseconds since some fixed moment; never goes back.
    fn monotonic_ms(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that stands still until it is moved; for tests.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
    start_ms: i64,
}

/// The store of one warehouse, the clock, and where ids come from.
#[derive(Clone, Debug)]
pub struct Environment {
    store: Arc<dyn ObjectStore>,
    /// The same store; [`Environment::hold`] gives out places in it.
    held: Arc<Held>,
    clock: Arc<dyn Clock>,
    local: Option<Arc<DurableLocal>>,
    root: Url,
}

impl Environment {
    /// Opens the warehouse root at a directory (made if absent), a `file://` URL or `memory://`.
    pub fn open(location: &str) -> Result<Environment> {
        let Some((scheme, _)) = location.split_once("://") else {
            return open_directory(Path::new(location));
        };
        match scheme {
            "file" => {
                let path = Url::parse(location).ok().and_then(|url| url.to_file_path().ok());
                let refused = || invalid(location, "Write file:///path/to/folder.");
                open_directory(&path.ok_or_else(refused)?)
            }
            "memory" => {
                let root = Url::parse("memory:///");
                let root = root.map_err(|_| Error::internal("no memory URL"))?;
                Ok(Environment::over(Arc::new(InMemory::new()), None, root))
            }
            "s3" => Err(Error::internal("a bucket is opened by Environment::connect")),
            "s3a" => Err(invalid("s3a://…", "Write s3://bucket/prefix.")),
            "gs" | "gcs" | "az" | "azure" | "abfs" | "abfss" | "adl" => {
                Err(Error::unsupported(format!("a warehouse on {scheme}:// is not supported yet"))
                    .with_hint("Give a local directory, or s3://bucket/prefix."))
            }
            _ => Err(invalid(location, "Give a local directory, or s3://bucket/prefix.")),
        }
    }

    /// The same for a root that may lie in a bucket, `s3://bucket/prefix`, reached as `s3` says.
    pub async fn connect(location: &str, s3: &S3Options) -> Result<Environment> {
        if !location.starts_with("s3://") {
            return Environment::open(location);
        }
        let (store, root) = s3::open(location, s3).await?;
        Ok(Environment::over(store, None, root))
    }

    fn over(
        store: Arc<dyn ObjectStore>,
        local: Option<Arc<DurableLocal>>,
        root: Url,
    ) -> Environment {
        let held = Held::over(store);
        Environment {
            store: Arc::clone(&held) as _,
            held,
            clock: Arc::new(SystemClock),
            local,
            root,
        }
    }

    /// Opens a folder, which is made if it is absent.
    pub fn open_folder(path: &Path) -> Result<Environment> {
        open_directory(path)
    }

    /// The same place with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Environment {
        self.clock = clock;
        self
    }

    /// The same place seen through another store (one that injects faults, say). Because that
    /// store now stands between, nothing goes around it to the local disk any more.
    #[must_use]
    pub fn with_store(mut self, store: Arc<dyn ObjectStore>) -> Environment {
        self.held = Held::over(store);
        self.store = Arc::clone(&self.held) as _;
        self.local = None;
        self
    }

    /// The object store, rooted at the warehouse.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// A place for the small files of one transaction, which [`Environment::store`] then reads.
    pub(crate) fn hold(&self) -> Arc<Hold> {
        self.held.hold()
    }

    /// The root as a URL that ends in `/`; to name places in errors and to libraries, not to
    /// reach them around [`Environment::store`].
    pub fn root_url(&self) -> &Url {
        &self.root
    }

    /// The root as a folder, where the warehouse lies on a local disk.
    pub fn local_root(&self) -> Option<&Path> {
        self.local.as_deref().map(DurableLocal::root)
    }

    /// Milliseconds since the epoch, UTC.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Milliseconds since some fixed moment; for measuring, never for storing.
    pub fn monotonic_ms(&self) -> i64 {
        self.clock.monotonic_ms()
    }

    /// A new id: a version 7 UUID (RFC 9562) in 32 hexadecimal digits; later ones sort later.
    pub fn new_id(&self) -> String {
        Uuid::now_v7().simple().to_string()
    }

    /// 244 random bits in hexadecimal, so that a committed text cannot be found by guessing.
    pub fn salt(&self) -> String {
        format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
    }

    /// 256 random bits, for what nobody must guess.
    ///
    /// # Errors
    /// `XX000` where the system has no randomness.
    pub fn secret(&self) -> Result<[u8; 32]> {
        use ring::rand::SecureRandom as _;
        let mut secret = [0; 32];
        let filled = ring::rand::SystemRandom::new().fill(&mut secret);
        filled.map_err(|_| Error::internal("the system gives no random numbers"))?;
        Ok(secret)
    }

    /// Removes what writers that were killed left unfinished on the local disk at least
    /// `older_than` ago, and says how many files that were. Other stores keep no such files.
    pub async fn sweep_leftovers(&self, older_than: Duration) -> Result<usize> {
        let Some(local) = self.local.clone() else { return Ok(0) };
        tokio::task::spawn_blocking(move || local.sweep_leftovers(older_than))
            .await
            .map_err(|error| Error::internal("the sweep was interrupted").with_source(error))?
            .map_err(Error::from)
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        // A clock before 1970 is a broken machine; zero keeps it visible without stopping it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic_ms(&self) -> i64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        i64::try_from(START.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

impl ManualClock {
    /// A clock that says `now_ms`.
    pub fn new(now_ms: i64) -> ManualClock {
        ManualClock { now_ms: AtomicI64::new(now_ms), start_ms: now_ms }
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> i64 {
        self.now_ms() - self.start_ms
    }
}

fn open_directory(path: &Path) -> Result<Environment> {
    let local = DurableLocal::open(path).map_err(|error| {
        Error::from(error).with_detail(format!("The folder is \"{}\".", path.display()))
    })?;
    let local = Arc::new(local);
    let root = Url::from_directory_path(local.root())
        .map_err(|()| Error::internal("the warehouse's folder has no URL"))?;
    let store: Arc<dyn ObjectStore> = Arc::clone(&local) as _;
    Ok(Environment::over(store, Some(local), root))
}

fn invalid(location: &str, hint: &str) -> Error {
    let message = format!("invalid location for a warehouse: \"{location}\"");
    Error::new(Kind::InvalidParameterValue, message).with_hint(hint)
}
