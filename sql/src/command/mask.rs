//! Masks, the vocabulary of tags, and what policies can ask of a role, as changes of the catalog.
//!
//! What it guarantees: a mask on a column and the tags of a column are its dataset's owner's to set;
//! one on a tag covers the datasets of the role it is set for, and all of them where `kho_admin` sets
//! it. Words are added by `kho_admin`. A tag that is used is not removed.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::{self, Mask, SHIPPED_TAGS, Tag, TagMask};
use kho_catalog::privilege::{self, Action, KHO_ADMIN, RelationAction, WarehouseAction};
use kho_catalog::state::{Change, Column, Oid, Relation, Role, State};

use super::{Context, Planned, name};
use crate::secure::lineage::Lineage;

/// Where a mask is put.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A relation, and the id of its column.
    Column(Oid, u32),
    /// A tag, and whose datasets it covers.
    Tag(String, Option<Oid>),
}

/// Puts a mask somewhere, in place of the one that is there; `None` takes it away.
pub(crate) fn set(
    ctx: &mut Context<'_>,
    place: &Place,
    mask: Option<(&str, &[String])>,
) -> Result<Planned> {
    let mut planned = Planned::new("CALL");
    let mask = match mask {
        Some((using, except)) => {
            let role = |name: &String| name::find_role(ctx, name).map(|role| role.oid);
            let except_roles = except.iter().map(role).collect::<Result<Vec<_>>>()?;
            Some(Mask { using: (ctx.text)(using), except_roles })
        }
        None => None,
    };
    planned.changes.push(match place {
        Place::Column(oid, id) => {
            let mut relation = owned(ctx, *oid)?;
            column(&mut relation, *id)?.mask = mask;
            Change::PutRelation(Box::new(relation))
        }
        Place::Tag(tag, owner) => {
            require_covers(ctx, *owner)?;
            let mut tag = known_tag(ctx, tag)?;
            tag.masks.retain(|it| it.owner != *owner);
            tag.masks.extend(mask.map(|mask| TagMask { owner: *owner, mask }));
            Change::PutTag(tag)
        }
    });
    Ok(planned)
}

/// Puts a tag on a column, or takes it off.
///
/// # Errors
/// `42704` for a word that is not in the vocabulary.
pub(crate) fn label(
    ctx: &mut Context<'_>,
    relation: Oid,
    id: u32,
    tag: &str,
    on: bool,
) -> Result<Planned> {
    let mut planned = Planned::new("CALL");
    let mut relation = owned(ctx, relation)?;
    let tag = known_tag(ctx, tag)?.name;
    let column = column(&mut relation, id)?;
    match on {
        true => column.tags.insert(tag),
        false => column.tags.remove(&tag),
    };
    planned.changes.push(Change::PutRelation(Box::new(relation)));
    Ok(planned)
}

/// Adds a word to the vocabulary.
pub(crate) fn add_tag(ctx: &mut Context<'_>, word: &str, description: &str) -> Result<Planned> {
    require_admin(ctx)?;
    let plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    if word.is_empty() || !word.chars().all(plain) {
        return Err(Error::new(Kind::InvalidParameterValue, format!("invalid tag: \"{word}\""))
            .with_hint("Use lower-case letters, digits and \"_\"."));
    }
    if is_tag(ctx.state, word) {
        let message = format!("tag \"{word}\" already exists");
        return Err(Error::new(Kind::DuplicateObject, message));
    }
    let mut planned = Planned::new("CALL");
    let description = (ctx.text)(description);
    planned.changes.push(Change::PutTag(Tag {
        name: word.to_owned(),
        description,
        masks: Vec::new(),
    }));
    Ok(planned)
}

/// Takes a word out of the vocabulary.
///
/// # Errors
/// `2BP01` where a column has it, or it has a mask, or every warehouse has it.
pub(crate) fn remove_tag(ctx: &mut Context<'_>, word: &str) -> Result<Planned> {
    require_admin(ctx)?;
    let tag = known_tag(ctx, word)?;
    let shipped = SHIPPED_TAGS.iter().any(|(it, _)| *it == word);
    let columns = ctx.state.relations.values().flat_map(|it| {
        let dropped = it.table().map(|table| table.dropped.as_slice()).unwrap_or_default();
        it.columns.iter().chain(dropped)
    });
    let used = columns.into_iter().any(|column| column.tags.contains(word));
    if shipped || used || !tag.masks.is_empty() {
        let message = format!("cannot remove tag \"{word}\" because it is used");
        return Err(Error::new(Kind::DependentObjects, message));
    }
    let mut planned = Planned::new("CALL");
    planned.changes.push(Change::RemoveTag(word.to_owned()));
    Ok(planned)
}

/// Sets what `kho.role_attribute` says of a role; `None` takes it away.
///
/// # Errors
/// `42501` for who is not `kho_admin`; `KH014` for an attribute of one's own: it decides what one
/// sees.
pub(crate) fn set_attribute(
    ctx: &mut Context<'_>,
    role: &str,
    attribute: &str,
    value: Option<&str>,
) -> Result<Planned> {
    require_admin(ctx)?;
    let role = name::find_role(ctx, role)?;
    if ctx.who.is(role.oid) {
        let message = format!("you belong to role \"{}\" and cannot set its attributes", role.name);
        return Err(Error::new(Kind::SeparationOfDuties, message)
            .with_hint("Another member of kho_admin may."));
    }
    let mut changed = Role::clone(role);
    match value {
        Some(value) => changed.attributes.insert(attribute.to_owned(), value.to_owned()),
        None => changed.attributes.remove(attribute),
    };
    let mut planned = Planned::new("CALL");
    planned.changes.push(Change::PutRole(changed));
    Ok(planned)
}

/// Gives new columns the tags and masks of those that their values were copied or computed from:
/// what was personal stays so. A computed value has another type, maybe, so its mask is NULL.
pub(crate) fn inherit(ctx: &mut Context<'_>, columns: &mut [Column], lineage: &[Lineage]) {
    for (column, lineage) in columns.iter_mut().zip(lineage) {
        let mut masks: Vec<Mask> = Vec::new();
        for (oid, name) in &lineage.origins {
            let Some(relation) = ctx.state.relations.get(oid) else { continue };
            let dropped = relation.table().map(|table| table.dropped.as_slice());
            let mut known = relation.columns.iter().chain(dropped.unwrap_or_default());
            let Some(origin) = known.find(|it| it.name == *name) else { continue };
            column.tags.extend(origin.tags.iter().cloned());
            masks.extend(policy::all_masks(ctx.state, relation, origin).into_iter().cloned());
        }
        if !lineage.is_copy {
            for mask in &mut masks {
                mask.using = (ctx.text)("NULL");
            }
        }
        for mask in masks {
            let is_known = |it: &Mask| {
                it.using.value() == mask.using.value() && it.except_roles == mask.except_roles
            };
            if !column.inherited.iter().any(is_known) {
                column.inherited.push(mask);
            }
        }
    }
}

/// Whether `word` is in the vocabulary.
pub(crate) fn is_tag(state: &State, word: &str) -> bool {
    state.tags.contains_key(word) || SHIPPED_TAGS.iter().any(|(it, _)| *it == word)
}

fn known_tag(ctx: &mut Context<'_>, word: &str) -> Result<Tag> {
    if let Some(tag) = ctx.state.tags.get(word) {
        return Ok(Tag::clone(tag));
    }
    let shipped = SHIPPED_TAGS.iter().find(|(it, _)| *it == word);
    let (_, description) = shipped.ok_or_else(|| {
        Error::new(Kind::UndefinedObject, format!("tag \"{word}\" does not exist"))
            .with_hint("kho.tags lists the words that there are.")
    })?;
    let description = (ctx.text)(description);
    Ok(Tag { name: word.to_owned(), description, masks: Vec::new() })
}

fn owned(ctx: &Context<'_>, oid: Oid) -> Result<Relation> {
    let own = Action::Relation(oid, RelationAction::Own);
    privilege::require(ctx.state, ctx.who, own)?;
    match ctx.state.relations.get(&oid) {
        Some(relation) => Ok(Relation::clone(relation)),
        None => Err(Error::new(Kind::UndefinedTable, "the table was dropped meanwhile")),
    }
}

fn column(relation: &mut Relation, id: u32) -> Result<&mut Column> {
    let found = relation.columns.iter_mut().find(|column| column.id == id);
    found.ok_or_else(|| Error::new(Kind::UndefinedColumn, "the column was dropped meanwhile"))
}

/// A mask for somebody's datasets is theirs to set; one for all is `kho_admin`'s.
fn require_covers(ctx: &Context<'_>, owner: Option<Oid>) -> Result<()> {
    match owner {
        None => require_admin(ctx),
        Some(owner) if ctx.who.is(owner) => Ok(()),
        Some(owner) => {
            let message = format!("must be member of role \"{}\"", name::role_name(ctx, owner));
            Err(Error::new(Kind::InsufficientPrivilege, message))
        }
    }
}

fn require_admin(ctx: &Context<'_>) -> Result<()> {
    if ctx.who.is(KHO_ADMIN) {
        return Ok(());
    }
    privilege::require(ctx.state, ctx.who, Action::Warehouse(WarehouseAction::ManageRoles))
        .map(|_| ())
}
