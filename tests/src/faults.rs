//! A store that fails where it is told to, and a store that is cut off.
//!
//! What it is: [`FaultyStore`] stands between a server and its store. Its [`Fault`]s are planned
//! by area and number ("the third write below a Delta log"), so that one seed is one run.
//! What it guarantees: a write that fails before has no effect, one that fails after has all of
//! it, a late one has it some operations later; after a cut nothing goes through, neither way.
//! What it does not: it corrupts no object; a store that lies is not what Kho is built for.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What an object is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Entries, bodies and checkpoints of the catalog.
    Catalog,
    Ledger,
    /// Commits and checkpoints of tables.
    Log,
    /// Files of rows.
    Data,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, or read.
    Before,
    /// It is written, and the answer is lost.
    After,
    /// It is written only after this many further operations, long after the answer was given up.
    Late(u32),
    /// It waits this many turns of other tasks, and then succeeds.
    Delay(u32),
    /// As [`Fault::Before`], and half of the bytes stay under a temporary name, where the store is
    /// a folder.
    Torn,
}

/// Which operation fails.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub area: Area,
    pub access: Access,
    /// The first is 0.
    pub nth: u32,
    pub fault: Fault,
    /// Whether the store is cut off by it, as by the server's end.
    pub cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// A store behind planned faults.
#[derive(Debug)]
pub struct FaultyStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn ObjectStore>,
    /// Where torn files are left.
    folder: Option<PathBuf>,
    cut: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    plan: Vec<Planned>,
    /// Operations seen, by area and access.
    seen: Vec<(Area, Access, u32)>,
    late: Vec<Late>,
}

/// A write under way without anyone waiting for it.
#[derive(Debug)]
struct Late {
    after: u32,
    location: Path,
    payload: PutPayload,
    options: PutOptions,
}

impl FaultyStore {
    pub fn new(
        inner: &Arc<dyn ObjectStore>,
        folder: Option<PathBuf>,
        plan: Vec<Planned>,
    ) -> FaultyStore {
        let state = Mutex::new(State { plan, ..State::default() });
        let (inner, cut) = (Arc::clone(inner), AtomicBool::new(false));
        FaultyStore { shared: Arc::new(Shared { inner, folder, cut, state }) }
    }

    /// From now on nothing goes through, as when the server has ended.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
    }

    /// Plans one fault more.
    pub fn plan(&self, planned: Planned) {
        self.shared.state().plan.push(planned);
    }

    /// Lets every late write arrive.
    pub async fn settle(&self) {
        let late = std::mem::take(&mut self.shared.state().late);
        self.shared.arrive(late).await;
    }

    /// How many operations of an area were seen.
    pub fn seen(&self, area: Area, access: Access) -> u32 {
        let state = self.shared.state();
        let mut seen = state.seen.iter().filter(|it| it.0 == area && it.1 == access);
        seen.next().map_or(0, |it| it.2)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<()> {
        if self.cut.load(Ordering::SeqCst) { Err(failure("the store is cut off")) } else { Ok(()) }
    }

    /// Counts an operation, and says what becomes of it; one that has only to wait has waited.
    async fn fault(&self, location: &Path, access: Access) -> Result<Option<Planned>> {
        self.check()?;
        let late = self.state().due();
        self.arrive(late).await;
        let planned = self.state().next(area(location), access);
        let Some(planned) = planned else { return Ok(None) };
        if let Fault::Delay(turns) = planned.fault {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            return Ok(None);
        }
        Ok(Some(planned))
    }

    /// Fails as planned, having had no effect.
    async fn fail(&self, location: &Path, access: Access) -> Result<()> {
        match self.fault(location, access).await? {
            None => Ok(()),
            Some(planned) => Err(self.lost(planned)),
        }
    }

    /// What the caller is told.
    fn lost(&self, planned: Planned) -> Error {
        self.cut.fetch_or(planned.cut, Ordering::SeqCst);
        failure("told to fail")
    }

    /// A write, with what is planned for it.
    async fn put(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let Some(planned) = self.fault(location, Access::Write).await? else {
            return self.inner.put_opts(location, payload, options).await;
        };
        match planned.fault {
            Fault::After => drop(self.inner.put_opts(location, payload, options).await?),
            Fault::Late(after) => {
                let location = location.clone();
                self.state().late.push(Late { after, location, payload, options });
            }
            Fault::Torn => self.tear(location, &payload),
            Fault::Before | Fault::Delay(_) => {}
        }
        Err(self.lost(planned))
    }

    async fn arrive(&self, late: Vec<Late>) {
        for it in late {
            // It may find its place taken, and nobody is told.
            drop(self.inner.put_opts(&it.location, it.payload, it.options).await);
        }
    }

    fn tear(&self, location: &Path, payload: &PutPayload) {
        let Some(folder) = &self.folder else { return };
        let path = folder.join(format!("{location}#18446744073709551615"));
        let bytes: Vec<u8> = payload.iter().flat_map(|part| part.iter().copied()).collect();
        let half = &bytes[..bytes.len() / 2];
        // A folder that is not there yet is as likely a thing to find as a torn file.
        drop(std::fs::write(path, half));
    }
}

impl State {
    /// Counts one operation, and takes the fault that is planned for it.
    fn next(&mut self, area: Area, access: Access) -> Option<Planned> {
        let place = self.seen.iter().position(|it| it.0 == area && it.1 == access);
        let place = place.unwrap_or_else(|| {
            self.seen.push((area, access, 0));
            self.seen.len() - 1
        });
        let nth = self.seen[place].2;
        self.seen[place].2 += 1;
        let here = |it: &Planned| it.area == area && it.access == access && it.nth == nth;
        let at = self.plan.iter().position(here)?;
        Some(self.plan.remove(at))
    }

    /// The late writes whose time has come.
    fn due(&mut self) -> Vec<Late> {
        for late in &mut self.late {
            late.after = late.after.saturating_sub(1);
        }
        self.late.extract_if(.., |late| late.after == 0).collect()
    }
}

fn area(location: &Path) -> Area {
    let path = location.as_ref();
    if path.starts_with("catalog/") {
        Area::Catalog
    } else if path.starts_with("audit/") {
        Area::Ledger
    } else if path.contains("/_delta_log/") {
        Area::Log
    } else {
        Area::Data
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "FaultyStore", source: what.into() }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.shared.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.shared.put(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.shared.check()?;
        let inner = self.shared.inner.put_multipart_opts(location, options).await?;
        let (shared, location) = (Arc::clone(&self.shared), location.clone());
        Ok(Box::new(Upload { shared, location, inner }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.shared.fail(location, Access::Read).await?;
        self.shared.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.shared.fail(location, Access::Read).await?;
        self.shared.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.shared.check() {
            Ok(()) => self.shared.inner.delete_stream(locations),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (shared, prefix) = (Arc::clone(&self.shared), prefix.cloned());
        let listed = async move {
            let place = prefix.clone().unwrap_or_default().join("*");
            shared.fail(&place, Access::Read).await?;
            Ok::<_, Error>(shared.inner.list(prefix.as_ref()))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let place = prefix.cloned().unwrap_or_default().join("*");
        self.shared.fail(&place, Access::Read).await?;
        self.shared.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.shared.fail(to, Access::Write).await?;
        self.shared.inner.copy_opts(from, to, options).await
    }
}

/// An upload in parts, whose end is the write that can fail.
#[derive(Debug)]
struct Upload {
    shared: Arc<Shared>,
    location: Path,
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.shared.check() {
            Ok(()) => self.inner.put_part(data),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Some(planned) = self.shared.fault(&self.location, Access::Write).await? else {
            return self.inner.complete().await;
        };
        if planned.fault == Fault::After {
            self.inner.complete().await?;
        }
        Err(self.shared.lost(planned))
    }

    async fn abort(&mut self) -> Result<()> {
        self.shared.check()?;
        self.inner.abort().await
    }
}
