//! Naming, compressing, encrypting and signing: what makes bytes safe to hand to a store.
//!
//! ```text
//! chunk ──[id]──► chunk id         keyed BLAKE3 of the plaintext
//! chunks ─[blob]► sealed blob      zstd, then the AEAD under a pack's one-time seal key
//! seal key ─[wrap]► wrapped key    X25519 to an epoch's public key: whoever only writes cannot read back
//! record ─[record]► sealed record  small things under the index key, with a random salt
//! object ─[sign]► signature        Ed25519 by the identity that wrote it
//! password ─[password]► key        Argon2id, for key slots
//! ```
//!
//! Invariant: no long-lived key seals anything itself; each use derives a key of its own (see [`derive`]).
//! Invariant: everything sealed is bound to its repository, the kind of object it is and its own seal id
//! ([`Binding`]), never to the name or place of what carries it, so that repack moves blobs byte for byte.
//!
//! Never here: I/O, clocks, randomness, async. Random bytes come in as arguments.

mod binding;
mod blob;
mod derive;
mod error;
mod id;
mod password;
mod record;
mod secret;
mod sign;
#[cfg(test)]
mod tests;
mod wrap;

pub use binding::{Binding, ObjectKind, RepositoryId, SealId, Suite};
pub use blob::{BLOB_OVERHEAD, BLOB_PLAIN_LEN_MAX, BlobOpener, BlobSealer, METHOD_RAW, METHOD_ZSTD, Matching};
pub use derive::Purpose;
pub use error::{ErrorKind, SealError};
pub use id::{CHUNK_ID_LEN, ChunkId, ChunkNamer};
pub use password::{KdfCost, MEMORY_KIB_MAX, key_from_file, key_from_password};
pub use record::{
    LetterSeed, RECORD_OVERHEAD, letter_epoch, open_letter, open_record, record_epoch, seal_letter, seal_record,
};
pub use secret::Secret;
pub use sign::{Identity, IdentityKey, SIGNATURE_LEN, verify};
pub use wrap::{ExchangeKey, ExchangePublic, WRAPPED_LEN, WrappedKey, unwrap_key, wrap_key};
