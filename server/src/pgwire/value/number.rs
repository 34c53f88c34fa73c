//! Whole numbers and numerics as PostgreSQL writes them.
//!
//! What it guarantees: a numeric keeps each of its digits and the trailing zeros of its scale, to 76
//! digits.

use bytes::{BufMut, BytesMut};
use kho_catalog::error::Result;
use kho_sql::input::calendar;

pub(super) fn write_integer(value: impl itoa::Integer, out: &mut BytesMut) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The text of `unscaled` (an integer, perhaps with a sign) divided by ten to the `scale`.
pub(super) fn write_numeric(unscaled: &str, scale: i8, out: &mut BytesMut) {
    let (sign, digits) = split_sign(unscaled);
    if sign {
        out.put_u8(b'-');
    }
    let Ok(scale) = usize::try_from(scale) else {
        out.put_slice(digits.as_bytes());
        if digits != "0" {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    };
    if scale == 0 {
        out.put_slice(digits.as_bytes());
        return;
    }
    match digits.len().checked_sub(scale) {
        Some(whole) if whole > 0 => {
            let (whole, fraction) = digits.split_at_checked(whole).unwrap_or((digits, ""));
            out.put_slice(whole.as_bytes());
            out.put_u8(b'.');
            out.put_slice(fraction.as_bytes());
        }
        _ => {
            out.put_slice(b"0.");
            out.put_bytes(b'0', scale.saturating_sub(digits.len()));
            out.put_slice(digits.as_bytes());
        }
    }
}

/// PostgreSQL's binary numeric: groups of four decimal digits around the decimal point.
///
/// # Errors
/// None today: 76 digits are far below what the format's counts hold.
pub(super) fn write_numeric_binary(unscaled: &str, scale: i8, out: &mut BytesMut) -> Result<()> {
    if write_short_binary(unscaled, scale, out) {
        return Ok(());
    }
    let (sign, digits) = split_sign(unscaled);
    let digits = if digits == "0" { "" } else { digits };
    // Digits after the point; below zero where the last digits are zeros that are not written.
    let scale = i64::from(scale);
    let display_scale = scale.max(0);
    let count = i64::try_from(digits.len()).unwrap_or_default();
    let whole = count - scale;
    // The first group's place: units are 0, ten thousands 1, the first four decimals -1.
    let first = (whole + 3).div_euclid(4) - 1;
    let last = (-scale).div_euclid(4);
    let header = out.len();
    out.put_bytes(0, 8);
    let mut groups = 0_u16;
    let mut significant = 0_u16;
    let mut end = out.len();
    let mut weight = first;
    for place in (last..=first).rev() {
        // Digits of the group have the powers of ten from 4 * place + 3 down to 4 * place.
        let mut value = 0_u16;
        for power in (place * 4..place * 4 + 4).rev() {
            let index = usize::try_from(whole - 1 - power).ok();
            let digit = index.and_then(|index| digits.as_bytes().get(index));
            value = value * 10 + digit.map_or(0, |digit| u16::from(digit - b'0'));
        }
        if value == 0 && groups == 0 {
            weight = place - 1;
            continue;
        }
        groups += 1;
        out.put_u16(value);
        if value != 0 {
            significant = groups;
            end = out.len();
        }
    }
    out.truncate(end);
    if significant == 0 {
        weight = 0;
    }
    let too_many = || calendar::out_of_range("numeric");
    let weight = i16::try_from(weight).map_err(|_| too_many())?;
    let display_scale = u16::try_from(display_scale).map_err(|_| too_many())?;
    let negative = if sign && significant > 0 { 0x4000_u16 } else { 0 };
    if let Some(place) = out.get_mut(header..header + 8) {
        let mut place: &mut [u8] = place;
        place.put_u16(significant);
        place.put_i16(weight);
        place.put_u16(negative);
        place.put_u16(display_scale);
    }
    Ok(())
}

/// The same for a value that fits in 64 bits once its decimals fill whole groups; tells whether it
/// did. Most amounts do, and dividing is faster than going through their digits.
fn write_short_binary(unscaled: &str, scale: i8, out: &mut BytesMut) -> bool {
    let Ok(display_scale) = u16::try_from(scale) else { return false };
    let padding = (4 - u32::from(display_scale) % 4) % 4;
    let (sign, digits) = split_sign(unscaled);
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(10_u64.pow(padding)));
    let Some(mut value) = value else { return false };
    let fraction_groups = i16::try_from(display_scale.div_ceil(4)).unwrap_or(i16::MAX);
    // Twenty digits are at most five groups.
    let mut groups = [0_u8; 10];
    let (mut significant, mut weight, mut first) = (0_u16, 0_i16, groups.len());
    let mut place = -fraction_groups;
    while value > 0 {
        let group = u16::try_from(value % 10_000).unwrap_or_default();
        value /= 10_000;
        if group != 0 || significant > 0 {
            significant += 1;
            first -= 2;
            if let Some(bytes) = groups.get_mut(first..first + 2) {
                bytes.copy_from_slice(&group.to_be_bytes());
            }
            weight = place;
        }
        place += 1;
    }
    let negative = if sign && significant > 0 { 0x4000_u16 } else { 0 };
    out.put_u16(significant);
    out.put_i16(weight);
    out.put_u16(negative);
    out.put_u16(display_scale);
    out.put_slice(groups.get(first..).unwrap_or_default());
    true
}

fn split_sign(unscaled: &str) -> (bool, &str) {
    match unscaled.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, unscaled),
    }
}
