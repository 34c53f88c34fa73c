//! Times by the session's zone: what an instant is on a clock, and as text.
//!
//! What it is: [`beside`], applied when a plan is made, gives days, clocks and instants that meet in
//! one expression PostgreSQL's type; an analyzer rule behind the coercion of types then has every
//! conversion between them, and every part of an instant, go by the zone of the session.
//! What it guarantees: PostgreSQL's answer, daylight saving included: a time that no clock showed is
//! read with the offset from before the change, one that was shown twice with the offset from after
//! it. A day that is added to an instant is a day on the clock. Text is ISO's as PostgreSQL spells it,
//! and so are spans of time.
//! What it does not: `RANGE` frames of days or months are refused (`0A000`) where a day may have other
//! than 24 hours. Within minutes of the year 294247's end a clock stands still.
//!
//! # Why
//! Instants are stored in UTC, and to the engine that is the zone of each of them: its own casts,
//! `date_part` and `date_trunc` would tell every session what a clock in Greenwich shows. Where the
//! session's zone is UTC they are right, and stay: files are pruned through them.

mod at_zone;
mod beside;
mod convert;
mod fielded;
mod function;
pub mod interval;
mod later;
mod part;
pub mod spelled;
mod truncate;

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, WindowFrameBound, WindowFrameUnits,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::Error;

use crate::errors::to_engine;
use crate::input::zone::Zone;
use crate::input::{is_text, zone_of};
use crate::numeric::{self, Rule, is_span};
use crate::text::differs;
use function::{InZone, What};
use spelled::Style;

pub(crate) use at_zone::function as at_zone;
pub(crate) use beside::{beside, of_union};
pub(crate) use convert::{converted, text_of};
pub(crate) use function::TOTAL;
pub(crate) use part::function as date_part;
pub(crate) use truncate::function as date_trunc;

/// What a clock shows.
const CLOCK: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The one type of instants.
fn instants() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Puts the rule into a session's analyzer, behind the coercion of types.
pub(crate) fn install(state: &mut SessionState) {
    let mut rules = state.analyzer().rules.clone();
    rules.push(Arc::new(ByZone));
    *state =
        SessionStateBuilder::new_from_existing(state.clone()).with_analyzer_rules(rules).build();
}

/// Conversions of times go by the session's zone.
#[derive(Debug)]
struct ByZone;

impl AnalyzerRule for ByZone {
    fn name(&self) -> &str {
        "kho_times_by_zone"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> PlanResult<LogicalPlan> {
        let zone = zone_of(config).map_err(to_engine)?;
        let rule: Rule<'_> = &|expr, schema| by_zone(expr, schema, zone);
        numeric::rewrite(plan, rule)
    }
}

fn by_zone(expr: Expr, schema: &DFSchema, zone: Zone) -> PlanResult<Transformed<Expr>> {
    match expr {
        Expr::Cast(cast) => cast_by_zone(cast, schema, zone),
        Expr::ScalarFunction(call) => call_by_zone(call, schema, zone),
        Expr::BinaryExpr(binary) if zone != Zone::Utc => moved(binary, schema, zone),
        Expr::WindowFunction(window) if zone != Zone::Utc => {
            let frame = &window.params.window_frame;
            let sorted = window.params.order_by.first();
            if frame.units == WindowFrameUnits::Range
                && let Some(sorted) = sorted
                && is_instant(&sorted.expr.get_type(schema)?)
                && [&frame.start_bound, &frame.end_bound].into_iter().any(|it| varies(it, zone))
            {
                let message = "RANGE frames of days or months are not supported in this time zone";
                let error = Error::unsupported(message)
                    .with_detail("Where clocks are changed not every day has 24 hours.")
                    .with_hint("SET TimeZone = 'UTC', or give the frame in hours.");
                return Err(to_engine(error));
            }
            Ok(Transformed::no(Expr::WindowFunction(window)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether how long a frame's bound is depends on where it begins.
fn varies(bound: &WindowFrameBound, zone: Zone) -> bool {
    let value = match bound {
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => value,
        WindowFrameBound::CurrentRow => return false,
    };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(by)) => {
            by.months != 0 || (by.days != 0 && !zone.is_even())
        }
        ScalarValue::IntervalYearMonth(Some(_)) => true,
        ScalarValue::IntervalDayTime(Some(by)) => by.days != 0 && !zone.is_even(),
        _ => false,
    }
}

fn cast_by_zone(cast: Cast, schema: &DFSchema, zone: Zone) -> PlanResult<Transformed<Expr>> {
    let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type().clone());
    let made = if is_bytes(&from) && is_text(&to) {
        bytes_spelled(*cast.expr, from)
    } else if has_own_text(&from) && is_text(&to) {
        text(*cast.expr, zone, Style::Postgres)
    } else if convert::spells(&from, &to)
        || (convert::is_length(&from) && matches!(to, DataType::Interval(_)))
    {
        return Ok(Transformed::yes(call(What::Cast(to), zone, vec![*cast.expr])));
    } else if zone == Zone::Utc {
        return Ok(Transformed::no(Expr::Cast(cast)));
    } else if is_instant(&from) && is_clock(&to) {
        wall_clock(*cast.expr, &from, zone)
    } else if is_clock(&from) && is_instant(&to) {
        call(What::Instant, zone, vec![cast_to(*cast.expr, &from, CLOCK)])
    } else if convert::mixes(&from, &to) {
        // Arrays, whose elements are such times.
        let made = call(What::Cast(to), zone, vec![*cast.expr]);
        return Ok(Transformed::yes(made));
    } else {
        return Ok(Transformed::no(Expr::Cast(cast)));
    };
    let given = made.get_type(schema)?;
    // Of a text the type may say how long it is.
    if given == to && cast.field.metadata().is_empty() {
        return Ok(Transformed::yes(made));
    }
    Ok(Transformed::yes(Expr::Cast(Cast::new_from_field(Box::new(made), cast.field))))
}

fn call_by_zone(
    mut made: ScalarFunction,
    schema: &DFSchema,
    zone: Zone,
) -> PlanResult<Transformed<Expr>> {
    let style = match made.name() {
        "format" | "quote_literal" | "quote_nullable" => Some(Style::Postgres),
        "json_build_object" => Some(Style::Xsd),
        _ => None,
    };
    if let Some(style) = style {
        // These take values of any type, and know times by their text.
        let (mut any, is_plain) = (false, style == Style::Postgres);
        for argument in &mut made.args {
            let known = argument.get_type(schema);
            if known.is_ok_and(|of| is_spelled(&of) || (is_plain && differs(&of))) {
                *argument = text(std::mem::take(argument), zone, style);
                any = true;
            }
        }
        return Ok(Transformed::new(Expr::ScalarFunction(made), any, TreeNodeRecursion::Continue));
    }
    if made.name() == "array_to_string"
        && let Some(first) = made.args.first_mut()
        && let Some(to) = convert::texts(&first.get_type(schema)?)
    {
        *first = call(What::Cast(to), zone, vec![std::mem::take(first)]);
        return Ok(Transformed::yes(Expr::ScalarFunction(made)));
    }
    let known = matches!(made.name(), "date_part" | "date_trunc" | "to_char");
    if !known || zone == Zone::Utc || made.args.len() != 2 {
        return Ok(Transformed::no(Expr::ScalarFunction(made)));
    }
    let there = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.of_engine().into()));
    for place in 0..made.args.len() {
        let of = made.args.get(place).map(|it| it.get_type(schema)).transpose()?;
        // A pattern may ask for the zone, too, so that it stays an instant.
        let is_done = |of: &DataType| made.name() == "to_char" && *of == there;
        let Some(of) = of.filter(|of| is_instant(of) && !is_done(of)) else { continue };
        return part_by_zone(made, place, &of, zone);
    }
    Ok(Transformed::no(Expr::ScalarFunction(made)))
}

/// `date_part`, `date_trunc` or `to_char` of an instant, the argument at `place`.
fn part_by_zone(
    mut made: ScalarFunction,
    place: usize,
    of: &DataType,
    zone: Zone,
) -> PlanResult<Transformed<Expr>> {
    let name = made.name().to_owned();
    let field = made.args.first().cloned().unwrap_or_default();
    let Some(argument) = made.args.get_mut(place) else {
        return Ok(Transformed::no(Expr::ScalarFunction(made)));
    };
    let instant = std::mem::take(argument);
    if name == "to_char" {
        let there = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.of_engine().into()));
        *argument = cast_to(instant, of, there);
        return Ok(Transformed::yes(Expr::ScalarFunction(made)));
    }
    // How long ago something was is the same everywhere.
    if name == "date_part" && literal(&field).is_some_and(|it| it.eq_ignore_ascii_case("epoch")) {
        *argument = instant;
        return Ok(Transformed::no(Expr::ScalarFunction(made)));
    }
    *argument = wall_clock(instant.clone(), of, zone);
    let made = Expr::ScalarFunction(made);
    if name == "date_part" {
        return Ok(Transformed::yes(made));
    }
    let instant = cast_to(instant, of, instants());
    let made = call(What::Truncated, zone, vec![field, made, instant]);
    Ok(Transformed::yes(cast_to(made, &instants(), of.clone())))
}

/// An interval added to an instant, or taken from it.
fn moved(binary: BinaryExpr, schema: &DFSchema, zone: Zone) -> PlanResult<Transformed<Expr>> {
    let BinaryExpr { left, op, right } = binary;
    let unmoved =
        |left, right| Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
    if !matches!(op, Operator::Plus | Operator::Minus) {
        return unmoved(left, right);
    }
    let (of_left, of_right) = (left.get_type(schema)?, right.get_type(schema)?);
    let (instant, of, by) = match (&of_left, &of_right) {
        (of, DataType::Interval(_)) if is_instant(of) && !is_short(&right) => (left, of, right),
        (DataType::Interval(_), of)
            if is_instant(of) && op == Operator::Plus && !is_short(&left) =>
        {
            (right, of, left)
        }
        _ => return unmoved(left, right),
    };
    let what = if op == Operator::Plus { What::Later } else { What::Earlier };
    let months = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
    let of_interval = if of == &of_left { of_right.clone() } else { of_left.clone() };
    let arguments = vec![cast_to(*instant, of, instants()), cast_to(*by, &of_interval, months)];
    Ok(Transformed::yes(cast_to(call(what, zone, arguments), &instants(), of.clone())))
}

/// Whether an interval is known to have neither months nor days.
fn is_short(interval: &Expr) -> bool {
    match interval {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(by)), _) => {
            by.months == 0 && by.days == 0
        }
        _ => false,
    }
}

fn text(time: Expr, zone: Zone, style: Style) -> Expr {
    call(What::Text(style), zone, vec![time])
}

fn wall_clock(instant: Expr, of: &DataType, zone: Zone) -> Expr {
    call(What::WallClock, zone, vec![cast_to(instant, of, instants())])
}

fn call(what: What, zone: Zone, arguments: Vec<Expr>) -> Expr {
    let function = Arc::new(InZone::new(what, zone).into());
    Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments))
}

/// `expr`, which is of the type `from`, as `to`: a cast that no zone has a part in.
fn cast_to(expr: Expr, from: &DataType, to: DataType) -> Expr {
    if *from == to { expr } else { Expr::Cast(Cast::new(Box::new(expr), to)) }
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Whether a value is a point in time, wherever it is looked at.
fn is_instant(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(_, Some(_)))
}

/// Whether a value is what a clock or a calendar shows.
fn is_clock(of: &DataType) -> bool {
    use DataType::{Date32, Date64, Time32, Time64, Timestamp};
    matches!(of, Timestamp(_, None) | Date32 | Date64 | Time32(_) | Time64(_))
}

fn is_bytes(of: &DataType) -> bool {
    matches!(of, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Bytes as text are their digits; the engine would take them for UTF-8.
fn bytes_spelled(bytes: Expr, from: DataType) -> Expr {
    let text = |it: &str| Expr::Literal(ScalarValue::Utf8(Some(it.to_owned())), None);
    let plain = cast_to(bytes, &from, DataType::Binary);
    let digits = datafusion::functions::encoding::encode();
    let digits = ScalarFunction::new_udf(digits, vec![plain, text("hex")]);
    let digits = Expr::ScalarFunction(digits);
    Expr::BinaryExpr(BinaryExpr::new(
        Box::new(text("\\x")),
        Operator::StringConcat,
        Box::new(digits),
    ))
}

/// Whether PostgreSQL spells values of the type otherwise than the engine: times and spans of time.
pub(crate) fn is_spelled(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64) || is_span(of)
}

/// The same of all types, but for bytes.
fn has_own_text(of: &DataType) -> bool {
    is_spelled(of) || differs(of)
}
