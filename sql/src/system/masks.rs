//! `kho.tags`, `kho.tagged_columns`, `kho.masks`, `kho.role_attributes`: what is labelled and masked.
//!
//! What it guarantees: a column is listed with a relation that exists for the principal. What a mask
//! says is shown to who sets it: the dataset's owner, `kho_admin` for its own, and `kho_auditor`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use kho_catalog::error::Result;
use kho_catalog::policy::{Mask, SHIPPED_TAGS};
use kho_catalog::privilege::{self, KHO_ADMIN, KHO_AUDITOR};
use kho_catalog::state::{Column, Relation};

use crate::errors::{from_arrow, from_engine};
use crate::scope::Scope;

type Row = Vec<Option<String>>;

/// The vocabulary.
pub(super) fn tags(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let shipped = SHIPPED_TAGS.iter().filter(|(name, _)| !scope.state.tags.contains_key(*name));
    let mut rows: Vec<Row> = shipped
        .map(|(name, description)| vec![Some((*name).to_owned()), Some((*description).to_owned())])
        .collect();
    rows.extend(
        scope
            .state
            .tags
            .values()
            .map(|tag| vec![Some(tag.name.clone()), tag.description.value().map(str::to_owned)]),
    );
    rows.sort();
    table(&["tag", "description"], rows)
}

/// The columns that have tags.
pub(super) fn tagged(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let mut rows: Vec<Row> = Vec::new();
    for (relation, column) in columns(scope) {
        rows.extend(
            column.tags.iter().map(|tag| {
                vec![named(scope, relation), Some(column.name.clone()), Some(tag.clone())]
            }),
        );
    }
    table(&["dataset", "column_name", "tag"], rows)
}

/// Every mask on a column or a tag.
pub(super) fn masks(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let auditor = scope.who.serves(KHO_AUDITOR);
    let shown = |mask: &Mask, visible: bool| {
        let text = mask.using.value().filter(|_| visible || auditor);
        let role = |oid: &u32| scope.state.roles.get(oid).map(|role| role.name.clone());
        let except: Vec<String> = mask.except_roles.iter().filter_map(role).collect();
        [text.map(str::to_owned), Some(except.join(","))]
    };
    let mut rows: Vec<Row> = Vec::new();
    for (relation, column) in columns(scope) {
        let visible = scope.who.is(relation.owner);
        for mask in column.mask.iter().chain(&column.inherited) {
            let mut row = vec![named(scope, relation), Some(column.name.clone()), None, None];
            row.extend(shown(mask, visible));
            rows.push(row);
        }
    }
    for tag in scope.state.tags.values() {
        for mask in &tag.masks {
            let visible = match mask.owner {
                Some(owner) => scope.who.is(owner),
                None => scope.who.serves(KHO_ADMIN),
            };
            let owner = mask.owner.and_then(|owner| scope.state.roles.get(&owner));
            let owner = owner.map(|role| role.name.clone());
            let mut row = vec![None, None, Some(tag.name.clone()), owner];
            row.extend(shown(&mask.mask, visible));
            rows.push(row);
        }
    }
    table(&["dataset", "column_name", "tag", "owner", "expression", "except_roles"], rows)
}

/// One's own attributes; all of them for `kho_admin` and `kho_auditor`.
pub(super) fn attributes(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let all = scope.who.serves(KHO_ADMIN) || scope.who.serves(KHO_AUDITOR);
    let mut rows: Vec<Row> = Vec::new();
    for role in scope.state.roles.values().filter(|role| all || scope.who.is(role.oid)) {
        rows.extend(role.attributes.iter().map(|(name, value)| {
            vec![Some(role.name.clone()), Some(name.clone()), Some(value.clone())]
        }));
    }
    table(&["role", "name", "value"], rows)
}

fn columns(scope: &Scope) -> impl Iterator<Item = (&Relation, &Column)> {
    privilege::visible_relations(&scope.state, &scope.who)
        .flat_map(|relation| relation.columns.iter().map(move |column| (relation.as_ref(), column)))
}

fn named(scope: &Scope, relation: &Relation) -> Option<String> {
    let schema = scope.state.schemas.get(&relation.schema)?;
    Some(format!("{}.{}", schema.name, relation.name))
}

/// A table of texts.
fn table(names: &[&str], rows: Vec<Row>) -> Result<Arc<dyn TableProvider>> {
    let fields: Vec<Field> =
        names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let column = |place: usize| -> ArrayRef {
        Arc::new(rows.iter().map(|row| row.get(place).cloned().flatten()).collect::<StringArray>())
    };
    let columns = (0..names.len()).map(column).collect();
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|error| from_arrow(&error))?;
    let table = MemTable::try_new(schema, vec![vec![batch]]).map_err(from_engine)?;
    Ok(Arc::new(table))
}
