//! What the tests stand on: a Kho and a PostgreSQL that are started for one test, and clients.
//!
//! What it guarantees: every server has a fresh folder and a port of its own, and is gone when its
//! value is dropped, by the process id that was started; every wait has an end.
//! What it does not: it promises nothing about Kho; the tests in `all/`, `slt/`, `clients/` do.
//! On failure: it panics with what the server printed, as tests do.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the whole crate is test code: a panic is how a test reports"
)]

pub mod disk;
pub mod faults;
pub mod flight;
pub mod inside;
pub mod kho;
pub mod model;
pub mod mutate;
pub mod output;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod psql;
pub mod python;
pub mod s3;
pub mod seeds;
pub mod slt;
pub mod tls;
pub mod trace;
pub mod wire;
pub mod witness;
pub mod work;
