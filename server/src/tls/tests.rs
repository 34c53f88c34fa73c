//! Making, keeping and refusing the server's identity.

use super::*;

fn names() -> Vec<String> {
    vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
}

#[test]
fn the_first_start_makes_an_identity_and_the_next_one_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let first = Identity::load_or_create(directory.path(), &names()).unwrap();
    let second = Identity::load_or_create(directory.path(), &names()).unwrap();
    assert_eq!(first.chain, second.chain);
    assert_eq!(first.derive_secret("a"), second.derive_secret("a"));
    assert_ne!(first.derive_secret("a"), first.derive_secret("b"));
    assert_eq!(first.end_point().unwrap(), Sha256::digest(&first.chain[0]).to_vec());
    assert_eq!(first.server_config(&[b"postgresql"], None).unwrap().alpn_protocols.len(), 1);
}

#[cfg(unix)]
#[test]
fn the_key_is_for_the_server_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    Identity::load_or_create(directory.path(), &names()).unwrap();
    let key = directory.path().join(KEY_FILE);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Identity::load_or_create(directory.path(), &names()).unwrap_err();
    assert_eq!(error.sqlstate(), "F0000");
}

#[test]
fn half_an_identity_is_refused_and_nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    Identity::load_or_create(directory.path(), &names()).unwrap();
    fs::remove_file(directory.path().join(KEY_FILE)).unwrap();
    let before = fs::read(directory.path().join(CERTIFICATE_FILE)).unwrap();
    assert!(Identity::load_or_create(directory.path(), &names()).is_err());
    assert_eq!(fs::read(directory.path().join(CERTIFICATE_FILE)).unwrap(), before);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Identity::load_or_create(one.path(), &names()).unwrap();
    Identity::load_or_create(other.path(), &names()).unwrap();
    let error = Identity::load(&one.path().join(CERTIFICATE_FILE), &other.path().join(KEY_FILE));
    assert_eq!(error.unwrap_err().sqlstate(), "F0000");
}
