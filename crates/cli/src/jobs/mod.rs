//! Jobs: what the configuration names becomes what the engine backs up.
//!
//! ```text
//! SourceConfig ─► secrets ─► a source's own request ─► ComponentRequest, or preflight
//! ```
//!
//! Invariant: secrets go to the server that they are for, and into nothing else.
//! Never here: reading anything.

mod hooks;
mod libpq;
mod request;
mod secrets;

use std::path::PathBuf;
use std::time::Duration;

use engine::{ComponentRequest, ShrinkLimit};
use source::command::{CommandLine, Patience};
use source::files::FilesOptions;
use source::{dump, etcd, kubernetes, redis, sqlite};

pub(crate) use hooks::run_hook;
pub(crate) use request::Request;

use crate::config::{
    CommandConfig, EtcdConfig, FilesConfig, KubernetesConfig, PostgresConfig, PostgresPhysicalConfig, RedisConfig,
    Shrink, ShrinkThen, SourceConfig, SqliteConfig,
};
use crate::context::{Context, temporary_cache_folders};
use crate::error::CommandError;

/// How long a dump waits for a table's lock, and a SQLite file may stay locked, unless the configuration says otherwise.
const LOCK_TIMEOUT: Duration = Duration::from_secs(600);
const SQLITE_LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// The port of Redis.
const REDIS_PORT: u16 = 6379;

/// Variables of our own environment that no program gets.
pub(crate) const HIDDEN: &str = "BACKSTAY_PASSWORD";

/// What the engine is to do for a source. One whose password or settings cannot be used is a component that fails, so
/// that the others are backed up all the same.
pub(crate) async fn component(
    name: &str,
    source: &SourceConfig,
    ctx: &Context,
) -> Result<ComponentRequest, CommandError> {
    let input = match request(name, source, ctx).await {
        Ok(request) => request.input(),
        // Which folders are left out is a question to us, not to the source.
        Err(error) if matches!(source, SourceConfig::Files(_)) => return Err(error),
        Err(error) => request::refused(source.kind(), &error),
    };
    let shrink = shrink(source)
        .map(|Shrink { percent_max, then }| ShrinkLimit { percent_max, refuses: then == ShrinkThen::Refuse });
    // Who lets all of it go, lets it be empty.
    let allow_empty = shrink.is_some_and(|limit| limit.percent_max >= 100);
    Ok(ComponentRequest { input, name: Some(name.to_owned()), cutter: None, force: false, allow_empty, shrink })
}

/// What a source is asked for; its password is read now.
pub(crate) async fn request(name: &str, source: &SourceConfig, ctx: &Context) -> Result<Request, CommandError> {
    match source {
        SourceConfig::Postgres(config) => postgres_dump(config).await,
        SourceConfig::PostgresPhysical(config) => base_backup(config).await,
        SourceConfig::Redis(config) => redis_dump(config).await,
        SourceConfig::RedisAof(config) => Ok(Request::AppendOnly(config.path.clone())),
        SourceConfig::Etcd(config) => etcd_snapshot(config).await,
        SourceConfig::Sqlite(config) => Ok(sqlite_backup(config)),
        SourceConfig::Kubernetes(config) => Ok(manifests(config)),
        SourceConfig::Command(config) => Ok(command(name, config)),
        SourceConfig::Files(config) => files(config, ctx),
    }
}

const fn shrink(source: &SourceConfig) -> Option<Shrink> {
    match source {
        SourceConfig::Postgres(config) => Some(config.shrink),
        SourceConfig::PostgresPhysical(config) => Some(config.shrink),
        SourceConfig::Redis(config) => Some(config.shrink),
        SourceConfig::RedisAof(config) => Some(config.shrink),
        SourceConfig::Etcd(config) => Some(config.shrink),
        SourceConfig::Sqlite(config) => Some(config.shrink),
        SourceConfig::Kubernetes(config) => Some(config.shrink),
        SourceConfig::Command(config) => Some(config.shrink),
        SourceConfig::Files(config) => config.shrink,
    }
}

async fn postgres_dump(config: &PostgresConfig) -> Result<Request, CommandError> {
    let settings = libpq::settings(&config.url)?;
    let secret = secrets::read(config.password()).await?;
    let mut server = libpq::dump_server(&settings, secret);
    server.patroni = patroni(&config.patroni, config.patroni_ca_certificate.as_ref());
    let takes_all = config.databases.iter().any(|name| name == "*");
    let databases = match (takes_all, config.databases.as_slice()) {
        (true, _) => Vec::new(),
        (false, []) => vec![libpq::value(&settings, "dbname").unwrap_or("postgres").to_owned()],
        (false, named) => named.to_vec(),
    };
    let request = dump::Dump {
        server,
        selection: dump::Selection {
            databases,
            without_globals: !config.globals.unwrap_or(takes_all),
            schemas: config.schemas.clone(),
            tables: config.tables.clone(),
            exclude_tables: config.exclude_tables.clone(),
            ..dump::Selection::default()
        },
        lock_wait_for: Some(config.lock_timeout.map_or(LOCK_TIMEOUT, |span| span.0)),
        ..dump::Dump::default()
    };
    Ok(Request::Dump(request))
}

/// A Postgres server to restore into, and the database if the URL names one.
pub(crate) struct PostgresTarget {
    pub(crate) server: dump::Server,
    pub(crate) database: Option<String>,
}

/// The server of a URL; its password comes from the environment or a password file, as libpq finds them.
pub(crate) fn postgres_target(url: &str) -> Result<PostgresTarget, CommandError> {
    let settings = libpq::settings(url)?;
    let database = libpq::value(&settings, "dbname").map(str::to_owned);
    Ok(PostgresTarget { server: libpq::dump_server(&settings, None), database })
}

fn patroni(endpoints: &[String], authorities: Option<&PathBuf>) -> Option<source::postgres::Patroni> {
    let tls = source::Tls { authorities: authorities.cloned(), ..source::Tls::default() };
    (!endpoints.is_empty()).then(|| source::postgres::Patroni { endpoints: endpoints.to_vec(), tls })
}

async fn base_backup(config: &PostgresPhysicalConfig) -> Result<Request, CommandError> {
    let settings = libpq::settings(&config.url)?;
    let secret = secrets::read(config.password()).await?;
    let mut server = libpq::walsender(&settings, secret)?;
    server.patroni = patroni(&config.patroni, config.patroni_ca_certificate.as_ref());
    Ok(Request::BaseBackup { server, is_incremental: config.incremental.unwrap_or(true) })
}

async fn redis_dump(config: &RedisConfig) -> Result<Request, CommandError> {
    let mut addresses = Vec::new();
    let mut is_tls = false;
    for url in &config.urls {
        let (address, uses_tls) = redis_address(url)?;
        addresses.push(address);
        is_tls |= uses_tls;
    }
    let password = secrets::read(config.password()).await?;
    let tls = is_tls.then(|| source::Tls { authorities: config.ca_certificate.clone(), ..source::Tls::default() });
    let first = addresses.first().cloned().ok_or_else(|| wrong("urls", "names no server"))?;
    let request =
        redis::RedisDump { addresses, user: config.user.clone(), password, tls, ..redis::RedisDump::new(first) };
    Ok(Request::Redis(request))
}

/// `redis://host:port`, `rediss://host:port` or `unix:///path`.
fn redis_address(text: &str) -> Result<(redis::Address, bool), CommandError> {
    if let Some(path) = text.strip_prefix("unix://") {
        return Ok((redis::Address::Socket(PathBuf::from(path)), false));
    }
    let url = url::Url::parse(text).map_err(|error| wrong(text, &error.to_string()))?;
    let is_tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err(wrong(text, "begins with none of redis://, rediss://, unix://")),
    };
    if url.password().is_some() || !url.username().is_empty() {
        return Err(wrong(
            "the URL of Redis",
            "holds a user or password: write user and password as keys of their own",
        ));
    }
    let host = url.host_str().ok_or_else(|| wrong(text, "names no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((redis::Address::Tcp(host, url.port().unwrap_or(REDIS_PORT)), is_tls))
}

async fn etcd_snapshot(config: &EtcdConfig) -> Result<Request, CommandError> {
    let secret = secrets::read(config.password()).await?;
    let tls = source::Tls {
        authorities: config.ca_certificate.clone(),
        identity: config.certificate.clone().zip(config.key.clone()),
        server_name: None,
    };
    let user = config.user.clone().zip(secret);
    let request = etcd::EtcdSnapshot { user, tls, ..etcd::EtcdSnapshot::new(config.endpoints.clone()) };
    Ok(Request::Etcd(request))
}

fn sqlite_backup(config: &SqliteConfig) -> Request {
    let busy_for = config.lock_timeout.map_or(SQLITE_LOCK_TIMEOUT, |span| span.0);
    Request::Sqlite(sqlite::SqliteBackup { path: config.path.clone(), scratch: None, busy_for })
}

fn manifests(config: &KubernetesConfig) -> Request {
    Request::Kubernetes(kubernetes::Cluster {
        kubeconfig: config.kubeconfig.clone(),
        context: config.context.clone(),
        namespaces: config.namespaces.clone(),
        types: config.types.clone(),
        excluded_types: config.exclude_types.clone(),
        keeps_derived: config.derived,
        env_hidden: vec![HIDDEN.into()],
        ..kubernetes::Cluster::default()
    })
}

fn command(name: &str, config: &CommandConfig) -> Request {
    let mut words = config.command.iter();
    let mut command = CommandLine::new(words.next().cloned().unwrap_or_default(), words);
    command.env = config.env.iter().map(|(name, value)| (name.into(), value.0.clone().into())).collect();
    command.env_hidden.push(HIDDEN.into());
    command.cwd = config.directory.clone();
    command.patience = Patience {
        idle_for: config.no_progress_timeout.map(|span| span.0),
        total_for: config.timeout.map(|span| span.0),
    };
    Request::Command { name: config.name.clone().unwrap_or_else(|| name.to_owned()), command }
}

fn files(config: &FilesConfig, ctx: &Context) -> Result<Request, CommandError> {
    Ok(Request::Files { roots: config.paths.clone(), options: files_options(config, ctx)? })
}

/// What a source of files leaves out: also the caches, and the folder of each repository, whichever the job is for, so
/// that two jobs that are watched never wake each other by what they store.
pub(crate) fn files_options(config: &FilesConfig, ctx: &Context) -> Result<FilesOptions, CommandError> {
    let mut forbidden = vec![ctx.cache_folder()?];
    forbidden.extend(temporary_cache_folders());
    forbidden.extend(ctx.repository_folders()?);
    Ok(FilesOptions {
        cwd: std::env::current_dir().map_err(|source| CommandError::CurrentDirectory { source })?,
        exclude: config.exclude.clone(),
        exclude_files: config.exclude_files.clone(),
        include: config.include.clone(),
        exclude_caches: config.exclude_caches,
        exclude_if_present: config.exclude_if_present.clone(),
        one_file_system: config.one_file_system,
        exclude_larger_than: config.exclude_larger_than.map(|size| size.0),
        forbidden,
        // A snapshot without one of them would count as whole for retention, and push out the last that has it.
        needs_all_roots: true,
    })
}

fn wrong(what: &str, why: &str) -> CommandError {
    CommandError::SourceSetting { what: what.to_owned(), why: why.to_owned() }
}
