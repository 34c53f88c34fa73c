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
        let mut frames = Frames::new(Held::without_limit(), 1 << 20);
        let mut lengths = Vec::new();
        for data in sent.chunks(piece) {
            frames.pass(data).unwrap();
            lengths.push(frames.left_bytes);
        }
        assert_eq!((frames.left_bytes, frames.prefix_bytes), (0, 0), "{piece}");
        assert!(piece > 1 || lengths.contains(&300), "{piece}");
    }
}
