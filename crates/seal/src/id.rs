//! The chunk id: what a chunk is called, and how equal chunks are found.
//!
//! Keyed BLAKE3 of the plaintext, cut to 20 bytes. Every chunk is named three times (trailer, index segment,
//! content list); 20 bytes keep all three within the 70 bytes a chunk may cost, see `docs/decisions/0002`.
//!
//! Invariant: without the repository's chunk-id key nobody can tell which content an id belongs to.
//! Never here: where a chunk is stored.

use serde::{Deserialize, Serialize};

use crate::{Purpose, Secret};

/// Bytes in a chunk id.
pub const CHUNK_ID_LEN: usize = 20;

/// The name of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId([u8; CHUNK_ID_LEN]);

impl ChunkId {
    /// Wraps bytes read from an object.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; CHUNK_ID_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, as stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; CHUNK_ID_LEN] {
        &self.0
    }
}

impl std::fmt::Display for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkId({self})")
    }
}

/// Names chunks and pages with one repository's chunk-id secret.
///
/// Pages have a key of their own: content that happens to hold a page's bytes (a backup of an index cache) must not
/// stand in for the page, as it is sealed to other readers.
#[derive(Debug, Clone)]
pub struct ChunkNamer {
    content: Secret,
    pages: Secret,
    cuts: Secret,
}

impl ChunkNamer {
    /// A namer for the repository that holds `secret`.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        let pages = Purpose::PageIds.key(secret.expose(), &[]);
        let cuts = Purpose::PageCuts.key(secret.expose(), &[]);
        Self { content: secret, pages, cuts }
    }

    /// The id of a chunk of content. About 0.15 to 0.4 ns a byte; pure CPU.
    #[must_use]
    pub fn name(&self, plaintext: &[u8]) -> ChunkId {
        cut(&blake3::keyed_hash(self.content.expose(), plaintext))
    }

    /// The id of one half of a page.
    #[must_use]
    pub fn name_page(&self, plaintext: &[u8]) -> ChunkId {
        cut(&blake3::keyed_hash(self.pages.expose(), plaintext))
    }

    /// A number that depends on `sort_key` alone and decides whether a page ends after it.
    #[must_use]
    pub fn cut_number(&self, sort_key: &[u8]) -> u32 {
        let hash = blake3::keyed_hash(self.cuts.expose(), sort_key);
        hash.as_bytes().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }
}

fn cut(hash: &blake3::Hash) -> ChunkId {
    let mut id = [0; CHUNK_ID_LEN];
    id.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    ChunkId(id)
}
