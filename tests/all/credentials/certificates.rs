//! Client certificates: the handshake verifies, SQL says who it is.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kho_tests::kho::{Folders, Kho};
use kho_tests::tls::{Authority, Owned};
use kho_tests::wire::{Error, Wire};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);
const HOLDS_WITHIN: Duration = Duration::from_secs(20);

struct City {
    kho: Kho,
    authority: Authority,
    revoked: PathBuf,
    _folder: TempDir,
}

fn city() -> City {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("City CA");
    let (file, revoked) = (folder.path().join("ca.pem"), folder.path().join("crl.pem"));
    std::fs::write(&file, authority.pem()).unwrap();
    std::fs::write(&revoked, authority.revoke(&[])).unwrap();
    let environment = [
        ("KHO_TLS__CLIENT_CA", file.to_str().unwrap()),
        ("KHO_TLS__CLIENT_CRL", revoked.to_str().unwrap()),
    ];
    let kho = Kho::start_with(Folders::new(), &environment);
    let mut admin = kho.admin();
    admin.run("CREATE ROLE etl LOGIN");
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'");
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE kho_auditor");
    City { kho, authority, revoked, _folder: folder }
}

impl City {
    fn connect(&self, role: &str, certificate: Option<&Owned>) -> Result<Wire, Error> {
        Wire::connect_securely(&self.kho.target(role, role), certificate, &[])
    }

    fn map(&self, identity: &str, role: &str) {
        let call = format!("CALL kho.map_identity('certificate', '{identity}', '{role}')");
        self.kho.admin().run(&call);
    }
}

#[test]
fn a_certificate_that_is_mapped_lets_its_role_in_without_a_password() {
    let city = city();
    let own = city.authority.sign("etl", &["etl.hue.vn"], 1, DAY);
    city.map("CN=etl,O=City", "etl");
    let mut wire = city.connect("etl", Some(&own)).unwrap();
    assert_eq!(wire.value("SELECT current_user"), "etl");
    assert_eq!(wire.value("SHOW kho.authentication"), "certificate CN=etl,O=City");
    // It is no password: it makes nothing that outlives it.
    let call = "CALL kho.create_api_token('x', null, now() + interval '1 day', 'read')";
    assert_eq!(wire.refusal(call).sqlstate, "42501");
    let how = "SELECT authentication FROM kho.audit_log WHERE role = 'etl' AND kind = 'login'";
    assert_eq!(city.kho.connect("auditor").value(how), "certificate CN=etl,O=City");
    // By another of its names.
    city.map("dns:ETL.hue.vn", "an");
    let mut wire = city.connect("an", Some(&own)).unwrap();
    assert_eq!(wire.value("SHOW kho.authentication"), "certificate dns:etl.hue.vn");
}

#[test]
fn one_that_is_not_mapped_goes_on_to_the_password() {
    let city = city();
    city.map("CN=etl,O=City", "etl");
    let other = city.authority.sign("other", &[], 2, DAY);
    let mut wire = city.connect("an", Some(&other)).unwrap();
    let how = "password; certificate not mapped: CN=other,O=City";
    assert_eq!(wire.value("SHOW kho.authentication"), how);
    let logged = "SELECT authentication FROM kho.audit_log WHERE role = 'an' AND kind = 'login'";
    assert_eq!(city.kho.connect("auditor").value(logged), how);
    // It is not the role's, which has no password.
    let refused = city.connect("etl", Some(&other)).err().unwrap();
    assert_eq!(refused.sqlstate(), Some("28P01"));
    // Nor is one that is mapped the key to every role.
    let own = city.authority.sign("etl", &[], 3, DAY);
    let refused = Wire::connect_securely(&city.kho.target("an", "wrong"), Some(&own), &[]);
    assert_eq!(refused.err().unwrap().sqlstate(), Some("28P01"));
    // A name with a comma in it is not two.
    let sly = city.authority.sign("etl,O=City", &[], 4, DAY);
    let refused = city.connect("etl", Some(&sly)).err().unwrap();
    assert_eq!(refused.sqlstate(), Some("28P01"));
    assert!(city.connect("an", None).is_ok(), "a certificate is not demanded");
}

#[test]
fn one_of_another_authority_or_past_its_time_makes_no_connection() {
    let city = city();
    city.map("CN=etl,O=City", "etl");
    let foreign = Authority::new("City CA").sign("etl", &[], 1, DAY);
    assert!(matches!(city.connect("etl", Some(&foreign)), Err(Error::Io(_))));
    let old = city.authority.sign("etl", &[], 2, Duration::ZERO);
    assert!(matches!(city.connect("etl", Some(&old)), Err(Error::Io(_))));
}

#[test]
fn a_revoked_certificate_makes_no_connection_and_needs_no_restart() {
    let city = city();
    city.map("CN=etl,O=City", "etl");
    let own = city.authority.sign("etl", &[], 7, DAY);
    assert!(city.connect("etl", Some(&own)).is_ok());
    std::fs::write(&city.revoked, city.authority.revoke(&[7])).unwrap();
    let asked = Instant::now();
    while city.connect("etl", Some(&own)).is_ok() {
        assert!(asked.elapsed() < HOLDS_WITHIN, "it is still let in");
    }
    let other = city.authority.sign("etl", &[], 8, DAY);
    assert!(city.connect("etl", Some(&other)).is_ok());
    // What cannot be read changes nothing.
    std::fs::write(&city.revoked, "nothing").unwrap();
    assert!(city.connect("etl", Some(&own)).is_err());
    assert!(city.connect("etl", Some(&other)).is_ok());
}

fn closes(wire: &mut Wire) {
    let asked = Instant::now();
    assert_eq!(wire.wait_for_close().unwrap().sqlstate, "28000");
    assert!(asked.elapsed() < HOLDS_WITHIN);
}

#[test]
fn a_session_ends_with_its_certificate_and_with_its_mapping() {
    let city = city();
    city.map("CN=etl,O=City", "etl");
    let short = city.authority.sign("etl", &[], 1, Duration::from_secs(6));
    let mut wire = city.connect("etl", Some(&short)).unwrap();
    assert_eq!(wire.value("SELECT 1"), "1");
    closes(&mut wire);
    let own = city.authority.sign("etl", &[], 2, DAY);
    let mut wire = city.connect("etl", Some(&own)).unwrap();
    let mut admin = city.kho.admin();
    admin.run("CALL kho.unmap_identity('certificate', 'CN=etl,O=City', 'etl')");
    closes(&mut wire);
    assert_eq!(city.connect("etl", Some(&own)).err().unwrap().sqlstate(), Some("28P01"));
    // A role that is made anew under the name is another one.
    city.map("CN=etl,O=City", "etl");
    admin.run("DROP ROLE etl");
    admin.run("CREATE ROLE etl LOGIN");
    assert_eq!(city.connect("etl", Some(&own)).err().unwrap().sqlstate(), Some("28P01"));
}

#[test]
fn libpq_logs_in_by_certificate() {
    let city = city();
    city.map("CN=etl,O=City", "etl");
    let own = city.authority.sign("etl", &[], 1, DAY);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("etl.crt"), folder.path().join("etl.key"));
    std::fs::write(&certificate, &own.certificate_pem).unwrap();
    std::fs::write(&key, own.key.serialize_pem()).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = kho_tests::psql::psql(&city.kho, "etl");
    command
        .args(["--quiet", "--no-align", "--tuples-only", "--no-password"])
        .args(["-c", "SHOW kho.authentication"])
        .env_remove("PGPASSWORD")
        .env("PGSSLMODE", "verify-ca")
        .env("PGSSLROOTCERT", city.kho.certificate())
        .env("PGSSLCERT", &certificate)
        .env("PGSSLKEY", &key);
    let output = kho_tests::output::run(&mut command, "", Duration::from_secs(120));
    assert_eq!(output.stdout.trim(), "certificate CN=etl,O=City", "{}", output.stderr);
}
