//! `serve`: show snapshots to other programs over a network protocol.
//!
//! ```text
//! serve webdav ─► listens? ─► say where ─► tell troubles until the first interrupt
//! ```
//!
//! Invariant: without an option that says so, only the user who runs it is answered, on this machine.
//! Never here: what is answered.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use serde::Serialize;
use serve::webdav::{Options, Served, Who, serve};

use crate::commands::looking::LookingArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  backstay serve webdav
  curl -O http://127.0.0.1:8467/latest/files/etc/hosts
  rclone copy --webdav-url http://127.0.0.1:8467 :webdav:latest/files/srv/www /tmp/www
  backstay serve webdav --listen 127.0.0.1:0 --json";

/// Where it listens if nothing else is said: a port that nothing known uses.
const LISTEN: &str = "127.0.0.1:8467";

/// Show snapshots to other programs over a network protocol
#[derive(Debug, Subcommand)]
pub(crate) enum ServeCommand {
    Webdav(WebdavArgs),
}

/// Show snapshots as folders over WebDAV, where nothing can be mounted
///
/// File managers, browsers, rclone and curl read the address that this prints. It holds what `mount` shows: `latest` is the newest
/// snapshot; `by-id` has all of them, each with its components and below them what was backed up; `by-date`, `by-host`, `by-source` and
/// `by-tag` have them too. New snapshots appear by themselves. Nothing can be changed.
///
/// WebDAV knows files and folders, with lengths, times and what tells one content from another. A symbolic link is shown as the file in its
/// component that it leads to. Links to folders can be asked for but are not listed; devices, pipes and sockets are not shown.
///
/// There is no password: connections of other users of this machine are refused. It runs until Ctrl-C or SIGTERM.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct WebdavArgs {
    /// Where to listen; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = LISTEN)]
    listen: SocketAddr,

    /// Let every user of this machine read every file, whatever its permissions
    #[arg(long)]
    allow_other: bool,

    /// Listen where other machines reach it too: whoever does reads every file without a password, and on the way it can be overheard
    #[arg(long)]
    allow_any_address: bool,

    #[command(flatten)]
    looking: LookingArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    url: String,
}

impl ServeCommand {
    /// Does it.
    pub(crate) async fn run(&self, ctx: &Context) -> Result<Outcome, CommandError> {
        match self {
            Self::Webdav(args) => webdav(args, ctx).await,
        }
    }
}

/// Serves until it is interrupted.
async fn webdav(args: &WebdavArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let mut served = ctx.unless_interrupted(begin(args, ctx)).await?;
    let url = format!("http://{}/", served.address());
    if ctx.ui.is_json {
        ctx.ui.json(&Document { url })?;
    } else {
        ctx.ui.note(format_args!("serving at {url}; Ctrl-C ends it"));
    }
    loop {
        tokio::select! {
            trouble = served.hear() => args.looking.tell(&trouble, ctx),
            () = ctx.interrupts.token.cancelled() => break,
        }
    }
    served.end().await;
    Ok(Outcome::Done)
}

async fn begin(args: &WebdavArgs, ctx: &Context) -> Result<Served, CommandError> {
    let view = args.looking.view(ctx).await?;
    let who = match (args.allow_any_address, args.allow_other) {
        (true, _) => Who::Anyone,
        (false, true) => Who::Machine,
        (false, false) => Who::Owner,
    };
    let options = Options {
        listen: args.listen,
        who,
        filter: args.looking.filter.filter(),
        patience: args.looking.give_up_after,
        ahead_len_max: args.looking.ahead_len_max(),
    };
    Ok(serve(view, options).await?)
}
