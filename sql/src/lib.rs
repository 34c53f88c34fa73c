//! How a statement becomes an answer or a commit.
//!
//! Knows no socket and no byte encoding. The way in is [`session::Session::run`].

pub(crate) mod command;
pub mod copy;
pub mod outcome;
pub mod parse;
pub mod scram;
pub mod session;
pub(crate) mod types;
