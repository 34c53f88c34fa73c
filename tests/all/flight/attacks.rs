//! What a stranger, or another client, tries.

use arrow::array::NullArray;
use arrow_flight::sql::ActionClosePreparedStatementRequest;
use arrow_flight::{CancelFlightInfoRequest, FlightDescriptor, Ticket};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kho_tests::kho::Folders;

use super::*;

fn handle(results: &[Bytes]) -> Bytes {
    let any = Any::decode(results[0].as_ref()).unwrap();
    let result: ActionCreatePreparedStatementResult = any.unpack().unwrap().unwrap();
    result.prepared_statement_handle
}

#[test]
fn nobody_is_told_anything() {
    let kho = Kho::start();
    let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    for (authorization, expected) in [
        ("", "28000"),
        ("Bearer", "28000"),
        ("Bearer flight.", "28000"),
        ("Bearer flight.AAAA", "28000"),
        ("Bearer kho_0000", "28P01"),
        ("Negotiate x", "28000"),
        (&basic("admin"), "28000"),
        (&basic("admin:wrong"), "28P01"),
        (&basic("nobody:wrong"), "28P01"),
        ("Basic \u{7f}", "28000"),
    ] {
        let Ok(mut stranger) = Flight::calling(kho.flight, authorization) else { continue };
        assert_eq!(state(info(&mut stranger, "SELECT 1")), expected, "{authorization}");
        assert_eq!(state(stranger.act("CloseSession", "")), expected, "{authorization}");
    }
    assert_eq!(state(Flight::connect(kho.flight, "admin", "wrong").map(drop)), "28P01");
    assert_eq!(state(Flight::connect(kho.flight, "nobody", "wrong").map(drop)), "28P01");
}

#[test]
fn what_a_call_says_beside_its_token_must_agree_with_it() {
    let kho = Kho::start();
    let admin = kho.fly("admin");
    let saying = |name: &'static str, value: &str| {
        let same = Flight::calling(kho.flight, &admin.authorization()).unwrap();
        info(&mut same.saying(name, value), "SELECT 1")
    };
    saying("kho-role", "admin").unwrap();
    saying("kho-authentication", "password").unwrap();
    saying("kho-authentication", "token").unwrap();
    assert_eq!(state(saying("kho-role", "an")), "28000");
    assert_eq!(state(saying("kho-role", "")), "28000");
    assert_eq!(state(saying("kho-authentication", "none")), "22023");
    // As with a password.
    let basic = format!("Basic {}", BASE64_STANDARD.encode("admin:admin"));
    let calling = || Flight::calling(kho.flight, &basic).unwrap();
    assert_eq!(state(info(&mut calling().saying("kho-role", "an"), "SELECT 1")), "28000");
    let mut wrong = calling().saying("kho-authentication", "none");
    assert_eq!(state(info(&mut wrong, "SELECT 1")), "22023");
}

#[test]
fn a_refused_login_is_in_the_ledger_as_one_over_flight() {
    let kho = Kho::start();
    let _ = Flight::connect(kho.flight, "nobody", "wrong");
    let mut admin = kho.fly("admin");
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE kho_auditor").unwrap();
    let mut auditor = kho.fly("auditor");
    let query = "SELECT protocol FROM kho.audit_log WHERE kind = 'login_refused'";
    assert_eq!(value(&mut auditor, query), "flight");
}

#[test]
fn a_ticket_of_somebody_else_is_refused() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'").unwrap();
    let told = info(&mut admin, "SELECT 1").unwrap();
    let ticket = told.endpoint[0].ticket.clone().unwrap();
    let mut an = kho.fly("an");
    assert_eq!(state(an.get(ticket.clone())), "42501");
    let cancel = CancelFlightInfoRequest::new(told).encode_to_vec();
    assert_eq!(state(an.act("CancelFlightInfo", cancel)), "42501");
    let mut changed = ticket.ticket.to_vec();
    changed[20] ^= 1;
    for wrong in [Vec::new(), b"SELECT 1".to_vec(), vec![0; 64], changed] {
        assert_eq!(state(admin.get(Ticket::new(wrong))), "42501");
    }
    admin.get(ticket).unwrap();
}

#[test]
fn what_a_client_keeps_no_other_reaches() {
    let kho = Kho::start();
    let (mut admin, mut other) = (kho.fly("admin"), kho.fly("admin"));
    let handle = handle(&prepare(&mut admin, "SELECT 1").unwrap());
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    assert_eq!(state(other.info(&command)), "26000");
    let close = ActionClosePreparedStatementRequest { prepared_statement_handle: handle };
    other.act("ClosePreparedStatement", close.as_any().encode_to_vec()).unwrap();
    admin.info(&command).unwrap();
    let transaction = admin.begin().unwrap();
    assert_eq!(state(end(&mut other, &transaction, EndTransaction::Commit)), "25P01");
    other.is_in(Some(transaction));
    assert_eq!(state(other.run("SELECT 1")), "25P01");
}

#[test]
fn a_client_ends_with_its_role_and_when_it_says_so() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'").unwrap();
    let mut an = kho.fly("an");
    assert_eq!(value(&mut an, "SELECT current_user"), "an");
    admin.run("DROP ROLE an").unwrap();
    assert_eq!(state(an.run("SELECT 1")), "28000");
    let mut again = Flight::calling(kho.flight, &admin.authorization()).unwrap();
    again.act("CloseSession", "").unwrap();
    assert_eq!(state(admin.run("SELECT 1")), "28000");
}

#[test]
fn a_token_does_not_long_outlive_what_it_was_given_for() {
    let kho = Kho::start_with(Folders::new(), &[("KHO_FLIGHT__TOKEN_LIFETIME_S", "10")]);
    let mut admin = kho.admin();
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'");
    for (change, expected, undo) in [
        ("ALTER ROLE an PASSWORD 'other'", "28P01", "ALTER ROLE an PASSWORD 'an'"),
        ("ALTER ROLE an VALID UNTIL '2020-01-01'", "28P01", "ALTER ROLE an VALID UNTIL 'infinity'"),
        ("ALTER ROLE an NOLOGIN", "28000", "ALTER ROLE an LOGIN"),
    ] {
        let mut an = kho.fly("an");
        let told = info(&mut an, "SELECT 1").unwrap();
        let mut same = Flight::calling(kho.flight, &an.authorization()).unwrap();
        admin.run(change);
        // As any session it goes on, until its token is to be renewed.
        assert_eq!(value(&mut an, "SELECT 1"), "1", "{change}");
        let refused = (0..).find_map(|_| an.run("SELECT 1").err()).unwrap();
        assert_eq!(state(Err::<(), _>(refused)), expected, "{change}");
        // It has ended: what was taken away and given back needs a new login.
        admin.run(undo);
        assert_eq!(state(same.get(told.endpoint[0].ticket.clone().unwrap())), "28000", "{change}");
        assert_eq!(value(&mut kho.fly("an"), "SELECT 1"), "1");
    }
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE kho_auditor");
    let query = "SELECT count(*) FROM kho.audit_log WHERE kind = 'login_refused' AND role = 'an'";
    assert_eq!(value(&mut kho.fly("auditor"), query), "3");
}

#[test]
fn bytes_that_are_no_message_are_refused_as_such() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    for body in [b"x".to_vec(), vec![0xff; 100], Vec::new()] {
        for kind in ["CreatePreparedStatement", "EndTransaction", "BeginSavepoint", "CancelQuery"] {
            let refused = state(admin.act(kind, body.clone()));
            assert!(matches!(refused.as_str(), "08P01" | "22023" | "25P01"), "{kind}: {refused}");
        }
    }
    assert_eq!(state(admin.act("NoSuchThing", "")), "0A000");
    let _ = FlightDescriptor::new_cmd(Vec::new());
    assert_eq!(value(&mut admin, "SELECT 1"), "1");
}

#[test]
fn what_is_not_fetched_is_bounded_and_nothing_is_done_beyond_it() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    let mut refused = 0;
    for _ in 0..300 {
        match info(&mut admin, "INSERT INTO s.t VALUES (1) RETURNING id") {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(state::<()>(Err(error)), "54000");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 44);
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "256");
}

#[test]
fn parameters_without_end_are_refused() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    let select = prepared(&mut admin, "SELECT $1::bigint");
    let endless = parameters(Arc::new(NullArray::new(1 << 40)));
    assert_eq!(state(admin.put(&select, endless)), "54000");
    let none = prepared(&mut admin, "SELECT 1");
    let endless = parameters(Arc::new(NullArray::new(1 << 40)));
    assert_eq!(state(admin.put(&none, endless)), "08P01", "none are asked for");
    assert_eq!(value(&mut admin, "SELECT 1"), "1");
}

#[test]
fn a_try_at_somebody_elses_ticket_is_in_the_ledger() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'").unwrap();
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE kho_auditor").unwrap();
    let told = info(&mut admin, "SELECT 1").unwrap();
    let ticket = told.endpoint[0].ticket.clone().unwrap();
    let mut an = kho.fly("an");
    assert_eq!(state(an.get(ticket)), "42501");
    let cancel = CancelFlightInfoRequest::new(told).encode_to_vec();
    assert_eq!(state(an.act("CancelFlightInfo", cancel)), "42501");
    let question = "SELECT count(*) FROM kho.audit_log WHERE role = 'an' AND outcome = '42501'";
    assert_eq!(value(&mut kho.fly("auditor"), question), "2");
}

/// Arrow's messages carry buffers, and not values: what lies under a mask, in a hidden row, or in the rest
/// of a text that a piece was cut from, must be in none of them.
#[test]
fn nothing_but_the_values_that_may_be_seen_is_in_any_message() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    let salary = 0x5ec2_e75e_c2e7_5ec2_i64;
    for statement in [
        "CREATE SCHEMA s".to_owned(),
        "CREATE TABLE s.t (id bigint, mail text, name text, salary bigint, ward bigint)"
            .to_owned(),
        format!(
            "INSERT INTO s.t SELECT x, 'a beginning of thirty letters. ' || (CASE x % 2 WHEN 0 THEN \
             'MASKED-PART' ELSE 'HIDDEN-ROW' END) || x, (CASE x % 2 WHEN 0 THEN 'a name that is \
             seen' ELSE 'a name in a HIDDEN-ROW' END), {salary}, x % 2 \
             FROM generate_series(1, 1000) AS g (x)"
        ),
        "CALL kho.set_mask('s.t', 'mail', using => 'substr(value, 1, 24)', except_roles => 'admin')"
            .to_owned(),
        "CALL kho.set_mask('s.t', 'salary', using => 'CASE WHEN value < 5 THEN value END', \
         except_roles => 'admin')"
            .to_owned(),
        "CREATE POLICY even ON s.t FOR SELECT USING (ward = 0)".to_owned(),
        "ALTER TABLE s.t ENABLE ROW LEVEL SECURITY".to_owned(),
        "CREATE ROLE an LOGIN PASSWORD 'an'".to_owned(),
        "GRANT USAGE ON SCHEMA s TO an".to_owned(),
        "GRANT SELECT ON s.t TO an".to_owned(),
    ] {
        admin.run(&statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    let number = salary.to_le_bytes();
    let hidden: [&[u8]; 3] = [b"MASKED-PART", b"HIDDEN-ROW", &number];
    let mut seen = 0;
    for views in ["false", "true"] {
        let mut an = kho.fly("an").saying("kho-arrow-views", views);
        for query in [
            "SELECT * FROM s.t",
            "SELECT mail FROM s.t",
            "SELECT name FROM s.t WHERE id < 40",
            "SELECT name, mail FROM s.t LIMIT 3",
            "SELECT salary FROM s.t ORDER BY id DESC",
            "SELECT substr(name, 3, 14), salary, max(mail) FROM s.t GROUP BY 1, 2",
            "SELECT array_agg(name), array_agg(salary), array_agg(mail) FROM s.t",
            "SELECT a.mail, b.salary FROM s.t AS a LEFT JOIN s.t AS b ON a.id = b.id - 2",
        ] {
            let told = info(&mut an, query).unwrap();
            let bytes = an.bytes(told.endpoint[0].ticket.clone().unwrap()).unwrap();
            seen += bytes.windows(6).filter(|it| it == b"a name" || it == b"a begi").count();
            for marker in hidden {
                let is_there = bytes.windows(marker.len()).any(|it| it == marker);
                let marker = String::from_utf8_lossy(marker);
                assert!(!is_there, "{marker} is in the messages of {query}, views {views}");
            }
        }
    }
    assert!(seen > 0, "what may be seen is there");
}

/// Nothing that a client sends puts a NUL into a text, which clients of the PostgreSQL wire cut there.
#[test]
fn a_text_with_a_nul_is_no_statement() {
    let kho = Kho::start();
    let mut admin = Flight::connect(kho.flight, "admin", "admin").unwrap();
    for statement in ["SELECT 'a\0b'", "SELECT 1 -- \0", "SELECT 1 AS \"a\0b\""] {
        assert_eq!(state(info(&mut admin, statement)), "22021", "{statement:?}");
        assert_eq!(state(admin.update(statement)), "22021", "{statement:?}");
    }
}
