//! `GRANT` and `REVOKE` of rights on objects, `ALTER DEFAULT PRIVILEGES`, `REASSIGN OWNED` and
//! `DROP OWNED`.
//!
//! # Why by hand
//! sqlparser has no `ALL (columns)`, no default privileges, and other vendors' words among ours.

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Word};

use super::role::name;

type Parsed<T> = Result<T, ParserError>;

/// A whole `GRANT … ON …` or `REVOKE … ON …`.
#[derive(Clone, Debug)]
pub(crate) struct PrivilegeStatement {
    pub rights: Vec<Right>,
    pub on: On,
    pub given: Given,
}

/// What is common to rights on objects that are there and on those to come.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub revoke: bool,
    /// The names of roles; `public` is everyone.
    pub roles: Vec<String>,
    /// `WITH GRANT OPTION`, or `GRANT OPTION FOR`.
    pub option: bool,
    pub granted_by: Option<String>,
    pub cascade: bool,
}

/// A right as it was written, in upper case; `ALL` is every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    pub name: String,
    /// In parentheses after it; empty is the whole object.
    pub columns: Vec<Ident>,
}

#[derive(Clone, Debug)]
pub(crate) enum On {
    Relations(Vec<ObjectName>),
    Schemas(Vec<ObjectName>),
    /// `ALL TABLES IN SCHEMA`.
    AllIn(Vec<ObjectName>),
    /// An object of PostgreSQL's that Kho has not, or gives no rights on.
    Other(String),
}

/// `ALTER DEFAULT PRIVILEGES`.
#[derive(Clone, Debug)]
pub(crate) struct DefaultStatement {
    /// `FOR ROLE`; empty is the current role.
    pub makers: Vec<String>,
    /// `IN SCHEMA`; empty is every schema.
    pub schemas: Vec<ObjectName>,
    pub rights: Vec<Right>,
    /// `TABLES`, `SCHEMAS`, …, in upper case.
    pub on: String,
    pub given: Given,
}

/// `REASSIGN OWNED BY … TO …`, `DROP OWNED BY …`.
#[derive(Clone, Debug)]
pub(crate) struct OwnedStatement {
    pub of: Vec<String>,
    pub act: OwnedAct,
}

#[derive(Clone, Debug)]
pub(crate) enum OwnedAct {
    GiveTo(String),
    Drop { cascade: bool },
}

/// A whole `GRANT` or `REVOKE` of rights on objects.
pub(super) fn parse(parser: &mut Parser) -> Parsed<PrivilegeStatement> {
    let (revoke, option_for) = verb(parser)?;
    let rights = parser.parse_comma_separated(right)?;
    parser.expect_keyword(Keyword::ON)?;
    let on = on(parser)?;
    let given = given(parser, revoke, option_for)?;
    Ok(PrivilegeStatement { rights, on, given })
}

/// After `ALTER DEFAULT PRIVILEGES`.
pub(super) fn parse_default(parser: &mut Parser) -> Parsed<DefaultStatement> {
    let mut makers = Vec::new();
    let mut schemas = Vec::new();
    loop {
        if parser.parse_keyword(Keyword::FOR) {
            parser.expect_one_of_keywords(&[Keyword::ROLE, Keyword::USER])?;
            makers.extend(parser.parse_comma_separated(name)?);
        } else if parser.parse_keywords(&[Keyword::IN, Keyword::SCHEMA]) {
            schemas.extend(parser.parse_comma_separated(|it| it.parse_object_name(false))?);
        } else {
            break;
        }
    }
    let (revoke, option_for) = verb(parser)?;
    let rights = parser.parse_comma_separated(right)?;
    parser.expect_keyword(Keyword::ON)?;
    let on = upper_word(parser)?;
    let given = given(parser, revoke, option_for)?;
    Ok(DefaultStatement { makers, schemas, rights, on, given })
}

/// After `REASSIGN OWNED` or `DROP OWNED`.
pub(super) fn parse_owned(parser: &mut Parser, reassign: bool) -> Parsed<OwnedStatement> {
    parser.expect_keyword(Keyword::BY)?;
    let of = parser.parse_comma_separated(name)?;
    let act = match reassign {
        true => {
            parser.expect_keyword(Keyword::TO)?;
            OwnedAct::GiveTo(name(parser)?)
        }
        false => OwnedAct::Drop { cascade: cascades(parser) },
    };
    Ok(OwnedStatement { of, act })
}

/// Whether a statement begins with these words, whatever the parser's keywords are.
pub(super) fn begins_with(parser: &Parser, words: [&str; 2]) -> bool {
    let tokens = parser.peek_tokens::<2>();
    let is = |(token, word): (&Token, &str)| is_word(token, word);
    tokens.iter().zip(words).all(is)
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. })
        if value.eq_ignore_ascii_case(word))
}

fn verb(parser: &mut Parser) -> Parsed<(bool, bool)> {
    let revoke =
        parser.expect_one_of_keywords(&[Keyword::GRANT, Keyword::REVOKE])? == Keyword::REVOKE;
    let option = revoke && parser.parse_keywords(&[Keyword::GRANT, Keyword::OPTION, Keyword::FOR]);
    Ok((revoke, option))
}

fn right(parser: &mut Parser) -> Parsed<Right> {
    let word = upper_word(parser)?;
    if word == "ALL" {
        let _ = parser.parse_keyword(Keyword::PRIVILEGES);
    }
    let mut columns = Vec::new();
    if parser.consume_token(&Token::LParen) {
        columns = parser.parse_comma_separated(Parser::parse_identifier)?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok(Right { name: word, columns })
}

fn on(parser: &mut Parser) -> Parsed<On> {
    let names =
        |parser: &mut Parser| parser.parse_comma_separated(|it| it.parse_object_name(false));
    if parser.parse_keywords(&[Keyword::ALL, Keyword::TABLES, Keyword::IN, Keyword::SCHEMA]) {
        return Ok(On::AllIn(names(parser)?));
    }
    if parser.parse_keyword(Keyword::SCHEMA) {
        return Ok(On::Schemas(names(parser)?));
    }
    if parser.parse_keyword(Keyword::TABLE) {
        return Ok(On::Relations(names(parser)?));
    }
    // A word that another follows is the kind of an object.
    let [first, second] = parser.peek_tokens::<2>();
    if let (Token::Word(kind), Token::Word(_)) = (&first, &second)
        && !matches!(&second, Token::Word(it) if matches!(it.keyword, Keyword::TO | Keyword::FROM))
    {
        let kind = kind.value.to_ascii_uppercase();
        while !matches!(&parser.peek_token_ref().token, Token::EOF)
            && !matches!(&parser.peek_token_ref().token, Token::Word(it)
                if matches!(it.keyword, Keyword::TO | Keyword::FROM))
        {
            parser.next_token();
        }
        return Ok(On::Other(kind));
    }
    Ok(On::Relations(names(parser)?))
}

fn given(parser: &mut Parser, revoke: bool, option_for: bool) -> Parsed<Given> {
    parser.expect_keyword(if revoke { Keyword::FROM } else { Keyword::TO })?;
    let roles = parser.parse_comma_separated(grantee)?;
    let option = option_for
        || (!revoke && parser.parse_keywords(&[Keyword::WITH, Keyword::GRANT, Keyword::OPTION]));
    let granted_by = match parser.parse_keywords(&[Keyword::GRANTED, Keyword::BY]) {
        true => Some(grantee(parser)?),
        false => None,
    };
    let cascade = revoke && cascades(parser);
    Ok(Given { revoke, roles, option, granted_by, cascade })
}

/// A role's name; `GROUP` before it says nothing.
fn grantee(parser: &mut Parser) -> Parsed<String> {
    let [_, second] = parser.peek_tokens::<2>();
    if matches!(second, Token::Word(_)) {
        let _ = parser.parse_keyword(Keyword::GROUP);
    }
    name(parser)
}

fn cascades(parser: &mut Parser) -> bool {
    let word = parser.parse_one_of_keywords(&[Keyword::CASCADE, Keyword::RESTRICT]);
    word == Some(Keyword::CASCADE)
}

fn upper_word(parser: &mut Parser) -> Parsed<String> {
    match parser.next_token().token {
        Token::Word(Word { value, quote_style: None, .. }) => Ok(value.to_ascii_uppercase()),
        _ => {
            parser.prev_token();
            parser.expected_ref("a privilege", parser.peek_token_ref())
        }
    }
}
