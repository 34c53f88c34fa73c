//! From text to statements.
//!
//! What it is: PostgreSQL's grammar by sqlparser, with time travel, and a small front parser for
//! what sqlparser lacks: role options, role membership, `COPY`'s options.
//! What it guarantees: each statement ends at its own semicolon, so nothing after a
//! `COPY … FROM STDIN;` is swallowed. The text kept for the ledger holds no literal.
//! On failure: `42601` with the position, in characters of the whole text; `54001` for what nests
//! too deeply.

mod copy;
mod create_as;
mod cursor;
mod depth;
mod dialect;
mod front;
mod nothing;
mod privilege;
mod redact;
mod relation;
mod role;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use dialect::KhoDialect;

use crate::plans::Slot;

pub(crate) use copy::{CopyDirection, CopySource, CopyStatement, CopyValue};
pub(crate) use cursor::{CursorStatement, Declare, Fetch, Step};
pub(crate) use nothing::NOTHING;
pub(crate) use privilege::{
    DefaultStatement, Given, On, OwnedAct, OwnedStatement, PrivilegeStatement, Right,
};
pub(crate) use relation::{RelationAction, RelationStatement};
pub(crate) use role::{Membership, RoleOptions, RoleStatement};

/// How often the parser may call itself: up to four times for a level that [`depth`] lets pass, whose
/// answer is clearer.
const RECURSION_LIMIT: usize = 4 * depth::NESTING_LIMIT;
/// The dialect of what names no table version.
pub(crate) const DIALECT: KhoDialect = KhoDialect { versions: false };
/// The longest text that is parsed, in bytes.
const TEXT_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// One parsed statement; cheap to clone.
#[derive(Clone, Debug)]
pub struct Statement {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ast: Ast,
    redacted: redact::Redacted,
    plan: Slot,
}

/// What was parsed.
#[derive(Clone, Debug)]
pub(crate) enum Ast {
    Sql(Box<ast::Statement>),
    Role(RoleStatement),
    Membership(Membership),
    Privilege(Box<PrivilegeStatement>),
    Default(Box<DefaultStatement>),
    Owned(OwnedStatement),
    Relation(RelationStatement),
    Copy(Box<CopyStatement>),
    Cursor(Box<CursorStatement>),
}

impl Statement {
    /// Whether running it gives rows (`SELECT`, `SHOW`, `EXPLAIN`, …).
    pub fn gives_rows(&self) -> bool {
        use ast::Statement as S;
        match self.ast() {
            Ast::Sql(statement) => match statement.as_ref() {
                S::Query(_) | S::Explain { .. } | S::ShowVariable { .. } => true,
                S::Insert(insert) => insert.returning.is_some(),
                S::Update(update) => update.returning.is_some(),
                S::Delete(delete) => delete.returning.is_some(),
                _ => false,
            },
            Ast::Cursor(statement) => {
                matches!(**statement, CursorStatement::Fetch(Fetch { moves: false, .. }))
            }
            _ => false,
        }
    }

    /// Whether it only gives rows, and running it twice is as good as once.
    pub fn is_query(&self) -> bool {
        use ast::Statement as S;
        matches!(self.ast(), Ast::Sql(statement) if matches!(
            statement.as_ref(),
            S::Query(_) | S::Explain { .. } | S::ShowVariable { .. }
        ))
    }

    /// Whether it is a `COPY`, which brings or takes bytes beside its answer.
    pub fn is_copy(&self) -> bool {
        matches!(self.ast(), Ast::Copy(_))
    }

    /// Whether its rows come in an order that it names.
    pub fn is_ordered(&self) -> bool {
        matches!(self.ast(), Ast::Sql(statement) if matches!(
            statement.as_ref(),
            ast::Statement::Query(query) if has_order(query)
        ))
    }

    /// Whether it only ends a transaction block: all that a failed block still takes.
    pub(crate) fn ends_block(&self) -> bool {
        matches!(self.ast(), Ast::Sql(statement) if matches!(
            **statement,
            ast::Statement::Commit { .. } | ast::Statement::Rollback { .. }
        ))
    }

    /// The text with `?` in place of every literal, for whoever looks at what is running.
    pub fn redacted(&self) -> &str {
        &self.inner.redacted.text
    }

    /// The text with a hash in place of every literal, for the ledger.
    pub(crate) fn with_literals_as(&self, hash: impl Fn(&str) -> String) -> String {
        self.inner.redacted.with_literals_as(hash)
    }

    /// The prepared statement that a `DEALLOCATE name` names. One that was prepared by the wire's
    /// `Parse` is known to the wire alone, which drops it; psycopg deallocates that way.
    pub fn deallocates(&self) -> Option<String> {
        match self.ast() {
            Ast::Sql(statement) => match statement.as_ref() {
                ast::Statement::Deallocate { name, .. } if !means_all(name) => {
                    Some(crate::bind::folded(name))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it goes on with a cursor: `FETCH` or `MOVE`.
    pub(crate) fn takes_of_cursor(&self) -> bool {
        let Ast::Cursor(statement) = self.ast() else { return false };
        matches!(statement.as_ref(), CursorStatement::Fetch(_))
    }

    /// The cursor that a `FETCH` gives rows of.
    pub(crate) fn fetches(&self) -> Option<String> {
        let Ast::Cursor(statement) = self.ast() else { return None };
        match statement.as_ref() {
            CursorStatement::Fetch(fetch) if !fetch.moves => Some(crate::bind::folded(&fetch.name)),
            _ => None,
        }
    }

    /// What a `PREPARE` prepares: a name, the types it states, and the statement.
    pub(crate) fn prepares(&self) -> Option<(&ast::Ident, &[ast::DataType], Statement)> {
        use ast::Statement as S;
        let Ast::Sql(statement) = self.ast() else { return None };
        let S::Prepare { name, data_types, statement } = statement.as_ref() else { return None };
        let prepared = matches!(
            **statement,
            S::Query(_) | S::Insert(_) | S::Update(_) | S::Delete(_) | S::Merge(_)
        );
        let inner = Inner {
            ast: Ast::Sql(statement.clone()),
            redacted: self.inner.redacted.after_as(),
            plan: Slot::default(),
        };
        prepared.then(|| (name, data_types.as_slice(), Statement { inner: Arc::new(inner) }))
    }

    /// About how much memory its text takes.
    pub(crate) fn text_bytes(&self) -> usize {
        self.inner.redacted.bytes()
    }

    /// Where its plan is kept from one run to the next, if it is one that is prepared.
    pub(crate) fn plan(&self) -> &Slot {
        &self.inner.plan
    }

    pub(crate) fn ast(&self) -> &Ast {
        &self.inner.ast
    }
}

fn has_order(query: &ast::Query) -> bool {
    let within = match query.body.as_ref() {
        ast::SetExpr::Query(query) => has_order(query),
        _ => false,
    };
    query.order_by.is_some() || within
}

/// Whether a text is one statement that only gives rows.
pub fn is_query(text: &str) -> bool {
    of_client(text).is_ok_and(|all| matches!(all.as_slice(), [one] if one.is_query()))
}

/// What stays of a name that a client gives as plain text: as much as of an identifier.
pub fn cut_name(name: &str) -> &str {
    name.get(..crate::command::name::cut(name)).unwrap_or(name)
}

/// Splits and parses what a client sent.
///
/// # Errors
/// Besides those of parsing, `22021` for a NUL, which no text has, and `42602` for a name with a control character: such names are ours, for
/// what stands behind a statement's own tables.
pub fn of_client(text: &str) -> Result<Vec<Statement>> {
    if text.contains('\0') {
        let message = "invalid byte sequence for encoding \"UTF8\": 0x00";
        return Err(Error::new(Kind::CharacterNotInRepertoire, message));
    }
    let ours = |name: &str| name.chars().any(char::is_control);
    if text.chars().any(char::is_control)
        && Tokenizer::new(&DIALECT, text).tokenize().is_ok_and(|tokens| {
            tokens.iter().any(|token| matches!(token, Token::Word(word) if ours(&word.value)))
        })
    {
        let message = "a name cannot have control characters";
        return Err(Error::new(Kind::InvalidName, message));
    }
    statements(text)
}

/// Splits and parses `text`; empty statements are left out.
pub(crate) fn statements(text: &str) -> Result<Vec<Statement>> {
    if text.len() > TEXT_LIMIT_BYTES {
        return Err(Error::new(Kind::ProgramLimitExceeded, "the statement is too long")
            .with_hint("Send data with COPY."));
    }
    let tokens = Tokenizer::new(&DIALECT, text).tokenize_with_location().map_err(|error| {
        Error::new(Kind::Syntax, error.message.to_lowercase())
            .with_position(position(text, error.location))
    })?;
    tokens
        .split(|token| token.token == Token::SemiColon)
        .filter(|tokens| tokens.iter().any(|it| !matches!(it.token, Token::Whitespace(_))))
        .map(|tokens| statement(text, tokens))
        .collect()
}

/// Parses one expression, as stored for a `CHECK` or a `DEFAULT`.
pub(crate) fn expression(text: &str) -> Result<ast::Expr> {
    let mut parser = Parser::new(&DIALECT).try_with_sql(text).map_err(|it| syntax(text, &it))?;
    let expression = parser.parse_expr().map_err(|it| syntax(text, &it))?;
    parser.expect_token(&Token::EOF).map_err(|it| syntax(text, &it))?;
    Ok(expression)
}

/// Parses one query, as stored for a view.
pub(crate) fn query(text: &str) -> Result<ast::Query> {
    let mut parsed = statements(text)?;
    match parsed.pop().map(|statement| statement.ast().clone()) {
        Some(Ast::Sql(statement)) => match *statement {
            ast::Statement::Query(query) => Ok(*query),
            _ => Err(Error::internal("a view's text is not a query")),
        },
        _ => Err(Error::internal("a view's text is not a query")),
    }
}

/// Whether `DEALLOCATE` means all by this name.
pub(crate) fn means_all(name: &ast::Ident) -> bool {
    name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all")
}

/// Parses a relation's name given as a text, `'health.patient'`.
pub(crate) fn relation_name(text: &str) -> Result<ast::ObjectName> {
    let invalid = |_| Error::new(Kind::Syntax, "invalid name syntax");
    let mut parser = Parser::new(&DIALECT).try_with_sql(text).map_err(invalid)?;
    let name = parser.parse_object_name(false).map_err(invalid)?;
    parser.expect_token(&Token::EOF).map_err(invalid)?;
    Ok(name)
}

fn statement(text: &str, tokens: &[TokenWithSpan]) -> Result<Statement> {
    depth::check(tokens)?;
    let mut prepared = table::replace(nothing::replace(tokens.to_vec()));
    let taken = create_as::take(&mut prepared);
    let dialect = KhoDialect { versions: time_travels(tokens) };
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .with_tokens_with_locations(prepared);
    let mut ast = front::parse(&mut parser).map_err(|error| syntax(text, &error))?;
    parser.expect_token(&Token::EOF).map_err(|error| syntax(text, &error))?;
    if let Ast::Sql(statement) = &mut ast {
        taken.put(statement).map_err(|error| syntax(text, &error))?;
    }
    let redacted = redact::without_literals(tokens);
    Ok(Statement { inner: Arc::new(Inner { ast, redacted, plan: Slot::default() }) })
}

/// Whether a table version is named anywhere.
fn time_travels(tokens: &[TokenWithSpan]) -> bool {
    let words: Vec<Option<Keyword>> = (tokens.iter())
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .map(|token| match &token.token {
            Token::Word(word) => Some(word.keyword),
            _ => None,
        })
        .collect();
    words.windows(3).any(|words| {
        matches!(
            words,
            [
                Some(Keyword::VERSION | Keyword::TIMESTAMP | Keyword::SYSTEM_TIME),
                Some(Keyword::AS),
                Some(Keyword::OF)
            ]
        )
    })
}

fn syntax(text: &str, error: &ParserError) -> Error {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
        ParserError::RecursionLimitExceeded => return depth::too_deep(),
    };
    let (message, location) = match message.split_once(" at Line: ") {
        Some((message, location)) => (message.to_owned(), parse_location(location)),
        None => (message, None),
    };
    let error = Error::new(Kind::Syntax, format!("syntax error: {}", lower_first(&message)));
    match location {
        Some(location) => error.with_position(position(text, location)),
        None => error.with_position(text.chars().count() + 1),
    }
}

fn parse_location(text: &str) -> Option<sqlparser::tokenizer::Location> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(sqlparser::tokenizer::Location {
        line: line.trim().parse().ok()?,
        column: column.trim().parse().ok()?,
    })
}

/// Characters from the start of `text`, from 1; line 0 means the end.
fn position(text: &str, location: sqlparser::tokenizer::Location) -> usize {
    if location.line == 0 {
        return text.chars().count() + 1;
    }
    let before: usize = (text.split_inclusive('\n'))
        .take(usize::try_from(location.line).unwrap_or(1).saturating_sub(1))
        .map(|line| line.chars().count())
        .sum();
    before + usize::try_from(location.column).unwrap_or(1)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
