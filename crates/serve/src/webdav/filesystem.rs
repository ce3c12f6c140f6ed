//! What the WebDAV library asks, one function each.
//!
//! Invariant: every function but those of reading is the library's own refusal.
//! Never here: how answers are found; `places` knows.

use std::sync::Arc;
use std::time::SystemTime;

use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavMetaData, FsError, FsFuture, FsResult, FsStream, GuardedFileSystem, OpenOptions,
    ReadDirMeta,
};
use futures::StreamExt as _;

use super::answers::Asked;
use super::places::{Child, Meta, Place, Refusal, Shared};
use super::reading::OpenFile;

/// The snapshots as the library sees them.
#[derive(Debug, Clone)]
pub(super) struct Files(Arc<Shared>);

impl Files {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    async fn place(&self, asked: &Asked, path: &DavPath) -> FsResult<Place> {
        self.0.place(asked, path.as_bytes()).await.map_err(|refusal| match refusal {
            Refusal::NotFound => FsError::NotFound,
            Refusal::Failed => FsError::GeneralFailure,
        })
    }
}

impl GuardedFileSystem<Asked> for Files {
    fn metadata<'a>(&'a self, path: &'a DavPath, asked: &'a Asked) -> FsFuture<'a, Box<dyn DavMetaData>> {
        Box::pin(async move {
            let meta = self.place(asked, path).await?.meta().ok_or(FsError::NotFound)?;
            Ok(Box::new(quoted(meta, asked)) as Box<dyn DavMetaData>)
        })
    }

    fn open<'a>(&'a self, path: &'a DavPath, options: OpenOptions, asked: &'a Asked) -> FsFuture<'a, Box<dyn DavFile>> {
        Box::pin(async move {
            if options.write || options.append || options.truncate || options.create || options.create_new {
                return Err(FsError::Forbidden);
            }
            let place = self.place(asked, path).await?;
            let meta = place.meta().ok_or(FsError::NotFound)?;
            let Place::Entry(component, found) = place else { return Err(FsError::Forbidden) };
            let path = found.entry().path.clone();
            let reader = match self.0.readers.open(&found) {
                Ok(reader) => reader,
                Err(error) => {
                    self.0.refuse(asked, &component, &path, error).await;
                    return Err(FsError::GeneralFailure);
                }
            };
            let opened = OpenFile::open(Arc::clone(&self.0), asked.clone(), component, path, (reader, meta)).await?;
            Ok(Box::new(opened) as Box<dyn DavFile>)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a DavPath,
        _: ReadDirMeta,
        asked: &'a Asked,
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        Box::pin(async move {
            let place = self.place(asked, path).await?;
            let children = self.0.children(asked, &place).ok_or(FsError::NotFound)?;
            let asked = asked.clone();
            let children = children.map(move |Child { name, meta }| {
                Ok(Box::new(Child { name, meta: quoted(meta, &asked) }) as Box<dyn DavDirEntry>)
            });
            Ok(Box::pin(children) as FsStream<Box<dyn DavDirEntry>>)
        })
    }
}

/// The library puts quotes around a tag in a header, but not in a list of properties, where they belong too.
fn quoted(mut meta: Meta, asked: &Asked) -> Meta {
    if asked.is_listing() {
        meta.tag = meta.tag.map(|tag| format!("\"{tag}\""));
    }
    meta
}

impl DavDirEntry for Child {
    fn name(&self) -> Vec<u8> {
        self.name.clone()
    }

    fn metadata(&'_ self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let meta: Box<dyn DavMetaData> = Box::new(self.meta.clone());
        Box::pin(std::future::ready(Ok(meta)))
    }
}

impl DavMetaData for Meta {
    fn len(&self) -> u64 {
        self.len.unwrap_or_default()
    }

    fn modified(&self) -> FsResult<SystemTime> {
        self.modified.ok_or(FsError::NotImplemented)
    }

    fn is_dir(&self) -> bool {
        self.len.is_none()
    }

    fn executable(&self) -> FsResult<bool> {
        if self.len.is_some() { Ok(self.is_executable) } else { Err(FsError::NotImplemented) }
    }

    fn etag(&self) -> Option<String> {
        self.tag.clone()
    }
}
