//! The repository that is copied to, and what opens it.
//!
//! ```text
//! --to NAME   the configuration's, with what opens it there
//! --to URL    a location
//! credential  --to-… ─► what the configuration says of NAME ─► BACKSTAY_TO_… ─► the terminal
//! ```
//!
//! Invariant: what opens the one repository is never tried on the other.
//! Never here: copying.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use engine::Repository;
use store::{Location, S3Options, StoreOptions};

use crate::context::Context;
use crate::credential::{self, Choice};
use crate::error::CommandError;

const PROMPT: &str = "password of the repository that is copied to: ";

/// Where to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where to")]
pub(super) struct DestinationArgs {
    /// The repository that is copied to: as --repository takes it
    #[arg(long, value_name = "URL|PATH|NAME")]
    to: String,

    /// Read its password from a file [env: BACKSTAY_TO_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,

    /// Read its password from what a shell command prints [env: BACKSTAY_TO_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND")]
    to_password_command: Option<OsString>,

    /// Use a key file instead of a password [env: BACKSTAY_TO_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    to_key_file: Option<PathBuf>,

    /// S3: its endpoint, if not Amazon's
    #[arg(long, value_name = "URL", hide_short_help = true)]
    to_s3_endpoint: Option<String>,

    /// S3: its region to sign for
    #[arg(long, value_name = "REGION", hide_short_help = true)]
    to_s3_region: Option<String>,

    /// S3: put its bucket into the path (true) or the host name (false) [default: as the endpoint suggests]
    #[arg(long, value_name = "BOOL", hide_short_help = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    to_s3_path_style: Option<bool>,

    /// S3: the profile in ~/.aws/credentials and ~/.aws/config for it
    #[arg(long, value_name = "PROFILE", hide_short_help = true)]
    to_s3_profile: Option<String>,
}

impl DestinationArgs {
    /// Opens it.
    pub(super) async fn open(&self, ctx: &Context) -> Result<Repository, CommandError> {
        let configured = ctx.repository_called(&self.to)?;
        let location = match configured {
            Some(repository) => repository.url.parse()?,
            None => self.to.parse()?,
        };
        let mut given = self.choice().one("--to-")?;
        if let Some(repository) = configured.filter(|_| given.is_none()) {
            given = repository.choice().one("")?;
        }
        if given.is_none() {
            given = credential::from_variables("BACKSTAY_TO_", |name| std::env::var_os(name))?;
        }
        let s3 = S3Options {
            endpoint: self.to_s3_endpoint.clone(),
            region: self.to_s3_region.clone(),
            path_style: self.to_s3_path_style,
            profile: self.to_s3_profile.clone(),
            ..S3Options::default()
        };
        open(ctx, &location, given, s3).await
    }

    fn choice(&self) -> Choice {
        Choice {
            password_file: self.to_password_file.clone(),
            password_command: self.to_password_command.clone(),
            key_file: self.to_key_file.clone(),
        }
    }
}

/// Opens a repository of the configuration that is copied to.
pub(super) async fn open_configured(name: &str, ctx: &Context) -> Result<Repository, CommandError> {
    let repository = ctx.repository_called(name)?.ok_or(CommandError::RepositoryUnnamed)?;
    let given = repository.choice().one("")?;
    open(ctx, &repository.url.parse()?, given, S3Options::default()).await
}

async fn open(
    ctx: &Context,
    location: &Location,
    given: Option<credential::Given>,
    s3: S3Options,
) -> Result<Repository, CommandError> {
    let opened = async {
        let options = StoreOptions { s3, ..ctx.globals.store.options() };
        let store = store::open_store(location, &options, &ctx.env).await?;
        let credential = match given {
            Some(given) => credential::read(given).await?,
            None => credential::ask(&[PROMPT]).await?,
        };
        Ok(Repository::open(store, ctx.env.clone(), credential, ctx.open_options()?).await?)
    };
    ctx.unless_interrupted(opened).await
}
