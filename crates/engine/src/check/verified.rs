//! What was verified when: read from `checks/`, and written there after data was read.
//!
//! ```text
//! checks/<id> ─► when each pack was verified ─ this check ─► one new record ─► those that it holds are deleted
//! ```
//!
//! Only the owner's records count as opened, for no other role that may write them opens content; only the owner replaces
//! them. So there are few records whatever number of machines check at once.
//!
//! Invariant: a record is a hint. It counts as of no later than the store took it, so that it never spares a pack being
//! read for longer than the age that was asked for; one that is damaged counts as not there, and is told.
//! Invariant: no failure to remember ends a check.
//! Never here: which packs are read (see `choose`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use pack::{Frame, PackError, Role, Verified, VerifiedId, VerifiedRun, names};
use seal::ObjectKind;
use store::ObjectInfo;

use super::READS_MAX;
use super::choose::{NEVER, Sound};
use super::packs::Packs;
use super::report::CheckReport;
use crate::EngineError;
use crate::keyring::Writes;
use crate::objects::{create, random};
use crate::repository::{Repository, list, read_record, visit_all};

/// Records read at once, the newest first: as many machines may check at the same time without waiting for another.
const RECORDS_MAX: usize = 64;
/// Packs in a record, twice if they were opened and hashed at different times: 16 bytes each.
const PACKS_MAX: usize = 3 << 20;

/// Damaged packs in a record.
const DAMAGED_MAX: usize = 64 << 10;

/// What came of reading a record: what it says, and whether the owner signed it.
type Read = Result<Option<(Verified, bool)>, PackError>;

impl Repository {
    /// Takes in what earlier checks wrote down. Gives the records that one of ours may stand in for.
    pub(super) async fn recall(&self, packs: &mut Packs, report: &mut CheckReport) -> Result<Vec<String>, EngineError> {
        let mut listed = list(&self.store, names::CHECKS).await?;
        listed.sort_by_key(|info| Reverse(info.modified_at));
        listed.truncate(RECORDS_MAX);
        let is_owner = self.keyring.role() == Role::Owner;
        let mut replaceable = Vec::new();
        let visit = |info: ObjectInfo, read: Read| {
            match read {
                Ok(Some((record, is_owners))) => {
                    packs.learn(&record, is_owners, info.modified_at.as_nanos());
                    replaceable.extend((is_owner || !is_owners).then_some(info.name));
                }
                Ok(None) => {}
                // Of a newer version, or of an epoch that this key does not know.
                Err(error) if error.kind() == seal::ErrorKind::Invalid => {}
                Err(error) => {
                    report.warn(format!("{} {error}: what it says of earlier checks is not used", info.name));
                    replaceable.extend(is_owner.then_some(info.name));
                }
            }
            Ok(())
        };
        let read = |info| async move { self.read_verified(&info).await.map(|found| (info, found)) };
        visit_all(listed, read, visit).await?;
        Ok(replaceable)
    }

    /// The first halves of the ids of packs that checks found damaged, as far as they wrote it down.
    pub(crate) async fn known_damaged(&self) -> Result<HashSet<[u8; 16]>, EngineError> {
        let mut known = HashSet::new();
        let visit = |_: ObjectInfo, read: Read| {
            known.extend(read.ok().flatten().into_iter().flat_map(|(record, _)| record.damaged));
            Ok(())
        };
        let listed = list(&self.store, names::CHECKS).await?;
        let read = |info| async move { self.read_verified(&info).await.map(|found| (info, found)) };
        visit_all(listed, read, visit).await?;
        Ok(known)
    }

    /// Reads a record, once more if it is not right; none if it is gone.
    async fn read_verified(&self, info: &ObjectInfo) -> Result<Option<Read>, EngineError> {
        let mut result = None;
        for _ in 0..READS_MAX {
            let Some(bytes) = read_record(&self.store, info).await? else { return Ok(None) };
            let (keyring, info) = (self.keyring.clone(), info.clone());
            let open = move || bytes.and_then(|bytes| open_verified(&keyring, &info, &bytes));
            let read = self.offload.start(open).await?;
            let is_right = read.is_ok();
            result = Some(read);
            if is_right {
                break;
            }
        }
        Ok(result)
    }

    /// Writes down what is known now, this check's part included; a failure is told and ends nothing.
    pub(super) async fn remember_verified(&self, packs: &mut Packs, report: &mut CheckReport) {
        if let Err(error) = self.try_remember(packs, report).await {
            report
                .warn(format!("what was verified could not be written down, so a later check reads it again: {error}"));
        }
    }

    async fn try_remember(&self, packs: &mut Packs, report: &mut CheckReport) -> Result<(), EngineError> {
        const MAY: &[Role] = &[Role::Owner, Role::Writer, Role::Maintenance];
        self.keyring.require(MAY, "write down what it verified")?;
        let replaced = self.recall(packs, report).await?;
        let record = Verified {
            record: VerifiedId(random(&self.env)),
            runs: packs.runs(),
            damaged: packs.known_damaged.iter().take(DAMAGED_MAX).copied().collect(),
            extension: Vec::new(),
        };
        let name = names::verified(&record.record);
        let bytes = self
            .seal(&name, |key, epoch, salt, signer, repository| record.encode(key, epoch, salt, signer, repository))?;
        create(&*self.store, &name, bytes).await?;
        for name in replaced {
            // Whoever may not delete leaves some more records behind; another check takes them away.
            if let Err(error) = self.store.delete(&name).await {
                tracing::info!("{name} stays, though another record holds what it says: {error}");
            }
        }
        Ok(())
    }
}

/// Opens a record; none if its signer may not write such, or was removed before.
fn open_verified(keyring: &crate::Keyring, info: &ObjectInfo, bytes: &[u8]) -> Read {
    let frame = Frame::decode(bytes, ObjectKind::Verified, keyring.repository)?;
    let record = Verified::open(&frame, |epoch| keyring.index_key_of(epoch), keyring.repository)?;
    if info.name != names::verified(&record.record) {
        return Err(PackError::Inconsistent { what: "a record of checks lies under the name of another" });
    }
    let is_believed = keyring.believes(&frame, Writes::Index, info.modified_at);
    let is_owners = frame.role(keyring.secrets.owner, keyring.repository) == Some(Role::Owner);
    Ok(is_believed.then_some((record, is_owners)))
}

impl Packs {
    /// Takes in a record that the store took at `stored_at`. What this check found wrong stays so.
    fn learn(&mut self, record: &Verified, is_owners: bool, stored_at: i64) {
        let new = record.damaged.iter().filter(|half| !self.found_right.contains(*half));
        self.known_damaged.extend(new.take(DAMAGED_MAX));
        for run in &record.runs {
            let (at, is_opened) = (run.at.min(stored_at), run.is_opened && is_owners);
            for half in &run.packs {
                let found = self.sound.binary_search_by_key(half, |pack| pack.half);
                let known = found.ok().and_then(|at| self.sound.get_mut(at));
                if let Some(pack) = known.filter(|pack| !self.flaws.contains_key(&pack.number)) {
                    pack.verify(at, is_opened);
                }
            }
        }
    }

    /// What is known, as a record says it.
    fn runs(&self) -> Vec<VerifiedRun> {
        let mut by_time: BTreeMap<(Reverse<i64>, bool), Vec<[u8; 16]>> = BTreeMap::new();
        let mut add =
            |pack: &Sound, at, is_opened| by_time.entry((Reverse(at), is_opened)).or_default().push(pack.half);
        for pack in &self.sound {
            if pack.opened_at > NEVER {
                add(pack, pack.opened_at, true);
            }
            if pack.read_at > pack.opened_at {
                add(pack, pack.read_at, false);
            }
        }
        let mut room = PACKS_MAX;
        let fits = by_time.into_iter().map(|((Reverse(at), is_opened), mut packs)| {
            packs.truncate(room);
            room -= packs.len();
            VerifiedRun { at, is_opened, packs }
        });
        fits.filter(|run| !run.packs.is_empty()).collect()
    }
}
