//! Where fields begin, before our era too.

use super::*;

fn cut(field: &str, (year, month, day): (i64, u8, u8)) -> (i64, u8, u8) {
    let noon = days_of_civil(year, month, day) * DAY_MICROS + DAY_MICROS / 2;
    let cut = one(noon, Field::named(field).unwrap());
    assert_eq!(cut.rem_euclid(DAY_MICROS), 0);
    civil_of_days(cut.div_euclid(DAY_MICROS))
}

#[test]
fn fields_begin_where_postgres_has_them_begin() {
    for (field, of, begins) in [
        ("week", (2026, 11, 29), (2026, 11, 23)),
        ("Weeks", (1970, 1, 1), (1969, 12, 29)),
        ("month", (9999, 12, 31), (9999, 12, 1)),
        ("quarter", (1600, 6, 30), (1600, 4, 1)),
        ("year", (-43, 3, 15), (-43, 1, 1)),
        ("decade", (2026, 11, 29), (2020, 1, 1)),
        ("century", (2000, 1, 1), (1901, 1, 1)),
        ("century", (2001, 1, 1), (2001, 1, 1)),
        ("century", (0, 5, 1), (-99, 1, 1)),
        ("millennium", (2026, 11, 29), (2001, 1, 1)),
    ] {
        assert_eq!(cut(field, of), begins, "{field} of {of:?}");
    }
    assert!(Field::named("fortnight").is_none());
}

#[test]
fn the_first_and_the_last_time_are_cut_off_too() {
    const MOST: u64 = 1001 * 366 * 86_400_000_000;
    for field in ["microsecond", "day", "week", "quarter", "millennium"] {
        let field = Field::named(field).unwrap();
        for at in [i64::MIN, i64::MAX] {
            assert!(one(at, field).abs_diff(at) < MOST);
        }
    }
}
