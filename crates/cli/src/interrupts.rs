//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.
//!
//! ```text
//! first    token cancelled: the operation ends in good order and says that it was interrupted
//! second   the operation is dropped, which kills what it started; nothing is waited for
//! ```
//!
//! Invariant: the exit code is 128 plus the signal's number.
//! Never here: what an orderly end is; the operation that holds the token knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::ending;
use crate::ui::Ui;

const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

/// How long dropping an operation may take before the process ends regardless.
const DROPPING_FOR: Duration = Duration::from_secs(1);

/// What was asked for so far. Clones see the same.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    /// Cancelled by the first signal.
    pub(crate) token: CancellationToken,
    /// Cancelled by the second.
    pub(crate) at_once: CancellationToken,
    signal: Arc<AtomicU8>,
}

impl Interrupts {
    /// Starts listening. Must be called within a tokio runtime.
    pub(crate) fn listen(ui: &Ui) -> std::io::Result<Self> {
        let (token, at_once) = (CancellationToken::new(), CancellationToken::new());
        let heard = Self { token, at_once, signal: Arc::new(AtomicU8::new(0)) };
        let (int, term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(heard.clone().obey(int, term, ui.clone()));
        Ok(heard)
    }

    /// 130 or 143.
    pub(crate) fn exit_code(&self) -> u8 {
        128 + self.signal.load(Ordering::Relaxed).max(SIGINT)
    }

    async fn obey(self, mut int: Signal, mut term: Signal, ui: Ui) {
        self.hear(&mut int, &mut term).await;
        self.token.cancel();
        ui.note("stopping; press Ctrl-C again to stop at once");
        self.hear(&mut int, &mut term).await;
        self.at_once.cancel();
        tokio::time::sleep(DROPPING_FOR).await;
        ending::end(self.exit_code());
    }

    async fn hear(&self, int: &mut Signal, term: &mut Signal) {
        let number = tokio::select! {
            _ = int.recv() => SIGINT,
            _ = term.recv() => SIGTERM,
        };
        self.signal.store(number, Ordering::Relaxed);
    }
}
