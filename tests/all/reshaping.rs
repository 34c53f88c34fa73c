//! Columns change in two logs, the table's and the catalog's: whatever fails between the commits,
//! and wherever the server ends, both changed or neither.

use std::sync::Arc;

use kho_catalog::error::Result;
use kho_tests::faults::{Access, Area, Fault, FaultyStore, Planned};
use kho_tests::inside::{STACK_BYTES, Server, Warehouse, run, runtime};

const SETUP: &[&str] = &[
    "CREATE TABLE s.t (k bigint NOT NULL, v bigint DEFAULT 7, CHECK (v >= 0))",
    "INSERT INTO s.t VALUES (1, 10), (2, 20)",
    "CREATE VIEW s.w AS SELECT v FROM s.t",
    "CREATE TABLE s.u (k bigint, more bigint DEFAULT 3)",
    "INSERT INTO s.u VALUES (1, 2)",
    "ALTER TABLE s.u DROP COLUMN more",
];

const CHANGES: &[&str] = &[
    "ALTER TABLE s.t ADD COLUMN c bigint",
    "ALTER TABLE s.t ADD COLUMN c bigint NOT NULL DEFAULT 5 CHECK (c > 0)",
    "ALTER TABLE s.t DROP COLUMN v CASCADE",
    "ALTER TABLE s.t RENAME COLUMN k TO key",
    "ALTER TABLE s.t ALTER COLUMN k DROP NOT NULL",
    "CALL kho.restore_table('s.u', version => 1)",
];

/// How each write fails, and whether the server ends with it.
const FAILURES: &[(Fault, bool)] = &[
    (Fault::Before, false),
    (Fault::After, false),
    (Fault::Before, true),
    (Fault::After, true),
    (Fault::Late(3), true),
];

/// What a client can see of the tables; the last ones write.
const QUESTIONS: &[&str] = &[
    "SELECT * FROM s.t ORDER BY 1",
    "SELECT * FROM s.u ORDER BY 1",
    "SELECT table_name, column_name, is_nullable, column_default FROM information_schema.columns \
     WHERE table_schema = 's' ORDER BY table_name, ordinal_position",
    "SELECT conname FROM pg_catalog.pg_constraint ORDER BY 1",
    "SELECT count(*) FROM s.w",
    "INSERT INTO s.t SELECT 3",
    "INSERT INTO s.t (k) VALUES (NULL)",
    "INSERT INTO s.u SELECT 3",
    "SELECT * FROM s.t ORDER BY 1",
    "SELECT * FROM s.u ORDER BY 1",
];

#[test]
fn columns_change_in_both_logs_or_in_neither() {
    for change in CHANGES {
        let change = *change;
        let played = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || runtime().block_on(every_failure(change)));
        played.unwrap().join().unwrap().unwrap_or_else(|error| panic!("{change}: {error:?}"));
    }
}

/// Fails every write of `change` in turn, before and after it is done, with and without the
/// server's end.
async fn every_failure(change: &str) -> Result<()> {
    let before = seen(&warehouse().await?.serve_well("after").await?).await?;
    let whole = warehouse().await?;
    let server = whole.serve_well("a").await?;
    run(&mut server.connect().await?, change).await?;
    let after = seen(&server).await?;
    assert_ne!(before, after, "{change} shows nowhere");
    let mut failed = 0;
    for area in [Area::Catalog, Area::Log, Area::Data] {
        for (fault, cut) in FAILURES {
            for nth in 0.. {
                let planned =
                    Planned { area, access: Access::Write, nth, fault: *fault, cut: *cut };
                let (acknowledged, seen) = one(change, planned).await?;
                let Some(seen) = seen else { break };
                failed += 1;
                let right = seen == after || (!acknowledged && seen == before);
                assert!(
                    right,
                    "{change}, {planned:?}, acknowledged: {acknowledged}\n{seen:#?}\n\
                     before: {before:#?}\nafter: {after:#?}"
                );
            }
        }
    }
    assert!(failed > 10, "{change} writes more than {failed} failures say");
    Ok(())
}

/// Whether `change` was acknowledged, and what is seen then; `None` where the fault did not come.
async fn one(change: &str, planned: Planned) -> Result<(bool, Option<Vec<String>>)> {
    let warehouse = warehouse().await?;
    let store = Arc::new(FaultyStore::new(&warehouse.store, None, Vec::new()));
    let server = warehouse.serve("a", store.clone()).await?;
    let mut session = server.connect().await?;
    // Counted from here on.
    let nth = planned.nth + store.seen(planned.area, planned.access);
    store.plan(Planned { nth, ..planned });
    let acknowledged = run(&mut session, change).await.is_ok();
    if store.seen(planned.area, planned.access) <= nth {
        return Ok((acknowledged, None));
    }
    let seen = match planned.cut {
        false => seen(&server).await?,
        true => {
            drop((session, server));
            store.settle().await;
            seen(&warehouse.serve_well("after").await?).await?
        }
    };
    Ok((acknowledged, Some(seen)))
}

async fn warehouse() -> Result<Warehouse> {
    let warehouse = Warehouse::in_memory();
    let server = warehouse.serve_well("setup").await?;
    let mut session = server.connect().await?;
    for statement in SETUP {
        run(&mut session, statement).await?;
    }
    Ok(warehouse)
}

async fn seen(server: &Server) -> Result<Vec<String>> {
    let mut session = server.connect().await?;
    let mut seen = Vec::new();
    for question in QUESTIONS {
        seen.push(match run(&mut session, question).await {
            Ok(reply) => format!("{question}: {} {:?} {:?}", reply.tag, reply.names, reply.rows),
            Err(error) => format!("{question}: {}", error.sqlstate()),
        });
    }
    Ok(seen)
}
