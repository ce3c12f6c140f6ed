//! A way to a server that stops in the middle of what the server sends, until it is opened.
//!
//! ```text
//! client ◄──► Gate::port ◄──► server      after so many bytes of the server: nothing, until open()
//! ```
//!
//! Invariant: no byte is changed or lost; either side's end is the other's.
//! Never here: what happens to the server meanwhile.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The way. Its threads end with the connections.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Where clients connect, on loopback.
    pub port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    passes: u64,
    passed: AtomicU64,
    is_open: AtomicBool,
}

impl Gate {
    /// Stands before a port of loopback, and lets so many bytes of the server pass.
    #[must_use]
    pub fn before(server: u16, passes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State { passes, passed: AtomicU64::new(0), is_open: AtomicBool::new(false) });
        let gate = Self { port, state };
        let own = gate.clone();
        spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    own.join(&client, &server);
                }
            }
        });
        gate
    }

    fn join(&self, client: &TcpStream, server: &TcpStream) {
        let again = |stream: &TcpStream| stream.try_clone().expect("a socket of ours");
        let ([asking, asked], [answering, heard]) = ([again(client), again(server)], [again(server), again(client)]);
        spawn(move || forward(asking, asked, |_| {}));
        let state = Arc::clone(&self.state);
        spawn(move || forward(answering, heard, |len| state.wait(len)));
    }

    /// Whether it holds the server's bytes back.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.state.passed.load(Ordering::SeqCst) >= self.state.passes
    }

    /// Lets everything pass.
    pub fn open(&self) {
        self.state.is_open.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn wait(&self, len: usize) {
        let passed = self.passed.fetch_add(len as u64, Ordering::SeqCst) + len as u64;
        while passed >= self.passes && !self.is_open.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, before: impl Fn(usize)) {
    let mut buffer = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        before(len);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    drop(std::thread::Builder::new().spawn(work).expect("a thread"));
}
