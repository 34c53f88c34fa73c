//! How clients reach Kho: the wires, and what they need to run.

pub mod pgwire;
