//! What an error of the `object_store` library means for us.
//!
//! The library hands up a chain of errors. We look through all of it, for the surest sign first:
//!
//! ```text
//! io::Error       disk full or failing, permission, not a directory
//! HttpError       dns, refused, timeout, broken, certificate
//! <Code> in body  NoSuchBucket, SignatureDoesNotMatch, RequestTimeTooSkewed, SlowDown …
//! HTTP status     401 403 404 429 5xx
//! library variant NotFound, PermissionDenied, NotImplemented
//! ```
//!
//! Invariant: an answer that says no (credentials, bucket, permission) is never taken for weather.
//! Never here: retrying, and "already exists", which is an outcome and not an error.

use std::error::Error as StdError;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};
use rustix::io::Errno;

use crate::StoreError;
use crate::error::{Cause, Obstacle};

/// Which object or prefix of which store a request was about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) name: &'a str,
    pub(crate) store: &'a str,
}

/// Turns the library's error into ours.
pub(crate) fn classify(error: object_store::Error, at: At<'_>) -> StoreError {
    if let Some(sign) = io_sign(&error) {
        return at.error(sign, error.into());
    }
    let answer = Answer::of(&error);
    let sign = http_sign(&error)
        .or_else(|| answer.code.as_deref().and_then(code_sign))
        .or_else(|| answer.status.and_then(status_sign))
        .or_else(|| text_sign(&answer.text))
        .unwrap_or_else(|| variant_sign(&error));
    let shown = answer.shown();
    at.error(sign.saying(shown), error.into())
}

/// Turns an error of our own file operations into ours.
pub(crate) fn classify_io(error: io::Error, at: At<'_>) -> StoreError {
    let sign = io_kind_sign(&error).unwrap_or(Sign::Other);
    at.error(sign, error.into())
}

/// What is wrong, before it is told about an object and a store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sign {
    NotFound,
    Denied,
    CredentialsMissing,
    CredentialsWrong(String),
    BucketMissing,
    BucketName,
    Unreachable(Obstacle),
    Certificate,
    ClockSkew,
    Busy(String),
    Full,
    Disk,
    NotADirectory,
    Location,
    Region,
    Unsupported(String),
    Other,
}

impl Sign {
    /// Puts what the server said into the signs that show it.
    fn saying(self, shown: String) -> Self {
        match self {
            Self::CredentialsWrong(_) => Self::CredentialsWrong(shown),
            Self::Busy(_) => Self::Busy(shown),
            other => other,
        }
    }
}

impl At<'_> {
    fn error(self, sign: Sign, source: Cause) -> StoreError {
        let (name, store) = (self.name.to_owned(), self.store.to_owned());
        match sign {
            Sign::NotFound => StoreError::NotFound { name, store },
            Sign::Denied => StoreError::AccessDenied { name, store, source },
            Sign::CredentialsMissing => StoreError::CredentialsMissing { store, source },
            Sign::CredentialsWrong(code) => StoreError::CredentialsWrong { store, code, source },
            Sign::BucketMissing => StoreError::BucketMissing { store, source },
            Sign::BucketName => StoreError::Setting {
                setting: "bucket name".into(),
                problem: format!("{store} has one that the server does not accept"),
            },
            Sign::Unreachable(obstacle) => StoreError::Unreachable { name, store, obstacle, source },
            Sign::Certificate => StoreError::Certificate { store, source },
            Sign::ClockSkew => StoreError::ClockSkew { store, source },
            Sign::Busy(answer) => StoreError::Busy { name, store, answer, source },
            Sign::Full => StoreError::Full { name, store, source },
            Sign::Disk => StoreError::Disk { name, store, source },
            Sign::NotADirectory => StoreError::NotADirectory { path: store, source },
            Sign::Location => StoreError::Setting { setting: "location".into(), problem: format!("{store}: {source}") },
            Sign::Region => StoreError::Setting {
                setting: "region".into(),
                problem: format!("{store} is in another one ({source})"),
            },
            Sign::Unsupported(feature) => StoreError::Unsupported { store, feature, source },
            Sign::Other => StoreError::Other { name, store, source },
        }
    }

    /// The error for a request that our own clock ended.
    pub(crate) fn timed_out(self) -> StoreError {
        let source = crate::error::Reason::cause("the request took too long and was given up");
        self.error(Sign::Unreachable(Obstacle::Timeout), source)
    }

    /// The error for a reply that ended before the length it announced.
    pub(crate) fn cut_off(self, len: u64, announced_len: u64) -> StoreError {
        let sentence = format!("{len} of {announced_len} announced bytes came");
        let source = crate::error::Reason::cause(sentence);
        self.error(Sign::Unreachable(Obstacle::Interrupted), source)
    }

    /// The error for an object that is absent.
    pub(crate) fn not_found(self) -> StoreError {
        self.error(Sign::NotFound, crate::error::Reason::cause(""))
    }
}

/// Every error of a chain, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn io_sign(error: &object_store::Error) -> Option<Sign> {
    let through_http = chain(error).any(|error| error.is::<HttpError>());
    let io = chain(error).find_map(|error| error.downcast_ref::<io::Error>())?;
    if through_http { None } else { io_kind_sign(io) }
}

fn io_kind_sign(error: &io::Error) -> Option<Sign> {
    use io::ErrorKind as K;
    match error.kind() {
        K::NotFound => Some(Sign::NotFound),
        K::PermissionDenied | K::ReadOnlyFilesystem => Some(Sign::Denied),
        K::StorageFull | K::QuotaExceeded => Some(Sign::Full),
        K::NotADirectory => Some(Sign::NotADirectory),
        K::TimedOut | K::StaleNetworkFileHandle => Some(Sign::Unreachable(Obstacle::Timeout)),
        K::InvalidFilename => Some(Sign::Location),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Some(Sign::Location),
        K::Unsupported => Some(Sign::Unsupported("a file operation".into())),
        _ => (Errno::from_io_error(error) == Some(Errno::IO)).then_some(Sign::Disk),
    }
}

fn http_sign(error: &object_store::Error) -> Option<Sign> {
    let http = chain(error).find_map(|error| error.downcast_ref::<HttpError>())?;
    let text = chain(http).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    if text.contains("certificate") {
        return Some(Sign::Certificate);
    }
    let refused = chain(http)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    let obstacle = match http.kind() {
        HttpErrorKind::Timeout => Obstacle::Timeout,
        HttpErrorKind::Connect if text.contains("dns error") => Obstacle::Dns,
        HttpErrorKind::Connect if refused => Obstacle::Refused,
        HttpErrorKind::Connect => Obstacle::Connect,
        _ => Obstacle::Interrupted,
    };
    Some(Sign::Unreachable(obstacle))
}

/// What a server said: its HTTP status and the code in its body.
struct Answer {
    status: Option<u16>,
    code: Option<String>,
    text: String,
}

impl Answer {
    fn of(error: &object_store::Error) -> Self {
        // The innermost error shows the whole body; the outer ones repeat it.
        let text = chain(error).map(ToString::to_string).last().unwrap_or_default();
        let status = between(&text, "status code: ", ' ').and_then(|status| status.parse().ok());
        let code = between(&text, "<Code>", '<').map(str::to_owned);
        Self { status, code, text }
    }

    fn shown(&self) -> String {
        match (&self.code, self.status) {
            (Some(code), _) => code.clone(),
            (None, Some(status)) => format!("HTTP {status}"),
            (None, None) => "no reason given".into(),
        }
    }
}

fn between<'a>(text: &'a str, start: &str, end: char) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    let found = rest.split(end).next()?.trim();
    (!found.is_empty() && found.len() <= CODE_LEN_MAX).then_some(found)
}

/// A server's error code is a word; anything longer is not one. In bytes.
const CODE_LEN_MAX: usize = 64;

fn code_sign(code: &str) -> Option<Sign> {
    Some(match code {
        "NoSuchBucket" | "ContainerNotFound" => Sign::BucketMissing,
        "InvalidBucketName" | "InvalidResourceName" => Sign::BucketName,
        "NoSuchKey" | "BlobNotFound" => Sign::NotFound,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "InvalidSecurity"
        | "AuthenticationFailed"
        | "InvalidAuthenticationInfo"
        | "NotSignedUp"
        | "InvalidClientTokenId"
        | "InvalidIdentityToken" => Sign::CredentialsWrong(String::new()),
        "RequestTimeTooSkewed" | "RequestExpired" => Sign::ClockSkew,
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => Sign::Region,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "AuthorizationPermissionMismatch"
        | "AuthorizationFailure"
        | "MethodNotAllowed" => Sign::Denied,
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" | "StorageQuotaExceeded" => Sign::Full,
        "NotImplemented" => Sign::Unsupported("a request".into()),
        "SlowDown"
        | "RequestTimeout"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServerBusy"
        | "OperationTimedOut"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "IncompleteBody"
        | "Throttling"
        | "TooManyRequests" => Sign::Busy(String::new()),
        _ => return None,
    })
}

fn status_sign(status: u16) -> Option<Sign> {
    Some(match status {
        301 | 307 => Sign::Region,
        401 => Sign::CredentialsWrong(String::new()),
        403 | 405 => Sign::Denied,
        404 => Sign::NotFound,
        501 => Sign::Unsupported("a request".into()),
        507 => Sign::Full,
        408 | 409 | 425 | 429 | 500..=599 => Sign::Busy(String::new()),
        _ => return None,
    })
}

fn text_sign(text: &str) -> Option<Sign> {
    if text.contains("redirect without LOCATION") {
        return Some(Sign::Region);
    }
    // A reply of status 200 whose body tells of an error: S3 does that for slow operations.
    (text.contains("InternalError") || text.contains("SlowDown")).then(|| Sign::Busy(String::new()))
}

fn variant_sign(error: &object_store::Error) -> Sign {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => Sign::NotFound,
        E::PermissionDenied { .. } => Sign::Denied,
        E::Unauthenticated { .. } => Sign::CredentialsWrong(String::new()),
        E::AlreadyExists { .. } | E::Precondition { .. } => Sign::Busy(String::new()),
        E::NotImplemented { operation, .. } => Sign::Unsupported(operation.clone()),
        E::NotSupported { .. } => Sign::Unsupported("a request".into()),
        _ => Sign::Other,
    }
}

/// The error for credentials that could not be fetched before the first request.
pub(crate) fn credentials_missing(error: object_store::Error, store: &str) -> StoreError {
    At { name: "", store }.error(Sign::CredentialsMissing, error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const AT: At<'static> = At { name: "packs/ab/x", store: "s3://b" };

    fn answer(status: &str, body: &str) -> StoreError {
        let text = format!("Server returned non-2xx status code: {status}: {body}");
        let source = crate::error::Reason::cause(text);
        classify(object_store::Error::Generic { store: "S3", source }, AT)
    }

    fn body(code: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>")
    }

    #[test]
    fn wrong_secret_is_told_from_a_missing_permission() {
        let wrong = answer("403 Forbidden", &body("SignatureDoesNotMatch"));
        assert!(matches!(wrong, StoreError::CredentialsWrong { ref code, .. } if code == "SignatureDoesNotMatch"));
        let denied = answer("403 Forbidden", &body("AccessDenied"));
        assert!(matches!(denied, StoreError::AccessDenied { .. }));
    }

    #[test]
    fn missing_bucket_is_told_from_a_missing_object() {
        let bucket = answer("404 Not Found", &body("NoSuchBucket"));
        assert!(matches!(bucket, StoreError::BucketMissing { .. }));
        assert!(answer("404 Not Found", &body("NoSuchKey")).is_not_found());
    }

    #[test]
    fn bucket_name_that_no_bucket_can_have_is_a_bad_setting_and_no_bug() {
        let error = answer("400 Bad Request", &body("InvalidBucketName"));
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(error.to_string(), "bad bucket name: s3://b has one that the server does not accept");
    }

    #[test]
    fn clock_skew_is_no_permission_problem() {
        let error = answer("403 Forbidden", &body("RequestTimeTooSkewed"));
        assert!(matches!(error, StoreError::ClockSkew { .. }));
    }

    #[test]
    fn server_error_without_a_body_is_retried_and_shows_its_status() {
        let error = answer("503 Service Unavailable", "");
        assert_eq!(error.kind(), Kind::Retry);
        assert!(error.to_string().contains("HTTP 503"), "{error}");
    }

    #[test]
    fn full_disk_is_full_whatever_wraps_it() {
        let io = io::Error::from(io::ErrorKind::StorageFull);
        let error = object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(io) };
        assert!(matches!(classify(error, AT), StoreError::Full { .. }));
    }

    #[test]
    fn answer_nobody_classified_is_a_bug_and_keeps_its_cause() {
        let error = answer("418 I'm a teapot", "short and stout");
        assert_eq!(error.kind(), Kind::Bug);
        assert!(std::error::Error::source(&error).is_some());
    }
}
