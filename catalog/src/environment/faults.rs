//! For tests: a store whose writes and reads fail when told to.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// When a put fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Before,
    After,
}

#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    puts: Mutex<VecDeque<(&'static str, Fault)>>,
    down: AtomicBool,
}

impl FaultyStore {
    pub(crate) fn over(inner: &Arc<dyn ObjectStore>) -> Arc<FaultyStore> {
        let inner = Arc::clone(inner);
        Arc::new(FaultyStore { inner, puts: Mutex::default(), down: AtomicBool::new(false) })
    }

    /// The next put below `prefix` that no earlier call is about fails like this.
    pub(crate) fn fail_put(&self, prefix: &'static str, fault: Fault) {
        self.puts.lock().unwrap_or_else(PoisonError::into_inner).push_back((prefix, fault));
    }

    /// While down, nothing is put and nothing is read.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    fn check(&self) -> Result<()> {
        if self.down.load(Ordering::SeqCst) { Err(failure()) } else { Ok(()) }
    }

    fn fault(&self, location: &Path) -> Option<Fault> {
        let mut puts = self.puts.lock().unwrap_or_else(PoisonError::into_inner);
        let at = puts.iter().position(|(prefix, _)| location.as_ref().starts_with(prefix))?;
        puts.remove(at).map(|(_, fault)| fault)
    }
}

fn failure() -> Error {
    Error::Generic { store: "FaultyStore", source: "told to fail".into() }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
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
        self.check()?;
        let fault = self.fault(location);
        if fault == Some(Fault::Before) {
            return Err(failure());
        }
        let put = self.inner.put_opts(location, payload, options).await?;
        if fault == Some(Fault::After) { Err(failure()) } else { Ok(put) }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.check()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
