//! Whom one key makes trusted.

use super::*;

fn keys() -> Keys {
    Keys::passing().unwrap()
}

fn ledger(line: &[Keys], rotations: Vec<Rotation>) -> LedgerState {
    let keys = line.iter().map(|it| it.public().to_string()).collect();
    LedgerState { keys, rotations, ..LedgerState::default() }
}

#[test]
fn one_key_leads_to_all_before_and_after_it() {
    let line = [keys(), keys(), keys(), keys()];
    let rotations: Vec<Rotation> =
        line.windows(2).map(|pair| Rotation::of(&pair[0], &pair[1])).collect();
    let ledger = ledger(&line, rotations);
    let all: Vec<PublicKey> = line.iter().map(Keys::public).collect();
    for of in &all {
        assert_eq!(trusted(of, &ledger).unwrap(), all);
    }
    let other = keys().public();
    assert_eq!(trusted(&other, &ledger).unwrap(), [other]);
}

#[test]
fn a_rotation_that_is_no_step_of_the_line_adds_no_key() {
    let [first, second, stolen] = [keys(), keys(), keys()];
    let rotations = vec![Rotation::of(&first, &second), Rotation::of(&first, &stolen)];
    let ledger = ledger(&[first, second], rotations);
    assert!(!line(&ledger).unwrap().contains(&stolen.public()));
    let alone = trusted(&stolen.public(), &ledger).unwrap();
    assert_eq!(alone, [stolen.public()]);
}

#[test]
fn a_step_past_a_key_is_refused() {
    let [first, second, third] = [keys(), keys(), keys()];
    let rotations = vec![Rotation::of(&first, &second), Rotation::of(&first, &third)];
    let ledger = ledger(&[first, second, third], rotations);
    assert_eq!(line(&ledger).unwrap_err().kind(), Kind::DataCorrupted);
}

#[test]
fn a_key_that_one_side_did_not_sign_for_is_not_trusted() {
    let (mine, theirs) = (keys(), keys());
    let honest = Rotation::of(&mine, &theirs);
    let forged = [
        Rotation { signed_before: theirs.sign(b"x"), ..honest.clone() },
        Rotation { signed_before: honest.signed_after.clone(), ..honest.clone() },
        Rotation { signed_after: honest.signed_before.clone(), ..honest.clone() },
        Rotation { after: keys().public().to_string(), ..honest.clone() },
        Rotation { format: 2, ..honest.clone() },
    ];
    let line = [mine, theirs];
    for rotation in forged {
        let ledger = ledger(&line, vec![rotation]);
        let refused = trusted(&line[0].public(), &ledger).unwrap_err();
        assert_eq!(refused.kind(), Kind::DataCorrupted);
    }
    assert_eq!(trusted(&line[0].public(), &ledger(&line, vec![honest])).unwrap().len(), 2);
}

#[test]
fn a_successor_hashes_as_before_and_signs_otherwise() {
    let text = Keys::generate().unwrap();
    let (before, after) =
        (Keys::parse(&text).unwrap(), Keys::parse(&Keys::successor(&text).unwrap()).unwrap());
    assert_eq!(before.hash("An"), after.hash("An"));
    assert_ne!(before.public(), after.public());
}
