//! What sqlparser does not parse, or parses otherwise than PostgreSQL, comes first.

use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{Ast, copy, cursor, relation, role};

type Parsed<T> = Result<T, ParserError>;

/// The tokens of one statement as sqlparser should see them: in `GRANT` and `REVOKE` it takes
/// `PUBLIC` for the last of the grantees, so here it is a name as any other.
pub(super) fn prepared(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut tokens = tokens.to_vec();
    let first = tokens.iter().find(|it| !matches!(it.token, Token::Whitespace(_)));
    let grants = first.is_some_and(|it| {
        matches!(&it.token, Token::Word(word) if word.quote_style.is_none()
            && matches!(word.keyword, Keyword::GRANT | Keyword::REVOKE))
    });
    for token in tokens.iter_mut().filter(|_| grants) {
        if let Token::Word(word) = &mut token.token
            && word.keyword == Keyword::PUBLIC
        {
            token.token = Token::make_word("public", Some('"'));
        }
    }
    tokens
}

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
        (Some(Keyword::REVOKE), Some(Keyword::GRANT)) => {
            parser.next_token();
            parser.expect_keywords(&[Keyword::GRANT, Keyword::OPTION, Keyword::FOR])?;
            Ok(Ast::RevokeOption(Box::new(parser.parse_revoke()?)))
        }
        (Some(Keyword::GRANT | Keyword::REVOKE), _) => {
            match parser.maybe_parse(role::parse_membership)? {
                Some(membership) => Ok(Ast::Membership(membership)),
                None => Ok(Ast::Sql(Box::new(parser.parse_statement()?))),
            }
        }
        (Some(Keyword::DECLARE), _) => Ok(Ast::Cursor(Box::new(cursor::parse_declare(parser)?))),
        (Some(Keyword::FETCH), _) => Ok(Ast::Cursor(Box::new(cursor::parse_fetch(parser)?))),
        (Some(_), _) if cursor::moves(parser) => {
            Ok(Ast::Cursor(Box::new(cursor::parse_fetch(parser)?)))
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
