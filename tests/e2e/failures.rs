//! What `run` says and does when sources or hooks of a job fail.
//!
//! Invariant: each failure is told with its own reason, its own next step, and its own exit code.
//! Never here: in which ways a source fails (see `bad_sources`).

use harness::binary::{Host, Ran, Run as _};

/// A host whose configuration names its repository and what is given.
fn host_with(rest: &str) -> Host {
    let host = Host::with_repository();
    let (repository, password) = (host.repository(), host.path("password"));
    let front = format!(
        "[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n",
        repository.display(),
        password.display()
    );
    host.write("backstay.toml", front + rest);
    host
}

fn run(host: &Host, words: &[&str]) -> Ran {
    host.backstay(words).current_dir(host.path("")).run()
}

const DOWN: &str = "[sources.down]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:1\"]\n\
     [sources.dies]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"exit 3\"]\n";

#[test]
fn job_of_which_everything_fails_tells_every_reason() {
    let host = host_with(&format!("{DOWN}[jobs.all]\nsources = [\"down\", \"dies\"]\n"));
    let ran = run(&host, &["run", "all"]).expect_code(2);
    ran.says(&["problem: down: redis at 127.0.0.1:1", "next: see that it runs", "problem: dies: ", "exit status 3"])
        .says(&["none of 2 components could be backed up"]);
    let told = run(&host, &["run", "all", "--json"]).expect_code(2).json_error();
    let components = told["components"].as_array().expect("components");
    let text = |number: usize, key: &str| components[number][key].as_str().unwrap_or_default().to_owned();
    assert_eq!((text(0, "name"), text(1, "name")), ("down".into(), "dies".into()), "{told}");
    assert!(text(0, "reason").contains("127.0.0.1:1") && text(1, "reason").contains("exit status 3"), "{told}");
    assert!(text(0, "hint").contains("see that it runs"), "{told}");
}

#[test]
fn component_that_fails_beside_others_has_a_next_step() {
    let host = host_with(&format!(
        "{DOWN}[sources.fine]\nkind = \"command\"\ncommand = [\"echo\", \"x\"]\n[jobs.all]\nsources = [\"fine\", \"down\"]\n"
    ));
    run(&host, &["run", "all"]).expect_code(1).says(&["problem: down: redis at 127.0.0.1:1", "next: see that it runs"]);
    let told = run(&host, &["run", "all", "--json"]).expect_code(1).json();
    let hint = told["components"][1]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("see that it runs") && told["components"][0]["hint"].is_null(), "{told}");
}

#[test]
fn before_hook_that_fails_is_followed_by_the_one_for_failures() {
    let host = host_with(
        "[sources.fine]\nkind = \"command\"\ncommand = [\"echo\", \"x\"]\n[jobs.hooked]\nsources = [\"fine\"]\n\
         hooks = { before = [\"sh\", \"-c\", \"exit 4\"], after = [\"touch\", \"after\"], \
         on_failure = [\"sh\", \"-c\", \"echo $BACKSTAY_OUTCOME > failure\"] }\n",
    );
    run(&host, &["run", "hooked"]).expect_code(2).says(&["the before hook sh", "hint: make the hook work"]);
    let failure = std::fs::read_to_string(host.path("failure")).unwrap_or_default();
    assert_eq!((failure.trim(), host.path("after").exists()), ("failed", false));
    assert!(host.snapshots().is_empty());
}

#[test]
fn source_that_shrinks_is_told_about_the_key_which_lets_it() {
    let sources = |more: &str| {
        format!(
            "[sources.log]\nkind = \"files\"\npaths = [\"tree\"]\n{more}\
             [sources.fine]\nkind = \"command\"\ncommand = [\"echo\", \"x\"]\n\
             [jobs.one]\nsources = [\"log\"]\n[jobs.two]\nsources = [\"log\", \"fine\"]\n"
        )
    };
    let host = host_with(&sources(""));
    let file = host.write("tree/file", "content");
    run(&host, &["run", "one"]).expect_code(0);
    run(&host, &["run", "two"]).expect_code(0);
    std::fs::remove_file(file).expect("removes");
    for (job, code) in [("one", 2), ("two", 1)] {
        let ran = run(&host, &["run", job]).expect_code(code).says(&["shrink = { percent_max = 100 }", "[sources."]);
        assert!(!ran.stderr.contains("--allow-empty"), "{ran}");
    }
    let front = std::fs::read_to_string(host.path("backstay.toml")).expect("reads");
    let (repository, _) = front.split_once("[sources.log]").expect("has sources");
    host.write("backstay.toml", format!("{repository}{}", sources("shrink = { percent_max = 100 }\n")));
    run(&host, &["run", "one"]).expect_code(0);
    run(&host, &["run", "two"]).expect_code(0);
}

#[test]
fn no_command_ends_by_way_of_what_libraries_do_at_their_end() {
    // What is left behind would meet locks that are gone, and abort in place of the exit code: three runs of a hundred on a full disk.
    let host = Host::with_repository();
    let ends: [(&[&str], i32); 5] = [
        (&["snapshots"], 0),
        (&["--help"], 0),
        (&["snapshots", "--nonsense"], 2),
        (&["cat", "latest:nothing"], 2),
        (&["snapshots", "--password-file", "/nowhere"], 2),
    ];
    for (number, (words, code)) in ends.into_iter().enumerate() {
        let folder = host.path(&format!("loader {number}"));
        std::fs::create_dir(&folder).expect("a folder");
        let mut command = host.backstay(words);
        command.env("LD_DEBUG", "files").env("LD_DEBUG_OUTPUT", folder.join("said"));
        command.run().expect_code(code);
        let said = std::fs::read_dir(&folder).expect("lists").map(|file| file.expect("lists").path());
        let said: String = said.map(|path| std::fs::read_to_string(path).expect("reads")).collect();
        assert!(said.contains("calling init"), "{words:?}: the loader says nothing: {said}");
        assert!(!said.contains("calling fini"), "{words:?}");
    }
}
