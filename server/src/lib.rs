//! How clients reach Kho: the wires, and what they need to run.

pub mod authenticate;
pub mod pgwire;
pub mod tls;
