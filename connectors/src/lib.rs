//! Where data comes from.
//!
//! Knows no destination: a [`source::Source`] yields batches and, with each, the place it ends at.
//! What is done with a batch (conforming, checking, writing) is the write path's business.

pub mod files;
pub mod source;
