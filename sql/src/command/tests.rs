//! A script per promise: `role: statement → what comes of it`, on one small city.
//!
//! The last column is `ok`, a SQLSTATE, or `ok` and the notices' SQLSTATEs. Each line changes the
//! state that the next one runs on; a refused line changes nothing.

mod grants;
mod indexes;
mod roles;
mod schemas;
mod tables;
mod views;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use kho_catalog::error::Result;
use kho_catalog::privilege::Principal;
use kho_catalog::state::{
    BUILT_IN_ROLES, Change, Grant, MembershipOption, Oid, PUBLIC, Privilege, Relation, Role,
    Schema, State,
};
use kho_catalog::text::Text;
use kho_catalog::types::Type;
use sqlparser::ast::{Statement as Sql, visit_relations};

use super::table::Alteration;
use super::*;
use crate::parse::{self, Ast};

/// Roles `admin`, `officer` (owns the schema `health`), `clerk` (may create in it), `reader` and
/// `stranger`.
fn city() -> State {
    let role = |oid: Oid, name: &str, member_of: &[Oid]| {
        let member_of = member_of.iter().map(|it| (*it, MembershipOption::Member)).collect();
        Change::PutRole(Role {
            oid,
            name: name.to_owned(),
            login: oid >= 16384,
            verifier: None,
            member_of,
            connection_limit: None,
            valid_until_ms: None,
            comment: None,
            bypass_rls: false,
            attributes: Default::default(),
            default_grants: Vec::new(),
        })
    };
    let mut changes: Vec<Change> =
        BUILT_IN_ROLES.iter().map(|(oid, name)| role(*oid, name, &[])).collect();
    changes.push(role(16384, "admin", &[10]));
    changes.push(role(16385, "officer", &[]));
    changes.push(role(16386, "clerk", &[]));
    changes.push(role(16387, "reader", &[]));
    changes.push(role(16388, "stranger", &[]));
    let grant = |grantee: Oid, privilege| Grant {
        grantee,
        grantor: 16385,
        privilege,
        grantable: false,
        column: None,
    };
    changes.push(Change::PutSchema(Schema {
        oid: 16400,
        name: "health".to_owned(),
        owner: 16385,
        grants: vec![
            grant(16386, Privilege::Usage),
            grant(16386, Privilege::Create),
            grant(16387, Privilege::Usage),
        ],
        comment: None,
    }));
    State::default().apply(&changes)
}

/// What came of one statement.
struct Done {
    state: State,
    notices: Vec<Notice>,
    /// Whether rows that are there have to be checked.
    checks_rows: bool,
}

/// Runs one statement as `role`, and commits it.
fn run(state: &State, role: &str, sql: &str) -> Result<Done> {
    let who = Principal::of(state, state.role(role).unwrap().oid);
    let mut made = 0;
    let mut text = |words: &str| {
        made += 1;
        Text::new(words, format!("body-{made}"), "salt".to_owned())
    };
    let path = [role.to_owned(), "health".to_owned()];
    let mut ctx = Context {
        passwords: &Default::default(),
        state,
        who: &who,
        search_path: &path,
        now_ms: 1,
        dataset: "dataset",
        salt: [7; 16],
        text: &mut text,
    };
    let statement = parse::statements(sql)?.remove(0);
    let mut checks_rows = false;
    let planned = match statement.ast() {
        Ast::Role(statement) => role::apply(&mut ctx, statement)?,
        Ast::Membership(statement) => role::membership(&mut ctx, statement)?,
        Ast::Privilege(statement) => grant::apply(&mut ctx, statement)?,
        Ast::Default(statement) => grant::apply_default(&mut ctx, statement)?,
        Ast::Owned(statement) => owned::apply(&mut ctx, statement)?,
        Ast::Relation(statement) => super::relation::apply(&mut ctx, statement)?,
        Ast::Sql(statement) => sql_statement(&mut ctx, statement, &mut checks_rows)?,
        Ast::Copy(_) => panic!("COPY changes no catalog"),
        Ast::Cursor(_) => panic!("a cursor changes no catalog"),
    };
    Ok(Done { state: state.apply(&planned.changes), notices: planned.notices, checks_rows })
}

fn sql_statement(
    ctx: &mut Context<'_>,
    statement: &Sql,
    checks_rows: &mut bool,
) -> Result<Planned> {
    use sqlparser::ast::ObjectType;
    match statement {
        Sql::CreateSchema { .. } => schema::create(ctx, statement),
        Sql::AlterSchema(alter) => schema::alter(ctx, alter),
        Sql::CreateTable(create) => {
            let columns = vec![("ward".to_owned(), Type::Text), ("n".to_owned(), Type::BigInt)];
            let defined = match &create.query {
                Some(_) => table::define_as(ctx, create, columns)?,
                None => table::define(ctx, create)?,
            };
            let changes = match defined.if_not_exists_hit {
                true => vec![],
                false => vec![Change::PutRelation(Box::new(defined.relation))],
            };
            Ok(Planned { changes, tag: "CREATE TABLE", notices: defined.notices })
        }
        Sql::CreateIndex(create) => table::create_index(ctx, create),
        Sql::CreateView(create) => view::create(ctx, create, bound(ctx.state, create)),
        Sql::AlterTable(alter) => Ok(match table::alter(ctx, alter)? {
            Alteration::Catalog(planned)
            | Alteration::Relax { planned, .. }
            | Alteration::DropColumn { planned, .. }
            | Alteration::RenameColumn { planned, .. } => planned,
            Alteration::CheckRows { planned, .. } => {
                *checks_rows = true;
                planned
            }
            Alteration::AddColumn { planned, new_rules, .. } => {
                *checks_rows = new_rules;
                planned
            }
        }),
        Sql::Drop { object_type, names, if_exists, cascade, .. } => match object_type {
            ObjectType::Table => table::drop(ctx, names, *if_exists, *cascade),
            ObjectType::View => view::drop(ctx, names, *if_exists, *cascade),
            ObjectType::Schema => schema::drop(ctx, names, *if_exists, *cascade),
            ObjectType::Index => table::drop_indexes(ctx, names, *if_exists),
            other => panic!("no DROP {other}"),
        },
        Sql::Comment { object_type, object_name, comment, if_exists } => {
            comment::apply(ctx, *object_type, object_name, comment.as_deref(), *if_exists)
        }
        other => panic!("no command for {other}"),
    }
}

/// Stands in for the binder: one column for each item of the projection, of the type text.
fn bound(state: &State, create: &sqlparser::ast::CreateView) -> view::Bound {
    let mut depends_on = vec![];
    let _ = visit_relations(&*create.query, |name| {
        let written = name::qualified(name).unwrap();
        let schema = state.schema(written.schema.as_deref().unwrap()).unwrap();
        depends_on.push(state.relation(schema.oid, &written.name).unwrap().oid);
        ControlFlow::<()>::Continue(())
    });
    let select = create.query.body.as_select().unwrap();
    let columns = (select.projection.iter())
        .map(|item| (item.to_string().rsplit(['.', ' ']).next().unwrap().to_owned(), Type::Text))
        .collect();
    view::Bound { columns, query: create.query.to_string(), depends_on }
}

/// Runs `lines` of `role | statement | outcome`, one after the other.
fn script(lines: &[(&str, &str, &str)]) -> State {
    script_on(city(), lines)
}

/// The same from another state on.
fn script_on(mut state: State, lines: &[(&str, &str, &str)]) -> State {
    for (role, sql, expected) in lines {
        let (got, after) = match run(&state, role, sql) {
            Ok(done) => {
                let notices: Vec<&str> = done.notices.iter().map(|it| it.sqlstate).collect();
                let got = ["ok"].into_iter().chain(notices).collect::<Vec<_>>().join(" ");
                (got, done.state)
            }
            Err(error) => {
                let said = format!("{error:?}");
                assert!(error.sqlstate() == *expected, "{role}: {sql}: {said}");
                (error.sqlstate().to_owned(), state.clone())
            }
        };
        assert_eq!(&got, expected, "{role}: {sql}");
        state = after;
    }
    state
}

fn relation<'a>(state: &'a State, name: &str) -> &'a Relation {
    let (schema, name) = name.split_once('.').unwrap();
    state.relation(state.schema(schema).unwrap().oid, name).unwrap()
}

/// `grantee:privilege`, with the column's id in parentheses, and with `*` where it can be given on.
fn held(state: &State, grants: &[Grant]) -> Vec<String> {
    let names: BTreeMap<Oid, &str> =
        state.roles.values().map(|role| (role.oid, role.name.as_str())).collect();
    let mut held: Vec<String> = (grants.iter())
        .map(|it| {
            let who = if it.grantee == PUBLIC { "public" } else { names[&it.grantee] };
            let star = if it.grantable { "*" } else { "" };
            let column = it.column.map(|id| format!("({id})")).unwrap_or_default();
            format!("{who}:{:?}{column}{star}", it.privilege).to_lowercase()
        })
        .collect();
    held.sort();
    held
}
