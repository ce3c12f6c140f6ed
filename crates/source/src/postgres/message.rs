//! What a server says: a letter, a length, and fields.
//!
//! ```text
//! | letter: u8 | length of what follows, with itself: u32 BE | body |
//! ```
//!
//! Invariant: nothing here panics or allocates what a length claims, whatever the bytes.
//! Never here: what a message means.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of a letter and a length.
const HEADER_LEN: usize = 5;
/// The longest message that we take, in bytes; servers send pieces of 128 KiB at most.
pub(super) const MESSAGE_LEN_MAX: usize = 16 * 1024 * 1024;

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) letter: u8,
    pub(super) body: Bytes,
}

/// The length that a message claims is none that a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overlong;

impl Message {
    /// Takes the first message out of `buffer`; `None` until all of it is there.
    pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Overlong> {
        let Some(header) = buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let &[letter, a, b, c, d] = header;
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| Overlong)?;
        if !(4..=MESSAGE_LEN_MAX).contains(&len) {
            return Err(Overlong);
        }
        if buffer.len() < len + 1 {
            buffer.reserve(len + 1 - buffer.len());
            return Ok(None);
        }
        let mut whole = buffer.split_to(len + 1).freeze();
        whole.advance(HEADER_LEN);
        Ok(Some(Self { letter, body: whole }))
    }
}

/// Reads a body from its beginning; every method is `None` where the body is too short.
#[derive(Debug)]
pub(super) struct Fields(pub(super) Bytes);

impl Fields {
    pub(super) fn bytes(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    /// Text up to a zero, which it takes too. What is no UTF-8 in it is replaced.
    pub(super) fn text(&mut self) -> Option<String> {
        let len = self.0.iter().position(|&byte| byte == 0)?;
        let text = String::from_utf8_lossy(&self.0.split_to(len)).into_owned();
        self.0.advance(1);
        Some(text)
    }
}

/// A row's values as text, `None` for NULL.
pub(super) type Row = Vec<Option<String>>;

/// The values of a data row.
pub(super) fn row(body: Bytes) -> Option<Row> {
    let mut fields = Fields(body);
    let count = fields.u16()?;
    let value = |fields: &mut Fields| match usize::try_from(fields.i32()?) {
        Ok(len) => Some(Some(String::from_utf8_lossy(&fields.bytes(len)?).into_owned())),
        Err(_) => Some(None),
    };
    (0..count).map(|_| value(&mut fields)).collect()
}

/// An error or a notice in the server's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Notice {
    /// `ERROR`, `WARNING` …, never translated.
    pub(super) severity: String,
    /// SQLSTATE, five letters.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
    /// The function in the server that said it.
    pub(super) routine: String,
}

impl Notice {
    pub(super) fn of(body: Bytes) -> Option<Self> {
        let mut fields = Fields(body);
        let mut notice = Self::default();
        loop {
            match fields.u8()? {
                0 => return Some(notice),
                b'V' => notice.severity = fields.text()?,
                b'C' => notice.code = fields.text()?,
                b'M' => notice.message = fields.text()?,
                b'D' => notice.detail = Some(fields.text()?),
                b'H' => notice.hint = Some(fields.text()?),
                b'R' => notice.routine = fields.text()?,
                _ => drop(fields.text()?),
            }
        }
    }

    /// Message, detail and hint in one line.
    pub(super) fn words(&self) -> String {
        let more: Vec<&str> = [&self.detail, &self.hint].into_iter().flatten().map(|text| &**text).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(" ")) };
        format!("{}{more}", self.message).replace('\n', " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_and_in_order() {
        let mut buffer = BytesMut::from(&b"Z\0\0\0\x05Ic\0\0\0\x04d\0\0"[..]);
        let first = Message::take(&mut buffer).unwrap().unwrap();
        assert_eq!((first.letter, &first.body[..]), (b'Z', &b"I"[..]));
        let second = Message::take(&mut buffer).unwrap().unwrap();
        assert_eq!((second.letter, second.body.len()), (b'c', 0));
        assert!(Message::take(&mut buffer).unwrap().is_none());
        assert_eq!(&buffer[..], b"d\0\0");
    }

    #[test]
    fn lengths_that_no_server_sends_are_refused_before_anything_is_allocated() {
        for len in [[0, 0, 0, 3], [0xff, 0xff, 0xff, 0xff], [1, 0, 0, 1]] {
            let mut buffer = BytesMut::from(&[&b"d"[..], &len[..]].concat()[..]);
            assert_eq!(Message::take(&mut buffer).unwrap_err(), Overlong);
            assert!(buffer.capacity() < 64);
        }
    }

    #[test]
    fn rows_and_notices_that_are_cut_short_are_none() {
        let whole = b"\0\x02\0\0\0\x01x\xff\xff\xff\xff";
        assert_eq!(row(Bytes::from_static(whole)), Some(vec![Some("x".into()), None]));
        for len in 0..whole.len() {
            assert_eq!(row(Bytes::copy_from_slice(&whole[..len])), None, "{len}");
        }
        let notice = b"SFEHLER\0VERROR\0C28P01\0Mno\nway\0Dwhy\0Hgo\0Rauth_failed\0\0";
        let read = Notice::of(Bytes::from_static(notice)).unwrap();
        assert_eq!((&*read.severity, &*read.code, &*read.routine), ("ERROR", "28P01", "auth_failed"));
        assert_eq!(read.words(), "no way (why go)");
        for len in 0..notice.len() {
            assert_eq!(Notice::of(Bytes::copy_from_slice(&notice[..len])), None, "{len}");
        }
    }
}
