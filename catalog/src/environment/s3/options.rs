//! How an S3 service is reached: by the usual `AWS_` variables, and above them by Kho's own keys.
//!
//! What it guarantees: only the variables listed here are read, each by name; one that would
//! switch a protection off, or asks for what is not done, is refused by its name; no secret is
//! shown by `Debug` or by an error.
//! What it does not: profiles, SSO and chains of roles are the AWS SDK's, and are not read.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::{Host, Url};

use crate::error::{Error, Kind, Result};

/// A connection that is not made by then will hardly be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Services close what is idle; a request sent at that very moment fails.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// So soon after a failure is over, requests get through again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
const RETRIES_MAX: usize = 20;

/// What can be set: our name for it, and the variables that set it, the strongest first.
const SETTINGS: &[(&str, &[&str])] = &[
    ("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]),
    ("endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]),
    ("virtual_hosted_style", &["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"]),
    ("allow_http", &["AWS_ALLOW_HTTP"]),
    ("access_key_id", &["AWS_ACCESS_KEY_ID"]),
    ("secret_access_key", &["AWS_SECRET_ACCESS_KEY"]),
    ("session_token", &["AWS_SESSION_TOKEN"]),
    ("role_arn", &["AWS_ROLE_ARN"]),
    ("role_session_name", &["AWS_ROLE_SESSION_NAME"]),
    ("web_identity_token_file", &["AWS_WEB_IDENTITY_TOKEN_FILE"]),
    ("sts_endpoint", &["AWS_ENDPOINT_URL_STS"]),
    ("container_credentials_uri", &["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]),
    ("container_credentials_full_uri", &["AWS_CONTAINER_CREDENTIALS_FULL_URI"]),
    ("container_token_file", &["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]),
    ("metadata_endpoint", &["AWS_METADATA_ENDPOINT"]),
    ("server_side_encryption", &["AWS_SERVER_SIDE_ENCRYPTION"]),
    ("kms_key_id", &["AWS_SSE_KMS_KEY_ID"]),
    ("bucket_key", &["AWS_SSE_BUCKET_KEY_ENABLED"]),
    ("checksum", &["AWS_CHECKSUM_ALGORITHM"]),
];

/// Who asks, as one: a key of one identity with another's token is neither.
const STATIC_KEYS: &[&str] = &["access_key_id", "secret_access_key", "session_token"];
const WEB_IDENTITY: &[&str] = &["role_arn", "web_identity_token_file"];
const CONTAINER: &[&str] = &["container_credentials_uri", "container_credentials_full_uri"];

/// Variables that are refused: the value that does no harm, if there is one, and why.
const REFUSED: &[(&str, Option<&str>, &str)] = &[
    ("AWS_S3_ALLOW_UNSAFE_RENAME", Some("false"), "Commits would overwrite each other."),
    ("AWS_CONDITIONAL_PUT", Some("etag"), "Commits would overwrite each other."),
    ("AWS_COPY_IF_NOT_EXISTS", None, "Kho needs no such copy; commits go by put-if-absent."),
    ("AWS_S3_LOCKING_PROVIDER", None, "Kho takes no lock that others would wait for."),
    ("AWS_UNSIGNED_PAYLOAD", Some("false"), "What is stored would not be covered by a signature."),
    ("AWS_SKIP_SIGNATURE", Some("false"), "A warehouse is not open to everyone."),
    ("AWS_ALLOW_INVALID_CERTIFICATES", Some("false"), "Anyone could answer for the service."),
    ("AWS_IMDSV1_FALLBACK", Some("false"), "The older metadata service gives keys to anyone."),
    ("AWS_S3_EXPRESS", Some("false"), "Such a bucket does not list in the order of names."),
    ("AWS_SSE_CUSTOMER_KEY_BASE64", None, "Other readers of the tables would need the key."),
];

/// How to reach the service. The default asks AWS, as whom the machine runs as.
#[derive(Clone)]
pub struct S3Options {
    values: BTreeMap<&'static str, String>,
    /// `AWS_PROFILE`, which names keys in a file that is not read.
    profile: bool,
    /// For one request, its answer included.
    pub request_timeout: Duration,
    /// After which a request that failed is not sent again.
    pub retry_timeout: Duration,
}

impl Default for S3Options {
    fn default() -> Self {
        S3Options {
            values: BTreeMap::new(),
            profile: false,
            request_timeout: Duration::from_secs(20),
            retry_timeout: Duration::from_secs(10),
        }
    }
}

impl S3Options {
    /// What the listed ones of `variables` say.
    ///
    /// # Errors
    /// `F0000` for a variable that would switch a protection off.
    pub fn from_variables(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<S3Options> {
        let variables: BTreeMap<String, String> =
            variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        for (name, harmless, why) in REFUSED {
            let Some(value) = variables.get(*name) else { continue };
            let harmless = match harmless {
                Some("false") => truth(name, value).is_ok_and(|value| !value),
                Some(harmless) => value.eq_ignore_ascii_case(harmless),
                None => false,
            };
            if !harmless {
                return Err(config(format!("environment variable {name} cannot be obeyed"))
                    .with_detail(*why)
                    .with_hint("Unset it."));
            }
        }
        let mut options =
            S3Options { profile: variables.contains_key("AWS_PROFILE"), ..S3Options::default() };
        for (key, names) in SETTINGS {
            if let Some(value) = names.iter().find_map(|name| variables.get(*name)) {
                options.values.insert(key, value.clone());
            }
        }
        Ok(options)
    }

    /// Sets some keys at once, above what the variables said. Who sets a key of an identity
    /// replaces the whole identity.
    ///
    /// # Errors
    /// `F0000` for a key that is not known.
    pub fn set(&mut self, keys: impl IntoIterator<Item = (&'static str, String)>) -> Result<()> {
        let keys: Vec<_> = keys.into_iter().collect();
        let identity = [STATIC_KEYS, WEB_IDENTITY, CONTAINER].concat();
        if keys.iter().any(|(key, _)| identity.contains(key)) {
            self.values.retain(|key, _| !identity.contains(key));
        }
        for (key, value) in keys {
            if !SETTINGS.iter().any(|(known, _)| *known == key) {
                return Err(Error::internal(format!("s3.{key} is not known")));
            }
            self.values.insert(key, value);
        }
        Ok(())
    }

    /// The client for `bucket`.
    pub(super) fn builder(&self, bucket: &str) -> Result<AmazonS3Builder> {
        self.check_identity()?;
        let plain = self.plain_text()?;
        let client = ClientOptions::new()
            .with_timeout(self.request_timeout)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .with_allow_http(plain);
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: BACKOFF_MAX, ..BackoffConfig::default() },
            max_retries: RETRIES_MAX,
            retry_timeout: self.retry_timeout,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_virtual_hosted_style_request(self.truth("virtual_hosted_style")?);
        for (key, value) in &self.values {
            if let Some(key) = client_key(key)? {
                builder = builder.with_config(key, value.clone());
            }
        }
        Ok(builder)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn truth(&self, key: &str) -> Result<bool> {
        self.get(key).map_or(Ok(false), |value| truth(key, value))
    }

    /// Half an identity would be passed over for another one without a word.
    fn check_identity(&self) -> Result<()> {
        let has = |key: &&&str| self.get(key).is_some();
        for whole in [&["access_key_id", "secret_access_key"][..], WEB_IDENTITY] {
            let (there, missing): (Vec<&&str>, Vec<&&str>) = whole.iter().partition(|it| has(it));
            if let (Some(there), Some(missing)) = (there.first(), missing.first()) {
                return Err(config(format!("s3.{there} is set without s3.{missing}")));
            }
        }
        let stated = [STATIC_KEYS, WEB_IDENTITY, CONTAINER].concat();
        if self.profile && !stated.iter().any(|key| self.get(key).is_some()) {
            return Err(config("environment variable AWS_PROFILE cannot be obeyed")
                .with_detail("Profiles are not read; another identity would be used instead.")
                .with_hint("Unset it, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."));
        }
        Ok(())
    }

    /// Whether requests may go in plain text: to this machine, or where it was asked for.
    fn plain_text(&self) -> Result<bool> {
        let allowed = self.truth("allow_http")?;
        let Some(endpoint) = self.get("endpoint") else { return Ok(allowed) };
        let invalid = || {
            config("s3.endpoint is not the URL of a service")
                .with_hint("Write https://host or https://host:port, without user or parameters.")
        };
        let url = Url::parse(endpoint).map_err(|_| invalid())?;
        let secret = !url.username().is_empty() || url.password().is_some();
        if secret || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid());
        }
        let loopback = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => return Err(invalid()),
        };
        match url.scheme() {
            "https" => Ok(allowed),
            "http" if loopback || allowed => Ok(true),
            "http" => Err(config("s3.endpoint is plain HTTP and not on this machine")
                .with_detail("Everyone on the way could read what is stored.")
                .with_hint("Use https://, or set s3.allow_http where the network is yours.")),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.values.keys().collect();
        f.debug_struct("S3Options").field("set", &names).finish_non_exhaustive()
    }
}

/// What the client calls a setting; `None` for those that are given to it otherwise.
fn client_key(key: &str) -> Result<Option<AmazonS3ConfigKey>> {
    let name = match key {
        "virtual_hosted_style" | "allow_http" => return Ok(None),
        "sts_endpoint" => "endpoint_url_sts",
        "container_credentials_uri" => "container_credentials_relative_uri",
        "container_token_file" => "container_authorization_token_file",
        "kms_key_id" => "sse_kms_key_id",
        "bucket_key" => "sse_bucket_key_enabled",
        "checksum" => "checksum_algorithm",
        same => same,
    };
    name.parse().map(Some).map_err(|error| {
        Error::internal(format!("the client knows no setting {name}")).with_source(error)
    })
}

fn truth(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" | "y" => Ok(true),
        "0" | "false" | "off" | "no" | "n" => Ok(false),
        _ => Err(config(format!("{name} must be true or false"))),
    }
}

fn config(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigFile, message)
}
