//! A writer's record and its lease: renewed beside the work, obeyed when a collector gave the writer up, and gone when
//! nobody needs it any more.
//!
//! Invariant: the clock is moved by hand, and a renewal is due every five minutes of it.
//! Never here: what a collector does (it does not exist yet); its objects are forged.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use engine::{BackupReport, BackupRequest, EngineError, Input};
use harness::binary::{Host, Run as _};
use harness::{Forge, Site, backup_request, names_of, try_backup};
use pack::{SnapshotId, names};
use source::command::CommandLine;
use store::testing::{Fault, FaultyStore, Trigger, Verb};
use store::{Env, Patience, Retrying, Store as _};

/// A step of the clock after which a renewal is due.
const RENEWAL: Duration = Duration::from_secs(300);
/// How often something is looked at that is waited for, and how often at most: a minute.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const LOOKS_MAX: usize = 30_000;

/// A repository on a store that fails on order, with one file to back up.
struct Scene {
    site: Site,
    faulty: Arc<FaultyStore>,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new(1);
        drop(site.init(site.store(), "cache").await.expect("makes"));
        std::fs::write(site.tree().join("file"), b"some content").expect("writes");
        let faulty = Arc::new(FaultyStore::new(site.store()));
        Self { site, faulty }
    }

    fn inject(&self, trigger: Trigger, fault: Fault) {
        self.faulty.inject(trigger, fault);
    }

    async fn backup(&self, request: BackupRequest) -> Result<BackupReport, EngineError> {
        let repository = self.site.open_as("owner", self.faulty.clone(), "cache").await.expect("opens");
        try_backup(&repository, request).await
    }

    async fn backup_tree(&self) -> Result<BackupReport, EngineError> {
        self.backup(backup_request(&self.site.tree())).await
    }

    /// Objects of writers.
    async fn records(&self) -> Vec<String> {
        names_of(&self.site.memory, names::WRITERS).await
    }

    /// What such calls named, in order.
    fn calls_of(&self, verb: Verb) -> Vec<String> {
        self.faulty.calls().into_iter().filter(|call| call.verb == verb).map(|call| call.name).collect()
    }

    /// How many calls of this kind were made.
    fn count(&self, verb: Verb, part: &str) -> usize {
        self.faulty.calls().iter().filter(|call| call.verb == verb && call.name.contains(part)).count()
    }

    async fn wait_for_call(&self, verb: Verb, part: &str) {
        for _ in 0..LOOKS_MAX {
            if self.count(verb, part) > 0 {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{verb:?} of {part} never came");
    }

    /// Moves the clock on until this many renewals were tried.
    async fn wait_for_renewals(&self, count: usize) {
        for _ in 0..LOOKS_MAX {
            if self.count(Verb::Put, "/lease-") >= count {
                return;
            }
            self.site.env.advance(RENEWAL);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{count} renewals never came");
    }

    /// A backup that hangs at such a call until `count` renewals were tried.
    async fn renewed_during(&self, verb: Verb, part: &str, count: usize) -> Result<BackupReport, EngineError> {
        self.inject(Trigger::next().of(verb).naming(part), Fault::Hang);
        let watch = async {
            self.wait_for_call(verb, part).await;
            self.wait_for_renewals(count).await;
            self.faulty.release();
        };
        futures::join!(self.backup_tree(), watch).0
    }

    /// The one writer that has announced itself.
    async fn writer(&self) -> SnapshotId {
        for _ in 0..LOOKS_MAX {
            let id = self.records().await.iter().find_map(|name| {
                let id = name.strip_prefix("writers/")?.strip_suffix("/announced")?;
                SnapshotId::from_hex(id)
            });
            if let Some(id) = id {
                return id;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("no writer announced itself");
    }

    async fn declare_dead(&self) -> SnapshotId {
        let writer = self.writer().await;
        let (name, dead) = Forge::open(&self.site.memory, "owner").await.dead(writer);
        self.site.memory.put_new(&name, vec![dead]).await.expect("creates");
        writer
    }
}

/// A backup of what a script prints.
fn command(script: &str) -> BackupRequest {
    let command = CommandLine::new("sh", ["-c", script]);
    let mut request = backup_request("/".as_ref());
    request.components[0].input = Input::Command { name: "output".into(), command };
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_is_renewed_from_the_announcement_to_the_commit_and_its_objects_are_removed() {
    for (verb, part) in [
        (Verb::List, "condemned"),
        (Verb::List, "index"),
        (Verb::List, "packs"),
        (Verb::Put, "packs/"),
        (Verb::Put, "index/"),
        (Verb::Put, "snapshots/"),
    ] {
        let scene = Scene::new().await;
        let report = scene.renewed_during(verb, part, 3).await.expect(part);
        assert!(report.snapshot.is_some() && report.warnings.is_empty(), "{part}: {:?}", report.warnings);
        assert_eq!(scene.records().await, Vec::<String>::new(), "{part}");
        assert!(scene.count(Verb::Put, "/lease-000003") == 1, "each renewal is an object of its own");
        let removed = scene.calls_of(Verb::Delete);
        assert!(removed.len() >= 5, "announced, seen and three renewals: {removed:?}");
        let last = removed.last().map(|name| names::last(name).to_owned());
        assert_eq!(last.as_deref(), Some("announced"), "while it is there, collectors count this writer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_that_fail_are_tried_again_and_end_no_backup() {
    let scene = Scene::new().await;
    // One of eleven comes through, in the middle.
    let renewals = Trigger::next().of(Verb::Put).naming("/lease-").times(5);
    scene.inject(renewals.clone(), Fault::Fail);
    scene.inject(renewals.after(6), Fault::Fail);
    let report = scene.renewed_during(Verb::List, "index", 12).await.expect("backs up");
    assert_eq!(report.warnings, Vec::<String>::new(), "five in a row are not worth a word");
    assert_eq!(scene.records().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_hour_without_a_renewal_is_warned_of() {
    // A renewal is both: to be seen, and to see whether one was given up.
    for (verb, part) in [(Verb::Put, "/lease-"), (Verb::Get, "snapshots/")] {
        let scene = Scene::new().await;
        scene.inject(Trigger::next().of(verb).naming(part).times(6), Fault::Fail);
        let report = scene.renewed_during(Verb::List, "index", 7).await.expect("backs up");
        assert!(report.warnings.iter().any(|warning| warning.contains("lease")), "{part}: {:?}", report.warnings);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_under_way_when_the_work_ends_is_waited_for_so_that_it_is_removed_too() {
    let scene = Scene::new().await;
    scene.inject(Trigger::next().of(Verb::Put).naming("/lease-"), Fault::Hang);
    let go = scene.site.path("go");
    let watch = async {
        scene.wait_for_call(Verb::List, "packs").await;
        scene.wait_for_renewals(1).await;
        std::fs::write(&go, "").expect("writes");
        scene.wait_for_call(Verb::Put, "snapshots/").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.faulty.release();
    };
    let work = scene.backup(command(&format!("until [ -e {} ]; do sleep 0.01; done; echo done", go.display())));
    let (done, ()) = futures::join!(work, watch);
    assert!(done.expect("backs up").snapshot.is_some());
    assert!(scene.calls_of(Verb::Delete).iter().any(|name| name.ends_with("/lease-000001")));
    assert_eq!(scene.records().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_stays_as_long_as_an_attempt_to_commit_may_land() {
    // Behind retries a lost reply is no error, and still nobody knows whether the attempt lands.
    let scene = Scene::new().await;
    scene.inject(Trigger::next().of(Verb::Put).naming("snapshots/"), Fault::LandLate);
    let patience = Patience { pause_min: LOOK_EVERY, pause_max: LOOK_EVERY, ..Patience::default() };
    let retrying = Arc::new(Retrying::new(scene.faulty.clone(), Env::system(), patience));
    let repository = scene.site.open_as("owner", retrying, "cache").await.expect("opens");
    let report = try_backup(&repository, backup_request(&scene.site.tree())).await.expect("is committed");
    let id = report.snapshot.expect("is committed");
    assert!(scene.records().await.contains(&names::announced(&id)));
    drop(repository);
    // A commit that the store refuses in the end may have been made by the attempt before.
    let scene = Scene::new().await;
    scene.inject(Trigger::next().of(Verb::Put).naming("snapshots/"), Fault::LandLate);
    scene.inject(Trigger::next().of(Verb::Put).naming("snapshots/").after(1), Fault::Deny);
    let done = scene.backup_tree().await;
    assert!(matches!(done, Err(EngineError::Store(_))), "{done:?}");
    assert_eq!(scene.records().await.iter().filter(|name| name.ends_with("/announced")).count(), 1);
    let landed = scene.faulty.land_late().await;
    assert!(matches!(landed.as_slice(), [Ok(store::Put::Created)]), "{landed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_lets_an_announcement_be_made_twice_is_warned_of() {
    let scene = Scene::new().await;
    scene.inject(Trigger::next().of(Verb::Put).naming("announced").after(1), Fault::IgnoreCondition);
    let report = scene.backup_tree().await.expect("backs up");
    assert!(report.warnings.iter().any(|warning| warning.contains("created again")), "{:?}", report.warnings);
    assert_eq!(scene.records().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_that_hangs_holds_up_neither_the_work_nor_its_end_for_long() {
    let scene = Scene::new().await;
    scene.inject(Trigger::next().of(Verb::Put).naming("/lease-").always(), Fault::Hang);
    let go = scene.site.path("go");
    let watch = async {
        scene.wait_for_call(Verb::List, "packs").await;
        scene.wait_for_renewals(1).await;
        std::fs::write(&go, "").expect("writes");
    };
    let work = scene.backup(command(&format!("until [ -e {} ]; do sleep 0.01; done; echo done", go.display())));
    let both = async { futures::join!(work, watch) };
    let (done, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("ends");
    let id = done.expect("backs up").snapshot.expect("was committed");
    // It may yet land, and a lease without an announcement would be nobody's.
    let records = scene.records().await;
    assert!(records.contains(&names::announced(&id)) && !records.iter().any(|name| name.contains("/lease-")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstone_found_by_a_renewal_ends_the_work_and_both_objects_are_removed() {
    let scene = Scene::new().await;
    let collect = async {
        let writer = scene.declare_dead().await;
        scene.wait_for_call(Verb::List, "packs").await;
        for _ in 0..LOOKS_MAX {
            scene.site.env.advance(RENEWAL);
            tokio::time::sleep(LOOK_EVERY).await;
            if scene.records().await.is_empty() {
                return writer;
            }
        }
        panic!("the record stays");
    };
    let (done, writer) = futures::join!(scene.backup(command("echo begun; exec sleep 600")), collect);
    assert!(matches!(done, Err(EngineError::DeclaredDead)), "{done:?}");
    let left = names_of(&scene.site.memory, "").await;
    assert!(left.iter().all(|name| !name.contains(&writer.to_string())), "{left:?}");
    scene.faulty.restart();
    assert!(scene.backup_tree().await.expect("backs up again").snapshot.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstone_found_by_a_renewal_leaves_the_verdict_to_a_commit_that_was_begun() {
    let scene = Scene::new().await;
    scene.inject(Trigger::next().of(Verb::Put).naming("snapshots/"), Fault::LandLate);
    scene.inject(Trigger::next().of(Verb::Put).naming("snapshots/").after(1), Fault::Hang);
    let collect = async {
        let writer = scene.writer().await;
        while scene.count(Verb::Put, "snapshots/") < 2 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        scene.declare_dead().await;
        let looks = scene.count(Verb::Get, "snapshots/");
        while scene.count(Verb::Get, "snapshots/") == looks {
            scene.site.env.advance(RENEWAL);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        scene.faulty.release();
        writer
    };
    let (done, writer) = futures::join!(scene.backup_tree(), collect);
    assert!(matches!(done, Err(EngineError::DeclaredDead)), "{done:?}");
    let landed = scene.faulty.land_late().await;
    assert!(matches!(landed.as_slice(), [Ok(store::Put::AlreadyThere)]), "the tombstone stays for it: {landed:?}");
    assert!(scene.records().await.contains(&names::announced(&writer)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstone_of_another_writer_or_by_a_key_that_may_not_collect_is_not_obeyed() {
    for forger in ["owner", "writer"] {
        let scene = Scene::new().await;
        let repository = scene.site.open("cache").await;
        repository.add_key(pack::Role::Writer, harness::password("writer"), "w", harness::COST).await.expect("adds");
        drop(repository);
        scene.inject(Trigger::next().of(Verb::List).naming("packs"), Fault::Hang);
        let collect = async {
            let writer = scene.writer().await;
            let meant = if forger == "owner" { SnapshotId([7; 16]) } else { writer };
            let (_, dead) = Forge::open(&scene.site.memory, forger).await.dead(meant);
            scene.site.memory.put_new(&names::snapshot(&writer), vec![dead]).await.expect("creates");
            scene.wait_for_renewals(2).await;
            scene.site.memory.delete(&names::snapshot(&writer)).await.expect("deletes");
            scene.faulty.release();
        };
        let (done, ()) = futures::join!(scene.backup_tree(), collect);
        assert!(done.is_ok(), "{forger}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcement_that_fails_leaves_no_record_behind() {
    let puts = Trigger::next().of(Verb::Put);
    for (trigger, fault) in [
        (puts.clone().naming("announced"), Fault::LoseReply),
        (puts.clone().naming("announced").after(1), Fault::Fail),
        (Trigger::next().of(Verb::List).naming("condemned"), Fault::Fail),
        (puts.clone().naming("/seen"), Fault::Fail),
        (puts.clone().naming("/seen"), Fault::LoseReply),
        (Trigger::next().of(Verb::List).naming("index"), Fault::Fail),
        (puts.naming("packs/"), Fault::Deny),
    ] {
        let scene = Scene::new().await;
        scene.inject(trigger.clone(), fault);
        let done = scene.backup_tree().await;
        assert!(matches!(done, Err(EngineError::Store(_))), "{trigger:?} {fault:?}: {done:?}");
        assert_eq!(scene.records().await, Vec::<String>::new(), "{trigger:?} {fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcement_of_somebody_else_under_the_same_id_is_not_removed() {
    let scene = Scene::new().await;
    scene.inject(Trigger::next().of(Verb::Put).naming("announced"), Fault::Hang);
    let squat = async {
        scene.wait_for_call(Verb::Put, "announced").await;
        let calls = scene.faulty.calls();
        let name = calls.iter().find(|call| call.name.contains("announced")).map(|call| call.name.clone());
        let name = name.expect("was asked for");
        scene.site.memory.put_new(&name, vec!["another's".into()]).await.expect("creates");
        scene.faulty.release();
        name
    };
    let (done, name) = futures::join!(scene.backup_tree(), squat);
    assert!(matches!(done, Err(EngineError::Request { .. })), "{done:?}");
    assert_eq!(scene.records().await, [name]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn condemned_list_under_the_name_of_another_is_passed_over() {
    let scene = Scene::new().await;
    let first = scene.backup_tree().await.expect("backs up");
    let packs = names_of(&scene.site.memory, names::PACKS).await;
    let ids = packs.iter().map(|name| pack::PackId::from_hex(names::last(name)).expect("is an id")).collect();
    let (_, list) = Forge::open(&scene.site.memory, "owner").await.condemned(ids);
    scene.site.memory.put_new(&names::condemned(&pack::CondemnedId([7; 16])), vec![list]).await.expect("creates");
    let mut request = backup_request(&scene.site.tree());
    request.components[0].force = true;
    let second = scene.backup(request).await;
    assert_eq!((first.new_len, second.expect("backs up").new_len), (12, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn condemned_list_that_was_only_read_badly_is_read_again_and_obeyed() {
    let scene = Scene::new().await;
    let first = scene.backup_tree().await.expect("backs up");
    let packs = names_of(&scene.site.memory, names::PACKS).await;
    let ids = packs.iter().map(|name| pack::PackId::from_hex(names::last(name)).expect("is an id")).collect();
    let (name, list) = Forge::open(&scene.site.memory, "owner").await.condemned(ids);
    scene.site.memory.put_new(&name, vec![list]).await.expect("creates");
    scene.faulty.inject(Trigger::next().of(Verb::Get).naming("condemned/"), Fault::ReadWrong);
    let mut request = backup_request(&scene.site.tree());
    request.components[0].force = true;
    let second = scene.backup(request).await.expect("backs up");
    assert_eq!((first.new_len, second.new_len), (12, 12), "nothing refers to what is condemned");
}

#[test]
fn condemned_list_that_cannot_be_read_ends_a_backup_and_the_message_names_it_and_the_next_step() {
    let host = Host::with_repository();
    let file = host.write("file", "x");
    let name = names::condemned(&pack::CondemnedId([7; 16]));
    let path = host.repository().join(&name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    fs::write(&path, "junk").expect("writes");
    let ran = host.backstay(["backup"]).arg(&file).run().expect_code(2);
    ran.says(&[&name, "not known which packs are about to be deleted", "hint: bring this object back from a copy"]);
    assert!(host.snapshots().is_empty());
    fs::remove_file(&path).expect("removes");
    host.backstay(["backup"]).arg(&file).run().expect_code(0);
}

#[test]
fn backup_of_the_real_binary_leaves_no_record_whether_it_commits_or_fails() {
    let host = Host::with_repository();
    for (script, code) in [("sleep 1; echo done", 0), ("sleep 1; echo undone; exit 3", 2)] {
        host.backstay(["backup", "--name", "x", "--command", "--", "sh", "-c", script]).run().expect_code(code);
        assert_eq!(harness::running::file_count(&host.repository().join(names::WRITERS)), 0, "{script}");
    }
}
