//! What starts jobs: `watch`, the real binary while files change below its sources; and timers.
//!
//! Invariant: each change is in a snapshot in the end, and nothing but a change makes one.

use std::fs;
use std::time::Duration;

use harness::binary::{Host, Run as _};
use harness::running::Running;
use rustix::process::Signal;

/// A host whose job `documents` has `paths`; the names of its snapshots' files say what was seen.
fn host(paths: &str) -> Host {
    let host = Host::with_repository();
    configure(&host, paths);
    host
}

fn configure(host: &Host, paths: &str) {
    let config = format!(
        "[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n[sources.docs]\nkind = \"files\"\npaths = [{paths}]\n\
         exclude = [\"*.log\"]\n[jobs.documents]\nsources = [\"docs\"]\n",
        host.repository().display(),
        host.path("password").display(),
    );
    host.write("backstay.toml", config);
}

/// How long nothing may change before a run, which is longer than a busy machine needs for a test's next line.
const QUIET_FOR: Duration = Duration::from_secs(2);

fn watch(host: &Host, more: &[&str]) -> Running {
    let mut command = host.backstay(["watch", "--quiet-for", "2s", "--config"]);
    command.arg(host.path("backstay.toml")).args(more).env_remove("BACKSTAY_REPOSITORY");
    Running::start(command, false)
}

fn snapshot_count(host: &Host) -> usize {
    fs::read_dir(host.repository().join("snapshots")).map_or(0, Iterator::count)
}

/// Whether the newest snapshot has this file.
fn has(host: &Host, path: &std::path::Path) -> bool {
    let listed = host.backstay(["ls", "latest"]).run();
    listed.code == Some(0) && listed.text().lines().any(|line| line.ends_with(&path.display().to_string()[1..]))
}

/// Moves something to its place at one stroke, so that it is one change however busy the machine is.
fn bring(host: &Host, from: &str, to: &str) {
    fs::rename(host.path(from), host.path(to)).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
}

/// Waits until there are `count` snapshots at least and the newest has a file. A slow machine may make more of them.
#[track_caller]
fn wait_for(running: &mut Running, host: &Host, count: usize, name: &str) {
    let holds = || snapshot_count(host) >= count && has(host, &host.path(name));
    running.wait_until(&format!("{name} in snapshot {count}"), holds);
}

fn end(running: Running) {
    running.signal(Signal::TERM);
    let (ran, _) = running.finish();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn each_change_is_followed_by_one_run_and_a_signal_ends_the_watch() {
    let host = host("\"tree\"");
    host.write("tree/first", "1");
    configure(&host, &format!("\"{}\"", host.path("tree").display()));
    let mut running = watch(&host, &[]);
    running.wait_until("the run at the start", || snapshot_count(&host) == 1);
    // What is left out and what is only read makes no snapshot.
    host.write("tree/noise.log", "1");
    fs::read(host.path("tree/first")).expect("a file");
    std::thread::sleep(QUIET_FOR * 2);
    assert_eq!(snapshot_count(&host), 1);
    host.write("beside/second", "2");
    bring(&host, "beside", "tree/new");
    wait_for(&mut running, &host, 2, "tree/new/second");
    // As fast as they can come.
    (0..20).for_each(|number| _ = host.write(&format!("beside/{number}"), "3"));
    fs::create_dir(host.path("tree/many")).expect("a folder");
    (0..20).for_each(|number| bring(&host, &format!("beside/{number}"), &format!("tree/many/{number}")));
    wait_for(&mut running, &host, 3, "tree/many/19");
    std::thread::sleep(QUIET_FOR * 2);
    assert_eq!(snapshot_count(&host), 3, "many changes at once are one run");
    end(running);
}

#[test]
fn a_folder_with_the_repository_in_it_is_run_once_and_one_that_is_replaced_is_seen() {
    let host = host("\"tree\"");
    let folder = host.path("").display().to_string();
    configure(&host, &format!("\"{folder}\""));
    let mut running = watch(&host, &[]);
    running.wait_until("the run at the start", || snapshot_count(&host) == 1);
    std::thread::sleep(QUIET_FOR * 3);
    assert_eq!(snapshot_count(&host), 1, "a run must not be followed by the next for what it writes itself");
    host.write("tree/a", "1");
    wait_for(&mut running, &host, 2, "tree/a");
    bring(&host, "tree", "old");
    host.write("tree/b", "1");
    wait_for(&mut running, &host, 3, "tree/b");
    host.write("tree/c", "1");
    wait_for(&mut running, &host, 4, "tree/c");
    end(running);
}

#[test]
fn a_run_that_fails_is_told_and_tried_again_until_it_succeeds() {
    let host = host("\"tree\"");
    configure(&host, &format!("\"{}\"", host.path("later/tree").display()));
    let mut running = watch(&host, &["--within", "4s"]);
    std::thread::sleep(QUIET_FOR);
    assert_eq!(snapshot_count(&host), 0);
    host.write("beside/tree/file", "1");
    bring(&host, "beside", "later");
    wait_for(&mut running, &host, 1, "later/tree/file");
    host.write("later/tree/sub/file", "1");
    wait_for(&mut running, &host, 2, "later/tree/sub/file");
    let (password, away) = (host.path("password"), host.path("away"));
    fs::rename(&password, &away).expect("the password can be moved");
    host.write("later/tree/sub/more", "1");
    std::thread::sleep(QUIET_FOR * 3);
    fs::rename(&away, &password).expect("the password can be moved back");
    wait_for(&mut running, &host, 3, "later/tree/sub/more");
    running.signal(Signal::INT);
    let (ran, _) = running.finish();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("does not exist") && ran.stderr.contains("runs again"), "{}", ran.stderr);
}

#[test]
fn hooks_that_write_below_the_files_do_not_keep_the_job_running_for_ever() {
    let host = host("\"tree\"");
    host.write("tree/file", "1");
    configure(&host, &format!("\"{}\"", host.path("tree").display()));
    let config = fs::read_to_string(host.path("backstay.toml")).expect("the configuration");
    let writes = |name: &str| format!("[\"sh\", \"-c\", \"date +%N >> {}\"]", host.path(name).display());
    let with_hooks = |hooks: String| host.write("backstay.toml", format!("{config}[jobs.documents.hooks]\n{hooks}\n"));
    // A dump beside the files: it is in the snapshot of its own run.
    with_hooks(format!("before = {}", writes("tree/dump")));
    let mut running = watch(&host, &[]);
    running.wait_until("the run at the start", || snapshot_count(&host) == 1);
    std::thread::sleep(QUIET_FOR * 4);
    assert_eq!(snapshot_count(&host), 1, "{}", running.stderr_so_far());
    assert!(has(&host, &host.path("tree/dump")));
    end(running);
    // A log beside the files: one further run, in case that it was somebody else.
    with_hooks(format!("after = {}", writes("tree/log")));
    let mut running = watch(&host, &[]);
    running.wait_until("the run at the start, and the further one", || snapshot_count(&host) == 3);
    std::thread::sleep(QUIET_FOR * 4);
    assert_eq!(snapshot_count(&host), 3, "{}", running.stderr_so_far());
    host.write("tree/second", "2");
    running
        .wait_until("the run after a change", || snapshot_count(&host) >= 4 && has(&host, &host.path("tree/second")));
    end(running);
    // What fails is tried again after the longest wait, whatever its hooks write.
    with_hooks(format!("before = {}\non_failure = {}", writes("tree/dump"), writes("tree/failures")));
    fs::remove_file(host.path("password")).expect("the password");
    let mut running = watch(&host, &["--within", "2m"]);
    running.wait_until("the failure", || host.path("tree/failures").exists());
    std::thread::sleep(QUIET_FOR * 4);
    assert_eq!(running.stderr_so_far().matches("runs again").count(), 1, "{}", running.stderr_so_far());
    end(running);
}

#[test]
fn what_cannot_be_watched_is_refused_with_a_hint() {
    let host = host("\"tree\"");
    host.write(
        "backstay.toml",
        "[repositories.main]\nurl = \"/r\"\n[sources.c]\nkind = \"command\"\ncommand = [\"true\"]\n\
         [jobs.dump]\nsources = [\"c\"]\n",
    );
    let config = host.path("backstay.toml");
    let ran = host.backstay(["watch", "dump", "--config"]).arg(&config).run();
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("job dump has no source of kind \"files\"") && ran.stderr.contains("schedule"));
    let ran = host.backstay(["watch", "nightly", "--config"]).arg(&config).run();
    assert!(ran.code == Some(2) && ran.stderr.contains("there is no job nightly"), "{}", ran.stderr);
}

#[test]
fn timers_are_printed_for_jobs_that_have_a_schedule() {
    let host = Host::new();
    host.write(
        "backstay.toml",
        "[repositories.main]\nurl = \"/r\"\n[sources.a]\nkind = \"files\"\npaths = [\"/etc\"]\n\
         [jobs.nightly]\nsources = [\"a\"]\nschedule = \"0 2 1 * 5\"\n[jobs.manual]\nsources = [\"a\"]\n\
         [jobs.last]\nsources = [\"a\"]\nschedule = \"0 2 * * 5#2\"\n",
    );
    let timers = |job: &str| {
        let mut command = host.backstay(["config", "timers", job, "--config"]);
        command.arg(host.path("backstay.toml")).run()
    };
    let printed = timers("nightly").expect_code(0).text().to_owned();
    assert!(printed.contains("# /etc/systemd/system/backstay-nightly.timer\n"), "{printed}");
    assert!(printed.contains("OnCalendar=*-*-1 02:00:00\nOnCalendar=Fri *-*-* 02:00:00\n"), "{printed}");
    let config = host.path("backstay.toml").display().to_string();
    assert!(printed.contains(&format!(" run --config {config} -- nightly\n")), "{printed}");
    for (job, why) in [("manual", "has no schedule"), ("last", "systemd and cron cannot say")] {
        let ran = timers(job);
        assert!(ran.code == Some(2) && ran.stderr.contains(why), "{}", ran.stderr);
    }
}
