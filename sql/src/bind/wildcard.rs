//! `t.*` of `FROM schema.t`: the planner knows such a table by its whole name alone.

use sqlparser::ast::{
    ObjectName, Select, SelectItem, SelectItemQualifiedWildcardKind as Kind, SetExpr, TableFactor,
};

use super::names::folded;

/// Gives `t.*` the whole name of the table that it means, in each `SELECT` of a query's body.
pub(super) fn qualify(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => qualify_select(select),
        SetExpr::SetOperation { left, right, .. } => {
            qualify(left);
            qualify(right);
        }
        _ => {}
    }
}

fn qualify_select(select: &mut Select) {
    let tables: Vec<ObjectName> = (select.from.iter())
        .flat_map(|from| {
            std::iter::once(&from.relation).chain(from.joins.iter().map(|it| &it.relation))
        })
        .filter_map(|factor| match factor {
            TableFactor::Table { name, alias: None, .. } if name.0.len() > 1 => Some(name.clone()),
            _ => None,
        })
        .collect();
    for item in &mut select.projection {
        if let SelectItem::QualifiedWildcard(Kind::ObjectName(written), _) = item
            && written.0.len() == 1
            && let Some(whole) = tables.iter().find(|whole| last(whole) == last(written))
        {
            *written = whole.clone();
        }
    }
}

/// The last part of a name, as it is compared.
fn last(name: &ObjectName) -> Option<String> {
    name.0.last()?.as_ident().map(folded)
}
