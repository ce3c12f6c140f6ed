//! The rules of the protocol that can be left out, each to show that it is needed.
//!
//! Invariant: without anything left out this is the protocol as `docs/FORMAT.md` says it, section 11.
//! Never here: what a rule does. The steps ask [`Rules::keep`].

/// A rule, named after what it demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// W1 before W2: the writer announces itself before it lists what is condemned.
    AnnounceFirst,
    /// W2: `seen` is the set of lists read, and not the highest of their numbers.
    SetOfLists,
    /// W2 before W3: condemned lists are read before it is looked at which packs there are.
    CondemnedBeforePacks,
    /// W3: a pack counts only if it exists.
    PacksExist,
    /// W3: a parent's content is looked up below what its entry names while there is a condemned list.
    ParentLookedUp,
    /// W3: the parent was listed after the condemned lists were.
    ParentListedAfterSeen,
    /// W4: a pack's name is put by one request; one that got no answer is put again under a new name.
    OneRequestPerPack,
    /// W5: a writer commits only by creating the object by which it can be declared dead.
    WriterRacesToCommit,
    /// C3: a writer whose lease is over is declared dead, and not just passed over.
    CollectorDeclaresDead,
    /// W6 and W7: a record stays while a commit may yet land.
    UnclearRecordStays,
    /// C7: nobody but its writer removes a tombstone.
    TombstoneStays,
    /// C2: what is condemned is condemned for ever.
    CondemnedForEver,
    /// C3: writers are listed after the list was created.
    WritersListedAfterList,
    /// C3: somebody looks at writers at all, and not only at the age of packs.
    WritersAreAsked,
    /// C4: there is a second mark.
    SecondMark,
    /// C4: the second mark begins after the last writer was settled.
    MarkAfterSettled,
    /// C4: copies in condemned packs do not count.
    CondemnedCopiesDoNotCount,
    /// C4: condemned lists are read before index and packs.
    CondemnedBeforeCopies,
    /// C4: a copy counts only if its pack was listed.
    CopiesAreListed,
    /// C4: what a condemned pack holds is read from its own trailer.
    TrailersSay,
    /// C6: only segments are deleted that were read and merged.
    OnlyMergedSegmentsGo,
    /// C6: the list is removed after its packs.
    ListGoesLast,
    /// Forgetting: what hides a snapshot goes after the snapshot.
    HiddenUntilGone,
    /// Forgetting: a snapshot stays while its writer's record is there.
    ForgottenWaitsForRecord,
    /// Listing: what hides snapshots is read before snapshots.
    ForgottenReadFirst,
}

/// The rules, without those that were left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    left_out: u32,
}

impl Rules {
    /// The protocol as it is written.
    pub const WRITTEN: Self = Self { left_out: 0 };

    /// The same without `rule`.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        Self { left_out: self.left_out | 1 << rule as u32 }
    }

    /// Whether `rule` is followed.
    #[must_use]
    pub const fn keep(self, rule: Rule) -> bool {
        self.left_out & 1 << rule as u32 == 0
    }
}
