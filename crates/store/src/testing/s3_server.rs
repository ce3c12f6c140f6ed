//! A real S3 server on a free port of this host, gone when it is dropped.
//!
//! ```text
//! $HOME/.cache/backstay/tools/bin/s3s-fs ─ temporary folder / bucket1 / objects
//! ```
//!
//! Invariant: a test that needs the server fails loudly where it is not built. It never passes unseen.
//! Never here: other servers. They are tried by hand.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::{Location, S3Options, StoreOptions, Variables};

/// The bucket that exists from the start.
const BUCKET: &str = "bucket1";
const ACCESS_KEY: &str = "test";
const SECRET_KEY: &str = "testsecret";

/// A port that was free may be taken when the server wants it.
const STARTS_MAX: u32 = 5;
/// How often we look whether the server listens, 50 ms apart.
const LOOKS_MAX: u32 = 200;

/// A running server with one empty bucket.
#[derive(Debug)]
pub struct S3Server {
    process: Child,
    folder: TempDir,
    port: u16,
}

impl S3Server {
    /// Starts a server and waits until it listens.
    ///
    /// # Panics
    ///
    /// If the server is not built (`scripts/s3s.sh` builds it) or does not start.
    pub async fn start() -> Self {
        for _ in 0..STARTS_MAX {
            if let Some(server) = Self::try_start().await {
                return server;
            }
        }
        panic!("s3s-fs does not start: {}", program().display());
    }

    async fn try_start() -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a folder for the bucket");
        let port = free_port();
        let mut command = Command::new(program());
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]);
        command.arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("s3s-fs runs");
        let mut server = Self { process, folder, port };
        server.listens().await.then_some(server)
    }

    async fn listens(&mut self) -> bool {
        for _ in 0..LOOKS_MAX {
            let is_gone = !matches!(self.process.try_wait(), Ok(None));
            if is_gone {
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// Where a repository of this name would be.
    pub fn location(&self, prefix: &str) -> Location {
        format!("s3://{BUCKET}/{prefix}").parse().expect("tests name plain prefixes")
    }

    /// Options that reach this server, and read nothing from the environment.
    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            retries_max: 1,
            variables: Variables::none(),
            s3: S3Options {
                endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
                access_key_id: Some(ACCESS_KEY.into()),
                secret_access_key: Some(SECRET_KEY.into()),
                ..S3Options::default()
            },
            ..StoreOptions::default()
        }
    }

    /// Lets the server hang: it takes connections and answers nothing until it is to go on.
    pub fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a server that hangs answer again.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the server is there");
    }

    /// The folder in which the server keeps the bucket's objects as files: for damage tests.
    pub fn bucket_folder(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

fn program() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache =
        std::env::var_os("BACKSTAY_CACHE").map_or_else(|| Path::new(&home).join(".cache/backstay"), PathBuf::from);
    let program = cache.join("tools/bin/s3s-fs");
    assert!(program.exists(), "{} is missing: run scripts/s3s.sh once", program.display());
    program
}
