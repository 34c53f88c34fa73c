//! Which grants stand on which: everything comes from the owner, through givers with the option.

use std::collections::BTreeSet;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Grant, Oid, Privilege};

/// A right that a role may give on: on the whole, or on one column.
type Giver = (Privilege, Oid, Option<u32>);

/// The grants that can be traced to the owner, each giver holding the right with grant option; on
/// a column the option on the whole relation will do.
pub(crate) fn supported(grants: &[Grant], owner: Oid) -> Vec<Grant> {
    let givers = givers(grants, owner);
    grants.iter().filter(|it| gives(&givers, owner, it)).cloned().collect()
}

/// Refuses to give the option back to a role that one has it from.
pub(super) fn refuse_circle(grants: &[Grant], owner: Oid, new: &Grant) -> Result<()> {
    if new.grantor == owner {
        return Ok(());
    }
    let without: Vec<Grant> = grants
        .iter()
        .map(|it| {
            let is_his = it.grantee == new.grantee && it.privilege == new.privilege;
            Grant { grantable: it.grantable && !is_his, ..it.clone() }
        })
        .collect();
    match gives(&givers(&without, owner), owner, new) {
        true => Ok(()),
        false => {
            let message = "grant options cannot be granted back to your own grantor";
            Err(Error::new(Kind::InvalidGrantOperation, message))
        }
    }
}

fn givers(grants: &[Grant], owner: Oid) -> BTreeSet<Giver> {
    let mut givers: BTreeSet<Giver> = BTreeSet::new();
    loop {
        let next: BTreeSet<Giver> = (grants.iter())
            .filter(|it| it.grantable && gives(&givers, owner, it))
            .map(|it| (it.privilege, it.grantee, it.column))
            .collect();
        if next == givers {
            return givers;
        }
        givers = next;
    }
}

fn gives(givers: &BTreeSet<Giver>, owner: Oid, it: &Grant) -> bool {
    it.grantor == owner
        || givers.contains(&(it.privilege, it.grantor, None))
        || (it.column.is_some() && givers.contains(&(it.privilege, it.grantor, it.column)))
}
