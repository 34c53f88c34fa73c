//! One name, one running server.

use super::ServerName;

#[test]
fn a_name_is_kept_and_never_shared() {
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("keys");
    let first = ServerName::take(&path).unwrap();
    let second = ServerName::take(&path).unwrap();
    assert_ne!(first.as_str(), second.as_str());
    let name = first.as_str().to_owned();
    drop(first);
    assert_eq!(ServerName::take(&path).unwrap().as_str(), name);

    std::fs::write(path.join("servers/1"), "0123").unwrap();
    assert_eq!(ServerName::take(&path).unwrap().as_str().len(), 32);
}
