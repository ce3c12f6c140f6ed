//! What a source is asked for: to be read by the engine, or to say whether it could be.
//!
//! Invariant: both are of one request, so that what a preflight finds fine is what a backup then does.
//! Never here: the configuration.

use std::path::PathBuf;

use engine::{EventSource, Input};
use futures::StreamExt as _;
use source::command::CommandLine;
use source::files::FilesOptions;
use source::{Fault, Preflight, SourceError, with_causes};
use source::{command, dump, etcd, files, kubernetes, postgres, redis, sqlite};

use crate::error::CommandError;
use crate::hints::hint;

/// What a source is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Dump(dump::Dump),
    BaseBackup { server: postgres::Server, is_incremental: bool },
    Redis(redis::RedisDump),
    AppendOnly(PathBuf),
    Etcd(etcd::EtcdSnapshot),
    Sqlite(sqlite::SqliteBackup),
    Kubernetes(kubernetes::Cluster),
    Command { name: String, command: CommandLine },
    Files { roots: Vec<PathBuf>, options: FilesOptions },
}

impl Request {
    /// For the engine.
    pub(crate) fn input(self) -> Input {
        match self {
            Self::Dump(request) => events("postgres", move || dump::dump(request.clone())),
            Self::BaseBackup { server, is_incremental } => {
                let open = move |kept: Option<bytes::Bytes>| {
                    let previous_manifest = kept.filter(|_| is_incremental);
                    let wanted = postgres::BaseBackup { previous_manifest, ..postgres::BaseBackup::default() };
                    postgres::base_backup(server.clone(), wanted)
                };
                let keeps = Some("backup_manifest");
                Input::Events(EventSource { kind: "postgres-physical", keeps, open: Box::new(open) })
            }
            Self::Redis(request) => events("redis", move || redis::dump(request.clone())),
            Self::AppendOnly(folder) => events("redis-aof", move || redis::append_only(folder.clone())),
            Self::Etcd(request) => events("etcd", move || etcd::snapshot(request.clone())),
            Self::Sqlite(request) => events("sqlite", move || sqlite::backup(request.clone())),
            Self::Kubernetes(cluster) => events("kubernetes", move || kubernetes::manifests(cluster.clone())),
            Self::Command { name, command } => Input::Command { name, command },
            Self::Files { roots, options } => Input::Files { roots, options },
        }
    }

    /// Whether the source could be read now.
    pub(crate) async fn preflight(&self) -> Preflight {
        match self {
            Self::Dump(request) => dump::preflight(request).await,
            Self::BaseBackup { server, is_incremental } => postgres::preflight(server, *is_incremental).await,
            Self::Redis(request) => redis::preflight(request).await,
            Self::AppendOnly(folder) => redis::append_only_preflight(folder.clone()).await,
            Self::Etcd(request) => etcd::preflight(request).await,
            Self::Sqlite(request) => sqlite::preflight(request).await,
            Self::Kubernetes(cluster) => kubernetes::preflight(cluster).await,
            Self::Command { command, .. } => command::preflight(command),
            Self::Files { roots, options } => files::preflight(roots, options).await,
        }
    }
}

/// What cannot even be asked for: it fails as soon as it is read.
pub(super) fn refused(kind: &'static str, error: &CommandError) -> Input {
    let what = match hint(error) {
        Some(hint) => format!("{}: {hint}", with_causes(error)),
        None => with_causes(error),
    };
    let failure = move || SourceError::Server { place: kind.to_owned(), what: what.clone(), fault: Fault::Setting };
    events(kind, move || futures::stream::iter([Err(failure())]).boxed())
}

fn events(kind: &'static str, open: impl Fn() -> source::events::Events + Send + Sync + 'static) -> Input {
    Input::Events(EventSource { kind, keeps: None, open: Box::new(move |_| open()) })
}
