//! The keys of the warehouse's ledger: where they are kept.
//!
//! What it is: the text of [`kho_catalog::audit::Keys`] in the file `ledger.key` of the keys'
//! folder, made at the first start, or wherever `keys.ledger` says (`env:NAME`, `file:PATH`).
//! What it guarantees: the file is made with mode 0600, durably, and refused when everyone can read
//! it; one that is there is never overwritten but by [`rotate`]; of several servers that start at one
//! time on one folder all use the same keys. A rotation that was cut off goes on with the next start,
//! or never was.
//! What it does not: it makes none where the warehouse has a ledger already: who lost the keys is
//! told so, since new ones would not verify what was signed.
//! On failure: `F0000` naming the file and what to do.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use kho_catalog::audit::{self, Keys, PublicKey};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::log::Catalog;

use crate::config::Config;
use crate::serve::open_environment;
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
        Keys::generate()
            .and_then(|text| create(&path, &text).map_err(|error| unusable(&path, error)))?;
    }
    let keys = load(config)?;
    let used = catalog.fresh().await?.ledger.keys.last().cloned();
    match used.filter(|used| *used != keys.public().to_string()) {
        Some(used) if config.keys.ledger.is_none() => {
            adopt(&path, &used).map(|it| it.unwrap_or(keys))
        }
        _ => Ok(keys),
    }
}

/// Puts a new signing key in place of the one that is in use: into the catalog log first, which is
/// what counts, and then into the file. Servers that run go on with the old one until they are started
/// anew; what it signed, and signs, stays verified. Gives the new public key.
///
/// # Errors
/// `0A000` where the keys are not in Kho's own file; `F0000` where the warehouse uses others.
pub async fn rotate(config: &Config) -> Result<PublicKey> {
    config.check()?;
    if config.keys.ledger.is_some() {
        let message = "keys that the setting keys.ledger names cannot be rotated";
        return Err(Error::unsupported(message).with_hint(
            "Rotate them where they are kept in ledger.key, and copy the file's text.",
        ));
    }
    let catalog = Catalog::open(open_environment(config).await?, "keys").await?;
    let path = config.keys_directory().join(LEDGER_FILE);
    if !path.exists() {
        return Err(unusable(&path, ErrorKind::NotFound.into()));
    }
    let before = of_warehouse(config, &catalog).await?;
    let text = fs::read_to_string(&path).map_err(|error| unusable(&path, error))?;
    let next = next_to(&path);
    // One that is there already is used: whoever else rotates at this moment uses it, too, and no key
    // is put into the catalog whose private half is in no file.
    create(&next, &Keys::successor(&text)?).map_err(|error| unusable(&next, error))?;
    refuse_open_key(&next)?;
    let text = fs::read_to_string(&next).map_err(|error| unusable(&next, error))?;
    let after = Keys::parse(&text)?;
    audit::rotate(&catalog, &before, &after).await?;
    let adopted = adopt(&path, &after.public().to_string())?;
    match adopted.map_or_else(|| load(config), Ok)?.public() {
        used if used == after.public() => Ok(used),
        _ => {
            let message = format!("{} is not the key that was put in use", path.display());
            Err(Error::new(Kind::ConfigFile, message)
                .with_detail(format!("It is in {}, or was.", next.display())))
        }
    }
}

/// Makes the keys that lie ready the ones of the file, if they are those that the warehouse uses.
fn adopt(path: &Path, used: &str) -> Result<Option<Keys>> {
    let next = next_to(path);
    let text = match fs::read_to_string(&next) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&next, error)),
    };
    refuse_open_key(&next)?;
    let keys = Keys::parse(&text)?;
    if keys.public().to_string() != used {
        return Ok(None);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::rename(&next, path)
        .and_then(|()| fs::File::open(folder)?.sync_all())
        .map_err(|error| unusable(path, error))?;
    Ok(Some(keys))
}

/// Where the next keys lie until they are used.
fn next_to(path: &Path) -> PathBuf {
    path.with_extension("key.next")
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
fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
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
