//! A tar archive as it streams by: members and their bytes, none of them held whole.
//!
//! ```text
//! header (512 B) │ content │ zeros up to 512 │ header │ … │ two headers of zeros, or nothing (Postgres 13 and 14)
//! ```
//!
//! Names too long for a header come in members before the one that they are for, from GNU tar or by POSIX (pax).
//!
//! Invariant: nothing here panics, and at most one header or one long name is held, whatever the bytes.
//! Never here: what the members are.

use bytes::Bytes;

/// Bytes of a header, and what content is padded to.
const HEADER_LEN: usize = 512;
/// The longest name or set of pax records that we take, in bytes.
const EXTENSION_LEN_MAX: u64 = 64 * 1024;

/// One member's header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Member {
    /// As stored, so it may begin with `./` and end with a slash.
    pub(super) path: Vec<u8>,
    pub(super) kind: MemberKind,
    pub(super) len: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) user: Vec<u8>,
    pub(super) group: Vec<u8>,
    /// Seconds since 1970.
    pub(super) modified_at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum MemberKind {
    #[default]
    File,
    Directory,
    Symlink {
        target: Vec<u8>,
    },
}

/// What comes next in an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Begin(Member),
    Data(Bytes),
    End,
}

/// Why bytes are no archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TarError {
    #[error("a tar header whose checksum is wrong")]
    Checksum,
    #[error("a tar header whose field {0} is no number")]
    Number(&'static str),
    #[error("a tar member of type {:?}, which Postgres does not send", char::from(*.0))]
    Kind(u8),
    #[error("a tar member's name of more than {EXTENSION_LEN_MAX} bytes")]
    NameLen,
    #[error("tar records that cannot be read")]
    Records,
    #[error("a tar archive that ends in the middle of a member")]
    Cut,
}

/// Reads one archive.
#[derive(Debug, Default)]
pub(super) struct Tar {
    state: State,
    /// What earlier members said about the next one.
    next: Overrides,
}

#[derive(Debug)]
enum State {
    Header(Vec<u8>),
    Extension { kind: u8, text: Vec<u8>, left: u64, padding: u64 },
    Content { left: u64, padding: u64 },
    Padding(u64),
    Ended,
}

#[derive(Debug, Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    len: Option<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self::Header(Vec::new())
    }
}

impl Tar {
    /// What comes next in `input`, taken from its beginning; `None` if more of the archive is needed.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Part>, TarError> {
        loop {
            match &mut self.state {
                State::Header(partial) => {
                    let taken = input.split_to(input.len().min(HEADER_LEN - partial.len()));
                    partial.extend_from_slice(&taken);
                    let Some(header) = partial.first_chunk::<HEADER_LEN>() else { return Ok(None) };
                    let header = *header;
                    if let Some(member) = self.header(&header)? {
                        return Ok(Some(Part::Begin(member)));
                    }
                }
                State::Extension { kind, text, left, padding } => {
                    let taken = take(input, left);
                    text.extend_from_slice(&taken);
                    if *left > 0 {
                        return Ok(None);
                    }
                    let (kind, text, padding) = (*kind, std::mem::take(text), *padding);
                    self.state = State::Padding(padding);
                    self.next.read(kind, &text)?;
                }
                State::Content { left: 0, padding } => {
                    self.state = State::Padding(*padding);
                    return Ok(Some(Part::End));
                }
                State::Content { left, .. } => {
                    let data = take(input, left);
                    return Ok((!data.is_empty()).then_some(Part::Data(data)));
                }
                State::Padding(left) => {
                    take(input, left);
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::default();
                }
                State::Ended => {
                    input.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the archive may end here.
    pub(super) fn finish(self) -> Result<(), TarError> {
        match self.state {
            State::Ended => Ok(()),
            State::Header(partial) if partial.is_empty() => Ok(()),
            _ => Err(TarError::Cut),
        }
    }

    /// Takes a header; `None` if it begins no member of its own.
    fn header(&mut self, header: &[u8; HEADER_LEN]) -> Result<Option<Member>, TarError> {
        if header.iter().all(|&byte| byte == 0) {
            self.state = State::Ended;
            return Ok(None);
        }
        let header = Header(header);
        header.check()?;
        let len = header.number(124, 12, "size")?;
        let kind = header.0[156];
        if matches!(kind, b'L' | b'K' | b'x' | b'g') {
            if len > EXTENSION_LEN_MAX {
                return Err(TarError::NameLen);
            }
            self.state = State::Extension { kind, text: Vec::new(), left: len, padding: padding(len) };
            return Ok(None);
        }
        let overrides = std::mem::take(&mut self.next);
        let mut member = header.member(kind)?;
        member.path = overrides.path.unwrap_or(member.path);
        member.len = overrides.len.unwrap_or(len);
        if let (MemberKind::Symlink { target }, Some(long)) = (&mut member.kind, overrides.target) {
            *target = long;
        }
        if member.kind != MemberKind::File {
            member.len = 0;
        }
        self.state = State::Content { left: member.len, padding: padding(member.len) };
        Ok(Some(member))
    }
}

impl Overrides {
    fn read(&mut self, kind: u8, text: &[u8]) -> Result<(), TarError> {
        match kind {
            b'L' => self.path = Some(until_zero(text).to_vec()),
            b'K' => self.target = Some(until_zero(text).to_vec()),
            b'x' => self.records(text).ok_or(TarError::Records)?,
            _ => {}
        }
        Ok(())
    }

    /// Pax records: `<length of the record> <name>=<value>\n`.
    fn records(&mut self, mut text: &[u8]) -> Option<()> {
        while !text.is_empty() {
            let space = text.iter().position(|&byte| byte == b' ')?;
            let len: usize = std::str::from_utf8(text.get(..space)?).ok()?.parse().ok()?;
            let (record, rest) = text.split_at_checked(len)?;
            let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (record.get(..equals)?, record.get(equals + 1..)?);
            match name {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.len = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                _ => {}
            }
            text = rest;
        }
        Some(())
    }
}

struct Header<'a>(&'a [u8; HEADER_LEN]);

impl Header<'_> {
    fn field(&self, start: usize, len: usize) -> &[u8] {
        self.0.get(start..start + len).unwrap_or_default()
    }

    /// The sum of all bytes, those of the sum itself taken as spaces.
    fn check(&self) -> Result<(), TarError> {
        let own = self.field(148, 8).iter().map(|&byte| u64::from(byte)).sum::<u64>();
        let all = self.0.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        let stored = self.number(148, 8, "checksum")?;
        if all - own + 8 * u64::from(b' ') == stored { Ok(()) } else { Err(TarError::Checksum) }
    }

    /// Octal digits, or base 256 where the first bit is set.
    fn number(&self, start: usize, len: usize, name: &'static str) -> Result<u64, TarError> {
        let field = self.field(start, len);
        if let Some((&first, rest)) = field.split_first().filter(|(first, _)| **first & 0x80 != 0) {
            let high = u64::from(first & 0x7f);
            let shift = |number: u64, &byte: &u8| Some(number.checked_mul(256)? + u64::from(byte));
            return rest.iter().try_fold(high, shift).ok_or(TarError::Number(name));
        }
        let text = std::str::from_utf8(until_zero(field)).map_err(|_| TarError::Number(name))?.trim();
        match text {
            "" => Ok(0),
            text => u64::from_str_radix(text, 8).map_err(|_| TarError::Number(name)),
        }
    }

    fn small(&self, start: usize, name: &'static str) -> Result<u32, TarError> {
        u32::try_from(self.number(start, 8, name)?).map_err(|_| TarError::Number(name))
    }

    fn member(&self, kind: u8) -> Result<Member, TarError> {
        let name = until_zero(self.field(0, 100));
        let is_ustar = self.field(257, 5) == b"ustar";
        let prefix = if is_ustar { until_zero(self.field(345, 155)) } else { &[] };
        let path = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
        let kind = match kind {
            b'0' | 0 => MemberKind::File,
            b'5' => MemberKind::Directory,
            b'2' => MemberKind::Symlink { target: until_zero(self.field(157, 100)).to_vec() },
            kind => return Err(TarError::Kind(kind)),
        };
        let modified_at = self.number(136, 12, "mtime")?;
        Ok(Member {
            path,
            kind,
            len: 0,
            mode: self.small(100, "mode")? & 0o7777,
            uid: self.small(108, "uid")?,
            gid: self.small(116, "gid")?,
            user: until_zero(self.field(265, 32)).to_vec(),
            group: until_zero(self.field(297, 32)).to_vec(),
            modified_at: i64::try_from(modified_at).map_err(|_| TarError::Number("mtime"))?,
        })
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn padding(len: u64) -> u64 {
    len.wrapping_neg() % HEADER_LEN as u64
}

/// Takes up to `left` bytes from the beginning of `input`.
fn take(input: &mut Bytes, left: &mut u64) -> Bytes {
    let len = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= len as u64;
    input.split_to(len)
}

#[cfg(test)]
mod tests;
