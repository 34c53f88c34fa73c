//! The keys of the warehouse's ledger: where they are kept.
//!
//! What it is: the text of [`kho_catalog::audit::Keys`] in the file `ledger.key` of the keys'
//! folder, made at the first start, or wherever `keys.ledger` says (`env:NAME`, `file:PATH`).
//! What it guarantees: the file is made with mode 0600, durably, and refused when everyone can read
//! it; one that is there is never overwritten; of several servers that start at one time on one
//! folder all use the same keys.
//! What it does not: it makes none where the warehouse has a ledger already: who lost the keys is
//! told so, since new ones would not verify what was signed.
//! On failure: `F0000` naming the file and what to do.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use kho_catalog::audit::Keys;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::log::Catalog;

use crate::config::Config;
use crate::tls::refuse_open_key;

/// The name of the file that a first start makes.
pub const LEDGER_FILE: &str = "ledger.key";

/// The keys of the ledger of the warehouse that `catalog` is of; those of a new one are made.
pub async fn of_warehouse(config: &Config, catalog: &Catalog) -> Result<Keys> {
    let path = config.keys_directory().join(LEDGER_FILE);
    if config.keys.ledger.is_none() && !path.exists() {
        if let Some(public) = catalog.fresh().await?.ledger.keys.last() {
            let message = format!("the ledger's key file {} is missing", path.display());
            return Err(Error::new(Kind::ConfigFile, message)
                .with_detail(format!("The warehouse's ledger is signed by the key {public}."))
                .with_hint("Put the file back, or copy it from another server of the warehouse."));
        }
        create(&path).map_err(|error| unusable(&path, error))?;
    }
    load(config)
}

/// The keys of the ledger, which are there.
pub fn load(config: &Config) -> Result<Keys> {
    if let Some(name) = &config.keys.ledger {
        return Keys::parse(&name.secret("keys.ledger")?);
    }
    let path = config.keys_directory().join(LEDGER_FILE);
    let text = fs::read_to_string(&path).map_err(|error| unusable(&path, error))?;
    refuse_open_key(&path)?;
    Keys::parse(&text)
}

/// Written under another name first: whoever finds the file finds all of it.
fn create(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let text = Keys::generate().map_err(|_| ErrorKind::Other)?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    // A link is made where none is: another server may have been faster, and its keys hold.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(folder)?.sync_all(),
    }
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    let message =
        format!("the ledger's key file {} cannot be used: {}", path.display(), error.kind());
    Error::new(Kind::ConfigFile, message).with_source(error)
}
