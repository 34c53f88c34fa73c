//! A bucket as the place of a warehouse: `s3://bucket/prefix`, by `object_store`'s own client.
//!
//! What it is: [`S3Options`] says how to reach the service; [`open`] makes the store and proves it.
//! What it guarantees: a bucket is used only if it honours put-if-absent and lists in the order of
//! names, which is tried at every start; nothing leaves the machine in plain text unless that was
//! asked for; a service that does not answer is an error after a time that is set.
//! What it does not: it makes no bucket, and removes no unfinished upload of a writer that was
//! killed (a life cycle rule of the bucket does).
//! On failure: `F0000` for what cannot be obeyed, `22023` for a location that names no bucket,
//! `58030` for a bucket that cannot be used, with what to do.

mod bucket;
mod options;
mod probe;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

pub use self::options::S3Options;
use crate::error::{Error, Kind, Result};

/// A bucket, and the folder in it that is the warehouse's root.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    bucket: String,
    prefix: Path,
}

/// Opens the root at `location`, and gives its URL. Nothing is used before it was proved.
pub(super) async fn open(
    location: &str,
    options: &S3Options,
) -> Result<(Arc<dyn ObjectStore>, Url)> {
    let place = Place::parse(location)?;
    let bucket = bucket::Bucket::open(&place.bucket, options)?;
    let url = place.url()?;
    let store: Arc<dyn ObjectStore> = match place.prefix.as_ref().is_empty() {
        true => Arc::new(bucket),
        false => Arc::new(PrefixStore::new(bucket, place.prefix)),
    };
    probe::prove(store.as_ref()).await?;
    Ok((store, url))
}

impl Place {
    fn parse(location: &str) -> Result<Place> {
        let url = Url::parse(location).map_err(|_| invalid())?;
        let odd = url.port().is_some() || url.query().is_some() || url.fragment().is_some();
        let secret = !url.username().is_empty() || url.password().is_some();
        if secret || odd || url.scheme() != "s3" {
            return Err(invalid());
        }
        let bucket = url.host_str().filter(|name| is_bucket(name)).ok_or_else(invalid)?.to_owned();
        let prefix = Path::from_url_path(url.path()).map_err(|error| {
            Error::new(Kind::InvalidParameterValue, "invalid prefix in the bucket")
                .with_source(error)
        })?;
        Ok(Place { bucket, prefix })
    }

    fn url(&self) -> Result<Url> {
        let slash = if self.prefix.as_ref().is_empty() { "" } else { "/" };
        Url::parse(&format!("s3://{}/{}{slash}", self.bucket, self.prefix))
            .map_err(|error| Error::internal("a bucket's location is no URL").with_source(error))
    }
}

/// The names that S3 gives: lower case, so that a URL does not change them.
fn is_bucket(name: &str) -> bool {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    let edge = |byte: Option<&u8>| byte.is_some_and(|it| it.is_ascii_alphanumeric());
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| inner(*byte))
        && edge(bytes.first())
        && edge(bytes.last())
}

/// The location is not repeated: somebody may have put a secret into it.
fn invalid() -> Error {
    Error::new(Kind::InvalidParameterValue, "invalid location for a warehouse on S3")
        .with_hint("Write s3://bucket or s3://bucket/prefix, without user, port or parameters.")
}
