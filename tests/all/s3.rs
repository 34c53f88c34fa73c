//! The warehouse in a bucket: what is kept, who reads it, and what is refused at the start.

use std::time::Duration;

use kho_tests::kho::{Folders, Kho, serve};
use kho_tests::output::run;
use kho_tests::proxy::{Mode, Proxy};
use kho_tests::python::client;
use kho_tests::s3::{Bucket, S3, SECRET};

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let bucket = S3::shared().bucket();
    let kho = bucket.serve();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer, name text)");
    admin.run("COMMENT ON TABLE s.t IS 'trong kho'");
    admin.run("CREATE ROLE reader LOGIN PASSWORD 'reader'");
    admin.run("GRANT USAGE ON SCHEMA s TO reader");
    admin.run("GRANT SELECT ON s.t TO reader");
    for id in 0..10 {
        admin.run(&format!("INSERT INTO s.t VALUES ({id}, 'Đào')"));
    }
    admin.run("UPDATE s.t SET name = 'Mai' WHERE id = 3");
    admin.run("DELETE FROM s.t WHERE id = 4");
    let again = bucket.serve_with(kho.kill(), &[]);
    let mut reader = again.connect("reader");
    assert_eq!(reader.value("SELECT count(*) FROM s.t WHERE name = 'Đào'"), "8");
    assert_eq!(again.admin().value("SELECT count(*) FROM s.t VERSION AS OF 5"), "5");
    again.admin().run("CALL kho.restore_table('s.t', version => 10)");
    assert_eq!(reader.value("SELECT count(*) FROM s.t WHERE name = 'Đào'"), "10");
    // A server that stops, and one on another machine, which has none of the first one's folders.
    let (ended, _) = again.stop();
    assert!(ended.status.success(), "{}", ended.log);
    let elsewhere = bucket.serve();
    assert_eq!(elsewhere.connect("reader").value("SELECT count(*) FROM s.t"), "10");
    let comment = "SELECT obj_description('s.t'::regclass, 'pg_class')";
    assert_eq!(elsewhere.admin().value(comment), "trong kho");
}

/// Files larger than one part go up in parts.
#[test]
fn large_files_are_written_and_read() {
    let bucket = S3::shared().bucket();
    let kho = bucket.serve();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run(
        "CREATE TABLE s.t AS SELECT x, md5(x::text) || md5((x + 1)::text) AS word \
         FROM generate_series(1, 400000) AS g (x)",
    );
    assert_eq!(admin.value("SELECT count(DISTINCT word) FROM s.t"), "400000");
    let word = admin.value("SELECT word FROM s.t WHERE x = 399999");
    assert_eq!(word, admin.value("SELECT md5('399999') || md5('400000')"));
}

/// The journal of the ledger is on a local disk, beside the keys, and holds no secret.
#[test]
fn the_journal_is_local_and_no_secret_is_shown() {
    let bucket = S3::shared().bucket();
    let kho = bucket.serve();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    let location = admin.value("SELECT location FROM kho.datasets");
    assert!(location.starts_with("tables/"), "{location}");
    let journal = kho.keys().with_file_name("keys-journal").join("audit").join("journal");
    assert!(
        std::fs::read_dir(&journal).unwrap().count() > 0,
        "no journal in {}",
        journal.display()
    );
    assert!(super::files::files_with(kho.keys().parent().unwrap(), SECRET.as_bytes()).is_empty());
    let (ended, _) = kho.stop();
    assert!(!ended.log.contains(SECRET), "{}", ended.log);
}

/// Without a disk of its own, a server keeps its journal in the bucket.
#[test]
fn the_journal_can_be_in_the_bucket() {
    let bucket = S3::shared().bucket();
    let in_bucket = [("KHO_AUDIT__JOURNAL", "warehouse")];
    let kho = bucket.serve_with(Folders::new(), &in_bucket);
    kho.admin().run("CREATE SCHEMA s");
    assert!(!kho.keys().with_file_name("keys-journal").exists());
    let kho = bucket.serve_with(kho.kill(), &in_bucket);
    kho.admin().run("CREATE TABLE s.t (id integer)");
}

#[test]
fn delta_rs_polars_and_duckdb_read_the_bucket() {
    let bucket = S3::shared().bucket();
    let kho = bucket.serve();
    let endpoint = bucket.endpoint.to_string();
    client(&kho, "delta_on_s3", &[("KHO_DATA", &bucket.url()), ("S3_ENDPOINT", &endpoint)]);
}

/// Without keys of its own a server asks the machine, or the container, for those of its role.
#[test]
fn roles_of_machines_and_containers_are_taken() {
    let bucket = S3::shared().bucket();
    let service = format!("http://{}", bucket.endpoint);
    let folders = Folders::new();
    let token = folders.data().with_file_name("token");
    std::fs::write(&token, "token-of-the-tests").unwrap();
    let container = format!("{service}/container");
    let no_keys = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    let machine = [&no_keys[..], &[("AWS_METADATA_ENDPOINT", service.as_str())]].concat();
    bucket.serve_with(Folders::new(), &machine).admin().run("CREATE SCHEMA s");
    let of_container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1"),
    ];
    let of_container = [&no_keys[..], &of_container].concat();
    bucket.serve_with(folders, &of_container).admin().run("CREATE TABLE s.t (id integer)");
    let nobody = [&no_keys[..], &[("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")]].concat();
    assert!(refused(&bucket, &nobody).contains("credentials"));
}

/// What a start with `more` says, which must refuse.
fn refused(bucket: &Bucket, more: &[(&str, &str)]) -> String {
    let folders = Folders::new();
    let mut command = serve(&folders.data(), &folders.keys());
    command.envs(bucket.environment());
    command.env("KHO_S3__RETRY_TIMEOUT_MS", "1000");
    command.envs(more.iter().copied());
    let output = run(&mut command, "", Duration::from_secs(120));
    assert!(!output.success, "it started with {more:?}");
    assert!(!output.stderr.contains(SECRET), "{}", output.stderr);
    output.stderr
}

#[test]
fn what_would_switch_protection_off_is_refused() {
    let bucket = S3::shared().bucket();
    for (name, value) in [
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "true"),
        ("AWS_CONDITIONAL_PUT", "disabled"),
        ("AWS_COPY_IF_NOT_EXISTS", "header: x: y"),
        ("AWS_UNSIGNED_PAYLOAD", "true"),
        ("AWS_SKIP_SIGNATURE", "1"),
        ("KHO_S3__CONDITIONAL_PUT", "disabled"),
        ("KHO_S3__SECRET_ACCESS_KEY", "hunter2"),
    ] {
        let said = refused(&bucket, &[(name, value)]);
        let named = name.rsplit("__").next().unwrap_or(name).to_lowercase();
        assert!(said.to_lowercase().contains(&named), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let said = refused(&bucket, &[("AWS_ENDPOINT_URL", "http://s3.example.org")]);
    assert!(said.contains("plain HTTP"), "{said}");
    let said = refused(&bucket, &[("KHO_DATA", "s3://no-such-bucket-of-ours")]);
    assert!(said.contains("bucket") && said.contains("does not exist"), "{said}");
    let said = refused(&bucket, &[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]);
    assert!(said.contains("endpoint"), "{said}");
    assert!(refused(&bucket, &[("KHO_DATA", "gs://bucket/x")]).contains("gs://"));
    bucket.serve();
}

/// Such a service would let two servers overwrite each other's commits.
#[test]
fn a_service_that_overwrites_is_refused() {
    let bucket = S3::shared().bucket();
    let proxy = Proxy::start(bucket.endpoint);
    proxy.set(Mode::Unconditional);
    let said = refused(&bucket.at(proxy.address), &[]);
    assert!(said.contains("If-None-Match"), "{said}");
    proxy.set(Mode::Pass);
    let kho: Kho = bucket.at(proxy.address).serve();
    assert_eq!(kho.admin().value("SELECT 1"), "1");
}
