//! One commit of all that a transaction did to a table.

use std::collections::BTreeMap;

use deltalake_core::kernel::{Action, Add, Remove};

use super::super::commit::{Basis, Commit, Metrics};
use super::super::stage::Staged;
use super::{Branch, Step};

impl Branch {
    /// One commit of all steps. `basis` is what the transaction may assume of the commits of others.
    /// `None` where the steps have left nothing.
    pub fn squash(&self, basis: Basis, changes: Changes) -> Option<Commit> {
        let steps = || self.steps.iter().map(|step| &step.commit);
        let last = steps().next_back()?;
        let same = steps().all(|step| step.operation == last.operation);
        let operation = if same { last.operation } else { "TRANSACTION" };
        let mut metrics = Metrics::default();
        // The oldest of its files counts.
        let staged_after =
            self.steps.iter().flat_map(Step::commits).filter_map(|it| it.staged_after).min();
        let mut left = Left::default();
        for step in &self.steps {
            metrics.rows_inserted += step.commit.metrics.rows_inserted;
            metrics.rows_updated += step.commit.metrics.rows_updated;
            metrics.rows_deleted += step.commit.metrics.rows_deleted;
            for action in &step.commit.actions {
                match action {
                    Action::Cdc(_) if !matches!(changes, Changes::Recorded) => {}
                    action => left.take(action.clone()),
                }
            }
            // What was put together is new to everybody else.
            for action in step.gathered.iter().flat_map(|it| &it.actions).cloned() {
                left.take(match action {
                    Action::Add(add) => Action::Add(Add { data_change: true, ..add }),
                    other => other,
                });
            }
        }
        let netted = match changes {
            Changes::Recorded => Vec::new(),
            Changes::OfFiles => {
                left.set_data_change(true);
                Vec::new()
            }
            Changes::Netted(netted) => {
                let recorded = netted.into_actions();
                // Where all in all no row changed, the files say so.
                if recorded.is_empty() {
                    left.set_data_change(false);
                }
                recorded
            }
        };
        let mut actions = left.into_actions();
        actions.extend(netted);
        if actions.is_empty() {
            return None;
        }
        let (read_version, author) = (Some(self.base.version()), last.author.clone());
        Some(Commit { operation, basis, read_version, actions, staged_after, author, metrics })
    }
}

/// Where the changes of a transaction's commit are told.
pub enum Changes {
    /// As its steps recorded them, or their files tell: for one step, or steps that only add.
    Recorded,
    /// By its files alone: all rows there are came with them.
    OfFiles,
    /// By these records.
    Netted(Staged),
}

/// What several commits leave of each other.
#[derive(Default)]
struct Left {
    protocol: Option<Action>,
    metadata: Option<Action>,
    loads: BTreeMap<String, Action>,
    removes: Vec<Remove>,
    adds: Vec<Add>,
    changes: Vec<Action>,
}

impl Left {
    fn set_data_change(&mut self, data_change: bool) {
        self.adds.iter_mut().for_each(|add| add.data_change = data_change);
        self.removes.iter_mut().for_each(|remove| remove.data_change = data_change);
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Protocol(_) => self.protocol = Some(action),
            Action::Metadata(_) => self.metadata = Some(action),
            Action::Txn(ref load) => drop(self.loads.insert(load.app_id.clone(), action)),
            // What was removed and is to be there again was never gone.
            Action::Add(add) => match self.removes.iter().position(|it| it.path == add.path) {
                Some(place) => drop(self.removes.swap_remove(place)),
                None => self.adds.push(add),
            },
            Action::Remove(remove) => {
                match self.adds.iter().position(|add| add.path == remove.path) {
                    Some(place) => drop(self.adds.remove(place)),
                    None => self.removes.push(remove),
                }
            }
            other => self.changes.push(other),
        }
    }

    fn into_actions(self) -> Vec<Action> {
        let shape = self.protocol.into_iter().chain(self.metadata);
        let rows = self.removes.into_iter().map(Action::Remove);
        let rows = rows.chain(self.adds.into_iter().map(Action::Add));
        shape.chain(self.loads.into_values()).chain(rows).chain(self.changes).collect()
    }
}
