//! Where in a file a reader stands, and whether the file is still the same.

use std::path::Path;
use std::time::UNIX_EPOCH;

use kho_catalog::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use tokio::fs::File;

use crate::source::Offset;

/// What a file looked like when it was opened; a change of either is a change of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub size: u64,
    /// Microseconds since the epoch; files from before it count as of the epoch.
    pub modified_us: u64,
}

/// The content of a file's [`Offset`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    rows: usize,
    #[serde(flatten)]
    stamp: Stamp,
}

/// Opens a plain file for reading, with its stamp.
pub(super) async fn open(path: &Path) -> Result<(File, Stamp)> {
    let file = File::open(path).await.map_err(|error| unreadable(path, error))?;
    let about = file.metadata().await.map_err(|error| unreadable(path, error))?;
    // A folder reads as nothing and a pipe may never end: neither is a file of data.
    if !about.is_file() {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!("\"{}\" is not a file", path.display()),
        ));
    }
    let modified = about.modified().map_err(|error| unreadable(path, error))?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    Ok((file, Stamp { size: about.len(), modified_us }))
}

/// The offset after `rows` rows of the file that looked like `stamp`.
pub(super) fn offset(rows: usize, stamp: Stamp) -> Result<Offset> {
    Ok(Offset::new(serde_json::to_string(&Place { rows, stamp })?))
}

/// How many rows lie before `after`.
///
/// # Errors
/// `22023` for another source's offset, `55000` when the file changed since.
pub(super) fn rows_before(after: Option<&Offset>, stamp: Stamp, path: &Path) -> Result<usize> {
    let Some(after) = after else {
        return Ok(0);
    };
    let place: Place = serde_json::from_str(after.as_str()).map_err(|error| {
        Error::new(Kind::InvalidParameterValue, "the offset is not one of a file")
            .with_source(error)
    })?;
    if place.stamp != stamp {
        return Err(changed(path));
    }
    Ok(place.rows)
}

/// The file is not the one that was opened.
pub(super) fn changed(path: &Path) -> Error {
    Error::new(
        Kind::NotInPrerequisiteState,
        format!("file \"{}\" was changed since it was opened", path.display()),
    )
    .with_hint("Load it from its beginning.")
}

/// The operating system refused to give the file's bytes.
pub(super) fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let message = format!("could not read file \"{}\": {}", path.display(), error.kind());
    Error::new(Kind::Io, message).with_source(error)
}
