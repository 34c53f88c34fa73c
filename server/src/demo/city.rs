//! The invented city of Hải Lam: its wards, businesses, patients, stations and readings.
//!
//! What it guarantees: the same seed gives the same rows; each kind of rows has a generator of its
//! own, so that more of one changes no other. Only whole numbers are used, so that no machine
//! rounds otherwise. Nothing can be mistaken for a record of someone real: identity numbers and tax
//! codes have the province code `000` or `00`, telephone numbers begin with `0100`, ward codes with
//! `99`: none of them was ever assigned. Names are put together from lists of words.
//! What it does not: the numbers are plausible, not a model of anything.

mod air;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use chrono::{Days, NaiveDate};
use kho_catalog::error::{Error, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use self::air::{FAULTY_STATION, MISCALIBRATED_STATION, MONTHS, STATIONS, readings, stations};
use super::names::{brand, person, pick, places};

/// Wards and communes of the city.
pub const COMMUNES: usize = 28;
pub const BUSINESSES: usize = 5_000;
pub const PATIENTS: usize = 2_000;

const FORMS: &[&str] =
    &["Công ty TNHH", "Công ty TNHH MTV", "Công ty Cổ phần", "Doanh nghiệp tư nhân", "Hợp tác xã"];
const SECTORS: &[&str] = &[
    "Nông nghiệp",
    "Thủy sản",
    "Chế biến thực phẩm",
    "Dệt may",
    "Xây dựng",
    "Bán buôn",
    "Bán lẻ",
    "Vận tải",
    "Lưu trú và ăn uống",
    "Du lịch",
    "Phần mềm",
    "Viễn thông",
    "Giáo dục",
    "Y tế",
    "Bất động sản",
];
const STATUSES: &[&str] = &[
    "đang hoạt động",
    "đang hoạt động",
    "đang hoạt động",
    "đang hoạt động",
    "đang hoạt động",
    "đang hoạt động",
    "tạm ngừng",
    "đã giải thể",
];

/// A ward or a rural commune.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commune {
    /// Five digits; the registry's key.
    pub code: String,
    pub name: String,
    /// `phường` (ward) or `xã` (commune).
    pub kind: &'static str,
    /// Hundredths of a square kilometre.
    pub area: i128,
    pub population: i32,
}

/// The city's wards and communes, by code.
pub fn communes(seed: u64) -> Vec<Commune> {
    let mut random = generator(seed, 1);
    let names = places(COMMUNES, &mut random);
    let made = names.into_iter().enumerate().map(|(index, name)| {
        let is_ward = index < COMMUNES * 2 / 3;
        let (area, population) = match is_ward {
            true => (random.random_range(180..1_400), random.random_range(18_000..62_000)),
            false => (random.random_range(2_000..14_000), random.random_range(4_000..19_000)),
        };
        let kind = if is_ward { "phường" } else { "xã" };
        Commune { code: format!("99{:03}", index + 1), name, kind, area, population }
    });
    made.collect()
}

/// The business register, by tax code.
pub fn businesses(seed: u64, communes: &[Commune]) -> Result<RecordBatch> {
    let mut random = generator(seed, 2);
    let mut names = Vec::with_capacity(BUSINESSES);
    let mut sectors = Vec::with_capacity(BUSINESSES);
    let mut wards = Vec::with_capacity(BUSINESSES);
    let mut registered = Vec::with_capacity(BUSINESSES);
    let mut capitals = Vec::with_capacity(BUSINESSES);
    let mut statuses = Vec::with_capacity(BUSINESSES);
    for _ in 0..BUSINESSES {
        let sector = pick(SECTORS, &mut random);
        let form = pick(FORMS, &mut random);
        names.push(format!("{form} {sector} {}", brand(&mut random)));
        sectors.push(sector);
        wards.push(some_commune(communes, &mut random)?);
        registered.push(day_between((2005, 1, 1), (2026, 6, 30), &mut random)?);
        // Whole millions of đồng, two decimals; a tenth declared none.
        let millions: i128 = random.random_range(10..50_000);
        capitals.push((!random.random_ratio(1, 10)).then_some(millions * 1_000_000 * 100));
        statuses.push(pick(STATUSES, &mut random));
    }
    let codes = (0..BUSINESSES).map(|index| format!("00{:08}", index * 7 + 1));
    batch(vec![
        ("tax_code", Arc::new(StringArray::from_iter_values(codes))),
        ("name", Arc::new(StringArray::from_iter_values(names))),
        ("commune_code", Arc::new(StringArray::from_iter_values(wards))),
        ("sector", Arc::new(StringArray::from_iter_values(sectors))),
        ("registered", Arc::new(Date32Array::from_iter_values(registered))),
        ("capital", decimals(capitals, 18, 2)?),
        ("status", Arc::new(StringArray::from_iter_values(statuses))),
    ])
}

/// Patients of the city's clinics, by id.
pub fn patients(seed: u64, communes: &[Commune]) -> Result<RecordBatch> {
    let mut random = generator(seed, 3);
    let mut rows = Vec::with_capacity(PATIENTS);
    for _ in 0..PATIENTS {
        let born = day_between((1935, 1, 1), (2025, 12, 31), &mut random)?;
        let serial: u32 = random.random_range(0..1_000_000_000);
        let phone: u32 = random.random_range(0..1_000_000);
        let updated = day_between((2024, 1, 1), (2026, 6, 30), &mut random)?;
        let second: i64 = random.random_range(0..86_400);
        rows.push((
            person(&mut random),
            format!("000{serial:09}"),
            random.random_ratio(4, 5).then(|| format!("0100{phone:06}")),
            some_commune(communes, &mut random)?,
            born,
            (i64::from(updated) * 86_400 + second) * 1_000_000,
        ));
    }
    let ids = (1_i64..).take(PATIENTS);
    let updated = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.5));
    batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(ids))),
        ("national_id", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1)))),
        ("full_name", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.0)))),
        ("phone", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.as_deref())))),
        ("ward", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.3)))),
        ("born", Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.4)))),
        ("updated_at", Arc::new(updated.with_timezone("UTC"))),
    ])
}

/// A generator for one kind of rows.
fn generator(seed: u64, kind: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(kind))
}

/// A commune, more likely one with a small number: cities are denser in the middle.
fn some_commune<'a>(communes: &'a [Commune], random: &mut impl Rng) -> Result<&'a str> {
    let most = communes.len().max(1);
    let index = random.random_range(0..most).min(random.random_range(0..most));
    let found = communes.get(index).ok_or_else(|| Error::internal("the city has no communes"))?;
    Ok(&found.code)
}

/// Days since the epoch of a day from `first` to `last`.
fn day_between(
    first: (i32, u32, u32),
    last: (i32, u32, u32),
    random: &mut impl Rng,
) -> Result<i32> {
    let (first, last) = (day(first)?, day(last)?);
    Ok(random.random_range(first..=last))
}

fn day((year, month, of_month): (i32, u32, u32)) -> Result<i32> {
    let date = NaiveDate::from_ymd_opt(year, month, of_month);
    let date = date.ok_or_else(|| Error::internal("the demo has a day that does not exist"))?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(days).map_err(|_| Error::internal("the demo has a day that is too far away"))
}

/// The day `days` after `date`.
fn after(date: NaiveDate, days: u64) -> Result<NaiveDate> {
    date.checked_add_days(Days::new(days))
        .ok_or_else(|| Error::internal("the demo has a day that is too far away"))
}

fn decimals(values: Vec<Option<i128>>, precision: u8, scale: i8) -> Result<ArrayRef> {
    let array = Decimal128Array::from(values).with_precision_and_scale(precision, scale);
    Ok(Arc::new(array.map_err(mismatch)?))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, values)| Field::new(*name, values.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, values)| values).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(mismatch)
}

fn mismatch(error: arrow::error::ArrowError) -> Error {
    Error::internal("the demo's columns do not fit together").with_source(error)
}
