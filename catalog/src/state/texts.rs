//! Every [`Text`] of an object, found in one place: whoever adds a text to an object adds it here.
//!
//! What it guarantees: the log writes and reads the bodies of exactly the texts named here.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Change, Column, Relation, RelationKind, Reshaping, Role, Schema, State};
use crate::error::Result;
use crate::policy::Tag;
use crate::text::{Body, Text};

impl Change {
    /// The texts of the object that is put.
    pub(crate) fn texts_mut(&mut self) -> Vec<&mut Text> {
        match self {
            Change::PutRole(role) => role_texts(role),
            Change::PutSchema(schema) => schema_texts(schema),
            Change::PutRelation(relation) => relation_texts(relation),
            Change::Announce(reshaping) => reshaping_texts(reshaping),
            Change::PutTag(tag) => tag_texts(tag),
            Change::Access(change) => change.texts_mut(),
            Change::RemoveRole(_)
            | Change::RemoveSchema(_)
            | Change::RemoveRelation(_)
            | Change::Withdraw(_)
            | Change::RemoveTag(_)
            | Change::PutLedgerKey(_)
            | Change::RotateLedgerKey(_)
            | Change::PutAnchor(_) => vec![],
        }
    }
}

impl State {
    /// The body ids of texts whose words are not in memory.
    pub(crate) fn missing_bodies(&mut self) -> Vec<String> {
        let mut missing = Vec::new();
        self.for_each_text(|text| {
            if text.value().is_none() {
                missing.push(text.body.clone());
            }
        });
        missing
    }

    /// Fills in `bodies`, which are keyed by id; texts that are not among them stay as they are.
    pub(crate) fn fill(&mut self, bodies: &HashMap<String, Body>) -> Result<()> {
        let mut outcome = Ok(());
        self.for_each_text(|text| {
            if let Some(body) = bodies.get(&text.body)
                && text.value().is_none()
                && outcome.is_ok()
            {
                outcome = text.fill(body);
            }
        });
        outcome
    }

    /// Visits every text. Called while a state is being read and is shared with nobody, so that
    /// nothing is copied.
    fn for_each_text(&mut self, mut visit: impl FnMut(&mut Text)) {
        for role in self.roles.values_mut() {
            role_texts(Arc::make_mut(role)).into_iter().for_each(&mut visit);
        }
        for schema in self.schemas.values_mut() {
            schema_texts(Arc::make_mut(schema)).into_iter().for_each(&mut visit);
        }
        for relation in self.relations.values_mut() {
            relation_texts(Arc::make_mut(relation)).into_iter().for_each(&mut visit);
        }
        for tag in self.tags.values_mut() {
            tag_texts(Arc::make_mut(tag)).into_iter().for_each(&mut visit);
        }
        for reshaping in self.announced.values_mut() {
            reshaping_texts(Arc::make_mut(reshaping)).into_iter().for_each(&mut visit);
        }
        self.access.for_each_text(&mut visit);
    }
}

fn role_texts(role: &mut Role) -> Vec<&mut Text> {
    role.comment.iter_mut().collect()
}

fn schema_texts(schema: &mut Schema) -> Vec<&mut Text> {
    schema.comment.iter_mut().collect()
}

fn relation_texts(relation: &mut Relation) -> Vec<&mut Text> {
    let mut texts: Vec<&mut Text> = relation.comment.iter_mut().collect();
    texts.extend(relation.columns.iter_mut().flat_map(column_texts));
    match &mut relation.kind {
        RelationKind::Table(table) => {
            texts.extend(table.checks.iter_mut().map(|check| &mut check.expression));
            texts.extend(table.dropped.iter_mut().flat_map(column_texts));
            let policies = table.policies.iter_mut();
            texts.extend(policies.flat_map(|it| it.using.iter_mut().chain(&mut it.with_check)));
        }
        RelationKind::View(view) => texts.push(&mut view.query),
    }
    texts
}

fn reshaping_texts(reshaping: &mut Reshaping) -> Vec<&mut Text> {
    let columns = reshaping.columns.iter_mut().flat_map(column_texts);
    columns.chain(reshaping.checks.iter_mut().map(|check| &mut check.expression)).collect()
}

fn column_texts(column: &mut Column) -> impl Iterator<Item = &mut Text> {
    let masks = column.mask.iter_mut().chain(&mut column.inherited);
    let mask = masks.map(|mask| &mut mask.using);
    column.default.iter_mut().chain(column.comment.iter_mut()).chain(mask)
}

fn tag_texts(tag: &mut Tag) -> Vec<&mut Text> {
    let masks = tag.masks.iter_mut().map(|it| &mut it.mask.using);
    std::iter::once(&mut tag.description).chain(masks).collect()
}
