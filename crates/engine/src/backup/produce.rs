//! The reading side of a backup, by kind of input.
//!
//! Invariant: a stream's entry ends whole only if its producer ended well; otherwise nothing is committed.
//! Never here: the packing side.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use pack::SnapshotId;
use source::SourceError;
use source::command::{CommandLine, Producer, ProducerStatus};
use source::files::{FilesOptions, FilesSource, Piece};

use crate::EngineError;
use crate::backup::component::Run;
use crate::backup::entry::stream_entry;
use crate::backup::events::read_events;
use crate::backup::files::{Problems, TreeReader};
use crate::backup::parent::Parent;
use crate::backup::request::{BackupRequest, ComponentRequest, Input, Problem};
use crate::backup::stream::Outlet;
use crate::objects::now;
use crate::repository::Repository;

/// What the reading side found out.
#[derive(Default)]
pub(crate) struct Produced {
    pub(crate) parent: Option<SnapshotId>,
    pub(crate) unchanged_count: u64,
    pub(crate) read_len: u64,
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) command: Vec<Vec<u8>>,
    pub(crate) stderr: Vec<u8>,
    /// What the source says of the moment.
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) warnings: Vec<String>,
    /// What the source wants kept for its next run.
    pub(crate) kept: Option<Bytes>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) problem_count: u64,
    pub(crate) lost_count: u64,
}

impl ComponentRequest {
    /// The component's name.
    pub(crate) fn component_name(&self) -> String {
        let default = match &self.input {
            Input::Files { .. } => "files",
            Input::Stdin { name } | Input::Command { name, .. } => name,
            Input::Events(source) => source.kind,
            Input::Copied(copied) => &copied.kind,
            Input::Rewritten(rewritten) => &rewritten.kind,
        };
        self.name.clone().unwrap_or_else(|| default.to_owned())
    }
}

impl BackupRequest {
    /// What retention groups by.
    pub(crate) fn source_name(&self) -> String {
        let first = || self.components.first().map(ComponentRequest::component_name).unwrap_or_default();
        self.source.clone().unwrap_or_else(first)
    }
}

impl Input {
    /// The kind, as the snapshot names it.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Files { .. } => "files",
            Self::Stdin { .. } => "stdin",
            Self::Command { .. } => "command",
            Self::Events(source) => source.kind,
            Self::Copied(copied) => &copied.kind,
            Self::Rewritten(rewritten) => &rewritten.kind,
        }
    }
}

impl Repository {
    /// Reads the input into batches; drops the outlet at the end, which ends the packing side.
    pub(crate) async fn produce(
        &self,
        run: &Run<'_>,
        component: &ComponentRequest,
        outlet: Outlet,
        problems: Problems,
        reads_all: bool,
    ) -> Result<Produced, EngineError> {
        let started_at = now(&self.env);
        match &component.input {
            Input::Files { roots, options } => {
                self.read_files(run, component, (roots.clone(), options.clone()), outlet, problems).await
            }
            Input::Stdin { name } => {
                let mut produced = Produced::default();
                let entry = stream_entry(&checked_name(name)?, started_at);
                let read = outlet.stream_content(entry, pieces_of(source::stdin::stream())).await?;
                produced.read_len = read?;
                refuse_empty(component, name, produced.read_len)?;
                outlet.end(true).await?;
                Ok(produced)
            }
            Input::Command { name, command } => run_command(component, name, command, started_at, &outlet).await,
            Input::Events(source) => {
                let may_splice = source.keeps.is_some() && !reads_all && !component.force;
                let earlier = if may_splice { self.find_earlier(run, component).await? } else { None };
                let mut produced = read_events(source, earlier.as_ref(), started_at, &outlet).await?;
                produced.parent = earlier.map(|earlier| earlier.id);
                refuse_empty(component, &component.component_name(), produced.read_len)?;
                Ok(produced)
            }
            Input::Copied(copied) => self.read_copied(run, component, copied, outlet).await,
            Input::Rewritten(rewritten) => self.read_rewritten(run, component, rewritten, outlet).await,
        }
    }

    async fn read_files(
        &self,
        run: &Run<'_>,
        component: &ComponentRequest,
        (roots, options): (Vec<PathBuf>, FilesOptions),
        outlet: Outlet,
        problems: Problems,
    ) -> Result<Produced, EngineError> {
        let one_file_system = options.one_file_system;
        let opened = source::blocking::run(move || {
            let id = |path: &PathBuf| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
            let never_entered: HashSet<_> = options.forbidden.iter().filter_map(id).collect();
            FilesSource::new(roots, options).map(|source| (source, never_entered))
        });
        let (source, never_entered) =
            opened.await.map_err(|error| EngineError::Panicked { what: error.to_string() })??;
        let mut produced = Produced {
            roots: source.roots().iter().map(|root| root.as_os_str().as_bytes().to_vec()).collect(),
            ..Produced::default()
        };
        let parent = match component.force {
            true => None,
            false => self.find_parent(run.request, component, &produced.roots).await?,
        };
        let fetcher = self.fetcher_of(run.index.clone());
        let name = component.component_name();
        let parent = parent.and_then(|info| Parent::open(&info.snapshot.structure, &name, fetcher, run.is_careful));
        produced.parent = parent.as_ref().map(|parent| parent.id);
        let reader = TreeReader {
            source,
            parent,
            outlet,
            problems,
            unchanged_count: 0,
            below_count: 0,
            never_entered,
            one_file_system,
            device: 0,
        };
        let (unchanged_count, below_count) = reader.run().await?;
        produced.unchanged_count = unchanged_count;
        if below_count == 0 && !component.allow_empty {
            let lossy = |root: &Vec<u8>| source::entry::escaped(root).to_string();
            return Err(EngineError::EmptyTree { roots: produced.roots.iter().map(lossy).collect() });
        }
        Ok(produced)
    }
}

async fn run_command(
    component: &ComponentRequest,
    name: &str,
    command: &CommandLine,
    started_at: i64,
    outlet: &Outlet,
) -> Result<Produced, EngineError> {
    let mut producer = Producer::spawn(command, |line| {
        tracing::info!(target: "backstay::producer", "{}", String::from_utf8_lossy(line).trim_end());
    })?;
    let entry = stream_entry(&checked_name(name)?, started_at);
    let read = outlet.stream_content(entry, pieces_of(&mut producer)).await?;
    let end = producer.finish().await?;
    let read_len = read?;
    if !end.is_success() {
        let how = match end.status {
            ProducerStatus::Exited(code) => format!("ended with exit status {code}"),
            ProducerStatus::Signalled(signal) => format!("was killed by signal {signal}"),
        };
        let command = command.program.to_string_lossy().into_owned();
        return Err(EngineError::Producer { command, end: how });
    }
    refuse_empty(component, name, read_len)?;
    outlet.end(true).await?;
    let words = std::iter::once(&command.program).chain(&command.args);
    Ok(Produced {
        read_len,
        command: words.map(|word| word.as_bytes().to_vec()).collect(),
        stderr: end.stderr_tail,
        ..Produced::default()
    })
}

fn pieces_of(
    bytes: impl Stream<Item = Result<Bytes, SourceError>> + Unpin,
) -> impl Stream<Item = Result<Piece, SourceError>> + Unpin {
    bytes.map(|item| item.map(Piece::Data))
}

fn refuse_empty(component: &ComponentRequest, name: &str, len: u64) -> Result<(), EngineError> {
    if len == 0 && !component.allow_empty { Err(EngineError::EmptyStream { name: name.to_owned() }) } else { Ok(()) }
}

/// A stream's name is one part of a path.
fn checked_name(name: &str) -> Result<String, EngineError> {
    let is_part = !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && name.len() <= 255;
    let what = || format!("{name:?} cannot name a stream: it must be a file name, without slashes");
    if is_part { Ok(name.to_owned()) } else { Err(EngineError::Request { what: what() }) }
}
