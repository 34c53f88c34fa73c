//! A statement's text without its literals.
//!
//! # Why
//! The ledger outlives the rows. A literal can be a person's number; what stays is the statement's
//! shape. Comments go too: they can quote anything.

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

/// The tokens as text, `?` for each literal, one blank for each run of white space.
pub(super) fn without_literals(tokens: &[TokenWithSpan]) -> String {
    let mut text = String::new();
    for token in tokens {
        match &token.token {
            Token::Whitespace(
                Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_),
            )
            | Token::Whitespace(_) => {
                if !text.is_empty() && !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            Token::Word(_) | Token::Placeholder(_) => text.push_str(&token.token.to_string()),
            other if is_literal(other) => text.push('?'),
            other => text.push_str(&other.to_string()),
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// Of a redacted `PREPARE name (types) AS statement`, the statement.
pub(super) fn after_as(redacted: &str) -> &str {
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

fn is_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::Char(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}
