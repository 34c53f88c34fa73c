//! Jobs are shown from their beginning to their end, and the oldest are forgotten.

use kho_catalog::error::Kind;

use super::*;

fn states(jobs: &Jobs) -> Vec<&'static str> {
    jobs.all().iter().map(|job| job.ended.as_ref().map_or("running", |it| it.state)).collect()
}

#[test]
fn a_job_is_shown_with_how_it_ended() {
    let environment = Environment::open("memory://").unwrap();
    let jobs = Jobs::default();
    let running = jobs.begin(&environment, "compaction", Some(16400));
    running.progress().expect(10);
    running.progress().advance(4);
    jobs.begin(&environment, "sweep", None).fail(&Error::new(Kind::Io, "the disk is gone"));
    jobs.begin(&environment, "sweep", None).give_up();
    drop(jobs.begin(&environment, "sweep", None));
    assert_eq!(states(&jobs), ["running", "stopped", "given up", "failed"]);
    let all = jobs.all();
    assert_eq!(all[0].progress.get(), (4, 10));
    let error = all[3].ended.as_ref().unwrap().error.as_deref();
    assert_eq!(error, Some("58030: the disk is gone"));
    running.succeed();
    assert_eq!(states(&jobs)[0], "succeeded");
}

#[test]
fn only_the_newest_are_remembered() {
    let environment = Environment::open("memory://").unwrap();
    let jobs = Jobs::default();
    let first = jobs.begin(&environment, "sweep", None);
    for _ in 0..ENDED_MAX + 10 {
        jobs.begin(&environment, "sweep", None).succeed();
    }
    assert_eq!(jobs.all().len(), ENDED_MAX + 1);
    assert_eq!(states(&jobs)[0], "running", "one that runs is never forgotten");
    drop(first);
}
