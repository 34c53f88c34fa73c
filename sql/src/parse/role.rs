//! `CREATE`, `ALTER`, `DROP ROLE` and `USER`, and membership by `GRANT role TO role`.

use sqlparser::ast::Ident;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

type Parsed<T> = Result<T, ParserError>;

/// A statement about roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoleStatement {
    Create { name: String, if_not_exists: bool, options: RoleOptions },
    Alter { name: String, options: RoleOptions },
    Rename { name: String, to: String },
    Drop { names: Vec<String>, if_exists: bool },
}

/// The options that were given; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoleOptions {
    pub login: Option<bool>,
    /// `Some(None)` is `PASSWORD NULL`.
    pub password: Option<Option<String>>,
    /// -1 is no limit.
    pub connection_limit: Option<i64>,
    pub valid_until: Option<String>,
    pub bypass_rls: Option<bool>,
    pub in_roles: Vec<String>,
    pub members: Vec<String>,
    pub admins: Vec<String>,
    /// Options that PostgreSQL has and Kho has not, as written.
    pub refused: Vec<&'static str>,
}

/// `GRANT a TO b`, `REVOKE a FROM b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub revoke: bool,
    pub roles: Vec<String>,
    pub members: Vec<String>,
    /// `WITH ADMIN OPTION`, or `ADMIN OPTION FOR`.
    pub admin: bool,
}

/// After `CREATE ROLE` or `CREATE USER`; a user may log in unless it says otherwise.
pub(super) fn parse_create(parser: &mut Parser, user: bool) -> Parsed<RoleStatement> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = name(parser)?;
    let mut options = parse_options(parser)?;
    if user && options.login.is_none() {
        options.login = Some(true);
    }
    Ok(RoleStatement::Create { name, if_not_exists, options })
}

/// After `ALTER ROLE` or `ALTER USER`.
pub(super) fn parse_alter(parser: &mut Parser) -> Parsed<RoleStatement> {
    let role = name(parser)?;
    if parser.parse_keywords(&[Keyword::RENAME, Keyword::TO]) {
        return Ok(RoleStatement::Rename { name: role, to: name(parser)? });
    }
    Ok(RoleStatement::Alter { name: role, options: parse_options(parser)? })
}

/// After `DROP ROLE` or `DROP USER`.
pub(super) fn parse_drop(parser: &mut Parser) -> Parsed<RoleStatement> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    Ok(RoleStatement::Drop { names: parser.parse_comma_separated(name)?, if_exists })
}

/// A whole `GRANT` or `REVOKE` of membership; fails where it grants rights on an object.
pub(super) fn parse_membership(parser: &mut Parser) -> Parsed<Membership> {
    let revoke = parser.parse_keyword(Keyword::REVOKE);
    if !revoke {
        parser.expect_keyword(Keyword::GRANT)?;
    }
    let admin_for =
        revoke && parser.parse_keywords(&[Keyword::ADMIN, Keyword::OPTION, Keyword::FOR]);
    let roles = parser.parse_comma_separated(name)?;
    parser.expect_keyword(if revoke { Keyword::FROM } else { Keyword::TO })?;
    let members = parser.parse_comma_separated(name)?;
    let admin = admin_for
        || (!revoke && parser.parse_keywords(&[Keyword::WITH, Keyword::ADMIN, Keyword::OPTION]));
    // `RESTRICT` is what revoking does anyway; `CASCADE` would take away what others gave on.
    if revoke {
        let _ = parser.parse_keyword(Keyword::RESTRICT);
    }
    parser.expect_token(&Token::EOF)?;
    Ok(Membership { revoke, roles, members, admin })
}

fn parse_options(parser: &mut Parser) -> Parsed<RoleOptions> {
    let mut options = RoleOptions::default();
    let _ = parser.parse_keyword(Keyword::WITH);
    while let Token::Word(word) = parser.peek_token().token {
        parser.next_token();
        match word.value.to_ascii_uppercase().as_str() {
            "LOGIN" => options.login = Some(true),
            "NOLOGIN" => options.login = Some(false),
            // Defaults of PostgreSQL that Kho's roles have.
            "INHERIT" | "NOSUPERUSER" | "NOCREATEDB" | "NOCREATEROLE" | "NOREPLICATION" => {}
            "BYPASSRLS" => options.bypass_rls = Some(true),
            "NOBYPASSRLS" => options.bypass_rls = Some(false),
            "NOINHERIT" => options.refused.push("NOINHERIT"),
            "SUPERUSER" => options.refused.push("SUPERUSER"),
            "CREATEDB" => options.refused.push("CREATEDB"),
            "CREATEROLE" => options.refused.push("CREATEROLE"),
            "REPLICATION" => options.refused.push("REPLICATION"),
            "ENCRYPTED" => parser.expect_keyword(Keyword::PASSWORD).and_then(|_| {
                options.password = Some(password(parser)?);
                Ok(())
            })?,
            "PASSWORD" => options.password = Some(password(parser)?),
            "CONNECTION" => {
                parser.expect_keyword(Keyword::LIMIT)?;
                options.connection_limit = Some(signed(parser)?);
            }
            "VALID" => {
                parser.expect_keyword(Keyword::UNTIL)?;
                options.valid_until = Some(parser.parse_literal_string()?);
            }
            "IN" => {
                parser.expect_one_of_keywords(&[Keyword::ROLE, Keyword::GROUP])?;
                options.in_roles = parser.parse_comma_separated(name)?;
            }
            "ROLE" | "USER" => options.members = parser.parse_comma_separated(name)?,
            "ADMIN" => options.admins = parser.parse_comma_separated(name)?,
            _ => return Err(ParserError::ParserError(format!("unknown role option {word}"))),
        }
    }
    Ok(options)
}

fn password(parser: &mut Parser) -> Parsed<Option<String>> {
    if parser.parse_keyword(Keyword::NULL) {
        return Ok(None);
    }
    parser.parse_literal_string().map(Some)
}

fn signed(parser: &mut Parser) -> Parsed<i64> {
    let minus = parser.consume_token(&Token::Minus);
    let number = i64::try_from(parser.parse_literal_uint()?)
        .map_err(|_| ParserError::ParserError("number out of range".to_owned()))?;
    Ok(if minus { -number } else { number })
}

/// One name, folded as PostgreSQL folds it.
pub(super) fn name(parser: &mut Parser) -> Parsed<String> {
    let Ident { value, quote_style, .. } = parser.parse_identifier()?;
    Ok(if quote_style.is_some() { value } else { value.to_ascii_lowercase() })
}
