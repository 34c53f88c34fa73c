//! Messages, however they are cut.

use super::{Frames, Held};

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
