//! The client of one bucket, with two answers of the service made plain.
//!
//! # Why
//! "Not found" is said of an object and of its whole bucket alike: a bucket that has vanished
//! would read as a catalog log that ends, and as a table without commits. And a put-if-absent that
//! meets another in flight is answered `409`, which the client takes for "exists" although nothing
//! may be there. Here "not found" is about the object alone, and "exists" was looked at.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use super::S3Options;
use crate::error::{Error as KhoError, Kind};

/// A put that meets another in flight is repeated this often; each time the other may have failed.
const CONFLICTS_MAX: usize = 5;
/// The code by which the service says that the bucket is not there.
const NO_SUCH_BUCKET: &str = "NoSuchBucket";

#[derive(Debug)]
pub(super) struct Bucket {
    inner: AmazonS3,
}

impl Bucket {
    pub(super) fn open(name: &str, options: &S3Options) -> crate::error::Result<Bucket> {
        let inner = options.builder(name)?.build().map_err(|error| {
            // The client names the key it cannot read, and never a secret.
            KhoError::new(Kind::ConfigFile, "the settings of S3 cannot be used")
                .with_detail(error.to_string())
        })?;
        Ok(Bucket { inner })
    }

    /// Tells an absent object from an absent bucket, of which the answer to `HEAD` cannot speak.
    async fn explained(&self, error: Error, location: &Path, head: bool) -> Error {
        if !head || !matches!(error, Error::NotFound { .. }) {
            return plain(error);
        }
        let first_byte = GetOptions::new().with_range(Some(GetRange::Bounded(0..1)));
        match self.inner.get_opts(location, first_byte).await {
            Err(Error::NotFound { path, source }) => plain(Error::NotFound { path, source }),
            // It was put in between, or the service has failed: what was true at first stays so.
            _ => error,
        }
    }
}

/// Where the bucket is what was not found, the error is not one about an object.
fn plain(error: Error) -> Error {
    match error {
        Error::NotFound { source, .. } if source.to_string().contains(NO_SUCH_BUCKET) => {
            Error::Generic { store: "S3", source }
        }
        other => other,
    }
}

/// A listing of what is not there is empty; one that is "not found" has lost its bucket.
fn listed(error: Error) -> Error {
    match error {
        Error::NotFound { source, .. } => Error::Generic { store: "S3", source },
        other => other,
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let create = options.mode == PutMode::Create;
        let mut conflicts = 0;
        loop {
            let put = self.inner.put_opts(location, payload.clone(), options.clone()).await;
            match put {
                Err(exists @ Error::AlreadyExists { .. }) if create => {
                    match self.inner.head(location).await {
                        Ok(_) => return Err(exists),
                        Err(Error::NotFound { .. }) if conflicts < CONFLICTS_MAX => conflicts += 1,
                        Err(error) => return Err(plain(error)),
                    }
                }
                put => return put.map_err(plain),
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await.map_err(plain)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        match self.inner.get_opts(location, options).await {
            Ok(found) => Ok(found),
            Err(error) => Err(self.explained(error, location, head).await),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await.map_err(plain)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations).map(|it| it.map_err(plain)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix).map(|it| it.map_err(listed)).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset).map(|it| it.map_err(listed)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await.map_err(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await.map_err(plain)
    }
}
