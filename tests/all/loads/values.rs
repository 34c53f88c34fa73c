//! Arrow's types into Kho's.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal128Array,
    DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, LargeListArray, LargeStringArray, ListArray, NullArray,
    RunArray, StringViewArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Float32Type, Int32Type};
use kho_server::flight::ingest::Existing;
use kho_tests::inside::run;

use super::{answer, append, batch, load, play, refused, served, target, texts};

/// How one column of `declared` comes to hold `values`: as text, or the SQLSTATE of the refusal.
async fn assigned(settings: &[&str], declared: &str, values: ArrayRef) -> String {
    let (_server, mut session) = served().await;
    run(&mut session, &format!("CREATE TABLE s.t (x {declared})")).await.unwrap();
    for setting in settings {
        run(&mut session, setting).await.unwrap();
    }
    match load(&mut session, &append("t"), &[batch(&[("x", values)])]).await {
        Ok(_) => {
            run(&mut session, "SET TimeZone = 'UTC'").await.unwrap();
            answer(&mut session, "SELECT x::text FROM s.t").await
        }
        Err(error) => error.sqlstate().to_owned(),
    }
}

#[test]
fn values_are_assigned_or_refused() {
    play(|| async {
        let dictionary: DictionaryArray<Int32Type> =
            vec![Some("a"), None, Some("a")].into_iter().collect();
        let runs =
            RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &texts(&["a", "b"]))
                .unwrap();
        let rows: Vec<(&str, ArrayRef, &str)> = vec![
            ("text", Arc::new(dictionary), "a; NULL; a"),
            ("text", Arc::new(runs), "a; a; b"),
            (
                "text",
                Arc::new(StringViewArray::from(vec!["a", "longer than twelve bytes"])),
                "a; longer than twelve bytes",
            ),
            ("varchar(3)", Arc::new(LargeStringArray::from(vec!["abc"])), "abc"),
            ("varchar(3)", Arc::new(LargeStringArray::from(vec!["abcd"])), "22001"),
            ("text", Arc::new(Int64Array::from(vec![7])), "7"),
            ("text", Arc::new(Float64Array::from(vec![7.0])), "42804"),
            ("text", Arc::new(NullArray::new(2)), "NULL; NULL"),
            ("text NOT NULL", Arc::new(NullArray::new(2)), "23502"),
            ("integer", texts(&["7", " 8 "]), "7; 8"),
            ("integer", texts(&["seven"]), "22P02"),
            ("integer", Arc::new(Int8Array::from(vec![-7])), "-7"),
            ("integer", Arc::new(Int64Array::from(vec![1 << 40])), "22003"),
            ("integer", Arc::new(Float32Array::from(vec![1.5, 2.5, -0.4])), "2; 2; 0"),
            ("integer", Arc::new(Float64Array::from(vec![f64::NAN])), "22003"),
            ("integer", Arc::new(BooleanArray::from(vec![true])), "42804"),
            ("bigint", Arc::new(UInt64Array::from(vec![u64::MAX])), "22003"),
            ("real", Arc::new(Float64Array::from(vec![1e300])), "22003"),
            ("real", Arc::new(Float64Array::from(vec![0.5, f64::INFINITY])), "0.5; Infinity"),
            ("numeric(5,2)", Arc::new(Float64Array::from(vec![1.005, 2.5])), "1.01; 2.50"),
            ("numeric(5,2)", Arc::new(Int64Array::from(vec![12345])), "22003"),
            (
                "numeric(5,1)",
                Arc::new(
                    Decimal128Array::from(vec![12345]).with_precision_and_scale(9, 2).unwrap(),
                ),
                "123.5",
            ),
            (
                "integer",
                Arc::new(
                    Decimal128Array::from(vec![12350]).with_precision_and_scale(9, 2).unwrap(),
                ),
                "124",
            ),
            ("boolean", Arc::new(Int64Array::from(vec![1])), "42804"),
            ("boolean", texts(&["yes"]), "true"),
            ("bytea", Arc::new(BinaryViewArray::from(vec![b"a".as_slice()])), "\\x61"),
            (
                "uuid",
                texts(&["A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ),
            (
                "uuid",
                Arc::new(FixedSizeBinaryArray::try_from_iter([[0xa0u8; 16]].into_iter()).unwrap()),
                "a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0",
            ),
            ("uuid", texts(&["no"]), "22P02"),
            ("json", texts(&["{"]), "22P02"),
            ("date", Arc::new(Date64Array::from(vec![86_400_000])), "1970-01-02"),
            ("date", texts(&["2026-02-30"]), "22008"),
            ("date", Arc::new(Int64Array::from(vec![1])), "42804"),
            (
                "timestamp",
                Arc::new(TimestampNanosecondArray::from(vec![1_500, 2_500, -1_501])),
                "1970-01-01 00:00:00.000002; 1970-01-01 00:00:00.000002; 1969-12-31 23:59:59.999998",
            ),
            ("timestamp", Arc::new(TimestampSecondArray::from(vec![i64::MAX])), "22008"),
            // PostgreSQL's first day, and the second before it.
            ("timestamp", Arc::new(TimestampSecondArray::from(vec![-210_866_803_201])), "22008"),
            ("date", Arc::new(Date32Array::from(vec![-2_440_588])), "4714-11-24 BC"),
            ("date", Arc::new(Date32Array::from(vec![-2_440_589])), "22008"),
            (
                "timestamp",
                Arc::new(TimestampMillisecondArray::from(vec![1])),
                "1970-01-01 00:00:00.001",
            ),
            ("timestamp", Arc::new(Time64MicrosecondArray::from(vec![1])), "42804"),
            ("text", Arc::new(Time64MicrosecondArray::from(vec![1])), "42804"),
            (
                "integer[]",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                    Some(vec![Some(1), None]),
                    None,
                    Some(vec![]),
                ])),
                "{1,NULL}; NULL; {}",
            ),
            (
                "integer[]",
                Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>([
                    Some(vec![Some(1)]),
                    None,
                ])),
                "{1}; NULL",
            ),
            (
                "integer[]",
                Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                    [Some(vec![Some(1), Some(2)])],
                    2,
                )),
                "{1,2}",
            ),
            (
                "integer[]",
                Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(
                    1.5,
                )])])),
                "{2}",
            ),
            ("integer[]", Arc::new(Int64Array::from(vec![1])), "42804"),
        ];
        let mut wrong = Vec::new();
        for (declared, values, found) in rows {
            let from = values.data_type().clone();
            let assigned = assigned(&[], declared, values).await;
            if assigned != found {
                wrong.push(format!("{from} as {declared} is {assigned}, not {found}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn a_clock_on_the_wall_shows_the_sessions_time() {
    play(|| async {
        let zone = ["SET TimeZone = 'Asia/Ho_Chi_Minh'"];
        let local: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![1_793_520_000_000_000 + 25_200_000_000]));
        let instant: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from(vec![1_793_520_000_000_000])
                .with_timezone("Europe/Berlin"),
        );
        let found = assigned(&zone, "timestamptz", local).await;
        assert_eq!(found, "2026-11-01 08:00:00+00");
        let found = assigned(&zone, "timestamptz", Arc::clone(&instant)).await;
        assert_eq!(found, "2026-11-01 08:00:00+00");
        assert_eq!(assigned(&zone, "timestamp", Arc::clone(&instant)).await, "2026-11-01 15:00:00");
        let late: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from(vec![1_793_520_000_000_000 + 36_000_000_000])
                .with_timezone("UTC"),
        );
        assert_eq!(assigned(&zone, "date", late).await, "2026-11-02");
    });
}

#[test]
fn structs_go_by_the_names_of_their_fields() {
    play(|| async {
        let (_server, mut session) = served().await;
        let place = |fields: Vec<(&str, ArrayRef)>| -> ArrayRef {
            let fields = fields
                .into_iter()
                .map(|(name, of)| (Arc::new(Field::new(name, of.data_type().clone(), true)), of));
            Arc::new(StructArray::from(fields.collect::<Vec<_>>()))
        };
        let whole =
            place(vec![("wa'rd", texts(&["Phú Hội"])), ("n", Arc::new(Int32Array::from(vec![1])))]);
        let create = target("p", true, Existing::Fail);
        load(&mut session, &create, &[batch(&[("place", whole)])]).await.unwrap();
        let other = place(vec![("n", Arc::new(Int64Array::from(vec![2])))]);
        load(&mut session, &append("p"), &[batch(&[("place", other)])]).await.unwrap();
        let found =
            answer(&mut session, "SELECT place['wa''rd'], place['n'] FROM s.p ORDER BY 2").await;
        assert_eq!(found, "Phú Hội 1; NULL 2");
        let more = place(vec![("x", Arc::new(Int64Array::from(vec![2])))]);
        let error = refused(load(&mut session, &append("p"), &[batch(&[("place", more)])]).await);
        assert_eq!(error.sqlstate(), "42804", "{error:?}");
    });
}

#[test]
fn a_table_is_made_of_what_its_values_are() {
    play(|| async {
        let (_server, mut session) = served().await;
        let rows = batch(&[
            ("a", Arc::new(Int8Array::from(vec![1])) as ArrayRef),
            ("b", Arc::new(UInt64Array::from(vec![1]))),
            ("c", Arc::new(TimestampNanosecondArray::from(vec![1]).with_timezone("UTC"))),
            ("d", Arc::new(StringViewArray::from(vec!["x"]))),
            (
                "e",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])])),
            ),
            ("f", Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(9, 2).unwrap())),
        ]);
        load(&mut session, &target("n", true, Existing::Fail), &[rows]).await.unwrap();
        let types = "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) \
             FROM pg_attribute WHERE attrelid = 's.n'::regclass";
        assert_eq!(
            answer(&mut session, types).await,
            "smallint, numeric(20,0), timestamp with time zone, text, integer[], numeric(9,2)"
        );
        let unknown = batch(&[("t", Arc::new(Time64MicrosecondArray::from(vec![1])) as ArrayRef)]);
        let error =
            refused(load(&mut session, &target("m", true, Existing::Fail), &[unknown]).await);
        assert_eq!(error.sqlstate(), "0A000", "{error:?}");
        assert!(error.message().contains("\"t\""), "{error:?}");
    });
}

/// A value that many rows share is many values in the table, and never all in memory.
#[test]
fn a_small_message_that_stands_for_much_is_taken_in_pieces() {
    play(|| async {
        let (_server, mut session) = served().await;
        run(&mut session, "CREATE TABLE s.t (x text)").await.unwrap();
        let value = "x".repeat(1 << 20);
        let keys = Int32Array::from(vec![0; 100]);
        let shared = DictionaryArray::try_new(keys, texts(&[&value])).unwrap();
        let rows = [batch(&[("x", Arc::new(shared) as ArrayRef)])];
        let loaded = load(&mut session, &append("t"), &rows).await.unwrap();
        assert_eq!(loaded.rows, 100);
        assert_eq!(answer(&mut session, "SELECT sum(length(x)) FROM s.t").await, "104857600");
    });
}
