//! `kho.api_tokens`, `kho.identities`.
//!
//! What it guarantees: one sees one's own; `kho_admin` and `kho_auditor` see all. Neither a secret nor
//! its hash is shown, and no dataset that does not exist for who looks.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use kho_catalog::error::Result;
use kho_catalog::privilege::{
    self, Action, Covered, Decision, KHO_ADMIN, Reach, RelationAction, SchemaAction,
};
use kho_catalog::state::ApiToken;

use super::access::{KHO_AUDITOR, role};
use super::columns::Columns;
use crate::command::depend::full_name;
use crate::scope::Scope;

pub(super) fn api_tokens(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let all = scope.who.serves(KHO_ADMIN) || scope.who.serves(KHO_AUDITOR);
    let tokens = scope.state.access.tokens.values();
    let rows: Vec<_> = tokens.filter(|it| all || it.role == scope.who.role()).collect();
    let revoked = || rows.iter().map(|it| it.revoked.as_ref());
    let purposes = |it: &ApiToken| {
        let purposes = it.purposes.as_ref()?;
        Some(purposes.iter().cloned().collect::<Vec<_>>().join(","))
    };
    Columns::new(rows.len())
        .text("name", rows.iter().map(|it| Some(it.name.clone())))
        .text("role", rows.iter().map(|it| Some(role(scope, it.role))))
        .text("scope", rows.iter().map(|it| Some(reach(it).to_owned())))
        .text("datasets", rows.iter().map(|it| datasets(scope, it)))
        .text("purposes", rows.iter().map(|it| purposes(it)))
        .time("valid_until", rows.iter().map(|it| Some(it.valid_until_ms)))
        .text("state", rows.iter().map(|it| Some(it.standing(scope.now_ms).to_owned())))
        .text("created_by", rows.iter().map(|it| Some(role(scope, it.created_by))))
        .time("created_at", rows.iter().map(|it| Some(it.created_ms)))
        .text("revoked_by", revoked().map(|it| it.map(|it| role(scope, it.by))))
        .time("revoked_at", revoked().map(|it| it.map(|it| it.at_ms)))
        .table()
}

pub(super) fn identities(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let all = scope.who.serves(KHO_ADMIN) || scope.who.serves(KHO_AUDITOR);
    let identities = scope.state.access.identities.values();
    let rows: Vec<_> = identities.filter(|it| all || it.role == scope.who.role()).collect();
    Columns::new(rows.len())
        .text("kind", rows.iter().map(|it| Some(it.kind.name().to_owned())))
        .text("identity", rows.iter().map(|it| it.identity.value().map(str::to_owned)))
        .text("role", rows.iter().map(|it| Some(role(scope, it.role))))
        .text("mapped_by", rows.iter().map(|it| Some(role(scope, it.mapped_by))))
        .time("mapped_at", rows.iter().map(|it| Some(it.mapped_ms)))
        .table()
}

fn reach(token: &ApiToken) -> &'static str {
    match token.reach {
        Reach::Read => "read",
        Reach::Write => "write",
    }
}

/// As they are called now; of what does not exist, or not for who looks, there is an ellipsis.
fn datasets(scope: &Scope, token: &ApiToken) -> Option<String> {
    let state = &scope.state;
    let sees = |action| {
        let decision = privilege::decide(state, &scope.who, action);
        matches!(decision, Decision::Allowed(_))
    };
    let name = |covered: &Covered| match covered {
        Covered::Relation(oid) => {
            let relation = state.relations.get(oid)?;
            sees(Action::Relation(*oid, RelationAction::See)).then(|| full_name(state, relation))
        }
        Covered::Schema(oid) => {
            let schema = state.schemas.get(oid)?;
            sees(Action::Schema(*oid, SchemaAction::See)).then(|| format!("{}.*", schema.name))
        }
    };
    let names = token.datasets.as_ref()?.iter();
    let names = names.map(|it| name(it).unwrap_or_else(|| "…".to_owned()));
    Some(names.collect::<Vec<_>>().join(","))
}
