//! What was asked about a statement, to be asked again when the catalog has changed.
//!
//! What it is: [`Rights`] are the actions that were allowed, and of which roles; [`refuse_changed`]
//! compares what two catalogs show of a relation: its row policies, its masks, and what those ask
//! of a session.
//! What it guarantees: a right that was taken since is refused in the words that a new statement
//! would get. What may be seen of a relation is compared by what holds for the roles in question, so
//! that nobody else's policy ends a statement; a policy for any command counts.
//! What it does not: a relation that was dropped since is not asked about: its rows are there as long
//! as its version is. The policies of an INSERT end a SELECT of the same table, too: run again, it
//! is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::{self, Policy, PolicyCommand};
use kho_catalog::privilege::{self, Action, Principal};
use kho_catalog::state::{Column, Oid, Relation, State};

use crate::scope::Scope;

/// The commands that a policy can be about.
const COMMANDS: [PolicyCommand; 4] =
    [PolicyCommand::Select, PolicyCommand::Insert, PolicyCommand::Update, PolicyCommand::Delete];

/// What was asked for a plan, and of which roles, to be asked again while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights(Arc<[(Oid, Action)]>);

impl Rights {
    pub(super) fn new(asked: Vec<(Oid, Action)>) -> Rights {
        Rights(asked.into())
    }

    /// That all of it is still allowed.
    ///
    /// # Errors
    /// `42501`, `42P01` where a right was taken since.
    pub(crate) fn require(&self, scope: &Scope) -> Result<()> {
        self.0.iter().try_for_each(|(by, action)| scope.require(*by, *action))
    }

    /// The same by a newer catalog alone, of what that still has.
    pub(super) fn require_in(&self, state: &State) -> Result<()> {
        let mut principals: BTreeMap<Oid, Principal> = BTreeMap::new();
        for (by, action) in self.0.iter().filter(|(_, action)| has(state, *action)) {
            let who = principals.entry(*by).or_insert_with(|| Principal::of(state, *by));
            privilege::require(state, who, *action)?;
        }
        Ok(())
    }

    /// The same without what is about relations that the open block made.
    pub(super) fn of_others(self, scope: &Scope) -> Rights {
        let made_here = |(_, action): &(Oid, Action)| {
            relation_of(*action).is_some_and(|oid| scope.block.made_here(oid))
        };
        Rights(self.0.iter().filter(|it| !made_here(it)).copied().collect())
    }

    /// The relations that are asked about, and for whom.
    pub(super) fn relations(&self) -> Arc<[(Oid, Oid)]> {
        let all = self.0.iter().filter_map(|(by, action)| Some((relation_of(*action)?, *by)));
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn relation_of(action: Action) -> Option<Oid> {
    match action {
        Action::Relation(oid, _) | Action::Column(oid, _, _) => Some(oid),
        Action::Warehouse(_) | Action::Schema(..) => None,
    }
}

/// Whether a catalog has the object of an action.
pub(crate) fn has(state: &State, action: Action) -> bool {
    match action {
        Action::Warehouse(_) => true,
        Action::Schema(oid, _) => state.schemas.contains_key(&oid),
        Action::Relation(oid, _) | Action::Column(oid, _, _) => state.relations.contains_key(&oid),
    }
}

/// That `session` is shown of a relation, which it reads by the right of `by`, what it was.
///
/// # Errors
/// `40001`: run again, the statement goes by what holds now.
pub(super) fn refuse_changed(
    then: &State,
    now: &State,
    session: Oid,
    (oid, by): (Oid, Oid),
) -> Result<()> {
    let (Some(old), Some(new)) = (then.relations.get(&oid), now.relations.get(&oid)) else {
        return Ok(());
    };
    let dataset = |of: &Relation| of.table().map(|table| table.dataset.clone());
    let ids: Vec<u32> = columns(old).map(|column| column.id).collect();
    if dataset(old) != dataset(new)
        || Shown::of(then, old, session, by, &ids) == Shown::of(now, new, session, by, &ids)
    {
        return Ok(());
    }
    let message =
        format!("what may be seen of relation \"{}\" changed while it was in use", new.name);
    Err(Error::new(Kind::SerializationFailure, message).with_hint("Run the statement again."))
}

/// Everything that decides what is shown of a relation.
#[derive(PartialEq, Eq)]
struct Shown<'a> {
    /// For each command; `None` where all rows are.
    policies: Vec<Option<Vec<Rule<'a>>>>,
    /// By the id of the column.
    masks: BTreeMap<u32, Vec<Option<&'a str>>>,
    /// What policies and masks can ask of a session, where there are any.
    attributes: Option<&'a BTreeMap<String, String>>,
    roles: Option<[BTreeSet<Oid>; 2]>,
}

/// What a policy says.
type Rule<'a> = (bool, Option<&'a str>, Option<&'a str>);

impl<'a> Shown<'a> {
    fn of(state: &'a State, relation: &'a Relation, session: Oid, by: Oid, ids: &[u32]) -> Self {
        let (who, asks) = (Principal::of(state, by), Principal::of(state, session));
        let rule = |policy: &&'a Policy| {
            let text = |text: &'a Option<kho_catalog::text::Text>| text.as_ref()?.value();
            (policy.permissive, text(&policy.using), text(&policy.with_check))
        };
        let rules = |command| {
            let applied = policy::applied(state, relation, &who, command)?;
            Some(applied.permissive.iter().chain(&applied.restrictive).map(rule).collect())
        };
        let policies: Vec<Option<Vec<Rule<'a>>>> = COMMANDS.into_iter().map(rules).collect();
        let mut masks = BTreeMap::new();
        for column in columns(relation).filter(|column| ids.contains(&column.id)) {
            let found = policy::masks(state, relation, column, &asks);
            let texts: Vec<_> = found.iter().map(|mask| mask.using.value()).collect();
            if !texts.is_empty() {
                masks.insert(column.id, texts);
            }
        }
        let is_plain = masks.is_empty() && policies.iter().all(Option::is_none);
        let role = state.roles.get(&session).filter(|_| !is_plain);
        let roles = || [who.effective().clone(), asks.effective().clone()];
        Shown {
            policies,
            masks,
            attributes: role.map(|role| &role.attributes),
            roles: (!is_plain).then(roles),
        }
    }
}

/// The columns of a relation, also those that were dropped.
fn columns(relation: &Relation) -> impl Iterator<Item = &Column> {
    let dropped = relation.table().map(|table| table.dropped.as_slice()).unwrap_or_default();
    relation.columns.iter().chain(dropped)
}
