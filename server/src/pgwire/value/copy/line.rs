//! Finds the lines of `COPY` data: where each ends, when the data as a whole does.
//!
//! What it guarantees: the newline style of the first line holds for all of them, and another is
//! an error that says how to write it as data. A newline inside of CSV quotes, or after a
//! backslash in text, is data. No byte is looked at twice because the data came in pieces.

use kho_catalog::error::{Error, Result};
use kho_sql::copy::{CopyFormat, CopyOptions};

use super::bad_format;

/// What the data holds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A line of so many bytes; the next begins at `next`.
    Line { length: usize, next: usize },
    /// The end marker `\.`, after so many bytes of a last line.
    Marker { length: usize },
    /// The line does not end in what is there.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newline {
    Lf,
    Cr,
    CrLf,
}

pub(super) struct LineSplitter {
    is_csv: bool,
    quote: u8,
    escape: u8,
    newline: Option<Newline>,
    in_quotes: bool,
    /// How much of the current line has been looked at.
    scanned: usize,
    /// Newlines inside of quotes in the current line.
    embedded: u64,
}

impl LineSplitter {
    pub(super) fn new(options: &CopyOptions) -> LineSplitter {
        LineSplitter {
            is_csv: options.format == CopyFormat::Csv,
            quote: options.quote,
            escape: options.escape,
            newline: None,
            in_quotes: false,
            scanned: 0,
            embedded: 0,
        }
    }

    /// Takes the number of newlines that the line just found has inside of quotes.
    pub(super) fn take_embedded(&mut self) -> u64 {
        std::mem::take(&mut self.embedded)
    }

    /// Looks for the end of the line that `data` begins with. After [`Found::Nothing`] the same
    /// line is given again, with more behind it.
    pub(super) fn find(&mut self, data: &[u8], is_all: bool) -> Result<Found> {
        let found = match self.scan(data, is_all)? {
            Found::Nothing if is_all && !data.is_empty() => {
                Found::Line { length: data.len(), next: data.len() }
            }
            found => found,
        };
        if found != Found::Nothing {
            self.scanned = 0;
            self.in_quotes = false;
        }
        Ok(found)
    }

    fn scan(&mut self, data: &[u8], is_all: bool) -> Result<Found> {
        if self.is_csv && self.scanned == 0 && data.first() == Some(&b'\\') {
            match csv_marker(data, is_all) {
                Marker::Yes => return Ok(Found::Marker { length: 0 }),
                Marker::Unknown => return Ok(Found::Nothing),
                Marker::No => {}
            }
        }
        loop {
            let Some((at, byte)) = self.next_special(data) else {
                self.scanned = data.len();
                return Ok(Found::Nothing);
            };
            let next = data.get(at + 1).copied();
            self.scanned = at;
            if next.is_none() && !is_all && self.must_look_behind(byte) {
                return Ok(Found::Nothing);
            }
            self.scanned = at + 1;
            if self.in_quotes {
                self.scan_quoted(at, byte, next);
            } else if byte == b'\n' {
                self.expect_newline(Newline::Lf)?;
                return Ok(Found::Line { length: at, next: at + 1 });
            } else if byte == b'\r' {
                let is_pair =
                    next == Some(b'\n') && matches!(self.newline, None | Some(Newline::CrLf));
                self.expect_newline(if is_pair { Newline::CrLf } else { Newline::Cr })?;
                return Ok(Found::Line { length: at, next: at + 1 + usize::from(is_pair) });
            } else if self.is_csv {
                self.in_quotes = true;
            } else if next == Some(b'.') {
                return self.text_marker(at, data.get(at + 2..).unwrap_or_default(), is_all);
            } else {
                self.scanned = (at + 2).min(data.len());
            }
        }
    }

    /// The next byte that may mean something.
    fn next_special(&self, data: &[u8]) -> Option<(usize, u8)> {
        let rest = data.get(self.scanned..)?;
        let at = if self.in_quotes {
            let newline = if self.newline == Some(Newline::Cr) { b'\r' } else { b'\n' };
            memchr::memchr3(self.quote, self.escape, newline, rest)
        } else if self.is_csv {
            memchr::memchr3(self.quote, b'\n', b'\r', rest)
        } else {
            memchr::memchr3(b'\\', b'\n', b'\r', rest)
        }?;
        Some((self.scanned + at, rest.get(at).copied()?))
    }

    /// Whether `byte` cannot be understood without the one behind it.
    fn must_look_behind(&self, byte: u8) -> bool {
        if self.in_quotes {
            byte == self.escape && self.escape != self.quote
        } else {
            byte == b'\r' || (byte == b'\\' && !self.is_csv)
        }
    }

    fn scan_quoted(&mut self, at: usize, byte: u8, next: Option<u8>) {
        let escapes = byte == self.escape && self.escape != self.quote;
        if escapes && next.is_some_and(|next| next == self.quote || next == self.escape) {
            self.scanned = at + 2;
        } else if byte == self.quote {
            self.in_quotes = false;
        } else if matches!(byte, b'\n' | b'\r') {
            self.embedded += 1;
        }
    }

    fn expect_newline(&mut self, found: Newline) -> Result<()> {
        if *self.newline.get_or_insert(found) == found {
            return Ok(());
        }
        let how = if self.is_csv { "unquoted" } else { "literal" };
        let (name, letter) =
            if found == Newline::Lf { ("newline", 'n') } else { ("carriage return", 'r') };
        let hint = if self.is_csv {
            format!("Use quoted CSV field to represent {name}.")
        } else {
            format!("Use \"\\{letter}\" to represent {name}.")
        };
        Err(bad_format(format!("{how} {name} found in data")).with_hint(hint))
    }

    /// `\.` in text ends the data; behind it a newline of the style so far must stand, or nothing.
    fn text_marker(&mut self, at: usize, behind: &[u8], is_all: bool) -> Result<Found> {
        let found = match behind {
            [] | [b'\r'] if !is_all => {
                self.scanned = at;
                return Ok(Found::Nothing);
            }
            [] => return Ok(Found::Marker { length: at }),
            [b'\n', ..] => Newline::Lf,
            [b'\r', b'\n', ..] => Newline::CrLf,
            [b'\r', ..] => Newline::Cr,
            _ => return Err(marker_error("end-of-copy marker corrupt")),
        };
        match self.newline {
            Some(newline) if newline != found => {
                Err(marker_error("end-of-copy marker does not match previous newline style"))
            }
            _ => Ok(Found::Marker { length: at }),
        }
    }
}

fn marker_error(message: &str) -> Error {
    bad_format(message)
}

enum Marker {
    Yes,
    No,
    Unknown,
}

/// In CSV `\.` is data, unless it stands alone on its line.
fn csv_marker(line: &[u8], is_all: bool) -> Marker {
    match line {
        [b'\\'] | [b'\\', b'.'] if !is_all => Marker::Unknown,
        [b'\\', b'.'] | [b'\\', b'.', b'\n' | b'\r', ..] => Marker::Yes,
        _ => Marker::No,
    }
}
