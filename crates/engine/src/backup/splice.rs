//! Splicing: a file of the snapshot before, with some of its pages replaced.
//!
//! ```text
//! before   │ p0 │ p1 │ p2 │ p3 │            references, a page each
//! changes         │ P1 │           │ P4 │   bytes, in rising order
//! now      │ p0 │ P1 │ p2 │ p3 │ P4 │       one list of references: a snapshot like any other, with no chain
//! ```
//!
//! Invariant: a reference is taken over only after the lookup found it in a pack that exists and is not condemned.
//! Invariant: memory holds a page of references and a batch of changes, however long the file.
//! Never here: which pages changed; that says the source.

use bytes::Bytes;
use chunk::CutterKind;
use futures::StreamExt;
use futures::stream::BoxStream;
use pack::SnapshotId;
use pack::manifest::{Child, ChildKind, Entry};
use seal::ChunkId;
use source::events::Base;

use crate::EngineError;
use crate::backup::batch::{Batch, Item};
use crate::backup::events::{Blocks, out_of_step};
use crate::backup::stream::Outlet;
use crate::entries::{Scope, entries_of, leaves_of};
use crate::fetch::Fetcher;

/// Bytes and items of one batch.
const BATCH_LEN: usize = 1 << 20;
const BATCH_ITEMS: usize = 4096;

/// The snapshot before, and what its source kept for this run.
pub(crate) struct Earlier {
    pub(crate) id: SnapshotId,
    pub(crate) root: ChunkId,
    pub(crate) fetcher: Fetcher,
    pub(crate) kept: Bytes,
}

impl Earlier {
    /// The pages of a file as it was.
    async fn pages(&self, path: &[u8], page_len: u64) -> Result<Pages, EngineError> {
        let mut entries = entries_of(self.fetcher.clone(), Some(self.root), Scope::new(path));
        let children = loop {
            match entries.next().await.transpose().map_err(unless_of_store)? {
                Some(full) if full.entry.path == path => break full.children,
                Some(_) => {}
                None => return Err(EngineError::BaseLost { what: source::entry::escaped(path).to_string() }),
            }
        };
        Ok(Pages { leaves: leaves_of(self.fetcher.clone(), children), page_len, hole_left: 0 })
    }
}

/// References to the pages of a file, one after the other.
struct Pages {
    leaves: BoxStream<'static, Result<Child, EngineError>>,
    page_len: u64,
    /// Bytes left of a hole.
    hole_left: u64,
}

impl Pages {
    /// The next page: a chunk, or a hole; none at the end.
    async fn next(&mut self) -> Result<Option<Child>, EngineError> {
        if self.hole_left == 0 {
            match self.leaves.next().await.transpose().map_err(unless_of_store)? {
                None => return Ok(None),
                Some(leaf) if leaf.kind == ChildKind::Hole => self.hole_left = leaf.len,
                Some(leaf) if leaf.len <= self.page_len => return Ok(Some(leaf)),
                Some(leaf) => return Err(lost(&leaf)),
            }
        }
        let len = self.hole_left.min(self.page_len);
        self.hole_left -= len;
        Ok(Some(Child::hole(len)))
    }
}

/// Whatever is wrong with the snapshot before, a full backup does not need it; with a store that fails, nothing goes on.
fn unless_of_store(error: EngineError) -> EngineError {
    match error {
        EngineError::Store(_) | EngineError::Interrupted => error,
        other => EngineError::BaseLost { what: other.to_string() },
    }
}

fn lost(child: &Child) -> EngineError {
    EngineError::BaseLost { what: format!("chunk {}", child.id) }
}

/// Sends the spliced content of a file; gives the bytes that came. The caller sends the end.
pub(crate) async fn splice(
    mut blocks: Blocks<'_>,
    earlier: &Earlier,
    entry: Entry,
    base: &Base,
    page_len: u32,
    outlet: &Outlet,
) -> Result<u64, EngineError> {
    let mut pages = earlier.pages(&entry.path, u64::from(page_len)).await?;
    let mut splicing =
        Splicing { outlet, len: base.len, page_len: u64::from(page_len), at: 0, batch: None, batch_len: 0 };
    splicing.push(Item::Begin(Box::new(entry), CutterKind::Pages(page_len)), 0).await?;
    let mut read = 0;
    loop {
        let block = blocks.next().await?;
        let until = block.as_ref().map_or(u64::MAX, |(number, _)| *number);
        while splicing.at < until && splicing.left() > 0 {
            let before = if splicing.at < base.block_count { pages.next().await? } else { None };
            splicing.reuse(before).await?;
        }
        let Some((number, data)) = block else { break };
        if number != splicing.at || data.len() as u64 != splicing.left() {
            return Err(out_of_step().into());
        }
        if splicing.at < base.block_count {
            pages.next().await?; // it is replaced
        }
        read += data.len() as u64;
        splicing.replace(data).await?;
    }
    splicing.flush().await?;
    Ok(read)
}

struct Splicing<'o> {
    outlet: &'o Outlet,
    /// Length of the file now.
    len: u64,
    page_len: u64,
    /// The next page.
    at: u64,
    batch: Option<Batch>,
    batch_len: usize,
}

impl Splicing<'_> {
    /// Bytes that the next page has: 0 at the end of the file.
    fn left(&self) -> u64 {
        self.len.saturating_sub(self.at.saturating_mul(self.page_len)).min(self.page_len)
    }

    /// Takes over a page of the file before; zeros if there is none.
    async fn reuse(&mut self, before: Option<Child>) -> Result<(), EngineError> {
        let len = self.left();
        let item = match before {
            Some(child) if child.kind == ChildKind::Hole => Item::Hole(len),
            Some(child) if child.len == len => Item::Known(child),
            Some(child) => return Err(lost(&child)),
            None => Item::Hole(len),
        };
        self.at += 1;
        self.push(item, 0).await
    }

    /// Puts a page that came.
    async fn replace(&mut self, data: Bytes) -> Result<(), EngineError> {
        self.at += 1;
        let len = data.len();
        self.push(Item::Chunk(data), len).await
    }

    async fn push(&mut self, item: Item, len: usize) -> Result<(), EngineError> {
        if self.batch.is_none() {
            let held = self.outlet.budget.take(BATCH_LEN).await;
            self.batch = Some(Batch::new(held));
        }
        self.batch_len += len;
        let Some(batch) = self.batch.as_mut() else { return Ok(()) };
        batch.items.push(item);
        let is_full = self.batch_len >= BATCH_LEN || batch.items.len() >= BATCH_ITEMS;
        if is_full { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), EngineError> {
        self.batch_len = 0;
        match self.batch.take() {
            Some(batch) => self.outlet.send(batch).await,
            None => Ok(()),
        }
    }
}
