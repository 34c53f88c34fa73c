//! How names are written.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::*;

fn read(name: DistinguishedName, alternatives: Vec<SanType>) -> Certificate {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = name;
    parameters.subject_alt_names = alternatives;
    parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let key = KeyPair::generate().unwrap();
    Certificate::read(parameters.self_signed(&key).unwrap().der()).unwrap()
}

fn named(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    parts.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
    name
}

#[test]
fn a_subject_is_written_last_part_first_and_other_names_follow() {
    let parts = [(DnType::CountryName, "VN"), (DnType::OrganizationName, "City")];
    let parts = [parts.as_slice(), &[(DnType::CommonName, "etl")]].concat();
    let dns = SanType::DnsName("ETL.hue.vn".try_into().unwrap());
    let email = SanType::Rfc822Name("etl@hue.vn".try_into().unwrap());
    let uri = SanType::URI("spiffe://hue/etl".try_into().unwrap());
    let read = read(named(&parts), vec![dns, email, uri]);
    let identities =
        ["CN=etl,O=City,C=VN", "dns:etl.hue.vn", "email:etl@hue.vn", "uri:spiffe://hue/etl"];
    assert_eq!(read.identities, identities);
    assert_eq!(read.until_ms, 1_893_456_000_000);
}

#[test]
fn no_value_can_pass_for_another_part() {
    let sly = read(named(&[(DnType::CommonName, "etl,O=City")]), Vec::new());
    assert_eq!(sly.identities, ["CN=etl\\,O\\=City"]);
    let sly = read(named(&[(DnType::CommonName, " #etl\\ ")]), Vec::new());
    assert_eq!(sly.identities, ["CN=\\ #etl\\\\\\ "]);
}

#[test]
fn what_is_no_certificate_says_nothing() {
    assert_eq!(Certificate::read(b"nothing"), None);
}
