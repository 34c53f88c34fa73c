//! Whether rows are whole, as who reads them is told.

use super::*;

async fn ends_with(whole: bool) -> Option<Result<RecordBatch>> {
    let (sender, receiver) = mpsc::channel::<Ahead>(1);
    let feeding = tokio::spawn(async move {
        drop(sender);
        assert!(whole, "the maker of the rows breaks off");
    });
    let guard = CancellationToken::new().drop_guard();
    let mut rows = Box::pin(received(receiver, (guard, feeding), Deadline::default()));
    rows.next().await
}

#[tokio::test]
async fn rows_that_break_off_are_an_error_and_no_end() {
    assert!(ends_with(true).await.is_none());
    let error = ends_with(false).await.unwrap().unwrap_err();
    assert_eq!(error.sqlstate(), "XX000");
}
