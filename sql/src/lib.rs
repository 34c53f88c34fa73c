//! How a statement becomes an answer or a commit.
//!
//! Knows no socket and no byte encoding. The way in is [`session::Session::run`]; every read and
//! every write goes through it:
//!
//! parse → audit begin → bind → authorize → execute, or stage and commit → audit complete

mod activity;
mod apart;
mod authorize;
mod bind;
mod call;
mod command;
mod conjuncts;
pub mod copy;
mod correlated;
mod days;
mod ddl;
mod early;
mod engine;
mod errors;
mod execute;
mod explain;
mod functions;
pub mod input;
mod jobs;
mod join_order;
mod limit;
pub mod maintenance;
mod memory;
mod null_safe;
mod numeric;
mod offset;
mod once;
pub mod outcome;
pub mod parse;
pub mod passwords;
mod pg_catalog;
mod plans;
mod pushdown;
mod scope;
pub mod scram;
mod secure;
pub mod session;
mod settings;
mod share;
mod show;
mod system;
pub mod text;
pub mod times;
pub mod told;
mod transaction;
pub mod types;
mod whole;
mod write;
mod yielding;
