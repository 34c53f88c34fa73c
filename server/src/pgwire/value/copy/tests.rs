//! The formats of `COPY`, against what PostgreSQL 15 wrote and accepted.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::{Buf, BytesMut};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use kho_sql::copy::{CopyFormat, CopyHeader, CopyOptions};
use kho_sql::session::ValueFormat;

use super::{BINARY_SIGNATURE, CopyDecoder, CopyEncoder};

fn settings() -> ValueFormat {
    ValueFormat { time_zone: "UTC".to_owned(), extra_float_digits: 1 }
}

fn text() -> CopyOptions {
    CopyOptions {
        format: CopyFormat::Text,
        delimiter: b'\t',
        null: "\\N".to_owned(),
        header: CopyHeader::Absent,
        quote: b'"',
        escape: b'"',
        force_quote: Vec::new(),
        force_not_null: Vec::new(),
        force_null: Vec::new(),
    }
}

fn csv() -> CopyOptions {
    CopyOptions { format: CopyFormat::Csv, delimiter: b',', null: String::new(), ..text() }
}

fn binary() -> CopyOptions {
    CopyOptions { format: CopyFormat::Binary, ..text() }
}

/// `a int, b text`.
fn pair() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Utf8, true),
    ]))
}

fn single() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("b", DataType::Utf8, true)]))
}

fn decode(schema: &SchemaRef, options: &CopyOptions, pieces: &[&[u8]]) -> Result<Vec<RecordBatch>> {
    let mut decoder = CopyDecoder::try_new(schema, options, &settings())?;
    let mut batches = Vec::new();
    for piece in pieces {
        batches.extend(decoder.push(piece)?);
    }
    batches.extend(decoder.finish()?);
    Ok(batches)
}

/// Rows as text, written by the encoder; the data is given whole, and again byte by byte.
fn rows(schema: &SchemaRef, options: &CopyOptions, data: impl AsRef<[u8]>) -> Vec<String> {
    let data = data.as_ref();
    let whole = decode(schema, options, &[data]).unwrap_or_else(|error| panic!("{error:?}"));
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    let pieces = decode(schema, options, &bytes).unwrap_or_else(|error| panic!("{error:?}"));
    let shown = encode(schema, &CopyOptions { null: "<NULL>".to_owned(), ..text() }, &whole);
    let again = encode(schema, &CopyOptions { null: "<NULL>".to_owned(), ..text() }, &pieces);
    assert_eq!(shown, again);
    String::from_utf8(shown.concat()).unwrap().lines().map(str::to_owned).collect()
}

fn refused(schema: &SchemaRef, options: &CopyOptions, data: impl AsRef<[u8]>) -> Error {
    let data = data.as_ref();
    let whole = decode(schema, options, &[data]).unwrap_err();
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    let pieces = decode(schema, options, &bytes).unwrap_err();
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    whole
}

/// The bytes of each message.
fn encode(schema: &SchemaRef, options: &CopyOptions, batches: &[RecordBatch]) -> Vec<Vec<u8>> {
    let mut encoder = CopyEncoder::try_new(schema, options, &settings()).unwrap();
    let mut out = BytesMut::new();
    encoder.start(&mut out).unwrap();
    for batch in batches {
        encoder.encode(batch, &mut out).unwrap();
    }
    encoder.finish(&mut out).unwrap();
    let mut messages = Vec::new();
    while out.has_remaining() {
        assert_eq!(out.get_u8(), b'd');
        let length = usize::try_from(out.get_i32()).unwrap() - 4;
        messages.push(out.split_to(length).to_vec());
    }
    messages
}

fn encoded(schema: &SchemaRef, options: &CopyOptions, batch: RecordBatch) -> String {
    String::from_utf8(encode(schema, options, &[batch]).concat()).unwrap()
}

fn detail_of(error: &Error) -> &str {
    error.detail().unwrap_or_default()
}

// What each data gives, in rows or words, was compared with PostgreSQL 15.

#[test]
fn text_is_read_with_its_escapes() {
    let read = |data: &[u8]| rows(&pair(), &text(), data);
    assert_eq!(read(b"1\tx\n2\t\\N\n"), ["1\tx", "2\t<NULL>"]);
    assert_eq!(read(b"1\tx"), ["1\tx"]);
    assert_eq!(read(b"1\t\n"), ["1\t"]);
    assert_eq!(read(b"1\ta\\tb\\\\c\\n\\x41\\101\\q\\\td\\xg\n"), ["1\ta\\tb\\\\c\\nAAq\\tdxg"]);
    assert_eq!(read(b"1\tx\\\ny\n"), ["1\tx\\ny"]);
    assert_eq!(read(b"1\tx\r\n2\ty\r\n"), ["1\tx", "2\ty"]);
    assert_eq!(read(b"1\tx\r2\ty\r"), ["1\tx", "2\ty"]);
    assert_eq!(read(b"1\tx\n\\.\n2\ty\n"), ["1\tx"]);
    assert_eq!(read(b"1\tx\\.\n"), ["1\tx"]);
    assert_eq!(read(b"\\N\tNULL\n"), ["<NULL>\tNULL"]);
    assert_eq!(read(b"1\t\\N \n"), ["1\tN "]);
    assert_eq!(read(b"1\tx\\"), ["1\tx"]);
    assert_eq!(read(b"1\t\\N\\"), ["1\t<NULL>"]);
    assert_eq!(read(b"1\t\\xc3\\xa9\n"), ["1\té"]);
    assert_eq!(rows(&single(), &text(), "\na\n\\N\n"), ["", "a", "<NULL>"]);
    assert_eq!(read(b""), [""; 0]);
}

#[test]
fn text_options_are_obeyed() {
    let null = CopyOptions { null: "NULL".to_owned(), ..text() };
    assert_eq!(rows(&pair(), &null, "1\tNULL\n2\t\\N\n"), ["1\t<NULL>", "2\tN"]);
    let empty = CopyOptions { null: String::new(), ..text() };
    assert_eq!(rows(&pair(), &empty, "1\t\n"), ["1\t<NULL>"]);
    let bar = CopyOptions { delimiter: b'|', ..text() };
    assert_eq!(rows(&pair(), &bar, "1|a\tb\\|c\n"), ["1\ta\\tb|c"]);
    let header = CopyOptions { header: CopyHeader::Match, ..text() };
    assert_eq!(rows(&pair(), &header, "a\tb\n1\tx\n"), ["1\tx"]);
    assert_eq!(
        refused(&pair(), &header, "a\t\\N\n1\tx\n").message(),
        "column name mismatch in header line field 2: got null value (\"\\N\"), expected \"b\""
    );
}

#[test]
fn broken_text_is_refused_in_the_words_of_postgres() {
    let cases: [(&[u8], Kind, &str, &str); 13] = [
        (
            b"1\tx\n2\ty\r\n",
            Kind::BadCopyFormat,
            "literal carriage return found in data",
            "COPY, line 2",
        ),
        (b"1\tx\r\n2\ty\n", Kind::BadCopyFormat, "literal newline found in data", "COPY, line 2"),
        (b"1\n", Kind::BadCopyFormat, "missing data for column \"b\"", "COPY, line 1: \"1\""),
        (
            b"1\tx\ty\n",
            Kind::BadCopyFormat,
            "extra data after last expected column",
            "COPY, line 1: \"1\tx\ty\"",
        ),
        (
            b"\n",
            Kind::InvalidTextRepresentation,
            "invalid input syntax for type integer: \"\"",
            "COPY, line 1, column a: \"\"",
        ),
        (
            b"1\tx\nx\ty\n",
            Kind::InvalidTextRepresentation,
            "invalid input syntax for type integer: \"x\"",
            "COPY, line 2, column a: \"x\"",
        ),
        (
            b"1\t\xff\n",
            Kind::CharacterNotInRepertoire,
            "invalid byte sequence for encoding \"UTF8\": 0xff",
            "COPY, line 1",
        ),
        (
            b"1\t\\xff\n",
            Kind::CharacterNotInRepertoire,
            "invalid byte sequence for encoding \"UTF8\": 0xff",
            "COPY, line 1, column b",
        ),
        (
            b"1\t\\000\n",
            Kind::CharacterNotInRepertoire,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
            "COPY, line 1, column b: \"\0\"",
        ),
        (
            b"1\ta\0b\n",
            Kind::CharacterNotInRepertoire,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
            "COPY, line 1",
        ),
        (
            b"99999999999\tx\n",
            Kind::NumericOutOfRange,
            "value \"99999999999\" is out of range for type integer",
            "COPY, line 1, column a: \"99999999999\"",
        ),
        (b"1\tx\n\\.x\n", Kind::BadCopyFormat, "end-of-copy marker corrupt", "COPY, line 2"),
        (
            b"1\t\\303\n2\t\\251\n",
            Kind::CharacterNotInRepertoire,
            "invalid byte sequence for encoding \"UTF8\": 0xc3",
            "COPY, line 1, column b",
        ),
    ];
    for (data, kind, message, detail) in cases {
        let error = refused(&pair(), &text(), data);
        assert_eq!((error.kind(), error.message()), (kind, message));
        assert_eq!(detail_of(&error), detail);
    }
    let error = refused(&pair(), &text(), b"1\tx\r\n\\.\n");
    assert_eq!(error.message(), "end-of-copy marker does not match previous newline style");
    let long = format!("1\t{}\tz\n", "y".repeat(150));
    assert_eq!(detail_of(&refused(&pair(), &text(), long)), "COPY, line 1");
}

#[test]
fn csv_is_read_by_the_rules_of_postgres() {
    let read = |data: &[u8]| rows(&pair(), &csv(), data);
    assert_eq!(read(b"1,x\n2,\n3,\"\"\n"), ["1\tx", "2\t<NULL>", "3\t"]);
    assert_eq!(read(b"1,\"a\"\"b\"\n"), ["1\ta\"b"]);
    assert_eq!(read(b"1,\"a\nb\"\n2,y\n"), ["1\ta\\nb", "2\ty"]);
    assert_eq!(read(b"1,\"a\r\nb\"\r\n2,y\r\n"), ["1\ta\\r\\nb", "2\ty"]);
    assert_eq!(read(b"1,ab\"c,d\"e\n"), ["1\tabc,de"]);
    assert_eq!(read(b"1,\"a\"\"\"\n2,\"\"\"b\"\n3,\"\"\"\"\n"), ["1\ta\"", "2\t\"b", "3\t\""]);
    assert_eq!(read(b"1,x\n\\.\n2,y\n"), ["1\tx"]);
    assert_eq!(read(b"1,\\.\n"), ["1\t\\\\."]);
    assert_eq!(read(b"\"1\",\\N\n"), ["1\t\\\\N"]);
    assert_eq!(read(b"1, x \n"), ["1\t x "]);
    assert_eq!(read(b"1,\"a\" \n"), ["1\ta "]);
    assert_eq!(rows(&single(), &csv(), "\n\"\"\na\n"), ["<NULL>", "", "a"]);
    assert_eq!(rows(&single(), &csv(), "\\.x\nb\n"), ["\\\\.x", "b"]);
    assert_eq!(rows(&single(), &csv(), "\\.\nb\n"), [""; 0]);
    assert_eq!(rows(&single(), &csv(), "\"\\.\"\n"), ["\\\\."]);
    assert_eq!(rows(&single(), &csv(), "a"), ["a"]);
    assert_eq!(
        rows(&single(), &csv(), "Huế\nHue\u{302}\u{301}\n 007\n"),
        ["Huế", "Hue\u{302}\u{301}", " 007"]
    );
}

#[test]
fn csv_options_are_obeyed() {
    let forced = CopyOptions { force_null: vec![1], ..csv() };
    assert_eq!(rows(&pair(), &forced, "1,\"\"\n"), ["1\t<NULL>"]);
    let forced = CopyOptions { force_not_null: vec![1], ..csv() };
    assert_eq!(rows(&pair(), &forced, "1,\n"), ["1\t"]);
    let null = || CopyOptions { null: "N".to_owned(), ..csv() };
    let forced = CopyOptions { force_not_null: vec![1], ..null() };
    assert_eq!(rows(&pair(), &forced, "1,N\n"), ["1\tN"]);
    let forced = CopyOptions { force_null: vec![1], ..null() };
    assert_eq!(rows(&pair(), &forced, "1,\"N\"\n"), ["1\t<NULL>"]);
    assert_eq!(rows(&pair(), &null(), "1,\"N\"\n2,N\n"), ["1\tN", "2\t<NULL>"]);
    let escape = CopyOptions { quote: b'\'', escape: b'\\', ..csv() };
    assert_eq!(
        rows(&pair(), &escape, "1,'a\\'b\\\\c\\d'\n2,'x\\'\n'\n"),
        ["1\ta'b\\\\c\\\\d", "2\tx'\\n"]
    );
    let semicolon = CopyOptions { delimiter: b';', ..csv() };
    assert_eq!(rows(&pair(), &semicolon, "1;a,b\n"), ["1\ta,b"]);
}

#[test]
fn headers() {
    let present = CopyOptions { header: CopyHeader::Present, ..csv() };
    assert_eq!(rows(&pair(), &present, "x,y\n1,z\n"), ["1\tz"]);
    assert_eq!(rows(&pair(), &present, "x,y\n"), [""; 0]);
    assert_eq!(rows(&pair(), &present, ""), [""; 0]);
    let matching = CopyOptions { header: CopyHeader::Match, ..csv() };
    assert_eq!(rows(&pair(), &matching, "a,b\n1,z\n"), ["1\tz"]);
    assert_eq!(rows(&pair(), &matching, "\"a\",\"b\"\n1,q"), ["1\tq"]);
    for (data, message) in [
        ("a,c\n1,z\n", "column name mismatch in header line field 2: got \"c\", expected \"b\""),
        ("a\n1,z\n", "wrong number of fields in header line: got 1, expected 2"),
        (
            "a,\n1,z\n",
            "column name mismatch in header line field 2: got null value (\"\"), expected \"b\"",
        ),
        ("b,a\n", "column name mismatch in header line field 1: got \"b\", expected \"a\""),
        ("", "wrong number of fields in header line: got 1, expected 2"),
    ] {
        let error = refused(&pair(), &matching, data);
        assert_eq!((error.kind(), error.message()), (Kind::BadCopyFormat, message));
        assert!(detail_of(&error).starts_with("COPY, line 1"));
    }
}

#[test]
fn broken_csv_is_refused_in_the_words_of_postgres() {
    for (data, message, detail) in [
        ("1,\"abc\n", "unterminated CSV quoted field", "COPY, line 2: \"1,\"abc\n\""),
        ("1\n", "missing data for column \"b\"", "COPY, line 1: \"1\""),
        ("1,x,y\n", "extra data after last expected column", "COPY, line 1: \"1,x,y\""),
        ("\n", "missing data for column \"b\"", "COPY, line 1: \"\""),
        ("1,x\n\n", "missing data for column \"b\"", "COPY, line 2: \"\""),
        ("1,x\n2,y\r\n", "unquoted carriage return found in data", "COPY, line 2"),
        ("1,x\r\n2,y\n", "unquoted newline found in data", "COPY, line 2"),
    ] {
        let error = refused(&pair(), &csv(), data);
        assert_eq!((error.kind(), error.message()), (Kind::BadCopyFormat, message));
        assert_eq!(detail_of(&error), detail);
    }
    let error = refused(&pair(), &csv(), "1,x\n2,y\r\n");
    assert_eq!(error.hint(), Some("Use quoted CSV field to represent carriage return."));
    // Lines are counted as an editor counts them.
    let error = refused(&pair(), &csv(), "1,\"x\n\n\ny\"\nz,\"q\"\n");
    assert_eq!(detail_of(&error), "COPY, line 5, column a: \"z\"");
    // The number of fields is checked before their values.
    let error = refused(&pair(), &csv(), "x,y,z\n");
    assert_eq!(error.message(), "extra data after last expected column");
}

fn binary_data(rest: &[u8]) -> Vec<u8> {
    [BINARY_SIGNATURE, &[0; 8], rest].concat()
}

#[test]
fn binary_is_read() {
    let read = |rest: &[u8]| rows(&pair(), &binary(), binary_data(rest));
    assert_eq!(read(b"\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x01x\xff\xff"), ["1\tx"]);
    assert_eq!(read(b"\0\x02\0\0\0\x04\0\0\0\x01\xff\xff\xff\xff"), ["1\t<NULL>"]);
    assert_eq!(read(b""), [""; 0]);
    let extended = [BINARY_SIGNATURE, &[0, 0, 0, 1, 0, 0, 0, 2, 9, 9], b"\xff\xff"].concat();
    assert_eq!(rows(&pair(), &binary(), extended), [""; 0]);
}

#[test]
fn broken_binary_is_refused() {
    let cases: [(Vec<u8>, Kind, &str); 12] = [
        (binary_data(b"\0\x03"), Kind::BadCopyFormat, "row field count is 3, expected 2"),
        (
            binary_data(b"\0\x02\0\0\0\x03abc\0\0\0\x01x\xff\xff"),
            Kind::InvalidBinaryRepresentation,
            "incorrect binary data format for type integer",
        ),
        (b"PGCOPX".to_vec(), Kind::BadCopyFormat, "COPY file signature not recognized"),
        (Vec::new(), Kind::BadCopyFormat, "COPY file signature not recognized"),
        (binary_data(b"\xff\xffx"), Kind::BadCopyFormat, "received copy data after EOF marker"),
        (binary_data(b"\0\x02\0\0\0\x04\0"), Kind::BadCopyFormat, "unexpected EOF in COPY data"),
        (binary_data(b"\0"), Kind::BadCopyFormat, "unexpected EOF in COPY data"),
        (binary_data(b"\0\x02\xff\xff\xff\xfe"), Kind::BadCopyFormat, "invalid field size"),
        (
            [BINARY_SIGNATURE, b"\0\x01\0\0\0\0\0\0"].concat(),
            Kind::BadCopyFormat,
            "invalid COPY file header (WITH OIDS)",
        ),
        (
            [BINARY_SIGNATURE, b"\x01\0\0\0\0\0\0\0"].concat(),
            Kind::BadCopyFormat,
            "unrecognized critical flags in COPY file header",
        ),
        (
            [BINARY_SIGNATURE, b"\0\0"].concat(),
            Kind::BadCopyFormat,
            "invalid COPY file header (missing flags)",
        ),
        (
            binary_data(b"\0\x02\x7f\xff\xff\xff"),
            Kind::ProgramLimitExceeded,
            "a value of the data is too long",
        ),
    ];
    for (data, kind, message) in cases {
        let error = refused(&pair(), &binary(), &data);
        assert_eq!((error.kind(), error.message()), (kind, message));
    }
    let bad = binary_data(b"\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x01\xff\xff\xff");
    let error = refused(&pair(), &binary(), bad);
    assert_eq!(error.kind(), Kind::CharacterNotInRepertoire);
    assert_eq!(detail_of(&error), "COPY, line 1, column b");
}

#[test]
fn batches_and_lines_are_bounded() {
    let line = "1,abc\n".repeat(10_000);
    let batches = decode(&pair(), &csv(), &[line.as_bytes()]).unwrap();
    let sizes: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [8_192, 1_808]);
    let wide = format!("1,{}\n", "x".repeat(5 << 20));
    let batches = decode(&pair(), &csv(), &[wide.repeat(3).as_bytes()]).unwrap();
    assert_eq!(batches.len(), 2);
    let mut decoder = CopyDecoder::try_new(&pair(), &csv(), &settings()).unwrap();
    decoder.line_bytes_max = 10;
    decoder.push(b"1,\"abc").unwrap();
    let error = decoder.push(b"defghi").unwrap_err();
    assert_eq!(error.kind(), Kind::ProgramLimitExceeded);
    assert_eq!(error.detail(), Some("The limit is 10 bytes. COPY, line 1"));
}

#[test]
fn ambiguous_options_are_refused() {
    let refuses = |options: CopyOptions| {
        let error = CopyDecoder::try_new(&pair(), &options, &settings()).err().unwrap();
        assert_eq!(error.kind(), Kind::InvalidParameterValue);
    };
    refuses(CopyOptions { delimiter: b'\n', ..text() });
    refuses(CopyOptions { delimiter: b'a', ..text() });
    refuses(CopyOptions { delimiter: 0xc3, ..csv() });
    refuses(CopyOptions { delimiter: b'"', ..csv() });
    refuses(CopyOptions { null: "a,b".to_owned(), ..csv() });
    refuses(CopyOptions { null: "\"".to_owned(), ..csv() });
    refuses(CopyOptions { null: "a\n".to_owned(), ..text() });
    refuses(CopyOptions { force_null: vec![2], ..csv() });
    let matching = CopyOptions { header: CopyHeader::Match, ..csv() };
    assert!(CopyEncoder::try_new(&pair(), &matching, &settings()).is_err());
}

fn samples() -> RecordBatch {
    let texts = vec![
        Some("plain"),
        Some("tab\tnl\ncr\rbs\\b\u{8}\u{c}v\u{1}"),
        Some(""),
        None,
        Some("\\N"),
        Some("\\."),
        Some("a,b"),
        Some("say \"hi\""),
        Some("Hué"),
        Some("Hue\u{301}"),
        Some(" x "),
        Some("a|b"),
        Some("NULL"),
        Some("'q'"),
    ];
    let ids: Vec<i32> = (1..).take(texts.len()).collect();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(ids)), Arc::new(StringArray::from(texts))];
    RecordBatch::try_new(pair(), columns).unwrap()
}

#[test]
fn text_is_written_as_by_postgres() {
    assert_eq!(
        encoded(&pair(), &text(), samples()),
        concat!(
            "1\tplain\n2\ttab\\tnl\\ncr\\rbs\\\\b\\b\\fv\u{1}\n3\t\n4\t\\N\n5\t\\\\N\n6\t\\\\.\n",
            "7\ta,b\n8\tsay \"hi\"\n9\tHué\n10\tHue\u{301}\n11\t x \n12\ta|b\n13\tNULL\n14\t'q'\n"
        )
    );
    let bar = CopyOptions {
        delimiter: b'|',
        null: "NULL".to_owned(),
        header: CopyHeader::Present,
        ..text()
    };
    assert_eq!(
        encoded(&pair(), &bar, samples()),
        concat!(
            "id|t\n1|plain\n2|tab\\tnl\\ncr\\rbs\\\\b\\b\\fv\u{1}\n3|\n4|NULL\n5|\\\\N\n6|\\\\.\n",
            "7|a,b\n8|say \"hi\"\n9|Hué\n10|Hue\u{301}\n11| x \n12|a\\|b\n13|NULL\n14|'q'\n"
        )
        .replace("id|t", "a|b")
    );
    let schema: SchemaRef = single();
    let batch =
        RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec!["\u{b}"]))]);
    assert_eq!(encoded(&schema, &text(), batch.unwrap()), "\\v\n");
}

#[test]
fn csv_is_written_as_by_postgres() {
    let header = CopyOptions { header: CopyHeader::Present, ..csv() };
    assert_eq!(
        encoded(&pair(), &header, samples()),
        concat!(
            "a,b\n1,plain\n2,\"tab\tnl\ncr\rbs\\b\u{8}\u{c}v\u{1}\"\n3,\"\"\n4,\n5,\\N\n6,\\.\n",
            "7,\"a,b\"\n8,\"say \"\"hi\"\"\"\n9,Hué\n10,Hue\u{301}\n11, x \n12,a|b\n13,NULL\n",
            "14,'q'\n"
        )
    );
    let forced =
        CopyOptions { delimiter: b';', null: "NULL".to_owned(), force_quote: vec![1], ..csv() };
    assert_eq!(
        encoded(&pair(), &forced, samples()),
        concat!(
            "1;\"plain\"\n2;\"tab\tnl\ncr\rbs\\b\u{8}\u{c}v\u{1}\"\n3;\"\"\n4;NULL\n5;\"\\N\"\n",
            "6;\"\\.\"\n7;\"a,b\"\n8;\"say \"\"hi\"\"\"\n9;\"Hué\"\n10;\"Hue\u{301}\"\n",
            "11;\" x \"\n12;\"a|b\"\n13;\"NULL\"\n14;\"'q'\"\n"
        )
    );
    let escape = CopyOptions { quote: b'\'', escape: b'\\', ..csv() };
    assert_eq!(
        encoded(&pair(), &escape, samples()),
        concat!(
            "1,plain\n2,'tab\tnl\ncr\rbs\\\\b\u{8}\u{c}v\u{1}'\n3,''\n4,\n5,\\N\n6,\\.\n",
            "7,'a,b'\n8,say \"hi\"\n9,Hué\n10,Hue\u{301}\n11, x \n12,a|b\n13,NULL\n14,'\\'q\\''\n"
        )
    );
    let column = samples().project(&[1]).unwrap();
    assert_eq!(
        encoded(&single(), &csv(), column),
        concat!(
            "plain\n\"tab\tnl\ncr\rbs\\b\u{8}\u{c}v\u{1}\"\n\"\"\n\n\\N\n\"\\.\"\n\"a,b\"\n",
            "\"say \"\"hi\"\"\"\nHué\nHue\u{301}\n x \na|b\nNULL\n'q'\n"
        )
    );
}

/// A row of many types, and one of NULLs.
fn types() -> (SchemaRef, RecordBatch) {
    let array = |of: Type| Type::Array(Box::new(of)).to_field("x", true);
    let list = |of: Type, text: &str| {
        let mut builder = kho_sql::input::ColumnBuilder::new(&array(of), &settings()).unwrap();
        builder.append(Some(text)).unwrap();
        builder.append(None).unwrap();
        builder.finish().unwrap()
    };
    let fields = vec![
        Type::Boolean.to_field("a", true),
        Type::Numeric(10, 2).to_field("b", true),
        Type::Bytea.to_field("c", true),
        Type::Date.to_field("d", true),
        Type::TimestampTz.to_field("e", true),
        Type::Array(Box::new(Type::Integer)).to_field("f", true),
        Type::Array(Box::new(Type::Text)).to_field("g", true),
        Type::Double.to_field("h", true),
        Type::Json.to_field("i", true),
    ];
    let numeric = Decimal128Array::from(vec![Some(150), None]);
    let instant = TimestampMicrosecondArray::from(vec![Some(1704449472500000), None]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(numeric.with_precision_and_scale(10, 2).unwrap()),
        Arc::new(BinaryArray::from(vec![Some(&b"\0\xff\\"[..]), None])),
        Arc::new(Date32Array::from(vec![Some(19727), None])),
        Arc::new(instant.with_timezone("UTC")),
        list(Type::Integer, "{1,NULL}"),
        list(Type::Text, r#"{"a b","c,d","e\\f"}"#),
        Arc::new(Float64Array::from(vec![Some(1e20), None])),
        Arc::new(StringArray::from(vec![Some(r#"{"a": "b\\c"}"#), None])),
    ];
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    (schema.clone(), RecordBatch::try_new(schema, columns).unwrap())
}

#[test]
fn every_type_is_written_as_by_postgres() {
    let (schema, batch) = types();
    assert_eq!(
        encoded(&schema, &text(), batch.clone()),
        concat!(
            "t\t1.50\t\\\\x00ff5c\t2024-01-05\t2024-01-05 10:11:12.5+00\t{1,NULL}\t",
            "{\"a b\",\"c,d\",\"e\\\\\\\\f\"}\t1e+20\t{\"a\": \"b\\\\\\\\c\"}\n",
            "\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"
        )
    );
    assert_eq!(
        encoded(&schema, &csv(), batch),
        concat!(
            "t,1.50,\\x00ff5c,2024-01-05,2024-01-05 10:11:12.5+00,\"{1,NULL}\",",
            "\"{\"\"a b\"\",\"\"c,d\"\",\"\"e\\\\f\"\"}\",1e+20,\"{\"\"a\"\": \"\"b\\\\c\"\"}\"\n",
            ",,,,,,,,\n"
        )
    );
}

#[test]
fn what_is_written_reads_back() {
    let (schema, batch) = types();
    for options in [text(), csv(), binary()] {
        for (schema, batch) in [(schema.clone(), batch.clone()), (pair(), samples())] {
            let data = encode(&schema, &options, std::slice::from_ref(&batch)).concat();
            let bytes: Vec<&[u8]> = data.chunks(3).collect();
            assert_eq!(decode(&schema, &options, &bytes).unwrap(), vec![batch]);
        }
    }
}

#[test]
fn numbers_are_quoted_where_the_options_make_them_special() {
    let schema = pair();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1, -1])),
        Arc::new(StringArray::from(vec![None, Some("-1")])),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let null = CopyOptions { null: "1".to_owned(), ..csv() };
    assert_eq!(encoded(&schema, &null, batch.clone()), "\"1\",1\n-1,-1\n");
    let minus = CopyOptions { delimiter: b'-', ..text() };
    assert_eq!(encoded(&schema, &minus, batch), "1-\\N\n\\-1-\\-1\n");
}

#[test]
fn binary_is_written_as_by_postgres() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Utf8, true),
        Field::new("c", DataType::Date32, true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(arrow::array::PrimitiveArray::<Int32Type>::from(vec![1, 2])),
        Arc::new(StringArray::from(vec!["Huế", ""])),
        Arc::new(Date32Array::from(vec![None, Some(19727)])),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let messages = encode(&schema, &binary(), &[batch]);
    // The first row comes with the signature, the trailer alone.
    assert_eq!(messages.len(), 3);
    let hex: String = messages.concat().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "5047434f50590aff0d0a000000000000000000",
            "00030000000400000001000000054875e1babfffffffff",
            "000300000004000000020000000000000004",
            "00002242ffff"
        )
    );
    let nothing = encode(&schema, &binary(), &[]);
    assert_eq!(nothing, [[BINARY_SIGNATURE, &[0; 8], b"\xff\xff"].concat()]);
}
