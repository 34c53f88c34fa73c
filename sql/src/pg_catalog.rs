//! The system catalogs, `pg_catalog` and `information_schema`, as one principal sees them.
//!
//! What it is: [`table`] builds one system table from an immutable catalog state, when a statement
//! names it; [`functions`] are the functions that clients call beside them; [`rewrite`] turns what
//! PostgreSQL's grammar has and DataFusion's planner lacks into what it plans.
//! What it guarantees: an object is in a table, or is named by a function, only if the view says
//! that the principal may know of it; no password and no verifier is in any of them. Everything
//! that is listed exists: a catalog whose facts Kho does not have is empty, or is not there.
//! What it does not: it decides nothing about rights; who builds the [`CatalogView`] does.
//! On failure: an unknown name in a `regclass` cast and the like gives PostgreSQL's SQLSTATE.
//!
//! # Why own code
//! The crates at hand say yes to every `has_*_privilege`, replace clients' queries by a list of
//! their texts, and describe a PostgreSQL that is not there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use datafusion::catalog::TableProvider;
use kho_catalog::error::Result;
use kho_catalog::privilege::Principal;
use kho_catalog::state::{Oid, State};

use crate::activity::Activity;

mod acl;
mod apply;
mod attributes;
mod cluster;
mod definition;
mod depend;
mod function;
mod information_schema;
mod keys;
mod object;
mod policies;
mod procedures;
mod relations;
mod rewrite;
mod roles;
mod rows;
mod scope;
pub mod types;
mod value;

#[cfg(test)]
mod tests;

pub use function::functions;
pub use rewrite::{OID, rewrite};

/// The catalog at one version, as one principal in one session may know it.
#[derive(Clone, Debug)]
pub struct CatalogView {
    pub state: Arc<State>,
    /// `current_user`.
    pub role: Oid,
    /// The same, with what its session leaves it.
    pub who: Principal,
    /// `session_user`.
    pub session_role: Oid,
    pub visible: Visible,
    pub search_path: Vec<String>,
    /// Name, value, description.
    pub settings: Vec<(String, String, String)>,
    /// Schema, name and kind (`f`, `a`, `w`, `p` as in `pg_proc.prokind`) of what can be called.
    pub functions: Arc<[(String, String, char)]>,
    pub database: String,
    pub process_id: i32,
    /// Microseconds since the epoch at which the server began to serve.
    pub server_started_us: i64,
    pub client: Option<SocketAddr>,
    pub server: Option<SocketAddr>,
    /// Every session of the server; who asks sees some of them.
    pub activity: Activity,
}

type Found = (BTreeSet<Oid>, BTreeSet<Oid>);

/// What exists for a principal, found out once, when it is first asked for.
#[derive(Clone, Debug)]
pub struct Visible(Arc<LazyLock<Found, Box<dyn FnOnce() -> Found + Send>>>);

impl Visible {
    /// `find` gives the relations and the schemas.
    pub fn found_by(find: impl FnOnce() -> Found + Send + 'static) -> Visible {
        Visible(Arc::new(LazyLock::new(Box::new(find))))
    }

    /// The datasets and views that exist for the principal.
    pub fn relations(&self) -> &BTreeSet<Oid> {
        &self.0.0
    }

    /// The schemas that exist for the principal.
    pub fn schemas(&self) -> &BTreeSet<Oid> {
        &self.0.1
    }
}

/// The system table `schema.name`; `None` where there is no such table. Only what was asked for
/// is built.
///
/// # Errors
/// `XX000` where a table's own code does not fit its definition.
pub fn table(
    view: &CatalogView,
    schema: &str,
    name: &str,
) -> Option<Result<Arc<dyn TableProvider>>> {
    let definition = definition::find(schema, name)?;
    Some(build(view, definition).and_then(rows::Rows::into_table))
}

fn build(view: &CatalogView, definition: &'static definition::Definition) -> Result<rows::Rows> {
    let mut rows = rows::Rows::new(definition);
    match definition.schema {
        "information_schema" => information_schema::fill(view, definition.name, &mut rows)?,
        _ => {
            relations::fill(view, definition.name, &mut rows)?;
            attributes::fill(view, definition.name, &mut rows)?;
            keys::fill(view, definition.name, &mut rows)?;
            depend::fill(view, definition.name, &mut rows)?;
            policies::fill(view, definition.name, &mut rows)?;
            roles::fill(view, definition.name, &mut rows)?;
            cluster::fill(view, definition.name, &mut rows)?;
            procedures::fill(view, definition.name, &mut rows)?;
            types::fill(view, definition.name, &mut rows)?;
        }
    }
    Ok(rows)
}
