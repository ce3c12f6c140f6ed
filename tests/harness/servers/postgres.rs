//! Real Postgres servers of every version that this machine has.
//!
//! ```text
//! /usr/lib/postgresql/<major>/bin                                   the machine's own
//! $BACKSTAY_CACHE/roots/<root>/usr/lib/postgresql/<major>/bin       of a newer Debian in a folder, run by chroot
//! ```
//!
//! A root is made by `debootstrap --variant=minbase --include=postgresql-17 trixie $BACKSTAY_CACHE/roots/trixie`; of versions
//! that no Debian has (14 and 16) `scripts/servers.sh` puts those beside the one that came with it which
//! `BACKSTAY_POSTGRES_MORE=14,16` names, and tests fail without them. Only root can use roots.
//!
//! Each listens on a port of its own on loopback and on a socket in its folder, as the user postgres when we are root.
//!
//! Invariant: a server is stopped and its folder removed when it is dropped.
//! Never here: the code under test.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Versions that no Debian brings, so that `scripts/servers.sh` cannot make them.
const IN_NO_DEBIAN: [u32; 2] = [14, 16];
/// The variable which names those of them that must be there too: `14,16`.
const MORE: &str = "BACKSTAY_POSTGRES_MORE";

/// The superuser of every server.
pub const OWNER: &str = "owner";

/// The programs of one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Such as 15.
    pub major: u32,
    /// The folder that is their root folder.
    root: PathBuf,
    /// Their folder, as seen in `root`.
    programs: PathBuf,
}

impl Version {
    /// Every version that is there, oldest first; of each the first that is found.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let cache = std::env::var_os("BACKSTAY_CACHE").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/backstay"));
        let roots = cache.or(home).map(|cache| cache.join("roots"));
        let chroots = roots.filter(|_| is_root()).map(|roots| folders(&roots)).unwrap_or_default();
        let mut found: Vec<Self> = Vec::new();
        for root in [PathBuf::from("/")].into_iter().chain(chroots) {
            for folder in folders(&root.join("usr/lib/postgresql")) {
                let name = folder.file_name().and_then(OsStr::to_str);
                let major = name.and_then(|name| name.parse::<u32>().ok());
                let Some(major) = major else { continue };
                let is_whole = folder.join("bin/initdb").exists() && folder.join("bin/pg_ctl").exists();
                if is_whole && found.iter().all(|known| known.major != major) {
                    let programs = Path::new("/usr/lib/postgresql").join(major.to_string()).join("bin");
                    found.push(Self { major, root: root.clone(), programs });
                }
            }
        }
        assert!(!found.is_empty(), "no Postgres server is installed on this machine");
        found.sort();
        found
    }

    /// The version `major`, which must be there. Only one that no Debian has may be missing, unless `BACKSTAY_POSTGRES_MORE` names it.
    ///
    /// # Panics
    ///
    /// If it is not there: what was not tried has not passed.
    #[must_use]
    pub fn find(major: u32) -> Option<Self> {
        let found = Self::all().into_iter().find(|version| version.major == major);
        let more = std::env::var(MORE).unwrap_or_default();
        let is_named = more.split(',').any(|named| named.trim() == major.to_string());
        if found.is_none() && IN_NO_DEBIAN.contains(&major) && !is_named {
            return None;
        }
        let version =
            found.unwrap_or_else(|| panic!("Postgres {major} is not on this machine: run scripts/servers.sh"));
        Some(version)
    }

    /// Whether there is a program of this name.
    #[must_use]
    pub fn has(&self, program: &str) -> bool {
        self.program(program).exists()
    }

    /// A call of a program of this version, or of the machine's own if this one has none. With it comes whether it runs
    /// in this version's root.
    fn tool(&self, program: &str) -> (Command, bool) {
        if self.has(program) {
            return (self.command(program), true);
        }
        let own = Self::all().into_iter().find(|known| known.root == Path::new("/") && known.has(program));
        let own = own.unwrap_or_else(|| panic!("{program} is not on this machine"));
        (Command::new(own.program(program)), false)
    }

    /// A program as seen from outside of its root.
    fn program(&self, name: &str) -> PathBuf {
        let programs = self.programs.strip_prefix("/").unwrap_or(&self.programs);
        self.root.join(programs).join(name)
    }

    /// A program's call, as a user that it is willing to run as.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = match is_root() {
            true => Command::new("chroot"),
            false => Command::new(&path),
        };
        if is_root() {
            command.arg("--userspec=postgres").arg(&self.root).arg(path);
        }
        // Libraries that came with the programs; without /proc in a root, no program finds them by itself.
        command.env("LD_LIBRARY_PATH", self.programs.with_file_name("lib"));
        command.env("LC_ALL", "C").env("HOME", "/tmp").current_dir("/").stdin(Stdio::null());
        command
    }

    /// A folder of its own that its programs can write to.
    #[must_use]
    pub fn folder(&self) -> TempDir {
        let folder = TempDir::with_prefix_in("pg", self.root.join("tmp")).expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
        folder
    }

    /// A path below the root, as the programs see it.
    #[must_use]
    pub fn inside(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path.strip_prefix(&self.root).expect("a path below the root"))
    }

    /// Lets the programs own a folder and all that is in it.
    pub fn own(&self, path: &Path) {
        if is_root() {
            let path = self.inside(path);
            let done = Command::new("chroot").arg(&self.root).args(["chown", "-R", "postgres:"]).arg(path).status();
            assert!(done.is_ok_and(|status| status.success()), "the folder cannot be given away");
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Its programs.
    pub version: Version,
    /// Where it listens on loopback, and the number of its socket.
    pub port: u16,
    folder: TempDir,
    data: PathBuf,
}

impl Server {
    /// Makes a server with page checksums and these lines in its configuration, and starts it.
    #[must_use]
    pub fn start(version: &Version, settings: &[&str]) -> Self {
        let folder = version.folder();
        version.own(folder.path());
        let data = folder.path().join("data");
        let mut command = version.command("initdb");
        command.args(["-k", "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
        ran(command.arg(version.inside(&data)));
        let server = Self { version: version.clone(), port: free_port(), folder, data };
        server.configure(settings);
        server.run();
        server
    }

    /// Starts a data directory that somebody else wrote, as the user that it now belongs to.
    #[must_use]
    pub fn start_on(version: &Version, folder: TempDir, data: &Path, settings: &[&str]) -> Self {
        version.own(folder.path());
        fs::set_permissions(data, fs::Permissions::from_mode(0o700)).expect("our own folder");
        let server = Self { version: version.clone(), port: free_port(), folder, data: data.to_owned() };
        server.configure(settings);
        server.run();
        server
    }

    /// Adds lines to its configuration, which take effect at the next start.
    pub fn configure(&self, settings: &[&str]) {
        let sockets = self.version.inside(self.folder.path());
        let own = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\n",
            self.port,
            sockets.display()
        );
        self.append("postgresql.conf", &format!("{own}{}\n", settings.join("\n")));
    }

    /// Adds text at the end of one of its files.
    pub fn append(&self, name: &str, text: &str) {
        let file = fs::OpenOptions::new().append(true).open(self.data.join(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("a file of the server");
    }

    /// Replaces one of its files.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.data.join(name), text).expect("a file of the server");
        self.version.own(&self.data.join(name));
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder with its socket, seen from here.
    #[must_use]
    pub fn sockets(&self) -> &Path {
        self.folder.path()
    }

    /// A further folder that the server may write to; seen from here, and as the server sees it.
    #[must_use]
    pub fn further_folder(&self, name: &str) -> (PathBuf, PathBuf) {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).expect("a new folder");
        self.version.own(&path);
        let inside = self.version.inside(&path);
        (path, inside)
    }

    /// Starts it, after it was stopped.
    pub fn run(&self) {
        let log = self.version.inside(&self.folder.path().join("log"));
        let mut command = self.control();
        // A server that stays must not keep our pipes open.
        command.args(["-w", "-t", "120", "-l"]).arg(log).arg("start").stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().expect("pg_ctl runs");
        assert!(status.success(), "Postgres {} does not start: {}", self.version.major, self.log());
    }

    /// Stops it: `smart`, `fast`, or `immediate`, as in a crash.
    pub fn stop(&self, mode: &str) -> Output {
        self.control().args(["-m", mode, "-w", "stop"]).output().expect("pg_ctl runs")
    }

    fn control(&self) -> Command {
        let mut command = self.version.command("pg_ctl");
        command.arg("-D").arg(self.version.inside(&self.data));
        command
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs SQL as its owner and returns the rows, fields separated by `|`.
    #[must_use]
    pub fn sql(&self, text: &str) -> String {
        self.sql_in("postgres", text)
    }

    /// Runs each statement for itself, one after the other; they end with a semicolon.
    #[must_use]
    pub fn sql_lines(&self, text: &str) -> String {
        text.split(';').filter(|line| !line.trim().is_empty()).map(|line| self.sql(line)).collect::<Vec<_>>().join("\n")
    }

    /// Runs SQL in one of its databases.
    #[must_use]
    pub fn sql_in(&self, database: &str, text: &str) -> String {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", OWNER, "-d", database]);
        // Parts of a union come in their order only where one worker takes them.
        command.env("PGOPTIONS", "-c max_parallel_workers_per_gather=0");
        command.args(["-p", &self.port.to_string(), "-c", text]);
        String::from_utf8(ran(&mut command).stdout).expect("text").trim_end().to_owned()
    }

    /// A client program of this or, where it has none, of the machine's own version, set to reach this server.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let (mut command, _) = self.version.tool(program);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", OWNER);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop("immediate"));
    }
}

/// Checks a data directory by its manifest with this version's `pg_verifybackup`, or else with the machine's own.
/// Returns what it says if it minds something.
#[must_use]
pub fn verify_backup(version: &Version, data: &Path) -> Option<String> {
    version.own(data);
    let (mut command, is_inside) = version.tool("pg_verifybackup");
    let path = if is_inside { version.inside(data) } else { data.to_owned() };
    let output = command.arg("-n").arg(path).output().expect("pg_verifybackup runs");
    (!output.status.success()).then(|| said(&output))
}

/// Runs a command that must succeed.
#[track_caller]
pub fn ran(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    output
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
