//! `kho-in-process DATA`: runs queries by the engine of `kho serve` with no wire: what a wire costs is
//! the difference.
//!
//! What it guarantees: each line of standard input is a query; it is run to its end, batch by batch,
//! and answered with a line, `ROWS BYTES SECONDS`. Bytes are those of the rows in memory, as they come.
//! What it does not: the rows go nowhere, and no ledger keeps a record.
//! On failure: a message on standard error and exit code 1.

use std::io::{BufRead, Write};
use std::time::Instant;

use futures::StreamExt;
use kho_catalog::error::{Error, Result};
use kho_sql::outcome::Outcome;
use kho_sql::session::{Credential, Login, Session};
use tokio_util::sync::CancellationToken;

mod warehouse;

/// As in the binary it is held against.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> warehouse::Done {
    let data = std::env::args().nth(1).ok_or("usage: kho-in-process DATA")?;
    warehouse::run(answer(data))
}

async fn answer(data: String) -> Result<()> {
    let engine = warehouse::open(&data).await?;
    let login = Login {
        role: "admin".to_owned(),
        protocol: "internal",
        client: None,
        settings: Vec::new(),
        process_id: 0,
        credential: Credential::default(),
    };
    let mut session = engine.connect(login).await?;
    for line in std::io::stdin().lock().lines() {
        // On a thread of the runtime, as a wire's: the main one is none.
        let (back, answer) = tokio::spawn(run(session, line?))
            .await
            .map_err(|error| Error::internal("the query ended").with_source(error.to_string()))?;
        session = back;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", answer?)?;
        out.flush()?;
    }
    Ok(())
}

async fn run(mut session: Session, query: String) -> (Session, Result<String>) {
    let begun = Instant::now();
    let counted = count(&mut session, &query).await;
    let seconds = begun.elapsed().as_secs_f64();
    (session, counted.map(|(rows, bytes)| format!("{rows} {bytes} {seconds:.6}")))
}

async fn count(session: &mut Session, query: &str) -> Result<(usize, usize)> {
    let mut counted = (0, 0);
    for statement in session.parse(query)? {
        let stop = CancellationToken::new();
        let Outcome::Rows(mut rows) = session.run(&statement, &[], &stop).await? else {
            return Err(Error::internal("no query"));
        };
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            counted.0 += batch.num_rows();
            counted.1 += batch.get_array_memory_size();
        }
    }
    Ok(counted)
}
