//! The reading side of what speaks in events: databases and the like.
//!
//! Invariant: the component is whole only if the stream of events ended without an error.
//! Never here: what any source means by its entries.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use chunk::CutterKind;
use futures::stream::Peekable;
use futures::{Stream, StreamExt};
use source::events::{Event, Events, Layout, SourceEntry};
use source::files::Piece;
use source::{Fault, SourceError};

use crate::EngineError;
use crate::backup::batch::{Batch, Item};
use crate::backup::entry::entry_of;
use crate::backup::produce::Produced;
use crate::backup::request::EventSource;
use crate::backup::splice::{Earlier, splice};
use crate::backup::stream::Outlet;
use crate::budget::Held;

/// What a source keeps for its next run, in bytes; more is not kept, and the next run reads everything.
const KEPT_LEN_MAX: usize = 64 << 20;

/// Reads the events of a source into batches.
pub(crate) async fn read_events(
    source: &EventSource,
    earlier: Option<&Earlier>,
    started_at: i64,
    outlet: &Outlet,
) -> Result<Produced, EngineError> {
    let events = (source.open)(earlier.map(|earlier| earlier.kept.clone()));
    let mut reader = Reader { events: events.peekable(), produced: Produced::default(), keeping: None };
    loop {
        let next = tokio::select! {
            next = reader.events.next() => next,
            () = outlet.cancel.cancelled() => return Err(EngineError::Interrupted),
        };
        match next.transpose()? {
            None => break,
            Some(Event::Begin(entry)) => reader.entry(entry, source, earlier, started_at, outlet).await?,
            Some(event) => reader.aside(event)?,
        }
    }
    Ok(reader.produced)
}

struct Reader {
    events: Peekable<Events>,
    produced: Produced,
    /// The content that is kept, as far as it has come.
    keeping: Option<BytesMut>,
}

impl Reader {
    async fn entry(
        &mut self,
        begun: SourceEntry,
        source: &EventSource,
        earlier: Option<&Earlier>,
        started_at: i64,
        outlet: &Outlet,
    ) -> Result<(), EngineError> {
        let SourceEntry { entry, layout, base } = begun;
        let is_kept = source.keeps.is_some_and(|name| entry.path.as_bytes() == name.as_bytes());
        let mut entry_now = entry_of(&entry);
        if entry_now.modified_at == pack::manifest::Time::default() {
            entry_now.modified_at = crate::backup::entry::time_at(started_at);
        }
        if !matches!(entry.kind, source::entry::EntryKind::File { .. }) {
            let mut batch = Batch::new(Held::none());
            batch.items.push(Item::Whole(Box::new(entry_now), Vec::new()));
            outlet.send(batch).await?;
            return self.end().await;
        }
        if let (Some(base), Layout::Pages(page_len)) = (&base, layout) {
            let earlier = earlier.ok_or_else(|| protocol(source, "it sends changes to what it was not told of"))?;
            let blocks = Blocks(&mut *self);
            let read = splice(blocks, earlier, entry_now, base, page_len, outlet).await?;
            self.produced.read_len += read;
            return outlet.end(true).await;
        }
        self.keeping = is_kept.then(BytesMut::new);
        let own = Outlet { cutter: cutter_of(layout).or(outlet.cutter), ..outlet.clone() };
        let read = own.stream_content(entry_now, Content { reader: self }).await??;
        self.produced.read_len += read;
        if let Some(kept) = self.keeping.take().filter(|kept| kept.len() <= KEPT_LEN_MAX) {
            self.produced.kept = Some(kept.freeze());
        }
        outlet.end(true).await
    }

    /// Takes the end of an entry that has no content.
    async fn end(&mut self) -> Result<(), EngineError> {
        match self.events.next().await.transpose()? {
            Some(Event::End) => Ok(()),
            _ => Err(EngineError::Source(out_of_step())),
        }
    }

    /// Takes what belongs to no entry.
    fn aside(&mut self, event: Event) -> Result<(), SourceError> {
        match event {
            Event::Fact { name, value } => self.produced.facts.push((name, value)),
            Event::Warning(warning) => self.produced.warnings.push(warning),
            _ => return Err(out_of_step()),
        }
        Ok(())
    }
}

/// The content of the entry that began last.
struct Content<'r> {
    reader: &'r mut Reader,
}

impl Stream for Content<'_> {
    type Item = Result<Piece, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let event = match ready!(self.reader.events.poll_next_unpin(context)) {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(Some(Err(out_of_step()))),
            };
            match event {
                Event::Data(bytes) => {
                    if let Some(keeping) = self.reader.keeping.as_mut().filter(|kept| kept.len() <= KEPT_LEN_MAX) {
                        keeping.extend_from_slice(&bytes);
                    }
                    return Poll::Ready(Some(Ok(Piece::Data(bytes))));
                }
                Event::End => return Poll::Ready(None),
                other => {
                    if let Err(error) = self.reader.aside(other) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }
}

/// The changed blocks of the entry that began last.
pub(crate) struct Blocks<'r>(&'r mut Reader);

impl Blocks<'_> {
    /// The next block; none at the entry's end.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Bytes)>, EngineError> {
        loop {
            match self.0.events.next().await.transpose()? {
                Some(Event::Block { number, data }) => return Ok(Some((number, data))),
                Some(Event::End) => return Ok(None),
                Some(other) => self.0.aside(other)?,
                None => return Err(out_of_step().into()),
            }
        }
    }
}

const fn cutter_of(layout: Layout) -> Option<CutterKind> {
    match layout {
        Layout::Pages(len) => Some(CutterKind::Pages(len)),
        Layout::Unknown | Layout::Records => None,
    }
}

pub(crate) fn out_of_step() -> SourceError {
    SourceError::Server {
        place: "a source".to_owned(),
        what: "its events are out of step".to_owned(),
        fault: Fault::Protocol,
    }
}

fn protocol(source: &EventSource, what: &str) -> EngineError {
    SourceError::Server { place: source.kind.to_owned(), what: what.to_owned(), fault: Fault::Protocol }.into()
}
