//! The digits of what is written out.
//!
//! What it guarantees: the quotient of two constants has as many digits after the point as
//! `select_div_scale` of PostgreSQL's numeric.c gives it, where 38 digits hold it.

use arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::{Digits, MOST, WANTED};

/// PostgreSQL computes in groups of four digits.
const GROUP: i16 = 4;

/// A number as it is written: its digits without a sign, as one whole number, and how many of them
/// stand after the point.
#[derive(Clone, Copy)]
struct Constant {
    unscaled: u128,
    after: i16,
}

impl Constant {
    fn of(expr: &Expr) -> Option<Constant> {
        match expr {
            Expr::Literal(ScalarValue::Decimal128(Some(unscaled), _, after), _) if *after >= 0 => {
                Some(Constant { unscaled: unscaled.unsigned_abs(), after: i16::from(*after) })
            }
            Expr::Literal(..) => {
                Some(Constant { unscaled: integer(expr)?.unsigned_abs(), after: 0 })
            }
            Expr::Negative(inner) => Constant::of(inner),
            Expr::Cast(cast) => match cast.field.data_type() {
                DataType::Decimal128(_, after) => Constant::of(&cast.expr)?.to(i16::from(*after)),
                _ => None,
            },
            _ => None,
        }
    }

    /// With more digits after the point.
    fn to(self, after: i16) -> Option<Constant> {
        let more = u32::try_from(after.checked_sub(self.after)?).ok()?;
        let unscaled = self.unscaled.checked_mul(10_u128.checked_pow(more)?)?;
        Some(Constant { unscaled, after })
    }

    /// The digits before the point; of what is less than one, as many less than none as it has
    /// zeros behind it.
    fn before(self) -> i16 {
        let digits = self.unscaled.checked_ilog10().map_or(1, |most| most + 1);
        i16::try_from(digits).unwrap_or(MOST) - self.after
    }

    /// Which group of digits is the first that counts, and what it holds.
    fn first_group(self) -> (i16, u128) {
        if self.unscaled == 0 {
            return (0, 0);
        }
        let weight = (self.before() - 1).div_euclid(GROUP);
        // What stands behind the group is cut off, or the group is filled with zeros.
        let shift = self.after + weight * GROUP;
        let by = 10_u128.checked_pow(u32::from(shift.unsigned_abs())).unwrap_or(u128::MAX);
        let group = if shift < 0 { self.unscaled.saturating_mul(by) } else { self.unscaled / by };
        (weight, group)
    }
}

/// The digits of the quotient of two constants.
pub(super) fn quotient(left: &Expr, right: &Expr) -> Option<Digits> {
    let (one, other) = (Constant::of(left)?, Constant::of(right)?);
    let (weight, first) = one.first_group();
    let (by_weight, by_first) = other.first_group();
    let of_quotient = weight - by_weight - i16::from(first <= by_first);
    // A quotient is less than ten to the difference of the digits, and one more when it is rounded.
    let whole = (one.before() - other.before() + 2).max(1);
    let after = (WANTED - of_quotient * GROUP).min(MOST - whole);
    let after = after.max(one.after).max(other.after).clamp(0, MOST);
    Some(Digits { all: (whole + after).min(MOST), after })
}

/// The digits of an integer that is written out.
pub(super) fn whole(expr: &Expr) -> Option<Digits> {
    let digits = integer(expr)?.unsigned_abs().checked_ilog10().map_or(1, |most| most + 1);
    Some(Digits { all: i16::try_from(digits).ok()?, after: 0 })
}

/// An integer that is written out.
pub(super) fn integer(expr: &Expr) -> Option<i128> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::Int16(number) => number.map(i128::from),
        ScalarValue::Int32(number) => number.map(i128::from),
        ScalarValue::Int64(number) => number.map(i128::from),
        _ => None,
    }
}
