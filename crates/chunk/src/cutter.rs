//! The cutter: where the next chunk of a stream ends.
//!
//! A tar is walked as `[padding + headers] [content…] [padding + headers] [content…] … tail`: what stands between two
//! contents is one chunk, and each content is cut from its own start.
//!
//! Invariant: `next` asks for more bytes only while fewer than [`crate::WINDOW_LEN_MIN`] are at hand.
//! Never here: buffers; the caller keeps the window.

use std::sync::Arc;

use crate::tar::{self, BLOCK_LEN};
use crate::{CHUNK_LEN_MAX, CutterKind, Gear};

/// The longest run of tar headers that is kept in one chunk, in bytes.
const HEADERS_LEN_MAX: usize = 64 << 10;
const RELATION_PAGE_LEN: u32 = 8 << 10;

/// Cuts one stream. Keep one per stream and feed it in order.
#[derive(Debug, Clone)]
pub struct Cutter {
    gear: Arc<Gear>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// One way of cutting until the end of the stream.
    Plain(CutterKind),
    /// Within a tar, before a header; `padding` bytes of the member before are still to come.
    Headers { padding: usize },
    /// Within a member's content.
    Content { left: u64, padding: usize, kind: CutterKind },
}

impl Cutter {
    /// A cutter at the start of a stream.
    #[must_use]
    pub fn new(kind: CutterKind, gear: Arc<Gear>) -> Self {
        let state = if kind == CutterKind::Tar { State::Headers { padding: 0 } } else { State::Plain(kind) };
        Self { gear, state }
    }

    /// The length of the next chunk at the start of `window`, or none if more bytes are needed first.
    ///
    /// `window` is what was read and not yet cut; `end` says that nothing follows it. With `end` and a window that
    /// is not empty there is always a cut. Costs about 0.3 ns a byte for content-defined cuts.
    pub fn next(&mut self, window: &[u8], end: bool) -> Option<usize> {
        if window.is_empty() {
            return None;
        }
        match self.state {
            State::Plain(kind) => plain(&self.gear, kind, window, end),
            State::Headers { padding } => self.headers(padding, window, end),
            State::Content { left, padding, kind } => {
                let here = usize::try_from(left).map_or(window.len(), |left| left.min(window.len()));
                let (content, _) = window.split_at(here);
                let cut = plain(&self.gear, kind, content, end || here as u64 == left)?;
                let left = left - cut as u64;
                self.state =
                    if left == 0 { State::Headers { padding } } else { State::Content { left, padding, kind } };
                Some(cut)
            }
        }
    }

    /// Takes padding and headers up to the next member's content into one chunk.
    fn headers(&mut self, padding: usize, window: &[u8], end: bool) -> Option<usize> {
        let mut at = padding;
        loop {
            let Some(block) = window.get(at..).and_then(|rest| rest.first_chunk::<BLOCK_LEN>()) else {
                return if end { self.tail(window, end) } else { None };
            };
            let Some(header) = tar::header(block) else {
                return if at > 0 { self.cut_before_tail(at) } else { self.tail(window, end) };
            };
            at += BLOCK_LEN;
            let padding = (BLOCK_LEN as u64 - header.len % BLOCK_LEN as u64) % BLOCK_LEN as u64;
            if header.is_extension && header.len <= HEADERS_LEN_MAX as u64 && at <= HEADERS_LEN_MAX {
                at += (header.len + padding) as usize;
            } else if header.len > 0 {
                let kind = if header.is_relation { CutterKind::Pages(RELATION_PAGE_LEN) } else { CutterKind::DEFAULT };
                self.state = State::Content { left: header.len, padding: padding as usize, kind };
                return Some(at);
            } else if at >= HEADERS_LEN_MAX {
                self.state = State::Headers { padding: 0 };
                return Some(at);
            }
        }
    }

    /// What comes after the last header (zero blocks, or no tar after all) is cut like anything else.
    fn tail(&mut self, window: &[u8], end: bool) -> Option<usize> {
        self.state = State::Plain(CutterKind::DEFAULT);
        plain(&self.gear, CutterKind::DEFAULT, window, end)
    }

    fn cut_before_tail(&mut self, at: usize) -> Option<usize> {
        self.state = State::Plain(CutterKind::DEFAULT);
        Some(at)
    }
}

fn plain(gear: &Gear, kind: CutterKind, window: &[u8], end: bool) -> Option<usize> {
    let (len_max, cut) = match kind {
        CutterKind::Pages(len) => (len as usize, window.len().min(len as usize)),
        CutterKind::Cdc(avg_len) => (avg_len as usize * 4, 0),
        CutterKind::Tar => (CHUNK_LEN_MAX, window.len().min(CHUNK_LEN_MAX)),
    };
    if window.len() < len_max && !end {
        return None;
    }
    match kind {
        CutterKind::Cdc(avg_len) => Some(gear.cut(window, avg_len as usize)),
        _ => Some(cut),
    }
}
