//! Array literals, `{1,2,NULL,"a b"}`.
//!
//! What it guarantees: PostgreSQL's quoting: double quotes around, a backslash before a quote or a
//! backslash, `NULL` unquoted in any case. What it does not: inner arrays may differ in length, as
//! Arrow's can and PostgreSQL's cannot.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullBufferBuilder};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, FieldRef};
use kho_catalog::error::{Error, Kind, Result};

use super::zone::Zone;
use super::{ColumnBuilder, Values, element_of, excerpt};

/// Collects arrays.
pub(super) struct ListBuilder {
    element: FieldRef,
    child: ColumnBuilder,
    child_length: usize,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl ListBuilder {
    pub(super) fn new(field: &Field, zone: Zone) -> Result<ListBuilder> {
        let element = element_of(field)
            .ok_or_else(|| Error::unsupported("arrays in this encoding cannot be read"))?;
        Ok(ListBuilder {
            element: Arc::clone(element),
            child: ColumnBuilder::in_zone(element, zone)?,
            child_length: 0,
            offsets: vec![0],
            nulls: NullBufferBuilder::new(0),
        })
    }

    /// The field of the elements.
    pub(super) fn element(&self) -> &Field {
        &self.element
    }

    /// The array of arrays that the elements are; `None` at the innermost level.
    pub(super) fn inner(&mut self) -> Option<&mut ListBuilder> {
        match &mut self.child.values {
            Values::List(inner) => Some(inner),
            _ => None,
        }
    }

    /// Appends an element to the array that is being built.
    pub(super) fn append_element(
        &mut self,
        append: impl FnOnce(&mut ColumnBuilder) -> Result<()>,
    ) -> Result<()> {
        append(&mut self.child)?;
        self.child_length += 1;
        Ok(())
    }

    /// Ends the array that is being built.
    pub(super) fn close(&mut self) -> Result<()> {
        self.end(true)
    }

    pub(super) fn append_null(&mut self) {
        // The offset is the last one again, which did fit.
        let last = self.offsets.last().copied().unwrap_or_default();
        self.offsets.push(last);
        self.nulls.append_null();
    }

    fn end(&mut self, is_valid: bool) -> Result<()> {
        let offset = i32::try_from(self.child_length).map_err(|_| {
            Error::new(Kind::ProgramLimitExceeded, "too many array elements in one batch")
        })?;
        self.offsets.push(offset);
        self.nulls.append(is_valid);
        Ok(())
    }

    pub(super) fn append_literal(&mut self, text: &str) -> Result<()> {
        let mut literal = Literal { text, rest: text.as_bytes() };
        literal.skip_space();
        if literal.rest.first() == Some(&b'[') {
            return Err(Error::unsupported("array literals with bounds are not supported"));
        }
        literal.read_array(self)?;
        literal.skip_space();
        match literal.rest {
            [] => Ok(()),
            _ => Err(literal.malformed("Junk after closing right brace.")),
        }
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        self.child_length = 0;
        let array = ListArray::try_new(
            Arc::clone(&self.element),
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            self.child.finish()?,
            self.nulls.finish(),
        );
        match array {
            Ok(array) => Ok(Arc::new(array)),
            Err(error) => Err(Error::new(
                Kind::NotNullViolation,
                "null value in an array whose elements must not be null",
            )
            .with_source(error)),
        }
    }
}

struct Literal<'a> {
    text: &'a str,
    rest: &'a [u8],
}

impl Literal<'_> {
    fn read_array(&mut self, builder: &mut ListBuilder) -> Result<()> {
        if !self.take(b'{') {
            let detail = "Array value must start with \"{\" or dimension information.";
            return Err(self.malformed(detail));
        }
        self.skip_space();
        if self.take(b'}') {
            return builder.close();
        }
        loop {
            self.skip_space();
            self.read_element(builder)?;
            self.skip_space();
            if self.take(b'}') {
                return builder.close();
            }
            if !self.take(b',') {
                return Err(self.unexpected());
            }
        }
    }

    fn read_element(&mut self, builder: &mut ListBuilder) -> Result<()> {
        if self.rest.first() == Some(&b'{') {
            return builder.append_element(|child| match &mut child.values {
                Values::List(inner) => self.read_array(inner),
                _ => Err(self.malformed("The array has more dimensions than the column.")),
            });
        }
        let (element, is_plain) = self.read_text()?;
        if is_plain && element.eq_ignore_ascii_case("NULL") {
            return builder.append_element(|child| child.append(None));
        }
        if builder.inner().is_some() {
            return Err(self.malformed("The array has fewer dimensions than the column."));
        }
        builder.append_element(|child| child.append(Some(&element)))
    }

    /// An element's text, and whether it was written without quotes and escapes.
    fn read_text(&mut self) -> Result<(String, bool)> {
        let is_quoted = self.take(b'"');
        let mut is_plain = !is_quoted;
        let mut element = Vec::new();
        // How much of the element is not white space that an unquoted one ends with.
        let mut length = 0;
        loop {
            let Some((byte, after)) = self.rest.split_first() else {
                return Err(self.malformed("Unexpected end of input."));
            };
            match byte {
                b'"' if is_quoted => {
                    self.rest = after;
                    break;
                }
                b',' | b'}' if !is_quoted => break,
                b'"' | b'{' if !is_quoted => return Err(self.unexpected()),
                b'\\' => {
                    let Some((escaped, after)) = after.split_first() else {
                        return Err(self.malformed("Unexpected end of input."));
                    };
                    is_plain = false;
                    element.push(*escaped);
                    length = element.len();
                    self.rest = after;
                }
                _ => {
                    element.push(*byte);
                    self.rest = after;
                    if is_quoted || !is_space(*byte) {
                        length = element.len();
                    }
                }
            }
        }
        element.truncate(length);
        if element.is_empty() && is_plain {
            return Err(self.unexpected());
        }
        let element = String::from_utf8(element)
            .map_err(|_| self.malformed("An escape cuts a character in two."))?;
        Ok((element, is_plain))
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, after)) if *first == byte => {
                self.rest = after;
                true
            }
            _ => false,
        }
    }

    fn skip_space(&mut self) {
        while let Some((first, after)) = self.rest.split_first()
            && is_space(*first)
        {
            self.rest = after;
        }
    }

    fn unexpected(&self) -> Error {
        match std::str::from_utf8(self.rest).ok().and_then(|rest| rest.chars().next()) {
            Some(found) => self.malformed(&format!("Unexpected \"{found}\" character.")),
            None => self.malformed("Unexpected end of input."),
        }
    }

    fn malformed(&self, detail: &str) -> Error {
        Error::new(
            Kind::InvalidTextRepresentation,
            format!("malformed array literal: \"{}\"", excerpt(self.text)),
        )
        .with_detail(detail)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 11 | 12)
}
