//! The ledger of a warehouse: opened and kept by a running server, verified by a command.
//!
//! What it guarantees: [`verify`] needs the files and a public key; it starts no server and writes
//! nothing.

use std::time::Duration;

use kho_catalog::audit::{Keeping, PublicKey, Source, Verified};
use kho_catalog::environment::Environment;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::log::Catalog;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::serve::open_environment;

/// Where the ledger lies: sealed in the warehouse, and its journal there or in a folder of its own.
pub(crate) fn source(config: &Config, warehouse: &Environment) -> Result<Source> {
    Ok(match config.journal_directory() {
        Some(directory) => Source::new(warehouse, &Environment::open_folder(&directory)?),
        None => Source::new(warehouse, warehouse),
    })
}

/// Keeps the ledger until `stop`, and gives back what is to be finished when it is closed.
pub(crate) async fn keep(
    mut keeping: Keeping,
    seal_every: Duration,
    stop: CancellationToken,
) -> Keeping {
    keeping.run(seal_every, stop.cancelled_owned()).await;
    keeping
}

/// Verifies the ledger by its files, against `key`, or against those that the catalog names.
///
/// # Errors
/// `XX001` names the first bad record.
pub async fn verify(config: &Config, key: Option<&PublicKey>) -> Result<Verified> {
    config.check()?;
    if let Some(folder) = config.data_directory().filter(|folder| !folder.is_dir()) {
        let message = format!("there is no warehouse in \"{}\"", folder.display());
        return Err(Error::new(Kind::ConfigFile, message));
    }
    let environment = open_environment(config).await?;
    let catalog = Catalog::open(environment.clone(), "verify").await?;
    // A journal's folder that is not here is another server's; what was sealed is in the warehouse.
    let journal = config.journal_directory().filter(|folder| folder.is_dir());
    let source = match journal {
        Some(folder) => Source::new(&environment, &Environment::open_folder(&folder)?),
        None => Source::new(&environment, &environment),
    };
    source.verify(&catalog, key).await
}
