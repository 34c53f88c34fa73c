//! The rights and the row policy that come with an agreement, and go with it.
//!
//! What it guarantees: what a role has by hand is not touched, neither when the agreement comes nor
//! when it is ended; a right that two agreements brought is there until both are ended.
//! A right that is granted by hand while it is an agreement's is the role's own from then on.
//! What it does not: it does not turn row security on, which would take rows from others. The right to
//! reach what is in the schema stays when the agreement ends: alone it shows no row.

use std::collections::BTreeSet;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::{Policy, PolicyCommand};
use kho_catalog::privilege::{self, Action, Principal, SchemaAction, grantor_for};
use kho_catalog::state::{
    AccessChange, Agreement, Change, Grant, Oid, Privilege, Relation, RelationKind, Schema, Tied,
};

use super::invalid;
use crate::command::relation::same;
use crate::command::{Context, name};
use crate::parse;

/// Columns that can be named.
const COLUMNS_MAX: usize = 1600;

/// The rows that were asked for, bound to the dataset, and what the binding reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// `None` is all.
    pub using: Option<String>,
    pub depends_on: Vec<Oid>,
}

/// What a role is to have.
pub(super) struct Wanted<'a> {
    pub role: Oid,
    /// Names; none is all.
    pub columns: &'a [String],
    pub rows: &'a Rows,
    /// What the policy is called.
    pub policy: String,
    /// The request that is answered.
    pub request: Option<Oid>,
}

/// The changes that give it, the dataset's first, and what is then tied to the agreement. `oid` is for
/// the policy.
///
/// # Errors
/// `55000` where some rows are wanted and row security is off, `42703` for an unknown column, `42501`
/// where the schema is not the principal's to open.
pub(super) fn bring(
    ctx: &mut Context<'_>,
    relation: &Relation,
    wanted: &Wanted<'_>,
    oid: Oid,
) -> Result<(Tied, Vec<Change>)> {
    let mut changed = Relation::clone(relation);
    let RelationKind::Table(table) = &mut changed.kind else {
        let message = format!("\"{}\" is not a table", relation.name);
        return Err(Error::new(Kind::WrongObjectType, message));
    };
    if wanted.rows.using.is_some() && !table.row_security.enabled {
        let message = format!("row security is not enabled for table \"{}\"", relation.name);
        return Err(Error::new(Kind::NotInPrerequisiteState, message)
            .with_detail("Without it the rows that are asked for would not be all that is seen.")
            .with_hint("ALTER TABLE … ENABLE ROW LEVEL SECURITY, with policies for the others."));
    }
    let policy = table.row_security.enabled.then_some(oid);
    if let Some(oid) = policy {
        let using = wanted.rows.using.clone().unwrap_or_else(|| "true".to_owned());
        table.policies.push(Policy {
            oid,
            name: wanted.policy.clone(),
            permissive: true,
            command: PolicyCommand::Select,
            roles: vec![wanted.role],
            using: Some((ctx.text)(&using)),
            with_check: None,
            depends_on: wanted.rows.depends_on.clone(),
        });
        table.policies.sort_by(|one, other| one.name.cmp(&other.name));
    }
    let grants = new_grants(ctx, relation, wanted)?;
    changed.grants.extend(grants.iter().filter(|it| !is_held(relation, it)).cloned());
    let mut changes = vec![Change::PutRelation(Box::new(changed))];
    changes.extend(usage(ctx, relation, wanted.role)?.map(Change::PutSchema));
    Ok((Tied { request: wanted.request, grants, policy }, changes))
}

/// The dataset without the rights and the policy that came with an agreement, but for what came
/// with another one, too; `None` where that is no change.
pub(super) fn without(ctx: &Context<'_>, agreement: &Agreement) -> Option<Change> {
    let tied = agreement.tied.as_ref()?;
    let relation = ctx.state.relations.get(&agreement.relation)?;
    let mut changed = Relation::clone(relation);
    changed.grants.retain(|grant| {
        !tied.grants.iter().any(|it| is_tied_as(relation, it, grant))
            || is_tied(ctx, relation, grant, Some(agreement.oid))
    });
    if let RelationKind::Table(table) = &mut changed.kind {
        table.policies.retain(|policy| tied.policy != Some(policy.oid));
    }
    (changed != **relation).then(|| Change::PutRelation(Box::new(changed)))
}

/// The agreements that `given` rights on `relation` are no longer tied to, since they were given by
/// hand, too.
pub(crate) fn given_by_hand(
    ctx: &Context<'_>,
    relation: &Relation,
    given: &[Grant],
) -> Vec<Change> {
    let is_given = |it: &Grant| given.iter().any(|grant| is_tied_as(relation, it, grant));
    let untied = |agreement: &Arc<Agreement>| {
        let tied = agreement.tied.as_ref().filter(|_| agreement.ended.is_none())?;
        if !tied.grants.iter().any(is_given) {
            return None;
        }
        let mut changed = Agreement::clone(agreement);
        changed.tied.as_mut()?.grants.retain(|it| !is_given(it));
        Some(Change::Access(AccessChange::PutAgreement(Box::new(changed))))
    };
    ctx.state.agreements_on(relation.oid).filter_map(untied).collect()
}

/// Names separated by commas, folded as identifiers are; none is all.
pub(super) fn columns(written: &str) -> Result<Vec<String>> {
    if written.trim().is_empty() || written.trim() == "*" {
        return Ok(Vec::new());
    }
    let mut names = BTreeSet::new();
    for part in written.split(',') {
        let parsed = name::parts(&parse::relation_name(part.trim())?)?;
        match parsed.as_slice() {
            [column] => names.insert(column.clone()),
            _ => return Err(invalid(format!("\"{part}\" is not a name of a column"))),
        };
    }
    match names.len() <= COLUMNS_MAX {
        true => Ok(names.into_iter().collect()),
        false => Err(Error::new(Kind::ProgramLimitExceeded, "too many columns are named")),
    }
}

/// The order that an agreement on these purposes is for.
///
/// # Errors
/// `22023` where a purpose needs one and there is none, or none does and there is one.
pub(super) fn order_number(
    ctx: &Context<'_>,
    purposes: &BTreeSet<String>,
    given: Option<&str>,
) -> Result<Option<String>> {
    let known = &ctx.state.access.purposes;
    let needing = purposes.iter().find(|it| known.get(it).is_some_and(|it| it.needs_order));
    match (needing, given.map(str::trim).filter(|it| !it.is_empty())) {
        (Some(code), None) => {
            Err(invalid(format!("the purpose \"{code}\" needs the number of an order"))
                .with_hint("order_number => '…' names the order that is acted on."))
        }
        (None, Some(_)) => Err(invalid("none of the purposes needs the number of an order")),
        (_, number) => Ok(number.map(str::to_owned)),
    }
}

/// The rights that are wanted and that the role does not have otherwise.
fn new_grants(ctx: &Context<'_>, relation: &Relation, wanted: &Wanted<'_>) -> Result<Vec<Grant>> {
    let grant = |column: Option<u32>| Grant {
        grantee: wanted.role,
        grantor: relation.owner,
        privilege: Privilege::Select,
        grantable: false,
        column,
    };
    let id = |name: &String| match relation.column(name) {
        Some(column) => Ok(grant(Some(column.id))),
        None => Err(Error::new(
            Kind::UndefinedColumn,
            format!("column \"{name}\" of relation \"{}\" does not exist", relation.name),
        )),
    };
    let mut grants = match wanted.columns {
        [] => vec![grant(None)],
        columns => columns.iter().map(id).collect::<Result<Vec<_>>>()?,
    };
    // What it was given by hand is not the agreement's to end; what another one brought is of both.
    grants.retain(|grant| !is_held(relation, grant) || is_tied(ctx, relation, grant, None));
    Ok(grants)
}

fn is_held(relation: &Relation, grant: &Grant) -> bool {
    relation.grants.iter().any(|it| same(it, grant))
}

/// Whether an agreement that was not ended has brought this right, another one than `but`.
fn is_tied(ctx: &Context<'_>, relation: &Relation, grant: &Grant, but: Option<Oid>) -> bool {
    let open = ctx.state.agreements_on(relation.oid);
    let open = open.filter(|it| it.ended.is_none() && Some(it.oid) != but);
    let mut brought = open.filter_map(|it| it.tied.as_ref()).flat_map(|it| &it.grants);
    brought.any(|it| is_tied_as(relation, it, grant))
}

/// Whether a right is one that was brought, also where the dataset has another owner since.
fn is_tied_as(relation: &Relation, brought: &Grant, grant: &Grant) -> bool {
    let what = |it: &Grant| (it.grantee, it.privilege, it.column);
    let by = [brought.grantor, relation.owner].contains(&grant.grantor);
    what(brought) == what(grant) && by
}

/// The schema with the right to reach what is in it, where the role lacks that.
fn usage(ctx: &Context<'_>, relation: &Relation, role: Oid) -> Result<Option<Schema>> {
    let reach = Action::Schema(relation.schema, SchemaAction::Use);
    let grantee = Principal::of(ctx.state, role);
    if privilege::require(ctx.state, &grantee, reach).is_ok() {
        return Ok(None);
    }
    let schema = ctx.state.schemas.get(&relation.schema);
    let schema = schema.ok_or_else(|| Error::internal("a relation's schema is not there"))?;
    let grantor = grantor_for(ctx.who, schema.owner, &schema.grants, Privilege::Usage, None);
    let grantor = grantor.ok_or_else(|| {
        let message = format!("permission denied for schema {}", schema.name);
        Error::new(Kind::InsufficientPrivilege, message)
            .with_hint("The role cannot reach what is in the schema; its owner can GRANT USAGE.")
    })?;
    let mut changed = Schema::clone(schema);
    let privilege = Privilege::Usage;
    changed.grants.push(Grant {
        grantee: role,
        grantor,
        privilege,
        grantable: false,
        column: None,
    });
    Ok(Some(changed))
}
