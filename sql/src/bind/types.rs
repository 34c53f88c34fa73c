//! SQL type names in expressions (`x::uuid`, `CAST(x AS numeric(10,2))`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::planner::TypePlanner;
use kho_catalog::error::Result;
use kho_catalog::types::Type;
use sqlparser::ast;

use crate::errors::to_engine;
use crate::pg_catalog::OID;

/// The type a name in SQL stands for.
pub(crate) fn sql_type(of: &ast::DataType) -> Result<Type> {
    crate::types::from_sql(of)
}

/// Tells DataFusion's planner our types; what is `None` it plans itself.
#[derive(Debug)]
pub(super) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> PlanResult<Option<FieldRef>> {
        use ast::DataType as T;
        if let Some(oid) = Oids.plan_type_field(sql_type)? {
            return Ok(Some(oid));
        }
        let ours = match sql_type {
            // Exact numbers without a precision, as wide as they come.
            T::Numeric(ast::ExactNumberInfo::None)
            | T::Decimal(ast::ExactNumberInfo::None)
            | T::Dec(ast::ExactNumberInfo::None) => {
                return Ok(Some(Arc::new(Field::new("", DataType::Decimal128(38, 10), true))));
            }
            // Of these the engine knows more than we store.
            T::Interval { .. } | T::Time(..) => return Ok(None),
            T::Custom(name, _) if name.0.last().is_some_and(is_name_like) => Type::Text,
            T::Custom(name, _) if name.0.last().is_some_and(is_number) => Type::BigInt,
            other => super::sql_type(other).map_err(to_engine)?,
        };
        // A field without a name stands for its Arrow type alone. Among texts that is not enough:
        // `id::text` would stay a uuid.
        let field = ours.to_field("", true);
        let name = if field.data_type().is_string() { "cast" } else { "" };
        Ok(Some(Arc::new(field.with_name(name))))
    }
}

/// Tells of `oid` alone, to a planner of queries that read system tables alone.
#[derive(Debug)]
pub(crate) struct Oids;

impl TypePlanner for Oids {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> PlanResult<Option<FieldRef>> {
        Ok(oid(sql_type).map(|of| Arc::new(Field::new("", of, true))))
    }
}

/// The type of an `oid`, or of an array of them; `None` of anything else.
fn oid(of: &ast::DataType) -> Option<DataType> {
    match of {
        ast::DataType::Custom(name, _) => match name.0.last()?.as_ident() {
            Some(ident) if ident.value == OID => Some(DataType::UInt32),
            _ => None,
        },
        ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(element, _)) => {
            let element = Field::new_list_field(oid(element)?, true);
            Some(DataType::List(Arc::new(element)))
        }
        _ => None,
    }
}

fn is_name_like(part: &ast::ObjectNamePart) -> bool {
    let name = part.to_string().to_lowercase();
    matches!(name.as_str(), "name" | "\"char\"" | "cstring" | "unknown" | "bpchar")
}

fn is_number(part: &ast::ObjectNamePart) -> bool {
    matches!(part.to_string().to_lowercase().as_str(), "xid" | "cid")
}
