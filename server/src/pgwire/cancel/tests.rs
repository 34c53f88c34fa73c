//! Cancel requests: secrets and numbers.

use super::*;

#[test]
fn only_the_secret_stops_what_runs_now() {
    let registry = Arc::new(Registry::default());
    let connection = registry.register(0);
    assert_eq!(connection.secret().len(), 4);
    registry.cancel(connection.process_id(), connection.secret());
    let running = CancellationToken::new();
    connection.runs(&running);
    registry.cancel(connection.process_id(), b"wrong");
    registry.cancel(connection.process_id() + 1, connection.secret());
    registry.cancel(connection.process_id(), &[]);
    assert!(!running.is_cancelled());
    registry.cancel(connection.process_id(), connection.secret());
    assert!(running.is_cancelled());
}

#[test]
fn numbers_are_given_back_and_never_shared() {
    let registry = Arc::new(Registry::default());
    let (one, two) = (registry.register(2), registry.register(2));
    assert_eq!((one.process_id(), two.process_id()), (1, 2));
    assert_eq!(one.secret().len(), 32);
    drop(one);
    lock(&registry.connections).last_process_id = i32::MAX;
    assert_eq!(registry.register(2).process_id(), 1);
    lock(&registry.connections).last_process_id = 1;
    assert_eq!(registry.register(2).process_id(), 3);
}
