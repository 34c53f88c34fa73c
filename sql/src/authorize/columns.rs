//! Which columns of which relations a bound plan uses, and for whom.
//!
//! What it guarantees: a column counts as used where anything in the statement names it, whatever
//! the optimizer would leave of that: in a list, a condition, a join's `USING`, a grouping, an
//! order, a `*` that stands anywhere, a subquery. A view's own query counts for the view's owner;
//! for who asks, only the columns of the view count. What the policies of a table read of other tables
//! counts for whom they bind, as in PostgreSQL; that they look at the table itself does not count.
//! What cannot be told counts as everything.
//! What it does not: it decides nothing. A query of `WITH` that nothing reads is in no plan: what it
//! names counts as everything, where PostgreSQL asks for no right at all. An alias that renames a
//! table's columns, `t AS a (x, y)`, names them all; there, it names none.
//!
//! # How
//! From the leaves upwards each node's output columns are traced to the columns of relations that
//! they are passed on from, unchanged; an expression that names an output marks what it is traced
//! to. What a projection or an aggregate gives is new: its expressions were marked. The one that stands for a
//! join's `USING` passes on what it names.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as PlanResult};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Subquery, SubqueryAlias, TableScan};
use kho_catalog::error::Result;
use kho_catalog::state::{Oid, State};
use kho_catalog::table::{CHANGE_TYPE, COMMIT_TIMESTAMP, COMMIT_VERSION, FILE_COLUMN, ROW_COLUMN};
use kho_catalog::types::COLUMN_ID_KEY;

use crate::bind::{Rows, merges_columns, view_of_mark};
use crate::errors::from_engine;
use crate::secure;

/// Columns of a table that it has besides its own, in some of its forms.
const EXTRA: &[&str] = &[CHANGE_TYPE, COMMIT_VERSION, COMMIT_TIMESTAMP, FILE_COLUMN, ROW_COLUMN];

/// What a plan uses, by relation and the role whose right counts.
#[derive(Debug, Default)]
pub(super) struct Uses {
    of: BTreeMap<(Oid, Oid), Used>,
    /// Something was not understood: everything counts as used.
    unknown: bool,
}

/// What is used of one relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// By id.
    pub columns: BTreeSet<u32>,
    /// A column that has no id now: only a right on the whole relation covers it.
    pub others: bool,
}

impl Uses {
    /// A relation that was looked for and is not in the plan is in it in some form that is not
    /// known here: of that, too, everything counts as used.
    pub(super) fn of(&self, relation: Oid, by: Oid) -> Used {
        let found = self.of.get(&(relation, by)).cloned();
        let others = self.unknown || found.as_ref().is_none_or(|it| it.others);
        Used { others, ..found.unwrap_or_default() }
    }
}

/// What `plan` uses, which `role` asks for. `rows` is what stands in it for rows of a table that
/// are being written.
pub(super) fn of(
    state: &State,
    role: Oid,
    plan: &LogicalPlan,
    rows: Option<&Rows>,
) -> Result<Uses> {
    let mut walk = Walk {
        state,
        rows,
        by: role,
        sources: Vec::new(),
        outer: Vec::new(),
        within: Vec::new(),
        uses: Uses::default(),
    };
    let top = match (plan, rows) {
        // The table's own columns are carried along for the write; nobody is shown them.
        (LogicalPlan::Projection(it), Some(rows)) => {
            let input = walk.node(&it.input).map_err(from_engine)?;
            let read = it.expr.iter().skip(rows.carried);
            let inputs = [input];
            for expr in read {
                walk.expression(expr, &inputs).map_err(from_engine)?;
            }
            None
        }
        (plan, _) => Some(walk.node(plan).map_err(from_engine)?),
    };
    if let Some(top) = top {
        walk.use_all(&top);
    }
    Ok(walk.uses)
}

/// A relation in the plan.
struct Source {
    relation: Oid,
    by: Oid,
    columns: Vec<Place>,
}

/// What a field of a source is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Column(u32),
    /// None of the table's columns.
    Extra,
    /// One that the table does not have now.
    Other,
}

/// Source and field.
type Origin = (usize, usize);

/// A node's output: its schema, and for each field what it is passed on from.
#[derive(Clone)]
struct Output {
    schema: Arc<DFSchema>,
    origins: Vec<Vec<Origin>>,
    /// The places of the fields by their names, where there are more than a few.
    places: OnceCell<HashMap<String, Vec<usize>>>,
}

/// So many names are as well compared one by one.
const FEW: usize = 8;

impl Output {
    fn new(schema: &Arc<DFSchema>) -> Output {
        Output::of(schema, vec![Vec::new(); schema.fields().len()])
    }

    fn of(schema: &Arc<DFSchema>, origins: Vec<Vec<Origin>>) -> Output {
        Output { schema: Arc::clone(schema), origins, places: OnceCell::new() }
    }

    /// `schema` over what `input` gives, field by field; more fields are new.
    fn passed(schema: &Arc<DFSchema>, input: Output) -> Output {
        let mut origins = input.origins;
        origins.resize(schema.fields().len(), Vec::new());
        Output::of(schema, origins)
    }

    /// The fields that a name means.
    fn named(&self, column: &Column) -> Vec<usize> {
        let is_of_it = |place: &usize| {
            let (qualifier, field) = self.schema.qualified_field(*place);
            let of_it = match (&column.relation, qualifier) {
                (None, _) => true,
                (Some(written), Some(qualifier)) => written.resolved_eq(qualifier),
                (Some(_), None) => false,
            };
            *field.name() == column.name && of_it
        };
        let count = self.schema.fields().len();
        if count <= FEW {
            return (0..count).filter(is_of_it).collect();
        }
        let found = self.places().get(&column.name).map(Vec::as_slice).unwrap_or_default();
        found.iter().copied().filter(is_of_it).collect()
    }

    fn places(&self) -> &HashMap<String, Vec<usize>> {
        self.places.get_or_init(|| {
            let mut places: HashMap<String, Vec<usize>> = HashMap::new();
            for (place, field) in self.schema.fields().iter().enumerate() {
                places.entry(field.name().clone()).or_default().push(place);
            }
            places
        })
    }
}

struct Walk<'a> {
    state: &'a State,
    rows: Option<&'a Rows>,
    /// The role whose right counts here.
    by: Oid,
    sources: Vec<Source>,
    /// What the queries around this one see, the nearest last.
    outer: Vec<Vec<Output>>,
    /// The tables whose policies are being walked, one within the other.
    within: Vec<Oid>,
    uses: Uses,
}

impl Walk<'_> {
    fn node(&mut self, plan: &LogicalPlan) -> PlanResult<Output> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.alias(alias),
            LogicalPlan::Subquery(subquery) => self.node(&subquery.subquery),
            LogicalPlan::Join(join) => {
                let left = self.node(&join.left)?;
                // A lateral right side sees the left.
                self.outer.push(vec![left.clone()]);
                let right = self.node(&join.right);
                self.outer.pop();
                let inputs = [left, right?];
                self.expressions(plan, &inputs)?;
                Ok(joined(plan.schema(), &inputs))
            }
            LogicalPlan::Union(union) => {
                let mut output = Output::new(&union.schema);
                for input in &union.inputs {
                    let input = self.node(input)?;
                    for (all, more) in output.origins.iter_mut().zip(input.origins) {
                        all.extend(more);
                    }
                }
                Ok(output)
            }
            LogicalPlan::RecursiveQuery(query) => {
                for term in [&query.static_term, &query.recursive_term] {
                    let output = self.node(term)?;
                    self.use_all(&output);
                }
                Ok(Output::new(plan.schema()))
            }
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Distinct(Distinct::All(_)) => {
                let input = self.only_input(plan)?;
                Ok(Output::passed(plan.schema(), input))
            }
            LogicalPlan::Projection(it) if merges_columns(&it.schema) => {
                let input = self.node(&it.input)?;
                let origins_of = |expr: &Expr| {
                    let named = expr.column_refs().into_iter().flat_map(|it| input.named(it));
                    named
                        .flat_map(|place| input.origins.get(place).into_iter().flatten().copied())
                        .collect()
                };
                let origins = it.expr.iter().map(origins_of).collect();
                Ok(Output::of(&it.schema, origins))
            }
            LogicalPlan::Projection(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Distinct(Distinct::On(_)) => {
                self.only_input(plan)?;
                Ok(Output::new(plan.schema()))
            }
            LogicalPlan::Unnest(unnest) => {
                let input = self.node(&unnest.input)?;
                self.use_all(&input);
                Ok(Output::new(plan.schema()))
            }
            LogicalPlan::Values(_) => {
                self.expressions(plan, &[])?;
                Ok(Output::new(plan.schema()))
            }
            LogicalPlan::EmptyRelation(_) => Ok(Output::new(plan.schema())),
            LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Extension(_) => {
                self.uses.unknown = true;
                Ok(Output::new(plan.schema()))
            }
        }
    }

    /// The output of a node's one input, after its own expressions were marked over it.
    fn only_input(&mut self, plan: &LogicalPlan) -> PlanResult<Output> {
        let mut inputs = Vec::new();
        for input in plan.inputs() {
            inputs.push(self.node(input)?);
        }
        self.expressions(plan, &inputs)?;
        match inputs.pop() {
            Some(input) if inputs.is_empty() => Ok(input),
            _ => {
                self.uses.unknown = true;
                Ok(Output::new(plan.schema()))
            }
        }
    }

    fn scan(&mut self, scan: &TableScan) -> PlanResult<Output> {
        if let Some(view) = secure::view_of(&scan.source) {
            let whole = self.node(&view)?;
            let taken = |place: &usize| whole.origins.get(*place).cloned().unwrap_or_default();
            let origins = match &scan.projection {
                Some(places) => places.iter().map(taken).collect(),
                None => whole.origins,
            };
            return Ok(Output::of(&scan.projected_schema, origins));
        }
        let mut output = Output::new(&scan.projected_schema);
        let written = self.rows.filter(|rows| scan.table_name.table() == rows.name);
        let relation = match (secure::relation_of(&scan.source), written) {
            (Some(relation), _) => relation,
            (None, Some(rows)) => rows.relation,
            (None, None) => return Ok(output),
        };
        if let Some(policies) = secure::policied_query_of(&scan.source) {
            let outer = std::mem::take(&mut self.outer);
            self.within.push(relation);
            let walked = self.node(&policies);
            self.within.pop();
            self.outer = outer;
            walked?;
        }
        if self.within.contains(&relation) {
            return Ok(output);
        }
        let columns = self.places(relation, scan.projected_schema.fields(), written.is_some());
        self.add(Source { relation, by: self.by, columns }, &mut output);
        for filter in &scan.filters {
            self.expression(filter, std::slice::from_ref(&output))?;
        }
        Ok(output)
    }

    /// What the fields of a table stand for: their metadata says, through every change of name.
    fn places(&self, relation: Oid, fields: &Fields, is_written: bool) -> Vec<Place> {
        let Some(relation) = self.state.relations.get(&relation) else {
            return vec![Place::Other; fields.len()];
        };
        let ids: HashSet<u32> = relation.columns.iter().map(|column| column.id).collect();
        let place = |field: &FieldRef| {
            match field.metadata().get(COLUMN_ID_KEY).map(|id| id.parse::<u32>()) {
                Some(Ok(id)) if ids.contains(&id) => return Place::Column(id),
                Some(_) => return Place::Other,
                None => {}
            }
            match is_written.then(|| relation.column(field.name())).flatten() {
                Some(column) => Place::Column(column.id),
                None if EXTRA.contains(&field.name().as_str()) => Place::Extra,
                None => Place::Other,
            }
        };
        fields.iter().map(place).collect()
    }

    fn alias(&mut self, alias: &SubqueryAlias) -> PlanResult<Output> {
        let Some(relation) = view_of_mark(&alias.alias) else {
            let input = self.node(&alias.input)?;
            let mut output = Output::passed(&alias.schema, input);
            // Written rows may stand there as a query over their files.
            if let Some(rows) = self.rows.filter(|rows| alias.alias.table() == rows.name) {
                let columns = self.places(rows.relation, alias.schema.fields(), true);
                self.add(Source { relation: rows.relation, by: self.by, columns }, &mut output);
            }
            return Ok(output);
        };
        let Some(view) = self.state.relations.get(&relation) else {
            self.uses.unknown = true;
            return Ok(Output::new(&alias.schema));
        };
        // Within the view its owner reads, and sees nothing of the query around it.
        let (by, outer) = (self.by, std::mem::take(&mut self.outer));
        self.by = view.owner;
        let inner = self.node(&alias.input);
        (self.by, self.outer) = (by, outer);
        self.use_all(&inner?);
        let mut output = Output::new(&alias.schema);
        let columns = view.columns.iter().map(|column| Place::Column(column.id)).collect();
        self.add(Source { relation, by, columns }, &mut output);
        Ok(output)
    }

    fn add(&mut self, source: Source, output: &mut Output) {
        self.uses.of.entry((source.relation, source.by)).or_default();
        let index = self.sources.len();
        for (field, origins) in output.origins.iter_mut().enumerate() {
            origins.push((index, field));
        }
        self.sources.push(source);
    }

    fn expressions(&mut self, plan: &LogicalPlan, inputs: &[Output]) -> PlanResult<()> {
        plan.apply_expressions(|expr| {
            self.expression(expr, inputs)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }

    #[expect(deprecated, reason = "what still gives a wildcard must count")]
    fn expression(&mut self, expr: &Expr, inputs: &[Output]) -> PlanResult<()> {
        expr.apply(|expr| {
            match expr {
                Expr::Column(column) => self.column(column, inputs),
                Expr::OuterReferenceColumn(_, column) => self.outer_column(column),
                Expr::ScalarSubquery(subquery) => self.subquery(subquery, inputs)?,
                Expr::Exists(it) => self.subquery(&it.subquery, inputs)?,
                Expr::InSubquery(it) => self.subquery(&it.subquery, inputs)?,
                Expr::SetComparison(it) => self.subquery(&it.subquery, inputs)?,
                // Of `count(*)`, which reads no column; `count(t.*)` reads all of them.
                Expr::Wildcard { qualifier: None, .. } => {}
                Expr::Wildcard { qualifier: Some(_), .. } => {
                    inputs.iter().for_each(|input| self.use_all(input));
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }

    fn subquery(&mut self, subquery: &Subquery, inputs: &[Output]) -> PlanResult<()> {
        self.outer.push(inputs.to_vec());
        let output = self.node(&subquery.subquery);
        self.outer.pop();
        self.use_all(&output?);
        Ok(())
    }

    fn column(&mut self, column: &Column, inputs: &[Output]) {
        if !self.mark(column, inputs) {
            self.uses.unknown = true;
        }
    }

    fn outer_column(&mut self, column: &Column) {
        let outer = std::mem::take(&mut self.outer);
        let found = outer.iter().rev().any(|inputs| self.mark(column, inputs));
        self.outer = outer;
        if !found {
            self.uses.unknown = true;
        }
    }

    /// Marks what a name means among `inputs`; says whether it means anything.
    fn mark(&mut self, column: &Column, inputs: &[Output]) -> bool {
        let mut found = false;
        for input in inputs {
            for index in input.named(column) {
                found = true;
                let origins = input.origins.get(index).cloned().unwrap_or_default();
                origins.into_iter().for_each(|origin| self.use_one(origin));
            }
        }
        found
    }

    fn use_all(&mut self, output: &Output) {
        for origin in output.origins.iter().flatten() {
            self.use_one(*origin);
        }
    }

    fn use_one(&mut self, (source, field): Origin) {
        let Some(source) = self.sources.get(source) else { return };
        let used = self.uses.of.entry((source.relation, source.by)).or_default();
        match source.columns.get(field) {
            Some(Place::Column(id)) => {
                used.columns.insert(*id);
            }
            Some(Place::Extra) => {}
            Some(Place::Other) | None => used.others = true,
        }
    }
}

/// A join's output: which side a field is from is told by its name.
fn joined(schema: &Arc<DFSchema>, inputs: &[Output]) -> Output {
    let mut output = Output::new(schema);
    for ((qualifier, field), origins) in schema.iter().zip(&mut output.origins) {
        let column = Column::new(qualifier.cloned(), field.name());
        for input in inputs {
            for index in input.named(&column) {
                origins.extend(input.origins.get(index).into_iter().flatten().copied());
            }
        }
    }
    output
}
