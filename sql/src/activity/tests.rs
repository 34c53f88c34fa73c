//! Who sees and stops which session, and when a statement is over.

use kho_catalog::state::{BUILT_IN_ROLES, Change, MembershipOption, Role};

use super::*;

const ADMIN: Oid = 16384;
const AN: Oid = 16385;
const BINH: Oid = 16386;

fn state() -> State {
    let role = |oid: Oid, name: &str, member_of: &[Oid]| {
        let member_of = member_of.iter().map(|it| (*it, MembershipOption::Member)).collect();
        Change::PutRole(Role {
            oid,
            name: name.to_owned(),
            login: true,
            verifier: None,
            member_of,
            connection_limit: None,
            valid_until_ms: None,
            comment: None,
            bypass_rls: false,
            attributes: Default::default(),
            default_grants: Vec::new(),
        })
    };
    let mut changes: Vec<Change> =
        BUILT_IN_ROLES.iter().map(|(oid, name)| role(*oid, name, &[])).collect();
    changes.extend([role(ADMIN, "admin", &[10]), role(AN, "an", &[]), role(BINH, "binh", &[])]);
    State::default().apply(&changes)
}

fn login(role: &str) -> Login {
    let settings = vec![("application_name".to_owned(), "psql".to_owned())];
    Login {
        role: role.to_owned(),
        protocol: "pgwire",
        client: None,
        settings,
        process_id: 7,
        credential: Default::default(),
    }
}

fn seen(activity: &Activity, role: Oid) -> Vec<(Oid, &'static str)> {
    let state = state();
    let visible = activity.visible(&state, &Principal::of(&state, role));
    visible.iter().map(|it| (it.role, it.state())).collect()
}

fn cancel(activity: &Activity, who: Oid, id: i64) -> Result<bool> {
    let state = state();
    activity.cancel(&state, &Principal::of(&state, who), |it| it.id == id)
}

#[test]
fn one_sees_ones_own_and_keepers_see_all() {
    let activity = Activity::default();
    let an = activity.open(&login("an"), AN, 0);
    let binh = activity.open(&login("binh"), BINH, 0);
    assert_eq!(seen(&activity, AN), [(AN, "idle")]);
    assert_eq!(seen(&activity, ADMIN), [(AN, "idle"), (BINH, "idle")]);
    drop(an);
    assert_eq!(seen(&activity, ADMIN), [(BINH, "idle")]);
    drop(binh);
    assert!(activity.lock().open.is_empty());
}

#[test]
fn what_runs_is_stopped_and_nothing_later() {
    let activity = Activity::default();
    let an = activity.open(&login("an"), AN, 0);
    assert!(!cancel(&activity, AN, 1).unwrap());
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let portal = an.runs("SELECT ?", &first, 5);
    an.stands(TransactionStatus::InTransaction);
    assert_eq!(seen(&activity, AN), [(AN, "active")]);
    let running = an.runs("SELECT ?", &second, 6);
    // The first was left open; its end is not the end of the second.
    drop(portal);
    assert_eq!(seen(&activity, AN), [(AN, "active")]);
    assert_eq!(cancel(&activity, BINH, 1).unwrap_err().sqlstate(), "42704");
    assert!(cancel(&activity, ADMIN, 1).unwrap());
    assert!(second.is_cancelled() && !first.is_cancelled());
    drop(running);
    assert_eq!(seen(&activity, AN), [(AN, "idle in transaction")]);
    an.stands(TransactionStatus::Failed);
    assert_eq!(seen(&activity, AN), [(AN, "idle in transaction (aborted)")]);
    assert_eq!(cancel(&activity, ADMIN, 2).unwrap_err().sqlstate(), "42704");
}

#[test]
fn a_session_that_gives_the_rows_of_several_statements_is_stopped_as_a_whole() {
    let activity = Activity::default();
    let an = activity.open(&Login { protocol: "flight", ..login("an") }, AN, 0);
    let [first, second, third] = [(); 3].map(|()| CancellationToken::new());
    let shown = || {
        let state = state();
        let entry = activity.visible(&state, &Principal::of(&state, AN)).pop().unwrap();
        (entry.state(), entry.running_since_ms(), entry.statement)
    };
    let one = an.runs("SELECT one", &first, 5);
    let two = an.runs("SELECT two", &second, 6);
    let three = an.runs("SELECT three", &third, 7);
    assert_eq!(shown(), ("active", Some(7), Some("SELECT three".to_owned())));
    drop(three);
    assert_eq!(shown(), ("active", Some(6), Some("SELECT two".to_owned())));
    assert!(cancel(&activity, AN, 1).unwrap());
    assert!(first.is_cancelled() && second.is_cancelled() && !third.is_cancelled());
    drop((one, two));
    assert_eq!(shown(), ("idle", None, Some("SELECT two".to_owned())));
    assert!(!cancel(&activity, AN, 1).unwrap());
}
