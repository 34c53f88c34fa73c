//! The same limits, whichever way rows are asked for.

use kho_tests::wire::{Error, Wire, bind};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::{ROWS, city, limit, used};

/// Reads to the end of the statement; gives how many rows came, and the error behind them.
fn counted(wire: &mut Wire) -> (u64, Option<String>) {
    let (mut rows, mut error) = (0, None);
    loop {
        match wire.receive().unwrap() {
            Message::DataRow(_) | Message::CopyData(_) => rows += 1,
            Message::ErrorResponse(body) => {
                let answer = kho_tests::wire::ServerError::read(body.fields());
                error = Some(answer.sqlstate);
            }
            Message::ReadyForQuery(_) => return (rows, error),
            _ => {}
        }
    }
}

#[test]
fn the_row_beyond_is_not_given_over_any_way_of_asking() {
    let kho = city(&[]);
    limit(&kho, "an", "rows_per_statement", "1234");
    let mut wire = kho.connect("an");
    let refused = (1234, Some("53400".to_owned()));
    for statement in ["SELECT id FROM o.t", "COPY o.t TO STDOUT", "COPY o.t TO STDOUT (FORMAT csv)"]
    {
        wire.send(|buffer| frontend::query(statement, buffer)).unwrap();
        assert_eq!(counted(&mut wire), refused, "{statement}");
    }
    // Binary, all at once.
    wire.send(|buffer| {
        frontend::parse("", "SELECT id FROM o.t WHERE id > $1", [], buffer)?;
        frontend::bind(
            "",
            "",
            [],
            [Some("0")],
            |value: Option<&str>, buffer: &mut bytes::BytesMut| {
                buffer.extend_from_slice(value.unwrap().as_bytes());
                Ok(postgres_protocol::IsNull::No)
            },
            [1],
            buffer,
        )
        .map_err(|_| std::io::Error::other("a value is not bound"))?;
        frontend::execute("", 0, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(counted(&mut wire), refused);
    // Of several statements each has it anew; the first that fails ends them.
    wire.run("SELECT id FROM o.t LIMIT 1234; SELECT id FROM o.t LIMIT 1234");
    wire.send(|buffer| {
        frontend::query("SELECT id FROM o.t LIMIT 1000; SELECT id FROM o.t; SELECT 1", buffer)
    })
    .unwrap();
    assert_eq!(counted(&mut wire), (2234, Some("53400".to_owned())));
    assert_eq!(wire.value("SELECT 1"), "1");
}

/// Portals and cursors go on counting; what was not taken was not given.
#[test]
fn portals_and_cursors_count_across_fetches_and_exactly() {
    let kho = city(&[]);
    limit(&kho, "an", "rows_per_statement", "1000");
    limit(&kho, "an", "rows_per_day", "100000");
    let mut wire = kho.connect("an");
    wire.run("BEGIN");
    let part = |wire: &mut Wire, new: bool| {
        wire.send(|buffer| {
            if new {
                frontend::parse("", "SELECT id FROM o.t", [], buffer)?;
                bind("p", "", &[], buffer)?;
            }
            frontend::execute("p", 300, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })
        .unwrap();
        counted(wire)
    };
    assert_eq!(part(&mut wire, true), (300, None));
    assert_eq!(used(&mut wire, "rows_per_day"), 300, "what was not asked for was not given");
    assert_eq!(part(&mut wire, false), (300, None));
    assert_eq!(part(&mut wire, false), (300, None));
    assert_eq!(part(&mut wire, false), (100, Some("53400".to_owned())));
    wire.run("ROLLBACK");
    assert_eq!(used(&mut wire, "rows_per_day"), 1000);

    wire.run("BEGIN");
    wire.run("DECLARE c CURSOR FOR SELECT id FROM o.t");
    for _ in 0..3 {
        assert_eq!(wire.rows("FETCH 300 FROM c").len(), 300);
    }
    wire.run("MOVE 100 FROM c");
    wire.send(|buffer| frontend::query("FETCH 300 FROM c", buffer)).unwrap();
    assert_eq!(counted(&mut wire), (100, Some("53400".to_owned())));
    wire.run("ROLLBACK");
    assert_eq!(used(&mut wire, "rows_per_day"), 2000);
}

/// What a client that went away had been given is in the ledger, and counts.
#[test]
fn what_was_given_counts_however_the_statement_ends() {
    let kho = city(&[]);
    limit(&kho, "an", "rows_per_day", "1000000");
    let mut wire = kho.connect("an");
    wire.run("BEGIN");
    wire.send(|buffer| {
        frontend::parse("", "SELECT id FROM o.t", [], buffer)?;
        bind("p", "", &[], buffer)?;
        frontend::execute("p", 500, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(counted(&mut wire), (500, None));
    drop(wire);
    let mut wire = kho.connect("an");
    assert_eq!(used(&mut wire, "rows_per_day"), 500);
    // An error behind some rows: of all that were given it is known how many.
    let statement = format!("SELECT 1 / (id - {ROWS}) FROM o.t ORDER BY id");
    assert!(matches!(wire.simple(&statement), Err(Error::Server(_))));
    let after = used(&mut wire, "rows_per_day");
    let mut admin = kho.admin();
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE kho_auditor");
    let mut auditor = kho.connect("auditor");
    let counted = "SELECT sum(rows) FROM kho.audit_log WHERE role = 'an' AND 'o.t' = ANY(datasets)";
    super::wait_for(|| auditor.value(counted), &after.to_string());
    let abandoned = "SELECT outcome, rows FROM kho.audit_log WHERE role = 'an' AND rows = 500";
    let found = auditor.rows(abandoned);
    assert_eq!(found, [[Some("abandoned".to_owned()), Some("500".to_owned())]]);
}
