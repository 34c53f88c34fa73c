//! The demo's folder: `data/`, `keys/`, and `demo.json`, which says that it is one.
//!
//! `demo.json` is written before anything else and again when all is built, so that a demo that was
//! killed half-way is known for what it is.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use kho_catalog::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// Raised whenever what the demo builds changes: an older one is then built anew.
const FORMAT: u32 = 1;
const MARKER: &str = "demo.json";
const LOCK: &str = "demo.lock";
const UNFINISHED_MARKER: &str = "demo.json.new";
const PARTS: [&str; 3] = ["data", "keys", "import"];

/// What must be known of a built demo to show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    format: u32,
    complete: bool,
    /// Whether the operator chose the password of `admin`; it is then not the printed one.
    pub admin_password_given: bool,
    /// A moment after all readings were loaded and before any was corrected, as a `timestamptz`.
    pub before_correction: String,
}

/// What a folder holds.
pub(super) enum Found {
    Nothing,
    Unfinished,
    Whole(Facts),
}

pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, made if it is not there.
    pub fn open(path: &Path) -> Result<Folder> {
        let failed = |error: std::io::Error| {
            let message = format!("could not make folder \"{}\": {}", path.display(), error.kind());
            Error::new(Kind::Io, message).with_source(error)
        };
        fs::create_dir_all(path).map_err(failed)?;
        Ok(Folder { path: path.canonicalize().map_err(failed)? })
    }

    /// Takes the folder for this process, for as long as the file is kept. A folder that is not a
    /// demo's is left as it is.
    ///
    /// # Errors
    /// `55006` when another process has it; what [`Folder::look`] says.
    pub fn lock(&self) -> Result<fs::File> {
        self.look()?;
        let file = fs::File::create(self.path.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                let path = self.path.display();
                Err(Error::new(
                    Kind::ObjectInUse,
                    format!("the demo in \"{path}\" is used by another process"),
                ))
            }
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// `55000` when it holds anything that no demo made.
    pub fn look(&self) -> Result<Found> {
        let text = match fs::read(self.marker()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // What this very start has put there, or one that was killed, is no content.
                let ours = [LOCK, UNFINISHED_MARKER].map(OsString::from);
                let mut other = fs::read_dir(&self.path)?.filter(|entry| {
                    !entry.as_ref().is_ok_and(|entry| ours.contains(&entry.file_name()))
                });
                return match other.next() {
                    None => Ok(Found::Nothing),
                    Some(_) => Err(self.foreign()),
                };
            }
            Err(error) => return Err(error.into()),
        };
        let facts: Facts =
            serde_json::from_slice(&text).map_err(|error| self.foreign().with_source(error))?;
        match facts.complete && facts.format == FORMAT {
            true => Ok(Found::Whole(facts)),
            false => Ok(Found::Unfinished),
        }
    }

    /// Removes what a demo made.
    pub fn clear(&self) -> Result<()> {
        for part in PARTS {
            match fs::remove_dir_all(self.path.join(part)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Marks the folder as a demo that is being built.
    pub fn begin(&self, admin_password_given: bool) -> Result<Facts> {
        let facts = Facts {
            format: FORMAT,
            complete: false,
            admin_password_given,
            before_correction: String::new(),
        };
        self.write(&facts)?;
        Ok(facts)
    }

    /// Marks the demo as built.
    pub fn finish(&self, facts: Facts) -> Result<Facts> {
        let facts = Facts { complete: true, ..facts };
        self.write(&facts)?;
        Ok(facts)
    }

    pub fn data(&self) -> Result<String> {
        let path = self.path.join("data");
        path.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!("folder \"{}\" has a name that is not Unicode", path.display());
            Error::new(Kind::InvalidParameterValue, message)
        })
    }

    pub fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// Where files lie between being generated and being loaded.
    pub fn import(&self) -> PathBuf {
        self.path.join("import")
    }

    fn marker(&self) -> PathBuf {
        self.path.join(MARKER)
    }

    fn write(&self, facts: &Facts) -> Result<()> {
        let unfinished = self.path.join(UNFINISHED_MARKER);
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec_pretty(facts)?)?;
        file.sync_all()?;
        Ok(fs::rename(unfinished, self.marker())?)
    }

    fn foreign(&self) -> Error {
        let message = format!("folder \"{}\" holds something else", self.path.display());
        Error::new(Kind::NotInPrerequisiteState, message)
            .with_hint("Name an empty folder with --data.")
    }
}
