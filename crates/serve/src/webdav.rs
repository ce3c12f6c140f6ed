//! A server for WebDAV: a repository's snapshots as folders that file managers and other clients read over HTTP.
//!
//! ```text
//! client ─► listener ─► whose connection? ─► requests ─► dav-server ─► filesystem ─► places ─► engine::View
//!                                               └─ refused                └─► reading ─► bytes, or the answer breaks off
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `peers` | which user of this machine a connection belongs to |
//! | `requests` | what may be asked, and by whom |
//! | `places` | what a path leads to, and what is in a folder |
//! | `links` | symbolic links, followed within their component |
//! | `filesystem` | what the WebDAV library asks, one function each |
//! | `reading` | an open file |
//! | `index` | a folder as a page for browsers |
//! | `answers` | what becomes of an answer when something cannot be had |
//!
//! What WebDAV cannot show: a symbolic link is shown as the file that it leads to within its component. One that leads to a folder is
//! not listed, since whoever walks all folders would walk in circles, but can be asked for. Links that lead nowhere, devices, pipes and
//! sockets are not shown.
//!
//! Invariant: an answer is whole and right, or an error, or breaks off before its end.
//! Invariant: without being told to, this answers only the user who runs it, on this machine.
//! Never here: a way to change anything.

mod answers;
mod filesystem;
mod index;
mod links;
mod peers;
mod places;
mod reading;
mod requests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dav_server::DavHandler;
use engine::{SnapshotFilter, View};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ServeError;
use crate::trouble::{TROUBLES_MAX, Trouble};
use answers::{Asked, Body};
use filesystem::Files;
use places::Shared;

/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may be silent before a request.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// How long one may be that is not welcome.
const STRANGER_SILENT_FOR: Duration = Duration::from_secs(2);
/// How long answers may still take once the server ends.
const FINISHED_WITHIN: Duration = Duration::from_millis(300);
/// How long the end waits for connections to close after that.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);
/// How long it waits when the system has no room for another connection.
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How a repository is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Who is answered.
    pub who: Who,
    /// Which snapshots are shown.
    pub filter: SnapshotFilter,
    /// How long a step of an answer may take until it fails.
    pub patience: Duration,
    /// Bytes that are read ahead at most, of all files together.
    pub ahead_len_max: u64,
}

/// Who is answered. There is no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The user who runs this, and root, on this machine.
    Owner,
    /// Every user of this machine.
    Machine,
    /// Everybody who reaches the address.
    Anyone,
}

/// A server that runs.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    troubles: mpsc::Receiver<Trouble>,
    token: CancellationToken,
    tasks: TaskTracker,
}

/// What every connection has.
struct Service {
    handler: DavHandler<Asked>,
    shared: Arc<Shared>,
    who: Who,
    address: SocketAddr,
    token: CancellationToken,
}

/// Serves what `view` shows. Must be called within a tokio runtime, in which requests are answered.
///
/// # Errors
///
/// [`ServeError::AddressExposed`] if others than this machine would reach it and that is not wanted, [`ServeError::Listen`] if the address
/// cannot be had.
pub async fn serve(view: View, options: Options) -> Result<Served, ServeError> {
    let address = options.listen;
    if options.who != Who::Anyone && !address.ip().is_loopback() {
        return Err(ServeError::AddressExposed { address });
    }
    let wrong = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    let (send, troubles) = mpsc::channel(TROUBLES_MAX);
    let (token, tasks) = (CancellationToken::new(), TaskTracker::new());
    let shared = Arc::new(Shared::new(view, &options, send));
    let handler = DavHandler::builder()
        .filesystem(Box::new(Files::new(Arc::clone(&shared))))
        .read_buf_size(reading::READ_LEN)
        .build_handler();
    let service = Service { handler, shared, who: options.who, address, token: token.clone() };
    tasks.spawn(listen(listener, Arc::new(service), tasks.clone()));
    Ok(Served { address, troubles, token, tasks })
}

impl Served {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for what could not be shown.
    pub async fn hear(&mut self) -> Trouble {
        match self.troubles.recv().await {
            Some(trouble) => trouble,
            None => std::future::pending().await,
        }
    }

    /// Ends it: answers that are not finished in a moment break off.
    pub async fn end(self) {
        self.token.cancel();
        self.tasks.close();
        // Whoever still waits for a store then gets no answer.
        let _ = tokio::time::timeout(FINISHED_WITHIN + CLOSED_WITHIN, self.tasks.wait()).await;
    }
}

/// Takes connections until the end.
async fn listen(listener: TcpListener, service: Arc<Service>, tasks: TaskTracker) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(turn) = service.token.run_until_cancelled(Arc::clone(&turns).acquire_owned()).await {
        let Some(accepted) = service.token.run_until_cancelled(listener.accept()).await else { return };
        match accepted {
            Ok((stream, peer)) => {
                let service = Arc::clone(&service);
                tasks.spawn(async move {
                    answer(stream, peer, service).await;
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!("no connection could be taken: {error}");
                tokio::time::sleep(TRIED_AGAIN_AFTER).await;
            }
        }
    }
}

/// Answers the requests of one connection.
async fn answer(stream: TcpStream, peer: SocketAddr, service: Arc<Service>) {
    let _ = stream.set_nodelay(true);
    let is_welcome = service.who != Who::Owner || peers::is_welcome(peer, stream.local_addr().ok()).await;
    let answered = service_fn(|request: Request<Incoming>| {
        let service = Arc::clone(&service);
        async move { Ok::<_, std::convert::Infallible>(service.answer(request, is_welcome).await) }
    });
    let mut builder = http1::Builder::new();
    // Who is not welcome holds up nobody for long.
    builder.timer(TokioTimer::new()).keep_alive(is_welcome);
    builder.header_read_timeout(if is_welcome { SILENT_FOR } else { STRANGER_SILENT_FOR });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answered));
    let done = match service.token.run_until_cancelled(connection.as_mut()).await {
        Some(done) => done,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FINISHED_WITHIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = done {
        tracing::debug!("connection from {peer}: {error}");
    }
}

impl Service {
    async fn answer(&self, request: Request<Incoming>, is_welcome: bool) -> Response<Body> {
        let asked = Asked::new(&request);
        match requests::admit(request, self.who, is_welcome) {
            Err(refused) => *refused,
            Ok(request) => {
                if let Some(page) = index::page(&self.shared, &asked, &request).await {
                    return page;
                }
                let answered = self.handler.handle_guarded(request, String::new(), asked.clone()).await;
                answers::checked(answered, asked)
            }
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service at {}", self.address)
    }
}
