//! The city is the same every time, and nobody real lives in it.

use std::collections::HashSet;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, TimestampMicrosecondType};
use arrow::ipc::writer::StreamWriter;
use kho_catalog::error::Kind;

use super::folder::{Folder, Found};
use super::tour::{Expected, guide};
use super::{SEED, city, tour};
use crate::config::Config;

fn bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn everything(seed: u64) -> Vec<u8> {
    let communes = city::communes(seed);
    let mut all = vec![
        city::businesses(seed, &communes).unwrap(),
        city::patients(seed, &communes).unwrap(),
        city::stations(&communes).unwrap(),
    ];
    all.extend(city::MONTHS.map(|month| city::readings(seed, month).unwrap()));
    let communes = format!("{communes:?}");
    all.iter().flat_map(bytes).chain(communes.into_bytes()).collect()
}

fn texts<'a>(batch: &'a RecordBatch, column: &str) -> Vec<&'a str> {
    batch.column_by_name(column).unwrap().as_string::<i32>().iter().flatten().collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert!(everything(SEED) == everything(SEED));
    assert!(everything(SEED) != everything(SEED + 1));
}

#[test]
fn codes_are_unique_and_of_nobody() {
    let communes = city::communes(SEED);
    let names: HashSet<_> = communes.iter().map(|commune| &commune.name).collect();
    assert_eq!(names.len(), city::COMMUNES);
    assert!(communes.iter().all(|commune| commune.code.starts_with("99")));

    let businesses = city::businesses(SEED, &communes).unwrap();
    let codes: HashSet<_> = texts(&businesses, "tax_code").into_iter().collect();
    assert_eq!(codes.len(), city::BUSINESSES);
    assert!(codes.iter().all(|code| code.len() == 10 && code.starts_with("00")));
    let capital = businesses.column_by_name("capital").unwrap().as_primitive::<Decimal128Type>();
    assert!(capital.null_count() > 0 && capital.iter().flatten().all(|value| value > 0));

    let patients = city::patients(SEED, &communes).unwrap();
    let ids: HashSet<_> = texts(&patients, "national_id").into_iter().collect();
    assert_eq!(ids.len(), city::PATIENTS);
    assert!(ids.iter().all(|id| id.len() == 12 && id.starts_with("000")));
    assert!(texts(&patients, "phone").iter().all(|it| it.len() == 10 && it.starts_with("0100")));
    let known: HashSet<_> = communes.iter().map(|commune| commune.code.as_str()).collect();
    assert!(texts(&patients, "ward").iter().all(|ward| known.contains(ward)));
    let born = patients.column_by_name("born").unwrap().as_primitive::<Date32Type>();
    assert_eq!(born.null_count(), 0);
}

#[test]
fn texts_are_composed_vietnamese_that_sql_can_quote() {
    let communes = city::communes(SEED);
    assert!(communes.iter().all(|commune| !commune.name.contains(['\'', '\\', '"', ','])));
    let businesses = city::businesses(SEED, &communes).unwrap();
    // U+0300 to U+036F are combining marks: text with one is not in NFC.
    let combining = |text: &&str| text.chars().any(|it| ('\u{300}'..='\u{36f}').contains(&it));
    assert!(!texts(&businesses, "name").iter().any(combining));
    assert!(texts(&businesses, "sector").contains(&"Thủy sản"));
}

#[test]
fn readings_are_hourly_with_two_sensors_at_fault() {
    let april = city::readings(SEED, (2026, 4)).unwrap();
    assert_eq!(april.num_rows(), 30 * 24 * usize::try_from(city::STATIONS).unwrap());
    let at = april.column_by_name("measured_at").unwrap();
    let at = at.as_primitive::<TimestampMicrosecondType>();
    // Midnight of 1 April in Vietnam.
    assert_eq!(at.value(0), 1_774_976_400_000_000);
    let highest = |month, station| {
        let batch = city::readings(SEED, month).unwrap();
        let stations = batch.column_by_name("station_id").unwrap().as_primitive::<Int32Type>();
        let values = batch.column_by_name("pm25").unwrap().as_primitive::<Decimal128Type>();
        assert!(values.null_count() > 0);
        let of = stations.values().iter().zip(values.iter()).filter(|(it, _)| **it == station);
        of.filter_map(|(_, value)| value).max().unwrap()
    };
    let station = city::MISCALIBRATED_STATION;
    assert!(highest((2026, 4), station) > 5 * highest((2026, 3), station));
    assert_eq!(highest((2026, 5), city::FAULTY_STATION), 9_999);
    assert!(highest((2026, 6), city::FAULTY_STATION) < 9_000);
}

#[test]
fn a_folder_is_a_demo_or_empty_or_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(&place.path().join("demo")).unwrap();
    assert!(matches!(folder.look().unwrap(), Found::Nothing));
    let lock = folder.lock().unwrap();
    assert_eq!(folder.lock().err().unwrap().kind(), Kind::ObjectInUse);
    assert!(matches!(folder.look().unwrap(), Found::Nothing));
    drop(lock);
    folder.lock().unwrap();
    let facts = folder.begin(false).unwrap();
    assert!(matches!(folder.look().unwrap(), Found::Unfinished));
    folder.finish(facts).unwrap();
    assert!(matches!(folder.look().unwrap(), Found::Whole(_)));

    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("mine"), "").unwrap();
    folder.clear().unwrap();
    assert!(!folder.path().join("data").exists() && folder.path().join("mine").exists());

    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("thesis"), "").unwrap();
    let error = Folder::open(other.path()).unwrap().lock().err().unwrap();
    assert_eq!(error.kind(), Kind::NotInPrerequisiteState);
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_demo_stays_on_the_machine() {
    let place = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.pg.listen = "0.0.0.0:0".parse().unwrap();
    let error = super::start(config, place.path(), false).await.err().unwrap();
    assert_eq!(error.kind(), Kind::FeatureNotSupported);
}

#[test]
fn every_step_of_the_tour_is_in_the_guide() {
    let place = tempfile::tempdir().unwrap();
    let facts = Folder::open(place.path()).unwrap().begin(false).unwrap();
    let guide = guide("127.0.0.1:5433".parse().unwrap(), &facts);
    for step in tour(&facts) {
        assert!(guide.contains(&step.text) && guide.contains(&step.password), "{step:?}");
        let is_psql = step.text.starts_with('\\');
        assert_eq!(step.expected == Expected::Shown, is_psql, "{step:?}");
        assert!(is_psql || step.text.ends_with(';'), "{step:?}");
        assert!(!step.text.contains('\n') && !step.text.contains("  "), "{step:?}");
    }
}
