//! `flight-clients PORT CLIENTS SECONDS ROWS`: clients of Arrow Flight SQL that ask for one row after the
//! other by its key, each over a connection of its own.
//!
//! What it guarantees: each answer is looked at; an answer that is wrong, or none, ends it with an error.
//! The last line is `QUERIES SECONDS P99`: how many there were, in how many seconds, and in how many
//! seconds 99 of 100 were answered.
//! What it does not: the rows are those that `benches/clients/clients.py` makes.
//! On failure: a message on standard error and exit code 1.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow_flight::sql::client::{FlightSqlServiceClient, PreparedStatement};
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Client = FlightSqlServiceClient<Channel>;

const QUERY: &str = "SELECT * FROM point.account WHERE id = $1";
/// A row that takes longer never comes.
const SILENCE: Duration = Duration::from_secs(60);

/// Clients of one core are enough to keep a server busy, and leave it the others.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "flight-clients: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let arguments = std::env::args().skip(1).map(|it| it.parse());
    let arguments: Vec<u64> = arguments.collect::<std::result::Result<_, _>>()?;
    let [port, clients, seconds, rows] = arguments.as_slice() else {
        return Err("usage: flight-clients PORT CLIENTS SECONDS ROWS".into());
    };
    let mut ready = Vec::new();
    for _ in 0..*clients {
        ready.push(connect(*port).await?);
    }
    let begun = Instant::now();
    let until = begun + Duration::from_secs(*seconds);
    let asked = (ready.into_iter().enumerate())
        .map(|(number, (client, query))| tokio::spawn(ask(client, query, number, until, *rows)));
    let mut times = Vec::new();
    for asked in asked.collect::<Vec<_>>() {
        times.extend(asked.await??);
    }
    let took = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let slow = times.get((times.len() * 99).div_ceil(100).saturating_sub(1));
    let slow = slow.ok_or("no query was answered")?.as_secs_f64();
    writeln!(std::io::stdout(), "{} {took:.3} {slow:.6}", times.len())?;
    Ok(())
}

async fn connect(port: u64) -> Result<(Client, PreparedStatement<Channel>)> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.timeout(SILENCE);
    let mut client = Client::new(endpoint.connect().await?);
    client.handshake("admin", "admin").await?;
    let query = client.prepare(QUERY.to_owned(), None).await?;
    Ok((client, query))
}

/// Asks until the time is over; gives how long each answer took.
async fn ask(
    mut client: Client,
    mut query: PreparedStatement<Channel>,
    number: usize,
    until: Instant,
    rows: u64,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    // A walk through all keys that is another one for each client, and the same each time.
    let mut key = u64::try_from(number)? * 7919;
    while Instant::now() < until {
        key = (key + 0x9E37_79B9) % rows;
        let id = i64::try_from(key)? + 1;
        let begun = Instant::now();
        let value: ArrayRef = Arc::new(Int64Array::from(vec![id]));
        query.set_parameters(RecordBatch::try_from_iter([("$1", value)])?)?;
        let info = query.execute().await?;
        let ticket = info.endpoint.into_iter().next().and_then(|it| it.ticket);
        let found = client.do_get(ticket.ok_or("no ticket came")?).await?;
        let found: Vec<RecordBatch> = found.try_collect().await?;
        times.push(begun.elapsed());
        let name = match found.as_slice() {
            [row] if row.num_rows() == 1 => row.column(1).as_string::<i32>().value(0),
            _ => return Err(format!("key {id} has not one row").into()),
        };
        if name != format!("account {id}") {
            return Err(format!("key {id} has the name {name}").into());
        }
    }
    Ok(times)
}
