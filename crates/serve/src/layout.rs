//! The folders above the snapshots.
//!
//! ```text
//! latest                                  ─► by-id/<id>        the newest snapshot
//! by-id/<id>/<component>/…                                     every snapshot, once
//! by-date/<time>_<short id>               ─► ../by-id/<id>
//! by-host/<host>/<time>_<short id>        ─► ../../by-id/<id>  and `latest`; likewise by-source, by-tag
//! ```
//!
//! All but `by-id` are links, so that no snapshot is walked twice and the kernel keeps one copy of each file. Where links cannot be
//! shown, what they point to is shown in their place.
//!
//! Invariant: a listing is never older than [`LISTED_FOR`] when it is used, the very first a second more, unless the store fails or does
//! not answer in time.
//! Never here: what is in a snapshot.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use engine::{EngineError, SnapshotFilter, SnapshotInfo, View};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

/// How long a listing is used until the store is asked for a new one.
pub(crate) const LISTED_FOR: Duration = Duration::from_secs(3);
/// How long the store may take to list, until what was listed before is used on.
const WAITED_FOR: Duration = Duration::from_secs(1);
/// Characters of an id that tell snapshots apart for people.
const SHORT_ID_LEN: usize = 8;
/// The fewest characters that find a snapshot in `by-id`.
const PREFIX_LEN_MIN: usize = 4;

pub(crate) const BY_ID: &str = "by-id";
const LATEST: &str = "latest";

/// What is in a folder of ours.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// Another folder, by its path in the mount, and when the newest snapshot in it began.
    Folder {
        path: Arc<str>,
        at: i64,
    },
    Link {
        target: Arc<str>,
        at: i64,
    },
    Snapshot(Arc<SnapshotInfo>),
}

impl Item {
    /// When what it holds or points to began, in nanoseconds since 1970.
    pub(crate) fn at(&self) -> i64 {
        match self {
            Self::Folder { at, .. } | Self::Link { at, .. } => *at,
            Self::Snapshot(info) => info.snapshot.structure.started_at,
        }
    }
}

/// A folder's items, and when the newest snapshot in it began.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) items: BTreeMap<String, Item>,
    pub(crate) at: i64,
}

/// All folders of ours as of one listing, by path.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    shelves: BTreeMap<Arc<str>, Shelf>,
}

/// The listing, and how it is made anew.
#[derive(Debug)]
pub(crate) struct Layout {
    asks: Asks,
    current: Mutex<Current>,
    /// What is shown while somebody else waits for the next one; none before the first.
    shown: RwLock<Option<Arc<Listing>>>,
}

/// What it takes to make a listing.
#[derive(Debug, Clone)]
struct Asks {
    view: View,
    filter: SnapshotFilter,
    zone: TimeZone,
}

#[derive(Debug, Default)]
struct Current {
    listing: Arc<Listing>,
    /// The snapshots in it; none before the first listing.
    ids: Option<Arc<HashSet<String>>>,
    /// When the store was asked for it.
    asked_at: Option<Instant>,
    /// When the store was last waited for in vain, or failed.
    failed_at: Option<Instant>,
    /// The next one, while the store is asked for it, and since when.
    next: Option<(Instant, Asked)>,
}

/// A listing that is not what the one before was.
type Made = (Listing, HashSet<String>);
/// The next listing, if it is another one, while the store is asked for it.
type Asked = AbortOnDropHandle<Result<Option<Made>, EngineError>>;

impl Layout {
    pub(crate) fn new(view: View, filter: SnapshotFilter) -> Self {
        let asks = Asks { view, filter, zone: TimeZone::system() };
        Self { asks, current: Mutex::default(), shown: RwLock::default() }
    }

    /// The folders as they are now, and what went wrong if they may be older. Of a store that hangs the older ones are given
    /// after [`WAITED_FOR`], without an error, and it goes on being asked.
    pub(crate) async fn listing(&self) -> (Arc<Listing>, Option<EngineError>) {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner).clone();
        // Until one was made, there is nothing that may be shown meanwhile.
        let Some(shown) = shown else { return self.listing_now().await };
        let until = Instant::now() + WAITED_FOR;
        let Ok(mut current) = timeout_at(until, self.current.lock()).await else { return (shown, None) };
        if current.is_resting() {
            return (Arc::clone(&current.listing), None);
        }
        let since = Instant::now().checked_sub(LISTED_FOR);
        match timeout_at(until, self.listed_since(since, &mut current)).await {
            Ok(listed) => listed,
            Err(_) => {
                current.failed_at = Some(Instant::now());
                (shown, None)
            }
        }
    }

    /// The same as of now, however long that takes.
    pub(crate) async fn listing_now(&self) -> (Arc<Listing>, Option<EngineError>) {
        let since = Some(Instant::now());
        self.listed_since(since, &mut *self.current.lock().await).await
    }

    /// A listing for which the store was asked no earlier than `since`.
    async fn listed_since(&self, since: Option<Instant>, current: &mut Current) -> (Arc<Listing>, Option<EngineError>) {
        while current.asked_at.is_none_or(|at| Some(at) < since) {
            let before = current.ids.clone();
            let ask = || (Instant::now(), AbortOnDropHandle::new(tokio::spawn(self.asks.clone().make(before))));
            let (asked_at, next) = current.next.get_or_insert_with(ask);
            let (asked_at, made) = (*asked_at, next.await);
            current.next = None;
            let made = made.unwrap_or_else(|error| Err(EngineError::Panicked { what: error.to_string() }));
            match made {
                Ok(made) => self.take(made, asked_at, current),
                Err(error) if Some(asked_at) >= since => {
                    current.failed_at = Some(Instant::now());
                    return (Arc::clone(&current.listing), Some(error));
                }
                // That was then.
                Err(_) => {}
            }
        }
        (Arc::clone(&current.listing), None)
    }

    fn take(&self, made: Option<Made>, asked_at: Instant, current: &mut Current) {
        if let Some((listing, ids)) = made {
            (current.listing, current.ids) = (Arc::new(listing), Some(Arc::new(ids)));
        }
        current.asked_at = Some(asked_at);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&current.listing));
    }
}

impl Current {
    /// Whether the store is left alone for a while, since it did not answer. What it answers meanwhile is taken.
    fn is_resting(&self) -> bool {
        let has_answered = self.next.as_ref().is_some_and(|(_, next)| next.is_finished());
        !has_answered && self.failed_at.is_some_and(|at| at.elapsed() < LISTED_FOR)
    }
}

impl Asks {
    /// Lists anew; none if the snapshots are those of `before`. What is new may lie in packs that the index did not know.
    async fn make(self, before: Option<Arc<HashSet<String>>>) -> Result<Option<Made>, EngineError> {
        let mut found = self.view.snapshots().await?;
        found.retain(|info| self.filter.fits(&info.snapshot));
        let ids: HashSet<String> = found.iter().map(|info| info.id.to_string()).collect();
        match before {
            Some(before) if *before == ids => return Ok(None),
            Some(before) if !ids.is_subset(&before) => self.view.renew().await?,
            _ => {}
        }
        Ok(Some((Listing::of(found.into_iter().map(Arc::new).collect(), &self.zone), ids)))
    }
}

impl Listing {
    /// The folders for `snapshots`, which are in order of time.
    fn of(snapshots: Vec<Arc<SnapshotInfo>>, zone: &TimeZone) -> Self {
        let mut listing = Self::default();
        for shelf in [BY_ID, "by-date", "by-host", "by-source", "by-tag"] {
            listing.add("", shelf, Item::Folder { path: shelf.into(), at: 0 }, 0);
            listing.shelf(shelf);
        }
        for info in snapshots {
            let (id, structure) = (info.id.to_string(), &info.snapshot.structure);
            let at = structure.started_at;
            listing.add("", BY_ID, Item::Folder { path: BY_ID.into(), at }, at);
            listing.add(BY_ID, &id, Item::Snapshot(Arc::clone(&info)), at);
            // What nobody vouches for is found by its id alone, and what is of the future is never the newest.
            if !info.trusted {
                continue;
            }
            let link = |up: &str| Item::Link { target: format!("{up}{BY_ID}/{id}").into(), at };
            let name = format!("{}_{}", stamp(at, zone), id.get(..SHORT_ID_LEN).unwrap_or(&id));
            let is_newest = !info.is_of_the_future();
            if is_newest {
                listing.add("", LATEST, link(""), at);
            }
            listing.add("", "by-date", Item::Folder { path: "by-date".into(), at }, at);
            listing.add("by-date", &name, link("../"), at);
            let of = [("by-host", &structure.host), ("by-source", &structure.source)];
            for (shelf, value) in of.into_iter().chain(structure.tags.iter().map(|tag| ("by-tag", tag))) {
                listing.add("", shelf, Item::Folder { path: shelf.into(), at }, at);
                let folder: Arc<str> = format!("{shelf}/{}", shown(value)).into();
                listing.add(shelf, &shown(value), Item::Folder { path: Arc::clone(&folder), at }, at);
                listing.add(&folder, &name, link("../../"), at);
                if is_newest {
                    listing.add(&folder, LATEST, link("../../"), at);
                }
            }
        }
        listing
    }

    fn shelf(&mut self, path: &str) -> &mut Shelf {
        self.shelves.entry(path.into()).or_default()
    }

    fn add(&mut self, path: &str, name: &str, item: Item, at: i64) {
        let shelf = self.shelf(path);
        shelf.at = shelf.at.max(at);
        shelf.items.insert(name.to_owned(), item);
    }

    /// A folder by its path; none if it is not there any more.
    pub(crate) fn get(&self, path: &str) -> Option<&Shelf> {
        self.shelves.get(path)
    }

    /// What has this name in a folder. In `by-id` the start of an id finds a link to the snapshot.
    pub(crate) fn item(&self, path: &str, name: &str) -> Option<Item> {
        let items = &self.get(path)?.items;
        if let Some(item) = items.get(name) {
            return Some(item.clone());
        }
        let mut fitting = items.range(name.to_owned()..).take_while(|(id, _)| id.starts_with(name));
        let (id, item) = fitting.next().filter(|_| path == BY_ID && name.len() >= PREFIX_LEN_MIN)?;
        let Item::Snapshot(info) = item else { return None };
        let link = Item::Link { target: id.as_str().into(), at: info.snapshot.structure.started_at };
        fitting.next().is_none().then_some(link)
    }

    /// The snapshot that a link points to.
    pub(crate) fn pointed_to(&self, target: &str) -> Option<Arc<SnapshotInfo>> {
        let id = target.rsplit('/').next()?;
        match self.get(BY_ID)?.items.get(id)? {
            Item::Snapshot(info) => Some(Arc::clone(info)),
            _ => None,
        }
    }

    /// Whether a snapshot is listed.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.get(BY_ID).is_some_and(|shelf| shelf.items.contains_key(id))
    }
}

/// `2026-11-30T03-56-26`: no colon, which `rsync` and `scp` take for the end of a host's name.
fn stamp(at: i64, zone: &TimeZone) -> String {
    let at = Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H-%M-%S").to_string()
}

/// A name that can be that of a file: what cannot be is written as in a URL.
pub(crate) fn shown(name: &str) -> String {
    let is_dots = matches!(name, "" | "." | "..");
    let mut shown = String::with_capacity(name.len());
    for part in name.chars() {
        match part {
            '/' | '%' | '\0' => drop(write!(shown, "%{:02X}", part as u32)),
            '.' if is_dots => shown.push_str("%2E"),
            _ => shown.push(part),
        }
    }
    if shown.is_empty() { "%".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_file_can_have_are_written_otherwise_and_stay_apart() {
        for (name, expected) in
            [("web1", "web1"), ("a/b", "a%2Fb"), ("..", "%2E%2E"), ("", "%"), ("50%", "50%25"), ("a.b", "a.b")]
        {
            assert_eq!(shown(name), expected);
        }
    }

    #[test]
    fn stamps_sort_as_times_do_and_hold_no_colon() {
        let stamps: Vec<_> = [0, 1_700_000_000_000_000_000].map(|at| stamp(at, &TimeZone::UTC)).into();
        assert_eq!(stamps, ["1970-01-01T00-00-00", "2023-11-14T22-13-20"]);
    }
}
