//! Of all limits the tightest, as long as its role is there.

use std::collections::BTreeMap;

use super::*;
use crate::state::{AccessChange, Change, MembershipOption, Role, RoleLimits};

const CLERK: Oid = 20_000;
const OFFICE: Oid = 20_001;
const CITY: Oid = 20_002;

fn role(oid: Oid, name: &str, of: &[Oid]) -> Change {
    Change::PutRole(Role {
        oid,
        name: name.to_owned(),
        login: true,
        verifier: None,
        member_of: of.iter().map(|it| (*it, MembershipOption::Member)).collect(),
        connection_limit: None,
        valid_until_ms: None,
        comment: None,
        bypass_rls: false,
        attributes: BTreeMap::new(),
        default_grants: Vec::new(),
    })
}

fn limits(role: Oid, values: &[(LimitName, u64)]) -> Change {
    let values = values.iter().copied().collect();
    Change::Access(AccessChange::PutLimits(RoleLimits { role, values }))
}

#[test]
fn the_tightest_of_all_roles_that_one_belongs_to_holds() {
    let state = State::default().apply(&[
        role(CITY, "city", &[]),
        role(OFFICE, "office", &[CITY]),
        role(CLERK, "clerk", &[OFFICE]),
        limits(CLERK, &[(LimitName::RowsPerDay, 100), (LimitName::Memory, 7)]),
        limits(OFFICE, &[(LimitName::RowsPerDay, 100), (LimitName::StatementTime, 50)]),
        limits(CITY, &[(LimitName::StatementTime, 40)]),
    ]);
    let held = of_role(&state, CLERK);
    let found = |name| held.get(name).map(|it| (it.value, it.role));
    assert_eq!(found(LimitName::RowsPerDay), Some((100, CLERK)));
    assert_eq!(found(LimitName::Memory), Some((7, CLERK)));
    assert_eq!(found(LimitName::StatementTime), Some((40, CITY)));
    assert_eq!(found(LimitName::BytesPerDay), None);
    assert_eq!(of_role(&state, CITY).get(LimitName::RowsPerDay), None);
}

#[test]
fn limits_go_with_their_role_and_when_none_is_left() {
    let state = State::default()
        .apply(&[role(CLERK, "clerk", &[]), limits(CLERK, &[(LimitName::RowsPerDay, 0)])]);
    assert_eq!(of_role(&state, CLERK).get(LimitName::RowsPerDay).unwrap().value, 0);
    assert!(state.apply(&[limits(CLERK, &[])]).access.limits.is_empty());
    assert!(state.apply(&[Change::RemoveRole(CLERK)]).access.limits.is_empty());
}

#[test]
fn every_limit_has_one_name() {
    let names: std::collections::BTreeSet<_> = LimitName::ALL.iter().map(|it| it.name()).collect();
    assert_eq!(names.len(), LimitName::ALL.len());
    let stored: RoleLimits =
        serde_json::from_str(r#"{"role":7,"values":{"rows_per_day":5}}"#).unwrap();
    assert_eq!(stored.values, BTreeMap::from([(LimitName::RowsPerDay, 5)]));
}
