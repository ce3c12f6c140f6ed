//! Writes the seeds of what servers send: one small valid input for each target `source_…`.
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example source_seeds
//! ```
//!
//! Invariant: the same bytes in every run.
//! Never here: a server, and inputs that were found by fuzzing.

use std::fs;
use std::path::Path;

fn put(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("source_{target}"));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(name), bytes).expect("a file");
}

fn main() {
    postgres();
    archives();
    redis();
    etcd();
    let item = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop","uid":"u",
        "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}},"spec":{"replicas":2},"status":{}}"#;
    put("kubernetes", "list", format!(r#"{{"apiVersion":"v1","items":[{item},{item}],"kind":"List"}}"#).as_bytes());
}

/// `letter`, the length of `body` and itself, `body`.
fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    [&[letter], &u32::try_from(body.len() + 4).expect("short").to_be_bytes()[..], body].concat()
}

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
    for value in values {
        let len = value.map_or(-1, |value| i32::try_from(value.len()).expect("short"));
        body.extend(len.to_be_bytes());
        body.extend(value.unwrap_or_default().bytes());
    }
    message(b'D', &body)
}

/// A header of tar and its content, padded.
fn member(name: &str, content: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000600");
    block[124..136].copy_from_slice(format!("{:011o} ", content.len()).as_bytes());
    block[156] = b'0';
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&block[..], content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

const MANIFEST: &str = "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7554,\n\"Files\": [\n\
    { \"Path\": \"backup_label\", \"Size\": 3, \"Last-Modified\": \"2026-11-20 21:10:00 GMT\", \
    \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"b73f4b36\" },\n\
    { \"Encoded-Path\": \"ff61\", \"Size\": 0, \"Last-Modified\": \"2026-11-20 21:10:00 GMT\" }\n],\n\
    \"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000120\" }\n],\n";

fn head(numbers: &[u32], kept: u32) -> Vec<u8> {
    let words = [&[0xd3ae_1f0d, u32::try_from(numbers.len()).expect("few"), kept], numbers].concat();
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    if !numbers.is_empty() {
        bytes.resize(8192, 0);
    }
    bytes
}

fn postgres() {
    let notice = message(b'E', b"SFEHLER\0VERROR\0C28P01\0Mno\nway\0Dwhy\0Hgo\0Rauth_failed\0\0");
    let parameter = message(b'S', b"server_version\x0017.2\0");
    put("postgres_messages", "rows", &[parameter, row(&[Some("0/2000028"), None]), notice].concat());
    let archive = [member("backup_label", b"abc"), member("base/5/12", &[7; 8192])].concat();
    put("postgres_tar", "members", &archive);
    let long = [member("././@LongLink", b"x\0"), archive.clone(), vec![0; 1024]].concat();
    put("postgres_tar", "end", &long);
    put("postgres_manifest", "lines", MANIFEST.as_bytes());
    put("postgres_incremental", "blocks", &head(&[1, 7], 3));
    put("postgres_incremental", "unchanged", &head(&[], 9));

    let done = |text: &[u8]| message(b'C', text);
    let position = [row(&[Some("0/2000028"), Some("1")]), done(b"SELECT\0")].concat();
    let spaces = [row(&[None, None, None]), done(b"SELECT\0")].concat();
    let stop = [position.clone(), done(b"BASE_BACKUP\0"), message(b'Z', b"I")].concat();
    let start = [position, spaces].concat();
    let data = |tag: &[u8], bytes: &[u8]| message(b'd', &[tag, bytes].concat());
    let copied = |bytes: &[u8]| [message(b'H', b"\0\0\0"), data(b"", bytes), message(b'c', b"")].concat();
    let many = [&start[..], &copied(&archive), &copied(MANIFEST.as_bytes()), &stop].concat();
    put("postgres_backup", "many", &[&[0], &many[..]].concat());
    let one = |archive: &[u8]| {
        let open = [message(b'H', b"\0\0\0"), message(b'd', b"nbase.tar\0\0"), data(b"d", archive)].concat();
        let manifest = [message(b'd', b"m"), data(b"d", MANIFEST.as_bytes()), message(b'c', b"")].concat();
        [&start[..], &open, &manifest, &stop].concat()
    };
    put("postgres_backup", "one", &[&[1], &one(&archive)[..]].concat());
    let blocks = [head(&[0], 1), vec![3; 8192]].concat();
    let partial = [member("backup_label", b"INCREMENTAL FROM LSN: 0/1\nabc"), member("base/5/INCREMENTAL.12", &blocks)];
    put("postgres_backup", "partial", &[&[3], &one(&partial.concat())[..]].concat());
}

fn int(value: i32) -> Vec<u8> {
    [&[u8::from(value < 0)], &value.unsigned_abs().to_le_bytes()[..]].concat()
}

fn text(text: Option<&str>) -> Vec<u8> {
    let len = text.map_or(-1, |text| i32::try_from(text.len()).expect("short"));
    [int(len), text.unwrap_or_default().into()].concat()
}

fn archives() {
    for minor in [13, 16] {
        let mut bytes = [b"PGDMP\x01", &[minor, 0, 4, 8, 1][..]].concat();
        bytes.extend(if minor >= 15 { vec![0] } else { int(0) });
        (0..7).for_each(|_| bytes.extend(int(1)));
        bytes.extend([text(Some("shop")), text(Some("15.18")), text(Some("15.18")), int(1)].concat());
        bytes.extend([int(3), int(0), text(Some("0")), text(Some("0")), text(Some("t"))].concat());
        bytes.extend([text(Some("TABLE DATA")), int(2), text(Some(""))].concat());
        let nones = if minor >= 14 { 5 } else { 4 };
        (0..nones).for_each(|_| bytes.extend(text(None)));
        if minor >= 16 {
            bytes.extend(int(114));
        }
        bytes.extend([text(Some("owner")), text(Some("false")), text(Some("1")), text(None)].concat());
        bytes.push(1);
        bytes.extend([0; 8]);
        bytes.extend([vec![1], int(3), int(5), b"rows\n".to_vec(), int(0)].concat());
        put("postgres_archive", &format!("version-{minor}"), &bytes);
    }
    put("postgres_archive", "plain", b"--\n-- PostgreSQL database dump complete\n--\n\n");
}

fn redis() {
    let info = "role:master\r\nredis_version:7.0.15\r\nserver_time_usec:1\r\ndb0:keys=5,expires=0\r\n";
    let greeting = format!("${}\r\n{info}\r\n+OK\r\n+FULLRESYNC {} 0\r\n\n", info.len(), "a".repeat(40));
    let rdb = b"REDIS0011\xfa\x01a\x01b\xff\0\0\0\0\0\0\0\0";
    let known = format!("{greeting}${}\r\n", rdb.len());
    put("redis_replication", "length", &[known.as_bytes(), rdb].concat());
    let mark = "e".repeat(40);
    let marked = format!("{greeting}$EOF:{mark}\r\n");
    put("redis_replication", "mark", &[marked.as_bytes(), rdb, mark.as_bytes()].concat());
    put("redis_rdb", "whole", rdb);
}

fn etcd() {
    // A header (cluster 1, member 2, revision 3, term 4), a version, a leader.
    let status = b"\x0a\x08\x08\x01\x10\x02\x18\x03\x20\x04\x12\x053.5.9\x20\x02\x28\x09\x42\x01x\x50\x01";
    put("etcd", "status", status);
    put("etcd", "snapshot", b"\x10\x20\x1a\x04page");
    put("etcd", "token", b"\x12\x05token");
}
