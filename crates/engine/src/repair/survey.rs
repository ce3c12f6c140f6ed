//! What the segments in the store say, as the store has them and not as this host remembers them.
//!
//! Costs in memory: 64 bytes for each pack that is named.
//!
//! Invariant: what is not right is read once more before it is called damaged.
//! Never here: the packs.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};
use pack::{PackEntry, PackId, Segment, SegmentId, names};
use store::{ObjectInfo, StoreError};

use crate::index::open_segment;
use crate::repository::{Repository, list};
use crate::{EngineError, Kind};

/// Segments read at once.
const AT_ONCE_MAX: usize = 4;
/// How often an object that is not right is read.
const READS_MAX: usize = 2;
/// How often a listing is repeated when segments vanish between LIST and GET.
const LISTINGS_MAX: usize = 10;

/// What segments say.
#[derive(Default)]
pub(super) struct Survey {
    /// The packs that are named, each with a hash of what is said of it.
    pub(super) named: HashMap<PackId, [u8; 32]>,
    /// Those of which segments say different things.
    pub(super) disputed: HashSet<PackId>,
    /// Segments that are damaged, and what is wrong.
    pub(super) damaged: Vec<(ObjectInfo, String)>,
}

/// What came of reading a segment.
pub(super) enum SegmentRead {
    Right(Box<Segment>),
    Gone,
    Damaged(String),
}

impl Repository {
    /// Reads every segment.
    ///
    /// # Errors
    ///
    /// Those of the store, and a segment of a newer version or an unknown epoch: then nobody can say what is named.
    pub(super) async fn survey_segments(&self) -> Result<Survey, EngineError> {
        for _ in 0..LISTINGS_MAX {
            let mut reads = futures::stream::iter(list(&self.store, names::INDEX).await?)
                .map(|info| async move { Ok::<_, EngineError>((self.survey_segment(&info).await?, info)) })
                .buffered(AT_ONCE_MAX);
            let (mut survey, mut has_vanished) = (Survey::default(), false);
            while let Some((read, info)) = reads.try_next().await? {
                match read {
                    SegmentRead::Right(segment) => segment.packs.iter().try_for_each(|entry| survey.add(entry))?,
                    SegmentRead::Gone => has_vanished = true,
                    SegmentRead::Damaged(what) => survey.damaged.push((info, what)),
                }
            }
            if !has_vanished {
                return Ok(survey);
            }
        }
        Err(EngineError::Request {
            what: "index segments vanish as fast as they are read; is a prune running in a loop?".into(),
        })
    }

    /// Reads one, once more if it is not right.
    pub(super) async fn survey_segment(&self, info: &ObjectInfo) -> Result<SegmentRead, EngineError> {
        let Some(id) = SegmentId::from_hex(names::last(&info.name)) else { return Ok(SegmentRead::Gone) };
        let mut wrong = String::new();
        for _ in 0..READS_MAX {
            let bytes = match self.store.get(&info.name).await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => return Ok(SegmentRead::Gone),
                Err(error) if error.kind() == store::Kind::Damaged => {
                    wrong = error.to_string();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let (keyring, own) = (self.keyring.clone(), info.clone());
            let open = move || open_segment(&keyring, id, &own, &bytes);
            match self.offload.start(open).await? {
                Ok((segment, _)) => return Ok(SegmentRead::Right(Box::new(segment))),
                Err(error) if error.kind() != Kind::Damaged => return Err(error),
                Err(EngineError::Object { source, .. }) => wrong = source.to_string(),
                Err(error) => wrong = error.to_string(),
            }
        }
        Ok(SegmentRead::Damaged(wrong))
    }
}

impl Survey {
    fn add(&mut self, entry: &PackEntry) -> Result<(), EngineError> {
        let said = entry.said().map_err(EngineError::object(names::INDEX))?;
        if self.named.insert(entry.id, said).is_some_and(|before| before != said) {
            self.disputed.insert(entry.id);
        }
        Ok(())
    }
}
