//! Few statements are kept, and no long ones.

use super::*;

fn statement(text: &str) -> Statement {
    kho_sql::parse::of_client(text).unwrap().remove(0)
}

#[test]
fn the_last_few_are_kept() {
    let recent = Recent::default();
    let texts: Vec<String> = (0..=MOST).map(|it| format!("SELECT {it}")).collect();
    for text in &texts {
        recent.put(text.clone(), statement(text));
    }
    let kept = texts.iter().filter(|text| recent.get(text).is_some()).count();
    assert_eq!((kept, recent.get(&texts[0]).is_none()), (MOST, true));
    recent.clear();
    assert!(recent.get(&texts[1]).is_none());
}

#[test]
fn no_long_text_is_kept() {
    let recent = Recent::default();
    let text = format!("SELECT '{}'", "x".repeat(LONGEST_BYTES));
    recent.put(text.clone(), statement(&text));
    assert!(recent.get(&text).is_none());
}
