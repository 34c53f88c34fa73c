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
    /// The versions that were the newest at the block's first statement.
    pins: Option<[usize; 2]>,
    /// Which tables were read.
    read: [bool; 2],
    work: Option<Work>,
}

/// What a block will commit.
struct Work {
    table: usize,
    effects: Vec<Effect>,
    /// The table as the block sees it.
    rows: Rows,
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
        for (name, keyed) in [("s.one", false), ("s.two", true)] {
            let (source, rows) = (Source::new(name), Rows::of(["k", "v"], Vec::new()));
            let (source, rows) =
                if keyed { (source.keyed(), rows.keyed()) } else { (source, rows) };
            run(&mut servers[0].connect().await?, &source.create()).await?;
            let versions = vec![rows];
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
        self.pin(client);
        let versions = &self.tables[table].versions;
        let rows = match &mut self.clients[client].block {
            Block::Open(open) => {
                open.read[table] = true;
                open.rows(table, versions)
            }
            _ => versions[newest].clone(),
        };
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
        self.pin(client);
        if let Block::Open(open) = &mut self.clients[client].block {
            open.read[table] = true;
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
        let text = self.tables[table].source.sql(&effect);
        self.pin(client);
        let versions = &self.tables[table].versions;
        let now = match &mut self.clients[client].block {
            // A block is one commit of one table.
            Block::Open(Open { work: Some(work), .. }) if work.table != table => {
                return self.refused(client, &text, "0A000").await;
            }
            Block::Open(open) => {
                open.read[table] |=
                    !matches!(effect, Effect::Insert(_) | Effect::Upsert(_) | Effect::Truncate);
                open.rows(table, versions)
            }
            _ => versions[versions.len() - 1].clone(),
        };
        let Some((next, touched)) = now.after(&effect) else {
            return self.refused(client, &text, refusal(&effect)).await;
        };
        let tag = Answer::Tag(tag(&effect, touched.rows));
        self.expect(client, &text, tag).await?;
        if !touched.commits {
            return Ok(());
        }
        if let Block::Open(open) = &mut self.clients[client].block {
            let mut effects = open.work.take().map(|work| work.effects).unwrap_or_default();
            effects.push(effect);
            open.work = Some(Work { table, effects, rows: next });
            return Ok(());
        }
        self.tables[table].commit(next, &effect);
        self.check(table, Sample::Some).await
    }

    async fn commit(&mut self, client: usize) -> std::result::Result<(), String> {
        let block = std::mem::replace(&mut self.clients[client].block, Block::None);
        let Block::Open(Open { pins, read, work }) = block else { return Ok(()) };
        let done = Answer::Tag("COMMIT".to_owned());
        let (Some(Work { table, effects, rows }), Some(pins)) = (work, pins) else {
            return self.expect(client, "COMMIT", done).await;
        };
        let (base, it) = (pins[table], &mut self.tables[table]);
        // What came and went again leaves nothing to commit, unless other rows moved with it.
        if rows.reads_as(&it.versions[base]) {
            return self.commit_of_nothing(client, table).await;
        }
        // Rows that were added without looking go in after others; all else is a conflict. Keys are
        // looked at.
        let inserts = effects.iter().all(|effect| matches!(effect, Effect::Insert(_)));
        let blind = inserts && !rows.is_keyed() && !read[table] && it.reshaped <= base;
        if it.newest() != base && !blind {
            return self.expect(client, "COMMIT", Answer::Error("40001")).await;
        }
        let effect = Effect::Block(effects);
        let Some((next, _)) = it.versions[it.newest()].after(&effect) else {
            return Err("the model lost its way".to_owned());
        };
        it.commit(next, &effect);
        self.expect(client, "COMMIT", done).await?;
        self.check(table, Sample::Some).await
    }

    /// The end of a block after which its table reads as before: with a version, or without.
    async fn commit_of_nothing(
        &mut self,
        client: usize,
        table: usize,
    ) -> std::result::Result<(), String> {
        self.sent.push(format!("  {client}: COMMIT"));
        let it = &mut self.clients[client];
        let ended = run(&mut it.session, "COMMIT").await;
        match ended {
            Err(error) if error.sqlstate() == "40001" => return Ok(()),
            Err(error) => return Err(format!("client {client}: COMMIT is {error:?}")),
            Ok(_) => {}
        }
        let name = self.tables[table].name;
        let count = format!("SELECT count(*) FROM kho.table_history('{name}')");
        let got = run(&mut it.session, &count).await.map_err(|error| format!("{error:?}"))?;
        let before = self.tables[table].versions.len();
        if got.rows[0][0].as_deref() == Some((before + 1).to_string().as_str()) {
            let rows = self.tables[table].versions[before - 1].clone();
            self.tables[table].versions.push(rows);
        }
        self.check(table, Sample::Some).await
    }

    /// A block sees everything as it was at its first statement.
    fn pin(&mut self, client: usize) {
        let newest = [self.tables[0].newest(), self.tables[1].newest()];
        if let Block::Open(open) = &mut self.clients[client].block {
            open.pins.get_or_insert(newest);
        }
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
            Block::Open(open) => open.pins.is_none(),
        }
    }
}

impl Open {
    /// A table as the block sees it.
    fn rows(&self, table: usize, versions: &[Rows]) -> Rows {
        match (&self.work, self.pins) {
            (Some(work), _) if work.table == table => work.rows.clone(),
            (_, Some(pins)) => versions[pins[table]].clone(),
            (_, None) => versions[versions.len() - 1].clone(),
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

fn refusal(effect: &Effect) -> &'static str {
    match effect {
        Effect::Insert(_) => "23505",
        Effect::AddColumn { .. } => "42701",
        _ => "42703",
    }
}

fn tag(effect: &Effect, rows: Option<u64>) -> String {
    let rows = rows.unwrap_or_default();
    match effect {
        Effect::Insert(_) | Effect::Upsert(_) => format!("INSERT 0 {rows}"),
        Effect::Merge(_) => format!("MERGE {rows}"),
        Effect::Update { .. } => format!("UPDATE {rows}"),
        Effect::Delete { .. } => format!("DELETE {rows}"),
        Effect::Truncate => "TRUNCATE TABLE".to_owned(),
        _ => "ALTER TABLE".to_owned(),
    }
}
