//! S3 and what is compatible with it.
//!
//! ```text
//! keys      options > environment > web identity > profile > container > instance
//! endpoint  options > AWS_ENDPOINT_URL_S3 > AWS_ENDPOINT_URL > profile > Amazon's
//! region    options > AWS_REGION > AWS_DEFAULT_REGION > profile > ask Amazon > us-east-1
//! bucket    in the path where an endpoint is set or its name has a dot, else in the host name
//! ```
//!
//! Invariant: every put carries `If-None-Match: *` and its SHA-256, in one request.
//! Never here: multipart, bulk deletes, unsigned requests unless the environment asks for them.

use std::sync::Arc;

use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut, resolve_bucket_region};
use tokio::time::timeout;
use url::Url;

use crate::aws_profile::Profile;
use crate::backend::Backend;
use crate::classify::{At, classify, credentials_missing};
use crate::clouds::{self, setting};
use crate::{StoreError, StoreOptions};

/// Opens a bucket of S3 or a compatible store.
///
/// # Errors
///
/// [`StoreError::Setting`], [`StoreError::CredentialsMissing`], [`StoreError::BucketMissing`].
pub(crate) async fn open(url: &Url, options: &StoreOptions) -> Result<Backend, StoreError> {
    let bucket = clouds::bucket(url);
    let profile = Profile::read(options)?;
    let endpoint = endpoint(options, &profile)?;
    let allow_http = endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http");
    let client = clouds::client_options(options, allow_http)?;

    let mut builder = from_variables(options)
        .with_bucket_name(bucket)
        .with_client_options(client.clone())
        .with_retry(clouds::no_retries())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_disable_bulk_delete(true);
    builder = with_keys(builder, options, &profile)?;
    builder = with_place(builder, bucket, endpoint.as_ref(), options);
    let region = match region(options, &profile) {
        Some(region) => Some(region),
        None if endpoint.is_none() => ask_region(bucket, &client, url, options).await?,
        None => None,
    };
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    let store = builder.build().map_err(|error| setting("S3", error))?;
    if !has_keys(options, &profile) {
        check_credentials(&store, url, options).await?;
    }
    clouds::backend(Arc::new(store), url, options)
}

/// Everything that the library reads from `AWS_*`; what we decide ourselves is set over it later.
fn from_variables(options: &StoreOptions) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new();
    for (key, value) in options.variables.below("AWS_") {
        let decided_here = ["aws_endpoint_url_s3", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
        if decided_here.contains(&key.as_str()) {
            continue;
        }
        if let Ok(key) = key.parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

fn endpoint(options: &StoreOptions, profile: &Profile) -> Result<Option<Url>, StoreError> {
    let found = options
        .s3
        .endpoint
        .as_deref()
        .or_else(|| options.variables.get("AWS_ENDPOINT_URL_S3"))
        .or_else(|| options.variables.get("AWS_ENDPOINT_URL"))
        .or_else(|| options.variables.get("AWS_ENDPOINT"))
        .or(profile.endpoint.as_deref());
    let Some(text) = found else {
        return Ok(None);
    };
    let url = Url::parse(text).map_err(|error| setting("S3 endpoint", format!("{text}: {error}")))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(Some(url)),
        _ => Err(setting("S3 endpoint", format!("{text} is not an http or https address"))),
    }
}

fn region(options: &StoreOptions, profile: &Profile) -> Option<String> {
    let named = options.s3.region.as_deref();
    named
        .or_else(|| options.variables.get("AWS_REGION"))
        .or_else(|| options.variables.get("AWS_DEFAULT_REGION"))
        .or(profile.region.as_deref())
        .map(str::to_owned)
}

/// Asks Amazon in which region the bucket is. Not knowing is fine: the library has a default.
async fn ask_region(
    bucket: &str,
    client: &object_store::ClientOptions,
    url: &Url,
    options: &StoreOptions,
) -> Result<Option<String>, StoreError> {
    match timeout(options.request_for, resolve_bucket_region(bucket, client)).await {
        Ok(Ok(region)) => Ok(Some(region)),
        Ok(Err(error)) if error.to_string().contains("not found") => {
            let store = url.as_str().trim_end_matches('/').to_owned();
            Err(StoreError::BucketMissing { store, source: error.into() })
        }
        _ => Ok(None),
    }
}

/// Whether keys were found here, so that the library need not fetch any.
fn has_keys(options: &StoreOptions, profile: &Profile) -> bool {
    options.gives_keys() || profile.keys.is_some() || options.variables.get("AWS_SKIP_SIGNATURE").is_some()
}

fn with_keys(
    builder: AmazonS3Builder,
    options: &StoreOptions,
    profile: &Profile,
) -> Result<AmazonS3Builder, StoreError> {
    let (s3, variables) = (&options.s3, &options.variables);
    let (id, secret, token) = if s3.access_key_id.is_some() || s3.secret_access_key.is_some() {
        (s3.access_key_id.as_deref(), s3.secret_access_key.as_deref(), None)
    } else if s3.profile.is_none() && variables.get("AWS_ACCESS_KEY_ID").is_some() {
        let secret = variables.get("AWS_SECRET_ACCESS_KEY");
        (variables.get("AWS_ACCESS_KEY_ID"), secret, variables.get("AWS_SESSION_TOKEN"))
    } else if let Some(keys) = &profile.keys {
        (Some(keys.id.as_str()), Some(keys.secret.as_str()), keys.token.as_deref())
    } else {
        return Ok(builder);
    };
    let (Some(id), Some(secret)) = (id, secret) else {
        return Err(setting("S3 credentials", "only one of access key id and secret is set"));
    };
    let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    Ok(match token {
        Some(token) => builder.with_token(token),
        None => builder,
    })
}

/// Decides between `https://host/bucket` and `https://bucket.host`.
fn with_place(
    builder: AmazonS3Builder,
    bucket: &str,
    endpoint: Option<&Url>,
    options: &StoreOptions,
) -> AmazonS3Builder {
    let by_default = endpoint.is_some() || bucket.contains('.');
    let path_style = options.s3.path_style.unwrap_or(by_default);
    let builder = builder.with_virtual_hosted_style_request(!path_style);
    let Some(endpoint) = endpoint else {
        return builder;
    };
    let mut endpoint = endpoint.clone();
    if !path_style {
        let host = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
        // An address in numbers has no room for a bucket's name; it then stays as it is.
        let _ = endpoint.set_host(Some(&host));
    }
    builder.with_endpoint(endpoint.as_str().trim_end_matches('/'))
}

/// Fetches credentials once, so that their absence shows as such and not as a failed request.
async fn check_credentials(store: &AmazonS3, url: &Url, options: &StoreOptions) -> Result<(), StoreError> {
    let label = url.as_str().trim_end_matches('/');
    match timeout(options.request_for, store.credentials().get_credential()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(classify_token_error(error, label)),
        Err(_) => Err(At { name: "credentials", store: label }.timed_out()),
    }
}

/// A refused token is wrong credentials; anything else means that there are none to be had here.
fn classify_token_error(error: object_store::Error, label: &str) -> StoreError {
    let said_no = error.to_string().contains("<Code>");
    match said_no {
        true => classify(error, At { name: "credentials", store: label }),
        false => credentials_missing(error, label),
    }
}
