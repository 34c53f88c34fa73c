//! Statements of several sessions, one after the other, against a model of versioned tables: what
//! each one answers is foretold, and so is every version.
//!
//! A seed is two tables, one or two servers on them, and two to four sessions whose statements and
//! blocks interleave. A writer of one server waits for another's block: who would wait does
//! something else, so that a seed needs one thread only. Between servers it is a conflict.

use kho_catalog::error::Result;
use kho_sql::session::Session;
use kho_tests::inside::{Reply, Server, Warehouse, run};
use kho_tests::model::{Effect, Rows};
use kho_tests::seeds;
use kho_tests::witness::read;
use kho_tests::work::Source;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Seeds that failed once.
const KEPT: &[u64] = &[];
/// Statements of one seed, besides those that read versions back.
const STATEMENTS: usize = 14;

#[test]
fn every_version_is_what_a_simple_model_makes_of_the_statements() {
    let count = seeds::from_environment("KHO_MODEL_SEEDS", 1000);
    seeds::all("the model of versioned tables", KEPT, count, async |seed| {
        Play::begin(seed).await.map_err(|error| format!("{error:?}"))?.all().await
    });
}

/// One seed.
struct Play {
    random: StdRng,
    servers: Vec<Server>,
    clients: Vec<Client>,
    tables: Vec<Table>,
    /// What was sent, and by whom, for the report of a failure.
    sent: Vec<String>,
}

struct Client {
    server: usize,
    session: Session,
    block: Block,
}

/// What was committed.
struct Table {
    name: &'static str,
    source: Source,
    versions: Vec<Rows>,
    /// The newest version that changed columns.
    reshaped: usize,
}

enum Block {
    None,
    Open(Open),
    Failed,
}

#[derive(Default)]
struct Open {
    /// The version that each table was first read at.
    pins: [Option<usize>; 2],
    work: Option<Work>,
}

/// What a block will commit.
struct Work {
    table: usize,
    base: usize,
    effect: Effect,
}

/// What a statement is foretold to answer.
#[derive(Debug)]
enum Answer {
    Rows(Rows),
    /// How many rows, where the tag says it.
    Tag(String),
    Error(&'static str),
}

impl Play {
    async fn begin(seed: u64) -> Result<Play> {
        let mut random = StdRng::seed_from_u64(seed);
        let warehouse = Warehouse::in_memory();
        let mut servers = vec![warehouse.serve_well("a").await?];
        if random.random_bool(0.5) {
            servers.push(warehouse.serve_well("b").await?);
        }
        let mut tables = Vec::new();
        for name in ["s.one", "s.two"] {
            let source = Source::new(name);
            run(&mut servers[0].connect().await?, &source.create()).await?;
            let versions = vec![Rows::of(["k", "v"], Vec::new())];
            tables.push(Table { name, source, versions, reshaped: 0 });
        }
        let mut clients = Vec::new();
        for index in 0..random.random_range(2..=4) {
            let server = index % servers.len();
            let session = servers[server].connect().await?;
            clients.push(Client { server, session, block: Block::None });
        }
        Ok(Play { random, servers, clients, tables, sent: Vec::new() })
    }

    async fn all(mut self) -> std::result::Result<(), String> {
        for _ in 0..STATEMENTS {
            let done = self.one().await;
            done.map_err(|reason| format!("{reason}\nsent:\n{}", self.sent.join("\n")))?;
        }
        for table in 0..self.tables.len() {
            let done = self.check(table, Sample::All).await;
            done.map_err(|reason| format!("{reason}\nsent:\n{}", self.sent.join("\n")))?;
        }
        Ok(())
    }

    /// One statement of one client.
    async fn one(&mut self) -> std::result::Result<(), String> {
        let client = self.random.random_range(0..self.clients.len());
        let table = self.random.random_range(0..self.tables.len());
        let kind = self.random.random_range(0..100);
        match (&self.clients[client].block, kind) {
            (Block::None, 0..25) => {
                self.expect(client, "BEGIN", Answer::Tag("BEGIN".to_owned())).await?;
                self.clients[client].block = Block::Open(Open::default());
                Ok(())
            }
            (Block::Open(_), 0..25) => self.commit(client).await,
            (Block::Open(_) | Block::Failed, 25..32) => {
                self.expect(client, "ROLLBACK", Answer::Tag("ROLLBACK".to_owned())).await?;
                self.clients[client].block = Block::None;
                Ok(())
            }
            (Block::Failed, 0..50) => {
                self.expect(client, "COMMIT", Answer::Tag("ROLLBACK".to_owned())).await?;
                self.clients[client].block = Block::None;
                Ok(())
            }
            (Block::Failed, _) => self.expect(client, "SELECT 1", Answer::Error("25P02")).await,
            (_, 32..37) => self.refused(client, "SELECT 1 / 0", "22012").await,
            (_, 37..62) => self.read(client, table).await,
            (_, 62..68) => self.read_version(client, table).await,
            _ => self.write(client, table).await,
        }
    }

    async fn read(&mut self, client: usize, table: usize) -> std::result::Result<(), String> {
        let newest = self.tables[table].newest();
        let question = format!("SELECT * FROM {}", self.tables[table].name);
        let version = match &mut self.clients[client].block {
            Block::Open(Open { work: Some(_), .. }) => {
                return self.refused(client, &question, "0A000").await;
            }
            Block::Open(open) => *open.pins[table].get_or_insert(newest),
            _ => newest,
        };
        let rows = self.tables[table].versions[version].clone();
        self.expect(client, &question, Answer::Rows(rows)).await
    }

    async fn read_version(
        &mut self,
        client: usize,
        table: usize,
    ) -> std::result::Result<(), String> {
        let newest = self.tables[table].newest();
        let version = self.random.random_range(0..=newest + 1);
        let question = format!("SELECT * FROM {} VERSION AS OF {version}", self.tables[table].name);
        if matches!(&self.clients[client].block, Block::Open(Open { work: Some(_), .. })) {
            let refusal = if version > newest { "22023" } else { "0A000" };
            return self.refused(client, &question, refusal).await;
        }
        match self.tables[table].versions.get(version).cloned() {
            Some(rows) => self.expect(client, &question, Answer::Rows(rows)).await,
            None => self.refused(client, &question, "22023").await,
        }
    }

    async fn write(&mut self, client: usize, table: usize) -> std::result::Result<(), String> {
        if self.would_wait(client, table) {
            return self.read(client, table).await;
        }
        let in_block = matches!(self.clients[client].block, Block::Open(_));
        // A block that has read the catalog knows the columns of then.
        let settled = self.clients.iter().all(|it| it.block.has_read_nothing());
        let effect = match settled && !in_block {
            true => self.tables[table].source.effect(&mut self.random),
            false => self.tables[table].source.change(&mut self.random),
        };
        let base = self.tables[table].newest();
        let text = self.tables[table].source.sql(&effect);
        if let Block::Open(Open { work: Some(_), .. }) = self.clients[client].block {
            return self.refused(client, &text, "0A000").await;
        }
        let now = &self.tables[table].versions[base];
        let Some((next, touched)) = now.after(&effect) else {
            return self.refused(client, &text, shape_refusal(&effect)).await;
        };
        let tag = Answer::Tag(tag(&effect, touched.rows));
        self.expect(client, &text, tag).await?;
        if !touched.commits {
            return Ok(());
        }
        if let Block::Open(open) = &mut self.clients[client].block {
            open.work = Some(Work { table, base, effect });
            return Ok(());
        }
        self.tables[table].commit(next, &effect);
        self.check(table, Sample::Some).await
    }

    async fn commit(&mut self, client: usize) -> std::result::Result<(), String> {
        let block = std::mem::replace(&mut self.clients[client].block, Block::None);
        let Block::Open(Open { work, .. }) = block else { return Ok(()) };
        let done = Answer::Tag("COMMIT".to_owned());
        let Some(Work { table, base, effect }) = work else {
            return self.expect(client, "COMMIT", done).await;
        };
        let it = &mut self.tables[table];
        // Rows that were added without looking go in after others; all else is a conflict.
        let blind = matches!(effect, Effect::Insert(_)) && it.reshaped <= base;
        if it.newest() != base && !blind {
            return self.expect(client, "COMMIT", Answer::Error("40001")).await;
        }
        let Some((next, _)) = it.versions[it.newest()].after(&effect) else {
            return Err("the model lost its way".to_owned());
        };
        it.commit(next, &effect);
        self.expect(client, "COMMIT", done).await?;
        self.check(table, Sample::Some).await
    }

    /// Whether another session of the same server holds the table.
    fn would_wait(&self, client: usize, table: usize) -> bool {
        self.clients.iter().enumerate().any(|(index, other)| {
            let holds = |open: &Open| open.work.as_ref().is_some_and(|it| it.table == table);
            index != client
                && other.server == self.clients[client].server
                && matches!(&other.block, Block::Open(open) if holds(open))
        })
    }

    /// A statement that fails, and fails its block.
    async fn refused(
        &mut self,
        client: usize,
        text: &str,
        sqlstate: &'static str,
    ) -> std::result::Result<(), String> {
        self.expect(client, text, Answer::Error(sqlstate)).await?;
        if !matches!(self.clients[client].block, Block::None) {
            self.clients[client].block = Block::Failed;
        }
        Ok(())
    }

    async fn expect(
        &mut self,
        client: usize,
        text: &str,
        wanted: Answer,
    ) -> std::result::Result<(), String> {
        self.sent.push(format!("  {client}: {text}"));
        let it = &mut self.clients[client];
        let followed = self.servers[it.server].follow().await;
        followed.map_err(|error| format!("the catalog does not read: {error:?}"))?;
        let got = run(&mut it.session, text).await;
        if wanted.is(&got) {
            return Ok(());
        }
        Err(format!("client {client}: {text}\n  should be {wanted:?}\n  but is {got:?}"))
    }

    /// Reads versions of a table back, outside any block, from some server.
    async fn check(&mut self, table: usize, sample: Sample) -> std::result::Result<(), String> {
        let server = self.random.random_range(0..self.servers.len());
        let it = &self.tables[table];
        let versions: Vec<usize> = match sample {
            Sample::All => (0..=it.newest()).collect(),
            Sample::Some => vec![it.newest(), self.random.random_range(0..=it.newest())],
        };
        let server = &self.servers[server];
        let session = async { server.follow().await.map(|()| server.connect())?.await };
        let mut session = session.await.map_err(|error| format!("{error:?}"))?;
        for version in versions {
            let question = format!("SELECT * FROM {} VERSION AS OF {version}", it.name);
            let got = run(&mut session, &question).await;
            let wanted = Answer::Rows(it.versions[version].clone());
            if !wanted.is(&got) {
                return Err(format!("{question}\n  should be {wanted:?}\n  but is {got:?}"));
            }
        }
        let count = format!("SELECT count(*) FROM kho.table_history('{}')", it.name);
        let got = run(&mut session, &count).await.map_err(|error| format!("{error:?}"))?;
        let wanted = it.versions.len().to_string();
        match got.rows[0][0].as_deref() == Some(wanted.as_str()) {
            true => Ok(()),
            false => Err(format!("{} has {wanted} versions, not {got:?}", it.name)),
        }
    }
}

/// Which versions are read back.
#[derive(Clone, Copy)]
enum Sample {
    Some,
    All,
}

impl Table {
    fn newest(&self) -> usize {
        self.versions.len() - 1
    }

    fn commit(&mut self, rows: Rows, effect: &Effect) {
        self.versions.push(rows);
        if reshapes(effect) {
            self.reshaped = self.newest();
        }
    }
}

impl Block {
    fn has_read_nothing(&self) -> bool {
        match self {
            Block::None | Block::Failed => true,
            Block::Open(open) => open.work.is_some(),
        }
    }
}

impl Answer {
    fn is(&self, got: &Result<Reply>) -> bool {
        match (self, got) {
            (Answer::Rows(rows), Ok(reply)) => rows.reads_as(&read(reply)),
            (Answer::Tag(tag), Ok(reply)) => *tag == reply.tag,
            (Answer::Error(sqlstate), Err(error)) => *sqlstate == error.sqlstate(),
            _ => false,
        }
    }
}

fn reshapes(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::AddColumn { .. } | Effect::DropColumn { .. } | Effect::RenameColumn { .. }
    )
}

fn shape_refusal(effect: &Effect) -> &'static str {
    match effect {
        Effect::AddColumn { .. } => "42701",
        _ => "42703",
    }
}

fn tag(effect: &Effect, rows: Option<u64>) -> String {
    let rows = rows.unwrap_or_default();
    match effect {
        Effect::Insert(_) => format!("INSERT 0 {rows}"),
        Effect::Update { .. } => format!("UPDATE {rows}"),
        Effect::Delete { .. } => format!("DELETE {rows}"),
        Effect::Truncate => "TRUNCATE TABLE".to_owned(),
        _ => "ALTER TABLE".to_owned(),
    }
}
