//! PostgreSQL's numbers for the types that clients name.
//!
//! What it does not: an oid holds no length and no precision.

use kho_catalog::types::Type;

/// The type that a client names by `oid`; `None` for what Kho has no values of.
///
/// A `numeric` comes without its precision; 38 digits, 10 of them decimals, are assumed to plan
/// with, and `decode_parameter` keeps more where a value has more.
pub fn type_of_oid(oid: u32) -> Option<Type> {
    Some(match oid {
        16 => Type::Boolean,
        17 => Type::Bytea,
        20 => Type::BigInt,
        21 => Type::SmallInt,
        23 => Type::Integer,
        oid if is_number(oid) => Type::BigInt,
        // "char", name, text, unknown, bpchar, varchar, cstring
        18 | 19 | 25 | 705 | 1042 | 1043 | 2275 => Type::Text,
        114 | 3802 => Type::Json,
        700 => Type::Real,
        701 => Type::Double,
        1082 => Type::Date,
        1114 => Type::Timestamp,
        1184 => Type::TimestampTz,
        1700 => Type::Numeric(38, 10),
        2950 => Type::Uuid,
        _ => return element_oid(oid).and_then(type_of_oid).map(|of| Type::Array(Box::new(of))),
    })
}

/// Whether `oid` is `oid`, `xid`, `cid` or a `reg…` type: four bytes without a sign each, and big
/// integers in our system tables.
pub fn is_number(oid: u32) -> bool {
    matches!(oid, 24 | 26 | 28 | 29 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 | 4191)
}

/// The oid of the array type whose elements are of the type `element`.
pub fn array_oid(element: u32) -> Option<u32> {
    ARRAYS.iter().find(|(of, _)| *of == element).map(|(_, array)| *array)
}

/// Pairs of a type's oid and its array's, the first of each being the one we send.
const ARRAYS: &[(u32, u32)] = &[
    (16, 1000),
    (17, 1001),
    (18, 1002),
    (19, 1003),
    (20, 1016),
    (21, 1005),
    (23, 1007),
    (24, 1008),
    (25, 1009),
    (26, 1028),
    (28, 1011),
    (29, 1012),
    (114, 199),
    (700, 1021),
    (701, 1022),
    (1042, 1014),
    (1043, 1015),
    (1082, 1182),
    (1083, 1183),
    (1114, 1115),
    (1184, 1185),
    (1186, 1187),
    (1700, 1231),
    (2205, 2210),
    (2206, 2211),
    (2950, 2951),
    (3802, 3807),
];

fn element_oid(array: u32) -> Option<u32> {
    ARRAYS.iter().find(|(_, of)| *of == array).map(|(element, _)| *element)
}
