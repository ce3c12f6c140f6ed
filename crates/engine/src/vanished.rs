//! Snapshots that this host saw and that are gone.
//!
//! Cryptography cannot show that a store hides whole objects; memory can. This host remembers each snapshot that it
//! committed or listed, by the bytes of its object:
//!
//! ```text
//! seen ── a believed `forgotten` record ─► may go: no longer remembered
//!      ── a tombstone, its writer's to remove ─► may go
//!      ── neither, and twice not listed ─► told by every operation that lists, until the cache is cleared
//! ```
//!
//! Snapshots that are held and gone are missed by everybody, also without a memory.
//!
//! Invariant: this hides nothing, and fails nothing but a prune: what is left is still to be restored.
//! Never here: damage; a snapshot that is there and does not open is told by `snapshots`.

use std::collections::HashSet;

use futures::TryStreamExt;
use pack::{Frame, Snapshot, SnapshotId, names};
use seal::ObjectKind;

use crate::EngineError;
use crate::repository::Repository;
use crate::snapshots::Hidden;

/// Vanished snapshots that a warning names.
const NAMED_MAX: usize = 10;

impl Repository {
    /// Warns of the snapshots that this host saw, that are not among `listed`, and that no `hidden` record lets go.
    ///
    /// One LIST of snapshots and a look at what hides them more, if any is gone; else none.
    pub(crate) async fn warn_of_vanished(&self, listed: &HashSet<&str>, hidden: &Hidden) -> Result<(), EngineError> {
        let cache = self.cache.now();
        let seen = self.offload.start(move || cache.note_names(&format!("{}/", names::SNAPSHOTS))).await?;
        let (may_go, seen): (Vec<_>, Vec<_>) = self
            .cache
            .allow(seen)
            .unwrap_or_default()
            .into_iter()
            .partition(|name| hidden.contains_key(names::last(name)));
        may_go.iter().for_each(|name| self.let_go(name));
        let gone = seen.into_iter().filter(|name| !listed.contains(name.as_str()));
        let gone: Vec<_> = gone.filter(|name| !self.was_tombstone(name)).collect();
        if gone.is_empty() { Ok(()) } else { self.tell_vanished(gone).await }
    }

    /// Looks once more, in the order in which a prune would remove them, and tells.
    async fn tell_vanished(&self, gone: Vec<String>) -> Result<(), EngineError> {
        let hidden = self.read_forgotten().await?;
        let listed = self.store.list(names::SNAPSHOTS).map_ok(|info| info.name);
        let listed: HashSet<String> = listed.try_collect().await?;
        let is_gone = |name: &&String| !listed.contains(*name) && !hidden.contains_key(names::last(name));
        let gone: Vec<&String> = gone.iter().filter(is_gone).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.cache.note_vanished();
        let mut named: Vec<_> = gone.iter().take(NAMED_MAX).map(|name| self.described(name)).collect();
        if gone.len() > NAMED_MAX {
            named.push(format!("and {} more", gone.len() - NAMED_MAX));
        }
        let (subject, they) = if gone.len() == 1 { ("a snapshot", "it was") } else { ("snapshots", "they were") };
        self.cache.warn(format!(
            "{subject} that this host has seen vanished from {}, and nothing there says that {they} forgotten: {}; \
             find out who removed what, or clear this host's cache to have it forget them",
            self.store.describe(),
            named.join(", ")
        ));
        Ok(())
    }

    /// Snapshots that are held, that are not there, and of which nothing says that they were forgotten. One LIST, and where something is held
    /// two more.
    pub(crate) async fn held_and_gone(&self) -> Result<Vec<SnapshotId>, EngineError> {
        let holds = self.read_holds().await?;
        let mut gone: Vec<SnapshotId> = holds.snapshots().collect();
        if gone.is_empty() {
            return Ok(gone);
        }
        let listed = self.store.list(names::SNAPSHOTS).map_ok(|info| info.name);
        let listed: HashSet<String> = listed.try_collect().await?;
        gone.retain(|id| !listed.contains(&names::snapshot(id)));
        if gone.is_empty() {
            return Ok(gone);
        }
        // What hides a snapshot goes after what held it: a prune that removed both meanwhile has left no hold.
        let (hidden, holds) = (self.read_forgotten().await?, self.read_holds().await?);
        let held: HashSet<SnapshotId> = holds.snapshots().collect();
        gone.retain(|id| held.contains(id) && !hidden.contains_key(&id.to_string()));
        Ok(gone)
    }

    /// Fails if snapshots are gone that are held, or that this host has seen, and nobody forgot them.
    ///
    /// Call it after snapshots were read.
    pub(crate) async fn assert_none_vanished(&self) -> Result<(), EngineError> {
        let held = self.held_and_gone().await?;
        if !held.is_empty() {
            let named: Vec<String> = held.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            let what =
                format!("{} held and gone from {}: {}", counted(held.len()), self.store.describe(), named.join(", "));
            return Err(EngineError::SnapshotsGone { what });
        }
        if self.cache.has_seen_vanish() {
            let what = format!("snapshots that this host has seen vanished from {}", self.store.describe());
            return Err(EngineError::SnapshotsGone { what });
        }
        Ok(())
    }

    /// `<id> (<source> of <host>)`, as far as it is known.
    fn described(&self, name: &str) -> String {
        let id = names::last(name);
        match self.seen_snapshot(name) {
            Some(snapshot) => format!("{id} ({} of {})", snapshot.structure.source, snapshot.structure.host),
            None => id.to_owned(),
        }
    }

    /// What this host saw under `name`.
    fn seen_snapshot(&self, name: &str) -> Option<Snapshot> {
        let (bytes, repository) = (self.cache.note(name)?, self.config.repository);
        let frame = Frame::decode(&bytes, ObjectKind::SnapshotStructure, repository).ok()?;
        let keys = |epoch| Some((self.keyring.index_key_of(epoch)?, None));
        Snapshot::open(&frame, SnapshotId::from_hex(names::last(name))?, keys, repository).ok()
    }

    /// Whether this host saw a tombstone there: a writer removes its own.
    fn was_tombstone(&self, name: &str) -> bool {
        let note = self.cache.note(name).unwrap_or_default();
        let is_tombstone = Frame::decode(&note, ObjectKind::Dead, self.config.repository).is_ok();
        if is_tombstone {
            self.let_go(name);
        }
        is_tombstone
    }

    fn let_go(&self, name: &str) {
        self.cache.allow(self.cache.now().drop_note(name));
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "1 snapshot is".to_owned() } else { format!("{count} snapshots are") }
}
