//! `CREATE`, `ALTER`, `DROP ROLE`, and who belongs to what.
//!
//! What it guarantees: only `kho_admin` manages accounts, but everyone may change the own
//! password; no password is kept, only its SCRAM verifier; no change leaves the warehouse without
//! somebody who manages accounts.
//! What it does not: it grants no right on data. `BYPASSRLS` is given to others, never to oneself.

mod membership;

use std::collections::BTreeSet;

use arrow::compute::kernels::cast_utils::string_to_datetime;
use chrono::Utc;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::Policy;
use kho_catalog::privilege::{
    self, Action, Decision, KHO_ADMIN, Principal, RelationAction, SchemaAction, WarehouseAction,
    bypass_allowed,
};
use kho_catalog::state::{Change, DefaultOn, Oid, Relation, Role, State};

use self::membership::join;
pub(crate) use self::membership::membership;
use super::depend::{full_name, kind};
use super::{Context, Planned, name, notice, notice_of};
use crate::outcome::Notice;
use crate::parse::{RoleOptions, RoleStatement};
use crate::scram;

const RESERVED_PREFIXES: &[&str] = &["pg_", "kho_"];
const RESERVED: &[&str] = &["public", "none", "current_user", "current_role", "session_user"];

/// A statement about roles.
pub(crate) fn apply(ctx: &mut Context<'_>, statement: &RoleStatement) -> Result<Planned> {
    match statement {
        RoleStatement::Create { name, if_not_exists, options } => {
            create(ctx, name, *if_not_exists, options)
        }
        RoleStatement::Alter { name, options } => alter(ctx, name, options),
        RoleStatement::Rename { name, to } => rename(ctx, name, to),
        RoleStatement::Drop { names, if_exists } => drop(ctx, names, *if_exists),
    }
}

/// A state that is being changed, and which roles of it were.
struct Draft {
    state: State,
    touched: BTreeSet<Oid>,
}

impl Draft {
    fn new(state: &State) -> Draft {
        Draft { state: state.clone(), touched: BTreeSet::new() }
    }

    fn put(&mut self, role: Role) {
        self.touched.insert(role.oid);
        self.state = self.state.apply(&[Change::PutRole(role)]);
    }

    fn remove(&mut self, role: Oid) {
        self.touched.insert(role);
        self.state = self.state.apply(&[Change::RemoveRole(role)]);
    }

    fn role(&self, oid: Oid) -> Result<&Role> {
        let role = self.state.roles.get(&oid);
        role.map(|role| &**role).ok_or_else(|| Error::internal("a role is not there"))
    }

    /// The changes from `before`; refused if nobody who can log in would manage accounts any more.
    fn finish(self, before: &State) -> Result<Vec<Change>> {
        if has_administrator(before) && !has_administrator(&self.state) {
            let message = "nobody who can log in would be a member of kho_admin";
            return Err(Error::new(Kind::DependentObjects, message)
                .with_hint("Make another role a member of kho_admin first."));
        }
        let change = |oid: Oid| match self.state.roles.get(&oid) {
            Some(role) => Change::PutRole(Role::clone(role)),
            None => Change::RemoveRole(oid),
        };
        Ok(self.touched.iter().copied().map(change).collect())
    }
}

fn has_administrator(state: &State) -> bool {
    let manages = |role: &Role| role.login && Principal::of(state, role.oid).is(KHO_ADMIN);
    state.roles.values().any(|role| manages(role))
}

fn create(
    ctx: &mut Context<'_>,
    written: &str,
    if_not_exists: bool,
    options: &RoleOptions,
) -> Result<Planned> {
    let mut planned = Planned::new("CREATE ROLE");
    privilege::require(ctx.state, ctx.who, Action::Warehouse(WarehouseAction::ManageRoles))?;
    refuse(options)?;
    let name = free_name(ctx, written, &mut planned.notices);
    let name = match name {
        Err(error) if if_not_exists && error.kind() == Kind::DuplicateObject => {
            planned.notices.push(notice_of("42710", format!("{error}, skipping")));
            return Ok(planned);
        }
        name => name?,
    };
    let mut role = Role {
        oid: ctx.state.new_oid(0),
        name,
        login: false,
        verifier: None,
        member_of: Default::default(),
        connection_limit: None,
        valid_until_ms: None,
        comment: None,
        bypass_rls: false,
        attributes: Default::default(),
        default_grants: Vec::new(),
    };
    set(ctx, &mut role, options, &mut planned.notices)?;
    let (oid, bypasses) = (role.oid, role.bypass_rls);
    let mut draft = Draft::new(ctx.state);
    draft.put(role);
    for group in &options.in_roles {
        let group = name::find_role(ctx, group)?.oid;
        join(ctx.who, &mut draft, group, oid, membership::MEMBER)?;
    }
    for (members, option) in
        [(&options.members, membership::MEMBER), (&options.admins, membership::ADMIN)]
    {
        for member in members {
            let member = name::find_role(ctx, member)?.oid;
            join(ctx.who, &mut draft, oid, member, option)?;
        }
    }
    if bypasses {
        bypass_allowed(&draft.state, ctx.who.role(), oid)?;
    }
    planned.changes = draft.finish(ctx.state)?;
    Ok(planned)
}

fn alter(ctx: &mut Context<'_>, written: &str, options: &RoleOptions) -> Result<Planned> {
    let mut planned = Planned::new("ALTER ROLE");
    let own_password = options.password.is_some()
        && RoleOptions { password: None, ..options.clone() } == RoleOptions::default()
        && name::find_role(ctx, written).is_ok_and(|role| role.oid == ctx.who.role());
    if !own_password {
        privilege::require(ctx.state, ctx.who, Action::Warehouse(WarehouseAction::ManageRoles))?;
    }
    if options.password.is_some() && ctx.who.bounds().is_some() {
        let own = name::find_role(ctx, written)?.oid == ctx.who.role();
        if own {
            let message = "permission denied to change the own password";
            return Err(Error::new(Kind::InsufficientPrivilege, message)
                .with_detail("This session was not let in by a password."));
        }
    }
    refuse(options)?;
    if !(options.in_roles.is_empty() && options.members.is_empty() && options.admins.is_empty()) {
        return Err(Error::new(Kind::Syntax, "memberships are not options of ALTER ROLE")
            .with_hint("Use GRANT role TO role."));
    }
    let mut role = Role::clone(changeable(ctx, written)?);
    set(ctx, &mut role, options, &mut planned.notices)?;
    if options.bypass_rls == Some(true) {
        bypass_allowed(ctx.state, ctx.who.role(), role.oid)?;
    }
    let mut draft = Draft::new(ctx.state);
    draft.put(role);
    planned.changes = draft.finish(ctx.state)?;
    Ok(planned)
}

fn rename(ctx: &mut Context<'_>, written: &str, to: &str) -> Result<Planned> {
    let mut planned = Planned::new("ALTER ROLE");
    privilege::require(ctx.state, ctx.who, Action::Warehouse(WarehouseAction::ManageRoles))?;
    let mut role = Role::clone(changeable(ctx, written)?);
    if role.oid == ctx.who.role() {
        return Err(Error::unsupported("current user cannot be renamed"));
    }
    role.name = free_name(ctx, to, &mut planned.notices)?;
    planned.changes.push(Change::PutRole(role));
    Ok(planned)
}

fn drop(ctx: &Context<'_>, names: &[String], if_exists: bool) -> Result<Planned> {
    let mut planned = Planned::new("DROP ROLE");
    privilege::require(ctx.state, ctx.who, Action::Warehouse(WarehouseAction::ManageRoles))?;
    let mut draft = Draft::new(ctx.state);
    for written in names {
        let role = match name::find_role(ctx, written) {
            Ok(role) => role,
            Err(_) if if_exists => {
                let message = format!("role \"{written}\" does not exist, skipping");
                planned.notices.push(notice(message));
                continue;
            }
            Err(error) => return Err(error),
        };
        if name::is_built_in(role.oid) {
            let message = format!("cannot drop role {} because every warehouse has it", role.name);
            return Err(Error::new(Kind::DependentObjects, message));
        }
        if role.oid == ctx.who.role() {
            return Err(Error::new(Kind::ObjectInUse, "current user cannot be dropped"));
        }
        require_unused(ctx, role)?;
        draft.remove(role.oid);
        let members: Vec<Role> = (draft.state.roles.values())
            .filter(|it| it.member_of.contains_key(&role.oid))
            .map(|it| Role::clone(it))
            .collect();
        for mut member in members {
            member.member_of.remove(&role.oid);
            draft.put(member);
        }
    }
    planned.changes = draft.finish(ctx.state)?;
    Ok(planned)
}

/// Sets what `options` give.
fn set(
    ctx: &Context<'_>,
    role: &mut Role,
    options: &RoleOptions,
    notices: &mut Vec<Notice>,
) -> Result<()> {
    if let Some(login) = options.login {
        role.login = login;
    }
    if let Some(bypass) = options.bypass_rls {
        role.bypass_rls = bypass;
    }
    if let Some(password) = &options.password {
        role.verifier = match password.as_deref() {
            None => None,
            Some("") => {
                let message = "empty string is not a valid password, clearing password";
                notices.push(notice(message));
                None
            }
            Some(password) => Some(verifier(ctx, &role.name, password)?),
        };
    }
    if let Some(limit) = options.connection_limit {
        role.connection_limit = match limit {
            -1 => None,
            limit => Some(u32::try_from(limit).map_err(|_| {
                let message = format!("invalid connection limit: {limit}");
                Error::new(Kind::InvalidParameterValue, message)
            })?),
        };
    }
    if let Some(until) = &options.valid_until {
        role.valid_until_ms = valid_until(until)?;
    }
    Ok(())
}

fn verifier(ctx: &Context<'_>, role: &str, password: &str) -> Result<String> {
    if scram::Verifier::is_verifier(password) {
        ctx.passwords.check_verifier(role, password)?;
        return Ok(password.to_owned());
    }
    let md5 = password
        .strip_prefix("md5")
        .is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if md5 {
        return Err(Error::unsupported("MD5 password hashes are not supported")
            .with_hint("Give the password, or a SCRAM-SHA-256 verifier."));
    }
    ctx.passwords.check(role, password)?;
    scram::make_verifier(password, &ctx.salt, scram::DEFAULT_ITERATIONS)
}

/// Milliseconds since the epoch; a time without a zone is UTC.
fn valid_until(text: &str) -> Result<Option<i64>> {
    if text.trim().eq_ignore_ascii_case("infinity") {
        return Ok(None);
    }
    match string_to_datetime(&Utc, text.trim()) {
        Ok(time) => Ok(Some(time.timestamp_millis())),
        Err(_) => Err(Error::new(
            Kind::InvalidDatetime,
            format!("invalid input syntax for type timestamp with time zone: \"{text}\""),
        )
        .with_hint("Write it as 2027-12-31 00:00:00+07:00.")),
    }
}

fn refuse(options: &RoleOptions) -> Result<()> {
    match options.refused.first() {
        None => Ok(()),
        Some(option) => Err(Error::unsupported(format!("role option {option} is not supported"))
            .with_hint(
                "There is no superuser; make the role a member of kho_admin, kho_auditor or \
                 kho_operator. Members always inherit.",
            )),
    }
}

/// A role that may be altered or renamed.
fn changeable<'a>(ctx: &Context<'a>, written: &str) -> Result<&'a Role> {
    let role = name::find_role(ctx, written)?;
    if name::is_built_in(role.oid) {
        let message = format!("role name \"{}\" is reserved", role.name);
        return Err(Error::new(Kind::ReservedName, message)
            .with_detail("Built-in roles cannot be altered."));
    }
    Ok(role)
}

/// The name for a new role.
fn free_name(ctx: &Context<'_>, written: &str, notices: &mut Vec<Notice>) -> Result<String> {
    let name = name::created_text(written, notices)?;
    let reserved = RESERVED.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if reserved {
        let message = format!("role name \"{name}\" is reserved");
        return Err(Error::new(Kind::ReservedName, message)
            .with_detail("Names that start with pg_ or kho_ are the system's."));
    }
    match ctx.state.role(&name) {
        None => Ok(name),
        Some(_) => {
            let message = format!("role \"{name}\" already exists");
            Err(Error::new(Kind::DuplicateObject, message))
        }
    }
}

fn policies(relation: &Relation) -> &[Policy] {
    relation.table().map(|table| table.policies.as_slice()).unwrap_or_default()
}

/// That `role` owns nothing and holds no right; the detail names what the actor may see.
fn require_unused(ctx: &Context<'_>, role: &Role) -> Result<()> {
    let state = ctx.state;
    let seen = |action| matches!(privilege::decide(state, ctx.who, action), Decision::Allowed(_));
    let involved = |grants: &[kho_catalog::state::Grant]| {
        grants.iter().any(|grant| grant.grantee == role.oid || grant.grantor == role.oid)
    };
    let covers = |policy: &&Policy| policy.roles.contains(&role.oid);
    let is_in_mask = |relation: &Relation| {
        let masks = relation.columns.iter().filter_map(|column| column.mask.as_ref());
        masks.into_iter().any(|mask| mask.except_roles.contains(&role.oid))
    };
    // `None` is an object that the actor may not see.
    let mut uses: Vec<Option<String>> = Vec::new();
    for schema in state.schemas.values() {
        let line = if schema.owner == role.oid {
            format!("owner of schema {}", schema.name)
        } else if involved(&schema.grants) {
            format!("privileges for schema {}", schema.name)
        } else {
            continue;
        };
        uses.push(seen(Action::Schema(schema.oid, SchemaAction::See)).then_some(line));
    }
    for relation in state.relations.values() {
        let (kind, name) = (kind(relation), full_name(state, relation));
        let line = if relation.owner == role.oid {
            format!("owner of {kind} {name}")
        } else if involved(&relation.grants) {
            format!("privileges for {kind} {name}")
        } else if let Some(policy) = policies(relation).iter().find(|it| covers(it)) {
            format!("target of policy {} on {kind} {name}", policy.name)
        } else if is_in_mask(relation) {
            format!("exempt from a mask on {kind} {name}")
        } else {
            continue;
        };
        uses.push(seen(Action::Relation(relation.oid, RelationAction::See)).then_some(line));
    }
    for agreement in state.access.agreements.values() {
        let names = agreement.role == role.oid || agreement.third_party == Some(role.oid);
        if names && agreement.ended.is_none() && agreement.valid_until_ms > ctx.now_ms {
            let see = Action::Relation(agreement.relation, RelationAction::See);
            let line = format!("agreement {} on {}", agreement.oid, agreement.dataset);
            uses.push(seen(see).then_some(line));
        }
    }
    uses.extend(default_uses(ctx, role));
    if uses.is_empty() {
        return Ok(());
    }
    let hidden = uses.iter().any(Option::is_none);
    let mut lines: Vec<String> = uses.into_iter().flatten().collect();
    if hidden {
        lines.push("other objects".to_owned());
    }
    let message =
        format!("role \"{}\" cannot be dropped because some objects depend on it", role.name);
    Err(Error::new(Kind::DependentObjects, message).with_detail(lines.join("\n")))
}

/// What `role` gives, or is to be given, with objects to come.
fn default_uses(ctx: &Context<'_>, role: &Role) -> Vec<Option<String>> {
    let mut uses = Vec::new();
    for maker in ctx.state.roles.values() {
        for it in &maker.default_grants {
            let word = match (maker.oid == role.oid, it.grantee == role.oid) {
                (true, _) => "owner of",
                (_, true) => "privileges for",
                _ => continue,
            };
            let on = match it.on {
                DefaultOn::Tables => "relations",
                DefaultOn::Schemas => "schemas",
            };
            let name = &maker.name;
            let line = format!("{word} default privileges on new {on} belonging to role {name}");
            if !uses.contains(&Some(line.clone())) {
                uses.push(Some(line));
            }
        }
    }
    uses
}
