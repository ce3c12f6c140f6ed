//! What a path leads to, and what is in a folder.
//!
//! ```text
//! by-host/web1/latest/files/etc/hosts
//! └── folders of ours ┘  │    └─ an entry of the component
//!    (links: followed)   └─ a component of the snapshot
//! ```
//!
//! Invariant: what is listed can be asked for under the name that it is listed with.
//! Never here: the words of HTTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{EngineError, Found, Kind, SnapshotInfo, View};
use futures::stream::{self, BoxStream, StreamExt as _};
use hyper::StatusCode;
use pack::manifest::{EntryKind, Time};
use tokio::sync::mpsc;

use super::answers::{Asked, Failure};
use super::{Options, links};
use crate::component::{Component, positions};
use crate::layout::{Item, Layout, Listing};
use crate::neighbours::Readers;
use crate::trouble::{LISTING, Trouble, Troubles, shown_at};

/// Links of a folder that are looked at at once.
const LINKS_AT_ONCE: usize = 8;
/// The first second of the year 10000, with which HTTP's way to write a moment ends.
const SECONDS_END: i64 = 253_402_300_800;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    view: View,
    layout: Layout,
    troubles: Troubles,
    pub(super) readers: Readers,
    pub(super) patience: Duration,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Place {
    /// A folder above the snapshots, as it is now.
    Shelf(Arc<Listing>, Arc<str>),
    Snapshot(Arc<SnapshotInfo>),
    Component(Arc<Component>),
    Entry(Arc<Component>, Found),
}

/// A file or folder as a client sees it.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    /// None for a folder.
    pub(super) len: Option<u64>,
    /// None if HTTP cannot write it.
    pub(super) modified: Option<SystemTime>,
    pub(super) is_executable: bool,
    /// What tells a file's content from any other.
    pub(super) tag: Option<String>,
}

/// What is in a folder.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: Vec<u8>,
    pub(super) meta: Meta,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is nothing of that name.
    NotFound,
    /// It is there and cannot be had; that was told and noted.
    Failed,
}

impl Shared {
    pub(super) fn new(view: View, options: &Options, troubles: mpsc::Sender<Trouble>) -> Self {
        Self {
            layout: Layout::new(view.clone(), options.filter.clone()),
            view,
            troubles: Troubles::new(troubles),
            readers: Readers::new(options.ahead_len_max),
            patience: options.patience,
        }
    }

    /// What a path leads to.
    pub(super) async fn place(&self, asked: &Asked, path: &[u8]) -> Result<Place, Refusal> {
        let found = tokio::time::timeout(self.patience, self.locate(asked, path)).await;
        found.unwrap_or_else(|_| {
            self.troubles.tell(LISTING, None);
            asked.fail(Failure { status: StatusCode::GATEWAY_TIMEOUT, text: "the store has not answered".to_owned() });
            Err(Refusal::Failed)
        })
    }

    async fn locate(&self, asked: &Asked, path: &[u8]) -> Result<Place, Refusal> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let listing = self.listing(asked).await?;
        let mut shelf: Arc<str> = "".into();
        let snapshot = loop {
            let Some(part) = parts.next() else { return Ok(Place::Shelf(listing, shelf)) };
            let name = std::str::from_utf8(part).map_err(|_| Refusal::NotFound)?;
            match listing.item(&shelf, name).ok_or(Refusal::NotFound)? {
                Item::Folder { path, .. } => shelf = path,
                Item::Link { target, .. } => break listing.pointed_to(&target).ok_or(Refusal::NotFound)?,
                Item::Snapshot(info) => break info,
            }
        };
        let Some(part) = parts.next() else { return Ok(Place::Snapshot(snapshot)) };
        let mut components = self.components(&snapshot);
        let component = components.find(|component| component.name.as_bytes() == part).ok_or(Refusal::NotFound)?;
        let component = Arc::new(component);
        let path = parts.collect::<Vec<_>>().join(&b'/');
        if path.is_empty() {
            return Ok(Place::Component(component));
        }
        match links::follow(&component.tree, &path).await {
            Ok(found) => found.map(|found| Place::Entry(component, found)).ok_or(Refusal::NotFound),
            Err(error) => Err(self.refuse(asked, &component, &path, error).await),
        }
    }

    /// The folders of ours; an older listing where the store does not answer, if there is one.
    async fn listing(&self, asked: &Asked) -> Result<Arc<Listing>, Refusal> {
        let (listing, error) = self.layout.listing().await;
        if let Some(error) = error {
            let text = format!("{LISTING}: {error}");
            self.troubles.tell(LISTING, Some(error));
            if listing.get("").is_none() {
                asked.fail(Failure { status: StatusCode::SERVICE_UNAVAILABLE, text });
                return Err(Refusal::Failed);
            }
        }
        Ok(listing)
    }

    fn components(&self, snapshot: &Arc<SnapshotInfo>) -> impl Iterator<Item = Component> {
        positions(snapshot).filter_map(|at| Component::open(&self.view, snapshot, at))
    }

    /// What is in a folder, in order; none if the place is no folder. What cannot be had is told and noted in `asked`.
    pub(super) fn children(self: &Arc<Self>, asked: &Asked, place: &Place) -> Option<BoxStream<'static, Child>> {
        let all: Vec<Child> = match place {
            Place::Shelf(listing, path) => {
                let items = listing.get(path).map(|shelf| shelf.items.iter()).into_iter().flatten();
                items.map(|(name, item)| Child { name: name.clone().into(), meta: Meta::of_ours(item.at()) }).collect()
            }
            Place::Snapshot(info) => {
                let all = self.components(info);
                all.map(|own| Child { meta: Meta::of_ours(own.at), name: own.name.into() }).collect()
            }
            Place::Component(component) => return Some(self.entries(asked, component, b"")),
            Place::Entry(component, found) if found.entry().kind == EntryKind::Directory => {
                return Some(self.entries(asked, component, &found.entry().path));
            }
            Place::Entry(..) => return None,
        };
        Some(stream::iter(all).boxed())
    }

    /// The entries of a folder of a component, page by page.
    fn entries(self: &Arc<Self>, asked: &Asked, component: &Arc<Component>, path: &[u8]) -> BoxStream<'static, Child> {
        let (shared, asked, component, path) = (Arc::clone(self), asked.clone(), Arc::clone(component), path.to_vec());
        let folder = component.tree.folder(&path);
        let pages = stream::unfold(Some((folder, 0_usize)), move |state| {
            let (shared, asked, component, path) =
                (Arc::clone(&shared), asked.clone(), Arc::clone(&component), path.clone());
            async move {
                let (mut folder, position) = state?;
                let read = tokio::time::timeout(shared.patience, folder.page(position)).await;
                let goes_on = matches!(&read, Ok(Err(error)) if error.kind() == Kind::Damaged);
                let found: Vec<Found> = match read {
                    Ok(Ok(Some((page, own)))) => own.filter_map(|index| page.entry(index)).collect(),
                    Ok(Ok(None)) => return None,
                    Ok(Err(error)) => {
                        shared.refuse(&asked, &component, &path, error).await;
                        return Some((Vec::new(), goes_on.then_some((folder, position + 1))));
                    }
                    Err(_) => {
                        shared.was_too_slow(&asked, &component, &path);
                        return Some((Vec::new(), None));
                    }
                };
                let all = stream::iter(found).map(|found| shared.child(&asked, &component, found));
                let all: Vec<Option<Child>> = all.buffered(LINKS_AT_ONCE).collect().await;
                Some((all.into_iter().flatten().collect(), Some((folder, position + 1))))
            }
        });
        pages.flat_map(stream::iter).boxed()
    }

    /// An entry as it is listed; none if it is not.
    async fn child(&self, asked: &Asked, component: &Component, found: Found) -> Option<Child> {
        let name = found.name().to_vec();
        if !matches!(found.entry().kind, EntryKind::Symlink { .. }) {
            return Meta::of_entry(&found).map(|meta| Child { name, meta });
        }
        let path = &found.entry().path;
        match tokio::time::timeout(self.patience, links::follow(&component.tree, path)).await {
            // Links to folders are not listed: whoever walks all would walk in circles.
            Ok(Ok(target)) => {
                let meta = target.as_ref().and_then(Meta::of_entry).filter(|meta| meta.len.is_some());
                meta.map(|meta| Child { name, meta })
            }
            Ok(Err(error)) => {
                self.refuse(asked, component, path, error).await;
                None
            }
            Err(_) => {
                self.was_too_slow(asked, component, path);
                None
            }
        }
    }

    /// Tells of what cannot be had, and notes it for the answer.
    pub(super) async fn refuse(
        &self,
        asked: &Asked,
        component: &Component,
        path: &[u8],
        error: EngineError,
    ) -> Refusal {
        let text = format!("{}: {error}", shown_at(component, path));
        let status = if error.kind() == Kind::Damaged {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        if self.troubles.explain(&self.layout, component, path, error).await {
            asked.fail(Failure { status: StatusCode::GONE, text: "its snapshot was forgotten".to_owned() });
        } else {
            asked.fail(Failure { status, text });
        }
        Refusal::Failed
    }

    /// The same when the store has not answered in time.
    pub(super) fn was_too_slow(&self, asked: &Asked, component: &Component, path: &[u8]) {
        let what = shown_at(component, path);
        self.troubles.tell(&what, None);
        asked
            .fail(Failure { status: StatusCode::GATEWAY_TIMEOUT, text: format!("{what}: the store has not answered") });
    }
}

impl Place {
    /// What a client sees of it; none if it is shown to nobody.
    pub(super) fn meta(&self) -> Option<Meta> {
        match self {
            Self::Shelf(listing, path) => Some(Meta::of_ours(listing.get(path)?.at)),
            Self::Snapshot(info) => Some(Meta::of_ours(info.snapshot.structure.started_at)),
            Self::Component(component) => Some(Meta::of_ours(component.at)),
            Self::Entry(_, found) => Meta::of_entry(found),
        }
    }
}

impl Meta {
    /// A folder of ours, of this moment in nanoseconds since 1970; 0 if nothing is in it.
    fn of_ours(at: i64) -> Self {
        let modified = shown(at.div_euclid(1_000_000_000)).filter(|_| at != 0);
        Self { len: None, modified, is_executable: false, tag: None }
    }

    /// None for what is neither file nor folder.
    fn of_entry(found: &Found) -> Option<Self> {
        let entry = found.entry();
        let Time { secs, .. } = entry.modified_at;
        let modified = shown(secs);
        match entry.kind {
            EntryKind::Directory => Some(Self { len: None, modified, is_executable: false, tag: None }),
            EntryKind::File { len } => {
                let tag = found.content_tag().iter().map(|byte| format!("{byte:02x}")).collect();
                Some(Self { len: Some(len), modified, is_executable: entry.mode & 0o111 != 0, tag: Some(tag) })
            }
            _ => None,
        }
    }
}

/// A moment that HTTP can write.
fn shown(secs: i64) -> Option<SystemTime> {
    let secs = u64::try_from(secs).ok().filter(|_| secs < SECONDS_END)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_http_cannot_write_are_not_shown() {
        for secs in [-1, SECONDS_END, i64::MIN, i64::MAX] {
            assert_eq!(shown(secs), None);
        }
        assert_eq!(shown(1), Some(UNIX_EPOCH + Duration::from_secs(1)));
        assert!(shown(SECONDS_END - 1).is_some());
    }
}
