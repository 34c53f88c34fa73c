//! How deep a statement's tree will be, told from its tokens before anything is built.
//!
//! What it guarantees: a statement that passes is parsed, planned, run and dropped within a worker's
//! stack. What it does not: it is an upper bound, made without grammar; it counts a little more than
//! there is.
//! On failure: `54001`, before a tree exists.
//!
//! # Why
//! Brackets nest, and so does a chain: `1 + 1 + 1` is a tree as deep as it is long. The parser bounds
//! brackets alone, and a deep tree overflows the stack when it is planned or even dropped, which
//! ends the process and not the statement.

use kho_catalog::error::{Error, Kind, Result};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// How deep brackets, `CASE` and prefix operators may nest in each other.
pub(super) const NESTING_LIMIT: usize = 100;
/// How deep queries in expressions, and `WITH`s in `WITH`s, may nest: planning them takes time that
/// doubles with each level.
const QUERY_NESTING_LIMIT: usize = 12;
/// How deep a tree may be altogether.
const HEIGHT_LIMIT: usize = 1000;
/// An arithmetic step becomes a call whose name holds its operands' names, so it weighs more.
const ARITHMETIC_COST: usize = 4;
/// A joined table or a further `UNION` branch is a level of the plan, not of an expression.
const RELATION_COST: usize = 4;

/// Refuses a statement that would make too deep a tree.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut depth = Depth::default();
    for token in tokens {
        depth.take(&token.token)?;
    }
    match depth.finish() > HEIGHT_LIMIT {
        true => Err(Error::new(
            Kind::StatementTooComplex,
            "the statement chains too many operators or joins",
        )
        .with_detail(format!("A chain of operators nests: at most {HEIGHT_LIMIT} deep."))
        .with_hint("Compare with a list, IN (…), or break the statement up.")),
        false => Ok(()),
    }
}

/// What the parser says where it finds a statement too deep by its own count.
pub(super) fn too_deep() -> Error {
    Error::new(Kind::StatementTooComplex, "the statement nests too deeply")
        .with_detail(format!(
            "Brackets, CASE, NOT and signs nest at most {NESTING_LIMIT} deep, queries in expressions \
             {QUERY_NESTING_LIMIT} deep."
        ))
        .with_hint("Break the statement up, or name its parts in a WITH.")
}

/// What opened a level, and so what closes it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Opening {
    #[default]
    Statement,
    Bracket,
    Case,
}

/// The inside of one bracket or `CASE`.
#[derive(Default)]
struct Level {
    opening: Opening,
    /// Prefix operators right before it.
    prefixes: usize,
    /// Operators since the last comma, `AND` or `OR`.
    chain: usize,
    /// The tallest bracket since then.
    inner: usize,
    /// `AND`s and `OR`s since the last comma, and the tallest operand of one.
    logic: usize,
    operand: usize,
    /// The tallest part up to the last comma.
    tallest: usize,
    /// Joins, set operations and `WITH` queries so far.
    relations: usize,
    /// Whether a comma stands between relations here.
    lists_relations: bool,
    /// Whether nothing was in it yet.
    is_fresh: bool,
    /// Whether it is a query whose planning doubles that of what is around it.
    doubles: bool,
}

#[derive(Default)]
struct Depth {
    open: Vec<Level>,
    top: Level,
    /// Brackets and prefix operators around the current token.
    nesting: usize,
    /// Prefix operators right before the current token.
    prefixes: usize,
    /// Whether an operand is complete, so that an operator after it is no prefix.
    after_operand: bool,
    /// Queries around the current token that double the planning.
    doubled: usize,
}

impl Depth {
    fn take(&mut self, token: &Token) -> Result<()> {
        match token {
            Token::Whitespace(_) | Token::EOF => return Ok(()),
            Token::LParen | Token::LBrace => self.enter(Opening::Bracket),
            Token::LBracket => {
                self.top.chain += 1;
                self.enter(Opening::Bracket);
            }
            Token::RParen | Token::RBrace | Token::RBracket => self.leave_bracket(),
            Token::Comma => {
                self.top.relations += usize::from(self.top.lists_relations) * RELATION_COST;
                self.end_part();
            }
            Token::Word(word) if word.quote_style.is_none() => self.take_word(word.keyword),
            token if is_operand(token) => {
                self.top.is_fresh = false;
                self.operand();
            }
            Token::Plus | Token::Minus | Token::Mul => self.operator(ARITHMETIC_COST),
            _ => self.operator(1),
        }
        let within = self.nesting + self.prefixes <= NESTING_LIMIT;
        match within && self.doubled <= QUERY_NESTING_LIMIT {
            true => Ok(()),
            false => Err(too_deep()),
        }
    }

    fn take_word(&mut self, word: Keyword) {
        if std::mem::take(&mut self.top.is_fresh) {
            let in_expression = self.open.last().is_some_and(|outer| !outer.lists_relations);
            self.top.doubles = match word {
                Keyword::SELECT => in_expression,
                Keyword::WITH => true,
                _ => false,
            };
            self.doubled += usize::from(self.top.doubles);
        }
        match word {
            Keyword::NoKeyword | Keyword::NULL | Keyword::TRUE | Keyword::FALSE => self.operand(),
            Keyword::CASE => self.enter(Opening::Case),
            Keyword::END if self.top.opening == Opening::Case => self.leave(),
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE => self.end_part(),
            // Before their operand, both are read by a parser that calls itself.
            Keyword::NOT | Keyword::INTERVAL => self.operator(1),
            // They bind weaker than all else, so that their operands lie side by side.
            Keyword::AND | Keyword::OR => {
                self.top.logic += 1;
                self.end_operand();
            }
            Keyword::SELECT
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::ORDER
            | Keyword::SET
            | Keyword::VALUES
            | Keyword::RETURNING => {
                self.top.lists_relations = false;
                self.end_part();
            }
            Keyword::FROM | Keyword::USING | Keyword::WITH => {
                self.top.lists_relations = true;
                self.end_part();
            }
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                self.top.relations += RELATION_COST;
                self.end_part();
            }
            Keyword::JOIN => {
                self.top.relations += RELATION_COST;
                self.top.lists_relations = true;
                self.end_part();
            }
            Keyword::ON => {
                self.top.lists_relations = false;
                self.end_part();
            }
            // Any of them may be an operator (IS, LIKE, COLLATE, …): those that are not are few.
            _ => {
                self.top.chain += 1;
                self.operand();
            }
        }
    }

    fn operand(&mut self) {
        self.prefixes = 0;
        self.after_operand = true;
    }

    fn operator(&mut self, cost: usize) {
        self.top.chain += cost;
        self.prefixes = if self.after_operand { 0 } else { self.prefixes + 1 };
        self.after_operand = false;
    }

    fn end_part(&mut self) {
        self.end_operand();
        let Level { logic, operand, tallest, .. } = &mut self.top;
        *tallest = (*tallest).max(*logic + *operand);
        (*logic, *operand) = (0, 0);
    }

    fn end_operand(&mut self) {
        let Level { chain, inner, operand, .. } = &mut self.top;
        *operand = (*operand).max(*chain + *inner);
        (*chain, *inner) = (0, 0);
        self.prefixes = 0;
        self.after_operand = false;
    }

    fn enter(&mut self, opening: Opening) {
        self.top.is_fresh = false;
        let is_fresh = opening == Opening::Bracket;
        let level = Level { opening, prefixes: self.prefixes, is_fresh, ..Level::default() };
        self.nesting += 1 + self.prefixes;
        self.open.push(std::mem::replace(&mut self.top, level));
        self.prefixes = 0;
        self.after_operand = false;
    }

    fn leave(&mut self) {
        self.end_part();
        let Some(outer) = self.open.pop() else { return };
        let level = std::mem::replace(&mut self.top, outer);
        self.nesting = self.nesting.saturating_sub(1 + level.prefixes);
        self.doubled = self.doubled.saturating_sub(usize::from(level.doubles));
        self.top.inner = self.top.inner.max(level.tallest + level.relations + 1);
        self.operand();
    }

    /// A `CASE` that is still open was none, or the statement is no statement.
    fn leave_bracket(&mut self) {
        while self.top.opening == Opening::Case {
            self.leave();
        }
        self.leave();
    }

    /// The height of it all; what is still open counts, for a parser builds it before it fails.
    fn finish(mut self) -> usize {
        while !self.open.is_empty() {
            self.leave();
        }
        self.end_part();
        self.top.tallest + self.top.relations
    }
}

fn is_operand(token: &Token) -> bool {
    matches!(
        token,
        Token::Word(_)
            | Token::Number(..)
            | Token::Placeholder(_)
            | Token::Period
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
    )
}
