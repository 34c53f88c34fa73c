//! `DO NOTHING` in a `WHEN` clause of `MERGE`, which sqlparser does not parse.
//!
//! It is read as an action on a column that no user can name; `write::merge` knows it.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// The name of that column.
pub(crate) const NOTHING: &str = "\u{1}nothing";

/// The tokens of a `MERGE` with each `DO NOTHING` replaced; of any other statement, as they are.
pub(super) fn replace(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut words = tokens.iter().filter_map(keyword);
    if words.next() != Some(Keyword::MERGE) {
        return tokens;
    }
    let tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|it| !matches!(it.token, Token::Whitespace(_))).collect();
    let mut replaced: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut inserts = false;
    let mut rest = tokens.as_slice();
    while let [first, after @ ..] = rest {
        let not = matches!(after, [not, matched, ..] if keyword(not) == Some(Keyword::NOT)
            && keyword(matched) == Some(Keyword::MATCHED));
        let matched = matches!(after, [word, ..] if keyword(word) == Some(Keyword::MATCHED));
        // Any other `WHEN` is a CASE's.
        if keyword(first) == Some(Keyword::WHEN) && (not || matched) {
            inserts = not
                && !matches!(after, [_, _, by, source, ..] if keyword(by) == Some(Keyword::BY)
                    && keyword(source) == Some(Keyword::SOURCE));
        }
        match after {
            [nothing, after @ ..]
                if keyword(first) == Some(Keyword::DO)
                    && keyword(nothing) == Some(Keyword::NOTHING) =>
            {
                let action = if inserts { insertion() } else { update() };
                replaced.extend(
                    action.into_iter().map(|token| TokenWithSpan { token, span: first.span }),
                );
                rest = after;
            }
            _ => {
                replaced.push(first.clone());
                rest = after;
            }
        }
    }
    replaced
}

fn insertion() -> Vec<Token> {
    vec![
        Token::make_keyword("INSERT"),
        Token::LParen,
        Token::make_word(NOTHING, Some('"')),
        Token::RParen,
        Token::make_keyword("VALUES"),
        Token::LParen,
        Token::make_keyword("NULL"),
        Token::RParen,
    ]
}

fn update() -> Vec<Token> {
    vec![
        Token::make_keyword("UPDATE"),
        Token::make_keyword("SET"),
        Token::make_word(NOTHING, Some('"')),
        Token::Eq,
        Token::make_keyword("NULL"),
    ]
}

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}
