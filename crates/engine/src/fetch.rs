//! From a chunk id to its bytes: look up, get, open, check.
//!
//! A bad read is not a bad object: what fails its hash is read once more, then other copies are tried, then the ways of
//! `last_resort`.
//!
//! Invariant: bytes are handed out only when they hash to the id that was asked for, where the key can tell.
//! Never here: many chunks at once in the order of packs (see `restore`).

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pack::{BlobKind, BlobRow, PackError, SealRow, names, open_blob_key};
use seal::{Binding, BlobOpener, ChunkId, ChunkNamer, SealError, Secret};
use store::index_cache::{PackInfo, Place};
use store::{SharedStore, StoreError};
use tokio::sync::Semaphore;

use crate::buffers::Buffers;
use crate::index::Index;
use crate::kept::Kept;
use crate::keyring::Keyring;
use crate::last_resort::{LastResort, Step, Table, Tried};
use crate::offload::Offload;
use crate::repository::Repository;
use crate::{EngineError, Kind};

/// Opened blobs kept, in bytes; each has about 1 MiB.
const BLOBS_KEPT_LEN_MAX: usize = 24 << 20;
/// How often a blob that does not open is read.
const READS_MAX: usize = 2;

/// Opened blobs, by the table and the row that lead to them.
pub(crate) type Blobs = Kept<(Table, u32), Opened>;

/// An opened blob, and which of its chunks were found to have their ids.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) bytes: Bytes,
    checked: Arc<Mutex<HashSet<(u32, u32, ChunkId)>>>,
}

impl Opened {
    fn new(bytes: Bytes) -> Self {
        Self { bytes, checked: Arc::default() }
    }

    /// The chunk at `place`, if it is the one of this id as far as the key can tell. CPU-bound the first time.
    pub(crate) fn chunk(&self, place: Place, id: ChunkId, namer: Option<&ChunkNamer>) -> Option<Bytes> {
        let end = place.offset.checked_add(place.len)? as usize;
        let chunk = (end <= self.bytes.len()).then(|| self.bytes.slice(place.offset as usize..end))?;
        let Some(namer) = namer else { return Some(chunk) };
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (place.offset, place.len, id);
        if checked().contains(&key) {
            return Some(chunk);
        }
        let is_right = namer.name(&chunk) == id;
        is_right.then(|| {
            checked().insert(key);
            chunk
        })
    }
}

/// Reads chunks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) store: SharedStore,
    pub(crate) offload: Offload,
    pub(crate) keyring: Arc<Keyring>,
    /// The index as it was when the operation began.
    pub(crate) index: Index,
    pub(crate) namer: Option<ChunkNamer>,
    /// For opened blobs.
    pub(crate) buffers: Buffers,
    pub(crate) blobs: Arc<Blobs>,
    /// Who reads a blob holds one of these, if there are any.
    pub(crate) turns: Option<Arc<Semaphore>>,
    last_resort: Arc<LastResort>,
}

impl Repository {
    /// A reader's fetcher, over the index as it is now. What it misses it looks for anew.
    pub(crate) async fn fetcher(&self) -> Result<Fetcher, EngineError> {
        Ok(self.fetcher_with(self.load_index().await?, LastResort::new(Some(self.clone()))))
    }

    /// A writer's fetcher: it stays with `index`.
    pub(crate) fn fetcher_of(&self, index: Index) -> Fetcher {
        self.fetcher_with(index, LastResort::new(None))
    }

    fn fetcher_with(&self, index: Index, last_resort: LastResort) -> Fetcher {
        Fetcher {
            store: Arc::clone(&self.store),
            offload: self.offload.clone(),
            keyring: Arc::new(self.keyring.clone()),
            index,
            namer: self.keyring.namer().ok(),
            buffers: Buffers::default(),
            blobs: Arc::new(Kept::new(BLOBS_KEPT_LEN_MAX)),
            turns: None,
            last_resort: Arc::new(last_resort),
        }
    }
}

impl Fetcher {
    /// Keeps what `other` keeps, within the same bounds.
    pub(crate) fn share_with(&mut self, other: &Self) {
        self.blobs = Arc::clone(&other.blobs);
        self.turns.clone_from(&other.turns);
        self.buffers = other.buffers.clone();
    }

    /// A page's bytes, out of the local cache if they are there.
    pub(crate) async fn page(&self, id: ChunkId) -> Result<Bytes, EngineError> {
        let index = self.index.clone();
        if let Some(page) = self.offload.start(move || index.kept_page(&id)).await? {
            return Ok(page.into());
        }
        let bytes = self.chunk(id).await?;
        let (index, page) = (self.index.clone(), bytes.clone());
        self.offload.start(move || index.keep_pages(&[(id, page.to_vec())])).await?;
        Ok(bytes)
    }

    /// A chunk's bytes: every place is tried, and looked for anew, before it is called lost.
    pub(crate) async fn chunk(&self, id: ChunkId) -> Result<Bytes, EngineError> {
        let mut tried = self.last_resort.search();
        for step in [Step::Known, Step::IndexAgain, Step::Trailers] {
            if self.last_resort.prepare(step, &tried).await?
                && let Some(bytes) = self.chunk_anywhere(id, &mut tried).await?
            {
                return Ok(bytes);
            }
        }
        Err(self.last_resort.lost(id, tried))
    }

    /// The bytes of a chunk at every place where it is said to lie, once each; of a key that can tell, only those that hash to
    /// `id`. A place that cannot be read is an error unless the key can tell.
    pub(crate) async fn readings(&self, id: ChunkId) -> Result<Vec<Bytes>, EngineError> {
        let index = self.newest();
        let places = if self.namer.is_some() { Vec::new() } else { index.places(id)? };
        let mut readings: Vec<Bytes> = Vec::new();
        for place in places.into_iter().filter(|place| index.is_listed(place.pack)) {
            let info = self.pack(&index, place)?;
            let bytes = self.chunk_at(id, place, Table::of(place, &info), &info).await?;
            if !readings.contains(&bytes) {
                readings.push(bytes);
            }
        }
        if readings.is_empty() { Ok(vec![self.chunk(id).await?]) } else { Ok(readings) }
    }

    /// Tries every place that is known now and was not tried yet.
    async fn chunk_anywhere(&self, id: ChunkId, tried: &mut Tried) -> Result<Option<Bytes>, EngineError> {
        let index = self.newest();
        let places = index.places(id)?.into_iter().chain(self.last_resort.places(id));
        for place in places.collect::<Vec<_>>() {
            let info = self.pack(&index, place)?;
            let table = Table::of(place, &info);
            if !tried.begin(table, place) {
                continue;
            }
            let was_listed = index.is_listed(place.pack);
            if let Some((reason, is_gone)) = self.last_resort.failure_at(table, place.blob) {
                tried.failed(table, reason, is_gone, was_listed);
                continue;
            }
            match self.chunk_at(id, place, table, &info).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error @ EngineError::Store(_)) if error.kind() != Kind::Damaged => return Err(error),
                Err(error @ (EngineError::Role { .. } | EngineError::Cache(_) | EngineError::Panicked { .. })) => {
                    return Err(error);
                }
                Err(error) => tried.failed(table, error.to_string(), is_gone(&error), was_listed),
            }
        }
        Ok(None)
    }

    /// The same, with what it learns in `last_resort`.
    #[cfg(test)]
    pub(crate) fn with_last_resort(self, last_resort: LastResort) -> Self {
        Self { last_resort: Arc::new(last_resort), ..self }
    }

    /// What was learned.
    #[cfg(test)]
    pub(crate) fn last_resort(&self) -> &LastResort {
        &self.last_resort
    }

    /// The index as it was read last. Numbers of packs mean something in one index only.
    pub(crate) fn newest(&self) -> Index {
        self.last_resort.newest(&self.index)
    }

    /// A place of each chunk that is not known to fail, if there is one: as planned reads want it. CPU-bound.
    pub(crate) fn find(&self, index: &Index, ids: &[ChunkId]) -> Result<Vec<Option<Place>>, EngineError> {
        let mut found = index.find(ids)?;
        if !self.last_resort.knows_more() {
            return Ok(found);
        }
        for (id, found) in ids.iter().zip(&mut found) {
            if match found {
                Some(place) => self.has_failed(index, *place)?,
                None => true,
            } {
                let listed = index.places(*id)?.into_iter().filter(|place| index.is_listed(place.pack));
                *found = None;
                for place in listed.chain(self.last_resort.places(*id)) {
                    if !self.has_failed(index, place)? {
                        *found = Some(place);
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    fn has_failed(&self, index: &Index, place: Place) -> Result<bool, EngineError> {
        let table = Table::of(place, &*self.pack(index, place)?);
        Ok(self.last_resort.failure_at(table, place.blob).is_some())
    }

    /// What the pack of a place in `index`, or in a trailer, holds.
    pub(crate) fn pack(&self, index: &Index, place: Place) -> Result<Arc<PackInfo>, EngineError> {
        self.last_resort.pack(place.pack).map_or_else(|| index.pack(place.pack), Ok)
    }

    /// After a listed pack was found gone: reads the index again, once for all who miss it.
    pub(crate) async fn missed(&self, table: Table, was_listed: bool, error: &StoreError) -> Result<(), EngineError> {
        let mut tried = self.last_resort.search();
        if self.last_resort.failure_of(table).is_none() {
            tried.failed(table, error.to_string(), true, was_listed);
            self.last_resort.prepare(Step::IndexAgain, &tried).await?;
            self.last_resort.note_gone(table, error.to_string());
        }
        Ok(())
    }

    async fn chunk_at(
        &self,
        id: ChunkId,
        place: Place,
        table: Table,
        info: &Arc<PackInfo>,
    ) -> Result<Bytes, EngineError> {
        let blob = self.opened(table, info, place.blob).await?.bytes;
        let (start, end) = (place.offset as usize, (place.offset + place.len) as usize);
        if end > blob.len() {
            let what = PackError::Inconsistent { what: "a chunk lies outside its blob" };
            return Err(EngineError::object(format!("chunk {id}"))(what));
        }
        // A few small chunks of a blob must not keep all of it in memory.
        let is_sparse = end - start < blob.len() / 2;
        let bytes = blob.slice(start..end);
        let bytes = if is_sparse { Bytes::copy_from_slice(&bytes) } else { bytes };
        let Some(namer) = self.namer.clone() else { return Ok(bytes) };
        let kind = info.blobs.get(place.blob as usize).map_or(BlobKind::Data, |blob| blob.kind);
        let (named, bytes) = self.offload.start(move || (kind.name(&namer, &bytes), bytes)).await?;
        if named == id { Ok(bytes) } else { Err(EngineError::object(format!("chunk {id}"))(PackError::Hash)) }
    }

    /// An opened blob; who asks for one that is being read waits for that.
    pub(crate) async fn opened(&self, table: Table, info: &Arc<PackInfo>, row: u32) -> Result<Opened, EngineError> {
        let read = async {
            let _turn = match &self.turns {
                Some(turns) => turns.acquire().await.ok(),
                None => None,
            };
            let bytes = self.read_blob(table, info, row).await?;
            let len = bytes.len();
            Ok::<_, EngineError>((Opened::new(bytes), len))
        };
        self.blobs.get_or(&(table, row), read).await
    }

    async fn read_blob(&self, table: Table, info: &Arc<PackInfo>, row: u32) -> Result<Bytes, EngineError> {
        let name = names::pack(&info.id);
        let outside =
            || EngineError::object(&name)(PackError::Inconsistent { what: "the index names a blob it does not have" });
        let blob = info.blobs.get(row as usize).ok_or_else(outside)?;
        let offset = blob.offset;
        let range = offset..offset + u64::from(blob.sealed_len);
        if let Some(opened) = self.kept_blob(info, row, offset).await? {
            return Ok(opened);
        }
        let mut opened = Err(outside());
        for _ in 0..READS_MAX {
            let sealed = match self.store.get_range(&name, range.clone()).await {
                Ok(sealed) => sealed,
                // A read that is short once is no short pack.
                Err(error @ StoreError::Truncated { .. }) => {
                    opened = Err(error.into());
                    continue;
                }
                Err(error) => {
                    if matches!(error, StoreError::NotFound { .. }) {
                        self.last_resort.note_gone(table, error.to_string());
                    }
                    return Err(error.into());
                }
            };
            let (fetcher, info) = (self.clone(), Arc::clone(info));
            let open = move || {
                let opened = fetcher.open(&info, row, &sealed)?;
                fetcher.index.keep_blob(&info.id, offset, &sealed);
                Ok(opened)
            };
            opened = self.offload.start(open).await?;
            if opened.is_ok() {
                break;
            }
        }
        if let Err(error) = &opened {
            self.last_resort.note_bad(table, row, error).await;
        }
        opened
    }

    /// An opened blob out of those that this host keeps. One that does not open is as none.
    async fn kept_blob(&self, info: &Arc<PackInfo>, row: u32, offset: u64) -> Result<Option<Bytes>, EngineError> {
        if !self.index.keeps_blobs() {
            return Ok(None);
        }
        let (fetcher, info) = (self.clone(), Arc::clone(info));
        let open = move || {
            let sealed = fetcher.index.kept_blob(&info.id, offset)?;
            fetcher.open(&info, row, &sealed).ok()
        };
        self.offload.start(open).await
    }

    /// CPU-bound.
    fn open(&self, info: &PackInfo, row: u32, sealed: &[u8]) -> Result<Bytes, EngineError> {
        self.buffers.filled(|plain| open_blob_into(&self.keyring, info, row, sealed, plain))
    }
}

fn is_gone(error: &EngineError) -> bool {
    matches!(error, EngineError::Store(StoreError::NotFound { .. }))
}

thread_local! {
    static OPENER: RefCell<Option<Opener>> = const { RefCell::new(None) };
}

/// What a thread of the pool needs to open blobs, kept from one to the next.
struct Opener {
    opener: BlobOpener,
    /// The seal whose key was unwrapped last, and that key: an X25519 for every pack, not for every blob.
    unwrapped: Option<(SealRow, Secret)>,
}

/// Lends this thread's opener.
pub(crate) fn with_opener<T>(work: impl FnOnce(&mut BlobOpener) -> Result<T, SealError>) -> Result<T, SealError> {
    with_own(|own| work(&mut own.opener)).unwrap_or(Err(SealError::Sealed))
}

fn with_own<T>(work: impl FnOnce(&mut Opener) -> T) -> Result<T, SealError> {
    OPENER.with(|cell| {
        let mut own = cell.borrow_mut();
        if own.is_none() {
            *own = Some(Opener { opener: BlobOpener::new()?, unwrapped: None });
        }
        own.as_mut().map(work).ok_or(SealError::Sealed)
    })
}

/// Checks a sealed blob's hash and opens it. CPU-bound.
///
/// For whoever vouches for the hash too: a check, and what writes it into a new table. Who only reads takes [`open_blob_into`].
pub(crate) fn open_blob(keyring: &Keyring, info: &PackInfo, row: u32, sealed: &[u8]) -> Result<Vec<u8>, EngineError> {
    let (blob, _) = rows_of(info, row)?;
    check_hash(info, blob, sealed)?;
    let mut plain = Vec::new();
    open_blob_into(keyring, info, row, sealed, &mut plain)?;
    Ok(plain)
}

/// Opens a sealed blob into a buffer that was used before. CPU-bound.
///
/// Its tag says whether these are the bytes that were sealed. Only of those that do not open the hash is asked, which tells
/// bytes that were damaged from a blob that was never right.
pub(crate) fn open_blob_into(
    keyring: &Keyring,
    info: &PackInfo,
    row: u32,
    sealed: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), EngineError> {
    let (blob, seal) = rows_of(info, row)?;
    if blob.kind != BlobKind::Structure && !keyring.opens_content() {
        return Err(keyring.refuse("open content", &[pack::Role::Owner, pack::Role::Reader]));
    }
    let opened = with_own(|own| {
        let (key, binding) = key_of(own, keyring, seal, blob)?;
        let opened = own.opener.open_into(sealed, blob.plain_len as usize, &key, binding, plain);
        opened.map_err(|source| PackError::Seal { what: "a blob", source })
    });
    let opened = opened.map_err(|source| PackError::Seal { what: "a blob", source }).flatten();
    opened.or_else(|error| {
        check_hash(info, blob, sealed)?;
        Err(EngineError::object(names::pack(&info.id))(error))
    })
}

fn rows_of(info: &PackInfo, row: u32) -> Result<(&BlobRow, &SealRow), EngineError> {
    let blob = info.blobs.get(row as usize);
    let rows = blob.and_then(|blob| Some((blob, info.seals.get(usize::from(blob.seal))?)));
    let what = "the index names a blob it does not have";
    rows.ok_or_else(|| EngineError::object(names::pack(&info.id))(PackError::Inconsistent { what }))
}

fn check_hash(info: &PackInfo, blob: &BlobRow, sealed: &[u8]) -> Result<(), EngineError> {
    let is_right = *blake3::hash(sealed).as_bytes() == blob.hash;
    if is_right { Ok(()) } else { Err(EngineError::object(names::pack(&info.id))(PackError::Hash)) }
}

/// The key and binding of a blob; the key of the seal used last is at hand.
fn key_of(own: &mut Opener, keyring: &Keyring, seal: &SealRow, blob: &BlobRow) -> Result<(Secret, Binding), PackError> {
    let is_wrapped = blob.kind != BlobKind::Structure;
    if is_wrapped
        && let Some((unwrapped, key)) = &own.unwrapped
        && unwrapped == seal
    {
        return Ok((key.clone(), pack::blob_binding(seal, blob.kind, blob.counter, keyring.repository)));
    }
    let unknown = PackError::UnknownEpoch { epoch: seal.epoch };
    let index_key = keyring.index_key_of(seal.epoch).ok_or(unknown)?;
    let exchange = keyring.exchange_of(seal.epoch);
    let (key, binding) = open_blob_key(seal, blob, &index_key, exchange, keyring.repository)?;
    if is_wrapped {
        own.unwrapped = Some((seal.clone(), key.clone()));
    }
    Ok((key, binding))
}
