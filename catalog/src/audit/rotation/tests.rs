//! Whom one key makes trusted.

use super::*;

fn keys() -> Keys {
    Keys::passing().unwrap()
}

#[test]
fn one_key_leads_to_all_before_and_after_it() {
    let line = [keys(), keys(), keys(), keys()];
    let rotations: Vec<Rotation> =
        line.windows(2).map(|pair| Rotation::of(&pair[0], &pair[1])).collect();
    for of in &line {
        let found = trusted(&of.public(), &rotations);
        assert!(line.iter().all(|it| found.contains(&it.public())), "{found:?}");
        assert_eq!(found.len(), line.len());
    }
    assert_eq!(trusted(&keys().public(), &rotations).len(), 1);
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
    for rotation in forged {
        assert_eq!(trusted(&mine.public(), std::slice::from_ref(&rotation)).len(), 1);
        assert_eq!(trusted(&theirs.public(), &[rotation]).len(), 1);
    }
    assert_eq!(trusted(&mine.public(), &[honest]).len(), 2);
}

#[test]
fn a_successor_hashes_as_before_and_signs_otherwise() {
    let text = Keys::generate().unwrap();
    let (before, after) =
        (Keys::parse(&text).unwrap(), Keys::parse(&Keys::successor(&text).unwrap()).unwrap());
    assert_eq!(before.hash("An"), after.hash("An"));
    assert_ne!(before.public(), after.public());
}
