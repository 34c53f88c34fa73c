//! Who may read what, for what, until when.

use std::collections::BTreeSet;

use super::*;
use crate::freeze::{refuse_frozen_relation, refuse_frozen_role};
use crate::state::{
    AccessChange, Change, Classification, Ended, Freeze, Governance, MembershipOption, Quota,
    RelationKind, Role, ThirdParty,
};
use crate::text::Text;

const OWNER: Oid = 100;
const WARD: Oid = 101;
const CLERK: Oid = 102;
const BEN: Oid = 103;
const PATIENT: Oid = 200;
const CLINIC: Oid = 201;
const PLAN: Oid = 202;

fn text(value: &str) -> Text {
    Text::new(value, format!("body of {value}"), "salt".to_owned())
}

fn role(oid: Oid, name: &str, of: &[Oid]) -> Change {
    Change::PutRole(Role {
        oid,
        name: name.to_owned(),
        login: true,
        verifier: None,
        member_of: of.iter().map(|of| (*of, MembershipOption::Member)).collect(),
        connection_limit: None,
        valid_until_ms: None,
        bypass_rls: false,
        attributes: Default::default(),
        default_grants: Vec::new(),
        comment: None,
    })
}

fn dataset(oid: Oid, name: &str, purposes: &[&str], requires_agreement: bool) -> Change {
    Change::PutRelation(Box::new(Relation {
        oid,
        schema: 1,
        name: name.to_owned(),
        owner: OWNER,
        columns: vec![],
        grants: vec![],
        comment: None,
        kind: RelationKind::Table(Table {
            dataset: name.to_owned(),
            generation: 1,
            next_column: 1,
            checks: vec![],
            keys: vec![],
            indexes: vec![],
            dropped: vec![],
            row_security: Default::default(),
            policies: vec![],
            governance: Governance {
                classification: Classification::Personal,
                update_frequency: None,
                retention: None,
                retention_column: None,
                allowed_purposes: purposes.iter().map(|it| (*it).to_owned()).collect(),
                requires_agreement,
            },
            created_ms: 0,
        }),
    }))
}

fn agreement(
    oid: Oid,
    role: Oid,
    third_party: Option<Oid>,
    on: Oid,
    purposes: &[&str],
) -> Agreement {
    Agreement {
        oid,
        relation: on,
        dataset: "s.t".to_owned(),
        role,
        third_party,
        purposes: purposes.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>(),
        valid_from_ms: 100,
        valid_until_ms: 200,
        quota: Quota::default(),
        basis: text("CV 12/SYT"),
        granted_by: OWNER,
        granted_ms: 50,
        ended: None,
        order_number: None,
        tied: None,
    }
}

fn put(agreement: Agreement) -> Change {
    Change::Access(AccessChange::PutAgreement(Box::new(agreement)))
}

/// `patient` requires agreements for `c`, `d` and `g`; `clinic` names `e` and `g`; `plan` is bound by
/// nothing.
fn city() -> State {
    let third = ThirdParty { role: BEN, party: "Ben & Co".to_owned() };
    State::default().apply(&[
        role(OWNER, "owner", &[]),
        role(WARD, "ward", &[]),
        role(CLERK, "clerk", &[WARD]),
        role(BEN, "ben", &[WARD]),
        dataset(PATIENT, "patient", &["c", "d", "g"], true),
        dataset(CLINIC, "clinic", &["e", "g"], false),
        dataset(PLAN, "plan", &[], false),
        Change::Access(AccessChange::PutThirdParty(third)),
    ])
}

fn read(state: &State, who: Oid, on: Oid, purpose: &str, now_ms: i64) -> Result<Term> {
    let (purpose, order) = purpose.split_once('/').unwrap_or((purpose, ""));
    let stated = Stated { purpose: purpose.to_owned(), order: order.to_owned() };
    decide(state, &Principal::of(state, who), &state.relations[&on], &stated, now_ms)
}

fn refusal(state: &State, who: Oid, on: Oid, purpose: &str, now_ms: i64) -> String {
    match read(state, who, on, purpose, now_ms) {
        Ok(_) => "allowed".to_owned(),
        Err(error) => {
            assert!(error.hint().is_some_and(|it| !it.is_empty()), "{error:?} says not what to do");
            error.sqlstate().to_owned()
        }
    }
}

#[test]
fn a_dataset_that_names_purposes_is_read_for_one_of_them() {
    let city = city();
    assert_eq!(refusal(&city, CLERK, CLINIC, "", 150), "KH001");
    assert_eq!(refusal(&city, OWNER, CLINIC, "", 150), "KH001");
    assert_eq!(refusal(&city, CLERK, CLINIC, "d", 150), "KH002");
    assert_eq!(refusal(&city, CLERK, CLINIC, "nonsense", 150), "KH002");
    assert_eq!(refusal(&city, CLERK, CLINIC, "e", 150), "allowed");
    assert_eq!(refusal(&city, CLERK, PLAN, "", 150), "allowed");
}

#[test]
fn an_agreement_counts_from_its_first_moment_to_its_last_and_for_members() {
    let city = city().apply(&[put(agreement(300, WARD, None, PATIENT, &["d"]))]);
    assert_eq!(refusal(&city, CLERK, PATIENT, "d", 99), "KH004");
    assert_eq!(read(&city, CLERK, PATIENT, "d", 100).unwrap().until_ms, Some(200));
    assert_eq!(read(&city, WARD, PATIENT, "d", 199).unwrap().agreements, [300]);
    assert_eq!(refusal(&city, CLERK, PATIENT, "d", 200), "KH012");
    assert_eq!(refusal(&city, CLERK, PATIENT, "c", 150), "KH002", "it is not for that");
    assert_eq!(refusal(&city, CLERK, PATIENT, "", 150), "KH001");
    assert_eq!(refusal(&city, OWNER, PATIENT, "d", 150), "KH004", "the owner is bound, too");
    let left = city.apply(&[role(CLERK, "clerk", &[])]);
    assert_eq!(refusal(&left, CLERK, PATIENT, "d", 150), "KH004");
}

#[test]
fn of_two_agreements_the_later_end_counts() {
    let longer = Agreement { valid_until_ms: 300, ..agreement(301, CLERK, None, PATIENT, &["d"]) };
    let city = city().apply(&[put(agreement(300, WARD, None, PATIENT, &["d"])), put(longer)]);
    assert_eq!(read(&city, CLERK, PATIENT, "d", 150).unwrap().until_ms, Some(300));
    assert_eq!(read(&city, CLERK, PATIENT, "d", 250).unwrap().agreements, [301]);
    assert_eq!(refusal(&city, WARD, PATIENT, "d", 250), "KH012");
}

#[test]
fn an_agreement_that_was_ended_is_none() {
    let ended = Some(Ended { at_ms: 120, by: OWNER, reason: text("broken") });
    let city =
        city().apply(&[put(Agreement { ended, ..agreement(300, WARD, None, PATIENT, &["d"]) })]);
    assert_eq!(refusal(&city, CLERK, PATIENT, "d", 150), "KH004");
}

#[test]
fn a_purpose_that_must_be_ordered_needs_the_order_and_an_agreement_that_ends() {
    let city = city();
    assert_eq!(refusal(&city, CLERK, CLINIC, "g", 150), "KH002");
    assert_eq!(refusal(&city, CLERK, CLINIC, "g/ ", 150), "KH002");
    assert_eq!(refusal(&city, CLERK, CLINIC, "g/55", 150), "KH004");
    let ordered = |oid, number: &str| Agreement {
        order_number: Some(number.to_owned()),
        ..agreement(oid, CLERK, None, CLINIC, &["g"])
    };
    let city = city.apply(&[put(ordered(300, "55"))]);
    assert_eq!(read(&city, CLERK, CLINIC, "g/55", 150).unwrap().until_ms, Some(200));
    assert_eq!(read(&city, CLERK, CLINIC, "g/ 55 ", 150).unwrap().agreements, [300]);
    assert_eq!(refusal(&city, CLERK, CLINIC, "g/56", 150), "KH002", "that is another order");
    let both = city.apply(&[put(ordered(301, "56"))]);
    assert_eq!(read(&both, CLERK, CLINIC, "g/56", 150).unwrap().agreements, [301]);
    assert_eq!(refusal(&city, CLERK, CLINIC, "g/55", 200), "KH012");
}

#[test]
fn a_third_party_needs_its_own_agreement_for_everything() {
    let city = city().apply(&[put(agreement(300, WARD, None, PATIENT, &["d"]))]);
    assert_eq!(refusal(&city, BEN, PATIENT, "d", 150), "KH003", "the ward's is not its own");
    assert_eq!(refusal(&city, BEN, PLAN, "", 150), "KH003");
    assert!(refuse_login_without(&city, &Principal::of(&city, BEN), 150).is_err());
    let city = city.apply(&[put(agreement(301, WARD, Some(BEN), PATIENT, &["d"]))]);
    assert!(refuse_login_without(&city, &Principal::of(&city, BEN), 150).is_ok());
    assert!(refuse_login_without(&city, &Principal::of(&city, BEN), 200).is_err());
    assert_eq!(read(&city, BEN, PATIENT, "d", 150).unwrap().agreements, [301, 300]);
    assert_eq!(refusal(&city, BEN, PATIENT, "d", 200), "KH003");
    assert_eq!(refusal(&city, BEN, PATIENT, "c", 150), "KH002");
    assert_eq!(refusal(&city, BEN, CLINIC, "e", 150), "KH003", "another dataset's is none");
    // It is the third party's alone.
    let only = self::city().apply(&[put(agreement(301, WARD, Some(BEN), PATIENT, &["d"]))]);
    assert_eq!(refusal(&only, CLERK, PATIENT, "d", 150), "KH004");
    assert_eq!(refusal(&only, BEN, PATIENT, "d", 150), "KH003", "whom it works for has none");
}

#[test]
fn what_was_asked_for_is_had_within_what_was_agreed() {
    let tied = Some(crate::state::Tied { request: Some(299), grants: vec![], policy: None });
    let agreed = Agreement { tied, ..agreement(300, CLERK, None, PLAN, &["a"]) };
    let city = city().apply(&[put(agreed.clone())]);
    assert_eq!(refusal(&city, CLERK, PLAN, "a", 150), "allowed");
    assert_eq!(refusal(&city, CLERK, PLAN, "", 150), "KH001");
    assert_eq!(refusal(&city, CLERK, PLAN, "a", 200), "KH012");
    assert_eq!(refusal(&city, WARD, PLAN, "", 200), "allowed", "it is the clerk's alone");
    let ended = Some(Ended { at_ms: 210, by: OWNER, reason: text("over") });
    let city = city.apply(&[put(Agreement { ended, ..agreed })]);
    assert_eq!(refusal(&city, CLERK, PLAN, "", 220), "allowed");
}

#[test]
fn who_belongs_to_a_frozen_role_is_frozen() {
    let freeze = |of| Freeze { of, by: OWNER, at_ms: 1, reason: text("leak") };
    let city = city().apply(&[
        Change::Access(AccessChange::PutFreeze(freeze(WARD))),
        Change::Access(AccessChange::PutFreeze(freeze(PLAN))),
    ]);
    let frozen = |who| refuse_frozen_role(&city, &Principal::of(&city, who)).is_err();
    assert_eq!([OWNER, WARD, CLERK, BEN].map(frozen), [false, true, true, true]);
    assert!(refuse_frozen_relation(&city, PLAN).is_err());
    assert!(refuse_frozen_relation(&city, CLINIC).is_ok());
    let gone = city.apply(&[Change::RemoveRelation(PLAN)]);
    assert!(gone.access.freezes.contains_key(&WARD) && !gone.access.freezes.contains_key(&PLAN));
}

#[test]
fn a_state_that_was_stored_before_there_were_purposes_has_the_shipped_ones() {
    let mut stored = serde_json::to_value(State::default()).unwrap();
    stored.as_object_mut().unwrap().remove("access");
    let read: State = serde_json::from_value(stored).unwrap();
    assert_eq!(read.access.purposes.listed(), "a, b, c, d, dd, e, g");
    assert!(read.access.purposes.get("g").unwrap().needs_order);
}
