//! The one integration-test binary: what Kho promises, held against the real server.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the whole crate is test code: a panic is how a test reports"
)]

mod access;
mod attacks;
mod blocks;
mod cancel;
mod copy;
mod credentials;
mod demo;
mod drivers;
mod durability;
mod faults;
mod files;
mod flight;
mod fuzz;
mod house;
mod interference;
mod keys;
mod kill;
mod ledger;
mod limits;
mod loads;
mod maintenance;
mod metadata;
mod model;
mod psql;
mod quotas;
mod reshaping;
mod s3;
mod servers;
mod slt;
mod startup;
mod storage;
