//! A snapshot as a file again, and the command that makes a member's data folder from it.
//!
//! A restored cluster is a new one: each member runs the command with its own name and URLs and the same token.
//! For Kubernetes revisions must not go back, or its caches hold what is no more: hence `bump_revision`.
//!
//! Invariant: an option that the installed program does not have is refused, never left out.
//! Never here: running it, and stopping or starting etcd.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;

use super::trailer::SnapshotEnd;
use crate::command::{CommandLine, Producer};
use crate::error::{Fault, SourceError};
use crate::file_sink::{FileSink, WholeFile};

/// The longest help text that is read, in bytes.
const HELP_LEN_MAX: usize = 64 * 1024;

/// A snapshot on its way into a file, which gets its name only if it ends in its own SHA-256.
#[derive(Debug)]
pub struct SnapshotRestore {
    file: WholeFile,
    end: SnapshotEnd,
}

impl SnapshotRestore {
    /// Begins the file `place`, for its owner only.
    ///
    /// # Errors
    ///
    /// As [`WholeFile::create`].
    pub fn create(place: &Path, replaces: bool) -> Result<Self, SourceError> {
        Ok(Self { file: WholeFile::create(place, 0o600, replaces)?, end: SnapshotEnd::default() })
    }
}

impl FileSink for SnapshotRestore {
    fn write(&mut self, data: &[u8]) -> Result<(), SourceError> {
        self.end.push(data);
        self.file.write(data)
    }

    fn finish(self) -> Result<(), SourceError> {
        let place = format!("restored file {}", self.file.place().display());
        self.end.finish().map_err(|why| SourceError::server(place, Fault::Damaged, why))?;
        self.file.finish()
    }
}

/// One member to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The restored `snapshot.db`.
    pub snapshot: PathBuf,
    /// The folder to make; must not exist.
    pub data_folder: PathBuf,
    /// The member's name.
    pub name: String,
    /// All members, `name=peer URL`.
    pub initial_cluster: Vec<(String, String)>,
    /// A word that the old cluster did not have.
    pub cluster_token: String,
    /// This member's own peer URLs.
    pub peer_urls: Vec<String>,
    /// How far revisions jump ahead, and everything before is marked as compacted. For Kubernetes: more than were
    /// written since the snapshot.
    pub bump_revision: Option<u64>,
}

impl RestorePlan {
    /// The only member of a new cluster, with etcd's own defaults.
    #[must_use]
    pub fn single(snapshot: &Path, data_folder: &Path, cluster_token: &str) -> Self {
        let (name, url) = ("default".to_owned(), "http://localhost:2380".to_owned());
        Self {
            snapshot: snapshot.to_owned(),
            data_folder: data_folder.to_owned(),
            initial_cluster: vec![(name.clone(), url.clone())],
            name,
            cluster_token: cluster_token.to_owned(),
            peer_urls: vec![url],
            bump_revision: None,
        }
    }
}

/// The installed program that restores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreTool {
    program: PathBuf,
    is_etcdctl: bool,
    has_bump: bool,
}

impl RestoreTool {
    /// `etcdutl` if it is installed, else `etcdctl` if it still can. `folders` are looked at before `PATH`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] with [`Fault::Missing`] if neither is there, or with [`Fault::Version`] if what is
    /// there cannot restore any more.
    pub async fn find(folders: &[PathBuf]) -> Result<Self, SourceError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = folders.iter().cloned().chain(std::env::split_paths(&path)).collect();
        let mut is_there = false;
        for (name, is_etcdctl) in [("etcdutl", false), ("etcdctl", true)] {
            for program in folders.iter().map(|folder| folder.join(name)) {
                let Some(help) = help_of(&program, is_etcdctl).await else { continue };
                is_there = true;
                if help.contains("--data-dir") {
                    let has_bump = help.contains("--bump-revision") && help.contains("--mark-compacted");
                    return Ok(Self { program, is_etcdctl, has_bump });
                }
            }
        }
        let (fault, what) = match is_there {
            true => (Fault::Version, "etcdctl no longer restores: install etcdutl"),
            false => (Fault::Missing, "neither etcdutl nor etcdctl is installed here"),
        };
        Err(SourceError::server("etcd", fault, what))
    }

    /// The program for a snapshot of this version of etcd, such as `3.5.9`, on a host that has none yet.
    #[must_use]
    pub fn usual(server_version: &str) -> Self {
        let is_etcdctl = ["3.0.", "3.1.", "3.2.", "3.3.", "3.4."].iter().any(|old| server_version.starts_with(old));
        let program = if is_etcdctl { "etcdctl" } else { "etcdutl" };
        Self { program: program.into(), is_etcdctl, has_bump: !is_etcdctl }
    }

    /// Whether it can let revisions jump ahead.
    #[must_use]
    pub const fn has_bump(&self) -> bool {
        self.has_bump
    }

    /// The command for this member as it is typed into a shell.
    ///
    /// # Errors
    ///
    /// As [`RestoreTool::command`].
    pub fn typed(&self, plan: &RestorePlan) -> Result<String, SourceError> {
        let typed = self.command(plan)?.typed();
        Ok(if self.is_etcdctl { format!("ETCDCTL_API=3 {typed}") } else { typed })
    }

    /// The command for this member.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] with [`Fault::Version`] if revisions are to be bumped and this program cannot.
    pub fn command(&self, plan: &RestorePlan) -> Result<CommandLine, SourceError> {
        let cluster: Vec<String> = plan.initial_cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
        let mut args: Vec<OsString> = vec!["snapshot".into(), "restore".into(), plan.snapshot.clone().into()];
        let mut option = |name: &str, value: OsString| args.extend([name.into(), value]);
        option("--data-dir", plan.data_folder.clone().into());
        option("--name", plan.name.clone().into());
        option("--initial-cluster", cluster.join(",").into());
        option("--initial-cluster-token", plan.cluster_token.clone().into());
        option("--initial-advertise-peer-urls", plan.peer_urls.join(",").into());
        if let Some(bump) = plan.bump_revision {
            if !self.has_bump {
                let what =
                    format!("{} has no --bump-revision: install etcdutl 3.5.10 or newer", self.program.display());
                return Err(SourceError::server("etcd", Fault::Version, what));
            }
            option("--bump-revision", bump.to_string().into());
            args.push("--mark-compacted".into());
        }
        let mut command = CommandLine::new(&self.program, args);
        command.env = environment(self.is_etcdctl);
        Ok(command)
    }
}

fn environment(is_etcdctl: bool) -> Vec<(OsString, OsString)> {
    // Before 3.4 etcdctl spoke version 2 unless told so.
    if is_etcdctl { vec![("ETCDCTL_API".into(), "3".into())] } else { Vec::new() }
}

async fn help_of(program: &Path, is_etcdctl: bool) -> Option<String> {
    let mut command = CommandLine::new(program, ["snapshot", "restore", "--help"]);
    command.env = environment(is_etcdctl);
    let mut producer = Producer::spawn(&command, |_| {}).ok()?;
    let mut help = Vec::new();
    while let Some(Ok(data)) = producer.next().await {
        help.extend_from_slice(&data);
        if help.len() > HELP_LEN_MAX {
            break;
        }
    }
    Some(String::from_utf8_lossy(&help).into_owned())
}
