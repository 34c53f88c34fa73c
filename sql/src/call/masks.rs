//! Procedures on masks, tags and attributes of roles: their arguments, and what is checked of them
//! before the catalog changes.
//!
//! What it guarantees: a mask is bound to every column that it will cover, when it is set and when a
//! tag is put on a column: it must have the column's type, and no value may make it fail.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy;
use kho_catalog::privilege::KHO_ADMIN;
use kho_catalog::state::{Column, Relation};

use crate::command::mask::{self, Place};
use crate::ddl::planned;
use crate::scope::Scope;
use crate::secure;
use crate::system::Arguments;
use crate::write::Pending;

pub(super) const SET_MASK: &[&str] =
    &["dataset", "column", "tag", "using", "except_roles", "owner"];
pub(super) const DROP_MASK: &[&str] = &["dataset", "column", "tag", "owner"];
pub(super) const TAG_COLUMN: &[&str] = &["dataset", "column", "tag"];
pub(super) const ADD_TAG: &[&str] = &["tag", "description"];
pub(super) const REMOVE_TAG: &[&str] = &["tag"];
pub(super) const SET_ROLE_ATTRIBUTE: &[&str] = &["role", "name", "value"];

/// `kho.set_mask`.
pub(super) async fn set_mask(scope: &Scope, arguments: &Arguments<'_>) -> Result<Pending> {
    let session = scope.shared.session_state(scope)?;
    let text = |name| arguments.text(scope, &session, name);
    let using = text("using")?.ok_or_else(|| arguments.missing("using"))?;
    crate::parse::expression(&using)?;
    let except: Vec<String> = match text("except_roles")? {
        Some(list) => list.split(',').map(|name| name.trim().to_owned()).collect(),
        None => Vec::new(),
    };
    let place = place(scope, arguments)?;
    match &place {
        Place::Column(oid, id) => {
            if let Some(relation) = scope.state.relations.get(oid)
                && let Some(column) = relation.columns.iter().find(|column| column.id == *id)
            {
                check(scope, relation, column, &using).await?;
            }
        }
        Place::Tag(tag, owner) => {
            for relation in scope.state.relations.values() {
                if owner.is_some_and(|owner| owner != relation.owner) {
                    continue;
                }
                for column in relation.columns.iter().filter(|it| it.tags.contains(tag)) {
                    check(scope, relation, column, &using).await?;
                }
            }
        }
    }
    let change = planned(scope, move |context| mask::set(context, &place, Some((&using, &except))));
    change.map(|change| change.pending)
}

/// `kho.drop_mask`.
pub(super) fn drop_mask(scope: &Scope, arguments: &Arguments<'_>) -> Result<Pending> {
    let place = place(scope, arguments)?;
    planned(scope, move |context| mask::set(context, &place, None)).map(|change| change.pending)
}

/// `kho.tag_column` and, where it is not `on`, `kho.untag_column`.
pub(super) async fn tag_column(
    scope: &Scope,
    arguments: &Arguments<'_>,
    on: bool,
) -> Result<Pending> {
    let session = scope.shared.session_state(scope)?;
    let relation = arguments.relation(scope, &session, "dataset")?;
    let column = column(scope, arguments, &relation)?;
    let tag = arguments.text(scope, &session, "tag")?.ok_or_else(|| arguments.missing("tag"))?;
    if let Some(known) = scope.state.tags.get(&tag).filter(|_| on) {
        let covers = |owner: Option<u32>| owner.is_none_or(|owner| owner == relation.owner);
        for mask in known.masks.iter().filter(|it| covers(it.owner)) {
            check(scope, &relation, &column, mask.mask.using.required()?).await?;
        }
    }
    let (oid, id) = (relation.oid, column.id);
    planned(scope, move |context| mask::label(context, oid, id, &tag, on))
        .map(|change| change.pending)
}

/// `kho.add_tag`.
pub(super) fn add_tag(scope: &Scope, arguments: &Arguments<'_>) -> Result<Pending> {
    let session = scope.shared.session_state(scope)?;
    let text = |name| arguments.text(scope, &session, name);
    let tag = text("tag")?.ok_or_else(|| arguments.missing("tag"))?;
    let description = text("description")?.ok_or_else(|| arguments.missing("description"))?;
    planned(scope, move |context| mask::add_tag(context, &tag, &description))
        .map(|change| change.pending)
}

/// `kho.remove_tag`.
pub(super) fn remove_tag(scope: &Scope, arguments: &Arguments<'_>) -> Result<Pending> {
    let session = scope.shared.session_state(scope)?;
    let tag = arguments.text(scope, &session, "tag")?.ok_or_else(|| arguments.missing("tag"))?;
    planned(scope, move |context| mask::remove_tag(context, &tag)).map(|change| change.pending)
}

/// `kho.set_role_attribute`.
pub(super) fn set_role_attribute(scope: &Scope, arguments: &Arguments<'_>) -> Result<Pending> {
    let session = scope.shared.session_state(scope)?;
    let text = |name| arguments.text(scope, &session, name);
    let role = text("role")?.ok_or_else(|| arguments.missing("role"))?;
    let name = text("name")?.ok_or_else(|| arguments.missing("name"))?;
    let value = text("value")?;
    planned(scope, move |context| mask::set_attribute(context, &role, &name, value.as_deref()))
        .map(|change| change.pending)
}

/// Where the arguments put a mask: on a column of a dataset, or on a tag.
fn place(scope: &Scope, arguments: &Arguments<'_>) -> Result<Place> {
    let session = scope.shared.session_state(scope)?;
    let text = |name| arguments.text(scope, &session, name);
    let Some(tag) = text("tag")? else {
        let relation = arguments.relation(scope, &session, "dataset")?;
        let column = column(scope, arguments, &relation)?;
        return Ok(Place::Column(relation.oid, column.id));
    };
    if text("dataset")?.is_some() || text("column")?.is_some() {
        let message = "a mask is put on a tag or on a column of a dataset, not on both";
        return Err(Error::new(Kind::InvalidParameterValue, message));
    }
    let owner = match text("owner")? {
        Some(name) => {
            let role = scope.state.role(&name).map(|role| role.oid);
            let missing =
                || Error::new(Kind::UndefinedObject, format!("role \"{name}\" does not exist"));
            Some(role.ok_or_else(missing)?)
        }
        None if scope.who.is(KHO_ADMIN) => None,
        None => Some(scope.who.role()),
    };
    Ok(Place::Tag(tag, owner))
}

fn column(scope: &Scope, arguments: &Arguments<'_>, relation: &Relation) -> Result<Column> {
    let session = scope.shared.session_state(scope)?;
    let name = arguments.text(scope, &session, "column")?;
    let name = name.ok_or_else(|| arguments.missing("column"))?;
    relation.column(&name).cloned().ok_or_else(|| {
        let message = format!("column \"{name}\" of relation \"{}\" does not exist", relation.name);
        Error::new(Kind::UndefinedColumn, message)
    })
}

async fn check(scope: &Scope, relation: &Relation, column: &Column, using: &str) -> Result<()> {
    let session = scope.shared.session_state(scope)?;
    let expression = secure::masked(using, column.id)?;
    let of = column.data_type.to_arrow();
    let wanted = (format!("the mask of column \"{}\"", column.name), &of);
    let reads = secure::refuse_unsafe(scope, &session, relation, expression, wanted).await?;
    match reads.is_empty() {
        true => Ok(()),
        false => Err(Error::unsupported("a mask that reads a table is not supported")
            .with_hint(format!("{} stands for the value.", policy::VALUE))),
    }
}
