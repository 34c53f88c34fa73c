//! The first start: what every warehouse has before anyone made anything.
//!
//! What it guarantees: the built-in roles and the role `admin` come into being in one catalog
//! commit, once, however many servers start on a new warehouse at one time.
//! What it does not: it never touches a warehouse that has an entry, so a lost password of `admin`
//! is not mended by starting again.
//! On failure: nothing was made.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use kho_catalog::error::{Error, Result};
use kho_catalog::log::{Author, Catalog};
use kho_catalog::state::{
    BUILT_IN_ROLES, Change, FIRST_USER_OID, MembershipOption, Oid, Role, State,
};
use rand::Rng;
use rand::distr::Alphanumeric;

use crate::config::Password;

/// The role that every other is made by.
pub const ADMIN: &str = "admin";
const ADMINISTRATORS: &str = "kho_admin";
const PASSWORD_LENGTH: usize = 24;

/// Makes the warehouse if it is new. `verifier` turns a password into what may be stored of it.
///
/// Returns a password that was made here, for its one showing; `None` where the warehouse was there
/// already or `password` was given.
pub async fn make_warehouse(
    catalog: &Catalog,
    password: Option<&Password>,
    verifier: impl FnOnce(&Password) -> Result<String>,
) -> Result<Option<Password>> {
    if !catalog.is_new() {
        return Ok(None);
    }
    let made = if password.is_none() { Some(random_password()?) } else { None };
    let chosen = password.or(made.as_ref());
    let verifier = verifier(chosen.ok_or_else(|| Error::internal("no password was chosen"))?)?;
    let author = Author {
        role: built_in(ADMINISTRATORS)?,
        statement_id: catalog.environment().new_id(),
        action: "BOOTSTRAP".to_owned(),
    };
    let changes = first_changes(&verifier)?;
    let mut ours = false;
    catalog
        .commit(&author, |state: &State| {
            // Another server may have been faster; its password is the one that holds.
            ours = state.is_new();
            Ok(if ours { changes.clone() } else { Vec::new() })
        })
        .await?;
    Ok(made.filter(|_| ours))
}

/// What the first entry of a catalog says.
fn first_changes(verifier: &str) -> Result<Vec<Change>> {
    let mut roles: Vec<Role> = BUILT_IN_ROLES.iter().map(|(oid, name)| role(*oid, name)).collect();
    roles.push(Role {
        login: true,
        verifier: Some(verifier.to_owned()),
        member_of: BTreeMap::from([(built_in(ADMINISTRATORS)?, MembershipOption::Admin)]),
        ..role(FIRST_USER_OID, ADMIN)
    });
    Ok(roles.into_iter().map(Change::PutRole).collect())
}

fn role(oid: Oid, name: &str) -> Role {
    Role {
        oid,
        name: name.to_owned(),
        login: false,
        verifier: None,
        member_of: BTreeMap::new(),
        connection_limit: None,
        valid_until_ms: None,
        comment: None,
        bypass_rls: false,
        attributes: Default::default(),
        default_grants: Vec::new(),
    }
}

fn built_in(name: &str) -> Result<Oid> {
    let found = BUILT_IN_ROLES.iter().find(|(_, it)| *it == name);
    found.map(|(oid, _)| *oid).ok_or_else(|| Error::internal(format!("no built-in role {name}")))
}

/// About 142 bits, which no throttle needs to protect.
fn random_password() -> Result<Password> {
    let letters = rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LENGTH);
    Password::new(letters.map(char::from).collect::<String>())
}
