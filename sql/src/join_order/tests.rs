//! Joins change places where it pays, and give the same rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::Optimizer;
use datafusion::prelude::{DataFrame, SessionContext};
use kho_catalog::environment::Environment;
use kho_catalog::state::{Relation, RelationKind, View};
use kho_catalog::table::{Commit, CommitAuthor, Location, Snapshot, TableColumn, Tables};
use kho_catalog::text::Text;
use kho_catalog::types::Type;

use super::JoinOrder;
use super::repeated::Repeated;
use super::semi::SemiJoins;
use crate::secure;

/// A table of whole numbers, and a name made of the first of them.
async fn table(tables: &Tables, name: &str, columns: &[&str], rows: &[Vec<i64>]) -> Snapshot {
    let mut declared = Vec::new();
    for (id, column) in (1..).zip(columns.iter().copied().chain(["name"])) {
        let data_type = if column == "name" { Type::Text } else { Type::BigInt };
        let name = column.to_owned();
        declared.push(TableColumn { id: Some(id), name, data_type, not_null: false });
    }
    let author = CommitAuthor { role: "an".to_owned(), statement: "s".to_owned() };
    let location = Location { dataset: name.to_owned(), generation: 0 };
    tables.create(&location, &declared, None, &author).await.unwrap();
    let mut stage = tables.stage(&location, &declared, &[]);
    let mut values: Vec<ArrayRef> = Vec::new();
    for column in 0..columns.len() {
        values.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row[column]))));
    }
    let names = rows.iter().map(|row| format!("{name} {}", row[0]));
    values.push(Arc::new(StringArray::from_iter_values(names)));
    let batch = RecordBatch::try_new(stage.schema().clone(), values).unwrap();
    stage.write(&batch).await.unwrap();
    let snapshot = tables.latest(&location).await.unwrap();
    let staged = stage.finish().await.unwrap();
    tables.commit(&snapshot, Commit::append(&snapshot, staged, author)).await.unwrap();
    tables.latest(&location).await.unwrap()
}

fn relation(oid: u32, name: &str) -> Relation {
    Relation {
        oid,
        schema: 1,
        name: name.to_owned(),
        owner: 1,
        columns: Vec::new(),
        grants: Vec::new(),
        comment: None,
        kind: RelationKind::View(View {
            query: Text::new("", String::new(), String::new()),
            depends_on: Vec::new(),
        }),
    }
}

/// A thousand sales of things in shops in cities, with and without the rule.
async fn contexts() -> [SessionContext; 2] {
    let tables = Tables::new(Environment::open("memory://").unwrap());
    let sales: Vec<_> = (0..1000).map(|id| vec![id, id % 40, id % 100]).collect();
    let shops: Vec<_> = (0..40).map(|id| vec![id, id % 5]).collect();
    let things: Vec<_> = (0..100).map(|id| vec![id]).collect();
    let cities: Vec<_> = (0..5).map(|id| vec![id]).collect();
    let made = [
        ("sale", table(&tables, "sale", &["id", "shop", "thing"], &sales).await),
        ("shop", table(&tables, "shop", &["id", "city"], &shops).await),
        ("thing", table(&tables, "thing", &["id"], &things).await),
        ("city", table(&tables, "city", &["id"], &cities).await),
    ];
    let mut rules = Optimizer::new().rules;
    let plain = rules.clone();
    rules.push(Arc::new(SemiJoins { least_rows: 0.0 }));
    rules.push(Arc::new(Repeated { least_rows: 0.0 }));
    rules.push(Arc::new(JoinOrder { least_rows: 0.0 }));
    let mut contexts = Vec::new();
    for rules in [plain, rules] {
        let state =
            SessionStateBuilder::new().with_default_features().with_optimizer_rules(rules).build();
        let context = SessionContext::new_with_state(state);
        for (oid, (name, snapshot)) in (1..).zip(&made) {
            let table = secure::open_table(&relation(oid, name), snapshot).await.unwrap();
            context.register_table(*name, table).unwrap();
        }
        contexts.push(context);
    }
    contexts.try_into().unwrap_or_else(|_| panic!("two contexts"))
}

/// The tables of a plan, from the first to be read to the last.
fn order(plan: &LogicalPlan) -> Vec<String> {
    match plan {
        LogicalPlan::TableScan(scan) => vec![scan.table_name.table().to_owned()],
        other => other.inputs().into_iter().flat_map(order).collect(),
    }
}

async fn frame(context: &SessionContext, query: &str) -> DataFrame {
    let plan = context.state().create_logical_plan(query).await.unwrap();
    context.execute_logical_plan(plan).await.unwrap()
}

async fn optimized(context: &SessionContext, query: &str) -> LogicalPlan {
    frame(context, query).await.into_optimized_plan().unwrap()
}

async fn answer(context: &SessionContext, query: &str) -> Vec<String> {
    let rows = frame(context, query).await.collect().await.unwrap();
    let shown = pretty_format_batches(&rows).unwrap().to_string();
    let mut lines: Vec<String> = shown.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

const BADLY_ORDERED: &str = "SELECT sale.id, shop.name, thing.name, city.id FROM sale, thing, shop, \
     city WHERE sale.thing = thing.id AND sale.shop = shop.id AND shop.city = city.id \
     AND city.name = 'city 3'";

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_relations_are_joined_first() {
    let [plain, ordered] = contexts().await;
    assert_eq!(order(&optimized(&plain, BADLY_ORDERED).await)[..2], ["sale", "thing"]);
    let order = order(&optimized(&ordered, BADLY_ORDERED).await);
    let place = |name: &str| order.iter().position(|it| it == name).unwrap();
    assert!(place("city") < place("sale") && place("shop") < place("sale"), "{order:?}");
    let last = place("thing") == 0 || place("thing") == 3;
    assert!(last, "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_are_the_same_in_any_order() {
    let [plain, ordered] = contexts().await;
    let queries = [
        BADLY_ORDERED,
        // A condition of two relations, one of three, and one that no row meets.
        "SELECT * FROM sale, thing, shop, city WHERE sale.thing = thing.id AND sale.shop = shop.id \
         AND shop.city = city.id AND thing.id + 1 > shop.id AND sale.id < thing.id + city.id",
        "SELECT count(*) FROM sale a, sale b, shop, city WHERE a.id = b.id AND a.shop = shop.id \
         AND b.shop = shop.id AND shop.city = city.id AND city.name = 'nowhere'",
        // Joins of other kinds around and below, expressions as keys, a relation twice.
        "SELECT s.id, c.name FROM (SELECT shop.id, city FROM shop LEFT JOIN thing ON \
         shop.id = thing.id AND thing.name = 'thing 7') s JOIN sale ON sale.shop = s.id + 0 \
         JOIN city c ON c.id = s.city LEFT JOIN city d ON d.id = sale.id WHERE c.id > 2",
        "SELECT max(sale.id) FROM sale, shop, city WHERE sale.shop = shop.id AND \
         shop.city = city.id AND EXISTS (SELECT 1 FROM thing, shop s2, city c2 WHERE \
         thing.id = sale.thing AND s2.id = thing.id AND c2.id = s2.city AND c2.name = 'city 1') \
         GROUP BY city.name",
        "SELECT shop.name, shop.name AS again, city.id + 1 FROM shop, sale, city WHERE shop.id = sale.shop \
         AND city.id = shop.city AND (city.name = 'city 1' AND shop.id = 6 OR city.id = 2)",
        "SELECT sale.id, city.name FROM sale, shop, city WHERE sale.shop = shop.id AND shop.city = city.id \
         AND shop.id IN (SELECT shop FROM sale GROUP BY shop HAVING sum(thing) > 1200)",
        "SELECT sale.id, city.name FROM sale, shop, city WHERE sale.shop = shop.id AND shop.city = city.id \
         AND sale.shop IN (SELECT shop FROM sale GROUP BY shop HAVING sum(thing) > 1200)",
        "SELECT sale.id FROM sale, shop p, city WHERE sale.shop = p.id AND p.city = city.id AND \
         NOT EXISTS (SELECT 1 FROM sale s WHERE s.shop = p.id AND s.thing > 97)",
        "SELECT sale.id FROM sale, shop p, city WHERE sale.shop = p.id AND p.city = city.id AND \
         p.id NOT IN (SELECT thing FROM sale s WHERE s.id < 8) AND EXISTS (SELECT 1 FROM thing t WHERE \
         t.id = sale.thing AND t.id > p.id)",
    ];
    for query in queries {
        let (one, other) = (answer(&plain, query).await, answer(&ordered, query).await);
        assert_eq!(one, other, "{query}");
        assert_eq!(
            optimized(&plain, query).await.schema().as_arrow(),
            optimized(&ordered, query).await.schema().as_arrow(),
            "{query}"
        );
    }
}

/// Without an equality between them, relations stay where they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_cross_product_is_left_as_written() {
    let [plain, ordered] = contexts().await;
    let query = "SELECT count(*) FROM thing, city, shop WHERE shop.city = city.id";
    assert_eq!(answer(&plain, query).await, answer(&ordered, query).await);
    let (one, other) = (optimized(&plain, query).await, optimized(&ordered, query).await);
    assert_eq!(one.to_string(), other.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relation_is_asked_about_before_it_is_joined() {
    let [plain, ordered] = contexts().await;
    for column in ["shop.id", "sale.shop"] {
        let query = format!(
            "SELECT sale.id, shop.name FROM sale, shop WHERE sale.shop = shop.id AND {column} IN (SELECT \
             shop FROM sale GROUP BY shop HAVING sum(thing) > 1200)"
        );
        let first_join = |plan: LogicalPlan| {
            let shown = plan.display_indent().to_string();
            let line =
                shown.lines().find(|line| line.contains(" Join: ")).unwrap().trim().to_owned();
            (line, shown)
        };
        let (before, _) = first_join(optimized(&plain, &query).await);
        assert!(before.starts_with("LeftSemi Join"), "{before}");
        let (after, shown) = first_join(optimized(&ordered, &query).await);
        assert!(after.starts_with("Inner Join"), "{shown}");
        assert!(shown.contains("LeftSemi Join: shop.id = "), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_many_rows_have_is_looked_for_once() {
    let [plain, ordered] = contexts().await;
    let is_grouped = |plan: LogicalPlan| plan.display_indent().to_string().contains("Aggregate");
    for (query, expected) in [
        // Of 1,000 sales in 40 shops; of 100 things.
        ("SELECT id FROM shop WHERE id IN (SELECT shop FROM sale)", true),
        (
            "SELECT id FROM thing p WHERE NOT EXISTS (SELECT 1 FROM sale WHERE sale.shop = p.id)",
            true,
        ),
        ("SELECT id FROM thing WHERE id NOT IN (SELECT shop FROM sale)", true),
        ("SELECT id FROM shop WHERE id IN (SELECT thing FROM sale)", false),
        ("SELECT id FROM shop WHERE name IN (SELECT name FROM sale)", false),
        (
            "SELECT id FROM shop p WHERE EXISTS (SELECT 1 FROM sale WHERE sale.shop = p.id \
             AND sale.thing > p.city)",
            false,
        ),
    ] {
        assert_eq!(answer(&plain, query).await, answer(&ordered, query).await, "{query}");
        assert!(!is_grouped(optimized(&plain, query).await), "{query}");
        assert_eq!(is_grouped(optimized(&ordered, query).await), expected, "{query}");
    }
}
