//! `kho.explain_access(role, dataset)`: what a role would see of a dataset, by what, and what is
//! missing.
//!
//! What it guarantees: it is asked by the role itself, or who belongs to it, by the dataset's owner,
//! and by an auditor; for anybody else, and for a dataset that the asker may not know, there is no
//! such dataset. It decides with the functions that decide when the role reads. What policies and
//! masks say can quote what they hide, so here, too, it is told to the owner and to auditors alone.
//! What it does not: it reads no row.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use kho_catalog::agreement::{self, Stated};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::freeze;
use kho_catalog::policy::{self, PolicyCommand};
use kho_catalog::privilege::{self, Action, Principal, Reason, RelationAction, SchemaAction};
use kho_catalog::state::{Agreement, Oid, Relation, State};

use super::access::KHO_AUDITOR;
use super::columns::Columns;
use crate::command::name;
use crate::limit::bound::{Left, left_of_quotas};
use crate::parse;
use crate::scope::Scope;
use crate::secure;

/// One thing that decides.
struct Line {
    aspect: &'static str,
    /// Which right, policy, column, purpose it is about.
    subject: String,
    /// `allowed`, `refused`, or what it does.
    effect: String,
    detail: Option<String>,
    /// What to do where it is refused, and whom to ask.
    missing: Option<String>,
}

pub(super) fn explain_access(
    scope: &Scope,
    role: &str,
    dataset: &str,
) -> Result<Arc<dyn TableProvider>> {
    let state = &scope.state;
    let found = state.role(role).ok_or_else(|| {
        Error::new(Kind::UndefinedObject, format!("role \"{role}\" does not exist"))
    })?;
    let relation = relation(scope, found.oid, dataset)?;
    let who = Principal::of(state, found.oid);
    let mut lines = rights(state, &who, relation);
    lines.extend(columns(state, &who, relation));
    lines.extend(frozen(state, &who, relation));
    lines.extend(rows(scope, &who, relation)?);
    lines.extend(masked(scope, &who, relation));
    lines.extend(purposes(scope, &who, relation));
    lines.extend(quotas(scope, &who, relation));
    Columns::new(lines.len())
        .text("aspect", lines.iter().map(|it| Some(it.aspect.to_owned())))
        .text("subject", lines.iter().map(|it| Some(it.subject.clone())))
        .text("effect", lines.iter().map(|it| Some(it.effect.clone())))
        .text("detail", lines.iter().map(|it| it.detail.clone()))
        .text("missing", lines.iter().map(|it| it.missing.clone()))
        .table()
}

/// The dataset, if it is there for the asker, who may know of the role's access to it.
fn relation<'a>(scope: &'a Scope, role: Oid, written: &str) -> Result<&'a Relation> {
    let (state, who) = (&scope.state, &scope.who);
    let qualified = name::qualified(&parse::relation_name(written)?)?;
    let path = match &qualified.schema {
        Some(schema) => vec![schema.clone()],
        None => scope.search_path(),
    };
    let mut schemas = path.iter().filter_map(|schema| state.schema(schema));
    let found = schemas.find_map(|schema| state.relation(schema.oid, &qualified.name));
    let sees = |relation: &Relation| {
        let see = Action::Relation(relation.oid, RelationAction::See);
        privilege::require(state, who, see).is_ok()
    };
    let may = |relation: &Relation| {
        who.serves(KHO_AUDITOR) || (sees(relation) && (who.is(role) || who.is(relation.owner)))
    };
    found.map(AsRef::as_ref).filter(|it| may(it)).ok_or_else(|| {
        let message = format!("relation \"{qualified}\" does not exist");
        Error::new(Kind::UndefinedTable, message)
            .with_hint("Its owner, an auditor and the role itself may ask.")
    })
}

fn rights(state: &State, who: &Principal, relation: &Relation) -> Vec<Line> {
    let owner = role(state, relation.owner);
    let schema_owner = state.schemas.get(&relation.schema).map_or("?", |it| role(state, it.owner));
    let actions = [
        ("USAGE on its schema", Action::Schema(relation.schema, SchemaAction::Use), schema_owner),
        ("SELECT", Action::Relation(relation.oid, RelationAction::Select), owner),
        ("INSERT", Action::Relation(relation.oid, RelationAction::Insert), owner),
        ("UPDATE", Action::Relation(relation.oid, RelationAction::Update), owner),
        ("DELETE", Action::Relation(relation.oid, RelationAction::Delete), owner),
    ];
    let line = |(subject, action, owner): (&str, Action, &str)| {
        let (effect, detail, missing) = match privilege::require(state, who, action) {
            Ok(reason) => ("allowed", Some(by(state, reason)), None),
            Err(_) => ("refused", None, Some(format!("Ask role \"{owner}\" to grant it."))),
        };
        let (subject, effect) = (subject.to_owned(), effect.to_owned());
        Line { aspect: "privilege", subject, effect, detail, missing }
    };
    actions.into_iter().map(line).collect()
}

/// The columns that may be read where not all may.
fn columns(state: &State, who: &Principal, relation: &Relation) -> Option<Line> {
    let readable: Vec<u32> = privilege::readable_columns(state, who, relation).collect();
    if readable.is_empty() || readable.len() == relation.columns.len() {
        return None;
    }
    let names = relation.columns.iter().filter(|it| readable.contains(&it.id));
    let names: Vec<&str> = names.map(|it| it.name.as_str()).collect();
    Some(Line {
        aspect: "privilege",
        subject: "SELECT of columns".to_owned(),
        effect: "allowed".to_owned(),
        detail: Some(names.join(", ")),
        missing: None,
    })
}

fn by(state: &State, reason: Reason) -> String {
    match reason {
        Reason::Owner(of) => format!("as its owner, role \"{}\"", role(state, of)),
        Reason::SchemaOwner(of) => format!("as the schema's owner, role \"{}\"", role(state, of)),
        Reason::Grant(to) => format!("granted to role \"{}\"", role(state, to)),
        Reason::Role(of) => format!("as a member of \"{}\"", role(state, of)),
    }
}

fn frozen(state: &State, who: &Principal, relation: &Relation) -> Vec<Line> {
    let role_name = role(state, who.role()).to_owned();
    let checks = [
        (role_name, freeze::refuse_frozen_role(state, who)),
        (relation.name.clone(), freeze::refuse_frozen_relation(state, relation.oid)),
    ];
    let line = |(subject, checked): (String, Result<()>)| {
        let error = checked.err()?;
        Some(refusal("freeze", subject, &error))
    };
    checks.into_iter().filter_map(line).collect()
}

/// Which rows its policies let through.
fn rows(scope: &Scope, who: &Principal, relation: &Relation) -> Result<Vec<Line>> {
    let line = |subject: String, effect: &str, detail: Option<String>| Line {
        aspect: "policy",
        subject,
        effect: effect.to_owned(),
        detail,
        missing: None,
    };
    let Some(applied) = policy::applied(&scope.state, relation, who, PolicyCommand::Select) else {
        return Ok(vec![line("rows".to_owned(), "all rows", None)]);
    };
    if applied.permissive.is_empty() {
        let owner = role(&scope.state, relation.owner);
        return Ok(vec![Line {
            missing: Some(format!("Ask role \"{owner}\", its owner, for a policy.")),
            ..line("rows".to_owned(), "no row", Some("no policy is for this role".to_owned()))
        }]);
    }
    let is_told = tells_texts(scope, relation);
    let mut lines = Vec::new();
    for (policies, effect) in [
        (&applied.permissive, "rows for which this holds"),
        (&applied.restrictive, "only rows for which this holds"),
    ] {
        for policy in policies {
            let using = policy.using.as_ref().filter(|_| is_told).and_then(|text| text.value());
            let shown = using.map(|it| secure::in_terms_of_names(it, relation)).transpose()?;
            lines.push(line(policy.name.clone(), effect, shown));
        }
    }
    Ok(lines)
}

fn masked(scope: &Scope, who: &Principal, relation: &Relation) -> Vec<Line> {
    let (state, is_told) = (&scope.state, tells_texts(scope, relation));
    let line = |column: &kho_catalog::state::Column| {
        let masks = policy::masks(state, relation, column, who);
        let effect = match masks.as_slice() {
            [] => return None,
            [_] => "masked",
            _ => "hidden: several masks cover it",
        };
        let texts: Vec<&str> = masks.iter().filter_map(|it| it.using.value()).collect();
        Some(Line {
            aspect: "mask",
            subject: column.name.clone(),
            effect: effect.to_owned(),
            detail: is_told.then(|| texts.join("; ")),
            missing: None,
        })
    };
    relation.columns.iter().filter_map(line).collect()
}

/// Whether the one who asks may know what policies and masks say.
fn tells_texts(scope: &Scope, relation: &Relation) -> bool {
    scope.who.is(relation.owner) || scope.who.serves(KHO_AUDITOR)
}

/// What would be answered for each purpose that the role could state.
fn purposes(scope: &Scope, who: &Principal, relation: &Relation) -> Vec<Line> {
    let state = &scope.state;
    let decide = |purpose: &str, order: &str| {
        let stated = Stated { purpose: purpose.to_owned(), order: order.to_owned() };
        agreement::decide(state, who, relation, &stated, scope.now_ms)
    };
    let none = match decide("", "") {
        Ok(_) => {
            return vec![Line {
                aspect: "purpose",
                subject: "none".to_owned(),
                effect: "allowed".to_owned(),
                detail: None,
                missing: None,
            }];
        }
        Err(error) => refusal("purpose", "none".to_owned(), &error),
    };
    let allowed = relation.table().map(|table| &table.governance.allowed_purposes);
    let codes = state.access.purposes.0.keys();
    let codes = codes.filter(|code| allowed.is_none_or(|it| it.is_empty() || it.contains(*code)));
    let line = |code: &String| {
        let needs_order = state.access.purposes.get(code).is_some_and(|it| it.needs_order);
        // Of the orders that were agreed on, one.
        let mut mine = state.agreements_on(relation.oid).filter(|it| {
            it.is_live(scope.now_ms)
                && it.purposes.contains(code)
                && agreement::binds(state, who, it)
        });
        let order = mine.find_map(|it| it.order_number.clone()).filter(|_| needs_order);
        let stated = order.as_deref().unwrap_or(if needs_order { "any" } else { "" });
        match decide(code, stated) {
            Ok(term) => {
                let ids = term.agreements.iter().map(|id| format!("agreement {id}"));
                let mut detail: Vec<String> = ids.collect();
                let until = term.until_ms.and_then(chrono::DateTime::from_timestamp_millis);
                detail.extend(until.map(|it| format!("until {}", it.to_rfc3339())));
                detail.extend(order.map(|it| format!("with the order {it}")));
                Line {
                    aspect: "purpose",
                    subject: code.clone(),
                    effect: "allowed".to_owned(),
                    detail: (!detail.is_empty()).then(|| detail.join(", ")),
                    missing: None,
                }
            }
            Err(error) => refusal("purpose", code.clone(), &error),
        }
    };
    std::iter::once(none).chain(codes.map(line)).collect()
}

/// What is left of the quotas of the agreements that hold.
fn quotas(scope: &Scope, who: &Principal, relation: &Relation) -> Vec<Line> {
    let state = &scope.state;
    let bound = |it: &Agreement| it.is_live(scope.now_ms) && agreement::binds(state, who, it);
    let agreements: Vec<Oid> =
        state.agreements_on(relation.oid).filter(|it| bound(it)).map(|it| it.oid).collect();
    let line = |Left { of, left, value, refusal: error }: Left| {
        let subject = format!("{of} of this day");
        match left {
            0 => Line { detail: None, ..refusal("quota", subject, &error) },
            left => Line {
                aspect: "quota",
                subject,
                effect: format!("{left} left of {value}"),
                detail: None,
                missing: None,
            },
        }
    };
    left_of_quotas(&scope.shared, state, &agreements).into_iter().map(line).collect()
}

fn refusal(aspect: &'static str, subject: String, error: &Error) -> Line {
    Line {
        aspect,
        subject,
        effect: "refused".to_owned(),
        detail: Some(format!("{} {}", error.sqlstate(), error.message())),
        missing: error.hint().map(str::to_owned),
    }
}

fn role(state: &State, oid: Oid) -> &str {
    match oid {
        kho_catalog::state::PUBLIC => "public",
        oid => state.roles.get(&oid).map_or("?", |role| &role.name),
    }
}
