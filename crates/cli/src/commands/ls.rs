//! `ls`: list what is in a snapshot.
//!
//! ```text
//! everything at and below a path  ─┐
//! --depth: folder after folder  ───┴─► lines, or with -R groups of lines, one for each folder
//! ```
//!
//! Invariant: lines come as entries are read, so a tree of any size lists in bounded memory.
//! Invariant: a page that is lost is named, and what is behind it is listed.
//! Never here: content (see `cat`).

use std::collections::VecDeque;

use clap::Args;
use engine::{EngineError, ListedEntry, Look, Repository, SnapshotInfo};
use futures::TryStreamExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use pack::manifest::EntryKind;
use serde::Serialize;

use crate::commands::entry_shown::{self, EntryDocument};
use crate::commands::losses::Losses;
use crate::commands::selection::SelectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::{self, escaped};

/// Written out: clap would show options that come from the environment as if they were required.
const USAGE: &str = "\
backstay ls [OPTIONS] SNAPSHOT[:PATH]
       backstay ls [OPTIONS] --at TIME [:PATH]";

const EXAMPLES: &str = "\
Examples:
  backstay ls latest
  backstay ls -l --depth 1 latest:/srv        # what takes the room: each folder with all that is below it
  backstay ls --at '2 days ago' :/srv/www
  backstay ls 1a2b3c4d --json | jq -r 'select(.content_len > 1e9).path'";

/// Lines gathered before they are written, in bytes.
const GATHERED_LEN: usize = 64 << 10;

/// List the entries of a snapshot, or of one path in it and below
///
/// With --json, one object a line. The exit code is 1 if some entries could not be listed because of damage, which is named.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct LsArgs {
    /// Show mode, owner, group, length and time as well
    #[arg(short, long)]
    long: bool,

    /// Show names by folder, as `ls -R` does; with --long each folder with the size of all that is below it
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Go only this many levels down; folders at the last are shown with the size of all that is below them
    ///
    /// Only the pages that are needed for it are read. Sizes are shown with --long and --json, and count each name of a file.
    #[arg(long, value_name = "LEVELS", value_parser = clap::value_parser!(u32).range(1..))]
    depth: Option<u32>,

    #[command(flatten)]
    selection: SelectionArgs,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    component: &'a str,
    #[serde(flatten)]
    entry: EntryDocument,
    /// Bytes of the files below a folder of which nothing else is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    below_len: Option<u64>,
}

/// An entry, and whether nothing below it is listed.
type Item = (ListedEntry, bool);
type Items = BoxStream<'static, Result<Item, EngineError>>;

/// Lists them.
pub(crate) async fn run(args: &LsArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let snapshot = args.selection.select(&repository, ctx).await?;
    let look = repository.look_around(&snapshot).await?;
    let mut items = args.items(&repository, &snapshot, &look).await?;
    let mut listing = Listing {
        args,
        look,
        has_several: snapshot.snapshot.structure.components.len() > 1,
        folder: None,
        lines: String::new(),
        is_json: ctx.ui.is_json,
    };
    let (mut count, mut losses) = (0_u64, Losses::default());
    loop {
        match items.next().await {
            None => break,
            Some(Err(error)) => losses.pass(error, "", ctx)?,
            Some(Ok(item)) => {
                count += 1;
                listing.add(item, &mut losses, ctx).await?;
            }
        }
        if listing.lines.len() >= GATHERED_LEN {
            ctx.ui.text(std::mem::take(&mut listing.lines)).await?;
        }
    }
    ctx.ui.text(listing.lines).await?;
    if count == 0 && losses.is_empty() && !args.selection.path().is_empty() {
        return Err(no_entry(args, &snapshot.id.to_string()));
    }
    Ok(losses.outcome(&repository, &[snapshot.id], ctx).await)
}

fn no_entry(args: &LsArgs, snapshot: &str) -> CommandError {
    let path = escaped(args.selection.path()).to_string();
    EngineError::NoEntry { path, snapshot: human::short(&snapshot) }.into()
}

impl LsArgs {
    async fn items(
        &self,
        repository: &Repository,
        snapshot: &SnapshotInfo,
        look: &Look,
    ) -> Result<Items, CommandError> {
        let path = self.selection.path();
        let Some(depth) = self.depth else {
            let entries = repository.entries(snapshot, path).await?;
            return Ok(entries.map_ok(|listed| (listed, false)).boxed());
        };
        let components = snapshot.snapshot.structure.components.iter();
        let looks: Vec<Look> = components.map(|component| look.of_component(&component.name)).collect();
        let path = path.to_vec();
        let walks = stream::iter(looks).flat_map(move |look| {
            let own = look.entry(&path).map_ok(|listed| (listed, false));
            own.chain(levels(look, path.clone(), depth))
        });
        Ok(walks.boxed())
    }
}

/// What lies so many levels below a folder: all of a folder, then what is below each folder in it.
fn levels(look: Look, path: Vec<u8>, depth: u32) -> Items {
    let children = look.children(&path);
    let walk = (look, VecDeque::from([(children, depth)]));
    let items = stream::unfold(walk, |(look, mut open)| async move {
        loop {
            let (children, depth) = open.front_mut()?;
            let depth = *depth;
            let Some(next) = children.next().await else {
                open.pop_front();
                continue;
            };
            let item = next.map(|listed| {
                let is_folder = matches!(listed.entry.kind, EntryKind::Directory);
                if is_folder && depth > 1 {
                    open.push_back((look.children(&listed.entry.path), depth - 1));
                }
                (listed, is_folder && depth == 1)
            });
            return Some((item, (look, open)));
        }
    });
    items.boxed()
}

/// Lines in the making.
struct Listing<'a> {
    args: &'a LsArgs,
    look: Look,
    has_several: bool,
    /// The component and folder of the last line, where they are shown by folder.
    folder: Option<(String, Vec<u8>)>,
    lines: String,
    is_json: bool,
}

impl Listing<'_> {
    async fn add(&mut self, item: Item, losses: &mut Losses, ctx: &Context) -> Result<(), CommandError> {
        let (listed, is_last) = item;
        let ListedEntry { component, entry } = &listed;
        let shows_len = is_last && (self.args.long || self.is_json);
        let below_len = if shows_len { self.below(component, &entry.path, losses, ctx).await? } else { None };
        if self.is_json {
            let document = Document { component, entry: EntryDocument::new(entry), below_len };
            self.lines.push_str(&serde_json::to_string(&document).unwrap_or_default());
            self.lines.push('\n');
            return Ok(());
        }
        let mut path = entry_shown::path(component, &entry.path, self.has_several);
        if self.args.recursive {
            let is_own = entry.path == self.args.selection.path();
            if is_own && matches!(entry.kind, EntryKind::Directory) {
                return Ok(());
            }
            let (folder, name) = split(&entry.path);
            self.begin(component, if is_own { &[] } else { folder }, losses, ctx).await?;
            path = escaped(name).to_string();
        }
        let line = if self.args.long { entry_shown::long(entry, &path, below_len) } else { path };
        self.lines.push_str(&line);
        self.lines.push('\n');
        Ok(())
    }

    /// Begins the lines of a folder, unless they have begun.
    async fn begin(
        &mut self,
        component: &str,
        folder: &[u8],
        losses: &mut Losses,
        ctx: &Context,
    ) -> Result<(), CommandError> {
        let is_same = |(own, path): &(String, Vec<u8>)| own == component && path == folder;
        if self.folder.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        let gap = if self.folder.is_some() { "\n" } else { "" };
        let shown = if folder.is_empty() { b"/" } else { folder };
        let shown = entry_shown::path(component, shown, self.has_several);
        let len = if self.args.long { self.below(component, folder, losses, ctx).await? } else { None };
        let len = len.map(|len| format!(" {}", human::size(len))).unwrap_or_default();
        self.lines.push_str(&format!("{gap}{shown}:{len}\n"));
        self.folder = Some((component.to_owned(), folder.to_vec()));
        Ok(())
    }

    /// How much is below a folder, if damage does not hide it.
    async fn below(
        &self,
        component: &str,
        path: &[u8],
        losses: &mut Losses,
        ctx: &Context,
    ) -> Result<Option<u64>, CommandError> {
        match self.look.len_below(component, path).await {
            Ok(len) => Ok(Some(len)),
            Err(error) => {
                losses.pass(error, &format!("the size of {}", escaped(path)), ctx)?;
                Ok(None)
            }
        }
    }
}

/// A path's folder, and its name there.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}
