//! What a check found.
//!
//! Invariant: an object stands in the report once, however often something needs it.
//! Invariant: what could not be told is never counted as whole, nor as damage.
//! Never here: finding it.

/// Messages about what could not be told; more are only counted.
const UNCLEAR_MAX: usize = 100;

/// An object, and what is wrong with it.
pub(super) type Wrong = (String, String);

/// Something that is not as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots and paths that need it: the first hundred.
    pub affects: Vec<String>,
    /// All of these.
    pub affects_count: u64,
    /// The snapshots among them, or that they are in.
    pub snapshot_count: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Packs that the index names.
    pub packs: u64,
    /// Packs that no segment names.
    pub stray_packs: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Pages walked and chunks looked up.
    pub chunks: u64,
    /// Bytes of packs read.
    pub read_len: u64,
    /// Data was read, but only compared with its hashes: this key opens no content.
    pub is_content_sealed: bool,
    /// What is wrong.
    pub damages: Vec<Damage>,
    /// What is odd and harms nothing.
    pub warnings: Vec<String>,
    /// Packs that are damaged and that no snapshot needs: each is one of the warnings.
    pub unneeded_count: u64,
    /// When the data was verified, by this check or earlier ones; only if data was read.
    pub ages: Option<Ages>,
    /// What could not be told, because the store failed: the first hundred.
    pub unclear: Vec<String>,
    /// All that could not be told.
    pub unclear_count: u64,
    /// Pages could not be read, and with them what they say is needed.
    pub(super) misses_pages: bool,
}

/// When the data that there is was verified: as far as this key verifies, by what earlier checks wrote down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ages {
    /// Bytes of packs that can be had.
    pub packs_len: u64,
    /// Those verified within the age that was asked for; without one, those that were verified at all.
    pub within_len: u64,
    /// Those of which nobody wrote down that they were verified.
    pub never_len: u64,
    /// When the others were verified that were verified longest ago: nanoseconds since 1970.
    pub oldest_at: Option<i64>,
    /// Packs that were to be read, and for which there was no time.
    pub left_count: u64,
    /// Their bytes.
    pub left_len: u64,
}

/// What one damage breaks.
#[derive(Default)]
pub(super) struct Breaks {
    pub(super) affects: Vec<String>,
    pub(super) affects_count: u64,
    pub(super) snapshot_count: u64,
}

impl CheckReport {
    /// Nothing is wrong, as far as was looked, and nothing was unclear.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty() && self.unclear_count == 0
    }

    pub(super) fn damage(&mut self, object: &str, what: &str) {
        self.damages.push(Damage { object: object.to_owned(), what: what.to_owned(), ..Damage::default() });
    }

    /// Notes what snapshots miss because of `wrong`. A damaged segment was noted when it was read; now its consequences
    /// are known.
    pub(super) fn affects(&mut self, (object, what): Wrong, breaks: Breaks) {
        let Breaks { affects, affects_count, snapshot_count } = breaks;
        let known = self.damages.iter_mut().find(|damage| damage.object == object && damage.what == what);
        match known {
            Some(damage) => *damage = Damage { object, what, affects, affects_count, snapshot_count },
            None => self.damages.push(Damage { object, what, affects, affects_count, snapshot_count }),
        }
    }

    /// Whether every snapshot and all that it reaches was looked at, so that what nothing was seen to need is needed by
    /// nothing.
    pub(super) fn has_seen_all_needs(&self) -> bool {
        let hides = |damage: &Damage| damage.object.starts_with("snapshots/");
        self.unclear_count == 0 && !self.misses_pages && !self.damages.iter().any(hides)
    }

    /// Notes what is odd, once.
    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn unclear(&mut self, what: impl ToString) {
        self.unclear_count += 1;
        if self.unclear.len() < UNCLEAR_MAX {
            self.unclear.push(what.to_string());
        }
    }
}
