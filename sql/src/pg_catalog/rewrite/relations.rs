//! Functions in `FROM`: `pg_catalog.`-qualified names, `unnest`, and aliases that name a column.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectNamePart,
    TableAlias, TableAliasColumnDef, TableFactor,
};

use super::functions::unqualify;
use super::literals::number;
use crate::pg_catalog::definition;

pub fn rewrite(factor: &mut TableFactor) {
    let (name, args, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, with_ordinality: false, .. } => {
            (name, args.args.clone(), alias)
        }
        TableFactor::Function { name, args, alias, with_ordinality: false, .. } => {
            (name, args.clone(), alias)
        }
        TableFactor::UNNEST { alias: Some(alias), with_ordinality: false, .. } => {
            name_column(alias);
            return;
        }
        _ => return,
    };
    unqualify(&mut name.0);
    let [ObjectNamePart::Identifier(function)] = name.0.as_slice() else {
        return;
    };
    let function = super::fold(function);
    match function.as_str() {
        "unnest" => {
            let arrays = args.iter().filter_map(plain).collect();
            let mut alias = alias.clone();
            if let Some(alias) = &mut alias {
                name_column(alias);
            }
            *factor = TableFactor::UNNEST {
                alias,
                array_exprs: arrays,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: false,
            };
        }
        "generate_series" => {
            if let Some(alias) = alias {
                name_column(alias);
            }
            give_bounds(factor);
        }
        // Functions without arguments that give rows are system tables here.
        other if args.is_empty() && definition::find("pg_catalog", other).is_some() => {
            let alias = alias.clone();
            *factor = table(other, alias);
        }
        _ => {}
    }
}

/// A series with a computed bound: NULL, which the planner refuses, is the empty series.
fn give_bounds(factor: &mut TableFactor) {
    let bounds = match factor {
        TableFactor::Table { args: Some(args), .. } => &mut args.args,
        TableFactor::Function { args, .. } => args,
        _ => return,
    };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(first)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(last)),
    ] = bounds.as_mut_slice()
    else {
        return;
    };
    if !matches!(first, Expr::Value(_)) || !matches!(last, Expr::Value(_)) {
        let both = Expr::BinaryOp {
            left: Box::new(Expr::IsNotNull(Box::new(first.clone()))),
            op: BinaryOperator::And,
            right: Box::new(Expr::IsNotNull(Box::new(last.clone()))),
        };
        *first = either(&both, first, 1);
        *last = either(&both, last, 0);
    }
}

fn either(condition: &Expr, then: &Expr, otherwise: i64) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition: condition.clone(), result: then.clone() }],
        else_result: Some(Box::new(number(otherwise))),
    }
}

/// The alias of a function that gives one column is that column's name too.
fn name_column(alias: &mut TableAlias) {
    if alias.columns.is_empty() {
        let name = alias.name.clone();
        alias.columns.push(TableAliasColumnDef { name, data_type: None });
    }
}

fn plain(argument: &FunctionArg) -> Option<Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

fn table(name: &str, alias: Option<TableAlias>) -> TableFactor {
    let parts = ["pg_catalog", name].map(|it| ObjectNamePart::Identifier(Ident::new(it)));
    TableFactor::Table {
        name: sqlparser::ast::ObjectName(parts.to_vec()),
        alias,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}
