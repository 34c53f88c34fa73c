//! `GRANT` and `REVOKE` of rights on schemas, relations and columns.
//!
//! What it guarantees: a right is given only by the owner or by who holds it `WITH GRANT OPTION`,
//! and lives only as long as the right of who gave it. A right on a column is bound to the
//! column's id. Taking a right on a whole relation takes the rights on its columns along.
//! What it does not: rights on databases, and PostgreSQL's `REFERENCES` and `TRIGGER`, which would be
//! rights to nothing here; they are refused.
//!
//! # Why no rights on functions
//! There are no functions but the built-in ones, and `EXECUTE` on those is everybody's, as in
//! PostgreSQL. A right would protect nothing: a function of `kho` that reads a dataset, and a
//! procedure that changes something, ask for the caller's rights on that. What was taken from
//! `PUBLIC` here would only seem to be protected; so it is refused, not ignored.
//!
//! # What differs from PostgreSQL
//! Who may give a right on a whole relation may give it on a column. There, what was given so
//! outlives the right of who gave it; here it goes with it, and asks for `CASCADE` as all does.
//! The rights of an owner cannot be revoked: they come with ownership.

mod chain;
mod default;
mod words;

use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, COLUMN_PRIVILEGES, RelationAction, grantor_for};
use kho_catalog::state::{Change, Grant, Oid, PUBLIC, Privilege, Relation, Schema};
use sqlparser::ast::ObjectName;

pub(crate) use self::chain::supported;
pub(crate) use self::default::{apply as apply_default, forget_schema, of_new};
use self::words::{Wanted, on_relation, on_schema};
use super::access::tied;
use super::relation::same;
use super::{Context, Planned, name, warning};
use crate::outcome::Notice;
use crate::parse::{Given, On, PrivilegeStatement, Right};

/// `GRANT … ON … TO …`, `REVOKE … ON … FROM …`.
pub(crate) fn apply(ctx: &mut Context<'_>, statement: &PrivilegeStatement) -> Result<Planned> {
    let given = &statement.given;
    let mut planned = Planned::new(if given.revoke { "REVOKE" } else { "GRANT" });
    only_by_oneself(ctx, given)?;
    let wish = Wish::new(ctx, given)?;
    match &statement.on {
        On::Schemas(names) => {
            let wanted = on_schema(&statement.rights)?;
            for schema in schemas(ctx, names)? {
                let mut changed = Schema::clone(schema);
                let mut on = Object::schema(&mut changed);
                wish.fulfil(ctx, &mut on, &wanted, &mut planned.notices)?;
                if changed != **schema {
                    planned.changes.push(Change::PutSchema(changed));
                }
            }
        }
        On::Relations(names) => {
            let find = |written: &ObjectName| name::find(ctx, &name::qualified(written)?);
            let found: Vec<_> = names.iter().map(find).collect::<Result<_>>()?;
            planned = on_relations(ctx, &wish, &statement.rights, found, planned)?;
        }
        On::AllIn(names) => {
            let found = all_in(ctx, names)?;
            planned = on_relations(ctx, &wish, &statement.rights, found, planned)?;
        }
        On::Other(kind) if matches!(kind.as_str(), "FUNCTION" | "PROCEDURE" | "ROUTINE") => {
            return Err(Error::unsupported("rights on functions are not supported")
                .with_detail(
                    "Everybody may call what there is; what it reads or changes asks for the rights \
                     on that.",
                )
                .with_hint("There are rights on schemas, on tables and on views."));
        }
        On::Other(kind) => {
            let message = format!("rights on this kind of object ({kind}) are not supported");
            return Err(Error::unsupported(message)
                .with_hint("There are rights on schemas, on tables and on views."));
        }
    }
    Ok(planned)
}

fn on_relations(
    ctx: &Context<'_>,
    wish: &Wish<'_>,
    rights: &[Right],
    relations: Vec<&Arc<Relation>>,
    mut planned: Planned,
) -> Result<Planned> {
    for relation in relations {
        let wanted = on_relation(rights, relation)?;
        let mut changed = Relation::clone(relation);
        let mut on = Object::relation(&mut changed);
        wish.fulfil(ctx, &mut on, &wanted, &mut planned.notices)?;
        planned.changes.extend(tied::given_by_hand(ctx, relation, &on.given));
        if changed != **relation {
            planned.changes.push(Change::PutRelation(Box::new(changed)));
        }
    }
    Ok(planned)
}

/// Who is to have what is asked for, or to lose it.
struct Wish<'a> {
    given: &'a Given,
    roles: Vec<Oid>,
}

/// One object and its grants.
struct Object<'a> {
    /// As a refusal names it.
    words: String,
    owner: Oid,
    columns: Vec<(u32, String)>,
    grants: &'a mut Vec<Grant>,
    /// What was given, be it held already or not.
    given: Vec<Grant>,
}

impl<'a> Object<'a> {
    fn schema(schema: &'a mut Schema) -> Object<'a> {
        Object {
            words: format!("schema {}", schema.name),
            owner: schema.owner,
            columns: Vec::new(),
            grants: &mut schema.grants,
            given: Vec::new(),
        }
    }

    fn relation(relation: &'a mut Relation) -> Object<'a> {
        let kind = if relation.view().is_some() { "view" } else { "table" };
        Object {
            words: format!("{kind} {}", relation.name),
            owner: relation.owner,
            columns: relation.columns.iter().map(|it| (it.id, it.name.clone())).collect(),
            grants: &mut relation.grants,
            given: Vec::new(),
        }
    }

    fn name(&self) -> &str {
        self.words.split_once(' ').map_or("", |(_, name)| name)
    }

    fn column(&self, id: u32) -> &str {
        self.columns.iter().find(|(it, _)| *it == id).map_or("?", |(_, name)| name)
    }
}

impl<'a> Wish<'a> {
    fn new(ctx: &Context<'_>, given: &'a Given) -> Result<Wish<'a>> {
        let roles = grantees(ctx, &given.roles)?;
        if !given.revoke && given.option && roles.contains(&PUBLIC) {
            let message = "grant options can only be granted to roles";
            return Err(Error::new(Kind::InvalidGrantOperation, message));
        }
        Ok(Wish { given, roles })
    }

    /// Gives or takes what is wanted on one object.
    fn fulfil(
        &self,
        ctx: &Context<'_>,
        on: &mut Object<'_>,
        wanted: &Wanted,
        notices: &mut Vec<Notice>,
    ) -> Result<()> {
        // Decided before anything changes: a statement cannot take its own ground away half-way.
        let whole = self.grantors(ctx, on, &wanted.whole, wanted.all, None, notices)?;
        let mut of_columns = Vec::new();
        for (column, privileges, all) in &wanted.columns {
            let column = Some(*column);
            for (privilege, by) in self.grantors(ctx, on, privileges, *all, column, notices)? {
                of_columns.push((privilege, column, by));
            }
        }
        for role in &self.roles {
            for (privilege, grantor) in &whole {
                let grant = grant(*role, *grantor, *privilege, None);
                match self.given.revoke {
                    true => self.take(ctx, on, grant)?,
                    false => self.give(on, grant)?,
                }
            }
            for (privilege, column, grantor) in &of_columns {
                let grant = grant(*role, *grantor, *privilege, *column);
                match self.given.revoke {
                    true => self.take(ctx, on, grant)?,
                    false => self.give(on, grant)?,
                }
            }
        }
        Ok(())
    }

    /// In whose name each of `privileges` is given or taken; without the rights that the actor
    /// has no option for, of which it is warned.
    fn grantors(
        &self,
        ctx: &Context<'_>,
        on: &Object<'_>,
        privileges: &[Privilege],
        all: bool,
        column: Option<u32>,
        notices: &mut Vec<Notice>,
    ) -> Result<Vec<(Privilege, Oid)>> {
        let by =
            |it: &Privilege| Some((*it, grantor_for(ctx.who, on.owner, on.grants, *it, column)?));
        let grantors: Vec<(Privilege, Oid)> = privileges.iter().filter_map(by).collect();
        let (verb, state) = match self.given.revoke {
            true => ("could be revoked", "01006"),
            false => ("were granted", "01007"),
        };
        let object = match column {
            Some(id) => format!("column \"{}\" of relation \"{}\"", on.column(id), on.name()),
            None => format!("\"{}\"", on.name()),
        };
        if grantors.is_empty() && !privileges.is_empty() {
            let any = |it: &&Grant| it.column.is_none() || it.column == column;
            if !on.grants.iter().filter(any).any(|it| ctx.who.is(it.grantee)) {
                let what = match column {
                    Some(_) => object.clone(),
                    None => on.words.clone(),
                };
                let message = format!("permission denied for {what}");
                return Err(Error::new(Kind::InsufficientPrivilege, message));
            }
            notices.push(warning(state, format!("no privileges {verb} for {object}")));
        } else if grantors.len() < privileges.len() && !all {
            notices.push(warning(state, format!("not all privileges {verb} for {object}")));
        }
        Ok(grantors)
    }

    fn give(&self, on: &mut Object<'_>, grant: Grant) -> Result<()> {
        // An owner has every right anyway; a grant to it would only outlive its ownership.
        if grant.grantee == on.owner {
            return Ok(());
        }
        let grant = Grant { grantable: self.given.option, ..grant };
        if grant.grantable {
            chain::refuse_circle(on.grants, on.owner, &grant)?;
        }
        on.given.push(grant.clone());
        match on.grants.iter_mut().find(|it| same(it, &grant)) {
            Some(held) => held.grantable |= grant.grantable,
            None => on.grants.push(grant),
        }
        Ok(())
    }

    /// Takes a right, and with one on the whole those on the columns that the same role gave.
    fn take(&self, ctx: &Context<'_>, on: &mut Object<'_>, grant: Grant) -> Result<()> {
        if grant.grantee == on.owner {
            return Err(Error::unsupported("the rights of an owner cannot be revoked")
                .with_hint("Make another role the owner."));
        }
        let mut taken = vec![grant.clone()];
        if grant.column.is_none() && COLUMN_PRIVILEGES.contains(&grant.privilege) {
            taken.extend(on.columns.iter().filter_map(|(id, _)| {
                let column = Some(*id);
                let by = grantor_for(ctx.who, on.owner, on.grants, grant.privilege, column)?;
                Some(Grant { grantor: by, column, ..grant.clone() })
            }));
        }
        for grant in taken {
            match self.given.option {
                true => {
                    let held = on.grants.iter_mut().filter(|it| same(it, &grant));
                    held.for_each(|it| it.grantable = false);
                }
                false => on.grants.retain(|it| !same(it, &grant)),
            }
        }
        let supported = chain::supported(on.grants, on.owner);
        if !self.given.cascade && supported.len() < on.grants.len() {
            return Err(Error::new(Kind::DependentObjects, "dependent privileges exist")
                .with_hint("Use CASCADE to revoke them too."));
        }
        *on.grants = supported;
        Ok(())
    }
}

fn grant(grantee: Oid, grantor: Oid, privilege: Privilege, column: Option<u32>) -> Grant {
    Grant { grantee, grantor, privilege, grantable: false, column }
}

/// `GRANTED BY` says who gives, and that is who asks, as in PostgreSQL.
fn only_by_oneself(ctx: &Context<'_>, given: &Given) -> Result<()> {
    match &given.granted_by {
        Some(role) if name::find_role(ctx, role)?.oid != ctx.who.role() => {
            Err(Error::unsupported("grantor must be current user"))
        }
        _ => Ok(()),
    }
}

fn grantees(ctx: &Context<'_>, written: &[String]) -> Result<Vec<Oid>> {
    let grantee = |role: &String| match role.as_str() {
        "public" => Ok(PUBLIC),
        role => Ok(name::find_role(ctx, role)?.oid),
    };
    written.iter().map(grantee).collect()
}

fn schemas<'a>(ctx: &Context<'a>, names: &[ObjectName]) -> Result<Vec<&'a Arc<Schema>>> {
    let find = |written: &ObjectName| {
        privilege::find_schema(ctx.state, ctx.who, &name::schema_name(written)?)
    };
    names.iter().map(find).collect()
}

/// The relations of some schemas, as far as they exist for who asks.
fn all_in<'a>(ctx: &Context<'a>, names: &[ObjectName]) -> Result<Vec<&'a Arc<Relation>>> {
    let mut found = Vec::new();
    for schema in schemas(ctx, names)? {
        let see = |it: &&Arc<Relation>| {
            let see = Action::Relation(it.oid, RelationAction::See);
            privilege::require(ctx.state, ctx.who, see).is_ok()
        };
        found.extend(ctx.state.relations_of(schema.oid).filter(see));
    }
    Ok(found)
}
