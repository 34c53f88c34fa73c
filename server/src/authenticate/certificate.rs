//! What a client's certificate says of who it is.
//!
//! What it guarantees: two subjects that differ are written differently: what could end or begin a
//! part of the text is escaped (RFC 4514).
//! What it does not: it verifies nothing. The handshake has: the chain, the times, the lists of what was
//! revoked; and that the client has the key.
//! On failure: a name that is no text is left out.

use std::fmt::Write as _;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The names that RFC 4514 has for kinds of attributes, and OpenSSL's for one more.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A certificate that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What can be mapped to a role: the subject first, as RFC 4514 writes it, then `dns:`, `email:` and
    /// `uri:` with each alternative name.
    pub identities: Vec<String>,
    /// Milliseconds since the epoch.
    pub until_ms: i64,
}

impl Certificate {
    /// Reads a certificate; `None` where it is none.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut identities: Vec<String> =
            subject(certificate.subject()).filter(|it| !it.is_empty()).into_iter().collect();
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            identities.extend(names.value.general_names.iter().filter_map(alternative));
        }
        let until_ms = certificate.validity().not_after.timestamp().saturating_mul(1000);
        Some(Certificate { identities, until_ms })
    }

    /// How it is called where one name is enough.
    pub fn name(&self) -> &str {
        self.identities.first().map_or("without a name", String::as_str)
    }
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    let (prefix, name) = match name {
        GeneralName::DNSName(name) => ("dns", name.to_ascii_lowercase()),
        GeneralName::RFC822Name(name) => ("email", (*name).to_owned()),
        GeneralName::URI(name) => ("uri", (*name).to_owned()),
        _ => return None,
    };
    let printable = !name.is_empty() && !name.chars().any(char::is_control);
    printable.then(|| format!("{prefix}:{name}"))
}

/// RFC 4514: the last part first; `None` where a part is no text.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.iter_rdn() {
        let attributes: Option<Vec<String>> = part.iter().map(attribute).collect();
        parts.push(attributes?.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let kind = attribute.attr_type().to_id_string();
    let known = ATTRIBUTES.iter().find(|(id, _)| *id == kind).map(|(_, name)| *name);
    let value = attribute.as_str().ok()?;
    Some(format!("{}={}", known.unwrap_or(&kind), escaped(value)))
}

fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (place, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => text.extend(['\\', character]),
            '#' if place == 0 => text.push_str("\\#"),
            ' ' if place == 0 || place == last => text.push_str("\\ "),
            control if control.is_control() => {
                for byte in control.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a text does not fail.
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests;
