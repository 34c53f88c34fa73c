//! stub
use kho_catalog::error::Result; use crate::scope::Scope; use crate::outcome::Notice; use crate::write::Pending;
pub(crate) struct Change { pub pending: Pending, pub notices: Vec<Notice> }
pub(crate) fn role(_s:&Scope,_r:&crate::parse::RoleStatement)->Result<Change>{ Err(kho_catalog::error::Error::internal("stub")) }
pub(crate) fn membership(_s:&Scope,_r:&crate::parse::Membership)->Result<Change>{ Err(kho_catalog::error::Error::internal("stub")) }
pub(crate) async fn change(_s:&Scope,_r:&sqlparser::ast::Statement,_l:&crate::execute::Limits)->Result<Change>{ Err(kho_catalog::error::Error::internal("stub")) }
