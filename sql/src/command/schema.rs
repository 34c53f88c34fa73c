//! `CREATE`, `ALTER` and `DROP SCHEMA`.
//!
//! What it guarantees: `kho_admin` makes schemas, in anybody's name; only their owners change or
//! drop them; a schema goes only with everything in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{
    self, Action, Decision, RelationAction, SchemaAction, WarehouseAction,
};
use kho_catalog::state::{Change, DefaultOn, Oid, Relation, Schema};
use sqlparser::ast::{AlterSchema, AlterSchemaOperation, Ident, ObjectName, SchemaName, Statement};

use super::depend::{self, Renaming, full_name, kind};
use super::relation::inherited;
use super::{Context, Planned, grant, name, notice, notice_of};

const RESERVED: &[&str] = &["information_schema", "kho"];
const RESERVED_PREFIX: &str = "pg_";

/// `CREATE SCHEMA`.
pub(crate) fn create(ctx: &mut Context<'_>, statement: &Statement) -> Result<Planned> {
    let Statement::CreateSchema {
        schema_name,
        if_not_exists,
        with,
        options,
        default_collate_spec,
        clone,
    } = statement
    else {
        return Err(Error::internal("not a CREATE SCHEMA"));
    };
    if with.is_some() || options.is_some() || default_collate_spec.is_some() || clone.is_some() {
        return Err(Error::unsupported("options of a schema are not supported"));
    }
    privilege::require(ctx.state, ctx.who, Action::Warehouse(WarehouseAction::CreateSchema))?;
    let mut planned = Planned::new("CREATE SCHEMA");
    let owner = |ident: &Ident| name::find_role(ctx, &name::fold(ident));
    let (ident, owner) = match schema_name {
        SchemaName::Simple(written) => (one_ident(written)?.clone(), ctx.who.role()),
        SchemaName::NamedAuthorization(written, role) => {
            (one_ident(written)?.clone(), owner(role)?.oid)
        }
        SchemaName::UnnamedAuthorization(role) => {
            let role = owner(role)?;
            (Ident::with_quote('"', &role.name), role.oid)
        }
    };
    let schema = name::created(&ident, &mut planned.notices)?;
    match require_free(ctx, &schema) {
        Ok(()) => {}
        Err(error) if *if_not_exists && error.kind() == Kind::DuplicateSchema => {
            planned.notices.push(notice_of("42P06", format!("{error}, skipping")));
            return Ok(planned);
        }
        Err(error) => return Err(error),
    }
    planned.changes.push(Change::PutSchema(Schema {
        oid: ctx.state.new_oid(0),
        name: schema,
        owner,
        grants: grant::of_new(ctx.state, owner, DefaultOn::Schemas, None),
        comment: None,
    }));
    Ok(planned)
}

/// `DROP SCHEMA`.
pub(crate) fn drop(
    ctx: &mut Context<'_>,
    names: &[ObjectName],
    if_exists: bool,
    cascade: bool,
) -> Result<Planned> {
    let mut planned = Planned::new("DROP SCHEMA");
    let mut oids: BTreeSet<Oid> = BTreeSet::new();
    let mut inside: Vec<&Arc<Relation>> = Vec::new();
    for written in names {
        let schema_name = name::schema_name(written)?;
        let schema = match privilege::find_schema(ctx.state, ctx.who, &schema_name) {
            Ok(schema) => schema,
            Err(_) if if_exists => {
                let message = format!("schema \"{schema_name}\" does not exist, skipping");
                planned.notices.push(notice(message));
                continue;
            }
            Err(error) => return Err(error),
        };
        let own = Action::Schema(schema.oid, SchemaAction::Own);
        privilege::require(ctx.state, ctx.who, own)?;
        let relations: Vec<&Arc<Relation>> = ctx.state.relations_of(schema.oid).collect();
        if !cascade && !relations.is_empty() {
            return Err(not_empty(ctx, schema, &relations));
        }
        if oids.insert(schema.oid) {
            inside.extend(relations);
        }
    }
    for relation in &inside {
        let drop = Action::Relation(relation.oid, RelationAction::Drop);
        privilege::require(ctx.state, ctx.who, drop)?;
    }
    let (changes, notices) = depend::drop_all(ctx, &inside, cascade)?;
    match inside.as_slice() {
        [] => {}
        [one] => {
            let message = format!("drop cascades to {} {}", kind(one), full_name(ctx.state, one));
            planned.notices.push(notice(message));
        }
        many => {
            let message = format!("drop cascades to {} other objects", many.len());
            planned.notices.push(notice(message));
        }
    }
    planned.changes = changes;
    planned.changes.extend(grant::forget_schema(ctx.state, |oid| oids.contains(&oid)));
    planned.changes.extend(oids.into_iter().map(Change::RemoveSchema));
    planned.notices.extend(notices);
    Ok(planned)
}

/// `ALTER SCHEMA … RENAME TO` and `OWNER TO`.
pub(crate) fn alter(ctx: &mut Context<'_>, statement: &AlterSchema) -> Result<Planned> {
    let mut planned = Planned::new("ALTER SCHEMA");
    let schema_name = name::schema_name(&statement.name)?;
    let schema = match privilege::find_schema(ctx.state, ctx.who, &schema_name) {
        Ok(schema) => schema,
        Err(_) if statement.if_exists => {
            let message = format!("schema \"{schema_name}\" does not exist, skipping");
            planned.notices.push(notice(message));
            return Ok(planned);
        }
        Err(error) => return Err(error),
    };
    privilege::require(ctx.state, ctx.who, Action::Schema(schema.oid, SchemaAction::Own))?;
    let [operation] = statement.operations.as_slice() else {
        return Err(Error::unsupported("several actions in one ALTER SCHEMA are not supported"));
    };
    let mut changed = Schema::clone(schema);
    match operation {
        AlterSchemaOperation::Rename { name: to } => {
            changed.name = name::created(one_ident(to)?, &mut planned.notices)?;
            require_free(ctx, &changed.name)?;
            let inside = ctx.state.relations_of(schema.oid).map(|it| it.oid).collect();
            let renaming = Renaming {
                schema: &schema.name,
                relation: None,
                to_schema: &changed.name,
                to_relation: None,
            };
            planned.changes = depend::rename_in_views(ctx, &inside, &renaming)?;
        }
        AlterSchemaOperation::OwnerTo { owner } => {
            let owner = name::new_owner(ctx, owner)?;
            changed.grants = inherited(&schema.grants, schema.owner, owner);
            changed.owner = owner;
        }
        _ => return Err(Error::unsupported("this ALTER SCHEMA is not supported")),
    }
    planned.changes.push(Change::PutSchema(changed));
    Ok(planned)
}

fn require_free(ctx: &Context<'_>, name: &str) -> Result<()> {
    if name.starts_with(RESERVED_PREFIX) || RESERVED.contains(&name) {
        return Err(Error::new(Kind::ReservedName, format!("unacceptable schema name \"{name}\""))
            .with_detail(
                "Names that start with pg_, information_schema and kho are the system's.",
            ));
    }
    match ctx.state.schema(name) {
        None => Ok(()),
        Some(_) => {
            let message = format!("schema \"{name}\" already exists");
            Err(Error::new(Kind::DuplicateSchema, message))
        }
    }
}

fn not_empty(ctx: &Context<'_>, schema: &Schema, relations: &[&Arc<Relation>]) -> Error {
    let seen = |it: &&&Arc<Relation>| {
        let see = Action::Relation(it.oid, RelationAction::See);
        matches!(privilege::decide(ctx.state, ctx.who, see), Decision::Allowed(_))
    };
    let lines: Vec<String> = (relations.iter().filter(seen))
        .map(|it| {
            format!("{} {} depends on schema {}", kind(it), full_name(ctx.state, it), schema.name)
        })
        .collect();
    let message = format!("cannot drop schema {} because other objects depend on it", schema.name);
    Error::new(Kind::DependentObjects, message)
        .with_detail(lines.join("\n"))
        .with_hint("Use DROP … CASCADE to drop the dependent objects too.")
}

/// The one identifier that names a schema, its database left out.
fn one_ident(written: &ObjectName) -> Result<&Ident> {
    name::schema_name(written)?;
    name::last(written)
}
