//! Proof that a bucket keeps what commits stand on, before anything is committed to it.
//!
//! # Why
//! Some services that speak S3 pass over `If-None-Match` and store the second object in the place
//! of the first: two servers would then overwrite each other's commits without a sign of it. And
//! the Delta kernel takes a log that is not listed in order for one with gaps.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use uuid::Uuid;

use crate::error::{Error, Kind, Result};

const FOLDER: &str = "probe";
const SAID_CHARACTERS_MAX: usize = 500;

/// Puts two objects under names nobody else has, tries to put them again, lists and removes them.
///
/// # Errors
/// `58030` where the bucket cannot be reached or written, or does not keep the promise.
pub(super) async fn prove(store: &dyn ObjectStore) -> Result<()> {
    let folder = Path::from_iter([FOLDER, &Uuid::new_v4().simple().to_string()]);
    let names = ["first", "second"].map(|name| folder.clone().join(name));
    let proved = prove_in(store, &folder, &names).await;
    for name in &names {
        match store.delete(name).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(error) if proved.is_ok() => return Err(unusable("remove from", error)),
            // What does not answer is not asked twice.
            Err(_) => break,
        }
    }
    proved
}

async fn prove_in(store: &dyn ObjectStore, folder: &Path, names: &[Path; 2]) -> Result<()> {
    // The second first: an order of arrival must not pass for an order of names.
    for name in names.iter().rev() {
        match create(store, name, "one").await {
            // "Exists" is our own put, whose answer was lost and which the client sent again.
            Ok(()) | Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(unusable("write to", error)),
        }
        match create(store, name, "two").await {
            Err(StoreError::AlreadyExists { .. }) => {}
            Ok(()) => return Err(refused("overwrites an object that must not be overwritten")),
            Err(error) => return Err(unusable("write to", error)),
        }
    }
    let [first, second] = names;
    let read = |error| unusable("read", error);
    let bytes = store.get(second).await.map_err(read)?.bytes().await.map_err(read)?;
    if bytes.as_ref() != b"one" {
        return Err(refused("overwrites an object that must not be overwritten"));
    }
    let list = |error| unusable("list", error);
    let all: Vec<ObjectMeta> = store.list(Some(folder)).try_collect().await.map_err(list)?;
    let later: Vec<ObjectMeta> =
        store.list_with_offset(Some(folder), first).try_collect().await.map_err(list)?;
    let in_order = all.iter().map(|it| &it.location).eq(names.iter());
    if !in_order || !later.iter().map(|it| &it.location).eq([second]) {
        return Err(refused("does not list its objects at once and in the order of their names"));
    }
    Ok(())
}

async fn create(
    store: &dyn ObjectStore,
    name: &Path,
    text: &'static str,
) -> object_store::Result<()> {
    let options = PutOptions::from(PutMode::Create);
    store.put_opts(name, PutPayload::from_static(text.as_bytes()), options).await.map(drop)
}

/// What the service said goes to the operator, who starts the server; no request's signature is
/// in it.
fn unusable(what: &str, error: StoreError) -> Error {
    let said = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Error::new(Kind::Io, format!("could not {what} the warehouse's bucket"))
        .with_detail(said.chars().take(SAID_CHARACTERS_MAX).collect::<String>())
        .with_hint(
            "Check bucket, region, endpoint and credentials; they need the rights to get, put, \
             delete and list objects.",
        )
        .with_source(error)
}

fn refused(what: &str) -> Error {
    Error::new(Kind::Io, "the warehouse's bucket cannot be used: its service has a flaw")
        .with_detail(format!("It {what}."))
        .with_hint(
            "Use a service that honours If-None-Match on PUT, as AWS S3, MinIO, Ceph and \
             Cloudflare R2 do.",
        )
}
