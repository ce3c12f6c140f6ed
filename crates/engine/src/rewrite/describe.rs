//! What a rewritten snapshot says of itself: what the old one said, without what was removed.
//!
//! Invariant: times, tags, host, source and keep-until are those of the old one, which is named.
//! Never here: reading anything.

use pack::{
    Component, ComponentBody, ComponentState, Rewritten, SnapshotBody, SnapshotExtension, SnapshotId, SnapshotState,
    SnapshotStructure, names,
};
use source::entry::escaped;

use crate::backup::component::{AllRan, Ran};
use crate::entries::Scope;
use crate::repository::Repository;
use crate::rewrite::{Removal, is_read};
use crate::{EngineError, SnapshotInfo};

impl Repository {
    /// Both halves of the new snapshot.
    pub(super) fn describe_rewritten(
        &self,
        info: &SnapshotInfo,
        removal: &Removal,
        ran: &AllRan,
        id: SnapshotId,
    ) -> Result<(SnapshotStructure, SnapshotBody), EngineError> {
        let old = &info.snapshot.structure;
        let mut ran = ran.components.iter();
        let kept = old.components.iter().filter(|component| !removal.takes(component));
        let components: Vec<Component> = kept
            .map(|component| match is_read(component, removal) {
                true => ran.next().map_or_else(|| Err(lossy(&component.name)), |ran| rewritten(component, ran)),
                false => Ok(component.clone()),
            })
            .collect::<Result<_, _>>()?;
        let is_whole = components.iter().all(|component| component.state == ComponentState::Complete);
        let first = info.first();
        let earlier = info.rewritten.iter().flat_map(|rewritten| &rewritten.from).copied();
        let from = std::iter::once(info.id).chain(earlier).collect();
        let rewritten = Rewritten { from, signer: first.signer, stored_at: first.stored_at };
        let extension = SnapshotExtension { rewritten: Some(rewritten), ..old.extended() };
        let structure = SnapshotStructure {
            id,
            state: if is_whole { SnapshotState::Complete } else { SnapshotState::Partial },
            components,
            domain: self.keyring.certificate.domain,
            extension: extension.encode().map_err(EngineError::object(names::snapshot(&id)))?,
            ..old.clone()
        };
        let body =
            info.snapshot.body.clone().ok_or_else(|| self.keyring.refuse("rewrite snapshots", &[pack::Role::Owner]))?;
        let scopes = removal.scopes();
        let bodies = old.components.iter().zip(body.components).filter(|(component, _)| !removal.takes(component));
        let components = bodies.map(|(_, body)| without(body, &scopes)).collect();
        Ok((structure, SnapshotBody { components, ..body }))
    }
}

/// A component as it was taken over.
fn rewritten(old: &Component, ran: &Ran) -> Result<Component, EngineError> {
    if ran.produced.lost_count > 0 {
        return Err(lossy(&old.name));
    }
    Ok(Component {
        root: ran.root.root,
        entry_count: ran.root.entry_count,
        content_len: ran.root.content_len,
        new_len: old.new_len + ran.new_len,
        stored_len: old.stored_len + ran.stored_len,
        ..old.clone()
    })
}

/// What a component says of itself, without the names of what was removed.
fn without(body: ComponentBody, scopes: &[Scope]) -> ComponentBody {
    let is_removed = |path: &[u8]| scopes.iter().any(|scope| scope.holds(path.strip_prefix(b"/").unwrap_or(path)));
    let names_removed = |problem: &str| scopes.iter().any(|scope| problem.contains(&escaped(scope.path()).to_string()));
    ComponentBody {
        roots: body.roots.into_iter().filter(|root| !is_removed(root)).collect(),
        problems: body.problems.into_iter().filter(|problem| !names_removed(problem)).collect(),
        ..body
    }
}

fn lossy(component: &str) -> EngineError {
    let what = escaped(component.as_bytes()).to_string();
    let reason = "an entry of it cannot be stored again".to_owned();
    let source = Box::new(EngineError::Lost { chunk: format!("of {what}"), reason });
    EngineError::NotRewritten { what, source }
}
