//! pg_dump's custom archive, followed while it passes by: what it holds, and whether it is whole.
//!
//! ```text
//! "PGDMP" version int_len offset_len format │ header fields │ count │ entry fields × count │ block × (entries with data)
//! block = type (1: table, 3: large objects) id, then pieces: int len, bytes; len 0 ends
//! int = sign byte, int_len bytes little-endian     text = int len (-1: none), bytes
//! ```
//!
//! An archive that is written to a pipe has its blocks in order and nothing after the last, and each entry says
//! whether it has one. So the contents tell exactly what must come, though the format has no end mark of its own.
//!
//! Invariant: memory is bounded by the number of entries, never by the length of their data.
//! Never here: what the statements say, but for the roles and extensions that they need.

use std::collections::HashSet;

use super::contents::{Contents, Item};

/// The longest text of an entry that is looked at, in bytes; longer ones are passed over.
const TEXT_LEN_MAX: u64 = 256 * 1024;
/// Bytes before the header fields: magic, three of version, two lengths, the format.
const MAGIC_LEN: usize = 11;
/// The format's number for "custom".
const CUSTOM: u8 = 1;
/// Entries say so when they have no block.
const NO_DATA: u8 = 3;
const TABLE_BLOCK: u8 = 1;
const LARGE_OBJECTS_BLOCK: u8 = 3;

/// An archive passing by.
#[derive(Debug)]
pub struct Archive {
    contents: Contents,
    layout: Layout,
    step: Step,
    /// The token being read: `need` bytes are collected, or `skip` bytes passed over.
    buffer: Vec<u8>,
    need: usize,
    skip: u64,
    item: Item,
    keeps_items: bool,
    entries_left: u64,
    awaited: HashSet<i64>,
}

/// What the first bytes say of all that follow.
#[derive(Debug, Default)]
struct Layout {
    int_len: usize,
    offset_len: usize,
    header: Vec<Field>,
    entry: Vec<Field>,
}

/// What the token being read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Magic,
    Header(usize),
    HeaderText(usize),
    Entry(usize),
    EntryText(usize),
    BlockType,
    BlockId { is_large: bool },
    LargeObject,
    PieceLen { is_large: bool },
    Piece { is_large: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Byte,
    Number,
    Text,
    Database,
    ServerVersion,
    DumpVersion,
    Count,
    Id,
    Tag,
    Kind,
    Definition,
    Schema,
    Owner,
    Dependencies,
    Offset,
}

/// Why something is not a whole archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWhole {
    /// For messages.
    pub why: &'static str,
    /// Whether it merely stops too early.
    pub is_cut: bool,
}

fn damaged(why: &'static str) -> NotWhole {
    NotWhole { why, is_cut: false }
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            contents: Contents::default(),
            layout: Layout::default(),
            step: Step::Magic,
            buffer: Vec::new(),
            need: MAGIC_LEN,
            skip: 0,
            item: Item::default(),
            keeps_items: false,
            entries_left: 0,
            awaited: HashSet::new(),
        }
    }
}

impl Archive {
    /// One whose contents list every item: some hundred bytes for each.
    #[must_use]
    pub fn listing() -> Self {
        Self { keeps_items: true, ..Self::default() }
    }

    /// The next bytes of the archive.
    ///
    /// # Errors
    ///
    /// [`NotWhole`] if this cannot be what `pg_dump --format=custom` writes to a pipe.
    pub fn push(&mut self, mut data: &[u8]) -> Result<(), NotWhole> {
        loop {
            if self.skip > 0 {
                let len = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
                data = data.get(len..).unwrap_or_default();
                self.skip -= len as u64;
                if self.skip > 0 {
                    return Ok(());
                }
            }
            let missing = self.need - self.buffer.len();
            let Some((now, rest)) = data.split_at_checked(missing) else {
                self.buffer.extend_from_slice(data);
                return Ok(());
            };
            self.buffer.extend_from_slice(now);
            data = rest;
            let mut token = std::mem::take(&mut self.buffer);
            self.on_token(&token)?;
            token.clear();
            self.buffer = token;
        }
    }

    /// Says that this was all.
    ///
    /// # Errors
    ///
    /// [`NotWhole`] if something is missing.
    pub fn finish(self) -> Result<Contents, NotWhole> {
        let cut = |why| NotWhole { why, is_cut: true };
        match self.step {
            Step::BlockType if self.awaited.is_empty() => Ok(self.contents),
            Step::BlockType => Err(cut("the archive ends before the data of its last tables")),
            Step::Magic => Err(cut("the archive ends within its first bytes")),
            Step::Header(_) | Step::HeaderText(_) | Step::Entry(_) | Step::EntryText(_) => {
                Err(cut("the archive ends within its table of contents"))
            }
            _ => Err(cut("the archive ends in the middle of a table")),
        }
    }

    /// What it holds, once the table of contents has passed.
    #[must_use]
    pub fn contents(&self) -> Option<&Contents> {
        let known = matches!(
            self.step,
            Step::BlockType | Step::BlockId { .. } | Step::LargeObject | Step::PieceLen { .. } | Step::Piece { .. }
        );
        known.then_some(&self.contents)
    }

    fn expect(&mut self, step: Step, need: usize) {
        self.step = step;
        self.need = need;
    }

    fn int_len(&self) -> usize {
        self.layout.int_len + 1
    }

    fn on_token(&mut self, token: &[u8]) -> Result<(), NotWhole> {
        match self.step {
            Step::Magic => self.on_magic(token),
            Step::Header(index) => self.on_field(token, index, false),
            Step::Entry(index) => self.on_field(token, index, true),
            Step::HeaderText(index) => {
                self.on_text(self.layout.header.get(index).copied(), token);
                self.begin_field(index + 1, false)
            }
            Step::EntryText(index) => {
                let field = self.layout.entry.get(index).copied();
                self.on_text(field, token);
                // Dependencies are texts until there is one which is none.
                self.begin_field(index + usize::from(field != Some(Field::Dependencies)), true)
            }
            _ => self.on_block(token),
        }
    }

    fn on_magic(&mut self, token: &[u8]) -> Result<(), NotWhole> {
        let &[b'P', b'G', b'D', b'M', b'P', major, minor, _, int_len, offset_len, format] = token else {
            return Err(damaged("it does not begin like an archive of pg_dump"));
        };
        if major != 1 || minor < 12 || !(1..=8).contains(&int_len) || !(1..=8).contains(&offset_len) {
            return Err(damaged("the archive is of a version that is not known"));
        }
        if format != CUSTOM {
            return Err(damaged("the archive is not of the custom format"));
        }
        self.layout = Layout::of_version(minor, int_len.into(), offset_len.into());
        self.begin_field(0, false)
    }

    /// Expects the field, or what comes after the last.
    fn begin_field(&mut self, index: usize, in_entry: bool) -> Result<(), NotWhole> {
        let fields = if in_entry { &self.layout.entry } else { &self.layout.header };
        match fields.get(index) {
            Some(field) => {
                let need = match field {
                    Field::Byte => 1,
                    Field::Offset => 1 + self.layout.offset_len,
                    _ => self.int_len(),
                };
                self.expect(if in_entry { Step::Entry(index) } else { Step::Header(index) }, need);
                Ok(())
            }
            None if self.entries_left > 0 => {
                self.entries_left -= 1;
                self.item = Item::default();
                self.begin_field(0, true)
            }
            None => {
                self.expect(Step::BlockType, 1);
                Ok(())
            }
        }
    }

    fn on_field(&mut self, token: &[u8], index: usize, in_entry: bool) -> Result<(), NotWhole> {
        let fields = if in_entry { &self.layout.entry } else { &self.layout.header };
        let field = fields.get(index).copied().unwrap_or(Field::Byte);
        match field {
            Field::Byte => {}
            Field::Number => _ = int_of(token)?,
            Field::Id => self.item.id = int_of(token)?,
            Field::Count => {
                let count = int_of(token)?;
                self.contents.entry_count = u64::try_from(count).map_err(|_| damaged("it has less than no entries"))?;
                self.entries_left = self.contents.entry_count;
            }
            Field::Offset => self.on_item(token.first() != Some(&NO_DATA)),
            _ => return self.begin_text(int_of(token)?, field, index, in_entry),
        }
        self.begin_field(index + 1, in_entry)
    }

    fn begin_text(&mut self, len: i64, field: Field, index: usize, in_entry: bool) -> Result<(), NotWhole> {
        let Ok(len) = u64::try_from(len) else { return self.begin_field(index + 1, in_entry) };
        let is_wanted = field != Field::Text && len <= TEXT_LEN_MAX;
        self.skip = if is_wanted { 0 } else { len };
        let need = if is_wanted { usize::try_from(len).unwrap_or_default() } else { 0 };
        self.expect(if in_entry { Step::EntryText(index) } else { Step::HeaderText(index) }, need);
        Ok(())
    }

    /// An entry of the table of contents is complete.
    fn on_item(&mut self, has_data: bool) {
        let mut item = std::mem::take(&mut self.item);
        if has_data {
            self.contents.data_count += 1;
            self.awaited.insert(item.id);
        }
        if self.keeps_items {
            item.has_data = has_data;
            self.contents.items.push(item);
        }
    }

    fn on_text(&mut self, field: Option<Field>, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        match field {
            Some(Field::Database) => self.contents.database = text,
            Some(Field::ServerVersion) => self.contents.server_version = text,
            Some(Field::DumpVersion) => self.contents.dump_version = text,
            Some(Field::Tag) => self.item.name = text,
            Some(Field::Kind) => {
                if text == "EXTENSION" {
                    self.contents.extensions.insert(self.item.name.clone());
                }
                self.item.kind = text;
            }
            Some(Field::Definition) if self.item.kind.ends_with("ACL") => {
                self.item.grantees.extend(text.split(';').filter_map(grantee));
                self.contents.roles.extend(self.item.grantees.iter().cloned());
            }
            Some(Field::Schema) => self.item.schema = text,
            Some(Field::Owner) if !text.is_empty() => {
                self.contents.roles.insert(text.clone());
                self.item.owner = text;
            }
            Some(Field::Dependencies) => self.item.depends_on.extend(text.parse::<i64>().ok()),
            _ => {}
        }
    }

    fn on_block(&mut self, token: &[u8]) -> Result<(), NotWhole> {
        let int_len = self.int_len();
        match self.step {
            Step::BlockType => {
                let is_large = match token.first() {
                    Some(&TABLE_BLOCK) => false,
                    Some(&LARGE_OBJECTS_BLOCK) => true,
                    _ => return Err(damaged("a block is neither a table nor large objects")),
                };
                self.expect(Step::BlockId { is_large }, int_len);
            }
            Step::BlockId { is_large } => {
                if !self.awaited.remove(&int_of(token)?) {
                    return Err(damaged("there is data that the table of contents does not know"));
                }
                self.expect(if is_large { Step::LargeObject } else { Step::PieceLen { is_large } }, int_len);
            }
            Step::LargeObject => match int_of(token)? {
                0 => self.expect(Step::BlockType, 1),
                _ => self.expect(Step::PieceLen { is_large: true }, int_len),
            },
            Step::PieceLen { is_large } => match u64::try_from(int_of(token)?) {
                Ok(0) if is_large => self.expect(Step::LargeObject, int_len),
                Ok(0) => self.expect(Step::BlockType, 1),
                Ok(len) => {
                    self.skip = len;
                    self.expect(Step::Piece { is_large }, 0);
                }
                Err(_) => return Err(damaged("a piece of a table is shorter than nothing")),
            },
            Step::Piece { is_large } => self.expect(Step::PieceLen { is_large }, int_len),
            _ => {}
        }
        Ok(())
    }
}

impl Layout {
    fn of_version(minor: u8, int_len: usize, offset_len: usize) -> Self {
        use Field::{
            Byte, Count, Database, Definition, Dependencies, DumpVersion, Id, Kind, Number, Offset, Owner, Schema,
            ServerVersion, Tag, Text,
        };
        let mut header = vec![if minor >= 15 { Byte } else { Number }];
        header.extend([Number; 7]);
        header.extend([Database, ServerVersion, DumpVersion, Count]);
        // dump id, has data; table's oid, oid, tag, kind; section; definition, drop, copy, schema, tablespace
        let mut entry = vec![Id, Number, Text, Text, Tag, Kind, Number, Definition, Text, Text, Schema, Text];
        entry.extend((minor >= 14).then_some(Text));
        entry.extend((minor >= 16).then_some(Number));
        entry.extend([Owner, Text, Dependencies, Offset]);
        Self { int_len, offset_len, header, entry }
    }
}

/// A sign byte and a little-endian number.
fn int_of(token: &[u8]) -> Result<i64, NotWhole> {
    let (&sign, bytes) = token.split_first().ok_or(damaged("a number has no bytes"))?;
    let value = bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    let value = i64::try_from(value).map_err(|_| damaged("a number is too large"))?;
    match sign {
        0 => Ok(value),
        1 => Ok(-value),
        _ => Err(damaged("a number has no sign")),
    }
}

/// The role that a statement `GRANT … TO role [WITH GRANT OPTION]` names.
fn grantee(statement: &str) -> Option<String> {
    let statement = statement.trim();
    let statement = statement.strip_suffix(" WITH GRANT OPTION").unwrap_or(statement);
    if !statement.contains("GRANT ") {
        return None;
    }
    let (_, role) = statement.rsplit_once(" TO ")?;
    let unquoted = role.strip_prefix('"').and_then(|role| role.strip_suffix('"'));
    let role = unquoted.map_or_else(|| role.to_owned(), |role| role.replace("\"\"", "\""));
    (role != "PUBLIC").then_some(role)
}

#[cfg(test)]
mod tests;
