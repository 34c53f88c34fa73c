//! `UPDATE`, `DELETE` and `MERGE`, from the syntax tree to one form.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Relation;
use sqlparser::ast;

use super::change::{
    Act, Clause, From, Modification, Outer, PARTNER, When, assignments, refuse, single_table,
};
use crate::bind;
use crate::parse::NOTHING;

pub(crate) fn of_update(update: &ast::Update) -> Result<Modification> {
    refuse(&[
        (update.output.is_some(), "OUTPUT"),
        (update.or.is_some(), "UPDATE OR …"),
        (!update.order_by.is_empty() || update.limit.is_some(), "ORDER BY and LIMIT in UPDATE"),
        (!update.table.joins.is_empty(), "a join as the target of UPDATE"),
    ])?;
    let (target, alias) = single_table(&update.table.relation)?;
    let others = match &update.from {
        None => Vec::new(),
        Some(ast::UpdateTableFromKind::AfterSet(tables)) => tables.clone(),
        Some(ast::UpdateTableFromKind::BeforeSet(_)) => {
            return Err(Error::unsupported("FROM comes after SET"));
        }
    };
    Ok(Modification {
        target,
        alias,
        from: From::Beside(others),
        selection: update.selection.clone(),
        clauses: vec![always(Act::Update(assignments(&update.assignments)?))],
        command: "UPDATE",
        returning: update.returning.clone(),
    })
}

pub(crate) fn of_delete(delete: &ast::Delete) -> Result<Modification> {
    refuse(&[
        (delete.output.is_some(), "OUTPUT"),
        (!delete.tables.is_empty(), "DELETE of several tables"),
        (!delete.order_by.is_empty() || delete.limit.is_some(), "ORDER BY and LIMIT in DELETE"),
    ])?;
    let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) =
        &delete.from;
    let [table] = from.as_slice() else {
        return Err(Error::unsupported("rows are deleted from one table at a time"));
    };
    refuse(&[(!table.joins.is_empty(), "a join as the target of DELETE")])?;
    let (target, alias) = single_table(&table.relation)?;
    Ok(Modification {
        target,
        alias,
        from: From::Beside(delete.using.clone().unwrap_or_default()),
        selection: delete.selection.clone(),
        clauses: vec![always(Act::Delete)],
        command: "DELETE",
        returning: delete.returning.clone(),
    })
}

/// A `MERGE` into `relation`.
pub(crate) fn of_merge(merge: &ast::Merge, relation: &Relation) -> Result<Modification> {
    refuse(&[(merge.output.is_some(), "RETURNING of MERGE")])?;
    let (target, alias) = single_table(&merge.table)?;
    let clauses =
        merge.clauses.iter().map(|it| clause(it, relation)).collect::<Result<Vec<_>>>()?;
    let by_source = clauses.iter().any(|clause| clause.when == When::NotMatchedBySource);
    let (source, outer) = match by_source {
        true => (marked(&merge.source)?, Outer::Both),
        false => (merge.source.clone(), Outer::Source),
    };
    Ok(Modification {
        target,
        alias,
        from: From::Joined { source, on: merge.on.as_ref().clone(), outer },
        selection: None,
        clauses,
        command: "MERGE",
        returning: None,
    })
}

/// The table that a `MERGE` changes.
pub(crate) fn merge_target(merge: &ast::Merge) -> Result<ast::ObjectName> {
    single_table(&merge.table).map(|(name, _)| name)
}

fn always(act: Act) -> Clause {
    Clause { when: When::Matched, condition: None, act }
}

fn clause(clause: &ast::MergeClause, relation: &Relation) -> Result<Clause> {
    use ast::MergeClauseKind as Kinds;
    let when = match clause.clause_kind {
        Kinds::Matched => When::Matched,
        Kinds::NotMatched | Kinds::NotMatchedByTarget => When::NotMatched,
        Kinds::NotMatchedBySource => When::NotMatchedBySource,
    };
    let act = match &clause.action {
        ast::MergeAction::Delete { .. } => Act::Delete,
        ast::MergeAction::Update(update) => {
            let conditions = [&update.update_predicate, &update.delete_predicate];
            refuse(&[(conditions.iter().any(|it| it.is_some()), "WHERE in a WHEN clause")])?;
            match update.assignments.as_slice() {
                [only] if is_nothing(&only.target.to_string()) => Act::Nothing,
                list => Act::Update(assignments(list)?),
            }
        }
        ast::MergeAction::Insert(insert) => {
            refuse(&[(insert.insert_predicate.is_some(), "WHERE in a WHEN clause")])?;
            match insert.columns.as_slice() {
                [only] if is_nothing(&only.to_string()) => Act::Nothing,
                _ => Act::Insert(inserted(insert, relation)?),
            }
        }
    };
    let fits = match (&act, when) {
        (Act::Insert(_), When::NotMatched) | (Act::Nothing, _) => true,
        (Act::Insert(_), _) => false,
        (_, when) => when != When::NotMatched,
    };
    match fits {
        true => Ok(Clause { when, condition: clause.predicate.clone(), act }),
        false => Err(Error::new(Kind::Syntax, "this action cannot be done in this WHEN clause")),
    }
}

/// Whether a column is the one that stands for `DO NOTHING`.
fn is_nothing(column: &str) -> bool {
    column.trim_matches('"') == NOTHING
}

fn inserted(
    insert: &ast::MergeInsertExpr,
    relation: &Relation,
) -> Result<Vec<(String, ast::Expr)>> {
    let ast::MergeInsertKind::Values(values) = &insert.kind else {
        return Err(Error::unsupported("INSERT ROW is not supported"));
    };
    let [row] = values.rows.as_slice() else {
        return Err(Error::new(Kind::Syntax, "a WHEN clause inserts one row"));
    };
    let columns: Vec<String> = match insert.columns.is_empty() {
        true => relation.columns.iter().map(|column| column.name.clone()).collect(),
        false => {
            let name = |name: &ast::ObjectName| bind::object_name(name).map(|name| name.name);
            insert.columns.iter().map(name).collect::<Result<Vec<_>>>()?
        }
    };
    for (place, column) in columns.iter().enumerate() {
        if columns.iter().take(place).any(|other| other == column) {
            let message = format!("column \"{column}\" specified more than once");
            return Err(Error::new(Kind::DuplicateColumn, message));
        }
    }
    if row.content.len() > columns.len() {
        let message = "INSERT has more expressions than target columns";
        return Err(Error::new(Kind::Syntax, message));
    }
    if row.content.len() < columns.len() && !insert.columns.is_empty() {
        let message = "INSERT has more target columns than expressions";
        return Err(Error::new(Kind::Syntax, message));
    }
    Ok(columns.into_iter().zip(row.content.iter().cloned()).collect())
}

/// The source with a column that tells its rows from the NULLs of an outer join.
fn marked(source: &ast::TableFactor) -> Result<ast::TableFactor> {
    let alias = match source {
        ast::TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => alias.name.clone(),
            None => ast::Ident::with_quote('"', bind::object_name(name)?.name),
        },
        ast::TableFactor::Derived { alias: Some(alias), .. } => alias.name.clone(),
        _ => return Err(Error::unsupported("this source of MERGE is not supported")),
    };
    let text = format!("SELECT 1 FROM (SELECT *, true AS \"{PARTNER}\" FROM x) AS y");
    let mut query = crate::parse::query(&text)?;
    let outer = first_table(&mut query)?;
    if let ast::TableFactor::Derived { subquery, alias: Some(shown), .. } = outer {
        *first_table(subquery)? = source.clone();
        shown.name = alias;
    }
    first_table(&mut query).cloned()
}

/// The first table of a query's `FROM`.
pub(super) fn first_table(query: &mut ast::Query) -> Result<&mut ast::TableFactor> {
    match query.body.as_mut() {
        ast::SetExpr::Select(select) => (select.from.first_mut())
            .map(|from| &mut from.relation)
            .ok_or_else(|| Error::internal("a template without FROM")),
        _ => Err(Error::internal("a template is no SELECT")),
    }
}
