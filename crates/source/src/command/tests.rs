//! Commands: their output, their ends, and that none outlives its producer.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::StreamExt as _;

use super::*;
use crate::ErrorKind;

fn sh(script: &str) -> CommandLine {
    CommandLine::new("sh", ["-c", script])
}

async fn output_of(producer: &mut Producer) -> Vec<u8> {
    let mut output = Vec::new();
    while let Some(item) = producer.next().await {
        output.extend_from_slice(&item.unwrap());
    }
    output
}

async fn run(script: &str) -> (Vec<u8>, ProducerEnd) {
    let mut producer = Producer::spawn(&sh(script), |_| {}).unwrap();
    let output = output_of(&mut producer).await;
    (output, producer.finish().await.unwrap())
}

async fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_running(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
}

#[tokio::test]
async fn a_command_yields_what_it_prints_and_how_it_ended() {
    let (output, end) = run("printf one; printf two >&2").await;
    assert_eq!(output, b"one");
    assert_eq!(end, ProducerEnd { status: ProducerStatus::Exited(0), stderr_tail: b"two".to_vec(), bytes: 3 });
    assert!(end.is_success());
}

#[tokio::test]
async fn a_command_that_fails_or_is_killed_says_how() {
    let (_, failed) = run("echo partial; exit 3").await;
    assert_eq!((failed.status, failed.bytes), (ProducerStatus::Exited(3), 8));
    let (_, killed) = run("kill -TERM $$").await;
    assert_eq!(killed.status, ProducerStatus::Signalled(15));
    assert!(!killed.is_success());
    assert_eq!(std::process::ExitStatus::from_raw(15).signal(), Some(15));
}

#[tokio::test]
async fn a_command_that_prints_nothing_yields_nothing() {
    let (output, end) = run("true").await;
    assert!(output.is_empty());
    assert_eq!((end.is_success(), end.bytes), (true, 0));
}

#[tokio::test]
async fn a_missing_program_is_the_callers_mistake() {
    let error = Producer::spawn(&CommandLine::new("/no/such program", ["x"]), |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "command /no/such program cannot be started");
}

#[tokio::test]
async fn items_are_full_except_the_last() {
    let mut producer = Producer::spawn(&sh("head -c 3000000 /dev/zero"), |_| {}).unwrap();
    let mut lens = Vec::new();
    while let Some(item) = producer.next().await {
        lens.push(item.unwrap().len());
    }
    assert_eq!(lens, [ITEM_LEN, ITEM_LEN, 3_000_000 - 2 * ITEM_LEN]);
    assert_eq!(producer.finish().await.unwrap().bytes, 3_000_000);
}

#[tokio::test]
async fn a_command_that_closes_its_output_early_is_waited_for() {
    let began = Instant::now();
    let (output, end) = run("echo early; exec >&-; sleep 0.5; exit 7").await;
    assert_eq!((output.as_slice(), end.status), (b"early\n".as_slice(), ProducerStatus::Exited(7)));
    assert!(began.elapsed() >= Duration::from_millis(450));
}

#[tokio::test]
async fn much_written_to_stderr_neither_blocks_nor_is_kept() {
    let lines = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lines);
    let script = "yes 123456789 | head -c 200000000 >&2; echo last >&2; echo done";
    let mut producer = Producer::spawn(&sh(script), move |line| {
        assert!(line == b"123456789" || line == b"last");
        counted.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!(output_of(&mut producer).await, b"done\n");
    let end = producer.finish().await.unwrap();
    assert_eq!(end.stderr_tail.len(), STDERR_TAIL_LEN_MAX);
    assert!(end.stderr_tail.ends_with(b"123456789\nlast\n"));
    assert_eq!(lines.load(Ordering::Relaxed), 20_000_001);
}

#[tokio::test]
async fn stdin_is_empty_and_the_environment_and_directory_are_those_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = sh("cat; printf %s:%s \"$GREETING\" \"$PWD\"");
    command.env.push(("GREETING".into(), "hello".into()));
    command.cwd = Some(dir.path().to_owned());
    let mut producer = Producer::spawn(&command, |_| {}).unwrap();
    assert_eq!(output_of(&mut producer).await, format!("hello:{}", dir.path().display()).into_bytes());
}

#[tokio::test]
async fn dropping_a_producer_kills_all_that_it_started() {
    let pids = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&pids);
    let script = "sleep 1000 & echo $! >&2; sh -c 'sleep 1000' & echo $! >&2; echo $$ >&2; wait";
    let producer = Producer::spawn(&sh(script), move |line| {
        told.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap());
    })
    .unwrap();
    until(|| pids.lock().unwrap().len() == 3).await;
    let pids = pids.lock().unwrap().clone();
    assert!(pids.iter().all(|pid| is_running(pid)));
    drop(producer);
    until(|| !pids.iter().any(|pid| is_running(pid))).await;
}

#[tokio::test]
async fn cancelling_the_wait_kills_the_command() {
    let pid = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&pid);
    let producer = Producer::spawn(&sh("echo $$ >&2; exec >&-; sleep 1000"), move |line| {
        *told.lock().unwrap() = String::from_utf8(line.to_vec()).unwrap();
    })
    .unwrap();
    until(|| !pid.lock().unwrap().is_empty()).await;
    let waited = tokio::time::timeout(Duration::from_millis(50), producer.finish()).await;
    assert!(waited.is_err());
    let pid = pid.lock().unwrap().clone();
    until(|| !is_running(&pid)).await;
}

#[tokio::test]
async fn finishing_does_not_wait_for_a_background_process_that_holds_stderr() {
    let began = Instant::now();
    let (_, end) = run("sleep 30 >/dev/null & echo said >&2; exit 0").await;
    assert!(end.is_success());
    assert_eq!(end.stderr_tail, b"said\n");
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn finishing_before_the_output_ended_closes_the_pipe() {
    let mut producer = Producer::spawn(&sh("exec cat /dev/zero"), |_| {}).unwrap();
    assert_eq!(producer.next().await.unwrap().unwrap().len(), ITEM_LEN);
    let end = producer.finish().await.unwrap();
    assert_eq!((end.status, end.bytes), (ProducerStatus::Signalled(13), ITEM_LEN as u64));
}

async fn failure_of(script: &str, patience: Patience) -> (SourceError, String) {
    let pid = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&pid);
    let script = format!("echo $$ >&2; {script}");
    let started = Producer::spawn(&sh(&script), move |line| {
        *told.lock().unwrap() = String::from_utf8(line.to_vec()).unwrap();
    });
    let mut producer = started.unwrap().with_patience(patience);
    let failed = loop {
        match producer.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                drop(producer);
                break error;
            }
            None => break producer.finish().await.unwrap_err(),
        }
    };
    let pid = pid.lock().unwrap().clone();
    (failed, pid)
}

#[tokio::test]
async fn a_command_that_says_nothing_for_too_long_is_stopped() {
    let patience = Patience { idle_for: Some(Duration::from_millis(300)), total_for: None };
    for script in ["echo some; sleep 1000", "exec >&-; sleep 1000"] {
        let (error, pid) = failure_of(script, patience).await;
        assert_eq!(error.to_string(), "command sh: it printed nothing for 300ms and was stopped");
        assert_eq!(error.kind(), ErrorKind::Retry);
        until(|| !is_running(&pid)).await;
    }
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_stopped_however_much_it_says() {
    let second = Some(Duration::from_secs(1));
    let patience = Patience { idle_for: second, total_for: second };
    for script in ["while :; do echo more; sleep 0.1; done", "exec >&-; sleep 1000"] {
        let (error, pid) = failure_of(script, Patience { idle_for: None, ..patience }).await;
        assert_eq!(error.to_string(), "command sh: it did not end within 1s and was stopped");
        until(|| !is_running(&pid)).await;
    }
}

#[tokio::test]
async fn a_slow_reader_is_not_taken_for_a_silent_command() {
    let patience = Patience { idle_for: Some(Duration::from_millis(500)), total_for: None };
    let script = "for i in 1 2 3; do head -c 3000000 /dev/zero; sleep 0.2; done";
    let mut producer = Producer::spawn(&sh(script), |_| {}).unwrap().with_patience(patience);
    let mut len = 0;
    while let Some(item) = producer.next().await {
        len += item.unwrap().len();
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(len, 9_000_000);
    assert!(producer.finish().await.unwrap().is_success());
}

#[tokio::test]
async fn a_consumer_reads_what_it_is_fed_and_says_why_it_stopped() {
    let mut consumer = Consumer::spawn(&sh("wc -c >&2"), |_| {}).unwrap();
    for _ in 0..3 {
        assert!(consumer.write(&[b'x'; 100_000]).await.unwrap());
    }
    assert_eq!(consumer.finish().await.unwrap().stderr_tail, b"300000\n");
    let mut refuses = Consumer::spawn(&sh("echo no more >&2; exit 4"), |_| {}).unwrap();
    while refuses.write(&[b'x'; 100_000]).await.unwrap() {}
    let end = refuses.finish().await.unwrap();
    assert_eq!((end.status, end.stderr_tail.as_slice()), (ProducerStatus::Exited(4), b"no more\n".as_slice()));
}

#[test]
fn values_of_variables_are_not_shown() {
    let mut command = sh("true");
    command.env.push(("PGPASSWORD".into(), "secret".into()));
    let shown = format!("{command:?}");
    assert!(shown.contains("PGPASSWORD") && !shown.contains("secret"), "{shown}");
}
