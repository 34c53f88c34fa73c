//! The first packets of a connection, before anyone is known.
//!
//! What it guarantees: a packet is at most [`LONGEST_PACKET`] bytes, ends where it says, and is
//! read to its last byte and no further, so that nothing sent in plain text can pass for something
//! sent after encryption began.
//! What it does not: it decides nothing about TLS, roles or databases; the greeting does.
//! On failure: `08P01`, to be answered as `FATAL`.

use kho_catalog::error::{Error, Kind, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The most a packet may have, as in PostgreSQL.
pub const LONGEST_PACKET: usize = 10_000;
/// The newest minor version of protocol 3 that is spoken here.
pub const NEWEST_MINOR: u16 = 2;

/// The startup parameter by which a client says how it will prove who it is.
const AUTHENTICATION: &str = "kho.authentication";

const CANCEL_CODE: u32 = 80_877_102;
const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;

/// What a client opens a connection with.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet {
    SslRequest,
    GssRequest,
    Cancel { process_id: i32, secret: Vec<u8> },
    Startup(Startup),
}

/// Who wants to connect, to what, and with which settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor version asked for.
    pub minor: u16,
    pub user: String,
    pub database: Option<String>,
    /// How the client wants to prove who it is.
    pub authentication: Authentication,
    /// From `options` first, then the parameters that are settings, in the order given.
    pub settings: Vec<(String, String)>,
    /// Protocol options (`_pq_.…`) that are not known here.
    pub unknown_options: Vec<String>,
}

/// The kinds of proof that a client can ask to be asked for, as `kho.authentication`.
///
/// # Why the client says it
/// A server that chose by the role would tell which roles there are, and which have a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authentication {
    /// SCRAM-SHA-256.
    #[default]
    Password,
    /// A token, given as a password in clear.
    Token,
}

impl Startup {
    /// The minor version to speak, and whether the client must be told that it is not what it
    /// asked for.
    pub fn negotiate(&self) -> (u16, bool) {
        let newer = self.minor > NEWEST_MINOR;
        (self.minor.min(NEWEST_MINOR), newer || !self.unknown_options.is_empty())
    }
}

/// Reads one packet, to its last byte; `None` where the client closed instead of sending one.
///
/// # Errors
/// `08P01` for a packet that is none; `08006` where the connection broke.
pub async fn read_packet(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Packet>> {
    let mut length = [0; 4];
    match reader.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(lost(error)),
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(8..=LONGEST_PACKET).contains(&length) {
        return Err(violation("invalid length of startup packet"));
    }
    let mut body = vec![0; length - 4];
    reader.read_exact(&mut body).await.map_err(lost)?;
    parse(&body).map(Some)
}

/// Parses a packet without its length.
///
/// # Errors
/// `08P01` for a broken packet, `0A000` for a version or a mode that is not spoken, `28000` without
/// a user, `42601` for broken `options`.
pub fn parse(packet: &[u8]) -> Result<Packet> {
    let (code, rest) = packet.split_first_chunk::<4>().ok_or_else(layout)?;
    match u32::from_be_bytes(*code) {
        SSL_CODE if rest.is_empty() => Ok(Packet::SslRequest),
        GSS_CODE if rest.is_empty() => Ok(Packet::GssRequest),
        CANCEL_CODE => {
            let (process_id, secret) = rest.split_first_chunk::<4>().ok_or_else(layout)?;
            if !(4..=256).contains(&secret.len()) {
                return Err(violation("invalid length of query cancel packet"));
            }
            let process_id = i32::from_be_bytes(*process_id);
            Ok(Packet::Cancel { process_id, secret: secret.to_vec() })
        }
        version if version >> 16 == 3 => {
            let minor = u16::try_from(version & 0xffff).unwrap_or(u16::MAX);
            startup(minor, rest).map(Packet::Startup)
        }
        version => Err(Error::unsupported(format!(
            "unsupported frontend protocol {}.{}: server supports 3.0 to 3.{NEWEST_MINOR}",
            version >> 16,
            version & 0xffff
        ))),
    }
}

fn startup(minor: u16, body: &[u8]) -> Result<Startup> {
    let mut startup = Startup {
        minor,
        user: String::new(),
        database: None,
        authentication: Authentication::default(),
        settings: Vec::new(),
        unknown_options: Vec::new(),
    };
    let mut options = Vec::new();
    for (name, value) in pairs(body)? {
        match name {
            "user" => value.clone_into(&mut startup.user),
            "database" => startup.database = Some(value.to_owned()).filter(|it| !it.is_empty()),
            "options" => options = parse_options(value)?,
            "replication" => refuse_replication(value)?,
            _ if name.starts_with("_pq_.") => startup.unknown_options.push(name.to_owned()),
            _ => startup.settings.push((name.to_owned(), value.to_owned())),
        }
    }
    if startup.user.is_empty() {
        return Err(Error::new(
            Kind::InvalidAuthorization,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    options.append(&mut startup.settings);
    for (name, value) in options {
        match name.eq_ignore_ascii_case(AUTHENTICATION) {
            true => startup.authentication = authentication(&value)?,
            false => startup.settings.push((name, value)),
        }
    }
    Ok(startup)
}

fn authentication(value: &str) -> Result<Authentication> {
    match value.to_ascii_lowercase().as_str() {
        "password" => Ok(Authentication::Password),
        "token" => Ok(Authentication::Token),
        _ => Err(Error::new(
            Kind::InvalidParameterValue,
            format!("invalid value for parameter \"{AUTHENTICATION}\": \"{value}\""),
        )
        .with_hint("It is password or token.")),
    }
}

/// `name 0 value 0 … 0`, where the last zero ends the packet.
fn pairs(body: &[u8]) -> Result<Vec<(&str, &str)>> {
    let text = std::str::from_utf8(body).map_err(|_| {
        Error::new(Kind::CharacterNotInRepertoire, "the startup packet is not UTF-8")
    })?;
    let mut pairs = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('\0').ok_or_else(layout)?;
        if name.is_empty() {
            return if after.is_empty() { Ok(pairs) } else { Err(layout()) };
        }
        let (value, after) = after.split_once('\0').ok_or_else(layout)?;
        pairs.push((name, value));
        rest = after;
    }
}

/// `-c name=value` and `--name=value`, with backslashes before blanks, as `PGOPTIONS` has them.
fn parse_options(text: &str) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let mut words = split_words(text).into_iter();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") if word == "-c" => words.next(),
            Some(assignment) => Some(assignment.to_owned()),
            None => None,
        };
        let assignment = assignment.as_deref().and_then(|it| it.split_once('='));
        let Some((name, value)) = assignment.filter(|(name, _)| !name.is_empty()) else {
            return Err(Error::new(
                Kind::Syntax,
                format!("invalid command-line argument for server process: {word}"),
            )
            .with_hint("Options read -c name=value."));
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            words.extend(word.take());
        } else {
            let literal = if character == '\\' { characters.next() } else { Some(character) };
            word.get_or_insert_default().extend(literal);
        }
    }
    words.extend(word);
    words
}

fn refuse_replication(value: &str) -> Result<()> {
    match value.to_ascii_lowercase().as_str() {
        "" | "false" | "off" | "no" | "0" => Ok(()),
        _ => Err(Error::unsupported("replication connections are not supported")),
    }
}

fn layout() -> Error {
    violation("invalid startup packet layout: expected terminator as last byte")
}

fn violation(message: &str) -> Error {
    Error::new(Kind::ProtocolViolation, message)
}

fn lost(error: std::io::Error) -> Error {
    Error::new(Kind::ConnectionFailure, "the connection broke during startup").with_source(error)
}

#[cfg(test)]
mod tests;
