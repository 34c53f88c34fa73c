//! Bytes that are nearly right: what a broken or hostile client sends.
//!
//! What it guarantees: the same randomness makes the same bytes, never much longer than the given.

use rand::Rng;
use rand::rngs::StdRng;

/// Numbers at which counts and lengths go wrong.
const EDGES: [i64; 12] = [
    0,
    1,
    -1,
    4,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x0010_0000,
    0x7fff_ffff,
    -0x8000_0000,
    0x7fff_ffff_ffff_ffff,
];
/// Bytes that mean something to one of the formats.
const MARKS: &[u8] = b"\0\n\r\t\\\"',;.{}()-+eENT\xff\xc3\x80:";

/// `bytes` with some changes, of which there is at least one.
pub fn mutated(random: &mut StdRng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..=4) {
        mutate(random, &mut bytes);
    }
    bytes
}

/// The message `tag` with this body, and a length that is right.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A message that was changed: in its body with its length put right, or anywhere.
pub fn mutated_message(random: &mut StdRng, bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [tag, _, _, _, _, body @ ..] if random.random_bool(0.8) => {
            message(*tag, &mutated(random, body))
        }
        _ => mutated(random, bytes),
    }
}

fn mutate(random: &mut StdRng, bytes: &mut Vec<u8>) {
    let place = random.random_range(0..=bytes.len());
    let end = random.random_range(place..=bytes.len().min(place + 16));
    match random.random_range(0..8) {
        0 => flip(random, bytes),
        1 => bytes.insert(place, MARKS[random.random_range(0..MARKS.len())]),
        2 => drop(bytes.drain(place..end)),
        3 => bytes.truncate(place),
        4 => {
            let again = bytes[place..end].to_vec();
            bytes.splice(place..place, again);
        }
        5 => {
            let again: Vec<u8> = (0..random.random_range(1..64)).map(|_| random.random()).collect();
            bytes.splice(place..end, again);
        }
        6 => {
            let mark = MARKS[random.random_range(0..MARKS.len())];
            bytes.splice(place..end, std::iter::repeat_n(mark, end - place));
        }
        _ => overwrite(random, bytes, place),
    }
}

fn flip(random: &mut StdRng, bytes: &mut [u8]) {
    if !bytes.is_empty() {
        let place = random.random_range(0..bytes.len());
        bytes[place] ^= 1 << random.random_range(0..8);
    }
}

/// A number on the edge over whatever is there.
fn overwrite(random: &mut StdRng, bytes: &mut [u8], place: usize) {
    let edge = EDGES[random.random_range(0..EDGES.len())].to_be_bytes();
    let width = [1, 2, 4, 8][random.random_range(0..4)];
    let number = &edge[edge.len() - width..];
    for (to, from) in bytes.iter_mut().skip(place).zip(number) {
        *to = *from;
    }
}
