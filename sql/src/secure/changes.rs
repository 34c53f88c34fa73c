//! A table's changes as somebody sees them from whom its policies hide rows.
//!
//! What it guarantees, of the images of rows that the policies of now show, each by itself:
//! - inserted and deleted rows come as they are;
//! - an update of which both images are shown comes as its two images;
//! - a row that an update took out of one's sight comes as a `delete` with the values of its primary
//!   key, and NULL in every other column: what became of it is not one's to see, and what it was can
//!   be read at the version before;
//! - a row that an update brought into one's sight comes as an `insert`;
//! - an update of the primary key itself is a `delete` of the one key and an `insert` of the other.
//!
//! Images belong together that have one primary key in one version, by its stored value where the
//! key is masked. Of a table without one, no image can be told to belong to another: each update is a
//! `delete` and an `insert`, and since nothing else says which row went, with its values.
//! What it does not: whom no policy concerns sees the changes as they were recorded.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use kho_catalog::error::{Error, Result};
use kho_catalog::policy::PolicyCommand;
use kho_catalog::state::{KeyKind, Relation};
use kho_catalog::table::{CHANGE_TYPE, COMMIT_TIMESTAMP, COMMIT_VERSION};
use kho_catalog::types::COLUMN_ID_KEY;
use sqlparser::ast;

use super::source::Source;
use super::{Secured, guarded, stored_name};
use crate::bind;
use crate::scope::Scope;

/// What the images are called in the query over them; no user can write it.
const IMAGES: &str = "\u{1}images";

/// The changes that `provider` gives, behind the policies and masks of `relation`.
///
/// # Errors
/// As [`super::table`].
pub(super) async fn shown(
    scope: &Scope,
    session: &SessionState,
    relation: &Relation,
    provider: Arc<dyn TableProvider>,
) -> Result<Secured> {
    let source = Source::new(scope, relation, &provider).with_stored();
    let commands = [PolicyCommand::Select];
    let Secured { provider: images, reads } = source.secured(session, provider, &commands).await?;
    let schema = images.schema();
    let statement = query(&schema, key(relation, &schema).as_deref())?;
    let extra = vec![(IMAGES.to_owned(), images)];
    let (plan, _) = bind::within(scope, session, statement, extra, 0).await?;
    let fields = plan.schema().fields().iter().map(|field| {
        let known = schema.field_with_name(field.name()).map(Field::metadata).cloned();
        field.as_ref().clone().with_metadata(known.unwrap_or_default())
    });
    let shown = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let known = guarded::Known {
        name: &relation.name,
        relation: Some(relation.oid),
        size: None,
        estimates: !scope.explains,
        lasts: false,
    };
    Ok(Secured { provider: guarded::guarded(known, plan, shown)?, reads })
}

/// The names of the primary key's columns in the changes; `None` where they are not all there.
fn key(relation: &Relation, schema: &Schema) -> Option<Vec<String>> {
    let key = relation.keys().iter().find(|key| key.kind == KeyKind::Primary)?;
    let name = |id: &u32| {
        let id = id.to_string();
        let of_id = |field: &&Arc<Field>| field.metadata().get(COLUMN_ID_KEY) == Some(&id);
        let found = shown_fields(schema).find(of_id)?;
        Some(found.name().clone())
    };
    key.columns.iter().map(name).collect()
}

/// All but the stored values that stand beside masked ones.
fn shown_fields(schema: &Schema) -> impl Iterator<Item = &Arc<Field>> {
    schema.fields().iter().filter(|field| !field.name().starts_with('\u{1}'))
}

fn query(schema: &SchemaRef, key: Option<&[String]>) -> Result<ast::Statement> {
    let change = quoted(CHANGE_TYPE);
    let is_update = format!("{change} IN ('update_preimage', 'update_postimage')");
    let stored = |name: &String| {
        let stored = stored_name(name);
        let is_masked = schema.field_with_name(&stored).is_ok();
        quoted(if is_masked { &stored } else { name })
    };
    let alone = match key {
        Some(key) => {
            let key = key.iter().map(stored).collect::<Vec<_>>().join(", ");
            let one = |image: &str| {
                let version = quoted(COMMIT_VERSION);
                format!(
                    "count(*) FILTER (WHERE {change} = '{image}') OVER (PARTITION BY {version}, {key}) = 1"
                )
            };
            let paired = [one("update_preimage"), one("update_postimage")].join(" AND ");
            format!("({is_update} AND NOT ({paired}))")
        }
        None => format!("({is_update})"),
    };
    let is_kept = |name: &String| {
        let of_commit = [COMMIT_VERSION, COMMIT_TIMESTAMP].contains(&name.as_str());
        of_commit || key.is_none_or(|key| key.contains(name))
    };
    let item = |field: &Arc<Field>| {
        let name = quoted(field.name());
        if field.name() == CHANGE_TYPE {
            format!(
                "CASE WHEN {alone} THEN CASE {name} WHEN 'update_preimage' THEN 'delete' \
                 ELSE 'insert' END ELSE {name} END AS {name}"
            )
        } else if is_kept(field.name()) {
            name
        } else {
            format!(
                "CASE WHEN {alone} AND {change} = 'update_preimage' THEN NULL ELSE {name} END \
                 AS {name}"
            )
        }
    };
    let items: Vec<String> = shown_fields(schema).map(item).collect();
    let text = format!("SELECT {} FROM {}", items.join(", "), quoted(IMAGES));
    match items.is_empty() {
        true => Err(Error::internal("changes without a column")),
        false => Ok(ast::Statement::Query(Box::new(crate::parse::query(&text)?))),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
