//! The lists among the facts.

use arrow_flight::sql::SqlSupportsConvert as C;

/// Words that cannot be names without quotes and are no keywords of SQL:2003.
pub(super) const KEYWORDS: &[&str] = &[
    "ANALYSE",
    "ANALYZE",
    "ASC",
    "CONCURRENTLY",
    "DEFERRABLE",
    "DESC",
    "DO",
    "FREEZE",
    "ILIKE",
    "INITIALLY",
    "ISNULL",
    "LIMIT",
    "NOTNULL",
    "OFFSET",
    "PLACING",
    "RETURNING",
    "VARIADIC",
    "VERBOSE",
];

/// Functions of numbers.
pub(in crate::flight::metadata) const NUMERIC: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cot", "degrees", "exp", "floor", "ln",
    "log", "log10", "pi", "power", "radians", "random", "round", "sin", "sqrt", "tan", "trunc",
];

/// Functions of text.
pub(in crate::flight::metadata) const STRING: &[&str] = &[
    "ascii",
    "btrim",
    "char_length",
    "chr",
    "concat",
    "concat_ws",
    "initcap",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "octet_length",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "strpos",
    "substr",
    "translate",
    "upper",
];

/// Functions of the session and the server.
pub(in crate::flight::metadata) const SYSTEM: &[&str] =
    &["coalesce", "current_database", "current_schema", "nullif", "pg_backend_pid", "version"];

/// Functions of days and times.
pub(in crate::flight::metadata) const DATETIME: &[&str] =
    &["current_date", "date_part", "date_trunc", "make_date", "now", "to_char", "to_timestamp"];

const OF_NUMBER: &[C] = &[
    C::SqlConvertBigint,
    C::SqlConvertDecimal,
    C::SqlConvertFloat,
    C::SqlConvertInteger,
    C::SqlConvertReal,
    C::SqlConvertSmallint,
    C::SqlConvertVarchar,
];
const OF_TEXT: &[C] = &[
    C::SqlConvertBigint,
    C::SqlConvertBit,
    C::SqlConvertDate,
    C::SqlConvertDecimal,
    C::SqlConvertFloat,
    C::SqlConvertInteger,
    C::SqlConvertReal,
    C::SqlConvertSmallint,
    C::SqlConvertTimestamp,
    C::SqlConvertVarbinary,
    C::SqlConvertVarchar,
];

/// From which types `CAST` makes which.
pub(in crate::flight::metadata) const CASTS: &[(C, &[C])] = &[
    (C::SqlConvertBigint, OF_NUMBER),
    (C::SqlConvertDecimal, OF_NUMBER),
    (C::SqlConvertFloat, OF_NUMBER),
    (C::SqlConvertInteger, OF_NUMBER),
    (C::SqlConvertReal, OF_NUMBER),
    (C::SqlConvertSmallint, OF_NUMBER),
    (C::SqlConvertBit, &[C::SqlConvertBit, C::SqlConvertVarchar]),
    (C::SqlConvertDate, &[C::SqlConvertDate, C::SqlConvertTimestamp, C::SqlConvertVarchar]),
    (C::SqlConvertTimestamp, &[C::SqlConvertDate, C::SqlConvertTimestamp, C::SqlConvertVarchar]),
    (C::SqlConvertVarbinary, &[C::SqlConvertVarbinary]),
    (C::SqlConvertVarchar, OF_TEXT),
];

pub(super) fn number(of: C) -> i32 {
    of as i32
}
