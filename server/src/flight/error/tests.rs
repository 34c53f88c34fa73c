//! The code and the metadata of errors.

use super::*;

#[test]
fn an_error_is_told_whole() {
    let error = Error::new(Kind::UndefinedTable, "relation \"tên\" does not exist")
        .with_detail("Chi tiết")
        .with_hint("Gợi ý");
    let told = status(&error);
    assert_eq!(told.code(), Code::NotFound);
    assert_eq!(told.message(), "relation \"tên\" does not exist");
    assert_eq!(told.metadata().get(SQLSTATE).unwrap(), "42P01");
    let text = |name| told.metadata().get_bin(name).unwrap().to_bytes().unwrap();
    assert_eq!(text(DETAIL), "Chi tiết".as_bytes());
    assert_eq!(text(HINT), "Gợi ý".as_bytes());
}

#[test]
fn every_kind_has_a_code_that_is_no_success() {
    for kind in Kind::ALL {
        let told = status(&Error::new(*kind, "no"));
        assert!(!matches!(told.code(), Code::Ok | Code::Unknown), "{kind:?}");
        assert_eq!(told.metadata().get(SQLSTATE).unwrap(), kind.sqlstate());
    }
}

#[test]
fn a_long_text_is_cut_between_two_characters() {
    let error = Error::new(Kind::Syntax, "no").with_detail("ế".repeat(LONGEST_TEXT_BYTES));
    let told = status(&error);
    let bytes = told.metadata().get_bin(DETAIL).unwrap().to_bytes().unwrap();
    assert!(bytes.len() <= LONGEST_TEXT_BYTES);
    assert!(std::str::from_utf8(&bytes).is_ok());
}
