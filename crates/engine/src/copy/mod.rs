//! `copy`: snapshots of another repository, brought into this one.
//!
//! ```text
//! snapshots there ─► plan: what is not here yet, oldest first ─► for each: W1 … W5, read there, cut and sealed here ─► W6
//! ```
//!
//! The two have nothing in common but the format: ids, keys and cut points are each one's own. A copy says what it is a
//! copy of, and which others of the same host and source had been copied before; so running it again skips what is here,
//! and what retention here has let go.
//!
//! Invariant: a copy is a snapshot like any other: everything that it names was read, checked, and named anew here.
//! Invariant: a snapshot whose content is damaged there is not committed here.
//! Never here: how content is read and cut (see `backup::copied`).

mod describe;
mod plan;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use pack::{ComponentState, Role, SnapshotId, SnapshotStructure};
use tokio_util::sync::CancellationToken;

pub use self::plan::{CopyPlan, Passed};
use crate::backup::component::{AllRan, Ran};
use crate::backup::copied::{CopiedComponent, EarlierCopy};
use crate::backup::{BackupRequest, ComponentRequest, Input};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::writer::Writer;
use crate::{EngineError, Progress, SnapshotInfo};

/// How a copy is made.
#[derive(Debug, Clone, Copy)]
pub struct CopyRequest {
    /// zstd level, 1 to 19.
    pub level: i32,
}

/// What copying one snapshot did.
#[derive(Debug, Clone, Default)]
pub struct CopyReport {
    /// The snapshot here.
    pub snapshot: Option<SnapshotId>,
    /// The copy that it was compared with.
    pub parent: Option<SnapshotId>,
    /// Entries in it.
    pub entry_count: u64,
    /// Files whose content was not read, because an earlier copy has it.
    pub unchanged_count: u64,
    /// Bytes of content in it.
    pub content_len: u64,
    /// Bytes of content that were read in the other repository.
    pub read_len: u64,
    /// Bytes of content that were new here.
    pub new_len: u64,
    /// Bytes added to the store here.
    pub stored_len: u64,
    /// Packs added to the store here.
    pub pack_count: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// What everybody should know.
    pub warnings: Vec<String>,
}

/// A copy that is here.
#[derive(Debug, Clone)]
struct Copy {
    /// The snapshot there.
    of: SnapshotId,
    /// The snapshot here, if this key signed it.
    own: Option<SnapshotStructure>,
}

/// Copying from one repository into another, snapshot by snapshot.
pub struct Copying<'r> {
    from: &'r Repository,
    into: &'r Repository,
    request: CopyRequest,
    fetcher: Fetcher,
    /// All snapshots there, oldest first.
    listed: Vec<SnapshotInfo>,
    copies: Vec<Copy>,
    /// Everything there that was ever copied, as far as the copies here tell.
    known: HashSet<SnapshotId>,
}

impl Repository {
    /// Begins to copy from `from` into this repository, by a plan.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if either key may not do its part; those of the store that is copied from.
    pub async fn begin_copy<'r>(
        &'r self,
        from: &'r Self,
        plan: &CopyPlan,
        request: CopyRequest,
    ) -> Result<Copying<'r>, EngineError> {
        let (copies, known, listed) = (plan.copies.clone(), plan.known.clone(), plan.listed.clone());
        Ok(Copying { from, into: self, request, fetcher: from.fetcher().await?, listed, copies, known })
    }

    /// Refuses what cannot be copied with these keys.
    fn may_copy(&self, from: &Self) -> Result<(), EngineError> {
        if self.config.repository == from.config.repository {
            return Err(EngineError::Request { what: "both are the same repository".to_owned() });
        }
        from.keyring.require(&[Role::Owner, Role::Reader], "open what is to be copied")?;
        self.keyring.require(&[Role::Owner, Role::Writer], "write into the repository that is copied to")
    }
}

impl Copying<'_> {
    /// Copies one snapshot and commits it.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotCopied`] if something of it cannot be had there: others may go on. After any error nothing was
    /// committed, and what was uploaded is found again by the next try.
    pub async fn copy(
        &mut self,
        info: &SnapshotInfo,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<CopyReport, EngineError> {
        let clock = Instant::now();
        let request = self.request_of(info);
        let components = &info.snapshot.structure.components;
        let (entry_count, content_len) = components
            .iter()
            .fold((0, 0), |(entries, len), component| (entries + component.entry_count, len + component.content_len));
        progress.set_totals(entry_count, content_len);
        let write = async |writer: &Writer<'_>, stop| self.write(info, &request, writer, progress, stop).await;
        let ((mut report, structure), warnings) =
            self.into.with_writer(&info.snapshot.structure.host, cancel, write).await?;
        (report.seconds, report.warnings) = (clock.elapsed().as_secs_f64(), warnings);
        self.copies.push(Copy { of: info.id, own: Some(structure) });
        self.known.insert(info.id);
        Ok(report)
    }

    /// W2 to W5.
    async fn write(
        &self,
        info: &SnapshotInfo,
        request: &BackupRequest,
        writer: &Writer<'_>,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<(CopyReport, SnapshotStructure), EngineError> {
        let run = self.into.begin_run(request, writer, progress, cancel).await?;
        let ran = self.into.run_components(&run).await?;
        let (structure, body) = self.describe(info, &ran, writer.id)?;
        let len = self.into.commit(&run, writer, &structure, &body).await?;
        Ok((report(&ran, writer.id, len), structure))
    }

    /// The components that hold something, as a backup that reads them there.
    fn request_of(&self, info: &SnapshotInfo) -> BackupRequest {
        let structure = &info.snapshot.structure;
        let bodies = info.snapshot.body.iter().flat_map(|body| &body.components).map(Some);
        let with_bodies = structure.components.iter().zip(bodies.chain(std::iter::repeat(None)));
        let components = with_bodies.filter(|(component, _)| is_read(component)).map(|(component, body)| {
            let earlier = self.earlier(info, &component.name);
            let input = CopiedComponent {
                kind: component.kind.clone(),
                fetcher: self.fetcher.clone(),
                root: component.root,
                earlier,
            };
            ComponentRequest {
                input: Input::Copied(input),
                name: Some(component.name.clone()),
                cutter: body.and_then(|body| body.cutter.parse().ok()),
                force: false,
                allow_empty: true,
                shrink: None,
            }
        });
        BackupRequest {
            components: components.collect(),
            at_once: 1,
            host: structure.host.clone(),
            source: Some(structure.source.clone()),
            tags: structure.tags.clone(),
            keep_until: structure.keep_until,
            description: String::new(),
            level: self.request.level,
            dry_run: false,
        }
    }

    /// The component in the newest snapshot before this one that is copied, or in the newest of all.
    fn earlier(&self, info: &SnapshotInfo, component: &str) -> Option<EarlierCopy> {
        let of = &info.snapshot.structure;
        let mut best: Option<(bool, i64, EarlierCopy)> = None;
        for copy in &self.copies {
            let Some(own) = &copy.own else { continue };
            let Some(there) = self.listed.iter().find(|there| there.id == copy.of) else { continue };
            let there = &there.snapshot.structure;
            let same = (&there.host, &there.source) == (&of.host, &of.source);
            let found = there.components.iter().find(|other| other.name == component);
            let Some(root) = found.and_then(|found| found.root).filter(|_| same) else { continue };
            let rank = (there.started_at <= of.started_at, there.started_at);
            if best.as_ref().is_none_or(|(is_before, at, _)| rank > (*is_before, *at)) {
                best = Some((rank.0, rank.1, EarlierCopy { root, copy: own.clone() }));
            }
        }
        best.map(|(_, _, earlier)| earlier)
    }
}

/// Whether a component has something to be read.
fn is_read(component: &pack::Component) -> bool {
    component.root.is_some() && component.state != ComponentState::Failed
}

fn report(ran: &AllRan, snapshot: SnapshotId, object_len: u64) -> CopyReport {
    let sum = |of: fn(&Ran) -> u64| ran.components.iter().map(of).sum();
    CopyReport {
        snapshot: Some(snapshot),
        parent: ran.components.iter().find_map(|ran| ran.produced.parent),
        entry_count: sum(|ran| ran.root.entry_count),
        unchanged_count: sum(|ran| ran.produced.unchanged_count),
        content_len: sum(|ran| ran.root.content_len),
        read_len: sum(|ran| ran.produced.read_len),
        new_len: sum(|ran| ran.new_len),
        stored_len: ran.stored_len + object_len,
        pack_count: ran.pack_count,
        seconds: 0.0,
        warnings: Vec::new(),
    }
}
