//! Retention beside restic's, through both binaries, on timelines that nobody has seen before.
//!
//! `tests/golden/retention/record.py` draws timelines and policies and says what restic keeps. The same snapshots are forged in
//! a repository of ours, where the store's times are those of the snapshots, so that all are believed.
//!
//! Invariant: a seed that fails is printed, and replays with `BACKSTAY_SEED`.
//! Never here: the differences that are wanted; the recorded decisions show those (see the engine's own tests).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::binary::{Host, Run as _};
use harness::{Dice, Forge, Site, names_of};
use pack::{SnapshotBody, SnapshotId, SnapshotState, SnapshotStructure};
use serde_json::Value;
use store::{Env, Store as _};

const ZONE: &str = "Europe/Berlin";

/// restic of Debian 13, whose decisions are those that were recorded.
fn restic() -> PathBuf {
    let cache = std::env::var_os("BACKSTAY_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/backstay"));
    let restic = cache.or(home).expect("a home folder").join("roots/trixie/usr/bin/restic");
    assert!(restic.exists(), "{} is missing: run scripts/servers.sh as root first", restic.display());
    restic
}

/// Policies with what they keep of each timeline, as masks.
struct Recording {
    /// Seconds since 1970 and tags, newest first.
    timelines: Vec<Vec<(i64, Vec<String>)>>,
    policies: Vec<(Vec<String>, Vec<u64>)>,
}

impl Recording {
    fn new(seed: u64) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/retention/record.py");
        let mut record = Command::new("python3");
        record.arg(script).args(["--timelines", "12", "--policies", "8", "--zone", ZONE, "--seed", &seed.to_string()]);
        let recorded = record.arg("--restic").arg(restic()).run().expect_code(0);
        let (mut timelines, mut policies, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        for line in recorded.text().lines() {
            let (what, words) = line.split_once(' ').expect("words");
            match what {
                "timeline" => timelines.push(timeline(words)),
                "policy" => rules = words.split(' ').map(str::to_owned).collect(),
                "kept" => {
                    let masks = words.split(' ').map(|mask| u64::from_str_radix(mask, 16).expect("a mask"));
                    policies.push((std::mem::take(&mut rules), masks.collect()));
                }
                _ => {}
            }
        }
        Self { timelines, policies }
    }
}

fn timeline(words: &str) -> Vec<(i64, Vec<String>)> {
    let mut found: Vec<(i64, Vec<String>)> = Vec::new();
    for word in words.split(' ') {
        match (word.split_once(':'), found.last()) {
            (Some((place, tags)), _) => {
                found[place.parse::<usize>().expect("a place")].1 = tags.split(',').map(str::to_owned).collect();
            }
            (None, newer) => {
                let number: i64 = word.parse().expect("a number");
                let at = newer.map_or(number, |(newer, _)| newer - number);
                found.push((at, Vec::new()));
            }
        }
    }
    found
}

/// A repository in `host` with a snapshot of each moment, each timeline under a host of its own.
async fn forge_all(host: &Host, timelines: &[Vec<(i64, Vec<String>)>]) {
    let site = Site::new(1);
    drop(site.init(site.store(), "cache").await.expect("makes"));
    let forge = Forge::open(&site.memory, "owner").await;
    let mut times = BTreeMap::new();
    for (number, timeline) in timelines.iter().enumerate() {
        for (at, tags) in timeline {
            let nanos = at * 1_000_000_000;
            let structure = SnapshotStructure {
                id: SnapshotId(Env::system().random_id()),
                parent: None,
                started_at: nanos,
                ended_at: nanos,
                host: number.to_string(),
                source: "files".to_owned(),
                tags: tags.clone(),
                state: SnapshotState::Complete,
                keep_until: None,
                components: Vec::new(),
                domain: [0; 16],
                extension: Vec::new(),
            };
            let (name, bytes) = forge.snapshot(&site.memory, &structure, &SnapshotBody::default()).await;
            site.memory.put_new(&name, vec![bytes]).await.expect("creates");
            times.insert(name, *at);
        }
    }
    for name in names_of(&site.memory, "").await {
        let path = host.write(&format!("repository/{name}"), site.memory.get(&name).await.expect("is there"));
        if let Some(at) = times.get(&name) {
            let at = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(*at).expect("after 1970"));
            let file = fs::File::options().write(true).open(path).expect("is there");
            file.set_modified(at).expect("is ours");
        }
    }
    host.write_secret("password", "owner");
}

/// What the binary keeps of each host, as seconds since 1970.
fn kept(host: &Host, rules: &[String]) -> BTreeMap<usize, BTreeSet<i64>> {
    let mut forget = host.backstay(["--json", "forget", "--dry-run", "--allow-last", "--group-by", "host"]);
    for rule in rules {
        let (name, value) = rule.split_once('=').expect("a rule");
        forget.arg(format!("--keep-{name}")).arg(value);
    }
    let plan = forget.env("TZ", ZONE).run().expect_code(0).json();
    let second = |decision: &Value| {
        let time: jiff::Timestamp = decision["time"].as_str().expect("a time").parse().expect("a time");
        time.as_second()
    };
    let kept = |group: &Value| {
        let decided = group["snapshots"].as_array().expect("a list").iter();
        decided.filter(|decision| decision["kept"] == true).map(second).collect()
    };
    let groups = plan["groups"].as_array().expect("a list").iter();
    groups.map(|group| (group["host"].as_str().expect("a host").parse().expect("a number"), kept(group))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binary_keeps_what_restic_keeps_on_fresh_timelines() {
    let dice = Dice::new();
    let recording = Recording::new(dice.seed());
    let host = Host::new();
    forge_all(&host, &recording.timelines).await;
    for (rules, masks) in &recording.policies {
        let ours = kept(&host, rules);
        // A month before the 31st is where we differ, and then keep more.
        let is_long = rules.iter().any(|rule| rule.starts_with("within") && rule.contains(['m', 'y']));
        for (number, (timeline, mask)) in recording.timelines.iter().zip(masks).enumerate() {
            let theirs = timeline.iter().enumerate().filter(|(at, _)| (mask >> at) & 1 == 1);
            let theirs: BTreeSet<i64> = theirs.map(|(_, (at, _))| *at).collect();
            let ours = &ours[&number];
            let is_same = *ours == theirs || (is_long && ours.is_superset(&theirs));
            assert!(is_same, "{rules:?}, {timeline:?}: {ours:?}, and restic {theirs:?}");
        }
    }
}
