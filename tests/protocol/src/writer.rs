//! A backup, W1 to W7.
//!
//! ```text
//! announce ─► condemned/ ─► seen ─► parent ─► index/ ─► packs/ ─► put pack ─► put segment ─► commit ─► withdraw
//!                                                                                        ⇅        └► dead: withdraw, tombstone
//!                                                                                     read back
//! ```
//!
//! A renewal of the lease is no step: it changes nothing that others decide by, since leases are over at any time here.
//!
//! Invariant: one writer puts one pack with all that it found missing, and one segment that names it.
//! Never here: what a collector knows.

use crate::model::{Model, Sent, Step, Who};
use crate::request::Request;
use crate::rule::Rule;
use crate::setup::Want;
use crate::state::{State, Verdict, Writer, WriterAt};

/// The slots of what writer `number` puts.
const fn own_pack(number: usize) -> u8 {
    2 + number as u8
}
const fn own_segment(number: usize) -> u8 {
    1 + number as u8
}

impl Model {
    /// The steps of writer `number`.
    pub(crate) fn writer(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        match state.writers[number].at {
            WriterAt::Announce => self.announce(state, number, steps),
            WriterAt::ListCondemned | WriterAt::ReadCondemned => self.see(state, number, steps),
            WriterAt::WriteSeen => self.write_seen(state, number, steps),
            WriterAt::LookAtJournal => self.look_at_journal(state, number, steps),
            WriterAt::PutJournalSegment => self.put_journal_segment(state, number, steps),
            WriterAt::ListParent | WriterAt::ListParentAgain => self.list_parent(state, number, steps),
            WriterAt::ListSegments | WriterAt::ReadSegments => self.look_at_index(state, number, steps),
            WriterAt::ListPacks => self.look_at_packs(state, number, steps),
            WriterAt::PutPack | WriterAt::PutSegment => self.put(state, number, steps),
            WriterAt::Commit => self.commit(state, number, steps),
            WriterAt::ReadBack => self.read_back(state, number, steps),
            WriterAt::Withdraw | WriterAt::WithdrawDead => self.withdraw(state, number, steps),
            WriterAt::RemoveTombstone => self.remove_tombstone(state, number, steps),
            WriterAt::Done => {}
        }
    }

    /// What comes after the record of what was seen: the order of W1 and W2, unless a rule is left out.
    fn after(&self, number: usize, at: WriterAt) -> WriterAt {
        let has_parent = self.setup.wants[number].has_parent;
        let parent_first = has_parent && !self.keep(Rule::ParentListedAfterSeen);
        let packs_first = !self.keep(Rule::CondemnedBeforePacks);
        match at {
            WriterAt::Announce if !self.keep(Rule::AnnounceFirst) => WriterAt::WriteSeen,
            WriterAt::ReadCondemned if !self.keep(Rule::AnnounceFirst) => WriterAt::Announce,
            WriterAt::Announce if parent_first => WriterAt::ListParent,
            WriterAt::ListParent if parent_first => WriterAt::ListCondemned,
            WriterAt::Announce if packs_first => WriterAt::ListSegments,
            WriterAt::WriteSeen if packs_first => WriterAt::PutPack,
            WriterAt::Announce => WriterAt::ListCondemned,
            WriterAt::ReadCondemned => WriterAt::WriteSeen,
            WriterAt::WriteSeen if has_parent && !parent_first => WriterAt::ListParent,
            WriterAt::WriteSeen if self.setup.wants[number].has_journal => WriterAt::LookAtJournal,
            WriterAt::WriteSeen | WriterAt::ListParent => WriterAt::ListSegments,
            WriterAt::ListPacks if packs_first => WriterAt::ListCondemned,
            other => other,
        }
    }

    /// W1.
    fn announce(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let lists_first = !self.keep(Rule::AnnounceFirst) && state.writers[number].page == 0;
        if lists_first {
            let mut next = *state;
            next.writers[number] = Writer { at: WriterAt::ListCondemned, page: 0, ..state.writers[number] };
            return self.see(&next, number, steps);
        }
        let mut answered = *state;
        answered.writers[number].at = self.after(number, WriterAt::Announce);
        answered.writers[number].page = 0;
        let sent = Sent { request: Request::Announce(number as u8), answered, unanswered: *state };
        self.send(steps, Who::Writer(number), "announces itself", sent);
    }

    /// W2: LIST and GET `condemned/`.
    fn see(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let writer = &mut next.writers[number];
        let what = if writer.at == WriterAt::ListCondemned {
            let page = self.page(writer.page);
            writer.lists |= state.listed & page.mask as u8;
            writer.page = u8::from(!page.is_last);
            if !page.is_last {
                "lists condemned/, one page"
            } else if self.setup.is_fine {
                writer.at = WriterAt::ReadCondemned;
                "lists condemned/, the last page"
            } else {
                self.read_condemned(state, number, writer);
                "lists and reads condemned/"
            }
        } else {
            self.read_condemned(state, number, writer);
            "reads the condemned lists"
        };
        steps.push(Step::new(Who::Writer(number), what, next));
    }

    /// A list that is gone when it is read has done its work, and was not read.
    fn read_condemned(&self, state: &State, number: usize, writer: &mut Writer) {
        writer.lists &= state.listed;
        writer.condemned = state.condemned_by(writer.lists);
        writer.at = self.after(number, WriterAt::ReadCondemned);
        if !self.keep(Rule::AnnounceFirst) {
            writer.page = 1; // it has read, and announces itself now
        }
        if !self.keep(Rule::CondemnedBeforePacks) {
            let usable = writer.offered & !writer.condemned;
            writer.missing = self.setup.wants[number].chunks & !state.told_chunks(usable);
            writer.offered = 0;
        }
    }

    /// W2: the set of lists read.
    fn write_seen(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        let writer = &mut answered.writers[number];
        let seen = match self.keep(Rule::SetOfLists) {
            true => writer.lists,
            false => u8::MAX.checked_shr(writer.lists.leading_zeros()).unwrap_or(0), // all up to the highest
        };
        writer.at = self.after(number, WriterAt::WriteSeen);
        if writer.at == WriterAt::PutPack {
            writer.at = if writer.missing == 0 { WriterAt::Commit } else { WriterAt::PutPack };
        }
        if !self.setup.wants[number].has_parent {
            writer.lists = 0;
        }
        let sent = Sent { request: Request::Seen(number as u8, seen), answered, unanswered: *state };
        self.send(steps, Who::Writer(number), "writes down what it has seen", sent);
    }

    /// A pack that the other writer uploaded, and that was written down on the host, is offered if it is there and in no
    /// list that was read.
    fn look_at_journal(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let writer = &mut next.writers[number];
        let pack = 1 << own_pack(1 - number);
        writer.at = match state.packs & !writer.condemned & pack {
            0 => WriterAt::ListSegments,
            _ => WriterAt::PutJournalSegment,
        };
        steps.push(Step::new(Who::Writer(number), "looks for the pack in its journal", next));
    }

    fn put_journal_segment(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        answered.writers[number].at = WriterAt::ListSegments;
        let pack = 1 << own_pack(1 - number);
        match state.free_segment() {
            Some(segment) => {
                let sent = Sent { request: Request::Segment(segment, pack), answered, unanswered: *state };
                self.send(steps, Who::Writer(number), "puts a segment that names it", sent);
            }
            None => steps.push(Step::new(Who::Writer(number), "has no slot left for a segment", answered)),
        }
    }

    /// The parent is taken only if it is to be seen: nothing hides it, and it is there.
    fn list_parent(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let writer = &mut next.writers[number];
        let forgotten_first = self.keep(Rule::ForgottenReadFirst);
        let is_first = writer.at == WriterAt::ListParent;
        let (is_shown, is_there) = (!state.is_hidden(0), state.is_commit(0));
        let what = if !self.setup.is_fine && forgotten_first {
            writer.sees_parent = is_shown && is_there;
            writer.at = self.after(number, WriterAt::ListParent);
            "looks for its parent"
        } else if is_first {
            writer.sees_parent = if forgotten_first { is_shown } else { is_there };
            writer.at = WriterAt::ListParentAgain;
            if forgotten_first { "lists forgotten/" } else { "lists snapshots/ for its parent" }
        } else {
            writer.sees_parent &= if forgotten_first { is_there } else { is_shown };
            writer.at = self.after(number, WriterAt::ListParent);
            if forgotten_first { "lists snapshots/ for its parent" } else { "lists forgotten/" }
        };
        steps.push(Step::new(Who::Writer(number), what, next));
    }

    /// W3: LIST and GET `index/`.
    fn look_at_index(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let writer = &mut next.writers[number];
        let what = if writer.at == WriterAt::ListSegments {
            let page = self.page(writer.page);
            writer.segments |= state.segments_here() & page.mask;
            writer.page = u8::from(!page.is_last);
            if !page.is_last {
                "lists index/, one page"
            } else if self.setup.is_fine {
                writer.at = WriterAt::ReadSegments;
                "lists index/, the last page"
            } else {
                read_segments(state, writer);
                "lists and reads index/"
            }
        } else {
            read_segments(state, writer);
            "reads the segments"
        };
        steps.push(Step::new(Who::Writer(number), what, next));
    }

    /// W3: LIST `packs/`; then it is known what is to be uploaded.
    fn look_at_packs(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let writer = &mut next.writers[number];
        let page = self.page(writer.page);
        let there = if self.keep(Rule::PacksExist) { state.packs } else { u8::MAX };
        let gone = page.mask as u8 & !there;
        writer.offered &= !(gone | writer.condemned);
        writer.page = u8::from(!page.is_last);
        if !page.is_last {
            steps.push(Step::new(Who::Writer(number), "lists packs/, one page", next));
            return;
        }
        let want = self.setup.wants[number];
        let found = state.told_chunks(writer.offered) | reused(self, want, *writer, state);
        writer.missing = want.chunks & !found;
        writer.at = if writer.missing == 0 { WriterAt::Commit } else { WriterAt::PutPack };
        writer.pack = own_pack(number);
        if self.keep(Rule::CondemnedBeforePacks) {
            (writer.offered, writer.condemned) = (0, 0);
            (writer.lists, writer.sees_parent) = (0, false);
            writer.pack = if writer.missing == 0 { 0 } else { writer.pack };
        } else {
            writer.at = self.after(number, WriterAt::ListPacks);
        }
        let what = if writer.missing == 0 { "lists packs/, finds all" } else { "lists packs/, has to upload" };
        steps.push(Step::new(Who::Writer(number), what, next));
    }

    /// W4.
    fn put(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        let writer = &mut answered.writers[number];
        let mut unanswered = *state;
        let (request, what) = if writer.at == WriterAt::PutPack {
            writer.at = WriterAt::PutSegment;
            if self.keep(Rule::OneRequestPerPack) {
                match state.free_pack() {
                    Some(pack) => unanswered.writers[number].pack = pack,
                    None => unanswered.writers[number].at = WriterAt::Done, // as if it had crashed
                }
            }
            (Request::Pack(writer.pack, writer.missing), "puts its pack")
        } else {
            writer.at = WriterAt::Commit;
            let pack = std::mem::take(&mut writer.pack);
            writer.missing = 0;
            (Request::Segment(own_segment(number), 1 << pack), "puts its segment")
        };
        self.send(steps, Who::Writer(number), what, Sent { request, answered, unanswered });
    }

    /// W5, and what the answer says.
    fn commit(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let (who, snapshot) = (Who::Writer(number), number + 1);
        if !self.keep(Rule::WriterRacesToCommit) {
            let mut next = *state;
            next.snapshots[snapshot] = Verdict::Commit;
            settle(&mut next, number, Verdict::Commit);
            steps.push(Step::new(who, "puts its snapshot, whatever is there", next));
            return;
        }
        let mut answered = *state;
        let there = match state.snapshots[snapshot] {
            Verdict::Absent => Verdict::Commit,
            there => there,
        };
        settle(&mut answered, number, there);
        let mut unanswered = *state;
        unanswered.writers[number].at = WriterAt::ReadBack;
        unanswered.writers[number].is_unclear = true;
        let what = if there == Verdict::Dead { "finds itself dead" } else { "creates its commit" };
        let sent = Sent { request: Request::Commit(number as u8), answered, unanswered };
        self.send(steps, who, what, sent);
    }

    fn read_back(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        settle(&mut next, number, state.snapshots[number + 1]);
        steps.push(Step::new(Who::Writer(number), "reads what is in its commit's place", next));
    }

    /// W6, and the first half of W7.
    fn withdraw(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        let writer = &mut answered.writers[number];
        let stays = writer.is_unclear && self.keep(Rule::UnclearRecordStays);
        let is_dead = writer.at == WriterAt::WithdrawDead;
        *writer = Writer { at: WriterAt::Done, ..Writer::default() };
        if stays {
            steps.push(Step::new(Who::Writer(number), "leaves its record, since its commit may yet land", answered));
            return;
        }
        if is_dead {
            answered.writers[number].at = WriterAt::RemoveTombstone;
        }
        let sent = Sent { request: Request::DropRecord(number as u8), answered, unanswered: *state };
        self.send(steps, Who::Writer(number), "removes its record", sent);
    }

    /// The second half of W7.
    fn remove_tombstone(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        answered.writers[number].at = WriterAt::Done;
        match state.snapshots[number + 1] {
            Verdict::Dead => {
                let request = Request::DropSnapshot(number as u8 + 1);
                let sent = Sent { request, answered, unanswered: *state };
                self.send(steps, Who::Writer(number), "removes its tombstone", sent);
            }
            _ => steps.push(Step::new(Who::Writer(number), "finds no tombstone", answered)),
        }
    }
}

/// Reads the segments that were listed. One that is gone costs deduplication only.
fn read_segments(state: &State, writer: &mut Writer) {
    writer.offered = state.named_by(writer.segments);
    writer.segments = 0;
    writer.at = WriterAt::ListPacks;
}

/// What is reused of the parent without a look: all that lies below the page, if the page is there and no list was read.
fn reused(model: &Model, want: Want, writer: Writer, state: &State) -> u8 {
    let page_is_there = state.told_chunks(writer.offered) & Want::PAGE != 0;
    let may_skip = writer.lists == 0 || !model.keep(Rule::ParentLookedUp);
    if want.has_parent && writer.sees_parent && page_is_there && may_skip { model.chunks_of(0) } else { 0 }
}

/// What follows from what is under `snapshots/<id>`.
fn settle(state: &mut State, number: usize, there: Verdict) {
    let writer = &mut state.writers[number];
    match there {
        Verdict::Absent => writer.at = WriterAt::Commit,
        Verdict::Dead => writer.at = WriterAt::WithdrawDead,
        Verdict::Commit => {
            writer.at = WriterAt::Withdraw;
            state.history.reported |= 2 << number;
        }
    }
}
