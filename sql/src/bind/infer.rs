//! The types of parameters, that the engine leaves open when it plans, as PostgreSQL tells them.
//!
//! What it is: [`parameters`] finds what `$1`, `$2`, … are from where they stand; [`early`] what must
//! be known before.

mod early;
mod functions;
mod operands;
mod parameters;
#[cfg(test)]
mod tests;

pub(super) use early::told;
pub(crate) use parameters::is_open;
pub(super) use parameters::{fields, infer};
