//! A snapshot as JSON.
//!
//! Invariant: what the key in use may not open is absent, not empty.
//! Never here: the table for people.

use std::collections::BTreeMap;

use engine::{ForgottenSnapshot, Held, SnapshotInfo};
use pack::{Component, ComponentBody, ComponentState, SnapshotBody, SnapshotState};
use seal::RepositoryId;
use serde::Serialize;

use crate::commands::hold::HeldDocument;
use crate::human::rfc3339;

/// A snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotDocument {
    id: String,
    parent_id: Option<String>,
    started_at: String,
    ended_at: String,
    host: String,
    source: String,
    tags: Vec<String>,
    state: &'static str,
    trusted: bool,
    /// `yearly`, `monthly`, `weekly` or `daily`; none for later ones of a day, and for those that are not whole.
    class: Option<&'static str>,
    seconds: f64,
    keep_until: Option<String>,
    /// How long nothing forgets it; absent if it is not held, or where that was not looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<HeldDocument>,
    /// The forgotten snapshot as which it was committed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    undeleted_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten_at: Option<String>,
    /// Of a forgotten one: the snapshot as which it was brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    back_as: Option<String>,
    entry_count: u64,
    content_len: u64,
    new_len: u64,
    stored_len: u64,
    components: Vec<ComponentDocument>,
    /// What it is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginDocument>,
    /// What it stands in for, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rewritten_from: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
}

/// A snapshot of another repository.
#[derive(Debug, Serialize)]
struct OriginDocument {
    repository: String,
    snapshot: String,
}

#[derive(Debug, Serialize)]
struct ComponentDocument {
    name: String,
    kind: String,
    state: &'static str,
    started_at: String,
    ended_at: String,
    seconds: f64,
    entry_count: u64,
    content_len: u64,
    new_len: u64,
    stored_len: u64,
    #[serde(flatten)]
    body: Option<BodyDocument>,
}

#[derive(Debug, Serialize)]
struct BodyDocument {
    roots: Vec<String>,
    command: Vec<String>,
    cutter: Option<String>,
    problems: Vec<String>,
    facts: BTreeMap<String, String>,
    stderr: String,
}

/// Said in place of a reason where there is none to be read.
pub(crate) const UNREADABLE: &str = "the key in use may not read why";

/// A component of which a snapshot has nothing, or not everything.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Lacking {
    pub(crate) component: String,
    pub(crate) state: &'static str,
    /// Why, or the first of several reasons; none if the key in use may not read it.
    pub(crate) reason: Option<String>,
}

impl SnapshotDocument {
    /// The snapshot, as far as it is open.
    pub(crate) fn new(info: &SnapshotInfo, class: Option<&'static str>) -> Self {
        let (structure, body) = (&info.snapshot.structure, info.snapshot.body.as_ref());
        let total = |len: fn(&Component) -> u64| structure.components.iter().map(len).sum();
        Self {
            id: info.id.to_string(),
            parent_id: structure.parent.map(|id| id.to_string()),
            started_at: rfc3339(structure.started_at),
            ended_at: rfc3339(structure.ended_at),
            host: structure.host.clone(),
            source: structure.source.clone(),
            tags: structure.tags.clone(),
            state: state_word(structure.state),
            trusted: info.trusted,
            class,
            seconds: seconds_between(structure.started_at, structure.ended_at),
            keep_until: structure.keep_until.map(rfc3339),
            held: None,
            undeleted_from: info.undeleted.map(|before| before.snapshot.to_string()),
            forgotten_at: None,
            back_as: None,
            entry_count: total(|component| component.entry_count),
            content_len: total(|component| component.content_len),
            new_len: total(|component| component.new_len),
            stored_len: info.stored_len(),
            components: components(&structure.components, body),
            origin: info.origin.as_ref().map(|origin| OriginDocument {
                repository: RepositoryId(origin.repository).to_string(),
                snapshot: origin.snapshot.to_string(),
            }),
            rewritten_from: info.rewritten.iter().flat_map(|old| &old.from).map(ToString::to_string).collect(),
            description: body.map(|body| body.description.clone()),
            program: body.map(|body| body.program.clone()),
        }
    }

    /// The same, with what holds it.
    pub(crate) fn with_held(self, held: Option<&Held>) -> Self {
        Self { held: held.map(HeldDocument::from), ..self }
    }

    /// A snapshot that was forgotten.
    pub(crate) fn forgotten(found: &ForgottenSnapshot) -> Self {
        let forgotten_at = Some(rfc3339(found.forgotten_at));
        Self { forgotten_at, back_as: found.back_as.map(|id| id.to_string()), ..Self::new(&found.info, None) }
    }
}

/// How long something took; clocks may have been set back meanwhile.
pub(crate) fn seconds_between(started_at: i64, ended_at: i64) -> f64 {
    ended_at.saturating_sub(started_at).max(0) as f64 / 1e9
}

/// The components of a snapshot that are not whole.
pub(crate) fn lacking(info: &SnapshotInfo) -> Vec<Lacking> {
    let bodies = info.snapshot.body.as_ref().map_or(&[][..], |body| body.components.as_slice());
    let components = info.snapshot.structure.components.iter().enumerate();
    let lacking = components.filter(|(_, component)| component.state != ComponentState::Complete);
    let lacking = lacking.map(|(at, component)| Lacking {
        component: component.name.clone(),
        state: component_word(component.state),
        reason: bodies.get(at).and_then(|body| body.problems.first().cloned()),
    });
    lacking.collect()
}

/// Complete or partial, as a word.
pub(crate) const fn state_word(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Complete => "complete",
        SnapshotState::Partial => "partial",
    }
}

/// Complete, partial or failed, as a word.
pub(crate) const fn component_word(state: ComponentState) -> &'static str {
    match state {
        ComponentState::Complete => "complete",
        ComponentState::Partial => "partial",
        ComponentState::Failed => "failed",
    }
}

fn components(components: &[Component], body: Option<&SnapshotBody>) -> Vec<ComponentDocument> {
    let document = |(at, component): (usize, &Component)| ComponentDocument {
        name: component.name.clone(),
        kind: component.kind.clone(),
        state: component_word(component.state),
        started_at: rfc3339(component.started_at),
        ended_at: rfc3339(component.ended_at),
        seconds: seconds_between(component.started_at, component.ended_at),
        entry_count: component.entry_count,
        content_len: component.content_len,
        new_len: component.new_len,
        stored_len: component.stored_len,
        body: body.and_then(|body| body.components.get(at)).map(body_document),
    };
    components.iter().enumerate().map(document).collect()
}

fn body_document(body: &ComponentBody) -> BodyDocument {
    let words = |words: &[Vec<u8>]| words.iter().map(|word| text(word)).collect();
    BodyDocument {
        roots: words(&body.roots),
        command: words(&body.command),
        cutter: Some(body.cutter.clone()).filter(|cutter| !cutter.is_empty()),
        problems: body.problems.clone(),
        facts: body.facts.iter().cloned().collect(),
        stderr: text(&body.stderr),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
