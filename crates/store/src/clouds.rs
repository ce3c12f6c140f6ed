//! Google Cloud Storage and Azure Blob Storage by URL, and what every remote store shares.
//!
//! ```text
//! gs://bucket/prefix       GOOGLE_* variables, application default credentials, the metadata server
//! az://container/prefix    AZURE_* variables (account, key, SAS, workload identity), managed identity
//! ```
//!
//! Invariant: the library's own retries are off, and so is its clock; ours are the only ones.
//! Never here: S3, which has a file of its own.

use std::sync::Arc;
use std::time::Duration;

use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, HeaderValue, ObjectStore, RetryConfig};
use url::Url;

use crate::backend::{Backend, Deadlines};
use crate::{StoreError, StoreOptions};

/// How we name ourselves to servers.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("backstay/", env!("CARGO_PKG_VERSION")));

/// Opens a bucket of Google Cloud Storage.
pub(crate) fn open_gcs(url: &Url, options: &StoreOptions) -> Result<Backend, StoreError> {
    let mut builder = GoogleCloudStorageBuilder::new();
    if let Some(path) = options.variables.get("SERVICE_ACCOUNT") {
        builder = builder.with_service_account_path(path);
    }
    for (key, value) in options.variables.below("GOOGLE_") {
        if let Ok(key) = key.parse() {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder
        .with_bucket_name(bucket(url))
        .with_client_options(client_options(options, false)?)
        .with_retry(no_retries())
        .build()
        .map_err(|error| setting("Google Cloud Storage", error))?;
    backend(Arc::new(store), url, options)
}

/// Opens a container of Azure Blob Storage.
pub(crate) fn open_azure(url: &Url, options: &StoreOptions) -> Result<Backend, StoreError> {
    let mut builder = MicrosoftAzureBuilder::new();
    if let Some(endpoint) = options.variables.get("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(endpoint);
    }
    for (key, value) in options.variables.below("AZURE_") {
        if let Ok(key) = key.parse() {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder
        .with_container_name(bucket(url))
        .with_client_options(client_options(options, false)?)
        .with_retry(no_retries())
        .build()
        .map_err(|error| setting("Azure Blob Storage", error))?;
    backend(Arc::new(store), url, options)
}

/// The bucket or container that a location names.
pub(crate) fn bucket(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// Our view of the prefix that a location names.
pub(crate) fn backend(objects: Arc<dyn ObjectStore>, url: &Url, options: &StoreOptions) -> Result<Backend, StoreError> {
    let prefix = Path::from_url_path(url.path()).map_err(|error| setting("location", error))?;
    let label = url.as_str().trim_end_matches('/').to_owned();
    Ok(Backend::new(objects, prefix, label, Deadlines::of(options)))
}

/// Settings of the HTTP client. The deadline of a whole request is [`Backend`]'s.
pub(crate) fn client_options(options: &StoreOptions, allow_http: bool) -> Result<ClientOptions, StoreError> {
    let mut client = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_timeout_disabled()
        .with_connect_timeout(options.connect_for)
        .with_user_agent(USER_AGENT);
    let from_variable = options.variables.get("AWS_CA_BUNDLE").map(Into::into);
    if let Some(path) = options.ca_certificate.clone().or(from_variable) {
        let pem =
            std::fs::read(&path).map_err(|error| setting("CA certificate", format!("{}: {error}", path.display())))?;
        let bundle = Certificate::from_pem_bundle(&pem)
            .map_err(|error| setting("CA certificate", format!("{}: {error}", path.display())))?;
        for certificate in bundle {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

/// The library sends each request once; sending again is `retrying`'s.
pub(crate) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
}

/// The error for a setting that does not work.
pub(crate) fn setting(setting: &str, problem: impl std::fmt::Display) -> StoreError {
    StoreError::Setting { setting: setting.to_owned(), problem: problem.to_string() }
}
