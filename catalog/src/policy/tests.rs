//! Who is exempt, which policies hold, and how masks combine.

use std::collections::BTreeSet;

use super::*;
use crate::state::{
    Change, Classification, Governance, MembershipOption, RelationKind, Role, Schema,
};
use crate::types::Type;

const OWNER: Oid = 20_000;
const AN: Oid = 20_001;
const GROUP: Oid = 20_002;

fn text(text: &str) -> Text {
    Text::new(text, "id".to_owned(), "salt".to_owned())
}

fn role(oid: Oid, member_of: &[Oid]) -> Role {
    Role {
        oid,
        name: format!("role_{oid}"),
        login: true,
        verifier: None,
        member_of: member_of.iter().map(|it| (*it, MembershipOption::Member)).collect(),
        connection_limit: None,
        valid_until_ms: None,
        comment: None,
        bypass_rls: false,
        attributes: Default::default(),
        default_grants: Vec::new(),
    }
}

fn policy(name: &str, permissive: bool, command: PolicyCommand, roles: &[Oid]) -> Policy {
    Policy {
        oid: 30_000,
        name: name.to_owned(),
        permissive,
        command,
        roles: roles.to_vec(),
        using: Some(text("true")),
        with_check: None,
        depends_on: Vec::new(),
    }
}

fn table(policies: Vec<Policy>) -> Relation {
    let column = Column::new(1, "id", Type::Text);
    Relation {
        oid: 21_000,
        schema: 21_001,
        name: "t".to_owned(),
        owner: OWNER,
        columns: vec![column],
        grants: Vec::new(),
        comment: None,
        kind: RelationKind::Table(Table {
            dataset: "d".to_owned(),
            generation: 0,
            next_column: 2,
            checks: Vec::new(),
            keys: Vec::new(),
            indexes: Vec::new(),
            dropped: Vec::new(),
            row_security: RowSecurity { enabled: true, forced: false },
            policies,
            governance: Governance {
                classification: Classification::Internal,
                update_frequency: None,
                retention: None,
                retention_column: None,
                allowed_purposes: BTreeSet::new(),
                requires_agreement: false,
            },
            created_ms: 0,
        }),
    }
}

fn state() -> State {
    let schema =
        Schema { oid: 21_001, name: "s".to_owned(), owner: OWNER, grants: vec![], comment: None };
    State::default().apply(&[
        Change::PutRole(role(OWNER, &[])),
        Change::PutRole(role(GROUP, &[])),
        Change::PutRole(role(AN, &[GROUP])),
        Change::PutSchema(schema),
    ])
}

#[test]
fn a_table_without_a_policy_for_a_role_gives_it_nothing() {
    let state = state();
    let an = Principal::of(&state, AN);
    let table = table(vec![policy("p", true, PolicyCommand::All, &[OWNER])]);
    let applied = applied(&state, &table, &an, PolicyCommand::Select).unwrap();
    assert!(applied.permissive.is_empty() && applied.restrictive.is_empty());
}

#[test]
fn policies_hold_by_command_and_by_membership() {
    let state = state();
    let an = Principal::of(&state, AN);
    let table = table(vec![
        policy("of_group", true, PolicyCommand::Select, &[GROUP]),
        policy("of_all", true, PolicyCommand::All, &[PUBLIC]),
        policy("of_update", true, PolicyCommand::Update, &[AN]),
        policy("z_last", false, PolicyCommand::All, &[PUBLIC]),
        policy("a_first", false, PolicyCommand::Select, &[PUBLIC]),
    ]);
    let applied = applied(&state, &table, &an, PolicyCommand::Select).unwrap();
    let names = |of: &[&Policy]| of.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&applied.permissive), ["of_group", "of_all"]);
    assert_eq!(names(&applied.restrictive), ["a_first", "z_last"]);
}

#[test]
fn the_owner_is_exempt_until_forced_and_bypass_is_not_inherited() {
    let mut state = state();
    let mut table = table(Vec::new());
    let owner = Principal::of(&state, OWNER);
    assert!(!is_policied(&state, &table, &owner));
    if let RelationKind::Table(table) = &mut table.kind {
        table.row_security.forced = true;
    }
    assert!(is_policied(&state, &table, &owner));
    state = state.apply(&[Change::PutRole(Role { bypass_rls: true, ..role(GROUP, &[]) })]);
    assert!(is_policied(&state, &table, &Principal::of(&state, AN)));
    assert!(!is_policied(&state, &table, &Principal::of(&state, GROUP)));
}

#[test]
fn each_mask_has_its_exceptions_and_none_is_of_another_owner() {
    let mask =
        |using: &str, except: &[Oid]| Mask { using: text(using), except_roles: except.to_vec() };
    let tag = |name: &str, masks| Tag { name: name.to_owned(), description: text("x"), masks };
    let of = |owner, mask| TagMask { owner, mask };
    let state = state().apply(&[
        Change::PutTag(tag("phone", vec![of(Some(OWNER), mask("owner's", &[GROUP]))])),
        Change::PutTag(tag(
            "email",
            vec![of(Some(AN), mask("another's", &[])), of(None, mask("everyone's", &[]))],
        )),
    ]);
    let mut table = table(Vec::new());
    table.columns[0].mask = Some(mask("own", &[OWNER]));
    table.columns[0].tags = ["phone", "email", "unknown"].map(str::to_owned).into();
    let seen = |role: Oid| -> Vec<String> {
        let who = Principal::of(&state, role);
        let masks = masks(&state, &table, &table.columns[0], &who);
        masks.iter().map(|it| it.using.value().unwrap().to_owned()).collect()
    };
    assert_eq!(seen(AN), ["own", "everyone's"]);
    assert_eq!(seen(OWNER), ["everyone's", "owner's"]);
    assert_eq!(seen(GROUP), ["own", "everyone's"]);
}
