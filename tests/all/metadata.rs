//! Flight SQL's questions about the catalog, over a session.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Schema, UInt32Type};
use arrow_flight::IpcMessage;
use arrow_flight::sql::{
    Command, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas,
    CommandGetExportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
    CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo, SqlSupportsConvert,
};
use kho_server::flight::metadata;
use kho_server::flight::options::Form;
use kho_sql::session::Session;
use kho_tests::inside::{Server, Warehouse, play, run};
use tokio_util::sync::CancellationToken;

async fn city() -> (Server, Session) {
    let server = Warehouse::in_memory().serve_well("one").await.unwrap();
    let mut admin = server.connect().await.unwrap();
    for statement in [
        "CREATE TABLE s.patient (id bigint PRIMARY KEY, name varchar(20) NOT NULL, \
         price numeric(9,2), seen timestamptz, codes integer[], note json)",
        "COMMENT ON COLUMN s.patient.name IS 'Họ và tên'",
        "CREATE TABLE s.secret (id bigint PRIMARY KEY)",
        "CREATE VIEW s.per_name AS SELECT name, count(*) AS n FROM s.patient GROUP BY name",
        "CREATE SCHEMA hidden_schema",
        "CREATE TABLE s.placed AS SELECT 1 AS id, named_struct('ward', 'x') AS place",
        "CREATE TABLE s.\"100%_o'k\" (a integer)",
        "CREATE ROLE an LOGIN",
        "GRANT USAGE ON SCHEMA s TO an",
        "GRANT SELECT (id, name) ON s.patient TO an",
        "GRANT SELECT ON s.placed TO an",
    ] {
        run(&mut admin, statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    (server, admin)
}

async fn ask(session: &mut Session, command: Command) -> RecordBatch {
    let schema = metadata::schema(&command).unwrap();
    let form = Form { compression: None, views: false, endpoints: 1 };
    let stop = CancellationToken::new();
    let answer = metadata::answer(session, command, (1000, form), &stop).await.unwrap();
    assert_eq!(answer.schema(), schema);
    answer
}

fn column(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    column.iter().map(|it| it.unwrap_or("NULL").to_owned()).collect()
}

fn tables(schemas: Option<&str>, names: Option<&str>) -> CommandGetTables {
    CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: schemas.map(str::to_owned),
        table_name_filter_pattern: names.map(str::to_owned),
        table_types: Vec::new(),
        include_schema: false,
    }
}

async fn names(session: &mut Session, command: CommandGetTables) -> Vec<String> {
    column(&ask(session, Command::CommandGetTables(command)).await, "table_name")
}

#[test]
fn one_sees_what_one_may_see() {
    play(|| async {
        let (server, mut admin) = city().await;
        let mut an = server.connect_as("an", &[]).await.unwrap();
        let all = names(&mut admin, tables(Some("s"), None)).await;
        assert_eq!(all, ["100%_o'k", "patient", "per_name", "placed", "secret"]);
        assert_eq!(names(&mut an, tables(Some("s"), None)).await, ["patient", "placed"]);
        assert_eq!(names(&mut an, tables(None, Some("secret"))).await, [""; 0]);
        let schemas = |pattern: Option<&str>| {
            Command::CommandGetDbSchemas(CommandGetDbSchemas {
                catalog: Some("kho".to_owned()),
                db_schema_filter_pattern: pattern.map(str::to_owned),
            })
        };
        let of_admin = column(&ask(&mut admin, schemas(None)).await, "db_schema_name");
        let of_an = column(&ask(&mut an, schemas(None)).await, "db_schema_name");
        assert!(of_admin.contains(&"hidden_schema".to_owned()), "{of_admin:?}");
        assert!(of_an.contains(&"s".to_owned()), "{of_an:?}");
        assert!(!of_an.contains(&"hidden_schema".to_owned()), "{of_an:?}");
        let like = ask(&mut admin, schemas(Some("hidden\\_%"))).await;
        assert_eq!(column(&like, "db_schema_name"), ["hidden_schema"]);
        let catalogs = ask(&mut an, Command::CommandGetCatalogs(CommandGetCatalogs {})).await;
        assert_eq!(column(&catalogs, "catalog_name"), ["kho"]);
        let key = |table: &str| {
            Command::CommandGetPrimaryKeys(CommandGetPrimaryKeys {
                catalog: None,
                db_schema: Some("s".to_owned()),
                table: table.to_owned(),
            })
        };
        assert_eq!(column(&ask(&mut admin, key("secret")).await, "column_name"), ["id"]);
        assert_eq!(ask(&mut an, key("secret")).await.num_rows(), 0);
        let of_patient = ask(&mut an, key("patient")).await;
        assert_eq!(column(&of_patient, "key_name"), ["patient_pkey"]);
        assert_eq!(column(&of_patient, "db_schema_name"), ["s"]);
    });
}

#[test]
fn patterns_are_values() {
    play(|| async {
        let (_server, mut admin) = city().await;
        for (pattern, found) in [
            ("pat%", vec!["patient"]),
            ("_atient", vec!["patient"]),
            ("100\\%\\_o'k", vec!["100%_o'k"]),
            ("%'%", vec!["100%_o'k"]),
            ("x' OR true --", vec![]),
            ("PATIENT", vec![]),
            ("", vec![]),
        ] {
            let names = names(&mut admin, tables(Some("s"), Some(pattern))).await;
            assert_eq!(names, found, "{pattern}");
        }
        let of = |catalog: Option<&str>, types: &[&str]| CommandGetTables {
            catalog: catalog.map(str::to_owned),
            table_types: types.iter().map(|it| (*it).to_owned()).collect(),
            ..tables(Some("s"), None)
        };
        assert_eq!(names(&mut admin, of(None, &["VIEW"])).await, ["per_name"]);
        assert_eq!(names(&mut admin, of(Some("other"), &[])).await.len(), 0);
        assert_eq!(names(&mut admin, of(Some(""), &[])).await.len(), 0);
        assert_eq!(names(&mut admin, of(None, &["TABLE' OR true"])).await.len(), 0);
        let system = CommandGetTables {
            table_types: vec!["SYSTEM VIEW".to_owned(), "SYSTEM TABLE".to_owned()],
            ..tables(None, Some("pg\\_class"))
        };
        assert_eq!(names(&mut admin, system).await, ["pg_class"]);
        let types = ask(&mut admin, Command::CommandGetTableTypes(CommandGetTableTypes {})).await;
        let types = column(&types, "table_type");
        assert_eq!(types, ["SYSTEM TABLE", "SYSTEM VIEW", "TABLE", "VIEW"]);
    });
}

async fn schema_of(session: &mut Session, table: &str) -> Schema {
    let command = CommandGetTables { include_schema: true, ..tables(Some("s"), Some(table)) };
    let answer = ask(session, Command::CommandGetTables(command)).await;
    let bytes = answer.column_by_name("table_schema").unwrap().as_binary::<i32>().value(0);
    Schema::try_from(IpcMessage(bytes.to_vec().into())).unwrap()
}

#[test]
fn a_tables_schema_is_what_its_rows_have() {
    play(|| async {
        let (server, mut admin) = city().await;
        let schema = schema_of(&mut admin, "patient").await;
        let statements = admin.parse("SELECT * FROM s.patient").unwrap();
        let stop = CancellationToken::new();
        let described = admin.describe(&statements[0], &[], &stop).await.unwrap().columns.unwrap();
        for (told, given) in schema.fields().iter().zip(described.fields()) {
            // A client that does not ask for views gets none.
            let plain = match given.data_type() {
                DataType::Utf8View => &DataType::Utf8,
                other => other,
            };
            assert_eq!((told.name(), told.data_type()), (given.name(), plain));
        }
        let name = schema.field_with_name("name").unwrap();
        assert!(!name.is_nullable());
        let fact = |it: &str| name.metadata().get(&format!("ARROW:FLIGHT:SQL:{it}")).cloned();
        assert_eq!(fact("TYPE_NAME").as_deref(), Some("character varying(20)"));
        assert_eq!(fact("PRECISION").as_deref(), Some("20"));
        assert_eq!(fact("REMARKS").as_deref(), Some("Họ và tên"));
        assert_eq!(fact("IS_READ_ONLY").as_deref(), Some("0"));
        let mut an = server.connect_as("an", &[]).await.unwrap();
        let place = schema_of(&mut an, "placed").await;
        assert!(matches!(place.field(1).data_type(), DataType::Struct(_)), "{place:?}");
        // All of the catalog at once, the system's own tables with it.
        let command = CommandGetTables { include_schema: true, ..tables(None, None) };
        let all = ask(&mut an, Command::CommandGetTables(command)).await;
        assert!(all.num_rows() > 50, "{}", all.num_rows());
        assert_eq!(all.column_by_name("table_schema").unwrap().null_count(), 0);
    });
}

#[test]
fn every_fact_is_told() {
    play(|| async {
        let (_server, mut admin) = city().await;
        let facts = |of: &[i32]| {
            Command::CommandGetSqlInfo(CommandGetSqlInfo {
                info: of.iter().map(|it| u32::try_from(*it).unwrap()).collect(),
            })
        };
        let all = ask(&mut admin, facts(&[])).await;
        let names = all.column(0).as_primitive::<UInt32Type>().values().to_vec();
        let named = |number: &u32| SqlInfo::try_from(i32::try_from(*number).unwrap()).is_ok();
        assert!(names.iter().all(named));
        let every = (0..600).filter(|it| SqlInfo::try_from(*it).is_ok()).count();
        // But the two versions of Substrait.
        assert_eq!(names.len(), every - 2);
        let some = ask(&mut admin, facts(&[SqlInfo::FlightSqlServerName as i32, 9999])).await;
        assert_eq!(some.num_rows(), 1);
    });
}

#[test]
fn there_are_no_foreign_keys_and_all_types_are_told() {
    play(|| async {
        let (_server, mut admin) = city().await;
        let exported = Command::CommandGetExportedKeys(CommandGetExportedKeys {
            catalog: None,
            db_schema: None,
            table: "patient".to_owned(),
        });
        assert_eq!(ask(&mut admin, exported).await.num_rows(), 0);
        let cross = Command::CommandGetCrossReference(CommandGetCrossReference {
            pk_catalog: None,
            pk_db_schema: None,
            pk_table: "patient".to_owned(),
            fk_catalog: None,
            fk_db_schema: None,
            fk_table: "patient".to_owned(),
        });
        assert_eq!(ask(&mut admin, cross).await.num_rows(), 0);
        let types = |of: Option<i32>| {
            Command::CommandGetXdbcTypeInfo(CommandGetXdbcTypeInfo { data_type: of })
        };
        let all = ask(&mut admin, types(None)).await;
        for name in column(&all, "type_name") {
            let declared = if name == "numeric" { "numeric(9,2)" } else { &name };
            run(&mut admin, &format!("SELECT CAST(NULL AS {declared})")).await.unwrap();
        }
        let bigint = ask(&mut admin, types(Some(-5))).await;
        assert_eq!(column(&bigint, "type_name"), ["bigint"]);
    });
}

const FORM: kho_server::flight::options::Form =
    kho_server::flight::options::Form { compression: None, views: false, endpoints: 1 };
/// What the facts say of SQL is so.
#[test]
fn the_facts_are_true() {
    play(|| async {
        let (_server, mut admin) = city().await;
        for (does, query) in [
            (true, "SELECT 'a%' LIKE 'a!%' ESCAPE '!'"),
            (true, "SELECT 1 AS one ORDER BY 1 + 1"),
            (true, "SELECT name FROM s.patient ORDER BY id"),
            (true, "SELECT count(*) FROM s.patient GROUP BY id"),
            (true, "SELECT 1 WHERE 1 = ANY (SELECT id FROM s.patient)"),
            (true, "SELECT 1 WHERE 1 > (SELECT 0)"),
            (true, "SELECT 1 WHERE EXISTS (SELECT 1) AND 1 IN (SELECT 1)"),
            (
                true,
                "SELECT id FROM s.patient p WHERE EXISTS (SELECT 1 FROM s.secret WHERE id = p.id)",
            ),
            (true, "SELECT 1 FROM s.patient a FULL OUTER JOIN s.secret b ON a.id = b.id"),
            (true, "SELECT 1 UNION SELECT 2 UNION ALL SELECT 3"),
            (true, "SELECT a$b FROM (SELECT 1 AS a$b) x"),
            (false, "SELECT 1 FROM s.patient FOR UPDATE"),
        ] {
            let run = run(&mut admin, query).await;
            assert_eq!(run.is_ok(), does, "{query}: {run:?}");
        }
        let converts = told(&mut admin, SqlInfo::SqlSupportsConvert).await;
        let converts = converts.as_map();
        let (from, to) = (converts.keys(), converts.values().as_list::<i32>());
        let from = from.as_primitive::<Int32Type>();
        for (from, to) in from.values().iter().zip(to.iter()) {
            for to in to.unwrap().as_primitive::<Int32Type>().values() {
                let (from, to) = (sql_type(*from), sql_type(*to));
                let query = format!("SELECT CAST(CAST(NULL AS {from}) AS {to})");
                let run = run(&mut admin, &query).await;
                assert!(run.is_ok(), "{query}: {run:?}");
            }
        }
        let known = run(&mut admin, "SELECT proname FROM pg_proc").await.unwrap();
        let known: Vec<&str> = known.rows.iter().filter_map(|row| row[0].as_deref()).collect();
        for fact in [
            SqlInfo::SqlNumericFunctions,
            SqlInfo::SqlStringFunctions,
            SqlInfo::SqlSystemFunctions,
            SqlInfo::SqlDatetimeFunctions,
        ] {
            let listed = told(&mut admin, fact).await;
            for name in listed.as_list::<i32>().values().as_string::<i32>().iter().flatten() {
                let call = match name {
                    "coalesce" | "nullif" => format!("SELECT {name}(1, 1)"),
                    "current_date" => format!("SELECT {name}"),
                    "current_database" | "current_schema" | "pg_backend_pid" | "version" => {
                        format!("SELECT {name}()")
                    }
                    _ => {
                        assert!(known.contains(&name), "{name}");
                        continue;
                    }
                };
                run(&mut admin, &call).await.unwrap();
            }
        }
    });
}

/// The value of one fact.
async fn told(session: &mut Session, fact: SqlInfo) -> ArrayRef {
    let info = vec![u32::try_from(fact as i32).unwrap()];
    let answer = ask(session, Command::CommandGetSqlInfo(CommandGetSqlInfo { info })).await;
    let values = answer.column(1).as_union();
    values.child(values.type_id(0)).slice(values.value_offset(0), 1)
}

fn sql_type(of: i32) -> &'static str {
    use SqlSupportsConvert as C;
    match SqlSupportsConvert::try_from(of).unwrap() {
        C::SqlConvertBigint => "bigint",
        C::SqlConvertBit => "boolean",
        C::SqlConvertDate => "date",
        C::SqlConvertDecimal => "numeric(9,2)",
        C::SqlConvertFloat => "double precision",
        C::SqlConvertInteger => "integer",
        C::SqlConvertReal => "real",
        C::SqlConvertSmallint => "smallint",
        C::SqlConvertTimestamp => "timestamp",
        C::SqlConvertVarbinary => "bytea",
        C::SqlConvertVarchar => "text",
        other => panic!("{other:?} is no type of Kho's"),
    }
}

#[test]
fn a_path_is_a_name() {
    use arrow_flight::FlightDescriptor;
    use kho_server::flight::plain;
    let named = |path: &[&str]| {
        let path = path.iter().map(|it| (*it).to_owned()).collect();
        let found = plain::named(&FlightDescriptor::new_path(path));
        found.map_or_else(|error| error.sqlstate().to_owned(), |it| it.unwrap().quoted())
    };
    assert_eq!(named(&["s", "t"]), "\"s\".\"t\"");
    assert_eq!(named(&["s.t"]), "\"s\".\"t\"");
    assert_eq!(named(&["t"]), "\"t\"");
    assert_eq!(named(&["s", "a.\"b"]), "\"s\".\"a.\"\"b\"");
    for none in [&[][..], &["a", "b", "c"], &["a.b.c"], &[""], &["s", ""], &["s."], &[".t"]] {
        assert_eq!(named(none), "42602", "{none:?}");
    }
    assert_eq!(plain::named(&FlightDescriptor::new_cmd(vec![1])).unwrap(), None);
}

#[test]
fn listed_is_what_one_may_read() {
    play(|| async {
        let (server, mut admin) = city().await;
        run(&mut admin, "CREATE TABLE s.only_write (id integer)").await.unwrap();
        run(&mut admin, "GRANT INSERT ON s.only_write TO an").await.unwrap();
        let mut an = server.connect_as("an", &[]).await.unwrap();
        let stop = CancellationToken::new();
        let listed = kho_server::flight::plain::list(&mut an, FORM, &stop).await.unwrap();
        let paths: Vec<Vec<String>> =
            listed.iter().map(|it| it.flight_descriptor.clone().unwrap().path).collect();
        assert_eq!(paths, [["s", "patient"], ["s", "placed"]]);
        let schema = listed[1].clone().try_decode_schema().unwrap();
        assert!(matches!(schema.field(1).data_type(), DataType::Struct(_)), "{schema:?}");
    });
}
