//! `mount`: show snapshots as folders.
//!
//! ```text
//! mount ─► mounted? ─► note it ─► tell troubles until it is unmounted, or unmount it at the first interrupt
//! mount --daemon ─► the same program again ─► waits until that is mounted, and ends
//! ```
//!
//! Invariant: when the program has ended by itself nothing is mounted any more; with `--daemon` when that other one has.
//! Never here: what the folders hold.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serve::mount::{Heard, Mounted, Options, mount};
use source::blocking;

use crate::commands::looking::LookingArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  backstay mount /mnt/backups
  backstay mount --daemon --log /var/log/backstay-mount.log /mnt/backups
  rsync -aHAX /mnt/backups/latest/files/etc/ /tmp/etc/
  fusermount3 -u /mnt/backups";

/// Set for the process that stays, which `--daemon` starts.
const STAYS: &str = "BACKSTAY_MOUNT_STAYS";

/// Show snapshots as folders, to be looked at with any program
///
/// Below DIR, `latest` is the newest snapshot; `by-id` has all of them, each with its components and below them what was backed up;
/// `by-date`, `by-host`, `by-source` and `by-tag` point there. New snapshots appear by themselves. Nothing can be changed.
///
/// It stays mounted until Ctrl-C, SIGTERM, or `fusermount3 -u DIR` (as root, `umount DIR`).
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct MountArgs {
    /// The folder to mount on; it must be there and be empty
    #[arg(value_name = "DIR")]
    point: PathBuf,

    /// Let other users look too, as far as the permissions of the files let them
    ///
    /// Without this only the user who mounts can look, and sees everything.
    #[arg(long)]
    allow_other: bool,

    /// Go on in the background once it is mounted
    #[arg(long)]
    daemon: bool,

    /// Where a background process writes what it has to say
    #[arg(long, value_name = "FILE", requires = "daemon")]
    log: Option<PathBuf>,

    #[command(flatten)]
    looking: LookingArgs,
}

/// Mounts, and stays until it is unmounted.
pub(crate) async fn run(args: &MountArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let stays = std::env::var_os(STAYS).is_some();
    if args.daemon && !stays {
        return start_another(args, ctx).await;
    }
    // Before anything is mounted, which would stay if this failed.
    let away = if stays { Some(Away::open(args.log.as_deref())?) } else { None };
    let mut mounted = ctx.unless_interrupted(begin(args, ctx)).await?;
    match away {
        Some(away) => away.leave()?,
        None => ctx.ui.note(format_args!("mounted on {}; Ctrl-C unmounts it", mounted.point().display())),
    }
    loop {
        let heard = tokio::select! {
            heard = mounted.hear() => heard,
            () = ctx.interrupts.token.cancelled() => break,
        };
        match heard {
            Heard::Trouble(trouble) => args.looking.tell(&trouble, ctx),
            Heard::Ended => return Ok(Outcome::Done),
        }
    }
    if mounted.unmount().await? {
        ctx.ui.warn("it was in use: files that are open there cannot be read any more");
    }
    Ok(Outcome::Done)
}

async fn begin(args: &MountArgs, ctx: &Context) -> Result<Mounted, CommandError> {
    let view = args.looking.view(ctx).await?;
    let options = Options {
        point: args.point.clone(),
        repositories: ctx.repository_folders()?,
        filter: args.looking.filter.filter(),
        allow_other: args.allow_other,
        patience: args.looking.give_up_after,
        ahead_len_max: args.looking.ahead_len_max(),
    };
    Ok(mount(view, options).await?)
}

/// Starts this program once more, which asks for what it needs and mounts; then only that one stays.
async fn start_another(args: &MountArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let program = std::env::current_exe().map_err(|source| CommandError::Runtime { source })?;
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    let started = blocking::run(move || {
        let mut child = Command::new(program).args(given).env(STAYS, "1").stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut said)?;
        }
        // It closes its output once it is mounted, or ends.
        let ended = if said.is_empty() { Some(child.wait()?) } else { None };
        Ok::<_, std::io::Error>(ended)
    });
    let started = started.await.map_err(source::SourceError::from)?;
    let ended = started.map_err(|source| CommandError::Runtime { source })?;
    match ended {
        // It said what went wrong.
        Some(status) => Err(CommandError::Background { code: status.code().and_then(|code| u8::try_from(code).ok()) }),
        None => {
            ctx.ui.note(format_args!("mounted on {} in the background", args.point.display()));
            Ok(Outcome::Done)
        }
    }
}

/// Where a process in the background reads from and writes to.
struct Away {
    nothing: File,
    told: File,
}

impl Away {
    fn open(log: Option<&Path>) -> Result<Self, CommandError> {
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| CommandError::Folder { path, action: "written to", source }
        };
        let null = Path::new("/dev/null");
        let nothing = File::options().read(true).write(true).open(null).map_err(wrong(null))?;
        let told = match log {
            Some(path) => OpenOptions::new().create(true).append(true).open(path).map_err(wrong(path))?,
            None => nothing.try_clone().map_err(wrong(null))?,
        };
        Ok(Self { nothing, told })
    }

    /// Leaves the terminal to whoever started this, who waits for the end of our output.
    fn leave(self) -> Result<(), CommandError> {
        let done = rustix::process::setsid()
            .and_then(|_| rustix::stdio::dup2_stdin(&self.nothing))
            .and_then(|()| rustix::stdio::dup2_stderr(&self.told))
            .and_then(|()| rustix::io::write(rustix::stdio::stdout(), b"\n"))
            .and_then(|_| rustix::stdio::dup2_stdout(&self.nothing));
        done.map_err(|error| CommandError::Runtime { source: error.into() })
    }
}
