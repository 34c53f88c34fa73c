//! Rights: how `relacl` writes them, and whether a role has one.
//!
//! What it guarantees: an answer comes from the grants in the state and from membership; there is
//! no superuser who is told yes. What it does not: it enforces nothing.

use std::collections::BTreeSet;

use kho_catalog::state::{Grant, MembershipOption, Oid, PUBLIC, Privilege, State};

use super::CatalogView;
use super::object::{known_role_name, quote_identifier};

/// The rights of a dataset or view, in PostgreSQL's order.
pub const RELATION: &[Privilege] = &[
    Privilege::Insert,
    Privilege::Select,
    Privilege::Update,
    Privilege::Delete,
    Privilege::Truncate,
];
/// The rights of a schema, in PostgreSQL's order.
pub const SCHEMA: &[Privilege] = &[Privilege::Usage, Privilege::Create];

/// The rights of a column, in PostgreSQL's order.
pub const COLUMN: &[Privilege] = &[Privilege::Insert, Privilege::Select, Privilege::Update];

/// The `aclitem[]` of an object; `None` where only its owner has rights, as in PostgreSQL.
pub fn items(
    view: &CatalogView,
    owner: Oid,
    grants: &[Grant],
    all: &[Privilege],
) -> Option<Vec<String>> {
    let grants: Vec<Grant> = grants.iter().filter(|it| it.column.is_none()).cloned().collect();
    if grants.is_empty() {
        return None;
    }
    let mut items = Vec::new();
    if !grants.iter().any(|grant| grant.grantee == owner) {
        let letters: String = all.iter().copied().map(letter).collect();
        items.push(format!("{0}={letters}/{0}", role(view, owner)));
    }
    items.extend(written(view, &grants, all));
    Some(items)
}

/// The `aclitem[]` of the column with this id: an owner's rights are those on the whole.
pub fn column_items(view: &CatalogView, grants: &[Grant], column: u32) -> Option<Vec<String>> {
    let of_column = grants.iter().filter(|it| it.column == Some(column));
    let items = written(view, &of_column.cloned().collect::<Vec<_>>(), COLUMN);
    (!items.is_empty()).then_some(items)
}

/// Each pair of grantee and grantor with the letters of what was given.
pub fn written(view: &CatalogView, grants: &[Grant], all: &[Privilege]) -> Vec<String> {
    let mut items = Vec::new();
    let mut pairs: Vec<(Oid, Oid)> = Vec::new();
    for grant in grants {
        let pair = (grant.grantee, grant.grantor);
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    for (grantee, grantor) in pairs {
        let mut letters = String::new();
        for privilege in all {
            let mut given = grants.iter().filter(|it| {
                it.grantee == grantee && it.grantor == grantor && it.privilege == *privilege
            });
            if let Some(grant) = given.next() {
                letters.push(letter(*privilege));
                if grant.grantable {
                    letters.push('*');
                }
            }
        }
        items.push(format!("{}={letters}/{}", role(view, grantee), role(view, grantor)));
    }
    items
}

/// The name of a right in `information_schema`.
pub fn name(privilege: Privilege) -> &'static str {
    match privilege {
        Privilege::Usage => "USAGE",
        Privilege::Create => "CREATE",
        Privilege::Select => "SELECT",
        Privilege::Insert => "INSERT",
        Privilege::Update => "UPDATE",
        Privilege::Delete => "DELETE",
        Privilege::Truncate => "TRUNCATE",
    }
}

/// The roles whose rights `role` has: itself, all it belongs to, everyone.
pub fn closure(state: &State, role: Oid) -> BTreeSet<Oid> {
    let mut closure = BTreeSet::from([role, PUBLIC]);
    let mut open = vec![role];
    while let Some(next) = open.pop() {
        let of = state.roles.get(&next).into_iter().flat_map(|role| role.member_of.keys());
        for parent in of {
            if closure.insert(*parent) {
                open.push(*parent);
            }
        }
    }
    closure
}

/// Whether `role` belongs to `of`, or is it; with `admin` whether it may grant that membership.
pub fn is_member(state: &State, role: Oid, of: Oid, admin: Option<MembershipOption>) -> bool {
    let closure = closure(state, role);
    match admin {
        None | Some(MembershipOption::Member) => of != PUBLIC && closure.contains(&of),
        Some(MembershipOption::Admin) => closure
            .iter()
            .filter_map(|it| state.roles.get(it))
            .any(|it| it.member_of.get(&of) == Some(&MembershipOption::Admin)),
    }
}

/// Whether a role with `closure` has `privilege` by owning, or by a grant on the whole.
pub fn has(
    closure: &BTreeSet<Oid>,
    owner: Oid,
    grants: &[Grant],
    privilege: Privilege,
    grantable: bool,
) -> bool {
    has_on(closure, owner, grants, privilege, grantable, |column| column.is_none())
}

/// The same by a grant on anything that `on` says yes to.
pub fn has_on(
    closure: &BTreeSet<Oid>,
    owner: Oid,
    grants: &[Grant],
    privilege: Privilege,
    grantable: bool,
    on: impl Fn(Option<u32>) -> bool,
) -> bool {
    let given = |grant: &Grant| {
        grant.privilege == privilege
            && on(grant.column)
            && closure.contains(&grant.grantee)
            && (grant.grantable || !grantable)
    };
    closure.contains(&owner) || grants.iter().any(given)
}

fn letter(privilege: Privilege) -> char {
    match privilege {
        Privilege::Usage => 'U',
        Privilege::Create => 'C',
        Privilege::Select => 'r',
        Privilege::Insert => 'a',
        Privilege::Update => 'w',
        Privilege::Delete => 'd',
        Privilege::Truncate => 'D',
    }
}

fn role(view: &CatalogView, oid: Oid) -> String {
    match oid {
        PUBLIC => String::new(),
        oid => known_role_name(view, oid).map_or(oid.to_string(), |name| quote_identifier(&name)),
    }
}
