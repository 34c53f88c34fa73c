//! The session's time zone: from an instant to a clock on the wall and back.
//!
//! What it guarantees: PostgreSQL's choice where the clock was changed: a time that never was is
//! read with the offset from before the change, one that was twice with the offset from after it.
//! What it does not: rules are IANA's as compiled in; a law of tomorrow needs a new release.
//! The last rules of a zone hold for ever after.

use std::cell::{Cell, OnceCell};

use chrono::{DateTime, Duration, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use kho_catalog::error::{Error, Kind, Result};

use super::calendar::{DAY_SECONDS, civil_of_days, days_in_month, days_of_civil};

/// A time zone that has been looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Zone {
    Utc,
    /// Seconds east of Greenwich.
    Fixed(i32),
    Named(Tz),
}

impl Zone {
    /// The zone of a name (`Asia/Ho_Chi_Minh`, `UTC`), of an offset east (`+07:00`), or of POSIX's
    /// notation for a zone that never changes its clocks (`GMT-07:00`, which is seven hours east).
    ///
    /// # Errors
    /// `22023` for a name that is none.
    pub fn of_setting(name: &str) -> Result<Zone> {
        Zone::of_name(name).or_else(|| Zone::of_posix(name)).ok_or_else(|| {
            Error::new(
                Kind::InvalidParameterValue,
                format!("invalid value for parameter \"TimeZone\": \"{name}\""),
            )
        })
    }

    pub fn of_name(name: &str) -> Option<Zone> {
        let is_utc = ["UTC", "Z", "GMT", "Zulu", "Etc/UTC"];
        if is_utc.iter().any(|utc| utc.eq_ignore_ascii_case(name)) {
            return Some(Zone::Utc);
        }
        if let Some(offset_seconds) = parse_offset(name.as_bytes()) {
            return Some(Zone::Fixed(offset_seconds));
        }
        if let Ok(zone) = name.parse::<Tz>() {
            return Some(Zone::Named(zone));
        }
        let found =
            chrono_tz::TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(name));
        found.copied().map(Zone::Named)
    }

    /// The zone that `AT TIME ZONE` names: by an abbreviation, by a name, or as POSIX has it, where an
    /// offset with a plus is west.
    pub fn of_clause(name: &str) -> Option<Zone> {
        let of_name = || match name.starts_with(['+', '-']) {
            true => None,
            false => Zone::of_name(name),
        };
        Zone::of_abbreviation(name).or_else(of_name).or_else(|| Zone::of_posix(name))
    }

    /// The zone of an abbreviation. One that is a zone's name, too, keeps its offset in summer.
    pub fn of_abbreviation(name: &str) -> Option<Zone> {
        let found = ABBREVIATIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, minutes)| Zone::Fixed(minutes * 60))
    }

    /// `UTC+3`, `GMT-07:00`, `<+07>-07`, `+07`: how far to go east to be at Greenwich.
    pub fn of_posix(text: &str) -> Option<Zone> {
        let rest = match text.strip_prefix('<') {
            Some(quoted) => quoted.split_once('>')?.1,
            None => {
                let rest = text.trim_start_matches(|it: char| it.is_ascii_alphabetic());
                if (1..3).contains(&(text.len() - rest.len())) {
                    return None;
                }
                rest
            }
        };
        // Minutes are told by a colon alone.
        let digits = rest.trim_start_matches(['+', '-']);
        if digits.split(':').any(|part| part.len() > 2) {
            return None;
        }
        let offset = match rest.starts_with(|it: char| it.is_ascii_digit()) {
            true if rest.len() < text.len() => parse_offset(format!("+{rest}").as_bytes())?,
            _ => parse_offset(rest.as_bytes())?,
        };
        Some(Zone::Fixed(-offset))
    }

    /// How the engine calls it.
    pub fn of_engine(self) -> String {
        match self {
            Zone::Utc => "UTC".to_owned(),
            Zone::Fixed(seconds) => {
                let sign = if seconds < 0 { '-' } else { '+' };
                let minutes = seconds.unsigned_abs() / 60;
                format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
            Zone::Named(zone) => zone.name().to_owned(),
        }
    }

    /// Whether each day since 1980 has 24 hours.
    pub fn is_even(self) -> bool {
        let first = self.offset_at(FIRST_EVEN_SECONDS);
        let days = (FIRST_EVEN_SECONDS..END_SPELLED_SECONDS).step_by(STEP_SECONDS);
        !matches!(self, Zone::Named(_)) || days.into_iter().all(|at| self.offset_at(at) == first)
    }

    /// Seconds east of Greenwich at an instant, in seconds of the Unix epoch.
    pub fn offset_at(self, instant_seconds: i64) -> i32 {
        match self {
            Zone::Utc => 0,
            Zone::Fixed(offset_seconds) => offset_seconds,
            Zone::Named(zone) => named_offset(zone, &clamped(instant_seconds)),
        }
    }

    /// Seconds east of Greenwich when the clock on the wall shows `local_seconds`.
    pub fn offset_of_local(self, local_seconds: i64) -> i32 {
        let zone = match self {
            Zone::Utc => return 0,
            Zone::Fixed(offset_seconds) => return offset_seconds,
            Zone::Named(zone) => zone,
        };
        let local = clamped(local_seconds);
        match zone.offset_from_local_datetime(&local) {
            MappedLocalTime::Single(offset) => offset.fix().local_minus_utc(),
            MappedLocalTime::Ambiguous(_, after) => after.fix().local_minus_utc(),
            MappedLocalTime::None => {
                let before = local.checked_sub_signed(Duration::days(1)).unwrap_or(local);
                named_offset(zone, &before)
            }
        }
    }
}

/// Offsets that were looked up, for the values of one column: they tend to lie near each other, and
/// a look-up costs more than the rest of writing a timestamp.
#[derive(Default)]
pub struct Offsets {
    known: OnceCell<Vec<Cell<Known>>>,
}

/// A period and its offset; `None` where the offset changes within the period.
type Known = (i64, Option<i32>);

impl Offsets {
    /// As [`Zone::offset_at`].
    pub fn at(&self, zone: Zone, instant_seconds: i64) -> i32 {
        if !matches!(zone, Zone::Named(_)) || !(0..END_SPELLED_SECONDS).contains(&instant_seconds) {
            return zone.offset_at(instant_seconds);
        }
        let period = instant_seconds / PERIOD_SECONDS;
        let known = self.known.get_or_init(|| vec![Cell::new((-1, None)); PERIODS]);
        let place = usize::try_from(period).ok().and_then(|period| known.get(period % PERIODS));
        let Some(place) = place else { return zone.offset_at(instant_seconds) };
        if place.get().0 != period {
            let first = zone.offset_at(period * PERIOD_SECONDS);
            let last = zone.offset_at((period + 1) * PERIOD_SECONDS - 1);
            place.set((period, (first == last).then_some(first)));
        }
        place.get().1.unwrap_or_else(|| zone.offset_at(instant_seconds))
    }
}

/// 1980-01-01, and three weeks: no zone has changed its clocks and back within those since.
const FIRST_EVEN_SECONDS: i64 = 315_532_800;
const STEP_SECONDS: usize = 21 * 86_400;

/// Abbreviations as PostgreSQL knows them, in minutes east; those that change their meaning, and
/// those of few people, are not among them.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("ACDT", 630),
    ("ACST", 570),
    ("ADT", -180),
    ("AEDT", 660),
    ("AEST", 600),
    ("AKDT", -480),
    ("AKST", -540),
    ("AST", -240),
    ("AWST", 480),
    ("BST", 60),
    ("CDT", -300),
    ("CEST", 120),
    ("CET", 60),
    ("CST", -360),
    ("EAT", 180),
    ("EDT", -240),
    ("EEST", 180),
    ("EET", 120),
    ("EST", -300),
    ("HKT", 480),
    ("HST", -600),
    ("ICT", 420),
    ("IDT", 180),
    ("IST", 120),
    ("JST", 540),
    ("KST", 540),
    ("MDT", -360),
    ("MEST", 120),
    ("MESZ", 120),
    ("MET", 60),
    ("MEZ", 60),
    ("MST", -420),
    ("NDT", -150),
    ("NST", -210),
    ("NZDT", 780),
    ("NZST", 720),
    ("PDT", -420),
    ("PHT", 480),
    ("PKT", 300),
    ("PST", -480),
    ("SAST", 120),
    ("WAT", 60),
    ("WET", 0),
];

/// Three days: since 1970 no zone has changed its clocks twice within a week.
const PERIOD_SECONDS: i64 = 3 * DAY_SECONDS;
const PERIODS: usize = 1_024;

fn named_offset(zone: Tz, utc: &NaiveDateTime) -> i32 {
    zone.offset_from_utc_datetime(utc).fix().local_minus_utc()
}

/// The instant; before the years of chrono its earliest, after those that the compiled rules are
/// spelled out for a time in a year that they hold and that is like it day by day.
fn clamped(seconds: i64) -> NaiveDateTime {
    let mut seconds = seconds;
    if seconds >= END_SPELLED_SECONDS {
        let year = civil_of_days(seconds.div_euclid(DAY_SECONDS)).0;
        let like = like_year(year);
        seconds -= (days_of_civil(year, 1, 1) - days_of_civil(like, 1, 1)) * DAY_SECONDS;
    }
    DateTime::from_timestamp(seconds, 0).map_or(EARLIEST, |time| time.naive_utc().max(EARLIEST))
}

/// 2091-01-01. chrono-tz spells transitions out until 2100.
const END_SPELLED_SECONDS: i64 = 3_818_448_000;

/// The first day of a year that leaves room for offsets.
const EARLIEST: NaiveDateTime =
    NaiveDateTime::MIN.checked_add_signed(Duration::days(3)).expect("three days are no overflow");

/// A year of 2060 to 2087 that begins on the same weekday and is as long: in 28 years without a
/// century each kind of year comes.
fn like_year(year: i64) -> i64 {
    let kind = |year| (days_of_civil(year, 1, 1).rem_euclid(7), days_in_month(year, 2));
    (2_060..2_088).find(|candidate| kind(*candidate) == kind(year)).unwrap_or(2_060)
}

/// `+07`, `-0330`, `+05:30`, `+07:06:30` as seconds east.
pub fn parse_offset(text: &[u8]) -> Option<i32> {
    let (sign, rest) = match text.split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let mut parts = [0_i32; 3];
    if rest.contains(&b':') {
        let mut pieces = rest.split(|byte| *byte == b':');
        for part in &mut parts {
            *part = match pieces.next() {
                Some(piece) => two_digits(piece)?,
                None => 0,
            };
        }
        if pieces.next().is_some() {
            return None;
        }
    } else if rest.len() <= 2 {
        parts = [two_digits(rest)?, 0, 0];
    } else {
        if !rest.len().is_multiple_of(2) || rest.len() > 6 {
            return None;
        }
        for (part, piece) in parts.iter_mut().zip(rest.chunks(2)) {
            *part = two_digits(piece)?;
        }
    }
    let [hours, minutes, seconds] = parts;
    if hours > 15 || minutes > 59 || seconds > 59 {
        return None;
    }
    Some(sign * (hours * 3600 + minutes * 60 + seconds))
}

fn two_digits(text: &[u8]) -> Option<i32> {
    if text.is_empty() || text.len() > 2 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |value, digit| value * 10 + i32::from(digit - b'0')))
}
