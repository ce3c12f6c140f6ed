//! Manifests that somebody with a key made to write elsewhere: the real binary stays beneath the target.
//!
//! Invariant: what lies outside of the target is as before; what cannot be restored is named, and the others are restored.
//! Never here: links that were planted in the target beforehand (see `bad_input`).

use std::fs;
use std::path::Path;

use harness::binary::{Host, Ran, Run as _, shell};
use harness::{Forge, Site, names_of};
use pack::manifest::{Child, Entry, EntryKind, Time};
use pack::names;
use store::Store as _;

const CONTENT: &[u8] = b"the only content";

/// An entry of this path and kind, with metadata that would be seen wherever it was set.
fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o777,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        modified_at: Time::default(),
        changed_at: Time::default(),
        inode: 1,
        device: 0,
        links: 1,
        xattrs: Vec::new(),
        is_whole: true,
        child_count: 0,
    }
}

/// A host with a repository whose newest snapshot lists these entries, files with [`CONTENT`], in whose names the first of
/// `replaced` stands for the second.
async fn host_with(mut entries: Vec<Entry>, replaced: Option<[&[u8]; 2]>) -> Host {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    fs::write(site.tree().join("file"), CONTENT).expect("writes");
    let report = site.backup(&repository).await;
    let found = site.snapshot(&repository, &report).await.snapshot;
    let forge = Forge::open(&site.memory, "owner").await;
    let segment = names_of(&site.memory, names::INDEX).await.pop().expect("has one");
    let segment = forge.open_segment(&site.memory.get(&segment).await.expect("is there"));
    let chunks = segment.packs.iter().flat_map(|pack| &pack.trailer.chunks);
    let (id, len) = *chunks.clone().find(|(_, len)| *len as usize == CONTENT.len()).expect("is stored");
    entries.sort_by_key(Entry::sort_key);
    let children = |entry: &Entry| match entry.kind {
        EntryKind::File { .. } => vec![Child::chunk(id, u64::from(len))],
        _ => Vec::new(),
    };
    let pages = entries.into_iter().map(|entry| (entry.clone(), children(&entry))).collect();
    let mut structure = found.structure.clone();
    structure.components[0].root = Some(match replaced {
        None => forge.pages(&site.memory, pages).await,
        Some([from, to]) => forge.false_pages(&site.memory, pages, from, to).await,
    });
    let (name, bytes) = forge.snapshot(&site.memory, &structure, found.body.as_ref().expect("is open")).await;
    site.memory.overwrite(&name, bytes).await;
    let host = Host::new();
    host.write_secret("password", "owner");
    for name in names_of(&site.memory, "").await {
        host.write(&format!("repository/{name}"), site.memory.get(&name).await.expect("is there"));
    }
    host
}

/// Everything beside the target, with kind, mode, time and length.
fn beside_target(host: &Host) -> String {
    shell(&host.path("place"), "find . -path ./target -prune -o -printf '%p %y %m %T@ %s\\n' | sort")
}

/// Restores into `place/target` in every way, none of which may touch what lies beside it; gives what the last one said.
fn restore(host: &Host) -> Ran {
    fs::create_dir_all(host.path("place/target")).expect("a folder");
    host.write("place/outside/file", "precious");
    let before = beside_target(host);
    let restore = |options: [&str; 2]| {
        let mut command = host.backstay(["restore", "latest"]);
        let ran = command.args(options).arg("--target").arg(host.path("place/target")).run();
        assert_eq!(beside_target(host), before, "{ran}");
        assert_ne!(ran.code, Some(0), "{ran}");
        ran
    };
    restore(["--overwrite", "never"]);
    restore(["--overwrite", "if-changed"]);
    restore(["--overwrite", "always"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_with_paths_that_lead_out_of_the_target_are_refused_as_they_are_read() {
    let file = EntryKind::File { len: CONTENT.len() as u64 };
    let link = EntryKind::Symlink { target: b"outside".into() };
    for (path, [from, to]) in [
        ("UP/escaped", ["UP", ".."]),
        ("UP/outside/file", ["UP", ".."]),
        ("sub/UP/UP/escaped", ["UP", ".."]),
        ("Xtmp/escaped", ["Xtmp", "/tmp"]),
        ("sub/X/twice", ["sub/X", "sub//"]),
        ("sub/nul_name", ["nul_name", "nul\0name"]),
    ] {
        for kind in [&file, &link, &EntryKind::Directory, &EntryKind::Fifo] {
            let entries = vec![entry(path.as_bytes(), kind.clone())];
            let host = host_with(entries, Some([from.as_bytes(), to.as_bytes()])).await;
            restore(&host).says(&["page", "not a relative path"]);
            assert_eq!(fs::read_dir(host.path("place/target")).expect("a folder").count(), 0, "{path}");
        }
    }
    assert!(!Path::new("/tmp/escaped").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_behind_links_of_the_same_manifest_are_named_and_nothing_is_written_there() {
    let file = EntryKind::File { len: CONTENT.len() as u64 };
    let mut entries = Vec::new();
    for (name, to) in [("up", "../outside"), ("parent", ".."), ("root", "/"), ("process", "/proc/self/cwd")] {
        entries.push(entry(name.as_bytes(), EntryKind::Symlink { target: to.as_bytes().into() }));
        entries.push(entry(format!("{name}/file").as_bytes(), file.clone()));
        entries.push(entry(format!("{name}/folder").as_bytes(), EntryKind::Directory));
    }
    entries.push(entry(&[b'n'; 256], file.clone()));
    entries.push(entry(b"right", file));
    let host = host_with(entries, None).await;
    // Folders came to stand where the links should be, for the files that the manifest has below them.
    restore(&host).expect_code(1).says(&[
        "/target/up is",
        "/target/parent is",
        "/target/root is",
        "/target/process is",
        "nnn",
    ]);
    let right = host.path("place/target/right");
    assert_eq!(fs::read(right).expect("is restored"), CONTENT);
    assert!(!Path::new("/folder").exists() && !Path::new("/file").exists());
}
