//! `COPY`, with every option of PostgreSQL 15, in both spellings.

use sqlparser::ast::{ObjectName, Query};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

type Parsed<T> = Result<T, ParserError>;

/// A `COPY` as written; what its options mean is checked when it is bound.
#[derive(Clone, Debug)]
pub(crate) struct CopyStatement {
    pub source: CopySource,
    pub direction: CopyDirection,
    /// Names in lower case, in the order given.
    pub options: Vec<(String, CopyValue)>,
}

#[derive(Clone, Debug)]
pub(crate) enum CopySource {
    Table { name: ObjectName, columns: Vec<String> },
    Query(Box<Query>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyDirection {
    FromStdin,
    ToStdout,
    /// A file or a program of the server's: never allowed.
    ServerSide,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CopyValue {
    /// The option stands alone: true.
    Absent,
    Text(String),
    Columns(Vec<String>),
    /// `*`
    AllColumns,
}

/// After `COPY`.
pub(super) fn parse(parser: &mut Parser) -> Parsed<CopyStatement> {
    let source = parse_source(parser)?;
    let word = parser.expect_one_of_keywords(&[Keyword::FROM, Keyword::TO])?;
    let from = matches!(word, Keyword::FROM);
    if from && matches!(source, CopySource::Query(_)) {
        return Err(ParserError::ParserError("a query cannot be copied into".to_owned()));
    }
    let direction = parse_direction(parser, from)?;
    let _ = parser.parse_keyword(Keyword::WITH);
    let options = if parser.consume_token(&Token::LParen) {
        let options = parser.parse_comma_separated(parse_option)?;
        parser.expect_token(&Token::RParen)?;
        options
    } else {
        parse_legacy_options(parser)?
    };
    Ok(CopyStatement { source, direction, options })
}

fn parse_source(parser: &mut Parser) -> Parsed<CopySource> {
    if parser.consume_token(&Token::LParen) {
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        return Ok(CopySource::Query(query));
    }
    let name = parser.parse_object_name(false)?;
    let columns = match parser.peek_token().token {
        Token::LParen => column_list(parser)?,
        _ => Vec::new(),
    };
    Ok(CopySource::Table { name, columns })
}

fn parse_direction(parser: &mut Parser, from: bool) -> Parsed<CopyDirection> {
    if parser.parse_keyword(Keyword::STDIN) && from {
        return Ok(CopyDirection::FromStdin);
    }
    if parser.parse_keyword(Keyword::STDOUT) && !from {
        return Ok(CopyDirection::ToStdout);
    }
    let _ = parser.parse_keyword(Keyword::PROGRAM);
    parser.parse_literal_string()?;
    Ok(CopyDirection::ServerSide)
}

fn parse_option(parser: &mut Parser) -> Parsed<(String, CopyValue)> {
    let name = parser.parse_identifier()?.value.to_ascii_lowercase();
    let value = match parser.peek_token().token {
        Token::Comma | Token::RParen => CopyValue::Absent,
        Token::LParen => CopyValue::Columns(column_list(parser)?),
        Token::Mul => {
            parser.next_token();
            CopyValue::AllColumns
        }
        Token::Word(_) => CopyValue::Text(identifier(parser)?),
        Token::Number(number, _) => {
            parser.next_token();
            CopyValue::Text(number)
        }
        _ => CopyValue::Text(parser.parse_literal_string()?),
    };
    Ok((name, value))
}

/// The spelling before PostgreSQL 9.0, which psql scripts still use: `CSV HEADER DELIMITER ','`.
fn parse_legacy_options(parser: &mut Parser) -> Parsed<Vec<(String, CopyValue)>> {
    let mut options = Vec::new();
    while let Token::Word(word) = parser.peek_token().token {
        parser.next_token();
        let text = |parser: &mut Parser| {
            let _ = parser.parse_keyword(Keyword::AS);
            parser.parse_literal_string().map(CopyValue::Text)
        };
        let option = match word.value.to_ascii_lowercase().as_str() {
            format @ ("binary" | "csv" | "text") => {
                ("format".to_owned(), CopyValue::Text(format.to_owned()))
            }
            "header" => ("header".to_owned(), CopyValue::Absent),
            "freeze" => ("freeze".to_owned(), CopyValue::Absent),
            name @ ("delimiter" | "null" | "quote" | "escape" | "encoding") => {
                (name.to_owned(), text(parser)?)
            }
            "force" => parse_force(parser)?,
            other => {
                return Err(ParserError::ParserError(format!("unknown COPY option {other}")));
            }
        };
        options.push(option);
    }
    Ok(options)
}

fn parse_force(parser: &mut Parser) -> Parsed<(String, CopyValue)> {
    let name = if parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
        "force_not_null"
    } else if parser.parse_keyword(Keyword::NULL) {
        "force_null"
    } else {
        let word = parser.parse_identifier()?.value;
        if !word.eq_ignore_ascii_case("quote") {
            return Err(ParserError::ParserError(format!("unknown COPY option FORCE {word}")));
        }
        "force_quote"
    };
    let value = match parser.consume_token(&Token::Mul) {
        true => CopyValue::AllColumns,
        false => CopyValue::Columns(parser.parse_comma_separated(identifier)?),
    };
    Ok((name.to_owned(), value))
}

fn column_list(parser: &mut Parser) -> Parsed<Vec<String>> {
    parser.expect_token(&Token::LParen)?;
    let columns = parser.parse_comma_separated(identifier)?;
    parser.expect_token(&Token::RParen)?;
    Ok(columns)
}

/// An identifier, folded.
fn identifier(parser: &mut Parser) -> Parsed<String> {
    let ident = parser.parse_identifier()?;
    Ok(if ident.quote_style.is_some() { ident.value } else { ident.value.to_ascii_lowercase() })
}
