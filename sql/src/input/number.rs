//! The input syntax of booleans, integers, floats and numerics.

use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

use kho_catalog::error::{Error, Kind, Result};

use super::{excerpt, invalid_syntax};

/// Any beginning of `true`, `false`, `yes` and `no` in any case; `on`, `off`, `1`, `0`.
pub(super) fn parse_boolean(text: &str) -> Result<bool> {
    let word = trim(text).as_bytes();
    let begins = |whole: &[u8], least: usize| {
        word.len() >= least && whole.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word))
    };
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || word == b"1" {
        Ok(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || word == b"0" {
        Ok(false)
    } else {
        Err(invalid_syntax("boolean", text))
    }
}

pub(super) fn parse_integer<T>(text: &str, type_name: &str) -> Result<T>
where
    T: FromStr<Err = ParseIntError>,
{
    trim(text).parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => Error::new(
            Kind::NumericOutOfRange,
            format!("value \"{}\" is out of range for type {type_name}", excerpt(text)),
        ),
        _ => invalid_syntax(type_name, text),
    })
}

pub(super) fn parse_real(text: &str) -> Result<f32> {
    let word = trim(text);
    let value: f32 = word.parse().map_err(|_| invalid_syntax("real", text))?;
    check_float(word, value.is_infinite(), value == 0.0, "real")?;
    Ok(value)
}

pub(super) fn parse_double(text: &str) -> Result<f64> {
    let word = trim(text);
    let value: f64 = word.parse().map_err(|_| invalid_syntax("double precision", text))?;
    check_float(word, value.is_infinite(), value == 0.0, "double precision")?;
    Ok(value)
}

/// A number that became infinite or zero, and was not written so, is out of range.
fn check_float(word: &str, is_infinite: bool, is_zero: bool, type_name: &str) -> Result<()> {
    let digits = word.split(['e', 'E']).next().unwrap_or_default();
    let has_nonzero = digits.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if (is_infinite || is_zero) && has_nonzero {
        return Err(Error::new(
            Kind::NumericOutOfRange,
            format!("\"{}\" is out of range for type {type_name}", excerpt(word)),
        ));
    }
    Ok(())
}

/// A decimal number as it was written.
pub struct Number<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Number<'a> {
    pub fn parse(text: &'a str) -> Result<Number<'a>> {
        let word = trim(text);
        let (is_negative, unsigned) = match word.as_bytes().split_first() {
            Some((b'-', rest)) => (true, rest),
            Some((b'+', rest)) => (false, rest),
            _ => (false, word.as_bytes()),
        };
        let specials: [&[u8]; 3] = [b"NaN", b"Infinity", b"inf"];
        if specials.iter().any(|special| special.eq_ignore_ascii_case(unsigned)) {
            return Err(Error::unsupported(format!("numeric {word} is not supported"))
                .with_hint("Store NULL, or use double precision."));
        }
        let invalid = || invalid_syntax("numeric", text);
        let mark = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (digits, exponent) = match mark.and_then(|at| unsigned.split_at_checked(at)) {
            Some((digits, exponent)) => (digits, parse_exponent(exponent).ok_or_else(invalid)?),
            None => (unsigned, 0),
        };
        let point = digits.iter().position(|byte| *byte == b'.');
        let (whole, fraction) = match point.and_then(|at| digits.split_at_checked(at)) {
            Some((whole, fraction)) => (whole, fraction.get(1..).unwrap_or_default()),
            None => (digits, &[][..]),
        };
        let is_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
        if !is_digits || (whole.is_empty() && fraction.is_empty()) {
            return Err(invalid());
        }
        Ok(Number { is_negative, whole, fraction, exponent })
    }

    /// The number times ten to the `scale`, rounded half away from zero.
    ///
    /// # Errors
    /// `22003` for more than `precision` digits.
    pub fn to_decimal(&self, precision: u8, scale: u8) -> Result<i128> {
        let unscaled = self.unscaled(scale).map(|(unscaled, _)| unscaled);
        let fits = |unscaled: &i128| {
            10_i128.checked_pow(u32::from(precision)).is_none_or(|limit| *unscaled < limit)
        };
        match unscaled.filter(fits) {
            Some(unscaled) if self.is_negative => Ok(-unscaled),
            Some(unscaled) => Ok(unscaled),
            None => Err(overflow(precision, scale)),
        }
    }

    /// The number as it is: the unscaled value, its precision and scale; `None` where it has more
    /// than 38 digits.
    pub fn to_exact(&self) -> Option<(i128, u8, u8)> {
        let fraction = i64::try_from(self.fraction.len()).ok()?;
        let scale = u8::try_from(fraction.saturating_sub(self.exponent).max(0)).ok()?;
        let (unscaled, _) = self.unscaled(scale).filter(|(_, is_exact)| *is_exact)?;
        let digits = unscaled.checked_ilog10().map_or(1, |log| log + 1);
        let precision = u8::try_from(digits).ok()?.max(scale);
        let signed = if self.is_negative { -unscaled } else { unscaled };
        (precision <= 38).then_some((signed, precision, scale))
    }

    /// Whether the number has no digits beyond `scale`.
    pub fn is_exact_at(&self, scale: u8) -> bool {
        self.unscaled(scale).is_some_and(|(_, is_exact)| is_exact)
    }

    /// The absolute value times ten to the `scale`, and whether it is exact.
    fn unscaled(&self, scale: u8) -> Option<(i128, bool)> {
        let whole = i64::try_from(self.whole.len()).ok()?;
        // How many digits, from the first on, come to stand before the point.
        let keep = whole.saturating_add(self.exponent).saturating_add(i64::from(scale));
        let mut value = 0_i128;
        let mut is_exact = true;
        let mut index = 0_i64;
        for digit in self.whole.iter().chain(self.fraction) {
            let digit = i128::from(digit - b'0');
            if index < keep {
                value = value.checked_mul(10)?.checked_add(digit)?;
            } else {
                if index == keep && digit >= 5 {
                    value = value.checked_add(1)?;
                }
                is_exact &= digit == 0;
            }
            index += 1;
        }
        if index < keep && value != 0 {
            let zeros = u32::try_from(keep - index).ok()?;
            value = value.checked_mul(10_i128.checked_pow(zeros)?)?;
        }
        Some((value, is_exact))
    }
}

/// `22003`, said as PostgreSQL says it.
fn overflow(precision: u8, scale: u8) -> Error {
    let whole = i32::from(precision) - i32::from(scale);
    let limit = if whole == 0 { "1".to_owned() } else { format!("10^{whole}") };
    Error::new(Kind::NumericOutOfRange, "numeric field overflow").with_detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value \
         less than {limit}."
    ))
}

/// `e-12`; what no i64 holds is as good as its largest.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text.get(1..)? {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    const LIMIT: i64 = 1_000_000_000;
    let value =
        digits.iter().fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(LIMIT));
    Some(if is_negative { -value } else { value })
}

/// Without the white space that C knows at both ends.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}'])
}
