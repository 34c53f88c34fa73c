//! stub
pub fn from_sql(_of: &sqlparser::ast::DataType) -> kho_catalog::error::Result<kho_catalog::types::Type> { Err(kho_catalog::error::Error::internal("stub")) }
