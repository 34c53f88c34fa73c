//! Cuts a line of `COPY` data into its fields.
//!
//! What it guarantees: a field is NULL by what was written (`\N`, an unquoted nothing), before any
//! escape is taken back; a field without escapes or quotes is not copied.

use std::ops::Range;

use kho_catalog::error::Result;
use kho_sql::copy::{CopyFormat, CopyOptions};
use kho_sql::input::checked_utf8;

use super::bad_format;

/// The fields of one line, used again for the next.
pub(super) struct Fields {
    is_csv: bool,
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: String,
    found: Vec<Field>,
    /// The fields that are not in the line as they are.
    unescaped: Vec<u8>,
}

enum Field {
    Null,
    InLine(Range<usize>),
    Unescaped(Range<usize>),
}

impl Fields {
    pub(super) fn new(options: &CopyOptions) -> Fields {
        Fields {
            is_csv: options.format == CopyFormat::Csv,
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape,
            null: options.null.clone(),
            found: Vec::new(),
            unescaped: Vec::new(),
        }
    }

    /// Cuts `line`; [`Fields::get`] gives the fields of the same line.
    ///
    /// # Errors
    /// `22P04` for quotes that do not end.
    pub(super) fn split(&mut self, line: &str) -> Result<()> {
        self.found.clear();
        self.unescaped.clear();
        let bytes = line.as_bytes();
        let mut at = 0;
        loop {
            let end =
                if self.is_csv { self.csv_field(bytes, at)? } else { self.text_field(bytes, at) };
            if end >= bytes.len() {
                break;
            }
            at = end + 1;
        }
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// The text of a field; `None` for NULL.
    ///
    /// # Errors
    /// `22021` for escapes that give bytes that are no text.
    pub(super) fn get<'a>(&'a self, index: usize, line: &'a str) -> Result<Option<&'a str>> {
        match self.found.get(index) {
            None | Some(Field::Null) => Ok(None),
            Some(Field::InLine(range)) => match line.get(range.clone()) {
                Some(text) => Ok(Some(text)),
                None => {
                    checked_utf8(line.as_bytes().get(range.clone()).unwrap_or_default()).map(Some)
                }
            },
            Some(Field::Unescaped(range)) => {
                checked_utf8(self.unescaped.get(range.clone()).unwrap_or_default()).map(Some)
            }
        }
    }

    /// Takes the field that begins at `start`; gives where it ends.
    fn text_field(&mut self, line: &[u8], start: usize) -> usize {
        let rest = line.get(start..).unwrap_or_default();
        if let Some(behind) = rest.strip_prefix(self.null.as_bytes())
            && behind.first().is_none_or(|byte| *byte == self.delimiter)
        {
            self.found.push(Field::Null);
            return start + self.null.len();
        }
        let special = memchr::memchr2(self.delimiter, b'\\', rest);
        let plain = special.unwrap_or(rest.len());
        if rest.get(plain) != Some(&b'\\') {
            self.found.push(Field::InLine(start..start + plain));
            return start + plain;
        }
        let from = self.unescaped.len();
        let mut at = 0;
        while let Some(byte) = rest.get(at).copied() {
            if byte == self.delimiter {
                break;
            }
            at += 1;
            if byte == b'\\' && at == rest.len() {
                // A backslash that ends the data is passed over, as if the field ended before it.
                if rest.get(..at - 1) == Some(self.null.as_bytes()) {
                    self.unescaped.truncate(from);
                    self.found.push(Field::Null);
                    return start + at;
                }
            } else if byte == b'\\' {
                at += self.unescape(rest.get(at..).unwrap_or_default());
            } else {
                self.unescaped.push(byte);
            }
        }
        self.found.push(Field::Unescaped(from..self.unescaped.len()));
        start + at
    }

    /// Takes what follows a backslash; gives its length.
    fn unescape(&mut self, rest: &[u8]) -> usize {
        let Some(first) = rest.first().copied() else { return 0 };
        let digits = |base: u32, from: usize, most: usize| {
            let digits = rest.iter().skip(from).take(most);
            digits.map_while(move |byte| char::from(*byte).to_digit(base))
        };
        let (value, length) = match first {
            b'0'..=b'7' => {
                let value = digits(8, 0, 3).fold(0, |value, digit| value * 8 + digit);
                (u8::try_from(value & 0xff).unwrap_or_default(), digits(8, 0, 3).count())
            }
            b'x' if digits(16, 1, 1).count() == 1 => {
                let value = digits(16, 1, 2).fold(0, |value, digit| value * 16 + digit);
                (u8::try_from(value).unwrap_or_default(), 1 + digits(16, 1, 2).count())
            }
            b'b' => (8, 1),
            b'f' => (12, 1),
            b'n' => (b'\n', 1),
            b'r' => (b'\r', 1),
            b't' => (b'\t', 1),
            b'v' => (11, 1),
            other => (other, 1),
        };
        self.unescaped.push(value);
        length
    }

    fn csv_field(&mut self, line: &[u8], start: usize) -> Result<usize> {
        let rest = line.get(start..).unwrap_or_default();
        let plain = memchr::memchr2(self.delimiter, self.quote, rest).unwrap_or(rest.len());
        if rest.get(plain) != Some(&self.quote) {
            let is_null = rest.get(..plain) == Some(self.null.as_bytes());
            self.found.push(if is_null {
                Field::Null
            } else {
                Field::InLine(start..start + plain)
            });
            return Ok(start + plain);
        }
        if plain == 0
            && let Some(length) = self.simple_quoted(rest)
        {
            self.found.push(Field::InLine(start + 1..start + 1 + length));
            return Ok(start + length + 2);
        }
        let from = self.unescaped.len();
        let length = self.unquote(rest)?;
        self.found.push(Field::Unescaped(from..self.unescaped.len()));
        Ok(start + length)
    }

    /// The length of `"…"` with nothing escaped in it and nothing behind it.
    fn simple_quoted(&self, field: &[u8]) -> Option<usize> {
        let inner = field.get(1..)?;
        let length = memchr::memchr2(self.quote, self.escape, inner)?;
        let is_quote = inner.get(length) == Some(&self.quote);
        let ends = inner.get(length + 1).is_none_or(|next| *next == self.delimiter);
        // A delimiter that is the quote's escape would be data; then the slow way decides.
        (is_quote && ends && self.delimiter != self.escape).then_some(length)
    }

    /// Takes a field with quotes anywhere in it.
    fn unquote(&mut self, rest: &[u8]) -> Result<usize> {
        let mut in_quotes = false;
        let mut at = 0;
        while let Some(byte) = rest.get(at).copied() {
            if !in_quotes && byte == self.delimiter {
                return Ok(at);
            }
            at += 1;
            if in_quotes && byte == self.escape {
                let next = rest.get(at).copied();
                if let Some(next) = next.filter(|next| *next == self.escape || *next == self.quote)
                {
                    self.unescaped.push(next);
                    at += 1;
                    continue;
                }
            }
            if byte == self.quote {
                in_quotes = !in_quotes;
            } else {
                self.unescaped.push(byte);
            }
        }
        if in_quotes { Err(bad_format("unterminated CSV quoted field")) } else { Ok(at) }
    }
}
