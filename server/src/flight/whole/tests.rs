//! Messages, however they are cut.

use super::*;

fn message(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).unwrap().to_be_bytes();
    [&[0], length.as_slice(), &vec![0xff; bytes]].concat()
}

#[test]
fn a_message_begins_where_the_last_one_ends() {
    let sent: Vec<u8> = [0, 1, 5, 300, 0, 7].into_iter().flat_map(message).collect();
    for piece in 1..=sent.len() {
        let mut frames = Frames::new(Held::without_limit());
        let mut lengths = Vec::new();
        for data in sent.chunks(piece) {
            frames.pass(data).unwrap();
            lengths.push(frames.left_bytes);
        }
        assert_eq!((frames.left_bytes, frames.prefix_bytes), (0, 0), "{piece}");
        assert!(piece > 1 || lengths.contains(&300), "{piece}");
    }
}

#[test]
fn what_is_only_announced_is_not_held() {
    let held = Held::without_limit();
    let mut frames = Frames::new(held.beside());
    let sent = message(1 << 20);
    let (announced, came) = sent.split_at(5);
    frames.pass(announced).unwrap();
    assert_eq!((frames.held.bytes(), frames.is_within()), (0, true));
    frames.pass(&came[..1 << 19]).unwrap();
    assert_eq!(frames.held.bytes(), 1 << 19);
    frames.pass(&came[1 << 19..]).unwrap();
    assert_eq!((frames.held.bytes(), frames.is_within()), (1 << 20, false));
    // The last one may be in use while the next one comes, and a small one counts for nothing.
    frames.pass(&message(100)[..50]).unwrap();
    assert_eq!(frames.held.bytes(), 1 << 20);
    frames.pass(&message(100)[50..]).unwrap();
    assert_eq!(frames.held.bytes(), 0);
}

/// Gives what it has, and then nothing, without an end.
struct Stops(Option<Bytes>);

impl Body for Stops {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_client_may_pause_between_messages_and_not_within_one() {
    let pause = Duration::from_millis(20);
    let whole = |data: &[u8]| {
        let body = tonic::body::Body::new(Stops(Some(Bytes::copy_from_slice(data))));
        WholeBody::new(body, Frames::new(Held::without_limit()), pause)
    };
    let sent = message(100);
    for within in [1, 5, 104] {
        let mut body = whole(&sent[..within]);
        let mut next = |context: &mut Context<'_>| Pin::new(&mut body).poll_frame(context);
        assert!(std::future::poll_fn(&mut next).await.unwrap().is_ok());
        let refused = std::future::poll_fn(&mut next).await.unwrap().unwrap_err();
        assert_eq!(refused.metadata().get("sqlstate").unwrap(), "08006", "{within}");
        assert!(std::future::poll_fn(&mut next).await.is_none(), "it is over");
    }
    let mut body = whole(&sent);
    let mut next = |context: &mut Context<'_>| Pin::new(&mut body).poll_frame(context);
    assert!(std::future::poll_fn(&mut next).await.unwrap().is_ok());
    let waited = tokio::time::timeout(pause * 5, std::future::poll_fn(&mut next)).await;
    assert!(waited.is_err(), "between messages it is waited for");
}
