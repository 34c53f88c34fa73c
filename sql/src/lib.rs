//! How a statement becomes an answer or a commit.
//!
//! Knows no socket and no byte encoding. The way in is [`session::Session::run`]; every read and
//! every write goes through it:
//!
//! parse → bind → audit begin → authorize → execute, or stage and commit → audit complete

mod authorize;
mod bind;
mod call;
mod ddl;
mod pg_catalog;
mod types;
pub(crate) mod command;
pub mod copy;
mod engine;
mod errors;
mod execute;
mod explain;
mod numeric;
pub mod outcome;
pub mod parse;
mod scope;
mod secure;
pub mod scram;
pub mod pg_catalog;
pub mod session;
mod settings;
mod show;
mod system;
mod write;
pub mod scram;
pub mod session;
pub(crate) mod types;
