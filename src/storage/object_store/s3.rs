//! Amazon S3, and servers that speak its API.

use std::path::Path;
use std::sync::Arc;

use ::object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use secrecy::{ExposeSecret as _, SecretString};

use super::notes::Connector;
use super::renewable::Renewable;
use super::{Client, Cloud, ObjectStoreBucket, Permissions, client_options, no_retries};
use crate::config::Credentials;
use crate::storage::BucketError;

const PERMISSIONS: Permissions = Permissions {
    create: "s3:PutObject on the bucket's objects",
    get: "s3:GetObject on the bucket's objects and s3:ListBucket on the bucket",
    list: "s3:ListBucket on the bucket",
};

/// Makes a bucket's client. Nothing is sent before the first object.
///
/// # Errors
///
/// [`Auth`](crate::storage::BucketErrorKind::Auth) when the credentials cannot be found or read.
pub fn open(
    bucket: &str,
    prefix: &str,
    endpoint: Option<&str>,
    region: Option<&str>,
    credentials: &Credentials,
) -> Result<ObjectStoreBucket, BucketError> {
    let (name, source) = (bucket.to_owned(), credentials.clone());
    let (endpoint, region) = (endpoint.map(str::to_owned), region.map(str::to_owned));
    let make = Box::new(move || make(&name, endpoint.as_deref(), region.as_deref(), &source));
    let stores = Renewable::new(format!("s3://{bucket}"), credentials, make)?;
    Ok(ObjectStoreBucket::new(Cloud::S3, bucket, prefix, PERMISSIONS, stores))
}

fn make(
    bucket: &str,
    endpoint: Option<&str>,
    region: Option<&str>,
    credentials: &Credentials,
) -> Result<Client, String> {
    let mut builder = match credentials {
        Credentials::Default => AmazonS3Builder::from_env(),
        Credentials::Anonymous => AmazonS3Builder::new().with_skip_signature(true),
        Credentials::KeyFile(path) => {
            let keys = read_keys(path).map_err(|why| {
                format!("cannot use key file {}: {why}: check the destination's `key_file`", path.display())
            })?;
            let mut builder =
                AmazonS3Builder::new().with_access_key_id(&keys.id).with_secret_access_key(keys.secret.expose_secret());
            if let Some(token) = &keys.token {
                builder = builder.with_token(token.expose_secret());
            }
            if let Some(region) = &keys.region {
                builder = builder.with_region(region);
            }
            builder
        }
    };
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    // The environment's counts as if it had been configured, where none is.
    let of_environment = || {
        let keys = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        keys.iter().find_map(|key| builder.get_config_value(key))
    };
    let endpoint = endpoint.map(str::to_owned).or_else(of_environment);
    let options = client_options(endpoint.as_deref());
    // One's own host for a bucket is Amazon's way, but its certificate covers no name with dots.
    builder = builder.with_virtual_hosted_style_request(endpoint.is_none() && !bucket.contains('.'));
    if let Some(endpoint) = endpoint {
        // The more specific of two, so that none of the environment's stands above it.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_unsigned_payload(false)
        .with_retry(no_retries())
        .with_client_options(options)
        .with_http_connector(Connector)
        .build()
        .map_err(|error| format!("cannot make a client: {error}: check the destination's `credentials`"))?;
    // The signature does not cover what is added later.
    Ok(Client { store: Arc::new(store), signer: None })
}

/// What a key file says.
struct Keys {
    id: String,
    secret: SecretString,
    token: Option<SecretString>,
    region: Option<String>,
}

fn read_keys(path: &Path) -> Result<Keys, String> {
    parse_keys(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
}

/// Reads the section `[default]` of AWS's shared credentials file.
///
/// <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>
fn parse_keys(text: &str) -> Result<Keys, String> {
    let (mut id, mut secret, mut token, mut region) = (None, None, None, None);
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim();
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| section == "default" && !line.starts_with(['#', ';']))
        else {
            continue;
        };
        let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        match key.trim() {
            "aws_access_key_id" => id = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => token = value,
            "region" => region = value,
            _ => {}
        }
    }
    Ok(Keys {
        id: id.ok_or("there is no aws_access_key_id below [default]")?,
        secret: secret.ok_or("there is no aws_secret_access_key below [default]")?.into(),
        token: token.map(SecretString::from),
        region,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_aws_own_and_of_its_sections_the_default_one_counts() {
        let keys = parse_keys(
            "# ours\n[other]\naws_access_key_id = no\n[ default ]\naws_access_key_id=AKID\n ; not this\n\
             aws_secret_access_key = a/b+c=\naws_session_token = t==\nregion = eu-central-1\noutput = json\n\
             [last]\naws_secret_access_key = no\n",
        )
        .unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.expose_secret()), ("AKID", "a/b+c="));
        assert_eq!(keys.token.unwrap().expose_secret(), "t==");
        assert_eq!(keys.region.unwrap(), "eu-central-1");
        for (text, missing) in [
            ("aws_access_key_id = x\naws_secret_access_key = y", "aws_access_key_id"),
            ("[default]\naws_access_key_id = x\naws_secret_access_key =", "aws_secret_access_key"),
        ] {
            let why = parse_keys(text).err().unwrap();
            assert_eq!(why, format!("there is no {missing} below [default]"));
        }
    }

    #[test]
    fn no_secret_shows_in_a_bucket_or_its_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "[default]\naws_access_key_id = AKID\naws_secret_access_key = canary\n").unwrap();
        let open = || open("b", "", None, None, &Credentials::KeyFile(path.clone()));
        let shown = format!("{:?}", open().unwrap());
        assert!(!shown.contains("canary") && !shown.contains("AKID"), "{shown}");
        std::fs::write(&path, "[default]\naws_secret_access_key = canary\n").unwrap();
        let error = open().unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error}");
        assert!(error.message.starts_with("s3://b: cannot use key file "), "{error}");
    }
}
