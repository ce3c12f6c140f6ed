//! Assembling a component: chunks to the packer, entries to pages, pages to the packer.
//!
//! Entries of trees come in order. Those of databases come as the database sends them: they wait, with at most 32
//! references to their content each, until all are there and can be sorted.
//!
//! Invariant: an entry gets into a page only after all of its chunks went to the packer.
//! Never here: reading, naming content.

use std::sync::Arc;

use pack::BlobKind;
use pack::manifest::{Child, Content, ContentBuilder, Entry, EntryKind, MetaChunk, Spans, TreeBuilder, TreeRoot};
use seal::ChunkNamer;
use tokio::sync::Mutex;

use crate::backup::batch::{Batch, Item};
use crate::backup::files::Problems;
use crate::backup::name::{Named, Standing};
use crate::backup::packer::{Packer, Part};
use crate::budget::Held;
use crate::index::Index;
use crate::repository::Repository;
use crate::{EngineError, Progress};

/// Pages that wait for one lookup.
const PAGES_MAX: usize = 64;

/// Entries that may wait to be sorted, at some 300 bytes each and at most 32 references to content.
const WAITING_MAX: usize = 1 << 20;

/// Whether entries come sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Sorted,
    Any,
}

/// An entry with its sort key and content.
type Waiting = (Vec<u8>, Entry, Vec<Child>);

/// Builds one component.
pub(crate) struct Assembler<'p, 'a> {
    packer: &'p Mutex<Packer<'a>>,
    repository: &'a Repository,
    /// Which component, counted from 0.
    component: usize,
    index: Index,
    namer: ChunkNamer,
    progress: Arc<Progress>,
    tree: TreeBuilder,
    current: Option<(Box<Entry>, ContentBuilder)>,
    /// Whether the current entry's content is cut finely.
    is_fine: bool,
    pages: Vec<MetaChunk>,
    problems: Problems,
    /// Entries that wait to be sorted.
    waiting: Option<Vec<Waiting>>,
    /// Bytes of content that were new to the repository.
    new_len: u64,
    /// Chunks and pages that were lost and are there again.
    healed_count: u64,
}

impl<'p, 'a> Assembler<'p, 'a> {
    pub(crate) fn new(
        packer: &'p Mutex<Packer<'a>>,
        repository: &'a Repository,
        (component, order): (usize, Order),
        index: Index,
        progress: Arc<Progress>,
        problems: Problems,
    ) -> Result<Self, EngineError> {
        let namer = repository.keyring.namer()?;
        Ok(Self {
            packer,
            repository,
            component,
            index,
            namer,
            progress,
            tree: TreeBuilder::new(),
            current: None,
            is_fine: false,
            pages: Vec::new(),
            problems,
            waiting: (order == Order::Any).then(Vec::new),
            new_len: 0,
            healed_count: 0,
        })
    }

    /// Takes the next batch.
    pub(crate) async fn take(&mut self, named: Named) -> Result<(), EngineError> {
        let Named { batch: Batch { items, mut held }, ids } = named;
        let mut ids = ids.into_iter();
        for item in items {
            match item {
                Item::Begin(entry, cutter) => {
                    let fixed = matches!(cutter, chunk::CutterKind::Pages(_));
                    let spans = if fixed { Spans::Fixed } else { Spans::Content };
                    self.is_fine = cutter != chunk::CutterKind::DEFAULT;
                    self.current = Some((entry, ContentBuilder::new(spans)));
                }
                Item::Chunk(bytes) => {
                    let (id, standing) = ids.next().ok_or_else(out_of_step)?;
                    if standing != Standing::Known {
                        let own = held.split(bytes.len());
                        let part = Part { component: self.component, kind: BlobKind::Data, is_fine: self.is_fine };
                        let is_new = self.packer.lock().await.add(part, id, &bytes, own).await?;
                        self.new_len += if is_new { bytes.len() as u64 } else { 0 };
                        self.healed_count += u64::from(is_new && standing == Standing::Lost);
                    }
                    self.progress.add_len(bytes.len() as u64);
                    self.content(Child::chunk(id, bytes.len() as u64)).await?;
                }
                Item::Known(child) => {
                    let (_, standing) = ids.next().ok_or_else(out_of_step)?;
                    if standing != Standing::Known {
                        return Err(EngineError::BaseLost { what: format!("chunk {}", child.id) });
                    }
                    self.content(child).await?;
                }
                Item::Hole(len) => self.content(Child::hole(len)).await?,
                Item::End { is_whole } => self.end(is_whole).await?,
                Item::Whole(entry, children) => self.entry(*entry, children).await?,
            }
        }
        Ok(())
    }

    async fn content(&mut self, child: Child) -> Result<(), EngineError> {
        let (_, content) = self.current.as_mut().ok_or_else(out_of_step)?;
        content.push(child, &self.namer).map_err(EngineError::object("a content page"))?;
        let pages = content.take_pages();
        self.store_pages(pages).await
    }

    async fn end(&mut self, is_whole: bool) -> Result<(), EngineError> {
        let (mut entry, content) = self.current.take().ok_or_else(out_of_step)?;
        let Content { children, pages } = content.finish(&self.namer).map_err(EngineError::object("a content page"))?;
        self.store_pages(pages).await?;
        entry.is_whole = is_whole;
        // What was read is what the entry says: streams tell their length only now, and files may have changed.
        entry.kind = EntryKind::File { len: children.iter().map(|child| child.len).sum() };
        self.entry(*entry, children).await
    }

    async fn entry(&mut self, entry: Entry, children: Vec<Child>) -> Result<(), EngineError> {
        self.progress.add_entries(1);
        match &mut self.waiting {
            Some(waiting) if waiting.len() >= WAITING_MAX => {
                return Err(EngineError::Request { what: format!("a database of more than {WAITING_MAX} files") });
            }
            Some(waiting) => waiting.push((entry.sort_key(), entry, children)),
            None => self.place(entry, &children).await?,
        }
        Ok(())
    }

    /// Puts the next entry, in order, into the tree.
    async fn place(&mut self, entry: Entry, children: &[Child]) -> Result<(), EngineError> {
        let path = entry.path.clone();
        if let Err(error) = self.tree.push(entry, children, &self.namer) {
            // Names or attributes that no page can hold: this entry is left out, the tree goes on.
            self.problems.add(source::entry::escaped(&path).to_string(), error.to_string(), true);
        }
        let pages = self.tree.take_pages();
        self.store_pages(pages).await
    }

    /// Collects pages and stores those that the repository does not have.
    async fn store_pages(&mut self, pages: Vec<MetaChunk>) -> Result<(), EngineError> {
        self.pages.extend(pages);
        if self.pages.len() >= PAGES_MAX { self.flush_pages().await } else { Ok(()) }
    }

    async fn flush_pages(&mut self) -> Result<(), EngineError> {
        let pages = std::mem::take(&mut self.pages);
        let index = self.index.clone();
        let keeps_all = !self.repository.keyring.opens_content();
        let looked_up = self.repository.offload.start(move || {
            let ids: Vec<_> = pages.iter().map(|page| page.id).collect();
            let known = index.find_or_miss(&ids)?;
            let (mut fresh, mut kept) = (Vec::new(), Vec::new());
            for (page, (known, is_lost)) in pages.into_iter().zip(known) {
                // A key that opens no bodies can read its own only here, so it keeps those that it lost, too.
                if known.is_none() || (keeps_all && index.kept_page(&page.id).is_none()) {
                    kept.push((page.id, page.bytes.clone()));
                }
                if known.is_none() {
                    fresh.push((page, is_lost));
                }
            }
            index.keep_pages(&kept);
            Ok::<_, EngineError>(fresh)
        });
        for (page, is_lost) in looked_up.await?? {
            let part = Part { component: self.component, kind: page.kind, is_fine: false };
            let is_new = self.packer.lock().await.add(part, page.id, &page.bytes, Held::none()).await?;
            self.healed_count += u64::from(is_new && is_lost);
        }
        Ok(())
    }

    /// Ends the component; gives its root, the bytes of content that were new, and the chunks that were lost and are there
    /// again.
    pub(crate) async fn finish(mut self) -> Result<(TreeRoot, u64, u64), EngineError> {
        let mut waiting = self.waiting.take().unwrap_or_default();
        waiting.sort_by(|one, other| one.0.cmp(&other.0));
        for (_, entry, children) in waiting {
            self.place(entry, &children).await?;
        }
        let tree = std::mem::take(&mut self.tree);
        let (root, pages) = tree.finish(&self.namer).map_err(EngineError::object("a page of entries"))?;
        self.pages.extend(pages);
        self.flush_pages().await?;
        self.packer.lock().await.end(self.component).await?;
        Ok((root, self.new_len, self.healed_count))
    }
}

fn out_of_step() -> EngineError {
    EngineError::Panicked { what: "content came outside of an entry".to_owned() }
}
