//! Reading packs whole: every byte hashed, and where the key can, every blob opened and every chunk named again.
//!
//! Invariant: a pack that is read counts as verified only if all of it was right.
//! Never here: which packs are read (see `choose`), what a damaged pack breaks.

use std::sync::Arc;

use futures::StreamExt;
use pack::{PackError, PackId, names};
use store::index_cache::{IndexCache, PackInfo, PackNo};
use store::{StoreError, Timestamp};
use tokio_util::sync::CancellationToken;

use super::choose::Sound;
use super::packs::{Flaw, Packs};
use super::report::{Ages, CheckReport};
use super::{READS_MAX, detail};
use crate::fetch::{Fetcher, open_blob};
use crate::repository::Repository;
use crate::trailers::is_as_cached;
use crate::{EngineError, Kind, Progress};

/// Packs read at once.
const PACKS_AT_ONCE: usize = 3;

/// What is read, and until when.
pub(super) struct Plan {
    /// Positions among the sound packs, in order.
    pub(super) chosen: Vec<usize>,
    /// No further pack is begun from then on, but the first.
    pub(super) until: Option<Timestamp>,
    /// When the check began, by this host's clock.
    pub(super) started_at: i64,
}

impl Repository {
    /// Reads what was planned, and notes the packs that are damaged and those that are right.
    pub(super) async fn read_packs(
        &self,
        fetcher: &Fetcher,
        plan: &Plan,
        packs: &mut Packs,
        progress: &Progress,
        cancel: &CancellationToken,
        report: &mut CheckReport,
    ) -> Result<(), EngineError> {
        let is_opened = self.keyring.opens_content();
        let chosen = plan.chosen.iter().filter_map(|at| Some((*at, *packs.sound.get(*at)?)));
        let chosen: Vec<(usize, Sound)> = chosen.collect();
        packs.chosen.extend(chosen.iter().map(|(_, pack)| pack.number));
        let total_len = chosen.iter().map(|(_, pack)| pack.len).sum();
        progress.set_totals(chosen.len() as u64, total_len);
        let mut left = Ages { left_count: chosen.len() as u64, left_len: total_len, ..Ages::default() };
        let mut is_first = true;
        let in_time = |_: &(usize, Sound)| {
            let is_over = plan.until.is_some_and(|until| self.env.now() >= until);
            std::future::ready(std::mem::take(&mut is_first) || !is_over)
        };
        let mut reads = futures::stream::iter(chosen)
            .take_while(in_time)
            .map(|(at, pack)| async move { (self.read_pack(fetcher, pack.number).await, at, pack) })
            .buffer_unordered(PACKS_AT_ONCE);
        while let Some((read, at, pack)) = reads.next().await {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            progress.add_entries(1);
            progress.add_len(pack.len);
            report.read_len += pack.len;
            (left.left_count, left.left_len) = (left.left_count - 1, left.left_len - pack.len);
            let flaw = match read {
                Ok(true) => None,
                Ok(false) => Some(Flaw::Table),
                Err(EngineError::Store(StoreError::NotFound { .. })) => {
                    packs.flaws.insert(pack.number, Flaw::Missing);
                    continue;
                }
                Err(error) if error.kind() == Kind::Damaged => Some(Flaw::Content(detail(&error))),
                Err(error) => {
                    report.unclear(error);
                    continue;
                }
            };
            let Some(sound) = packs.sound.get_mut(at) else { continue };
            match flaw {
                None => {
                    sound.verify(plan.started_at, is_opened);
                    packs.read.insert(pack.number);
                    packs.known_damaged.remove(&pack.half);
                    packs.found_right.insert(pack.half);
                }
                Some(flaw) => {
                    sound.forget();
                    packs.known_damaged.insert(pack.half);
                    packs.flaws.insert(pack.number, flaw);
                }
            }
        }
        report.ages = Some(left);
        Ok(())
    }

    /// Reads a whole pack, once more if something is wrong with it; false if it is whole and the index describes it
    /// otherwise.
    async fn read_pack(&self, fetcher: &Fetcher, number: PackNo) -> Result<bool, EngineError> {
        let info = fetcher.index.pack(number)?;
        let name = names::pack(&info.id);
        let mut result = Ok(true);
        for _ in 0..READS_MAX {
            let bytes = self.store.get(&name).await?;
            let (keyring, namer, info) = (Arc::clone(&fetcher.keyring), fetcher.namer.clone(), Arc::clone(&info));
            let cache = Arc::clone(&fetcher.index.cache);
            let read = move || read_pack(&keyring, namer.as_ref(), &cache, (number, &info), &bytes);
            result = fetcher.offload.start(read).await?;
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// Hashes a pack, opens its trailer and blobs, and names every chunk again, as far as the key can; false if all of that is
/// right and the index describes the pack otherwise. CPU-bound.
fn read_pack(
    keyring: &crate::Keyring,
    namer: Option<&seal::ChunkNamer>,
    cache: &IndexCache,
    (number, info): (PackNo, &PackInfo),
    bytes: &[u8],
) -> Result<bool, EngineError> {
    let object = || EngineError::object(names::pack(&info.id));
    if PackId::of([bytes]) != info.id {
        return Err(object()(PackError::Hash));
    }
    let (rest, mark) = bytes.split_last_chunk::<{ pack::END_MARK_LEN }>().ok_or_else(|| object()(PackError::Hash))?;
    let trailer_len = pack::read_end_mark(mark).map_err(object())? as usize;
    let start = rest.len().checked_sub(trailer_len).ok_or_else(|| object()(PackError::Hash))?;
    let (blobs, sealed) = rest.split_at(start);
    let trailer =
        pack::read_trailer(sealed, |epoch| keyring.index_key_of(epoch), keyring.repository).map_err(object())?;
    if trailer.blobs_len() != blobs.len() as u64 {
        return Err(object()(PackError::Inconsistent { what: "its trailer covers another length" }));
    }
    if !is_as_cached(cache, number, bytes.len() as u64, &trailer)? {
        return Ok(false);
    }
    let Some(namer) = namer.filter(|_| keyring.opens_content()) else { return Ok(true) };
    for (row, blob) in trailer.blobs.iter().enumerate() {
        let end = blob.offset as usize + blob.sealed_len as usize;
        let sealed = blobs.get(blob.offset as usize..end).unwrap_or_default();
        let opened = open_blob(keyring, info, row as u32, sealed)?;
        let mut rest = opened.as_slice();
        for (id, len) in trailer.chunks_of(blob) {
            let (chunk, others) = rest.split_at_checked(*len as usize).unwrap_or((&[], rest));
            if blob.kind.name(namer, chunk) != *id {
                return Err(object()(PackError::Inconsistent { what: "a chunk does not hash to its id" }));
            }
            rest = others;
        }
    }
    Ok(true)
}
