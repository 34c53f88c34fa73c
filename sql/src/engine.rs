//! What all sessions of one server share.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use kho_catalog::audit::Ledger;
use kho_catalog::error::Result;
use kho_catalog::limit;
use kho_catalog::log::Catalog;
use kho_catalog::privilege::{self, Principal};
use kho_catalog::state::{LimitName, Oid, State};
use kho_catalog::table::Tables;

use crate::activity::Activity;
use crate::apart::abandonable;
use crate::conjuncts::Conjuncts;
use crate::correlated;
use crate::days::Days;
use crate::early;
use crate::errors::from_engine;
use crate::input;
use crate::jobs::Jobs;
use crate::join_order::JoinOrder;
use crate::join_order::repeated::Repeated;
use crate::join_order::semi::SemiJoins;
use crate::limit::OfServer;
use crate::limit::running::Running;
use crate::limit::usage::Usage;
use crate::memory::expanding;
use crate::memory::held::Held;
use crate::memory::holding::Holding;
use crate::memory::{self, Memory};
use crate::null_safe;
use crate::numeric;
use crate::offset;
use crate::once::Once;
use crate::passwords::Rules;
use crate::pg_catalog::{CatalogView, Visible};
use crate::plans::Plans;
use crate::pushdown;
use crate::scope::Scope;
use crate::session::Seats;
use crate::share::Opening;
use crate::times;
use crate::whole::PushDown;
use crate::yielding::Yielding;

/// How much the statements of one server may use together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory that operators may hold before they spill or fail with `53200`.
    pub memory_bytes: usize,
    /// The same, of one statement; more than `memory_bytes` is as much as that.
    pub query_memory_bytes: usize,
    /// Where operators spill: a folder that no other running server has, whose leftovers are
    /// removed. `None` is a fresh one below the system's folder for temporary files.
    pub spill_directory: Option<std::path::PathBuf>,
    pub spill_bytes: u64,
    /// Open snapshots of tables, and when their versions were made.
    pub snapshot_cache_bytes: usize,
    /// Footers of data files.
    pub footer_cache_bytes: usize,
    /// Bound plans of prepared statements.
    pub plan_cache_bytes: usize,
    /// How long a statement may go on where its session says nothing; 0 is without end.
    pub statement_timeout_ms: u64,
    /// The same, which no session and no limit of a role goes beyond; 0 is no limit.
    pub statement_time_ms: u64,
    /// Statements that run at one time; 0 is no limit.
    pub concurrent_statements: u32,
    /// Rows that a statement on datasets may give; 0 is no limit.
    pub rows_per_statement: u64,
    /// How many threads one statement uses; 0 is one for each core.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 4 << 30,
            query_memory_bytes: 2 << 30,
            spill_directory: None,
            spill_bytes: 64 << 30,
            snapshot_cache_bytes: 256 << 20,
            footer_cache_bytes: 128 << 20,
            plan_cache_bytes: 64 << 20,
            statement_timeout_ms: 0,
            statement_time_ms: 0,
            concurrent_statements: 0,
            rows_per_statement: 0,
            threads: 0,
        }
    }
}

/// Joins that take fewer rows than this are done before a better order is found.
const JOINS_WORTH_ORDERING: f64 = 100_000.0;
/// The same of the rows that a semi join looks through.
const ROWS_WORTH_GROUPING: f64 = 1_000.0;
/// What sorts keep aside for merging, as a part of what a statement has. A sort and its merge are
/// two sharers of three quarters of it: sixteen sorts beside each other have room, and as many
/// exchanges between threads.
const SORT_RESERVE_PART: usize = 64;
/// A batch has one row for so many bytes that a statement has. A merge of sorted parts must have
/// room for four batches: of rows of a kilobyte where there are sixteen sorts, and of four where
/// there are four.
const BYTES_FOR_A_ROW: usize = 256 * 1024;
const FEWEST_BATCH_ROWS: usize = 128;
/// What a join may take by choice, as a part of what a statement has.
const JOIN_PART: usize = 16;
/// How many rows one thread reads for all, by how many threads there are; it reads so many in the time
/// in which the threads together would pass some ten million on to one another.
const SMALL_SIDE_ROWS: usize = 2_000_000;
const FEWEST_SMALL_SIDE_ROWS: usize = 128 * 1024;
const SMALL_SIDE_BYTES: usize = 32 << 20;
/// An array of so many places is made however few of them are taken: it fits the processor's cache, or
/// nearly. One with more is made where at least this part of them is taken.
const ARRAY_PLACES: usize = 4_000_000;
const KEYS_OF_PLACES: f64 = 0.03;

/// The shared parts.
pub(crate) struct Shared {
    pub catalog: Catalog,
    pub tables: Tables,
    pub ledger: Ledger,
    pub started_ms: i64,
    pub seats: Seats,
    pub activity: Activity,
    pub jobs: Jobs,
    pub statement_timeout_ms: u64,
    pub running: Running,
    pub usage: Usage,
    pub of_server: OfServer,
    pub passwords: Rules,
    pub plans: Plans,
    base: SessionState,
    /// The same for plans that are bound already: it knows no function by its name.
    bare: SessionState,
    /// What functions are called that are made for each statement.
    of_session: OnceLock<HashSet<String>>,
    memory: Memory,
    /// What can be called, for `pg_proc`.
    functions: Arc<[(String, String, char)]>,
}

impl Shared {
    pub(crate) fn open(
        catalog: Catalog,
        ledger: Ledger,
        limits: &Limits,
        passwords: Rules,
    ) -> Result<Shared> {
        let environment = catalog.environment().clone();
        let memory = Memory::open(limits)?;
        let base = base_state(&memory, limits)?;
        Ok(Shared {
            started_ms: environment.now_ms(),
            seats: Seats::default(),
            activity: Activity::default(),
            jobs: Jobs::default(),
            statement_timeout_ms: limits.statement_timeout_ms,
            running: Running::default(),
            usage: Usage::new(&environment, &ledger),
            of_server: OfServer {
                concurrent_statements: limits.concurrent_statements,
                statement_time_ms: limits.statement_time_ms,
                rows_per_statement: limits.rows_per_statement,
            },
            tables: Tables::with_cache(environment, limits.snapshot_cache_bytes),
            functions: callable(&base),
            passwords,
            plans: Plans::new(limits.plan_cache_bytes),
            bare: without_functions(&base),
            of_session: OnceLock::new(),
            base,
            memory,
            catalog,
            ledger,
        })
    }

    /// The planner's state for one statement: the session's zone, and functions that know it.
    ///
    /// # Why a copy
    /// Rebuilding a state registers every function anew, which takes longer than a short statement.
    pub(crate) fn session_state(&self, scope: &Scope) -> Result<SessionState> {
        let mut state = started(&self.base, scope);
        // Some functions keep what the settings were when they were registered. One that goes by
        // another name here must not come back in place of ours.
        let options = state.config().options();
        let renewed: Vec<ScalarUDF> = (state.scalar_functions().iter())
            .filter(|(name, function)| *name == function.name())
            .filter_map(|(_, function)| function.inner().with_updated_config(options))
            .collect();
        for function in renewed {
            register(&mut state, Arc::new(function))?;
        }
        let view = Arc::new(self.catalog_view(scope));
        let mut of_session = crate::pg_catalog::functions(&view);
        of_session.extend(crate::system::functions(scope));
        self.of_session
            .get_or_init(|| of_session.iter().map(|function| function.name().to_owned()).collect());
        for function in of_session {
            register(&mut state, function)?;
        }
        Ok(state)
    }

    /// The same for a plan whose functions were found: the cheapest there is.
    pub(crate) fn planning_state(&self, scope: &Scope) -> SessionState {
        started(&self.bare, scope)
    }

    /// Whether a function of this name is made for each statement; before there was one, nobody knows.
    pub(crate) fn is_of_session(&self, function: &str) -> bool {
        self.of_session.get().is_none_or(|known| known.contains(function))
    }

    /// The planner's state for work of our own, which calls no function of a session.
    pub(crate) fn plain_session(&self) -> SessionState {
        let mut state = self.base.clone();
        state.config_mut().set_extension(self.memory.statement());
        state
    }

    /// What one statement of `role` runs with, by the limits of now.
    pub(crate) fn statement_memory_of(&self, state: &State, role: Oid) -> Arc<RuntimeEnv> {
        let limit = limit::of_role(state, role).get(LimitName::Memory);
        self.memory.statement_of(role, limit.map(|it| it.value))
    }

    /// What a wire holds by for a client.
    pub(crate) fn held(&self) -> Held {
        self.memory.held()
    }

    /// What the statements of `role` hold.
    pub(crate) fn memory_of(&self, role: Oid) -> u64 {
        self.memory.held_by(role)
    }

    /// The catalog as `pg_catalog` shows it to the scope's role.
    pub(crate) fn catalog_view(&self, scope: &Scope) -> CatalogView {
        let state = &scope.state;
        CatalogView {
            visible: visible(state, &scope.who),
            role: scope.session.role(),
            who: scope.session.clone(),
            session_role: scope.session.role(),
            search_path: scope.search_path(),
            settings: scope.settings.all(),
            database: crate::session::DATABASE.to_owned(),
            process_id: scope.process_id,
            functions: Arc::clone(&self.functions),
            server_started_us: self.started_ms.saturating_mul(1000),
            client: None,
            server: None,
            activity: self.activity.clone(),
            state: Arc::clone(state),
        }
    }
}

/// A copy of `base` for a statement that begins now.
fn started(base: &SessionState, scope: &Scope) -> SessionState {
    let mut state = base.clone();
    let config = state.config_mut();
    config.options_mut().execution.time_zone = Some(scope.settings.zone_of_engine());
    config.set_extension(Arc::clone(&scope.memory));
    if let MemoryLimit::Finite(bytes) = scope.memory.memory_pool.memory_limit() {
        fit_to(config, bytes);
    }
    // `now()` is one instant throughout a statement, and none at all without this.
    state.mark_start_execution();
    state
}

/// `base` without its scalar functions, hundreds of names that each copy copies. The optimizer asks
/// for aggregates by name.
fn without_functions(base: &SessionState) -> SessionState {
    SessionStateBuilder::new_from_existing(base.clone())
        .with_scalar_functions(Vec::new())
        .with_table_functions(Default::default())
        .build()
}

/// What exists for `who`, found out when it is asked for: most statements never do.
fn visible(state: &Arc<State>, who: &Principal) -> Visible {
    let (state, who) = (Arc::clone(state), who.clone());
    Visible::found_by(move || {
        let relations = privilege::visible_relations(&state, &who).map(|it| it.oid).collect();
        let schemas = privilege::visible_schemas(&state, &who).map(|it| it.oid).collect();
        (relations, schemas)
    })
}

fn callable(state: &SessionState) -> Arc<[(String, String, char)]> {
    let of = |name: &String, kind| ("pg_catalog".to_owned(), name.clone(), kind);
    let scalar = state.scalar_functions().keys().map(|name| of(name, 'f'));
    let aggregate = state.aggregate_functions().keys().map(|name| of(name, 'a'));
    let window = state.window_functions().keys().map(|name| of(name, 'w'));
    let own = ["table_history", "table_changes", "explain_access"]
        .map(|it| ("kho".to_owned(), it.to_owned(), 'f'));
    let procedures = [
        "restore_table",
        "compact_table",
        "cancel",
        "verify_audit_log",
        "set_mask",
        "drop_mask",
        "tag_column",
        "untag_column",
        "add_tag",
        "remove_tag",
        "set_role_attribute",
        "add_purpose",
        "remove_purpose",
        "grant_agreement",
        "end_agreement",
        "set_third_party",
        "unset_third_party",
        "request_access",
        "withdraw_access",
        "approve_access",
        "refuse_access",
        "freeze",
        "unfreeze",
        "set_role_limit",
        "map_identity",
        "unmap_identity",
        "create_api_token",
        "revoke_api_token",
    ];
    let procedures = procedures.map(|it| ("kho".to_owned(), it.to_owned(), 'p'));
    scalar.chain(aggregate).chain(window).chain(own).chain(procedures).collect()
}

fn register(state: &mut SessionState, function: Arc<ScalarUDF>) -> Result<()> {
    use datafusion::execution::FunctionRegistry;
    state.register_udf(function).map(|_| ()).map_err(from_engine)
}

/// The engine's rules, and ours behind them: what it pushes down to relations is there by then.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let ours: [Arc<dyn OptimizerRule + Send + Sync>; 3] = [
        Arc::new(PushDown::default()),
        Arc::new(null_safe::CrossJoins::default()),
        Arc::new(null_safe::Keys::default()),
    ];
    for ours in ours {
        for rule in rules.iter_mut().filter(|rule| rule.name() == ours.name()) {
            *rule = Arc::clone(&ours);
        }
    }
    // As soon as constants are computed.
    let simplified = rules.iter().position(|rule| rule.name() == "simplify_expressions");
    rules.insert(simplified.map_or(0, |at| at + 1), Arc::new(Days));
    rules.push(Arc::new(Once));
    rules.push(Arc::new(SemiJoins { least_rows: JOINS_WORTH_ORDERING }));
    rules.push(Arc::new(Repeated { least_rows: ROWS_WORTH_GROUPING }));
    rules.push(Arc::new(JoinOrder { least_rows: JOINS_WORTH_ORDERING }));
    rules
}

/// Makes batches and what sorts keep aside no larger than what fits a statement that has `bytes`.
fn fit_to(config: &mut SessionConfig, bytes: usize) {
    let rows = (bytes / BYTES_FOR_A_ROW).max(FEWEST_BATCH_ROWS);
    if rows < config.batch_size() {
        *config = config.clone().with_batch_size(rows);
    }
    let execution = &mut config.options_mut().execution;
    // Each sort keeps this much aside for merging what it spilled, from its first row on.
    let reserve = bytes / SORT_RESERVE_PART;
    execution.sort_spill_reservation_bytes = execution.sort_spill_reservation_bytes.min(reserve);
    fit_joins(config, bytes);
}

/// Has joins made the way that costs least, and takes no more than a part of `bytes`.
fn fit_joins(config: &mut SessionConfig, bytes: usize) {
    let (threads, part) = (config.target_partitions().max(1), bytes / JOIN_PART);
    let options = config.options_mut();
    // To give each thread its part of both sides costs more than that one of them reads a small side
    // for all. The more threads there are, the longer the others wait for it.
    let optimizer = &mut options.optimizer;
    optimizer.hash_join_single_partition_threshold_rows =
        (SMALL_SIDE_ROWS / threads).max(FEWEST_SMALL_SIDE_ROWS);
    optimizer.hash_join_single_partition_threshold = SMALL_SIDE_BYTES.min(part);
    // Whole numbers that lie close are found by their place in an array, without a hash table.
    let execution = &mut options.execution;
    execution.perfect_hash_join_small_build_threshold = ARRAY_PLACES.min(part / size_of::<u32>());
    execution.perfect_hash_join_min_key_density = KEYS_OF_PLACES;
}

fn base_state(memory: &Memory, limits: &Limits) -> Result<SessionState> {
    let mut config = SessionConfig::new().with_information_schema(false);
    if limits.threads > 0 {
        config = config.with_target_partitions(limits.threads);
    }
    fit_to(&mut config, memory::statement_bytes(limits));
    let options = config.options_mut();
    // An IN-list of join keys pushed into a scan can panic when a key is dictionary-encoded.
    options.optimizer.hash_join_inlist_pushdown_max_size = 0;
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = 0;
    // An expression that runs may say it can be NULL where the plan knows that it cannot: `f - f`. The
    // rows are the same, and no reason to refuse.
    options.execution.skip_physical_aggregate_schema_check = true;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::clone(memory.planning()))
        .with_default_features()
        .with_optimizer_rules(abandonable(optimizer_rules()))
        .with_physical_optimizer_rules(early::with_places(pushdown::by_place(offset::with_order(
            PhysicalOptimizer::new().rules,
        ))))
        .with_physical_optimizer_rule(Arc::new(Conjuncts))
        .with_physical_optimizer_rule(Arc::new(Holding))
        .with_physical_optimizer_rule(Arc::new(Yielding))
        .with_physical_optimizer_rule(Arc::new(Opening))
        .build();
    numeric::install(&mut state);
    times::install(&mut state);
    correlated::install(&mut state);
    input::install(&mut state);
    // A result takes room beside its arguments and what is made of it.
    let result_bytes = memory::statement_bytes(limits) / 4;
    expanding::install(&mut state, result_bytes).map_err(from_engine)?;
    for function in crate::functions::functions() {
        register(&mut state, function)?;
    }
    register(&mut state, times::at_zone())?;
    register(&mut state, times::date_trunc())?;
    register(&mut state, times::date_part())?;
    for aggregate in crate::functions::aggregates() {
        use datafusion::execution::FunctionRegistry as _;
        state.register_udaf(aggregate).map_err(from_engine)?;
    }
    Ok(state)
}
