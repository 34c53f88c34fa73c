//! Rows on their way: portals, limits, cancels, slow and vanished clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::{Buf, BytesMut};
use futures::stream;
use kho_catalog::error::{Error, Kind};
use tokio::io::{AsyncReadExt as _, DuplexStream};

use super::*;

const UTC: fn() -> ValueFormat =
    || ValueFormat { time_zone: "UTC".to_owned(), extra_float_digits: 1 };

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn batch(from: i64, count: i64) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(from..from + count);
    RecordBatch::try_new(schema(), vec![Arc::new(numbers)]).unwrap()
}

fn cursor(batches: Vec<Result<RecordBatch>>) -> Cursor {
    let rows = Rows::new(schema(), "SELECT", stream::iter(batches));
    Cursor::try_new(rows, &[FormatCode::Text], &UTC()).unwrap()
}

fn wire() -> (Wire, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(ours);
    (Wire::new(Box::new(reader), Box::new(writer), 1 << 20), theirs)
}

/// How many `DataRow`s wait to be sent.
fn rows_in(buffer: &BytesMut) -> usize {
    let mut rest = &buffer[..];
    let mut count = 0;
    while rest.has_remaining() {
        assert_eq!(rest.get_u8(), b'D');
        let length = usize::try_from(rest.get_i32()).unwrap();
        rest.advance(length - 4);
        count += 1;
    }
    count
}

#[tokio::test]
async fn a_portal_goes_on_where_it_stopped() {
    let (mut wire, _client) = wire();
    let stop = CancellationToken::new();
    let mut cursor = cursor(vec![Ok(batch(0, 4)), Ok(batch(4, 0)), Ok(batch(4, 3))]);
    assert_eq!(cursor.send(&mut wire, 3, &stop).await.unwrap(), Reached::Limit);
    assert_eq!(rows_in(&wire.out), 3);
    assert_eq!(cursor.send(&mut wire, 3, &stop).await.unwrap(), Reached::Limit);
    assert_eq!(rows_in(&wire.out), 6);
    assert_eq!(cursor.send(&mut wire, 3, &stop).await.unwrap(), Reached::End(1));
    assert_eq!(rows_in(&wire.out), 7);
    assert_eq!(cursor.send(&mut wire, 3, &stop).await.unwrap(), Reached::End(0));
}

#[tokio::test]
async fn no_limit_a_negative_one_and_a_huge_one_are_all_rows() {
    for max_rows in [0, -1, i32::MIN, i32::MAX] {
        let (mut wire, _client) = wire();
        let stop = CancellationToken::new();
        let mut cursor = cursor(vec![Ok(batch(0, 1000)), Ok(batch(1000, 1000))]);
        let reached = cursor.send(&mut wire, max_rows, &stop).await.unwrap();
        assert_eq!(reached, Reached::End(2000));
        assert_eq!(rows_in(&wire.out), 2000);
    }
}

#[tokio::test]
async fn an_error_follows_the_rows_before_it() {
    let (mut wire, _client) = wire();
    let failure = Error::new(Kind::DivisionByZero, "division by zero");
    let mut cursor = cursor(vec![Ok(batch(0, 2)), Err(failure)]);
    let stopped = cursor.send(&mut wire, 0, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(stopped, Stop::Failed(error) if error.sqlstate() == "22012"));
    assert_eq!(rows_in(&wire.out), 2);
}

/// A result without end, and how many batches of it were asked for.
fn endless(of: RecordBatch) -> (Rows, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, schema) = (Arc::clone(&asked), of.schema());
    let batches = stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(of.clone())
    });
    (Rows::new(schema, "SELECT", batches), asked)
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_stream_back_and_a_cancel_still_works() {
    let (mut wire, client) = wire();
    let wide = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8, false)]));
    let texts = StringArray::from_iter_values((0..8192).map(|_| "x".repeat(10_000)));
    let (rows, asked) = endless(RecordBatch::try_new(wide, vec![Arc::new(texts)]).unwrap());
    let mut cursor = Cursor::try_new(rows, &[FormatCode::Text], &UTC()).unwrap();
    let stop = CancellationToken::new();
    let mut send = Box::pin(cursor.send(&mut wire, i32::MAX, &stop));
    assert!(futures::poll!(&mut send).is_pending());
    assert!(futures::poll!(&mut send).is_pending());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    stop.cancel();
    let stopped = send.await.unwrap_err();
    assert!(matches!(stopped, Stop::Failed(error) if error.sqlstate() == "57014"));
    // One piece of 64 rows of 10 kB is the most that was ever encoded.
    assert!(wire.out.len() < 1 << 20, "{}", wire.out.len());
    drop(client);
}

#[tokio::test]
async fn a_client_that_went_away_stops_a_stream_that_gives_nothing() {
    let (mut wire, client) = wire();
    let rows = Rows::new(schema(), "SELECT", stream::pending());
    let mut cursor = Cursor::try_new(rows, &[FormatCode::Text], &UTC()).unwrap();
    let stop = CancellationToken::new();
    drop(client);
    let stopped = cursor.send(&mut wire, 0, &stop).await.unwrap_err();
    assert!(matches!(stopped, Stop::Gone));
    assert!(stop.is_cancelled());
}

#[tokio::test]
async fn a_bug_in_a_stream_ends_the_statement_and_one_in_the_session_the_connection() {
    let (mut wire, _client) = wire();
    let bug = stream::once(async { if true { panic!("a bug") } else { Ok(batch(0, 1)) } });
    let mut cursor =
        Cursor::try_new(Rows::new(schema(), "SELECT", bug), &[FormatCode::Text], &UTC()).unwrap();
    let stop = CancellationToken::new();
    let stopped = cursor.send(&mut wire, 0, &stop).await.unwrap_err();
    assert!(matches!(stopped, Stop::Failed(error) if error.sqlstate() == "XX000"));
    let work = async {
        assert!(stop.is_cancelled(), "a bug");
    };
    let stopped = wire.attend(&stop, work).await;
    assert!(matches!(stopped, Err(Stop::Fatal(error)) if error.sqlstate() == "XX000"));
}

#[tokio::test]
async fn what_is_pipelined_meanwhile_is_bounded() {
    let (mut wire, mut client) = wire();
    let writer = tokio::spawn(async move {
        let garbage = vec![0; 64 * 1024];
        let mut written = 0_usize;
        while tokio::io::AsyncWriteExt::write_all(&mut client, &garbage).await.is_ok() {
            written += garbage.len();
        }
        written
    });
    let stop = CancellationToken::new();
    let work = async {
        // Every yield lets the writer and the watcher take a turn.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    };
    wire.attend(&stop, work).await.unwrap();
    assert!(wire.unread().len() < (1 << 20) + 64 * 1024, "{}", wire.unread().len());
    drop(wire);
    assert!(writer.await.unwrap() < 3 << 20);
}

#[tokio::test]
async fn a_client_that_writes_before_it_reads_makes_nobody_wait() {
    let (mut wire, mut client) = wire();
    let both = async {
        // More than the pipe holds, before the first byte is read.
        tokio::io::AsyncWriteExt::write_all(&mut client, &[0; 100_000]).await.unwrap();
        let mut received = vec![0; 100_000];
        client.read_exact(&mut received).await.unwrap();
    };
    wire.out.extend_from_slice(&[0; 100_000]);
    let (sent, ()) = tokio::join!(wire.flush(), both);
    sent.unwrap();
}

#[test]
fn only_some_commands_count_rows() {
    assert_eq!(tag("SELECT", 3).to_string(), "SELECT 3");
    assert_eq!(tag("INSERT", 3).to_string(), "INSERT 0 3");
    assert_eq!(tag("SHOW", 1).to_string(), "SHOW");
    assert_eq!(tag("EXPLAIN", 9).to_string(), "EXPLAIN");
}
