//! One name, one running server.

use super::Identity;

#[test]
fn a_name_is_kept_and_never_shared() {
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("keys");
    let first = Identity::take(&path).unwrap();
    let second = Identity::take(&path).unwrap();
    assert_ne!(first.name(), second.name());
    let name = first.name().to_owned();
    drop(first);
    assert_eq!(Identity::take(&path).unwrap().name(), name);

    std::fs::write(path.join("servers/1"), "0123").unwrap();
    assert_eq!(Identity::take(&path).unwrap().name().len(), 32);
}
