//! What breaks because of what cannot be had: the snapshots, and where the key opens names, the paths.
//!
//! Costs a walk of every snapshot, but only once something is damaged.
//!
//! Invariant: a key that opens no names says of every snapshot that it is perhaps affected; it never says that one is not.
//! Never here: finding the damage.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use pack::manifest::PageKind;
use seal::ChunkId;

use super::SnapshotRoots;
use super::report::{Breaks, CheckReport, Wrong};
use super::tree::Missing;
use crate::EngineError;
use crate::entries::{Scope, entries_of, load_structure, pages_and_leaves};
use crate::fetch::Fetcher;
use crate::repository::Repository;

/// Snapshots and paths named for one damage.
const AFFECTED_MAX: usize = 100;

/// What each damage breaks.
struct Affected(BTreeMap<Wrong, Breaks>);

/// What damages break in one snapshot: the first names, and how many there are.
#[derive(Default)]
struct InSnapshot(BTreeMap<Wrong, (Vec<String>, u64)>);

impl InSnapshot {
    fn add(&mut self, wrong: &Wrong, what: impl FnOnce() -> String) {
        if !self.0.contains_key(wrong) {
            self.0.insert(wrong.clone(), (Vec::new(), 0));
        }
        if let Some((names, count)) = self.0.get_mut(wrong) {
            *count += 1;
            if names.len() < AFFECTED_MAX {
                names.push(what());
            }
        }
    }
}

impl Affected {
    /// Takes in a snapshot.
    fn add(&mut self, snapshot: InSnapshot) {
        for (wrong, (names, count)) in snapshot.0 {
            let breaks = self.0.entry(wrong).or_default();
            breaks.affects_count += count;
            breaks.snapshot_count += 1;
            let room = AFFECTED_MAX.saturating_sub(breaks.affects.len());
            breaks.affects.extend(names.into_iter().take(room));
        }
    }
}

impl Repository {
    /// Turns chunks that cannot be had into damages which name the objects, and what needs them.
    pub(super) async fn name_what_breaks(
        &self,
        fetcher: &Fetcher,
        snapshots: &[SnapshotRoots],
        missing: &Missing,
        report: &mut CheckReport,
    ) {
        let mut affected = Affected(missing.reasons().iter().map(|wrong| (wrong.clone(), Breaks::default())).collect());
        for info in snapshots {
            let short: String = info.id.to_string().chars().take(8).collect();
            let pages = broken_pages(fetcher, info, missing).await;
            let told = if self.keyring.opens_content() {
                affected_paths(fetcher, info, missing, &short).await.ok()
            } else {
                None
            };
            let mut found = told.unwrap_or_else(|| {
                let mut perhaps = InSnapshot::default();
                missing.reasons().iter().for_each(|wrong| perhaps.add(wrong, || format!("{short} (perhaps)")));
                perhaps
            });
            pages.iter().for_each(|wrong| found.add(wrong, || format!("{short} (names and metadata)")));
            affected.add(found);
        }
        for (wrong, breaks) in affected.0 {
            report.affects(wrong, breaks);
        }
    }
}

/// What is wrong with pages of entries of one snapshot. A local cache may still know such pages; other hosts do not.
async fn broken_pages(fetcher: &Fetcher, info: &SnapshotRoots, missing: &Missing) -> BTreeSet<Wrong> {
    let mut todo: Vec<ChunkId> = info.roots.iter().map(|(root, _)| *root).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = todo.pop() {
        found.extend(missing.get(&id).cloned());
        let Ok(page) = load_structure(fetcher, id).await else { continue };
        found.extend(page.body().and_then(|body| missing.get(&body)).cloned());
        if page.kind == PageKind::Directory {
            todo.extend(page.content().iter().map(|child| child.id));
        }
    }
    found
}

/// Paths of one snapshot that need a missing chunk, by what is wrong with it.
async fn affected_paths(
    fetcher: &Fetcher,
    info: &SnapshotRoots,
    missing: &Missing,
    short: &str,
) -> Result<InSnapshot, EngineError> {
    let mut affected = InSnapshot::default();
    for (root, _) in &info.roots {
        let mut entries = entries_of(fetcher.clone(), Some(*root), Scope::new(b""));
        while let Some(full) = entries.try_next().await? {
            let mut found: BTreeSet<&Wrong> = full.children.iter().filter_map(|child| missing.get(&child.id)).collect();
            let mut parts = pages_and_leaves(fetcher.clone(), full.children.clone());
            while let Some(part) = parts.try_next().await? {
                found.extend(missing.get(&part.id));
            }
            for wrong in found {
                affected.add(wrong, || format!("{short}:{}", source::entry::escaped(&full.entry.path)));
            }
        }
    }
    Ok(affected)
}
