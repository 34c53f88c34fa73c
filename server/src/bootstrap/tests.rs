//! A warehouse is made once.

use kho_catalog::environment::Environment;
use kho_catalog::log::Catalog;

use super::{ADMIN, make_warehouse};
use crate::config::Password;

fn verifier(password: &Password) -> kho_catalog::error::Result<String> {
    Ok(format!("of {}", password.expose()))
}

#[tokio::test]
async fn the_first_of_two_servers_makes_the_warehouse() {
    let environment = Environment::open("memory://").unwrap();
    let first = Catalog::open(environment.clone(), "first").await.unwrap();
    let second = Catalog::open(environment, "second").await.unwrap();
    let made = make_warehouse(&first, None, verifier).await.unwrap().unwrap();
    // It opened the catalog while that was empty, and must not show a password that is not set.
    assert!(make_warehouse(&second, None, verifier).await.unwrap().is_none());

    let state = second.current().unwrap();
    let admin = state.role(ADMIN).unwrap();
    assert_eq!(admin.verifier.as_deref(), Some(format!("of {}", made.expose()).as_str()));
    let group = state.role("kho_admin").unwrap();
    assert!(admin.login && admin.member_of.contains_key(&group.oid));
    assert!(!group.login && group.verifier.is_none());
    assert!(make_warehouse(&first, None, verifier).await.unwrap().is_none());
    assert_eq!(first.verify().await.unwrap(), 1);
}

#[tokio::test]
async fn a_given_password_is_taken_and_not_shown() {
    let environment = Environment::open("memory://").unwrap();
    let catalog = Catalog::open(environment, "server").await.unwrap();
    let given = Password::new("given").unwrap();
    assert!(make_warehouse(&catalog, Some(&given), verifier).await.unwrap().is_none());
    let state = catalog.current().unwrap();
    assert_eq!(state.role(ADMIN).unwrap().verifier.as_deref(), Some("of given"));
}
