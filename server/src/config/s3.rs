//! `[s3]`: how the service of an `s3://` warehouse is reached.
//!
//! What it guarantees: a key here is above the `AWS_` variable of the same meaning; a secret is
//! named (`env:NAME`, `file:PATH`) and never written here, shown or logged.
//! What it does not: a secret in a file is read at the start and not again.
//! On failure: `F0000` with the key, never with the value of a secret.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use kho_catalog::environment::S3Options;
use kho_catalog::error::{Error, Kind, Result};
use serde::{Deserialize, Deserializer, Serialize};

const PREFIX: &str = "AWS_";

/// The service, and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    pub region: Option<String>,
    /// A service other than AWS; plain `http://` on this machine only.
    pub endpoint: Option<String>,
    /// Whether the endpoint holds the bucket's name, and the path does not.
    pub virtual_hosted_style: Option<bool>,
    /// Plain HTTP to another machine: for a network that is yours alone.
    pub allow_http: Option<bool>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<SecretName>,
    pub session_token: Option<SecretName>,
    /// With `web_identity_token_file`, the role to take on.
    pub role_arn: Option<String>,
    pub role_session_name: Option<String>,
    pub web_identity_token_file: Option<String>,
    /// `AES256` or `aws:kms`.
    pub server_side_encryption: Option<String>,
    pub kms_key_id: Option<String>,
    /// For one request, its answer included.
    pub request_timeout_ms: u64,
    /// After which a request that failed is not sent again.
    pub retry_timeout_ms: u64,
}

/// Where a secret is kept: `env:NAME` or `file:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretName(String);

impl Default for S3 {
    fn default() -> Self {
        S3 {
            region: None,
            endpoint: None,
            virtual_hosted_style: None,
            allow_http: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            role_arn: None,
            role_session_name: None,
            web_identity_token_file: None,
            server_side_encryption: None,
            kms_key_id: None,
            request_timeout_ms: 20_000,
            retry_timeout_ms: 10_000,
        }
    }
}

impl S3 {
    /// These keys, above what `variables` (those of the process) say.
    ///
    /// # Errors
    /// `F0000` for a variable that cannot be obeyed, and for a secret that cannot be read.
    pub fn options(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<S3Options> {
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        let secret = |key: &str, name: &Option<SecretName>| match name {
            Some(name) => name.read(key, &variables).map(Some),
            None => Ok(None),
        };
        let secret_access_key = secret("s3.secret_access_key", &self.secret_access_key)?;
        let session_token = secret("s3.session_token", &self.session_token)?;
        let keys = [
            ("region", self.region.clone()),
            ("endpoint", self.endpoint.clone()),
            ("virtual_hosted_style", self.virtual_hosted_style.map(|it| it.to_string())),
            ("allow_http", self.allow_http.map(|it| it.to_string())),
            ("access_key_id", self.access_key_id.clone()),
            ("secret_access_key", secret_access_key),
            ("session_token", session_token),
            ("role_arn", self.role_arn.clone()),
            ("role_session_name", self.role_session_name.clone()),
            ("web_identity_token_file", self.web_identity_token_file.clone()),
            ("server_side_encryption", self.server_side_encryption.clone()),
            ("kms_key_id", self.kms_key_id.clone()),
        ];
        let given = variables.iter().filter(|(name, _)| name.starts_with(PREFIX)).cloned();
        let mut options = S3Options::from_variables(given)?;
        options.set(keys.into_iter().filter_map(|(key, value)| Some((key, value?))))?;
        options.request_timeout = Duration::from_millis(self.request_timeout_ms);
        options.retry_timeout = Duration::from_millis(self.retry_timeout_ms);
        Ok(options)
    }

    pub(super) fn check(&self) -> Result<()> {
        let positive = [
            ("s3.request_timeout_ms", self.request_timeout_ms),
            ("s3.retry_timeout_ms", self.retry_timeout_ms),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(invalid(format!("{key} must be greater than 0"))),
            None => Ok(()),
        }
    }
}

impl SecretName {
    /// The secret; `key` is the setting that names it.
    pub fn secret(&self, key: &str) -> Result<String> {
        self.read(key, &variables())
    }

    /// The file it is in, if it is in one.
    pub fn file(&self) -> Option<&Path> {
        self.0.strip_prefix("file:").map(Path::new)
    }

    fn read(&self, key: &str, variables: &[(String, String)]) -> Result<String> {
        let secret = match self.0.split_once(':') {
            Some(("env", wanted)) => {
                let found = variables.iter().find(|(name, _)| name == wanted);
                found.map(|(_, value)| value.clone()).ok_or_else(|| {
                    invalid(format!("{key} names environment variable {wanted}, which is not set"))
                })?
            }
            Some(("file", path)) => std::fs::read_to_string(path).map_err(|error| {
                invalid(format!("{key} names file \"{path}\", which cannot be read"))
                    .with_source(error)
            })?,
            _ => return Err(Error::internal("a secret has no place")),
        };
        let secret = secret.trim_end_matches(['\r', '\n']);
        match secret.is_empty() {
            true => Err(invalid(format!("{key} names an empty secret"))),
            false => Ok(secret.to_owned()),
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretName {
    /// Refuses the secret itself, and does not repeat it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            Some(("env" | "file", place)) if !place.is_empty() => Ok(SecretName(text)),
            _ => Err(serde::de::Error::custom("a secret is given as env:NAME or file:PATH")),
        }
    }
}

/// Every variable of this process that is Unicode: for the listed ones, and those that name secrets.
pub fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigFile, message)
}
