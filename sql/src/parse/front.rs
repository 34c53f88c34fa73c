//! What sqlparser does not parse, or parses otherwise than PostgreSQL, comes first.

use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::{Ast, copy, role};

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
        (Some(Keyword::GRANT | Keyword::REVOKE), _) => {
            match parser.maybe_parse(role::parse_membership)? {
                Some(membership) => Ok(Ast::Membership(membership)),
                None => Ok(Ast::Sql(Box::new(parser.parse_statement()?))),
            }
        }
        _ => Ok(Ast::Sql(Box::new(parser.parse_statement()?))),
    }
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
