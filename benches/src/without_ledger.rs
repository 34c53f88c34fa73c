//! `kho-without-ledger DATA`: serves a warehouse for reading, over the same wire and by the same
//! engine as `kho serve`, with a ledger that keeps nothing: what the ledger costs is the difference.
//!
//! What it guarantees: one line, `ready pg=HOST:PORT`, when it serves.
//! What it does not: it is for a warehouse that another server made, keeps no table in shape, and
//! stops when it is killed.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use kho_catalog::audit::Ledger;
use kho_catalog::environment::Environment;
use kho_catalog::log::Catalog;
use kho_server::pgwire;
use kho_sql::session::{Engine, Limits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// As in the binary it is held against.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The same.
const STACK_BYTES: usize = 64 * 1024 * 1024;

fn main() -> Result<()> {
    let data = std::env::args().nth(1).ok_or("usage: kho-without-ledger DATA")?;
    let threads = std::env::var("BENCH_THREADS").ok().and_then(|it| it.parse().ok());
    let provider = rustls::crypto::ring::default_provider().install_default();
    provider.map_err(|_| "a crypto provider was installed before")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(&data, threads.unwrap_or_default()));
    served.map_err(|error| format!("{error:?}").into())
}

async fn serve(data: &str, threads: usize) -> kho_catalog::error::Result<()> {
    let environment = Environment::open(data)?;
    let catalog = Catalog::open(environment, "without-ledger").await?;
    let limits = Limits { threads, ..Limits::default() };
    let engine = Arc::new(Engine::open(catalog, Ledger::discarding().await?, &limits)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "ready pg={}", listener.local_addr()?)?;
    let trusted = pgwire::Trusted::default();
    let shared = pgwire::Shared::new(engine, None, trusted, pgwire::Limits::default())?;
    pgwire::serve(listener, shared, CancellationToken::new()).await;
    Ok(())
}
