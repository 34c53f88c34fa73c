//! Small files of open transactions: in memory, until one of them is to be part of a version.
//!
//! # Why
//! A transaction of a thousand `INSERT`s writes a thousand files that are put together when it
//! commits. No version ever names them, nobody else reads them, and each would cost a write to
//! disk or a request to a bucket.
//!
//! What it is: [`Held`] lies over the store and answers for the files that are held; a [`Hold`] is
//! one transaction's right to have files there.
//! What it guarantees: a held file is read like any other, by its place; it is durable once
//! [`Hold::persist`] returned. What is held is bounded: what does not fit goes to the store.
//! What it does not: a listing shows no held files.
//! On failure: a hold that is dropped takes its files along.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// The largest file that is held.
const FILE_BYTES: usize = 256 << 10;
/// What one transaction may hold.
const HOLD_BYTES: usize = 16 << 20;
/// What all transactions of a server may hold together.
const ALL_BYTES: usize = 128 << 20;

/// A store with the files of open transactions before it.
pub(super) struct Held {
    below: Arc<dyn ObjectStore>,
    files: InMemory,
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// The places of files, and their bytes.
type Files = HashMap<Path, usize>;

/// What one transaction holds. As a store it is the same store, but keeps small files in memory.
pub(crate) struct Hold {
    held: Arc<Held>,
    mine: Arc<Mutex<Files>>,
}

impl Held {
    pub(super) fn over(below: Arc<dyn ObjectStore>) -> Arc<Held> {
        let (files, count, bytes) = (InMemory::new(), AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Held { below, files, count, bytes })
    }

    pub(super) fn hold(self: &Arc<Held>) -> Arc<Hold> {
        Arc::new(Hold { held: Arc::clone(self), mine: Arc::default() })
    }

    async fn has(&self, location: &Path) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.files.head(location).await.is_ok()
    }

    /// Removes a file. A store in memory never waits, so nothing is left half done.
    fn release(&self, location: &Path, bytes: usize) {
        if let Some(Err(error)) = self.files.delete(location).now_or_never() {
            tracing::warn!(%error, "a file that was held in memory is not removed");
        }
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Hold {
    /// Writes a file that is held to the store, and holds it no longer. Others are left alone.
    pub(crate) async fn persist(&self, location: &Path) -> Result<()> {
        let Some(bytes) = self.mine().get(location).copied() else { return Ok(()) };
        let file = self.held.files.get(location).await?.bytes().await?;
        self.held.below.put(location, file.into()).await?;
        if self.mine().remove(location).is_some() {
            self.held.release(location, bytes);
        }
        Ok(())
    }

    /// Takes the room for a file; false where there is none.
    fn take_room(&self, bytes: usize) -> bool {
        let mine: usize = self.mine().values().sum();
        if bytes > FILE_BYTES || mine + bytes > HOLD_BYTES {
            return false;
        }
        let more = |all: usize| (all + bytes <= ALL_BYTES).then_some(all + bytes);
        self.held.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn mine(&self) -> MutexGuard<'_, Files> {
        lock(&self.mine)
    }
}

/// A panic elsewhere leaves no file half counted.
fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Hold {
    fn drop(&mut self) {
        for (location, bytes) in std::mem::take(&mut *self.mine()) {
            self.held.release(&location, bytes);
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.below)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({:?})", self.below)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.held)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hold({:?})", self.held)
    }
}

#[async_trait]
impl ObjectStore for Held {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.below.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.below.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.has(location).await {
            true => self.files.get_opts(location, options).await,
            false => self.below.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.has(location).await {
            true => self.files.get_ranges(location, ranges).await,
            false => self.below.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.below.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.below.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.below.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.below.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.below.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.below.rename_opts(from, to, options).await
    }
}

#[async_trait]
impl ObjectStore for Hold {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length();
        if !self.take_room(bytes) {
            return self.held.put_opts(location, payload, options).await;
        }
        // Counted before it is there, so that no reader passes it over.
        self.held.count.fetch_add(1, Ordering::AcqRel);
        self.mine().insert(location.clone(), bytes);
        self.held.files.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.held.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.held.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.held.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (held, mine) = (Arc::clone(&self.held), Arc::clone(&self.mine));
        let deleted = locations.then(move |location| {
            let (held, mine) = (Arc::clone(&held), Arc::clone(&mine));
            async move {
                let location = location?;
                let was_mine = lock(&mine).remove(&location);
                match was_mine {
                    Some(bytes) => held.release(&location, bytes),
                    None => held.delete(&location).await?,
                }
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.held.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.held.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.held.copy_opts(from, to, options).await
    }
}
