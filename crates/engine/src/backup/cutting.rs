//! Cutting one entry's bytes as they come.
//!
//! Invariant: the buffer holds less than one window beyond what was pushed last.
//! Never here: reading, waiting.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chunk::{Cutter, CutterKind, Gear, RECOGNISE_LEN, recognise};

/// The cutter of one entry, chosen by its first bytes unless it was named.
pub(crate) struct Cutting {
    gear: Arc<Gear>,
    wanted: Option<CutterKind>,
    chosen: Option<(CutterKind, Cutter)>,
    buffer: BytesMut,
}

impl Cutting {
    pub(crate) fn new(gear: Arc<Gear>, wanted: Option<CutterKind>) -> Self {
        Self { gear, wanted, chosen: None, buffer: BytesMut::new() }
    }

    /// The cutter, once it is known.
    pub(crate) fn kind(&self) -> Option<CutterKind> {
        self.chosen.as_ref().map(|(kind, _)| *kind)
    }

    /// Takes more bytes and gives the chunks that end within them. CPU-bound.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        self.buffer.extend_from_slice(bytes);
        self.cut(false)
    }

    /// Gives what is left, before a hole or at the end.
    pub(crate) fn flush(&mut self) -> Vec<Bytes> {
        self.cut(true)
    }

    fn cut(&mut self, end: bool) -> Vec<Bytes> {
        if self.chosen.is_none() && (end || self.buffer.len() >= RECOGNISE_LEN) {
            let kind = self.wanted.unwrap_or_else(|| recognise(&self.buffer));
            self.chosen = Some((kind, Cutter::new(kind, Arc::clone(&self.gear))));
        }
        let mut chunks = Vec::new();
        let Some((_, cutter)) = self.chosen.as_mut() else { return chunks };
        while let Some(len) = cutter.next(&self.buffer, end) {
            chunks.push(self.buffer.split_to(len).freeze());
        }
        chunks
    }
}
