//! `DECLARE`, `FETCH` and `MOVE` as PostgreSQL spells them: sqlparser knows no `MOVE`, no `FETCH`
//! without `FROM`, and options of a cursor in one order alone.

use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

type Parsed<T> = Result<T, ParserError>;

#[derive(Clone, Debug)]
pub(crate) enum CursorStatement {
    Declare(Declare),
    Fetch(Fetch),
}

#[derive(Clone, Debug)]
pub(crate) struct Declare {
    pub name: ast::Ident,
    pub binary: bool,
    pub scroll: bool,
    /// `WITH HOLD`: it outlives the transaction that made it.
    pub hold: bool,
    /// Always a query.
    pub query: Box<ast::Statement>,
}

#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub name: ast::Ident,
    pub step: Step,
    /// `MOVE`: the rows are passed over.
    pub moves: bool,
}

/// Where from the row that the cursor stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many rows on, all of them given; none is the row it stands on.
    Forward(u64),
    /// The row of this number, alone; negative ones count from the end.
    Absolute(i64),
    /// The row so many further on, alone.
    Relative(i64),
    Backward,
}

/// All rows that are left.
const ALL: u64 = u64::MAX;

/// A whole `DECLARE`; what it is in other databases does not parse.
pub(super) fn parse_declare(parser: &mut Parser) -> Parsed<CursorStatement> {
    parser.expect_keyword(Keyword::DECLARE)?;
    let name = parser.parse_identifier()?;
    let (mut binary, mut scroll) = (false, false);
    loop {
        if parser.parse_keyword(Keyword::BINARY) {
            binary = true;
        } else if parser.parse_keyword(Keyword::SCROLL) {
            scroll = true;
        } else if !(parser.parse_keywords(&[Keyword::NO, Keyword::SCROLL])
            || parser.parse_keyword(Keyword::INSENSITIVE)
            || parser.parse_keyword(Keyword::ASENSITIVE))
        {
            break;
        }
    }
    parser.expect_keyword(Keyword::CURSOR)?;
    let hold = parser.parse_keywords(&[Keyword::WITH, Keyword::HOLD]);
    if !hold && parser.parse_keyword(Keyword::WITHOUT) {
        parser.expect_keyword(Keyword::HOLD)?;
    }
    parser.expect_keyword(Keyword::FOR)?;
    let query = Box::new(ast::Statement::Query(parser.parse_query()?));
    Ok(CursorStatement::Declare(Declare { name, binary, scroll, hold, query }))
}

/// Whether a `MOVE` comes, which is no keyword of sqlparser's.
pub(super) fn moves(parser: &Parser) -> bool {
    matches!(&parser.peek_token_ref().token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("move"))
}

/// A whole `FETCH` or `MOVE`.
pub(super) fn parse_fetch(parser: &mut Parser) -> Parsed<CursorStatement> {
    let moves = moves(parser);
    match moves {
        true => drop(parser.next_token()),
        false => drop(parser.expect_keyword(Keyword::FETCH)?),
    }
    let step = step(parser)?;
    let _ = parser.parse_one_of_keywords(&[Keyword::FROM, Keyword::IN]);
    let name = parser.parse_identifier()?;
    Ok(CursorStatement::Fetch(Fetch { name, step, moves }))
}

fn step(parser: &mut Parser) -> Parsed<Step> {
    if let Some(count) = signed(parser)? {
        return Ok(forward(count));
    }
    // A word that is the last one is the cursor's name, whatever it says.
    let [_, second] = parser.peek_tokens::<2>();
    if second == Token::EOF {
        return Ok(Step::Forward(1));
    }
    const WORDS: &[Keyword] = &[
        Keyword::NEXT,
        Keyword::PRIOR,
        Keyword::FIRST,
        Keyword::LAST,
        Keyword::ABSOLUTE,
        Keyword::RELATIVE,
        Keyword::ALL,
        Keyword::FORWARD,
        Keyword::BACKWARD,
    ];
    Ok(match parser.parse_one_of_keywords(WORDS) {
        Some(Keyword::PRIOR) => Step::Backward,
        Some(Keyword::FIRST) => Step::Absolute(1),
        Some(Keyword::LAST) => Step::Absolute(-1),
        Some(Keyword::ABSOLUTE) => Step::Absolute(expect_signed(parser)?),
        Some(Keyword::RELATIVE) => Step::Relative(expect_signed(parser)?),
        Some(Keyword::ALL) => Step::Forward(ALL),
        Some(Keyword::FORWARD) if parser.parse_keyword(Keyword::ALL) => Step::Forward(ALL),
        Some(Keyword::FORWARD) => signed(parser)?.map_or(Step::Forward(1), forward),
        Some(Keyword::BACKWARD) if parser.parse_keyword(Keyword::ALL) => Step::Backward,
        Some(Keyword::BACKWARD) => match signed(parser)? {
            Some(count) => forward(count.saturating_neg()),
            None => Step::Backward,
        },
        _ => Step::Forward(1),
    })
}

fn forward(count: i64) -> Step {
    u64::try_from(count).map_or(Step::Backward, Step::Forward)
}

fn expect_signed(parser: &mut Parser) -> Parsed<i64> {
    match signed(parser)? {
        Some(count) => Ok(count),
        None => parser.expected_ref("a number of rows", parser.peek_token_ref()),
    }
}

/// A whole number with its sign, if there is one.
fn signed(parser: &mut Parser) -> Parsed<Option<i64>> {
    let negative = parser.consume_token(&Token::Minus);
    let signed = negative || parser.consume_token(&Token::Plus);
    let Token::Number(digits, false) = parser.peek_token().token else {
        return match signed {
            true => parser.expected_ref("a number of rows", parser.peek_token_ref()),
            false => Ok(None),
        };
    };
    // PostgreSQL's rows are counted in 32 bits here.
    let Ok(count) = digits.parse::<i32>() else {
        return parser.expected_ref("a number of rows", parser.peek_token_ref());
    };
    parser.next_token();
    Ok(Some(if negative { -i64::from(count) } else { i64::from(count) }))
}
