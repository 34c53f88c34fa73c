//! Loaders that may not, that lie, and that go away.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::FlightData;
use futures::{StreamExt, stream};
use kho_catalog::error::Result;
use kho_server::flight::ingest::{Arriving, Existing, ingest};
use kho_sql::session::{Held, Session};
use kho_tests::inside::run;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    SILENCE, answer, append, arriving, batch, load, messages, numbers, play, refused, served,
    target, texts,
};

type Messages = Vec<Result<FlightData, Status>>;

/// What a load of these messages into `s.t` is refused with; and that nothing of it is there.
async fn refusal(session: &mut Session, messages: Messages) -> String {
    let loaded = match arriving(messages).await {
        Ok(arriving) => {
            ingest(session, &append("t"), None, arriving, &CancellationToken::new()).await
        }
        Err(error) => Err(error),
    };
    let error = refused(loaded);
    assert_eq!(answer(session, "SELECT count(*) FROM s.t").await, "0", "{error:?}");
    error.sqlstate().to_owned()
}

async fn with_table() -> (kho_tests::inside::Server, Session) {
    let (server, mut session) = served().await;
    run(&mut session, "CREATE TABLE s.t (id integer, name text)").await.unwrap();
    (server, session)
}

fn rows() -> RecordBatch {
    batch(&[("id", numbers(&[1, 2])), ("name", texts(&["a", "b"]))])
}

#[test]
fn a_stream_that_breaks_off_or_changes_leaves_nothing() {
    play(|| async {
        let (_server, mut session) = with_table().await;
        let whole = || messages(&[rows(), rows()]);
        let mut broken = whole();
        broken.push(Err(Status::unknown("h2 protocol error")));
        assert_eq!(refusal(&mut session, broken).await, "08006");
        let mut large = whole();
        large.push(Err(Status::out_of_range("decoded message length too large")));
        assert_eq!(refusal(&mut session, large).await, "54000");
        let mut changed = whole();
        changed.extend(messages(&[batch(&[("id", texts(&["1"]))])]));
        assert_eq!(refusal(&mut session, changed).await, "42804");
        let mut again = whole();
        again.extend(whole());
        assert_eq!(refusal(&mut session, again).await, "42804");
        assert_eq!(refusal(&mut session, Vec::new()).await, "22P04");
        let headless = whole().split_off(1);
        assert_eq!(refusal(&mut session, headless).await, "22P04");
        // A message of nothing but metadata is none of the load's.
        let mut metadata = whole();
        metadata.insert(1, Ok(FlightData { app_metadata: "x".into(), ..FlightData::default() }));
        let arriving = arriving(metadata).await.unwrap();
        let loaded =
            ingest(&mut session, &append("t"), None, arriving, &CancellationToken::new()).await;
        assert_eq!(loaded.unwrap().rows, 4);
    });
}

#[test]
fn what_is_no_arrow_data_is_refused() {
    play(|| async {
        let (_server, mut session) = with_table().await;
        let with = |change: &dyn Fn(&mut FlightData)| {
            let mut whole = messages(&[rows(), rows()]);
            if let Some(Ok(last)) = whole.last_mut() {
                change(last);
            }
            whole
        };
        let header = with(&|it| it.data_header = vec![0xff; 64].into());
        assert_eq!(refusal(&mut session, header).await, "22P04");
        let body = with(&|it| it.data_body = it.data_body.slice(..8));
        assert_eq!(refusal(&mut session, body).await, "22P04");
        let nothing = with(&|it| it.data_header = Vec::new().into());
        assert_eq!(refusal(&mut session, nothing).await, "22P04");
        // Offsets of the texts that point outside of them, and texts that are none.
        let offsets = with(&|it| {
            let mut body = it.data_body.to_vec();
            for byte in body.iter_mut().skip(16) {
                *byte = 0xff;
            }
            it.data_body = body.into();
        });
        assert_eq!(refusal(&mut session, offsets).await, "22P04");
        // Whatever single byte of a header is wrong, the server stays up.
        let length = match messages(&[rows()]).pop() {
            Some(Ok(last)) => last.data_header.len(),
            _ => 0,
        };
        for at in 0..length {
            for wrong in [0x00, 0x7f, 0x80, 0xff] {
                let messages = with(&|it| {
                    let mut header = it.data_header.to_vec();
                    header[at] = wrong;
                    it.data_header = header.into();
                });
                if let Ok(mut arriving) = arriving(messages).await {
                    while let Ok(Some(_)) = arriving.next().await {}
                }
            }
        }
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t").await, "0");
    });
}

/// A packed buffer that says it is a terabyte, or says it is small and is not.
#[test]
fn a_message_that_unpacks_to_too_much_is_refused() {
    use arrow::ipc::CompressionType;
    play(|| async {
        let (_server, mut session) = with_table().await;
        let zeros =
            batch(&[("id", numbers(&vec![0; 1 << 16])), ("name", texts(&vec![""; 1 << 16]))]);
        for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
            let packed = || async {
                let options = IpcWriteOptions::default().try_with_compression(Some(codec)).unwrap();
                let encoder = arrow_flight::encode::FlightDataEncoderBuilder::new()
                    .with_options(options)
                    .build(stream::iter([Ok(zeros.clone())]));
                encoder.map(|it| it.map_err(Status::from)).collect::<Messages>().await
            };
            for lie in [i64::MAX, 1 << 40, 16, -2] {
                let mut lying = packed().await;
                if let Some(Ok(last)) = lying.last_mut() {
                    let mut body = last.data_body.to_vec();
                    // Every buffer that begins with the length of the ids, or of their bits.
                    let stated = (8i64 << 16).to_le_bytes();
                    let at = body.windows(8).position(|it| it == stated).unwrap();
                    body[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                    last.data_body = body.into();
                }
                let sqlstate = refusal(&mut session, lying).await;
                assert!(["22P04", "54000"].contains(&sqlstate.as_str()), "{codec:?} {lie}");
            }
            let (_server, mut other) = with_table().await;
            let arriving = arriving(packed().await).await.unwrap();
            let loaded =
                ingest(&mut other, &append("t"), None, arriving, &CancellationToken::new()).await;
            assert_eq!(loaded.unwrap().rows, 1 << 16, "{codec:?}");
        }
    });
}

#[test]
fn dictionaries_do_not_add_up_without_end() {
    play(|| async {
        let (_server, mut session) = with_table().await;
        let value = "x".repeat(1 << 20);
        let of = |name: usize| {
            let values: ArrayRef = Arc::new(StringArray::from(vec![value.as_str(); 8]));
            let keys = Int32Array::from(vec![0]);
            let column: ArrayRef = Arc::new(DictionaryArray::try_new(keys, values).unwrap());
            (format!("c{name}"), column)
        };
        let columns: Vec<(String, ArrayRef)> = (0..40).map(of).collect();
        let wide = RecordBatch::try_from_iter(columns).unwrap();
        assert_eq!(refusal(&mut session, messages(&[wide])).await, "54000");
    });
}

/// Rows without values cost a message nothing.
#[test]
fn a_batch_of_endless_rows_is_refused() {
    play(|| async {
        let (_server, mut session) = with_table().await;
        let schema = Arc::new(Schema::new(vec![Field::new("name", DataType::Null, true)]));
        let endless: ArrayRef = Arc::new(arrow::array::NullArray::new(1 << 40));
        let rows = RecordBatch::try_new(schema, vec![endless]).unwrap();
        assert_eq!(refusal(&mut session, messages(&[rows])).await, "54000");
    });
}

/// A client that falls silent holds no table for ever; nor does one that says what it will send.
#[test]
fn silence_ends_a_load() {
    play(|| async {
        let (server, mut session) = with_table().await;
        let mut other = server.connect().await.unwrap();
        let silence = Duration::from_millis(200);
        let silent = stream::iter(messages(&[rows()])).chain(stream::pending());
        let arriving = Arriving::open(silent, silence, Held::without_limit()).await.unwrap();
        let stop = CancellationToken::new();
        let to = append("t");
        let loading = ingest(&mut session, &to, None, arriving, &stop);
        let (loaded, inserted) =
            tokio::join!(loading, run(&mut other, "INSERT INTO s.t VALUES (9, 'i')"));
        assert_eq!(refused(loaded).sqlstate(), "57014");
        inserted.unwrap();
        assert_eq!(answer(&mut session, "SELECT id FROM s.t").await, "9");

        let only_schema = stream::iter(messages(&[rows()]).into_iter().take(1));
        let arriving =
            Arriving::open(only_schema.chain(stream::pending()), SILENCE, Held::without_limit())
                .await
                .unwrap();
        tokio::select! {
            biased;
            _ = ingest(&mut session, &to, None, arriving, &stop) => panic!("it is not waited for"),
            inserted = run(&mut other, "INSERT INTO s.t VALUES (10, 'j')") => drop(inserted.unwrap()),
        }
    });
}

#[test]
fn a_load_is_cancelled_and_times_out() {
    play(|| async {
        let (_server, mut session) = with_table().await;
        let open = || async {
            let silent = stream::iter(messages(&[rows()])).chain(stream::pending());
            Arriving::open(silent, SILENCE, Held::without_limit()).await.unwrap()
        };
        let stop = CancellationToken::new();
        let to = append("t");
        let arriving = open().await;
        let cancel = async {
            tokio::task::yield_now().await;
            stop.cancel();
        };
        let (loaded, ()) = tokio::join!(ingest(&mut session, &to, None, arriving, &stop), cancel);
        assert_eq!(refused(loaded).sqlstate(), "57014");
        run(&mut session, "SET statement_timeout = '50ms'").await.unwrap();
        let arriving = open().await;
        let loaded = ingest(&mut session, &to, None, arriving, &CancellationToken::new()).await;
        assert_eq!(refused(loaded).sqlstate(), "57014");
        run(&mut session, "SET statement_timeout = 0").await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t").await, "0");
    });
}

/// What a role may not write it does not load, whatever the mode; what it may not see is not there.
#[test]
fn rights_hold() {
    play(|| async {
        let (server, mut admin) = with_table().await;
        for statement in [
            "CREATE ROLE an LOGIN",
            "CREATE VIEW s.v AS SELECT * FROM s.t",
            "CREATE TABLE s.hidden (id integer)",
            "GRANT USAGE ON SCHEMA s TO an",
            "GRANT SELECT ON s.t, s.v TO an",
        ] {
            run(&mut admin, statement).await.unwrap();
        }
        let mut an = server.connect_as("an", &[]).await.unwrap();
        let two = || rows();
        let one = || batch(&[("id", numbers(&[1]))]);
        let every = [
            (false, Existing::Append),
            (false, Existing::Replace),
            (true, Existing::Append),
            (true, Existing::Replace),
        ];
        for (creates, existing) in every {
            let error = refused(load(&mut an, &target("t", creates, existing), &[two()]).await);
            assert_eq!(error.sqlstate(), "42501", "{creates} {existing:?}: {error:?}");
        }
        // A hidden table and none at all are told apart by nothing but that the name is taken.
        for (creates, existing) in every {
            let mut say = async |name: &str| {
                let error =
                    refused(load(&mut an, &target(name, creates, existing), &[one()]).await);
                (error.sqlstate(), error.message().replace(name, "?"))
            };
            let (hidden, absent) = (say("hidden").await, say("absent").await);
            assert_eq!(hidden, absent, "{creates} {existing:?}");
        }
        let view = refused(load(&mut admin, &append("v"), &[two()]).await);
        assert_eq!(view.sqlstate(), "42809", "{view:?}");
        let view = refused(load(&mut admin, &target("v", true, Existing::Replace), &[two()]).await);
        assert_eq!(view.sqlstate(), "42809", "{view:?}");
        let system = kho_server::flight::name::RelationName::new(
            Some("pg_catalog".to_owned()),
            "pg_class".to_owned(),
        );
        let system = kho_server::flight::ingest::Target::append(system.unwrap());
        let error =
            refused(load(&mut admin, &system, &[batch(&[("relname", texts(&["x"]))])]).await);
        assert!(["42501", "42809", "42P01"].contains(&error.sqlstate()), "{error:?}");

        run(&mut admin, "GRANT INSERT (id) ON s.t TO an").await.unwrap();
        let error = refused(load(&mut an, &append("t"), &[two()]).await);
        assert_eq!(error.sqlstate(), "42501", "{error:?}");
        load(&mut an, &append("t"), &[one()]).await.unwrap();
        let error = refused(load(&mut an, &target("t", true, Existing::Replace), &[one()]).await);
        assert_eq!(error.sqlstate(), "42501", "to replace takes TRUNCATE: {error:?}");
        assert_eq!(answer(&mut admin, "SELECT count(*) FROM s.t").await, "1");
    });
}

#[test]
fn policies_and_checks_hold() {
    play(|| async {
        let (server, mut admin) = with_table().await;
        for statement in [
            "CREATE ROLE an LOGIN",
            "GRANT USAGE ON SCHEMA s TO an",
            "GRANT SELECT, INSERT ON s.t TO an",
            "ALTER TABLE s.t ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON s.t FOR INSERT TO an WITH CHECK (name = current_user)",
            "ALTER TABLE s.t ADD CONSTRAINT positive CHECK (id > 0)",
        ] {
            run(&mut admin, statement).await.unwrap();
        }
        let mut an = server.connect_as("an", &[]).await.unwrap();
        let row = |id: i64, name: &str| batch(&[("id", numbers(&[id])), ("name", texts(&[name]))]);
        load(&mut an, &append("t"), &[row(1, "an")]).await.unwrap();
        let error = refused(load(&mut an, &append("t"), &[row(1, "an"), row(2, "ba")]).await);
        assert_eq!(error.sqlstate(), "42501", "{error:?}");
        let error = refused(load(&mut an, &append("t"), &[row(-1, "an")]).await);
        assert_eq!(error.sqlstate(), "23514", "{error:?}");
        assert_eq!(answer(&mut admin, "SELECT count(*) FROM s.t").await, "1");
    });
}

#[test]
fn keys_hold() {
    play(|| async {
        let (_server, mut session) = served().await;
        run(&mut session, "CREATE TABLE s.k (id bigint PRIMARY KEY)").await.unwrap();
        let rows =
            |of: &[i64]| [batch(&[("id", Arc::new(Int64Array::from(of.to_vec())) as ArrayRef)])];
        load(&mut session, &append("k"), &rows(&[1, 2])).await.unwrap();
        for duplicate in [[2, 3], [4, 4]] {
            let error = refused(load(&mut session, &append("k"), &rows(&duplicate)).await);
            assert_eq!(error.sqlstate(), "23505", "{error:?}");
        }
        let replace = target("k", false, Existing::Replace);
        load(&mut session, &replace, &rows(&[2, 3])).await.unwrap();
        assert_eq!(answer(&mut session, "SELECT id FROM s.k ORDER BY id").await, "2; 3");
    });
}

/// Names are names, whatever is in them.
#[test]
fn names_are_not_taken_for_sql() {
    play(|| async {
        let (_server, mut session) = with_table().await;
        let name = "x\"); DROP TABLE s.t; --";
        let create = target(name, true, Existing::Fail);
        let rows = || [batch(&[("a\" integer); DROP TABLE s.t; --", numbers(&[1]))])];
        load(&mut session, &create, &rows()).await.unwrap();
        load(&mut session, &target(name, true, Existing::Replace), &rows()).await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t").await, "0");
        let control = batch(&[("a\u{1}", numbers(&[1]))]);
        let error = refused(load(&mut session, &append("t"), &[control]).await);
        assert_eq!(error.sqlstate(), "42602", "{error:?}");
    });
}

/// The ledger has every statement of a load, and how it ended.
#[test]
fn the_ledger_has_it() {
    play(|| async {
        let (_server, mut session) = with_table().await;
        let mut broken = messages(&[rows()]);
        broken.push(Err(Status::unknown("gone")));
        assert_eq!(refusal(&mut session, broken).await, "08006");
        load(&mut session, &append("t"), &[rows()]).await.unwrap();
        run(&mut session, "GRANT kho_auditor TO admin").await.ok();
        let outcomes = "SELECT outcome FROM kho.audit_log WHERE statement LIKE 'COPY%' ORDER BY 1";
        let found = answer(&mut session, outcomes).await;
        assert_eq!(found, "00000; 08006");
    });
}
