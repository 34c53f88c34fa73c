//! `CREATE TABLE name (a, b) AS …` and `… WITH [NO] DATA`, which sqlparser does not parse.
//!
//! What it is: the names and the ending are taken out of the tokens, and put around the query that
//! is parsed from the rest.

use sqlparser::ast::{self, Ident};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// What was taken out.
#[derive(Debug, Default)]
pub(super) struct Taken {
    names: Vec<Ident>,
    no_data: bool,
}

/// Takes the names and the ending out of a `CREATE TABLE … AS`; other statements stay as they are.
pub(super) fn take(tokens: &mut Vec<TokenWithSpan>) -> Taken {
    let mut taken = Taken::default();
    let words: Vec<usize> = (tokens.iter().enumerate())
        .filter(|(_, it)| !matches!(it.token, Token::Whitespace(_)))
        .map(|(index, _)| index)
        .collect();
    let at = |place: usize| words.get(place).and_then(|index| tokens.get(*index));
    let is = |place: usize, keyword: Keyword| at(place).is_some_and(|it| is_word(it, keyword));
    if !is(0, Keyword::CREATE) || !is(1, Keyword::TABLE) {
        return taken;
    }
    let mut cut: Vec<usize> = Vec::new();
    let mut place = if is(2, Keyword::IF) { 5 } else { 2 };
    while at(place + 1).is_some_and(|it| it.token == Token::Period) {
        place += 2;
    }
    place += 1;
    if at(place).is_some_and(|it| it.token == Token::LParen)
        && let Some((names, after)) = list_of_names(&at, place + 1)
        && is(after, Keyword::AS)
    {
        taken.names = names;
        cut.extend(place..after);
    }
    let end = words.len();
    let with_data = end >= 2 && is(end - 1, Keyword::DATA);
    if with_data && is(end - 2, Keyword::WITH) {
        cut.extend([end - 2, end - 1]);
    } else if end >= 3 && with_data && is(end - 2, Keyword::NO) && is(end - 3, Keyword::WITH) {
        cut.extend([end - 3, end - 2, end - 1]);
        taken.no_data = true;
    }
    let cut: Vec<usize> = cut.iter().filter_map(|place| words.get(*place).copied()).collect();
    let mut index = 0;
    tokens.retain(|_| {
        index += 1;
        !cut.contains(&(index - 1))
    });
    taken
}

impl Taken {
    /// Puts what was taken out around the query of `statement`.
    pub(super) fn put(self, statement: &mut ast::Statement) -> Result<(), ParserError> {
        let ast::Statement::CreateTable(create) = statement else { return Ok(()) };
        let Some(query) = &mut create.query else { return Ok(()) };
        if self.names.is_empty() && !self.no_data {
            return Ok(());
        }
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        let names =
            if names.is_empty() { String::new() } else { format!("({})", names.join(", ")) };
        let limit = if self.no_data { "LIMIT 0" } else { "" };
        let text = format!("SELECT * FROM ({query}) AS \"source\" {names} {limit}");
        let dialect = sqlparser::dialect::PostgreSqlDialect {};
        *query = Parser::new(&dialect).try_with_sql(&text)?.parse_query()?;
        Ok(())
    }
}

/// Names up to a closing bracket, and the place after it; `None` where there is anything else.
fn list_of_names<'a>(
    at: &impl Fn(usize) -> Option<&'a TokenWithSpan>,
    mut place: usize,
) -> Option<(Vec<Ident>, usize)> {
    let mut names = Vec::new();
    loop {
        let Token::Word(word) = &at(place)?.token else { return None };
        names.push(word.clone().into_ident(at(place)?.span));
        match at(place + 1)?.token {
            Token::Comma => place += 2,
            Token::RParen => return Some((names, place + 2)),
            _ => return None,
        }
    }
}

fn is_word(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.keyword == keyword)
}
