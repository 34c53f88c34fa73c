//! `CREATE`, `ALTER` and `DROP POLICY`, and whether a table's policies hold.
//!
//! What it guarantees: only a table's owner decides about its policies. Expressions come here bound
//! and checked, with columns by their ids.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::{self, Policy, PolicyCommand, RowSecurity};
use kho_catalog::state::{Change, Oid, PUBLIC, Relation, RelationKind, State, Table};
use sqlparser::ast::{
    AlterPolicy, AlterPolicyOperation, AlterTableOperation, CreatePolicy, CreatePolicyCommand,
    CreatePolicyType, DropPolicy, Expr, Ident, ObjectName, Owner, visit_expressions,
};

use super::name::{self, Expected, fold};
use super::{Context, Planned, notice, warning};
use crate::parse;

/// The expressions of a policy in the form that is kept, and the relations that they read.
#[derive(Clone, Default)]
pub(crate) struct Expressions {
    pub using: Option<String>,
    pub with_check: Option<String>,
    pub depends_on: Vec<Oid>,
}

/// `CREATE POLICY`.
///
/// # Errors
/// `42710` for a name that the table has, `42601` for a clause that the command cannot have.
pub(crate) fn create(
    ctx: &mut Context<'_>,
    statement: &CreatePolicy,
    expressions: &Expressions,
) -> Result<Planned> {
    let mut planned = Planned::new("CREATE POLICY");
    let mut relation = owned(ctx, &statement.table_name)?;
    let command = command(statement.command.as_ref());
    refuse_clauses(command, statement.using.is_some(), statement.with_check.is_some())?;
    let name = name::created(&statement.name, &mut planned.notices)?;
    let roles = roles(ctx, statement.to.as_deref(), &mut planned)?;
    let oid = ctx.state.new_oid(0);
    let mut text = |text: &String| (ctx.text)(text);
    let policy = Policy {
        oid,
        name,
        permissive: !matches!(statement.policy_type, Some(CreatePolicyType::Restrictive)),
        command,
        roles,
        using: expressions.using.as_ref().map(&mut text),
        with_check: expressions.with_check.as_ref().map(&mut text),
        depends_on: expressions.depends_on.clone(),
    };
    let table_name = relation.name.clone();
    let policies = &mut table(&mut relation)?.policies;
    if policies.iter().any(|it| it.name == policy.name) {
        return Err(taken(&policy.name, &table_name));
    }
    policies.push(policy);
    policies.sort_by(|one, other| one.name.cmp(&other.name));
    planned.changes.push(Change::PutRelation(Box::new(relation)));
    Ok(planned)
}

/// `ALTER POLICY`.
///
/// # Errors
/// `42704` for a policy that is not there, and as [`create`].
pub(crate) fn alter(
    ctx: &mut Context<'_>,
    statement: &AlterPolicy,
    expressions: &Expressions,
) -> Result<Planned> {
    let mut planned = Planned::new("ALTER POLICY");
    let mut relation = owned(ctx, &statement.table_name)?;
    let (name, table_name) = (fold(&statement.name), relation.name.clone());
    let position = place_of(&mut relation, &name)?;
    let mut changed = match table(&mut relation)?.policies.get(position) {
        Some(policy) => policy.clone(),
        None => return Err(missing(&name, &table_name)),
    };
    match &statement.operation {
        AlterPolicyOperation::Rename { new_name } => {
            changed.name = name::created(new_name, &mut planned.notices)?;
            if table(&mut relation)?.policies.iter().any(|it| it.name == changed.name) {
                return Err(taken(&changed.name, &table_name));
            }
        }
        AlterPolicyOperation::Apply { to, using, with_check } => {
            refuse_clauses(changed.command, using.is_some(), with_check.is_some())?;
            if to.is_some() {
                changed.roles = roles(ctx, to.as_deref(), &mut planned)?;
            }
            if let Some(using) = &expressions.using {
                changed.using = Some((ctx.text)(using));
            }
            if let Some(with_check) = &expressions.with_check {
                changed.with_check = Some((ctx.text)(with_check));
            }
            // What an expression that stays reads is not known apart from the other's.
            changed.depends_on.extend(&expressions.depends_on);
            changed.depends_on.sort_unstable();
            changed.depends_on.dedup();
        }
    }
    let policies = &mut table(&mut relation)?.policies;
    if let Some(policy) = policies.get_mut(position) {
        *policy = changed;
    }
    policies.sort_by(|one, other| one.name.cmp(&other.name));
    planned.changes.push(Change::PutRelation(Box::new(relation)));
    Ok(planned)
}

/// `DROP POLICY`. Nothing depends on one, so `CASCADE` and `RESTRICT` are the same.
///
/// # Errors
/// `42704` for a policy that is not there.
pub(crate) fn drop(ctx: &Context<'_>, statement: &DropPolicy) -> Result<Planned> {
    let mut planned = Planned::new("DROP POLICY");
    let mut relation = match owned(ctx, &statement.table_name) {
        Err(error) if statement.if_exists && error.kind() == Kind::UndefinedTable => {
            planned.notices.push(notice(format!("{error}, skipping")));
            return Ok(planned);
        }
        other => other?,
    };
    match place_of(&mut relation, &fold(&statement.name)) {
        Ok(position) => {
            table(&mut relation)?.policies.remove(position);
        }
        Err(error) if statement.if_exists => {
            planned.notices.push(notice(format!("{error}, skipping")));
            return Ok(planned);
        }
        Err(error) => return Err(error),
    }
    planned.changes.push(Change::PutRelation(Box::new(relation)));
    Ok(planned)
}

/// What `ALTER TABLE … ROW LEVEL SECURITY` makes of `security`; `None` for another operation.
pub(super) fn row_security(
    security: RowSecurity,
    operation: &AlterTableOperation,
) -> Option<RowSecurity> {
    Some(match operation {
        AlterTableOperation::EnableRowLevelSecurity => RowSecurity { enabled: true, ..security },
        AlterTableOperation::DisableRowLevelSecurity => RowSecurity { enabled: false, ..security },
        AlterTableOperation::ForceRowLevelSecurity => RowSecurity { forced: true, ..security },
        AlterTableOperation::NoForceRowLevelSecurity => RowSecurity { forced: false, ..security },
        _ => return None,
    })
}

/// The policies of other tables that read one of `oids`, with their tables.
pub(super) fn reading<'a>(
    state: &'a State,
    oids: &BTreeSet<Oid>,
) -> Vec<(&'a Arc<Relation>, &'a Policy)> {
    let others = state.relations.values().filter(|it| !oids.contains(&it.oid));
    others
        .flat_map(|relation| {
            let policies = relation.table().map(|table| table.policies.as_slice());
            policies.unwrap_or_default().iter().map(move |policy| (relation, policy))
        })
        .filter(|(_, policy)| policy.depends_on.iter().any(|oid| oids.contains(oid)))
        .collect()
}

/// The policies of `table` that name its column `id`. One whose text was erased names nothing.
pub(super) fn naming_column(table: &Table, id: u32) -> Result<Vec<String>> {
    let name = policy::column_name(id);
    let mut found = Vec::new();
    for policy in &table.policies {
        for text in [&policy.using, &policy.with_check].into_iter().flatten() {
            let Some(text) = text.value() else { continue };
            let names = |expr: &Expr| matches!(expr, Expr::Identifier(it) if it.value == name);
            let is_named = visit_expressions(&parse::expression(text)?, |expr| match names(expr) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
            if is_named.is_break() && !found.contains(&policy.name) {
                found.push(policy.name.clone());
            }
        }
    }
    Ok(found)
}

fn owned(ctx: &Context<'_>, written: &ObjectName) -> Result<Relation> {
    let relation = name::find_owned(ctx, &name::qualified(written)?, Expected::Table)?;
    Ok(Relation::clone(relation))
}

fn table(relation: &mut Relation) -> Result<&mut Table> {
    match &mut relation.kind {
        RelationKind::Table(table) => Ok(table),
        RelationKind::View(_) => Err(Error::internal("a table became a view")),
    }
}

fn place_of(relation: &mut Relation, name: &str) -> Result<usize> {
    let table_name = relation.name.clone();
    let place = table(relation)?.policies.iter().position(|policy| policy.name == name);
    place.ok_or_else(|| missing(name, &table_name))
}

fn command(written: Option<&CreatePolicyCommand>) -> PolicyCommand {
    match written {
        None | Some(CreatePolicyCommand::All) => PolicyCommand::All,
        Some(CreatePolicyCommand::Select) => PolicyCommand::Select,
        Some(CreatePolicyCommand::Insert) => PolicyCommand::Insert,
        Some(CreatePolicyCommand::Update) => PolicyCommand::Update,
        Some(CreatePolicyCommand::Delete) => PolicyCommand::Delete,
    }
}

/// Rows that are read or taken out are not written, and new ones were not there.
fn refuse_clauses(command: PolicyCommand, using: bool, with_check: bool) -> Result<()> {
    let message = match command {
        PolicyCommand::Select | PolicyCommand::Delete if with_check => {
            "WITH CHECK cannot be applied to SELECT or DELETE"
        }
        PolicyCommand::Insert if using => "only WITH CHECK expression allowed for INSERT",
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Syntax, message))
}

fn roles(ctx: &Context<'_>, to: Option<&[Owner]>, planned: &mut Planned) -> Result<Vec<Oid>> {
    let Some(to) = to else { return Ok(vec![PUBLIC]) };
    let is_public = |owner: &Owner| {
        matches!(owner, Owner::Ident(Ident { value, quote_style: None, .. })
        if value.eq_ignore_ascii_case("public"))
    };
    if to.iter().any(is_public) {
        if to.len() > 1 {
            planned.notices.push(warning("01000", "ignoring specified roles other than PUBLIC"));
        }
        return Ok(vec![PUBLIC]);
    }
    let role = |owner: &Owner| match owner {
        Owner::Ident(ident) => name::find_role(ctx, &fold(ident)).map(|role| role.oid),
        Owner::CurrentRole | Owner::CurrentUser | Owner::SessionUser => Ok(ctx.who.role()),
    };
    let mut roles = to.iter().map(role).collect::<Result<Vec<_>>>()?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

fn taken(policy: &str, table: &str) -> Error {
    let message = format!("policy \"{policy}\" for table \"{table}\" already exists");
    Error::new(Kind::DuplicateObject, message)
}

fn missing(policy: &str, table: &str) -> Error {
    let message = format!("policy \"{policy}\" for table \"{table}\" does not exist");
    Error::new(Kind::UndefinedObject, message)
}
