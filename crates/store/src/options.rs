//! How to talk to a store: times, limits, endpoints, and where credentials come from.
//!
//! ```text
//! what wins:  an option set here  >  environment variables  >  the profile's files  >  defaults
//! ```
//!
//! Invariant: `Debug` of these never shows a secret.
//! Never here: reading the settings file or flags. Whoever calls us has done that.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a connection. The defaults suit a store on the internet and a nightly run.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// How long connecting may take. 10 s.
    pub connect_for: Duration,
    /// How long a request may take beside moving its bytes, and how long a reply may stall. 60 s.
    pub request_for: Duration,
    /// The slowest transfer that still counts as moving, in bytes per second. 32 KiB/s.
    pub slowest_rate: NonZeroU64,
    /// How often a request is sent again once the store has answered anything. 20.
    pub retries_max: usize,
    /// Bytes per second that uploads may use. Unlimited.
    pub limit_upload: Option<NonZeroU64>,
    /// Bytes per second that downloads may use. Unlimited.
    pub limit_download: Option<NonZeroU64>,
    /// A PEM file of certificates to trust beside the system's.
    pub ca_certificate: Option<PathBuf>,
    /// Settings of S3 and what is compatible with it.
    pub s3: S3Options,
    /// Environment variables as the cloud libraries know them.
    pub variables: Variables,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            connect_for: Duration::from_secs(10),
            request_for: Duration::from_secs(60),
            slowest_rate: SLOWEST_RATE,
            retries_max: 20,
            limit_upload: None,
            limit_download: None,
            ca_certificate: None,
            s3: S3Options::default(),
            variables: Variables::of_process(),
        }
    }
}

const SLOWEST_RATE: NonZeroU64 = match NonZeroU64::new(32 << 10) {
    Some(rate) => rate,
    None => NonZeroU64::MIN,
};

/// Settings of S3 and compatible stores. Whatever is unset comes from the environment or the profile.
#[derive(Clone, Default)]
pub struct S3Options {
    /// `https://host[:port]` of a store other than Amazon's. `http` is taken as asked for.
    pub endpoint: Option<String>,
    /// The region to sign for.
    pub region: Option<String>,
    /// Whether the bucket goes into the path (true) or the host name. By default into the path
    /// where an endpoint is set or the bucket's name has a dot.
    pub path_style: Option<bool>,
    /// The profile in `~/.aws/credentials` and `~/.aws/config`; set here it beats the environment.
    pub profile: Option<String>,
    /// Access key id; needs the secret too.
    pub access_key_id: Option<String>,
    /// Secret access key.
    pub secret_access_key: Option<String>,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("profile", &self.profile)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// The environment variables that stores may read. Tests give their own.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The process's own, as they are now. What is not UTF-8 is left out.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os();
        Self(pairs.filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect())
    }

    /// None at all: nothing but the options counts.
    pub fn none() -> Self {
        Self::default()
    }

    /// These with `key` set to `value`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The value of `key`, if it is set and not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Every variable that begins with `prefix`, as (name in lower case, value), empty ones left out.
    pub(crate) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (String, &'a str)> {
        self.0
            .iter()
            .filter(move |(key, value)| key.starts_with(prefix) && !value.is_empty())
            .map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variables({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_options_shows_no_secret() {
        let options = StoreOptions {
            s3: S3Options { secret_access_key: Some("hunter2".into()), ..S3Options::default() },
            variables: Variables::none().with("AWS_SECRET_ACCESS_KEY", "hunter3"),
            ..StoreOptions::default()
        };
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn empty_variable_counts_as_unset() {
        let variables = Variables::none().with("AWS_PROFILE", "").with("AWS_REGION", "eu");
        assert_eq!(variables.get("AWS_PROFILE"), None);
        assert_eq!(variables.below("AWS_").count(), 1);
    }
}
