//! A warehouse that another server made, opened for reading by the same engine, with a ledger that keeps
//! nothing.
//!
//! What it guarantees: threads, stacks and limits are those of `kho serve` with `BENCH_THREADS`.

use std::error::Error;
use std::sync::Arc;

use kho_catalog::audit::Ledger;
use kho_catalog::environment::Environment;
use kho_catalog::error::Result;
use kho_catalog::log::Catalog;
use kho_sql::session::{Engine, Limits};

pub type Done = std::result::Result<(), Box<dyn Error + Send + Sync>>;

/// The same as in `kho serve`.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Runs `work` on a runtime like the server's.
pub fn run(work: impl Future<Output = Result<()>>) -> Done {
    let provider = rustls::crypto::ring::default_provider().install_default();
    provider.map_err(|_| "a crypto provider was installed before")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    runtime.block_on(work).map_err(|error| format!("{error:?}").into())
}

/// The engine over the warehouse at `data`.
pub async fn open(data: &str) -> Result<Arc<Engine>> {
    let threads = std::env::var("BENCH_THREADS").ok().and_then(|it| it.parse().ok());
    let catalog = Catalog::open(Environment::open(data)?, "bench").await?;
    let limits = Limits { threads: threads.unwrap_or_default(), ..Limits::default() };
    Ok(Arc::new(Engine::open(catalog, Ledger::discarding().await?, &limits)?))
}
