//! The files of one folder behind a name.
//!
//! # Why
//! A table's log is asked for what is new after every commit. The walk of `LocalFileSystem` makes a
//! path of every name in the folder first; here a name that is not asked for costs a comparison.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path as FsPath;

use object_store::ObjectMeta;
use object_store::path::Path;

use super::is_leftover;

/// The files of `folder` whose names come behind that of `offset`, a path within `prefix`. `None`
/// where the folder holds more than plainly named files: then it is to be walked.
pub(super) fn behind(
    folder: &FsPath,
    prefix: &Path,
    offset: &Path,
) -> io::Result<Option<Vec<ObjectMeta>>> {
    let within = offset.prefix_match(prefix).map(|parts| parts.count());
    let Some(after) = offset.filename().filter(|_| within == Some(1)) else { return Ok(None) };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(Vec::new())),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_plain(name)) else { return Ok(None) };
        if !entry.file_type()?.is_file() {
            return Ok(None);
        }
        if name <= after || is_leftover(name) {
            continue;
        }
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        found.push(ObjectMeta {
            location: prefix.clone().join(name),
            last_modified: metadata.modified()?.into(),
            size: metadata.len(),
            e_tag: None,
            version: None,
        });
    }
    Ok(Some(found))
}

/// Whether a name is the same as a part of a path, and sorts the same.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.#".contains(&byte))
}
