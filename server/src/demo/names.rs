//! Vietnamese words that names are put together from.

use rand::Rng;
use rand::seq::IndexedRandom;

const FAMILY: &[&str] = &[
    "Nguyễn", "Nguyễn", "Nguyễn", "Trần", "Trần", "Lê", "Lê", "Phạm", "Huỳnh", "Phan", "Vũ", "Võ",
    "Đặng", "Bùi", "Đỗ", "Hồ", "Ngô", "Dương", "Lý", "Mai", "Đinh", "Trương", "Lương", "Tạ",
];
const MIDDLE: &[&str] = &[
    "Thị", "Văn", "Ngọc", "Minh", "Thanh", "Hữu", "Quang", "Đức", "Kim", "Xuân", "Bích", "Gia",
    "Khánh", "Thùy", "Quốc", "Như", "Hoàng", "Diệu",
];
const GIVEN: &[&str] = &[
    "An", "Bình", "Châu", "Dũng", "Giang", "Hạnh", "Hòa", "Khoa", "Lan", "Linh", "Long", "Mẫn",
    "Nga", "Nhung", "Oanh", "Phúc", "Quyên", "Sơn", "Tâm", "Thảo", "Trúc", "Tú", "Uyên", "Vinh",
    "Vy", "Yến", "Đạt", "Ánh", "Ý", "Bưởi",
];
const PLACE_FIRST: &[&str] =
    &["An", "Bình", "Hòa", "Phước", "Thạnh", "Tân", "Mỹ", "Khuê", "Vịnh", "Thanh", "Đông", "Xuân"];
const PLACE_SECOND: &[&str] =
    &["Lam", "Trạch", "Giang", "Vân", "Châu", "Lộc", "Điền", "Khê", "Thọ", "Quý", "Bàng", "Nghĩa"];
const BRAND: &[&str] = &[
    "Sóng", "Biển", "Nắng", "Mây", "Cát", "Gió", "Sen", "Trúc", "Rồng", "Hạc", "Sao", "Lúa",
    "Xanh", "Vàng", "Hồng", "Bạc", "Việt", "Hưng", "Thịnh", "Phát", "Tín", "Nghĩa", "Đại", "Lam",
];

/// Four words at most, family name first.
pub(super) fn person(random: &mut impl Rng) -> String {
    let (family, given) = (pick(FAMILY, random), pick(GIVEN, random));
    match random.random_ratio(1, 8) {
        true => format!("{family} {} {} {given}", pick(MIDDLE, random), pick(GIVEN, random)),
        false => format!("{family} {} {given}", pick(MIDDLE, random)),
    }
}

/// `count` names of places, each once. There are 144.
pub(super) fn places(count: usize, random: &mut impl Rng) -> Vec<String> {
    let mut found: Vec<String> = Vec::with_capacity(count);
    while found.len() < count.min(PLACE_FIRST.len() * PLACE_SECOND.len()) {
        let name = format!("{} {}", pick(PLACE_FIRST, random), pick(PLACE_SECOND, random));
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// What a business calls itself, without its legal form.
pub(super) fn brand(random: &mut impl Rng) -> String {
    format!("{} {}", pick(BRAND, random), pick(BRAND, random))
}

/// One of `words`, which are never none here.
pub(super) fn pick<'a>(words: &[&'a str], random: &mut impl Rng) -> &'a str {
    words.choose(random).copied().unwrap_or_default()
}
