//! The input syntax of intervals.
//!
//! What it guarantees: what PostgreSQL takes in its own styles (`1 year 2 mons 3 days 04:05:06`, `1.5 hours`,
//! `1-2`, `3 4:05`, `2 days ago`, a bare number of seconds) and ISO's with designators (`P1Y2M3DT4H5M6S`);
//! a fraction of a unit is counted in the next smaller ones, a month as 30 days. Anything else is `22007`,
//! more than an interval holds `22008`.
//! What it does not: ISO's form without designators, and `infinity`, are refused.

use kho_catalog::error::{Error, Kind, Result};

use super::calendar::out_of_range;
use super::excerpt;
use crate::times::interval::Interval;

const SECOND: i128 = 1_000_000;
const DAY: i128 = 86_400 * SECOND;
/// An amount is counted in millionths.
const ONE: i128 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// So many months.
    Months(i128),
    /// So many days.
    Days(i128),
    /// So many microseconds.
    Micros(i128),
}

#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    micros: i128,
    /// What was given already: nothing is given twice.
    seen: Vec<Unit>,
}

/// The interval that `text` spells.
///
/// # Errors
/// `22007` for what spells none, `22008` for what is too much.
pub(crate) fn parse(text: &str) -> Result<Interval> {
    let bare = text.trim();
    let read = match bare.strip_prefix(['P', 'p']) {
        Some(designated) => iso(designated),
        None => traditional(bare),
    };
    let sum = read.ok_or_else(|| {
        let message = format!("invalid input syntax for type interval: \"{}\"", excerpt(text));
        Error::new(Kind::InvalidDatetime, message)
    })?;
    let whole = || {
        let (months, days) = (i32::try_from(sum.months).ok()?, i32::try_from(sum.days).ok()?);
        Some(Interval { months, days, micros: i64::try_from(sum.micros).ok()? })
    };
    whole().ok_or_else(|| out_of_range("interval"))
}

fn traditional(text: &str) -> Option<Sum> {
    let (mut sum, mut rest) = (Sum::default(), text.trim_start_matches('@').trim_start());
    let mut is_ago = false;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() && !is_ago {
        let (number, after) = split(rest, |it| it.is_ascii_digit() || "+-.:".contains(it));
        // A sign may stand apart.
        let apart = after.trim_start();
        let joined = format!("{number}{}", split(apart, |it| it.is_ascii_digit() || it == '.').0);
        let is_sign = matches!(number, "+" | "-");
        let after = if is_sign { apart.get(joined.len() - 1..).unwrap_or_default() } else { after };
        let number = if is_sign { joined.as_str() } else { number };
        if number.contains(':') {
            sum.add(Unit::Micros(SECOND), clock(number)?)?;
            rest = after.trim_start();
        } else if let Some((years, months)) = years_and_months(number) {
            sum.add(Unit::Months(1), (years * 12 + months) * ONE)?;
            rest = after.trim_start();
        } else {
            let amount = amount(number)?;
            let (word, after) = split(after.trim_start(), |it| it.is_ascii_alphabetic());
            rest = after.trim_start();
            let before_clock = word.is_empty() && rest.contains(':');
            let unit = if before_clock { Some(Unit::Days(1)) } else { unit(word) };
            // A number alone is of seconds, and then there is nothing more.
            let is_last = !word.is_empty() || before_clock || rest.is_empty();
            sum.add(unit.filter(|_| is_last)?, amount)?;
        }
        if rest.eq_ignore_ascii_case("ago") {
            is_ago = true;
        }
    }
    if is_ago {
        sum = Sum { months: -sum.months, days: -sum.days, micros: -sum.micros, seen: sum.seen };
    }
    Some(sum)
}

/// What stands behind the `P`.
fn iso(text: &str) -> Option<Sum> {
    let (mut sum, mut rest, mut in_time) = (Sum::default(), text, false);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix(['T', 't']) {
            if in_time || time.is_empty() {
                return None;
            }
            (rest, in_time) = (time, true);
        }
        let (number, after) = split(rest, |it| it.is_ascii_digit() || "+-.".contains(it));
        let mut letters = after.chars();
        let unit = match (letters.next()?.to_ascii_uppercase(), in_time) {
            ('Y', false) => Unit::Months(12),
            ('M', false) => Unit::Months(1),
            ('W', false) => Unit::Days(7),
            ('D', false) => Unit::Days(1),
            ('H', true) => Unit::Micros(3600 * SECOND),
            ('M', true) => Unit::Micros(60 * SECOND),
            ('S', true) => Unit::Micros(SECOND),
            _ => return None,
        };
        sum.add(unit, amount(number)?)?;
        rest = letters.as_str();
    }
    Some(sum)
}

impl Sum {
    /// `amount` millionths of `unit`; `None` where it was given before.
    fn add(&mut self, unit: Unit, amount: i128) -> Option<()> {
        if self.seen.contains(&unit) {
            return None;
        }
        self.seen.push(unit);
        match unit {
            // A year and more has whole months.
            Unit::Months(12..) if let Unit::Months(each) = unit => {
                self.months += rounded(amount * each);
            }
            Unit::Months(_) => {
                self.months += amount / ONE;
                self.add_days(amount % ONE * 30);
            }
            Unit::Days(each) => self.add_days(amount * each),
            Unit::Micros(each) => self.micros += rounded(amount * each),
        }
        Some(())
    }

    /// Millionths of days.
    fn add_days(&mut self, amount: i128) {
        self.days += amount / ONE;
        self.micros += rounded(amount % ONE * DAY);
    }
}

/// Millionths as the nearest whole number.
fn rounded(millionths: i128) -> i128 {
    let half = if millionths < 0 { -ONE / 2 } else { ONE / 2 };
    (millionths + half) / ONE
}

/// `1-2`: years and months, of one sign.
fn years_and_months(number: &str) -> Option<(i128, i128)> {
    let (sign, number) = signed(number);
    let (years, months) = number.split_once('-')?;
    let (years, months) = (whole(years)?, whole(months)?);
    (months < 12).then_some((sign * years, sign * months))
}

/// `4:05:06.7` in millionths of seconds; without seconds it is hours and minutes.
fn clock(number: &str) -> Option<i128> {
    let (sign, number) = signed(number);
    let mut parts = number.split(':');
    let (hours, minutes) = (whole(parts.next()?)?, parts.next()?);
    let (minutes, seconds) = match parts.next() {
        Some(seconds) => (whole(minutes)?, plain(seconds)?),
        None => (whole(minutes)?, 0),
    };
    let is_one = parts.next().is_none() && minutes < 60 && seconds < 61 * ONE;
    is_one.then(|| sign * ((hours * 3600 + minutes * 60) * ONE + seconds))
}

/// Millionths of a number with its sign.
fn amount(number: &str) -> Option<i128> {
    let (sign, number) = signed(number);
    plain(number).map(|amount| sign * amount)
}

/// Millionths of a number without a sign.
fn plain(number: &str) -> Option<i128> {
    let (before, after) = number.split_once('.').unwrap_or((number, ""));
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let before = if before.is_empty() { 0 } else { whole(before)? };
    // The seventh digit says how the sixth is rounded.
    let digits: String = after.chars().chain("0000000".chars()).take(7).collect();
    if !after.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    Some(before * ONE + (whole(&digits)? + 5) / 10)
}

/// So many digits that no sum of what they count leaves 128 bits.
fn whole(digits: &str) -> Option<i128> {
    let is_number =
        (1..=18).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

fn signed(number: &str) -> (i128, &str) {
    match number.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    }
}

/// The characters that `is_of` holds for, and the rest.
fn split(text: &str, is_of: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|it| !is_of(it)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word.to_ascii_lowercase().as_str() {
        "microsecond" | "microseconds" | "us" | "usec" | "usecs" => Unit::Micros(1),
        "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => Unit::Micros(1000),
        "" | "second" | "seconds" | "sec" | "secs" | "s" => Unit::Micros(SECOND),
        "minute" | "minutes" | "min" | "mins" | "m" => Unit::Micros(60 * SECOND),
        "hour" | "hours" | "hr" | "hrs" | "h" => Unit::Micros(3600 * SECOND),
        "day" | "days" | "d" => Unit::Days(1),
        "week" | "weeks" | "w" => Unit::Days(7),
        "month" | "months" | "mon" | "mons" => Unit::Months(1),
        "year" | "years" | "yr" | "yrs" | "y" => Unit::Months(12),
        "decade" | "decades" | "dec" | "decs" => Unit::Months(120),
        "century" | "centuries" | "cent" | "c" => Unit::Months(1200),
        "millennium" | "millennia" | "mil" | "mils" => Unit::Months(12_000),
        _ => return None,
    })
}
