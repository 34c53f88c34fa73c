//! What becomes of a table that is there, or is not; and columns by their names.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow_flight::sql::{
    CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use kho_server::flight::ingest::{Existing, Target};
use kho_tests::inside::run;

use super::{answer, append, batch, load, numbers, play, refused, served, target, texts};

#[test]
fn rows_go_by_the_names_of_their_columns() {
    play(|| async {
        let (_server, mut session) = served().await;
        let create = "CREATE TABLE s.t (id integer, ward text DEFAULT 'Phú Hội', \"Born In\" text)";
        run(&mut session, create).await.unwrap();
        let rows = batch(&[("Born In", texts(&["Huế", "Hội An"])), ("id", numbers(&[1, 2]))]);
        let loaded = load(&mut session, &append("t"), &[rows.clone(), rows]).await.unwrap();
        assert_eq!((loaded.rows, loaded.version), (4, Some(1)));
        let found = answer(&mut session, "SELECT * FROM s.t WHERE id = 2").await;
        assert_eq!(found, "2 Phú Hội Hội An; 2 Phú Hội Hội An");

        for (columns, sqlstate, said) in [
            (vec![("id", numbers(&[1])), ("born in", texts(&["x"]))], "42703", "\"born in\""),
            (vec![("id", numbers(&[1])), ("extra", numbers(&[1]))], "42703", "\"extra\""),
            (vec![("id", numbers(&[1])), ("Born In", numbers(&[1]))], "", ""),
            (
                vec![(
                    "id",
                    std::sync::Arc::new(arrow::array::BooleanArray::from(vec![true])) as _,
                )],
                "42804",
                "column \"id\" of relation \"t\" is of type integer, but what is sent is of type Boolean",
            ),
        ] {
            let result = load(&mut session, &append("t"), &[batch(&columns)]).await;
            match sqlstate {
                "" => assert_eq!(result.unwrap().rows, 1),
                sqlstate => {
                    let error = refused(result);
                    assert_eq!(error.sqlstate(), sqlstate, "{error:?}");
                    assert!(error.message().contains(said), "{error:?}");
                }
            }
        }
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t").await, "5");
    });
}

#[test]
fn a_load_makes_its_table_or_fails_with_the_one_that_is_there() {
    play(|| async {
        let (_server, mut session) = served().await;
        let rows = batch(&[("id", numbers(&[1, 2])), ("na\"me", texts(&["a", "b"]))]);
        let create = target("n", true, Existing::Fail);
        let loaded = load(&mut session, &create, std::slice::from_ref(&rows)).await.unwrap();
        assert_eq!(loaded.rows, 2);
        assert!(loaded.version.is_some());
        let columns = "SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) \
             FROM information_schema.columns WHERE table_name = 'n'";
        assert_eq!(answer(&mut session, columns).await, "id bigint, na\"me text");
        let error = refused(load(&mut session, &create, std::slice::from_ref(&rows)).await);
        assert_eq!(error.sqlstate(), "42P07", "{error:?}");
        let either = target("n", true, Existing::Append);
        load(&mut session, &either, std::slice::from_ref(&rows)).await.unwrap();
        load(&mut session, &target("m", true, Existing::Append), std::slice::from_ref(&rows))
            .await
            .unwrap();
        let counts = "SELECT (SELECT count(*) FROM s.n), (SELECT count(*) FROM s.m)";
        assert_eq!(answer(&mut session, counts).await, "4 2");
        let error = refused(load(&mut session, &append("nowhere"), &[rows]).await);
        assert_eq!(error.sqlstate(), "42P01", "{error:?}");
    });
}

#[test]
fn a_load_that_fails_makes_no_table() {
    play(|| async {
        let (_server, mut session) = served().await;
        let create = target("n", true, Existing::Fail);
        let rows = batch(&[("id", numbers(&[1])), ("id", numbers(&[1]))]);
        let error = refused(load(&mut session, &create, &[rows]).await);
        assert_eq!(error.sqlstate(), "42701", "{error:?}");
        assert_eq!(answer(&mut session, "SELECT to_regclass('s.n')").await, "NULL");
        assert_eq!(answer(&mut session, "SELECT 1").await, "1");
    });
}

#[test]
fn of_loads_that_come_at_once_one_makes_the_table() {
    play(|| async {
        let (server, mut first) = served().await;
        let mut second = server.connect().await.unwrap();
        let mut third = server.connect().await.unwrap();
        let rows = [batch(&[("id", numbers(&[1, 2]))])];
        for (name, existing, count) in
            [("appended", Existing::Append, "6"), ("replaced", Existing::Replace, "2")]
        {
            let to = target(name, true, existing);
            let (one, two, three) = tokio::join!(
                load(&mut first, &to, &rows),
                load(&mut second, &to, &rows),
                load(&mut third, &to, &rows)
            );
            for loaded in [one, two, three] {
                assert_eq!(loaded.unwrap().rows, 2);
            }
            assert_eq!(answer(&mut first, &format!("SELECT count(*) FROM s.{name}")).await, count);
        }
        let to = target("failed", true, Existing::Fail);
        let (one, two) = tokio::join!(load(&mut first, &to, &rows), load(&mut second, &to, &rows));
        let failed = one.err().or(two.err());
        assert_eq!(failed.map(|error| error.sqlstate().to_owned()).as_deref(), Some("42P07"));
        assert_eq!(answer(&mut first, "SELECT count(*) FROM s.failed").await, "2");
    });
}

/// PostgreSQL cuts identifiers to 63 bytes, between characters.
#[test]
fn a_table_that_was_made_by_a_long_name_is_found_by_it() {
    play(|| async {
        let (_server, mut session) = served().await;
        let (name, column) = ("đ".repeat(40), "x".repeat(80));
        let rows = [batch(&[("id", numbers(&[1, 2])), (column.as_str(), numbers(&[3, 4]))])];
        for existing in [Existing::Fail, Existing::Append] {
            let to = target(&name, true, existing);
            assert_eq!(load(&mut session, &to, &rows).await.unwrap().rows, 2);
        }
        assert_eq!(load(&mut session, &append(&name), &rows).await.unwrap().rows, 2);
        let (name, column) = (&name[..62], &column[..63]);
        let sum = format!("SELECT sum(\"{column}\") FROM s.\"{name}\"");
        assert_eq!(answer(&mut session, &sum).await, "21");
    });
}

/// Its rows are replaced in one commit; what rules it stays.
#[test]
fn a_table_that_is_replaced_keeps_its_rules_and_its_history() {
    play(|| async {
        let (_server, mut session) = served().await;
        for statement in [
            "CREATE TABLE s.t (id integer, ward text)",
            "INSERT INTO s.t VALUES (1, 'a'), (2, 'b')",
            "ALTER TABLE s.t ENABLE ROW LEVEL SECURITY",
        ] {
            run(&mut session, statement).await.unwrap();
        }
        let replace = target("t", true, Existing::Replace);
        let rows = batch(&[("ward", texts(&["c"])), ("id", numbers(&[3]))]);
        let loaded = load(&mut session, &replace, &[rows]).await.unwrap();
        assert_eq!((loaded.rows, loaded.version), (1, Some(2)));
        assert_eq!(answer(&mut session, "SELECT * FROM s.t").await, "3 c");
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t VERSION AS OF 1").await, "2");
        let guarded = "SELECT relrowsecurity FROM pg_class WHERE relname = 't'";
        assert_eq!(answer(&mut session, guarded).await, "true");

        let rows = batch(&[("id", numbers(&[3])), ("new", numbers(&[3]))]);
        let error = refused(load(&mut session, &replace, &[rows]).await);
        assert_eq!(error.sqlstate(), "42703", "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("ALTER TABLE")), "{error:?}");
        assert_eq!(answer(&mut session, "SELECT * FROM s.t").await, "3 c");
        let missing = target("m", false, Existing::Replace);
        let error = refused(load(&mut session, &missing, &[batch(&[("id", numbers(&[1]))])]).await);
        assert_eq!(error.sqlstate(), "42P01", "{error:?}");
    });
}

#[test]
fn a_load_in_a_block_is_the_blocks() {
    play(|| async {
        let (server, mut session) = served().await;
        let mut other = server.connect().await.unwrap();
        run(&mut session, "CREATE TABLE s.t (id integer)").await.unwrap();
        let rows = [batch(&[("id", numbers(&[1, 2]))])];
        run(&mut session, "BEGIN").await.unwrap();
        let loaded = load(&mut session, &append("t"), &rows).await.unwrap();
        assert_eq!((loaded.rows, loaded.version), (2, None));
        load(&mut session, &append("t"), &rows).await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t").await, "4");
        assert_eq!(answer(&mut other, "SELECT count(*) FROM s.t").await, "0");
        run(&mut session, "COMMIT").await.unwrap();
        assert_eq!(answer(&mut other, "SELECT count(*) FROM s.t").await, "4");

        run(&mut session, "BEGIN").await.unwrap();
        load(&mut session, &target("n", true, Existing::Fail), &rows).await.unwrap();
        run(&mut session, "ROLLBACK").await.unwrap();
        assert_eq!(answer(&mut session, "SELECT to_regclass('s.n')").await, "NULL");

        run(&mut session, "BEGIN").await.unwrap();
        refused(load(&mut session, &append("nowhere"), &rows).await);
        assert_eq!(refused(run(&mut session, "SELECT 1").await).sqlstate(), "25P02");
        run(&mut session, "ROLLBACK").await.unwrap();
    });
}

#[test]
fn what_a_command_asks_for_is_done_or_refused() {
    use TableExistsOption as E;
    use TableNotExistOption as N;
    let command = |not_exist: N, exists: E| CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: not_exist.into(),
            if_exists: exists.into(),
        }),
        table: "t".to_owned(),
        schema: Some("s".to_owned()),
        ..CommandStatementIngest::default()
    };
    let state = |command: &CommandStatementIngest| {
        Target::of_command(command).map_or_else(|error| error.sqlstate(), |_| "")
    };
    for (not_exist, exists, sqlstate) in [
        (N::Create, E::Append, ""),
        (N::Create, E::Replace, ""),
        (N::Create, E::Fail, ""),
        (N::Fail, E::Append, ""),
        (N::Fail, E::Replace, ""),
        (N::Fail, E::Fail, "22023"),
        (N::Unspecified, E::Append, "22023"),
        (N::Fail, E::Unspecified, "22023"),
    ] {
        assert_eq!(state(&command(not_exist, exists)), sqlstate, "{not_exist:?} {exists:?}");
    }
    let append = command(N::Fail, E::Append);
    let temporary = CommandStatementIngest { temporary: true, ..append.clone() };
    assert_eq!(state(&temporary), "0A000");
    let catalog =
        |name: &str| CommandStatementIngest { catalog: Some(name.to_owned()), ..append.clone() };
    assert_eq!((state(&catalog("kho")), state(&catalog("other"))), ("", "3D000"));
    let options = [("fast".to_owned(), "yes".to_owned())].into();
    assert_eq!(state(&CommandStatementIngest { options, ..append.clone() }), "0A000");
    assert_eq!(state(&CommandStatementIngest { table: String::new(), ..append.clone() }), "42602");
    let unsaid = CommandStatementIngest { table_definition_options: None, ..append };
    assert_eq!(state(&unsaid), "22023");
}

#[test]
fn a_table_made_by_a_load_has_the_types_of_arrows_extensions() {
    play(|| async {
        let (_server, mut session) = served().await;
        let extended = |name: &str, of: DataType, extension: &str| {
            let said = [("ARROW:extension:name".to_owned(), extension.to_owned())];
            Field::new(name, of, true).with_metadata(said.into())
        };
        let fields = vec![
            extended("id", DataType::FixedSizeBinary(16), "arrow.uuid"),
            extended("said", DataType::Utf8, "arrow.json"),
        ];
        let schema = Arc::new(Schema::new(fields));
        let ids = FixedSizeBinaryArray::try_from_iter([[0x11_u8; 16]].into_iter()).unwrap();
        let of = |said: &str| {
            let columns: Vec<ArrayRef> = vec![Arc::new(ids.clone()), texts(&[said])];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        };
        let create = target("x", true, Existing::Append);
        load(&mut session, &create, &[of("{\"a\": 1}")]).await.unwrap();
        let found =
            answer(&mut session, "SELECT id, pg_typeof(id), pg_typeof(said) FROM s.x").await;
        assert_eq!(found, "11111111-1111-1111-1111-111111111111 uuid json");
        let error = refused(load(&mut session, &create, &[of("bad")]).await);
        assert_eq!(error.sqlstate(), "22P02", "{error:?}");

        let empty = Field::new("nothing", DataType::Struct(Fields::empty()), true);
        let nothing = Arc::new(StructArray::new_empty_fields(1, None)) as ArrayRef;
        let schema = Arc::new(Schema::new(vec![empty]));
        let rows = RecordBatch::try_new(schema, vec![nothing]).unwrap();
        let error = refused(load(&mut session, &target("y", true, Existing::Fail), &[rows]).await);
        assert_eq!(error.sqlstate(), "0A000", "{error:?}");
        assert!(error.message().contains("\"nothing\""), "{error:?}");
    });
}
