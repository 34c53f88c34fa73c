//! A session's settings: what `SET`, `SHOW` and the startup packet know.
//!
//! What it guarantees: a setting that is accepted is obeyed. One that PostgreSQL has and Kho does
//! not follow takes only the value that Kho behaves by; any other is `0A000`. One nobody knows is
//! `42704`. Nothing reaches the engine's own configuration from here.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::table::Load;

use crate::input::zone::Zone;

/// How a setting's value is checked.
#[derive(Clone, Copy)]
enum Rule {
    /// Only these, in any case; the first is the default.
    OneOf(&'static [&'static str]),
    Text(&'static str),
    /// `on` or `off`, the default, in any of PostgreSQL's spellings.
    Switch,
    Milliseconds(&'static str),
    TimeZone,
    SearchPath,
    Integer(&'static str, i64, i64),
    /// A number from 0, or nothing.
    Sequence,
    /// Can be shown, not set.
    Fixed(&'static str),
}

struct Setting {
    name: &'static str,
    rule: Rule,
    /// Told to clients in `ParameterStatus`.
    reported: bool,
    description: &'static str,
}

const fn setting(name: &'static str, rule: Rule, description: &'static str) -> Setting {
    Setting { name, rule, reported: false, description }
}

const fn reported(name: &'static str, rule: Rule, description: &'static str) -> Setting {
    Setting { name, rule, reported: true, description }
}

const ON: &[&str] = &["on", "true", "yes", "1"];
const OFF: &[&str] = &["off", "false", "no", "0"];
/// The version of PostgreSQL whose behaviour is followed.
pub(crate) const SERVER_VERSION: &str = "15.0";

const SETTINGS: &[Setting] = &[
    reported("application_name", Rule::Text(""), "The application's name, for the ledger."),
    reported("client_encoding", Rule::OneOf(&["UTF8", "UNICODE"]), "Always UTF8."),
    reported("DateStyle", Rule::OneOf(DATE_STYLES), "How dates are written: ISO."),
    reported("IntervalStyle", Rule::OneOf(&["postgres"]), "How intervals are written."),
    reported("TimeZone", Rule::TimeZone, "The zone timestamps are shown in."),
    reported("standard_conforming_strings", Rule::OneOf(ON), "Backslashes are ordinary."),
    reported("integer_datetimes", Rule::Fixed("on"), "Timestamps are integers."),
    reported("server_encoding", Rule::Fixed("UTF8"), "Text is UTF-8."),
    reported("server_version", Rule::Fixed(SERVER_VERSION), "The PostgreSQL version followed."),
    reported("is_superuser", Rule::Fixed("off"), "Nobody is."),
    reported("in_hot_standby", Rule::Fixed("off"), "Never."),
    reported(DEFAULT_READ_ONLY, Rule::Switch, "Transactions only read, unless they say else."),
    setting("server_version_num", Rule::Fixed("150000"), "The version as a number."),
    setting("bytea_output", Rule::OneOf(&["hex"]), "How bytea is written."),
    setting("client_min_messages", Rule::OneOf(MESSAGE_LEVELS), "Which notices are sent."),
    setting("extra_float_digits", Rule::Integer("1", 0, 3), "Shortest exact floats."),
    setting("search_path", Rule::SearchPath, "Where names without a schema are looked for."),
    setting("statement_timeout", Rule::Milliseconds("0"), "Ends statements; 0 is never."),
    setting("lock_timeout", Rule::Milliseconds("0"), "Ends waiting for a table; 0 is never."),
    setting(IDLE_IN_TRANSACTION, Rule::Milliseconds("0"), "Ends sessions at rest in a block."),
    setting(IDLE_SESSION, Rule::Milliseconds("0"), "Ends sessions at rest outside a block."),
    setting(READ_ONLY, Rule::Switch, "This transaction only reads."),
    setting(IN_ISOLATION, Rule::OneOf(ISOLATION), "What a transaction sees."),
    setting(DEFAULT_ISOLATION, Rule::OneOf(ISOLATION), "The same, by default."),
    setting("default_transaction_deferrable", Rule::OneOf(OFF), "Not followed: only off."),
    setting("row_security", Rule::OneOf(ON), "Policies cannot be switched off."),
    setting("synchronous_commit", Rule::OneOf(&["on"]), "Commits are durable."),
    setting("check_function_bodies", Rule::OneOf(OFF), "There are no function bodies."),
    setting("xmloption", Rule::OneOf(&["content"]), "There is no XML."),
    setting("max_identifier_length", Rule::Fixed("63"), "Bytes in a name."),
    setting("default_table_access_method", Rule::OneOf(&["heap"]), "Tables are Delta tables."),
    setting("synchronize_seqscans", Rule::OneOf(OFF), "A scan begins at a table's beginning."),
    setting("default_tablespace", Rule::OneOf(&[""]), "There is one place for tables."),
    setting("max_index_keys", Rule::Fixed("32"), "Columns in a key, for drivers that ask."),
    reported("session_authorization", Rule::Fixed(""), "Who logged in."),
    setting("kho.authentication", Rule::Fixed(""), "By what the session was let in."),
    setting("kho.expand_star", Rule::OneOf(&["all", "readable"]), "What a role gets for \"*\"."),
    setting("kho.as_of", Rule::Text(""), "Reads every dataset at one instant; empty is now."),
    setting(LOAD_STREAM, Rule::Text(""), "The stream of loads that a write is one of."),
    setting(LOAD_SEQUENCE, Rule::Sequence, "Its number in the stream; each is applied once."),
    setting("kho.order_number", Rule::Text(""), "The order that is acted on, for purpose g."),
    setting("kho.purpose", Rule::Text(""), "Why data is used: a code from the purpose list."),
];

const LOAD_STREAM: &str = "kho.load_stream";
const LOAD_SEQUENCE: &str = "kho.load_sequence";
const READ_ONLY: &str = "transaction_read_only";
const DEFAULT_READ_ONLY: &str = "default_transaction_read_only";
const IN_ISOLATION: &str = "transaction_isolation";
const DEFAULT_ISOLATION: &str = "default_transaction_isolation";
const IDLE_IN_TRANSACTION: &str = "idle_in_transaction_session_timeout";
const IDLE_SESSION: &str = "idle_session_timeout";
const DATE_STYLES: &[&str] = &["ISO, MDY", "ISO", "ISO,MDY", "ISO, DMY", "ISO, YMD"];
const MESSAGE_LEVELS: &[&str] = &["notice", "warning", "error", "log", "debug1"];
/// Everything a statement reads is one snapshot, so the weaker levels are kept, too.
const ISOLATION: &[&str] =
    &["read committed", "read uncommitted", "repeatable read", "serializable"];

/// What a statement says of a transaction; `None` of what it does not mention.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Modes {
    pub isolation: Option<&'static str>,
    pub read_only: Option<bool>,
}

/// The settings of one session. Values that were set; the rest are defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, String>,
    /// What the session began with: `RESET` goes back to it, and to the defaults beyond it.
    initial: BTreeMap<&'static str, String>,
    changed: Vec<&'static str>,
}

/// The settings a transaction block began with, and those it leaves behind when it commits.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    before: Settings,
    /// Without what `SET LOCAL` changed.
    kept: Settings,
}

impl Saved {
    pub(crate) fn of(settings: &Settings) -> Saved {
        Saved { before: settings.clone(), kept: settings.clone() }
    }

    /// The settings that a change which outlives the block is made to, too.
    pub(crate) fn kept(&mut self) -> &mut Settings {
        &mut self.kept
    }

    /// Ends the block: `settings` are those of its commit, or those of before it.
    pub(crate) fn end(self, settings: &mut Settings, committed: bool) {
        settings.go_back_to(if committed { &self.kept } else { &self.before });
    }
}

impl Settings {
    /// Sets `name`; `None` is its default.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let setting = find(name)?;
        match value {
            None => match self.initial.get(setting.name) {
                Some(value) => drop(self.values.insert(setting.name, value.clone())),
                None => drop(self.values.remove(setting.name)),
            },
            Some(value) => {
                let value = check(setting, value)?;
                self.values.insert(setting.name, value);
            }
        }
        if setting.reported {
            self.changed.push(setting.name);
        }
        Ok(())
    }

    /// Whether every setting has the value that it has in `other`.
    pub(crate) fn are(&self, other: &Settings) -> bool {
        self.values == other.values
    }

    /// Everything as it was set in `earlier`.
    pub(crate) fn go_back_to(&mut self, earlier: &Settings) {
        for setting in SETTINGS.iter().filter(|it| it.reported) {
            if self.values.get(setting.name) != earlier.values.get(setting.name) {
                self.changed.push(setting.name);
            }
        }
        self.values = earlier.values.clone();
    }

    /// What is set now is what the session began with.
    pub(crate) fn begin(&mut self) {
        self.initial = self.values.clone();
    }

    /// Everything as the session began (`RESET ALL`, `DISCARD ALL`), but what the open transaction
    /// is.
    pub(crate) fn reset_all(&mut self) {
        let kept = [READ_ONLY, IN_ISOLATION].map(|name| (name, self.values.remove(name)));
        self.values = self.initial.clone();
        self.values.extend(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
        self.changed = SETTINGS.iter().filter(|it| it.reported).map(|it| it.name).collect();
    }

    /// Fixes a value that only the server knows, such as who logged in.
    pub(crate) fn state(&mut self, name: &'static str, value: &str) {
        self.values.insert(name, value.to_owned());
    }

    pub(crate) fn get(&self, name: &str) -> Result<&str> {
        let setting = find(name)?;
        let value = self.values.get(setting.name);
        // Outside a block, what a transaction would be is what the next one will be.
        match (value, setting.name) {
            (None, READ_ONLY) => self.get(DEFAULT_READ_ONLY),
            (None, IN_ISOLATION) => self.get(DEFAULT_ISOLATION),
            _ => Ok(value.map_or(default(setting.rule), String::as_str)),
        }
    }

    /// A transaction begins: it is as it says, or as the session says, whatever the session says
    /// later.
    pub(crate) fn begin_transaction(&mut self, modes: Modes) {
        let own = self.get(DEFAULT_ISOLATION).map(str::to_owned);
        let isolation = modes.isolation.map(str::to_owned).or(own.ok());
        let own = self.get(DEFAULT_READ_ONLY).map(str::to_owned);
        let read_only = modes.read_only.map(|it| switch(it).to_owned()).or(own.ok());
        self.values.extend(isolation.map(|it| (IN_ISOLATION, it)));
        self.values.extend(read_only.map(|it| (READ_ONLY, it)));
    }

    /// What `SET TRANSACTION` says of the open transaction.
    pub(crate) fn set_transaction(&mut self, modes: Modes) -> Result<()> {
        self.set_modes(modes, [IN_ISOLATION, READ_ONLY])
    }

    /// What `SET SESSION CHARACTERISTICS` says of the transactions to come.
    pub(crate) fn set_transactions(&mut self, modes: Modes) -> Result<()> {
        self.set_modes(modes, [DEFAULT_ISOLATION, DEFAULT_READ_ONLY])
    }

    fn set_modes(&mut self, modes: Modes, [isolation, read_only]: [&str; 2]) -> Result<()> {
        if let Some(level) = modes.isolation {
            self.set(isolation, Some(level))?;
        }
        match modes.read_only {
            Some(it) => self.set(read_only, Some(switch(it))),
            None => Ok(()),
        }
    }

    /// The value as `SHOW` gives it: durations with their unit.
    pub(crate) fn shown(&self, name: &str) -> Result<String> {
        let setting = find(name)?;
        let value = self.get(name)?;
        Ok(match setting.rule {
            Rule::Milliseconds(_) => with_unit(value),
            _ => value.to_owned(),
        })
    }

    /// Every setting: name, value, description.
    pub(crate) fn all(&self) -> Vec<(String, String, String)> {
        let text = |setting: &Setting| {
            let value = self.shown(setting.name).unwrap_or_default();
            (setting.name.to_owned(), value, setting.description.to_owned())
        };
        SETTINGS.iter().map(text).collect()
    }

    /// What `ParameterStatus` must say since the last call.
    pub(crate) fn take_reported(&mut self) -> Vec<(String, String)> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        (changed.into_iter())
            .filter_map(|name| Some((name.to_owned(), self.get(name).ok()?.to_owned())))
            .collect()
    }

    pub(crate) fn statement_timeout_ms(&self) -> u64 {
        self.duration_ms("statement_timeout")
    }

    pub(crate) fn lock_timeout_ms(&self) -> u64 {
        self.duration_ms("lock_timeout")
    }

    /// How long the client may leave a transaction block alone; 0 is for ever.
    pub(crate) fn idle_in_transaction_ms(&self) -> u64 {
        self.duration_ms(IDLE_IN_TRANSACTION)
    }

    /// How long the client may be silent outside a block; 0 is for ever.
    pub(crate) fn idle_session_ms(&self) -> u64 {
        self.duration_ms(IDLE_SESSION)
    }

    fn duration_ms(&self, name: &str) -> u64 {
        self.get(name).ok().and_then(milliseconds).unwrap_or_default()
    }

    pub(crate) fn time_zone(&self) -> &str {
        self.get("TimeZone").unwrap_or("UTC")
    }

    /// The zone as the engine calls it.
    pub(crate) fn zone_of_engine(&self) -> String {
        Zone::of_setting(self.time_zone()).unwrap_or(Zone::Utc).of_engine()
    }

    /// The schemas of the search path, in order, `$user` left as it is.
    pub(crate) fn search_path(&self) -> Vec<String> {
        self.get("search_path").map(split_path).unwrap_or_default()
    }

    /// The load that writes are, where the session has named its stream.
    ///
    /// # Errors
    /// `22023` for a stream without a number, or a number without a stream.
    pub(crate) fn load(&self) -> Result<Option<Load>> {
        match (self.get(LOAD_STREAM)?, self.get(LOAD_SEQUENCE)?) {
            ("", "") => Ok(None),
            (stream, number) if !stream.is_empty() && !number.is_empty() => {
                let sequence = number.parse();
                let sequence = sequence.map_err(|_| Error::internal("a sequence is no number"))?;
                Ok(Some(Load { stream: stream.to_owned(), sequence }))
            }
            _ => Err(Error::new(
                Kind::InvalidParameterValue,
                "kho.load_stream and kho.load_sequence are set together",
            )),
        }
    }

    /// Names the load that writes are, with empty names for none; gives what was named before.
    ///
    /// # Errors
    /// `22023` for a number that is none; nothing is changed then.
    pub(crate) fn name_load(&mut self, [stream, sequence]: [&str; 2]) -> Result<[String; 2]> {
        let before = [self.get(LOAD_STREAM)?.to_owned(), self.get(LOAD_SEQUENCE)?.to_owned()];
        let sequence = match sequence {
            "" => String::new(),
            given => check(find(LOAD_SEQUENCE)?, given)?,
        };
        self.values.insert(LOAD_STREAM, stream.to_owned());
        self.values.insert(LOAD_SEQUENCE, sequence);
        Ok(before)
    }

    /// Whether transactions are to be serializable.
    pub(crate) fn is_serializable(&self) -> bool {
        self.get(IN_ISOLATION).is_ok_and(|it| it == "serializable")
    }

    /// Whether the transaction, or a statement that is its own, promises to write nothing.
    pub(crate) fn is_read_only(&self) -> bool {
        self.get(READ_ONLY).is_ok_and(|it| it == "on")
    }

    /// The instant of `kho.as_of`, as written; `None` is now.
    pub(crate) fn as_of(&self) -> Option<&str> {
        self.get("kho.as_of").ok().filter(|value| !value.is_empty())
    }
}

/// Whether a setting is one of the open transaction and ends with it, `LOCAL` or not.
pub(crate) fn is_of_transaction(name: &str) -> bool {
    [READ_ONLY, IN_ISOLATION].iter().any(|it| it.eq_ignore_ascii_case(name))
}

fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Whether there is a setting of this name.
pub(crate) fn is_known(name: &str) -> bool {
    find(name).is_ok()
}

fn find(name: &str) -> Result<&'static Setting> {
    let name = if name.eq_ignore_ascii_case("time zone") { "TimeZone" } else { name };
    SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        Error::new(
            Kind::UndefinedObject,
            format!("unrecognized configuration parameter \"{name}\""),
        )
    })
}

fn default(rule: Rule) -> &'static str {
    match rule {
        Rule::OneOf(values) => values.first().copied().unwrap_or_default(),
        Rule::Text(value)
        | Rule::Milliseconds(value)
        | Rule::Integer(value, ..)
        | Rule::Fixed(value) => value,
        Rule::Switch => "off",
        Rule::TimeZone => "UTC",
        Rule::Sequence => "",
        Rule::SearchPath => "\"$user\", public",
    }
}

fn check(setting: &Setting, value: &str) -> Result<String> {
    let name = setting.name;
    let invalid = || {
        Error::new(
            Kind::InvalidParameterValue,
            format!("invalid value for parameter \"{name}\": \"{value}\""),
        )
    };
    match setting.rule {
        Rule::Fixed(_) => Err(Error::new(
            Kind::CannotChangeParameter,
            format!("parameter \"{name}\" cannot be changed"),
        )),
        Rule::OneOf(values) => {
            let value = spelling(name, value);
            let known = values.iter().find(|known| known.eq_ignore_ascii_case(&value));
            let canonical = matches!(name, "client_min_messages" | "kho.expand_star")
                || name.ends_with("transaction_isolation");
            match known {
                Some(known) if canonical => Ok((*known).to_owned()),
                Some(_) => Ok(default(setting.rule).to_owned()),
                None if name == "client_encoding" => Err(invalid().with_hint("It is always UTF8.")),
                None => Err(Error::unsupported(format!(
                    "parameter \"{name}\" cannot be set to \"{value}\" here"
                ))
                .with_detail(setting.description)
                .with_hint(format!("It can be: {}.", values.join(", ")))),
            }
        }
        Rule::Text(_) => Ok(value.to_owned()),
        Rule::Switch => {
            let among = |words: &[&str]| words.iter().any(|it| it.eq_ignore_ascii_case(value));
            match (among(ON), among(OFF)) {
                (false, false) => Err(Error::new(
                    Kind::InvalidParameterValue,
                    format!("parameter \"{name}\" requires a Boolean value"),
                )),
                (on, _) => Ok(switch(on).to_owned()),
            }
        }
        Rule::Milliseconds(_) => {
            milliseconds(value).map(|value| value.to_string()).ok_or_else(invalid)
        }
        Rule::TimeZone => {
            let value = value.trim_matches('\'');
            if ["local", "default", "z"].iter().any(|it| it.eq_ignore_ascii_case(value)) {
                return Ok(Tz::UTC.name().to_owned());
            }
            let mut known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            match known.find(|name| name.eq_ignore_ascii_case(value)) {
                Some(name) => Ok(name.to_owned()),
                // Of a bare offset clients do not agree where it is; the engine counts minutes.
                None => match Zone::of_posix(value) {
                    Some(Zone::Fixed(seconds))
                        if seconds % 60 == 0 && !value.starts_with(['+', '-']) =>
                    {
                        Ok(value.to_owned())
                    }
                    _ => Err(invalid()),
                },
            }
        }
        Rule::SearchPath => Ok(value.to_owned()),
        Rule::Sequence => match value.trim() {
            "" => Ok(String::new()),
            number => match number.parse::<i64>() {
                Ok(number) if number >= 0 => Ok(number.to_string()),
                _ => Err(invalid()),
            },
        },
        Rule::Integer(_, least, most) => {
            let number: i64 = value.trim().parse().map_err(|_| invalid())?;
            // JDBC asks for -15 … 3; below 1 PostgreSQL rounds, which Kho does not.
            match (least..=most).contains(&number) {
                true => Ok(number.to_string()),
                false => Err(invalid()),
            }
        }
    }
}

/// A duration as PostgreSQL writes it: `1500`, `30s`, `'5 min'`, `1h`.
pub(crate) fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|value| *value <= u64::from(u32::MAX >> 1))
}

/// Milliseconds in the largest unit that divides them, as PostgreSQL shows them.
fn with_unit(value: &str) -> String {
    let Some(number) = milliseconds(value).filter(|number| *number > 0) else {
        return value.to_owned();
    };
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    match units.iter().find(|(factor, _)| number % factor == 0) {
        Some((factor, unit)) => format!("{}{unit}", number / factor),
        None => format!("{number}ms"),
    }
}

/// A word as it is compared. PostgreSQL takes letters and digits alone of an encoding's name, and
/// asyncpg counts on it: it asks for `'utf-8'`, quotes included.
fn spelling(name: &str, value: &str) -> String {
    match name {
        "client_encoding" => value.chars().filter(char::is_ascii_alphanumeric).collect(),
        _ => value.trim().to_owned(),
    }
}

fn split_path(text: &str) -> Vec<String> {
    let unquote = |part: &str| {
        let part = part.trim();
        match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => part.trim_matches('\'').to_lowercase(),
        }
    };
    text.split(',').map(unquote).filter(|part| !part.is_empty()).collect()
}
