//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.
//!
//! Invariant: the exit code is 128 plus the signal's number.
//! Never here: what an orderly end is; the operation that holds the token knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::ui::Ui;

const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

/// What was asked for so far. Clones see the same.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    /// Cancelled by the first signal.
    pub(crate) token: CancellationToken,
    signal: Arc<AtomicU8>,
}

impl Interrupts {
    /// Starts listening. Must be called within a tokio runtime.
    pub(crate) fn listen(ui: &Ui) -> std::io::Result<Self> {
        let heard = Self { token: CancellationToken::new(), signal: Arc::new(AtomicU8::new(0)) };
        let (int, term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(heard.clone().obey(int, term, ui.clone()));
        Ok(heard)
    }

    /// 130 or 143.
    pub(crate) fn exit_code(&self) -> u8 {
        128 + self.signal.load(Ordering::Relaxed).max(SIGINT)
    }

    async fn obey(self, mut int: Signal, mut term: Signal, ui: Ui) {
        loop {
            let number = tokio::select! {
                _ = int.recv() => SIGINT,
                _ = term.recv() => SIGTERM,
            };
            if self.token.is_cancelled() {
                std::process::exit(128 + i32::from(number));
            }
            self.signal.store(number, Ordering::Relaxed);
            self.token.cancel();
            ui.note("stopping; press Ctrl-C again to stop at once");
        }
    }
}
