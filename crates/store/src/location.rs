//! Where a repository is: a folder on this host, or a bucket and prefix.
//!
//! ```text
//! /srv/backup   ./backup   file:///srv/backup      Directory
//! s3://bucket/prefix  gs://bucket/prefix  az://container/prefix      Url
//! ```
//!
//! Invariant: a location carries no secret; one with a user or password in it does not parse.
//! Never here: endpoints and credentials. They are settings, and change while locations stay.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::StoreError;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A folder on this host.
    Directory(PathBuf),
    /// A bucket or container, and a prefix in it: `s3`, `gs` or `az`.
    Url(Url),
}

impl FromStr for Location {
    type Err = StoreError;

    /// Reads a path or one of the URLs above. Whatever has no `scheme://` is a path.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text.is_empty() {
            return Err(bad(text, "it is empty"));
        }
        if !text.contains("://") {
            return Ok(Self::Directory(PathBuf::from(text)));
        }
        let url = Url::parse(text).map_err(|error| bad("location", error))?;
        match url.scheme() {
            "file" => directory(&url),
            "s3" | "gs" | "az" => bucket(url),
            "http" | "https" => Err(bad(text, "an endpoint is a setting of its own beside s3://bucket/prefix")),
            other => Err(bad(text, format!("no store speaks {other}"))),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Url(url) => write!(f, "{}", url.as_str().trim_end_matches('/')),
        }
    }
}

fn directory(url: &Url) -> Result<Location, StoreError> {
    url.to_file_path().map(Location::Directory).map_err(|()| bad(url, "it names no local path"))
}

fn bucket(url: Url) -> Result<Location, StoreError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("location", "credentials do not belong in a location"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad(url, "it names no bucket"));
    }
    if url.port().is_some() {
        return Err(bad(url, "a bucket has no port"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(url, "a location has no ? or #"));
    }
    Ok(Location::Url(url))
}

fn bad(text: impl fmt::Display, problem: impl fmt::Display) -> StoreError {
    StoreError::Setting { setting: "location".into(), problem: format!("{text}: {problem}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<Location>().expect("parses").to_string()
    }

    #[test]
    fn text_without_a_scheme_is_a_path() {
        assert_eq!(shown("./my backup:old"), "./my backup:old");
        assert_eq!(shown("file:///srv/b%20c"), "/srv/b c");
    }

    #[test]
    fn bucket_urls_show_themselves_without_a_trailing_slash() {
        assert_eq!(shown("s3://bucket/a/b/"), "s3://bucket/a/b");
        assert_eq!(shown("gs://bucket"), "gs://bucket");
    }

    #[test]
    fn location_with_a_secret_is_refused_without_repeating_it() {
        let error = "s3://key:hunter2@bucket/x".parse::<Location>().expect_err("secret");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn location_that_is_no_store_is_refused() {
        for text in ["", "ftp://host/x", "https://host/bucket", "s3://", "s3://b/x?y=1", "s3://b:9/x"] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }
}
