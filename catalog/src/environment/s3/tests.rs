//! What an operator may say of a bucket, and what is refused.

use super::*;

fn options(variables: &[(&str, &str)]) -> Result<S3Options> {
    let owned = |text: &&str| (*text).to_owned();
    S3Options::from_variables(variables.iter().map(|(name, value)| (owned(name), owned(value))))
}

/// The refusal, when the variables are read or when the client is made.
fn refused(variables: &[(&str, &str)]) -> Error {
    let error = options(variables).and_then(|it| it.builder("city").map(drop)).unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigFile, "{error:?}");
    error
}

#[test]
fn places_in_a_bucket() {
    for (text, url) in [
        ("s3://city", "s3://city/"),
        ("s3://city/", "s3://city/"),
        ("s3://city/ware/house", "s3://city/ware/house/"),
        ("s3://city.data-1/a//b/", "s3://city.data-1/a/b/"),
    ] {
        match Place::parse(text) {
            Ok(place) => assert_eq!(place.url().unwrap().as_str(), url, "{text}"),
            Err(error) => assert!(text.contains("//b"), "{text}: {error:?}"),
        }
    }
    for text in [
        "s3://",
        "s3://City",
        "s3://ci",
        "s3://-city",
        "s3://city_data",
        "s3://id:hunter2@city/x",
        "s3://city:9000/x",
        "s3://city/x?versionId=1",
        "s3://city/x#y",
    ] {
        let error = Place::parse(text).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidParameterValue, "{text}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert!(error.hint().is_some(), "{text}");
    }
}

#[test]
fn what_switches_protection_off_is_refused() {
    for (name, value) in [
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "true"),
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "perhaps"),
        ("AWS_CONDITIONAL_PUT", "disabled"),
        ("AWS_CONDITIONAL_PUT", "dynamo:locks"),
        ("AWS_COPY_IF_NOT_EXISTS", "multipart"),
        ("AWS_COPY_IF_NOT_EXISTS", "header: a: b"),
        ("AWS_S3_LOCKING_PROVIDER", "dynamodb"),
        ("AWS_UNSIGNED_PAYLOAD", "1"),
        ("AWS_SKIP_SIGNATURE", "yes"),
        ("AWS_ALLOW_INVALID_CERTIFICATES", "true"),
        ("AWS_IMDSV1_FALLBACK", "on"),
        ("AWS_S3_EXPRESS", "true"),
        ("AWS_SSE_CUSTOMER_KEY_BASE64", "c2VjcmV0"),
    ] {
        let error = refused(&[(name, value)]);
        assert!(error.message().contains(name), "{error:?}");
        assert!(error.detail().is_some() && !format!("{error:?}").contains("c2VjcmV0"));
    }
    for (name, value) in [
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "false"),
        ("AWS_CONDITIONAL_PUT", "etag"),
        ("AWS_SKIP_SIGNATURE", "0"),
        ("AWS_COPY_IF_NOT_EXISTS", ""),
        ("AWS_SOMETHING_ELSE", "1"),
    ] {
        options(&[(name, value)]).unwrap().builder("city").unwrap();
    }
}

#[test]
fn plain_text_stays_on_the_machine() {
    for local in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"] {
        options(&[("AWS_ENDPOINT_URL", local)]).unwrap().builder("city").unwrap();
    }
    let far = ("AWS_ENDPOINT_URL", "http://minio.city.example:9000");
    assert!(refused(&[far]).message().contains("plain HTTP"));
    options(&[far, ("AWS_ALLOW_HTTP", "true")]).unwrap().builder("city").unwrap();
    options(&[("AWS_ENDPOINT_URL", "https://minio.example")]).unwrap().builder("city").unwrap();
    for odd in ["minio:9000", "ftp://minio", "https://id:hunter2@minio", "https://minio/?x=1"] {
        let error = refused(&[("AWS_ENDPOINT_URL", odd)]);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert!(refused(&[("AWS_ALLOW_HTTP", "perhaps")]).message().contains("allow_http"));
}

#[test]
fn an_identity_is_whole() {
    let error = refused(&[("AWS_ACCESS_KEY_ID", "id")]);
    assert!(error.message().contains("s3.secret_access_key"), "{error:?}");
    assert!(refused(&[("AWS_ROLE_ARN", "arn:aws:iam::1:role/kho")]).message().contains("token"));
    assert!(refused(&[("AWS_PROFILE", "work")]).message().contains("AWS_PROFILE"));
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    let mut set = options(&[keys[0], keys[1], ("AWS_PROFILE", "work")]).unwrap();
    assert!(!format!("{set:?}").contains("hunter2"));
    let builder = set.builder("city").unwrap();
    let token = object_store::aws::AmazonS3ConfigKey::Token;
    assert_eq!(builder.get_config_value(&token), None);
    // Keys of the file replace the whole identity of the environment, its token too.
    set = options(&[keys[0], keys[1], ("AWS_SESSION_TOKEN", "of another")]).unwrap();
    set.set([("access_key_id", "a".to_owned()), ("secret_access_key", "b".to_owned())]).unwrap();
    assert_eq!(set.builder("city").unwrap().get_config_value(&token), None);
    assert!(set.set([("conditional_put", "disabled".to_owned())]).is_err());
}

#[test]
fn the_strongest_variable_counts() {
    let key = object_store::aws::AmazonS3ConfigKey::Endpoint;
    let set = options(&[
        ("AWS_ENDPOINT", "https://c.example"),
        ("AWS_ENDPOINT_URL", "https://b.example"),
        ("AWS_ENDPOINT_URL_S3", "https://a.example"),
    ]);
    let builder = set.unwrap().builder("city").unwrap();
    assert_eq!(builder.get_config_value(&key).as_deref(), Some("https://a.example"));
    // Every setting that is listed is one the client knows.
    let all: Vec<(&str, &str)> = [
        ("AWS_REGION", "ap-southeast-1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "token"),
        ("AWS_ROLE_ARN", "arn"),
        ("AWS_ROLE_SESSION_NAME", "kho"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token"),
        ("AWS_ENDPOINT_URL_STS", "https://sts.example"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/role"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/run/token"),
        ("AWS_METADATA_ENDPOINT", "http://169.254.169.254"),
        ("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms"),
        ("AWS_SSE_KMS_KEY_ID", "key"),
        ("AWS_SSE_BUCKET_KEY_ENABLED", "true"),
        ("AWS_CHECKSUM_ALGORITHM", "sha256"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false"),
    ]
    .to_vec();
    options(&all).unwrap().builder("city").unwrap().build().unwrap();
}

/// The proof passes on a store that keeps its word, and leaves nothing behind.
#[tokio::test]
async fn a_good_store_is_proved() {
    use futures::TryStreamExt;
    let store = object_store::memory::InMemory::new();
    probe::prove(&store).await.unwrap();
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 0);
}
