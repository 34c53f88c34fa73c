//! Random work for one table: what a client sends, and what the model makes of it.
//!
//! What it guarantees: no two statements of one [`Source`] do the same to a table that has rows,
//! so that its versions tell which were done.

use std::collections::BTreeSet;

use rand::Rng;
use rand::rngs::StdRng;

use crate::model::{Effect, MERGE_DELETES};

/// One thing to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Sql(String),
    /// Rows for `COPY table (k, v) FROM STDIN`.
    Copy(Vec<(i64, i64)>),
}

/// Steps that do one thing together, or nothing.
#[derive(Clone, Debug)]
pub struct Unit {
    pub steps: Vec<Step>,
    /// What they do once the last one is acknowledged; `None` where that is nothing.
    pub effect: Option<Effect>,
    /// Whether the last step reads the table.
    pub reads: bool,
}

/// Where units come from.
#[derive(Debug)]
pub struct Source {
    table: String,
    first: i64,
    next: i64,
    added: Vec<String>,
    /// Whether `k` is the table's key.
    keyed: bool,
    /// Whether columns come and go.
    pub reshapes: bool,
}

impl Source {
    /// For a table of that name, with the columns `k` and `v`.
    pub fn new(table: &str) -> Source {
        Source::starting_at(table, 0)
    }

    /// The same, with numbers above `first`, where several clients have a source each.
    pub fn starting_at(table: &str, first: i64) -> Source {
        let (table, added) = (table.to_owned(), Vec::new());
        Source { table, first, next: first, added, keyed: false, reshapes: true }
    }

    /// The same for a table whose key is `k`.
    #[must_use]
    pub fn keyed(self) -> Source {
        Source { keyed: true, ..self }
    }

    pub fn create(&self) -> String {
        let key = if self.keyed { " PRIMARY KEY" } else { "" };
        format!("CREATE TABLE {} (k bigint{key}, v bigint)", self.table)
    }

    /// The next thing to do.
    pub fn unit(&mut self, random: &mut StdRng) -> Unit {
        match random.random_range(0..100) {
            0..12 => self.read(),
            12..24 => self.copied(random),
            24..40 => self.block(random),
            40..48 => self.compacted(),
            _ => {
                let effect = self.effect(random);
                let steps = vec![Step::Sql(self.sql(&effect))];
                Unit { steps, effect: Some(effect), reads: false }
            }
        }
    }

    /// Rows that are not there yet.
    pub fn insert(&mut self, random: &mut StdRng) -> Effect {
        Effect::Insert(self.rows(random))
    }

    /// The statement that does `effect`; a block has none.
    pub fn sql(&self, effect: &Effect) -> String {
        let table = &self.table;
        match effect {
            Effect::Insert(rows) => {
                format!("INSERT INTO {table} (k, v) VALUES {}", listed(rows))
            }
            Effect::Upsert(rows) => format!(
                "INSERT INTO {table} (k, v) VALUES {} \
                 ON CONFLICT (k) DO UPDATE SET v = excluded.v",
                listed(rows)
            ),
            Effect::Merge(rows) => format!(
                "MERGE INTO {table} AS t USING (VALUES {}) AS n (k, v) ON t.k = n.k \
                 WHEN MATCHED AND t.v % {MERGE_DELETES} = 0 THEN DELETE \
                 WHEN MATCHED THEN UPDATE SET v = n.v \
                 WHEN NOT MATCHED THEN INSERT (k, v) VALUES (n.k, n.v)",
                listed(rows)
            ),
            Effect::Update { value, modulus, remainder } => {
                format!("UPDATE {table} SET v = {value} WHERE k % {modulus} = {remainder}")
            }
            Effect::Delete { modulus, remainder } => {
                format!("DELETE FROM {table} WHERE k % {modulus} = {remainder}")
            }
            Effect::Truncate => format!("TRUNCATE {table}"),
            Effect::AddColumn { name, default: None } => {
                format!("ALTER TABLE {table} ADD COLUMN {name} bigint")
            }
            Effect::AddColumn { name, default: Some(default) } => {
                format!("ALTER TABLE {table} ADD COLUMN {name} bigint DEFAULT {default}")
            }
            Effect::DropColumn { name } => format!("ALTER TABLE {table} DROP COLUMN {name}"),
            Effect::RenameColumn { from, to } => {
                format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}")
            }
            Effect::Block(effects) => {
                let effects: Vec<String> = effects.iter().map(|it| self.sql(it)).collect();
                effects.join("; ")
            }
        }
    }

    fn read(&self) -> Unit {
        let steps = vec![Step::Sql(format!("SELECT * FROM {}", self.table))];
        Unit { steps, effect: None, reads: true }
    }

    /// Files put together, which changes no row.
    fn compacted(&self) -> Unit {
        let steps = vec![Step::Sql(format!("CALL kho.compact_table('{}')", self.table))];
        Unit { steps, effect: None, reads: false }
    }

    fn copied(&mut self, random: &mut StdRng) -> Unit {
        let rows = self.rows(random);
        let steps = vec![Step::Copy(rows.clone())];
        Unit { steps, effect: Some(Effect::Insert(rows)), reads: false }
    }

    /// A block that is committed, or rolled back.
    fn block(&mut self, random: &mut StdRng) -> Unit {
        let mut steps = vec![Step::Sql("BEGIN".to_owned())];
        let effect = self.change(random);
        if let Effect::Insert(rows) = &effect
            && random.random_bool(0.3)
        {
            steps.push(Step::Copy(rows.clone()));
        } else {
            steps.push(Step::Sql(self.sql(&effect)));
        }
        let committed = random.random_bool(0.8);
        let end = if committed { "COMMIT" } else { "ROLLBACK" };
        steps.push(Step::Sql(end.to_owned()));
        let effect = committed.then(|| Effect::Block(vec![effect]));
        Unit { steps, effect, reads: false }
    }

    /// One statement that writes.
    pub fn effect(&mut self, random: &mut StdRng) -> Effect {
        let kind = random.random_range(0..100);
        if kind < 75 || !self.reshapes {
            return self.change(random);
        }
        let known = match self.added.len() {
            0 => None,
            count => self.added.get(random.random_range(0..count)).cloned(),
        };
        match (kind, known) {
            (75..80, Some(name)) => Effect::DropColumn { name },
            (80..87, Some(from)) => {
                let to = format!("d{}", self.number());
                self.added.push(to.clone());
                Effect::RenameColumn { from, to }
            }
            _ => {
                let name = format!("c{}", self.number());
                self.added.push(name.clone());
                let default = random.random_bool(0.5).then(|| self.number());
                Effect::AddColumn { name, default }
            }
        }
    }

    /// One statement that changes rows.
    pub fn change(&mut self, random: &mut StdRng) -> Effect {
        let modulus = random.random_range(2..5);
        let remainder = random.random_range(0..modulus);
        match random.random_range(0..100) {
            0..42 => self.insert(random),
            42..52 => Effect::Merge(self.known(random)),
            52..60 if self.keyed => Effect::Upsert(self.known(random)),
            52..60 => self.insert(random),
            60..82 => Effect::Update { value: self.number(), modulus, remainder },
            82..95 => Effect::Delete { modulus, remainder },
            _ => Effect::Truncate,
        }
    }

    fn rows(&mut self, random: &mut StdRng) -> Vec<(i64, i64)> {
        let count = random.random_range(1..4);
        let again = self.keyed && random.random_bool(0.15);
        let first = if again { self.some(random) } else { self.number() };
        let rest = (1..count).map(|_| self.number());
        let keys: Vec<i64> = std::iter::once(first).chain(rest).collect();
        keys.into_iter().map(|k| (k, random.random_range(0..10))).collect()
    }

    /// Rows with different `k`, some of which may be there, and with a `v` of their own.
    fn known(&mut self, random: &mut StdRng) -> Vec<(i64, i64)> {
        let count = random.random_range(1..4);
        let keys: BTreeSet<i64> = (0..count).map(|_| self.some(random)).collect();
        keys.into_iter().map(|k| (k, self.number())).collect()
    }

    /// A number that was given out, or one that was not.
    fn some(&mut self, random: &mut StdRng) -> i64 {
        match random.random_bool(0.7) {
            true => self.first + random.random_range(1..=(self.next - self.first).max(1)),
            false => self.number(),
        }
    }

    fn number(&mut self) -> i64 {
        self.next += 1;
        self.next
    }
}

/// Rows as `VALUES` lists them.
fn listed(rows: &[(i64, i64)]) -> String {
    let rows: Vec<String> = rows.iter().map(|(k, v)| format!("({k}, {v})")).collect();
    rows.join(", ")
}
