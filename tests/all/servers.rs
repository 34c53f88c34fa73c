//! Two servers on one warehouse, in a folder and in a bucket: neither loses what the other did.

use std::time::{Duration, Instant};

use kho_tests::kho::{Folders, Kho};
use kho_tests::s3::S3;
use kho_tests::wire::{Error, Target, Wire};

/// A change of rights holds on every server within a second. A machine that builds and runs
/// other tests meanwhile gives a server its turn late; beyond this it is not the machine.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

fn on_one_folder(check: fn(&Kho, &Kho)) {
    let first = Kho::start();
    let data = first.data();
    // Servers of one warehouse share the keys of its ledger.
    let keys = format!("file:{}", first.keys().join("ledger.key").display());
    let shared = [("KHO_DATA", data.to_str().unwrap()), ("KHO_KEYS__LEDGER", keys.as_str())];
    let second = Kho::start_with(Folders::new(), &shared);
    check(&first, &second);
}

fn on_one_bucket(check: fn(&Kho, &Kho)) {
    let bucket = S3::shared().bucket();
    let (first, second) = (bucket.serve(), bucket.serve());
    check(&first, &second);
}

#[test]
fn writers_of_two_servers_lose_nothing_in_a_folder() {
    on_one_folder(writers_lose_nothing);
}

#[test]
fn writers_of_two_servers_lose_nothing_in_a_bucket() {
    on_one_bucket(writers_lose_nothing);
}

#[test]
fn what_one_server_does_the_other_sees_in_a_folder() {
    on_one_folder(each_sees_the_other);
}

#[test]
fn what_one_server_does_the_other_sees_in_a_bucket() {
    on_one_bucket(each_sees_the_other);
}

#[test]
fn a_rule_that_one_server_adds_holds_on_the_other_at_once_in_a_folder() {
    on_one_folder(a_rule_holds_at_once);
}

#[test]
fn a_rule_that_one_server_adds_holds_on_the_other_at_once_in_a_bucket() {
    on_one_bucket(a_rule_holds_at_once);
}

#[test]
fn statements_that_read_what_the_other_writes_come_one_after_the_other_in_a_folder() {
    on_one_folder(come_one_after_the_other);
}

#[test]
fn statements_that_read_what_the_other_writes_come_one_after_the_other_in_a_bucket() {
    on_one_bucket(come_one_after_the_other);
}

#[test]
fn serializable_blocks_of_two_servers_leave_no_skew_in_a_folder() {
    on_one_folder(leave_no_skew);
}

#[test]
fn serializable_blocks_of_two_servers_leave_no_skew_in_a_bucket() {
    on_one_bucket(leave_no_skew);
}

/// Whether `statement` was done; a writer that lost a race may be told to try again.
fn try_to(wire: &mut Wire, statement: &str) -> bool {
    match wire.simple(statement) {
        Ok(_) => true,
        Err(Error::Server(refused)) if refused.sqlstate == "40001" => false,
        Err(other) => panic!("{statement}: {other}"),
    }
}

/// Each adds rows of its own and adds to one sum; what was acknowledged is there, once.
fn writes(target: &Target, writer: usize) -> (usize, usize) {
    let mut wire = Wire::connect(target).unwrap();
    let (mut rows, mut sum) = (0, 0);
    for turn in 0..8 {
        let id = writer * 100 + turn;
        rows += usize::from(try_to(&mut wire, &format!("INSERT INTO s.t VALUES ({id})")));
        sum += usize::from(try_to(&mut wire, "UPDATE s.c SET n = n + 1"));
    }
    (rows, sum)
}

fn writers_lose_nothing(first: &Kho, second: &Kho) {
    let mut admin = first.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    admin.run("CREATE TABLE s.c (n integer)");
    admin.run("INSERT INTO s.c VALUES (0)");
    wait_until(second, "SELECT count(*) FROM s.c", Some("1"));
    let writers: Vec<_> = [first, second, first, second]
        .iter()
        .enumerate()
        .map(|(writer, kho)| {
            let target = kho.target("admin", "admin");
            std::thread::spawn(move || writes(&target, writer))
        })
        .collect();
    let written: Vec<(usize, usize)> = writers.into_iter().map(|it| it.join().unwrap()).collect();
    let rows: usize = written.iter().map(|(rows, _)| rows).sum();
    let sum: usize = written.iter().map(|(_, sum)| sum).sum();
    assert!(rows > 0 && sum > 0, "nobody ever got through: {written:?}");
    for kho in [first, second] {
        let mut admin = kho.admin();
        assert_eq!(admin.value("SELECT count(*) FROM s.t"), rows.to_string());
        assert_eq!(admin.value("SELECT count(DISTINCT id) FROM s.t"), rows.to_string());
        assert_eq!(admin.value("SELECT n FROM s.c"), sum.to_string());
        assert_eq!(admin.value("SELECT count(*) FROM s.c"), "1");
    }
}

/// Each counts the rows of the other's table and adds that to its own.
fn come_one_after_the_other(first: &Kho, second: &Kho) {
    let mut admin = first.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.a (seen bigint)");
    admin.run("CREATE TABLE s.b (seen bigint)");
    wait_until(second, "SELECT count(*) FROM s.b", Some("0"));
    let writers: Vec<_> = [(first, "a", "b"), (second, "b", "a"), (first, "b", "a")]
        .into_iter()
        .map(|(kho, written, read)| {
            let target = kho.target("admin", "admin");
            let statement = format!("INSERT INTO s.{written} SELECT count(*) FROM s.{read}");
            std::thread::spawn(move || {
                let mut wire = Wire::connect(&target).unwrap();
                (0..6).filter(|_| try_to(&mut wire, &statement)).count()
            })
        })
        .collect();
    let written: Vec<usize> = writers.into_iter().map(|it| it.join().unwrap()).collect();
    assert!(written[0] > 0 && written[1] + written[2] > 0, "nobody got through: {written:?}");
    let mut seen = |table: &str| -> Vec<usize> {
        let rows = admin.rows(&format!("SELECT seen FROM s.{table} ORDER BY seen"));
        rows.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect()
    };
    let (a, b) = (seen("a"), seen("b"));
    assert_eq!((a.len(), b.len()), (written[0], written[1] + written[2]));
    // One after the other, of each row of one and each of the other exactly one saw the other.
    for (i, of_a) in a.iter().enumerate() {
        for (j, of_b) in b.iter().enumerate() {
            assert_ne!(j < *of_a, i < *of_b, "a saw {a:?} of b, b saw {b:?} of a");
        }
    }
}

/// Two keep the sum of two accounts positive by looking at both and taking from one.
fn leave_no_skew(first: &Kho, second: &Kho) {
    let mut admin = first.admin();
    admin.run("CREATE SCHEMA s");
    for table in ["a", "b"] {
        admin.run(&format!("CREATE TABLE s.{table} (n integer)"));
        admin.run(&format!("INSERT INTO s.{table} VALUES (1)"));
    }
    wait_until(second, "SELECT count(*) FROM s.b", Some("1"));
    let (mut here, mut there) = (first.admin(), second.admin());
    for wire in [&mut here, &mut there] {
        wire.run("BEGIN ISOLATION LEVEL SERIALIZABLE");
        assert_eq!(
            wire.value("SELECT sum(n) FROM (SELECT n FROM s.a UNION ALL SELECT n FROM s.b)"),
            "2"
        );
    }
    here.run("UPDATE s.a SET n = n - 2");
    there.run("UPDATE s.b SET n = n - 2");
    here.run("COMMIT");
    assert_eq!(there.refusal("COMMIT").sqlstate, "40001");
    assert_eq!(
        admin.value("SELECT sum(n) FROM (SELECT n FROM s.a UNION ALL SELECT n FROM s.b)"),
        "0"
    );
}

fn a_rule_holds_at_once(first: &Kho, second: &Kho) {
    let (mut here, mut there) = (first.admin(), second.admin());
    here.run("CREATE SCHEMA s");
    for table in ["s.keyed", "s.checked", "s.filled"] {
        here.run(&format!("CREATE TABLE {table} (id integer, n integer)"));
        here.run(&format!("INSERT INTO {table} VALUES (1, 1)"));
        wait_until(second, &format!("SELECT count(*) FROM {table}"), Some("1"));
    }
    here.run("ALTER TABLE s.keyed ADD PRIMARY KEY (id)");
    assert_eq!(there.refusal("INSERT INTO s.keyed VALUES (1, 2)").sqlstate, "23505");
    here.run("ALTER TABLE s.checked ADD CHECK (n < 5)");
    assert_eq!(there.refusal("INSERT INTO s.checked VALUES (2, 5)").sqlstate, "23514");
    here.run("ALTER TABLE s.filled ALTER COLUMN n SET NOT NULL");
    assert_eq!(there.refusal("UPDATE s.filled SET n = NULL").sqlstate, "23502");
    for table in ["s.keyed", "s.checked", "s.filled"] {
        assert_eq!(here.value(&format!("SELECT count(*) FROM {table} WHERE n = 1")), "1");
    }
}

fn each_sees_the_other(first: &Kho, second: &Kho) {
    let mut here = first.admin();
    let mut there = second.admin();
    here.run("CREATE SCHEMA s");
    here.run("CREATE TABLE s.t (id integer)");
    here.run("CREATE ROLE reader LOGIN PASSWORD 'reader'");
    here.run("GRANT USAGE ON SCHEMA s TO reader");
    here.run("GRANT SELECT ON s.t TO reader");
    wait_until(second, "SELECT count(*) FROM s.t", Some("0"));
    // Rows are seen at once, both ways: a statement looks for the newest version itself.
    for turn in 1..=5 {
        let (writer, other) =
            if turn % 2 == 0 { (&mut here, &mut there) } else { (&mut there, &mut here) };
        writer.run(&format!("INSERT INTO s.t VALUES ({turn})"));
        assert_eq!(other.value("SELECT count(*) FROM s.t"), turn.to_string());
    }
    let mut reader = second.connect("reader");
    assert_eq!(reader.value("SELECT count(*) FROM s.t"), "5");
    here.run("REVOKE SELECT ON s.t FROM reader");
    let revoked = Instant::now();
    while reader.simple("SELECT count(*) FROM s.t").is_ok() {
        assert!(revoked.elapsed() < SEEN_WITHIN, "a right that was taken away holds elsewhere");
    }
    there.run("DROP TABLE s.t");
    wait_until(first, "SELECT count(*) FROM s.t", None);
    // A name that one of them gave is taken on the other.
    here.run("CREATE TABLE s.t (id integer)");
    assert_eq!(there.refusal("CREATE TABLE s.t (id integer)").sqlstate, "42P07");
}

/// Asks until the answer is `wanted` (`None`: the table is not there), which is soon.
fn wait_until(kho: &Kho, question: &str, wanted: Option<&str>) {
    let mut admin = kho.admin();
    let asked = Instant::now();
    loop {
        let found = admin.simple(question);
        let seen = match (&found, wanted) {
            (Ok(answers), Some(wanted)) => {
                answers.last().is_some_and(|it| it.rows == [[Some(wanted.to_owned())]])
            }
            (Err(refused), None) => refused.sqlstate() == Some("42P01"),
            _ => false,
        };
        if seen {
            return;
        }
        assert!(asked.elapsed() < SEEN_WITHIN, "{question}: {found:?}");
    }
}
