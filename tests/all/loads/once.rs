//! A load with a stream and a number is applied once, in every mode.

use kho_server::flight::ingest::Existing;
use kho_tests::inside::run;

use super::{answer, append, batch, load, load_named, numbers, play, refused, served, target};

#[test]
fn a_load_that_was_applied_is_success_and_nothing_more() {
    play(|| async {
        let (_server, mut session) = served().await;
        run(&mut session, "CREATE TABLE s.t (id integer)").await.unwrap();
        let rows = [batch(&[("id", numbers(&[1, 2]))])];
        let to = append("t");
        let first = load_named(&mut session, &to, Some(("clinic", "1")), &rows).await.unwrap();
        let again = load_named(&mut session, &to, Some(("clinic", "1")), &rows).await.unwrap();
        assert_eq!((first.rows, first.version), (2, Some(1)));
        assert_eq!((again.rows, again.version), (2, Some(1)));
        load_named(&mut session, &to, Some(("clinic", "2")), &rows).await.unwrap();
        for (name, sqlstate) in [
            (("clinic", "4"), "55000"),
            (("clinic", "1"), "55000"),
            (("clinic", "first"), "22023"),
            (("clinic", ""), "22023"),
            (("", "1"), "22023"),
        ] {
            let error = refused(load_named(&mut session, &to, Some(name), &rows).await);
            assert_eq!(error.sqlstate(), sqlstate, "{name:?}: {error:?}");
        }
        // What is written next is no load.
        load(&mut session, &to, &rows).await.unwrap();
        run(&mut session, "INSERT INTO s.t VALUES (9)").await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t").await, "7");
        assert_eq!(answer(&mut session, "SHOW kho.load_stream").await, "");
    });
}

#[test]
fn a_load_that_made_or_replaced_its_table_finds_itself() {
    play(|| async {
        let (_server, mut session) = served().await;
        let rows = [batch(&[("id", numbers(&[1, 2]))])];
        let create = target("n", true, Existing::Fail);
        let name = Some(("clinic", "1"));
        let first = load_named(&mut session, &create, name, &rows).await.unwrap();
        let again = load_named(&mut session, &create, name, &rows).await.unwrap();
        assert_eq!((first.version, again.version, again.rows), (first.version, first.version, 2));
        let next = Some(("clinic", "2"));
        let error = refused(load_named(&mut session, &create, next, &rows).await);
        assert_eq!(error.sqlstate(), "42P07", "{error:?}");
        let error = refused(load_named(&mut session, &create, Some(("x", "1")), &rows).await);
        assert_eq!(error.sqlstate(), "42P07", "{error:?}");

        let replace = target("n", true, Existing::Replace);
        load_named(&mut session, &replace, next, &rows).await.unwrap();
        run(&mut session, "INSERT INTO s.n VALUES (3)").await.unwrap();
        load_named(&mut session, &replace, next, &rows).await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.n").await, "3");
    });
}

#[test]
fn a_load_of_no_rows_is_one_too() {
    play(|| async {
        let (_server, mut session) = served().await;
        run(&mut session, "CREATE TABLE s.t (id integer)").await.unwrap();
        let none = [batch(&[("id", numbers(&[]))])];
        let loaded = load(&mut session, &append("t"), &none).await.unwrap();
        assert_eq!((loaded.rows, loaded.version), (0, Some(0)));
        let name = Some(("clinic", "1"));
        let loaded = load_named(&mut session, &append("t"), name, &none).await.unwrap();
        assert_eq!((loaded.rows, loaded.version), (0, Some(1)));
        let rows = [batch(&[("id", numbers(&[1]))])];
        load_named(&mut session, &append("t"), Some(("clinic", "2")), &rows).await.unwrap();
        let empty = target("e", true, Existing::Fail);
        load(&mut session, &empty, &none).await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.e").await, "0");
    });
}

/// In a block each load is whole by itself: the second of the same is nothing more, unless a savepoint has
/// undone the first.
#[test]
fn a_load_that_is_sent_twice_in_a_block_is_applied_once() {
    play(|| async {
        let (_server, mut session) = served().await;
        run(&mut session, "CREATE TABLE s.t (id integer)").await.unwrap();
        let rows = [batch(&[("id", numbers(&[1, 2, 3]))])];
        let name = Some(("clinic", "1"));
        let count = "SELECT count(*) FROM s.t";
        run(&mut session, "BEGIN").await.unwrap();
        run(&mut session, "SAVEPOINT before").await.unwrap();
        assert_eq!(load_named(&mut session, &append("t"), name, &rows).await.unwrap().rows, 3);
        run(&mut session, "ROLLBACK TO before").await.unwrap();
        assert_eq!(load_named(&mut session, &append("t"), name, &rows).await.unwrap().rows, 3);
        assert_eq!(load_named(&mut session, &append("t"), name, &rows).await.unwrap().rows, 0);
        assert_eq!(answer(&mut session, count).await, "3");
        run(&mut session, "COMMIT").await.unwrap();
        load_named(&mut session, &append("t"), name, &rows).await.unwrap();
        assert_eq!(answer(&mut session, count).await, "3");

        // A table that the block makes, and one that it replaces.
        let create = target("n", true, Existing::Append);
        run(&mut session, "BEGIN").await.unwrap();
        load_named(&mut session, &create, name, &rows).await.unwrap();
        load_named(&mut session, &create, name, &rows).await.unwrap();
        run(&mut session, "COMMIT").await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.n").await, "3");
        let replace = target("n", true, Existing::Replace);
        let next = Some(("clinic", "2"));
        run(&mut session, "BEGIN").await.unwrap();
        load_named(&mut session, &replace, next, &rows).await.unwrap();
        load_named(&mut session, &replace, next, &rows).await.unwrap();
        run(&mut session, "COMMIT").await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.n").await, "3");
    });
}
