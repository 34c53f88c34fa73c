//! What all sessions of one server share.

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionConfig;
use kho_catalog::audit::Ledger;
use kho_catalog::error::Result;
use kho_catalog::log::Catalog;
use kho_catalog::privilege;
use kho_catalog::table::Tables;

use crate::activity::Activity;
use crate::errors::from_engine;
use crate::input;
use crate::jobs::Jobs;
use crate::numeric;
use crate::pg_catalog::CatalogView;
use crate::scope::Scope;
use crate::session::Seats;
use crate::yielding::Yielding;

/// How much the statements of one server may use together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory that operators may hold before they spill or fail with `53200`.
    pub memory_bytes: usize,
    /// Where operators spill; `None` is the system's folder for temporary files.
    pub spill_directory: Option<std::path::PathBuf>,
    pub spill_bytes: u64,
    /// How many threads one statement uses; 0 is one for each core.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory_bytes: 4 << 30, spill_directory: None, spill_bytes: 64 << 30, threads: 0 }
    }
}

/// The shared parts.
pub(crate) struct Shared {
    pub catalog: Catalog,
    pub tables: Tables,
    pub ledger: Ledger,
    pub started_ms: i64,
    pub seats: Seats,
    /// Held while a serializable transaction checks what it read and commits.
    pub serializable: tokio::sync::Mutex<()>,
    pub activity: Activity,
    pub jobs: Jobs,
    base: SessionState,
    /// What can be called, for `pg_proc`.
    functions: Vec<(String, String, char)>,
}

impl Shared {
    pub(crate) fn open(catalog: Catalog, ledger: Ledger, limits: &Limits) -> Result<Shared> {
        let environment = catalog.environment().clone();
        let runtime = runtime(limits)?;
        let base = base_state(runtime, limits)?;
        Ok(Shared {
            started_ms: environment.now_ms(),
            seats: Seats::default(),
            serializable: tokio::sync::Mutex::default(),
            activity: Activity::default(),
            jobs: Jobs::default(),
            tables: Tables::new(environment),
            functions: callable(&base),
            base,
            catalog,
            ledger,
        })
    }

    /// The planner's state for one statement: the session's zone, and functions that know it.
    pub(crate) fn session_state(&self, scope: &Scope) -> Result<SessionState> {
        let mut config = self.base.config().clone();
        config.options_mut().execution.time_zone = Some(scope.settings.time_zone().to_owned());
        let mut state =
            SessionStateBuilder::new_from_existing(self.base.clone()).with_config(config).build();
        // `now()` is one instant throughout a statement, and none at all without this.
        state.mark_start_execution();
        let view = Arc::new(self.catalog_view(scope));
        for function in crate::pg_catalog::functions(&view) {
            register(&mut state, function)?;
        }
        for function in crate::system::functions(scope) {
            register(&mut state, function)?;
        }
        Ok(state)
    }

    /// The planner's state for work of our own, which calls no function of a session.
    pub(crate) fn plain_session(&self) -> SessionState {
        self.base.clone()
    }

    /// The catalog as `pg_catalog` shows it to the scope's role.
    pub(crate) fn catalog_view(&self, scope: &Scope) -> CatalogView {
        let state = &scope.state;
        CatalogView {
            visible_relations: privilege::visible_relations(state, &scope.who)
                .map(|relation| relation.oid)
                .collect(),
            visible_schemas: privilege::visible_schemas(state, &scope.who)
                .map(|schema| schema.oid)
                .collect(),
            role: scope.who.role(),
            session_role: scope.who.role(),
            search_path: scope.search_path(),
            settings: scope.settings.all(),
            database: crate::session::DATABASE.to_owned(),
            process_id: scope.process_id,
            functions: self.functions.clone(),
            server_started_us: self.started_ms.saturating_mul(1000),
            client: None,
            server: None,
            activity: self.activity.clone(),
            state: Arc::clone(state),
        }
    }
}

fn callable(state: &SessionState) -> Vec<(String, String, char)> {
    let of = |name: &String, kind| ("pg_catalog".to_owned(), name.clone(), kind);
    let scalar = state.scalar_functions().keys().map(|name| of(name, 'f'));
    let aggregate = state.aggregate_functions().keys().map(|name| of(name, 'a'));
    let window = state.window_functions().keys().map(|name| of(name, 'w'));
    let own = ["table_history", "table_changes"].map(|it| ("kho".to_owned(), it.to_owned(), 'f'));
    let procedures = ["restore_table", "compact_table", "cancel"];
    let procedures = procedures.map(|it| ("kho".to_owned(), it.to_owned(), 'p'));
    scalar.chain(aggregate).chain(window).chain(own).chain(procedures).collect()
}

fn register(state: &mut SessionState, function: Arc<ScalarUDF>) -> Result<()> {
    use datafusion::execution::FunctionRegistry;
    state.register_udf(function).map(|_| ()).map_err(from_engine)
}

pub(crate) fn runtime(limits: &Limits) -> Result<Arc<RuntimeEnv>> {
    let pool = FairSpillPool::new(limits.memory_bytes);
    let consumers = std::num::NonZeroUsize::MIN.saturating_add(4);
    let disk = match &limits.spill_directory {
        Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, consumers)))
        .with_disk_manager_builder(
            DiskManagerBuilder::default()
                .with_mode(disk)
                .with_max_temp_directory_size(limits.spill_bytes),
        )
        .build_arc()
        .map_err(from_engine)
}

fn base_state(runtime: Arc<RuntimeEnv>, limits: &Limits) -> Result<SessionState> {
    let mut config = SessionConfig::new().with_information_schema(false);
    if limits.threads > 0 {
        config = config.with_target_partitions(limits.threads);
    }
    let options = config.options_mut();
    // An IN-list of join keys pushed into a scan can panic when a key is dictionary-encoded.
    options.optimizer.hash_join_inlist_pushdown_max_size = 0;
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = 0;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_physical_optimizer_rule(Arc::new(Yielding))
        .build();
    numeric::install(&mut state);
    input::install(&mut state);
    for function in crate::functions::functions() {
        register(&mut state, function)?;
    }
    Ok(state)
}
