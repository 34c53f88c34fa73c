//! The bytes of PostgreSQL values: what a client reads in a row and writes in a parameter.
//!
//! What it is: rows of Arrow batches as `DataRow` messages ([`RowEncoder`]), parameters as scalars
//! ([`decode_parameter`]), and the formats of `COPY` ([`copy`]). Text is read by `kho_sql::input`. Text is spelled as PostgreSQL 15 spells it with `DateStyle = ISO`,
//! `IntervalStyle = postgres` and `bytea_output = hex`.
//! What it guarantees: no value is rounded, cut or replaced silently, except that sub-microsecond
//! digits of times are dropped on the way out (PostgreSQL has none). Text passes byte for byte.
//! What it does not: structs and maps have no PostgreSQL type of their own; they are sent as `json`
//! objects. A nested array whose inner arrays differ in length has a text form but no binary one
//! (`0A000`). `infinity` and a numeric `NaN` cannot be stored and are refused (`0A000`).
//! On failure: an encoder leaves its output as it was before the row that failed.
//!
//! # Why an encoder of our own
//!
//! The ready-made ones lose what a warehouse must keep: numerics beyond 96 bits, NULL intervals,
//! maps, nested lists; and they allocate for each value.

mod binary;
mod column;
pub mod copy;
mod json;
mod number;
mod parameter;
mod row;
mod text;
mod wire;

#[cfg(test)]
mod tests;

pub use parameter::decode_parameter;
pub use row::RowEncoder;
pub use wire::{FormatCode, PgType, field_oid, oid_of_type};
