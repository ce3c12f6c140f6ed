//! What the crates below tell through `tracing`, on stderr.
//!
//! | flags | shown |
//! |---|---|
//! | `-q` | errors |
//! | none | warnings: retries, objects that are passed over |
//! | `-v`, `-vv`, `-vvv` | steps, decisions, everything |
//!
//! What a producer writes to its stderr comes this way too, and is shown as it is whatever the flags.
//!
//! Invariant: lines go above a progress bar, not into it.
//! Never here: messages of ours to people (see `ui`).

use std::fmt;
use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::paint::Paint;
use crate::ui::Ui;

/// The engine tells a producer's lines under this name.
const PRODUCER: &str = "backstay::producer";
const CRATES: [&str; 7] = ["backstay", "engine", "store", "source", "pack", "seal", "chunk"];

/// Installs the subscriber for the whole process.
pub(crate) fn install(verbosity: u8, ui: &Ui) {
    let (ours, others) = match (ui.is_quiet, verbosity) {
        (true, _) => ("error", "error"),
        (false, 0) => ("warn", "error"),
        (false, 1) => ("info", "warn"),
        (false, 2) => ("debug", "warn"),
        (false, _) => ("trace", "debug"),
    };
    let directives = CRATES.iter().map(|name| format!(",{name}={ours}")).collect::<String>();
    let installed = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{others}{directives},{PRODUCER}=info")))
        .with_writer(AboveBars(ui.bars.clone()))
        .with_ansi(false)
        .event_format(Plain { paint: ui.stderr, names_source: verbosity > 1 })
        .try_init();
    // An error says that one is installed already; there is nothing to be lost.
    drop(installed);
}

/// `warning: trying again error=… pause=…`.
struct Plain {
    paint: Paint,
    names_source: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        if metadata.target() != PRODUCER {
            let level = match *metadata.level() {
                Level::ERROR => self.paint.red("error:"),
                Level::WARN => self.paint.yellow("warning:"),
                Level::INFO => "info:".to_owned(),
                Level::DEBUG => "debug:".to_owned(),
                Level::TRACE => "trace:".to_owned(),
            };
            write!(out, "{level} ")?;
            if self.names_source {
                write!(out, "{}: ", metadata.target())?;
            }
        }
        ctx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Stderr, with progress bars out of the way meanwhile.
struct AboveBars(MultiProgress);

/// A line that is being put together; written when dropped.
struct Line {
    bars: MultiProgress,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bars: self.0.clone(), text: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.text);
        self.bars.suspend(|| io::stderr().lock().write_all(&text))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Nothing can be done if stderr is gone.
        let _ = self.flush();
    }
}
