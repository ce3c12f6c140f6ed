//! `config init`: write a commented configuration to begin with.
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

const EXAMPLES: &str = "\
Examples:
  backstay config init
  backstay config init --output /etc/backstay/backstay.toml --postgres postgres://backup@db/shop --files /srv
  backstay config init -r s3://bucket/backup --redis redis://cache:6379 --sqlite /var/lib/app.db";

/// Write a commented configuration to begin with
///
/// What the options name is in it; everything else that there could be stands in comments.
#[derive(Debug, Args)]
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
pub(super) fn run(args: &InitArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.globals.repository.repository.clone();
    let text = render(args, repository.as_deref(), ctx.globals.repository.password_file.clone());
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => CommandError::ConfigExists { path: args.output.clone() },
        _ => CommandError::ConfigFile { path: args.output.clone(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.output).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    ctx.ui.note(format_args!("wrote {}", args.output.display()));
    ctx.ui.hint(format_args!("check it with: backstay config check --config {}", args.output.display()));
    Ok(Outcome::Done)
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
    let url = or(&args.redis, "redis://cache.example:6379");
    let more = "# password = \"${REDIS_PASSWORD}\"\n";
    source("cache", "redis", format!("urls = [{url}]"), more, args.redis.is_some());
    let url = or(&args.etcd, "https://etcd.example:2379");
    source("etcd", "etcd", format!("endpoints = [{url}]"), "", args.etcd.is_some());
    let path = args.sqlite.as_ref().map(|path| path.to_string_lossy().into_owned());
    source("app", "sqlite", format!("path = {}", or(&path, "/var/lib/app/app.db")), "", args.sqlite.is_some());
    let no_source_yet = args.postgres.is_none() && args.redis.is_none() && args.etcd.is_none() && args.sqlite.is_none();
    let given: Vec<_> = args.files.iter().map(|path| quoted(&path.to_string_lossy())).collect();
    let paths = if given.is_empty() { "\"/etc\"".to_owned() } else { given.join(", ") };
    let more = "# exclude = [\"*.tmp\", \"/srv/cache/**\"]\n";
    source("files", "files", format!("paths = [{paths}]"), more, !given.is_empty() || no_source_yet);
    let sources = sources.join(", ");
    text.push_str(&format!(
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
         # hooks = {{ before = [\"systemctl\", \"stop\", \"indexer\"], after = [\"systemctl\", \"start\", \"indexer\"] }}\n"
    ));
    text
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
            let uncommented: String = text.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
            let whole = uncommented.split_once("[repositories").map(|(_, rest)| format!("[repositories{rest}"));
            let set = |_: &str| Some("x".to_owned());
            let twice = whole.unwrap_or_default();
            config::read(&twice, set).unwrap_or_else(|mistakes| panic!("{mistakes}\n{twice}"));
        }
    }
}
