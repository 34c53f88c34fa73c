//! The text of floats: the shortest that reads back as the same float.
//!
//! # Why not ryu's own text
//! PostgreSQL differs from it in two things: exponents begin at 1e15 (1e6 for `real`) and have two
//! digits, and a decimal that lies exactly between two floats is never used, even where it would
//! read back right (`1e23` is written `9.999999999999999e+22`), so that readers that round such a
//! decimal differently still get the same float.

use bytes::{BufMut, BytesMut};

/// `extra_float_digits` above zero means the shortest exact text; else so many digits fewer or more
/// than the 15 that are always exact.
pub fn write_float8(value: f64, extra_digits: i32, out: &mut BytesMut) {
    if write_special(value.is_nan(), value.is_infinite(), value.is_sign_negative(), out) {
        return;
    }
    if extra_digits <= 0 {
        return write_rounded(value, 15, extra_digits, out);
    }
    if value == 0.0 {
        return write_zero(value.is_sign_negative(), out);
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    if (1e-4..1e15).contains(&value.abs()) {
        return write_fixed(text, out);
    }
    let mut decimal = Decimal::of_text(text);
    let bits = value.to_bits();
    let (mantissa, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) & 0x7ff);
    // Above 2^53 alone can a short decimal lie half way between two floats.
    if exponent > 1075 {
        let mantissa = mantissa | (1 << 52);
        let exponent = u32::try_from(exponent - 1075).unwrap_or_default();
        if decimal.is_boundary(mantissa, exponent) {
            decimal = inside(&decimal, 17, mantissa, exponent, |digits| {
                let text = format!("{value:.digits$e}");
                (text.parse() == Ok(value)).then_some(text)
            });
        }
    }
    decimal.write(value.is_sign_negative(), 15, out);
}

/// As [`write_float8`], for `real` (6 digits that are always exact).
pub fn write_float4(value: f32, extra_digits: i32, out: &mut BytesMut) {
    if write_special(value.is_nan(), value.is_infinite(), value.is_sign_negative(), out) {
        return;
    }
    if extra_digits <= 0 {
        return write_rounded(f64::from(value), 6, extra_digits, out);
    }
    if value == 0.0 {
        return write_zero(value.is_sign_negative(), out);
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    if (1e-4..1e6).contains(&value.abs()) {
        return write_fixed(text, out);
    }
    let mut decimal = Decimal::of_text(text);
    let bits = value.to_bits();
    let (mantissa, exponent) = (bits & ((1 << 23) - 1), (bits >> 23) & 0xff);
    if exponent > 150 {
        let mantissa = u64::from(mantissa | (1 << 23));
        let exponent = exponent - 150;
        if decimal.is_boundary(mantissa, exponent) {
            decimal = inside(&decimal, 9, mantissa, exponent, |digits| {
                let text = format!("{value:.digits$e}");
                (text.parse() == Ok(value)).then_some(text)
            });
        }
    }
    decimal.write(value.is_sign_negative(), 6, out);
}

/// Where PostgreSQL uses no exponent, ryu does not either, and the two differ in a `.0` alone.
fn write_fixed(text: &str, out: &mut BytesMut) {
    out.put_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
}

fn write_special(is_nan: bool, is_infinite: bool, negative: bool, out: &mut BytesMut) -> bool {
    let text: &[u8] = match (is_nan, is_infinite, negative) {
        (true, _, _) => b"NaN",
        (_, true, false) => b"Infinity",
        (_, true, true) => b"-Infinity",
        _ => return false,
    };
    out.put_slice(text);
    true
}

fn write_zero(negative: bool, out: &mut BytesMut) {
    out.put_slice(if negative { b"-0" } else { b"0" });
}

/// C's `%.*g`.
fn write_rounded(value: f64, always_exact: i32, extra_digits: i32, out: &mut BytesMut) {
    let precision = (always_exact + extra_digits).max(1);
    let digits = usize::try_from(precision - 1).unwrap_or_default();
    let decimal = Decimal::of_text(&format!("{value:.digits$e}"));
    if decimal.length == 0 {
        return write_zero(value.is_sign_negative(), out);
    }
    decimal.write(value.is_sign_negative(), precision, out);
}

/// The shortest decimal that is not half way to a neighbour.
fn inside(
    shortest: &Decimal,
    most_digits: usize,
    mantissa: u64,
    exponent: u32,
    exact: impl Fn(usize) -> Option<String>,
) -> Decimal {
    for digits in shortest.length..=most_digits {
        if let Some(text) = exact(digits - 1) {
            let decimal = Decimal::of_text(&text);
            if !decimal.is_boundary(mantissa, exponent) {
                return decimal;
            }
        }
    }
    *shortest
}

/// Digits without leading or trailing zeros, and the power of ten of the first of them.
#[derive(Clone, Copy)]
struct Decimal {
    digits: [u8; 32],
    length: usize,
    first_power: i32,
}

impl Decimal {
    /// Of a float's text in any spelling that Rust has; the sign is passed over.
    fn of_text(text: &str) -> Decimal {
        let (text, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let mut decimal = Decimal { digits: [0; 32], length: 0, first_power: 0 };
        let mut whole = 0_i32;
        let mut leading_zeros = 0_i32;
        let mut in_fraction = false;
        let mut seen = 0_usize;
        for byte in text.bytes() {
            match byte {
                b'.' => in_fraction = true,
                b'0'..=b'9' => {
                    whole += i32::from(!in_fraction);
                    if byte == b'0' && seen == 0 {
                        leading_zeros += 1;
                        continue;
                    }
                    if let Some(place) = decimal.digits.get_mut(seen) {
                        *place = byte;
                    }
                    seen += 1;
                    if byte != b'0' {
                        decimal.length = seen;
                    }
                }
                _ => {}
            }
        }
        decimal.first_power = whole - leading_zeros - 1 + exponent;
        decimal
    }

    fn digits(&self) -> &[u8] {
        self.digits.get(..self.length).unwrap_or_default()
    }

    /// Whether this is exactly half way between `mantissa * 2^exponent` and a neighbour of it.
    fn is_boundary(&self, mantissa: u64, exponent: u32) -> bool {
        let length = i32::try_from(self.length).unwrap_or(i32::MAX);
        let Ok(zeros) = u32::try_from(self.first_power + 1 - length) else { return false };
        // The odd factor of a half-way point is below 2^54, and 5^24 is above that.
        if zeros > 23 || self.length > 17 {
            return false;
        }
        let digits =
            self.digits().iter().fold(0_u128, |value, digit| value * 10 + u128::from(digit - b'0'));
        let odd_part = |value: u128, twos: u32| {
            let shift = value.trailing_zeros().min(127);
            (value >> shift, twos + shift)
        };
        let decimal = odd_part(digits * 5_u128.pow(zeros), zeros);
        let Some(below) = exponent.checked_sub(1) else { return false };
        let double = u128::from(mantissa) * 2;
        // Below a power of two the floats lie twice as dense.
        let lower = match below.checked_sub(1) {
            Some(below) if mantissa.is_power_of_two() => odd_part(double * 2 - 1, below),
            _ => odd_part(double - 1, below),
        };
        decimal == lower || decimal == odd_part(double + 1, below)
    }

    /// Fixed or with an exponent, as C's `%g` chooses at `precision`.
    fn write(&self, negative: bool, precision: i32, out: &mut BytesMut) {
        if negative {
            out.put_u8(b'-');
        }
        let digits = self.digits();
        if self.first_power < -4 || self.first_power >= precision {
            return self.write_exponent(out);
        }
        let Ok(first_power) = usize::try_from(self.first_power) else {
            let zeros = usize::try_from(-1 - self.first_power).unwrap_or_default();
            out.put_slice(b"0.");
            out.put_bytes(b'0', zeros);
            out.put_slice(digits);
            return;
        };
        match digits.split_at_checked(first_power + 1) {
            Some((whole, [])) => out.put_slice(whole),
            Some((whole, fraction)) => {
                out.put_slice(whole);
                out.put_u8(b'.');
                out.put_slice(fraction);
            }
            None => {
                out.put_slice(digits);
                out.put_bytes(b'0', first_power + 1 - digits.len());
            }
        }
    }

    fn write_exponent(&self, out: &mut BytesMut) {
        let digits = self.digits();
        if let Some((first, rest)) = digits.split_first() {
            out.put_u8(*first);
            if !rest.is_empty() {
                out.put_u8(b'.');
                out.put_slice(rest);
            }
        }
        out.put_slice(if self.first_power < 0 { b"e-" } else { b"e+" });
        let power = self.first_power.unsigned_abs();
        if power < 10 {
            out.put_u8(b'0');
        }
        out.put_slice(itoa::Buffer::new().format(power).as_bytes());
    }
}
