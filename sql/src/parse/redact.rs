//! A statement's text without its literals.
//!
//! # Why
//! The ledger outlives the rows. A literal can be a person's number; what stays is the statement's
//! shape, and in the ledger a keyed hash in the literal's place, by which whoever has the key finds
//! the records that named a given value. Comments go: they can quote anything. A password leaves
//! no hash: one could see by it who has the same.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

/// A text with `?` for each literal, and what the literals were.
#[derive(Clone, Debug)]
pub(super) struct Redacted {
    pub text: String,
    /// The place of each `?` that stands for a literal, and the literal's value.
    literals: Vec<(usize, String)>,
}

/// The tokens as text, `?` for each literal, one blank for each run of white space.
pub(super) fn without_literals(tokens: &[TokenWithSpan]) -> Redacted {
    let (mut text, mut literals) = (String::new(), Vec::new());
    let mut after_password = false;
    for token in tokens {
        match &token.token {
            Token::Whitespace(
                Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_),
            )
            | Token::Whitespace(_) => {
                if !text.is_empty() && !text.ends_with(' ') {
                    text.push(' ');
                }
                continue;
            }
            Token::Word(_) | Token::Placeholder(_) => text.push_str(&token.token.to_string()),
            other => match value(other) {
                Some(value) => {
                    if !after_password {
                        literals.push((text.len(), value));
                    }
                    text.push('?');
                }
                None => text.push_str(&other.to_string()),
            },
        }
        after_password =
            matches!(&token.token, Token::Word(word) if word.keyword == Keyword::PASSWORD);
    }
    text.truncate(text.trim_end().len());
    Redacted { text, literals }
}

impl Redacted {
    /// Of the text with its literals.
    pub(super) fn bytes(&self) -> usize {
        self.literals
            .iter()
            .map(|(_, value)| value.len())
            .fold(self.text.len(), usize::saturating_add)
    }

    /// Of a redacted `PREPARE name (types) AS statement`, the statement.
    pub(super) fn after_as(&self) -> Redacted {
        let statement = after_as(&self.text);
        let skipped = self.text.len() - statement.len();
        let left =
            |(place, value): &(usize, String)| Some((place.checked_sub(skipped)?, value.clone()));
        let literals = self.literals.iter().filter_map(left).collect();
        Redacted { text: statement.to_owned(), literals }
    }

    /// The text with `#` and what `hash` makes of each literal in its place.
    pub(super) fn with_literals_as(&self, hash: impl Fn(&str) -> String) -> String {
        let mut text = String::with_capacity(self.text.len() + 16 * self.literals.len());
        let mut from = 0;
        for (place, value) in &self.literals {
            text.push_str(self.text.get(from..*place).unwrap_or_default());
            text.push('#');
            text.push_str(&hash(value));
            from = place + 1;
        }
        text.push_str(self.text.get(from..).unwrap_or_default());
        text
    }
}

/// Of a redacted `PREPARE name (types) AS statement`, the statement.
fn after_as(redacted: &str) -> &str {
    let (mut quoted, mut start) = (false, 0);
    for (index, letter) in redacted.char_indices() {
        if letter == '"' {
            quoted = !quoted;
        } else if letter == ' ' && !quoted {
            let word = redacted.get(start..index).unwrap_or_default();
            if word.eq_ignore_ascii_case("as") {
                return redacted.get(index + 1..).unwrap_or_default();
            }
            start = index + 1;
        }
    }
    redacted
}

/// The value of a literal, as it was written between its quotes.
fn value(token: &Token) -> Option<String> {
    match token {
        Token::Number(text, _)
        | Token::SingleQuotedString(text)
        | Token::DoubleQuotedString(text)
        | Token::TripleSingleQuotedString(text)
        | Token::TripleDoubleQuotedString(text)
        | Token::SingleQuotedByteStringLiteral(text)
        | Token::DoubleQuotedByteStringLiteral(text)
        | Token::TripleSingleQuotedByteStringLiteral(text)
        | Token::TripleDoubleQuotedByteStringLiteral(text)
        | Token::SingleQuotedRawStringLiteral(text)
        | Token::DoubleQuotedRawStringLiteral(text)
        | Token::TripleSingleQuotedRawStringLiteral(text)
        | Token::TripleDoubleQuotedRawStringLiteral(text)
        | Token::NationalStringLiteral(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text)
        | Token::HexStringLiteral(text) => Some(text.clone()),
        Token::DollarQuotedString(quoted) => Some(quoted.value.clone()),
        Token::Char(letter) => Some(letter.to_string()),
        _ => None,
    }
}
