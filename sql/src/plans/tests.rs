//! The room for plans.

use super::Plans;

#[test]
fn plans_take_no_more_than_the_limit_together_and_give_it_back() {
    let plans = Plans::new(100);
    let first = plans.room(60);
    assert!(first.is_some());
    assert!(plans.room(41).is_none());
    let second = plans.room(40);
    assert!(second.is_some() && plans.room(1).is_none());
    drop(first);
    assert!(plans.room(60).is_some());
    assert!(plans.room(usize::MAX).is_none());
}
