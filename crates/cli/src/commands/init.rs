//! `init`: make a repository.
//!
//! Never here: checking the place; the engine refuses what is not empty.

use clap::Args;
use engine::{InitRequest, Repository};
use seal::KdfCost;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  backstay init -r /srv/backup
  backstay init -r s3://bucket/backup --password-file /etc/backstay/password
  backstay init -r s3://bucket/backup --s3-endpoint https://minio.example:9000 --key-file owner.key";

/// Make a repository
///
/// The password or key file given here belongs to the first key, which is the owner's: it may do everything. Add keys
/// which may do less with `backstay key add`. Without a key nothing can be restored: keep a copy of it elsewhere.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// What the key is called in `backstay key list`
    #[arg(long, value_name = "TEXT", default_value = "owner")]
    label: String,
}

#[derive(Debug, Serialize)]
struct Document {
    repository_id: String,
    location: String,
}

/// Makes the repository.
pub(crate) async fn run(args: &InitArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let location = ctx.location()?;
    let prepared = async {
        let store = ctx.open_store().await?;
        Ok((store, ctx.credential(&["password for the new repository: ", "the same again: "]).await?))
    };
    let (store, credential) = ctx.unless_interrupted(prepared).await?;
    let request =
        InitRequest { credential, label: args.label.clone(), cost: KdfCost::default(), options: ctx.open_options()? };
    let repository = Repository::init(store, ctx.env.clone(), request).await?;
    let id = repository.config().repository;
    if ctx.ui.is_json {
        ctx.ui.json(&Document { repository_id: id.to_string(), location: location.to_string() })?;
    } else {
        ctx.ui.note(format_args!("repository {id} made at {location}"));
        ctx.ui.note("without its password or key file nothing can be restored: keep a copy of it elsewhere");
    }
    if !repository.config().conditional_create {
        ctx.ui.warn("this store does not refuse to overwrite objects; pruning will need --exclusive");
    }
    Ok(Outcome::Done)
}
