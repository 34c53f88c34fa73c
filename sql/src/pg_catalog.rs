//! stub
use std::collections::BTreeSet; use std::sync::Arc; use kho_catalog::state::*;
pub struct CatalogView { pub state: Arc<State>, pub role: Oid, pub session_role: Oid, pub visible_relations: BTreeSet<Oid>, pub visible_schemas: BTreeSet<Oid>, pub search_path: Vec<String>, pub settings: Vec<(String,String,String)>, pub database: String, pub process_id: i32 }
pub fn table(_v:&CatalogView,_s:&str,_n:&str)->Option<kho_catalog::error::Result<Arc<dyn datafusion::catalog::TableProvider>>> { None }
pub fn functions(_v: Arc<CatalogView>)->Vec<Arc<datafusion::logical_expr::ScalarUDF>> { Vec::new() }
pub fn rewrite(_s:&mut sqlparser::ast::Statement) {}
