//! The name under which one server writes into the catalog log and the ledger.
//!
//! What it guarantees: a server that starts again has the name it had, so that its chain in the
//! ledger goes on; of several running servers that share a folder of keys no two have one name.
//! What it does not: it is no secret and proves nothing.
//! On failure: `58030` when the folder cannot be written.
//!
//! # Why
//! The names lie in files that are locked while they are used: a process that is killed gives its
//! name back, without a time-out that could be wrong.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use kho_catalog::error::{Error, Kind, Result};
use uuid::Uuid;

/// More servers than this do not share one folder of keys.
const SERVERS_MAX: usize = 256;

/// A server's name, taken for as long as this is kept.
#[derive(Debug)]
pub struct ServerName {
    name: String,
    _lock: File,
}

impl ServerName {
    /// Takes the first name in `keys` that no running server has, or makes one.
    pub fn take(keys: &Path) -> Result<ServerName> {
        let folder = keys.join("servers");
        let unusable = |error: std::io::Error| {
            let message =
                format!("could not use folder \"{}\": {}", folder.display(), error.kind());
            Error::new(Kind::Io, message).with_source(error)
        };
        // The folder will hold keys too: it is for this account alone.
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(unusable)?;
        for number in 1..=SERVERS_MAX {
            let path = folder.join(number.to_string());
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(path).map_err(unusable)?;
            match file.try_lock() {
                Ok(()) => {
                    let name = name_in(&mut file).map_err(unusable)?;
                    return Ok(ServerName { name, _lock: file });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
        }
        Err(Error::new(
            Kind::ConfigurationLimitExceeded,
            format!("more than {SERVERS_MAX} servers use folder \"{}\"", folder.display()),
        ))
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// The name in `file`; a new one where there is none, or one that was only half written.
fn name_in(file: &mut File) -> std::io::Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if let Ok(known) = Uuid::try_parse(text.trim()) {
        return Ok(known.simple().to_string());
    }
    let name = Uuid::new_v4().simple().to_string();
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    Ok(name)
}
