//! How long a bearer token holds.

use super::*;

#[test]
fn a_token_is_renewed_for_so_long_and_no_longer() {
    assert_eq!(until(1_000, 1_000, 10), 1_010);
    assert_eq!(until(1_100, 1_000, 10), 1_110);
    // The last one ends with all of them, whenever it is made.
    assert_eq!(until(1_235, 1_000, 10), 1_240);
    assert_eq!(until(1_240, 1_000, 10), 1_240);
    assert_eq!(until(9_999, 1_000, 10), 1_240);
    assert_eq!(until(i64::MAX, 1_000, i64::MAX), i64::MAX);
}
