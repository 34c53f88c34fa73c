//! The text and binary forms of values, against those of PostgreSQL 15.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array,
    Decimal256Array, DictionaryArray, DurationSecondArray, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int8Array, Int32Array, IntervalDayTimeArray, IntervalMonthDayNanoArray,
    IntervalYearMonthArray, LargeStringArray, ListArray, MapArray, NullArray, RunArray,
    StringArray, StringViewArray, StructArray, Time32SecondArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Field, Fields, Int32Type, IntervalDayTime, IntervalMonthDayNano, IntervalUnit,
    Schema, SchemaRef, TimeUnit, i256,
};
use arrow::record_batch::RecordBatch;
use bytes::{Buf, BytesMut};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Kind, Result};
use kho_catalog::types::Type;
use kho_sql::input::type_of_oid;
use kho_sql::session::ValueFormat;

use super::{FormatCode, PgType, RowEncoder, decode_parameter, field_oid, oid_of_type};

fn settings(time_zone: &str) -> ValueFormat {
    ValueFormat { time_zone: time_zone.to_owned(), extra_float_digits: 1 }
}

/// The values of a column as they are sent, NULL as `None`.
fn sent_with(
    field: Field,
    array: ArrayRef,
    code: FormatCode,
    format: &ValueFormat,
) -> Result<Vec<Option<Vec<u8>>>> {
    let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![array]).unwrap();
    let mut out = BytesMut::new();
    RowEncoder::try_new(&schema, &[code], format)?.encode(&batch, &mut out)?;
    let mut values = Vec::new();
    while out.has_remaining() {
        assert_eq!(out.get_u8(), b'D');
        let mut row = out.split_to(usize::try_from(out.clone().get_i32()).unwrap());
        row.advance(4);
        assert_eq!(row.get_i16(), 1);
        let length = row.get_i32();
        values.push(usize::try_from(length).ok().map(|length| row.split_to(length).to_vec()));
        assert!(row.is_empty());
    }
    Ok(values)
}

fn sent(array: impl Array + 'static, code: FormatCode) -> Vec<Option<Vec<u8>>> {
    let field = Field::new("x", array.data_type().clone(), true);
    sent_with(field, Arc::new(array), code, &settings("UTC")).unwrap()
}

fn texts(array: impl Array + 'static) -> Vec<Option<String>> {
    as_texts(sent(array, FormatCode::Text))
}

fn as_texts(values: Vec<Option<Vec<u8>>>) -> Vec<Option<String>> {
    values.into_iter().map(|value| value.map(|value| String::from_utf8(value).unwrap())).collect()
}

fn hexes(array: impl Array + 'static) -> Vec<Option<String>> {
    let values = sent(array, FormatCode::Binary).into_iter();
    values.map(|value| value.map(|value| hex(&value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn some<const N: usize>(texts: [&str; N]) -> Vec<Option<String>> {
    texts.into_iter().map(|text| Some(text.to_owned())).collect()
}

// Expected strings in this file were printed by PostgreSQL 15.

#[test]
fn doubles_are_spelled_as_by_postgres() {
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (1e14, "100000000000000"),
        (123456789012345.0, "123456789012345"),
        (1e15, "1e+15"),
        (1234567890123456.0, "1.234567890123456e+15"),
        (1e16, "1e+16"),
        (1e20, "1e+20"),
        (1e22, "1e+22"),
        (1e23, "9.999999999999999e+22"),
        (-1e23, "-9.999999999999999e+22"),
        (9007199254740993.0, "9.007199254740992e+15"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.5e-5, "1.5e-05"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
        (std::f64::consts::PI, "3.141592653589793"),
        (1e100, "1e+100"),
        (36028797018963968.0, "3.602879701896397e+16"),
        (72057594037927936.0, "7.205759403792794e+16"),
        (8.41e21, "8.409999999999999e+21"),
        (9.5e21, "9.500000000000001e+21"),
        (2e22, "2e+22"),
        (4611686018427387904.0, "4.611686018427388e+18"),
        (18446744073709551616.0, "1.8446744073709552e+19"),
        (5e22, "4.9999999999999996e+22"),
        (123456.789, "123456.789"),
    ];
    for (value, text) in cases {
        assert_eq!(texts(Float64Array::from(vec![value])), some([text]), "{value:e}");
    }
    assert_eq!(hexes(Float64Array::from(vec![-1.5])), some(["bff8000000000000"]));
}

#[test]
fn reals_are_spelled_as_by_postgres() {
    let cases = [
        (0.1, "0.1"),
        (100000.0, "100000"),
        (999999.0, "999999"),
        (1e6, "1e+06"),
        (1234567.0, "1.234567e+06"),
        (1.5e-5, "1.5e-05"),
        (0.0001, "0.0001"),
        (1e-5, "1e-05"),
        (f32::MAX, "3.4028235e+38"),
        (1e-45, "1e-45"),
        (f32::NEG_INFINITY, "-Infinity"),
        (16777216.0, "1.6777216e+07"),
        (33554432.0, "3.3554432e+07"),
        (67108864.0, "6.7108864e+07"),
        (134217728.0, "1.3421773e+08"),
        (8388608.0, "8.388608e+06"),
        (9.5e9, "9.5e+09"),
        (1e10, "1e+10"),
        (8.5e9, "8.4999997e+09"),
        (4294967296.0, "4.2949673e+09"),
    ];
    for (value, text) in cases {
        assert_eq!(texts(Float32Array::from(vec![value])), some([text]), "{value:e}");
    }
    assert_eq!(hexes(Float32Array::from(vec![0.1])), some(["3dcccccd"]));
}

#[test]
fn fewer_float_digits_can_be_asked_for() {
    let shown = |digits: i32, array: ArrayRef| {
        let format = ValueFormat { time_zone: "UTC".to_owned(), extra_float_digits: digits };
        let field = Field::new("x", array.data_type().clone(), true);
        as_texts(sent_with(field, array, FormatCode::Text, &format).unwrap())
    };
    let doubles = |values: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    assert_eq!(
        shown(0, doubles(&[0.1, std::f64::consts::PI, 1e15, 123456789012345678.0])),
        some(["0.1", "3.14159265358979", "1e+15", "1.23456789012346e+17"])
    );
    assert_eq!(
        shown(-3, doubles(&[std::f64::consts::PI, 0.0, -0.0])),
        some(["3.14159265359", "0", "-0"])
    );
    assert_eq!(shown(-15, doubles(&[12345.0])), some(["1e+04"]));
    assert_eq!(shown(0, Arc::new(Float32Array::from(vec![0.1]))), some(["0.1"]));
    assert_eq!(shown(-3, Arc::new(Float32Array::from(vec![123456.7]))), some(["1.23e+05"]));
}

#[test]
fn numerics_keep_every_digit() {
    let cases = [
        ("0", 0, "0", "0000000000000000"),
        ("0", 2, "0.00", "0000000000000002"),
        ("1", 0, "1", "00010000000000000001"),
        ("-1", 0, "-1", "00010000400000000001"),
        ("150", 2, "1.50", "000200000000000200011388"),
        ("123456789", 4, "12345.6789", "0003000100000004000109291a85"),
        ("1", 4, "0.0001", "0001ffff000000040001"),
        ("10", 5, "0.00010", "0001ffff000000050001"),
        ("10000", 0, "10000", "00010001000000000001"),
        ("100000000", 0, "100000000", "00010002000000000001"),
        (
            "99999999999999999999999999999999999999",
            0,
            "99999999999999999999999999999999999999",
            "000a0009000000000063270f270f270f270f270f270f270f270f270f",
        ),
        ("-1", 38, "-0.00000000000000000000000000000000000001", "0001fff6400000260064"),
        ("1234", 1, "123.4", "0002000000000001007b0fa0"),
        ("5", 2, "0.05", "0001ffff0000000201f4"),
        ("200000000", 4, "20000.0000", "00010001000000040002"),
        ("1230", 8, "0.00001230", "0001fffe0000000804ce"),
        ("12", -3, "12000", "00020001000000000001 07d0"),
    ];
    for (unscaled, scale, text, binary) in cases {
        let array = Decimal128Array::from(vec![unscaled.parse::<i128>().unwrap()])
            .with_precision_and_scale(38, scale)
            .unwrap();
        assert_eq!(texts(array.clone()), some([text]));
        assert_eq!(hexes(array), some([binary.replace(' ', "").as_str()]), "{text}");
    }
}

#[test]
fn numerics_have_up_to_76_digits() {
    let digits = "1234567890123456789012345678901234567890123456789012345678901234567890123456";
    let groups = "04d2162e23340d801ed204d2162e23340d801ed204d2162e23340d801ed204d2162e23340d80";
    let whole = Decimal256Array::from(vec![digits.parse::<i256>().unwrap()])
        .with_precision_and_scale(76, 0)
        .unwrap();
    assert_eq!(texts(whole.clone()), some([digits]));
    assert_eq!(hexes(whole), some([format!("0013001200000000{groups}").as_str()]));
    let fraction = Decimal256Array::from(vec![digits.parse::<i256>().unwrap()])
        .with_precision_and_scale(76, 76)
        .unwrap();
    assert_eq!(texts(fraction.clone()), some([format!("0.{digits}").as_str()]));
    assert_eq!(hexes(fraction), some([format!("0013ffff0000004c{groups}").as_str()]));
}

#[test]
fn numerics_read_back_from_binary() {
    for scale in 0..=12_u8 {
        let magnitudes = (0..20).map(|power| 10_i128.pow(power) * 10 / 3);
        let values: Vec<i128> = magnitudes
            .flat_map(|value| [value, -value, value + 7, value / 10_000 * 10_000])
            .chain([0, i128::from(u64::MAX), i128::from(u64::MAX) + 1])
            .collect();
        let array = Decimal128Array::from(values.clone())
            .with_precision_and_scale(38, i8::try_from(scale).unwrap())
            .unwrap();
        let of = Type::Numeric(38, scale);
        for (value, bytes) in values.iter().zip(sent(array, FormatCode::Binary)) {
            let read = decode_parameter(bytes.as_deref(), 1, &of, &settings("UTC")).unwrap();
            let scale = i8::try_from(scale).unwrap();
            assert_eq!(read, ScalarValue::Decimal128(Some(*value), 38, scale));
        }
    }
}

#[test]
fn integers_widen() {
    assert_eq!(hexes(Int8Array::from(vec![-1])), some(["ffff"]));
    assert_eq!(hexes(UInt8Array::from(vec![255])), some(["00ff"]));
    assert_eq!(hexes(UInt16Array::from(vec![65535])), some(["0000ffff"]));
    assert_eq!(hexes(UInt32Array::from(vec![u32::MAX])), some(["ffffffff"]));
    assert_eq!(texts(UInt64Array::from(vec![u64::MAX])), some(["18446744073709551615"]));
    let numeric = numeric_of_u64_max();
    assert_eq!(hexes(UInt64Array::from(vec![u64::MAX])), some([numeric.as_str()]));
    assert_eq!(
        texts(Int32Array::from(vec![Some(i32::MIN), None])),
        vec![Some("-2147483648".to_owned()), None]
    );
}

/// 1844 6744 0737 0955 1615 in groups of four.
fn numeric_of_u64_max() -> String {
    let groups = [1844, 6744, 737, 955, 1615].map(|group: u16| format!("{group:04x}"));
    format!("0005000400000000{}", groups.concat())
}

#[test]
fn dates_reach_from_bc_beyond_the_year_9999() {
    let days = vec![0, 10957, 10956, 19782, -719162, -719163, -735160, -2440588, 2932896, 2932897];
    assert_eq!(
        texts(Date32Array::from(days.clone())),
        some([
            "1970-01-01",
            "2000-01-01",
            "1999-12-31",
            "2024-02-29",
            "0001-01-01",
            "0001-12-31 BC",
            "0044-03-15 BC",
            "4714-11-24 BC",
            "9999-12-31",
            "10000-01-01",
        ])
    );
    assert_eq!(
        hexes(Date32Array::from(days)),
        some([
            "ffffd533", "00000000", "ffffffff", "00002279", "fff4dbf9", "fff4dbf8", "fff49d7b",
            "ffda97a7", "002c95d3", "002c95d4",
        ])
    );
    assert_eq!(texts(Date32Array::from(vec![2145042905])), some(["5874897-12-31"]));
    assert_eq!(texts(Date64Array::from(vec![-1, 86_400_000])), some(["1969-12-31", "1970-01-02"]));
}

#[test]
fn timestamps_trim_their_fractions() {
    let micros = vec![
        0,
        1704449472000000,
        1704449472500000,
        1704449472000001,
        1704449472123450,
        -63517780800000000,
        9223371244799999999,
        -210866803200000000,
        -1,
        946684800000000,
    ];
    let array = TimestampMicrosecondArray::from(micros);
    assert_eq!(
        texts(array.clone()),
        some([
            "1970-01-01 00:00:00",
            "2024-01-05 10:11:12",
            "2024-01-05 10:11:12.5",
            "2024-01-05 10:11:12.000001",
            "2024-01-05 10:11:12.12345",
            "0044-03-15 12:00:00 BC",
            "294246-12-31 23:59:59.999999",
            "4714-11-24 00:00:00 BC",
            "1969-12-31 23:59:59.999999",
            "2000-01-01 00:00:00",
        ])
    );
    assert_eq!(
        hexes(array),
        some([
            "fffca2fec4c82000",
            "0002b12ed6191000",
            "0002b12ed620b120",
            "0002b12ed6191001",
            "0002b12ed61af23a",
            "ff1af9e8fb46d000",
            "7ffca2465aa35fff",
            "fd0f7cc1411fa000",
            "fffca2fec4c81fff",
            "0000000000000000",
        ])
    );
}

#[test]
fn timestamps_come_in_all_units() {
    assert_eq!(texts(TimestampSecondArray::from(vec![-1])), some(["1969-12-31 23:59:59"]));
    assert_eq!(texts(TimestampMillisecondArray::from(vec![1])), some(["1970-01-01 00:00:00.001"]));
    assert_eq!(
        texts(TimestampNanosecondArray::from(vec![1_999, -1])),
        some(["1970-01-01 00:00:00.000001", "1969-12-31 23:59:59.999999"])
    );
    let array: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
    let field = Field::new("x", array.data_type().clone(), true);
    let error = sent_with(field, array, FormatCode::Text, &settings("UTC")).unwrap_err();
    assert_eq!(error.kind(), Kind::DatetimeOverflow);
}

fn instants(time_zone: &str, micros: &[i64]) -> Vec<Option<String>> {
    let array = TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC");
    let field = Field::new("x", array.data_type().clone(), true);
    let values = sent_with(field, Arc::new(array), FormatCode::Text, &settings(time_zone));
    as_texts(values.unwrap())
}

#[test]
fn instants_are_shown_in_the_time_zone_of_the_session() {
    assert_eq!(
        instants("Asia/Ho_Chi_Minh", &[1704449472000000, 1704499199900000, 327403382400000000]),
        some(["2024-01-05 17:11:12+07", "2024-01-06 06:59:59.9+07", "12345-01-01 07:00:00+07",])
    );
    assert_eq!(instants("Asia/Kolkata", &[1704449472000000]), some(["2024-01-05 15:41:12+05:30"]));
    assert_eq!(
        instants("America/St_Johns", &[1704449472000000]),
        some(["2024-01-05 06:41:12-03:30"])
    );
    assert_eq!(
        instants("America/New_York", &[1710053999000000, 1710054000000000, -5364644638000000]),
        some(["2024-03-10 01:59:59-05", "2024-03-10 03:00:00-04", "1800-01-01 00:00:00-04:56:02",])
    );
    assert_eq!(instants("utc", &[-63517780800000000]), some(["0044-03-15 12:00:00+00 BC"]));
    assert_eq!(instants("+07:00", &[0]), some(["1970-01-01 07:00:00+07"]));
    assert_eq!(instants("asia/ho_chi_minh", &[0]), some(["1970-01-01 08:00:00+08"]));
}

#[test]
fn an_unknown_time_zone_is_refused() {
    let schema: SchemaRef = Arc::new(Schema::empty());
    let error = RowEncoder::try_new(&schema, &[], &settings("Nowhere/Else")).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidParameterValue);
    assert_eq!(error.message(), "invalid value for parameter \"TimeZone\": \"Nowhere/Else\"");
}

#[test]
fn times_of_day() {
    let array = Time64MicrosecondArray::from(vec![0, 86399999999, 86400000000, 45296700000]);
    assert_eq!(
        texts(array.clone()),
        some(["00:00:00", "23:59:59.999999", "24:00:00", "12:34:56.7"])
    );
    assert_eq!(
        hexes(array),
        some(["0000000000000000", "000000141dd75fff", "000000141dd76000", "0000000a8be4ca60"])
    );
    assert_eq!(texts(Time32SecondArray::from(vec![61])), some(["00:01:01"]));
}

#[test]
fn intervals_are_spelled_as_by_postgres() {
    let cases = [
        (0, 0, 0, "00:00:00", "00000000000000000000000000000000"),
        (0, 1, 0, "1 day", "00000000000000000000000100000000"),
        (0, -1, 0, "-1 days", "0000000000000000ffffffff00000000"),
        (1, 0, 0, "1 mon", "00000000000000000000000000000001"),
        (14, 0, 0, "1 year 2 mons", "0000000000000000000000000000000e"),
        (-14, 0, 0, "-1 years -2 mons", "000000000000000000000000fffffff2"),
        (
            14,
            3,
            14706789000,
            "1 year 2 mons 3 days 04:05:06.789",
            "000000036c97ca88000000030000000e",
        ),
        (
            -14,
            3,
            -14706789000,
            "-1 years -2 mons +3 days -04:05:06.789",
            "fffffffc9368357800000003fffffff2",
        ),
        (1, -1, 0, "1 mon -1 days", "0000000000000000ffffffff00000001"),
        (-1, 1, 0, "-1 mons +1 day", "000000000000000000000001ffffffff"),
        (0, -1, 14700000000, "-1 days +04:05:00", "000000036c303300ffffffff00000000"),
        (0, 1, -14700000000, "1 day -04:05:00", "fffffffc93cfcd000000000100000000"),
        (0, 0, 360000000000, "100:00:00", "00000053d1ac10000000000000000000"),
        (0, 0, -1, "-00:00:00.000001", "ffffffffffffffff0000000000000000"),
        (1, -1, 1000000, "1 mon -1 days +00:00:01", "00000000000f4240ffffffff00000001"),
    ];
    for (months, days, micros, text, binary) in cases {
        let value = IntervalMonthDayNano::new(months, days, micros * 1_000);
        let array = IntervalMonthDayNanoArray::from(vec![Some(value), None]);
        assert_eq!(texts(array.clone()), vec![Some(text.to_owned()), None]);
        assert_eq!(hexes(array), vec![Some(binary.to_owned()), None]);
    }
    assert_eq!(texts(IntervalYearMonthArray::from(vec![-25])), some(["-2 years -1 mons"]));
    let day_time = IntervalDayTime::new(2, -1_500);
    assert_eq!(texts(IntervalDayTimeArray::from(vec![day_time])), some(["2 days -00:00:01.5"]));
    assert_eq!(texts(DurationSecondArray::from(vec![90_000])), some(["1 day 01:00:00"]));
}

#[test]
fn text_passes_byte_for_byte() {
    let texts_in = ["Huế", "Hue\u{302}\u{301}", "", " 007 ", "tab\tnl\n\u{1}"];
    let shown = some(texts_in);
    assert_eq!(texts(StringArray::from(texts_in.to_vec())), shown);
    assert_eq!(texts(LargeStringArray::from(texts_in.to_vec())), shown);
    assert_eq!(texts(StringViewArray::from(texts_in.to_vec())), shown);
    assert_eq!(as_texts(sent(StringArray::from(texts_in.to_vec()), FormatCode::Binary)), shown);
}

#[test]
fn bytes_are_hexadecimal() {
    let array = BinaryArray::from(vec![Some(&b"\x00\xff\\"[..]), Some(b""), None]);
    assert_eq!(texts(array.clone()), [Some("\\x00ff5c".to_owned()), Some("\\x".to_owned()), None]);
    assert_eq!(hexes(array), [Some("00ff5c".to_owned()), Some(String::new()), None]);
    let fixed = FixedSizeBinaryArray::try_from_iter([[1_u8, 2]].into_iter()).unwrap();
    assert_eq!(texts(fixed), some(["\\x0102"]));
}

#[test]
fn uuids_are_sixteen_bytes_in_binary() {
    let text = "550e8400-e29b-41d4-a716-446655440000";
    let field = || Type::Uuid.to_field("x", true);
    let array = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let binary = sent_with(field(), array(text), FormatCode::Binary, &settings("UTC")).unwrap();
    assert_eq!(hex(binary[0].as_deref().unwrap()), text.replace('-', ""));
    let error = sent_with(field(), array("x"), FormatCode::Binary, &settings("UTC")).unwrap_err();
    assert_eq!(error.kind(), Kind::DataCorrupted);
}

#[test]
fn booleans_and_nulls() {
    let array = BooleanArray::from(vec![Some(true), Some(false), None]);
    assert_eq!(texts(array.clone()), [Some("t".to_owned()), Some("f".to_owned()), None]);
    assert_eq!(hexes(array), [Some("01".to_owned()), Some("00".to_owned()), None]);
    assert_eq!(texts(NullArray::new(2)), [None, None]);
}

fn list_of(values: ArrayRef, lengths: &[usize]) -> ListArray {
    let element = Arc::new(Field::new("element", values.data_type().clone(), true));
    ListArray::new(element, OffsetBuffer::from_lengths(lengths.iter().copied()), values, None)
}

#[test]
fn arrays_are_quoted_as_by_postgres() {
    let words = StringArray::from(vec![
        Some("a"),
        Some("b c"),
        Some(""),
        Some("NULL"),
        Some("null"),
        Some("a\"b"),
        Some("a\\b"),
        Some("{x}"),
        Some("a,b"),
        Some("a\tb"),
        None,
        Some("xin chào"),
        Some("a'b"),
        Some(" a"),
        Some("nul"),
    ]);
    let array = list_of(Arc::new(words), &[15]);
    assert_eq!(
        texts(array.clone()),
        some([concat!(
            r#"{a,"b c","","NULL","null","a\"b","a\\b","{x}","a,b","a"#,
            "\tb",
            r#"",NULL,"xin chào",a'b," a",nul}"#
        )])
    );
    assert_eq!(
        hexes(array),
        some([concat!(
            "0000000100000001000000190000000f0000000100000001610000000362206300000000000000",
            "044e554c4c",
            "000000046e756c6c0000000361226200000003615c62000000037b787d00000003612c62000000",
            "03610962ff",
            "ffffff0000000978696e206368c3a06f00000003612762000000022061000000036e756c"
        )])
    );
}

#[test]
fn arrays_of_every_kind() {
    let numbers = Int32Array::from(vec![Some(1), Some(2), None]);
    let array = list_of(Arc::new(numbers), &[3, 0]);
    assert_eq!(texts(array.clone()), some(["{1,2,NULL}", "{}"]));
    assert_eq!(
        hexes(array),
        some([
            "000000010000000100000017000000030000000100000004000000010000000400000002ffffffff",
            "000000000000000000000017",
        ])
    );
    let times = TimestampMicrosecondArray::from(vec![1704449472000000]);
    assert_eq!(texts(list_of(Arc::new(times), &[1])), some(["{\"2024-01-05 10:11:12\"}"]));
    let dates = Date32Array::from(vec![19727, -735160]);
    assert_eq!(texts(list_of(Arc::new(dates), &[2])), some(["{2024-01-05,\"0044-03-15 BC\"}"]));
    let bytes = BinaryArray::from(vec![&b"\x01\x02"[..]]);
    assert_eq!(texts(list_of(Arc::new(bytes), &[1])), some([r#"{"\\x0102"}"#]));
    let floats = Float64Array::from(vec![f64::NAN, 1e20]);
    assert_eq!(texts(list_of(Arc::new(floats), &[2])), some(["{NaN,1e+20}"]));
    let intervals = IntervalMonthDayNanoArray::from(vec![
        IntervalMonthDayNano::new(0, 1, 0),
        IntervalMonthDayNano::new(0, 0, 3_600_000_000_000),
    ]);
    assert_eq!(texts(list_of(Arc::new(intervals), &[2])), some(["{\"1 day\",01:00:00}"]));
}

#[test]
fn nested_arrays_are_dimensions() {
    let numbers = Int32Array::from(vec![Some(1), Some(2), Some(3), None]);
    let array = list_of(Arc::new(list_of(Arc::new(numbers.clone()), &[2, 2])), &[2]);
    assert_eq!(texts(array.clone()), some(["{{1,2},{3,NULL}}"]));
    assert_eq!(
        hexes(array),
        some([concat!(
            "000000020000000100000017000000020000000100000002000000010000000400000001000000",
            "0400000002",
            "0000000400000003ffffffff"
        )])
    );
    let ragged: ArrayRef = Arc::new(list_of(Arc::new(list_of(Arc::new(numbers), &[1, 3])), &[2]));
    let field = Field::new("x", ragged.data_type().clone(), true);
    let send = |code| sent_with(field.clone(), ragged.clone(), code, &settings("UTC"));
    assert_eq!(as_texts(send(FormatCode::Text).unwrap()), some(["{{1},{2,3,NULL}}"]));
    assert_eq!(send(FormatCode::Binary).unwrap_err().kind(), Kind::FeatureNotSupported);
}

#[test]
fn structs_are_json_objects_as_by_row_to_json() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int32Array::from(vec![1]))),
        ("b", Arc::new(StringArray::from(vec!["q\"\\/é\t\u{1}"]))),
        ("c", Arc::new(Int32Array::from(vec![None]))),
        ("d", Arc::new(BooleanArray::from(vec![true]))),
        ("e", Arc::new(Float64Array::from(vec![f64::NAN]))),
        ("f", Arc::new(Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).unwrap())),
        ("g", Arc::new(TimestampMicrosecondArray::from(vec![1704449472000000]))),
        (
            "h",
            Arc::new(TimestampMicrosecondArray::from(vec![1704449472500000]).with_timezone("UTC")),
        ),
        ("i", Arc::new(BinaryArray::from(vec![&b"\x01"[..]]))),
        ("j", Arc::new(list_of(Arc::new(Int32Array::from(vec![Some(1), None])), &[2]))),
        ("k", Arc::new(StringArray::from(vec!["{\"z\": 1}"]))),
        ("l", Arc::new(Date32Array::from(vec![19727]))),
        ("m", Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(0, 1, 0)]))),
        ("n", Arc::new(Float64Array::from(vec![1e20]))),
        ("o", Arc::new(Time32SecondArray::from(vec![43_200]))),
        ("p", Arc::new(Date32Array::from(vec![-735160]))),
        ("q", Arc::new(TimestampMicrosecondArray::from(vec![-63517780800000000]))),
    ];
    let fields: Fields = columns
        .iter()
        .map(|(name, array)| match *name {
            "k" => Type::Json.to_field(name, true),
            _ => Field::new(*name, array.data_type().clone(), true),
        })
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let array: ArrayRef = Arc::new(StructArray::new(fields, arrays, None));
    let field = Field::new("x", array.data_type().clone(), true);
    assert_eq!(field_oid(&field).oid, 114);
    let json = concat!(
        r#"{"a":1,"b":"q\"\\/é\t\u0001","c":null,"d":true,"e":"NaN","f":1.50,"#,
        r#""g":"2024-01-05T10:11:12","h":"2024-01-05T17:11:12.5+07:00","i":"\\x01","j":[1,null],"#,
        r#""k":{"z": 1},"l":"2024-01-05","m":"1 day","n":1e+20,"o":"12:00:00","#,
        r#""p":"0044-03-15 BC","q":"0044-03-15T12:00:00 BC"}"#
    );
    for code in [FormatCode::Text, FormatCode::Binary] {
        let format = settings("Asia/Ho_Chi_Minh");
        let values = sent_with(field.clone(), array.clone(), code, &format).unwrap();
        assert_eq!(as_texts(values), some([json]));
    }
    // Inside of an array the object is an element's text.
    let pair = StructArray::from(vec![(
        Arc::new(Field::new("a", DataType::Utf8, true)),
        Arc::new(StringArray::from(vec!["x\"y"])) as ArrayRef,
    )]);
    assert_eq!(texts(list_of(Arc::new(pair), &[1])), some([r#"{"{\"a\":\"x\\\"y\"}"}"#]));
}

#[test]
fn maps_are_json_objects() {
    let entries = StructArray::from(vec![
        (
            Arc::new(Field::new("keys", DataType::Int32, false)),
            Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("values", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("Huế"), None])) as ArrayRef,
        ),
    ]);
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map = MapArray::new(field, OffsetBuffer::from_lengths([2, 0]), entries, None, false);
    assert_eq!(texts(map), some([r#"{"1":"Huế","2":null}"#, "{}"]));
}

#[test]
fn dictionaries_and_runs_are_followed() {
    let words = StringArray::from(vec![Some("b"), None]);
    let keys = Int32Array::from(vec![Some(0), Some(1), None, Some(0)]);
    let dictionary = DictionaryArray::<Int32Type>::new(keys, Arc::new(words));
    let expected = [Some("b".to_owned()), None, None, Some("b".to_owned())];
    assert_eq!(texts(dictionary.clone()), expected);
    assert_eq!(texts(dictionary.slice(1, 3)), expected[1..]);
    let empty = DictionaryArray::<Int32Type>::new(
        Int32Array::from(vec![None]),
        Arc::new(StringArray::new_null(0)),
    );
    assert_eq!(texts(empty), [None]);
    let ends = Int32Array::from(vec![2, 3]);
    let runs =
        RunArray::<Int32Type>::try_new(&ends, &Int32Array::from(vec![Some(7), None])).unwrap();
    assert_eq!(texts(runs.clone()), [Some("7".to_owned()), Some("7".to_owned()), None]);
    assert_eq!(texts(runs.slice(1, 2)), [Some("7".to_owned()), None]);
    let uuid = DictionaryArray::<Int32Type>::new(
        Int32Array::from(vec![0]),
        Arc::new(StringArray::from(vec!["550e8400-e29b-41d4-a716-446655440000"])),
    );
    let field = Field::new("x", uuid.data_type().clone(), true)
        .with_metadata(Type::Uuid.to_field("x", true).metadata().clone());
    let values = sent_with(field, Arc::new(uuid), FormatCode::Binary, &settings("UTC")).unwrap();
    assert_eq!(values[0].as_ref().unwrap().len(), 16);
}

#[test]
fn formats_are_none_one_or_each() {
    let fields =
        vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)];
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let encoder = |formats: &[FormatCode]| RowEncoder::try_new(&schema, formats, &settings("UTC"));
    use FormatCode::{Binary, Text};
    assert_eq!(encoder(&[]).unwrap().formats(), [Text, Text]);
    assert_eq!(encoder(&[Binary]).unwrap().formats(), [Binary, Binary]);
    assert_eq!(encoder(&[Binary, Text]).unwrap().formats(), [Binary, Text]);
    let error = encoder(&[Text; 3]).unwrap_err();
    assert_eq!(error.kind(), Kind::ProtocolViolation);
    assert_eq!(error.message(), "bind message has 3 result formats but query has 2 columns");
    assert_eq!(FormatCode::try_from(2).unwrap_err().message(), "unsupported format code: 2");
}

#[test]
fn rows_can_be_taken_in_parts_and_a_failed_one_leaves_nothing() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Timestamp(TimeUnit::Second, None), true),
    ]));
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int32Array::from(vec![1, 2, 3])),
            Arc::new(TimestampSecondArray::from(vec![0, 0, i64::MAX])),
        ],
    )
    .unwrap();
    let encoder = RowEncoder::try_new(&schema, &[FormatCode::Binary], &settings("UTC")).unwrap();
    let mut out = BytesMut::new();
    assert_eq!(encoder.encode_some(&batch, 1, 1, &mut out).unwrap(), 1);
    let row = "44000000 1a 0002 00000004 00000002 00000008 fffca2fec4c82000".replace(' ', "");
    assert_eq!(hex(&out), row);
    assert_eq!(encoder.encode_some(&batch, 3, 5, &mut out).unwrap(), 0);
    assert_eq!(encoder.encode_bounded(&batch, 0, 9, 1, &mut out).unwrap(), 1);
    assert_eq!(out.len(), 2 * row.len() / 2);
    assert!(encoder.encode_some(&batch, 2, 1, &mut out).is_err());
    assert_eq!(out.len(), 2 * row.len() / 2);
}

#[test]
fn oids_lengths_and_modifiers() {
    let of = |data_type: DataType| field_oid(&Field::new("x", data_type, true));
    let kind = |oid, length, modifier| PgType { oid, length, modifier };
    assert_eq!(of(DataType::Decimal128(10, 2)), kind(1700, -1, 655366));
    assert_eq!(of(DataType::Decimal256(76, 3)), kind(1700, -1, (76 << 16 | 3) + 4));
    assert_eq!(of(DataType::Decimal128(10, -2)), kind(1700, -1, -1));
    assert_eq!(of(DataType::UInt64).oid, 1700);
    assert_eq!(of(DataType::Interval(IntervalUnit::DayTime)), kind(1186, 16, -1));
    assert_eq!(of(DataType::Time64(TimeUnit::Nanosecond)), kind(1083, 8, -1));
    assert_eq!(of(DataType::Duration(TimeUnit::Second)).oid, 1186);
    assert_eq!(of(DataType::Null).oid, 25);
    assert_eq!(of(DataType::FixedSizeBinary(3)).oid, 17);
    let dictionary = |of| DataType::Dictionary(Box::new(DataType::Int32), Box::new(of));
    assert_eq!(of(dictionary(DataType::Utf8)).oid, 25);
    assert_eq!(of(dictionary(DataType::Time32(TimeUnit::Second))).oid, 1083);
    let varchar = Type::Varchar(20).to_field("x", true);
    assert_eq!(field_oid(&varchar), kind(1043, -1, 24));
    let nested = Type::Array(Box::new(Type::Array(Box::new(Type::Numeric(5, 2)))));
    assert_eq!(field_oid(&nested.to_field("x", true)), kind(1231, -1, (5 << 16 | 2) + 4));
    let objects = Type::Array(Box::new(Type::Struct(vec![("a".to_owned(), Type::Text)])));
    assert_eq!(field_oid(&objects.to_field("x", true)).oid, 199);
}

#[test]
fn every_type_has_an_oid_that_gives_it_back() {
    let scalars = [
        Type::Boolean,
        Type::SmallInt,
        Type::Integer,
        Type::BigInt,
        Type::Real,
        Type::Double,
        Type::Numeric(38, 10),
        Type::Text,
        Type::Bytea,
        Type::Date,
        Type::Timestamp,
        Type::TimestampTz,
        Type::Uuid,
        Type::Json,
    ];
    for of in scalars {
        assert_eq!(type_of_oid(oid_of_type(&of)), Some(of.clone()));
        let array = Type::Array(Box::new(of));
        assert_eq!(type_of_oid(oid_of_type(&array)), Some(array));
    }
    assert_eq!(type_of_oid(1043), Some(Type::Text));
    assert_eq!(type_of_oid(3802), Some(Type::Json));
    assert_eq!(type_of_oid(26), Some(Type::BigInt));
    assert_eq!(type_of_oid(1083), None);
    assert_eq!(type_of_oid(0), None);
}
