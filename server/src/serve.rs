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
use kho_catalog::audit::{Keeping, Ledger};
use kho_catalog::environment::Environment;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::log::Catalog;
use kho_sql::passwords::Rules;
use kho_sql::scram::{DEFAULT_ITERATIONS, SALT_BYTES, make_verifier};
use kho_sql::session::Engine;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Limits, Password};
use crate::http::ReadyCheck;
use crate::jobs::Jobs;
use crate::pgwire::Trusted;
use crate::server_name::ServerName;
use crate::tls::{Clients, Identity};
use crate::{bootstrap, config, flight, http, keys, ledger, maintenance, observe, pgwire};

/// A change of rights made by another server holds here within a second: this, and one read.
const FOLLOW_INTERVAL_MS: u64 = 500;
/// What the wire needs after its grace to cut off what still runs; only then are jobs ended.
const AFTER_GRACE: Duration = Duration::from_secs(10);
/// How often samples are drained into their histograms, whether or not anyone reads them.
const METRICS_INTERVAL_MS: u64 = 5_000;

/// A server that serves until it is stopped.
pub struct Server {
    pub pg_address: SocketAddr,
    pub flight_address: SocketAddr,
    pub http_address: SocketAddr,
    engine: Arc<Engine>,
    catalog: Catalog,
    ledger: Ledger,
    /// What signs and seals the ledger, which goes on until the ledger is closed.
    keeping: JoinHandle<Keeping>,
    kept: CancellationToken,
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
    let flight_listener = listen("flight", config.flight.listen).await?;
    let (pg_address, http_address) = (pg_listener.local_addr()?, http_listener.local_addr()?);
    let flight_address = flight_listener.local_addr()?;

    // Before the warehouse is made, so that a bad certificate leaves none.
    let identity = identity(&config)?;
    let name = ServerName::take(&config.keys_directory())?;
    let environment = open_environment(&config).await?;
    let catalog = Catalog::open(environment.clone(), name.as_str()).await?;
    let trusted = trusted(&config).await?;
    let listens = [config.pg.listen, config.flight.listen];
    let rules = config.passwords.rules(listens.iter().all(|it| it.ip().is_loopback()));
    let admin = config.admin_password.as_ref();
    let made =
        bootstrap::make_warehouse(&catalog, admin, |password| verifier(&rules, password)).await?;
    if let Some(password) = made {
        show_password(&password);
    }
    let keys = Arc::new(keys::of_warehouse(&config, &catalog).await?);
    let source = ledger::source(&config, &environment)?;
    let ledger = Ledger::open(source, keys, name.as_str()).await?;
    let keeping = ledger.keep(&catalog).await?;
    let spill = format!("kho-spill-{}", name.as_str());
    let limits = engine_limits(&config.limits, &spill)?;
    let engine = Engine::open_with(catalog.clone(), ledger.clone(), &limits, rules)?;
    let engine = Arc::new(engine);
    let limits = wire_limits(&config.limits)?;
    let authorities = trusted.clients.clone();
    let shared = pgwire::Shared::new(Arc::clone(&engine), Some(&identity), trusted, limits)?;
    let limits = flight_limits(&config)?;
    let (entrance, authorities) = (shared.entrance(), authorities.as_ref());
    let flights = flight::Shared::new(entrance, Some(&identity), authorities, limits)?;

    let jobs = Jobs::new();
    let seal_every = Duration::from_secs(config.audit.seal_interval_s);
    let kept = CancellationToken::new();
    let keeping = tokio::spawn(ledger::keep(keeping, seal_every, kept.clone()));
    let (serving, seen) = watch::channel(true);
    jobs.spawn("catalog follower", follow(catalog.clone(), jobs.stopping()));
    jobs.spawn("pgwire", pgwire::serve(pg_listener, shared, jobs.stopping()).map(Ok));
    jobs.spawn("flight", flight::serve(flight_listener, flights, jobs.stopping()).map(Ok));
    let ready = ready_check(seen, catalog.clone());
    jobs.spawn("http", http::serve(http_listener, ready, metrics.clone(), jobs.stopping()));
    jobs.spawn("metrics", keep_metrics(metrics, jobs.stopping()));
    if config.maintenance.enabled {
        let limits = maintenance_limits(&config, name.as_str())?;
        let work = engine.maintenance(&limits)?;
        jobs.spawn("maintenance", maintenance::run(work, config.maintenance, jobs.stopping()));
    }

    let stop_grace = Duration::from_millis(config.limits.stop_grace_ms) + AFTER_GRACE;
    tracing::info!(pg = %pg_address, flight = %flight_address, http = %http_address, "serving");
    Ok(Server {
        pg_address,
        flight_address,
        http_address,
        engine,
        catalog,
        ledger,
        keeping,
        kept,
        serving,
        jobs,
        stop_grace,
        _name: name,
    })
}

impl Server {
    /// The way in for statements from inside the process.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The line that tells whoever started the process where to connect.
    pub fn ready_line(&self) -> String {
        let Server { pg_address, flight_address, http_address, .. } = self;
        format!("ready pg={pg_address} flight={flight_address} http={http_address}")
    }

    /// Returns when a part of the server ended that should not have.
    pub async fn failed(&self) {
        self.jobs.failed().await;
    }

    /// Takes no new statement, lets running ones end for as long as the configuration says, and
    /// closes what is open.
    ///
    /// # Errors
    /// `57P01` when a part of it had to be cut off; `58030` when the ledger could not be closed.
    pub async fn stop(self) -> Result<()> {
        self.serving.send_replace(false);
        let in_time = self.jobs.stop(self.stop_grace).await;
        let closed = self.ledger.close().await;
        self.kept.cancel();
        let keeping = self.keeping.await;
        closed?;
        match keeping.map(Keeping::finish) {
            Ok(finishing) => finishing.await.unwrap_or_else(|error| {
                tracing::warn!(?error, "the end of the audit ledger is not sealed; it will be");
            }),
            Err(error) => tracing::error!(%error, "the audit ledger was not kept"),
        }
        self.catalog.close().await;
        if in_time {
            return Ok(());
        }
        Err(Error::new(
            Kind::AdminShutdown,
            "a part of the server did not end in time and was cut off",
        ))
    }
}

async fn follow(catalog: Catalog, stop: CancellationToken) -> Result<()> {
    let interval = Duration::from_millis(FOLLOW_INTERVAL_MS);
    catalog.follow(interval, stop.cancelled_owned()).await;
    Ok(())
}

async fn keep_metrics(metrics: PrometheusHandle, stop: CancellationToken) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(METRICS_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        metrics.run_upkeep();
    }
    Ok(())
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

/// The variables of the S3 client are looked at only where one is used.
pub(crate) async fn open_environment(config: &Config) -> Result<Environment> {
    if !config.data.starts_with("s3://") {
        return Environment::open(&config.data);
    }
    let options = config.s3.options(config::s3::variables())?;
    Environment::connect(&config.data, &options).await
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

/// Whose word is taken, besides passwords.
async fn trusted(config: &Config) -> Result<Trusted> {
    let clients = config.tls.client_ca.clone().map(|authority| {
        let revoked = config.tls.client_crl.clone();
        Clients { authority, revoked }
    });
    Ok(Trusted { clients, oidc: config.oidc.open().await? })
}

/// What the catalog keeps of a password (RFC 5802, SCRAM-SHA-256), which must be good enough.
fn verifier(rules: &Rules, password: &Password) -> Result<String> {
    rules.check(bootstrap::ADMIN, password.expose()).map_err(|error| {
        let message = format!("KHO_ADMIN_PASSWORD: {}", error.message());
        Error::new(Kind::ConfigFile, message)
            .with_hint("Give another one, or loosen the rules of [passwords].")
    })?;
    let salt: [u8; SALT_BYTES] = rand::random();
    make_verifier(password.expose(), &salt, DEFAULT_ITERATIONS)
}

/// The operator's certificate, or one made for the names this server is likely to be called by.
fn identity(config: &Config) -> Result<Identity> {
    if let (Some(certificate), Some(key)) = (&config.tls.certificate, &config.tls.key) {
        return Identity::load(certificate, key);
    }
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter();
    let addresses = [config.pg.listen.ip(), config.flight.listen.ip()];
    let address = addresses.into_iter().filter(|it| !it.is_unspecified() && !it.is_loopback());
    let names: Vec<String> = names.chain(address.map(|it| it.to_string())).collect();
    Identity::load_or_create(&config.keys_directory(), &names)
}

/// Every server spills into a folder, `spill`, that its name, which no other running one has, makes
/// its own: what is in there when it starts is what it left when it was killed.
fn engine_limits(limits: &Limits, spill: &str) -> Result<kho_sql::session::Limits> {
    let folder = limits.spill_directory.clone().unwrap_or_else(std::env::temp_dir);
    let whole = |value: u64| usize::try_from(value).map_err(|_| Error::internal("a small machine"));
    Ok(kho_sql::session::Limits {
        memory_bytes: whole(limits.memory_bytes)?,
        query_memory_bytes: whole(limits.query_memory_bytes)?,
        spill_directory: Some(folder.join(spill)),
        spill_bytes: limits.spill_bytes,
        snapshot_cache_bytes: whole(limits.snapshot_cache_bytes)?,
        footer_cache_bytes: whole(limits.footer_cache_bytes)?,
        plan_cache_bytes: whole(limits.plan_cache_bytes)?,
        statement_timeout_ms: limits.statement_timeout_ms,
        statement_time_ms: limits.statement_time_ms,
        concurrent_statements: limits.concurrent_statements,
        rows_per_statement: limits.rows_per_statement,
        threads: whole(u64::from(limits.threads))?,
    })
}

/// Its memory is its own, and so is the folder it spills to, beside the one of the statements.
fn maintenance_limits(config: &Config, name: &str) -> Result<kho_sql::session::Limits> {
    let memory_bytes = config.maintenance.memory_bytes;
    let limits = Limits { memory_bytes, query_memory_bytes: memory_bytes, ..config.limits.clone() };
    engine_limits(&limits, &format!("kho-maintenance-spill-{name}"))
}

fn flight_limits(config: &Config) -> Result<flight::Limits> {
    let whole = |value: u32| usize::try_from(value).map_err(|_| Error::internal("a small machine"));
    let limits = &config.limits;
    Ok(flight::Limits {
        startups: 100,
        connections: whole(limits.connections)?.saturating_mul(2),
        startup_timeout_ms: 15_000,
        message_bytes: whole(limits.message_bytes)?,
        token_lifetime_ms: config.flight.token_lifetime_s.saturating_mul(1000),
        stop_timeout_ms: limits.stop_grace_ms,
    })
}

fn wire_limits(limits: &Limits) -> Result<pgwire::Limits> {
    let whole = |value: u32| usize::try_from(value).map_err(|_| Error::internal("a small machine"));
    Ok(pgwire::Limits {
        connections: whole(limits.connections)?,
        reserved: whole(limits.reserved_connections.min(limits.connections / 2))?,
        message_bytes: whole(limits.message_bytes)?,
        stop_timeout_ms: limits.stop_grace_ms,
        ..pgwire::Limits::default()
    })
}
