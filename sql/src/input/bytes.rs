//! The input syntax of `bytea` and `uuid`.

use kho_catalog::error::{Error, Kind, Result};

use super::excerpt;

/// Hexadecimal (`\x0a1B`) or escape form (`a\\b\001`).
pub(super) fn parse_bytea(text: &str, out: &mut Vec<u8>) -> Result<()> {
    match text.strip_prefix("\\x") {
        Some(digits) => parse_hexadecimal(digits, out),
        None => parse_escaped(text, out),
    }
}

fn parse_hexadecimal(text: &str, out: &mut Vec<u8>) -> Result<()> {
    out.reserve(text.len() / 2);
    let mut characters = text.chars();
    while let Some(high) = characters.next() {
        // PostgreSQL lets white space stand between bytes, not inside of one.
        if matches!(high, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let high = digit_of(high)?;
        let low = characters.next().ok_or_else(|| {
            let message = "invalid hexadecimal data: odd number of digits";
            Error::new(Kind::InvalidParameterValue, message)
        })?;
        out.push(high << 4 | digit_of(low)?);
    }
    Ok(())
}

fn digit_of(character: char) -> Result<u8> {
    character.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(|| {
        Error::new(
            Kind::InvalidParameterValue,
            format!(
                "invalid hexadecimal digit: \"{}\"",
                excerpt(character.encode_utf8(&mut [0; 4]))
            ),
        )
    })
}

fn parse_escaped(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let mut rest = text.as_bytes();
    out.reserve(rest.len());
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        rest = match escape {
            [_, b'\\', rest @ ..] => {
                out.push(b'\\');
                rest
            }
            [_, a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            _ => {
                return Err(Error::new(
                    Kind::InvalidTextRepresentation,
                    "invalid input syntax for type bytea",
                ));
            }
        };
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Thirty-two hexadecimal digits, a hyphen allowed after each four, braces around all of it.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut rest = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}')?.as_bytes(),
        None => text.as_bytes(),
    };
    let mut uuid = [0; 16];
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (index, place) in uuid.iter_mut().enumerate() {
        let [high, low, after @ ..] = rest else { return None };
        *place = digit(*high)? << 4 | digit(*low)?;
        rest = match after {
            [b'-', after @ ..] if index % 2 == 1 && index < 15 => after,
            _ => after,
        };
    }
    rest.is_empty().then_some(uuid)
}

/// The canonical text: lower case, with hyphens.
pub(super) fn uuid_text(uuid: &[u8; 16]) -> String {
    uuid::Uuid::from_bytes(*uuid).hyphenated().to_string()
}
