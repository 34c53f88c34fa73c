//! How clients reach Kho: the wires, and what they need to run.
//!
//! Knows no Delta, no policy, no plan. [`start`] is the whole server as a value; the binary, the
//! demo and the tests all use it.

pub mod authenticate;
pub mod bootstrap;
pub mod config;
pub mod demo;
pub mod entrance;
pub mod flight;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod ledger;
pub mod maintenance;
pub mod observe;
pub mod pgwire;
mod serve;
mod server_name;
pub mod tls;

pub use serve::{Server, start};
