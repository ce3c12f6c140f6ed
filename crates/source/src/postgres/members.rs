//! From the members of a backup's archives to entries, and whether they are what the manifest says.
//!
//! ```text
//! whole file          Begin Data* End
//! INCREMENTAL.<name>  head │ blocks   →  Begin(name, with a base) Block* End
//! backup_label        of an incremental backup: held back, freed of the lines that make it one, then as a whole file
//! link of a tablespace                →  nothing: its archive comes as the directory pg_tblspc/<oid>
//! manifest            each line against what came; then as it is, or naming the files that the blocks make
//! ```
//!
//! A file made of blocks has no checksum in the manifest unless nothing of it changed: who splices it sees its pages,
//! nobody sees all its bytes. `pg_verifybackup` and `UPLOAD_MANIFEST` take such lines.
//!
//! Invariant: every file that came is in the manifest and every file of the manifest came, `pg_wal` apart, with its
//! length and its checksum.
//! Never here: content. What is held is a few numbers for each file.

use std::collections::HashMap;
use std::mem;

use bytes::{Buf as _, Bytes, BytesMut};

use super::emit::Out;
use super::failure::{failed, odd};
use super::incremental::{Head, PREFIX};
use super::manifest::{Checksums, Line, Lines, Manifest, ManifestError, ManifestFile, NAME, Running, Sum, Writer};
use super::tar::{Member, MemberKind, Part};
use crate::entry::{Entry, EntryKind, EntryPath, Metadata, Time, escaped};
use crate::events::{Base, Event, Layout};
use crate::{Fault, SourceError};

const LABEL: &[u8] = b"backup_label";
/// What a server does not start without, and may keep elsewhere, as Debian does.
pub(super) const CONFIGURATION: [&str; 2] = ["postgresql.conf", "pg_hba.conf"];
/// The longest label that we take, in bytes; it has a dozen lines.
const LABEL_LEN_MAX: u64 = 64 * 1024;

/// What a backup is made of, and how much of it has come.
pub(super) struct Members {
    place: String,
    checksums: Checksums,
    page_len: u32,
    /// The manifest of the backup that this one differs from, by path; `None` for a full backup.
    previous: Option<HashMap<Vec<u8>, ManifestFile>>,
    received: HashMap<Vec<u8>, Option<Received>>,
    /// Path of the archive that comes now, with a slash at its end; empty for the data directory itself.
    prefix: Vec<u8>,
    current: Option<Current>,
    lines: Lines,
    writer: Writer,
    /// Files of the configuration that have not come.
    unconfigured: Vec<&'static str>,
}

/// A file that came; nothing is kept of other entries.
struct Received {
    len: u64,
    sum: Sum,
    made: Option<Made>,
}

/// The file that something else was made into.
struct Made {
    path: Vec<u8>,
    len: u64,
    sum: MadeSum,
}

enum MadeSum {
    Known(Sum),
    /// As in the manifest of the backup before.
    Previous,
    Unknown,
}

/// The file that comes now.
struct Current {
    path: Vec<u8>,
    entry: Entry,
    len: u64,
    sum: Running,
    way: Way,
}

enum Way {
    Whole,
    Label(Vec<u8>),
    Head(Vec<u8>),
    Blocks(Blocks),
}

struct Blocks {
    head: Head,
    base: Base,
    /// Blocks that came.
    count: usize,
    partial: BytesMut,
}

impl Members {
    /// Members of a backup by the server at `place`; with `previous`, of one that differs from an earlier one.
    pub(super) fn new(place: &str, checksums: Checksums, page_len: u32, previous: Option<Manifest>) -> Self {
        let by_path = |manifest: Manifest| manifest.files.into_iter().filter_map(|file| Some((file.path()?, file)));
        Self {
            place: place.to_owned(),
            checksums,
            page_len,
            previous: previous.map(|manifest| by_path(manifest).collect()),
            received: HashMap::new(),
            prefix: Vec::new(),
            current: None,
            lines: Lines::default(),
            writer: Writer::default(),
            unconfigured: CONFIGURATION.to_vec(),
        }
    }

    /// An archive begins: the data directory's, or a tablespace's.
    pub(super) fn archive(&mut self, tablespace: Option<u32>) {
        self.prefix = tablespace.map(|oid| format!("pg_tblspc/{oid}/").into_bytes()).unwrap_or_default();
    }

    pub(super) async fn part(&mut self, part: Part, out: &Out) -> Result<(), SourceError> {
        match part {
            Part::Begin(member) => self.begin(member, out).await,
            Part::Data(data) => self.data(data, out).await,
            Part::End => self.end(out).await,
        }
    }

    async fn begin(&mut self, member: Member, out: &Out) -> Result<(), SourceError> {
        if let Some(root) = self.prefix.strip_suffix(b"/").map(<[u8]>::to_vec)
            && !self.received.contains_key(&root)
        {
            self.childless(root, EntryKind::Directory, &member, out).await?;
        }
        let own = member.path.strip_prefix(b"./").unwrap_or(&member.path);
        let own = own.strip_suffix(b"/").unwrap_or(own);
        let path = [&self.prefix[..], own].concat();
        match &member.kind {
            _ if own.is_empty() || own == b"." => Ok(()),
            MemberKind::Directory => self.childless(path, EntryKind::Directory, &member, out).await,
            MemberKind::Symlink { .. } if path.starts_with(b"pg_tblspc/") => Ok(()),
            MemberKind::Symlink { target } => {
                let kind = EntryKind::Symlink { target: target.clone() };
                self.childless(path, kind, &member, out).await
            }
            MemberKind::File => self.file(path, &member, out).await,
        }
    }

    /// An entry that has no content of its own. A directory may come again, with its archive.
    async fn childless(
        &mut self,
        path: Vec<u8>,
        kind: EntryKind,
        member: &Member,
        out: &Out,
    ) -> Result<(), SourceError> {
        let entry = entry(&path, kind, member)?;
        match self.received.insert(path, None) {
            None => {
                out.begin(entry, Layout::Unknown, None).await;
                out.event(Event::End).await;
                Ok(())
            }
            Some(None) if entry.kind == EntryKind::Directory => Ok(()),
            Some(_) => Err(odd(&self.place, format!("{} comes twice", entry.path))),
        }
    }

    async fn file(&mut self, path: Vec<u8>, member: &Member, out: &Out) -> Result<(), SourceError> {
        let len = member.len;
        let name_start = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, name) = path.split_at(name_start);
        let is_partial = self.previous.is_some() && name.starts_with(PREFIX);
        let (real, way) = match &self.previous {
            Some(_) if is_partial => ([folder, &name[PREFIX.len()..]].concat(), Way::Head(Vec::new())),
            Some(_) if path == LABEL && len <= LABEL_LEN_MAX => (path.clone(), Way::Label(Vec::new())),
            _ => (path.clone(), Way::Whole),
        };
        if is_partial && !self.previous.as_ref().is_some_and(|files| files.contains_key(&real)) {
            let what = format!("only blocks came of {}, which the earlier backup does not have", escaped(&real));
            return Err(odd(&self.place, what));
        }
        if self.received.contains_key(&path) || (is_partial && self.received.contains_key(&real)) {
            return Err(odd(&self.place, format!("{} comes twice", escaped(&real))));
        }
        self.unconfigured.retain(|name| name.as_bytes() != path);
        let entry = entry(&real, EntryKind::File { len }, member)?;
        if matches!(way, Way::Whole) {
            out.begin(entry.clone(), self.layout(&real), None).await;
        }
        self.current = Some(Current { path, entry, len, sum: Running::new(self.checksums), way });
        Ok(())
    }

    fn layout(&self, path: &[u8]) -> Layout {
        if is_relation(path) { Layout::Pages(self.page_len) } else { Layout::Unknown }
    }

    async fn data(&mut self, data: Bytes, out: &Out) -> Result<(), SourceError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.sum.update(&data);
        match &mut current.way {
            Way::Whole => out.event(Event::Data(data)).await,
            Way::Label(text) => text.extend_from_slice(&data),
            Way::Head(bytes) => {
                bytes.extend_from_slice(&data);
                let bytes = mem::take(bytes);
                self.head(bytes, out).await?;
            }
            Way::Blocks(blocks) => {
                blocks.push(data, self.page_len, out).await.map_err(|what| odd(&self.place, what))?;
            }
        }
        Ok(())
    }

    /// More of the head of a file of blocks came: `bytes` is all that came of the file.
    async fn head(&mut self, bytes: Vec<u8>, out: &Out) -> Result<(), SourceError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let shown = escaped(&current.path);
        let read = Head::read(&bytes, self.page_len);
        let read = read.map_err(|error| odd(&self.place, format!("{shown} has a head with {error}")))?;
        let Some((head, head_len)) = read else {
            current.way = Way::Head(bytes);
            return Ok(());
        };
        let expected = head_len as u64 + head.numbers.len() as u64 * u64::from(self.page_len);
        if current.len != expected {
            return Err(odd(&self.place, format!("{shown} has {} bytes instead of {expected}", current.len)));
        }
        let base = head.base(self.page_len);
        current.entry.kind = EntryKind::File { len: base.len };
        out.begin(current.entry.clone(), Layout::Pages(self.page_len), Some(base.clone())).await;
        let mut blocks = Blocks { head, base, count: 0, partial: BytesMut::new() };
        let mut rest = Bytes::from(bytes);
        rest.advance(head_len);
        blocks.push(rest, self.page_len, out).await.map_err(|what| odd(&self.place, what))?;
        current.way = Way::Blocks(blocks);
        Ok(())
    }

    async fn end(&mut self, out: &Out) -> Result<(), SourceError> {
        let Some(Current { path, mut entry, len, sum, way }) = self.current.take() else { return Ok(()) };
        let made = match way {
            Way::Whole => None,
            Way::Label(text) => {
                let text = full_label(&text);
                let mut sum = Running::new(self.checksums);
                sum.update(&text);
                let made = Made { path: path.clone(), len: text.len() as u64, sum: MadeSum::Known(sum.finish()) };
                entry.kind = EntryKind::File { len: made.len };
                out.begin(entry, Layout::Unknown, None).await;
                if !text.is_empty() {
                    out.event(Event::Data(text.into())).await;
                }
                Some(made)
            }
            Way::Head(_) => return Err(odd(&self.place, format!("{} ends within its head", escaped(&path)))),
            Way::Blocks(blocks) => Some(self.made(entry.path.into_bytes(), &blocks)?),
        };
        out.event(Event::End).await;
        self.received.insert(path, Some(Received { len, sum: sum.finish(), made }));
        Ok(())
    }

    fn made(&mut self, path: Vec<u8>, blocks: &Blocks) -> Result<Made, SourceError> {
        if blocks.count != blocks.head.numbers.len() {
            return Err(odd(&self.place, format!("blocks of {} are missing", escaped(&path))));
        }
        let len = blocks.base.len;
        let previous = self.previous.as_ref().and_then(|files| files.get(&path));
        let is_unchanged = blocks.count == 0 && previous.is_some_and(|file| file.len == len);
        // That the whole file has come under its own name is settled here too.
        self.received.insert(path.clone(), None);
        let sum = if is_unchanged { MadeSum::Previous } else { MadeSum::Unknown };
        Ok(Made { path, len, sum })
    }

    /// The manifest begins.
    pub(super) async fn begin_manifest(&self, out: &Out) -> Result<(), SourceError> {
        let member = Member { mode: 0o600, ..Member::default() };
        let entry = entry(NAME.as_bytes(), EntryKind::File { len: 0 }, &member)?;
        out.begin(entry, Layout::Unknown, None).await;
        Ok(())
    }

    /// More of the manifest came.
    pub(super) async fn manifest(&mut self, data: Bytes, out: &Out) -> Result<(), SourceError> {
        let mut written = Vec::new();
        for line in self.lines.push(&data).map_err(|error| self.unfit(&error))? {
            let line = match line {
                Line::File(file) => Line::File(self.compare(file)?),
                line => line,
            };
            if self.previous.is_some() {
                written.extend(self.writer.line(line));
            }
        }
        let data = if self.previous.is_some() { written.into() } else { data };
        if !data.is_empty() {
            out.event(Event::Data(data)).await;
        }
        Ok(())
    }

    /// Compares a line with the file that came. Returns the line for the file that it was made into.
    fn compare(&mut self, mut file: ManifestFile) -> Result<ManifestFile, SourceError> {
        let path = file.path().unwrap_or_default();
        let shown = escaped(&path);
        let Some(Some(received)) = self.received.remove(&path) else {
            let what = format!("{shown} is in the backup manifest and did not come");
            return Err(failed(&self.place, what, Fault::Incomplete));
        };
        if received.len != file.len || !received.sum.is_of(&file) {
            let what = format!("{shown} fails its checksum in the backup manifest");
            return Err(failed(&self.place, what, Fault::Damaged));
        }
        let Some(made) = received.made else { return Ok(file) };
        (file.algorithm, file.checksum) = (None, None);
        let previous = self.previous.as_ref().and_then(|files| files.get(&made.path));
        match (&made.sum, previous) {
            (MadeSum::Known(sum), _) => sum.put(&mut file),
            (MadeSum::Previous, Some(previous)) => {
                (file.algorithm, file.checksum) = (previous.algorithm.clone(), previous.checksum.clone());
            }
            _ => {}
        }
        file.len = made.len;
        file.set_path(made.path);
        Ok(file)
    }

    fn unfit(&self, error: &ManifestError) -> SourceError {
        let fault = match error {
            ManifestError::Form { .. } => Fault::Protocol,
            ManifestError::Checksum => Fault::Damaged,
            ManifestError::Cut => Fault::Incomplete,
        };
        failed(&self.place, error.to_string(), fault)
    }

    /// The manifest has ended: nothing may be left that it does not name, but for the log.
    pub(super) async fn finish(self, out: &Out) -> Result<(), SourceError> {
        out.event(Event::End).await;
        let Self { place, lines, unconfigured, .. } = self;
        if !unconfigured.is_empty() {
            let names = unconfigured.join(" and ");
            let warning = format!("{names} are not in the data directory of this server, and so not in this backup");
            out.event(Event::Warning(warning)).await;
        }
        lines.finish().map_err(|error| failed(&place, error.to_string(), Fault::Incomplete))?;
        let left = self.received.iter().find(|(path, file)| file.is_some() && !path.starts_with(b"pg_wal/"));
        match left {
            None => Ok(()),
            Some((path, _)) => {
                let what = format!("{} came and is not in the backup manifest", escaped(path));
                Err(failed(&place, what, Fault::Protocol))
            }
        }
    }
}

impl Blocks {
    async fn push(&mut self, mut data: Bytes, page_len: u32, out: &Out) -> Result<(), String> {
        let page_len = page_len as usize;
        while !data.is_empty() {
            let block = if self.partial.is_empty() && data.len() >= page_len {
                data.split_to(page_len)
            } else {
                let taken = data.split_to(data.len().min(page_len - self.partial.len()));
                self.partial.extend_from_slice(&taken);
                if self.partial.len() < page_len {
                    return Ok(());
                }
                self.partial.split().freeze()
            };
            let number = self.head.numbers.get(self.count).ok_or("more blocks came than were announced")?;
            self.count += 1;
            out.event(Event::Block { number: u64::from(*number), data: block }).await;
        }
        Ok(())
    }
}

/// The label without the lines that ask for an earlier backup.
fn full_label(text: &[u8]) -> Vec<u8> {
    let is_kept = |line: &&[u8]| !line.starts_with(b"INCREMENTAL FROM ");
    text.split_inclusive(|&byte| byte == b'\n').filter(is_kept).flatten().copied().collect()
}

fn entry(path: &[u8], kind: EntryKind, member: &Member) -> Result<Entry, SourceError> {
    let time = Time { secs: member.modified_at, nanos: 0 };
    let name = |name: &[u8]| (!name.is_empty()).then(|| name.to_vec());
    let metadata = Metadata {
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        user: name(&member.user),
        group: name(&member.group),
        modified_at: time,
        changed_at: time,
        links: 1,
        ..Metadata::default()
    };
    Ok(Entry { path: EntryPath::try_from(path.to_vec())?, kind, metadata })
}

/// Whether a file holds pages of a relation: `base/<oid>/<digits>[_fork][.n]`, and likewise in `global` and in
/// tablespaces.
fn is_relation(path: &[u8]) -> bool {
    let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    let name = match parts[..] {
        [b"global", name] => name,
        [b"base", database, name] if is_number(database) => name,
        [b"pg_tblspc", _, version, database, name] if version.starts_with(b"PG_") && is_number(database) => name,
        _ => return false,
    };
    let mut dots = name.splitn(2, |&byte| byte == b'.');
    let (relation, segment) = (dots.next().unwrap_or_default(), dots.next());
    let mut marks = relation.splitn(2, |&byte| byte == b'_');
    let (node, fork) = (marks.next().unwrap_or_default(), marks.next());
    is_number(node) && segment.is_none_or(is_number) && fork.is_none_or(|fork| matches!(fork, b"fsm" | b"vm" | b"init"))
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
