//! What a backup says of itself: in the snapshot, and to whoever asked for it.
//!
//! Invariant: a component that failed is in both, with the reason.
//! Never here: running anything.

use std::sync::Arc;

use pack::{Component, ComponentBody, ComponentState, SnapshotBody, SnapshotId, SnapshotState, SnapshotStructure};
use source::with_causes;

use crate::EngineError;
use crate::backup::component::{AllRan, Ran};
use crate::backup::request::{BackupReport, BackupRequest, ComponentReport, ComponentRequest};
use crate::objects::now;
use crate::repository::Repository;

impl Ran {
    /// Whether all, some or nothing of it is in the snapshot.
    pub(crate) const fn state(&self) -> ComponentState {
        match self.failure {
            Some(_) => ComponentState::Failed,
            None if self.produced.lost_count > 0 => ComponentState::Partial,
            None => ComponentState::Complete,
        }
    }

    fn structure(&self, request: &ComponentRequest) -> Component {
        Component {
            name: request.component_name(),
            kind: request.input.kind().to_owned(),
            state: self.state(),
            started_at: self.started_at,
            ended_at: self.ended_at,
            root: self.root.root,
            entry_count: self.root.entry_count,
            content_len: self.root.content_len,
            new_len: self.new_len,
            stored_len: self.stored_len,
            extension: Vec::new(),
        }
    }

    fn body(&self, request: &ComponentRequest) -> ComponentBody {
        let produced = &self.produced;
        let problems = produced.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message));
        let failure = self.failure.iter().map(|failure| with_causes(failure.as_ref()));
        ComponentBody {
            roots: produced.roots.clone(),
            command: produced.command.clone(),
            stderr: produced.stderr.clone(),
            cutter: request.cutter.map(|cutter| cutter.to_string()).unwrap_or_default(),
            problems: failure.chain(produced.warnings.iter().cloned()).chain(problems).collect(),
            facts: produced.facts.clone(),
            extension: Vec::new(),
        }
    }

    fn report(&self, request: &ComponentRequest) -> ComponentReport {
        ComponentReport {
            name: request.component_name(),
            kind: request.input.kind().to_owned(),
            state: self.state(),
            failure: self.failure.clone(),
            entry_count: self.root.entry_count,
            content_len: self.root.content_len,
            new_len: self.new_len,
            stored_len: self.stored_len,
            seconds: self.seconds,
            facts: self.produced.facts.clone(),
            warnings: self.produced.warnings.clone(),
            problem_count: self.produced.problem_count,
        }
    }
}

impl AllRan {
    /// Whether every component is whole.
    pub(crate) fn state(&self) -> SnapshotState {
        let is_whole = self.components.iter().all(|ran| ran.state() == ComponentState::Complete);
        if is_whole { SnapshotState::Complete } else { SnapshotState::Partial }
    }

    /// Ends a backup of which nothing came.
    ///
    /// # Errors
    ///
    /// The failure of the only component, or [`EngineError::NothingWhole`] with those of all.
    pub(crate) fn refuse_if_nothing(&mut self, request: &BackupRequest) -> Result<(), EngineError> {
        if self.components.is_empty() || self.components.iter().any(|ran| ran.failure.is_none()) {
            return Ok(());
        }
        let both = self.components.iter_mut().zip(&request.components);
        let mut failures: Vec<_> =
            both.filter_map(|(ran, request)| Some((request.component_name(), ran.failure.take()?))).collect();
        if failures.len() > 1 {
            return Err(EngineError::NothingWhole { failures });
        }
        let Some((name, failure)) = failures.pop() else { return Ok(()) };
        let shared = |failure| EngineError::NothingWhole { failures: vec![(name, failure)] };
        Err(Arc::try_unwrap(failure).unwrap_or_else(shared))
    }

    /// The report, but for what only the commit tells.
    pub(crate) fn report(&self, request: &BackupRequest) -> BackupReport {
        let sum = |of: fn(&Ran) -> u64| self.components.iter().map(of).sum();
        let components = self.components.iter().zip(&request.components);
        BackupReport {
            parent: self.components.iter().find_map(|ran| ran.produced.parent),
            state: Some(self.state()),
            entry_count: sum(|ran| ran.root.entry_count),
            unchanged_count: sum(|ran| ran.produced.unchanged_count),
            content_len: sum(|ran| ran.root.content_len),
            read_len: sum(|ran| ran.produced.read_len),
            new_len: sum(|ran| ran.new_len),
            healed_count: sum(|ran| ran.healed_count),
            stored_len: self.stored_len,
            pack_count: self.pack_count,
            problems: self.components.iter().flat_map(|ran| ran.produced.problems.iter().cloned()).collect(),
            problem_count: sum(|ran| ran.produced.problem_count),
            stderr: self
                .components
                .iter()
                .map(|ran| &ran.produced.stderr)
                .find(|text| !text.is_empty())
                .cloned()
                .unwrap_or_default(),
            components: components.map(|(ran, request)| ran.report(request)).collect(),
            ..BackupReport::default()
        }
    }
}

impl Repository {
    /// Both halves of the snapshot.
    pub(crate) fn describe(
        &self,
        request: &BackupRequest,
        ran: &AllRan,
        id: SnapshotId,
        started_at: i64,
    ) -> (SnapshotStructure, SnapshotBody) {
        let both = || ran.components.iter().zip(&request.components);
        let structure = SnapshotStructure {
            id,
            parent: ran.components.iter().find_map(|ran| ran.produced.parent),
            started_at,
            ended_at: now(&self.env),
            host: request.host.clone(),
            source: request.source_name(),
            tags: request.tags.clone(),
            state: ran.state(),
            keep_until: request.keep_until,
            components: both().map(|(ran, request)| ran.structure(request)).collect(),
            domain: self.keyring.certificate.domain,
            extension: Vec::new(),
        };
        let program = concat!("backstay ", env!("CARGO_PKG_VERSION")).to_owned();
        let body = SnapshotBody {
            components: both().map(|(ran, request)| ran.body(request)).collect(),
            description: request.description.clone(),
            program,
            extension: Vec::new(),
        };
        (structure, body)
    }
}
