//! What opens and what does not.

use super::*;

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&[byte; 32]).unwrap()
}

fn ticket() -> Ticket {
    let rows = Some(Rows::Query(Query { text: "SELECT 1".to_owned(), search_path: String::new() }));
    Ticket { id: vec![1; 16], role: 7, until_ms: 9, transaction: None, rows, schema: vec![2] }
}

#[test]
fn what_was_sealed_opens_for_its_use_alone() {
    let sealed = sealer(1).seal(Use::Ticket, &ticket()).unwrap();
    assert_eq!(sealer(1).open::<Ticket>(Use::Ticket, &sealed), Some(ticket()));
    assert_eq!(sealer(1).open::<Ticket>(Use::Bearer, &sealed), None);
    assert_eq!(sealer(2).open::<Ticket>(Use::Ticket, &sealed), None);
}

#[test]
fn no_bit_of_it_can_be_changed_and_none_left_out() {
    let sealed = sealer(1).seal(Use::Ticket, &ticket()).unwrap();
    for place in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        assert_eq!(sealer(1).open::<Ticket>(Use::Ticket, &changed), None);
        assert_eq!(sealer(1).open::<Ticket>(Use::Ticket, &sealed[..place]), None);
    }
}

#[test]
fn the_same_is_sealed_otherwise_each_time() {
    let seal = || sealer(1).seal(Use::Ticket, &ticket()).unwrap();
    assert_ne!(seal(), seal());
}
