//! Two repositories in one configuration: jobs for either, and no option that says which.
//!
//! Invariant: no job's files are kept from being backed up by which repository another job is for.
//! Never here: one repository.

use harness::binary::{Host, Run as _};
use harness::running::Running;
use rustix::process::Signal;

/// A host with two repositories, and a job for each, both of the folder `all`, in which the repositories lie.
fn host() -> Host {
    let host = Host::new();
    let password = host.path("password").display().to_string();
    let mut config = format!("[sources.all]\nkind = \"files\"\npaths = [\"{}\"]\n", host.path("all").display());
    for name in ["near", "far"] {
        let folder = host.path(&format!("all/{name}")).display().to_string();
        host.write("all/file", "content");
        host.backstay(["init", "--repository", &folder]).run().expect_code(0);
        config += &format!(
            "[repositories.{name}]\nurl = \"{folder}\"\npassword_file = \"{password}\"\n\
             [jobs.to-{name}]\nrepository = \"{name}\"\nsources = [\"all\"]\n"
        );
    }
    host.write("backstay.toml", config);
    host
}

fn backstay(host: &Host, words: &[&str]) -> std::process::Command {
    let mut command = host.backstay(words);
    command.current_dir(host.path("")).env_remove("BACKSTAY_REPOSITORY").env_remove("BACKSTAY_PASSWORD_FILE");
    command
}

fn snapshot_count(host: &Host, name: &str) -> usize {
    std::fs::read_dir(host.path(&format!("all/{name}/snapshots"))).map_or(0, Iterator::count)
}

#[test]
fn jobs_of_files_run_and_leave_out_the_folders_of_all_repositories() {
    let host = host();
    backstay(&host, &["config", "check", "--offline"]).run().expect_code(0);
    backstay(&host, &["config", "check"]).run().expect_code(0);
    backstay(&host, &["run", "to-near", "to-far"]).run().expect_code(0);
    for name in ["near", "far"] {
        let listed = backstay(&host, &["ls", "latest", "--repository", name]).run().expect_code(0);
        assert!(listed.text().contains("all/file\n"), "{listed}");
        assert!(!listed.text().contains("/snapshots/"), "no repository is backed up: {listed}");
    }
}

#[test]
fn jobs_that_are_watched_never_wake_each_other_by_what_they_store() {
    let host = host();
    let mut running = Running::start(backstay(&host, &["watch", "--quiet-for", "1s"]), false);
    running.wait_until("the runs at the start", || ["near", "far"].iter().all(|name| snapshot_count(&host, name) == 1));
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!((snapshot_count(&host, "near"), snapshot_count(&host, "far")), (1, 1));
    host.write("all/second", "content");
    running
        .wait_until("the runs after a change", || ["near", "far"].iter().all(|name| snapshot_count(&host, name) > 1));
    running.signal(Signal::TERM);
    let (ran, _) = running.finish();
    assert!(matches!(ran.code, Some(0 | 130 | 143)), "{ran}");
}
