//! Symbolic links, followed within their component as if it were the whole file system.
//!
//! ```text
//! a/link/b ─► a ─► link ─► its target ─► … ─► b        from the component's first level: a target that begins with a slash
//!                                                      one up:                           `..`, and not above the first level
//! ```
//!
//! Invariant: at most [`LINKS_MAX`] links are followed on the way to one entry, so that circles end.
//! Never here: what of this is listed.

use std::collections::VecDeque;

use engine::{EngineError, Found, TreeView};
use pack::manifest::EntryKind;

/// Links on the way to one entry: as many as Linux follows.
const LINKS_MAX: usize = 40;

/// What a path leads to, which is no link; none if it leads nowhere.
pub(super) async fn follow(tree: &TreeView, path: &[u8]) -> Result<Option<Found>, EngineError> {
    // Mostly there is no link in it.
    if let Some(found) = tree.find(path).await?
        && !matches!(found.entry().kind, EntryKind::Symlink { .. })
    {
        return Ok(Some(found));
    }
    let mut todo = parts(path);
    let mut at = Vec::new();
    let mut links_left = LINKS_MAX;
    let mut last = None;
    while let Some(part) = todo.pop_front() {
        if part == b".." {
            up(&mut at);
            last = None;
            continue;
        }
        let above_len = at.len();
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(&part);
        let Some(found) = tree.find(&at).await? else { return Ok(None) };
        match &found.entry().kind {
            EntryKind::Symlink { target } => {
                let Some(left) = links_left.checked_sub(1) else { return Ok(None) };
                links_left = left;
                at.truncate(if target.starts_with(b"/") { 0 } else { above_len });
                let mut parts = parts(target);
                parts.append(&mut todo);
                todo = parts;
                last = None;
            }
            EntryKind::Directory => last = Some(found),
            _ if todo.is_empty() => return Ok(Some(found)),
            _ => return Ok(None),
        }
    }
    match last {
        // A target that ends in `..`; the first level is no entry.
        None if !at.is_empty() => tree.find(&at).await,
        last => Ok(last),
    }
}

/// The parts of a path but those that stay where they are.
fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.map(<[u8]>::to_vec).collect()
}

fn up(at: &mut Vec<u8>) {
    let above = at.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    at.truncate(above);
}
