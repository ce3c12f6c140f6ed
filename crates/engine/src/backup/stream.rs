//! One entry whose bytes come as a stream: a large file, standard input, a command's output.
//!
//! Invariant: at most one piece and one window of the entry are held outside the budget.
//! Never here: where the pieces come from.

use std::sync::Arc;

use bytes::Bytes;
use chunk::{CutterKind, Gear};
use futures::{Stream, StreamExt};
use pack::manifest::Entry;
use source::files::Piece;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::EngineError;
use crate::backup::batch::{Batch, Item};
use crate::backup::cutting::Cutting;
use crate::budget::Budget;
use crate::offload::Offload;

/// What every reader needs to hand on what it read.
#[derive(Clone)]
pub(crate) struct Outlet {
    pub(crate) offload: Offload,
    pub(crate) budget: Budget,
    pub(crate) gear: Arc<Gear>,
    pub(crate) cutter: Option<CutterKind>,
    pub(crate) cancel: CancellationToken,
    pub(crate) batches: mpsc::Sender<Batch>,
}

impl Outlet {
    /// Hands a batch on; waits while the packer has enough to do.
    pub(crate) async fn send(&self, batch: Batch) -> Result<(), EngineError> {
        if self.cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        self.batches.send(batch).await.map_err(|_| EngineError::Interrupted)
    }

    /// Sends an entry's beginning and content; gives the bytes it had. The caller sends the end.
    pub(crate) async fn stream_content<E>(
        &self,
        entry: Entry,
        mut pieces: impl Stream<Item = Result<Piece, E>> + Unpin,
    ) -> Result<Result<u64, E>, EngineError> {
        let mut cutting = Cutting::new(Arc::clone(&self.gear), self.cutter);
        let mut entry = Some(Box::new(entry));
        let mut len = 0;
        loop {
            let next = tokio::select! {
                next = pieces.next() => next,
                () = self.cancel.cancelled() => return Err(EngineError::Interrupted),
            };
            let piece = match next.transpose() {
                Ok(piece) => piece,
                Err(error) => {
                    // What was read stays: the last window too.
                    let (cutting, chunks) = self.cut(cutting, &None).await?;
                    self.begin(&mut entry, &cutting).await?;
                    let mut batch = Batch::new(crate::budget::Held::none());
                    batch.items.extend(chunks.into_iter().map(Item::Chunk));
                    self.send(batch).await?;
                    return Ok(Err(error));
                }
            };
            let held = self
                .budget
                .take(match &piece {
                    Some(Piece::Data(bytes)) => bytes.len(),
                    _ => 0,
                })
                .await;
            len += piece.as_ref().map_or(0, Piece::len);
            let (back, chunks) = self.cut(cutting, &piece).await?;
            cutting = back;
            if cutting.kind().is_some() || piece.is_none() {
                self.begin(&mut entry, &cutting).await?;
            }
            let mut batch = Batch::new(held);
            batch.items.extend(chunks.into_iter().map(Item::Chunk));
            if let Some(Piece::Hole(len)) = piece {
                batch.items.push(Item::Hole(len));
            }
            self.send(batch).await?;
            if piece.is_none() {
                return Ok(Ok(len));
            }
        }
    }

    /// Cuts a piece of data; a hole or the end flushes what is left.
    async fn cut(&self, mut cutting: Cutting, piece: &Option<Piece>) -> Result<(Cutting, Vec<Bytes>), EngineError> {
        let data = match piece {
            Some(Piece::Data(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let job = move || {
            let chunks = match data {
                Some(bytes) => cutting.push(&bytes),
                None => cutting.flush(),
            };
            (cutting, chunks)
        };
        self.offload.start(job).await
    }

    async fn begin(&self, entry: &mut Option<Box<Entry>>, cutting: &Cutting) -> Result<(), EngineError> {
        let Some(entry) = entry.take() else { return Ok(()) };
        let mut batch = Batch::new(crate::budget::Held::none());
        batch.items.push(Item::Begin(entry, cutting.kind().unwrap_or(CutterKind::DEFAULT)));
        self.send(batch).await
    }

    /// Sends an entry's end.
    pub(crate) async fn end(&self, is_whole: bool) -> Result<(), EngineError> {
        let mut batch = Batch::new(crate::budget::Held::none());
        batch.items.push(Item::End { is_whole });
        self.send(batch).await
    }
}
