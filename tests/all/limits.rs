//! What one statement, one client or all of them may use up, and what happens beyond.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fallible_iterator::FallibleIterator;
use kho_tests::kho::{Folders, Kho};
use kho_tests::wire::{Target, Wire};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

const MEBIBYTE: u64 = 1 << 20;
/// No wait of these tests takes so long where the server does what it should.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server whose statements have `memory` mebibytes, and where it spills to.
fn start(memory: u64, more: &[(&str, &str)]) -> (Kho, PathBuf) {
    let folders = Folders::new();
    let spill = folders.spill();
    let memory = (memory * MEBIBYTE).to_string();
    let mut environment = vec![("KHO_LIMITS__MEMORY_BYTES", memory.as_str())];
    environment.extend_from_slice(more);
    (Kho::start_with(folders, &environment), spill)
}

/// Rows of about `width` bytes, as a subquery.
fn wide(rows: u64, width: u64) -> String {
    made_of("x", rows, width)
}

/// The same, whose text says what `number` is.
fn made_of(number: &str, rows: u64, width: u64) -> String {
    let times = width / 6;
    format!(
        "(SELECT x, repeat(lpad(({number})::text, 6, '0'), {times}) AS t \
         FROM generate_series(1, {rows}) AS g (x))"
    )
}

/// Nothing of what ran is left on disk, while the server runs.
fn nothing_is_spilled(spill: &Path) {
    let servers = std::fs::read_dir(spill).unwrap().map(|it| it.unwrap().path());
    let mut folders = 0;
    for folder in servers.flat_map(|it| std::fs::read_dir(it).unwrap()) {
        let left: Vec<_> = std::fs::read_dir(folder.unwrap().path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        folders += 1;
    }
    assert_eq!(folders, 2, "one of the statements', one of maintenance's");
}

/// `ORDER BY` over all rows, each of which the client sees and compares with the one before.
fn sorts_by_spilling(wire: &mut Wire, rows: u64, width: u64) {
    let large = made_of("x * 7919 % 1000003", rows, width);
    let statement = format!("SELECT t, x FROM {large} AS a ORDER BY t DESC, x");
    wire.send(|buffer| frontend::query(&statement, buffer)).unwrap();
    let (mut seen, mut sum) = (0, 0);
    let mut last: Option<(String, u64)> = None;
    loop {
        match wire.receive().unwrap() {
            Message::DataRow(body) => {
                let ranges: Vec<_> = body.ranges().collect().unwrap();
                let value = |column: usize| {
                    let range = ranges[column].clone().unwrap();
                    std::str::from_utf8(&body.buffer()[range]).unwrap()
                };
                let (t, x) = (value(0).to_owned(), value(1).parse::<u64>().unwrap());
                if let Some((before, earlier)) = &last {
                    assert!((before, x) > (&t, *earlier), "row {seen}: {x} is behind {earlier}");
                }
                (seen, sum, last) = (seen + 1, sum + x, Some((t, x)));
            }
            Message::ReadyForQuery(_) => break,
            Message::ErrorResponse(_) => panic!("refused after {seen} rows: {statement}"),
            _ => {}
        }
    }
    assert_eq!((seen, sum), (rows, rows * (rows + 1) / 2));
}

/// Groups, joins and windows over `rows`, and the numbers each must answer.
fn heavy(rows: u64, width: u64) -> Vec<(String, Vec<u64>)> {
    let (large, half) = (wide(rows, width), wide(rows / 2, width));
    let pairs = made_of("x / 2", rows, width);
    let length = width / 6 * 6;
    let sum = rows * (rows + 1) / 2;
    let joined = |join: &str| {
        format!(
            "SELECT count(*), count(b.t), coalesce(sum(a.x), 0), min(length(a.t)) \
             FROM {large} AS a {join} {half} AS b ON a.t = b.t"
        )
    };
    let half_sum = rows / 2 * (rows / 2 + 1) / 2;
    vec![
        (
            format!(
                "SELECT count(*), sum(c), sum(s), min(length(t)) FROM \
                 (SELECT t, count(*) AS c, sum(x) AS s FROM {pairs} AS a GROUP BY t) AS b"
            ),
            vec![rows / 2 + 1, rows, sum, length],
        ),
        (joined("JOIN"), vec![rows / 2, rows / 2, half_sum, length]),
        (
            format!(
                "SELECT count(*), max(n), min(length(t)) FROM (SELECT t, row_number() \
                 OVER (PARTITION BY x % 1000 ORDER BY t) AS n FROM {large} AS a) AS b"
            ),
            vec![rows, rows / 1000, length],
        ),
        (
            format!(
                "SELECT count(*), sum(length(m)) FROM \
                 (SELECT x, max(t) AS m FROM {large} AS a GROUP BY x) AS b"
            ),
            vec![rows, rows * length],
        ),
        (joined("FULL JOIN"), vec![rows, rows / 2, sum, length]),
        (
            format!(
                "SELECT count(*), sum(x) FROM {large} AS a WHERE t IN (SELECT t FROM {half} AS b)"
            ),
            vec![rows / 2, half_sum],
        ),
        (
            format!(
                "SELECT count(*), sum(x) FROM {large} AS a \
                 WHERE NOT EXISTS (SELECT FROM {half} AS b WHERE a.t = b.t)"
            ),
            vec![rows / 2, sum - half_sum],
        ),
    ]
}

/// A statement finishes with the right answer, and the server holds little more than it may.
fn ten_times_its_memory(memory: u64, width: u64, statements: usize) {
    let (mut kho, spill) = start(memory, &[]);
    let mut wire = kho.admin();
    wire.run("SELECT 1");
    let before = kho.process().peak_memory_bytes();
    let rows = (10 * memory * MEBIBYTE / width).next_multiple_of(2_000);
    sorts_by_spilling(&mut wire, rows, width);
    for (statement, answer) in heavy(rows, width).iter().take(statements) {
        let answers = wire.simple(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        let answer: Vec<_> = answer.iter().map(|number| Some(number.to_string())).collect();
        assert_eq!(answers[0].rows, [answer], "{statement}");
    }
    let grown = kho.process().peak_memory_bytes() - before;
    assert!(grown < (160 + 4 * memory) * MEBIBYTE, "{} MiB more memory", grown / MEBIBYTE);
    nothing_is_spilled(&spill);
}

#[test]
fn ten_times_a_small_memory_finishes_by_spilling() {
    ten_times_its_memory(16, 200, 3);
}

#[test]
fn ten_times_its_memory_of_wide_rows_finishes_by_spilling() {
    ten_times_its_memory(64, 2_000, usize::MAX);
}

/// What cannot be spilled is refused, and nothing else happens.
#[test]
fn what_must_be_held_at_once_is_refused_and_the_server_lives() {
    let (mut kho, spill) = start(16, &[]);
    let mut wire = kho.admin();
    wire.run("SELECT 1");
    let before = kho.process().peak_memory_bytes();
    let large = wide(800_000, 200);
    // The first two make much of little, and hold none of it.
    let finish = [
        "SELECT count(*) FROM generate_series(1, 3000000) AS g (x)",
        "SELECT sum(length(repeat('x', 10000))) / 1000 FROM generate_series(1, 300000) AS g (x)",
    ];
    for statement in finish {
        assert_eq!(wire.value(statement), "3000000", "{statement}");
    }
    let refused = [
        format!("SELECT max(t || s) FROM (SELECT sum(x) OVER () AS s, t FROM {large} AS a) AS b"),
        format!("SELECT cardinality(array_agg(t)) FROM {large} AS a"),
        format!("SELECT length(string_agg(t, ',')) FROM {large} AS a"),
        format!("SELECT count(*), max(a.t), max(b.t) FROM {large} AS a CROSS JOIN {large} AS b"),
        "SELECT length(repeat('x', 1000000000))".to_owned(),
        "SELECT cardinality(generate_series(1, 1000000000))".to_owned(),
    ];
    for statement in &refused {
        let error = wire.refusal(statement);
        assert_eq!(error.sqlstate, "53200", "{statement}: {error}");
        let hint = error.hint.as_deref().unwrap_or_default();
        assert!(hint.starts_with("Make the statement smaller"), "{statement}: {error}");
        assert!(hint.contains("or raise limits."), "{statement}: {error}");
        assert_eq!(wire.value("SELECT 1"), "1");
    }
    let grown = kho.process().peak_memory_bytes() - before;
    assert!(grown < 256 * MEBIBYTE, "{} MiB more memory", grown / MEBIBYTE);
    nothing_is_spilled(&spill);
}

/// One statement does not get what all have together.
#[test]
fn a_statement_has_a_limit_of_its_own() {
    let (kho, _) = start(4096, &[("KHO_LIMITS__QUERY_MEMORY_BYTES", "16777216")]);
    let mut wire = kho.admin();
    let error = wire
        .refusal(&format!("SELECT length(string_agg(t, ',')) FROM {} AS a", wide(400_000, 200)));
    assert_eq!(error.sqlstate, "53200", "{error}");
    assert!(error.to_string().contains("limits.query_memory_bytes"), "{error}");
}

#[test]
fn what_spills_has_a_limit_too() {
    let (kho, _) = start(16, &[("KHO_LIMITS__SPILL_BYTES", "1000000")]);
    let mut wire = kho.admin();
    // Only what is asked for is sorted: the place of each row.
    let large = wide(800_000, 48);
    let error = wire.refusal(&format!(
        "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY t) AS n FROM {large} AS a) AS s \
         WHERE n > 1"
    ));
    assert_eq!(error.sqlstate, "53400", "{error}");
    assert!(error.to_string().contains("limits.spill_bytes"), "{error}");
    assert_eq!(wire.value("SELECT 1"), "1");
}

/// A killed server leaves what it spilled; it is gone when it starts again.
#[test]
fn what_a_killed_server_spilled_is_removed() {
    let folders = Folders::new();
    let spill = folders.spill();
    let folders = Kho::start_in(folders).kill();
    let within = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect()
    };
    let old: Vec<PathBuf> = within(&spill).iter().flat_map(|it| within(it)).collect();
    // One of the statements', one of maintenance's.
    assert_eq!(old.len(), 2, "{old:?}");
    for folder in &old {
        std::fs::write(folder.join("rows"), "a person's data").unwrap();
    }
    let kho = Kho::start_in(folders);
    assert!(old.iter().all(|folder| !folder.exists()), "{old:?}");
    let (ended, _folders) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);
    assert_eq!(within(&spill), Vec::<PathBuf>::new(), "a server that ends leaves not even its own");
}

/// A gigabyte passes through the server without staying in it, whichever way it is asked for.
#[test]
fn a_large_answer_takes_little_memory() {
    const ROWS: u64 = 700_000;
    let mut kho = Kho::start();
    let mut wire = kho.admin();
    wire.run("SELECT 1");
    let before = kho.process().peak_memory_bytes();
    let statement = format!("SELECT t, x FROM {} AS a", wide(ROWS, 1_500));
    wire.send(|buffer| frontend::query(&statement, buffer)).unwrap();
    takes_all(&mut wire, ROWS, None);
    // All at once, and in parts of a portal.
    for part in [0, 20_000] {
        wire.send(|buffer| {
            frontend::parse("", &statement, [], buffer)?;
            kho_tests::wire::bind("", "", &[], buffer)?;
            frontend::execute("", part, buffer)?;
            frontend::flush(buffer);
            Ok(())
        })
        .unwrap();
        takes_all(&mut wire, ROWS, Some(part));
    }
    let grown = kho.process().peak_memory_bytes() - before;
    assert!(grown < 200_000_000, "{} MiB more memory", grown / MEBIBYTE);
}

/// Reads an answer to its end; of a portal, asking for one `part` after the other.
fn takes_all(wire: &mut Wire, expected: u64, part: Option<i32>) {
    let (mut rows, mut bytes, mut parts) = (0_u64, 0_u64, 1);
    loop {
        match wire.receive().unwrap() {
            Message::DataRow(body) => {
                rows += 1;
                bytes += body.buffer().len() as u64;
            }
            Message::PortalSuspended => {
                parts += 1;
                let more = wire.send(|buffer| {
                    frontend::execute("", part.unwrap(), buffer)?;
                    frontend::flush(buffer);
                    Ok(())
                });
                more.unwrap();
            }
            Message::CommandComplete(_) if part.is_some() => {
                wire.send(|buffer| {
                    frontend::sync(buffer);
                    Ok(())
                })
                .unwrap();
            }
            Message::ReadyForQuery(_) => break,
            Message::ErrorResponse(_) => panic!("refused after {rows} rows"),
            _ => {}
        }
    }
    assert_eq!(rows, expected);
    assert!(bytes > expected * 1_500, "{bytes}");
    let least = part.filter(|part| *part > 0).map_or(1, |part| expected / part as u64);
    assert!(parts >= least, "{parts} parts");
}

#[test]
fn the_time_limit_of_the_server_is_that_of_its_sessions() {
    let (kho, _) = start(1024, &[("KHO_LIMITS__STATEMENT_TIMEOUT_MS", "1500")]);
    let mut wire = kho.admin();
    assert_eq!(wire.value("SHOW statement_timeout"), "1500ms");
    wire.run("SET statement_timeout = 0");
    wire.run("RESET statement_timeout");
    assert_eq!(wire.value("SHOW statement_timeout"), "1500ms");
}

/// Planning what joins itself over and over takes long, and ends when its time is over.
#[test]
fn planning_is_within_the_time_limit() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    let mut statement = "WITH a0 AS (SELECT 1 AS x)".to_owned();
    for level in 1..=12 {
        let below = level - 1;
        statement +=
            &format!(", a{level} AS (SELECT l.x FROM a{below} AS l JOIN a{below} AS r USING (x))");
    }
    statement += " SELECT count(*) FROM a12";
    wire.run("SET statement_timeout = 500");
    let started = Instant::now();
    assert_eq!(wire.refusal(&statement).sqlstate, "57014");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(wire.value("SELECT 1"), "1");
}

/// A client that begins a `COPY` and sends nothing, and one that asks and reads nothing.
#[test]
fn a_client_that_does_not_keep_up_is_within_the_time_limit() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    wire.run("CREATE SCHEMA s; CREATE TABLE s.t (id integer)");
    wire.run("SET statement_timeout = 500");
    wire.send(|buffer| frontend::query("COPY s.t FROM STDIN", buffer)).unwrap();
    assert!(matches!(wire.receive().unwrap(), Message::CopyInResponse(_)));
    assert_eq!(code_of(&mut wire), "57014");
    // The table is free again.
    let mut other = kho.admin();
    other.run("SET lock_timeout = 60000; INSERT INTO s.t VALUES (1)");
    let statement = format!("SELECT t FROM {} AS a", wide(2_500_000, 200));
    wire.send(|buffer| frontend::query(&statement, buffer)).unwrap();
    // It is running, and then nobody reads: the sockets' buffers are full long before its end.
    assert!(matches!(wire.receive().unwrap(), Message::RowDescription(_)));
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        other.run("SELECT 1");
    }
    assert_eq!(code_of(&mut wire), "57014");
    assert_eq!(wire.value("SELECT 1"), "1");
}

/// Reads over rows to the error, and to the end of the statement.
fn code_of(wire: &mut Wire) -> String {
    match wire.answers().unwrap_err() {
        kho_tests::wire::Error::Server(error) => error.sqlstate.clone(),
        kho_tests::wire::Error::Io(error) => panic!("{error}"),
    }
}

#[test]
fn a_session_that_is_silent_for_too_long_ends() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    wire.run("SET idle_in_transaction_session_timeout = 300");
    assert_eq!(wire.value("SHOW idle_in_transaction_session_timeout"), "300ms");
    wire.run("BEGIN");
    let ended = wire.wait_for_close().unwrap();
    assert_eq!((ended.severity.as_str(), ended.sqlstate.as_str()), ("FATAL", "25P03"));
    let mut wire = kho.admin();
    wire.run("SET idle_session_timeout = '300 ms'");
    let ended = wire.wait_for_close().unwrap();
    assert_eq!((ended.severity.as_str(), ended.sqlstate.as_str()), ("FATAL", "57P05"));
}

/// A silent session in a block gives its table back.
#[test]
fn a_writer_waits_for_the_table_no_longer_than_its_lock_timeout() {
    let kho = Kho::start();
    let mut block = kho.admin();
    block.run("CREATE SCHEMA s; CREATE TABLE s.t (id integer)");
    block.run("BEGIN");
    block.run("INSERT INTO s.t VALUES (1)");
    let mut wire = kho.admin();
    wire.run("SET lock_timeout = 200");
    for statement in ["INSERT INTO s.t VALUES (2)", "UPDATE s.t SET id = 2", "TRUNCATE s.t"] {
        let refused = wire.refusal(statement);
        assert_eq!(refused.sqlstate, "55P03", "{statement}: {refused}");
    }
    block.run("COMMIT");
    wire.run("INSERT INTO s.t VALUES (2)");
}

#[test]
fn the_last_connections_are_for_those_who_look_after_the_server() {
    let more = [("KHO_LIMITS__CONNECTIONS", "4"), ("KHO_LIMITS__RESERVED_CONNECTIONS", "2")];
    let (kho, _) = start(1024, &more);
    kho.admin().run("CREATE ROLE clerk LOGIN PASSWORD 'clerk'");
    // The connection above may still be ending.
    let clerk = || Wire::connect(&kho.target("clerk", "clerk"));
    let started = Instant::now();
    let mut held: Vec<Wire> = Vec::new();
    while held.len() < 2 && started.elapsed() < PATIENCE {
        held.extend(clerk().ok());
    }
    let refused = |target: &Target| {
        let error = Wire::connect(target).map(drop).unwrap_err();
        assert_eq!(error.sqlstate(), Some("53300"), "{error}");
    };
    refused(&kho.target("clerk", "clerk"));
    let _admins = [kho.admin(), kho.admin()];
    refused(&kho.target("admin", "admin"));
}

/// The gauge of connections, as an operator sees it.
fn connections(http: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: kho\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let line = response.lines().find_map(|it| it.strip_prefix("kho_pgwire_connections "));
    line.map_or(0, |value| value.trim().parse::<f64>().unwrap() as u64)
}

/// A client whose process died in the middle of an aggregate, and one that died with rows unread.
#[test]
fn a_client_that_vanished_is_noticed_while_its_statement_runs() {
    let kho = Kho::start();
    let hours = "SELECT sum(sin(a.x * b.x)) FROM generate_series(1, 50000) AS a (x) \
                 CROSS JOIN generate_series(1, 300000000) AS b (x)";
    let endless = format!("SELECT t FROM {} AS a", wide(100_000_000, 2_000));
    for statement in [hours, &endless] {
        let mut wire = kho.admin();
        wire.send(|buffer| frontend::query(statement, buffer)).unwrap();
        if statement == endless {
            assert!(matches!(wire.receive().unwrap(), Message::RowDescription(_)));
        }
        assert_eq!(connections(kho.http), 1);
        drop(wire);
        let started = Instant::now();
        // Each question is a round trip to the server, not a wait.
        while connections(kho.http) > 0 {
            assert!(started.elapsed() < PATIENCE, "the server still works for nobody");
        }
    }
}
