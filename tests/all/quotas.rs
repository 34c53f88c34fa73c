//! Limits of roles where there are several sessions, servers, days or lives of a server.

mod agreement;
mod day;
mod running;
mod wire;

use std::time::{Duration, Instant};

use kho_tests::kho::{Folders, Kho};
use kho_tests::wire::Wire;

/// Hours of work that gives no row before its end.
const ENDLESS: &str = "SELECT count(*), sum(sin(a.x * b.x)) FROM generate_series(1, 50000) AS a (x) \
     CROSS JOIN generate_series(1, 300000000) AS b (x)";
/// What holds within a second holds within this on a machine that runs other tests meanwhile.
const SOON: Duration = Duration::from_secs(20);
const ROWS: u64 = 100_000;

/// A Kho with `o.t` of `officer`, of [`ROWS`] rows, which `an` may read.
fn city(environment: &[(&str, &str)]) -> Kho {
    let kho = Kho::start_with(Folders::new(), environment);
    let mut admin = kho.admin();
    admin.run("CREATE ROLE officer LOGIN PASSWORD 'officer'");
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'");
    admin.run("CREATE SCHEMA o AUTHORIZATION officer");
    let mut officer = kho.connect("officer");
    officer.run("CREATE TABLE o.t (id bigint)");
    officer.run(&format!("INSERT INTO o.t SELECT x FROM generate_series(1, {ROWS}) AS g (x)"));
    officer.run("GRANT USAGE ON SCHEMA o TO an");
    officer.run("GRANT SELECT ON o.t TO an");
    kho
}

fn limit(kho: &Kho, role: &str, name: &str, value: &str) {
    kho.admin().run(&format!(
        "CALL kho.set_role_limit(role => '{role}', name => '{name}', value => {value})"
    ));
}

/// What a role sees that it used of one of its limits.
fn used(wire: &mut Wire, name: &str) -> u64 {
    let question = format!("SELECT used FROM kho.role_limits WHERE name = '{name}'");
    wire.value(&question).parse().unwrap()
}

/// Asks until the answer is `wanted`.
fn wait_for(mut ask: impl FnMut() -> String, wanted: &str) {
    let asked = Instant::now();
    loop {
        let found = ask();
        if found == wanted {
            return;
        }
        assert!(asked.elapsed() < SOON, "{found}, not {wanted}");
    }
}
