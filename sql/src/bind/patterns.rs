//! PostgreSQL's patterns for times, as the engine's: strftime's.
//!
//! What it guarantees: a pattern that is given means to the engine what it means to PostgreSQL.
//! What it does not: patterns for numbers, and fields that strftime has no word for; those are not
//! given.

/// Fields, those before others that they begin with. Where letters are mixed or the case tells
/// something, the field is taken as it is written and in no other way.
const FIELDS: &[(&str, &str)] = &[
    ("FMYYYY", "%Y"),
    ("FMMonth", "%B"),
    ("FMMM", "%-m"),
    ("FMMI", "%-M"),
    ("FMDay", "%A"),
    ("FMDD", "%-d"),
    ("FMHH24", "%-H"),
    ("FMHH12", "%-I"),
    ("FMHH", "%-I"),
    ("FMSS", "%-S"),
    ("IYYY", "%G"),
    ("YYYY", "%Y"),
    ("YY", "%y"),
    ("Mon", "%b"),
    ("MM", "%m"),
    ("MI", "%M"),
    ("MS", "%3f"),
    ("DDD", "%j"),
    ("DD", "%d"),
    ("Dy", "%a"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("HH", "%I"),
    ("SS", "%S"),
    ("US", "%6f"),
    ("IW", "%V"),
    ("ID", "%u"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("am", "%P"),
    ("pm", "%P"),
];

/// Longer fields that one of [`FIELDS`] would be taken for a part of.
const OTHERS: &[&str] = &["SSSS", "IDDD", "YYY", "Month", "MONTH", "month"];

/// The pattern for strftime; `None` for what has none that means the same.
pub(super) fn strftime(pattern: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if let Some((field, means)) = field(rest) {
            out.push_str(means);
            rest = rest.get(field.len()..)?;
        } else if first == '"' {
            let (text, after) = rest.get(1..)?.split_once('"')?;
            if text.contains('\\') {
                return None;
            }
            out.push_str(&text.replace('%', "%%"));
            rest = after;
        } else if first.is_alphanumeric() || first == '\\' {
            return None;
        } else {
            out.push(first);
            rest = rest.get(first.len_utf8()..)?;
        }
    }
    Some(out)
}

/// The field that `text` begins with.
fn field(text: &str) -> Option<(&'static str, &'static str)> {
    let longer = OTHERS.iter().any(|it| text.starts_with(it) && !text.starts_with("YYYY"));
    let found = FIELDS.iter().find(|(field, _)| {
        let any_case =
            !field.contains(|it: char| it.is_ascii_lowercase()) && !matches!(*field, "AM" | "PM");
        let begin = text.get(..field.len());
        begin.is_some_and(|it| it == *field || any_case && it.eq_ignore_ascii_case(field))
    });
    found.copied().filter(|_| !longer)
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn patterns_mean_the_same_or_are_not_taken() {
        for (given, means) in [
            ("YYYY-MM-DD HH24:MI:SS", "%Y-%m-%d %H:%M:%S"),
            ("dd/mm/yyyy", "%d/%m/%Y"),
            ("FMDD \"tháng\" FMMM", "%-d tháng %-m"),
            ("YYYYMMDDHH24MISS", "%Y%m%d%H%M%S"),
            ("Dy, DD Mon YYYY", "%a, %d %b %Y"),
            ("HH12:MI AM", "%I:%M %p"),
            ("IYYY-\"W\"IW", "%G-W%V"),
            ("HH24:MI:SS.MS", "%H:%M:%S.%3f"),
            ("\"100%\" YY", "100%% %y"),
        ] {
            assert_eq!(strftime(given).as_deref(), Some(means), "{given}");
        }
        for given in ["Month", "MON", "999.99", "YYY", "Y,YYY", "DDth", "SSSS", "TZ", "\"x", "Q"] {
            assert_eq!(strftime(given), None, "{given}");
        }
    }
}
