//! Hourly readings of the air, and what was wrong with two of the sensors.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use chrono::{Datelike, NaiveDate};
use kho_catalog::error::{Error, Result};
use rand::Rng;

use super::{Commune, after, batch, decimals, generator};

/// Stations are numbered from 1.
pub const STATIONS: i32 = 12;
/// The first days of the months that are loaded, one commit each.
pub const MONTHS: [(i32, u32); 6] =
    [(2026, 1), (2026, 2), (2026, 3), (2026, 4), (2026, 5), (2026, 6)];
/// Reported ten times what it measured, all of April.
pub const MISCALIBRATED_STATION: i32 = 5;
/// Stuck at its greatest value from 10 to 20 May.
pub const FAULTY_STATION: i32 = 9;

const APRIL: u32 = 4;
const MAY: u32 = 5;
/// Tenths of a microgram per cubic metre: 999.9.
const STUCK: i128 = 9_999;
/// Vietnam's offset from UTC.
const OFFSET_HOURS: i64 = 7;
/// Percent of a day's mean by hour: the two rush hours stand out.
const BY_HOUR: [i128; 24] = [
    70, 65, 60, 60, 65, 85, 120, 150, 145, 120, 105, 95, 90, 90, 95, 105, 130, 160, 165, 140, 120,
    105, 90, 80,
];
/// Percent of a year's mean by month, January first: rain washes the air.
const BY_MONTH: [i128; 12] = [135, 130, 115, 100, 85, 75, 70, 75, 80, 85, 105, 125];

/// Where the stations stand.
pub fn stations(communes: &[Commune]) -> Result<RecordBatch> {
    let places: Vec<&Commune> = communes.iter().step_by(2).take(12).collect();
    let names = places.iter().map(|place| format!("Trạm {}", place.name));
    let codes = places.iter().map(|place| place.code.as_str());
    batch(vec![
        ("id", Arc::new(Int32Array::from_iter_values(1..=STATIONS))),
        ("name", Arc::new(StringArray::from_iter_values(names))),
        ("commune_code", Arc::new(StringArray::from_iter_values(codes))),
    ])
}

/// The readings of one month as they arrived, faults and all: hour by hour, station by station.
pub fn readings(seed: u64, (year, month): (i32, u32)) -> Result<RecordBatch> {
    let kind = u64::from(month) + 100;
    let mut random = generator(seed, kind);
    let first = NaiveDate::from_ymd_opt(year, month, 1)
        .ok_or_else(|| Error::internal("the demo has a month that does not exist"))?;
    let mut columns = Columns::default();
    for date in (0..31).map(|days| after(first, days)) {
        let date = date?;
        if date.month() != month {
            break;
        }
        for (hour, percent) in (0_i64..).zip(BY_HOUR) {
            let midnight = date.signed_duration_since(NaiveDate::default()).num_seconds();
            let at = (midnight + (hour - OFFSET_HOURS) * 3_600) * 1_000_000;
            for station in 1..=STATIONS {
                columns.add(station, at, percent, date, &mut random);
            }
        }
    }
    columns.into_batch()
}

#[derive(Default)]
struct Columns {
    stations: Vec<i32>,
    times: Vec<i64>,
    fine: Vec<Option<i128>>,
    coarse: Vec<Option<i128>>,
    dioxide: Vec<Option<i128>>,
}

impl Columns {
    fn add(
        &mut self,
        station: i32,
        at: i64,
        percent_of_hour: i128,
        date: NaiveDate,
        random: &mut impl Rng,
    ) {
        let of_month = usize::try_from(date.month0()).ok().and_then(|month| BY_MONTH.get(month));
        let mean = 120 + i128::from(station * 53 % 17) * 14;
        let mut value = |mean: i128| {
            let noise: i128 = random.random_range(75..=125);
            let whole = mean * percent_of_hour * of_month.copied().unwrap_or(100) * noise;
            // One reading in a hundred is lost on its way.
            (!random.random_ratio(1, 100)).then_some(whole / 1_000_000)
        };
        let (mut fine, mut coarse, dioxide) = (value(mean), value(mean * 8 / 5), value(mean / 2));
        if station == MISCALIBRATED_STATION && date.month() == APRIL {
            (fine, coarse) = (fine.map(|it| it * 10), coarse.map(|it| it * 10));
        }
        let stuck = date.month() == MAY && (10..=20).contains(&date.day());
        if station == FAULTY_STATION && stuck {
            (fine, coarse) = (Some(STUCK), Some(STUCK));
        }
        self.stations.push(station);
        self.times.push(at);
        self.fine.push(fine);
        self.coarse.push(coarse);
        self.dioxide.push(dioxide);
    }

    fn into_batch(self) -> Result<RecordBatch> {
        let times = TimestampMicrosecondArray::from(self.times).with_timezone("UTC");
        batch(vec![
            ("station_id", Arc::new(Int32Array::from(self.stations))),
            ("measured_at", Arc::new(times)),
            ("pm25", decimals(self.fine, 6, 1)?),
            ("pm10", decimals(self.coarse, 6, 1)?),
            ("no2", decimals(self.dioxide, 6, 1)?),
        ])
    }
}
