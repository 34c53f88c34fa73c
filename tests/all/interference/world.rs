//! Two tables that are alike for one role: the same visible rows with masked values that look the
//! same, and hidden rows that have nothing in common.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Values that make an expression of some query fail, if a hidden row has them.
pub const TRAPS: &[i32] = &[0, 7, 90_000];

/// One pair of tables, and the policy and masks on them.
pub struct World {
    /// The table, as `schema.name`.
    pub table: String,
    /// What the role may see of it, as a table of its own.
    pub visible: String,
    /// The same as a view that a plain filter makes.
    pub leaky: String,
    pub policy: &'static str,
    restrictive: Option<&'static str>,
    number: u64,
    rows: [Vec<Row>; 2],
}

#[derive(Clone, Debug)]
struct Row {
    id: i32,
    ward: Option<&'static str>,
    n: Option<i32>,
    name: String,
    m: i32,
    /// Whether it comes with the second version.
    late: bool,
}

type Visible = fn(&Row) -> bool;

/// What may be seen: as a policy, and as a function.
const POLICIES: &[(&str, Visible)] = &[
    ("ward = 'a'", |row| row.ward == Some("a")),
    ("ward IN ('a', 'b')", |row| matches!(row.ward, Some("a" | "b"))),
    ("ward IS NULL OR ward = 'b'", |row| matches!(row.ward, None | Some("b"))),
    ("n BETWEEN 10 AND 60", |row| row.n.is_some_and(|n| (10..=60).contains(&n))),
    ("ward = kho.role_attribute('ward')", |row| row.ward == Some("a")),
    ("ward IN (SELECT c.ward FROM w.charge c WHERE c.who = current_user)", |row| {
        row.ward == Some("b")
    }),
    ("CASE WHEN ward = 'c' THEN n > 50 ELSE ward = 'a' END", |row| match row.ward {
        Some("c") => row.n.is_some_and(|n| n > 50),
        ward => ward == Some("a"),
    }),
];
const RESTRICTIVE: &[(&str, Visible)] =
    &[("n > 20", |row| row.n.is_some_and(|n| n > 20)), ("id <> 5", |row| row.id != 5)];

/// What of `name` and `m` is shown.
const NAME_MASK: &str = "left(value, 1) || '***'";
const M_MASK: &str = "kho.bucket(value, 10)";

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let (policy, visible) = POLICIES.choose(&mut random).copied().unwrap();
        let restrictive =
            random.random_bool(0.4).then(|| *RESTRICTIVE.choose(&mut random).unwrap());
        let is_visible =
            |row: &Row| visible(row) && restrictive.is_none_or(|(_, holds)| holds(row));
        let mut shown: Vec<Row> = Vec::new();
        for id in 0..random.random_range(0..20) {
            let row = Row::random(&mut random, id);
            if is_visible(&row) {
                shown.push(row);
            }
        }
        let rows = [0, 1].map(|which| {
            let mut rows: Vec<Row> = shown.iter().map(|row| row.unmasked(&mut random)).collect();
            let hidden = random.random_range(0..if which == 0 { 4 } else { 40 });
            for id in 0..hidden {
                let row = Row::random(&mut random, 1_000 + id);
                if !is_visible(&row) {
                    let place = random.random_range(0..=rows.len());
                    rows.insert(place, row);
                }
            }
            rows
        });
        World {
            table: format!("w.t{seed}"),
            visible: format!("w.e{seed}"),
            leaky: format!("leaky.l{seed}"),
            policy,
            restrictive: restrictive.map(|(text, _)| text),
            number: seed,
            rows,
        }
    }

    /// The statements that make the table of one of the two warehouses, and where it `is_first`, what
    /// all of its tables need.
    pub fn setup(&self, which: usize, is_first: bool) -> Vec<String> {
        let (table, visible, policy) = (&self.table, &self.visible, self.policy);
        let mut all: Vec<String> = Vec::new();
        if is_first {
            all.extend(
                [
                    "CREATE SCHEMA w",
                    "CREATE ROLE reader LOGIN PASSWORD 'reader'",
                    "GRANT USAGE ON SCHEMA w TO reader",
                    "CREATE TABLE w.charge (who text, ward text)",
                    "INSERT INTO w.charge VALUES ('reader', 'b'), ('other', 'a')",
                    "GRANT SELECT ON w.charge TO reader",
                    "CALL kho.set_role_attribute(role => 'reader', name => 'ward', value => 'a')",
                ]
                .map(str::to_owned),
            );
        }
        all.extend(self.table_and_rows(table, which));
        all.push(format!("CREATE POLICY p ON {table} USING ({policy})"));
        if let Some(text) = self.restrictive {
            all.push(format!("CREATE POLICY r ON {table} AS RESTRICTIVE USING ({text})"));
        }
        all.push(format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"));
        for (column, mask) in [("name", NAME_MASK), ("m", M_MASK)] {
            all.push(format!(
                "CALL kho.set_mask(dataset => '{table}', column => '{column}', using => $${mask}$$, \
                 except_roles => 'admin')"
            ));
        }
        all.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO reader"));
        let seen = self.seen(table).replace("kho.role_attribute('ward')", "'a'");
        let seen = seen.replace("current_user", "'reader'");
        all.push(format!("CREATE TABLE {visible} AS {seen}"));
        all
    }

    /// The statements that make a leaky view of the same rows.
    pub fn setup_leaky(&self, which: usize) -> Vec<String> {
        let table = format!("leaky.u{}", self.number);
        let mut all: Vec<String> = Vec::new();
        if self.number == 0 {
            all.extend(
                [
                    "CREATE ROLE leaker LOGIN PASSWORD 'leaker'",
                    "GRANT leaker TO admin",
                    "CREATE SCHEMA w",
                    "GRANT USAGE ON SCHEMA w TO leaker",
                    "CREATE TABLE w.charge (who text, ward text)",
                    "INSERT INTO w.charge VALUES ('leaker', 'b'), ('other', 'a')",
                    "GRANT SELECT ON w.charge TO leaker",
                    "CREATE SCHEMA leaky AUTHORIZATION leaker",
                ]
                .map(str::to_owned),
            );
        }
        all.extend(self.table_and_rows(&table, which));
        let seen = self.seen(&table).replace("kho.role_attribute('ward')", "'a'");
        all.push(format!("ALTER TABLE {table} OWNER TO leaker"));
        all.push(format!("CREATE VIEW {} AS {seen}", self.leaky));
        all.push(format!("ALTER VIEW {} OWNER TO leaker", self.leaky));
        all
    }

    fn table_and_rows(&self, table: &str, which: usize) -> Vec<String> {
        let rows = self.rows.get(which).map(Vec::as_slice).unwrap_or_default();
        let mut all = vec![format!(
            "CREATE TABLE {table} (id integer, ward text, n integer, name text, m integer)"
        )];
        // Both have as many versions.
        for late in [false, true] {
            let part = rows.iter().filter(|row| row.late == late);
            // A version without rows would be none; this row is in both.
            let nothing = std::iter::once("(-1, NULL, NULL, '', 0)".to_owned());
            let values: Vec<String> = nothing.chain(part.map(Row::values)).collect();
            all.push(format!("INSERT INTO {table} VALUES {}", values.join(", ")));
        }
        // What stands for nothing is gone again, in both.
        all.push(format!("DELETE FROM {table} WHERE id = -1"));
        all
    }

    fn seen(&self, table: &str) -> String {
        let name = NAME_MASK.replace("value", "name");
        let m = M_MASK.replace("value", "m");
        let restrictive = self.restrictive.unwrap_or("true");
        format!(
            "SELECT id, ward, n, {name} AS name, {m} AS m FROM {table} WHERE ({}) AND ({restrictive})",
            self.policy
        )
    }
}

impl Row {
    fn random(random: &mut StdRng, id: i32) -> Row {
        let n = match random.random_range(0..10) {
            0 => None,
            1..=3 => TRAPS.choose(random).copied(),
            _ => Some(random.random_range(1..100)),
        };
        let first = ['A', '1', '7'].choose(random).copied().unwrap_or('A');
        Row {
            id,
            ward: [Some("a"), Some("b"), Some("c"), None].choose(random).copied().flatten(),
            n,
            name: format!("{first}{}", random.random_range(0..1000)),
            m: random.random_range(0..100),
            late: random.random_bool(0.5),
        }
    }

    /// Another row that looks the same behind the masks.
    fn unmasked(&self, random: &mut StdRng) -> Row {
        let first = self.name.chars().next().unwrap_or('A');
        let name = format!("{first}{}", random.random_range(0..1000));
        let m = self.m - self.m % 10 + random.random_range(0..10);
        Row { name, m, ..self.clone() }
    }

    fn values(&self) -> String {
        let text = |value: Option<&str>| value.map_or("NULL".to_owned(), |it| format!("'{it}'"));
        let n = self.n.map_or("NULL".to_owned(), |n| n.to_string());
        format!("({}, {}, {n}, '{}', {})", self.id, text(self.ward), self.name, self.m)
    }
}
