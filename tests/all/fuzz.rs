//! Our own decoding of what clients send, under bytes that are nearly right: an error or an answer,
//! no panic, no memory that the bytes do not account for; and the next client is served.
//!
//! `KHO_FUZZ_SECONDS` says for how long; `KHO_FUZZ_FIRST` with which seed it begins. What fails
//! says its seed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use bytes::{Bytes, BytesMut};
use kho_catalog::types::Type;
use kho_server::pgwire::frontend::{decode, sasl_initial, take_frame};
use kho_server::pgwire::startup;
use kho_server::pgwire::value::copy::CopyDecoder;
use kho_server::pgwire::value::decode_parameter;
use kho_sql::copy::{CopyFormat, CopyHeader, CopyOptions};
use kho_sql::session::ValueFormat;
use kho_tests::mutate::{message, mutated, mutated_message};
use kho_tests::seeds::from_environment;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

mod conversation;
mod live;

/// What a message may be at most, so that a length in it is not believed.
const MESSAGE_BYTES: usize = 1 << 20;

/// Runs `one` for seed after seed until the time is over; gives how many there were.
fn for_a_while(mut one: impl FnMut(u64)) -> u64 {
    let seconds = from_environment("KHO_FUZZ_SECONDS", 10);
    let first: u64 = from_environment("KHO_FUZZ_FIRST", 0);
    let begun = Instant::now();
    let mut seed = first;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| one(seed)));
        assert!(outcome.is_ok(), "it failed with KHO_FUZZ_FIRST={seed}, see above");
        seed += 1;
    }
    seed - first
}

#[test]
fn decoders_take_any_bytes() {
    let (samples, types) = (samples(), types());
    let count = for_a_while(|seed| {
        let mut random = StdRng::seed_from_u64(seed);
        match random.random_range(0..10) {
            0 => first_packet(&mut random),
            1..4 => messages(&mut random),
            4..7 => parameter(&mut random, &types, &samples),
            _ => copied(&mut random, &types, &samples),
        }
    });
    assert!(count > 1000, "only {count} inputs were tried");
}

fn first_packet(random: &mut StdRng) {
    let parameters = b"user\0admin\0database\0kho\0options\0-c a=b --c=d\0_pq_.x\0y\0\0";
    let packet = match random.random_range(0..3) {
        0 => [&196_608_u32.to_be_bytes()[..], parameters].concat(),
        1 => [&80_877_102_u32.to_be_bytes()[..], b"\0\0\0\x01secret-of-it"].concat(),
        _ => 80_877_103_u32.to_be_bytes().to_vec(),
    };
    drop(startup::parse(&mutated(random, &packet)));
    let body = mutated(random, b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=rOprNGfwEbeRWgbNEkqO");
    drop(sasl_initial(Bytes::from(body)));
}

fn messages(random: &mut StdRng) {
    let mut stream = BytesMut::new();
    for message in conversation::any(random) {
        stream.extend_from_slice(&mutated_message(random, &message));
    }
    let length = stream.len();
    let mut taken = 0;
    while let Ok(Some(frame)) = take_frame(&mut stream, MESSAGE_BYTES) {
        taken += frame.body.len();
        drop(decode(frame));
    }
    assert!(taken <= length, "more was taken than there was");
}

fn parameter(random: &mut StdRng, types: &[Type], samples: &[Vec<u8>]) {
    let of = &types[random.random_range(0..types.len())];
    let sample = &samples[random.random_range(0..samples.len())];
    let bytes = mutated(random, sample);
    let format = random.random_range(0..=1);
    if let Ok(value) = decode_parameter(Some(&bytes), format, of, &settings()) {
        bounded(value.size(), bytes.len());
    }
}

fn copied(random: &mut StdRng, types: &[Type], samples: &[Vec<u8>]) {
    let count = random.random_range(1..=3);
    let types: Vec<&Type> =
        (0..count).map(|_| &types[random.random_range(0..types.len())]).collect();
    let fields = types.iter().enumerate().map(|(at, of)| of.to_field(&format!("c{at}"), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = options(random);
    let mut data = Vec::new();
    if options.format == CopyFormat::Binary {
        data.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    }
    for _ in 0..random.random_range(0..4) {
        row(random, &options, count, samples, &mut data);
    }
    let data = mutated(random, &data);
    let Ok(mut decoder) = CopyDecoder::try_new(&schema, &options, &settings()) else { return };
    let piece = random.random_range(1..=data.len() + 1);
    let mut bytes = 0;
    for piece in data.chunks(piece) {
        match decoder.push(piece) {
            Ok(batches) => {
                bytes += batches.iter().map(|it| it.get_array_memory_size()).sum::<usize>()
            }
            Err(_) => return,
        }
    }
    if let Ok(batches) = decoder.finish() {
        bytes += batches.iter().map(|it| it.get_array_memory_size()).sum::<usize>();
    }
    bounded(bytes, data.len());
}

fn row(
    random: &mut StdRng,
    options: &CopyOptions,
    count: usize,
    samples: &[Vec<u8>],
    data: &mut Vec<u8>,
) {
    let mut values = (0..count).map(|_| samples[random.random_range(0..samples.len())].clone());
    if options.format == CopyFormat::Binary {
        data.extend_from_slice(&u16::try_from(count).unwrap().to_be_bytes());
        for value in values {
            data.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            data.extend_from_slice(&value);
        }
        return;
    }
    data.extend(values.next().unwrap_or_default());
    for value in values {
        data.push(options.delimiter);
        data.extend(value);
    }
    data.push(b'\n');
}

fn options(random: &mut StdRng) -> CopyOptions {
    let format = [CopyFormat::Text, CopyFormat::Csv, CopyFormat::Binary][random.random_range(0..3)];
    let header = match format {
        CopyFormat::Binary => CopyHeader::Absent,
        _ => {
            [CopyHeader::Absent, CopyHeader::Present, CopyHeader::Match][random.random_range(0..3)]
        }
    };
    CopyOptions {
        format,
        delimiter: if format == CopyFormat::Csv { b',' } else { b'\t' },
        null: if format == CopyFormat::Csv { String::new() } else { "\\N".to_owned() },
        header,
        quote: b'"',
        escape: b'"',
        force_quote: Vec::new(),
        force_not_null: Vec::new(),
        force_null: Vec::new(),
    }
}

/// What came of `length` bytes: a batch has room for some thousand rows whatever there is.
fn bounded(bytes: usize, length: usize) {
    assert!(bytes <= (4 << 20) + 512 * length, "{bytes} bytes came of {length}");
}

fn settings() -> ValueFormat {
    ValueFormat { time_zone: "Asia/Ho_Chi_Minh".to_owned(), extra_float_digits: 1 }
}

fn types() -> Vec<Type> {
    let mut types = vec![
        Type::Boolean,
        Type::SmallInt,
        Type::Integer,
        Type::BigInt,
        Type::Real,
        Type::Double,
        Type::Numeric(38, 6),
        Type::Numeric(5, 0),
        Type::Text,
        Type::Varchar(3),
        Type::Bytea,
        Type::Date,
        Type::Timestamp,
        Type::TimestampTz,
        Type::Uuid,
        Type::Json,
    ];
    types
        .extend([Type::Integer, Type::Text, Type::TimestampTz].map(|of| Type::Array(Box::new(of))));
    types
}

/// Values as text and as bytes, of this type or that.
fn samples() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "t",
        "-7",
        "9223372036854775807",
        "1.5e308",
        "-0.000001",
        "NaN",
        "Infinity",
        "\\N",
        "2026-11-27",
        "2026-11-27 08:30:00.123456+07",
        "4714-11-24 BC",
        "294276-12-31 23:59:59",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "{\"a\": [1, null, \"x\\u0000\"]}",
        "\\xDEADBEEF",
        "{1,2,NULL,\"a,b\"}",
        "{{1,2},{3,4}}",
        "[0:1]={1,2}",
        "Đà Nẵng",
        "\"quoted \"\" text\"",
        "tab\\there",
        "\\.",
        "99999999999999999999999999999999999999",
        "24:00:00",
        "infinity",
    ];
    let mut samples: Vec<Vec<u8>> = texts.iter().map(|it| it.as_bytes().to_vec()).collect();
    samples.extend([
        vec![0, 0, 0, 7],
        vec![0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        // A numeric: two digits, weight, sign, scale.
        vec![0, 2, 0, 1, 0x40, 0, 0, 4, 0, 12, 0x13, 0x88],
        // An array of two integers.
        vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9],
        vec![1; 16],
        message(b'd', b"1\t2\n"),
    ]);
    samples
}
