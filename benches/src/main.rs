//! `tpch-load`: makes the eight tables of TPC-H and loads them into Kho by `COPY`, as an agency
//! would: CSV over the PostgreSQL wire, one table after the other.
//!
//! What it guarantees: rows are generated while they are sent, so memory stays small at any scale;
//! it ends with an error unless the server took every row.
//! What it does not: it measures no query; `benches/clients/tpch.py` does.
//! On failure: a message on standard error and exit code 1.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use futures::SinkExt;
use tokio::sync::mpsc;
use tokio_postgres::{Client, Config, NoTls};
use tpchgen::text::TextPool;

mod tables;

use tables::{TABLES, Table};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What travels at a time: large enough that messages cost nothing, small enough to be no burden.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks made ahead of the server.
const CHUNKS_AHEAD: usize = 8;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "tpch-load: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// `tpch-load PORT SCALE`, as the role `admin` with the password `admin`.
async fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(scale)) = (arguments.next(), arguments.next()) else {
        return Err("usage: tpch-load PORT SCALE".into());
    };
    let (port, scale): (u16, f64) = (port.parse()?, scale.parse()?);
    // The words of every comment: more than a second's work, and no part of any table's load.
    TextPool::get_or_init_default();
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user("admin").password("admin").dbname("kho");
    let (client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute("CREATE SCHEMA tpch").await?;
    for table in TABLES {
        client.batch_execute(table.definition).await?;
        let begun = Instant::now();
        let rows = load(&client, table, scale).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let name = table.name;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let rate = rows as f64 / seconds;
        writeln!(
            std::io::stdout(),
            "load {name:10} {rows:>10} rows {seconds:>8.2} s {rate:>10.0} rows/s"
        )?;
    }
    drop(client);
    connection.await??;
    Ok(())
}

/// Copies one table; gives the number of rows, which the server must have counted too.
async fn load(client: &Client, table: &'static Table, scale: f64) -> Result<u64> {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
    let generator = tokio::task::spawn_blocking(move || generate(table, scale, &sender));
    let statement = format!("COPY tpch.{} FROM STDIN (FORMAT csv)", table.name);
    let sink = client.copy_in::<_, Bytes>(&statement).await?;
    let mut sink = std::pin::pin!(sink);
    while let Some(chunk) = chunks.recv().await {
        sink.send(chunk).await?;
    }
    let taken = sink.finish().await?;
    let made = generator.await??;
    if taken != made {
        let name = table.name;
        return Err(format!("{name}: {made} rows were sent, the server took {taken}").into());
    }
    Ok(taken)
}

fn generate(table: &Table, scale: f64, sender: &mpsc::Sender<Bytes>) -> Result<u64> {
    let mut chunk = String::with_capacity(CHUNK_BYTES + 1024);
    let mut rows = 0;
    (table.rows)(scale, &mut |row| {
        std::fmt::write(&mut chunk, row)?;
        chunk.push('\n');
        rows += 1;
        if chunk.len() >= CHUNK_BYTES {
            let full = std::mem::replace(&mut chunk, String::with_capacity(CHUNK_BYTES + 1024));
            sender.blocking_send(Bytes::from(full))?;
        }
        Ok(())
    })?;
    sender.blocking_send(Bytes::from(chunk))?;
    Ok(rows)
}
