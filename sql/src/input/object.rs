//! JSON: the check of `json` values, and structs, which are read from JSON objects.
//!
//! What it guarantees: a number inside of an object reaches its column digit for digit (it is cut
//! out of the text, not read as a float); a member that the struct lacks is refused, one that is
//! missing is NULL. What it does not: documents nested deeper than 128 levels are refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use kho_catalog::error::{Error, Kind, Result};
use serde::de::IgnoredAny;

use super::array::ListBuilder;
use super::zone::Zone;
use super::{ColumnBuilder, Values, excerpt};

/// Collects structs.
pub(super) struct ObjectBuilder {
    fields: Fields,
    children: Vec<ColumnBuilder>,
    length: usize,
    nulls: NullBufferBuilder,
}

impl ObjectBuilder {
    pub(super) fn new(field: &Field, zone: Zone) -> Result<ObjectBuilder> {
        let DataType::Struct(fields) = field.data_type() else {
            return Err(Error::unsupported("structs in this encoding cannot be read"));
        };
        let children = fields.iter().map(|field| ColumnBuilder::in_zone(field, zone));
        Ok(ObjectBuilder {
            fields: fields.clone(),
            children: children.collect::<Result<_>>()?,
            length: 0,
            nulls: NullBufferBuilder::new(0),
        })
    }

    pub(super) fn append_null(&mut self) {
        for child in &mut self.children {
            child.append_null();
        }
        self.length += 1;
        self.nulls.append_null();
    }

    /// Appends a JSON object that has not been checked.
    pub(super) fn append_document(&mut self, text: &str) -> Result<()> {
        check_json(text)?;
        self.append_object(trim(text))
    }

    fn append_object(&mut self, text: &str) -> Result<()> {
        if text == "null" {
            self.append_null();
            return Ok(());
        }
        let inner = inside(text, '{', '}').ok_or_else(|| mismatch("an object", text))?;
        let mut values: Vec<Option<&str>> = vec![None; self.children.len()];
        for member in split(inner) {
            let (name, value) = split_member(member).ok_or_else(|| mismatch("a member", member))?;
            let name: String = serde_json::from_str(name).map_err(|e| invalid_json(text, &e))?;
            let found = self.fields.iter().position(|field| *field.name() == name);
            let place = found.and_then(|index| values.get_mut(index)).ok_or_else(|| {
                Error::new(
                    Kind::InvalidTextRepresentation,
                    format!("the struct has no field \"{}\"", excerpt(&name)),
                )
            })?;
            if place.replace(value).is_some() {
                return Err(Error::new(
                    Kind::InvalidTextRepresentation,
                    format!("the field \"{}\" is given twice", excerpt(&name)),
                ));
            }
        }
        for (child, value) in self.children.iter_mut().zip(values) {
            append_value(child, value.unwrap_or("null"))?;
        }
        self.length += 1;
        self.nulls.append_non_null();
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let children = self.children.iter_mut().map(ColumnBuilder::finish);
        let children = children.collect::<Result<Vec<_>>>()?;
        let length = std::mem::take(&mut self.length);
        let nulls = self.nulls.finish();
        let array = StructArray::try_new_with_length(self.fields.clone(), children, nulls, length);
        match array {
            Ok(array) => Ok(Arc::new(array)),
            Err(error) => Err(Error::new(
                Kind::NotNullViolation,
                "null value in a field of a struct that must not be null",
            )
            .with_source(error)),
        }
    }
}

/// Appends a value cut out of a document that has been checked.
fn append_value(builder: &mut ColumnBuilder, value: &str) -> Result<()> {
    match (&mut builder.values, value) {
        (Values::Text(_, super::TextRule::Json), "null") | (_, "null") => builder.append(None),
        (Values::Object(inner), _) => inner.append_object(value),
        (Values::List(inner), _) => append_list(inner, value),
        (Values::Text(_, super::TextRule::Json), _) => builder.append(Some(value)),
        _ if value.starts_with('"') => {
            let text: String = serde_json::from_str(value).map_err(|e| invalid_json(value, &e))?;
            builder.append(Some(&text))
        }
        _ => builder.append(Some(value)),
    }
}

fn append_list(builder: &mut ListBuilder, text: &str) -> Result<()> {
    let inner = inside(text, '[', ']').ok_or_else(|| mismatch("an array", text))?;
    for element in split(inner) {
        builder.append_element(|child| append_value(child, trim(element)))?;
    }
    builder.close()
}

/// `22P02` for a text that is no JSON document.
pub(super) fn check_json(text: &str) -> Result<()> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(invalid_json(text, &error)),
    }
}

fn invalid_json(text: &str, error: &serde_json::Error) -> Error {
    let mut reason = error.to_string();
    if let Some(first) = reason.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let detail = if text.len() <= 200 { format!("{reason}: {text}") } else { format!("{reason}.") };
    Error::new(Kind::InvalidTextRepresentation, "invalid input syntax for type json")
        .with_detail(detail)
}

fn mismatch(wanted: &str, text: &str) -> Error {
    Error::new(
        Kind::InvalidTextRepresentation,
        format!("expected {wanted} in a JSON value, found \"{}\"", excerpt(text)),
    )
}

fn inside(text: &str, open: char, close: char) -> Option<&str> {
    text.strip_prefix(open)?.strip_suffix(close).map(trim)
}

/// The parts between the commas of a document's outermost level.
fn split(inner: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(inner).filter(|inner| !inner.is_empty());
    std::iter::from_fn(move || {
        let text = rest.take()?;
        match find_outside(text, b',').and_then(|at| text.split_at_checked(at)) {
            Some((part, after)) => {
                rest = after.get(1..);
                Some(trim(part))
            }
            None => Some(trim(text)),
        }
    })
}

/// `"name": value`, both as they are written.
fn split_member(member: &str) -> Option<(&str, &str)> {
    let (name, value) = member.split_at_checked(find_outside(member, b':')?)?;
    Some((trim(name), trim(value.get(1..)?)))
}

/// Where `wanted` stands outside of strings, objects and arrays.
fn find_outside(text: &str, wanted: u8) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ if depth == 0 && byte == wanted => return Some(index),
            _ => {}
        }
    }
    None
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}
