//! The options that every command takes, and what they come to.
//!
//! Invariant: an option beats its environment variable.
//! Never here: doing anything with them (see `context`).

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use store::{S3Options, StoreOptions};

use crate::credential::Choice;
use crate::words::rate;

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// A location or a name; both are text.
fn location() -> impl TypedValueParser<Value = String> {
    let not_text = |_| "a repository's location is text in UTF-8, and this is not";
    OsStringValueParser::new().try_map(move |text| text.into_string().map_err(not_text))
}

/// Which repository, and what opens it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Repository")]
pub(crate) struct RepositoryArgs {
    /// The configuration [default: ./backstay.toml, ~/.config/backstay/backstay.toml, /etc/backstay/backstay.toml]
    #[arg(long, global = true, value_name = "FILE", env = "BACKSTAY_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    /// Where the repository is: PATH, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a name in the
    /// configuration
    #[arg(
        short,
        long,
        global = true,
        value_name = "URL|PATH|NAME",
        env = "BACKSTAY_REPOSITORY",
        hide_env_values = true,
        value_parser = location()
    )]
    pub(crate) repository: Option<String>,

    /// Read the password from a file [env: BACKSTAY_PASSWORD_FILE]
    ///
    /// One newline at its end does not count. Nobody but its owner may have access to the file. The password itself
    /// may also be in BACKSTAY_PASSWORD; if nothing is given, it is asked for on the terminal.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// Read the password from what a shell command prints [env: BACKSTAY_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<OsString>,

    /// Use a key file instead of a password [env: BACKSTAY_KEY_FILE]
    ///
    /// Any file of at least 32 random bytes to which nobody but its owner has access.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Keep the local index cache here instead of in ~/.cache/backstay
    #[arg(long, global = true, value_name = "DIR", env = "BACKSTAY_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// What is shown.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print results, and errors, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Tell more; -vv and -vvv tell even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Do not show progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// How to talk to the store.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct StoreArgs {
    /// Upload at most this much per second, such as 10M
    #[arg(long, global = true, value_name = "SIZE", value_parser = rate, hide_short_help = true)]
    limit_upload: Option<NonZeroU64>,

    /// Download at most this much per second
    #[arg(long, global = true, value_name = "SIZE", value_parser = rate, hide_short_help = true)]
    limit_download: Option<NonZeroU64>,

    /// Send a failed request again up to this often [default: 20]
    #[arg(long, global = true, value_name = "COUNT", hide_short_help = true)]
    retries: Option<usize>,

    /// Trust the certificates in this PEM file beside the system's
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    ca_certificate: Option<PathBuf>,

    /// S3: the endpoint of a store other than Amazon's, such as `https://minio.example:9000`
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    s3_endpoint: Option<String>,

    /// S3: the region to sign for
    #[arg(long, global = true, value_name = "REGION", hide_short_help = true)]
    s3_region: Option<String>,

    /// S3: put the bucket into the path (true) or the host name (false) [default: as the endpoint suggests]
    #[arg(long, global = true, value_name = "BOOL", hide_short_help = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    s3_path_style: Option<bool>,

    /// S3: the profile in ~/.aws/credentials and ~/.aws/config
    #[arg(long, global = true, value_name = "PROFILE", hide_short_help = true)]
    s3_profile: Option<String>,
}

impl RepositoryArgs {
    /// The credential that the options give.
    pub(crate) fn choice(&self) -> Choice {
        Choice {
            password_file: self.password_file.clone(),
            password_command: self.password_command.clone(),
            key_file: self.key_file.clone(),
        }
    }
}

impl StoreArgs {
    /// These options over the defaults.
    pub(crate) fn options(&self) -> StoreOptions {
        let defaults = StoreOptions::default();
        StoreOptions {
            retries_max: self.retries.unwrap_or(defaults.retries_max),
            limit_upload: self.limit_upload,
            limit_download: self.limit_download,
            ca_certificate: self.ca_certificate.clone(),
            s3: S3Options {
                endpoint: self.s3_endpoint.clone(),
                region: self.s3_region.clone(),
                path_style: self.s3_path_style,
                profile: self.s3_profile.clone(),
                ..S3Options::default()
            },
            ..defaults
        }
    }
}
