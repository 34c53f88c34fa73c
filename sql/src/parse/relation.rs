//! `ALTER TABLE … SET SCHEMA` and `RESET`, and `ALTER VIEW`, which sqlparser does not parse.

use sqlparser::ast::{Ident, ObjectName, Owner};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

type Parsed<T> = Result<T, ParserError>;

/// An `ALTER TABLE` or `ALTER VIEW` with one of these actions.
#[derive(Clone, Debug)]
pub(crate) struct RelationStatement {
    pub view: bool,
    pub if_exists: bool,
    pub name: ObjectName,
    pub action: RelationAction,
}

#[derive(Clone, Debug)]
pub(crate) enum RelationAction {
    Rename(Ident),
    OwnerTo(Owner),
    SetSchema(Ident),
    /// The names of options, folded.
    Reset(Vec<String>),
}

/// A whole statement; fails where sqlparser's own `ALTER` is meant.
pub(super) fn parse(parser: &mut Parser) -> Parsed<RelationStatement> {
    parser.expect_keyword(Keyword::ALTER)?;
    let view = parser.parse_keyword(Keyword::VIEW);
    if !view {
        parser.expect_keyword(Keyword::TABLE)?;
    }
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let name = parser.parse_object_name(false)?;
    let action = action(parser, view)?;
    parser.expect_token(&Token::EOF)?;
    Ok(RelationStatement { view, if_exists, name, action })
}

fn action(parser: &mut Parser, view: bool) -> Parsed<RelationAction> {
    if parser.parse_keywords(&[Keyword::SET, Keyword::SCHEMA]) {
        return Ok(RelationAction::SetSchema(parser.parse_identifier()?));
    }
    if parser.parse_keyword(Keyword::RESET) {
        parser.expect_token(&Token::LParen)?;
        let keys = parser.parse_comma_separated(super::role::name)?;
        parser.expect_token(&Token::RParen)?;
        return Ok(RelationAction::Reset(keys));
    }
    if view && parser.parse_keywords(&[Keyword::RENAME, Keyword::TO]) {
        return Ok(RelationAction::Rename(parser.parse_identifier()?));
    }
    if view && parser.parse_keywords(&[Keyword::OWNER, Keyword::TO]) {
        return Ok(RelationAction::OwnerTo(parser.parse_owner()?));
    }
    parser.expected_ref("an action", parser.peek_token_ref())
}
