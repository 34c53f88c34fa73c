//! What clients that are logged in say, message by message.

use bytes::{BufMut, BytesMut};
use kho_tests::mutate::message;
use kho_tests::wire::bind;
use postgres_protocol::message::frontend;
use rand::Rng;
use rand::rngs::StdRng;

/// Statements over the table `s.t (id integer, name text)`.
const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "SELECT id, name FROM s.t WHERE id = 1 OR name LIKE 'x%' ORDER BY 2 LIMIT 3",
    "SELECT $1::integer + 1, $2::text",
    "SELECT * FROM s.t VERSION AS OF 0; SELECT 2",
    "SELECT array_agg(id), count(*) FROM s.t GROUP BY name HAVING count(*) > 0",
    "WITH a AS (VALUES (1, 'x')) SELECT * FROM a JOIN s.t ON a.column1 = s.t.id",
    "SELECT '2026-01-01'::timestamptz, interval '1 day', E'\\'', $$x$$, 1.5e10",
    "BEGIN",
    "ROLLBACK",
    "SET application_name = 'x'",
    "SHOW ALL",
    "EXPLAIN SELECT * FROM s.t",
    "SELECT relname FROM pg_catalog.pg_class WHERE oid = 's.t'::regclass",
    "",
    ";;",
    "/* a comment",
];

/// Some messages, each whole; what they say together need not make sense.
pub(super) fn any(random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    for _ in 0..random.random_range(1..=4) {
        match random.random_range(0..10) {
            0..3 => said.push(written(|it| frontend::query(statement(random), it))),
            3..7 => extended(random, &mut said),
            _ => copy(random, &mut said),
        }
    }
    said
}

fn statement(random: &mut StdRng) -> &'static str {
    STATEMENTS[random.random_range(0..STATEMENTS.len())]
}

fn extended(random: &mut StdRng, said: &mut Vec<Vec<u8>>) {
    let name = ["", "a"][random.random_range(0..2)];
    let text = statement(random);
    said.push(written(|it| frontend::parse(name, text, [23, 25], it)));
    said.push(written(|it| bind("", name, &[Some("7"), None], it)));
    if random.random_bool(0.5) {
        said.push(written(|it| frontend::describe(b'P', "", it)));
        said.push(written(|it| frontend::describe(b'S', name, it)));
    }
    said.push(written(|it| frontend::execute("", random.random_range(0..3), it)));
    if random.random_bool(0.3) {
        said.push(written(|it| frontend::close(b'S', name, it)));
        said.push(message(b'H', b""));
    }
    said.push(message(b'S', b""));
}

fn copy(random: &mut StdRng, said: &mut Vec<Vec<u8>>) {
    let (options, data): (&str, &[u8]) = match random.random_range(0..3) {
        0 => ("", b"1\tx\n2\t\\N\n\\.\n"),
        1 => ("(FORMAT csv, HEADER)", b"id,name\n1,\"x \"\" y\"\n2,\n"),
        _ => (
            "(FORMAT binary)",
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x01x\xff\xff",
        ),
    };
    let statement = format!("COPY s.t FROM STDIN {options}");
    said.push(written(|it| frontend::query(&statement, it)));
    for piece in data.chunks(random.random_range(1..=data.len())) {
        said.push(message(b'd', piece));
    }
    // A row that is copied stays out: what the table holds is the same for every seed.
    said.push(match random.random_bool(0.5) {
        true => message(b'f', b"no\0"),
        false => message(b'c', b""),
    });
}

fn written(write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    // What is written to memory fails only for a text with a zero in it.
    if write(&mut bytes).is_err() {
        bytes.clear();
        bytes.put_slice(&message(b'S', b""));
    }
    bytes.to_vec()
}
