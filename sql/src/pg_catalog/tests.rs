//! What clients ask of the system tables, and what they are told.

use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::collect;
use kho_catalog::error::Error;
use kho_catalog::privilege::Principal;
use kho_catalog::state::{
    BUILT_IN_ROLES, Change, Check, Classification, Column, Governance, Grant, MembershipOption,
    Oid, Privilege, Relation, RelationKind, Role, Schema, State, Table, View,
};
use kho_catalog::text::Text;
use kho_catalog::types::Type;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::{CatalogView, Visible, apply, definition, rewrite, table};

mod clients;
mod functions;
mod keys;
mod psql;
mod rows;

pub const ADMIN: Oid = 16384;
pub const OFFICER: Oid = 16385;
pub const WARD: Oid = 16386;
pub const ANALYST: Oid = 16387;
pub const HEALTH: Oid = 16389;
pub const PATIENT: Oid = 16390;
pub const PER_WARD: Oid = 16397;
pub const SECRET: Oid = 16400;
pub const PLAN: Oid = 16401;

pub fn text(value: &str) -> Text {
    Text::new(value, format!("body of {value}"), "salt".to_owned())
}

pub fn grant(grantee: Oid, grantor: Oid, privilege: Privilege) -> Grant {
    Grant { grantee, grantor, privilege, grantable: false, column: None }
}

fn role(oid: Oid, name: &str, login: bool, of: &[Oid]) -> Change {
    Change::PutRole(Role {
        oid,
        name: name.to_owned(),
        login,
        verifier: Some("SCRAM-SHA-256$4096:secret".to_owned()),
        member_of: of.iter().map(|of| (*of, MembershipOption::Member)).collect(),
        connection_limit: None,
        valid_until_ms: None,
        comment: (oid == OFFICER).then(|| text("Runs the health desk")),
        bypass_rls: false,
        attributes: Default::default(),
        default_grants: Vec::new(),
    })
}

fn column(id: u32, name: &str, data_type: Type) -> Column {
    Column::new(id, name, data_type)
}

fn patient() -> Relation {
    let mut columns = vec![
        column(1, "id", Type::BigInt),
        column(2, "national_id", Type::Text),
        column(3, "full_name", Type::Varchar(80)),
        column(4, "ward", Type::Text),
        column(5, "born", Type::Date),
        column(6, "amount", Type::Numeric(10, 2)),
        column(7, "tags", Type::Array(Box::new(Type::Text))),
    ];
    columns[0].not_null = true;
    columns[1].not_null = true;
    columns[2].default = Some(text("'x'"));
    columns[3].comment = Some(text("Ward"));
    Relation {
        oid: PATIENT,
        schema: HEALTH,
        name: "patient".to_owned(),
        owner: OFFICER,
        columns,
        grants: vec![grant(ANALYST, OFFICER, Privilege::Select)],
        comment: Some(text("Patients")),
        kind: RelationKind::Table(dataset(vec![Check {
            name: "amount_ok".to_owned(),
            expression: text("amount > 0"),
        }])),
    }
}

fn dataset(checks: Vec<Check>) -> Table {
    Table {
        dataset: "d".to_owned(),
        generation: 1,
        next_column: 8,
        checks,
        keys: vec![],
        indexes: vec![],
        dropped: vec![],
        row_security: Default::default(),
        policies: vec![],
        governance: Governance {
            classification: Classification::Personal,
            update_frequency: Some("P1D".to_owned()),
            retention: None,
            retention_column: None,
            allowed_purposes: ["c", "d"].map(str::to_owned).into(),
            requires_agreement: true,
        },
        created_ms: 0,
    }
}

pub fn state() -> State {
    let schema = |oid, name: &str, owner, grants| Schema {
        oid,
        name: name.to_owned(),
        owner,
        grants,
        comment: Some(text(&format!("The schema {name}"))),
    };
    let mut changes: Vec<Change> =
        BUILT_IN_ROLES.iter().map(|(oid, name)| role(*oid, name, false, &[])).collect();
    changes.extend([
        role(ADMIN, "admin", true, &[10]),
        role(OFFICER, "health_officer", true, &[]),
        role(WARD, "ward_office", true, &[ANALYST]),
        role(ANALYST, "analyst", false, &[]),
        Change::PutSchema(schema(
            HEALTH,
            "health",
            OFFICER,
            vec![grant(ANALYST, OFFICER, Privilege::Usage)],
        )),
        Change::PutSchema(schema(SECRET, "hidden_schema", ADMIN, Vec::new())),
        Change::PutRelation(Box::new(patient())),
        Change::PutRelation(Box::new(Relation {
            oid: PER_WARD,
            schema: HEALTH,
            name: "per_ward".to_owned(),
            owner: OFFICER,
            columns: vec![column(1, "ward", Type::Text), column(2, "n", Type::BigInt)],
            grants: Vec::new(),
            comment: None,
            kind: RelationKind::View(View {
                query: text("SELECT ward, count(*) AS n FROM health.patient GROUP BY ward"),
                depends_on: vec![],
            }),
        })),
        Change::PutRelation(Box::new(Relation {
            oid: PLAN,
            schema: SECRET,
            name: "hidden_plan".to_owned(),
            owner: ADMIN,
            columns: vec![Column {
                default: Some(text("'hidden_default'")),
                comment: Some(text("hidden_column_comment")),
                ..column(1, "hidden_column", Type::Text)
            }],
            grants: Vec::new(),
            comment: Some(text("hidden_comment")),
            kind: RelationKind::Table(dataset(vec![Check {
                name: "hidden_check".to_owned(),
                expression: text("hidden_column <> 'hidden_value'"),
            }])),
        })),
    ]);
    State::default().apply(&changes)
}

/// What `role` sees, if it sees these relations and schemas.
pub fn view_of(role: Oid, relations: &[Oid], schemas: &[Oid]) -> Arc<CatalogView> {
    let (relations, schemas) = (relations.to_vec(), schemas.to_vec());
    let visible =
        Visible::found_by(|| (relations.into_iter().collect(), schemas.into_iter().collect()));
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned(), String::new());
    let state = state();
    Arc::new(CatalogView {
        who: Principal::of(&state, role),
        state: Arc::new(state),
        role,
        session_role: role,
        visible,
        search_path: vec!["$user".to_owned(), "public".to_owned()],
        settings: vec![setting("server_version", "15.0"), setting("search_path", "\"$user\"")],
        functions: vec![
            ("pg_catalog".to_owned(), "abs".to_owned(), 'f'),
            ("kho".to_owned(), "purpose".to_owned(), 'f'),
        ]
        .into(),
        database: "kho".to_owned(),
        process_id: 42,
        server_started_us: 0,
        client: None,
        server: None,
        activity: crate::activity::Activity::default(),
    })
}

pub fn officer() -> Arc<CatalogView> {
    view_of(OFFICER, &[PATIENT, PER_WARD], &[HEALTH])
}

/// The answer to one query as texts; NULL is `∅`.
pub fn ask(view: &Arc<CatalogView>, sql: &str) -> Result<Vec<Vec<String>>, Error> {
    let state = apply::new_context(view).map_err(translate)?;
    ask_in(&state, sql)
}

pub fn ask_in(state: &SessionState, sql: &str) -> Result<Vec<Vec<String>>, Error> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect(sql);
    let mut statement = statements.remove(0);
    rewrite(&mut statement);
    let shown = statement.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wrapped = datafusion::sql::parser::Statement::Statement(Box::new(statement));
    let run = async {
        let plan = state.statement_to_plan(wrapped).await?;
        let plan = state.create_physical_plan(&plan).await?;
        collect(plan, state.task_ctx()).await
    };
    let batches =
        runtime.block_on(run).map_err(|error| translate(error.context(format!("in {shown}"))))?;
    let options = FormatOptions::default().with_null("∅");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|it| ArrayFormatter::try_new(it, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|it| it.value(row).to_string()).collect());
        }
    }
    Ok(rows)
}

fn translate(error: datafusion::common::DataFusionError) -> Error {
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    loop {
        if let Some(ours) = cause.downcast_ref::<Error>() {
            return Error::new(ours.kind(), ours.message());
        }
        match cause.source() {
            Some(next) => cause = next,
            None => return Error::internal(error.to_string()),
        }
    }
}
