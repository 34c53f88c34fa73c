//! What statements may hold in memory and on disk: one limit for all, one for each role that has
//! one, one for each statement.
//!
//! What it is: every statement has a pool of its own under its role's and the server's, and a
//! runtime around it that shares everything else: the spill folder and its limit, the cache of file footers.
//! What it guarantees: what operators ask for beyond any of these is refused, so that they spill,
//! or fail with `53200`; within a statement, operators that can spill share evenly, see [`sharing`].
//! What spills is in a folder of this server's own, readable by its account alone, and what a
//! killed server left there is removed when it starts again.
//! What it does not: it counts what operators report. Functions that make much of little are
//! bounded by [`expanding`], operators that report nothing by [`holding`].
//! On failure: the message of the refusal begins with the name of the setting to raise.

pub(crate) mod expanding;
pub(crate) mod held;
pub(crate) mod holding;
mod sharing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::common::Result as PoolResult;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, TaskContext};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Oid;

use crate::engine::Limits;
use crate::errors::from_engine;
use crate::memory::held::Held;
use crate::memory::sharing::{Sharing, Spent};

/// The settings that a refusal names.
pub(crate) const TOTAL: &str = "limits.memory_bytes";
pub(crate) const STATEMENT: &str = "limits.query_memory_bytes";
pub(crate) const MAINTENANCE: &str = "maintenance.memory_bytes";
/// What a refusal names where the limit is that of the statement's role.
pub(crate) const ROLE: &str = "limit memory of the role";
/// What the engine says where spilled data reached its limit.
pub(crate) const SPILL_LIMIT_MESSAGE: &str = "used disk space during the spilling process";
/// The engine makes its folders with names that begin so.
const SPILL_FOLDER_PREFIX: &str = "datafusion-";

/// The memory of one server.
#[derive(Debug)]
pub(crate) struct Memory {
    /// For planning, which holds hardly any data.
    runtime: Arc<RuntimeEnv>,
    total: Arc<Total>,
    statement_bytes: usize,
    /// The setting that bounds one statement.
    statement_setting: &'static str,
    roles: Roles,
    /// Dropped behind the runtime, which has the files in it.
    _folder: Option<SpillFolder>,
}

/// The folder that was made for this server alone; gone with it, unless something is left in it.
#[derive(Debug)]
struct SpillFolder(PathBuf);

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::debug!(%error, "the folder for temporary files stays");
        }
    }
}

#[derive(Debug)]
struct Total {
    setting: &'static str,
    limit_bytes: AtomicUsize,
    used_bytes: AtomicUsize,
}

/// What the statements of each role hold together, of roles that run some.
type Roles = Mutex<HashMap<Oid, Weak<Total>>>;

/// The pool of one statement.
#[derive(Debug)]
struct StatementPool {
    own: Sharing,
    setting: &'static str,
    total: Arc<Total>,
    /// `None` where it is nobody's.
    role: Option<Arc<Total>>,
}

impl Memory {
    /// The memory of statements. Empties the spill folder and opens it.
    pub(crate) fn open(limits: &Limits) -> Result<Memory> {
        Memory::bounded_by(limits, TOTAL, STATEMENT)
    }

    /// The memory of maintenance, which has one setting for all it does.
    pub(crate) fn for_maintenance(limits: &Limits) -> Result<Memory> {
        Memory::bounded_by(limits, MAINTENANCE, MAINTENANCE)
    }

    fn bounded_by(
        limits: &Limits,
        total_setting: &'static str,
        statement_setting: &'static str,
    ) -> Result<Memory> {
        let mode = match &limits.spill_directory {
            Some(folder) => {
                prepare(folder).map_err(|error| unusable(folder, error))?;
                DiskManagerMode::Directories(vec![folder.clone()])
            }
            None => DiskManagerMode::OsTmpDirectory,
        };
        let total = Arc::new(Total {
            setting: total_setting,
            limit_bytes: AtomicUsize::new(limits.memory_bytes),
            used_bytes: AtomicUsize::new(0),
        });
        let statement_bytes = statement_bytes(limits);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(StatementPool::below(
                &total,
                None,
                statement_bytes,
                statement_setting,
            ))
            .with_metadata_cache_limit(limits.footer_cache_bytes)
            .with_disk_manager_builder(
                DiskManagerBuilder::default()
                    .with_mode(mode)
                    .with_max_temp_directory_size(limits.spill_bytes),
            )
            .build_arc()
            .map_err(from_engine)?;
        let _folder = limits.spill_directory.clone().map(SpillFolder);
        let roles = Roles::default();
        Ok(Memory { runtime, total, statement_bytes, statement_setting, roles, _folder })
    }

    /// What plans are made with.
    pub(crate) fn planning(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// What one statement runs with.
    pub(crate) fn statement(&self) -> Arc<RuntimeEnv> {
        let (bytes, setting) = (self.statement_bytes, self.statement_setting);
        self.runtime_with(StatementPool::below(&self.total, None, bytes, setting))
    }

    /// What a wire holds by, until it is dropped.
    pub(crate) fn held(&self) -> Held {
        let (bytes, setting) = (self.statement_bytes, self.statement_setting);
        Held::of(&StatementPool::below(&self.total, None, bytes, setting))
    }

    /// What one statement of `role` runs with, whose statements may hold `limit_bytes` together: those
    /// that run already, too, when they ask for more.
    pub(crate) fn statement_of(&self, role: Oid, limit_bytes: Option<u64>) -> Arc<RuntimeEnv> {
        let limit_bytes = limit_bytes.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX);
        let of_role = self.of_role(role);
        of_role.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        let (bytes, setting) = match limit_bytes < self.statement_bytes {
            true => (limit_bytes, ROLE),
            false => (self.statement_bytes, self.statement_setting),
        };
        self.runtime_with(StatementPool::below(&self.total, Some(of_role), bytes, setting))
    }

    /// What the statements of a role hold now.
    pub(crate) fn held_by(&self, role: Oid) -> u64 {
        let total = self.roles().get(&role).and_then(Weak::upgrade);
        let used = total.map_or(0, |total| total.used_bytes.load(Ordering::Relaxed));
        u64::try_from(used).unwrap_or(u64::MAX)
    }

    fn of_role(&self, role: Oid) -> Arc<Total> {
        let mut roles = self.roles();
        if let Some(total) = roles.get(&role).and_then(Weak::upgrade) {
            return total;
        }
        roles.retain(|_, total| total.strong_count() > 0);
        let total = Arc::new(Total {
            setting: ROLE,
            limit_bytes: AtomicUsize::new(usize::MAX),
            used_bytes: AtomicUsize::new(0),
        });
        roles.insert(role, Arc::downgrade(&total));
        total
    }

    fn roles(&self) -> MutexGuard<'_, HashMap<Oid, Weak<Total>>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runtime_with(&self, memory_pool: Arc<dyn MemoryPool>) -> Arc<RuntimeEnv> {
        Arc::new(RuntimeEnv { memory_pool, ..RuntimeEnv::clone(&self.runtime) })
    }
}

/// What one statement may hold: its own limit, but never more than there is for all.
pub(crate) fn statement_bytes(limits: &Limits) -> usize {
    limits.query_memory_bytes.min(limits.memory_bytes)
}

/// What a plan of `session` is run with: the memory of its statement.
pub(crate) fn task_context(session: &SessionState) -> Arc<TaskContext> {
    let runtime = session.config().get_extension::<RuntimeEnv>();
    Arc::new(TaskContext::new(
        None,
        session.session_id().to_owned(),
        session.config().clone(),
        session.scalar_functions().clone(),
        session.higher_order_functions().clone(),
        session.aggregate_functions().clone(),
        session.window_functions().clone(),
        runtime.unwrap_or_else(|| Arc::clone(session.runtime_env())),
    ))
}

/// Makes the folder, for this account alone, and removes what an earlier run of this server could
/// not. It is this server's own, and yet nothing is touched but what the engine made.
fn prepare(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(SPILL_FOLDER_PREFIX);
        if ours && entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn unusable(folder: &Path, error: std::io::Error) -> Error {
    let folder = folder.display();
    Error::new(Kind::Io, format!("could not use folder \"{folder}\": {}", error.kind()))
        .with_hint("Statements spill to limits.spill_directory.")
        .with_source(error)
}

impl Total {
    /// Takes `bytes` if they are there.
    fn try_take(&self, bytes: usize) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= limit);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn spent(&self) -> Spent {
        let used = self.used_bytes.load(Ordering::Relaxed);
        Spent { used, limit: self.limit_bytes.load(Ordering::Relaxed) }
    }
}

impl StatementPool {
    fn below(
        total: &Arc<Total>,
        role: Option<Arc<Total>>,
        limit_bytes: usize,
        setting: &'static str,
    ) -> Arc<dyn MemoryPool> {
        let own = Sharing::new(limit_bytes);
        Arc::new(StatementPool { own, setting, total: Arc::clone(total), role })
    }

    /// Everything around the statement that it takes from, the largest first.
    fn around(&self) -> impl Iterator<Item = &Arc<Total>> {
        std::iter::once(&self.total).chain(&self.role)
    }
}

impl MemoryPool for StatementPool {
    fn name(&self) -> &str {
        "statement"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        for total in self.around() {
            total.used_bytes.fetch_add(additional, Ordering::Relaxed);
        }
        self.own.give(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.take_back(reservation, shrink);
        self.around().for_each(|total| total.give_back(shrink));
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> PoolResult<()> {
        for (at, total) in self.around().enumerate() {
            if !total.try_take(additional) {
                self.around().take(at).for_each(|taken| taken.give_back(additional));
                return Err(refused(total.setting, reservation, additional, &total.spent()));
            }
        }
        self.own.try_give(reservation, additional).map_err(|spent| {
            self.around().for_each(|total| total.give_back(additional));
            refused(self.setting, reservation, additional, &spent)
        })
    }

    fn reserved(&self) -> usize {
        self.own.used()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.own.limit())
    }
}

impl fmt::Display for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.own.used(), self.own.limit())
    }
}

/// Operators look for this variant of error to know that they have to spill.
fn refused(
    setting: &str,
    reservation: &MemoryReservation,
    additional: usize,
    spent: &Spent,
) -> DataFusionError {
    DataFusionError::ResourcesExhausted(format!(
        "{setting}: {} asked for {} more, and {} of the {} there are for it are in use",
        reservation.consumer().name(),
        human_readable_size(additional),
        human_readable_size(spent.used),
        human_readable_size(spent.limit),
    ))
}
