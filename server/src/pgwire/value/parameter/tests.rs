//! Parameters in both formats, and those that are refused.

use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Kind, Result};
use kho_catalog::types::Type;
use kho_sql::session::ValueFormat;

use super::decode_parameter;

fn settings(time_zone: &str) -> ValueFormat {
    ValueFormat { time_zone: time_zone.to_owned(), extra_float_digits: 1 }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn parameter(of: &Type, format: i16, bytes: &[u8]) -> Result<ScalarValue> {
    decode_parameter(Some(bytes), format, of, &settings("Asia/Ho_Chi_Minh"))
}

#[test]
fn parameters_in_both_formats() {
    let cases = [
        (Type::Boolean, "t", "01", ScalarValue::Boolean(Some(true))),
        (Type::SmallInt, "-1", "ffff", ScalarValue::Int16(Some(-1))),
        (Type::Integer, " 7 ", "00000007", ScalarValue::Int32(Some(7))),
        (Type::BigInt, "7", "0000000000000007", ScalarValue::Int64(Some(7))),
        (Type::Real, "0.1", "3dcccccd", ScalarValue::Float32(Some(0.1))),
        (Type::Double, "-1.5", "bff8000000000000", ScalarValue::Float64(Some(-1.5))),
        (
            Type::Numeric(10, 4),
            "12345.6789",
            "0003000100000004000109291a85",
            ScalarValue::Decimal128(Some(123456789), 10, 4),
        ),
        (Type::Text, "Huế", "4875e1babf", ScalarValue::Utf8(Some("Huế".to_owned()))),
        (Type::Bytea, "\\x00ff", "00ff", ScalarValue::Binary(Some(vec![0, 255]))),
        (Type::Date, "2024-02-29", "00002279", ScalarValue::Date32(Some(19782))),
        (
            Type::Timestamp,
            "2024-01-05 10:11:12.5",
            "0002b12ed620b120",
            ScalarValue::TimestampMicrosecond(Some(1704449472500000), None),
        ),
        (
            Type::TimestampTz,
            "2024-01-05 17:11:12.5",
            "0002b12ed620b120",
            ScalarValue::TimestampMicrosecond(Some(1704449472500000), Some("UTC".into())),
        ),
        (
            Type::Uuid,
            "550E8400E29B41D4A716446655440000",
            "550e8400e29b41d4a716446655440000",
            ScalarValue::Utf8(Some("550e8400-e29b-41d4-a716-446655440000".to_owned())),
        ),
        (Type::Json, "[1]", "015b315d", ScalarValue::Utf8(Some("[1]".to_owned()))),
    ];
    for (of, text, binary, value) in cases {
        assert_eq!(parameter(&of, 0, text.as_bytes()).unwrap(), value, "{of}");
        assert_eq!(parameter(&of, 1, &unhex(binary)).unwrap(), value, "{of}");
        let null = decode_parameter(None, 0, &of, &settings("UTC")).unwrap();
        assert!(null.is_null() && null.data_type() == of.to_arrow());
    }
    let of = Type::Array(Box::new(Type::Integer));
    let binary = "000000010000000100000017000000030000000100000004000000010000000400000002ffffffff";
    let array = parameter(&of, 1, &unhex(binary)).unwrap();
    assert_eq!(array, parameter(&of, 0, b"{1,2,NULL}").unwrap());
    assert_eq!(array.data_type(), of.to_arrow());
}

#[test]
fn a_numeric_parameter_is_never_rounded() {
    let of = Type::Numeric(10, 2);
    let read = |text: &str| parameter(&of, 0, text.as_bytes());
    assert_eq!(read("1.5").unwrap(), ScalarValue::Decimal128(Some(150), 10, 2));
    assert_eq!(read("1.005").unwrap(), ScalarValue::Decimal128(Some(1005), 4, 3));
    assert_eq!(read("1.500").unwrap(), ScalarValue::Decimal128(Some(150), 10, 2));
    assert_eq!(read("123456789012").unwrap(), ScalarValue::Decimal128(Some(123456789012), 12, 0));
    assert_eq!(read("-0.00001").unwrap(), ScalarValue::Decimal128(Some(-1), 5, 5));
    assert_eq!(read("1e39").unwrap_err().kind(), Kind::NumericOutOfRange);
    assert_eq!(read("NaN").unwrap_err().kind(), Kind::FeatureNotSupported);
    let nan = parameter(&of, 1, &unhex("00000000c0000000")).unwrap_err();
    assert_eq!(nan.kind(), Kind::FeatureNotSupported);
    let small = parameter(&of, 1, &unhex("0001fffe0000000804ce")).unwrap();
    assert_eq!(small, ScalarValue::Decimal128(Some(1230), 8, 8));
}

#[test]
fn wrong_parameters_have_their_sqlstate() {
    let state = |of: Type, format, bytes: &[u8]| parameter(&of, format, bytes).unwrap_err();
    let error = state(Type::Integer, 0, b"x");
    assert_eq!(error.message(), "invalid input syntax for type integer: \"x\"");
    assert_eq!(error.kind(), Kind::InvalidTextRepresentation);
    assert_eq!(state(Type::Integer, 1, b"abc").kind(), Kind::InvalidBinaryRepresentation);
    assert_eq!(state(Type::SmallInt, 0, b"32768").kind(), Kind::NumericOutOfRange);
    assert_eq!(state(Type::Text, 0, b"a\0b").kind(), Kind::CharacterNotInRepertoire);
    assert_eq!(state(Type::Text, 1, b"a\0b").kind(), Kind::CharacterNotInRepertoire);
    let error = state(Type::Text, 1, b"\xff");
    assert_eq!(error.message(), "invalid byte sequence for encoding \"UTF8\": 0xff");
    assert_eq!(state(Type::Date, 0, b"x").kind(), Kind::InvalidDatetime);
    assert_eq!(state(Type::Date, 0, b"2024-02-30").kind(), Kind::DatetimeOverflow);
    assert_eq!(state(Type::Date, 1, &[0x7f, 255, 255, 255]).kind(), Kind::FeatureNotSupported);
    assert_eq!(state(Type::Text, 2, b"x").kind(), Kind::InvalidParameterValue);
    let array = Type::Array(Box::new(Type::Integer));
    for broken in [
        "0000000100000001000000170000000300000001",
        "00000001000000000000001770000000000000010000000400000001",
        "00000009",
        "00000001000000000000001900000001000000010000000400000001",
        "0000000000000000000000170000",
    ] {
        let kind = state(array.clone(), 1, &unhex(broken)).kind();
        let expected = [Kind::InvalidBinaryRepresentation, Kind::DatatypeMismatch];
        assert!(expected.contains(&kind), "{broken}");
    }
}
