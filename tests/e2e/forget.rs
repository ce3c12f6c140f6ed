//! Forgetting: by policy and by name, what is shown, and what nothing pushes out.
//!
//! Invariant: what is forgotten is hidden, nothing else is, and no object but the record changes.
//! Never here: which periods a policy keeps (see the engine's own tests).

use std::fs;
use std::time::Duration;

use engine::{Class, Count, Forget, GroupBy, Policy, Repository, Selector, SnapshotFilter};
use harness::binary::{Host, Run as _, noise};
use harness::{COST, Forge, Site, names_of, password};
use pack::{Role, SnapshotId, SnapshotStructure, names};
use store::Store as _;

const DAY: Duration = Duration::from_secs(86_400);

/// A host with three snapshots of a tree, oldest first.
fn with_three() -> (Host, Vec<String>) {
    let host = Host::with_repository();
    for at in 0..3 {
        let file = host.write("tree/file", format!("state {at}"));
        host.back_up(&[file.parent().expect("the tree")]);
    }
    let ids = left(&host);
    (host, ids)
}

fn left(host: &Host) -> Vec<String> {
    host.snapshots().iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn plan_is_shown_with_reasons_and_done_only_with_yes() {
    let (host, ids) = with_three();
    let shown = host.backstay(["forget", "--keep-last", "1"]).run().expect_code(2);
    shown.says(&["2 snapshots would be forgotten; nothing was done", "hint: run it again with --yes"]);
    let planned = host.backstay(["forget", "--keep-last", "1", "--dry-run"]).run().expect_code(0);
    assert!(planned.text().contains("last snapshot") && planned.text().contains("no rule keeps it"), "{planned}");
    assert_eq!(left(&host), ids);
    let done = host.backstay(["--json", "forget", "--keep-last", "1", "--yes"]).run().expect_code(0).json();
    assert_eq!((&done["done"], &done["forgotten"]), (&true.into(), &2.into()));
    let decided = done["groups"][0]["snapshots"].as_array().expect("a list");
    let kept: Vec<_> = decided.iter().map(|decision| decision["kept"].as_bool().expect("a flag")).collect();
    assert_eq!(kept, [true, false, false], "newest first");
    assert_eq!(left(&host), ids[2..]);
    host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0).says(&["nothing to forget"]);
    host.check();
}

#[test]
fn named_snapshots_go_and_the_last_of_a_group_only_when_asked() {
    let (host, ids) = with_three();
    host.backstay(["forget", &ids[1], "--yes"]).run().expect_code(0).says(&["1 snapshot forgotten"]);
    assert_eq!(left(&host), [ids[0].clone(), ids[2].clone()]);
    let both = ["forget", &ids[0][..8], &ids[2][..8], "--yes"];
    host.backstay(both).run().expect_code(2).says(&["nothing would be left of ", "--allow-last"]);
    assert_eq!(left(&host).len(), 2);
    host.backstay(both).arg("--allow-last").run().expect_code(0);
    assert_eq!(left(&host), Vec::<String>::new());
    host.backstay(["forget", &ids[0], "--yes"]).run().expect_code(2).says(&["no snapshot", "has an id beginning with"]);
}

#[test]
fn request_that_names_nothing_forgets_nothing() {
    let (host, ids) = with_three();
    host.backstay(["forget", "--yes"]).run().expect_code(2).says(&["neither a policy nor snapshots"]);
    host.backstay(["forget", "--keep-daily", "0", "--yes"]).run().expect_code(2).says(&["neither a policy"]);
    host.backstay(["forget", "latest", "--yes"]).run().expect_code(2).says(&["named by its id"]);
    host.backstay(["forget", "--keep-daily", "seven"]).run().expect_code(2).says(&["a whole number, or `all`"]);
    let none = ["forget", "--keep-last", "1", "--host", "nobody", "--yes"];
    host.backstay(none).run().expect_code(0).says(&["nothing to forget"]);
    assert_eq!(left(&host), ids);
}

#[test]
fn sources_and_hosts_are_thinned_out_by_themselves() {
    let (host, _) = with_three();
    let tree = host.path("tree");
    for (name, value) in [("--host", "other"), ("--source", "other")] {
        for _ in 0..2 {
            host.backstay(["backup", name, value]).arg(&tree).run().expect_code(0);
        }
    }
    host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0);
    assert_eq!(left(&host).len(), 3);
    host.backstay(["forget", "--keep-last", "1", "--group-by", "host", "--yes"]).run().expect_code(0);
    assert_eq!(left(&host).len(), 2);
}

#[test]
fn maintenance_key_forgets_and_a_writer_may_not() {
    let (host, ids) = with_three();
    for role in ["writer", "maintenance"] {
        let key = host.write_secret(&format!("{role}.key"), noise(role, 64));
        let add = ["key", "add", "--role", role, "--new-key-file"];
        host.backstay(add).arg(&key).run().expect_code(0);
    }
    let as_role = |role: &str| {
        let mut forget = host.backstay(["forget", "--keep-last", "2", "--yes", "--key-file"]);
        forget.env_remove("BACKSTAY_PASSWORD_FILE").arg(host.path(&format!("{role}.key"))).run()
    };
    as_role("writer").expect_code(2).says(&["a writer key cannot forget snapshots"]);
    assert_eq!(left(&host), ids);
    as_role("maintenance").expect_code(0);
    assert_eq!(left(&host), ids[1..]);
}

#[test]
fn held_snapshot_stays_until_its_time() {
    let (host, ids) = with_three();
    let mut backup = host.backstay(["backup", "--keep-until", "7y"]);
    backup.arg(host.path("tree")).run().expect_code(0);
    host.back_up(&[&host.path("tree")]);
    host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0).says(&["3 snapshots forgotten"]);
    let held = left(&host).first().cloned().expect("the held one");
    assert!(!ids.contains(&held));
    let refused = host.backstay(["forget", &held, "--yes"]).run().expect_code(2).says(&["nothing was forgotten"]);
    assert!(refused.text().contains("held until"), "{refused}");
    assert_eq!(left(&host).len(), 2);
    let mut passed = host.backstay(["backup", "--keep-until", "2020-01-01"]);
    passed.arg(host.path("tree")).run().expect_code(2).says(&["has passed"]);
}

#[test]
fn job_keeps_what_its_retention_says() {
    let host = Host::with_repository();
    let tree = host.write("tree/file", "x").parent().expect("the tree").to_owned();
    let config = |retention: &str| {
        let place = host.repository();
        let sources = format!(
            "[repositories.main]\nurl = \"{}\"\n[sources.tree]\nkind = \"files\"\npaths = [\"{}\"]\n",
            place.display(),
            tree.display()
        );
        host.write("backstay.toml", format!("{sources}[jobs.nightly]\nsources = [\"tree\"]\n{retention}"))
    };
    let path = config("[jobs.nightly.retention]\nlast = 2\n");
    for _ in 0..3 {
        host.backstay(["run", "nightly", "--config"]).arg(&path).run().expect_code(0);
    }
    host.back_up(&[&tree]);
    let forget = || host.backstay(["forget", "--job", "nightly", "--yes", "--config"]).arg(&path).run();
    forget().expect_code(0).says(&["1 snapshot forgotten"]);
    assert_eq!(left(&host).len(), 3);
    config("");
    forget().expect_code(2).says(&["job nightly says nothing of retention", "[jobs.NAME.retention]"]);
    config("[jobs.nightly.retention]\ndaily = \"some\"\n");
    forget().expect_code(2).says(&["\"some\" is no count"]);
}

/// When snapshots were made, newest first: the newest on a Tuesday.
const TIMES: [&str; 8] = [
    "2026-03-31T12:30:00Z",
    "2026-03-31T12:10:00Z",
    "2026-03-31T10:00:00Z",
    "2026-03-30T12:00:00Z",
    "2026-03-27T12:00:00Z",
    "2026-02-15T12:00:00Z",
    "2025-12-20T12:00:00Z",
    "2024-06-01T12:00:00Z",
];

/// A host with a snapshot of each of the times, as source `nightly`; two of them have tags.
fn with_times() -> Host {
    let host = Host::with_repository();
    let tree = host.write("tree/file", "x").parent().expect("the tree").to_owned();
    for (at, time) in TIMES.iter().enumerate() {
        let time: jiff::Timestamp = time.parse().expect("a time");
        let mut backup = host.backstay(["--json", "backup", "--source", "nightly"]);
        backup.env("BACKSTAY_REPLAY", format!("{}:{at}", time.as_second())).arg(&tree);
        match at {
            4 => drop(backup.args(["--tag", "x"])),
            5 => drop(backup.args(["--tag", "x,y"])),
            _ => {}
        }
        let done = backup.run().expect_code(0).json();
        let object = host.repository().join("snapshots").join(done["snapshot_id"].as_str().expect("an id"));
        let object = fs::File::options().write(true).open(object).expect("is there");
        let secs = u64::try_from(time.as_second()).expect("after 1970");
        object.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(secs)).expect("is ours");
    }
    host
}

/// The places in [`TIMES`] of what these arguments keep.
fn places_kept(host: &Host, words: &[&str]) -> Vec<usize> {
    let plan = host.backstay(["--json", "forget", "--dry-run"]).args(words).run().expect_code(0).json();
    let groups = plan["groups"].as_array().expect("a list").iter();
    let decided = groups.flat_map(|group| group["snapshots"].as_array().expect("a list"));
    let kept = decided.filter(|decision| decision["kept"] == true);
    let time = |decision: &serde_json::Value| decision["time"].as_str().expect("a time").parse::<jiff::Timestamp>();
    let times = TIMES.map(|time| time.parse::<jiff::Timestamp>().expect("a time"));
    let place = |at: jiff::Timestamp| times.iter().position(|time| *time == at).expect("one of the times");
    let mut places: Vec<usize> = kept.map(|decision| place(time(decision).expect("a time"))).collect();
    places.sort_unstable();
    places
}

#[test]
fn each_option_keeps_what_it_says() {
    let host = with_times();
    let cases: &[(&str, &[usize])] = &[
        ("--keep-last 2", &[0, 1]),
        ("--keep-hourly 2", &[0, 2]),
        ("--keep-daily 2", &[0, 3]),
        ("--keep-weekly 2", &[0, 4]),
        ("--keep-monthly 2", &[0, 5]),
        ("--keep-quarterly 2", &[0, 6]),
        ("--keep-yearly 2", &[0, 6]),
        ("--keep-daily all", &[0, 3, 4, 5, 6, 7]),
        ("--keep-within 3h", &[0, 1, 2]),
        ("--keep-within-hourly 3h", &[0, 2]),
        ("--keep-within-daily 2d", &[0, 3]),
        ("--keep-within-weekly 7d", &[0, 4]),
        ("--keep-within-monthly 2mo", &[0, 5]),
        ("--keep-within-quarterly 6mo", &[0, 6]),
        ("--keep-within-yearly 1y", &[0, 6]),
        ("--keep-last 1 --keep-tag x", &[0, 4, 5]),
        ("--keep-last 1 --keep-tag x,y", &[0, 5]),
        ("--keep-last 1 --tag x", &[4]),
        ("--keep-last 1 --group-by tags", &[0, 4, 5]),
        ("--keep-last 1 --source nightly", &[0]),
        ("--keep-last 1 --source other", &[]),
    ];
    for (words, expected) in cases {
        assert_eq!(places_kept(&host, &words.split(' ').collect::<Vec<_>>()), *expected, "{words}");
    }
}

#[test]
fn each_key_of_a_retention_keeps_what_it_says() {
    let host = with_times();
    let cases: &[(&str, &[usize])] = &[
        ("last = 2", &[0, 1]),
        ("hourly = 2", &[0, 2]),
        ("daily = 2", &[0, 3]),
        ("weekly = 2", &[0, 4]),
        ("monthly = 2", &[0, 5]),
        ("quarterly = 2", &[0, 6]),
        ("yearly = \"all\"", &[0, 6, 7]),
        ("within = \"3h\"", &[0, 1, 2]),
        ("within_hourly = \"3h\"", &[0, 2]),
        ("within_daily = \"2d\"", &[0, 3]),
        ("within_weekly = \"7d\"", &[0, 4]),
        ("within_monthly = \"2mo\"", &[0, 5]),
        ("within_quarterly = \"6mo\"", &[0, 6]),
        ("within_yearly = \"1y\"", &[0, 6]),
        ("last = 1, tags = [\"y\"]", &[0, 5]),
    ];
    for (retention, expected) in cases {
        let sources = format!(
            "[repositories.main]\nurl = \"{}\"\n[sources.tree]\nkind = \"files\"\npaths = [\"{}\"]\n",
            host.repository().display(),
            host.path("tree").display()
        );
        let job = format!("[jobs.nightly]\nsources = [\"tree\"]\nretention = {{ {retention} }}\n");
        let path = host.write("backstay.toml", format!("{sources}{job}"));
        let path = path.to_str().expect("a plain path");
        assert_eq!(places_kept(&host, &["--job", "nightly", "--config", path]), *expected, "{retention}");
    }
}

#[test]
fn nothing_but_the_record_is_written() {
    let (host, ids) = with_three();
    let objects = |folder: &str| fs::read_dir(host.repository().join(folder)).map_or(0, Iterator::count);
    let before = (objects("snapshots"), objects("packs"), objects("index"));
    host.backstay(["forget", &ids[0], "--yes"]).run().expect_code(0);
    assert_eq!((objects("snapshots"), objects("packs"), objects("index")), before);
    assert_eq!(objects("forgotten"), 1);
}

/// What keeping one of `class` would leave, and how many would go.
async fn planned(repository: &Repository, class: Class, site: &Site) -> (usize, usize) {
    let policy = Policy { counts: vec![(class, Count::Newest(1))], ..Policy::default() };
    let what = Forget::ByPolicy(policy, SnapshotFilter::default());
    let now = jiff::Timestamp::from_nanosecond(site.env.now().as_nanos()).expect("a time");
    let now = now.to_zoned(jiff::tz::TimeZone::UTC);
    let plan = repository.plan_forget(&what, GroupBy::default(), &now).await.expect("plans");
    let all: usize = plan.groups.iter().map(|group| group.decisions.len()).sum();
    (all - plan.going().count(), plan.going().count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_of_an_impossible_time_pushes_none_out_and_is_never_the_latest() {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    let honest = site.backup(&repository).await.snapshot.expect("was committed");
    site.env.advance(DAY * 400);
    let forged = site.backup(&repository).await.snapshot.expect("was committed");
    let latest = repository.select(&Selector::Latest, &SnapshotFilter::default()).await.expect("one");
    assert_eq!(latest.id, honest);
    assert_eq!(planned(&repository, Class::Last, &site).await, (2, 0));
    let named = Forget::Named(vec![forged]);
    let now = jiff::Zoned::now();
    let plan = repository.plan_forget(&named, GroupBy::default(), &now).await.expect("plans");
    repository.forget(&plan).await.expect("forgets");
    assert_eq!(repository.snapshots(&SnapshotFilter::default()).await.expect("lists").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_pushes_none_out() {
    let site = Site::new(2);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    repository.add_key(Role::Writer, password("writer"), "writer", COST).await.expect("adds");
    fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    site.backup(&repository).await;
    let writer = site.open_as("writer", site.store(), "other cache").await.expect("opens");
    site.backup(&writer).await;
    site.backup(&writer).await;
    assert_eq!(planned(&repository, Class::Last, &site).await, (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_that_hides_nothing_does_not_pass_for_one_that_does() {
    let site = Site::new(3);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    repository.add_key(Role::Writer, password("writer"), "writer", COST).await.expect("adds");
    fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    let first: SnapshotId = site.backup(&repository).await.snapshot.expect("was committed");
    site.backup(&repository).await;
    let (name, record) = Forge::open(&site.memory, "writer").await.forgotten(first);
    site.memory.put_new(&name, vec![record]).await.expect("creates");
    let now = jiff::Zoned::now();
    let plan = repository.plan_forget(&Forget::Named(vec![first]), GroupBy::default(), &now).await.expect("plans");
    let error = repository.forget(&plan).await.expect_err("a forged record lies there");
    assert!(error.to_string().contains(&names::forgotten(&first)), "{error}");
    assert_eq!(names_of(&site.memory, names::FORGOTTEN).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_with_a_forged_beginning_counts_for_nothing() {
    let site = Site::new(4);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    let report = site.backup(&repository).await;
    let honest = site.snapshot(&repository, &report).await.snapshot;
    let forge = Forge::open(&site.memory, "owner").await;
    for (id, days) in [([8; 16], 400), ([9; 16], -400)] {
        let started_at = honest.structure.started_at + days * DAY.as_nanos() as i64;
        let structure = SnapshotStructure { id: SnapshotId(id), started_at, ..honest.structure.clone() };
        let (name, bytes) = forge.snapshot(&site.memory, &structure, honest.body.as_ref().expect("the owner's")).await;
        site.memory.put_new(&name, vec![bytes]).await.expect("creates");
    }
    assert_eq!(planned(&repository, Class::Last, &site).await, (3, 0));
    let tagged = Policy { tags: vec![vec!["none".to_owned()]], ..Policy::default() };
    let what = Forget::ByPolicy(tagged, SnapshotFilter::default());
    let plan = repository.plan_forget(&what, GroupBy::default(), &jiff::Zoned::now()).await.expect("plans");
    assert_eq!((plan.going().count(), plan.emptied().count()), (1, 1), "what is left is not believed");
}
