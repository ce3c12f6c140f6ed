//! Tests of what servers never send: members and manifests that do not fit each other.

use futures::StreamExt as _;

use super::*;
use crate::postgres::emit::events;

const PAGE_LEN: u32 = 16;

fn member(path: &str, len: usize) -> Member {
    Member { path: path.into(), len: len as u64, mode: 0o600, ..Member::default() }
}

/// A file's line as its server would write it.
fn line(path: &str, content: &[u8]) -> ManifestFile {
    let text = format!("{{ \"Path\": \"{path}\", \"Size\": {} }}", content.len());
    let mut file: ManifestFile = serde_json::from_str(&text).unwrap();
    let mut sum = Running::new(Checksums::Crc32c);
    sum.update(content);
    sum.finish().put(&mut file);
    file
}

/// A manifest of these lines.
fn manifest(files: &[ManifestFile]) -> Vec<u8> {
    let mut writer = Writer::default();
    let lines = files.iter().map(|file| Line::File(file.clone()));
    let lines = lines.chain([Line::Other(b"],\n".to_vec()), Line::End]);
    lines.flat_map(|line| writer.line(line)).collect()
}

/// The events that come of files and a manifest, with `earlier` of an incremental backup.
async fn received(
    files: &[(&str, &[u8])],
    manifest: Vec<u8>,
    earlier: Option<&[ManifestFile]>,
) -> Result<Vec<Event>, SourceError> {
    let earlier = earlier.map(|files| Manifest { files: files.to_vec(), wal_ranges: Vec::new() });
    let mut members = Members::new("postgres at test", Checksums::Crc32c, PAGE_LEN, earlier);
    let files: Vec<(String, Bytes)> =
        files.iter().map(|(path, content)| ((*path).to_owned(), Bytes::copy_from_slice(content))).collect();
    let found = events(|out| async move {
        members.archive(None);
        for (path, content) in files {
            members.part(Part::Begin(member(&path, content.len())), &out).await?;
            for start in (0..content.len()).step_by(5) {
                let piece = content.slice(start..content.len().min(start + 5));
                members.part(Part::Data(piece), &out).await?;
            }
            members.part(Part::End, &out).await?;
        }
        members.begin_manifest(&out).await?;
        members.manifest(manifest.into(), &out).await?;
        members.finish(&out).await
    });
    found.collect::<Vec<_>>().await.into_iter().collect()
}

#[track_caller]
fn is(outcome: Result<Vec<Event>, SourceError>, expected: Fault, words: &str) {
    let Err(SourceError::Server { what, fault, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(fault, expected, "{what}");
    assert!(what.contains(words), "{what}");
}

/// A file of blocks: its head, and these blocks.
fn blocks(kept: u32, numbers: &[u32], content: &[u8]) -> Vec<u8> {
    let words = [0xd3ae_1f0d, numbers.len() as u32, kept].into_iter().chain(numbers.iter().copied());
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    if !numbers.is_empty() {
        bytes.resize(bytes.len().next_multiple_of(PAGE_LEN as usize), 0);
    }
    [&bytes[..], content].concat()
}

#[tokio::test]
async fn files_and_manifest_have_to_fit_each_other() {
    let files: [(&str, &[u8]); 3] = [("PG_VERSION", b"15\n"), ("base/1/2", b"rows"), ("pg_wal/0001", b"log")];
    let lines = [line("PG_VERSION", b"15\n"), line("base/1/2", b"rows")];
    let good = received(&files, manifest(&lines), None).await.unwrap();
    let Some(Event::Data(stored)) = good.iter().rfind(|event| matches!(event, Event::Data(_))) else { panic!() };
    assert_eq!(stored[..], manifest(&lines));

    is(received(&files[1..], manifest(&lines), None).await, Fault::Incomplete, "PG_VERSION is in the backup manifest");
    is(received(&files, manifest(&lines[1..]), None).await, Fault::Protocol, "PG_VERSION came");
    let other = [line("PG_VERSION", b"15\n"), line("base/1/2", b"raws")];
    is(received(&files, manifest(&other), None).await, Fault::Damaged, "base/1/2 fails its checksum");
    let longer = [line("PG_VERSION", b"15\n"), line("base/1/2", b"rows and rows")];
    is(received(&files, manifest(&longer), None).await, Fault::Damaged, "base/1/2");
    let twice = [files[0], files[0]];
    is(received(&twice, manifest(&lines), None).await, Fault::Protocol, "comes twice");
    let mut unsummed = lines.to_vec();
    unsummed[1].checksum = None;
    is(received(&files, manifest(&unsummed), None).await, Fault::Damaged, "base/1/2");
    let cut = manifest(&lines);
    is(received(&files, cut[..cut.len() - 9].to_vec(), None).await, Fault::Incomplete, "ends too early");
    let outside = received(&[("../outside", b"")], Vec::new(), None).await;
    assert!(matches!(outside, Err(SourceError::PathInvalid { .. })), "{outside:?}");
}

#[tokio::test]
async fn blocks_come_by_number_and_the_manifest_names_what_they_make() {
    let content = [[1; 16], [9; 16]].concat();
    let changed = blocks(3, &[1, 9], &content);
    let same = blocks(2, &[], b"");
    let label = b"LABEL: x\nINCREMENTAL FROM LSN: 0/1\n";
    let files: [(&str, &[u8]); 3] =
        [("base/1/INCREMENTAL.5", &changed), ("base/1/INCREMENTAL.6_vm", &same), ("backup_label", label)];
    let own = files.map(|(path, content)| line(path, content));
    let earlier = [line("base/1/5", &[0; 48]), line("base/1/6_vm", &[7; 32])];
    let found = received(&files, manifest(&own), Some(&earlier)).await.unwrap();

    let begun = |path: &str| {
        found.iter().find_map(|event| match event {
            Event::Begin(begun) if begun.entry.path.as_bytes() == path.as_bytes() => Some(begun.clone()),
            _ => None,
        })
    };
    let begun = [begun("base/1/5").unwrap(), begun("base/1/6_vm").unwrap()];
    assert_eq!(begun[0].base, Some(Base { block_count: 3, len: 160 }));
    assert_eq!(begun[0].entry.kind, EntryKind::File { len: 160 });
    assert_eq!(begun[1].base, Some(Base { block_count: 2, len: 32 }));
    let came: Vec<_> = found.iter().filter(|event| matches!(event, Event::Block { .. })).cloned().collect();
    let block = |number, byte| Event::Block { number, data: vec![byte; 16].into() };
    assert_eq!(came, [block(1, 1), block(9, 9)]);

    let Some(Event::Data(stored)) = found.iter().rfind(|event| matches!(event, Event::Data(_))) else { panic!() };
    let stored = Manifest::parse(stored).unwrap().files;
    let mut expected = line("base/1/5", &[0; 160]);
    (expected.algorithm, expected.checksum) = (None, None);
    assert_eq!(stored, [expected, line("base/1/6_vm", &[7; 32]), line("backup_label", b"LABEL: x\n")]);
}

#[tokio::test]
async fn blocks_that_do_not_fit_are_refused() {
    let earlier = [line("base/1/5", &[0; 48])];
    let refused = async |path: &str, content: Vec<u8>| {
        received(&[(path, &content)], manifest(&[line(path, &content)]), Some(&earlier)).await
    };
    is(refused("base/1/INCREMENTAL.6", blocks(1, &[], b"")).await, Fault::Protocol, "the earlier backup does not have");
    is(refused("base/1/INCREMENTAL.5", blocks(1, &[0], b"short")).await, Fault::Protocol, "bytes instead of");
    is(refused("base/1/INCREMENTAL.5", blocks(1, &[], b"more")).await, Fault::Protocol, "bytes instead of");
    is(refused("base/1/INCREMENTAL.5", b"no".to_vec()).await, Fault::Protocol, "within its head");
    is(refused("base/1/INCREMENTAL.5", vec![7; 40]).await, Fault::Protocol, "magic");
}

#[test]
fn relations_are_known_by_their_path() {
    for path in ["base/1/1259", "base/5/16384_fsm.3", "global/1262_vm", "pg_tblspc/9/PG_15_2/5/7_init", "base/1/2.1"] {
        assert!(is_relation(path.as_bytes()), "{path}");
    }
    for path in ["global/pg_control", "base/1/PG_VERSION", "base/1/pg_filenode.map", "base/1/1.x", "pg_xact/0000"] {
        assert!(!is_relation(path.as_bytes()), "{path}");
    }
}

#[test]
fn a_label_loses_only_the_lines_that_ask_for_an_earlier_backup() {
    let text = b"START WAL LOCATION: 0/2 (file 1)\nINCREMENTAL FROM LSN: 0/1\nINCREMENTAL FROM TLI: 1\nLABEL: x\n";
    assert_eq!(full_label(text), b"START WAL LOCATION: 0/2 (file 1)\nLABEL: x\n");
}
