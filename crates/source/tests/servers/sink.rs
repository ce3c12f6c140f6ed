//! Events written to a folder, in the simplest way that could be right.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use source::SourceError;
use source::entry::EntryKind;
use source::events::{Event, Events, Layout};

/// What came besides entries.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) facts: BTreeMap<String, String>,
    pub(crate) warnings: Vec<String>,
    /// Paths in the order in which they came.
    pub(crate) paths: Vec<String>,
    /// Files that came as blocks, and how many blocks came.
    pub(crate) spliced: usize,
    pub(crate) blocks: usize,
    /// Bytes of content that came.
    pub(crate) len: u64,
    /// Files of pages that came whole.
    pub(crate) paged: usize,
}

/// Writes all events below `target`; blocks go over what `base` has.
pub(crate) async fn write(mut events: Events, target: &Path, base: Option<&Path>) -> Result<Told, SourceError> {
    let mut told = Told::default();
    let mut open: Option<(File, PathBuf, u32)> = None;
    let mut page_len = 0;
    while let Some(event) = events.next().await {
        match event? {
            Event::Begin(begun) => {
                assert!(open.is_none(), "an entry began within another one");
                let name = std::ffi::OsStr::from_bytes(begun.entry.path.as_bytes()).to_owned();
                let path = target.join(&name);
                told.paths.push(name.to_string_lossy().into_owned());
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match &begun.entry.kind {
                    EntryKind::Directory => fs::create_dir_all(&path).unwrap(),
                    EntryKind::File { .. } => {
                        let file = File::create_new(&path).unwrap();
                        page_len = if let Layout::Pages(len) = begun.layout { u64::from(len) } else { 0 };
                        told.paged += usize::from(page_len > 0 && begun.base.is_none());
                        if let Some(extent) = &begun.base {
                            told.spliced += 1;
                            let mut old = fs::read(base.expect("an earlier backup").join(&name)).unwrap();
                            old.truncate(usize::try_from(extent.block_count * page_len).unwrap());
                            (&file).write_all(&old).unwrap();
                            file.set_len(extent.len).unwrap();
                        }
                        open = Some((file, path, begun.entry.metadata.mode));
                    }
                    kind => panic!("a {} came", kind.noun()),
                }
            }
            Event::Data(data) => {
                assert!(!data.is_empty());
                told.len += data.len() as u64;
                open.as_mut().expect("a file").0.write_all(&data).unwrap();
            }
            Event::Block { number, data } => {
                told.blocks += 1;
                told.len += data.len() as u64;
                let file = &mut open.as_mut().expect("a file").0;
                file.seek(SeekFrom::Start(number * page_len)).unwrap();
                file.write_all(&data).unwrap();
            }
            Event::End => {
                if let Some((_, path, mode)) = open.take() {
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            Event::Fact { name, value } => drop(told.facts.insert(name, value)),
            Event::Warning(words) => told.warnings.push(words),
        }
    }
    assert!(open.is_none(), "the last entry has no end");
    Ok(told)
}
