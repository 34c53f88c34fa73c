//! What to type next: a walk through the demo, each step with what it must give.
//!
//! The guide that is printed is made from [`tour`] alone, so a test that runs every step has run
//! what a newcomer is told to type.

use std::net::SocketAddr;

use super::folder::Facts;
use super::script::{
    ANALYST, AUDITOR, ENVIRONMENT_OFFICER, HEALTH_OFFICER, PEOPLE, RESEARCHER, WARD_OFFICE,
    password,
};

/// The version of `environment.air_quality` that holds every month and no correction: version 0
/// made the table, each month is one more.
const UNCORRECTED_VERSION: u32 = 6;
/// Corrected, and without the stuck sensor's readings.
const LAST_VERSION: u32 = UNCORRECTED_VERSION + 2;

/// One thing to type, as one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TourStep {
    pub role: &'static str,
    pub password: String,
    /// What it shows, in a few words.
    pub about: &'static str,
    /// A statement that ends in `;`, or one of psql's own commands, which begins with `\`.
    pub text: String,
    pub expected: Expected,
}

/// What a step must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// So many rows, or more.
    Rows(usize),
    /// This command tag.
    Done(&'static str),
    /// An error with this SQLSTATE.
    Error(&'static str),
    /// Something; only psql can run it.
    Shown,
}

/// The walk, in order. Running it again gives the same.
pub fn tour(facts: &Facts) -> Vec<TourStep> {
    let mut steps = analyst(facts);
    steps.extend(mistake());
    steps.extend(patients());
    steps
}

/// The roles, how to connect, and the walk, to be printed.
pub(super) fn guide(address: SocketAddr, facts: &Facts) -> String {
    let mut lines = vec![
        String::new(),
        format!("The city of Hải Lam, invented, is served at {address}. Its roles:"),
        String::new(),
    ];
    let line =
        |role: &str, password: &str, about: &str| format!("  {role:<20} {password:<26} {about}");
    lines.extend(PEOPLE.iter().map(|it| line(it.role, &password(it.role), it.about)));
    let of_admin = match facts.admin_password_given {
        true => "(the one you gave)",
        false => super::ADMIN_PASSWORD,
    };
    lines.push(line("admin", of_admin, "manages roles, and reads no data"));
    lines.push(String::new());
    lines.push("In another terminal, type the lines that are indented most:".to_owned());
    let mut role = "";
    for step in tour(facts) {
        if step.role != role {
            role = step.role;
            lines.extend([String::new(), format!("    {}", psql(address, &step))]);
        }
        lines.extend([String::new(), format!("  {}", step.about), format!("    {}", step.text)]);
    }
    lines.push(String::new());
    lines.push("Ctrl-C here stops it; the next start finds it as you left it.".to_owned());
    lines.join("\n")
}

/// The command that connects as the role of `step`.
fn psql(address: SocketAddr, step: &TourStep) -> String {
    let (host, port) = (address.ip(), address.port());
    format!(
        "PGPASSWORD={} psql \"host={host} port={port} dbname=kho user={} sslmode=require\"",
        step.password, step.role
    )
}

fn step(
    role: &'static str,
    about: &'static str,
    text: impl Into<String>,
    expected: Expected,
) -> TourStep {
    TourStep { role, password: password(role), about, text: text.into(), expected }
}

fn analyst(facts: &Facts) -> Vec<TourStep> {
    let as_analyst = |about, text: String, expected| step(ANALYST, about, text, expected);
    let before = &facts.before_correction;
    let (uncorrected, last) = (UNCORRECTED_VERSION, LAST_VERSION);
    vec![
        as_analyst("What is there, for you:", "\\dt *.*".to_owned(), Expected::Shown),
        as_analyst(
            "The largest wards:",
            "SELECT name, kind, population FROM civil_registry.commune \
             ORDER BY population DESC LIMIT 5;"
                .to_owned(),
            Expected::Rows(5),
        ),
        as_analyst(
            "Where businesses are, over two agencies' data:",
            "SELECT c.name, count(*) AS businesses, sum(b.capital) AS capital \
             FROM business.registry b JOIN civil_registry.commune c ON c.code = b.commune_code \
             WHERE b.status = 'đang hoạt động' \
             GROUP BY c.name ORDER BY businesses DESC LIMIT 5;"
                .to_owned(),
            Expected::Rows(5),
        ),
        as_analyst(
            "Every change of a dataset is kept:",
            "SELECT * FROM kho.table_history('environment.air_quality');".to_owned(),
            Expected::Rows(9),
        ),
        as_analyst("The air in April, with a sensor put right:", april(""), Expected::Rows(3)),
        as_analyst(
            "The same, as it was before the correction:",
            april(&format!(" VERSION AS OF {uncorrected}")),
            Expected::Rows(3),
        ),
        as_analyst(
            "The same, by the time instead of the version:",
            april(&format!(" TIMESTAMP AS OF '{before}'")),
            Expected::Rows(3),
        ),
        as_analyst(
            "What the two corrections changed, row by row:",
            format!(
                "SELECT * FROM kho.table_changes('environment.air_quality', {}, {last}) LIMIT 6;",
                uncorrected + 1
            ),
            Expected::Rows(6),
        ),
        as_analyst(
            "What an analyst may not see does not exist for them (42P01):",
            "SELECT * FROM health.patient;".to_owned(),
            Expected::Error("42P01"),
        ),
        as_analyst(
            "The counts that the health office gives out do, for a purpose that was agreed on:",
            "SET kho.purpose = 'a'; SELECT c.name, p.patients FROM health.patients_per_ward p \
             JOIN civil_registry.commune c ON c.code = p.ward ORDER BY p.patients DESC LIMIT 5;"
                .to_owned(),
            Expected::Rows(5),
        ),
    ]
}

fn april(version: &str) -> String {
    format!(
        "SELECT station_id, max(pm25) AS most, avg(pm25) AS mean FROM environment.air_quality\
         {version} WHERE measured_at >= '2026-04-01 00:00:00+07' \
         AND measured_at < '2026-05-01 00:00:00+07' \
         GROUP BY station_id ORDER BY most DESC LIMIT 3;"
    )
}

fn mistake() -> Vec<TourStep> {
    let officer = |about, text: String, expected| step(ENVIRONMENT_OFFICER, about, text, expected);
    vec![
        officer(
            "Make a mistake:",
            "DELETE FROM environment.air_quality;".to_owned(),
            Expected::Done("DELETE"),
        ),
        officer(
            "Nothing is left, and nothing is lost:",
            format!(
                "CALL kho.restore_table('environment.air_quality', version => {LAST_VERSION});"
            ),
            Expected::Done("CALL"),
        ),
        officer(
            "All is back:",
            "SELECT count(*) FROM environment.air_quality;".to_owned(),
            Expected::Rows(1),
        ),
    ]
}

/// The same question about the patients, by three roles; then the auditor's, who asked it.
const PATIENTS: &str =
    "SELECT ward, national_id, full_name, born FROM health.patient ORDER BY id LIMIT 3;";

fn patients() -> Vec<TourStep> {
    let ask = |purpose: &str| format!("SET kho.purpose = '{purpose}'; {PATIENTS}");
    vec![
        step(
            HEALTH_OFFICER,
            "How the patients' dataset is made:",
            "\\d health.patient",
            Expected::Shown,
        ),
        step(
            HEALTH_OFFICER,
            "One table, three answers. Nobody reads it without saying for what (KH001):",
            PATIENTS,
            Expected::Error("KH001"),
        ),
        step(
            HEALTH_OFFICER,
            "For administrative procedures (d), its owner sees everything:",
            ask("d"),
            Expected::Rows(3),
        ),
        step(
            WARD_OFFICE,
            "For the same, a ward office sees its own ward, and no identity numbers:",
            ask("d"),
            Expected::Rows(3),
        ),
        step(
            RESEARCHER,
            "For the city's development (a), a researcher sees every ward, and nobody in it:",
            ask("a"),
            Expected::Rows(3),
        ),
        step(
            RESEARCHER,
            "And for nothing else, since that is what was agreed on (KH002):",
            ask("d"),
            Expected::Error("KH002"),
        ),
        step(
            AUDITOR,
            "An auditor sees who asked, for what, what came of it, and what was masked:",
            "SELECT role, purpose, outcome, rows, masks FROM kho.audit_log \
             WHERE 'health.patient' = ANY (datasets) AND statement LIKE 'SELECT ward%' \
             ORDER BY time DESC LIMIT 5;",
            Expected::Rows(5),
        ),
        step(
            AUDITOR,
            "But an auditor audits, and so reads no data (42P01):",
            "SELECT count(*) FROM civil_registry.commune;",
            Expected::Error("42P01"),
        ),
    ]
}
