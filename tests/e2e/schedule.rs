//! Backups, prunes, forgetting and a reader at once, on a store that lets one call pass at a time, in an order that a seed decides.
//!
//! ```text
//! base: three snapshots of two hosts ─► two hosts back up, two prune, one forgets, one restores
//!       each call waits ─► dice: whose passes? ─► answered, or not, or late; frozen, or killed and begun again
//!       all have ended ─► everything restores ─► prune ─► everything restores, no list is left, check is clean
//!                                             ─► the last late calls land ─► the same again
//! ```
//!
//! A run that fails prints its seed and what happened; set `BACKSTAY_SEED` to replay it. Threads of the engine are not scheduled, only
//! its calls, so a replay may take another way: it is made several times, and one that fails is a failure. `SCHEDULE_SECONDS` searches for
//! longer. That it sees something is shown with stores that have a flaw.
//!
//! Invariant: a snapshot whose backup said that it was committed, and that nobody began to forget, restores byte for byte.
//! Never here: all interleavings (see `tests/protocol`), processes and machines (see `soak`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::{EngineError, Forget, GroupBy, PruneRequest, Repository, Selector, SnapshotFilter};
use harness::{
    Dice, Fate, Flaw, Gate, Site, Tree, WaitingCall, backup_request, check_all, names_of, password, prune_request,
    restore_request, try_backup, try_prune, try_restore,
};
use pack::{SnapshotId, names};
use store::{Env, Patience, Retrying, SharedStore};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// How long seeds are tried, unless `SCHEDULE_SECONDS` says otherwise.
const TRIED_FOR: Duration = Duration::from_secs(40);
/// How often a given seed is tried.
const REPLAYS: u64 = 10;
/// How long a flaw is looked for at most.
const LOOKED_FOR: Duration = Duration::from_secs(240);
/// Calls of one run.
const STEPS_MAX: usize = 20_000;
/// An actor that asks nothing for so long is stuck.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether an actor ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// After so long on its own clock a writer renews its lease.
const RENEWAL: Duration = Duration::from_secs(300);
/// Prunes that may be needed in the end: one gives up the writers that were killed, and the next frees what they left.
const LAST_PRUNES_MAX: usize = 3;
/// What a file is made of: so many contents there are in a run.
const CONTENTS: usize = 10;

/// The actors: two hosts, two prunes, one that forgets, one that restores.
const ACTORS: [&str; 6] = ["host 0", "host 1", "prune 0", "prune 1", "keeper", "reader"];
const PRUNERS: usize = 2;
const KEEPER: usize = 4;
const READER: usize = 5;

/// The call that makes a snapshot, or finds that its writer was given up.
const COMMIT: &str = "put snapshots/";
/// Calls before which somebody may stop for long.
const PIVOTAL: [&str; 7] =
    [COMMIT, "put condemned/", "put index/", "list writers", "list packs", "delete packs/", "delete condemned/"];

/// What one actor does.
#[derive(Debug, Clone)]
enum Work {
    Backup(usize),
    Prune(Duration),
    Forget,
    Restore,
}

/// What everybody knows of a run.
struct Scene {
    site: Site,
    gate: Arc<Gate>,
    truth: Mutex<Truth>,
}

#[derive(Default)]
struct Truth {
    /// What must restore: whose, and how it was.
    committed: BTreeMap<SnapshotId, (usize, Tree)>,
    /// What somebody began to forget.
    forgotten: BTreeSet<SnapshotId>,
    /// What the keeper takes next.
    victims: VecDeque<SnapshotId>,
    log: Vec<String>,
    counts: Counts,
}

/// What came about in a run, to see that it is worth something.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    steps: usize,
    lost: usize,
    killed: usize,
    committed: usize,
    given_up: usize,
    pruned: usize,
    packs_deleted: u64,
    copied: u64,
    restored: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.lost += other.lost;
        self.killed += other.killed;
        self.committed += other.committed;
        self.given_up += other.given_up;
        self.pruned += other.pruned;
        self.packs_deleted += other.packs_deleted;
        self.copied += other.copied;
        self.restored += other.restored;
    }
}

impl Scene {
    /// A repository with three snapshots, some of which will be forgotten, and changed trees.
    async fn new(dice: &Dice, flaw: Flaw) -> Self {
        let site = Site::new(dice.seed());
        drop(site.init(site.store(), &cache_of(0)).await.expect("makes"));
        let contents: Vec<Vec<u8>> = (0..CONTENTS).map(|_| dice.bytes(2_000 + dice.below(58_000))).collect();
        let mut truth = Truth::default();
        let mut made = Vec::new();
        for host in [0, 1, 0] {
            fill(&folder(&site, host), &contents, dice);
            let repository = site.open(&cache_of(host)).await;
            let report = site.backup_of(&repository, request(&site, host)).await;
            let id = report.snapshot.expect("was committed");
            truth.committed.insert(id, (host, Tree::read(&folder(&site, host))));
            made.push(id);
        }
        made.swap(0, dice.below(3));
        truth.victims = made[..1 + dice.below(2)].iter().copied().collect();
        if dice.once_in(2) {
            let first = truth.victims.pop_front().expect("has one");
            site.forget(&site.open(&cache_of(0)).await, first).await;
            truth.committed.remove(&first);
            truth.forgotten.insert(first);
        }
        for host in 0..2 {
            fill(&folder(&site, host), &contents, dice);
        }
        let gate = Gate::new(site.memory.clone(), flaw);
        Self { site, gate, truth: Mutex::new(truth) }
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, line: String) {
        self.truth().log.push(line);
    }

    /// What is left to restore.
    fn due(&self) -> Vec<(SnapshotId, usize, Tree)> {
        let truth = self.truth();
        let due = truth.committed.iter().filter(|(id, _)| !truth.forgotten.contains(id));
        due.map(|(id, (host, tree))| (*id, *host, tree.clone())).collect()
    }

    async fn open(&self, store: SharedStore, env: &Env, cache: &str) -> Result<Repository, EngineError> {
        Repository::open(store, env.clone(), password("owner"), self.site.options(cache)).await
    }

    /// Does some work through the gate. What must not happen is an error.
    async fn work(&self, actor: usize, work: Work, env: Env) -> Result<(), String> {
        let patience = Patience { pause_min: LOOK_EVERY, pause_max: LOOK_EVERY, ..Patience::default() };
        let store = Arc::new(Retrying::new(self.gate.store(actor), Env::system(), patience));
        let opened = self.open(store, &env, &cache_of(actor)).await.map_err(|error| format!("opening: {error:?}"))?;
        match work {
            Work::Backup(host) => self.back_up(&opened, host).await,
            Work::Prune(lease) => self.prune(&opened, lease).await,
            Work::Forget => self.forget(&opened, &env).await,
            Work::Restore => self.restore(&opened).await,
        }
    }

    async fn back_up(&self, repository: &Repository, host: usize) -> Result<(), String> {
        let tree = Tree::read(&folder(&self.site, host));
        match try_backup(repository, request(&self.site, host)).await {
            Ok(report) => {
                let id = report.snapshot.ok_or("a backup without a snapshot")?;
                let mut truth = self.truth();
                truth.log.push(format!("host {host} committed {id}"));
                truth.counts.committed += 1;
                truth.committed.insert(id, (host, tree));
                truth.victims.push_back(id);
                Ok(())
            }
            Err(EngineError::DeclaredDead) => {
                self.truth().counts.given_up += 1;
                Ok(())
            }
            Err(error) => Err(format!("host {host} backs up: {error:?}")),
        }
    }

    async fn prune(&self, repository: &Repository, lease_over_after: Duration) -> Result<(), String> {
        let report = try_prune(repository, PruneRequest { lease_over_after, ..prune_request(0.0) }).await;
        let report = report.map_err(|error| format!("prune: {error:?}"))?;
        let mut truth = self.truth();
        truth.counts.pruned += 1;
        truth.counts.packs_deleted += report.packs_deleted;
        truth.counts.copied += report.copied_packs;
        if report.problems.is_empty() { Ok(()) } else { Err(format!("prune: {:?}", report.problems)) }
    }

    /// Forgets what was chosen, or what was committed last, if one snapshot is left then.
    async fn forget(&self, repository: &Repository, env: &Env) -> Result<(), String> {
        let victim = {
            let mut truth = self.truth();
            let left = truth.committed.keys().filter(|id| !truth.forgotten.contains(id)).count();
            let Some(victim) = truth.victims.pop_front().filter(|_| left > 1) else { return Ok(()) };
            truth.forgotten.insert(victim);
            truth.log.push(format!("forgetting {victim} begins"));
            victim
        };
        let now = jiff::Timestamp::new(env.now().secs, 0).expect("a moment").to_zoned(jiff::tz::TimeZone::UTC);
        let plan = repository.plan_forget(&Forget::Named(vec![victim]), GroupBy::default(), &now).await;
        let plan = plan.map_err(|error| format!("forget: {error:?}"))?;
        repository.forget(&plan).await.map(drop).map_err(|error| format!("forget: {error:?}"))
    }

    /// Restores something that must restore; if it is forgotten meanwhile, nothing is promised.
    async fn restore(&self, repository: &Repository) -> Result<(), String> {
        let Some((id, host, tree)) = self.due().pop() else { return Ok(()) };
        let done = self.compare(repository, id, host, &tree).await;
        let mut truth = self.truth();
        if truth.forgotten.contains(&id) {
            return Ok(());
        }
        truth.counts.restored += 1;
        done
    }

    async fn compare(&self, repository: &Repository, id: SnapshotId, host: usize, tree: &Tree) -> Result<(), String> {
        let lost = |what: String| format!("LOST {id} of host {host}: {what}");
        let info = repository.select(&Selector::Prefix(id.to_string()), &SnapshotFilter::default()).await;
        let info = info.map_err(|error| lost(format!("{error:?}")))?;
        let target = self.site.new_folder();
        let path = folder(&self.site, host);
        let path = path.to_str().expect("a plain name").trim_start_matches('/').as_bytes().to_vec();
        let report = try_restore(repository, &info, restore_request(&path, target.path())).await;
        let report = report.map_err(|error| lost(format!("{error:?}")))?;
        let differences = tree.differences(&Tree::read(target.path()));
        if report.problem_count > 0 || !differences.is_empty() {
            return Err(lost(format!("{:?} {differences:?}", report.problems)));
        }
        Ok(())
    }

    /// All that must restore does, on a host that knows nothing, and nothing is damaged.
    async fn assert_whole(&self, context: &str) -> Result<(), String> {
        let cache = self.site.new_folder();
        let cache = cache.path().file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        let repository = self.site.open(&format!("{cache}/cache")).await;
        for (id, host, tree) in self.due() {
            self.compare(&repository, id, host, &tree).await.map_err(|lost| format!("{context}: {lost}"))?;
        }
        let checked = check_all(&repository).await.map_err(|error| format!("{context}: check: {error:?}"))?;
        match checked.damages.is_empty() && checked.unclear.is_empty() {
            true => Ok(()),
            false => Err(format!("{context}: LOST {:?} {:?}", checked.damages, checked.unclear)),
        }
    }

    /// What is left goes, and what is needed stays.
    async fn tidy_up(&self, context: &str) -> Result<(), String> {
        self.assert_whole(context).await?;
        for _ in 0..LAST_PRUNES_MAX {
            let repository = self.site.open(&cache_of(PRUNERS)).await;
            self.prune(&repository, Duration::ZERO).await?;
            self.assert_whole(&format!("{context}, pruned")).await?;
        }
        let lists = names_of(&self.site.memory, names::CONDEMNED).await;
        if lists.is_empty() { Ok(()) } else { Err(format!("{context}: lists are left: {lists:?}")) }
    }
}

fn cache_of(actor: usize) -> String {
    format!("cache-{actor}")
}

fn folder(site: &Site, host: usize) -> PathBuf {
    site.path(&format!("host-{host}/tree"))
}

fn request(site: &Site, host: usize) -> engine::BackupRequest {
    engine::BackupRequest { host: format!("host-{host}"), ..backup_request(&folder(site, host)) }
}

/// Makes the files of a tree some of these, and leaves alone those that stay as they are.
fn fill(folder: &std::path::Path, contents: &[Vec<u8>], dice: &Dice) {
    fs::create_dir_all(folder).expect("creates");
    for (at, content) in contents.iter().enumerate() {
        let file = folder.join(format!("{at}"));
        match (dice.once_in(2), file.exists()) {
            (true, false) => fs::write(&file, content).expect("writes"),
            (false, true) if dice.once_in(2) => fs::remove_file(&file).expect("removes"),
            _ => {}
        }
    }
    fs::write(folder.join("own"), dice.bytes(2_000)).expect("writes");
}

/// One actor as the scheduler sees it.
struct Actor {
    todo: VecDeque<Work>,
    running: Option<(Work, JoinHandle<Result<(), String>>)>,
    /// The step at which it goes on.
    frozen_until: usize,
    env: Env,
}

/// Whose calls pass, and what befalls them.
struct Schedule<'a> {
    scene: &'a Arc<Scene>,
    dice: &'a Dice,
    actors: Vec<Actor>,
    step: usize,
    last: usize,
    /// An actor makes so many calls at once on average.
    burst: usize,
    /// One call in so many that change something gets no answer; one step in so many kills and freezes somebody.
    loses: usize,
    kills: usize,
    freezes: usize,
    /// One pivotal call in so many is put off.
    lingers: usize,
}

impl<'a> Schedule<'a> {
    fn new(scene: &'a Arc<Scene>, dice: &'a Dice) -> Self {
        let now = scene.site.env.now();
        let lease = |dice: &Dice| match dice.below(3) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(50),
            _ => engine::LEASE_OVER_AFTER,
        };
        let actors = (0..ACTORS.len()).map(|actor| {
            let work = |_| match actor {
                0 | 1 => Work::Backup(actor),
                KEEPER => Work::Forget,
                READER => Work::Restore,
                _ => Work::Prune(lease(dice)),
            };
            let todo = (0..1 + dice.below(2)).map(work).collect();
            let env = Env::fixed(now, dice.seed().wrapping_mul(8).wrapping_add(actor as u64));
            Actor { todo, running: None, frozen_until: dice.below(3) * dice.below(150), env }
        });
        let actors = actors.collect();
        let pick = |of: &[usize]| *dice.pick(of).expect("has some");
        let (burst, loses) = (pick(&[1, 4, 16]), pick(&[8, 30, 1_000]));
        let (kills, freezes, lingers) = (pick(&[150, 600, 100_000]), pick(&[20, 60, 200]), pick(&[2, 6, 30]));
        Self { scene, dice, actors, step: 0, last: 0, burst, loses, kills, freezes, lingers }
    }

    /// Runs everybody to the end.
    async fn run(&mut self) -> Result<(), String> {
        while self.step < STEPS_MAX {
            self.start_what_is_due();
            if !self.settle().await? {
                return Ok(());
            }
            self.disturb().await;
            if let Some(call) = self.choose()
                && !self.lingers(&call)
            {
                self.let_pass(&call).await;
            }
            self.step += 1;
        }
        Err(format!("not over after {STEPS_MAX} calls"))
    }

    fn start_what_is_due(&mut self) {
        for (number, actor) in self.actors.iter_mut().enumerate() {
            if actor.running.is_none()
                && let Some(work) = actor.todo.pop_front()
            {
                let (scene, env) = (Arc::clone(self.scene), actor.env.clone());
                scene.log(format!("{} begins {work:?}", ACTORS[number]));
                let doing = work.clone();
                let handle = spawn_local(async move { scene.work(number, doing, env).await });
                actor.running = Some((work, handle));
            }
        }
    }

    /// Waits until everybody who goes on asks for something or has ended; false if nobody is left.
    async fn settle(&mut self) -> Result<bool, String> {
        let since = Instant::now();
        loop {
            self.reap().await?;
            let waiting: BTreeSet<usize> = self.scene.gate.waiting().iter().map(|call| call.actor).collect();
            let is_silent = |(number, actor): (usize, &Actor)| actor.running.is_some() && !waiting.contains(&number);
            if !self.actors.iter().enumerate().any(is_silent) {
                return Ok(self.actors.iter().any(|actor| actor.running.is_some() || !actor.todo.is_empty()));
            }
            if since.elapsed() > SILENT_MAX {
                return Err(format!("somebody is stuck; at the gate: {:?}", self.scene.gate.waiting()));
            }
            drop(tokio::time::timeout(LOOK_EVERY, self.scene.gate.arrivals.notified()).await);
        }
    }

    /// Takes in what has ended.
    async fn reap(&mut self) -> Result<(), String> {
        for (number, actor) in self.actors.iter_mut().enumerate() {
            let Some((work, handle)) = actor.running.take_if(|(_, handle)| handle.is_finished()) else { continue };
            let done = handle.await.map_err(|error| format!("{}: {error}", ACTORS[number]))?;
            self.scene.log(format!("{} ended {work:?}: {done:?}", ACTORS[number]));
            done.map_err(|error| format!("{}: {error}", ACTORS[number]))?;
        }
        Ok(())
    }

    /// Freezes, kills, moves a clock, or lets something land that was late.
    async fn disturb(&mut self) {
        let number = self.dice.below(ACTORS.len());
        let (step, is_long) = (self.step, self.dice.once_in(3));
        let steps = if is_long { STEPS_MAX } else { self.dice.below(300) };
        let Some(actor) = self.actors.get_mut(number) else { return };
        if self.dice.once_in(self.freezes) {
            actor.frozen_until = step + steps;
        }
        if self.dice.once_in(60) {
            actor.env.advance(RENEWAL);
        }
        if self.dice.once_in(self.kills)
            && let Some((work, handle)) = actor.running.take()
        {
            self.scene.log(format!("{} is killed", ACTORS[number]));
            self.scene.truth().counts.killed += 1;
            handle.abort();
            drop(handle.await);
            self.scene.gate.kill(number, || self.dice.once_in(2));
            if self.dice.once_in(2) {
                actor.todo.push_front(work);
            }
        }
        let late = self.scene.gate.late_count();
        if late > 0 && self.dice.once_in(60) {
            let what = self.scene.gate.land(self.dice.below(late)).await;
            self.scene.log(format!("late: {what}"));
        }
    }

    /// The call that passes next: of the same actor for a while. If only frozen ones are left, the first of them goes on.
    fn choose(&mut self) -> Option<WaitingCall> {
        let step = self.step;
        let calls = self.scene.gate.waiting();
        let is_free = |call: &&WaitingCall| self.actors[call.actor].frozen_until <= step;
        let free: Vec<&WaitingCall> = calls.iter().filter(is_free).collect();
        if free.is_empty() {
            let actor = self.dice.pick(&calls)?.actor;
            self.actors[actor].frozen_until = step;
            return None;
        }
        let stays = self.burst > 1 && !self.dice.once_in(self.burst) && free.iter().any(|call| call.actor == self.last);
        if !stays {
            let actors: Vec<usize> = free.iter().map(|call| call.actor).collect::<BTreeSet<_>>().into_iter().collect();
            self.last = *self.dice.pick(&actors)?;
        }
        let own: Vec<_> = free.into_iter().filter(|call| call.actor == self.last).collect();
        self.dice.pick(&own).map(|call| (*call).clone())
    }

    /// Whether its actor stops for a while just before a call by which others decide, or after which they cannot go back.
    fn lingers(&mut self, call: &WaitingCall) -> bool {
        let is_pivotal = PIVOTAL.iter().any(|start| call.what.starts_with(start));
        let is_commit = call.what.starts_with(COMMIT);
        let lingers = is_pivotal && self.dice.once_in(if is_commit { 2 } else { self.lingers });
        if lingers {
            let steps = if self.dice.once_in(2) { STEPS_MAX } else { self.dice.below(300) };
            self.actors[call.actor].frozen_until = self.step + steps;
        }
        lingers
    }

    async fn let_pass(&mut self, call: &WaitingCall) {
        let gate = &self.scene.gate;
        let who = ACTORS[call.actor];
        if call.changes_something && self.dice.once_in(self.loses) {
            let fate = *self.dice.pick(&[Fate::Now, Fate::Later, Fate::Never]).expect("has some");
            self.scene.log(format!("{who}: {}, not answered, lands {fate:?}", call.what));
            self.scene.truth().counts.lost += 1;
            gate.lose(call.number, fate).await;
        } else {
            self.scene.log(format!("{who}: {}", call.what));
            gate.pass(call.number).await;
        }
        self.scene.truth().counts.steps += 1;
    }
}

fn tried_for() -> Duration {
    let given = std::env::var("SCHEDULE_SECONDS").ok().map(|text| text.parse().expect("SCHEDULE_SECONDS is a number"));
    given.map_or(TRIED_FOR, Duration::from_secs)
}

/// One run. Gives what came about, or what was lost, after how it came to that.
async fn run(seed: u64, flaw: Flaw) -> Result<Counts, String> {
    LocalSet::new().run_until(run_here(seed, flaw)).await
}

async fn run_here(seed: u64, flaw: Flaw) -> Result<Counts, String> {
    let dice = Dice::of_seed(seed);
    let scene = Arc::new(Scene::new(&dice, flaw).await);
    let mut done = Schedule::new(&scene, &dice).run().await;
    if done.is_ok() {
        while scene.gate.late_count() > 0 && !dice.once_in(3) {
            let what = scene.gate.land(dice.below(scene.gate.late_count())).await;
            scene.log(format!("late: {what}"));
        }
        done = scene.tidy_up("in the end").await;
    }
    if done.is_ok() && scene.gate.late_count() > 0 {
        while scene.gate.late_count() > 0 {
            let what = scene.gate.land(0).await;
            scene.log(format!("late: {what}"));
        }
        done = scene.tidy_up("after what was late").await;
    }
    let truth = scene.truth();
    done.map(|()| truth.counts).map_err(|error| format!("{}\n{error}\nBACKSTAY_SEED={seed}", truth.log.join("\n")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_the_order_of_calls_of_backups_prunes_and_forgetting() {
    let (start, since) = (Dice::new().seed(), Instant::now());
    let is_replay = std::env::var_os("BACKSTAY_SEED").is_some();
    let (mut all, mut runs) = (Counts::default(), 0);
    while if is_replay { runs < REPLAYS } else { runs == 0 || since.elapsed() < tried_for() } {
        let seed = if is_replay { start } else { start + runs };
        all.add(run(seed, Flaw::None).await.unwrap_or_else(|lost| panic!("{lost}")));
        runs += 1;
    }
    println!("{runs} runs from seed {start}: {all:?}");
    assert!(is_replay || (all.committed > 0 && all.pruned > 0 && all.packs_deleted > 0 && all.lost > 0), "{all:?}");
}

/// Seeds until a run loses something.
async fn until_lost(flaw: Flaw) -> (u64, String) {
    let since = Instant::now();
    let mut seed = 0;
    while since.elapsed() < LOOKED_FOR {
        match run(seed, flaw).await {
            Err(how) if how.contains("LOST") || how.contains("CannotMark") => return (seed, how),
            _ => seed += 1,
        }
    }
    panic!("nothing was lost in {seed} runs on a store with the flaw {flaw:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_whose_listings_lag_is_seen_to_lose_something() {
    let (seed, how) = until_lost(Flaw::ListsLate(60)).await;
    println!("seed {seed}: {}", how.lines().last().unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_overwrites_snapshots_is_seen_to_lose_one() {
    let (seed, how) = until_lost(Flaw::Overwrites("snapshots/")).await;
    println!("seed {seed}: {}", how.lines().last().unwrap_or_default());
}
