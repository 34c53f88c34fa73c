//! A simple model of versioned tables: what statements do to rows, and nothing else.
//!
//! What it is: [`Rows`] is one version of a table, [`Effect`] what a statement does to it;
//! [`explain`] says whether a history of versions is what acknowledged statements make of it.
//! What it guarantees: it is written without Kho: rows are sorted lists in memory.
//! What it does not: it knows numbers alone, and tables whose first columns are `k` and `v`.

use std::collections::BTreeSet;

/// A value; NULL is `None`.
pub type Value = Option<i64>;

/// One version of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    columns: Vec<Column>,
    /// Whether no two rows may have the same `k`.
    keyed: bool,
    /// Sorted: a table is a multiset.
    rows: Vec<Vec<Value>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    default: Value,
}

/// What one statement does to a table. `k` and `v` are never dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `INSERT INTO t (k, v) VALUES …`, or `COPY`.
    Insert(Vec<(i64, i64)>),
    /// `UPDATE t SET v = … WHERE k % modulus = remainder`.
    Update {
        value: i64,
        modulus: i64,
        remainder: i64,
    },
    /// `DELETE FROM t WHERE k % modulus = remainder`.
    Delete {
        modulus: i64,
        remainder: i64,
    },
    /// `INSERT … ON CONFLICT (k) DO UPDATE SET v = excluded.v`, for a table whose key is `k`.
    Upsert(Vec<(i64, i64)>),
    /// `MERGE` of rows with different `k`: those found are deleted where `v` is a multiple of
    /// [`MERGE_DELETES`] and else get a new `v`, the others are inserted.
    Merge(Vec<(i64, i64)>),
    Truncate,
    AddColumn {
        name: String,
        default: Value,
    },
    DropColumn {
        name: String,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    /// Several statements in one block.
    Block(Vec<Effect>),
}

/// See [`Effect::Merge`].
pub const MERGE_DELETES: i64 = 3;

/// What a statement comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// As its command tag says, where that says it.
    pub rows: Option<u64>,
    /// Whether there is a new version.
    pub commits: bool,
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged; with how many rows, where it says so.
    Done(Option<u64>),
    /// It may have been done, whole, or not at all.
    Unknown,
}

/// A statement and what became of it. Those that were refused for good are not told of.
#[derive(Clone, Debug)]
pub struct Told {
    pub effect: Effect,
    pub fate: Fate,
    /// By one clock for all clients: of two statements, one that ended before the other began came
    /// first.
    pub begun: u64,
    pub ended: u64,
}

impl Rows {
    /// What was read of a table.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>, mut rows: Vec<Vec<Value>>) -> Rows {
        let column = |name: &str| Column { name: name.to_owned(), default: None };
        rows.sort();
        Rows { columns: names.into_iter().map(column).collect(), keyed: false, rows }
    }

    /// The same of a table whose key is `k`.
    #[must_use]
    pub fn keyed(self) -> Rows {
        Rows { keyed: true, ..self }
    }

    pub fn is_keyed(&self) -> bool {
        self.keyed
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    pub fn rows(&self) -> &[Vec<Value>] {
        &self.rows
    }

    /// Whether a reader would see no difference.
    pub fn reads_as(&self, other: &Rows) -> bool {
        self.rows == other.rows && self.names().eq(other.names())
    }

    /// What becomes of it, and how much was touched. `None` where the statement would be refused,
    /// as for a column that is not there.
    pub fn after(&self, effect: &Effect) -> Option<(Rows, Touched)> {
        let mut next = self.clone();
        let touched = match effect {
            Effect::Insert(rows) => {
                let keys: BTreeSet<i64> = rows.iter().map(|(k, _)| *k).collect();
                let is_new = keys.len() == rows.len() && !keys.iter().any(|k| self.has(*k));
                if self.keyed && !is_new {
                    return None;
                }
                next.rows.extend(rows.iter().map(|row| self.whole(*row)));
                Touched::rows(rows.len())
            }
            Effect::Upsert(rows) => {
                for row in rows {
                    match next.rows.iter_mut().find(|it| it[0] == Some(row.0)) {
                        Some(found) => found[1] = Some(row.1),
                        None => next.rows.push(self.whole(*row)),
                    }
                }
                Touched::rows(rows.len())
            }
            Effect::Merge(rows) => Touched::rows(next.merge(self, rows)),
            Effect::Update { value, modulus, remainder } => {
                let found = next.rows.iter_mut().filter(|row| hit(row, *modulus, *remainder));
                Touched::rows(found.map(|row| row[1] = Some(*value)).count())
            }
            Effect::Delete { modulus, remainder } => {
                next.rows.retain(|row| !hit(row, *modulus, *remainder));
                Touched::rows(self.rows.len() - next.rows.len())
            }
            Effect::Truncate => {
                next.rows.clear();
                Touched { rows: None, commits: !self.rows.is_empty() }
            }
            Effect::AddColumn { .. } | Effect::DropColumn { .. } | Effect::RenameColumn { .. } => {
                next.reshape(effect)?;
                Touched { rows: None, commits: true }
            }
            Effect::Block(effects) => {
                let mut commits = false;
                for effect in effects {
                    let (after, touched) = next.after(effect)?;
                    commits |= touched.commits;
                    next = after;
                }
                Touched { rows: None, commits }
            }
        };
        next.rows.sort();
        Some((next, touched))
    }

    fn has(&self, k: i64) -> bool {
        self.rows.iter().any(|row| row[0] == Some(k))
    }

    /// Merges into what is `before`; gives how many rows were touched.
    fn merge(&mut self, before: &Rows, given: &[(i64, i64)]) -> usize {
        let mut touched = 0;
        for row in given {
            if !before.has(row.0) {
                self.rows.push(self.whole(*row));
                touched += 1;
            }
        }
        self.rows.retain_mut(|row| {
            let found = given.iter().find(|it| row[0] == Some(it.0) && before.has(it.0));
            let Some((_, v)) = found else { return true };
            touched += 1;
            let stays = row[1].is_none_or(|v| v % MERGE_DELETES != 0);
            row[1] = Some(*v);
            stays
        });
        touched
    }

    /// A row of which `k` and `v` are given.
    fn whole(&self, (k, v): (i64, i64)) -> Vec<Value> {
        let defaults = self.columns.iter().skip(2).map(|column| column.default);
        [Some(k), Some(v)].into_iter().chain(defaults).collect()
    }

    fn reshape(&mut self, effect: &Effect) -> Option<()> {
        let place = |wanted: &str| self.columns.iter().position(|it| it.name == wanted);
        match effect {
            Effect::AddColumn { name, default } => {
                if place(name).is_some() {
                    return None;
                }
                self.columns.push(Column { name: name.clone(), default: *default });
                self.rows.iter_mut().for_each(|row| row.push(*default));
            }
            Effect::DropColumn { name } => {
                let place = place(name)?;
                self.columns.remove(place);
                for row in &mut self.rows {
                    row.remove(place);
                }
            }
            Effect::RenameColumn { from, to } => {
                if place(to).is_some() {
                    return None;
                }
                let place = place(from)?;
                self.columns[place].name.clone_from(to);
            }
            _ => return None,
        }
        Some(())
    }
}

impl Touched {
    fn rows(rows: usize) -> Touched {
        Touched { rows: Some(rows as u64), commits: rows > 0 }
    }

    /// Whether it is what the client was told.
    fn is_told_as(self, fate: Fate) -> bool {
        match (fate, self.rows) {
            (Fate::Done(Some(told)), Some(rows)) => told == rows,
            _ => true,
        }
    }
}

fn hit(row: &[Value], modulus: i64, remainder: i64) -> bool {
    row[0].is_some_and(|k| k % modulus == remainder)
}

/// Whether `versions`, the first of which is given, are what the statements of `told` make: each
/// acknowledged one once and in its turn, each unknown one once or never.
///
/// # Errors
/// What is wrong, for whoever reads the test's output.
pub fn explain(versions: &[Rows], told: &[Told]) -> Result<(), String> {
    let Some(first) = versions.first() else { return Err("there is no version".to_owned()) };
    let (unused, mut search) = (
        Path { used: vec![false; told.len()], idle: vec![false; told.len()] },
        Search { versions, told, dead: BTreeSet::new() },
    );
    if search.goes_on(first, 1, unused) {
        return Ok(());
    }
    let furthest = search.dead.iter().map(|(place, _)| *place).max().unwrap_or(1);
    let shown = versions.iter().enumerate().map(|(version, rows)| {
        let names: Vec<&str> = rows.names().collect();
        let rows: Vec<String> = rows.rows.iter().map(|row| format!("{row:?}")).collect();
        format!("  {version}: ({}) {}", names.join(", "), rows.join(" ").replace("Some", ""))
    });
    let told: Vec<String> = told.iter().map(|it| format!("  {it:?}")).collect();
    Err(format!(
        "version {furthest} is not what a statement made of the one before, or one is missing:\n\
         {}\nstatements:\n{}",
        shown.collect::<Vec<_>>().join("\n"),
        told.join("\n")
    ))
}

/// What is explained so far.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    used: Vec<bool>,
    /// Those that, in their turn, had nothing to do.
    idle: Vec<bool>,
}

struct Search<'a> {
    versions: &'a [Rows],
    told: &'a [Told],
    /// From where no way leads on.
    dead: BTreeSet<(usize, Path)>,
}

impl Search<'_> {
    /// Whether `now`, which explains the versions before `place`, leads to all of them.
    fn goes_on(&mut self, now: &Rows, place: usize, mut path: Path) -> bool {
        self.note_idle(now, &mut path);
        let key = (place, path);
        if self.dead.contains(&key) {
            return false;
        }
        let path = &key.1;
        let goes_on = match self.versions.get(place) {
            None => self.is_due(path, u64::MAX),
            Some(wanted) => {
                // Acknowledged ones first: they have to find a place.
                let mut order: Vec<usize> =
                    (0..self.told.len()).filter(|it| !path.used[*it]).collect();
                order.sort_by_key(|index| self.told[*index].fate == Fate::Unknown);
                order.into_iter().any(|index| self.makes(index, now, wanted, place, path))
            }
        };
        if !goes_on {
            self.dead.insert(key);
        }
        goes_on
    }

    /// Whether the statement `index` made the version `wanted` of `now`, and it goes on from there.
    fn makes(
        &mut self,
        index: usize,
        now: &Rows,
        wanted: &Rows,
        place: usize,
        path: &Path,
    ) -> bool {
        let it = &self.told[index];
        let Some((next, touched)) = now.after(&it.effect) else { return false };
        let fits = touched.commits && touched.is_told_as(it.fate) && next.reads_as(wanted);
        if !fits || !self.is_due(path, it.begun) {
            return false;
        }
        let mut path = path.clone();
        path.used[index] = true;
        self.goes_on(&next, place + 1, path)
    }

    /// Notes which statements find nothing to do at `now`, and may have come by now.
    fn note_idle(&self, now: &Rows, path: &mut Path) {
        for (index, it) in self.told.iter().enumerate() {
            let idle = || {
                let touched = now.after(&it.effect).map(|(_, touched)| touched);
                touched.is_some_and(|touched| !touched.commits && touched.is_told_as(it.fate))
            };
            if it.fate != Fate::Unknown && !path.used[index] && !path.idle[index] && idle() {
                path.idle[index] = self.is_due(path, it.begun);
            }
        }
    }

    /// Whether every acknowledged statement that ended before `begun` is explained.
    fn is_due(&self, path: &Path, begun: u64) -> bool {
        self.told.iter().enumerate().all(|(index, it)| {
            let explained = path.used[index] || path.idle[index];
            explained || it.fate == Fate::Unknown || it.ended >= begun
        })
    }
}
