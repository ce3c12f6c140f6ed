//! The `backstay` binary: from the command line to an exit code.
//!
//! ```text
//! arguments ─► Context ─► commands::<verb>::run ─► Outcome ─► exit code
//!                                   └─ CommandError ─► report (message, causes, hint) ─┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `arguments`, `globals`, `words` | the command line, down to single values |
//! | `context`, `credential`, `terminal`, `interrupts`, `harden` | what a command works with |
//! | `commands` | one file per command: its arguments, and `run` |
//! | `ui`, `table`, `human`, `paint`, `watch`, `logging` | what is shown |
//! | `error`, `report`, `hints` | what went wrong, and what to do next |
//! | `allocator`, `ending` | how threads share memory, and how the process ends |
//!
//! Invariant: stdout is data, stderr is for people.
//! Never here: what backing up means; that is the engine's.

mod allocator;
mod arguments;
mod classes;
mod commands;
mod config;
mod context;
mod credential;
mod ending;
mod error;
mod globals;
mod harden;
mod hints;
mod human;
mod interrupts;
mod jobs;
mod logging;
mod paint;
mod problems;
mod report;
mod table;
mod terminal;
mod ui;
mod watch;
mod words;

use std::io::{Write as _, stdout};
use std::panic::catch_unwind;
use std::sync::{Mutex, OnceLock};

use store::{Env, Timestamp};

use crate::arguments::Arguments;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::globals::OutputArgs;
use crate::interrupts::Interrupts;
use crate::ui::Ui;

/// Threads of the async runtime; computing has a pool of its own.
const RUNTIME_THREADS: usize = 2;

fn main() {
    allocator::share();
    harden::forbid_core_dumps();
    store::install_tls();
    let done = catch_unwind(|| match Arguments::read() {
        Ok(arguments) => start(arguments),
        Err(error) => explain(&error),
    });
    // What a panic says is on stderr already.
    ending::end(done.unwrap_or(error::EXIT_UNEXPECTED))
}

/// Runs the command on a runtime. What still waits in the background then is left behind.
fn start(arguments: Arguments) -> u8 {
    let output = &arguments.globals.output;
    let ui = Ui::new(output);
    logging::install(output.verbose, &ui);
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(source) => return report::report(&CommandError::Runtime { source }, 0, &ui),
    };
    let code = runtime.block_on(run(arguments, ui));
    runtime.shutdown_background();
    code
}

async fn run(arguments: Arguments, ui: Ui) -> u8 {
    let interrupts = match Interrupts::listen(&ui) {
        Ok(interrupts) => interrupts,
        Err(source) => return report::report(&CommandError::Runtime { source }, 0, &ui),
    };
    let context = Context {
        globals: arguments.globals,
        ui,
        env: environment(),
        interrupts,
        found: OnceLock::new(),
        job_repository: Mutex::default(),
    };
    let ended = tokio::select! {
        ended = arguments.command.run(&context) => ended,
        () = context.interrupts.at_once.cancelled() => Err(CommandError::Interrupted),
    };
    match ended {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Partly) => 1,
        Ok(Outcome::Unclear) => 2,
        Err(error) => report::report(&error, context.interrupts.exit_code(), &context.ui),
    }
}

/// The clock and randomness; in debug builds replayed from `BACKSTAY_REPLAY=SECONDS:SEED`, for tests.
fn environment() -> Env {
    let replay = std::env::var("BACKSTAY_REPLAY").ok().filter(|_| cfg!(debug_assertions));
    let parts = replay.as_deref().and_then(|replay| replay.split_once(':'));
    match parts.map(|(secs, seed)| (secs.parse(), seed.parse())) {
        Some((Ok(secs), Ok(seed))) => Env::fixed(Timestamp::from_secs(secs), seed),
        _ => Env::system(),
    }
}

/// Prints help or the version on stdout, and mistakes on stderr.
fn explain(error: &clap::Error) -> u8 {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && wants_json {
        let output = OutputArgs { json: true, ..OutputArgs::default() };
        return report::report_usage(&error.render().to_string(), &Ui::new(&output));
    }
    // Help that nobody reads to its end is no failure.
    let _ = error.print().and_then(|()| stdout().flush());
    if error.use_stderr() { 2 } else { 0 }
}
