//! One block of a filter, read alone.

use super::{BLOCK_BYTES, bitset_bytes, block_of, likely_bytes};
use parquet::bloom_filter::Sbbf;

#[test]
fn a_block_alone_answers_as_the_whole_filter_does() {
    let mut whole = Sbbf::new_with_ndv_fpp(10_000, 0.01).unwrap();
    for key in (0..20_000_i64).step_by(2) {
        whole.insert(&key);
    }
    let mut written = Vec::new();
    whole.write(&mut written).unwrap();
    let bytes = bitset_bytes(&written, written.len() as u64).unwrap();
    assert_eq!(bytes, whole.num_blocks() as u64 * BLOCK_BYTES);
    assert_eq!(likely_bytes(written.len() as u64), Some(bytes));
    let bitset = &written[written.len() - bytes as usize..];
    for key in 0..20_000_i64 {
        let value = key.to_le_bytes();
        let block = (block_of(&value, bytes / BLOCK_BYTES) * BLOCK_BYTES) as usize;
        let alone = Sbbf::new(&bitset[block..block + BLOCK_BYTES as usize]);
        assert_eq!(alone.check(&value[..]), whole.check(&key), "{key}");
        assert!(key % 2 == 1 || alone.check(&value[..]), "{key}");
    }
}

#[test]
fn a_header_that_is_not_understood_says_nothing() {
    assert_eq!(bitset_bytes(&[], 32), None);
    assert_eq!(bitset_bytes(&[0x15], 40), None);
    assert_eq!(bitset_bytes(&[0x15, 0x40, 0x1c], 40), Some(32));
    // Another field first, a negative size, no whole blocks, more than there is.
    assert_eq!(bitset_bytes(&[0x25, 0x40], 40), None);
    assert_eq!(bitset_bytes(&[0x15, 0x3f], 40), None);
    assert_eq!(bitset_bytes(&[0x15, 0x42], 41), None);
    assert_eq!(bitset_bytes(&[0x15, 0x40], 32), None);
    assert_eq!(bitset_bytes(&[0x15, 0x40], 320), None);
    assert_eq!(bitset_bytes(&[0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80], 320), None);
}

#[test]
fn what_is_not_a_power_of_two_is_not_guessed() {
    for length in [0, 1, 31, 32, 128 + 65, 1 << 20] {
        assert_eq!(likely_bytes(length), None, "{length}");
    }
    assert_eq!(likely_bytes(33), Some(32));
    assert_eq!(likely_bytes(128 + 64), Some(128));
}
