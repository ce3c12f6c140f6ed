//! `rewrite`: snapshots without a path or a component, in place of those that have it.
//!
//! ```text
//! plan: which snapshots have it ── the person agrees ─► for each: W1 … W5 without it ─► W6 ─► forgotten/<the old one>
//! ```
//!
//! Nothing is changed in place: the new snapshot names the old one, and only after its commit the old one is hidden. A run
//! that was stopped between the two is completed by the next one. What the old one alone needed stays in the store until a
//! prune.
//!
//! Invariant: a snapshot is hidden only when one is committed that has everything else of it, or when nothing else is left.
//! Invariant: what held the old snapshot holds the new one from the beginning.
//! Invariant: a snapshot that nobody vouches for is not rewritten: the new one would be the owner's.
//! Never here: freeing space.

mod describe;
mod plan;

use std::sync::Arc;
use std::time::Instant;

use pack::{Component, ComponentState, Role, SnapshotId};
use tokio_util::sync::CancellationToken;

pub use self::plan::{Affected, RewritePlan};
use crate::backup::rewritten::RewrittenComponent;
use crate::backup::{BackupRequest, ComponentRequest, Input};
use crate::entries::Scope;
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::writer::Writer;
use crate::{EngineError, Progress, SnapshotInfo};

/// What is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// These paths and everything below them, in every component.
    Paths(Vec<Vec<u8>>),
    /// The component of this name.
    Component(String),
}

/// What rewriting one snapshot did.
#[derive(Debug, Clone, Default)]
pub struct RewriteReport {
    /// The snapshot that stands in for it; none if nothing of it was left.
    pub snapshot: Option<SnapshotId>,
    /// Entries in that.
    pub entry_count: u64,
    /// Bytes of content in that.
    pub content_len: u64,
    /// Bytes of content that were read, because their packs are about to go.
    pub read_len: u64,
    /// Bytes added to the store.
    pub stored_len: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// What everybody should know.
    pub warnings: Vec<String>,
}

impl Removal {
    /// Whether nothing of a component is kept.
    fn takes(&self, component: &Component) -> bool {
        matches!(self, Self::Component(name) if *name == component.name)
    }

    /// What of each component is left out.
    fn scopes(&self) -> Vec<Scope> {
        match self {
            Self::Paths(paths) => paths.iter().map(|path| Scope::new(path)).collect(),
            Self::Component(_) => Vec::new(),
        }
    }
}

impl Repository {
    /// Commits a snapshot without what is removed, and hides the one that had it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] for other keys than the owner's; [`EngineError::NotRewritten`] if something that is kept cannot
    /// be had: other snapshots may go on. After any error either both snapshots are there or only the old one; the next run
    /// goes on from there.
    pub async fn rewrite(
        &self,
        affected: &Affected,
        removal: &Removal,
        level: i32,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<RewriteReport, EngineError> {
        self.may_rewrite()?;
        let clock = Instant::now();
        let mut report = RewriteReport::default();
        if affected.superseded_by.is_none() && !affected.is_emptied {
            let fetcher = self.fetcher().await?;
            let request = request_of(&affected.info, removal, level, &fetcher);
            let write = async |writer: &Writer<'_>, stop| {
                self.write_rewritten(&affected.info, removal, &request, writer, progress, stop).await
            };
            let (done, warnings) = self.with_writer(&affected.info.snapshot.structure.host, cancel, write).await?;
            report = RewriteReport { warnings, ..done };
        }
        if let Some(new) = affected.superseded_by.filter(|_| !affected.is_emptied) {
            self.carry_holds(affected.info.id, new).await?;
        }
        self.hide(affected.info.id).await?;
        report.seconds = clock.elapsed().as_secs_f64();
        Ok(report)
    }

    /// W2 to W5.
    async fn write_rewritten(
        &self,
        info: &SnapshotInfo,
        removal: &Removal,
        request: &BackupRequest,
        writer: &Writer<'_>,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<RewriteReport, EngineError> {
        let run = self.begin_run(request, writer, progress, cancel).await?;
        let ran = self.run_components(&run).await?;
        let (structure, body) = self.describe_rewritten(info, removal, &ran, writer.id)?;
        self.carry_holds(info.id, writer.id).await?;
        let len = self.commit(&run, writer, &structure, &body).await?;
        let sum = |of: fn(&Component) -> u64| structure.components.iter().map(of).sum();
        Ok(RewriteReport {
            snapshot: Some(writer.id),
            entry_count: sum(|component| component.entry_count),
            content_len: sum(|component| component.content_len),
            read_len: ran.components.iter().map(|ran| ran.produced.read_len).sum(),
            stored_len: ran.stored_len + len,
            ..RewriteReport::default()
        })
    }

    fn may_rewrite(&self) -> Result<(), EngineError> {
        self.keyring.require(&[Role::Owner], "rewrite snapshots")
    }
}

/// The components that are kept and hold something.
fn request_of(info: &SnapshotInfo, removal: &Removal, level: i32, fetcher: &Fetcher) -> BackupRequest {
    let structure = &info.snapshot.structure;
    let kept = structure.components.iter().filter(|component| is_read(component, removal));
    let components = kept.filter_map(|component| {
        let rewritten = RewrittenComponent {
            kind: component.kind.clone(),
            fetcher: fetcher.clone(),
            snapshot: structure.clone(),
            root: component.root?,
            without: removal.scopes(),
        };
        Some(ComponentRequest {
            input: Input::Rewritten(rewritten),
            name: Some(component.name.clone()),
            cutter: None,
            force: false,
            allow_empty: true,
            shrink: None,
        })
    });
    BackupRequest {
        components: components.collect(),
        at_once: 1,
        host: structure.host.clone(),
        source: Some(structure.source.clone()),
        tags: structure.tags.clone(),
        keep_until: structure.keep_until,
        description: String::new(),
        level,
        dry_run: false,
    }
}

/// Whether a component is kept and has something to be read.
fn is_read(component: &Component, removal: &Removal) -> bool {
    component.root.is_some() && component.state != ComponentState::Failed && !removal.takes(component)
}
