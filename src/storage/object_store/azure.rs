//! Azure Blob Storage.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ::object_store::azure::{
    AzureAuthorizer, AzureConfigKey, AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder, split_sas,
};
use ::object_store::client::HttpRequest;
use http::header;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::notes::Connector;
use super::renewable::Renewable;
use super::{Client, Cloud, ObjectStoreBucket, Permissions, client_options, no_retries};
use crate::config::Credentials;
use crate::storage::BucketError;

const PERMISSIONS: Permissions = Permissions {
    create: "Storage Blob Data Contributor on the container, or create in the signature",
    get: "Storage Blob Data Contributor on the container, or read in the signature",
    list: "Storage Blob Data Contributor on the container, or list in the signature",
};

/// Makes a container's client. Nothing is sent before the first object.
///
/// # Errors
///
/// [`Auth`](crate::storage::BucketErrorKind::Auth) when the credentials cannot be found or read.
pub fn open(
    container: &str,
    prefix: &str,
    endpoint: Option<&str>,
    credentials: &Credentials,
) -> Result<ObjectStoreBucket, BucketError> {
    let (name, source) = (container.to_owned(), credentials.clone());
    let endpoint = endpoint.map(str::to_owned);
    let make = Box::new(move || make(&name, endpoint.as_deref(), &source));
    let stores = Renewable::new(format!("az://{container}"), credentials, make)?;
    Ok(ObjectStoreBucket::new(Cloud::Azure, container, prefix, PERMISSIONS, stores))
}

fn make(container: &str, endpoint: Option<&str>, credentials: &Credentials) -> Result<Client, String> {
    let mut endpoint = endpoint.map(str::to_owned);
    let builder = match credentials {
        Credentials::Default => MicrosoftAzureBuilder::from_env().with_use_emulator(false),
        Credentials::Anonymous => {
            let account = endpoint.as_deref().and_then(account_of);
            let account = account.ok_or("no account: name it in the destination's `endpoint`")?;
            MicrosoftAzureBuilder::new().with_account(account).with_skip_signature(true)
        }
        Credentials::KeyFile(path) => {
            let keys = read_keys(path).map_err(|why| {
                format!("cannot use key file {}: {why}: check the destination's `key_file`", path.display())
            })?;
            endpoint = Some(endpoint.unwrap_or(keys.endpoint));
            let builder = MicrosoftAzureBuilder::new().with_account(keys.account);
            match keys.access {
                Access::Key(key) => builder.with_access_key(key.expose_secret()),
                Access::Signature(pairs) => {
                    builder.with_sas_authorization(split_sas(pairs.expose_secret()).map_err(|_| {
                        format!("the SharedAccessSignature in {} is none: check `key_file`", path.display())
                    })?)
                }
            }
        }
    };
    let options = client_options(endpoint.as_deref());
    let builder = match endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint),
        None => builder,
    };
    let builder = builder.with_container_name(container);
    let account = builder.get_config_value(&AzureConfigKey::AccountName);
    let store = builder
        .with_retry(no_retries())
        .with_client_options(options)
        .with_http_connector(Connector)
        .build()
        // The crate's errors repeat what they cannot read.
        .map_err(|error| match credentials {
            Credentials::KeyFile(path) => format!("the AccountKey in {} is none: check `key_file`", path.display()),
            _ => format!("cannot make a client: {error}: check the destination's `credentials`"),
        })?;
    let signer = account.filter(|_| !matches!(credentials, Credentials::Anonymous)).map(|account| {
        let credentials = store.credentials().clone();
        Arc::new(Signer { credentials, account })
    });
    Ok(Client { store: Arc::new(store), signer })
}

/// Signs requests whose headers were changed after the crate had signed them.
pub(super) struct Signer {
    credentials: AzureCredentialProvider,
    account: String,
}

impl Signer {
    /// Signs a request once more, where its signature covers its headers.
    pub(super) async fn sign_again(&self, request: &mut HttpRequest) -> ::object_store::Result<()> {
        let credential = self.credentials.get_credential().await?;
        if matches!(*credential, AzureCredential::AccessKey(_)) {
            request.headers_mut().remove(header::AUTHORIZATION);
            AzureAuthorizer::new(&credential, &self.account).try_authorize(request)?;
        }
        Ok(())
    }
}

/// Without what it signs with.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("account", &self.account).finish_non_exhaustive()
    }
}

/// What a key file says.
struct Keys {
    account: String,
    endpoint: String,
    access: Access,
}

enum Access {
    Key(SecretString),
    /// A query string.
    Signature(SecretString),
}

fn read_keys(path: &Path) -> Result<Keys, String> {
    parse_keys(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
}

/// Reads a connection string.
///
/// <https://learn.microsoft.com/en-us/azure/storage/common/storage-configure-connection-string>
fn parse_keys(text: &str) -> Result<Keys, String> {
    let (mut account, mut key, mut signature, mut endpoint) = (None, None, None, None);
    let (mut protocol, mut suffix) = ("https", "core.windows.net");
    for (name, value) in text.trim().split(';').filter_map(|pair| pair.split_once('=')) {
        let value = value.trim();
        match name.trim() {
            "DefaultEndpointsProtocol" => protocol = value,
            "EndpointSuffix" => suffix = value,
            "AccountName" => account = Some(value.to_owned()),
            "AccountKey" => key = Some(SecretString::from(value)),
            "SharedAccessSignature" => signature = Some(SecretString::from(value)),
            "BlobEndpoint" => endpoint = Some(value.trim_end_matches('/').to_owned()),
            _ => {}
        }
    }
    if endpoint.is_none() && protocol != "https" {
        return Err("it asks for plain HTTP: use DefaultEndpointsProtocol=https".to_owned());
    }
    if endpoint.as_deref().is_some_and(|endpoint| Url::parse(endpoint).is_err()) {
        return Err("its BlobEndpoint is no URL".to_owned());
    }
    let account = account.or_else(|| endpoint.as_deref().and_then(account_of));
    let account = account.ok_or("it has no AccountName, as a connection string has")?;
    let endpoint = endpoint.unwrap_or_else(|| format!("https://{account}.blob.{suffix}"));
    let access = match (key, signature) {
        (Some(key), _) => Access::Key(key),
        (None, Some(signature)) => Access::Signature(signature),
        (None, None) => return Err("it has neither AccountKey nor SharedAccessSignature".to_owned()),
    };
    Ok(Keys { account, endpoint, access })
}

/// The account that an endpoint names: in the path, as emulators have it, or before the first dot.
fn account_of(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    let in_path = url.path_segments()?.next().filter(|segment| !segment.is_empty());
    let in_host = || url.domain()?.split_once('.').map(|(account, _)| account);
    in_path.or_else(in_host).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_a_connection_string() {
        let keys = parse_keys(
            "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5PT0=;EndpointSuffix=core.windows.net\n",
        )
        .unwrap();
        assert_eq!((keys.account.as_str(), keys.endpoint.as_str()), ("acc", "https://acc.blob.core.windows.net"));
        assert!(matches!(keys.access, Access::Key(key) if key.expose_secret() == "a2V5PT0="));
        let keys = parse_keys("BlobEndpoint=https://acc.blob.example/;SharedAccessSignature=sv=1&sig=x%3D").unwrap();
        assert_eq!((keys.account.as_str(), keys.endpoint.as_str()), ("acc", "https://acc.blob.example"));
        assert!(matches!(keys.access, Access::Signature(pairs) if pairs.expose_secret() == "sv=1&sig=x%3D"));
        let keys = parse_keys("BlobEndpoint=http://127.0.0.1:1/dev;AccountKey=eA==").unwrap();
        assert_eq!((keys.account.as_str(), keys.endpoint.as_str()), ("dev", "http://127.0.0.1:1/dev"));
        for (text, why) in [
            ("", "it has no AccountName"),
            ("AccountName=acc", "it has neither AccountKey nor SharedAccessSignature"),
            ("DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=eA==", "it asks for plain HTTP"),
            ("BlobEndpoint=acc;AccountKey=eA==", "its BlobEndpoint is no URL"),
        ] {
            let told = parse_keys(text).err().unwrap();
            assert!(told.starts_with(why), "{told}");
        }
    }

    #[test]
    fn no_secret_shows_in_a_container_or_its_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let open = || open("c", "", None, &Credentials::KeyFile(path.clone()));
        std::fs::write(&path, "AccountName=acc;AccountKey=Y2FuYXJ5").unwrap();
        let shown = format!("{:?}", open().unwrap());
        assert!(!shown.contains("Y2FuYXJ5"), "{shown}");
        for (text, why) in [("AccountKey=canary!", "AccountKey"), ("SharedAccessSignature=canary", "SharedAccess")] {
            std::fs::write(&path, format!("AccountName=acc;{text}")).unwrap();
            let error = open().unwrap_err();
            assert!(!format!("{error:?}").contains("canary"), "{error}");
            assert!(error.message.contains(why), "{error}");
        }
    }
}
