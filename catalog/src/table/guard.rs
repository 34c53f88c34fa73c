//! The log store that every table is opened with: delta-rs' own, behind a guard.
//!
//! # Why
//! delta-rs writes a statement's predicate into the commit, where it outlives the rows it names.
//! Whatever operation delta-rs runs for us, now or later, the guard takes those texts out.
//! It keeps the name of the default store: under another name delta-rs would commit by renaming
//! a temporary file instead of by put-if-absent.

use std::sync::Arc;

use bytes::Bytes;
use deltalake_core::DeltaResult;
use deltalake_core::ObjectStore;
use deltalake_core::kernel::Version;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{CommitOrBytes, LogStore, LogStoreConfig, LogStoreRef};
use serde_json::Value;
use uuid::Uuid;

/// Keys of `operationParameters` that quote a statement.
const QUOTING: &[&str] = &[
    "predicate",
    "mergePredicate",
    "matchedPredicates",
    "notMatchedPredicates",
    "notMatchedBySourcePredicates",
    "expr",
    "constraints",
    "updates",
];

#[derive(Clone)]
pub(super) struct GuardedLogStore {
    inner: LogStoreRef,
}

impl GuardedLogStore {
    pub(super) fn new(inner: LogStoreRef) -> Self {
        GuardedLogStore { inner }
    }
}

/// The commit without the texts that quote a statement.
pub(super) fn redacted(commit: &Bytes) -> Result<Bytes, serde_json::Error> {
    let mut lines = Vec::new();
    for line in commit.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut action: Value = serde_json::from_slice(line)?;
        let parameters = (action.get_mut("commitInfo"))
            .and_then(|info| info.get_mut("operationParameters"))
            .and_then(Value::as_object_mut);
        match parameters {
            Some(parameters) => {
                parameters.retain(|key, _| !QUOTING.contains(&key.as_str()));
                lines.push(serde_json::to_vec(&action)?);
            }
            None => lines.push(line.to_vec()),
        }
    }
    Ok(Bytes::from(lines.join(&b'\n')))
}

#[async_trait::async_trait]
impl LogStore for GuardedLogStore {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn read_commit_entry(&self, version: Version) -> DeltaResult<Option<Bytes>> {
        self.inner.read_commit_entry(version).await
    }

    async fn write_commit_entry(
        &self,
        version: Version,
        commit: CommitOrBytes,
        operation_id: Uuid,
    ) -> Result<(), TransactionError> {
        let commit = match commit {
            CommitOrBytes::LogBytes(bytes) => CommitOrBytes::LogBytes(
                redacted(&bytes)
                    .map_err(|json_err| TransactionError::SerializeLogJson { json_err })?,
            ),
            CommitOrBytes::TmpCommit(path) => {
                return Err(TransactionError::LogStoreError {
                    msg: "a commit by a temporary file cannot be guarded".to_owned(),
                    source: format!("temporary commit {path}").into(),
                });
            }
        };
        self.inner.write_commit_entry(version, commit, operation_id).await
    }

    async fn abort_commit_entry(
        &self,
        version: Version,
        commit: CommitOrBytes,
        operation_id: Uuid,
    ) -> Result<(), TransactionError> {
        self.inner.abort_commit_entry(version, commit, operation_id).await
    }

    async fn get_latest_version(&self, start: Version) -> DeltaResult<Version> {
        self.inner.get_latest_version(start).await
    }

    fn object_store(&self, operation_id: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.object_store(operation_id)
    }

    fn root_object_store(&self, operation_id: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.root_object_store(operation_id)
    }

    fn config(&self) -> &LogStoreConfig {
        self.inner.config()
    }
}
