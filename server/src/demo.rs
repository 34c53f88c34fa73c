//! `kho demo`: a small invented city to try Kho on.
//!
//! What it guarantees: everything goes in through SQL and `COPY` as a client's would; the same city
//! every time, from a fixed seed; no row describes a real person (see [`city`]). A folder that is
//! not a demo's is never written to, and `--fresh` removes only what a demo made.
//! What it does not: its passwords are printed and the same everywhere, so it listens on loopback
//! alone.
//! On failure: a demo that was not finished is built anew by the next start.

mod build;
pub mod city;
mod folder;
mod names;
mod script;
mod tour;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use kho_catalog::error::{Error, Result};

pub use self::folder::Facts;
use self::folder::{Folder, Found};
pub use self::tour::{Expected, TourStep, tour};
use crate::config::{Config, Password};
use crate::serve::{self, Server};

/// Everything random in the demo comes from this.
pub const SEED: u64 = 430_511;
/// Password of the role `admin` where the operator gave none.
const ADMIN_PASSWORD: &str = "admin-demo";

/// A served demo, and what to type next.
pub struct Demo {
    pub server: Server,
    /// The walk that the guide prints.
    pub steps: Vec<TourStep>,
    pub guide: String,
    /// Held as long as the demo is served, so that no other process builds it anew meanwhile.
    _lock: File,
}

/// Serves the demo in `folder`, which is built if it is not there or `fresh` is wanted.
///
/// # Errors
/// `55000` when the folder holds something else, `55006` when another process serves it; `0A000` when it would listen off loopback; what
/// [`serve::start`] says; a statement's own error when building fails.
pub async fn start(mut config: Config, folder: &Path, fresh: bool) -> Result<Demo> {
    if !config.pg.listen.ip().is_loopback() {
        let message = format!("the demo listens on loopback only, not on {}", config.pg.listen);
        return Err(Error::unsupported(message).with_hint("Its passwords are known to everyone."));
    }
    let folder = Folder::open(folder)?;
    let lock = folder.lock()?;
    let found = match folder.look()? {
        Found::Whole(facts) if !fresh => Some(facts),
        Found::Whole(_) | Found::Unfinished => {
            folder.clear()?;
            None
        }
        Found::Nothing => None,
    };
    config.data = folder.data()?;
    config.keys.directory.get_or_insert_with(|| folder.keys());
    let Some(facts) = found else {
        return build_in(config, &folder, lock).await;
    };
    eprintln!("using the demo in {} (--fresh builds it anew)", folder.path().display());
    let server = serve::start(config).await?;
    Ok(show(server, &facts, lock))
}

async fn build_in(mut config: Config, folder: &Folder, lock: File) -> Result<Demo> {
    eprintln!("building the demo in {}", folder.path().display());
    let started = Instant::now();
    let facts = folder.begin(config.admin_password.is_some())?;
    if config.admin_password.is_none() {
        config.admin_password = Some(Password::new(ADMIN_PASSWORD)?);
    }
    let server = serve::start(config).await?;
    let built = build::build(server.engine(), folder, facts).await;
    match built.and_then(|facts| folder.finish(facts)) {
        Ok(facts) => {
            eprintln!("built in {:.1} s", started.elapsed().as_secs_f64());
            Ok(show(server, &facts, lock))
        }
        Err(error) => {
            // The reason it was not built is the one to tell; the stop's goes to the log.
            if let Err(error) = server.stop().await {
                tracing::warn!(?error, "the server did not stop cleanly");
            }
            Err(error)
        }
    }
}

fn show(server: Server, facts: &Facts, lock: File) -> Demo {
    let guide = tour::guide(server.pg_address, facts);
    Demo { server, steps: tour(facts), guide, _lock: lock }
}
