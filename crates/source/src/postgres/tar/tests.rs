//! Tests of the tar reader: archives made by hand and by the system's tar, whole, in pieces, and cut.

use std::process::Command;

use proptest::prelude::*;

use super::*;

fn header(name: &str, kind: u8, len: u64, target: &str) -> Vec<u8> {
    let mut header = vec![0; HEADER_LEN];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000600\0");
    header[124..136].copy_from_slice(format!("{len:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000007\0");
    header[148..156].fill(b' ');
    header[156] = kind;
    header[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header[257..263].copy_from_slice(b"ustar\0");
    let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64, "");
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(HEADER_LEN), 0);
    bytes
}

/// Reads an archive in pieces of `step` bytes; returns each member's path, kind and content.
fn read(bytes: &[u8], step: usize) -> Result<Vec<(String, MemberKind, Vec<u8>)>, TarError> {
    let mut tar = Tar::default();
    let mut found = Vec::new();
    let mut ended = 0;
    for piece in bytes.chunks(step) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(part) = tar.next(&mut input)? {
            match part {
                Part::Begin(member) => {
                    found.push((String::from_utf8_lossy(&member.path).into_owned(), member.kind, Vec::new()));
                }
                Part::Data(data) => found.last_mut().unwrap().2.extend_from_slice(&data),
                Part::End => ended += 1,
            }
        }
        assert!(input.is_empty());
    }
    // A last member without content ends when the next bytes are asked for.
    while tar.next(&mut Bytes::new())? == Some(Part::End) {
        ended += 1;
    }
    tar.finish()?;
    assert_eq!(ended, found.len());
    Ok(found)
}

#[test]
fn members_come_whole_whatever_the_pieces() {
    let content: Vec<u8> = (0..9000_u32).flat_map(u32::to_le_bytes).collect();
    let mut archive = member("backup_label", b'0', b"LABEL");
    archive.extend(header("./pg_wal/", b'5', 0, ""));
    archive.extend(header("pg_tblspc/16384", b'2', 0, "/disk two"));
    archive.extend(member("base/1/2", b'0', &content));
    archive.extend(member("empty", b'0', b""));
    let whole = read(&archive, archive.len()).unwrap();
    assert_eq!(whole.len(), 5);
    assert_eq!(whole[2].1, MemberKind::Symlink { target: b"/disk two".to_vec() });
    assert_eq!(whole[3].2, content);
    archive.resize(archive.len() + 1024, 0);
    for step in [1, 7, 511, 512, 513, 4096] {
        assert_eq!(read(&archive, step).unwrap(), whole, "{step}");
    }
}

#[test]
fn long_names_of_gnu_and_pax_replace_the_short_one() {
    let long = "d/".repeat(90) + "name";
    let gnu = [member("././@LongLink", b'L', format!("{long}\0").as_bytes()), member("cut", b'0', b"1")].concat();
    assert_eq!(read(&gnu, 100).unwrap(), [(long.clone(), MemberKind::File, b"1".to_vec())]);

    let record = format!(" path={long}\n");
    let record = format!("{}{record}", record.len() + 3);
    let pax = [member("pax", b'x', record.as_bytes()), member("cut", b'0', b"2")].concat();
    assert_eq!(read(&pax, 100).unwrap(), [(long, MemberKind::File, b"2".to_vec())]);
}

#[test]
fn an_archive_of_the_systems_tar_reads_alike() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(150);
    std::fs::write(folder.path().join(&long), "long").unwrap();
    for format in ["gnu", "pax", "ustar"] {
        let mut tar = Command::new("tar");
        tar.args(["-c", "--format", format, "-C"]).arg(folder.path());
        let name = if format == "ustar" { "." } else { &long };
        if format == "ustar" {
            std::fs::rename(folder.path().join(&long), folder.path().join("short")).unwrap();
        }
        let output = tar.arg(name).output().unwrap();
        let found = read(&output.stdout, 1000).unwrap();
        assert_eq!(found.last().unwrap().2, b"long", "{format}");
        assert!(format == "ustar" || found.last().unwrap().0 == long, "{format}");
    }
}

#[test]
fn sizes_in_base_256_are_read() {
    let mut bytes = header("big", b'0', 0, "");
    bytes[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]);
    bytes[148..156].fill(b' ');
    let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let Ok(Some(Part::Begin(member))) = Tar::default().next(&mut bytes.into()) else { panic!("no member") };
    assert_eq!(member.len, 3 << 32);
}

#[test]
fn an_archive_cut_anywhere_inside_a_member_is_refused() {
    let archive = [member("a", b'0', b"some content"), member("b", b'0', &[7; 600])].concat();
    for len in 1..archive.len() {
        let is_between = len == member("a", b'0', b"some content").len();
        assert_eq!(read(&archive[..len], 300).is_ok(), is_between, "{len}");
    }
}

#[test]
fn what_postgres_never_sends_is_refused() {
    assert_eq!(read(&member("pipe", b'6', b""), 512), Err(TarError::Kind(b'6')));
    let mut flipped = member("a", b'0', b"x");
    flipped[0] ^= 1;
    assert_eq!(read(&flipped, 512), Err(TarError::Checksum));
    assert_eq!(read(&header("x", b'L', 1 << 30, ""), 512), Err(TarError::NameLen));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), step in 1_usize..700) {
        let _ = read(&bytes, step);
    }

    #[test]
    fn no_change_of_a_header_makes_it_panic(place in 0_usize..512, byte: u8) {
        let mut bytes = member("a/b", b'x', b"20 path=something\n12");
        bytes[place] = byte;
        bytes[148..156].fill(b' ');
        let sum: u64 = bytes[..512].iter().map(|&byte| u64::from(byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let _ = read(&bytes, 600);
    }
}
