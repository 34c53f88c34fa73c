//! The PostgreSQL wire.

pub mod value;
