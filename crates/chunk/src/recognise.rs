//! Telling what a stream is by its first bytes, so that it gets the right cutter even from stdin.
//!
//! Sources: POSIX ustar, <https://www.sqlite.org/fileformat.html>, the bbolt meta page (`go.etcd.io/bbolt`, page.go
//! and db.go), the RDB header of Redis and of Valkey (`rdb.c`: `REDIS` and four digits, since Valkey 9 `VALKEY` and
//! three), the pg_dump archive header (`pg_backup_archiver.c`), and the first lines that dump programs print.
//!
//! Invariant: a wrong guess costs deduplication, never correctness.
//! Never here: reading.

use crate::{CutterKind, tar};

/// How many bytes of a stream suffice.
pub const RECOGNISE_LEN: usize = 512;

const BBOLT_MAGIC: u32 = 0xED0C_DAED;
const CDC_RDB: CutterKind = CutterKind::Cdc(2 << 10);
const CDC_DUMP: CutterKind = CutterKind::Cdc(16 << 10);
/// How dumps begin, as archives and as SQL: rows in the order of their tables, with changes here and there.
const DUMP_STARTS: [&[u8]; 6] = [
    b"PGDMP",
    // pg_dump, and pg_dumpall, which says "cluster" next.
    b"--\n-- PostgreSQL database",
    b"-- MySQL dump ",
    b"-- MariaDB dump ",
    // The line that newer MariaDB and MySQL clients of Debian put first, so that older ones stop.
    b"/*!999999\\- enable the sandbox mode */",
    // SQLite's own .dump.
    b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;",
];

/// The cutter for a stream that begins with `first` (all of it, or [`RECOGNISE_LEN`] bytes).
#[must_use]
pub fn recognise(first: &[u8]) -> CutterKind {
    if let Some(page_len) = sqlite_page_len(first).or_else(|| bbolt_page_len(first)) {
        return CutterKind::Pages(page_len);
    }
    if first.starts_with(b"REDIS0") || first.starts_with(b"VALKEY") {
        return CDC_RDB;
    }
    if DUMP_STARTS.iter().any(|start| first.starts_with(start)) {
        return CDC_DUMP;
    }
    if first.first_chunk().is_some_and(|block| tar::header(block).is_some()) {
        return CutterKind::Tar;
    }
    CutterKind::DEFAULT
}

fn sqlite_page_len(first: &[u8]) -> Option<u32> {
    let bytes = first.strip_prefix(b"SQLite format 3\0")?.first_chunk::<2>()?;
    match u16::from_be_bytes(*bytes) {
        1 => Some(64 << 10),
        len if len.is_power_of_two() && len >= 512 => Some(u32::from(len)),
        _ => None,
    }
}

/// A bbolt file starts with a meta page: a 16-byte page header, then magic, version and page length.
fn bbolt_page_len(first: &[u8]) -> Option<u32> {
    let number = |at: usize| first.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    let len = number(24)?;
    (number(16)? == BBOLT_MAGIC && len.is_power_of_two() && (512..=64 << 10).contains(&len)).then_some(len)
}
