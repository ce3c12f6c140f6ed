//! `browse` through a pseudo-terminal: keys in, screen out.
//!
//! Invariant: every key waits for the screen that it should make, so that nothing depends on speed.
//! Never here: what keys mean one by one (see the command's own tests).

use std::fs;

use harness::binary::{Host, Run as _};
use harness::listing::{assert_same, listing_of};
use harness::terminal::Terminal;

const ENTER: &str = "\r";
const LEFT: &str = "\x1b[D";
const DOWN: &str = "\x1b[B";

fn with_tree() -> Host {
    let host = Host::with_repository();
    host.write("tree/notes.txt", "first line\nsecond line\n");
    host.write("tree/sub/inner", "inside");
    host.write("tree/sub/other", [0, 1, 2, 3]);
    for at in 0..40 {
        host.write(&format!("tree/many/file-{at:02}"), at.to_string());
    }
    host.backstay(["backup", "--host", "web1", "--tag", "nightly"]).arg(host.path("tree")).run().expect_code(0);
    host
}

/// Opens folder after folder, down to the tree. Each folder on the way holds one that is listed first once it is filtered.
fn at_the_tree(host: &Host) -> Terminal {
    let mut terminal = Terminal::start(host.backstay(["browse"]));
    terminal.wait_for(" of web1");
    terminal.press(ENTER);
    let path = host.path("tree").display().to_string();
    for name in path.trim_start_matches('/').split('/') {
        terminal.wait(name, |screen| screen.contains(&format!(" {name}/")));
        terminal.press(ENTER);
        terminal.wait(name, |screen| {
            screen.lines().next().is_some_and(|head| head.trim_end().ends_with(&format!("› {name}")))
        });
    }
    terminal.wait_for("notes.txt");
    terminal
}

#[test]
fn folders_open_files_show_their_text_and_a_filter_narrows_the_list_as_one_types() {
    let host = with_tree();
    let mut terminal = at_the_tree(&host);
    terminal.press("/");
    terminal.wait_for("filter: _");
    terminal.press("NOT");
    let shown = terminal.wait("one line", |screen| screen.contains("filter: NOT_") && !screen.contains("sub/"));
    assert!(shown.contains("notes.txt") && !shown.contains("many/"), "{shown}");
    terminal.press(ENTER);
    terminal.wait_for("q quit");
    terminal.press(ENTER);
    let shown = terminal.wait_for("second line");
    assert!(shown.contains("first line"), "{shown}");
    terminal.press(LEFT);
    terminal.wait_for("q quit");
    terminal.press("/");
    terminal.wait_for("filter: NOT_");
    terminal.press("\x7f\x7f\x7fsub");
    terminal.wait_for("filter: sub_");
    terminal.press(ENTER);
    terminal.wait_for("q quit");
    terminal.press(ENTER);
    terminal.wait("inner", |screen| screen.contains("inner") && screen.contains("› sub"));
    terminal.press(DOWN);
    terminal.press(ENTER);
    terminal.wait_for("no text");
    terminal.press("q");
    terminal.wait_for("inner");
    terminal.press("q");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn what_is_marked_is_restored_after_a_plan_and_a_yes() {
    let host = with_tree();
    let mut terminal = at_the_tree(&host);
    let target = host.path("target");
    terminal.press(" ");
    terminal.wait_for("1 marked");
    terminal.press(" ");
    terminal.wait_for("2 marked");
    for answer in ["n", "y"] {
        terminal.press("r");
        terminal.wait_for("restore to folder: _");
        terminal.press(&target.display().to_string());
        terminal.wait_for(&format!("{}_", target.display()));
        terminal.press(ENTER);
        let plan = terminal.wait_for("41 new");
        assert!(plan.contains("1 new") && plan.contains("y restore") && !target.exists(), "{plan}");
        terminal.press(answer);
        terminal.wait_for(if answer == "y" { "restored 41 entries" } else { "nothing was restored" });
        assert_eq!(target.exists(), answer == "y");
    }
    terminal.press("\x03");
    assert_eq!(terminal.end(), Some(0));
    let id = host.snapshots()[0]["id"].as_str().expect("an id")[..8].to_owned();
    let tree = target.join(id).join("files").join(host.path("tree").strip_prefix("/").expect("absolute"));
    assert_same(&listing_of(&tree.join("many")), &listing_of(&host.path("tree/many")));
    assert_eq!(fs::read(tree.join("notes.txt")).expect("is restored"), b"first line\nsecond line\n");
    assert!(!tree.join("sub").exists());
}

#[test]
fn without_a_terminal_browse_says_what_to_use_instead() {
    let host = Host::with_repository();
    host.backstay(["browse"]).run().expect_code(2).says(&["needs a terminal", "backstay ls"]);
}
