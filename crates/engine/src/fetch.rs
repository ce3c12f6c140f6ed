//! From a chunk id to its bytes: look up, get, open, check.
//!
//! A bad read is not a bad object: what fails its hash is read once more, then other copies are tried.
//!
//! Invariant: bytes are handed out only when they hash to the id that was asked for, where the key can tell.
//! Never here: many chunks at once in the order of packs (see `restore`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pack::{BlobKind, PackError, names, open_blob_key};
use seal::{BlobOpener, ChunkId, ChunkNamer, SealError};
use store::SharedStore;
use store::index_cache::{PackInfo, PackNo, Place};

use crate::EngineError;
use crate::index::Index;
use crate::keyring::Keyring;
use crate::offload::Offload;
use crate::repository::Repository;

/// Opened blobs kept, at about 1 MiB each.
const BLOBS_KEPT_MAX: usize = 24;

/// Opened blobs, the one used last at the end.
type Kept = VecDeque<((PackNo, u32), Bytes)>;

/// Reads chunks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) store: SharedStore,
    pub(crate) offload: Offload,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) index: Index,
    pub(crate) namer: Option<ChunkNamer>,
    kept: Arc<Mutex<Kept>>,
}

impl Repository {
    /// A fetcher over the index as it is now.
    pub(crate) async fn fetcher(&self) -> Result<Fetcher, EngineError> {
        Ok(self.fetcher_of(self.load_index().await?))
    }

    pub(crate) fn fetcher_of(&self, index: Index) -> Fetcher {
        Fetcher {
            store: Arc::clone(&self.store),
            offload: self.offload.clone(),
            keyring: Arc::new(self.keyring.clone()),
            index,
            namer: self.keyring.namer().ok(),
            kept: Arc::default(),
        }
    }
}

impl Fetcher {
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

    /// A chunk's bytes: every place is tried before it is called lost.
    pub(crate) async fn chunk(&self, id: ChunkId) -> Result<Bytes, EngineError> {
        let mut tried = Vec::new();
        for place in self.index.places(id)? {
            match self.chunk_at(id, place).await {
                Ok(bytes) => return Ok(bytes),
                Err(error @ EngineError::Store(_)) if error.kind() != crate::Kind::Damaged => return Err(error),
                Err(error @ EngineError::Role { .. }) => return Err(error),
                Err(error) => tried.push(error.to_string()),
            }
        }
        let reason = if tried.is_empty() { "no index segment names it".to_owned() } else { tried.join("; ") };
        Err(EngineError::Lost { chunk: id.to_string(), reason })
    }

    async fn chunk_at(&self, id: ChunkId, place: Place) -> Result<Bytes, EngineError> {
        let blob = self.blob(place.pack, place.blob).await?;
        let (start, end) = (place.offset as usize, (place.offset + place.len) as usize);
        if end > blob.len() {
            let what = PackError::Inconsistent { what: "a chunk lies outside its blob" };
            return Err(EngineError::object(format!("chunk {id}"))(what));
        }
        let bytes = blob.slice(start..end);
        let Some(namer) = self.namer.clone() else { return Ok(bytes) };
        let kind = self.index.pack(place.pack)?.blobs.get(place.blob as usize).map_or(BlobKind::Data, |blob| blob.kind);
        let (named, bytes) = self.offload.start(move || (kind.name(&namer, &bytes), bytes)).await?;
        if named == id { Ok(bytes) } else { Err(EngineError::object(format!("chunk {id}"))(PackError::Hash)) }
    }

    /// An opened blob.
    pub(crate) async fn blob(&self, pack: PackNo, row: u32) -> Result<Bytes, EngineError> {
        if let Some(kept) = self.kept(pack, row) {
            return Ok(kept);
        }
        let info = self.index.pack(pack)?;
        let name = names::pack(&info.id);
        let outside =
            || EngineError::object(&name)(PackError::Inconsistent { what: "the index names a blob it does not have" });
        let blob = info.blobs.get(row as usize).ok_or_else(outside)?;
        let range = blob.offset..blob.offset + u64::from(blob.sealed_len);
        let mut opened = Err(outside());
        for _ in 0..2 {
            let sealed = self.store.get_range(&name, range.clone()).await?;
            let (keyring, info) = (Arc::clone(&self.keyring), Arc::clone(&info));
            opened = self.offload.start(move || open_blob(&keyring, &info, row, &sealed)).await?;
            if opened.is_ok() {
                break;
            }
        }
        let bytes = Bytes::from(opened?);
        self.keep(pack, row, bytes.clone());
        Ok(bytes)
    }

    fn kept(&self, pack: PackNo, row: u32) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(key, _)| *key == (pack, row))?;
        let found = kept.remove(at)?;
        let bytes = found.1.clone();
        kept.push_back(found);
        Some(bytes)
    }

    fn keep(&self, pack: PackNo, row: u32, bytes: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(((pack, row), bytes));
        if kept.len() > BLOBS_KEPT_MAX {
            kept.pop_front();
        }
    }
}

thread_local! {
    static OPENER: RefCell<Option<BlobOpener>> = const { RefCell::new(None) };
}

/// Lends this thread's opener.
pub(crate) fn with_opener<T>(work: impl FnOnce(&mut BlobOpener) -> Result<T, SealError>) -> Result<T, SealError> {
    OPENER.with(|cell| {
        let mut opener = cell.borrow_mut();
        if opener.is_none() {
            *opener = Some(BlobOpener::new()?);
        }
        opener.as_mut().map_or(Err(SealError::Sealed), work)
    })
}

/// Checks a sealed blob's hash and opens it. CPU-bound.
pub(crate) fn open_blob(keyring: &Keyring, info: &PackInfo, row: u32, sealed: &[u8]) -> Result<Vec<u8>, EngineError> {
    let object = || EngineError::object(names::pack(&info.id));
    let missing = || object()(PackError::Inconsistent { what: "the index names a blob it does not have" });
    let blob = info.blobs.get(row as usize).ok_or_else(missing)?;
    let seal = info.seals.get(usize::from(blob.seal)).ok_or_else(missing)?;
    if *blake3::hash(sealed).as_bytes() != blob.hash {
        return Err(object()(PackError::Hash));
    }
    if blob.kind != BlobKind::Structure && !keyring.opens_content() {
        return Err(keyring.refuse("open content"));
    }
    let unknown = || object()(PackError::Inconsistent { what: "sealed in an epoch that this key does not know" });
    let index_key = keyring.index_key_of(seal.epoch).ok_or_else(unknown)?;
    let (key, binding) =
        open_blob_key(seal, blob, &index_key, keyring.exchange_of(seal.epoch), keyring.repository).map_err(object())?;
    with_opener(|opener| opener.open(sealed, blob.plain_len as usize, &key, binding))
        .map_err(|source| object()(PackError::Seal { what: "a blob", source }))
}
