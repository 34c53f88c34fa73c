//! How clients reach Kho: the wires, and what they need to run.
//!
//! Knows no Delta, no policy, no plan. [`start`] is the whole server as a value; the binary, the
//! demo and the tests all use it.

mod bootstrap;
pub mod config;
pub mod demo;
pub mod http;
pub mod jobs;
pub mod observe;
mod serve;
mod server_name;

pub use serve::{Server, start};
