//! The table of contents at the head of a dump, read out of the repository without the rest.
//!
//! Never here: restoring it.

use bytes::Bytes;
use engine::CatRequest;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use source::dump::{Archive, Contents};

use super::Restoring;
use crate::error::CommandError;

/// Bytes that are read ahead of a dump to find its table of contents, at most.
const HEAD_LEN_MAX: usize = 64 << 20;

pub(super) type Content = BoxStream<'static, Result<Bytes, engine::EngineError>>;

/// A dump that was read as far as its table of contents goes.
pub(super) struct Opened {
    /// None of what is not an archive.
    pub(super) contents: Option<Contents>,
    /// What was read.
    pub(super) head: Vec<Bytes>,
    /// What follows.
    pub(super) rest: Content,
}

/// Opens the dump at `path`.
pub(super) async fn open(restoring: &Restoring<'_>, path: &[u8]) -> Result<Opened, CommandError> {
    let mut rest = restoring.repository.cat(restoring.snapshot, CatRequest::whole(path.to_vec())).await?;
    let (mut archive, mut head, mut len) = (Archive::listing(), Vec::new(), 0);
    while archive.contents().is_none() && len < HEAD_LEN_MAX {
        let Some(bytes) = rest.try_next().await? else { break };
        len += bytes.len();
        let whole = archive.push(&bytes);
        head.push(bytes);
        if whole.is_err() {
            break; // pg_restore says what is wrong with it
        }
    }
    Ok(Opened { contents: archive.contents().cloned(), head, rest })
}
