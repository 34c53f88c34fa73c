//! `kho demo`: what it tells a newcomer to type works as it is written, line by line.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kho_tests::kho::kho;
use kho_tests::output::run;
use kho_tests::process::Process;

fn start(folder: &Path, arguments: &[&str]) -> Process {
    let mut command = kho("demo");
    command
        .arg("--data")
        .arg(folder)
        .args(arguments)
        .env("KHO_LIMITS__SPILL_DIRECTORY", folder.with_file_name("spill"))
        .env("KHO_PG__LISTEN", "127.0.0.1:0")
        .env("KHO_FLIGHT__LISTEN", "127.0.0.1:0")
        .env("KHO_HTTP__LISTEN", "127.0.0.1:0");
    let process = Process::start(&mut command);
    process.wait_for(|line| line.strip_prefix("ready pg=").map(drop));
    process
}

/// One line to type, the command that psql was started with, and what the guide says of it.
struct Step {
    psql: String,
    about: String,
    text: String,
}

/// The steps of the printed guide: what is typed is indented by four.
fn steps(log: &str) -> Vec<Step> {
    let (mut psql, mut about, mut found) = (String::new(), String::new(), Vec::new());
    for line in log.lines() {
        match line.strip_prefix("    ") {
            Some(text) if text.starts_with("PGPASSWORD=") => psql = text.to_owned(),
            Some(text) => {
                found.push(Step { psql: psql.clone(), about: about.clone(), text: text.to_owned() })
            }
            None => about = line.trim().to_owned(),
        }
    }
    found
}

/// Types `step` as the guide says; `Err` with what psql says where the statement fails.
fn try_step(step: &Step) -> Result<String, String> {
    let command = format!(
        "{} --no-psqlrc --no-align --tuples-only -v ON_ERROR_STOP=1 -v VERBOSITY=verbose",
        step.psql
    );
    let input = format!("{}\n", step.text);
    let output = run(
        Command::new("sh").args(["-c", &command]).env("LC_ALL", "C.UTF-8").env("PAGER", "cat"),
        &input,
        Duration::from_secs(120),
    );
    if output.success { Ok(output.stdout) } else { Err(output.stderr) }
}

fn walk(log: &str) {
    let steps = steps(log);
    let tour = readme_tour();
    assert!(tour.len() >= 8, "the README's tour has {} lines", tour.len());
    // The port is the README's default; the test's is another.
    let is_said = |line: &&str| {
        let role = line.split(' ').next().filter(|it| it.starts_with("PGPASSWORD="));
        steps.iter().any(|step| match role {
            Some(role) => step.psql.starts_with(&format!("{role} psql ")),
            None => step.text == **line,
        })
    };
    for line in &tour {
        assert!(is_said(line), "the guide lacks a line of the README: {line}");
    }
    assert!(steps.len() >= 20, "the guide has {} steps:\n{log}", steps.len());
    for step in &steps {
        let refused = refusal(&step.about);
        match (try_step(step), refused) {
            (Ok(shown), None) => {
                assert!(!shown.trim().is_empty(), "{} shows nothing", step.text)
            }
            (Ok(shown), Some(_)) => panic!("{} gave:\n{shown}", step.text),
            (Err(message), refused) => assert!(
                refused.is_some_and(|it| message.contains(&format!("ERROR:  {it}:"))),
                "{} failed:\n{message}",
                step.text
            ),
        }
    }
    three_answers(&steps);
    let most = |about: &str| {
        let step = steps.iter().find(|step| step.about.contains(about)).unwrap();
        try_step(step).unwrap().lines().next().unwrap().to_owned()
    };
    let corrected = most("put right");
    let before = most("before the correction");
    assert!(before.starts_with("5|") && !corrected.starts_with("5|"), "{before}, {corrected}");
    assert_eq!(before, most("by the time"));
}

/// The SQLSTATE that a step is to be refused with, as the guide says it.
fn refusal(about: &str) -> Option<&str> {
    let (_, code) = about.strip_suffix("):")?.rsplit_once('(')?;
    (code.len() == 5).then_some(code)
}

/// One question about the patients: each role has another answer, and the auditor sees who asked.
fn three_answers(steps: &[Step]) {
    let rows = |about: &str| -> Vec<Vec<String>> {
        let step = steps.iter().find(|step| step.about.contains(about)).unwrap();
        let shown = try_step(step).unwrap();
        let rows = shown.lines().filter(|line| line.contains('|'));
        rows.map(|row| row.split('|').map(str::to_owned).collect()).collect()
    };
    let owner = rows("its owner sees everything");
    let ward = rows("a ward office sees its own ward");
    let researcher = rows("a researcher sees every ward");
    assert!([&owner, &ward, &researcher].iter().all(|it| it.len() == 3));
    assert!(owner.iter().all(|it| it[1].len() == 12 && !it[1].contains('*')), "{owner:?}");
    assert!(owner.iter().any(|it| it[0] != "99001"), "{owner:?}");
    assert!(owner.iter().any(|it| !it[3].ends_with("-01-01")), "{owner:?}");
    assert!(ward.iter().all(|it| it[0] == "99001" && it[1].starts_with("********")), "{ward:?}");
    assert!(ward.iter().all(|it| it[2].contains(' ')), "{ward:?}");
    for (seen, of) in researcher.iter().zip(&owner) {
        assert_eq!(seen[0], of[0]);
        assert_eq!(seen[1], format!("********{}", &of[1][8..]));
        assert_eq!(seen[2], format!("{}…", of[2].chars().next().unwrap()));
        assert_eq!(seen[3], format!("{}-01-01", &of[3][..4]));
    }
    let asked = rows("An auditor sees who asked");
    let told = |role: &str, purpose: &str, outcome: &str| {
        asked.iter().any(|it| it[..3] == [role, purpose, outcome])
    };
    assert!(told("researcher", "a", "00000"), "{asked:?}");
    assert!(told("ward_office", "d", "00000"), "{asked:?}");
    assert!(told("health_officer", "d", "00000"), "{asked:?}");
    let of_researcher = asked.iter().find(|it| it[0] == "researcher").unwrap();
    assert!(of_researcher[4].contains("national_id of health.patient"), "{asked:?}");
}

/// The lines of the README's tour, each of which the guide has, too: the README says nothing else.
fn readme_tour() -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    let tour = readme.split("```").nth(1).unwrap();
    tour.lines().filter(|line| !line.trim().is_empty()).collect()
}

#[test]
fn the_guide_works_line_by_line_and_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let demo = folder.path().join("demo");
    let first = start(&demo, &[]);
    walk(&first.log());
    let ended = first.stop("INT");
    assert!(ended.status.success(), "it did not stop cleanly:\n{}", ended.log);
    let second = start(&demo, &[]);
    assert!(second.log().contains("using the demo in"), "{}", second.log());
    walk(&second.log());
}

#[test]
fn a_demo_that_was_killed_while_it_was_built_is_built_anew() {
    let folder = tempfile::tempdir().unwrap();
    let demo = folder.path().join("demo");
    let mut command = kho("demo");
    command
        .arg("--data")
        .arg(&demo)
        .env("KHO_LIMITS__SPILL_DIRECTORY", demo.with_file_name("spill"))
        .env("KHO_PG__LISTEN", "127.0.0.1:0")
        .env("KHO_FLIGHT__LISTEN", "127.0.0.1:0")
        .env("KHO_HTTP__LISTEN", "127.0.0.1:0");
    let first = Process::start(&mut command);
    first.wait_for(|line| line.contains("business.registry").then_some(()));
    first.kill();
    let second = start(&demo, &[]);
    assert!(second.log().contains("building the demo in"), "{}", second.log());
    walk(&second.log());
}
