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
pub(crate) mod component;
pub(crate) mod copied;
mod cutting;
mod describe;
pub(crate) mod entry;
mod events;
mod files;
mod matching;
mod name;
mod pack_puts;
mod packer;
mod parent;
mod produce;
mod remade;
mod request;
pub(crate) mod rewritten;
mod splice;
mod stream;
mod upload;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use pack::{Role, SnapshotBody, SnapshotStructure, names};
use tokio_util::sync::CancellationToken;

pub use copied::CopiedComponent;
pub(crate) use files::{Problems, message};
pub(crate) use packer::seal_chunks;
pub(crate) use remade::Remaking;
pub use request::{
    BackupReport, BackupRequest, COMPONENTS_AT_ONCE_MAX, ComponentReport, ComponentRequest, EventSource, Input,
    Problem, ShrinkLimit,
};
pub use rewritten::RewrittenComponent;
pub(crate) use upload::{SEGMENT_CHUNKS_MAX, SEGMENT_PACKS_MAX, UPLOADS_MAX};

use crate::backup::component::Run;
use crate::objects::now;
use crate::repository::Repository;
use crate::writer::Writer;
use crate::{EngineError, Progress};

impl Repository {
    /// Backs up one or several components and commits a snapshot of them.
    ///
    /// # Errors
    ///
    /// Nothing is committed after any error. Files that could not be read are no error but [`Problem`]s of the report,
    /// and make the snapshot partial, as does one of several components that fails.
    pub async fn backup(
        &self,
        request: BackupRequest,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<BackupReport, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Writer], "back up")?;
        request.check()?;
        let (clock, started_at) = (Instant::now(), now(&self.env));
        if request.dry_run {
            let index = self.load_index().await?;
            let run = Run { request: &request, index, is_careful: false, progress, cancel };
            let mut ran = self.run_components(&run).await?;
            ran.refuse_if_nothing(&request)?;
            return Ok(BackupReport { state: None, seconds: clock.elapsed().as_secs_f64(), ..ran.report(&request) });
        }
        let write = async |writer: &Writer<'_>, stop| self.write(&request, writer, started_at, progress, stop).await;
        let (mut report, warnings) = self.with_writer(&request.host, &cancel, write).await?;
        report.warnings = warnings;
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
        let run = self.begin_run(request, writer, progress, cancel).await?;
        let mut ran = self.run_components(&run).await?;
        ran.refuse_if_nothing(request)?;
        let (structure, body) = self.describe(request, &ran, writer.id, started_at);
        let len = self.commit(&run, writer, &structure, &body).await?;
        for (component, ran) in request.components.iter().zip(&ran.components) {
            self.remember_parent(request, component, &ran.produced, writer.id);
        }
        let mut report = ran.report(request);
        report.snapshot = Some(writer.id);
        report.stored_len += len;
        Ok(report)
    }

    /// W2 and W3: what may be referred to, with the packs of an interrupted run among it.
    pub(crate) async fn begin_run<'r>(
        &self,
        request: &'r BackupRequest,
        writer: &Writer<'_>,
        progress: &'r Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<Run<'r>, EngineError> {
        let condemned = writer.see_condemned().await?;
        self.recover_journal(&condemned).await?;
        let index = self.load_index_without(&condemned).await?;
        let is_careful = !condemned.is_empty() || !index.is_plain();
        Ok(Run { request, index, is_careful, progress, cancel })
    }

    /// W5, unless the run was cancelled; gives the length of the snapshot's object.
    pub(crate) async fn commit(
        &self,
        run: &Run<'_>,
        writer: &Writer<'_>,
        structure: &SnapshotStructure,
        body: &SnapshotBody,
    ) -> Result<u64, EngineError> {
        let name = names::snapshot(&writer.id);
        let object = self.encode_snapshot(structure, body)?;
        if run.cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        writer.commit(object.clone()).await?;
        self.cache.remember(&name, &object);
        Ok(object.len() as u64)
    }
}

impl BackupRequest {
    /// Refuses a request without components, or with two of one name.
    fn check(&self) -> Result<(), EngineError> {
        let mut names = HashSet::new();
        let twice =
            self.components.iter().map(ComponentRequest::component_name).find(|name| !names.insert(name.clone()));
        match twice {
            Some(name) => Err(EngineError::Request { what: format!("two components are called {name}") }),
            None if self.components.is_empty() => {
                Err(EngineError::Request { what: "nothing is to be backed up".into() })
            }
            None => Ok(()),
        }
    }
}
