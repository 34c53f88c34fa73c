//! The input syntax of dates and timestamps: ISO 8601 as PostgreSQL reads it.
//!
//! What it guarantees: a text is read in one way or refused (`22007`); a field or a date that does
//! not exist, or lies outside of PostgreSQL's range, is `22008`. Fractions are rounded to
//! microseconds as PostgreSQL rounds them.

use kho_catalog::error::{Error, Kind, Result};

use super::calendar::{DAY_MICROS, DAY_SECONDS, FIRST_DAY, days_in_month, days_of_civil};
use super::excerpt;
use super::number::trim;
use super::zone::{Zone, parse_offset};

/// Days since 1970-01-01.
pub(super) fn parse_date(text: &str) -> Result<i32> {
    let context = Context { text, type_name: "date" };
    let moment = context.parse()?;
    let in_range = (FIRST_DAY..=MAX_DATE_DAYS).contains(&moment.days);
    match i32::try_from(moment.days) {
        Ok(days) if in_range => Ok(days),
        _ => Err(context.out_of_range()),
    }
}

/// Microseconds since 1970-01-01 00:00:00.
pub(super) fn parse_timestamp(text: &str) -> Result<i64> {
    let context = Context { text, type_name: "timestamp" };
    let moment = context.parse()?;
    context.instant(&moment, 0)
}

/// Microseconds since the Unix epoch; `zone` is where a text without offset was written.
pub(super) fn parse_timestamp_tz(text: &str, zone: Zone) -> Result<i64> {
    let context = Context { text, type_name: "timestamp with time zone" };
    let moment = context.parse()?;
    let local_seconds = moment.days * DAY_SECONDS + moment.micros.div_euclid(1_000_000);
    let zone = moment.zone.unwrap_or(zone);
    context.instant(&moment, zone.offset_of_local(local_seconds))
}

/// 5874897-12-31.
const MAX_DATE_DAYS: i64 = 2_145_042_905;

/// The years are read from at most nine digits, so that days fit with much room.
struct Moment {
    days: i64,
    micros: i64,
    zone: Option<Zone>,
}

/// What is being read, for messages.
struct Context<'a> {
    text: &'a str,
    type_name: &'static str,
}

impl Context<'_> {
    fn parse(&self) -> Result<Moment> {
        let word = trim(self.text);
        if word.eq_ignore_ascii_case("epoch") {
            return Ok(Moment { days: 0, micros: 0, zone: Some(Zone::Utc) });
        }
        let unstored = ["infinity", "-infinity", "now", "today", "tomorrow", "yesterday"];
        if unstored.iter().any(|name| name.eq_ignore_ascii_case(word)) {
            return Err(Error::unsupported(format!(
                "\"{word}\" is not supported as a value of type {}",
                self.type_name
            )));
        }
        let (word, is_before_christ) = strip_era(word);
        let mut rest = word.as_bytes();
        let days = self.parse_days(&mut rest, is_before_christ)?;
        let mut moment = Moment { days, micros: 0, zone: None };
        match rest.split_first() {
            None => {}
            // A day with an offset and no time of day, as JDBC writes a date.
            Some((b'+', _)) => moment.zone = self.parse_zone(rest)?,
            Some((b' ', after)) if !starts(after.trim_ascii_start(), b"0123456789") => {
                moment.zone = self.parse_zone(after.trim_ascii_start())?;
            }
            Some((b'T' | b't' | b' ', after)) => {
                rest = after.trim_ascii_start();
                moment.micros = self.parse_clock(&mut rest)?;
                moment.zone = self.parse_zone(rest.trim_ascii_start())?;
            }
            Some(_) => return Err(self.invalid()),
        }
        Ok(moment)
    }

    fn parse_days(&self, rest: &mut &[u8], is_before_christ: bool) -> Result<i64> {
        let digits = take_digits(rest, 9);
        let (year, month, day) = if let (8, false) = (digits.len(), starts(rest, b"-/.")) {
            let (year, month_day) = digits.split_at_checked(4).unwrap_or_default();
            let (month, day) = month_day.split_at_checked(2).unwrap_or_default();
            (number(year), number(month), number(day))
        } else {
            // With fewer digits it could as well be a day or a month that comes first.
            if digits.len() < 4 {
                return Err(self.invalid());
            }
            let separator = take_one(rest, b"-/.").ok_or_else(|| self.invalid())?;
            let month = take_digits(rest, 2);
            take_one(rest, &[separator]).ok_or_else(|| self.invalid())?;
            let day = take_digits(rest, 2);
            if month.is_empty() || day.is_empty() || starts(rest, b"0123456789") {
                return Err(self.invalid());
            }
            (number(digits), number(month), number(day))
        };
        let shown_year = year;
        let year = if is_before_christ { 1 - year } else { year };
        let (Ok(month), Ok(day)) = (u8::try_from(month), u8::try_from(day)) else {
            return Err(self.no_such_field());
        };
        let exists = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
        if shown_year == 0 || !exists {
            return Err(self.no_such_field());
        }
        Ok(days_of_civil(year, month, day))
    }

    /// `HH:MM`, `HH:MM:SS`, `HH:MM:SS.ffffff`; `24:00` and second 60 are the next day or minute.
    fn parse_clock(&self, rest: &mut &[u8]) -> Result<i64> {
        let hours = take_digits(rest, 2);
        take_one(rest, b":").ok_or_else(|| self.invalid())?;
        let minutes = take_digits(rest, 2);
        let (mut seconds, mut micros): (&[u8], i64) = (b"0", 0);
        if take_one(rest, b":").is_some() {
            seconds = take_digits(rest, 2);
            if take_one(rest, b".,").is_some() {
                micros = fraction_micros(take_digits(rest, usize::MAX));
            }
        }
        if hours.is_empty() || minutes.is_empty() || seconds.is_empty() {
            return Err(self.invalid());
        }
        if starts(rest, b"0123456789:.") {
            return Err(self.invalid());
        }
        let (hours, minutes, seconds) = (number(hours), number(minutes), number(seconds));
        let clock = (hours * 3_600 + minutes * 60 + seconds) * 1_000_000 + micros;
        if hours > 24 || minutes > 59 || seconds > 60 || (hours == 24 && clock > DAY_MICROS) {
            return Err(self.no_such_field());
        }
        Ok(clock)
    }

    fn parse_zone(&self, text: &[u8]) -> Result<Option<Zone>> {
        let text = std::str::from_utf8(text).map_err(|_| self.invalid())?;
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(offset_seconds) = parse_offset(text.as_bytes()) {
            return Ok(Some(Zone::Fixed(offset_seconds)));
        }
        if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(self.invalid());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-');
        if !text.contains(|c: char| !is_name(c))
            && let Some(zone) = Zone::of_abbreviation(text).or_else(|| Zone::of_name(text))
        {
            return Ok(Some(zone));
        }
        // What has no slash could as well be another word in the wrong place.
        if !text.contains('/') || !text.chars().all(is_name) {
            return Err(self.invalid());
        }
        Err(Error::new(
            Kind::InvalidParameterValue,
            format!("time zone \"{}\" not recognized", excerpt(&text.to_ascii_lowercase())),
        ))
    }

    /// PostgreSQL's timestamps end in the year 294276, those of Arrow thirty years before.
    fn instant(&self, moment: &Moment, offset_seconds: i32) -> Result<i64> {
        let micros = moment
            .days
            .checked_mul(DAY_MICROS)
            .and_then(|micros| micros.checked_add(moment.micros))
            .and_then(|micros| micros.checked_sub(i64::from(offset_seconds) * 1_000_000));
        micros.filter(|micros| *micros >= FIRST_DAY * DAY_MICROS).ok_or_else(|| self.out_of_range())
    }

    fn invalid(&self) -> Error {
        Error::new(
            Kind::InvalidDatetime,
            format!("invalid input syntax for type {}: \"{}\"", self.type_name, excerpt(self.text)),
        )
        .with_hint("Write dates as YYYY-MM-DD and times as HH:MM:SS.")
    }

    fn no_such_field(&self) -> Error {
        Error::new(
            Kind::DatetimeOverflow,
            format!("date/time field value out of range: \"{}\"", excerpt(self.text)),
        )
    }

    fn out_of_range(&self) -> Error {
        let what = if self.type_name == "date" { "date" } else { "timestamp" };
        Error::new(
            Kind::DatetimeOverflow,
            format!("{what} out of range: \"{}\"", excerpt(self.text)),
        )
    }
}

/// Takes ` BC` or ` AD` off the end.
fn strip_era(text: &str) -> (&str, bool) {
    let Some((before, era)) = text.len().checked_sub(2).and_then(|at| text.split_at_checked(at))
    else {
        return (text, false);
    };
    let is_era = era.eq_ignore_ascii_case("BC") || era.eq_ignore_ascii_case("AD");
    if !is_era || !before.ends_with(|c: char| c.is_ascii_whitespace() || c.is_ascii_digit()) {
        return (text, false);
    }
    (trim(before), era.eq_ignore_ascii_case("BC"))
}

/// Rounded as `rint(strtod(".ddd") * 1000000)` rounds.
fn fraction_micros(digits: &[u8]) -> i64 {
    if digits.len() <= 6 {
        let scale = 10_i64.pow(6 - u32::try_from(digits.len()).unwrap_or(0));
        return number(digits) * scale;
    }
    let text = String::from_utf8_lossy(digits);
    let fraction: f64 = format!("0.{text}").parse().unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, reason = "it lies between 0 and 1,000,000")]
    let micros = (fraction * 1_000_000.0).round_ties_even() as i64;
    micros
}

/// Takes up to `most` digits.
fn take_digits<'a>(rest: &mut &'a [u8], most: usize) -> &'a [u8] {
    let length = rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, after) = rest.split_at_checked(length).unwrap_or_default();
    *rest = after;
    digits
}

fn take_one(rest: &mut &[u8], any_of: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    any_of.contains(first).then(|| {
        *rest = after;
        *first
    })
}

fn starts(rest: &[u8], any_of: &[u8]) -> bool {
    rest.first().is_some_and(|first| any_of.contains(first))
}

/// The value of at most nine digits.
fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
}
