//! Everything that is wrong around us: credentials, places, stores, disks, caches and targets.
//!
//! Each test checks three things: the exit code, that stderr names the object and says what to do next, and that
//! nothing is lost: what was committed before still restores.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use harness::binary::{Host, Ran, Run as _, binary, need_root, noise, set_mode, shell};
use harness::mount::SmallDisk;

/// A host with a repository and a snapshot of a small tree.
fn host_with_snapshot() -> Host {
    let host = Host::with_repository();
    host.write("tree/file", "precious");
    host.write("tree/sub/more", noise("more", 300_000));
    host.back_up(&[&host.path("tree")]);
    host
}

/// Fails unless the command was refused, with these words and a next step.
#[track_caller]
fn refused(ran: Ran, texts: &[&str]) -> Ran {
    ran.expect_code(2).says(&["error:", "hint:"]).says(texts)
}

/// Fails unless the first snapshot still restores, and every stored byte is right.
#[track_caller]
fn assert_nothing_lost(host: &Host) {
    let first = host.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    let path = format!("{first}:{}", host.path("tree/file").display());
    assert_eq!(host.backstay(["cat", &path]).run().expect_code(0).text(), "precious");
    host.check();
}

#[test]
fn wrong_password_opens_nothing() {
    let host = host_with_snapshot();
    let wrong = host.write_secret("wrong", "wrong");
    let options = ["--password-file", wrong.to_str().expect("a plain path")];
    for command in [vec!["snapshots"], vec!["check"], vec!["restore", "latest", "--target", "/nowhere"]] {
        let ran = host.backstay(command).args(options).run();
        refused(ran, &["no key", "password", host.repository().to_str().expect("a plain path")]);
    }
    let key = host.write_secret("key", noise("key", 64));
    refused(host.backstay(["snapshots", "--key-file"]).arg(key).run(), &["no key", "key file"]);
    assert!(!Path::new("/nowhere").exists());
    assert_nothing_lost(&host);
}

#[test]
fn missing_exposed_short_or_doubled_credentials_are_refused_by_name() {
    let host = host_with_snapshot();
    let missing = host.path("missing.key");
    refused(host.backstay(["snapshots", "--key-file"]).arg(&missing).run(), &["key file", "missing.key"]);
    refused(host.backstay(["snapshots", "--password-file"]).arg(&missing).run(), &["password file", "missing.key"]);
    for (option, what) in [("--key-file", "key file"), ("--password-file", "password file")] {
        let exposed = host.write_secret("exposed", noise("exposed", 64));
        for mode in [0o644, 0o640, 0o602] {
            set_mode(&exposed, mode);
            let ran = host.backstay(["snapshots", option]).arg(&exposed).run();
            refused(ran, &[what, "exposed", &format!("{mode:04o}"), "chmod 600"]);
        }
    }
    let short = host.write_secret("short", "0123456789");
    refused(host.backstay(["snapshots", "--key-file"]).arg(&short).run(), &["short", "32"]);
    let both = host.backstay(["snapshots", "--key-file"]).arg(&short).arg("--password-file").arg(&short).run();
    refused(both, &["--key-file", "--password-file"]);
    let none = host.backstay(["snapshots"]).env_remove("BACKSTAY_PASSWORD_FILE").run();
    refused(none, &["no password or key file"]);
    let failing = host.backstay(["snapshots", "--password-command", "echo locked >&2; exit 3"]).run();
    failing.expect_code(2).says(&["password command", "3"]);
    assert_nothing_lost(&host);
}

#[test]
fn place_that_is_no_repository_is_named() {
    let host = host_with_snapshot();
    let folder = host.path("empty");
    fs::create_dir(&folder).expect("a folder");
    for place in [&folder, &host.path("missing"), &host.path("tree")] {
        let name = place.to_str().expect("a plain path");
        refused(host.backstay(["snapshots", "-r", name]).run(), &["no backstay repository", name]);
        refused(host.backstay(["backup", "/etc/hostname", "-r", name]).run(), &["no backstay repository", name]);
    }
    assert!(!host.path("missing").exists(), "looking made a folder");
    let file = host.path("tree/file");
    let ran = host.backstay(["snapshots", "-r"]).arg(&file).run();
    refused(ran, &[file.to_str().expect("a plain path")]);
    refused(host.backstay(["snapshots", "-r", "ftp://host/backup"]).run(), &["ftp"]);
    refused(host.backstay(["snapshots"]).env_remove("BACKSTAY_REPOSITORY").run(), &["no repository is named"]);
    refused(host.backstay(["init"]).run(), &["already", host.repository().to_str().expect("a plain path")]);
    refused(host.backstay(["init", "-r"]).arg(host.path("tree")).run(), &["not empty"]);
    assert_nothing_lost(&host);
}

#[test]
fn repository_of_a_newer_format_asks_for_an_update() {
    let host = host_with_snapshot();
    let mut kept = Vec::new();
    for name in ["config", "config-copy"] {
        let path = host.repository().join(name);
        let bytes = fs::read(&path).expect("the configuration");
        let mut newer = bytes.clone();
        newer[4] = newer[4].wrapping_add(1); // magic, then the version
        set_mode(&path, 0o600);
        fs::write(&path, newer).expect("the configuration");
        kept.push((path, bytes));
    }
    for command in
        [vec!["snapshots"], vec!["backup", "/etc/hostname"], vec!["restore", "latest", "--target", "/nowhere"]]
    {
        refused(host.backstay(command).run(), &["config", "version", "update backstay"]);
    }
    for (path, bytes) in kept {
        fs::write(path, bytes).expect("the configuration");
    }
    assert_nothing_lost(&host);
}

#[test]
fn snapshots_and_paths_that_are_not_there_are_named() {
    let host = host_with_snapshot();
    refused(host.backstay(["ls", "0123456789"]).run(), &["no snapshot", "0123456789"]);
    refused(host.backstay(["ls", "latest", "--host", "elsewhere"]).run(), &["no snapshot"]);
    refused(host.backstay(["ls", "--at", "1999-12-31"]).run(), &["no snapshot"]);
    refused(host.backstay(["ls", "--at", "sometime"]).run(), &["sometime"]);
    refused(host.backstay(["cat", "latest:/no/such/file"]).run(), &["no/such/file"]);
    refused(host.backstay(["ls", "latest:/no/such/file"]).run(), &["no/such/file"]);
    let folder = format!("latest:{}", host.path("tree").display());
    refused(host.backstay(["cat", &folder]).run(), &["directory"]);
    host.back_up(&[&host.path("tree")]);
    let every = host.snapshots();
    let shared = (0..32)
        .take_while(|at| every[0]["id"].as_str().map(|id| &id[..*at]) == every[1]["id"].as_str().map(|id| &id[..*at]));
    let prefix = &every[0]["id"].as_str().expect("an id")[..shared.last().unwrap_or(0)];
    if !prefix.is_empty() {
        refused(host.backstay(["ls", prefix]).run(), &["2 snapshots", prefix]);
    }
    assert_nothing_lost(&host);
}

#[test]
fn sources_that_cannot_be_read_are_named() {
    let host = host_with_snapshot();
    let missing = host.path("missing");
    refused(host.backstay(["backup"]).arg(&missing).run(), &["missing"]);
    let other = host.path("other");
    refused(host.backstay(["backup"]).arg(&missing).arg(&other).run(), &["missing"]);
    assert_eq!(host.snapshots().len(), 1);
    assert_nothing_lost(&host);
}

#[test]
fn path_that_is_not_there_leaves_a_partial_snapshot_of_the_others() {
    let host = host_with_snapshot();
    let missing = host.path("missing");
    let mut mixed = host.backstay(["backup"]);
    let ran = mixed.arg(host.path("tree")).arg(&missing).run().expect_code(1);
    ran.says(&["missing is not there", "committed in part"]);
    let mut again = host.backstay(["--json", "backup"]);
    let report = again.arg(host.path("tree")).arg(&missing).run().expect_code(1).json();
    assert_eq!((&report["state"], &report["problem_count"]), (&"partial".into(), &1.into()), "{report}");
    assert_eq!(report["read_len"], 0, "it is compared with the snapshot before: {report}");
    assert_eq!(host.snapshots().len(), 3);
    assert_nothing_lost(&host);
}

#[test]
fn full_store_commits_nothing_and_the_next_run_goes_on() {
    need_root();
    let host = Host::new();
    let disk = SmallDisk::mount(&host.repository(), 12);
    host.backstay(["init"]).run().expect_code(0);
    host.write("tree/file", "precious");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    host.write("tree/large", noise("large", 40 << 20));
    let ran = host.backstay(["backup"]).arg(&tree).run();
    refused(ran, &["no space is left", host.repository().to_str().expect("a plain path"), "free some space"]);
    assert_eq!(host.snapshots().len(), 1);
    assert_nothing_lost(&host);
    disk.resize(100);
    host.back_up(&[&tree]);
    assert_eq!(host.snapshots().len(), 2);
    assert_nothing_lost(&host);
}

#[test]
fn repository_in_a_folder_keeps_no_empty_folders_and_no_remains_of_killed_runs() {
    let host = host_with_snapshot();
    shell(&host.repository(), "touch -d '2 days ago' 'index/0123#1' 'snapshots/4567#89'");
    shell(&host.repository(), "touch 'snapshots/cdef#1'");
    host.write("tree/new", "so that a segment is put as well");
    host.back_up(&[&host.path("tree")]);
    let remains = shell(&host.repository(), "find writers probe -mindepth 1; find . -name '*#*'");
    assert_eq!(remains, "./snapshots/cdef#1\n");
    assert_eq!(host.snapshots().len(), 2);
    assert_nothing_lost(&host);
}

#[test]
fn full_cache_is_named_and_another_place_for_it_is_enough() {
    need_root();
    let host = Host::with_repository();
    fs::remove_dir_all(host.path("cache")).expect("the cache");
    let disk = SmallDisk::mount(&host.path("cache"), 1);
    fs::write(disk.path().join("something-large"), noise("cache", (1 << 20) - 20_000)).expect("the small disk");
    host.write("tree/file", "precious");
    for at in 0..200 {
        host.write(&format!("tree/{at}"), noise(&at.to_string(), 20_000));
    }
    let tree = host.path("tree");
    let back_up = |options: &[&str]| host.backstay(["backup"]).arg(&tree).args(options).run();
    let free_some = ["warning: no space is left", "cache", "free some space there"];
    back_up(&[]).expect_code(0).says(&free_some);
    let elsewhere = host.path("elsewhere").display().to_string();
    back_up(&["--cache-dir", &elsewhere]).expect_code(0);
    disk.resize(64);
    back_up(&[]).expect_code(0);
    assert_eq!(host.snapshots().len(), 3);
    assert_nothing_lost(&host);
}

#[test]
fn full_target_stops_the_restore_and_the_next_one_goes_on() {
    need_root();
    let host = host_with_snapshot();
    let large = noise("large", 20 << 20);
    host.write("tree/large", &large);
    host.back_up(&[&host.path("tree")]);
    let disk = SmallDisk::mount(&host.path("target"), 8);
    let path = format!("latest:{}", host.path("tree").display());
    let restore = || host.backstay(["restore", &path, "--target"]).arg(disk.path()).run();
    restore().expect_code(2).says(&["no space is left", "large", "hint:"]);
    disk.resize(64);
    restore().expect_code(0);
    assert!(fs::read(disk.path().join("large")).expect("the file") == large);
    assert_eq!(fs::read_to_string(disk.path().join("file")).expect("the file"), "precious");
    assert_nothing_lost(&host);
}

#[test]
fn cache_that_is_lost_foreign_cloned_rolled_back_or_garbage_costs_time_only() {
    let host = host_with_snapshot();
    let other = Host::with_repository();
    other.write("tree/else", noise("else", 400_000));
    other.back_up(&[&other.path("tree")]);
    let cache = host.path("cache");
    let (own, foreign) = (folder_in(&cache), folder_in(&other.path("cache")));
    // As it was after the first backup, and that of another host which has backed up to the same repository since.
    let (older, clone) = (host.path("older-cache").display().to_string(), host.path("second-cache"));
    shell(&cache, &format!("cp -a '{own}' '{older}'"));
    host.write("tree/of-another-host", noise("another", 200_000));
    host.backstay(["backup", "--host", "second", "--cache-dir"])
        .arg(&clone)
        .arg(host.path("tree"))
        .run()
        .expect_code(0);
    let clone = folder_in(&clone);
    let scripts = [
        ("lost", "rm -rf ./*".to_owned()),
        ("foreign", format!("rm -rf '{own}'; cp -a '{foreign}' '{own}'")),
        ("cloned", format!("rm -rf '{own}'; cp -a '{clone}' '{own}'")),
        ("rolled back", format!("rm -rf '{own}'; cp -a '{older}' '{own}'")),
        ("garbage", "find . -type f | while read -r file; do head -c 5000 /dev/urandom >\"$file\"; done".to_owned()),
    ];
    for (name, script) in scripts {
        let spoil = || shell(&cache, &script);
        spoil();
        host.write("tree/new", name);
        let report = host.back_up(&[&host.path("tree")]);
        assert!(report["new_len"].as_u64() < Some(100_000), "{name}: a lost cache loses no deduplication: {report}");
        spoil();
        let target = host.path(&format!("target-{name}"));
        host.backstay(["restore", "latest", "--verify", "--target"]).arg(&target).run().expect_code(0);
        spoil();
        assert_nothing_lost(&host);
    }
}

/// The only folder in a cache.
fn folder_in(cache: &Path) -> String {
    let names = shell(cache, "find . -mindepth 1 -maxdepth 1 -type d");
    let mut names = names.lines();
    let (Some(name), None) = (names.next(), names.next()) else { panic!("not one folder in {}", cache.display()) };
    cache.join(name.trim_start_matches("./")).display().to_string()
}

#[test]
fn target_that_is_a_file_is_refused() {
    let host = host_with_snapshot();
    let file = host.write("occupied", "mine");
    let ran = host.backstay(["restore", "latest", "--target"]).arg(&file).run();
    refused(ran, &["occupied is a file, not a directory"]);
    assert_eq!(fs::read_to_string(file).expect("the file"), "mine");
    assert_nothing_lost(&host);
}

#[test]
fn target_that_may_not_be_written_to_is_refused() {
    need_root();
    let host = host_with_snapshot();
    fs::create_dir(host.path("target")).expect("a folder");
    shell(&host.path(""), "chmod 755 . && chown -R nobody repository password cache home");
    let command = host.backstay(["restore", "latest", "--target"]);
    let mut restricted = Command::new("setpriv");
    restricted.args(["--reuid=nobody", "--clear-groups"]).arg(readable_binary(&host));
    restricted.args(command.get_args()).arg(host.path("target"));
    restricted.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    restricted.current_dir("/");
    let ran = restricted.run();
    refused(ran, &["target", "ermission denied"]);
    assert_eq!(fs::read_dir(host.path("target")).expect("the target").count(), 0);
    shell(&host.path(""), "chown -R root repository password cache home");
    assert_nothing_lost(&host);
}

/// The binary where everybody may execute it.
fn readable_binary(host: &Host) -> std::path::PathBuf {
    let copy = host.path("backstay");
    fs::copy(binary(), &copy).expect("the binary");
    set_mode(&copy, 0o755);
    copy
}

#[test]
fn target_inside_the_source_restores() {
    let host = host_with_snapshot();
    let target = host.path("tree/restored");
    host.backstay(["restore", "latest", "--verify", "--target"]).arg(&target).run().expect_code(0);
    let inside = target.join(host.path("tree/file").strip_prefix("/").expect("an absolute path"));
    assert_eq!(fs::read_to_string(inside).expect("the file"), "precious");
    host.back_up(&[&host.path("tree")]);
    assert_nothing_lost(&host);
}

#[test]
fn repository_and_cache_inside_the_source_are_not_backed_up_into_themselves() {
    let host = Host::new();
    let repository = host.path("tree/repository");
    let host = host.with("BACKSTAY_REPOSITORY", &repository);
    let cache = host.path("tree/cache");
    let host = host.with("BACKSTAY_CACHE_DIR", &cache);
    host.write("tree/file", "precious");
    host.backstay(["init"]).run().expect_code(0);
    for _ in 0..3 {
        host.back_up(&[&host.path("tree")]);
    }
    let listed = host.backstay(["ls", "latest"]).run().expect_code(0);
    let tree = host.path("tree");
    let within = |name: &str| tree.join(name).strip_prefix("/").expect("an absolute path").display().to_string();
    assert!(listed.text().contains(&within("file")), "{listed}");
    assert!(!listed.text().contains(&format!("{}/", within("repository"))), "{listed}");
    assert!(!listed.text().contains(&format!("{}/", within("cache"))), "{listed}");
    refused(host.backstay(["backup"]).arg(&repository).run(), &["repository"]);
    assert_nothing_lost(&host);
}

#[test]
fn links_planted_in_the_target_lead_nowhere() {
    let host = host_with_snapshot();
    let outside = host.path("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("more"), "untouched").expect("a file");
    fs::write(host.path("victim"), "untouched").expect("a file");
    let target = host.path("target");
    fs::create_dir(&target).expect("a folder");
    symlink(&outside, target.join("sub")).expect("a link");
    symlink(host.path("victim"), target.join("file")).expect("a link");
    let path = format!("latest:{}", host.path("tree").display());
    for options in [["--overwrite", "never"], ["--overwrite", "always"]] {
        let ran = host.backstay(["restore", &path, "--target"]).arg(&target).args(options).run();
        assert!(matches!(ran.code, Some(0 | 1)), "{ran}");
        assert_eq!(fs::read_to_string(outside.join("more")).expect("a file"), "untouched", "{ran}");
        assert_eq!(fs::read_to_string(host.path("victim")).expect("a file"), "untouched", "{ran}");
    }
    assert_eq!(fs::read_to_string(target.join("file")).expect("the file"), "precious");
    assert_eq!(fs::read(target.join("sub/more")).expect("the file"), noise("more", 300_000));
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 1);
    assert_nothing_lost(&host);
}

#[test]
fn repository_at_a_path_that_no_folder_can_have_is_a_mistake_and_no_bug() {
    let host = Host::new();
    let odd = host.path("").join(OsStr::from_bytes(b"od\xffd"));
    fs::create_dir(&odd).expect("a folder");
    let long = host.path(&"x".repeat(300));
    let link = host.path("loop");
    symlink("loop", &link).expect("links");
    for place in [odd.join("repository"), long.clone(), long.join("deeper"), link.join("repository")] {
        for command in ["init", "snapshots"] {
            let ran = host.backstay([command, "-r"]).arg(&place).run().expect_code(2);
            assert!(!ran.stderr.contains("this is a bug"), "{ran}");
        }
    }
    // Where only the folder that we are in is no text.
    let mut inside = host.backstay(["init", "-r", "repository"]);
    inside.current_dir(&odd).run().expect_code(2).says(&["is not text in UTF-8"]);
    assert_eq!(fs::read_dir(&odd).expect("a folder").count(), 0, "nothing is made there");
}
