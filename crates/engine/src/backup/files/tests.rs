//! Small files that are not small any more when they are read.
//!
//! Never here: walking, and which files are read at all.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::budget::Budget;
use crate::offload::Offload;

const FILES: usize = 12;
const GROWN_LEN: usize = 400 << 10;

fn content(at: usize) -> Vec<u8> {
    vec![b'a' + at as u8; GROWN_LEN]
}

#[tokio::test]
async fn files_that_grow_after_the_walk_are_read_whole_and_in_order_within_the_group_s_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = |at: usize| folder.path().join(format!("file {at:02}"));
    (0..FILES).for_each(|at| std::fs::write(path(at), b"small").unwrap());
    let source = FilesSource::new(vec![folder.path().to_owned()], Default::default()).unwrap();
    let (batches, mut received) = mpsc::channel(1000);
    let outlet = Outlet {
        offload: Offload::new().unwrap(),
        budget: Budget::new(16 << 20),
        gear: Arc::new(Gear::new(Box::new([7; 256]))),
        cutter: None,
        cancel: CancellationToken::new(),
        batches,
    };
    let mut reader = TreeReader {
        source: source.clone(),
        parent: None,
        outlet,
        problems: Problems::default(),
        unchanged_count: 0,
        below_count: 0,
        never_entered: HashSet::new(),
        one_file_system: false,
        device: 0,
    };
    let mut group = Group::default();
    for found in source.walk() {
        let planned = reader.plan(reader.entry(found).unwrap()).await.unwrap();
        group.len += if let Planned::Read(found) = &planned { len_of(found) } else { 0 };
        group.planned.push(planned);
    }
    assert_eq!(group.len, (FILES * b"small".len()) as u64);
    let room = group.len + GROWTH_LEN_MAX;
    (0..FILES).for_each(|at| std::fs::write(path(at), content(at)).unwrap());

    let mut reading = VecDeque::new();
    reader.start(&mut reading, group).await.unwrap();
    reader.drain(&mut reading, 0).await.unwrap();
    let (problems, _, _) = reader.problems.take();
    drop(reader);
    let (mut files, mut first_len) = (Vec::new(), None);
    while let Some(batch) = received.recv().await {
        let lens = batch.items.iter().map(|item| if let Item::Chunk(bytes) = item { bytes.len() } else { 0 });
        first_len.get_or_insert(lens.sum::<usize>() as u64);
        for item in batch.items {
            match item {
                Item::Begin(entry, _) => files.push((entry.path, Vec::new(), false)),
                Item::Chunk(bytes) => files.last_mut().unwrap().1.extend_from_slice(&bytes),
                Item::End { is_whole } => files.last_mut().unwrap().2 = is_whole,
                Item::Known(child) => panic!("{child:?} in a tree"),
                Item::Hole(_) | Item::Whole(..) => {}
            }
        }
    }
    assert!(problems.is_empty(), "{problems:?}");
    assert!(first_len.is_some_and(|len| len > 0 && len <= room), "{first_len:?}");
    assert_eq!(files.len(), FILES);
    for (at, (name, found, is_whole)) in files.iter().enumerate() {
        assert!(name.ends_with(format!("file {at:02}").as_bytes()), "{name:?}");
        assert!(*found == content(at) && *is_whole, "{name:?}: {} bytes", found.len());
    }
}
