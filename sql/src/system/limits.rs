//! `kho.role_limits`: what a role may use, and what it uses now.
//!
//! What it guarantees: one sees one's own, and those of roles that one belongs to, which hold for
//! oneself; `kho_admin` and `kho_auditor` see all. What is used is by the role that the limit was
//! set for, or where that is a group of one's own, by oneself: memory, connections and running
//! statements on this server, rows and bytes of today on all of them.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use kho_catalog::error::Result;
use kho_catalog::privilege::{KHO_ADMIN, KHO_AUDITOR};
use kho_catalog::state::{LimitName, Oid};

use super::columns::Columns;
use crate::scope::Scope;

struct Row {
    role: String,
    name: &'static str,
    value: u64,
    used: Option<u64>,
}

pub(super) fn role_limits(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let (state, who) = (&scope.state, &scope.who);
    let all = who.serves(KHO_ADMIN) || who.serves(KHO_AUDITOR);
    let mut rows = Vec::new();
    for role in state.roles.values().filter(|it| all || who.is(it.oid)) {
        let user = match who.is(role.oid) {
            true => who.role(),
            false => role.oid,
        };
        let of = |name, value, used| Row { role: role.name.clone(), name, value, used };
        if let Some(limit) = role.connection_limit {
            // It is no limit of those that belong to the role.
            let used = scope.shared.seats.of(role.oid);
            rows.push(of("connections", u64::from(limit), Some(u64::from(used))));
        }
        let limits = state.access.limits.get(&role.oid);
        for (name, value) in limits.iter().flat_map(|it| &it.values) {
            rows.push(of(name.name(), *value, used(scope, *name, user)));
        }
    }
    let number = |value: u64| i64::try_from(value).ok();
    Columns::new(rows.len())
        .text("role", rows.iter().map(|it| Some(it.role.clone())))
        .text("name", rows.iter().map(|it| Some(it.name.to_owned())))
        .number("value", rows.iter().map(|it| number(it.value)))
        .number("used", rows.iter().map(|it| it.used.and_then(number)))
        .table()
}

/// What `role` uses of it now; `None` of what begins anew with each statement.
fn used(scope: &Scope, name: LimitName, role: Oid) -> Option<u64> {
    match name {
        LimitName::ConcurrentStatements => Some(scope.shared.running.of(role)),
        LimitName::Memory => Some(scope.shared.memory_of(role)),
        LimitName::RowsPerDay => Some(scope.shared.usage.today().of_role(role).rows),
        LimitName::BytesPerDay => Some(scope.shared.usage.today().of_role(role).bytes),
        LimitName::StatementTime | LimitName::RowsPerStatement | LimitName::BytesPerStatement => {
            None
        }
    }
}
