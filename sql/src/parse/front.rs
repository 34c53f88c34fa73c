//! What sqlparser does not parse, or parses otherwise than PostgreSQL, comes first.

use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::{Ast, copy, cursor, privilege, relation, role};

type Parsed<T> = Result<T, ParserError>;

/// Parses one statement. The caller checks that nothing is left over.
pub(super) fn parse(parser: &mut Parser) -> Parsed<Ast> {
    let words = first_words(parser);
    let [first, second] = words;
    match (first, second) {
        (Some(Keyword::COPY), _) => {
            parser.next_token();
            Ok(Ast::Copy(Box::new(copy::parse(parser)?)))
        }
        (Some(Keyword::CREATE), Some(Keyword::ROLE | Keyword::USER | Keyword::GROUP))
            if !parser_sees_mapping(parser) =>
        {
            parser.next_token();
            let login = parser.next_token().token == word(Keyword::USER);
            Ok(Ast::Role(role::parse_create(parser, login)?))
        }
        (Some(Keyword::ALTER), Some(Keyword::ROLE | Keyword::USER | Keyword::GROUP))
            if !parser_sees_mapping(parser) =>
        {
            parser.next_token();
            parser.next_token();
            Ok(Ast::Role(role::parse_alter(parser)?))
        }
        (Some(Keyword::DROP), Some(Keyword::ROLE | Keyword::USER | Keyword::GROUP))
            if !parser_sees_mapping(parser) =>
        {
            parser.next_token();
            parser.next_token();
            Ok(Ast::Role(role::parse_drop(parser)?))
        }
        (Some(Keyword::ALTER), Some(Keyword::TABLE | Keyword::VIEW)) => {
            match parser.maybe_parse(relation::parse)? {
                Some(statement) => Ok(Ast::Relation(statement)),
                None => Ok(Ast::Sql(Box::new(parser.parse_statement()?))),
            }
        }
        (Some(Keyword::GRANT | Keyword::REVOKE), _) => {
            match parser.maybe_parse(role::parse_membership)? {
                Some(membership) => Ok(Ast::Membership(membership)),
                None => Ok(Ast::Privilege(Box::new(privilege::parse(parser)?))),
            }
        }
        (Some(Keyword::ALTER), _) if privilege::begins_with(parser, ["alter", "default"]) => {
            parser.next_token();
            parser.next_token();
            parser.expect_keyword(Keyword::PRIVILEGES)?;
            Ok(Ast::Default(Box::new(privilege::parse_default(parser)?)))
        }
        _ if privilege::begins_with(parser, ["reassign", "owned"]) => owned(parser, true),
        _ if privilege::begins_with(parser, ["drop", "owned"]) => owned(parser, false),
        (Some(Keyword::DECLARE), _) => Ok(Ast::Cursor(Box::new(cursor::parse_declare(parser)?))),
        (Some(Keyword::FETCH), _) => Ok(Ast::Cursor(Box::new(cursor::parse_fetch(parser)?))),
        (Some(_), _) if cursor::moves(parser) => {
            Ok(Ast::Cursor(Box::new(cursor::parse_fetch(parser)?)))
        }
        _ => Ok(Ast::Sql(Box::new(parser.parse_statement()?))),
    }
}

fn owned(parser: &mut Parser, reassign: bool) -> Parsed<Ast> {
    parser.next_token();
    parser.next_token();
    Ok(Ast::Owned(privilege::parse_owned(parser, reassign)?))
}

fn first_words(parser: &Parser) -> [Option<Keyword>; 2] {
    let tokens = parser.peek_tokens::<2>();
    tokens.map(|token| match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    })
}

/// `CREATE USER MAPPING` is about foreign servers, not about roles.
fn parser_sees_mapping(parser: &Parser) -> bool {
    let [_, _, third] = parser.peek_tokens::<3>();
    matches!(third, Token::Word(word) if word.value.eq_ignore_ascii_case("mapping"))
}

fn word(keyword: Keyword) -> Token {
    Token::make_keyword(&format!("{keyword:?}"))
}
