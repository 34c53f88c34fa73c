//! What is accepted as a value and what is refused, compared with PostgreSQL 15.

use std::sync::Arc;

use crate::session::ValueFormat;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Field, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;

use super::ColumnBuilder;
use super::zone::Zone;

fn read_in(zone: &str, of: &Type, text: &str) -> Result<ArrayRef> {
    let format = ValueFormat { time_zone: zone.to_owned(), extra_float_digits: 1 };
    let field = of.to_field("x", true);
    let mut builder = ColumnBuilder::new(&field, &format)?;
    builder.append(Some(text))?;
    let array = builder.finish()?;
    assert_eq!(array.data_type(), field.data_type());
    assert_eq!(array.null_count(), 0);
    Ok(array)
}

fn read(of: &Type, text: &str) -> Result<ArrayRef> {
    read_in("UTC", of, text)
}

fn shown(of: &Type, text: &str) -> String {
    let array = read(of, text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    array_value_to_string(&array, 0).unwrap()
}

fn refused(of: &Type, text: &str) -> Error {
    read(of, text).expect_err(text)
}

// What is accepted, refused, and with which words, was compared with PostgreSQL 15.

#[test]
fn booleans() {
    for text in ["t", "TRUE", "Yes", "on", "1", "tru", " y "] {
        assert_eq!(shown(&Type::Boolean, text), "true", "{text}");
    }
    for text in ["f", "of", "off", "0", " f ", "n", "NO"] {
        assert_eq!(shown(&Type::Boolean, text), "false", "{text}");
    }
    for text in ["o", "yess", "", "2", "truee"] {
        let error = refused(&Type::Boolean, text);
        assert_eq!(error.kind(), Kind::InvalidTextRepresentation);
        assert_eq!(error.message(), format!("invalid input syntax for type boolean: \"{text}\""));
    }
}

#[test]
fn integers() {
    assert_eq!(shown(&Type::SmallInt, "-32768"), "-32768");
    assert_eq!(shown(&Type::SmallInt, " 7\t"), "7");
    assert_eq!(shown(&Type::Integer, "+0012"), "12");
    assert_eq!(shown(&Type::BigInt, "-9223372036854775808"), "-9223372036854775808");
    let error = refused(&Type::SmallInt, "32768");
    assert_eq!(error.kind(), Kind::NumericOutOfRange);
    assert_eq!(error.message(), "value \"32768\" is out of range for type smallint");
    let error = refused(&Type::BigInt, "9223372036854775808");
    assert_eq!(error.message(), "value \"9223372036854775808\" is out of range for type bigint");
    for text in ["", "x", "1.0", "1_0", "- 1", "0x1"] {
        let error = refused(&Type::Integer, text);
        assert_eq!(error.message(), format!("invalid input syntax for type integer: \"{text}\""));
    }
}

#[test]
fn floats() {
    assert_eq!(shown(&Type::Double, " 1.5 "), "1.5");
    assert_eq!(shown(&Type::Double, "4.9e-324"), "5e-324");
    assert_eq!(shown(&Type::Double, "-inf"), "-inf");
    assert_eq!(shown(&Type::Real, "Infinity"), "inf");
    assert_eq!(shown(&Type::Real, "nan"), "NaN");
    assert_eq!(shown(&Type::Double, "-0"), "-0.0");
    for (of, text, name) in [
        (Type::Real, "1e40", "real"),
        (Type::Real, "1e-50", "real"),
        (Type::Double, "1e400", "double precision"),
        (Type::Double, "1e-400", "double precision"),
    ] {
        let error = refused(&of, text);
        assert_eq!(error.kind(), Kind::NumericOutOfRange);
        assert_eq!(error.message(), format!("\"{text}\" is out of range for type {name}"));
    }
    for text in ["", ".", "1e", "abc", "infinit"] {
        assert_eq!(
            refused(&Type::Double, text).message(),
            format!("invalid input syntax for type double precision: \"{text}\"")
        );
    }
}

#[test]
fn numerics_round_half_away_from_zero() {
    let of = Type::Numeric(5, 2);
    for (text, unscaled) in [
        ("1.005", 101),
        ("-1.005", -101),
        ("1.0049999999999999999999999999999999999999999999999999", 100),
        ("999.994", 99999),
        ("1e2", 10000),
        ("1e-3", 0),
        ("0.005", 1),
        ("-0.005", -1),
        (".5", 50),
        ("5.", 500),
        (" +1 ", 100),
        ("0000000000000000000000000000000000000000000000001.5", 150),
        ("12345E-3", 1235),
        ("0e5", 0),
    ] {
        let array = read(&of, text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(array.as_primitive::<Decimal128Type>().value(0), unscaled, "{text}");
    }
    for text in ["999.995", "1e3", "1e99999999999", "99999999999999999999999999999999999999999"] {
        let error = refused(&of, text);
        assert_eq!(error.kind(), Kind::NumericOutOfRange, "{text}");
        assert_eq!(error.message(), "numeric field overflow");
        assert_eq!(
            error.detail(),
            Some(
                "A field with precision 5, scale 2 must round to an absolute value less than 10^3."
            )
        );
    }
    assert_eq!(
        refused(&Type::Numeric(2, 2), "1").detail(),
        Some("A field with precision 2, scale 2 must round to an absolute value less than 1.")
    );
    for text in ["", "1.2.3", "1e", "x", ".", "1e+", "--1"] {
        assert_eq!(
            refused(&of, text).message(),
            format!("invalid input syntax for type numeric: \"{text}\"")
        );
    }
    for text in ["NaN", "Infinity", "-inf"] {
        assert_eq!(refused(&of, text).kind(), Kind::FeatureNotSupported);
    }
    let all = "99999999999999999999999999999999999999";
    assert_eq!(shown(&Type::Numeric(38, 0), all), all);
    assert_eq!(refused(&Type::Numeric(38, 0), &format!("{all}.5")).kind(), Kind::NumericOutOfRange);
}

#[test]
fn bytes() {
    for (text, hex) in [
        ("\\x0aFF", "0aff"),
        ("\\x 0a ff ", "0aff"),
        ("a\\\\b\\001", "615c6201"),
        ("abc", "616263"),
        ("", ""),
        ("é", "c3a9"),
    ] {
        assert_eq!(shown(&Type::Bytea, text), hex, "{text}");
    }
    for (text, kind, message) in [
        ("\\x0", Kind::InvalidParameterValue, "invalid hexadecimal data: odd number of digits"),
        ("\\xzz", Kind::InvalidParameterValue, "invalid hexadecimal digit: \"z\""),
        ("\\x0a0é", Kind::InvalidParameterValue, "invalid hexadecimal digit: \"é\""),
        ("a\\", Kind::InvalidTextRepresentation, "invalid input syntax for type bytea"),
        ("\\400", Kind::InvalidTextRepresentation, "invalid input syntax for type bytea"),
    ] {
        let error = refused(&Type::Bytea, text);
        assert_eq!((error.kind(), error.message()), (kind, message));
    }
}

#[test]
fn dates() {
    for (text, days) in [
        ("2024-01-05", 19727),
        ("2024-1-5", 19727),
        ("2024/01/05", 19727),
        ("2024.01.05", 19727),
        ("20240105", 19727),
        (" 2024-01-05 10:00", 19727),
        ("2024-01-05T10:00:00Z", 19727),
        ("2024-01-05 +00", 19727),
        ("2024-01-05+07", 19727),
        ("0044-03-15 BC", -735160),
        ("10000-01-01", 2932897),
        ("5874897-12-31", 2145042905),
        ("4714-11-24 BC", -2440588),
        ("0001-12-31 bc", -719163),
        ("2024-02-29 AD", 19782),
        ("epoch", 0),
    ] {
        let array = read(&Type::Date, text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(array.as_primitive::<Date32Type>().value(0), days, "{text}");
    }
    for text in ["2024-02-30", "2024-13-01", "0000-01-01", "2023-02-29", "2024-00-10", "2024-01-00"]
    {
        let error = refused(&Type::Date, text);
        assert_eq!(error.kind(), Kind::DatetimeOverflow);
        assert_eq!(error.message(), format!("date/time field value out of range: \"{text}\""));
    }
    for text in ["5874898-01-01", "4714-11-23 BC"] {
        let error = refused(&Type::Date, text);
        assert_eq!(error.kind(), Kind::DatetimeOverflow);
        assert_eq!(error.message(), format!("date out of range: \"{text}\""));
    }
    // PostgreSQL guesses the order of the first; we do not.
    for text in
        ["01/02/2024", "", "x", "2024-01-05x", "2024-001-01", "2024-01", "24-01-05", "2024-01/05"]
    {
        let error = refused(&Type::Date, text);
        assert_eq!(error.kind(), Kind::InvalidDatetime, "{text}");
        assert_eq!(error.message(), format!("invalid input syntax for type date: \"{text}\""));
    }
    for text in ["infinity", "now", "TODAY"] {
        assert_eq!(refused(&Type::Date, text).kind(), Kind::FeatureNotSupported);
    }
}

const NOON: i64 = 1704449472000000; // 2024-01-05 10:11:12 UTC

#[test]
fn timestamps() {
    for (text, micros) in [
        ("2024-01-05 10:11:12", NOON),
        ("2024-01-05T10:11:12", NOON),
        ("20240105 10:11:12", NOON),
        ("2024-01-05 10:11", NOON - 12_000_000),
        ("2024-01-05", 1704412800000000),
        ("2024-01-05 24:00:00", 1704499200000000),
        ("2024-01-05 23:59:60", 1704499200000000),
        ("2024-01-05 1:2:3", 1704416523000000),
        ("2024-01-05 10:11:12.", NOON),
        ("2024-01-05 10:11:12.5", NOON + 500_000),
        ("2024-01-05 10:11:12.1234567", NOON + 123_457),
        ("2024-01-05 10:11:12.9999999", NOON + 1_000_000),
        ("2024-01-05 10:11:12+07", NOON),
        ("0044-03-15 12:00 BC", -63517780800000000),
        ("294246-12-31 23:59:59.999999", 9223371244799999999),
    ] {
        let array =
            read(&Type::Timestamp, text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(array.as_primitive::<TimestampMicrosecondType>().value(0), micros, "{text}");
    }
    for text in
        ["2024-01-05 24:00:01", "2024-01-05 23:60:00", "2024-01-05 25:00", "2024-01-05 10:11:61"]
    {
        assert_eq!(
            refused(&Type::Timestamp, text).message(),
            format!("date/time field value out of range: \"{text}\"")
        );
    }
    for text in ["2024-01-05 10", "2024-01-05 10:11:12 PM", "10:11:12", "2024-01-05 10:11:12:13"] {
        let error = refused(&Type::Timestamp, text);
        assert_eq!(error.kind(), Kind::InvalidDatetime, "{text}");
        assert_eq!(error.message(), format!("invalid input syntax for type timestamp: \"{text}\""));
    }
    for text in ["294277-01-01", "999999999-01-01", "4714-11-23 BC"] {
        let error = refused(&Type::Timestamp, text);
        assert_eq!(error.message(), format!("timestamp out of range: \"{text}\""));
        assert_eq!(error.kind(), Kind::DatetimeOverflow);
    }
}

fn instant(zone: &str, text: &str) -> i64 {
    let array = read_in(zone, &Type::TimestampTz, text).unwrap_or_else(|error| panic!("{error:?}"));
    array.as_primitive::<TimestampMicrosecondType>().value(0)
}

#[test]
fn instants() {
    const HOUR: i64 = 3_600_000_000;
    for (text, micros) in [
        ("2024-01-05 10:11:12+07", NOON - 7 * HOUR),
        ("2024-01-05 10:11:12+07:00", NOON - 7 * HOUR),
        ("2024-01-05 10:11:12 +0530", NOON - 5 * HOUR - HOUR / 2),
        ("2024-01-05 10:11:12-03:30", NOON + 3 * HOUR + HOUR / 2),
        ("2024-01-05 10:11:12+07:06:30", NOON - 7 * HOUR - 390_000_000),
        ("2024-01-05T10:11:12Z", NOON),
        ("2024-01-05 10:11:12 UTC", NOON),
        ("2024-07-05 10:11:12 CET", NOON + 182 * 24 * HOUR - HOUR),
        ("2024-01-05 +07", 1704412800000000 - 7 * HOUR),
        ("2024-01-05T10:11:12 Asia/Ho_Chi_Minh", NOON - 7 * HOUR),
        ("2024-01-05 10:11:12", NOON),
        ("0044-03-15 12:00:00+00 BC", -63517780800000000),
        ("2024-03-10 02:30 America/New_York", 1710055800000000),
        ("2024-11-03 01:30 America/New_York", 1730615400000000),
        ("epoch", 0),
    ] {
        assert_eq!(instant("UTC", text), micros, "{text}");
    }
    assert_eq!(instant("Asia/Ho_Chi_Minh", "2024-01-05 17:11:12"), NOON);
    assert_eq!(instant("America/New_York", "2024-07-01"), 1719806400000000);
    for text in ["2024-01-05 10:11:12 Nowhere", "2024-01-05 10:11:12+16", "2024-01-05 10:11:12+7:"]
    {
        let error = refused(&Type::TimestampTz, text);
        assert_eq!(error.kind(), Kind::InvalidDatetime, "{text}");
    }
    let error = refused(&Type::TimestampTz, "2024-01-05 10:11:12 No/Where");
    assert_eq!(error.message(), "time zone \"no/where\" not recognized");
    assert_eq!(error.kind(), Kind::InvalidParameterValue);
}

#[test]
fn uuids_are_stored_in_lower_case() {
    let canonical = "550e8400-e29b-41d4-a716-446655440000";
    for text in [
        "550E8400-e29b-41d4-a716-446655440000",
        "{550e8400-e29b-41d4-a716-446655440000}",
        "550e8400e29b41d4a716446655440000",
        "550e-8400-e29b-41d4-a716-4466-5544-0000",
    ] {
        assert_eq!(shown(&Type::Uuid, text), canonical, "{text}");
    }
    for text in [
        "550e8400-e29b-41d4-a716-44665544000",
        " 550e8400-e29b-41d4-a716-446655440000",
        "550e84-00e29b41d4a716446655440000",
        "550e8400e29b41d4a716446655440000-",
        "{550e8400e29b41d4a716446655440000",
        "550e8400e29b41d4a71644665544000é",
        "",
    ] {
        assert_eq!(
            refused(&Type::Uuid, text).message(),
            format!("invalid input syntax for type uuid: \"{text}\"")
        );
    }
}

#[test]
fn json_is_checked_and_kept_as_it_is() {
    for text in ["{\"a\": 1}", " [1, 2 ] ", "\"é\"", "1e400", "{\"a\":1,\"a\":2}"] {
        assert_eq!(shown(&Type::Json, text), text);
    }
    for text in ["{a:1}", "", "nul", "\"x", "{\"a\":1}x", "[1,]", "\u{a0}1"] {
        let error = refused(&Type::Json, text);
        assert_eq!(error.kind(), Kind::InvalidTextRepresentation, "{text}");
        assert_eq!(error.message(), "invalid input syntax for type json");
        assert!(error.detail().is_some());
    }
}

#[test]
fn text_is_kept_byte_for_byte() {
    for text in ["Huế", "Hue\u{302}\u{301}", "", "  007 ", "NULL", "\u{1}"] {
        assert_eq!(shown(&Type::Text, text), text);
    }
    assert_eq!(refused(&Type::Text, "a\0b").kind(), Kind::CharacterNotInRepertoire);
}

#[test]
fn varchar_counts_characters() {
    let of = Type::Varchar(3);
    assert_eq!(shown(&of, "ấấấ"), "ấấấ");
    assert_eq!(shown(&of, "abc   "), "abc");
    assert_eq!(shown(&of, "a     "), "a  ");
    assert_eq!(shown(&of, ""), "");
    let error = refused(&of, "abcd");
    assert_eq!(error.kind(), Kind::StringTooLong);
    assert_eq!(error.message(), "value too long for type character varying(3)");
    // Decomposed, each mark is a character of its own.
    assert_eq!(refused(&of, "e\u{302}\u{301}x").kind(), Kind::StringTooLong);
}

fn array_of(of: Type) -> Type {
    Type::Array(Box::new(of))
}

#[test]
fn arrays() {
    let of = array_of(Type::Integer);
    assert_eq!(shown(&of, "{1,2,NULL}"), "[1, 2, ]");
    assert_eq!(shown(&of, " { 1 , \"2\",null } "), "[1, 2, ]");
    assert_eq!(shown(&of, "{}"), "[]");
    let words = array_of(Type::Text);
    assert_eq!(
        shown(&words, r#"{a,"b c","d\"e",NULL,"NULL","",f g , h\,i,Huế}"#),
        "[a, b c, d\"e, , NULL, , f g, h,i, Huế]"
    );
    let values = read(&words, r#"{NULL,"NULL","",\NULL}"#).unwrap();
    let values = values.as_list::<i32>().values().clone();
    assert_eq!((values.null_count(), values.len()), (1, 4));
    let nested = array_of(of.clone());
    assert_eq!(shown(&nested, "{{1,2},{3,4}}"), "[[1, 2], [3, 4]]");
    assert_eq!(shown(&nested, "{{1},NULL,{}}"), "[[1], , []]");
    assert_eq!(shown(&nested, "{}"), "[]");
    for (text, detail) in [
        ("{1,,2}", "Unexpected \",\" character."),
        ("{1", "Unexpected end of input."),
        ("1,2}", "Array value must start with \"{\" or dimension information."),
        ("{1}x", "Junk after closing right brace."),
        ("{1,}", "Unexpected \"}\" character."),
        ("{{1}}", "The array has more dimensions than the column."),
        ("{\"1}", "Unexpected end of input."),
        ("{1{2}", "Unexpected \"{\" character."),
        ("", "Array value must start with \"{\" or dimension information."),
    ] {
        let error = refused(&of, text);
        assert_eq!(error.message(), format!("malformed array literal: \"{text}\""));
        assert_eq!(error.detail(), Some(detail), "{text}");
    }
    assert_eq!(
        refused(&nested, "{1}").detail(),
        Some("The array has fewer dimensions than the column.")
    );
    assert_eq!(refused(&of, "{a}").message(), "invalid input syntax for type integer: \"a\"");
    assert_eq!(refused(&of, "[0:1]={1,2}").kind(), Kind::FeatureNotSupported);
}

#[test]
fn structs_are_read_from_json_objects() {
    let of = Type::Struct(vec![
        ("n".to_owned(), Type::Numeric(38, 2)),
        ("t".to_owned(), Type::Text),
        ("j".to_owned(), Type::Json),
        ("l".to_owned(), array_of(Type::Integer)),
        ("s".to_owned(), Type::Struct(vec![("d".to_owned(), Type::Date)])),
    ]);
    let text = r#" {"t":"a,\"}:é", "n": 123456789012345678901234567890123456.78,
        "j":{"x": [1, 2]}, "l":[1,null , 3], "s":{"d":"2024-01-05"}} "#;
    let array = read(&of, text).unwrap();
    let array = array.as_struct();
    let field = |name: &str| array_value_to_string(array.column_by_name(name).unwrap(), 0).unwrap();
    assert_eq!(field("n"), "123456789012345678901234567890123456.78");
    assert_eq!(field("t"), "a,\"}:é");
    assert_eq!(field("j"), "{\"x\": [1, 2]}");
    assert_eq!(field("l"), "[1, , 3]");
    assert_eq!(field("s"), "{d: 2024-01-05}");
    let array = read(&of, "{}").unwrap();
    assert!(array.as_struct().columns().iter().all(|column| column.null_count() == 1));
    for text in ["[]", "1", "{\"z\":1}", "{\"t\":\"a\",\"t\":\"b\"}", "{\"l\":1}", "{\"l\":[{}]}"] {
        assert_eq!(refused(&of, text).kind(), Kind::InvalidTextRepresentation, "{text}");
    }
}

#[test]
fn nulls_and_empty_strings_differ() {
    let format = ValueFormat { time_zone: "UTC".to_owned(), extra_float_digits: 1 };
    let types = [
        Type::Boolean,
        Type::SmallInt,
        Type::Real,
        Type::Numeric(5, 2),
        Type::Text,
        Type::Bytea,
        Type::TimestampTz,
        array_of(Type::Text),
        Type::Struct(vec![("a".to_owned(), Type::Text)]),
    ];
    for of in types {
        let mut builder = ColumnBuilder::new(&of.to_field("x", true), &format).unwrap();
        builder.append(None).unwrap();
        builder.append_binary(None).unwrap();
        let array = builder.finish().unwrap();
        assert_eq!((array.len(), array.null_count()), (2, 2), "{of}");
        assert_eq!(builder.finish().unwrap().len(), 0);
    }
    assert_eq!(read(&Type::Text, "").unwrap().null_count(), 0);
}

#[test]
fn other_carriers_of_a_type_are_filled_too() {
    let format = ValueFormat { time_zone: "UTC".to_owned(), extra_float_digits: 1 };
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for of in [
        DataType::LargeUtf8,
        DataType::Utf8View,
        dictionary,
        DataType::Int8,
        DataType::UInt64,
        DataType::LargeList(Arc::new(Field::new("item", DataType::Int64, true))),
    ] {
        let text = if of.is_nested() && !of.is_dictionary_key_type() { "{7}" } else { "7" };
        let text = if matches!(of, DataType::Dictionary(_, _)) { "7" } else { text };
        let mut builder = ColumnBuilder::new(&Field::new("x", of.clone(), true), &format).unwrap();
        builder.append(Some(text)).unwrap();
        assert_eq!(builder.finish().unwrap().data_type(), &of);
    }
    let field = Field::new("x", DataType::Int8, true);
    let mut builder = ColumnBuilder::new(&field, &format).unwrap();
    builder.append(Some("300")).unwrap();
    assert_eq!(builder.finish().unwrap_err().kind(), Kind::NumericOutOfRange);
    let field = Field::new("x", DataType::Duration(arrow::datatypes::TimeUnit::Second), true);
    assert!(ColumnBuilder::new(&field, &format).is_err());
}

#[test]
fn messages_do_not_repeat_long_values() {
    let long = "x".repeat(1_000);
    assert!(refused(&Type::Integer, &long).message().len() < 200);
}

#[test]
fn zones_of_clauses() {
    let hours = |hours: i32| Some(Zone::Fixed(hours * 3_600));
    for (text, zone) in [
        ("CET", hours(1)),
        ("ict", hours(7)),
        ("gmt", Some(Zone::Utc)),
        ("UTC+7", hours(-7)),
        ("GMT-07:00", hours(7)),
        ("EST5", hours(-5)),
        ("<+07>-7", hours(7)),
        ("+07", hours(-7)),
        ("-03:30", Some(Zone::Fixed(12_600))),
        ("+0700", None),
        ("+16", None),
        ("7", None),
        ("", None),
        ("X+1", None),
        ("UTC+", None),
        ("UTC+1DST", None),
        ("Nowhere/Else", None),
    ] {
        assert_eq!(Zone::of_clause(text), zone, "{text}");
    }
}

#[test]
fn zones_that_never_change_their_clocks() {
    for (name, is_even) in [
        ("Asia/Ho_Chi_Minh", true),
        ("Asia/Tokyo", true),
        ("UTC", true),
        ("+07:00", true),
        ("Europe/Berlin", false),
        ("America/St_Johns", false),
        ("Africa/Casablanca", false),
    ] {
        assert_eq!(Zone::of_setting(name).unwrap().is_even(), is_even, "{name}");
    }
}

#[test]
fn the_engine_understands_what_zones_are_called() {
    for (name, of_engine) in [
        ("GMT-07:00", "+07:00"),
        ("UTC+3", "-03:00"),
        ("UTC", "UTC"),
        ("Asia/Ho_Chi_Minh", "Asia/Ho_Chi_Minh"),
    ] {
        let zone = Zone::of_setting(name).unwrap();
        assert_eq!(zone.of_engine(), of_engine);
        assert_eq!(Zone::of_setting(&zone.of_engine()).unwrap(), zone);
    }
}
