//! What one statement, one client or all of them may use up, and what happens beyond.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

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
    let spill = folders.data().with_file_name("spill");
    let memory = (memory * MEBIBYTE).to_string();
    let spilled = spill.display().to_string();
    let mut environment = vec![
        ("KHO_LIMITS__MEMORY_BYTES", memory.as_str()),
        ("KHO_LIMITS__SPILL_DIRECTORY", spilled.as_str()),
    ];
    environment.extend_from_slice(more);
    (Kho::start_with(folders, &environment), spill)
}

/// Rows of about `width` bytes, as a subquery.
fn wide(rows: u64, width: u64) -> String {
    let times = width / 6;
    format!(
        "(SELECT x, repeat(lpad(x::text, 6, '0'), {times}) AS t FROM generate_series(1, {rows}) AS g (x))"
    )
}

/// Ten times what there is: a statement finishes, or is refused and nothing else happens.
#[test]
fn a_query_larger_than_memory_finishes_or_is_refused_and_the_server_lives() {
    let (mut kho, spill) = start(16, &[]);
    let mut wire = kho.admin();
    let before = kho.process().peak_memory_bytes();
    let large = wide(800_000, 200);
    let finish = [
        format!("SELECT count(*) FROM (SELECT t FROM {large} AS a ORDER BY t DESC OFFSET 1) AS s"),
        format!(
            "SELECT count(*) + 1 - 2 FROM (SELECT t, count(*) FROM {large} AS a GROUP BY t) AS s"
        ),
        format!("SELECT count(*) - 1 FROM {large} AS a JOIN {large} AS b ON a.t = b.t"),
        "SELECT count(*) - 2200001 FROM generate_series(1, 3000000) AS g (x)".to_owned(),
        "SELECT max(length(repeat('x', 100000))) + 699999 FROM generate_series(1, 10000) AS g (x)"
            .to_owned(),
    ];
    // Wide rows and so little memory: a sort that cannot hold two batches of them is refused.
    for statement in &finish {
        match wire.simple(statement) {
            Ok(answers) => {
                assert_eq!(answers[0].rows, [[Some("799999".to_owned())]], "{statement}")
            }
            Err(error) => assert_eq!(error.sqlstate(), Some("53200"), "{statement}"),
        }
        assert_eq!(wire.value("SELECT 1"), "1");
    }
    let refused = [
        format!("SELECT max(t || s) FROM (SELECT sum(x) OVER () AS s, t FROM {large} AS a) AS b"),
        format!("SELECT cardinality(array_agg(t)) FROM {large} AS a"),
        format!("SELECT length(string_agg(t, ',')) FROM {large} AS a"),
        "SELECT length(repeat('x', 1000000000))".to_owned(),
        "SELECT cardinality(generate_series(1, 1000000000))".to_owned(),
    ];
    for statement in &refused {
        let error = wire.refusal(statement);
        assert_eq!(error.sqlstate, "53200", "{statement}: {error}");
        assert!(error.to_string().contains("limits."), "{statement}: {error}");
        assert_eq!(wire.value("SELECT 1"), "1");
    }
    let grown = kho.process().peak_memory_bytes() - before;
    assert!(grown < 320 * MEBIBYTE, "{} MiB more memory", grown / MEBIBYTE);
    // Nothing of it is left on disk.
    let servers = std::fs::read_dir(&spill).unwrap().map(|it| it.unwrap().path());
    for folder in servers.flat_map(|it| std::fs::read_dir(it).unwrap()) {
        let left: Vec<_> = std::fs::read_dir(folder.unwrap().path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
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
    let spill = folders.data().with_file_name("spill").display().to_string();
    let environment = [("KHO_LIMITS__SPILL_DIRECTORY", spill.as_str())];
    let folders = Kho::start_with(folders, &environment).kill();
    let left = |spill: &str| -> Vec<PathBuf> {
        let servers = std::fs::read_dir(spill).unwrap().map(|it| it.unwrap().path());
        servers.flat_map(|it| std::fs::read_dir(it).unwrap()).map(|it| it.unwrap().path()).collect()
    };
    let old = left(&spill);
    // One of the statements', one of maintenance's.
    assert_eq!(old.len(), 2, "{old:?}");
    for folder in &old {
        std::fs::write(folder.join("rows"), "a person's data").unwrap();
    }
    let kho = Kho::start_with(folders, &environment);
    assert!(old.iter().all(|folder| !folder.exists()), "{old:?}");
    let (ended, _folders) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);
    assert_eq!(left(&spill), Vec::<PathBuf>::new());
}

/// Half a gigabyte passes through the server without staying in it.
#[test]
fn a_large_answer_takes_little_memory() {
    let mut kho = Kho::start();
    let mut wire = kho.admin();
    wire.run("SELECT 1");
    let before = kho.process().peak_memory_bytes();
    let statement = format!("SELECT t FROM {} AS a", wide(2_500_000, 200));
    wire.send(|buffer| {
        frontend::parse("", &statement, [], buffer)?;
        kho_tests::wire::bind("", "", &[], buffer)?;
        frontend::execute("", 0, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    loop {
        match wire.receive().unwrap() {
            Message::DataRow(body) => {
                rows += 1;
                bytes += body.buffer().len() as u64;
            }
            Message::ReadyForQuery(_) => break,
            Message::ErrorResponse(_) => panic!("refused after {rows} rows"),
            _ => {}
        }
    }
    assert_eq!(rows, 2_500_000);
    assert!(bytes > 500_000_000, "{bytes}");
    let grown = kho.process().peak_memory_bytes() - before;
    assert!(grown < 200 * MEBIBYTE, "{} MiB more memory", grown / MEBIBYTE);
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
