//! `diff`: what changed from one snapshot to another.
//!
//! Invariant: lines come as differences are found, so trees of any size compare in bounded memory.
//! Never here: comparing (see the engine); content, of which only the ids are compared.

use clap::Args;
use engine::{Change, Difference, Field, Repository, Side, SnapshotInfo, Walked};
use futures::TryStreamExt as _;
use pack::manifest::{Entry, EntryKind};
use serde::Serialize;

use crate::commands::entry_shown::{self, EntryDocument, len_of};
use crate::commands::losses::Losses;
use crate::commands::selection::{FilterArgs, one_of, shown};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::{self, escaped};
use crate::words::Reference;

/// Lines gathered before they are written, in bytes.
const GATHERED_LEN: usize = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  backstay diff 1a2b3c4d:/etc latest              # the same folder in both
  backstay diff 1a2b3c4d:/srv/a 1a2b3c4d:/srv/b   # two folders
  backstay diff latest                            # with the one before of the same host and source
  backstay diff 1a2b3c4d latest --json | jq -r 'select(.change == \"removed\").path'";

/// Show what changed from one snapshot to another
///
/// A letter says how: + added, - removed, M other content (or another target or device), U the same content with other
/// metadata, T another type. Its sizes follow: before and after. Content is compared by the ids of its chunks and not read, and
/// what two snapshots share is passed over unread, so it takes as long as there are changes. Times and numbers of inodes do not
/// count.
///
/// The exit code is 0 whether or not anything differs, and 1 if some entries could not be compared because of damage, which
/// is named. With --json, one object a line, and a summary as the last.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// The snapshot before, by `latest` or the start of its id, and a path within it
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = Reference::parser())]
    before: Reference,

    /// The snapshot after, and a path within it; without a path that of the first
    ///
    /// If it is left out, the first one is compared with the snapshot before it of the same host and source.
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = Reference::parser())]
    after: Option<Reference>,

    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    component: &'a str,
    change: &'static str,
    /// Which metadata differs.
    fields: Vec<&'static str>,
    path: String,
    before: Option<EntryDocument>,
    after: Option<EntryDocument>,
}

/// How often something happened, and to how many bytes.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Tally {
    count: u64,
    before_len: u64,
    after_len: u64,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    added: Tally,
    removed: Tally,
    content: Tally,
    metadata: Tally,
    #[serde(rename = "type")]
    type_: Tally,
}

#[derive(Debug, Serialize)]
struct SummaryDocument<'a> {
    before_id: String,
    after_id: String,
    /// Whether nothing could be lost on the way.
    is_whole: bool,
    summary: &'a Summary,
}

/// Compares them.
pub(crate) async fn run(args: &DiffArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let [before, after] = args.sides(&repository).await?;
    let has_several = [&before, &after].iter().any(|side| side.snapshot.snapshot.structure.components.len() > 1);
    ctx.ui.detail(format_args!("from {} to {}", shown(&before.snapshot), shown(&after.snapshot)));
    let mut told = repository.diff(&before, &after).await?;
    let (mut summary, mut losses, mut lines) = (Summary::default(), Losses::default(), String::new());
    while let Some(next) = told.try_next().await? {
        match next {
            Walked::Found(found) => {
                summary.add(&found);
                lines.push_str(&if ctx.ui.is_json { json(&found) } else { line(&found, has_several) });
                lines.push('\n');
            }
            Walked::Lost(lost) => {
                let sides = lost.snapshots.iter().filter_map(|at| [&before, &after].get(*at).copied());
                let of: Vec<_> = sides.map(|side| human::short(&side.snapshot.id)).collect();
                losses.name(&lost.error, &format!("snapshot {}", of.join(", ")), ctx);
            }
        }
        if lines.len() >= GATHERED_LEN {
            ctx.ui.text(std::mem::take(&mut lines)).await?;
        }
    }
    ctx.ui.text(lines).await?;
    if summary.is_empty() && losses.is_empty() {
        something_there(&repository, &before, &after).await?;
    }
    if ctx.ui.is_json {
        let (before_id, after_id) = (before.snapshot.id.to_string(), after.snapshot.id.to_string());
        ctx.ui.json(&SummaryDocument { before_id, after_id, is_whole: losses.is_empty(), summary: &summary })?;
    } else {
        ctx.ui.note(summary.words());
    }
    Ok(losses.outcome(&repository, &[before.snapshot.id, after.snapshot.id], ctx).await)
}

/// Whether there is anything at all at one of the paths.
async fn something_there(repository: &Repository, before: &Side, after: &Side) -> Result<(), CommandError> {
    for side in [before, after] {
        if side.path.is_empty() || repository.entries(&side.snapshot, &side.path).await?.try_next().await?.is_some() {
            return Ok(());
        }
    }
    let (path, snapshot) = (escaped(&after.path).to_string(), human::short(&after.snapshot.id));
    Err(engine::EngineError::NoEntry { path, snapshot }.into())
}

impl DiffArgs {
    async fn sides(&self, repository: &Repository) -> Result<[Side; 2], CommandError> {
        let filter = self.filter.filter();
        let (first, path) = one_of(&self.before, repository, &filter).await?;
        let Some(reference) = &self.after else {
            let before = earlier(repository, &first).await?;
            return Ok([before, first].map(|snapshot| Side { snapshot, path: path.clone() }));
        };
        let (second, own) = one_of(reference, repository, &filter).await?;
        let own = if reference.has_path { own } else { path.clone() };
        Ok([Side { snapshot: first, path }, Side { snapshot: second, path: own }])
    }
}

/// The snapshot before one, of the same host and source.
async fn earlier(repository: &Repository, of: &SnapshotInfo) -> Result<SnapshotInfo, CommandError> {
    let structure = &of.snapshot.structure;
    let (hosts, sources) = (vec![structure.host.clone()], vec![structure.source.clone()]);
    let filter = engine::SnapshotFilter { hosts, sources, tags: Vec::new() };
    let moment = |info: &SnapshotInfo| (info.snapshot.structure.started_at, info.id);
    let found = repository.snapshots(&filter).await?.into_iter().rev();
    let before = found.filter(|info| info.trusted).find(|info| moment(info) < moment(of));
    let what = || format!("of the same host and source is older than {}", human::short(&of.id));
    Ok(before.ok_or_else(|| engine::EngineError::NoSnapshot { what: what() })?)
}

fn letter(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Content => 'M',
        Change::Metadata => 'U',
        Change::Type => 'T',
    }
}

const fn change_word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Content => "content",
        Change::Metadata => "metadata",
        Change::Type => "type",
    }
}

const fn field_word(field: Field) -> &'static str {
    match field {
        Field::Mode => "mode",
        Field::Owner => "owner",
        Field::ModifiedAt => "modified_at",
        Field::Xattrs => "xattrs",
    }
}

/// The path as it is now, or as it was if it is gone.
fn path_of(found: &Difference) -> &[u8] {
    found.after.as_ref().or(found.before.as_ref()).map_or(&[], |entry| &entry.path)
}

/// `M   1.2 KiB -> 1.3 KiB  etc/hosts (mode)`.
fn line(found: &Difference, has_several: bool) -> String {
    let path = entry_shown::path(&found.component, path_of(found), has_several);
    let len = |entry: Option<&Entry>| match entry.map(|entry| &entry.kind) {
        Some(EntryKind::File { len }) => human::size(*len),
        _ => String::new(),
    };
    let (before, after) = (len(found.before.as_ref()), len(found.after.as_ref()));
    let lens = match found.change {
        Change::Metadata => String::new(),
        _ if before.is_empty() || after.is_empty() => format!("{before}{after}"),
        _ => format!("{before} -> {after}"),
    };
    let kind = |entry: Option<&Entry>| entry.map_or("", |entry| human::kind_word(&entry.kind));
    let remark = match found.change {
        Change::Type => format!(" ({} -> {})", kind(found.before.as_ref()), kind(found.after.as_ref())),
        Change::Metadata => {
            let words =
                found.fields.iter().map(|field| if *field == Field::ModifiedAt { "time" } else { field_word(*field) });
            format!(" ({})", words.collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    };
    format!("{} {lens:>24}  {path}{remark}", letter(found.change))
}

fn json(found: &Difference) -> String {
    let (before, after) = (found.before.as_ref().map(EntryDocument::new), found.after.as_ref().map(EntryDocument::new));
    let path = path_of(found);
    let document = Document {
        component: &found.component,
        change: change_word(found.change),
        fields: found.fields.iter().map(|field| field_word(*field)).collect(),
        path: std::str::from_utf8(path).map_or_else(|_| escaped(path).to_string(), str::to_owned),
        before,
        after,
    };
    serde_json::to_string(&document).unwrap_or_default()
}

impl Summary {
    fn add(&mut self, found: &Difference) {
        let tally = match found.change {
            Change::Added => &mut self.added,
            Change::Removed => &mut self.removed,
            Change::Content => &mut self.content,
            Change::Metadata => &mut self.metadata,
            Change::Type => &mut self.type_,
        };
        tally.count += 1;
        tally.before_len = tally.before_len.saturating_add(found.before.as_ref().map_or(0, len_of));
        tally.after_len = tally.after_len.saturating_add(found.after.as_ref().map_or(0, len_of));
    }

    const fn is_empty(&self) -> bool {
        self.added.count + self.removed.count + self.content.count + self.metadata.count + self.type_.count == 0
    }

    /// `3 added (1.2 KiB), 1 removed (17 B), 2 with other content (10 KiB -> 12 KiB)`.
    fn words(&self) -> String {
        let said = |tally: &Tally, what: &str, lens: String| {
            (tally.count > 0).then(|| format!("{} {what}{lens}", human::count(tally.count)))
        };
        let both = |tally: &Tally| format!(" ({} -> {})", human::size(tally.before_len), human::size(tally.after_len));
        let parts = [
            said(&self.added, "added", format!(" ({})", human::size(self.added.after_len))),
            said(&self.removed, "removed", format!(" ({})", human::size(self.removed.before_len))),
            said(&self.content, "with other content", both(&self.content)),
            said(&self.metadata, "with other metadata", String::new()),
            said(&self.type_, "of another type", both(&self.type_)),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "nothing differs".to_owned() } else { parts.join(", ") }
    }
}
