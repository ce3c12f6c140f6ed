//! From wanted chunks to few, long reads: group by pack and blob, join neighbours, open on the pool.
//!
//! A pack that is gone has mostly been repacked: the index is read again, and the run planned anew, once.
//!
//! Invariant: a run is one ranged get of one pack; its plaintext stays within [`RUN_PLAIN_LEN_MAX`] and one blob more.
//! Never here: what the chunks are wanted for.

use std::sync::Arc;

use bytes::Bytes;
use pack::manifest::{Child, ChildKind};
use pack::{PackError, names};
use store::StoreError;
use store::index_cache::{PackInfo, Place};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fetch::{Fetcher, open_blob_into};
use crate::last_resort::Table;
use crate::trailers::Trailers;
use crate::{EngineError, Kind};

/// Plaintext of one run, in bytes.
pub(crate) const RUN_PLAIN_LEN_MAX: u64 = 4 << 20;
/// Sealed bytes of one run.
const RUN_SEALED_LEN_MAX: u64 = 8 << 20;
/// Bytes between two blobs that are read and thrown away rather than asked for apart.
const GAP_LEN_MAX: u64 = 64 << 10;

/// A leaf, and what it is wanted for.
pub(crate) struct Wanted<T> {
    pub(crate) leaf: Child,
    pub(crate) tag: T,
}

/// Neighbouring blobs of one pack, and what is wanted of them.
pub(crate) struct Run<T> {
    pack: Option<Arc<PackInfo>>,
    blobs: Vec<RunBlob<T>>,
    start: u64,
    end: u64,
    plain_len: u64,
}

struct RunBlob<T> {
    row: u32,
    wanted: Vec<(Wanted<T>, Option<Place>)>,
}

impl<T> Run<T> {
    /// Bytes that its read gives.
    pub(crate) const fn sealed_len(&self) -> u64 {
        self.end - self.start
    }
}

/// A wanted chunk's bytes, or why it cannot be had; holes give no bytes.
pub(crate) type Found<T> = (Wanted<T>, Result<Bytes, EngineError>);

/// Looks up where chunks lie and joins them to runs, by pack and blob.
pub(crate) async fn plan_reads<T: Send + 'static>(
    fetcher: &Fetcher,
    wanted: Vec<Wanted<T>>,
) -> Result<Vec<Run<T>>, EngineError> {
    let finder = fetcher.clone();
    let planned = fetcher.offload.start(move || {
        let chunks = wanted.iter().filter(|wanted| wanted.leaf.kind == ChildKind::Chunk);
        let ids: Vec<_> = chunks.map(|wanted| wanted.leaf.id).collect();
        let index = finder.newest();
        let mut places = finder.find(&index, &ids)?.into_iter();
        let mut found: Vec<_> = wanted
            .into_iter()
            .map(|wanted| {
                let place = if wanted.leaf.kind == ChildKind::Chunk { places.next().flatten() } else { None };
                (wanted, place)
            })
            .collect();
        found.sort_by_key(|(_, place)| place.map(|place| (place.pack, place.blob, place.offset)));
        let mut runs: Vec<Run<T>> = Vec::new();
        for (wanted, place) in found {
            let pack = place.map(|place| finder.pack(&index, place)).transpose()?;
            join(&mut runs, wanted, place, pack);
        }
        Ok(runs)
    });
    planned.await?
}

fn join<T>(runs: &mut Vec<Run<T>>, wanted: Wanted<T>, place: Option<Place>, pack: Option<Arc<PackInfo>>) {
    let blob = place.zip(pack.as_ref()).and_then(|(place, pack)| pack.blobs.get(place.blob as usize));
    let row = place.map_or(0, |place| place.blob);
    let (start, end) = blob.map_or((0, 0), |blob| (blob.offset, blob.offset + u64::from(blob.sealed_len)));
    // What has no place may still be found, one by one, and then takes memory too.
    let alone_len = if wanted.leaf.kind == ChildKind::Chunk { wanted.leaf.len } else { 0 };
    let plain_len = blob.map_or(alone_len, |blob| u64::from(blob.plain_len));
    if let Some(run) = runs.last_mut() {
        let same_pack = run.pack.as_ref().map(|own| own.id) == pack.as_ref().map(|pack| pack.id);
        let same_blob = run.blobs.last().is_some_and(|last| last.row == row);
        let is_next = start >= run.end && start - run.end <= GAP_LEN_MAX;
        let fits =
            run.plain_len + plain_len <= RUN_PLAIN_LEN_MAX && end.saturating_sub(run.start) <= RUN_SEALED_LEN_MAX;
        let is_known = place.is_some();
        if same_pack
            && same_blob
            && (is_known || fits)
            && let Some(last) = run.blobs.last_mut()
        {
            run.plain_len += if is_known { 0 } else { plain_len };
            return last.wanted.push((wanted, place));
        }
        if same_pack && is_known && is_next && fits {
            run.end = end;
            run.plain_len += plain_len;
            return run.blobs.push(RunBlob { row, wanted: vec![(wanted, place)] });
        }
    }
    runs.push(Run { pack, blobs: vec![RunBlob { row, wanted: vec![(wanted, place)] }], start, end, plain_len });
}

/// Where a run waits for its turn to be opened, once its bytes are there; and the turn, to be kept until it is written.
type Gate = Option<Arc<Semaphore>>;
pub(crate) type Turn = Option<OwnedSemaphorePermit>;

/// Reads one run and gives its chunks, blob after blob. What cannot be had so is looked for in every other way.
pub(crate) async fn read_run<T: Send + 'static>(
    fetcher: &Fetcher,
    run: Run<T>,
    gate: Gate,
) -> Result<(Vec<Found<T>>, Turn), EngineError> {
    let mut turn = None;
    let moved = match read_once(fetcher, run, &gate, &mut turn).await? {
        Outcome::Found(found) => return Ok((found, turn)),
        Outcome::Gone(wanted) => wanted,
    };
    let mut found = Vec::new();
    for run in plan_reads(fetcher, moved).await? {
        match read_once(fetcher, run, &gate, &mut turn).await? {
            Outcome::Found(part) => found.extend(part),
            Outcome::Gone(wanted) => found.extend(one_by_one(fetcher, wanted).await?),
        }
    }
    Ok((found, turn))
}

/// What came of reading a run.
enum Outcome<T> {
    Found(Vec<Found<T>>),
    /// The pack is gone; the index was read again meanwhile.
    Gone(Vec<Wanted<T>>),
}

async fn read_once<T: Send + 'static>(
    fetcher: &Fetcher,
    run: Run<T>,
    gate: &Gate,
    turn: &mut Turn,
) -> Result<Outcome<T>, EngineError> {
    let Run { pack, blobs, start, end, .. } = run;
    let Some(pack) = pack else { return Ok(Outcome::Found(one_by_one(fetcher, wanted_of(blobs)).await?)) };
    let name = names::pack(&pack.id);
    let sealed = match fetcher.store.get_range(&name, start..end).await {
        Ok(sealed) => Some(sealed),
        Err(error @ StoreError::NotFound { .. }) => {
            let place = blobs.first().and_then(|blob| blob.wanted.first()).and_then(|(_, place)| *place);
            if let Some(place) = place {
                // Planned reads are of listed packs only, but for those that trailers told of.
                fetcher.missed(Table::of(place, &pack), !Trailers::is_own(place.pack), &error).await?;
            }
            return Ok(Outcome::Gone(wanted_of(blobs)));
        }
        Err(error) if error.kind() == store::Kind::Damaged => None,
        Err(error) => return Err(error.into()),
    };
    if let (None, Some(gate)) = (&turn, gate) {
        *turn = Arc::clone(gate).acquire_owned().await.ok();
    }
    let mut jobs = Vec::new();
    for blob in blobs {
        let (keyring, pack, namer, sealed) =
            (Arc::clone(&fetcher.keyring), Arc::clone(&pack), fetcher.namer.clone(), sealed.clone());
        let buffers = fetcher.buffers.clone();
        jobs.push(fetcher.offload.start(move || {
            let sealed = sealed.and_then(|sealed| slice_of(&pack, blob.row, start, &sealed));
            let open =
                |sealed: Bytes| buffers.filled(|plain| open_blob_into(&keyring, &pack, blob.row, &sealed, plain)).ok();
            let opened = sealed.and_then(open);
            // A few small chunks of a blob must not keep all of it in memory.
            let wanted_len: u64 = blob.wanted.iter().map(|(wanted, _)| wanted.leaf.len).sum();
            let is_sparse = opened.as_ref().is_some_and(|opened| wanted_len < opened.len() as u64 / 2);
            let check = |(wanted, place): (Wanted<T>, Option<Place>)| {
                let bytes = opened.as_ref().zip(place).and_then(|(opened, place)| {
                    let range = place.offset as usize..(place.offset + place.len) as usize;
                    let bytes = (range.end <= opened.len()).then(|| opened.slice(range))?;
                    let is_right = bytes.len() as u64 == wanted.leaf.len;
                    let is_right = is_right && namer.as_ref().is_none_or(|namer| namer.name(&bytes) == wanted.leaf.id);
                    is_right.then(|| if is_sparse { Bytes::copy_from_slice(&bytes) } else { bytes })
                });
                (wanted, bytes)
            };
            blob.wanted.into_iter().map(check).collect::<Vec<_>>()
        }));
    }
    let mut found = Vec::new();
    for job in jobs {
        for (wanted, bytes) in job.await? {
            let bytes = match bytes {
                Some(bytes) => Ok(bytes),
                None => again(fetcher, &wanted.leaf).await?,
            };
            found.push((wanted, bytes));
        }
    }
    Ok(Outcome::Found(found))
}

fn wanted_of<T>(blobs: Vec<RunBlob<T>>) -> Vec<Wanted<T>> {
    blobs.into_iter().flat_map(|blob| blob.wanted).map(|(wanted, _)| wanted).collect()
}

fn slice_of(pack: &PackInfo, row: u32, start: u64, sealed: &Bytes) -> Option<Bytes> {
    let blob = pack.blobs.get(row as usize)?;
    let from = blob.offset.checked_sub(start)? as usize;
    let to = from + blob.sealed_len as usize;
    (to <= sealed.len()).then(|| sealed.slice(from..to))
}

/// The slow way: every copy, one after the other. A store that fails is an error; a lost chunk is a finding.
async fn again(fetcher: &Fetcher, leaf: &Child) -> Result<Result<Bytes, EngineError>, EngineError> {
    match fetcher.chunk(leaf.id).await {
        Ok(bytes) if bytes.len() as u64 == leaf.len => Ok(Ok(bytes)),
        Ok(_) => {
            let what = "it is not as long as the page says that names it";
            Ok(Err(EngineError::object(format!("chunk {}", leaf.id))(PackError::Inconsistent { what })))
        }
        Err(error) if error.kind() == Kind::Damaged => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// Holes, and chunks that no listed pack is known to hold.
async fn one_by_one<T>(fetcher: &Fetcher, all: Vec<Wanted<T>>) -> Result<Vec<Found<T>>, EngineError> {
    let mut found = Vec::with_capacity(all.len());
    for wanted in all {
        let bytes = match wanted.leaf.kind {
            ChildKind::Hole => Ok(Bytes::new()),
            _ => again(fetcher, &wanted.leaf).await?,
        };
        found.push((wanted, bytes));
    }
    Ok(found)
}
