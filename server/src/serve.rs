//! A running server, from its configuration to its end.
//!
//! What it guarantees: when [`start`] returns, clients can connect; addresses are taken before
//! anything is made, so that a port in use leaves no half-made warehouse; when [`Server::stop`]
//! returns, nothing of the server runs and everything acknowledged is durable.
//! What it does not: it installs no signal handler, no log and no crypto provider: the process does.
//! On failure: `start` leaves nothing running.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kho_catalog::environment::Environment;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::log::Catalog;
use kho_sql::session::Engine;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::config::{Config, Password};
use crate::http::ReadyCheck;
use crate::jobs::Jobs;
use crate::server_name::ServerName;
use crate::{bootstrap, http, observe};

/// A change of rights made by another server holds here within a second: this, and one read.
const FOLLOW_INTERVAL_MS: u64 = 500;
/// How often samples are drained into their histograms, whether or not anyone reads them.
const METRICS_INTERVAL_MS: u64 = 5_000;

/// A server that serves until it is stopped.
pub struct Server {
    pub pg_address: SocketAddr,
    pub http_address: SocketAddr,
    engine: Arc<Engine>,
    catalog: Catalog,
    serving: watch::Sender<bool>,
    jobs: Jobs,
    stop_grace: Duration,
    _name: ServerName,
}

/// Opens the warehouse, makes it if it is new, and serves it.
///
/// # Errors
/// `F0000`, `0A000` a configuration that cannot be obeyed; `58030` an address or the storage;
/// `XX001` a catalog that is not whole.
pub async fn start(config: Config) -> Result<Server> {
    config.check()?;
    let metrics = observe::metrics()?;
    let pg_listener = listen("pg", config.pg.listen).await?;
    let http_listener = listen("http", config.http.listen).await?;
    let (pg_address, http_address) = (pg_listener.local_addr()?, http_listener.local_addr()?);

    // WIRE tls: let tls = crate::tls::…(&config.tls, &config.keys_directory()), before the
    // warehouse is made, so that a bad certificate leaves none.

    let name = ServerName::take(&config.keys_directory())?;
    let environment = Environment::open(&config.data)?;
    let catalog = Catalog::open(environment, name.as_str()).await?;
    let made =
        bootstrap::make_warehouse(&catalog, config.admin_password.as_ref(), verifier).await?;
    if let Some(password) = made {
        show_password(&password);
    }
    // WIRE ledger: let ledger = Ledger::open(environment, name.as_str()).await?;
    // WIRE engine: let engine = Engine::open(catalog.clone(), ledger, Limits { … })?;
    let engine = Arc::new(Engine {});

    let jobs = Jobs::new();
    let (serving, seen) = watch::channel(true);
    let (followed, stop) = (catalog.clone(), jobs.stopping());
    jobs.spawn("catalog follower", async move {
        let interval = Duration::from_millis(FOLLOW_INTERVAL_MS);
        followed.follow(interval, stop.cancelled_owned()).await;
        Ok(())
    });
    // WIRE pgwire: jobs.spawn("pgwire", pgwire::serve(pg_listener, shared, jobs.stopping()));
    let stop = jobs.stopping();
    jobs.spawn("pgwire", async move {
        let _listener = pg_listener;
        stop.cancelled().await;
        Ok(())
    });
    let ready = ready_check(seen, catalog.clone());
    jobs.spawn("http", http::serve(http_listener, ready, metrics.clone(), jobs.stopping()));
    let stop = jobs.stopping();
    jobs.spawn("metrics", async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(METRICS_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            metrics.run_upkeep();
        }
        Ok(())
    });
    let stop_grace = Duration::from_millis(config.limits.stop_grace_ms);
    tracing::info!(pg = %pg_address, http = %http_address, "serving");
    Ok(Server { pg_address, http_address, engine, catalog, serving, jobs, stop_grace, _name: name })
}

impl Server {
    /// The way in for statements from inside the process.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The line that tells whoever started the process where to connect.
    pub fn ready_line(&self) -> String {
        format!("ready pg={} http={}", self.pg_address, self.http_address)
    }

    /// Returns when a part of the server ended that should not have.
    pub async fn failed(&self) {
        self.jobs.failed().await;
    }

    /// Takes no new statement, lets running ones end for as long as the configuration says, and
    /// closes what is open.
    ///
    /// # Errors
    /// `57P01` when running statements had to be cut off.
    pub async fn stop(self) -> Result<()> {
        self.serving.send_replace(false);
        let in_time = self.jobs.stop(self.stop_grace).await;
        self.catalog.close().await;
        // WIRE ledger: self.ledger.close().await?;
        if in_time {
            return Ok(());
        }
        Err(Error::new(
            Kind::AdminShutdown,
            "statements were still running at the end of limits.stop_grace_ms",
        ))
    }
}

fn ready_check(serving: watch::Receiver<bool>, catalog: Catalog) -> ReadyCheck {
    Arc::new(move || {
        let (serves, catalog) = (*serving.borrow(), catalog.clone());
        async move {
            if !serves {
                return Err(Error::new(Kind::CannotConnectNow, "the server is stopping"));
            }
            catalog.fresh().await.map(drop)
        }
        .boxed()
    })
}

async fn listen(section: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let variable = format!("KHO_{}__LISTEN", section.to_ascii_uppercase());
        Error::new(Kind::Io, format!("could not listen on {address}: {}", error.kind()))
            .with_hint(format!("Set {section}.listen or {variable}; port 0 picks a free one."))
            .with_source(error)
    })
}

/// On standard error and not in the log: logs are collected, kept and read by others.
fn show_password(password: &Password) {
    eprintln!("kho: made the role {} with password {}", bootstrap::ADMIN, password.expose());
    eprintln!("kho: this is the only time it is shown; change it with ALTER ROLE");
}

/// WIRE authenticate: replace by the one function that makes verifiers (RFC 5802, SCRAM-SHA-256).
fn verifier(password: &Password) -> Result<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, Mac};
    use sha2::{Digest, Sha256};

    const ITERATIONS: u32 = 4096;
    let prepared = stringprep::saslprep(password.expose()).map_err(|error| {
        Error::new(Kind::InvalidPassword, "the password is not text").with_source(error)
    })?;
    let salt: [u8; 16] = rand::random();
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(prepared.as_bytes(), &salt, ITERATIONS, &mut salted);
    let keyed = |text: &[u8]| {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&salted)
            .map_err(|error| Error::internal("HMAC refused its key").with_source(error))?;
        mac.update(text);
        Ok::<_, Error>(mac.finalize().into_bytes())
    };
    let stored = STANDARD.encode(Sha256::digest(keyed(b"Client Key")?));
    let server = STANDARD.encode(keyed(b"Server Key")?);
    Ok(format!("SCRAM-SHA-256${ITERATIONS}:{}${stored}:{server}", STANDARD.encode(salt)))
}
