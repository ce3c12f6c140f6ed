//! Reading packs whole: every byte hashed, and where the key can, every blob opened and every chunk named again.
//!
//! Invariant: which packs a part N/T holds depends on their ids alone, so that all T parts are every pack once.
//! Never here: what a damaged pack breaks.

use std::sync::Arc;

use futures::StreamExt;
use pack::{PackError, PackId, names};
use store::index_cache::{IndexCache, PackInfo, PackNo};
use tokio_util::sync::CancellationToken;

use super::packs::{Flaw, Packs};
use super::report::CheckReport;
use super::request::Subset;
use super::{READS_MAX, detail};
use crate::fetch::{Fetcher, open_blob};
use crate::repository::Repository;
use crate::trailers::is_as_cached;
use crate::{EngineError, Kind, Progress};

/// Packs read at once.
const PACKS_AT_ONCE: usize = 3;

/// A pack that is there, named and of the right length.
#[derive(Clone, Copy)]
pub(super) struct Sound {
    pub(super) number: PackNo,
    /// The first bytes of its id, which decide in which part it is.
    part: u32,
    len: u64,
}

impl Sound {
    pub(super) fn new(number: PackNo, info: &PackInfo) -> Self {
        let part = info.id.0.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        Self { number, part, len: info.len }
    }
}

impl Repository {
    /// Reads what was asked for, and notes the packs that are damaged.
    pub(super) async fn read_packs(
        &self,
        fetcher: &Fetcher,
        subset: Subset,
        packs: &mut Packs,
        progress: &Progress,
        cancel: &CancellationToken,
        report: &mut CheckReport,
    ) -> Result<(), EngineError> {
        report.is_content_sealed = !self.keyring.opens_content();
        let chosen = self.choose(subset, &packs.sound);
        progress.set_totals(chosen.len() as u64, chosen.iter().map(|pack| pack.len).sum());
        let mut reads = futures::stream::iter(chosen)
            .map(|pack| async move { (self.read_pack(fetcher, pack.number).await, pack) })
            .buffer_unordered(PACKS_AT_ONCE);
        while let Some((read, pack)) = reads.next().await {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            progress.add_entries(1);
            progress.add_len(pack.len);
            report.read_len += pack.len;
            match read {
                Ok(true) => drop(packs.read.insert(pack.number)),
                Ok(false) => drop(packs.flaws.insert(pack.number, Flaw::Table)),
                Err(error) if error.kind() == Kind::Damaged => {
                    packs.flaws.insert(pack.number, Flaw::Content(detail(&error)));
                }
                Err(error) => report.unclear(error),
            }
        }
        Ok(())
    }

    fn choose(&self, subset: Subset, sound: &[Sound]) -> Vec<Sound> {
        let total: u64 = sound.iter().map(|pack| pack.len).sum();
        let wanted = match subset {
            Subset::All => return sound.to_vec(),
            Subset::Part { n, of } => {
                let is_mine = |pack: &&Sound| pack.part % of.max(1) == n.saturating_sub(1);
                return sound.iter().filter(is_mine).copied().collect();
            }
            Subset::Percent(percent) => (total as f64 * percent / 100.0) as u64,
            Subset::Len(len) => len,
        };
        let mut drawn: Vec<_> = sound.iter().map(|pack| (self.env.random_u64(), *pack)).collect();
        drawn.sort_unstable_by_key(|(lot, pack)| (*lot, pack.number));
        let mut len = 0;
        let is_wanted = |pack: &Sound| {
            let is_wanted = len < wanted;
            len += pack.len;
            is_wanted
        };
        drawn.into_iter().map(|(_, pack)| pack).take_while(is_wanted).collect()
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
