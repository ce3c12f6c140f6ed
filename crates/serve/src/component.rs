//! A component of a snapshot, as whoever looks into it finds it.
//!
//! Invariant: a component that failed is not shown; what is shown has a name that a file can have.
//! Never here: numbers that a kernel wants, and addresses.

use std::sync::Arc;

use engine::{SnapshotInfo, TreeView, View};
use pack::ComponentState;

use crate::layout::{BY_ID, shown};

/// A component and what is in it.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) tree: TreeView,
    pub(crate) snapshot: Arc<SnapshotInfo>,
    /// Its name as it is shown.
    pub(crate) name: String,
    /// When reading it began, in nanoseconds since 1970.
    pub(crate) at: i64,
}

/// The positions of those components of a snapshot that are in it.
pub(crate) fn positions(snapshot: &SnapshotInfo) -> impl Iterator<Item = usize> {
    let all = snapshot.snapshot.structure.components.iter().enumerate();
    all.filter(|(_, component)| component.state != ComponentState::Failed).map(|(at, _)| at)
}

impl Component {
    /// The one at a position; none if it is not in the snapshot.
    pub(crate) fn open(view: &View, snapshot: &Arc<SnapshotInfo>, position: usize) -> Option<Self> {
        let component = snapshot.snapshot.structure.components.get(position)?;
        Some(Self {
            tree: view.tree(component.root),
            snapshot: Arc::clone(snapshot),
            name: shown(&component.name),
            at: component.started_at,
        })
    }

    /// Where it is: `by-id/<id>/<name>`.
    pub(crate) fn place(&self) -> String {
        format!("{BY_ID}/{}/{}", self.snapshot.id, self.name)
    }
}
