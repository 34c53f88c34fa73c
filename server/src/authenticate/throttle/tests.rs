//! How failed logins are slowed down.

use super::*;

fn fail(throttle: &Throttle, key: &Key, times: u32, now: Instant) {
    for _ in 0..times {
        throttle.failed(key, now);
    }
}

#[test]
fn a_few_failures_cost_nothing() {
    let (throttle, key) = (Throttle::default(), Key::role("an"));
    let now = Instant::now();
    fail(&throttle, &key, FREE_FAILURES - 1, now);
    assert_eq!(throttle.admit(&key, now), Verdict::Now);
    assert_eq!(throttle.admit(&Key::role("binh"), now), Verdict::Now);
}

#[test]
fn many_tries_at_once_queue_up_and_are_then_refused() {
    let (throttle, key) = (Throttle::default(), Key::role("an"));
    let now = Instant::now();
    fail(&throttle, &key, 20, now);
    let verdicts: Vec<_> = (0..10).map(|_| throttle.admit(&key, now)).collect();
    assert_eq!(verdicts[0], Verdict::After(Duration::from_secs(2)));
    assert_eq!(verdicts[1], Verdict::After(Duration::from_secs(4)));
    assert!(verdicts[2..].iter().all(|verdict| matches!(verdict, Verdict::Refused(_))));
}

#[test]
fn failures_are_forgotten_in_time_and_by_a_right_password() {
    let (throttle, key) = (Throttle::default(), Key::role("an"));
    let now = Instant::now();
    fail(&throttle, &key, 20, now);
    let later = now + MEMORY + Duration::from_secs(1);
    assert_eq!(throttle.admit(&key, later), Verdict::Now);
    fail(&throttle, &key, 20, later);
    throttle.forget(&key);
    assert_eq!(throttle.admit(&key, later), Verdict::Now);
}

#[test]
fn a_network_of_64_bits_counts_as_one_address() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    fail(&throttle, &Key::address("2001:db8::1".parse().unwrap()), 20, now);
    let neighbour = Key::address("2001:db8::2".parse().unwrap());
    assert!(matches!(throttle.admit(&neighbour, now), Verdict::Refused(_)));
    let stranger = Key::address("2001:db8:1::1".parse().unwrap());
    assert_eq!(throttle.admit(&stranger, now), Verdict::Now);
}

#[test]
fn what_is_remembered_is_bounded() {
    let throttle = Throttle::default();
    for number in 0..CAPACITY + 50 {
        throttle.failed(&Key::role(&format!("role {number}")), Instant::now());
    }
    assert_eq!(throttle.entries.lock().unwrap().len(), CAPACITY);
}
