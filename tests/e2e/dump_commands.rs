//! `dump`, as typed: what `tar -x` and Python's zip reader make of the archives is what was backed up.
//!
//! Invariant: archives are read by programs that share no code with us.
//! Never here: restoring (see `fidelity`).

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use harness::binary::{Host, Ran, Run as _, is_root, noise, shell};
use harness::listing::{assert_same, listing_of};

use crate::fidelity::{host_with_everything, rsync_differences};

/// Dumps `tree` in a form, and gives the archive's path.
fn dump(host: &Host, tree: &Path, options: &[&str], code: i32) -> (PathBuf, Ran) {
    let ran = host.backstay(["dump"]).args(options).arg(format!("latest:{}", tree.display())).run().expect_code(code);
    (host.write("archive", &ran.stdout), ran)
}

/// What `tar -x` makes of an archive.
fn extracted(host: &Host, archive: &Path) -> PathBuf {
    let target = host.path("extracted");
    fs::create_dir(&target).expect("a folder");
    let attributes =
        if is_root() { "--xattrs --xattrs-include='[!s]*' --same-owner" } else { "--xattrs --xattrs-include='user.*'" };
    shell(&target, &format!("tar -xp --acls {attributes} -f '{}'", archive.display()));
    target
}

#[test]
fn tar_of_everything_extracts_to_what_was_backed_up() {
    let (host, tree) = host_with_everything();
    fs::create_dir_all(tree.join("a".repeat(120)).join("b".repeat(120))).expect("creates");
    fs::write(tree.join("a".repeat(120)).join("b".repeat(120)).join("c".repeat(120)), "far").expect("writes");
    host.back_up(&[&tree]);
    let (archive, ran) = dump(&host, &tree, &[], 0);
    ran.says(&["socket is left out"]);
    fs::remove_file(tree.join("socket")).expect("removes");
    let target = extracted(&host, &archive);
    shell(Path::new("/"), &format!("touch -r '{}' '{}'", target.display(), tree.display()));
    assert_same(&listing_of(&target), &listing_of(&tree));
    assert_eq!(rsync_differences(&tree, &target), "");
    let blocks = |folder: &Path| fs::metadata(folder.join("sparse")).expect("is there").blocks();
    assert!(blocks(&target) < 1024, "holes stay holes: {} blocks", blocks(&target));
    let names = shell(
        Path::new("/"),
        &format!("python3 -c \"import tarfile; print(len(tarfile.open('{}').getmembers()))\"", archive.display()),
    );
    assert_eq!(names.trim(), listing_of(&tree).len().to_string());
}

#[test]
fn what_was_forgotten_and_pruned_while_it_was_read_is_told_from_damage() {
    for (command, code) in [("cat", 2), ("dump", 1)] {
        let host = Host::with_repository();
        let file = host.write("tree/file", noise("much", 80 << 20));
        host.back_up(&[&host.path("tree")]);
        let id = host.snapshots()[0]["id"].as_str().expect("an id").to_owned();
        fs::write(&file, "little").expect("writes");
        host.back_up(&[&host.path("tree")]);
        let named = format!("{id}:{}", file.display());
        let mut reading = host.backstay([command, &named]);
        let mut reading = reading.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut begun = vec![0; 1 << 20];
        reading.stdout.as_mut().expect("a pipe").read_exact(&mut begun).expect("reads");
        host.backstay(["forget", "--yes", &id]).run().expect_code(0);
        host.backstay(["prune", "--yes"]).run().expect_code(0);
        let ended = reading.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{command}: {said}");
        assert!(said.contains("was forgotten") && !said.contains("check --read-data"), "{command}: {said}");
        assert_eq!(said.matches("zeros in place of").count(), usize::from(command == "dump"), "{said}");
        host.check();
    }
}

#[test]
fn tar_holds_lengths_and_numbers_that_no_header_can_say() {
    let host = Host::with_repository();
    fs::create_dir(host.path("tree")).expect("creates");
    let file = fs::File::create(host.path("tree/huge")).expect("creates");
    file.set_len(9 << 30).expect("grows");
    file.write_all_at(&noise("data", 100_000), 5 << 30).expect("writes");
    if is_root() {
        shell(&host.path("tree"), "chown 3000000:4000000 huge");
    }
    host.back_up(&[&host.path("tree")]);
    let (archive, _) = dump(&host, &host.path("tree"), &[], 0);
    assert!(fs::metadata(&archive).expect("is there").len() < 1 << 20, "only what is data");
    let target = extracted(&host, &archive);
    let [there, back] = [host.path("tree/huge"), target.join("huge")].map(|path| fs::metadata(path).expect("is there"));
    assert_eq!((there.len(), there.uid(), there.gid()), (back.len(), back.uid(), back.gid()));
    let mut found = vec![0; 100_002];
    fs::File::open(target.join("huge")).expect("opens").read_exact_at(&mut found, (5 << 30) - 1).expect("reads");
    assert_eq!((found[0], &found[1..100_001], found[100_001]), (0, noise("data", 100_000).as_slice(), 0));
}

#[test]
fn zip_extracts_to_the_same_files() {
    let host = Host::with_repository();
    host.write("tree/text", "all work and no play\n".repeat(10_000));
    host.write("tree/sub/noise", noise("noise", 3 << 20));
    host.write("tree/sub/ünïcode", "");
    shell(
        &host.path("tree"),
        "ln -s sub/noise link; chmod 750 text; touch -d '2020-02-02 02:02:02Z' text; mkdir empty",
    );
    host.back_up(&[&host.path("tree")]);
    let (archive, _) = dump(&host, &host.path("tree"), &["--format", "zip"], 0);
    let target = host.path("unpacked");
    let script = format!(
        "import sys,zipfile\nz=zipfile.ZipFile('{}')\nassert z.testzip() is None\nz.extractall('{}')\n\
         for i in z.infolist(): print(i.filename, oct(i.external_attr>>16), i.date_time)",
        archive.display(),
        target.display()
    );
    let listed = shell(Path::new("/"), &format!("TZ=UTC python3 -c \"{script}\""));
    for name in ["text", "sub/noise", "sub/ünïcode"] {
        let [there, back] = [host.path("tree"), target.clone()].map(|folder| fs::read(folder.join(name)).expect(name));
        assert!(there == back, "{name}");
    }
    assert!(target.join("empty").is_dir());
    for line in ["text 0o100750 (2020, 2, 2, 2, 2, 2)", "link 0o120777"] {
        assert!(listed.contains(line), "{line}: {listed}");
    }
    assert!(fs::metadata(&archive).expect("is there").len() < 4 << 20, "it is compressed");
}

#[test]
fn one_file_is_dumped_by_its_name_and_nothing_by_an_error() {
    let host = Host::with_repository();
    host.write("tree/sub/file", "content");
    host.back_up(&[&host.path("tree")]);
    let (archive, _) = dump(&host, &host.path("tree/sub/file"), &[], 0);
    assert_eq!(
        shell(Path::new("/"), &format!("tar -tf '{0}'; tar -xOf '{0}' file", archive.display())),
        "file\ncontent"
    );
    dump(&host, &host.path("tree/none"), &[], 2).1.says(&["there is no", "hint:"]);
}

#[test]
fn file_whose_content_is_lost_is_left_out_and_named_and_the_rest_is_there() {
    let host = Host::with_repository();
    host.write("tree/first", noise("first", 200_000));
    host.back_up(&[&host.path("tree")]);
    let packs = |host: &Host| shell(&host.repository(), "find packs -type f -size +100k | sort");
    let old = packs(&host);
    host.write("tree/second", noise("second", 200_000));
    host.back_up(&[&host.path("tree")]);
    assert_ne!(old, packs(&host));
    shell(&host.repository(), &format!("rm '{}'", old.trim()));
    let (archive, ran) = dump(&host, &host.path("tree"), &[], 1);
    ran.says(&["tree/first: left out", "is lost", "hint:"]);
    assert_eq!(shell(Path::new("/"), &format!("tar -tf '{}'", archive.display())), "./\nsecond\n");
    let zip = dump(&host, &host.path("tree"), &["--format", "zip"], 1).0;
    let names = shell(
        Path::new("/"),
        &format!("python3 -c \"import zipfile; print(zipfile.ZipFile('{}').namelist())\"", zip.display()),
    );
    assert_eq!(names.trim(), "['second']");
}
