//! What could not be shown, told once.
//!
//! Invariant: what is damaged is told once, by its name, however often it is asked for.
//! Invariant: a snapshot that was forgotten is no damage: what of it is gone is told to nobody.
//! Never here: what whoever asked is answered, and what people are advised.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use engine::{EngineError, Kind};
use source::entry::escaped;
use tokio::sync::mpsc;

use crate::component::Component;
use crate::layout::Layout;

/// Troubles that wait to be told; further ones are dropped.
pub(crate) const TROUBLES_MAX: usize = 64;
/// Troubles that are remembered as told.
const TOLD_MAX: usize = 4096;
/// How long it may take to find out whether a snapshot was forgotten.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(5);
/// What the folders above the snapshots are made of.
pub(crate) const LISTING: &str = "the list of snapshots";

/// Something that could not be shown.
#[derive(Debug)]
pub struct Trouble {
    /// Where, as a path that is shown.
    pub what: String,
    /// Why; none if the answer took too long.
    pub error: Option<EngineError>,
}

/// Those that were told, and the way to people.
#[derive(Debug)]
pub(crate) struct Troubles {
    send: mpsc::Sender<Trouble>,
    told: Mutex<HashSet<String>>,
}

impl Troubles {
    pub(crate) fn new(send: mpsc::Sender<Trouble>) -> Self {
        Self { send, told: Mutex::default() }
    }

    /// Tells people of something, unless they know.
    pub(crate) fn tell(&self, what: &str, error: Option<EngineError>) {
        if self.note_told(what, error.as_ref()) {
            // Who is told too much at once misses some of it.
            drop(self.send.try_send(Trouble { what: what.to_owned(), error }));
        }
    }

    /// Finds out why something of a component cannot be had, and tells people unless it is gone because its snapshot was forgotten;
    /// true then.
    pub(crate) async fn explain(
        &self,
        layout: &Layout,
        component: &Component,
        path: &[u8],
        error: EngineError,
    ) -> bool {
        let (id, what) = (component.snapshot.id.to_string(), shown_at(component, path));
        // What was told of before is still so, and need not be looked at again.
        if self.is_told(&what, Some(&error)) {
            return self.is_told(&id, None);
        }
        if error.kind() == Kind::Damaged {
            let listing = tokio::time::timeout(EXPLAINED_WITHIN, layout.listing_now()).await;
            if listing.is_ok_and(|(listing, error)| error.is_none() && !listing.has(&id)) {
                self.note_told(&what, Some(&error));
                self.note_told(&id, None);
                return true;
            }
        }
        self.tell(&what, Some(error));
        false
    }

    fn is_told(&self, what: &str, error: Option<&EngineError>) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).contains(&line(what, error))
    }

    /// Whether this is new.
    fn note_told(&self, what: &str, error: Option<&EngineError>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(line(what, error))
    }
}

/// Where something of a component is shown.
pub(crate) fn shown_at(component: &Component, path: &[u8]) -> String {
    if path.is_empty() { component.place() } else { format!("{}/{}", component.place(), escaped(path)) }
}

fn line(what: &str, error: Option<&EngineError>) -> String {
    format!("{what}: {}", error.map(ToString::to_string).unwrap_or_default())
}
