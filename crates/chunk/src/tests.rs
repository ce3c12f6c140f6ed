//! Properties of all cutters.

use std::sync::Arc;

use proptest::prelude::*;

use crate::{CHUNK_LEN_MAX, Cutter, CutterKind, Gear, recognise};

fn gear() -> Arc<Gear> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let table = std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    Arc::new(Gear::new(Box::new(table)))
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Cuts `data` as if it were read `step` bytes at a time.
fn cut_all(kind: CutterKind, data: &[u8], step: usize) -> Vec<usize> {
    let mut cutter = Cutter::new(kind, gear());
    let (mut start, mut read, mut cuts) = (0, 0, Vec::new());
    while start < data.len() {
        match cutter.next(&data[start..read], read == data.len()) {
            Some(len) => {
                cuts.push(len);
                start += len;
            }
            None => {
                assert!(read < data.len(), "asks for bytes past the end");
                read = (read + step).min(data.len());
            }
        }
    }
    cuts
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in members {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..136].copy_from_slice(format!("{:011o} ", content.len()).as_bytes());
        block[156] = b'0';
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&block);
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

const KINDS: [CutterKind; 5] =
    [CutterKind::Cdc(2048), CutterKind::DEFAULT, CutterKind::Pages(4096), CutterKind::Pages(8192), CutterKind::Tar];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn cuts_cover_the_stream_and_do_not_depend_on_how_it_is_read(
        len in 0usize..700_000, seed: u64, step in 1usize..300_000, kind in 0usize..KINDS.len(),
    ) {
        let data = bytes(len, seed);
        let once = cut_all(KINDS[kind], &data, data.len().max(1));
        prop_assert_eq!(once.iter().sum::<usize>(), data.len());
        prop_assert!(once.iter().all(|cut| (1..=CHUNK_LEN_MAX).contains(cut)));
        prop_assert_eq!(once, cut_all(KINDS[kind], &data, step));
    }

    #[test]
    fn names_round_trip(kind in 0usize..KINDS.len()) {
        prop_assert_eq!(KINDS[kind].to_string().parse(), Ok(KINDS[kind]));
    }
}

#[test]
fn tar_members_keep_their_cuts_when_something_is_put_before_them() {
    let (big, page) = (bytes(400_000, 7), bytes(8192 * 5, 9));
    let day1 = tar_of(&[("var/lib/big", &big), ("base/5/1247", &page)]);
    let day2 = tar_of(&[("etc/new", &bytes(1234, 3)), ("var/lib/big", &big), ("base/5/1247", &page)]);
    assert_eq!(recognise(&day1), CutterKind::Tar);
    let chunks = |data: &[u8]| {
        let mut rest = data;
        let cuts = cut_all(CutterKind::Tar, data, 100_000);
        cuts.into_iter().map(|len| rest.split_off(..len).expect("cut is inside").to_vec()).collect::<Vec<_>>()
    };
    let (first, second) = (chunks(&day1), chunks(&day2));
    let new = second.iter().filter(|chunk| !first.contains(chunk)).map(Vec::len).sum::<usize>();
    assert!(new < 4096, "{new} new bytes");
    assert_eq!(first.iter().filter(|chunk| chunk.len() == 8192).count(), 5);
}

#[test]
fn damaged_tar_is_still_covered() {
    let mut tar = tar_of(&[("a", &bytes(5000, 1)), ("b", &bytes(5000, 2))]);
    for at in (0..tar.len()).step_by(97) {
        tar[at] ^= 0x55;
        assert_eq!(cut_all(CutterKind::Tar, &tar, 1000).iter().sum::<usize>(), tar.len());
    }
}

#[test]
fn formats_are_recognised_by_their_first_bytes() {
    let mut sqlite = b"SQLite format 3\0\x10\x00".to_vec();
    sqlite.resize(512, 0);
    assert_eq!(recognise(&sqlite), CutterKind::Pages(4096));
    let mut bbolt = vec![0; 64];
    bbolt[16..20].copy_from_slice(&0xED0C_DAEDu32.to_le_bytes());
    bbolt[24..28].copy_from_slice(&4096u32.to_le_bytes());
    assert_eq!(recognise(&bbolt), CutterKind::Pages(4096));
    for rdb in [b"REDIS0011\xfa", b"VALKEY080\xfa"] {
        assert_eq!(recognise(rdb), CutterKind::Cdc(2048));
    }
    assert_eq!(recognise(b""), CutterKind::DEFAULT);
}

#[test]
fn dumps_are_recognised_by_the_first_line_that_their_programs_print() {
    for dump in [
        "PGDMP\x01\x0e",
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n",
        "--\n-- PostgreSQL database cluster dump\n--\n",
        "-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)\n",
        "-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)\n",
        "/*!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19-11.4.2-MariaDB, for Linux (x86_64)\n",
        "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n",
    ] {
        assert_eq!(recognise(dump.as_bytes()), CutterKind::Cdc(16 << 10), "{dump}");
    }
    for text in
        ["--\n-- A note of our own\n", "-- MySQL is what we use\n", "PRAGMA foreign_keys=OFF;\nselect 1;\n", "PGDM"]
    {
        assert_eq!(recognise(text.as_bytes()), CutterKind::DEFAULT, "{text}");
    }
}

#[test]
fn cut_points_of_a_known_stream_never_change() {
    let cuts = cut_all(CutterKind::Cdc(4096), &bytes(40_000, 42), 40_000);
    assert_eq!(cuts, GOLDEN_CUTS, "a changed cut point breaks deduplication of every repository");
}

const GOLDEN_CUTS: [usize; 7] = [11193, 6754, 4217, 5081, 3891, 5370, 3494];

#[test]
fn cutter_name_has_one_spelling() {
    for name in ["cdc-1k", "cdc-64k", "cdc-256k", "pages-512", "pages-65536", "tar"] {
        assert_eq!(name.parse::<CutterKind>().map(|kind| kind.to_string()).as_deref(), Ok(name));
    }
    for name in [
        "",
        "cdc",
        "cdc-",
        "cdc-k",
        "cdc-+64k",
        "cdc-064k",
        "cdc-64K",
        "cdc-64",
        "cdc-0k",
        "cdc-3k",
        "cdc-512k",
        "cdc-64kk",
        "pages-",
        "pages-+4096",
        "pages-04096",
        "pages-256",
        "pages-131072",
        "pages-4096k",
        "Tar",
        "tar ",
        " cdc-64k",
    ] {
        assert!(name.parse::<CutterKind>().is_err(), "{name:?}");
    }
}
