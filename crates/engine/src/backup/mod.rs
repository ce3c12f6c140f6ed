//! `backup`: read → cut → name → look up → seal → pack → put → commit.
//!
//! ```text
//! announce (W1, W2) ─► index (W3) ─► read ─► name ─► assemble ─► pack ─► upload (W4) ─► commit (W5) ─► withdraw (W6)
//! ```
//!
//! Invariant: the snapshot is created last, after every pack and segment it needs was acknowledged.
//! Invariant: a producer that failed, or a reader that was interrupted, commits nothing; what was uploaded is named by a
//! segment, so that the next run finds it.
//! Never here: how any of the steps is done.

mod assemble;
mod batch;
mod cutting;
pub(crate) mod entry;
mod files;
mod name;
mod packer;
mod parent;
mod produce;
mod request;
mod stream;
mod upload;

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use pack::manifest::TreeRoot;
use pack::{
    Component, ComponentBody, ComponentState, Role, Snapshot, SnapshotBody, SnapshotState, SnapshotStructure, names,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use files::{Problems, message};
pub use request::{BackupReport, BackupRequest, Input, Problem};

use crate::backup::assemble::Assembler;
use crate::backup::batch::Batch;

use crate::backup::packer::Packer;
use crate::backup::produce::Produced;
use crate::backup::stream::Outlet;
use crate::backup::upload::Uploader;
use crate::budget::{Budget, IN_FLIGHT_LEN_MAX};
use crate::index::Index;
use crate::objects::{now, random, random_seed};
use crate::repository::Repository;
use crate::writer::Writer;
use crate::{EngineError, Progress};

/// Batches being named at once, on however many cores.
const NAMING_MAX: usize = 8;
/// Batches that may wait for the namer.
const BATCHES_MAX: usize = 2;

/// What the run of a component gave.
struct Ran {
    root: TreeRoot,
    produced: Produced,
    new_len: u64,
    stored_len: u64,
    pack_count: u64,
}

impl Repository {
    /// Backs up one component and commits a snapshot of it.
    ///
    /// # Errors
    ///
    /// Nothing is committed after any error. Files that could not be read are no error but [`Problem`]s of the report,
    /// and make the snapshot partial.
    pub async fn backup(
        &self,
        request: BackupRequest,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<BackupReport, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Writer], "back up")?;
        let (clock, started_at) = (Instant::now(), now(&self.env));
        if request.dry_run {
            let index = self.load_index().await?;
            let ran = self.run_component(&request, index, false, started_at, progress, cancel).await?;
            return Ok(report(&ran, clock));
        }
        let writer = self.announce(&request.host).await?;
        let stop = cancel.child_token();
        let work = self.write(&request, &writer, started_at, progress, stop.clone());
        let mut report = match writer.keep_alive(&stop, work).await {
            Ok(report) => report,
            Err(error) => return Err(writer.fail(error).await),
        };
        report.warnings = writer.warnings();
        // The snapshot is committed, whatever happens now; and a writer may have no right to delete.
        if let Err(error) = writer.withdraw().await {
            report.warnings.push(format!("the record of this backup stays in the repository: {error}"));
        }
        report.seconds = clock.elapsed().as_secs_f64();
        Ok(report)
    }

    /// W2 to W5.
    async fn write(
        &self,
        request: &BackupRequest,
        writer: &Writer<'_>,
        started_at: i64,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<BackupReport, EngineError> {
        let cancelled = cancel.clone();
        let condemned = writer.see_condemned().await?;
        self.recover_journal(&condemned).await?;
        let index = self.load_index_without(&condemned).await?;
        let is_careful = !condemned.is_empty();
        let id = writer.id;
        let ran = self.run_component(request, index, is_careful, started_at, progress, cancel).await?;
        let (structure, body) = self.describe(request, &ran, id, started_at);
        let (epoch, key) = (self.keyring.sealing()?, self.keyring.index_key()?);
        let (salt, seed) = (random(&self.env), random_seed(&self.env));
        let repository = self.config.repository;
        let object = Snapshot::encode(&structure, &body, epoch, &key, salt, seed, &self.keyring.signer(), repository)
            .map_err(EngineError::object(names::snapshot(&id)))?;
        let len = object.len() as u64;
        if cancelled.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        writer.commit(object.clone()).await?;
        self.cache.remember(&names::snapshot(&id), &object);
        self.remember_parent(request, &ran.produced.roots, id);
        let mut report = report(&ran, Instant::now());
        report.snapshot = Some(id);
        report.state = Some(structure.state);
        report.stored_len += len;
        Ok(report)
    }

    /// Reads, names, packs and uploads one component.
    async fn run_component(
        &self,
        request: &BackupRequest,
        index: Index,
        is_careful: bool,
        started_at: i64,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<Ran, EngineError> {
        let uploader = Uploader::new(self, index.clone(), Arc::clone(progress));
        let mut packer = Packer::new(self, uploader, request.level, request.dry_run)?;
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        let outlet = Outlet {
            offload: self.offload.clone(),
            budget: Budget::new(IN_FLIGHT_LEN_MAX),
            gear: self.keyring.gear()?,
            cutter: request.cutter,
            cancel,
            batches: sender,
        };
        let problems = Problems::default();
        let work = async {
            let assembler = Assembler::new(&mut packer, index.clone(), Arc::clone(progress), problems.clone())?;
            let reading = self.produce(request, index.clone(), is_careful, started_at, outlet, problems.clone());
            let packing = self.assemble(assembler, index, receiver);
            let (produced, root) = futures::join!(reading, packing);
            match (produced, root) {
                (Ok(produced), Ok(root)) => Ok((produced, root)),
                // A packer that fails closes the channel, and the reader then only sees that nobody listens.
                (Err(EngineError::Interrupted), Err(error)) | (Err(error), _) | (_, Err(error)) => Err(error),
            }
        };
        let worked = work.await;
        if !request.dry_run && !matches!(worked, Err(EngineError::Store(_))) {
            packer.finish().await?;
        }
        let (mut produced, root) = worked?;
        (produced.problems, produced.problem_count, produced.lost_count) = problems.take();
        let (stored_len, pack_count) = packer.stored();
        Ok(Ran { root, produced, new_len: packer.new_len, stored_len, pack_count })
    }

    /// Names batches on the pool, several at once, and assembles them in order.
    async fn assemble(
        &self,
        mut assembler: Assembler<'_, '_>,
        index: Index,
        mut receiver: mpsc::Receiver<Batch>,
    ) -> Result<TreeRoot, EngineError> {
        let namer = self.keyring.namer()?;
        let at_once = (self.offload.threads() + 1).min(NAMING_MAX);
        let batches = futures::stream::poll_fn(|context| receiver.poll_recv(context));
        let mut named = batches
            .map(|batch| {
                let (namer, index) = (namer.clone(), index.clone());
                self.offload.start(move || name::name(batch, &namer, &index))
            })
            .buffered(at_once);
        while let Some(batch) = named.next().await {
            assembler.take(batch??).await?;
        }
        assembler.finish().await
    }

    fn describe(
        &self,
        request: &BackupRequest,
        ran: &Ran,
        id: pack::SnapshotId,
        started_at: i64,
    ) -> (SnapshotStructure, SnapshotBody) {
        let component = request.component_name();
        let produced = &ran.produced;
        let state = if produced.lost_count > 0 { SnapshotState::Partial } else { SnapshotState::Complete };
        let structure = SnapshotStructure {
            id,
            parent: produced.parent,
            started_at,
            ended_at: now(&self.env),
            host: request.host.clone(),
            source: request.source_name(),
            tags: request.tags.clone(),
            state,
            keep_until: None,
            components: vec![Component {
                name: component,
                kind: request.input.kind().to_owned(),
                state: if produced.lost_count > 0 { ComponentState::Partial } else { ComponentState::Complete },
                started_at,
                ended_at: now(&self.env),
                root: ran.root.root,
                entry_count: ran.root.entry_count,
                content_len: ran.root.content_len,
                new_len: ran.new_len,
                stored_len: ran.stored_len,
                extension: Vec::new(),
            }],
            domain: self.keyring.certificate.domain,
            extension: Vec::new(),
        };
        let problems = produced.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message));
        let body = ComponentBody {
            roots: produced.roots.clone(),
            command: produced.command.clone(),
            stderr: produced.stderr.clone(),
            cutter: request.cutter.map(|cutter| cutter.to_string()).unwrap_or_default(),
            problems: problems.collect(),
            facts: Vec::new(),
            extension: Vec::new(),
        };
        let program = concat!("backstay ", env!("CARGO_PKG_VERSION")).to_owned();
        let description = request.description.clone();
        (structure, SnapshotBody { components: vec![body], description, program, extension: Vec::new() })
    }
}

fn report(ran: &Ran, clock: Instant) -> BackupReport {
    BackupReport {
        parent: ran.produced.parent,
        entry_count: ran.root.entry_count,
        unchanged_count: ran.produced.unchanged_count,
        content_len: ran.root.content_len,
        read_len: ran.produced.read_len,
        new_len: ran.new_len,
        stored_len: ran.stored_len,
        pack_count: ran.pack_count,
        seconds: clock.elapsed().as_secs_f64(),
        problems: ran.produced.problems.clone(),
        problem_count: ran.produced.problem_count,
        stderr: ran.produced.stderr.clone(),
        ..BackupReport::default()
    }
}
