//! The one integration-test binary: what Kho promises, held against the real server.

#[path = "slt.rs"]
mod slt;
