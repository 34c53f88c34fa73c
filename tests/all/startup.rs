//! Starting, answering health checks, and refusing a configuration that makes no sense.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kho_tests::kho::{Folders, Kho, serve};
use kho_tests::output::run;

/// One request, as an operator's probe would send it.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: kho\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.unwrap_or_else(|| panic!("no HTTP: {response}")), body.unwrap_or_default())
}

#[test]
fn health_and_metrics_are_there() {
    let kho = Kho::start();
    assert_eq!(get(kho.http, "/healthz").0, 200);
    assert_eq!(get(kho.http, "/readyz").0, 200);
    assert_eq!(get(kho.http, "/no/such/page").0, 404);
    kho.admin().run("SELECT 1");
    let (status, metrics) = get(kho.http, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE kho_"), "no metrics of ours:\n{metrics}");
}

#[test]
fn a_password_is_never_printed_nor_kept() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE secretive LOGIN PASSWORD 'correct-horse-battery'");
    admin.run("ALTER ROLE secretive PASSWORD 'another-horse-battery'");
    kho_tests::wire::Wire::connect(&kho.target("secretive", "another-horse-battery")).unwrap();
    let data = kho.data();
    let (ended, folders) = kho.stop();
    assert!(!ended.log.contains("horse-battery"), "the log holds a password:\n{}", ended.log);
    let found = super::files::files_with(&data, b"horse-battery");
    assert!(found.is_empty(), "the warehouse holds a password: {found:?}");
    drop(folders);
}

fn refused_start(environment: &[(&str, &str)]) -> String {
    let folders = Folders::new();
    let mut command = serve(&folders.data(), &folders.keys());
    command.envs(environment.iter().copied());
    let output = run(&mut command, "", Duration::from_secs(120));
    assert!(!output.success, "it started with {environment:?}");
    assert!(!output.stdout.contains("ready "), "it said it was ready with {environment:?}");
    output.stderr + &output.stdout
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_with_its_name() {
    assert!(refused_start(&[("KHO_PG__LISTEN", "nowhere")]).contains("listen"));
    assert!(refused_start(&[("KHO_PG__COLOUR", "red")]).to_lowercase().contains("colour"));
    assert!(refused_start(&[("KHO_DATA", "gs://bucket/warehouse")]).contains("gs"));
}

/// Plain text is for loopback; elsewhere it takes TLS, so without a certificate of its own a
/// server that listens to the world still starts, with a self-signed one.
#[test]
fn a_second_start_keeps_the_password_of_the_first() {
    let kho = Kho::start();
    let (_, folders) = kho.stop();
    let kho = Kho::start_with(folders, &[("KHO_ADMIN_PASSWORD", "another")]);
    assert_eq!(kho.admin().value("SELECT 1"), "1");
}
