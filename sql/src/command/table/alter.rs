//! `ALTER TABLE`.
//!
//! What it guarantees: a table is never left with a constraint that its rows were not checked
//! against, nor without a column that something else needs.
//! What it does not: it rewrites no data. Without column mapping, dropping or renaming a column
//! writes every file anew; the caller does that, in one commit with the changes given here.

use std::collections::BTreeSet;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Change, Check, Column, KeyKind, Relation, RelationKind, Table};
use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation as Operation, ColumnDef, DropBehavior,
    Ident, ObjectName, RenameTableNameKind,
};

use super::super::depend::{self, in_use};
use super::super::name::{self, Expected, fold};
use super::super::relation::{self, found_or_notice};
use super::super::{Context, Planned, notice, notice_of, options, policy};
use super::{constraint, key};
use crate::parse;

/// What an `ALTER TABLE` needs done. `planned.changes` are committed once that is done, in the
/// same commit; `relation` is the table as it will be.
pub(crate) enum Alteration {
    /// Nothing but the catalog changes.
    Catalog(Planned),
    /// Every row of now must keep the rules of `relation`, or the statement fails (`23502`,
    /// `23514`): it has one that rows were not checked for yet. The keys of the names `new_keys`
    /// are among them (`23505`).
    CheckRows { relation: Box<Relation>, new_keys: Vec<String>, planned: Planned },
    /// A column may be NULL now: the files' schema must say so before a row is.
    Relax { relation: Box<Relation>, planned: Planned },
    /// The column with the id `column` is new. Rows that are there get its default, if it has one,
    /// else NULL; they must keep the rules of `relation` where it has new ones.
    AddColumn { relation: Box<Relation>, column: u32, new_rules: bool, planned: Planned },
    /// A column is gone.
    DropColumn { relation: Box<Relation>, planned: Planned },
    /// A column has another name.
    RenameColumn { relation: Box<Relation>, planned: Planned },
}

/// What rows must keep that they were not checked for yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RowRule {
    /// The column with this id has no NULL.
    NotNull(u32),
    /// The `CHECK` of this name is not false.
    Check(String),
    /// No two rows agree on the key of this name.
    Key(String),
}

/// `ALTER TABLE`.
pub(crate) fn alter(ctx: &mut Context<'_>, statement: &AlterTable) -> Result<Alteration> {
    if statement.location.is_some()
        || statement.on_cluster.is_some()
        || statement.table_type.is_some()
    {
        return Err(Error::unsupported("this ALTER TABLE is not supported"));
    }
    let (written, if_exists) = (&statement.name, statement.if_exists);
    let operation = match statement.operations.as_slice() {
        [operation] => operation,
        operations => return several(ctx, written, if_exists, operations),
    };
    match operation {
        Operation::RenameTable { table_name } => {
            let (RenameTableNameKind::To(to) | RenameTableNameKind::As(to)) = table_name;
            let [to] = to.0.as_slice() else {
                return Err(Error::new(Kind::Syntax, "the new name has no schema")
                    .with_hint("Use ALTER TABLE … SET SCHEMA."));
            };
            let to = to.as_ident().ok_or_else(|| Error::new(Kind::Syntax, "not a name"))?;
            relation::rename(ctx, written, to, if_exists, Expected::Any).map(Alteration::Catalog)
        }
        // PostgreSQL takes this for views, too.
        Operation::OwnerTo { new_owner } => {
            relation::set_owner(ctx, written, new_owner, if_exists, Expected::Any)
                .map(Alteration::Catalog)
        }
        _ => {
            let mut planned = Planned::new("ALTER TABLE");
            let found = found_or_notice(ctx, written, if_exists, Expected::Table, &mut planned)?;
            let Some(relation) = found else { return Ok(Alteration::Catalog(planned)) };
            let draft = Draft {
                relation: Relation::clone(relation),
                rules: vec![],
                relaxed: false,
                planned,
            };
            one(ctx, relation, draft, operation)
        }
    }
}

/// A table that is being changed.
struct Draft {
    relation: Relation,
    rules: Vec<RowRule>,
    /// Whether a column lost its `NOT NULL`.
    relaxed: bool,
    planned: Planned,
}

impl Draft {
    fn table(&mut self) -> Result<&mut Table> {
        match &mut self.relation.kind {
            RelationKind::Table(table) => Ok(table),
            RelationKind::View(_) => Err(Error::internal("a table became a view")),
        }
    }

    fn column(&mut self, ident: &Ident) -> Result<&mut Column> {
        let (name, table) = (fold(ident), self.relation.name.clone());
        (self.relation.columns.iter_mut().find(|column| column.name == name))
            .ok_or_else(|| no_column(&name, &table))
    }

    /// The relation with the change that puts it.
    fn put(mut self) -> (Box<Relation>, Vec<RowRule>, Planned) {
        let relation = Box::new(self.relation);
        self.planned.changes.push(Change::PutRelation(relation.clone()));
        (relation, self.rules, self.planned)
    }

    fn finish(self) -> Result<Alteration> {
        let relaxed = self.relaxed;
        match self.put() {
            (relation, rules, planned) if rules.is_empty() => Ok(match relaxed {
                true => Alteration::Relax { relation, planned },
                false => Alteration::Catalog(planned),
            }),
            (relation, rules, planned) if !relaxed => {
                let new_keys = rules.into_iter().filter_map(RowRule::into_key).collect();
                Ok(Alteration::CheckRows { relation, new_keys, planned })
            }
            _ => Err(apart()),
        }
    }
}

impl RowRule {
    fn into_key(self) -> Option<String> {
        match self {
            RowRule::Key(name) => Some(name),
            RowRule::NotNull(_) | RowRule::Check(_) => None,
        }
    }
}

/// Several actions, which must all leave the files as they are.
fn several(
    ctx: &mut Context<'_>,
    written: &ObjectName,
    if_exists: bool,
    operations: &[Operation],
) -> Result<Alteration> {
    let mut planned = Planned::new("ALTER TABLE");
    let found = found_or_notice(ctx, written, if_exists, Expected::Table, &mut planned)?;
    let Some(relation) = found else { return Ok(Alteration::Catalog(planned)) };
    let mut draft =
        Draft { relation: Relation::clone(relation), rules: vec![], relaxed: false, planned };
    for operation in operations {
        if !in_catalog(ctx, &mut draft, operation)? {
            return Err(apart());
        }
    }
    draft.finish()
}

fn apart() -> Error {
    Error::unsupported("these actions cannot be combined in one ALTER TABLE")
        .with_hint("Write one ALTER TABLE for each.")
}

fn one(
    ctx: &mut Context<'_>,
    before: &Arc<Relation>,
    mut draft: Draft,
    operation: &Operation,
) -> Result<Alteration> {
    match operation {
        Operation::AddColumn { if_not_exists, column_def, column_position, .. } => {
            if column_position.is_some() {
                return Err(Error::unsupported("the place of a column cannot be chosen"));
            }
            add_column(ctx, draft, column_def, *if_not_exists)
        }
        Operation::DropColumn { column_names, if_exists, drop_behavior, .. } => {
            let [column] = column_names.as_slice() else {
                return Err(Error::unsupported(
                    "dropping several columns at once is not supported",
                )
                .with_hint("Write one ALTER TABLE for each."));
            };
            let cascade = matches!(drop_behavior, Some(DropBehavior::Cascade));
            drop_column(ctx, before, draft, column, *if_exists, cascade)
        }
        Operation::RenameColumn { old_column_name, new_column_name } => {
            rename_column(ctx, before, draft, old_column_name, new_column_name)
        }
        _ if in_catalog(ctx, &mut draft, operation)? => draft.finish(),
        Operation::AlterColumn { op: AlterColumnOperation::SetDataType { .. }, .. } => {
            Err(Error::unsupported("changing the type of a column is not supported")
                .with_hint("Create a table with CREATE TABLE AS and CAST."))
        }
        other => Err(Error::unsupported(format!("ALTER TABLE {other} is not supported"))),
    }
}

/// Does `operation` if it leaves the files as they are; says whether it does.
fn in_catalog(ctx: &mut Context<'_>, draft: &mut Draft, operation: &Operation) -> Result<bool> {
    match operation {
        Operation::SetOptionsParens { options: given } => {
            let columns = draft.relation.columns.clone();
            let known = &ctx.state.access.purposes;
            let table = draft.table()?;
            table.governance = options::with_options(&table.governance, given, &columns, known)?;
        }
        Operation::OwnerTo { new_owner } => relation::give(ctx, &mut draft.relation, new_owner)?,
        Operation::AddConstraint { constraint, not_valid } => {
            if *not_valid {
                return Err(Error::unsupported("NOT VALID is not supported")
                    .with_detail("Existing rows are always checked."));
            }
            if let Some(declared) = key::of_table(constraint)? {
                add_key(ctx, draft, &declared)?;
            } else {
                let declared = constraint::table_check(constraint)?;
                let check = add_check(ctx, draft, &declared)?;
                draft.rules.push(RowRule::Check(check));
            }
        }
        Operation::DropConstraint { if_exists, name, .. } => {
            drop_constraint(draft, name, *if_exists)?;
        }
        Operation::RenameConstraint { old_name, new_name } => {
            rename_constraint(ctx, draft, old_name, new_name)?;
        }
        Operation::AlterColumn { column_name, op } => {
            return alter_column(ctx, draft, column_name, op);
        }
        other => {
            let table = draft.table()?;
            let Some(security) = policy::row_security(table.row_security, other) else {
                return Ok(false);
            };
            table.row_security = security;
        }
    }
    Ok(true)
}

fn alter_column(
    ctx: &mut Context<'_>,
    draft: &mut Draft,
    name: &Ident,
    operation: &AlterColumnOperation,
) -> Result<bool> {
    let keys = draft.table()?.keys.clone();
    let column = draft.column(name)?;
    match operation {
        AlterColumnOperation::SetDefault { value } => {
            column.default = Some((ctx.text)(&constraint::default_text(value)?));
        }
        AlterColumnOperation::DropDefault => column.default = None,
        AlterColumnOperation::DropNotNull => {
            let in_primary = |key: &kho_catalog::state::Key| {
                key.kind == KeyKind::Primary && key.columns.contains(&column.id)
            };
            if keys.iter().any(in_primary) {
                let message = format!("column \"{}\" is in a primary key", column.name);
                return Err(Error::new(Kind::InvalidTableDefinition, message));
            }
            let (id, was) = (column.id, std::mem::take(&mut column.not_null));
            draft.relaxed |= was;
            draft.rules.retain(|rule| *rule != RowRule::NotNull(id));
        }
        AlterColumnOperation::SetNotNull if column.not_null => {}
        AlterColumnOperation::SetNotNull => {
            column.not_null = true;
            let id = column.id;
            draft.rules.push(RowRule::NotNull(id));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn add_check(
    ctx: &mut Context<'_>,
    draft: &mut Draft,
    declared: &constraint::Declared<'_>,
) -> Result<String> {
    let Draft { relation, planned, .. } = draft;
    let RelationKind::Table(table) = &mut relation.kind else {
        return Err(Error::internal("a table became a view"));
    };
    let taken = constraint_names(table);
    let check = constraint::check(
        ctx,
        &relation.name,
        &relation.columns,
        &taken,
        declared,
        &mut planned.notices,
    )?;
    let name = check.name.clone();
    table.checks.push(check);
    Ok(name)
}

fn constraint_names(table: &Table) -> Vec<String> {
    let checks = table.checks.iter().map(|check| &check.name);
    checks.chain(table.keys.iter().map(|key| &key.name)).cloned().collect()
}

fn add_key(ctx: &mut Context<'_>, draft: &mut Draft, declared: &key::Declared<'_>) -> Result<()> {
    let Draft { relation, planned, rules, .. } = draft;
    let RelationKind::Table(table) = &mut relation.kind else {
        return Err(Error::internal("a table became a view"));
    };
    let target = key::Target {
        schema: relation.schema,
        name: &relation.name,
        columns: &relation.columns,
        checks: &table.checks,
        keys: &table.keys,
        indexes: &table.indexes,
    };
    let key = key::key(ctx, &target, declared, &mut planned.notices)?;
    rules.push(RowRule::Key(key.name.clone()));
    rules
        .extend(key::require_values(&mut relation.columns, &key).into_iter().map(RowRule::NotNull));
    match key.kind {
        KeyKind::Primary => table.keys.insert(0, key),
        KeyKind::Unique => table.keys.push(key),
        KeyKind::Index => return Err(Error::internal("an index is no constraint")),
    }
    Ok(())
}

fn drop_constraint(draft: &mut Draft, ident: &Ident, if_exists: bool) -> Result<()> {
    let (name, table_name) = (fold(ident), draft.relation.name.clone());
    let table = draft.table()?;
    let before = table.checks.len() + table.keys.len();
    table.checks.retain(|check| check.name != name);
    table.keys.retain(|key| key.name != name);
    if table.checks.len() + table.keys.len() < before {
        let gone = [RowRule::Check(name.clone()), RowRule::Key(name)];
        draft.rules.retain(|rule| !gone.contains(rule));
        return Ok(());
    }
    let message = format!("constraint \"{name}\" of relation \"{table_name}\" does not exist");
    if if_exists {
        draft.planned.notices.push(notice(format!("{message}, skipping")));
        return Ok(());
    }
    Err(Error::new(Kind::UndefinedObject, message))
}

fn rename_constraint(ctx: &Context<'_>, draft: &mut Draft, from: &Ident, to: &Ident) -> Result<()> {
    let to = name::created(to, &mut draft.planned.notices)?;
    let (from, table_name, schema) =
        (fold(from), draft.relation.name.clone(), draft.relation.schema);
    let table = draft.table()?;
    let names = constraint_names(table);
    if !names.contains(&from) {
        let message = format!("constraint \"{from}\" for table \"{table_name}\" does not exist");
        return Err(Error::new(Kind::UndefinedObject, message));
    }
    if table.keys.iter().any(|key| key.name == from) {
        // The index behind a key gets the name, too.
        name::require_free(ctx, schema, &to)?;
    }
    if names.contains(&to) {
        let message = format!("constraint \"{to}\" for relation \"{table_name}\" already exists");
        return Err(Error::new(Kind::DuplicateObject, message));
    }
    for check in table.checks.iter_mut().filter(|check| check.name == from) {
        check.name.clone_from(&to);
    }
    for key in table.keys.iter_mut().filter(|key| key.name == from) {
        key.name.clone_from(&to);
    }
    for rule in &mut draft.rules {
        match rule {
            RowRule::Check(name) | RowRule::Key(name) if *name == from => name.clone_from(&to),
            _ => {}
        }
    }
    Ok(())
}

fn add_column(
    ctx: &mut Context<'_>,
    mut draft: Draft,
    declared: &ColumnDef,
    if_not_exists: bool,
) -> Result<Alteration> {
    let id = draft.table()?.next_column;
    let constraint::DeclaredColumn { column, checks, keys } =
        constraint::column(ctx, declared, id, &mut draft.planned.notices)?;
    if if_not_exists && draft.relation.column(&column.name).is_some() {
        let message = format!(
            "column \"{}\" of relation \"{}\" already exists, skipping",
            column.name, draft.relation.name
        );
        draft.planned.notices.push(notice_of("42701", message));
        return Ok(Alteration::Catalog(draft.planned));
    }
    constraint::require_free(&draft.relation.columns, &column.name, &draft.relation.name)?;
    if column.not_null {
        draft.rules.push(RowRule::NotNull(id));
    }
    draft.relation.columns.push(column);
    draft.table()?.next_column = id.saturating_add(1);
    for declared in &checks {
        let name = add_check(ctx, &mut draft, declared)?;
        draft.rules.push(RowRule::Check(name));
    }
    for declared in &keys {
        add_key(ctx, &mut draft, declared)?;
    }
    let (relation, rules, planned) = draft.put();
    // Rows that have NULL in the new column keep every key with it.
    let new_rules = rules.iter().any(|rule| !matches!(rule, RowRule::Key(_)));
    Ok(Alteration::AddColumn { relation, column: id, new_rules, planned })
}

fn drop_column(
    ctx: &mut Context<'_>,
    before: &Arc<Relation>,
    mut draft: Draft,
    ident: &Ident,
    if_exists: bool,
    cascade: bool,
) -> Result<Alteration> {
    let (name, table_name) = (fold(ident), draft.relation.name.clone());
    let Some(id) = draft.relation.column(&name).map(|column| column.id) else {
        let error = no_column(&name, &table_name);
        if !if_exists {
            return Err(error);
        }
        draft.planned.notices.push(notice(format!("{error}, skipping")));
        return Ok(Alteration::Catalog(draft.planned));
    };
    if draft.relation.columns.len() == 1 {
        return Err(Error::unsupported("a table needs a column")
            .with_hint("Use DROP TABLE, or add another column first."));
    }
    let message = format!("cannot drop column {name} of table {table_name}");
    let table = draft.table()?;
    if table.governance.retention_column == Some(id) {
        return Err(Error::new(
            Kind::DependentObjects,
            format!("{message} because retention is counted from it"),
        )
        .with_hint("Set another retention_column first."));
    }
    let (using, kept): (Vec<Check>, Vec<Check>) = split_checks(&table.checks, &name)?;
    if !cascade && let Some(check) = using.first() {
        let message = format!("{message} because other objects depend on it");
        return Err(Error::new(Kind::DependentObjects, message)
            .with_detail(format!("constraint {} on table {table_name} depends on it", check.name))
            .with_hint("Use DROP COLUMN … CASCADE to drop the dependent objects too."));
    }
    table.checks = kept;
    let named = super::super::policy::naming_column(table, id)?;
    if let Some(policy) = named.first().filter(|_| !cascade) {
        let message = format!("{message} because other objects depend on it");
        return Err(Error::new(Kind::DependentObjects, message)
            .with_detail(format!("policy {policy} on table {table_name} depends on it"))
            .with_hint("Use DROP COLUMN … CASCADE to drop the dependent objects too."));
    }
    table.policies.retain(|policy| !named.contains(&policy.name));
    // A key goes with any of its columns, as in PostgreSQL.
    table.keys.retain(|key| !key.columns.contains(&id));
    let views = depend::views_using(ctx.state, before.oid, &name)?;
    if !views.is_empty() {
        if !cascade {
            return Err(in_use(ctx, &message, &views)
                .with_hint("Use DROP COLUMN … CASCADE to drop the dependent objects too."));
        }
        let (changes, notices) = depend::drop_views(ctx, &views, &message)?;
        draft.planned.changes = changes;
        draft.planned.notices.extend(notices);
    }
    draft.relation.columns.retain(|column| column.id != id);
    draft.relation.drop_lost_indexes();
    draft.relation.drop_lost_grants();
    let (relation, _, planned) = draft.put();
    Ok(Alteration::DropColumn { relation, planned })
}

fn rename_column(
    ctx: &mut Context<'_>,
    before: &Arc<Relation>,
    mut draft: Draft,
    from: &Ident,
    to: &Ident,
) -> Result<Alteration> {
    let to = constraint::column_name(to, &mut draft.planned.notices)?;
    let from = fold(from);
    let Some(id) = draft.relation.column(&from).map(|column| column.id) else {
        return Err(no_column(&from, &draft.relation.name));
    };
    let others: Vec<Column> =
        draft.relation.columns.iter().filter(|column| column.id != id).cloned().collect();
    if from == to {
        let name = &draft.relation.name;
        constraint::require_free(&draft.relation.columns, &to, name)?;
    }
    constraint::require_free(&others, &to, &draft.relation.name)?;
    let views = depend::views_using(ctx.state, before.oid, &from)?;
    if !views.is_empty() {
        let refusal = in_use(ctx, &format!("cannot rename column {from}"), &views);
        return Err(refusal.with_hint("Drop the views, rename the column, and create them again."));
    }
    for column in draft.relation.columns.iter_mut().filter(|column| column.id == id) {
        column.name.clone_from(&to);
    }
    let (using, _) = split_checks(&draft.table()?.checks, &from)?;
    let using: BTreeSet<&str> = using.iter().map(|check| check.name.as_str()).collect();
    for check in &mut draft.table()?.checks {
        if using.contains(check.name.as_str()) {
            let text = depend::rename_column(check.expression.required()?, &from, &to)?;
            check.expression = (ctx.text)(&text);
        }
    }
    let (relation, _, planned) = draft.put();
    Ok(Alteration::RenameColumn { relation, planned })
}

/// The `CHECK`s that name `column`, and the others. One whose text was erased names nothing.
fn split_checks(checks: &[Check], column: &str) -> Result<(Vec<Check>, Vec<Check>)> {
    let (mut using, mut others) = (Vec::new(), Vec::new());
    for check in checks {
        let names = match check.expression.value() {
            Some(text) => depend::columns_of(&parse::expression(text)?),
            None => Vec::new(),
        };
        if names.iter().any(|name| name == column) { &mut using } else { &mut others }
            .push(check.clone());
    }
    Ok((using, others))
}

fn no_column(name: &str, table: &str) -> Error {
    let message = format!("column \"{name}\" of relation \"{table}\" does not exist");
    Error::new(Kind::UndefinedColumn, message)
}
