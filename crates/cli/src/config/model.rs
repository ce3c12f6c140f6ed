//! What a configuration may say. The JSON schema for editors is made from these types.
//!
//! Invariant: every default is what a user would expect who left the key out, and is said in its comment.
//! Never here: rules that need more than one table.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroize;

use super::retention::{Period, RetentionConfig};
use crate::credential::Choice;

/// A configuration file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where snapshots are stored, by name.
    #[serde(default)]
    pub(crate) repositories: BTreeMap<String, RepositoryConfig>,
    /// What is backed up, by name; the name is that of the component in the snapshot.
    #[serde(default)]
    pub(crate) sources: BTreeMap<String, SourceConfig>,
    /// Which sources are backed up together, by name.
    #[serde(default)]
    pub(crate) jobs: BTreeMap<String, JobConfig>,
}

/// A value that is wiped from memory and never shown.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Hidden(pub(crate) String);

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("…")
    }
}

/// A repository.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepositoryConfig {
    /// PATH, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix
    pub(crate) url: String,
    /// Read the password from this file.
    pub(crate) password_file: Option<PathBuf>,
    /// Read the password from what this shell command prints.
    pub(crate) password_command: Option<String>,
    /// Use a key file instead of a password.
    pub(crate) key_file: Option<PathBuf>,
}

impl RepositoryConfig {
    /// What opens it.
    pub(crate) fn choice(&self) -> Choice {
        Choice {
            password_file: self.password_file.clone(),
            password_command: self.password_command.clone().map(Into::into),
            key_file: self.key_file.clone(),
        }
    }
}

/// Something that is backed up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum SourceConfig {
    /// Postgres, as dumps: any server, any version of the target.
    Postgres(PostgresConfig),
    /// Postgres, as a base backup of the whole cluster over the replication protocol.
    PostgresPhysical(PostgresPhysicalConfig),
    /// Redis or Valkey, as an RDB file over the replication protocol.
    Redis(RedisConfig),
    /// Redis or Valkey, as the append-only file in the server's folder.
    RedisAof(RedisAofConfig),
    /// etcd, as a snapshot of one member.
    Etcd(EtcdConfig),
    /// A SQLite database, by its online backup.
    Sqlite(SqliteConfig),
    /// Kubernetes resources, by kubectl.
    Kubernetes(KubernetesConfig),
    /// What a program prints.
    Command(CommandConfig),
    /// Files and directories.
    Files(FilesConfig),
}

impl SourceConfig {
    /// Its password's keys, if it is of a server that asks for one.
    pub(crate) const fn password(&self) -> Option<PasswordKeys<'_>> {
        match self {
            Self::Postgres(config) => Some(config.password()),
            Self::PostgresPhysical(config) => Some(config.password()),
            Self::Redis(config) => Some(config.password()),
            Self::Etcd(config) => Some(config.password()),
            Self::RedisAof(_) | Self::Sqlite(_) | Self::Kubernetes(_) | Self::Command(_) | Self::Files(_) => None,
        }
    }

    /// Its kind, as it is written.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::PostgresPhysical(_) => "postgres-physical",
            Self::Redis(_) => "redis",
            Self::RedisAof(_) => "redis-aof",
            Self::Etcd(_) => "etcd",
            Self::Sqlite(_) => "sqlite",
            Self::Kubernetes(_) => "kubernetes",
            Self::Command(_) => "command",
            Self::Files(_) => "files",
        }
    }
}

/// The kinds of sources, as they are written.
pub(crate) const KINDS: [&str; 9] =
    ["postgres", "postgres-physical", "redis", "redis-aof", "etcd", "sqlite", "kubernetes", "command", "files"];

/// The keys of a table by which a password is given: at most one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PasswordKeys<'c> {
    pub(crate) plain: Option<&'c Hidden>,
    pub(crate) file: Option<&'c PathBuf>,
    pub(crate) command: Option<&'c String>,
}

/// A table of a server that asks for a password: its own keys, and those of [`PasswordKeys`].
macro_rules! with_password {
    ($(#[$about:meta])* struct $name:ident { $($(#[$key:meta])* pub(crate) $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$key])* pub(crate) $field: $type,)*
            /// The password, best as ${VARIABLE}. For Postgres, without one, ~/.pgpass is asked.
            pub(crate) password: Option<Hidden>,
            /// Read the password from this file.
            pub(crate) password_file: Option<PathBuf>,
            /// Read the password from what this shell command prints.
            pub(crate) password_command: Option<String>,
        }

        impl $name {
            pub(crate) const fn password(&self) -> PasswordKeys<'_> {
                PasswordKeys {
                    plain: self.password.as_ref(),
                    file: self.password_file.as_ref(),
                    command: self.password_command.as_ref(),
                }
            }
        }
    };
}

with_password! {
    /// Postgres, as dumps.
    struct PostgresConfig {
        /// postgres://user@host:port/database; several hosts, sslmode and other options as libpq takes them.
        pub(crate) url: String,
        /// Ask Patroni instead where the servers are: URLs of its REST interfaces, such as ["http://10.0.0.1:8008"]. A replica
        /// in step is read, else the leader; the URL then names no host.
        #[serde(default)]
        pub(crate) patroni: Vec<String>,
        /// Trust the certificates in this PEM file where Patroni answers by https. Default: those of this machine.
        pub(crate) patroni_ca_certificate: Option<PathBuf>,
        /// Databases, or ["*"] for all. Without it, the one that the URL names.
        #[serde(default)]
        pub(crate) databases: Vec<String>,
        /// Only these tables, as pg_dump's --table takes them.
        #[serde(default)]
        pub(crate) tables: Vec<String>,
        /// Only these schemas, as pg_dump's --schema takes them.
        #[serde(default)]
        pub(crate) schemas: Vec<String>,
        /// All but these tables.
        #[serde(default)]
        pub(crate) exclude_tables: Vec<String>,
        /// Roles and tablespaces too, by pg_dumpall --globals-only. Default: true where all databases are dumped.
        pub(crate) globals: Option<bool>,
        /// Give up when a lock is not had within this time. Default: 10 minutes.
        pub(crate) lock_timeout: Option<Span>,
        /// How much smaller than before it may be, and what is done when it is even smaller.
        #[serde(default)]
        pub(crate) shrink: Shrink,
    }
}

/// An append-only file of Redis (7 and later) or Valkey.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisAofConfig {
    /// The folder that holds the manifest: the server's appenddirname in its dir.
    pub(crate) path: PathBuf,
    /// How much smaller than before it may be, and what is done when it is even smaller.
    #[serde(default)]
    pub(crate) shrink: Shrink,
}

with_password! {
    /// Postgres, as a base backup.
    struct PostgresPhysicalConfig {
        /// postgres://user@host:port; several hosts, sslmode and other options as libpq takes them.
        pub(crate) url: String,
        /// Ask Patroni instead where the servers are: URLs of its REST interfaces, such as ["http://10.0.0.1:8008"]. A replica
        /// in step is read, else the leader; the URL then names no host.
        #[serde(default)]
        pub(crate) patroni: Vec<String>,
        /// Trust the certificates in this PEM file where Patroni answers by https. Default: those of this machine.
        pub(crate) patroni_ca_certificate: Option<PathBuf>,
        /// Ask for changed blocks only where the server can (Postgres 17 and later with summarize_wal). Default: true.
        pub(crate) incremental: Option<bool>,
        /// How much smaller than before it may be, and what is done when it is even smaller.
        #[serde(default)]
        pub(crate) shrink: Shrink,
    }
}

with_password! {
    /// Redis or Valkey.
    struct RedisConfig {
        /// redis://host:port or rediss://host:port; a list, of which a replica is preferred.
        pub(crate) urls: Vec<String>,
        /// The user, where there are ACLs.
        pub(crate) user: Option<String>,
        /// Trust the certificates in this PEM file.
        pub(crate) ca_certificate: Option<PathBuf>,
        /// How much smaller than before it may be, and what is done when it is even smaller.
        #[serde(default)]
        pub(crate) shrink: Shrink,
    }
}

with_password! {
    /// etcd.
    struct EtcdConfig {
        /// https://host:2379; the first that answers is asked.
        pub(crate) endpoints: Vec<String>,
        /// The user, where authentication is on.
        pub(crate) user: Option<String>,
        /// Trust the certificates in this PEM file.
        pub(crate) ca_certificate: Option<PathBuf>,
        /// The client's certificate, as PEM.
        pub(crate) certificate: Option<PathBuf>,
        /// The client's key, as PEM.
        pub(crate) key: Option<PathBuf>,
        /// How much smaller than before it may be, and what is done when it is even smaller.
        #[serde(default)]
        pub(crate) shrink: Shrink,
    }
}

/// SQLite.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqliteConfig {
    /// The database's file.
    pub(crate) path: PathBuf,
    /// Give up when it stays locked for this time. Default: 1 minute.
    pub(crate) lock_timeout: Option<Span>,
    /// How much smaller than before it may be, and what is done when it is even smaller.
    #[serde(default)]
    pub(crate) shrink: Shrink,
}

/// Kubernetes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KubernetesConfig {
    /// kubectl's context. Default: the current one.
    pub(crate) context: Option<String>,
    /// The kubeconfig file.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Only these namespaces. Default: all, and what belongs to none.
    #[serde(default)]
    pub(crate) namespaces: Vec<String>,
    /// Only these types, as kubectl api-resources -o name names them. Default: all but those that say what happens, such as events.
    #[serde(default)]
    pub(crate) types: Vec<String>,
    /// All but these types.
    #[serde(default)]
    pub(crate) exclude_types: Vec<String>,
    /// What controllers make again by themselves too, such as the pods of a deployment. Default: false.
    #[serde(default)]
    pub(crate) derived: bool,
    /// How much smaller than before it may be, and what is done when it is even smaller.
    #[serde(default)]
    pub(crate) shrink: Shrink,
}

/// A program.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandConfig {
    /// The program and its arguments; no shell is involved.
    pub(crate) command: Vec<String>,
    /// What its output is called in the snapshot: a file name. Default: the source's name.
    pub(crate) name: Option<String>,
    /// Variables for its environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Hidden>,
    /// Where it runs. Default: where backstay runs.
    pub(crate) directory: Option<PathBuf>,
    /// Stop it when it runs longer. Default: never.
    pub(crate) timeout: Option<Span>,
    /// Stop it when it prints nothing for this time. Default: never.
    pub(crate) no_progress_timeout: Option<Span>,
    /// How much smaller than before it may be, and what is done when it is even smaller.
    #[serde(default)]
    pub(crate) shrink: Shrink,
}

/// Files and directories.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilesConfig {
    /// Files and directories.
    pub(crate) paths: Vec<PathBuf>,
    /// Leave out what matches, as in .gitignore, against absolute paths.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// Read such patterns from files, one a line; they win over exclude.
    #[serde(default)]
    pub(crate) exclude_files: Vec<PathBuf>,
    /// Keep only files which match, or are below a directory that matches.
    #[serde(default)]
    pub(crate) include: Vec<String>,
    /// Leave out the content of directories marked by a CACHEDIR.TAG. Default: false.
    #[serde(default)]
    pub(crate) exclude_caches: bool,
    /// Leave out the content of directories which hold this file: NAME or NAME:HEADER.
    #[serde(default)]
    pub(crate) exclude_if_present: Vec<String>,
    /// Leave out files larger than this, such as "500M".
    pub(crate) exclude_larger_than: Option<Size>,
    /// How much smaller than before it may be; without it, by anything but all of its bytes.
    pub(crate) shrink: Option<Shrink>,
    /// Do not enter other file systems. Default: false.
    #[serde(default)]
    pub(crate) one_file_system: bool,
}

/// When a component has shrunk too much since the last snapshot.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shrink {
    /// By how many percent of its bytes it may shrink. Default: 80.
    #[serde(default = "Shrink::percent")]
    pub(crate) percent_max: u8,
    /// What is done when it shrank more. Default: refuse.
    #[serde(default)]
    pub(crate) then: ShrinkThen,
}

impl Shrink {
    const fn percent() -> u8 {
        80
    }
}

impl Default for Shrink {
    fn default() -> Self {
        Self { percent_max: Self::percent(), then: ShrinkThen::Refuse }
    }
}

/// What is done with a component that has shrunk too much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ShrinkThen {
    /// It counts as failed.
    #[default]
    Refuse,
    /// It is stored, with a warning.
    Warn,
}

/// Sources that are backed up together, as one snapshot.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobConfig {
    /// Where to. Default: the only repository that there is.
    pub(crate) repository: Option<String>,
    /// What, by name.
    pub(crate) sources: Vec<String>,
    /// When: five fields as in crontab(5), or @daily and its like.
    pub(crate) schedule: Option<String>,
    /// How long its snapshots are kept, once `backstay forget --job NAME` is run. Default: for ever.
    pub(crate) retention: Option<RetentionConfig>,
    /// Nothing forgets its snapshots before they are so old, such as "7y".
    pub(crate) hold: Option<Period>,
    /// Tags of its snapshots.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// Repositories that its snapshots are copied to, once they are committed.
    #[serde(default)]
    pub(crate) copy_to: Vec<String>,
    /// Programs that run around it.
    #[serde(default)]
    pub(crate) hooks: HooksConfig,
    /// How many sources are read at once. Default: 2.
    pub(crate) sources_at_once: Option<usize>,
    /// Give up when it takes longer. Default: never.
    pub(crate) timeout: Option<Span>,
    /// Upload at most this much per second, such as "10M". Default: no limit.
    pub(crate) limit_upload: Option<Rate>,
    /// How hard to compress, from 1 (fast) to 19. Default: 3.
    pub(crate) compression: Option<i32>,
}

/// Programs that run around a job, each with its arguments; no shell is involved.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HooksConfig {
    /// Before anything is read; when it fails, nothing is.
    pub(crate) before: Option<Vec<String>>,
    /// After a job that succeeded, whole or in part.
    pub(crate) after: Option<Vec<String>>,
    /// After a job that failed, whole or in part.
    pub(crate) on_failure: Option<Vec<String>>,
}

/// A time such as "90s", "10m", "4h" or "30d".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) std::time::Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no time such as \"90s\", \"10m\", \"4h\" or \"30d\"");
        let span: jiff::Span = text.parse().map_err(|_| wrong())?;
        let days = jiff::SpanRelativeTo::days_are_24_hours();
        let duration = span.to_duration(days).map_err(|_| wrong())?;
        std::time::Duration::try_from(duration).map(Self).map_err(|_| wrong())
    }
}

/// A count of bytes such as "500M".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Size(pub(crate) u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        crate::words::size(&text).map(Self)
    }
}

/// Bytes per second, such as "10M".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Rate(pub(crate) NonZeroU64);

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        crate::words::rate(&text).map(Self)
    }
}

macro_rules! schema_of_text {
    ($name:ident, $word:literal, $pattern:literal) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $word.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

schema_of_text!(Span, "Span", r"^\s*\d+\s*[a-zA-Z]+(\s*\d+\s*[a-zA-Z]+)*\s*$");
schema_of_text!(Rate, "Rate", r"^\d+(\.\d+)?\s*[kKMGTPi]*B?(/s)?$");
schema_of_text!(Size, "Size", r"^\d+(\.\d+)?\s*[kKMGTPi]*B?$");
