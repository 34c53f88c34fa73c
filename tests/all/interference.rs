//! What a role may not see changes nothing that it can observe.
//!
//! What it is: two warehouses that are alike but for hidden rows and masked values. Random queries
//! over both protocols must give the same rows, types, tags, errors, notices and plans on both
//! (non-interference), and the rows that the owner gets from a table of the visible, masked rows
//! alone (equivalence).
//! What it guarantees: that the same queries tell two warehouses apart where a plain filter stands in
//! place of the barrier: a view that its own owner reads is one.
//! What it does not: the order of rows that a query does not order, and time, are no observables.

mod queries;
mod world;

use kho_tests::flight::Flight;
use kho_tests::kho::Kho;
use kho_tests::seeds;
use kho_tests::wire::{Answer, Error, Wire};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::queries::Query;
use self::world::World;

/// Queries about one pair of tables.
const QUERIES: u64 = 50;
/// Pairs of servers beside each other.
const WORKERS: usize = 2;

/// Everything that a client sees of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Answer {
        columns: Vec<(String, u32)>,
        rows: Vec<Vec<Option<String>>>,
        copied: Vec<String>,
        tag: String,
    },
    Error {
        sqlstate: String,
        message: String,
        detail: Option<String>,
        hint: Option<String>,
    },
}

/// How a statement is sent.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Text,
    Binary,
}

#[test]
fn hidden_rows_and_masked_values_change_nothing_that_can_be_observed() {
    let pairs = seeds::from_environment("KHO_INTERFERENCE_PAIRS", 2_000_u64);
    let worlds = pairs.div_ceil(QUERIES);
    let found: Vec<Found> = std::thread::scope(|scope| {
        let part = |first: u64| scope.spawn(move || compare((first..worlds).step_by(WORKERS)));
        let workers: Vec<_> = (0..WORKERS as u64).map(part).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let failures: Vec<&String> = found.iter().flat_map(|it| &it.differ).collect();
    let told: Vec<_> = failures.iter().take(5).collect();
    assert!(failures.is_empty(), "{} differ: {told:#?}", failures.len());
    // Of queries that all fail, or none, nothing is learnt.
    let count = |of: fn(&Found) -> u64| found.iter().map(of).sum::<u64>();
    let (answered, failed) = (count(|it| it.answered), count(|it| it.failed));
    assert!(answered > pairs / 3 && failed > pairs / 20, "{answered} answers, {failed} errors");
}

/// What came of some worlds.
#[derive(Default)]
struct Found {
    differ: Vec<String>,
    answered: u64,
    /// Statements that failed on a row.
    failed: u64,
}

/// Two servers, and everything about the worlds of these seeds.
fn compare(seeds: impl Iterator<Item = u64>) -> Found {
    let (one, other) = (Kho::start(), Kho::start());
    let mut found = Found::default();
    for seed in seeds {
        let world = World::new(seed);
        let (mut here, mut there) = (reader(&one, &world, 0), reader(&other, &world, 1));
        let (mut here_flies, mut there_flies) = (one.fly("reader"), other.fly("reader"));
        let mut owner = one.admin();
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        for number in 0..QUERIES {
            let query = Query::random(&mut random, &world);
            let statement = query.text(&world.table);
            let about = format!("seed {seed}, query {number}: {statement}\n  {}", world.policy);
            let seen = see(&mut here, &statement, &query, Protocol::Text);
            let also = see(&mut there, &statement, &query, Protocol::Text);
            if seen != also {
                found.differ.push(format!("{about}\n  one: {seen:?}\n  other: {also:?}"));
            }
            let binary = see(&mut here, &statement, &query, Protocol::Binary);
            let also = see(&mut there, &statement, &query, Protocol::Binary);
            if binary != also {
                found.differ.push(format!("{about}\n  binary: {binary:?}\n  other: {also:?}"));
            }
            let flown = see_over_flight(&mut here_flies, &statement, &query);
            let also = see_over_flight(&mut there_flies, &statement, &query);
            if flown != also {
                found.differ.push(format!("{about}\n  flight: {flown:?}\n  other: {also:?}"));
            }
            match &seen {
                Seen::Answer { .. } => found.answered += 1,
                Seen::Error { sqlstate, .. } => {
                    found.failed += u64::from(sqlstate.starts_with("22"))
                }
            }
            if query.is_read {
                let expected = query.text(&world.visible);
                let expected = see(&mut owner, &expected, &query, Protocol::Text);
                if !seen.is_as_good_as(&expected) {
                    found
                        .differ
                        .push(format!("{about}\n  seen: {seen:?}\n  expected: {expected:?}"));
                }
            }
        }
    }
    found
}

#[test]
fn the_same_queries_tell_two_warehouses_apart_where_a_filter_stands_for_the_barrier() {
    // As many as the suite has by default, whatever a run is told: three are enough to end.
    let pairs = 2_000_u64;
    let (one, other) = (Kho::start(), Kho::start());
    let mut told_apart = 0;
    for seed in 0..pairs.div_ceil(QUERIES) {
        let world = World::new(seed);
        let (mut here, mut there) = (leaker(&one, &world, 0), leaker(&other, &world, 1));
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        for _ in 0..QUERIES {
            let query = Query::random(&mut random, &world);
            let statement = query.text(&world.leaky);
            if query.is_read {
                let seen = see(&mut here, &statement, &query, Protocol::Text);
                told_apart +=
                    u64::from(seen != see(&mut there, &statement, &query, Protocol::Text));
            }
        }
        if told_apart >= 3 {
            return;
        }
    }
    panic!("the queries bite too little: {told_apart} of {pairs} told the two apart");
}

/// A session of the role that the policies are about, on a server with the world's tables.
fn reader(kho: &Kho, world: &World, which: usize) -> Wire {
    let mut admin = kho.admin();
    let is_first = admin.value("SELECT count(*) FROM pg_roles WHERE rolname = 'reader'") == "0";
    for statement in world.setup(which, is_first) {
        admin.run(&statement);
    }
    kho.connect("reader")
}

/// A session of the role that owns the leaky view and what it reads.
fn leaker(kho: &Kho, world: &World, which: usize) -> Wire {
    let mut admin = kho.admin();
    for statement in world.setup_leaky(which) {
        admin.run(&statement);
    }
    kho.connect("leaker")
}

fn see(wire: &mut Wire, statement: &str, query: &Query, protocol: Protocol) -> Seen {
    for before in &query.before {
        let _ = wire.simple(&before.replace("{statement}", statement));
    }
    let sent = match query.before.is_empty() {
        true => statement,
        false => &query.main.replace("{statement}", statement),
    };
    let answer = match protocol {
        Protocol::Text => wire.simple(sent).map(|mut answers| answers.pop().unwrap_or_default()),
        Protocol::Binary => wire.binary(sent),
    };
    for after in &query.after {
        let _ = wire.simple(after);
    }
    seen(answer, statement, query)
}

/// The same over Flight, where `COPY` is refused and nothing else is.
fn see_over_flight(flight: &mut Flight, statement: &str, query: &Query) -> Seen {
    for before in &query.before {
        let _ = flight.run(&before.replace("{statement}", statement));
    }
    let sent = match query.before.is_empty() {
        true => statement,
        false => &query.main.replace("{statement}", statement),
    };
    let answer = flight.run(sent);
    for after in &query.after {
        let _ = flight.run(after);
    }
    seen(answer, statement, query)
}

fn seen(answer: Result<Answer, Error>, statement: &str, query: &Query) -> Seen {
    match answer {
        Ok(answer) => Seen::of(answer, query),
        Err(Error::Server(error)) => Seen::Error {
            sqlstate: error.sqlstate,
            message: error.message,
            detail: error.detail,
            hint: error.hint,
        },
        Err(Error::Io(error)) => panic!("{statement}: {error}"),
    }
}

impl Seen {
    fn of(answer: Answer, query: &Query) -> Seen {
        let Answer { columns, mut rows, copied, tag, .. } = answer;
        let copied = String::from_utf8_lossy(&copied).into_owned();
        let mut copied: Vec<String> = copied.lines().map(str::to_owned).collect();
        if !query.is_ordered {
            rows.sort();
            copied.sort();
        }
        Seen::Answer { columns, rows, copied, tag }
    }

    /// The same rows; an error need only be one too, since its text may name the table.
    fn is_as_good_as(&self, expected: &Seen) -> bool {
        match (self, expected) {
            (Seen::Error { sqlstate, .. }, Seen::Error { sqlstate: expected, .. }) => {
                sqlstate == expected
            }
            _ => self == expected,
        }
    }
}
