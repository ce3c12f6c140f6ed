//! Two hosts back up, two prune, one forgets and one restores, all at once and in a loop, as processes of the real binary that
//! are frozen and killed at random.
//!
//! ```text
//! web1, web2     change a tree ─► backup ─► exit code 0: from here on it must restore, until it is forgotten
//! prune1, prune2 prune --max-unused 0, which gives up backups that are silent for three seconds
//! keeper         forgets some, restores any other and compares it
//! chaos          stops a process for a while, or kills it
//! ```
//!
//! It runs for `SOAK_SECONDS`, in all a minute unless told otherwise; `make soak` runs it for ten. The order of things depends on the
//! machine, so a seed repeats the choices and not every run. Set `BACKSTAY_SEED` all the same to come near.
//!
//! Invariant: a snapshot that was reported as committed, and that nobody began to forget, restores at every moment.
//! Never here: searching all interleavings (see `tests/protocol`).

#![allow(clippy::print_stderr)] // what was done, for who watches

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::binary::{Host, Run as _};
use harness::{Dice, Tree, change_something};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use store::testing::S3Server;

/// How often the processes are looked at.
const TICK: Duration = Duration::from_millis(20);
/// A frozen process stays so for at most so many ticks: longer than a lease lasts here.
const FROZEN_TICKS_MAX: usize = 300;
/// How long a backup may be silent before a prune here gives it up.
const GIVE_UP_AFTER: &str = "3s";
/// Snapshots that are kept at most, so that there is always something to forget.
const KEPT_MAX: usize = 12;
/// The exit codes that a run may end with beside success: 2 covers a backup that was given up.
const ALLOWED: [i32; 2] = [0, 2];

/// A process under way.
struct Actor {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Ticks until it goes on, if it is frozen.
    frozen: usize,
}

/// One place for a process, and what it is about.
struct Place {
    host: Host,
    actor: Option<Actor>,
    /// What the running backup saw, or which snapshot is being restored to where.
    about: Option<About>,
    killed_count: u64,
    done_count: u64,
}

enum About {
    Backup(Tree),
    Restore { id: String, target: PathBuf },
    Other,
}

impl Place {
    fn new(host: Host) -> Self {
        Self { host, actor: None, about: None, killed_count: 0, done_count: 0 }
    }

    fn start(&mut self, mut command: Command, about: About) {
        let (stdout, stderr) = (self.host.path("stdout"), self.host.path("stderr"));
        let file = |path: &PathBuf| Stdio::from(File::create(path).expect("the host's folder"));
        command.stdout(file(&stdout)).stderr(file(&stderr));
        let child = command.spawn().expect("the binary starts");
        (self.actor, self.about) = (Some(Actor { child, stdout, stderr, frozen: 0 }), Some(about));
    }

    /// How its process ended, if it has: the code (none if killed), what it printed and said.
    fn ended(&mut self) -> Option<(Option<i32>, Value, String, About)> {
        let actor = self.actor.as_mut()?;
        let status = actor.child.try_wait().expect("our own child")?;
        let said = fs::read_to_string(&actor.stderr).expect("reads");
        let printed = serde_json::from_slice(&fs::read(&actor.stdout).expect("reads")).unwrap_or_default();
        self.actor = None;
        self.done_count += 1;
        Some((status.code(), printed, said, self.about.take().expect("it was about something")))
    }

    /// Freezes, thaws or kills what runs.
    fn disturb(&mut self, dice: &Dice, may_kill: bool) {
        let Some(actor) = self.actor.as_mut() else { return };
        let pid = i32::try_from(actor.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        let send = |signal| kill_process(pid, signal).unwrap_or_default(); // it may have ended
        if actor.frozen > 0 {
            actor.frozen -= 1;
            if actor.frozen == 0 {
                send(Signal::CONT);
            }
        } else if dice.once_in(60) {
            actor.frozen = 1 + dice.below(FROZEN_TICKS_MAX);
            send(Signal::STOP);
        } else if may_kill && dice.once_in(200) {
            self.killed_count += 1;
            send(Signal::KILL);
        }
    }
}

/// Everything that goes on, and what must hold.
struct Soak {
    dice: Dice,
    writers: Vec<Place>,
    pruners: Vec<Place>,
    keeper: Place,
    /// What must restore, and which writer made it.
    committed: BTreeMap<String, (usize, Tree)>,
    restored_count: u64,
    forgotten_count: u64,
}

impl Soak {
    fn new(host: impl Fn() -> Host) -> Self {
        let place = || Place::new(host());
        let soak = Self {
            dice: Dice::new(),
            writers: vec![place(), place()],
            pruners: vec![place(), place()],
            keeper: place(),
            committed: BTreeMap::new(),
            restored_count: 0,
            forgotten_count: 0,
        };
        eprintln!("seed {}", soak.dice.seed());
        for writer in &soak.writers {
            fs::create_dir(writer.host.path("tree")).expect("creates");
        }
        soak
    }

    fn run(mut self, lasts: Duration) {
        let began = Instant::now();
        while began.elapsed() < lasts {
            self.tick(true);
            std::thread::sleep(TICK);
        }
        while self.is_busy() {
            self.tick(false);
            std::thread::sleep(TICK);
        }
        self.settle();
    }

    fn is_busy(&self) -> bool {
        self.writers.iter().chain(&self.pruners).chain([&self.keeper]).any(|place| place.actor.is_some())
    }

    fn tick(&mut self, goes_on: bool) {
        for at in 0..self.writers.len() {
            self.end_backup(at);
            if goes_on && self.writers[at].actor.is_none() {
                self.start_backup(at);
            }
            self.writers[at].disturb(&self.dice, goes_on);
        }
        for pruner in &mut self.pruners {
            if let Some((code, _, said, _)) = pruner.ended() {
                assert!(code.is_none_or(|code| ALLOWED.contains(&code)), "prune ended {code:?}: {said}");
            }
            if goes_on && pruner.actor.is_none() {
                let command = pruner.host.backstay(prune_args());
                pruner.start(command, About::Other);
            }
            pruner.disturb(&self.dice, goes_on);
        }
        self.end_keeping();
        if goes_on && self.keeper.actor.is_none() {
            self.start_keeping();
        }
    }

    fn start_backup(&mut self, at: usize) {
        let place = &mut self.writers[at];
        let tree = place.host.path("tree");
        for _ in 0..=self.dice.below(4) {
            change_something(&tree, &self.dice);
        }
        let mut command = place.host.backstay(["--json", "backup", "--host"]);
        command.arg(format!("web{at}")).arg(&tree);
        place.start(command, About::Backup(Tree::read(&tree)));
    }

    fn end_backup(&mut self, at: usize) {
        let Some((code, printed, said, about)) = self.writers[at].ended() else { return };
        assert!(code.is_none_or(|code| ALLOWED.contains(&code)), "backup ended {code:?}: {said}");
        if let (Some(0), About::Backup(tree)) = (code, about) {
            let id = printed["snapshot_id"].as_str().unwrap_or_else(|| panic!("no snapshot in {printed}: {said}"));
            self.committed.insert(id.to_owned(), (at, tree));
        }
    }

    fn start_keeping(&mut self) {
        let ids: Vec<String> = self.committed.keys().cloned().collect();
        let Some(id) = self.dice.pick(&ids).cloned() else { return };
        if ids.len() > KEPT_MAX {
            self.committed.remove(&id);
            self.forgotten_count += 1;
            let command = self.keeper.host.backstay(["forget", "--allow-last", "--yes", &id]);
            return self.keeper.start(command, About::Other);
        }
        let target = self.keeper.host.path("restored");
        drop(fs::remove_dir_all(&target));
        let mut command = self.keeper.host.backstay(["restore", "--target"]);
        command.arg(&target).arg(format!("{id}:{}", self.tree_of(&id).display()));
        self.keeper.start(command, About::Restore { id, target });
    }

    /// Where the snapshot's tree lay.
    fn tree_of(&self, id: &str) -> PathBuf {
        self.writers[self.committed[id].0].host.path("tree")
    }

    fn end_keeping(&mut self) {
        let Some((code, _, said, about)) = self.keeper.ended() else { return };
        if let About::Restore { id, target } = about {
            assert_eq!(code, Some(0), "{id} was committed and does not restore: {said}");
            self.committed[&id].1.assert_same(&Tree::read(&target), &id);
            self.restored_count += 1;
        } else {
            assert_eq!(code, Some(0), "forget: {said}");
        }
    }

    /// Nothing runs any more: all restores, all is whole, and the space of what is forgotten comes back.
    fn settle(self) {
        let (backups, prunes) = (count(&self.writers), count(&self.pruners));
        eprintln!("{backups:?} backups and {prunes:?} prunes done and killed");
        eprintln!("{} restored and {} forgotten meanwhile", self.restored_count, self.forgotten_count);
        assert!(!self.committed.is_empty(), "nothing was committed");
        let ids: Vec<String> = self.committed.keys().cloned().collect();
        for id in &ids {
            let target = self.keeper.host.path(id);
            let mut restore = self.keeper.host.backstay(["restore", "--target"]);
            restore.arg(&target).arg(format!("{id}:{}", self.tree_of(id).display())).run().expect_code(0);
            self.committed[id].1.assert_same(&Tree::read(&target), id);
            fs::remove_dir_all(&target).expect("removes");
        }
        let keeper = &self.keeper.host;
        let mut prune = keeper.backstay(["--json", "prune", "--yes", "--max-unused", "0", "--give-up-after", "0s"]);
        prune.run().expect_code(0);
        keeper.check();
        // With one snapshot left of all, little more is stored than its own content.
        for id in ids.iter().skip(1) {
            keeper.backstay(["forget", "--allow-last", "--yes", id]).run().expect_code(0);
        }
        // Snapshots that were committed by a backup that was killed before it could say so.
        let known: Vec<String> =
            keeper.snapshots().iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect();
        for id in known.iter().filter(|id| **id != ids[0]) {
            keeper.backstay(["forget", "--allow-last", "--yes", id]).run().expect_code(0);
        }
        prune.run().expect_code(0);
        keeper.check();
        let stats = keeper.backstay(["--json", "stats"]).run().expect_code(0).json();
        let content: u64 = self.committed[&ids[0]].1.files().map(|(_, bytes)| bytes.len() as u64).sum();
        assert!(
            stats["data_packs_len"].as_u64().expect("a length") < content + content / 10 + 100_000,
            "{content} bytes of content: {stats}"
        );
    }
}

/// How many runs ended, and how many of them were killed.
fn count(places: &[Place]) -> (u64, u64) {
    (places.iter().map(|place| place.done_count).sum(), places.iter().map(|place| place.killed_count).sum())
}

fn prune_args() -> [&'static str; 7] {
    ["--json", "prune", "--yes", "--max-unused", "0", "--give-up-after", GIVE_UP_AFTER]
}

/// How long each of the two runs goes on.
fn lasts() -> Duration {
    let given = std::env::var("SOAK_SECONDS").ok().map(|text| text.parse().expect("SOAK_SECONDS is a number"));
    Duration::from_secs(given.unwrap_or(60_u64) / 2)
}

#[test]
fn nothing_committed_is_lost_in_a_folder() {
    let shared = Host::with_repository();
    let repository = shared.repository();
    Soak::new(|| Host::new().with("BACKSTAY_REPOSITORY", &repository)).run(lasts());
}

#[tokio::test]
async fn nothing_committed_is_lost_on_s3() {
    let server = S3Server::start().await;
    let host = || crate::s3::host_of(&server);
    host().backstay(["init"]).run().expect_code(0);
    Soak::new(host).run(lasts());
}
