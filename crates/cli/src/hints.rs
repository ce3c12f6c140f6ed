//! What to do next about an error. The only place where hints are written, besides the findings of a preflight, which
//! know the server that they are about.
//!
//! Invariant: a hint is something one can do; where there is nothing, there is no hint.
//! Never here: messages; those come with the errors.

use std::path::Path;

use engine::{CheckReport, EngineError, Kind};
use pack::{PackError, Role};
use serve::ServeError;
use source::{Fault, SourceError};
use store::index_cache::CacheError;
use store::{Obstacle, StoreError};

use crate::error::CommandError;
use crate::words::NAMES;

const REPORT: &str = "this is a bug; please report it with the output of the same command with -vv";

/// After a check that found damage which backups heal.
const AFTER_DAMAGE: &str = "back up what is affected again from this host: what is still at its source heals the repository; what is not: backstay repair packs, \
     then backstay repair snapshots";

/// After a check that found damaged index segments.
const AFTER_DAMAGED_INDEX: &str = "a damaged index segment loses nothing while its packs are there: restores read the packs' own tables. Make it \
     again with: backstay repair index";

/// After a check that found that no segment names something.
const AFTER_LACKING_INDEX: &str = "what packs still hold is named again by: backstay repair index; what is missed even then is lost: back up the \
     sources again, and what they have no more, give up with: backstay repair snapshots --forget";

/// The same where each pack is named, so that none holds what is missed.
const AFTER_LACKING_PACKS: &str = "every pack is named already, so what is missed is most likely lost: back up the sources again, and what they \
     have no more, give up with: backstay repair snapshots --forget";

/// After a check that found snapshots which cannot be read.
const AFTER_DAMAGED_SNAPSHOTS: &str = "a snapshot's own object is stored once: bring it back from a copy of the repository; if there is none, back its source up again, \
     and hide it with: backstay repair snapshots --forget";

/// After a check that found snapshots held and gone, or a prune that missed some.
const AFTER_GONE_SNAPSHOTS: &str = "bring them back from a copy of the repository. If they are gone for good: backstay hold --lift ID for what is held, \
     and backstay cache clear for what this host has seen";

/// After a check that found records of holds which cannot be read.
const AFTER_DAMAGED_HOLDS: &str =
    "lift what cannot be read, with backstay hold --lift SNAPSHOT, and then hold the snapshot again";

/// After a check that found damage of which the repository has no other copy.
const AFTER_LOSS: &str = "bring these objects back from a copy of the repository; a key of which both copies are damaged is removed and added again by the owner";

/// After a check that found damaged packs which nothing needs.
const UNNEEDED: &str = "delete the damaged packs that no snapshot needs from the store while no backup runs, or take them out of use with \
    backstay repair packs: hosts \
    that have not run this check may refer to them again";

/// After a check that could not look at everything.
const AFTER_UNCLEAR: &str = "run the same check again when the store answers; -v tells more";

/// While snapshots are passed over that cannot be read.
pub(crate) const PASSED_OVER: &str = "bring a snapshot that cannot be read back from a copy of the repository; if there is none, hide it with: \
     backstay repair snapshots --forget";

/// After a repair that left snapshots which lost something.
pub(crate) const OLD_ONES_STAY: &str = "check goes on naming what the old snapshots miss; once nobody wants what is left in them, hide them with: \
     backstay repair snapshots --forget --yes";

/// After a repair of packs of which something is lost.
pub(crate) const AFTER_LOST_CHUNKS: &str = "back up the sources again: what they still have heals the repository; \
    for what is lost for good, run: backstay repair snapshots";

/// After a restore that could not give files to their owners.
pub(crate) const OWNERS: &str = "only root can give files away: run as root, or add --owner none";

/// After a restore that met directories where the snapshot has something else.
pub(crate) const IN_THE_WAY: &str =
    "move away what is in the way, or look with --delete what a restore would remove for it";

/// After a base backup of Postgres was restored as bare files.
pub(crate) const BARE_DIRECTORY: &str = "these are the bare files of a Postgres server; for a data directory that starts, restore its component with --to DIR";

/// After a restore that met damage.
pub(crate) const AFTER_LOST_CONTENT: &str = "find out what is damaged with: backstay check --read-data; then back up the \
    source again: what it still has heals the repository, and the same restore goes on from there";

/// After a command that could not look at all entries, since pages of them are lost.
pub(crate) const AFTER_LOST_PAGES: &str = "find out what else is damaged with: backstay check --read-data";

/// After a command that missed something of snapshots which are forgotten by now. Their ids follow.
pub(crate) const FORGOTTEN_MEANWHILE: &str =
    "this is most likely no damage, since a prune gave back the space of what was forgotten meanwhile";

/// While a mount or server shows what is damaged.
pub(crate) const AFTER_DAMAGE_WHILE_SHOWN: &str = "the rest can be read; find out what is damaged with: backstay check --read-data; then back up the source again: what it \
    still has heals the repository; what is not: backstay repair packs";

/// The next steps after a check, by what is damaged.
pub(crate) fn after_check(report: &CheckReport) -> Vec<String> {
    use pack::names::{CONFIG, EPOCHS, HOLDS, INDEX, KEYS, SNAPSHOTS};
    let mut hints = Vec::new();
    let mut add = |hint: String| {
        if !hints.contains(&hint) {
            hints.push(hint)
        }
    };
    for damage in &report.damages {
        let kind = damage.object.split('/').next().unwrap_or_default();
        let of_copies = [CONFIG, KEYS, EPOCHS].into_iter().find(|of| kind == *of || kind == format!("{of}-copy"));
        let is_damaged = |object: &str| report.damages.iter().any(|damage| damage.object == object);
        add(match kind {
            _ if damage.what == engine::LACKING_INDEX && report.stray_packs == 0 => AFTER_LACKING_PACKS.to_owned(),
            _ if damage.what == engine::LACKING_INDEX => AFTER_LACKING_INDEX.to_owned(),
            _ if damage.what == engine::HELD_AND_GONE => AFTER_GONE_SNAPSHOTS.to_owned(),
            INDEX => AFTER_DAMAGED_INDEX.to_owned(),
            SNAPSHOTS => AFTER_DAMAGED_SNAPSHOTS.to_owned(),
            HOLDS => AFTER_DAMAGED_HOLDS.to_owned(),
            _ => match of_copies.map(|of| other_copy(&damage.object, of)) {
                Some(other) if is_damaged(&other) => AFTER_LOSS.to_owned(),
                Some(other) => {
                    format!("both copies have the same bytes: in the store, copy {other} onto {}", damage.object)
                }
                None => AFTER_DAMAGE.to_owned(),
            },
        });
    }
    if report.unneeded_count > 0 {
        add(UNNEEDED.to_owned());
    }
    if report.damages.is_empty() && report.unclear_count > 0 {
        add(AFTER_UNCLEAR.to_owned());
    }
    hints
}

/// The other copy of an object of which there are two, below `of` and beside it.
fn other_copy(object: &str, of: &str) -> String {
    let rest = object.strip_prefix(of).unwrap_or_default();
    rest.strip_prefix("-copy").map_or_else(|| format!("{of}-copy{rest}"), |rest| format!("{of}{rest}"))
}

/// The next step, if there is one.
pub(crate) fn hint(error: &CommandError) -> Option<String> {
    let specific = match error {
        CommandError::Engine(error) => of_engine(error),
        CommandError::Job(error) => of_component(error),
        CommandError::Store(error) => of_store(error),
        CommandError::Source(error) => of_source(error),
        CommandError::Serve(error) => of_serve(error),
        own => of_naming(own).or_else(|| of_own(own)),
    };
    specific.or_else(|| (error.kind() == Kind::Bug).then(|| REPORT.to_owned()))
}

/// How a snapshot is named, what there is in place of a component that failed, and how one goes on that came in part.
fn of_naming(error: &CommandError) -> Option<String> {
    if let CommandError::NoSnapshotName { .. } = error {
        return Some(format!("{NAMES}; only beside --at a component may come first"));
    }
    if let CommandError::DumpPartly { databases, source, .. } = error {
        let first = hint(source).filter(|_| source.kind() != Kind::Interrupted).map(|first| format!("{first}; then "));
        let first = first.unwrap_or_default();
        return Some(format!(
            "{first}run the same command again with --replace, or drop what is left ({databases}) before, with dropdb"
        ));
    }
    if let CommandError::NeverReplaced { .. } = error {
        return Some("a server's data is never replaced: name a folder that is new or empty, or move what is there away (with its server stopped)".to_owned());
    }
    let CommandError::ComponentFailed { name, newest, .. } = error else { return None };
    Some(match newest {
        Some(newest) => format!("the newest snapshot that has {name} is {newest}"),
        None => format!("no snapshot of this host and source has {name}: see backstay snapshots --long"),
    })
}

/// The next step about a component of a job that failed.
pub(crate) fn of_component(error: &EngineError) -> Option<String> {
    let text = match error {
        EngineError::Shrunk { now: 0, .. } => {
            "look whether the source is whole (is its disk mounted?); if nothing is what you expect, write into \
             [sources.NAME]: shrink = { percent_max = 100 }"
        }
        EngineError::Shrunk { .. } => {
            "look whether the source is whole (is its disk mounted?); if it is meant to be so, write into \
             [sources.NAME]: shrink = { percent_max = 100 }, or then = \"warn\" in it"
        }
        EngineError::EmptyStream { .. } | EngineError::EmptyTree { .. } => {
            "if nothing is what you expect, write into [sources.NAME]: shrink = { percent_max = 100 }"
        }
        EngineError::Producer { .. } => "make the command work on its own first",
        EngineError::Source(SourceError::Server { place, fault: Fault::Busy, .. }) if place.starts_with("command ") => {
            "find out what it waits for, or give it more time: timeout and no_progress_timeout in [sources.NAME]"
        }
        other => return of_engine(other),
    };
    Some(text.to_owned())
}

fn of_own(error: &CommandError) -> Option<String> {
    let text = match error {
        CommandError::RepositoryUnnamed => "name one with -r PATH or -r s3://bucket/prefix, or set BACKSTAY_REPOSITORY",
        CommandError::CredentialMissing => {
            "give --password-file, --password-command or --key-file, or set BACKSTAY_PASSWORD_FILE or one like it"
        }
        CommandError::CredentialTwice { .. } => "leave one of them out; an option beats all environment variables",
        CommandError::CredentialExposed { path, .. } => {
            return Some(format!("close it with: chmod 600 {}", quoted(path)));
        }
        CommandError::CredentialFile { what: "key file", path, source } if is_absent(source) => {
            return Some(new_key(path));
        }
        CommandError::CredentialFile { .. } => "check the path, and that this user may read the file",
        CommandError::KeyFileShort { path, .. } => return Some(new_key(path)),
        CommandError::Moment(_) => {
            "write it as 2026-11-19, \"2026-11-19 14:30\", yesterday, \"2 days ago\", or by RFC 3339"
        }
        CommandError::SnapshotTwice => "beside --at give only the path, as :PATH, or nothing",
        CommandError::SnapshotUnnamed => "name one by `latest`, by the start of its id, or by --at TIME",
        CommandError::PathUnnamed => "name it after a colon, such as latest:/etc/hosts",
        CommandError::NotACommand => "add --command before -- to back up what the command prints",
        CommandError::CacheUnknown { .. } => "list the caches with: backstay cache info",
        CommandError::CachePlace => "name a folder with --cache-dir or BACKSTAY_CACHE_DIR",
        CommandError::JobUnknown { known, .. } => return Some(format!("the configuration has: {known}")),
        CommandError::NothingToWatch { .. } => "only files tell of changes: give other jobs a schedule",
        CommandError::JobTimeout { .. } => "run it again: what was uploaded is reused; or give it more time",
        CommandError::Hook { .. } => "make the hook work on its own first; a job whose before hook fails reads nothing",
        CommandError::SourceSetting { .. } => "correct the configuration, and check it with: backstay config check",
        CommandError::ConfigMissing => "write one with: backstay config init",
        CommandError::ConfigOfOthers { .. } => {
            "it may name commands that would run as you: look at it, then name it with --config, or: chmod go-w"
        }
        CommandError::ConfigExists { .. } => "name another file with --output, or edit that one",
        CommandError::NothingToForget => {
            "say what to keep, such as --keep-daily 7 --keep-monthly 12, or name snapshots"
        }
        CommandError::NoRetention { .. } => "write a table such as [jobs.NAME.retention] with daily = 7",
        CommandError::PathOfAll => "to let whole snapshots go: backstay forget",
        CommandError::WholeSnapshots => "leave the colon and what follows it out",
        CommandError::Held { id, .. } => {
            return Some(format!(
                "lift that first with: backstay hold --lift {id}; a --keep-until that it was backed up with, by the owner's key with --also-keep-until"
            ));
        }
        CommandError::ForgetById => "backstay snapshots lists the ids",
        CommandError::PasswordCommand { .. } => "run the command by hand: it has to print the password and end with 0",
        CommandError::ForgottenMeanwhile { .. } => "choose another one with: backstay snapshots",
        CommandError::NotThereToUndelete { .. } => "list what can come back with: backstay snapshots --forgotten",
        CommandError::LastOfGroup { .. } => "keep one of them, or add --allow-last if the whole group shall go",
        CommandError::NotForgotten { .. }
        | CommandError::NotPruned
        | CommandError::NotRepaired { .. }
        | CommandError::NotRewritten { .. }
        | CommandError::Unconfirmed { .. } => "run it again with --yes to carry out this plan",
        other => return of_restore(other),
    };
    Some(text.to_owned())
}

fn of_restore(error: &CommandError) -> Option<String> {
    let text = match error {
        CommandError::RestoreInterrupted => "run the same command again to go on where it stopped",
        CommandError::ComponentUnknown { known, .. } => return Some(format!("it has: {known}")),
        CommandError::ComponentUnnamed { known } => return Some(format!("name one of: {known}")),
        CommandError::PlaceUnfit { .. } => {
            "--to takes postgres://… for dumps, else a folder; a file for SQLite and commands; - for stdout of a single file"
        }
        CommandError::OptionUnfit { .. } => "leave it out; restore --help says what it is for",
        CommandError::SeveralDumps { known, .. } => {
            return Some(format!("choose one with --database, or leave the database out of the URL: {known}"));
        }
        CommandError::SeveralFiles { .. } => "name one as SNAPSHOT:PATH (ls lists them), or restore to a folder",
        CommandError::DatabaseUnknown { known, .. } => return Some(format!("it has: {known}")),
        CommandError::Pattern { .. } => "put it in quotes and write a special character of it as [*]",
        CommandError::NoTerminal => "without a terminal, look with: backstay ls, find, diff, versions and cat",
        CommandError::ArchiveOnTerminal => "send it to a file or a program: backstay dump SNAPSHOT:PATH > FILE",
        CommandError::NoVersion { .. } => "write the path as ls shows it; look for a name with: backstay find NAME",
        CommandError::DumpFolders => {
            "restore it with --to FOLDER: the command that brings it into a server is printed then"
        }
        CommandError::NoChoice(_) => "list what the dump holds with: backstay restore --list SNAPSHOT COMPONENT",
        CommandError::DatabaseMissing { .. } => {
            "make it with createdb, or leave it out of the URL to restore under the dump's own name"
        }
        CommandError::DatabaseOccupied { .. } => {
            "restore into an empty database, choose others with --table, or add --replace to drop what has the same names"
        }
        CommandError::TablespaceUnknown { known, .. } if known.is_empty() => "it has none: leave --tablespace out",
        CommandError::TablespaceUnknown { known, .. } => return Some(format!("they were at: {known}")),
        CommandError::DataDirectoryPartly { .. } => "what is missing is named above; restore an earlier snapshot",
        CommandError::TargetLacks { .. } => {
            "create them there first (roles are in globals.sql if they were backed up); or --owner none --no-privileges"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn new_key(path: &Path) -> String {
    format!("make one with: (umask 077; head -c 32 /dev/urandom > {})", quoted(path))
}

fn of_engine(error: &EngineError) -> Option<String> {
    let text = match error {
        EngineError::Store(error) => return of_store(error),
        EngineError::Source(error) => return of_source(error),
        EngineError::Object { object, .. } if object == pack::names::CONFIG && error.kind() == Kind::Damaged => {
            "bring config or config-copy back from a copy of the repository: both are the same, and never change"
        }
        EngineError::Object { source, .. } => return of_object(source).map(str::to_owned),
        EngineError::Cache(error) => of_cache(error),
        EngineError::WrongKey { .. } => "check which password or key file belongs to this repository",
        EngineError::CredentialInUse { .. } => {
            "each key has a password or key file of its own, or removing one would leave the other: make a new one, or first: backstay key remove"
        }
        EngineError::ContentGone { .. } => {
            "a prune has removed what this snapshot needs, or is about to: only another copy of the repository still has it"
        }
        EngineError::Role { role, needs, .. } => return Some(role_hint(*role, needs)),
        EngineError::KeyRemoved { .. } => {
            "use another key, or let the owner add a new one with: backstay key add; if no key works, run: backstay check"
        }
        EngineError::RolledBack { .. } => {
            "if the store was restored from a copy on purpose, run: backstay cache clear; if not, find out who did it"
        }
        EngineError::NoSnapshot { .. } => "list what there is with: backstay snapshots",
        EngineError::Ambiguous { .. } => "give more digits of the id",
        EngineError::NoEntry { snapshot, .. } | EngineError::NotAFile { snapshot, .. } => {
            return Some(format!("list what there is with: backstay ls {snapshot}"));
        }
        EngineError::CondemnedUnreadable { .. } => {
            "bring this object back from a copy of the repository; only if no prune ever ran there, it may be deleted"
        }
        EngineError::NothingMatches { snapshot, .. } => {
            return Some(format!(
                "patterns are written as in .gitignore, and those with a slash begin at the root of the snapshot: write **/NAME for one anywhere; list what there is with: backstay ls {snapshot}"
            ));
        }
        EngineError::NotRewritten { .. } => "back its source up again to heal it, or forget that snapshot by its id",
        EngineError::NotCopied { .. } => {
            "find out what is damaged there with: backstay check --read-data; a snapshot that was copied before is whole in the other repository"
        }
        EngineError::Lost { .. } | EngineError::EntriesLost { .. } => {
            "find out what else is damaged with: backstay check --read-data"
        }
        EngineError::Producer { .. } => "make the command work on its own first; what it wrote to stderr is above",
        EngineError::Shrunk { .. } => {
            "look whether the source is whole (is its disk mounted?); if it is meant to be so, add --allow-empty"
        }
        EngineError::NothingWhole { .. } => {
            "correct what is named for each of them, and look with: backstay config check"
        }
        EngineError::EmptyStream { .. } => "if nothing is what you expect, add --allow-empty",
        EngineError::EmptyTree { .. } => {
            "look whether its disk is mounted, and what is excluded; if nothing is what you expect, add --allow-empty"
        }
        EngineError::TargetFull { .. } => "free some space there and run the same command again: what is right is kept",
        EngineError::DeclaredDead => "run the same backup again: what was uploaded is reused",
        EngineError::NoConditionalCreate { .. } => {
            "use a store with conditional writes (If-None-Match); as long as nobody else uses the repository: backstay prune --exclusive"
        }
        EngineError::CannotMark { .. } => {
            "find out what is damaged with: backstay check; back its source up again, or forget the snapshot that needs it"
        }
        EngineError::Interrupted => "run the same command again to go on",
        other => return of_place(other),
    };
    Some(text.to_owned())
}

/// What is, or is not, where a repository should be.
fn of_place(error: &EngineError) -> Option<String> {
    let text = match error {
        EngineError::NoRepository { .. } => "check the location, or make a repository there with: backstay init",
        EngineError::ConfigLost { .. } => {
            "put one of them back, out of a copy of the store or an older version of the object: it is the same for ever; where \
             only an init was broken off, name another location"
        }
        EngineError::RepositoryGone { .. } => {
            "look whether its folder was removed, or its disk unmounted, and delete what was written in its place; then back up again"
        }
        EngineError::SnapshotsGone { .. } => AFTER_GONE_SNAPSHOTS,
        EngineError::RepositoryExists { .. } => "use it as it is, or name another location",
        EngineError::NotEmpty { .. } => "name an empty location, such as a new folder or prefix",
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_cache(error: &CacheError) -> &'static str {
    match error {
        CacheError::Full { .. } | CacheError::Folder { .. } => {
            "name another folder with --cache-dir or BACKSTAY_CACHE_DIR"
        }
        CacheError::InUse { .. } => "wait until the other command has ended",
        CacheError::Damaged { .. } => "run the same command again: the cache is made anew",
        _ => "the cache can be deleted at any time: backstay cache clear",
    }
}

fn of_object(error: &PackError) -> Option<&'static str> {
    match error {
        PackError::Version { .. } => Some("update backstay: this repository was written by a newer version"),
        PackError::UnknownEpoch { .. } => {
            Some("this key missed a rotation or was removed: use another key, or let the owner add this one again")
        }
        PackError::Seal { .. } | PackError::Truncated { .. } | PackError::Hash | PackError::Inconsistent { .. } => {
            Some("find out what else is damaged with: backstay check --read-data")
        }
        _ => None,
    }
}

/// What a role is for, which ones would do, and how to come by one.
fn role_hint(role: Role, needs: &[Role]) -> String {
    let own = match role {
        Role::Writer => "a writer's key only backs up",
        Role::Reader => "a reader's key only reads",
        Role::Maintenance => "a maintenance key opens no content and backs nothing up",
        Role::Owner => return "use another key".to_owned(),
    };
    match needs.iter().find(|role| **role != Role::Owner) {
        None => format!("{own}; only the owner's key may do this"),
        Some(other) => format!(
            "{own}; use the owner's key or one of role {other}, which the owner makes with: backstay key add --role {other}"
        ),
    }
}

fn of_store(error: &StoreError) -> Option<String> {
    let text = match error {
        StoreError::NotFound { .. } | StoreError::Truncated { .. } => {
            "find out what else is damaged with: backstay check"
        }
        StoreError::AccessDenied { .. } => "check the permissions of the account, or of the folder, in use",
        StoreError::CredentialsMissing { .. } => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or your cloud's own variables), or name a --s3-profile"
        }
        StoreError::CredentialsWrong { .. } => "check the access key and its secret, and whether they have expired",
        StoreError::BucketMissing { .. } => "create the bucket first, or check its name, --s3-region and --s3-endpoint",
        StoreError::Unreachable { obstacle: Obstacle::Dns, .. } => {
            "check the host name in --s3-endpoint, and the network"
        }
        StoreError::Unreachable { .. } => "check the network and the endpoint; a firewall or proxy may be in between",
        StoreError::Certificate { .. } => "trust the store's certificate authority with --ca-certificate FILE",
        StoreError::ClockSkew { .. } => "set this host's clock: timedatectl set-ntp true",
        StoreError::Busy { .. } => "try again later; --retries sets how often it is tried",
        StoreError::Full { .. } => "free some space or raise the quota, then run the same command again",
        StoreError::Disk { .. } | StoreError::Unsynced { .. } => {
            "see what the system's log (dmesg) says of that disk, and copy the repository off it while it can be read"
        }
        StoreError::NotADirectory { .. } => "name a folder",
        StoreError::FolderGone { .. } => "look whether it was removed, or its disk unmounted",
        StoreError::Setting { setting, .. } if setting == "location" => {
            "a repository is a PATH, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
        }
        StoreError::Setting { setting, .. } if setting == "bucket name" => {
            "name the bucket with 3 to 63 lower-case letters, digits, dots and hyphens, as in -r s3://bucket/prefix"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_serve(error: &ServeError) -> Option<String> {
    let text = match error {
        ServeError::PointMissing { path } => return Some(format!("make it with: mkdir -p {}", quoted(path))),
        ServeError::PointNoFolder { .. } | ServeError::PointNotEmpty { .. } => "name an empty folder",
        ServeError::PointMounted { path, .. } => {
            return Some(format!(
                "unmount it with: fusermount3 -u {0} (as root: umount {0}), or name another folder",
                quoted(path)
            ));
        }
        ServeError::PointDead { path } => {
            return Some(format!("take it away with: fusermount3 -uz {0} (as root: umount -l {0})", quoted(path)));
        }
        ServeError::PointOverlaps { .. } => "name an empty folder outside of every repository",
        ServeError::FuseMissing => {
            "load it with: modprobe fuse; in a container, give it the device: --device /dev/fuse --cap-add SYS_ADMIN; \
             or show snapshots without it: backstay serve webdav"
        }
        ServeError::FuseForbidden => {
            "as root: chmod 666 /dev/fuse, or mount as root with --allow-other; or show snapshots without it: backstay serve webdav"
        }
        ServeError::FuseHelperMissing => {
            "install the package fuse3 (as root: apt install fuse3, or dnf install fuse3); \
             or show snapshots without it: backstay serve webdav"
        }
        ServeError::OthersForbidden => "as root, add a line user_allow_other to /etc/fuse.conf",
        ServeError::AddressExposed { .. } => {
            "listen on 127.0.0.1 or [::1], and reach it from elsewhere through ssh -L; or add --allow-any-address, if whoever reaches \
             the address may read everything"
        }
        ServeError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            "another program listens there; name another port, or any that is free: --listen 127.0.0.1:0"
        }
        ServeError::Listen { .. } => "name an address of this machine and a port from 1024 on: --listen 127.0.0.1:8467",
        ServeError::Unmount { path, .. } => {
            return Some(format!("end what uses it, and then: fusermount3 -u {}", quoted(path)));
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_source(error: &SourceError) -> Option<String> {
    let text = match error {
        SourceError::NoRoots => "name at least one folder or file",
        SourceError::RootMissing { .. } => "check the path, and whether it is mounted",
        SourceError::RootUnreadable { .. } | SourceError::Unreadable { .. } => {
            "run as a user who may read it, such as root"
        }
        SourceError::Unwatchable { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "allow more: sysctl fs.inotify.max_user_watches=1048576 (one for each folder), or run the job on a schedule"
        }
        SourceError::Unwatchable { .. } => "run the job on a schedule instead: backstay config timers",
        SourceError::RootAmbiguous { .. } => "write the path without '..'",
        SourceError::RootForbidden { .. } => "back up something else: the repository and the cache are never backed up",
        SourceError::Pattern { .. } => "patterns are written as in .gitignore",
        SourceError::MarkerName { .. } => "write NAME or NAME:HEADER, with a file name that has no slash",
        SourceError::Spawn { .. } => "check that the command is installed and in PATH",
        SourceError::Target { .. } | SourceError::Write { .. } => {
            "check the target's permissions and free space, or name another --target"
        }
        SourceError::TargetKind { .. } => {
            "name a folder with --target, new or there: a file goes into it under its own name"
        }
        SourceError::NoOpenat2 { .. } => "restore on Linux 5.6 or later, or outside of this container",
        SourceError::Occupied { .. } => "move it away, restore to another place, or add --replace",
        SourceError::Server { .. } => return source::advice(error),
        SourceError::BehindLink { .. } => "remove the symbolic link, or restore to an empty folder",
        _ => return None,
    };
    Some(text.to_owned())
}

fn is_absent(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,@%".contains(&byte));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_for_an_exposed_file_can_be_pasted_into_a_shell() {
        let error = CommandError::CredentialExposed { what: "key file", path: "/my keys/a'b".into(), mode: 0o644 };
        assert_eq!(hint(&error).as_deref(), Some(r"close it with: chmod 600 '/my keys/a'\''b'"));
    }

    fn report(damages: &[(&str, &str)]) -> CheckReport {
        let damage = |(object, what): &(&str, &str)| engine::Damage {
            object: (*object).to_owned(),
            what: (*what).to_owned(),
            ..engine::Damage::default()
        };
        let mut report = CheckReport::default();
        report.damages = damages.iter().map(damage).collect();
        report
    }

    #[test]
    fn copy_that_is_right_is_named_for_one_that_is_not() {
        for (damaged, other) in
            [("config", "config-copy"), ("keys-copy/ab", "keys/ab"), ("epochs/0000000001", "epochs-copy/0000000001")]
        {
            let hints = after_check(&report(&[(damaged, "is missing")]));
            assert_eq!(hints, [format!("both copies have the same bytes: in the store, copy {other} onto {damaged}")]);
            assert_eq!(after_check(&report(&[(damaged, "x"), (other, "x")])), [AFTER_LOSS]);
        }
    }

    #[test]
    fn each_kind_of_damage_has_a_next_step_of_its_own() {
        let wrong = [
            ("packs/ab/abcd", "is missing"),
            ("packs/cd/cdef", "is missing"),
            ("page 1234", "is cut"),
            ("index/abcd", "is cut"),
            ("index", engine::LACKING_INDEX),
            ("snapshots/ab", "is cut"),
            ("snapshots/cd", engine::HELD_AND_GONE),
            ("holds/ab/cd", "is cut"),
        ];
        let steps = [
            AFTER_DAMAGE,
            AFTER_DAMAGED_INDEX,
            AFTER_LACKING_INDEX,
            AFTER_DAMAGED_SNAPSHOTS,
            AFTER_GONE_SNAPSHOTS,
            AFTER_DAMAGED_HOLDS,
        ];
        let mut report = report(&wrong);
        report.stray_packs = 1;
        assert_eq!(after_check(&report), steps);
    }

    #[test]
    fn repair_of_the_index_is_not_advised_where_no_pack_lacks_a_name() {
        let lacking = [("index", engine::LACKING_INDEX)];
        assert_eq!(after_check(&report(&lacking)), [AFTER_LACKING_PACKS]);
    }

    #[test]
    fn role_that_would_do_is_named_with_the_way_to_a_key_of_it() {
        let hint = role_hint(Role::Writer, &[Role::Owner, Role::Maintenance]);
        assert!(
            hint.contains("the owner's key or one of role maintenance") && hint.contains("key add --role maintenance")
        );
        assert!(role_hint(Role::Reader, &[Role::Owner]).ends_with("only the owner's key may do this"));
    }

    #[test]
    fn bug_without_a_hint_of_its_own_asks_for_a_report() {
        let error = CommandError::from(EngineError::Panicked { what: "x".into() });
        assert_eq!(hint(&error).as_deref(), Some(REPORT));
    }
}
