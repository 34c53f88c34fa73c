//! The warehouse's store with one table's log continued in memory.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

/// The warehouse's store with one table's log continued in memory.
#[derive(Debug)]
pub(super) struct Overlay {
    pub below: Arc<dyn ObjectStore>,
    pub log: Arc<InMemory>,
    /// The table's log.
    pub folder: Path,
    /// The last entry that is not the branch's.
    pub last_below: Path,
}

impl Overlay {
    fn is_log(&self, location: &Path) -> bool {
        location.prefix_matches(&self.folder)
    }

    async fn holds(&self, location: &Path) -> bool {
        self.is_log(location) && self.log.head(location).await.is_ok()
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overlay({})", self.below)
    }
}

#[async_trait]
impl ObjectStore for Overlay {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        match self.is_log(location) {
            true => self.log.put_opts(location, payload, options).await,
            false => self.below.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.below.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        match self.holds(location).await {
            true => self.log.get_opts(location, options).await,
            false => self.below.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        match self.holds(location).await {
            true => self.log.get_ranges(location, ranges).await,
            false => self.below.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.below.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        merged(self.below.list(prefix), self.log.list(prefix), self.folder.clone())
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        // Behind the base there is nothing but the branch, and asking costs a request.
        if self.is_log(offset) && *offset >= self.last_below {
            return self.log.list_with_offset(prefix, offset);
        }
        merged(
            self.below.list_with_offset(prefix, offset),
            self.log.list_with_offset(prefix, offset),
            self.folder.clone(),
        )
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.below.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.below.copy_opts(from, to, options).await
    }
}

/// Both listings in the order of paths. Where the branch goes on, what others commit meanwhile
/// under the same numbers is not seen.
fn merged(
    below: BoxStream<'static, StoreResult<ObjectMeta>>,
    log: BoxStream<'static, StoreResult<ObjectMeta>>,
    folder: Path,
) -> BoxStream<'static, StoreResult<ObjectMeta>> {
    let whole = async move {
        let mut ours: Vec<ObjectMeta> = log.try_collect().await?;
        let first = ours.iter().map(|object| object.location.clone()).min();
        let theirs: Vec<ObjectMeta> = below.try_collect().await?;
        let hidden = |object: &ObjectMeta| {
            let log = object.location.prefix_matches(&folder);
            log && first.as_ref().is_some_and(|first| object.location >= *first)
        };
        ours.extend(theirs.into_iter().filter(|object| !hidden(object)));
        ours.sort_by(|one, other| one.location.cmp(&other.location));
        Ok::<_, object_store::Error>(futures::stream::iter(ours.into_iter().map(Ok)))
    };
    futures::stream::once(whole).try_flatten().boxed()
}
