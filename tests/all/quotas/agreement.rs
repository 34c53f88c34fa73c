//! Quotas of agreements that answer requests, and those of several agreements beside each other.

use kho_tests::wire::Wire;

use super::city;

fn stating_d(kho: &kho_tests::kho::Kho) -> Wire {
    Wire::connect_with(&kho.target("an", "an"), &[("kho.purpose", "d")]).unwrap()
}

/// The owner gives what was asked for, or less.
#[test]
fn an_answer_can_be_tighter_than_the_request() {
    let kho = city(&[]);
    let mut officer = kho.connect("officer");
    officer.run("CREATE TABLE o.p (id bigint) WITH (requires_agreement = true)");
    officer.run("INSERT INTO o.p SELECT x FROM generate_series(1, 100) AS g (x)");
    let mut an = stating_d(&kho);
    let request = "CALL kho.request_access(dataset => 'o.p', purposes => 'd', \
                   until => '2999-12-31', basis => 'CV 2', rows_per_day => 50)";
    an.run(request);
    let id = officer.value("SELECT id FROM kho.access_requests WHERE state = 'open'");
    let wider = officer.refusal(&format!("CALL kho.approve_access({id}, rows_per_day => 51)"));
    assert_eq!(wider.sqlstate, "22023", "{wider}");
    officer
        .run(&format!("CALL kho.approve_access({id}, rows_per_day => 20, bytes_per_day => '1MB')"));
    let quota = "SELECT rows_per_day, bytes_per_day, rows_today FROM kho.agreements";
    let found = an.rows(quota);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found, [[text("20"), text("1048576"), text("0")]]);
    assert_eq!(an.rows("SELECT id FROM o.p LIMIT 20").len(), 20);
    let refused = an.refusal("SELECT id FROM o.p LIMIT 1");
    assert_eq!(refused.sqlstate, "53400", "{refused}");
    assert!(refused.hint.as_deref().unwrap().contains("role \"officer\""), "{refused}");
    // Of two that hold, the tightest does; where it ends, so does what it says.
    let first = officer.value("SELECT id FROM kho.agreements WHERE state = 'live'");
    officer.run("CALL kho.grant_agreement('o.p', 'an', 'd', '2999-12-31', 'CV 3')");
    assert_eq!(an.refusal("SELECT id FROM o.p LIMIT 1").sqlstate, "53400");
    officer.run(&format!("CALL kho.end_agreement({first}, 'another one was made')"));
    // The right that came with the first went with it.
    officer.run("GRANT SELECT ON o.p TO an");
    assert_eq!(an.rows("SELECT id FROM o.p").len(), 100);
}
