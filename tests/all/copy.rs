//! `COPY` in and out: every byte arrives as it left, and what is broken is refused whole.

use bytes::{BufMut, BytesMut};
use kho_tests::kho::Kho;
use kho_tests::wire::{Wire, copy_in};
use postgres_protocol::message::frontend;

fn with_table() -> (Kho, Wire) {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run(
        "CREATE TABLE s.t (id integer NOT NULL, name text, amount numeric(10, 2), \
         at timestamptz, ok boolean)",
    );
    (kho, admin)
}

fn copy_out(wire: &mut Wire, statement: &str) -> String {
    let answers = wire.simple(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    String::from_utf8(answers[0].copied.clone()).unwrap()
}

const TEXT: &str = "1\tNguyễn Thị Hồng\t12.50\t2026-11-01 08:30:00+07\tt\n\
                    2\t\\N\t\\N\t\\N\t\\N\n\
                    3\t\t-0.01\t2026-11-01\tf\n\
                    4\ttab\\there\\nline \\\\ back\t0\t1999-12-31 23:59:59.5+00\ttrue\n";

#[test]
fn text_comes_back_as_it_went_in() {
    let (_kho, mut wire) = with_table();
    for size in [1, 7, 1000] {
        wire.run("TRUNCATE s.t");
        assert_eq!(copy_in(&mut wire, "COPY s.t FROM STDIN", TEXT.as_bytes(), size).unwrap(), 4);
        let out = copy_out(&mut wire, "COPY (SELECT * FROM s.t ORDER BY id) TO STDOUT");
        assert_eq!(
            out,
            "1\tNguyễn Thị Hồng\t12.50\t2026-11-01 01:30:00+00\tt\n\
             2\t\\N\t\\N\t\\N\t\\N\n\
             3\t\t-0.01\t2026-11-01 00:00:00+00\tf\n\
             4\ttab\\there\\nline \\\\ back\t0.00\t1999-12-31 23:59:59.5+00\tt\n"
        );
    }
    assert_eq!(wire.value("SELECT name FROM s.t WHERE id = 4"), "tab\there\nline \\ back");
    assert_eq!(wire.value("SELECT name IS NULL FROM s.t WHERE id = 2"), "t");
    assert_eq!(wire.value("SELECT name = '' FROM s.t WHERE id = 3"), "t");
}

const CSV: &str = "id,name,amount,at,ok\r\n\
                   1,\"Phú Hội, Huế\",1.00,2026-11-01 08:30:00+07,t\r\n\
                   2,,,,\r\n\
                   3,\"\",2,2026-11-01,f\r\n\
                   4,\"she said \"\"no\"\"\r\nand left\",3,2026-11-01,t\r\n\
                   5,007,3,2026-11-01,t\r\n";

#[test]
fn csv_keeps_quotes_breaks_zeros_and_tells_empty_from_null() {
    let (_kho, mut wire) = with_table();
    for size in [1, 13, 1000] {
        wire.run("TRUNCATE s.t");
        let statement = "COPY s.t FROM STDIN CSV HEADER";
        assert_eq!(copy_in(&mut wire, statement, CSV.as_bytes(), size).unwrap(), 5);
        assert_eq!(wire.value("SELECT name FROM s.t WHERE id = 1"), "Phú Hội, Huế");
        assert_eq!(wire.value("SELECT name IS NULL FROM s.t WHERE id = 2"), "t");
        assert_eq!(wire.value("SELECT name = '' FROM s.t WHERE id = 3"), "t");
        assert_eq!(wire.value("SELECT name FROM s.t WHERE id = 4"), "she said \"no\"\r\nand left");
        assert_eq!(wire.value("SELECT name FROM s.t WHERE id = 5"), "007");
    }
    let out = copy_out(
        &mut wire,
        "COPY (SELECT id, name FROM s.t ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER true)",
    );
    assert_eq!(
        out,
        "id,name\n1,\"Phú Hội, Huế\"\n2,\n3,\"\"\n4,\"she said \"\"no\"\"\r\nand left\"\n5,007\n"
    );
}

#[test]
fn csv_options_are_obeyed() {
    let (_kho, mut wire) = with_table();
    let statement = "COPY s.t (id, name) FROM STDIN \
                     WITH (FORMAT csv, DELIMITER ';', NULL 'n/a', QUOTE '''', HEADER false)";
    let data = "1;'a;b'\n2;n/a\n3;'n/a'\n4;\n";
    assert_eq!(copy_in(&mut wire, statement, data.as_bytes(), 1000).unwrap(), 4);
    let rows = wire.rows("SELECT name FROM s.t ORDER BY id");
    let names: Vec<_> = rows.into_iter().map(|mut row| row.remove(0)).collect();
    let text = |it: &str| Some(it.to_owned());
    assert_eq!(names, [text("a;b"), None, text("n/a"), text("")]);
    let statement = "COPY (SELECT id, name FROM s.t WHERE id < 3 ORDER BY id) TO STDOUT \
                     WITH (FORMAT csv, DELIMITER '|', NULL '-', FORCE_QUOTE (name))";
    assert_eq!(copy_out(&mut wire, statement), "1|\"a;b\"\n2|-\n");
    let matching = "COPY s.t (id, name) FROM STDIN WITH (FORMAT csv, HEADER match)";
    let refused = copy_in(&mut wire, matching, b"id,wrong\n9,x\n", 1000).unwrap_err();
    assert_eq!(refused.sqlstate(), Some("22P04"), "{refused}");
}

#[test]
fn broken_data_is_refused_whole_and_says_where() {
    let (_kho, mut wire) = with_table();
    let cases: &[(&str, &str, &[u8])] = &[
        // Too few columns, too many, a broken number, a NULL where none may be, an open quote.
        ("22P04", "CSV", b"1,a,1,2026-01-01,t\n2,b\n"),
        ("22P04", "CSV", b"1,a,1,2026-01-01,t,extra\n"),
        ("22P02", "CSV", b"1,a,1,2026-01-01,t\nx,b,2,2026-01-01,t\n"),
        ("23502", "CSV", b"1,a,1,2026-01-01,t\n,b,2,2026-01-01,t\n"),
        ("22P04", "CSV", b"1,\"never closed,1,2026-01-01,t\n"),
        ("22003", "CSV", b"99999999999,a,1,2026-01-01,t\n"),
        ("22003", "CSV", b"1,a,123456789012,2026-01-01,t\n"),
        ("22008", "CSV", b"1,a,1,2026-02-30,t\n"),
        ("22P02", "CSV", b"1,a,1,2026-01-01,perhaps\n"),
        ("22021", "CSV", b"1,\xff\xfe,1,2026-01-01,t\n"),
        ("22P04", "", b"1\ta\n"),
        ("22P04", "BINARY", b"this is not PGCOPY at all"),
    ];
    for (sqlstate, format, data) in cases {
        let statement = format!("COPY s.t FROM STDIN {format}");
        let refused = copy_in(&mut wire, &statement, data, 5).unwrap_err();
        let shown = String::from_utf8_lossy(data);
        assert_eq!(refused.sqlstate(), Some(*sqlstate), "{shown}: {refused}");
        assert_eq!(wire.value("SELECT count(*) FROM s.t"), "0", "{shown}");
    }
}

#[test]
fn binary_comes_back_as_it_went_in() {
    let (_kho, mut wire) = with_table();
    copy_in(&mut wire, "COPY s.t FROM STDIN", TEXT.as_bytes(), 1000).unwrap();
    let answers = wire.simple("COPY s.t TO STDOUT WITH (FORMAT binary)").unwrap();
    let binary = answers[0].copied.clone();
    assert!(binary.starts_with(b"PGCOPY\n\xff\r\n\0"));
    wire.run(
        "CREATE TABLE s.u (id integer NOT NULL, name text, amount numeric(10, 2), \
         at timestamptz, ok boolean)",
    );
    for size in [1, 1000] {
        wire.run("TRUNCATE s.u");
        assert_eq!(copy_in(&mut wire, "COPY s.u FROM STDIN BINARY", &binary, size).unwrap(), 4);
        let missing = "SELECT count(*) FROM (SELECT * FROM s.t EXCEPT SELECT * FROM s.u) AS d";
        assert_eq!(wire.value(missing), "0");
    }
}

#[test]
fn a_load_is_one_version() {
    let (_kho, mut wire) = with_table();
    let mut data = String::new();
    for id in 0..100_000 {
        data.push_str(&format!("{id}\tname {id}\n"));
    }
    let before = wire.value("SELECT max(version) FROM kho.table_history('s.t')");
    copy_in(&mut wire, "COPY s.t (id, name) FROM STDIN", data.as_bytes(), 60_000).unwrap();
    let after = wire.value("SELECT max(version) FROM kho.table_history('s.t')");
    assert_eq!(after.parse::<u64>().unwrap(), before.parse::<u64>().unwrap() + 1);
    assert_eq!(wire.value("SELECT count(DISTINCT id) FROM s.t"), "100000");
}

/// What follows a `COPY` in the same message is not swallowed by it.
#[test]
fn a_statement_after_a_copy_is_run() {
    let (_kho, mut wire) = with_table();
    wire.send(|buffer: &mut BytesMut| {
        frontend::query("COPY s.t (id) FROM STDIN; SET application_name = 'after'", buffer)?;
        buffer.put_slice(b"d\0\0\0\x061\n");
        frontend::copy_done(buffer);
        Ok(())
    })
    .unwrap();
    let mut tags = Vec::new();
    loop {
        use postgres_protocol::message::backend::Message;
        match wire.receive().unwrap() {
            Message::CommandComplete(body) => tags.push(body.tag().unwrap().to_owned()),
            Message::ReadyForQuery(_) => break,
            Message::ErrorResponse(body) => {
                panic!("{}", kho_tests::wire::ServerError::read(body.fields()))
            }
            _ => {}
        }
    }
    assert_eq!(tags, ["COPY 1", "SET"]);
    assert_eq!(wire.value("SHOW application_name"), "after");
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "1");
}

#[test]
fn unknown_options_are_refused() {
    let (_kho, mut wire) = with_table();
    for option in ["COLOUR 'red'", "FORMAT 'parquet'", "DELIMITER 'long'", "FREEZE perhaps"] {
        let refused = wire.refusal(&format!("COPY s.t FROM STDIN WITH ({option})"));
        assert!(["0A000", "22023", "42601"].contains(&refused.sqlstate.as_str()), "{refused}");
    }
}
