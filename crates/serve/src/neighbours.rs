//! Small files that are read one after the other, as by `grep -r` or `cp -r`.
//!
//! ```text
//! a small file is opened ─► its page, as one file of the contents of all that it lists ─► read ahead like any file
//! the page is at its end, another begins ─► goes on at the same pace
//! ```
//!
//! Neighbours in a page were stored one after the other, so that many of them share a blob.
//!
//! Invariant: at most [`PAGES_MAX`] pages are read ahead, within the bound that all readers share.
//! Never here: what a small file's bytes are; its own reader finds the blobs already opened.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{EngineError, Found};
use seal::ChunkId;

use crate::ahead::{Budget, Reader};

/// The longest file that is taken for small, in bytes.
const SMALL_LEN_MAX: u64 = 512 << 10;
/// Pages that are read ahead at once: those of two programs that look around.
const PAGES_MAX: usize = 2;

/// Opens files, and reads ahead what lies beside small ones.
#[derive(Debug)]
pub(crate) struct Readers {
    budget: Arc<Budget>,
    /// The page opened last comes last.
    pages: Mutex<VecDeque<(ChunkId, Arc<Reader>)>>,
}

impl Readers {
    /// At most so many bytes are read ahead, for all readers together.
    pub(crate) fn new(ahead_len_max: u64) -> Self {
        Self { budget: Budget::new(ahead_len_max), pages: Mutex::default() }
    }

    /// Opens a file. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// Those of [`Found::file`].
    pub(crate) fn open(&self, found: &Found) -> Result<Reader, EngineError> {
        let file = found.file()?;
        if (1..=SMALL_LEN_MAX).contains(&file.len()) {
            self.note(found, file.len());
        }
        Ok(Reader::new(file, &self.budget, 0))
    }

    /// Takes note of a small file that is about to be read.
    fn note(&self, found: &Found, len: u64) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, _) = found.place();
        let reader = match pages.iter().find(|(page, _)| *page == id) {
            Some((_, reader)) => Arc::clone(reader),
            None => {
                let Some(file) = found.page_content() else { return };
                let run_len = pages.back().and_then(|(_, last)| last.run_len_at_end()).unwrap_or_default();
                let reader = Arc::new(Reader::new(file, &self.budget, run_len));
                if pages.len() >= PAGES_MAX {
                    pages.pop_front();
                }
                pages.push_back((id, Arc::clone(&reader)));
                reader
            }
        };
        drop(pages);
        let start = found.start_in_page();
        reader.note(start..start + len);
    }
}
