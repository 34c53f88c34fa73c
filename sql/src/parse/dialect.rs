//! PostgreSQL's dialect, with table versions where a statement names one.
//!
//! What it guarantees: parsing takes no time that doubles with each level of nesting. sqlparser's
//! PostgreSQL dialect takes any expression for the name in `name => value`, so it parses each
//! argument of a function twice, the arguments of its arguments four times, and so on; here a name
//! is an identifier, as in PostgreSQL. Operators bind as they do in PostgreSQL.
//!
//! # Why by hand
//! sqlparser's macro for derived dialects reads sqlparser's own source folder, so it works inside
//! that crate alone. Every method that its PostgreSQL dialect overrides is passed on here; a test
//! compares the two, so that an upgrade which adds one is seen.

use std::any::TypeId;

use sqlparser::ast::{Expr, UnaryOperator};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

#[derive(Clone, Copy, Debug)]
pub(crate) struct KhoDialect {
    /// Whether `t VERSION AS OF 3` is a table. `at`, `before` and `changes` are no aliases then.
    pub versions: bool,
}

const BASE: PostgreSqlDialect = PostgreSqlDialect {};

macro_rules! as_postgresql {
    ($($method:ident)*) => { $(fn $method(&self) -> bool { BASE.$method() })* };
}

impl Dialect for KhoDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn supports_table_versioning(&self) -> bool {
        self.versions
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        BASE.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        BASE.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        BASE.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        BASE.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        BASE.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        BASE.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            token if is_null_test(token) => Some(Ok(self.prec_value(Precedence::Is))),
            // Patterns are operators like any other: `||` does not come before them.
            Token::Tilde
            | Token::TildeAsterisk
            | Token::ExclamationMarkTilde
            | Token::ExclamationMarkTildeAsterisk
            | Token::DoubleTilde
            | Token::DoubleTildeAsterisk
            | Token::ExclamationMarkDoubleTilde
            | Token::ExclamationMarkDoubleTildeAsterisk => {
                Some(Ok(self.prec_value(Precedence::PgOther)))
            }
            _ => BASE.get_next_precedence(parser),
        }
    }

    /// A sign is closer to its number than any operator but `::`, `[]` and `.`.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let op = match parser.peek_token_ref().token {
            Token::Minus => UnaryOperator::Minus,
            Token::Plus => UnaryOperator::Plus,
            _ => return None,
        };
        parser.advance_token();
        // COLLATE is the next one below.
        let operand = parser.parse_subexpr(self.prec_value(Precedence::AtTz).saturating_add(10));
        Some(operand.map(|expr| Expr::UnaryOp { op, expr: Box::new(expr) }))
    }

    /// What sqlparser reads otherwise than PostgreSQL: behind `IS DISTINCT FROM` it takes everything,
    /// `AND` and what follows it too.
    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        _precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        use Keyword::{DISTINCT, FROM, IS, NOT};
        let left = || Box::new(expr.clone());
        if is_null_test(&parser.peek_token_ref().token) {
            parser.advance_token();
            return Some(Ok(Expr::IsNull(left())));
        }
        let differ = parser.parse_keywords(&[IS, DISTINCT, FROM]);
        if !differ && !parser.parse_keywords(&[IS, NOT, DISTINCT, FROM]) {
            return None;
        }
        let right = parser.parse_subexpr(self.prec_value(Precedence::Is)).map(Box::new);
        Some(right.map(|right| match differ {
            true => Expr::IsDistinctFrom(left(), right),
            false => Expr::IsNotDistinctFrom(left(), right),
        }))
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        BASE.prec_value(precedence)
    }

    as_postgresql! {
        supports_unicode_string_literal supports_filter_during_aggregation supports_group_by_expr
        allow_extract_custom allow_extract_single_quotes supports_create_index_with_clause
        supports_explain_with_utility_options supports_listen_notify supports_factorial_operator
        supports_bitwise_shift_operators supports_comment_on supports_load_extension
        supports_named_fn_args_with_colon_operator
        supports_empty_projections supports_nested_comments supports_string_escape_constant
        supports_numeric_literal_underscores supports_array_typedef_with_brackets
        supports_geometric_types supports_set_names supports_alter_column_type_using
        supports_notnull_operator supports_interval_options supports_insert_table_alias
        supports_create_table_like_parenthesized supports_select_wildcard_with_alias
        supports_comma_separated_trim supports_xml_expressions supports_comment_optimizer_hint
    }
}

/// `x ISNULL` is `x IS NULL`.
fn is_null_test(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none()
        && word.value.eq_ignore_ascii_case("isnull"))
}
