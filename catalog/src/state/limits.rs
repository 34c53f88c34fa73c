//! How much a role may use, and how much may be read under an agreement.
//!
//! What it is: the numbers alone. `crate::limit` says which of them hold for whom.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Oid;

/// What a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// Statements that run at one time on one server.
    ConcurrentStatements,
    /// Milliseconds that one statement may take.
    StatementTime,
    /// Bytes that the running statements of one server may hold together.
    Memory,
    RowsPerStatement,
    BytesPerStatement,
    /// Of a day of UTC, on all servers.
    RowsPerDay,
    BytesPerDay,
}

/// The limits that were set for one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleLimits {
    pub role: Oid,
    pub values: BTreeMap<LimitName, u64>,
}

/// How much may be read under an agreement in a day of UTC, by all whom it serves together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_day: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_day: Option<u64>,
}

impl LimitName {
    pub const ALL: &'static [LimitName] = &[
        LimitName::ConcurrentStatements,
        LimitName::StatementTime,
        LimitName::Memory,
        LimitName::RowsPerStatement,
        LimitName::BytesPerStatement,
        LimitName::RowsPerDay,
        LimitName::BytesPerDay,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            LimitName::ConcurrentStatements => "concurrent_statements",
            LimitName::StatementTime => "statement_time",
            LimitName::Memory => "memory",
            LimitName::RowsPerStatement => "rows_per_statement",
            LimitName::BytesPerStatement => "bytes_per_statement",
            LimitName::RowsPerDay => "rows_per_day",
            LimitName::BytesPerDay => "bytes_per_day",
        }
    }

    /// The names, for a message.
    pub fn listed() -> String {
        LimitName::ALL.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ")
    }
}

impl Quota {
    pub fn is_none(&self) -> bool {
        *self == Quota::default()
    }
}
