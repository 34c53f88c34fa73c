//! `kho-without-ledger DATA`: serves a warehouse for reading, over the same wire and by the same
//! engine as `kho serve`, with a ledger that keeps nothing: what the ledger costs is the difference.
//!
//! What it guarantees: one line, `ready pg=HOST:PORT`, when it serves.
//! What it does not: it is for a warehouse that another server made, keeps no table in shape, and
//! stops when it is killed.

// An optimized build looks through all that one connection may come to await.
#![recursion_limit = "256"]

use std::io::Write;

use kho_catalog::error::Result;
use kho_server::pgwire;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod warehouse;

/// As in the binary it is held against.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> warehouse::Done {
    let data = std::env::args().nth(1).ok_or("usage: kho-without-ledger DATA")?;
    warehouse::run(serve(data))
}

async fn serve(data: String) -> Result<()> {
    let engine = warehouse::open(&data).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "ready pg={}", listener.local_addr()?)?;
    let trusted = pgwire::Trusted::default();
    let shared = pgwire::Shared::new(engine, None, trusted, pgwire::Limits::default())?;
    pgwire::serve(listener, shared, CancellationToken::new()).await;
    Ok(())
}
