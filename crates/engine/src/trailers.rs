//! Packs as their own trailers describe them, where the index says less or something else.
//!
//! A pack gets a number of its own here, beyond those of the index cache, so that its places are used like any other.
//!
//! Invariant: what the index says too is not kept, so whole packs cost nothing; what is kept is bounded.
//! Never here: when trailers are read (see `last_resort`), publishing segments from them.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use pack::{PackError, PackId, Trailer, names};
use seal::ChunkId;
use store::index_cache::{CacheError, IndexCache, PLACES_COUNT_MAX, PackInfo, PackNo, Place, Places};

use crate::repository::Repository;
use crate::{EngineError, Kind};

/// Chunks that are kept, at 36 bytes each: 72 MiB when nothing is left of the index.
pub(crate) const CHUNKS_MAX: usize = 2 << 20;
/// A pack's last bytes that are asked for first; they mostly hold all of the trailer.
const TAIL_LEN: u64 = 64 << 10;
/// The longest sealed trailer that is read here: of some 180,000 chunks.
const SEALED_LEN_MAX: u64 = 4 << 20;
/// How often a trailer that does not open is read: a bad read is not a bad object.
const READS_MAX: usize = 2;
/// The number of the first pack here. The index cache numbers from 0.
const FIRST_NUMBER: PackNo = 1 << 31;

/// A pack, and where its chunks lie.
type Extra = (PackInfo, Vec<(ChunkId, Place)>);

/// What came of reading a trailer.
pub(crate) enum TrailerRead {
    /// What the trailer says and the index does not, if there is such.
    Extra(PackId, Option<Extra>),
    /// It cannot be read.
    Unreadable(PackId),
}

/// What trailers say.
#[derive(Default)]
pub(crate) struct Trailers {
    packs: Vec<Arc<PackInfo>>,
    /// Sorted by id, once settled.
    places: Vec<(ChunkId, Place)>,
    read: HashSet<PackId>,
}

impl Trailers {
    /// Whether a pack was numbered here, not by the index cache.
    pub(crate) const fn is_own(number: PackNo) -> bool {
        number >= FIRST_NUMBER
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The packs whose trailers were read.
    pub(crate) const fn read_packs(&self) -> &HashSet<PackId> {
        &self.read
    }

    pub(crate) fn pack(&self, number: PackNo) -> Option<Arc<PackInfo>> {
        self.packs.get(number.checked_sub(FIRST_NUMBER)? as usize).cloned()
    }

    /// Where a chunk lies.
    pub(crate) fn places(&self, id: ChunkId) -> Vec<Place> {
        let first = self.places.partition_point(|(own, _)| *own < id);
        let fits = self.places.iter().skip(first).take_while(|(own, _)| *own == id);
        fits.map(|(_, place)| *place).collect()
    }

    /// Takes in what a trailer says; false if there is no room for it.
    pub(crate) fn add(&mut self, id: PackId, extra: Option<Extra>) -> bool {
        self.read.insert(id);
        let Some((info, rows)) = extra else { return true };
        let number = FIRST_NUMBER + self.packs.len() as PackNo;
        let has_room = self.places.len() + rows.len() <= CHUNKS_MAX;
        if has_room {
            self.packs.push(Arc::new(info));
            self.places.extend(rows.into_iter().map(|(id, place)| (id, Place { pack: number, ..place })));
        }
        has_room
    }

    /// Makes what was added be found.
    pub(crate) fn settle(&mut self) {
        self.places.sort_unstable();
    }
}

impl Repository {
    /// Reads the trailer of a listed pack of `len` bytes, and gives what the index does not say.
    pub(crate) async fn read_trailer(&self, id: PackId, len: u64) -> Result<TrailerRead, EngineError> {
        for _ in 0..READS_MAX {
            match self.read_sealed_trailer(id, len).await {
                Ok((sealed, blobs_len)) => {
                    let (keyring, cache) = (self.keyring.clone(), self.cache.now());
                    let open = move || {
                        let read = pack::read_trailer(&sealed, |epoch| keyring.index_key_of(epoch), keyring.repository);
                        let fits = read.ok().filter(|trailer| trailer.blobs_len() == blobs_len);
                        fits.map(|trailer| beyond_index(&cache, id, len, &trailer)).transpose()
                    };
                    if let Some(extra) = self.offload.start(open).await?? {
                        return Ok(TrailerRead::Extra(id, extra));
                    }
                }
                Err(error) if error.kind() == Kind::Damaged => {}
                Err(error) => return Err(error),
            }
        }
        tracing::warn!("the trailer of {} cannot be read", names::pack(&id));
        Ok(TrailerRead::Unreadable(id))
    }

    /// A pack's sealed trailer, and how many bytes lie before it.
    async fn read_sealed_trailer(&self, id: PackId, len: u64) -> Result<(Bytes, u64), EngineError> {
        let name = names::pack(&id);
        let wrong = |what| EngineError::object(&name)(PackError::Inconsistent { what });
        let tail_start = len.saturating_sub(TAIL_LEN);
        let tail = self.store.get_range(&name, tail_start..len).await?;
        let (before, mark) = tail.split_last_chunk::<{ pack::END_MARK_LEN }>().ok_or_else(|| wrong("is no pack"))?;
        let trailer_len = u64::from(pack::read_end_mark(mark).map_err(|_| wrong("has no end mark"))?);
        let end = len - pack::END_MARK_LEN as u64;
        let start = end.checked_sub(trailer_len).ok_or_else(|| wrong("is shorter than its trailer"))?;
        if trailer_len > SEALED_LEN_MAX {
            return Err(wrong("has too long a trailer"));
        }
        if let Some(from) = start.checked_sub(tail_start) {
            return Ok((tail.slice(from as usize..before.len()), start));
        }
        Ok((self.store.get_range(&name, start..end).await?, start))
    }
}

/// What a trailer says and the index does not; all of it, if the index has another table. CPU-bound.
fn beyond_index(cache: &IndexCache, id: PackId, len: u64, trailer: &Trailer) -> Result<Option<Extra>, EngineError> {
    let named = match cache.pack_numbers(&[id])?.first().copied().flatten() {
        Some(number) => cache.pack(number)?.map(|info| (number, info)),
        None => None,
    };
    let same = named.filter(|(_, info)| has_same_blobs(info, len, trailer));
    let rows = match same {
        Some((number, _)) => unknown_rows(cache, number, trailer, |_| false)?,
        None => rows_of(trailer, 0),
    };
    let info = PackInfo {
        id,
        len,
        class: trailer.class,
        domain: Default::default(),
        seals: trailer.seals.clone(),
        blobs: trailer.blobs.clone(),
    };
    Ok((!rows.is_empty()).then_some((info, rows)))
}

/// Whether the cache has of pack `number`, which is `len` bytes long, exactly what `trailer` says: every chunk in its
/// place, and no other. CPU-bound, and some microseconds for each chunk.
///
/// # Errors
///
/// [`CacheError`] if the disk fails.
pub(crate) fn is_as_cached(
    cache: &IndexCache,
    number: PackNo,
    len: u64,
    trailer: &Trailer,
) -> Result<bool, CacheError> {
    let Some(info) = cache.pack(number)? else { return Ok(false) };
    // As many chunks in as many places: when each of ours is there, there is no other. Of a chunk that lies in very many
    // packs the cache keeps only some places.
    let is_full = |places: &Places| places.len() >= PLACES_COUNT_MAX;
    Ok(has_same_blobs(&info, len, trailer) && unknown_rows(cache, number, trailer, is_full)?.is_empty())
}

fn has_same_blobs(info: &PackInfo, len: u64, trailer: &Trailer) -> bool {
    info.len == len && info.blobs == trailer.blobs && info.seals == trailer.seals
}

/// The chunks of a trailer that the cache does not know in pack `number`, unless `may_lack` says that it need not.
fn unknown_rows(
    cache: &IndexCache,
    number: PackNo,
    trailer: &Trailer,
    may_lack: impl Fn(&Places) -> bool,
) -> Result<Vec<(ChunkId, Place)>, CacheError> {
    let mut rows = rows_of(trailer, number);
    let ids: Vec<_> = rows.iter().map(|(chunk, _)| *chunk).collect();
    let known = cache.lookup(&ids)?;
    let mut known = known.iter();
    rows.retain(|(_, place)| !known.next().is_some_and(|places| places.contains(place) || may_lack(places)));
    Ok(rows)
}

/// The chunks of a trailer with their places in pack `number`.
fn rows_of(trailer: &Trailer, number: PackNo) -> Vec<(ChunkId, Place)> {
    let mut rows = Vec::with_capacity(trailer.chunks.len());
    for (blob, row) in (0..).zip(&trailer.blobs) {
        let mut offset = 0u32;
        for (chunk, len) in trailer.chunks_of(row) {
            rows.push((*chunk, Place { pack: number, blob, offset, len: *len }));
            offset = offset.saturating_add(*len);
        }
    }
    rows
}
