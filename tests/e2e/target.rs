//! What a restore finds in its target: things in the way, a target of its own or the user's, and what a dry run says of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::binary::{Host, Run as _, binary, is_root, need_root, noise, set_mode, shell};
use harness::listing::{assert_same, listing_of};

/// A host whose newest snapshot has `tree` with a file, a link, a pipe and a file with two names.
fn host_with_kinds() -> (Host, PathBuf) {
    let host = Host::with_repository();
    let tree = host.path("tree");
    fs::create_dir(&tree).expect("a folder");
    shell(
        &tree,
        "echo file >file; ln -s file link; mkfifo pipe; echo linked >one; ln one two; mkdir dir; echo x >dir/x",
    );
    host.back_up(&[&tree]);
    (host, tree)
}

/// A restore of `tree` itself.
fn restore_of(host: &Host, tree: &Path, target: &Path, options: &[&str]) -> Command {
    let mut command = host.backstay(["restore", &format!("latest:{}", tree.display()), "--target"]);
    command.arg(target).args(options);
    command
}

/// What lies in a folder, without the folder's own times.
fn names_in(folder: &Path) -> String {
    shell(folder, "find . -mindepth 1 -printf '%p:%y:%l ' | tr ' ' '\n' | LC_ALL=C sort | tr '\n' ' '")
}

#[test]
fn full_directory_in_the_way_of_something_else_is_a_problem_and_stays() {
    let (host, tree) = host_with_kinds();
    let target = host.path("target");
    for name in ["file", "link", "pipe", "two"] {
        fs::create_dir_all(target.join(name).join("deep")).expect("a folder");
        fs::write(target.join(name).join("deep/precious"), "x").expect("a file");
    }
    let before = names_in(&target);
    let problems =
        ["target/file is in the way: a directory that is not empty", "target/link is in", "target/pipe is in"];
    let restore = |options: &[&str]| restore_of(&host, &tree, &target, options).run();
    restore(&["--dry-run"]).expect_code(1).says(&problems).says(&["target/two is in the way"]);
    assert_eq!(names_in(&target), before, "a dry run changed something");
    let report = restore(&["--json"]).expect_code(1).json();
    assert_eq!((report["problem_count"].as_u64(), report["deleted_count"].as_u64()), (Some(4), Some(0)), "{report}");
    restore(&[]).expect_code(1).says(&problems).says(&["hint:", "--delete"]);
    for name in ["file", "link", "pipe", "two"] {
        assert!(target.join(name).join("deep/precious").exists(), "{name} was deleted");
    }
    assert_eq!(fs::read_to_string(target.join("one")).expect("the rest is restored"), "linked\n");
}

#[test]
fn full_directory_in_the_way_goes_with_delete_after_the_plan_named_it() {
    let (host, tree) = host_with_kinds();
    let target = host.path("target");
    for name in ["file", "link", "pipe", "two", "extra"] {
        fs::create_dir_all(target.join(name)).expect("a folder");
        fs::write(target.join(name).join("old"), "x").expect("a file");
    }
    let before = names_in(&target);
    let restore = |options: &[&str]| restore_of(&host, &tree, &target, options).run();
    let plan =
        ["would delete extra", "would delete file", "would delete link", "would delete pipe", "would delete two"];
    for (options, code) in [(&["--delete"][..], 2), (&["--delete", "--dry-run"], 0)] {
        let ran = restore(options).expect_code(code).says(&plan).says(&["5 entries would be deleted"]);
        assert_eq!(ran.stderr.matches("would delete ").count(), 5, "{ran}");
        assert_eq!(names_in(&target), before, "a plan changed something");
    }
    let report = restore(&["--delete", "--yes", "--json"]).expect_code(0).json();
    assert_eq!(report["deleted_count"], 5, "{report}");
    assert_eq!(names_in(&target), names_in(&tree));
}

#[test]
fn delete_goes_with_a_target_only_as_nothing_else_shows_a_plan_first() {
    let (host, _) = host_with_kinds();
    let place = host.path("place");
    fs::create_dir(&place).expect("a folder");
    fs::write(place.join("mine"), "x").expect("a file");
    for options in [&["--delete"][..], &["--delete", "--yes"], &["--delete", "--dry-run"]] {
        let mut restore = host.backstay(["restore", "latest", "--to"]);
        restore.arg(&place).args(options).run().expect_code(2).says(&["--delete", "--to <PLACE>"]);
    }
    assert_eq!(fs::read_dir(&place).expect("a folder").count(), 1, "something was written or removed");
    assert!(place.join("mine").exists());
}

#[test]
fn empty_directory_and_lone_file_make_way_for_what_the_snapshot_has() {
    let (host, tree) = host_with_kinds();
    let target = host.path("target");
    fs::create_dir_all(target.join("file")).expect("a folder");
    fs::create_dir_all(target.join("two")).expect("a folder");
    fs::write(target.join("dir"), "a file").expect("a file");
    restore_of(&host, &tree, &target, &[]).run().expect_code(0);
    assert_eq!(names_in(&target), names_in(&tree));
}

#[test]
fn directory_that_becomes_the_target_gives_it_its_metadata_also_where_the_target_was_there() {
    let (host, tree) = host_with_kinds();
    shell(&tree, "chmod 2710 .; setfattr -n user.note -v here .; touch -d 2001-02-03 .");
    if is_root() {
        shell(&tree, "chown 12345:54321 .; chmod 2710 .");
    }
    host.back_up(&[&tree]);
    let expected = listing_of(&tree);
    for name in ["new", "there", "interrupted"] {
        let target = host.path(name);
        if name != "new" {
            fs::create_dir(&target).expect("a folder");
            set_mode(&target, if name == "there" { 0o755 } else { 0o700 });
        }
        for _ in 0..2 {
            restore_of(&host, &tree, &target, &["--verify"]).run().expect_code(0);
            assert_same(&listing_of(&target), &expected);
        }
    }
    let never = host.path("never");
    fs::create_dir(&never).expect("a folder");
    set_mode(&never, 0o755);
    restore_of(&host, &tree, &never, &["--overwrite", "never"]).run().expect_code(0);
    assert_eq!(fs::metadata(&never).expect("the target").mode() & 0o7777, 0o755, "what is there is left alone");
}

#[test]
fn target_that_a_restore_makes_is_for_its_owner_only() {
    let (host, _) = host_with_kinds();
    let target = host.path("above/target");
    host.backstay(["restore", "latest", "--target"]).arg(&target).run().expect_code(0);
    let mode = |path: &Path| fs::metadata(path).expect("a folder").mode() & 0o7777;
    assert_eq!(mode(&target), 0o700);
    assert_eq!(mode(&host.path("above")), 0o755, "what leads there is made as usual");
}

#[test]
fn file_of_a_snapshot_goes_into_the_target_and_a_file_is_no_target() {
    let (host, tree) = host_with_kinds();
    let of = format!("latest:{}", tree.join("file").display());
    let into = |target: &Path| host.backstay(["restore", &of, "--target"]).arg(target).run();
    into(&host.path("one")).expect_code(0);
    assert_eq!(fs::read_to_string(host.path("one/file")).expect("the file"), "file\n");
    let refused = into(&host.write("occupied", "mine")).expect_code(2);
    refused.says(&["occupied is a file, not a directory", "hint:", "folder"]);
    assert_eq!(fs::read_to_string(host.path("occupied")).expect("the file"), "mine");
}

#[test]
fn latest_with_a_path_is_the_newest_snapshot_that_has_the_path() {
    let (host, tree) = host_with_kinds();
    let short = |snapshot: &serde_json::Value| snapshot["id"].as_str().expect("an id")[..8].to_owned();
    let older = short(&host.snapshots()[0]);
    let mut dump = host.backstay(["backup", "--name", "dump.sql", "--command", "--", "echo", "a dump"]);
    dump.run().expect_code(0);
    let newest = short(&host.snapshots()[1]);
    let note = format!("file is not in the newest snapshot, {newest} (");
    let path = tree.join("file").display().to_string();
    let read = host.backstay(["cat", &format!("latest:{path}")]).run().expect_code(0);
    assert_eq!(read.text(), "file\n");
    let taken = format!("taking {older} (");
    read.says(&[&note, &taken]);
    host.backstay(["ls", "--at", "now", &format!(":{path}")]).run().expect_code(0).says(&[&note, &taken]);
    let target = host.path("target");
    restore_of(&host, &tree, &target, &[]).run().expect_code(0).says(&["is not in the newest snapshot", &older]);
    assert_eq!(names_in(&target), names_in(&tree));
    let dump = host.backstay(["cat", "latest:dump.sql"]).run().expect_code(0);
    assert!(!dump.stderr.contains("newest"), "{dump}");
    for reference in ["latest:/no/where", &format!("{newest}:{path}")] {
        host.backstay(["cat", reference]).run().expect_code(2).says(&["there is no", &newest]);
    }
    let of_dump = host.backstay(["cat", &format!("latest:{path}"), "--source", "dump.sql"]).run().expect_code(2);
    of_dump.says(&["there is no", &newest]);
}

#[test]
fn restore_by_an_ordinary_user_gives_them_everything_and_says_so_once() {
    need_root();
    let (host, tree) = host_with_kinds();
    let own = host.path("backstay");
    fs::copy(binary(), &own).expect("the host's folder is writable");
    shell(&host.path(""), "mkdir targets; chown -R 65534:65534 .");
    let restore = |name: &str, options: &[&str]| {
        let restore = restore_of(&host, &tree, &host.path("targets").join(name), options);
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&own).args(restore.get_args());
        command.envs(restore.get_envs().filter_map(|(name, value)| Some((name, value?)))).run()
    };
    let ran = restore("quiet", &["--verify"]).expect_code(0).says(&["all that was restored belongs to you"]);
    assert!(!ran.stderr.contains("problem") && !ran.stderr.contains("owner of"), "{ran}");
    let owners = shell(&host.path("targets/quiet"), "find . -printf '%U:%G\n' | sort -u");
    assert_eq!(owners, "65534:65534\n");
    assert_eq!(names_in(&host.path("targets/quiet")), names_in(&tree));
    restore("asked", &["--owner", "name"]).expect_code(1).says(&["owner of", "hint:", "--owner none"]);
    let none = restore("none", &["--owner", "none"]).expect_code(0);
    assert!(!none.stderr.contains("belongs to you"), "it was asked for: {none}");
}

#[test]
fn links_pipes_and_sockets_with_several_names_come_back_as_one_also_a_second_time() {
    let host = Host::with_repository();
    let tree = host.path("tree");
    fs::create_dir(&tree).expect("a folder");
    shell(&tree, "mkdir a b; ln -s to a/link; mkfifo a/pipe lone; ln -P a/link b/link; ln a/pipe b/pipe; ln a/pipe z");
    host.back_up(&[&tree]);
    let (target, expected) = (host.path("target"), listing_of(&tree));
    for _ in 0..2 {
        restore_of(&host, &tree, &target, &["--verify"]).run().expect_code(0);
        assert_same(&listing_of(&target), &expected);
    }
    let inode = |name: &str| fs::symlink_metadata(target.join(name)).expect("an entry").ino();
    let before = (inode("lone"), inode("a/link"));
    restore_of(&host, &tree, &target, &[]).run().expect_code(0);
    assert_eq!((inode("lone"), inode("a/link")), before, "what is right is not made anew");
    let never = host.path("never");
    fs::create_dir_all(never.join("a/pipe")).expect("a folder");
    fs::write(never.join("a/link"), "mine").expect("a file");
    restore_of(&host, &tree, &never, &["--overwrite", "never"]).run().expect_code(0);
    assert_eq!(fs::read_link(never.join("b/link")).expect("a link"), Path::new("to"), "linked to the user's own");
    assert_eq!(shell(&never, "stat -c %F b/pipe a/link"), "fifo\nregular file\n");
}

#[test]
fn dry_run_tells_what_would_be_written_kept_and_removed() {
    let host = Host::with_repository();
    for (name, len) in [("same", 300_000), ("edited", 2 << 20), ("missing", 100_000), ("mode", 10)] {
        host.write(&format!("tree/{name}"), noise(name, len));
    }
    let tree = host.path("tree");
    shell(&tree, "mkdir dir; ln -s same link; ln same second");
    host.back_up(&[&tree]);
    let target = host.path("target");
    let figures = |options: &[&str]| {
        let report = restore_of(&host, &tree, &target, &["--dry-run", "--json"]).args(options).run();
        let report = report.expect_code(0).json();
        let of = |name: &str| report[name].as_u64().expect("a number");
        let counts = [of("new_count"), of("changed_count"), of("same_count"), of("skipped_count"), of("deleted_count")];
        (counts, of("written_len"), of("kept_len"))
    };
    let all = 300_000 + (2 << 20) + 100_000 + 10;
    assert_eq!(figures(&[]).0, [7 + 1, 0, 0, 0, 0], "the top counts where there is no target");
    assert!(!target.exists(), "a dry run made its target");
    restore_of(&host, &tree, &target, &[]).run().expect_code(0);
    let (counts, written, kept) = figures(&["--delete"]);
    assert_eq!((counts, written, kept), ([0, 0, 7, 0, 0], 0, all));
    let edit =
        "printf X | dd of=edited bs=1 seek=1000000 conv=notrunc status=none; rm missing; chmod 400 mode; echo >extra";
    shell(&target, edit);
    let before = listing_of(&target);
    let (counts, written, _) = figures(&["--delete"]);
    assert_eq!(counts, [1, 2, 4, 0, 1]);
    assert!((100_001..1_500_000).contains(&written), "{written}");
    assert_eq!(figures(&["--overwrite", "never"]).0, [1, 0, 0, 6, 0]);
    let told = restore_of(&host, &tree, &target, &["--dry-run", "-v", "--delete"]).run().expect_code(0);
    let told = told.says(&["would change edited", "would write missing", "would change mode", "would delete extra"]);
    let told = told.says(&["1 would be new, 2 changed, 4 are right already", "1 entry would be deleted"]);
    assert!(!told.stderr.contains("second") && !told.stderr.contains(" dir\n"), "{told}");
    assert_same(&listing_of(&target), &before);
    let report = restore_of(&host, &tree, &target, &["--json"]).run().expect_code(0).json();
    assert_eq!(report["written_len"].as_u64(), Some(written), "what was foreseen was done: {report}");
}
