//! Running components: each is read, cut and named for itself; one packer takes them all.
//!
//! ```text
//! component 0   read ─► cut ─► name ─► assemble ┐
//! component 1   read ─► cut ─► name ─► assemble ┼─► one packer ─► uploads
//! component 2   (waits until one of them ends)  ┘
//! ```
//!
//! Invariant: a component whose source failed is named with the reason and never hides behind the others.
//! Invariant: when the repository fails, all of them end.
//! Never here: committing.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use pack::manifest::TreeRoot;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::backup::Problems;
use crate::backup::assemble::{Assembler, Order};
use crate::backup::batch::Batch;
use crate::backup::name;
use crate::backup::packer::Packer;
use crate::backup::produce::Produced;
use crate::backup::request::{BackupRequest, COMPONENTS_AT_ONCE_MAX, ComponentRequest, Input, ShrinkLimit};
use crate::backup::stream::Outlet;
use crate::backup::upload::Uploader;
use crate::budget::{Budget, IN_FLIGHT_LEN_MAX};
use crate::index::Index;
use crate::objects::now;
use crate::repository::Repository;
use crate::{EngineError, Progress};

/// Batches being named at once, on however many cores.
const NAMING_MAX: usize = 8;
/// Batches that may wait for the namer.
const BATCHES_MAX: usize = 2;

/// What all components of a backup share.
pub(crate) struct Run<'r> {
    pub(crate) request: &'r BackupRequest,
    pub(crate) index: Index,
    /// A condemned list was in sight.
    pub(crate) is_careful: bool,
    pub(crate) progress: &'r Arc<Progress>,
    pub(crate) cancel: CancellationToken,
}

/// What became of a component.
pub(crate) struct Ran {
    pub(crate) started_at: i64,
    pub(crate) ended_at: i64,
    pub(crate) seconds: f64,
    pub(crate) root: TreeRoot,
    pub(crate) produced: Produced,
    pub(crate) new_len: u64,
    /// Chunks that were lost and are there again.
    pub(crate) healed_count: u64,
    pub(crate) stored_len: u64,
    /// Why nothing of it is in the snapshot.
    pub(crate) failure: Option<Arc<EngineError>>,
}

/// A component's root, its bytes of content that were new, and its chunks that were lost and are there again.
type Packed = (TreeRoot, u64, u64);

/// All components, in the order of the request, and what they added to the store.
pub(crate) struct AllRan {
    pub(crate) components: Vec<Ran>,
    pub(crate) stored_len: u64,
    pub(crate) pack_count: u64,
}

impl Repository {
    /// Reads, names, packs and uploads every component.
    pub(crate) async fn run_components(&self, run: &Run<'_>) -> Result<AllRan, EngineError> {
        let uploader = Uploader::new(self, run.index.clone(), Arc::clone(run.progress))?;
        let packer = Mutex::new(Packer::new(self, uploader, run.request.level, run.request.dry_run)?);
        let budget = Budget::new(IN_FLIGHT_LEN_MAX);
        let at_once = run.request.at_once.clamp(1, COMPONENTS_AT_ONCE_MAX);
        let ended = {
            let (packer, budget) = (&packer, &budget);
            let components = futures::stream::iter(run.request.components.iter().enumerate());
            let mut running = components
                .map(|(number, component)| self.run_component(run, number, component, packer, budget.clone()))
                .buffered(at_once);
            let mut ended = Ok(Vec::new());
            while let (Ok(all), Some(next)) = (ended.as_mut(), running.next().await) {
                match next {
                    Ok(ran) => all.push(ran),
                    Err(error) => ended = Err(error),
                }
            }
            ended
        };
        let mut packer = packer.into_inner();
        if !run.request.dry_run && !matches!(ended, Err(EngineError::Store(_))) {
            packer.finish().await?;
        }
        let mut components = ended?;
        let (stored_len, pack_count) = packer.stored();
        share_out(&mut components, &packer, stored_len);
        Ok(AllRan { components, stored_len, pack_count })
    }

    /// Runs one component; only what ends the whole backup is an error.
    async fn run_component<'a>(
        &'a self,
        run: &Run<'_>,
        number: usize,
        component: &ComponentRequest,
        packer: &Mutex<Packer<'a>>,
        budget: Budget,
    ) -> Result<Ran, EngineError> {
        let (clock, started_at) = (Instant::now(), now(&self.env));
        let mut done = self.try_component(run, number, component, packer, budget.clone(), false).await;
        if matches!(done, Err(EngineError::BaseLost { .. })) {
            tracing::warn!("part of the snapshot before is gone; everything is read again");
            done = self.try_component(run, number, component, packer, budget, true).await;
        }
        let (produced, (root, new_len, healed_count), failure) = match done {
            Ok((produced, packed)) => (produced, packed, None),
            Err(error) if error.is_of_source() => (Produced::default(), Packed::default(), Some(Arc::new(error))),
            Err(error) => return Err(error),
        };
        let (ended_at, seconds) = (now(&self.env), clock.elapsed().as_secs_f64());
        Ok(Ran { started_at, ended_at, seconds, root, produced, new_len, healed_count, stored_len: 0, failure })
    }

    async fn try_component<'a>(
        &'a self,
        run: &Run<'_>,
        number: usize,
        component: &ComponentRequest,
        packer: &Mutex<Packer<'a>>,
        budget: Budget,
        reads_all: bool,
    ) -> Result<(Produced, Packed), EngineError> {
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        let outlet = Outlet {
            offload: self.offload.clone(),
            budget,
            gear: self.keyring.gear()?,
            cutter: component.cutter,
            cancel: run.cancel.clone(),
            batches: sender,
        };
        let problems = Problems::default();
        let order = if matches!(component.input, Input::Events(_)) { Order::Any } else { Order::Sorted };
        let (index, progress) = (run.index.clone(), Arc::clone(run.progress));
        let assembler = Assembler::new(packer, self, (number, order), index, progress, problems.clone())?;
        let reading = self.produce(run, component, outlet, problems.clone(), reads_all);
        let packing = self.assemble(assembler, run.index.clone(), receiver);
        let (mut produced, packed) = match futures::join!(reading, packing) {
            (Ok(produced), Ok(packed)) => (produced, packed),
            // A packer that fails closes the channel, and the reader then only sees that nobody listens.
            (Err(EngineError::Interrupted), Err(error)) | (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        (produced.problems, produced.problem_count, produced.lost_count) = problems.take();
        self.check_size(run, component, &packed.0, &mut produced).await?;
        Ok((produced, packed))
    }

    /// Names batches on the pool, several at once, and assembles them in order.
    async fn assemble(
        &self,
        mut assembler: Assembler<'_, '_>,
        index: Index,
        mut receiver: mpsc::Receiver<Batch>,
    ) -> Result<Packed, EngineError> {
        let namer = self.keyring.namer()?;
        let at_once = (self.offload.threads() + 1).min(NAMING_MAX);
        let batches = futures::stream::poll_fn(|context| receiver.poll_recv(context));
        let mut named = batches
            .map(|batch| {
                let (namer, index) = (namer.clone(), index.clone());
                self.offload.start(move || name::name(batch, &namer, &index))
            })
            .buffered(at_once);
        while let Some(batch) = named.next().await {
            assembler.take(batch??).await?;
        }
        assembler.finish().await
    }

    /// Refuses a component that is suspiciously smaller than in the newest snapshot that holds it whole, or warns; one
    /// that has nothing left, such as a disk that is not mounted, is refused unless that is expected.
    async fn check_size(
        &self,
        run: &Run<'_>,
        component: &ComponentRequest,
        root: &TreeRoot,
        produced: &mut Produced,
    ) -> Result<(), EngineError> {
        let now = root.content_len;
        let is_gone = now == 0 && !component.allow_empty;
        let limit = match component.shrink {
            Some(limit) => limit,
            None if is_gone => ShrinkLimit { percent_max: 99, refuses: true },
            None => return Ok(()),
        };
        let name = component.component_name();
        let Some(before) = self.newest_len(run.request, component, &produced.roots).await? else { return Ok(()) };
        let floor = u128::from(before) * u128::from(100 - limit.percent_max.min(100)) / 100;
        if u128::from(now) >= floor && !(is_gone && before > 0) {
            return Ok(());
        }
        let error = EngineError::Shrunk { name, before, now, percent_max: limit.percent_max };
        if limit.refuses || is_gone {
            return Err(error);
        }
        produced.warnings.push(error.to_string());
        Ok(())
    }
}

/// Gives each component its share of what was stored: its blobs, and of the tables and segments as much as its blobs are
/// of all blobs. The shares add up to the whole.
fn share_out(components: &mut [Ran], packer: &Packer<'_>, stored_len: u64) {
    let lens: Vec<u64> = (0..components.len()).map(|number| packer.sealed_len(number)).collect();
    let sealed: u64 = lens.iter().sum();
    let extra = stored_len.saturating_sub(sealed);
    let mut left = stored_len;
    let last = components.len().saturating_sub(1);
    for (number, (component, len)) in components.iter_mut().zip(lens).enumerate() {
        let share = u128::from(extra) * u128::from(len) / u128::from(sealed.max(1));
        let own = if number == last { left } else { (len + share as u64).min(left) };
        component.stored_len = own;
        left -= own;
    }
}
