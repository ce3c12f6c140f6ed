//! Standard input and the output of commands: whole or not at all, in bounded memory, and back byte for byte.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use harness::binary::{Host, Ran, Run as _, noise};
use harness::running::{Running, file_count, is_running};
use rustix::process::Signal;

const MIB: usize = 1 << 20;

/// Backs up what a shell command prints.
fn back_up_command(host: &Host, script: &str, options: &[&str]) -> Ran {
    let mut command = host.backstay(["backup", "--name", "out", "--command"]);
    command.args(options).args(["--", "bash", "-c", script]).run()
}

/// Fails unless a producer's failure was refused and nothing was committed.
#[track_caller]
fn assert_refused(host: &Host, script: &str, texts: &[&str]) {
    back_up_command(host, script, &[]).expect_code(2).says(texts).says(&["error:", "nothing was committed", "hint:"]);
    assert!(host.snapshots().is_empty(), "committed what {script:?} printed");
}

#[test]
fn producer_that_fails_commits_nothing_however_late() {
    let host = Host::with_repository();
    assert_refused(&host, "exit 3", &["bash", "exit status 3"]);
    assert_refused(&host, "echo cannot log in >&2; exit 1", &["cannot log in", "exit status 1"]);
    assert_refused(&host, "seq 3000000; exit 7", &["exit status 7"]);
    assert_refused(&host, "seq 1000; kill -9 $$", &["signal 9"]);
    assert_refused(&host, "seq 1000; kill -TERM $$", &["signal 15"]);
    assert_refused(&host, "true", &["out is empty"]);
    host.check();
}

#[test]
fn producer_that_cannot_be_started_is_named() {
    let host = Host::with_repository();
    let mut command = host.backstay(["backup", "--name", "out", "--command", "--", "/no/such/program"]);
    command.run().expect_code(2).says(&["/no/such/program", "hint:"]);
    assert!(host.snapshots().is_empty());
}

#[test]
fn empty_output_is_committed_if_it_is_expected() {
    let host = Host::with_repository();
    back_up_command(&host, "true", &["--allow-empty"]).expect_code(0);
    assert_eq!(host.backstay(["cat", "latest"]).run().expect_code(0).stdout, b"");
}

#[test]
fn producer_that_closes_its_output_early_is_waited_for() {
    let host = Host::with_repository();
    assert_refused(&host, "seq 1000; exec >&-; sleep 0.3; exit 4", &["exit status 4"]);
    back_up_command(&host, "seq 3; exec >&-; sleep 0.3", &[]).expect_code(0);
    assert_eq!(host.backstay(["cat", "latest"]).run().expect_code(0).text(), "1\n2\n3\n");
}

#[test]
fn gigabyte_on_stderr_takes_no_memory() {
    let host = Host::with_repository();
    let script = "head -c 1G /dev/zero | tr '\\0' 'x' >&2; echo the last words >&2; echo data";
    let mut command = host.backstay(["--json", "backup", "--name", "out", "--command", "--"]);
    command.args(["bash", "-c", &format!("({script})")]);
    let sink = host.path("stderr");
    // Through a pipe and a pager that keeps only the end, as a journal would.
    let shown = format!("exec \"$@\" 2> >(tail -c 100000 >{})", sink.display());
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &shown, "bash"]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let (ran, peak_len) = Running::start(shell, false).finish();
    let report = ran.expect_code(0).json();
    assert!(peak_len < 250 * MIB as u64, "{} MiB", peak_len >> 20);
    let tail = report["stderr"].as_str().expect("the end of stderr");
    assert!(tail.ends_with("the last words\n") && tail.len() < MIB, "{} bytes", tail.len());
    assert_eq!(host.backstay(["cat", "latest"]).run().expect_code(0).text(), "data\n");
}

/// The `at`-th mebibyte of a stream that has some of everything: new noise, noise seen before, zeros and text.
fn block(at: usize) -> Vec<u8> {
    match at % 4 {
        0 => noise(&format!("block {at}"), MIB),
        1 => noise(&format!("block {}", at / 8 * 4), MIB),
        2 => vec![0; MIB],
        _ => format!("{at:>63}\n").repeat(MIB / 64).into_bytes(),
    }
}

#[test]
fn three_gigabytes_pass_in_a_quarter_of_a_gigabyte_and_come_back_the_same() {
    const BLOCKS: usize = 3 << 10;
    let host = Host::with_repository();
    let command = host.backstay(["--json", "backup", "--stdin", "--name", "stream"]);
    let mut backup = Running::start(command, true);
    let mut hasher = blake3::Hasher::new();
    for at in 0..BLOCKS {
        let block = block(at);
        hasher.update(&block);
        backup.feed(&block);
    }
    backup.end_input();
    let (ran, peak_len) = backup.finish();
    let report = ran.expect_code(0).json();
    assert_eq!(report["content_len"], BLOCKS * MIB);
    assert!(report["new_len"].as_u64() < Some((BLOCKS * MIB / 2) as u64), "{report}");
    assert!(peak_len < 250 * MIB as u64, "the backup held {} MiB", peak_len >> 20);

    let mut cat = host.backstay(["cat", "latest"]);
    let mut cat = cat.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut output = cat.stdout.take().expect("a pipe");
    let (mut found, mut buffer) = (blake3::Hasher::new(), vec![0; MIB]);
    loop {
        match output.read(&mut buffer).expect("the binary writes") {
            0 => break,
            len => found.update(&buffer[..len]),
        };
    }
    assert!(cat.wait().expect("our own child").success());
    assert_eq!(found.finalize(), hasher.finalize());
}

#[test]
fn stream_of_records_is_cut_as_finely_as_its_first_bytes_ask() {
    let host = Host::with_repository();
    let heads = [("REDIS0011", 8), ("VALKEY080", 8), ("PGDMP", 48), ("--\n-- PostgreSQL database dump\n--\n", 48)];
    for (head, kib_max) in heads {
        let mut day = [head.as_bytes(), &noise(head, 4 * MIB)].concat();
        let mut back_up = || {
            host.write("day", &day);
            for at in (MIB / 8..4 * MIB).step_by(MIB / 4) {
                day[at] ^= 1;
            }
            let mut command = host.backstay(["--json", "backup", "--stdin", "--name", "day"]);
            command.stdin(fs::File::open(host.path("day")).expect("just written")).run().expect_code(0).json()
        };
        assert!(back_up()["new_len"].as_u64() >= Some(4 * MIB as u64), "{head:?} is new");
        let second = back_up();
        assert!(second["new_len"].as_u64() < Some(16 * (kib_max << 10)), "{head:?}: {second}");
    }
}

#[test]
fn interrupted_stream_commits_nothing_and_the_next_run_reuses_what_was_stored() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let host = Host::with_repository();
        let data: Vec<u8> = (0..48).flat_map(|at| noise(&at.to_string(), MIB)).collect();
        let stream = || host.backstay(["--json", "backup", "--stdin", "--name", "stream"]);
        let mut backup = Running::start(stream(), true);
        backup.feed(&data);
        let packs = host.repository().join("packs");
        backup.wait_until("a pack", || file_count(&packs) > 0);
        backup.signal(signal);
        let (ran, _) = backup.finish();
        let error = ran.expect_code(code).stderr;
        assert!(error.contains("\"interrupted\""), "{error}");
        assert!(host.snapshots().is_empty());
        host.check();
        let mut again = Running::start(stream(), true);
        again.feed(&data);
        again.end_input();
        let report = again.finish().0.expect_code(0).json();
        assert!(report["new_len"].as_u64() < Some(data.len() as u64 * 3 / 4), "nothing was reused: {report}");
        assert!(host.backstay(["cat", "latest"]).run().expect_code(0).stdout == data);
        host.check();
    }
}

#[test]
fn interrupted_command_is_stopped_with_all_that_it_started() {
    let host = Host::with_repository();
    let numbers = host.path("processes");
    let script = format!("sleep 600 & echo $$ $! >{0}.new; mv {0}.new {0}; seq 100000; wait", numbers.display());
    let mut command = host.backstay(["backup", "--name", "out", "--command", "--", "bash", "-c"]);
    command.arg(script);
    let mut backup = Running::start(command, false);
    backup.wait_until("the command runs", || numbers.exists());
    backup.signal(Signal::TERM);
    let (ran, _) = backup.finish();
    ran.expect_code(143).says(&["nothing was committed", "hint:"]);
    let started = fs::read_to_string(&numbers).expect("the numbers");
    for process in started.split_whitespace() {
        for _ in 0..200 {
            if is_running(process) {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        assert!(!is_running(process), "process {process} of {started} is left");
    }
    assert!(host.snapshots().is_empty());
}

#[test]
fn interrupted_tree_commits_nothing_and_the_next_run_reuses_what_was_stored() {
    let host = Host::with_repository();
    for at in 0..96 {
        host.write(&format!("tree/{at}"), noise(&at.to_string(), MIB));
    }
    let tree = host.path("tree");
    let mut command = host.backstay(["backup"]);
    // Slow enough to be interrupted in the middle, on any machine.
    command.arg(&tree).args(["--limit-upload", "8M"]);
    let mut backup = Running::start(command, false);
    let packs = host.repository().join("packs");
    backup.wait_until("a pack", || file_count(&packs) > 0);
    backup.signal(Signal::INT);
    backup.finish().0.expect_code(130).says(&["stopping", "nothing was committed", "hint:"]);
    assert!(host.snapshots().is_empty());
    let report = host.back_up(&[&tree]);
    assert!(report["new_len"].as_u64() < Some(95 << 20), "nothing was reused: {report}");
    host.check();
}
