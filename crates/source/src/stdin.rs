//! The process's standard input as a stream of bytes.
//!
//! Invariant: an error is the last item; a stream that just ends has read to the end of the input.
//! Never here: tokio's own stdin, which hands bytes through a small buffer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::blocking::{Emitter, stream_of};
use crate::error::SourceError;

/// Bytes per item; only the last is shorter.
const READ_LEN: usize = 1024 * 1024;

/// Items that wait unread, as a count.
const WAITING_MAX: usize = 2;

/// How long a reader waits for input before it looks whether anybody still wants it, in nanoseconds.
const POLL_FOR_NANOS: i64 = 200_000_000;

/// Reads standard input to its end in items of 1 MiB. Must be called within a tokio runtime.
///
/// Dropping the stream stops the reader within a fraction of a second. Call it once: two streams would each get
/// a part.
///
/// # Errors
///
/// Items are [`SourceError::Stdin`] or [`SourceError::Panicked`]: what came before is not whole.
pub fn stream() -> impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin + 'static {
    stream_from(rustix::stdio::stdin())
}

fn stream_from(
    input: impl AsFd + Send + 'static,
) -> impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin + 'static {
    stream_of("reader of standard input", WAITING_MAX, move |emitter| read_all(input.as_fd(), &emitter))
        .map(|item| item?)
}

fn read_all(input: BorrowedFd<'_>, emitter: &Emitter<Result<Bytes, SourceError>>) {
    loop {
        let item = read(input, emitter).map_err(|source| SourceError::Stdin { source });
        let is_last = !matches!(&item, Ok(data) if data.len() == READ_LEN);
        let is_empty = matches!(&item, Ok(data) if data.is_empty());
        if (!is_empty && emitter.emit(item).is_err()) || is_last {
            return;
        }
    }
}

/// Reads until the buffer is full, the input ends, or nobody wants it any more.
fn read(input: BorrowedFd<'_>, emitter: &Emitter<Result<Bytes, SourceError>>) -> io::Result<Bytes> {
    let mut data = Vec::with_capacity(READ_LEN);
    while data.len() < READ_LEN && !emitter.is_stopped() {
        let patience = Timespec { tv_sec: 0, tv_nsec: POLL_FOR_NANOS };
        match poll(&mut [PollFd::from_borrowed_fd(input, PollFlags::IN)], Some(&patience)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::io::read(input, rustix::buffer::spare_capacity(&mut data)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(data.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn input_comes_in_full_items_until_it_is_closed() {
        let (reader, mut writer) = io::pipe().unwrap();
        let written = crate::blocking::run(move || {
            for _ in 0..25 {
                writer.write_all(&[7; 100_000]).unwrap();
                writer.flush().unwrap();
            }
        });
        let items = stream_from(reader).map(|item| item.unwrap().len()).collect::<Vec<_>>();
        let (written, lens) = futures::join!(written, items);
        written.unwrap();
        assert_eq!(lens, [READ_LEN, READ_LEN, 2_500_000 - 2 * READ_LEN]);
    }

    #[tokio::test]
    async fn empty_input_yields_nothing_and_a_directory_is_an_error() {
        let (reader, _) = io::pipe().unwrap();
        assert!(stream_from(reader).next().await.is_none());
        let mut directory = stream_from(std::fs::File::open("/").unwrap());
        assert!(matches!(directory.next().await, Some(Err(SourceError::Stdin { .. }))));
        assert!(directory.next().await.is_none());
    }

    #[tokio::test]
    async fn dropping_the_stream_stops_a_reader_whose_input_stays_silent() {
        let (reader, writer) = io::pipe().unwrap();
        drop(stream_from(reader));
        let began = Instant::now();
        while rustix::io::write(&writer, b"x").is_ok() {
            assert!(began.elapsed() < Duration::from_secs(20), "the reader still holds the pipe");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
