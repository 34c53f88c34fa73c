//! The policy matrix, and the rules on memberships.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::state::{
    BUILT_IN_ROLES, Change, Classification, Column, Governance, MembershipOption, Role, Table,
};

const MATRIX: &str = include_str!("matrix.txt");
const ROLES: &[&str] = &[
    "stranger", "admin", "operator", "owner", "keeper", "reader", "middle", "nested", "writer",
    "user", "blind", "builder", "partial",
];

fn oid(name: &str) -> Oid {
    match ROLES.iter().position(|role| *role == name) {
        Some(index) => 20_000 + Oid::try_from(index).unwrap(),
        None => 29_999,
    }
}

fn role(oid: Oid, name: &str, member_of: &[Oid]) -> Change {
    Change::PutRole(Role {
        oid,
        name: name.to_owned(),
        login: true,
        verifier: None,
        member_of: member_of.iter().map(|of| (*of, MembershipOption::Member)).collect(),
        connection_limit: None,
        valid_until_ms: None,
        comment: None,
        bypass_rls: false,
        attributes: Default::default(),
        default_grants: Vec::new(),
    })
}

fn grants(to: &[(&str, Privilege)]) -> Vec<Grant> {
    to.iter()
        .map(|(name, privilege)| Grant {
            grantee: if *name == "public" { PUBLIC } else { oid(name) },
            grantor: oid("owner"),
            privilege: *privilege,
            grantable: false,
            column: None,
        })
        .collect()
}

fn schema(oid_: Oid, name: &str, to: &[(&str, Privilege)]) -> Change {
    let owner = oid("owner");
    let name = name.to_owned();
    Change::PutSchema(Schema { oid: oid_, name, owner, grants: grants(to), comment: None })
}

fn table(
    oid_: Oid,
    schema: Oid,
    name: &str,
    columns: &[&str],
    owner: &str,
    to: &[(&str, Privilege)],
) -> Change {
    let column = |(id, name): (u32, &&str)| Column::new(id, name, crate::types::Type::Text);
    Change::PutRelation(Box::new(Relation {
        oid: oid_,
        schema,
        name: name.to_owned(),
        owner: oid(owner),
        columns: (1..).zip(columns).map(column).collect(),
        grants: grants(to),
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
                classification: Classification::Internal,
                update_frequency: None,
                retention: None,
                retention_column: None,
                allowed_purposes: BTreeSet::new(),
                requires_agreement: false,
            },
            created_ms: 0,
        }),
    }))
}

fn city() -> State {
    let mut changes: Vec<_> =
        BUILT_IN_ROLES.iter().map(|(oid, name)| role(*oid, name, &[])).collect();
    for name in ROLES {
        let member_of = match *name {
            "admin" => vec![KHO_ADMIN],
            "operator" => vec![12],
            "middle" => vec![oid("reader")],
            "nested" => vec![oid("middle")],
            _ => vec![],
        };
        changes.push(role(oid(name), name, &member_of));
    }
    let usage =
        ["keeper", "reader", "writer", "user", "partial"].map(|name| (name, Privilege::Usage));
    let mut on_health = usage.to_vec();
    on_health.push(("builder", Privilege::Create));
    changes.push(schema(30_000, "health", &on_health));
    changes.push(schema(30_001, "open", &[("public", Privilege::Usage)]));
    let on_patient = [
        ("reader", Privilege::Select),
        ("blind", Privilege::Select),
        ("writer", Privilege::Insert),
        ("writer", Privilege::Update),
        ("writer", Privilege::Delete),
        ("writer", Privilege::Truncate),
    ];
    let mut patient = table(40_000, 30_000, "patient", &["id", "name"], "owner", &on_patient);
    if let Change::PutRelation(patient) = &mut patient {
        let on_name = [("partial", Privilege::Select), ("partial", Privilege::Update)];
        let on_name = grants(&on_name).into_iter();
        patient.grants.extend(on_name.map(|grant| Grant { column: Some(2), ..grant }));
    }
    changes.push(patient);
    changes.push(table(40_001, 30_000, "note", &["text"], "keeper", &[]));
    let to_all = [("public", Privilege::Select)];
    changes.push(table(40_002, 30_001, "air", &["dust"], "owner", &to_all));
    State::default().apply(&changes)
}

/// Every action on every object of the city, by the names the matrix has for them.
fn actions(state: &State) -> BTreeMap<(String, String), Action> {
    let mut all: Vec<Action> =
        WarehouseAction::ALL.iter().copied().map(Action::Warehouse).collect();
    for schema in state.schemas.keys() {
        all.extend(SchemaAction::ALL.iter().map(|action| Action::Schema(*schema, *action)));
    }
    for (oid, relation) in &state.relations {
        all.extend(RelationAction::ALL.iter().map(|action| Action::Relation(*oid, *action)));
        for column in &relation.columns {
            let action = |action: &ColumnAction| Action::Column(*oid, column.id, *action);
            all.extend(ColumnAction::ALL.iter().map(action));
        }
    }
    all.into_iter().map(|action| (names(state, action), action)).collect()
}

/// What the matrix calls an action and its object. A kind of action that is new does not compile.
fn names(state: &State, action: Action) -> (String, String) {
    let of = |oid: Oid| {
        let relation = &state.relations[&oid];
        format!("{}.{}", state.schemas[&relation.schema].name, relation.name)
    };
    match action {
        Action::Warehouse(action) => (format!("warehouse.{}", action.name()), "*".to_owned()),
        Action::Schema(oid, action) => {
            (format!("schema.{}", action.name()), state.schemas[&oid].name.clone())
        }
        Action::Relation(oid, action) => (format!("relation.{}", action.name()), of(oid)),
        Action::Column(oid, id, action) => {
            let column = state.relations[&oid].column_by_id(id).unwrap();
            (format!("column.{}", action.name()), format!("{}.{}", of(oid), column.name))
        }
    }
}

#[test]
fn the_policy_matrix_holds_and_is_whole() {
    let state = city();
    let mut expected = actions(&state);
    let mut lines = MATRIX.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    for line in lines {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells.len(), header.len(), "{line}");
        let key = (cells[0].to_owned(), cells[1].to_owned());
        let action = expected.remove(&key).unwrap_or_else(|| panic!("no such action: {line}"));
        for (role, cell) in header.iter().zip(&cells).skip(2) {
            let who = Principal::of(&state, oid(role));
            let decision = match decide(&state, &who, action) {
                Decision::Allowed(_) => "yes",
                Decision::Denied => "no",
                Decision::Hidden => "-",
            };
            assert_eq!(decision, *cell, "{role}: {} {}", key.0, key.1);
        }
    }
    assert!(expected.is_empty(), "actions without a row: {:?}", expected.keys());
}

#[test]
fn what_is_hidden_has_the_error_of_what_does_not_exist() {
    let state = city();
    let who = Principal::of(&state, oid("stranger"));
    let hidden = find_relation(&state, &who, "health", "patient", "health.patient").unwrap_err();
    let absent = find_relation(&state, &who, "health", "absent", "health.patient").unwrap_err();
    let nowhere = find_relation(&state, &who, "nowhere", "patient", "health.patient").unwrap_err();
    assert_eq!(format!("{hidden:?}"), format!("{absent:?}"));
    assert_eq!(format!("{hidden:?}"), format!("{nowhere:?}"));
    assert_eq!(hidden.sqlstate(), "42P01");
    assert_eq!(find_schema(&state, &who, "health").unwrap_err().sqlstate(), "3F000");
    let action = Action::Relation(40_000, RelationAction::Select);
    let required = require(&state, &who, action).unwrap_err();
    assert_eq!(format!("{required:?}"), format!("{hidden:?}"));
}

#[test]
fn a_refusal_names_the_object() {
    let state = city();
    let who = Principal::of(&state, oid("reader"));
    let refuse = |action| {
        let error = require(&state, &who, Action::Relation(40_000, action)).unwrap_err();
        (error.sqlstate(), error.message().to_owned())
    };
    assert_eq!(
        refuse(RelationAction::Insert),
        ("42501", "permission denied for table patient".to_owned())
    );
    assert_eq!(refuse(RelationAction::Own), ("42501", "must be owner of table patient".to_owned()));
}

#[test]
fn lists_hold_what_the_matrix_lets_see() {
    let state = city();
    let names = |role: &str| -> Vec<String> {
        let who = Principal::of(&state, oid(role));
        visible_relations(&state, &who).map(|relation| relation.name.clone()).collect()
    };
    assert_eq!(names("stranger"), ["air"]);
    assert_eq!(names("admin"), ["air"]);
    assert_eq!(names("nested"), ["patient", "air"]);
    assert_eq!(names("owner"), ["note", "patient", "air"]);
    assert_eq!(names("dropped"), [""; 0]);
    let who = Principal::of(&state, oid("admin"));
    assert_eq!(visible_schemas(&state, &who).count(), 2);
    assert!(!has_privilege(&state, &who, 40_000, Privilege::Select));
    assert!(has_schema_privilege(&state, &who, 30_001, Privilege::Usage));
}

#[test]
fn grants_are_made_by_the_owner_or_with_the_option() {
    let state = city();
    let (owner, reader) = (oid("owner"), oid("reader"));
    let grant = Grant {
        grantee: reader,
        grantor: owner,
        privilege: Privilege::Select,
        grantable: true,
        column: None,
    };
    let by = |role: &str, grantable: bool| {
        let grants = [Grant { grantable, ..grant.clone() }];
        grantor_for(&Principal::of(&state, oid(role)), owner, &grants, Privilege::Select, None)
    };
    assert_eq!(by("owner", true), Some(owner));
    assert_eq!(by("nested", true), Some(reader));
    assert_eq!(by("nested", false), None);
    assert_eq!(by("admin", true), None);
}

#[test]
fn built_in_roles_have_the_ids_used_here() {
    assert!(BUILT_IN_ROLES.contains(&(KHO_ADMIN, "kho_admin")));
}

fn membership(state: &State, granter: &str, role: Oid, member: &str) -> &'static str {
    let granter = Principal::of(state, oid(granter));
    match membership_allowed(state, &granter, role, oid(member)) {
        Ok(()) => "00000",
        Err(error) => error.sqlstate(),
    }
}

#[test]
fn who_manages_accounts_cannot_give_itself_the_sight_of_data() {
    let state = city();
    for data_role in ["owner", "reader", "middle", "nested", "writer", "blind", "keeper"] {
        assert_eq!(membership(&state, "admin", oid(data_role), "admin"), "KH014", "{data_role}");
    }
    // Not on a detour either, through a role it belongs to.
    let state = state.apply(&[
        role(oid("user"), "user", &[]),
        role(oid("admin"), "admin", &[KHO_ADMIN, oid("user")]),
    ]);
    assert_eq!(membership(&state, "admin", oid("reader"), "user"), "KH014");
    // Neither to all who manage accounts at one time.
    let granter = Principal::of(&state, oid("admin"));
    let error = membership_allowed(&state, &granter, oid("reader"), KHO_ADMIN).unwrap_err();
    assert_eq!(error.kind(), Kind::SeparationOfDuties);
    // Others, and roles without data, are what it is there for.
    assert_eq!(membership(&state, "admin", oid("reader"), "stranger"), "00000");
    assert_eq!(membership(&state, "admin", oid("stranger"), "admin"), "00000");
    assert_eq!(membership(&state, "admin", 11, "admin"), "00000");
}

#[test]
fn membership_needs_the_admin_option_and_makes_no_cycle() {
    let state = city();
    assert_eq!(membership(&state, "owner", oid("reader"), "stranger"), "42501");
    assert_eq!(membership(&state, "nested", oid("reader"), "stranger"), "42501");
    assert_eq!(membership(&state, "admin", oid("nested"), "reader"), "0LP01");
    assert_eq!(membership(&state, "admin", oid("nested"), "nested"), "0LP01");
    let mut boss = Role::clone(&state.roles[&oid("user")]);
    boss.member_of.insert(oid("reader"), MembershipOption::Admin);
    let state = state.apply(&[Change::PutRole(boss)]);
    assert_eq!(membership(&state, "user", oid("reader"), "stranger"), "00000");
    assert_eq!(membership(&state, "user", oid("reader"), "dropped"), "42704");
}

#[test]
fn a_cycle_that_got_in_does_not_hang() {
    let state = city().apply(&[
        role(oid("user"), "user", &[oid("blind")]),
        role(oid("blind"), "blind", &[oid("user")]),
    ]);
    let who = Principal::of(&state, oid("user"));
    assert_eq!(who.effective().len(), 3);
    assert_eq!(who.role(), oid("user"));
}

#[test]
fn a_right_on_a_column_is_on_that_column_whatever_its_name() {
    let state = city();
    let who = Principal::of(&state, oid("partial"));
    let read = |state: &State, id: u32| {
        decide(state, &who, Action::Column(40_000, id, ColumnAction::Select))
    };
    assert_eq!(read(&state, 2), Decision::Allowed(Reason::Grant(oid("partial"))));
    let relation = &state.relations[&40_000];
    assert_eq!(readable_columns(&state, &who, relation).collect::<Vec<_>>(), [2]);
    // Another column that takes the name takes nothing with it; one that is gone has no rights.
    let mut changed = Relation::clone(relation);
    changed.columns[1].name = "other".to_owned();
    changed.columns[0].name = "name".to_owned();
    let state = state.apply(&[Change::PutRelation(Box::new(changed.clone()))]);
    assert_eq!((read(&state, 1), read(&state, 2)), (Decision::Denied, read(&city(), 2)));
    changed.columns.remove(1);
    let state = state.apply(&[Change::PutRelation(Box::new(changed.clone()))]);
    assert_eq!(read(&state, 2), Decision::Hidden);
    changed.drop_lost_grants();
    assert!(changed.grants.iter().all(|grant| grant.column.is_none()));
}

#[test]
fn a_right_on_a_column_is_data_to_who_manages_accounts() {
    let state = city();
    assert_eq!(membership(&state, "admin", oid("partial"), "admin"), "KH014");
    let mut user = Role::clone(&state.roles[&oid("user")]);
    user.bypass_rls = true;
    let state = state.apply(&[Change::PutRole(user)]);
    assert_eq!(membership(&state, "admin", oid("user"), "admin"), "KH014");
}

#[test]
fn nobody_frees_itself_of_row_policies() {
    let state = city();
    let allowed = |role: Oid| match bypass_allowed(&state, oid("admin"), role) {
        Ok(()) => "00000",
        Err(error) => error.sqlstate(),
    };
    assert_eq!(allowed(oid("admin")), "KH014");
    assert_eq!(allowed(KHO_ADMIN), "KH014");
    assert_eq!(allowed(oid("reader")), "00000");
}
