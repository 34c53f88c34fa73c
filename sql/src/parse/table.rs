//! `TABLE name` where a query may stand, which PostgreSQL reads as `SELECT * FROM name`.
//!
//! What it does not: after `INSERT INTO t` without a list of columns it is not known.

use sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// The tokens of a statement with each such `TABLE` replaced; of any other, as they are.
pub(super) fn replace(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| keyword(token) == Some(Keyword::TABLE)) {
        return tokens;
    }
    let explains = words(&tokens).next().and_then(keyword) == Some(Keyword::EXPLAIN);
    let mut replaced = Vec::with_capacity(tokens.len() + 3);
    let mut before: Option<&TokenWithSpan> = None;
    for (place, token) in tokens.iter().enumerate() {
        let named = || words(tokens.get(place + 1..).unwrap_or_default()).next();
        let stands = keyword(token) == Some(Keyword::TABLE)
            && before.is_none_or(|before| begins_query(before, explains))
            && named().is_some_and(is_name);
        match stands {
            true => {
                let select = [
                    Token::make_keyword("SELECT"),
                    Token::Whitespace(sqlparser::tokenizer::Whitespace::Space),
                    Token::Mul,
                    Token::Whitespace(sqlparser::tokenizer::Whitespace::Space),
                    Token::make_keyword("FROM"),
                ];
                let span = token.span;
                replaced.extend(select.map(|token| TokenWithSpan { token, span }));
            }
            false => replaced.push(token.clone()),
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            before = Some(token);
        }
    }
    replaced
}

fn words(tokens: &[TokenWithSpan]) -> impl Iterator<Item = &TokenWithSpan> {
    tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)))
}

/// Whether a query may stand behind this token.
fn begins_query(before: &TokenWithSpan, explains: bool) -> bool {
    match (&before.token, keyword(before)) {
        (Token::LParen, _) => true,
        (
            _,
            Some(
                Keyword::AS
                | Keyword::FOR
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::ALL
                | Keyword::DISTINCT,
            ),
        ) => true,
        (_, Some(Keyword::EXPLAIN | Keyword::ANALYZE | Keyword::VERBOSE)) => explains,
        _ => false,
    }
}

/// Whether a table can be called so: `SELECT 1 AS table FROM …` is a label.
fn is_name(token: &TokenWithSpan) -> bool {
    match &token.token {
        Token::Word(word) => {
            word.quote_style.is_some() || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    }
}

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}
