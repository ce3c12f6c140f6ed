//! `config init`: write a commented configuration to begin with.
//!
//! ```text
//! options, or answers on a terminal ─► Wanted ─► text ─► a file that was not there
//! ```
//!
//! Invariant: a file that is there is not touched.
//! Invariant: what is written passes `config check --offline`.
//! Never here: secrets; the file says where they are.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  backstay config init
  backstay config init --output /etc/backstay/backstay.toml --postgres postgres://backup@db/shop --files /srv
  backstay config init -r s3://bucket/backup --redis redis://cache:6379 --sqlite /var/lib/app.db";

/// Write a commented configuration to begin with
///
/// What the options name is in it; everything else that there could be stands in comments. On a terminal, without options
/// that name a source, it asks.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// Where to write it
    #[arg(short, long, value_name = "FILE", default_value = "backstay.toml")]
    output: PathBuf,

    /// A Postgres database or server
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,

    /// A Redis or Valkey server
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// An etcd member
    #[arg(long, value_name = "URL")]
    etcd: Option<String>,

    /// A SQLite database
    #[arg(long, value_name = "FILE")]
    sqlite: Option<PathBuf>,

    /// A file or directory; may be given several times
    #[arg(long, value_name = "PATH")]
    files: Vec<PathBuf>,
}

/// Writes the file.
pub(super) async fn run(args: &InitArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => CommandError::ConfigExists { path: args.output.clone() },
        _ => CommandError::ConfigFile { path: args.output.clone(), source },
    };
    let mut wanted = Wanted {
        repository: ctx.globals.repository.repository.clone(),
        password_file: ctx.globals.repository.password_file.clone(),
        sources: args.clone(),
    };
    if args.names_nothing() && terminal::answers() && !ctx.ui.is_json && !ctx.globals.output.quiet {
        if args.output.exists() {
            return Err(failed(ErrorKind::AlreadyExists.into()));
        }
        wanted.ask().await.map_err(|source| CommandError::Terminal { source })?;
    }
    let text = render(&wanted.sources, wanted.repository.as_deref(), wanted.password_file);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.output).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    ctx.ui.note(format_args!("wrote {}", args.output.display()));
    ctx.ui.hint(format_args!("check it with: backstay config check --config {}", args.output.display()));
    Ok(Outcome::Done)
}

/// What is to be in the file.
struct Wanted {
    repository: Option<String>,
    password_file: Option<PathBuf>,
    sources: InitArgs,
}

impl Wanted {
    /// Asks for what nothing names yet. An empty answer leaves it as it would be without asking.
    async fn ask(&mut self) -> std::io::Result<()> {
        let sources = &mut self.sources;
        if self.repository.is_none() {
            self.repository = answer("Repository (PATH, s3://bucket/prefix, …)", "/var/backups/backstay").await?;
        }
        if self.password_file.is_none() {
            self.password_file = answer("File with its password", "/etc/backstay/password").await?.map(Into::into);
        }
        sources.postgres = answer("Postgres (postgres://user@host/database)", "none").await?;
        sources.redis = answer("Redis or Valkey (redis://host:6379)", "none").await?;
        sources.etcd = answer("etcd (https://host:2379)", "none").await?;
        sources.sqlite = answer("SQLite (FILE)", "none").await?.map(Into::into);
        while let Some(path) = answer("File or directory", "no more").await? {
            sources.files.push(path.into());
        }
        Ok(())
    }
}

/// Asks; none for an empty answer.
async fn answer(question: &str, otherwise: &str) -> std::io::Result<Option<String>> {
    let line = terminal::ask_line(format!("{question} [{otherwise}]: ")).await?;
    Ok(Some(line).filter(|line| !line.is_empty()))
}

impl InitArgs {
    fn names_nothing(&self) -> bool {
        self.postgres.is_none()
            && self.redis.is_none()
            && self.etcd.is_none()
            && self.sqlite.is_none()
            && self.files.is_empty()
    }
}

fn render(args: &InitArgs, repository: Option<&str>, password_file: Option<PathBuf>) -> String {
    let url = quoted(repository.unwrap_or("/var/backups/backstay"));
    let password = password_file.unwrap_or_else(|| "/etc/backstay/password".into());
    let password = quoted(&password.to_string_lossy());
    let mut sources = Vec::new();
    let mut text = format!(
        "# backstay: what is backed up, and where to. `backstay config schema` describes every key, and\n\
         # `backstay config check` finds mistakes. ${{NAME}} and ${{NAME:-default}} stand for environment variables.\n\
         \n\
         [repositories.main]\n\
         url = {url} # or s3://bucket/prefix, gs://bucket/prefix, az://container/prefix\n\
         password_file = {password} # or password_command, or key_file\n\n\
         # [repositories.offsite] # a second one, for copies\n\
         # url = \"/mnt/offsite/backstay\"\n\
         # password_file = {password}\n"
    );
    let mut source = |name: &str, kind: &str, own: String, more: &str, is_named: bool| {
        let mark = if is_named { "" } else { "# " };
        if is_named {
            sources.push(quoted(name));
        }
        text.push_str(&format!("\n{mark}[sources.{name}]\n{mark}kind = \"{kind}\"\n{mark}{own}\n{more}"));
    };
    let or = |given: &Option<String>, example: &str| quoted(given.as_deref().unwrap_or(example));
    let url = or(&args.postgres, "postgres://backup@db.example/shop");
    let more = "# password = \"${DB_PASSWORD}\" # or password_file, password_command; else ~/.pgpass\n\
                # databases = [\"*\"] # all of the server's, and its roles\n\
                # shrink = { percent_max = 80, then = \"refuse\" } # or \"warn\"\n";
    source("db", "postgres", format!("url = {url}"), more, args.postgres.is_some());
    let url = "url = \"postgres://backup@db.example\"".to_owned();
    source(
        "whole",
        "postgres-physical",
        url,
        "# incremental = true # changed blocks only, where the server can\n",
        false,
    );
    let url = or(&args.redis, "redis://cache.example:6379");
    let more = "# password = \"${REDIS_PASSWORD}\"\n";
    source("cache", "redis", format!("urls = [{url}]"), more, args.redis.is_some());
    source("queue", "redis-aof", "path = \"/var/lib/redis/appendonlydir\"".to_owned(), "", false);
    let url = or(&args.etcd, "https://etcd.example:2379");
    source("etcd", "etcd", format!("endpoints = [{url}]"), "", args.etcd.is_some());
    let path = args.sqlite.as_ref().map(|path| path.to_string_lossy().into_owned());
    source("app", "sqlite", format!("path = {}", or(&path, "/var/lib/app/app.db")), "", args.sqlite.is_some());
    let more = "# namespaces = [\"shop\"] # all, without this\n# exclude_types = [\"secrets\"]\n";
    source("cluster", "kubernetes", "context = \"production\"".to_owned(), more, false);
    let more = "# timeout = \"10m\"\n# no_progress_timeout = \"1m\"\n";
    source("report", "command", "command = [\"report\", \"--all\"]".to_owned(), more, false);
    let given: Vec<_> = args.files.iter().map(|path| quoted(&path.to_string_lossy())).collect();
    let paths = if given.is_empty() { "\"/etc\"".to_owned() } else { given.join(", ") };
    let more = "# exclude = [\"*.tmp\", \"/srv/cache/**\"]\n";
    source("files", "files", format!("paths = [{paths}]"), more, !given.is_empty() || args.names_nothing());
    text.push_str(&job(&sources.join(", ")));
    text
}

fn job(sources: &str) -> String {
    format!(
        "\n[jobs.nightly] # backstay run nightly\n\
         sources = [{sources}]\n\
         # schedule = \"0 2 * * *\"\n\
         # tags = [\"nightly\"]\n\
         # sources_at_once = 2\n\
         # retention = {{ daily = 7, weekly = 5, monthly = 12 }} # carried out by: backstay forget --job nightly --yes\n\
         # hold = \"7y\" # nothing forgets its snapshots before\n\
         # repository = \"main\" # where there are several\n\
         # copy_to = [\"offsite\"] # a second repository that every snapshot is copied to\n\
         # timeout = \"4h\"\n\
         # limit_upload = \"10M\" # per second\n\
         # hooks = {{ before = [\"systemctl\", \"stop\", \"indexer\"], after = [\"systemctl\", \"start\", \"indexer\"] }}\n"
    )
}

/// As a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn what_is_written_has_no_mistake() {
        let nothing =
            InitArgs { output: "x".into(), postgres: None, redis: None, etcd: None, sqlite: None, files: Vec::new() };
        let all = InitArgs {
            output: "x".into(),
            postgres: Some("postgres://me@\"odd\\host\"/db".to_owned()),
            redis: Some("redis://h".to_owned()),
            etcd: Some("http://h".to_owned()),
            sqlite: Some("/a/b.db".into()),
            files: vec!["/etc".into(), "/srv".into()],
        };
        for (args, sources) in [(nothing, 1), (all, 5)] {
            let text = render(&args, Some("s3://bucket/x"), None);
            let config = config::read(&text, |_| None).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
            assert_eq!((config.sources.len(), config.jobs.len()), (sources, 1), "{text}");
            for kind in config::KINDS {
                assert!(text.contains(&format!("kind = \"{kind}\"")), "{kind} is not in {text}");
            }
            let uncommented: String = text.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
            let whole = uncommented.split_once("[repositories").map(|(_, rest)| format!("[repositories{rest}"));
            let set = |_: &str| Some("x".to_owned());
            let twice = whole.unwrap_or_default();
            config::read(&twice, set).unwrap_or_else(|mistakes| panic!("{mistakes}\n{twice}"));
        }
    }
}
