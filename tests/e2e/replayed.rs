//! A store that shows an older state of itself, and one whose configuration is damaged, to the real binary.
//!
//! Invariant: who has seen more is told what is missing, and a key epoch that went back is refused.
//! Never here: how a host remembers (see `vanished` and `roles`).

use std::fs;
use std::path::Path;

use harness::binary::{Host, Run as _, set_mode, shell};

/// Puts `from`, a copy of a repository, in place of `to`.
fn replay(from: &Path, to: &Path) {
    shell(Path::new("/"), &format!("rm -rf '{to}' && cp -a '{from}' '{to}'", to = to.display(), from = from.display()));
}

fn overwrite(path: &Path, bytes: impl AsRef<[u8]>) {
    set_mode(path, 0o600);
    fs::write(path, bytes).expect("the repository is writable");
}

#[test]
fn older_state_of_a_store_is_told_to_who_has_seen_the_newer_and_nothing_is_lost() {
    let host = Host::with_repository();
    let (older, newer) = (host.path("older"), host.path("newer"));
    let file = host.write("tree/file", "precious");
    host.back_up(&[&host.path("tree")]);
    replay(&host.repository(), &older);
    host.write("tree/second", "of the second day");
    host.back_up(&[&host.path("tree")]);
    let second = host.snapshots()[1]["id"].as_str().expect("an id").to_owned();
    replay(&host.repository(), &newer);

    replay(&older, &host.repository());
    for command in [vec!["snapshots"], vec!["check"], vec!["backup", "/etc/hostname"]] {
        let ran = host.backstay(command).run().expect_code(0);
        ran.says(&["warning:", "vanished", &second, "who removed what"]);
    }
    let path = format!("latest:{}", file.display());
    assert_eq!(
        host.backstay(["cat", "--source", host.path("tree").to_str().expect("plain"), &path])
            .run()
            .expect_code(0)
            .text(),
        "precious"
    );

    replay(&newer, &host.repository());
    host.backstay(["key", "rotate"]).run().expect_code(0);
    host.backstay(["snapshots"]).run().expect_code(0);
    let rotated = host.path("rotated");
    replay(&host.repository(), &rotated);
    replay(&newer, &host.repository());
    for command in [vec!["snapshots"], vec!["backup", "/etc/hostname"], vec!["cat", &path]] {
        let ran = host.backstay(command).run().expect_code(2);
        ran.says(&["error:", "epoch 1", "epoch 2", "rolled back", "hint:", "backstay cache clear"]);
    }
    replay(&rotated, &host.repository());
    let second = format!("{second}:{}", host.path("tree/second").display());
    assert_eq!(host.backstay(["cat", &second]).run().expect_code(0).text(), "of the second day");
    host.check();
}

#[test]
fn damaged_configuration_is_named_and_only_two_of_them_shut_a_repository() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "precious");
    host.back_up(&[&host.path("tree")]);
    let path = format!("latest:{}", file.display());
    let places = ["config", "config-copy"].map(|name| host.repository().join(name));
    let whole = fs::read(&places[0]).expect("the configuration");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let harms = [vec![], whole[..whole.len() - 1].to_vec(), flipped(whole.len() / 2)];
    for (at, harm) in harms.into_iter().enumerate() {
        for place in &places {
            overwrite(place, &harm);
            let name = place.file_name().and_then(|name| name.to_str()).expect("a plain name");
            assert_eq!(host.backstay(["cat", &path]).run().expect_code(0).text(), "precious", "{name} {at}");
            let ran = host.backstay(["check"]).run().expect_code(1).says(&["hint:", "config-copy"]);
            assert!(ran.text().contains(&format!("damage: {name}: ")), "{}", ran.text());
            overwrite(place, &whole);
        }
        for place in &places {
            overwrite(place, &harm);
        }
        for command in [vec!["backup", "/etc/hostname"], vec!["check"], vec!["cat", &path]] {
            host.backstay(command).run().expect_code(2).says(&["error: config", "hint:", "copy of the repository"]);
        }
        for place in &places {
            overwrite(place, &whole);
        }
    }
    host.check();
}

#[test]
fn damaged_configuration_is_warned_of_once_in_each_command_that_its_copy_serves() {
    let host = Host::with_repository();
    let tree = host.path("tree");
    let file = host.write("tree/file", "precious");
    host.back_up(&[&tree]);
    let (path, wrong) = (format!("latest:{}", file.display()), host.write_secret("wrong", "wrong"));
    for (name, warnings) in [("config", 1), ("config-copy", 0)] {
        let place = host.repository().join(name);
        let whole = fs::read(&place).expect("the configuration");
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        overwrite(&place, flipped);
        let run = |command: &[&str], options: &[&Path], code: i32| {
            let ran = host.backstay(command).args(options).run().expect_code(code);
            let told = ran.stderr.matches("config is damaged; its second copy is used").count();
            assert_eq!(told, warnings, "{name}: {ran}");
            ran
        };
        assert_eq!(run(&["cat", &path], &[], 0).text(), "precious");
        run(&["snapshots"], &[], 0);
        run(&["backup"], &[&tree], 0);
        // That a password opens nothing is no damage, and is told as such.
        run(&["snapshots", "--password-file"], &[&wrong], 2).says(&["error: no key", "password", "hint:"]);
        overwrite(&place, whole);
    }
    host.check();
}
