//! Archives made by hand, whole and not.

use proptest::prelude::*;

use super::*;

fn int(value: i32) -> Vec<u8> {
    let mut bytes = vec![u8::from(value < 0)];
    bytes.extend(value.unsigned_abs().to_le_bytes());
    bytes
}

fn text(text: Option<&str>) -> Vec<u8> {
    match text {
        Some(text) => [int(i32::try_from(text.len()).unwrap()), text.as_bytes().to_vec()].concat(),
        None => int(-1),
    }
}

fn entry(minor: u8, id: i32, tag: &str, kind: &str, definition: &str, owner: &str, state: u8) -> Vec<u8> {
    let mut bytes = [int(id), int(0), text(Some("0")), text(Some("0")), text(Some(tag)), text(Some(kind))].concat();
    let schema = ["ACL", "TABLE DATA"].contains(&kind).then_some("app");
    bytes.extend([int(2), text(Some(definition)), text(Some("")), text(None), text(schema), text(None)].concat());
    if minor >= 14 {
        bytes.extend(text(None));
    }
    if minor >= 16 {
        bytes.extend(int(114));
    }
    bytes.extend([text(Some(owner)), text(Some("false")), text(Some("1")), text(Some("2")), text(None)].concat());
    bytes.push(state);
    bytes.extend([0; 8]);
    bytes
}

fn archive(minor: u8) -> Vec<u8> {
    let mut bytes = b"PGDMP\x01".to_vec();
    bytes.extend([minor, 0, 4, 8, 1]);
    bytes.extend(if minor >= 15 { vec![0] } else { int(0) });
    (0..7).for_each(|_| bytes.extend(int(1)));
    bytes.extend([text(Some("shop")), text(Some("15.18")), text(Some("15.18")), int(4)].concat());
    bytes.extend(entry(minor, 1, "hstore", "EXTENSION", "CREATE EXTENSION", "", 3));
    let grants = "REVOKE ALL ON TABLE t FROM a;\nGRANT ALL ON TABLE t TO \"odd \"\"role\" WITH GRANT OPTION;\nGRANT SELECT ON TABLE t TO PUBLIC;\n";
    bytes.extend(entry(minor, 2, "TABLE t", "ACL", grants, "owner", 3));
    bytes.extend(entry(minor, 3, "t", "TABLE DATA", "", "owner", 1));
    bytes.extend(entry(minor, 4, "BLOBS", "BLOBS", "", "", 1));
    bytes.extend([vec![1], int(3), int(5), b"rows\n".to_vec(), int(3), b"\\.\n".to_vec(), int(0)].concat());
    bytes.extend([vec![3], int(4), int(16384), int(2), b"lo".to_vec(), int(0), int(0)].concat());
    bytes
}

fn follow(bytes: &[u8], piece_len: usize) -> Result<Contents, NotWhole> {
    let mut archive = Archive::default();
    bytes.chunks(piece_len).try_for_each(|piece| archive.push(piece))?;
    archive.finish()
}

#[test]
fn an_archive_says_what_it_holds_however_it_is_cut() {
    for minor in [12, 13, 14, 15, 16] {
        let bytes = archive(minor);
        for piece_len in [1, 2, 7, 4096] {
            let contents = follow(&bytes, piece_len).unwrap();
            assert_eq!((contents.database.as_str(), contents.entry_count, contents.data_count), ("shop", 4, 2));
            assert!(contents.roles.iter().eq(["odd \"role", "owner"]), "{:?}", contents.roles);
            assert!(contents.extensions.iter().eq(["hstore"]));
        }
    }
}

#[test]
fn a_listing_archive_names_every_item() {
    for minor in [12, 14, 16] {
        let mut archive = Archive::listing();
        archive.push(&self::archive(minor)).unwrap();
        let items = &archive.contents().unwrap().items;
        let shown: Vec<_> = items.iter().map(|item| (item.id, item.kind.as_str(), item.full_name())).collect();
        let expected =
            [(1, "EXTENSION", "hstore"), (2, "ACL", "app.TABLE t"), (3, "TABLE DATA", "app.t"), (4, "BLOBS", "BLOBS")];
        let expected = expected.map(|(id, kind, name)| (id, kind, name.to_owned()));
        assert_eq!(shown, expected);
        assert_eq!(
            (items[1].grantees.as_slice(), items[1].owner.as_str()),
            (["odd \"role".to_owned()].as_slice(), "owner")
        );
        assert_eq!(
            (items[2].depends_on.as_slice(), items[2].has_data, items[1].has_data),
            ([1, 2].as_slice(), true, false)
        );
    }
}

#[test]
fn an_archive_that_stops_anywhere_is_not_whole() {
    let bytes = archive(14);
    for len in 0..bytes.len() {
        let fault = follow(&bytes[..len], 4096).unwrap_err();
        assert!(fault.is_cut, "{len}: {}", fault.why);
    }
}

#[test]
fn what_follows_the_last_block_or_is_no_archive_is_refused() {
    let trailing = [archive(14), vec![0]].concat();
    assert!(!follow(&trailing, 4096).unwrap_err().is_cut);
    let twice = [archive(14), vec![1], int(3)].concat();
    assert_eq!(follow(&twice, 4096).unwrap_err().why, "there is data that the table of contents does not know");
    assert_eq!(
        follow(b"--\n-- PostgreSQL database dump", 9).unwrap_err().why,
        "it does not begin like an archive of pg_dump"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(change in 0..400_usize, to: u8, piece_len in 1..64_usize) {
        let mut bytes = archive(14);
        let index = change % bytes.len();
        bytes[index] = to;
        let _ = follow(&bytes, piece_len);
    }
}
