//! What exists, who may do what, what happened.
//!
//! Knows no SQL text, no wire, no source system.

pub mod agreement;
pub mod audit;
pub mod environment;
pub mod error;
pub mod freeze;
pub mod limit;
pub mod log;
pub mod policy;
pub mod privilege;
pub mod state;
pub mod table;
pub mod text;
pub mod types;
