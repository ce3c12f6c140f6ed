//! What must hold between tables, and of values beyond their types.
//!
//! Invariant: a mistake is told at the value that is wrong; where a value is missing, at its table's name.
//! Never here: whether a server answers.

use super::mistakes::Mistakes;
use super::model::{Config, JobConfig, PasswordKeys, PostgresConfig, RepositoryConfig, SourceConfig};
use super::places::Places;
use super::spelling::suggestion;

/// The longest name of a source, in bytes: it is a file name in snapshots.
const NAME_LEN_MAX: usize = 128;

/// Adds what is wrong.
pub(super) fn check(config: &Config, places: &Places, mistakes: &mut Mistakes) {
    for (name, repository) in &config.repositories {
        repository_rules(repository, &mut Told { section: "repositories", name, places, mistakes });
    }
    for (name, source) in &config.sources {
        source_rules(name, source, &mut Told { section: "sources", name, places, mistakes });
    }
    for (name, job) in &config.jobs {
        job_rules(job, &mut Told { section: "jobs", name, places, mistakes });
    }
}

/// Where mistakes of one table go.
struct Told<'t> {
    section: &'static str,
    name: &'t str,
    places: &'t Places,
    mistakes: &'t mut Mistakes,
}

impl Told<'_> {
    /// Adds a mistake at the value that `keys` lead to.
    fn wrong(&mut self, keys: &[&str], what: impl std::fmt::Display, hint: Option<&str>) {
        let path = [&[self.section, self.name], keys].concat();
        let noun = match self.section {
            "repositories" => "repository",
            "sources" => "source",
            _ => "job",
        };
        let what = format!("{noun} \"{}\": {what}", self.name);
        self.mistakes.add(self.places.place(&path), what, hint.map(str::to_owned));
    }

    /// Adds a mistake if more than one of these keys is given, at the last of them.
    fn only_one(&mut self, keys: &[(&str, bool)], what: &str) {
        let given: Vec<&str> = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        if let [_, .., last] = given.as_slice() {
            let all: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
            self.wrong(&[last], what, Some(&format!("keep one of {}", all.join(", "))));
        }
    }
}

fn repository_rules(repository: &RepositoryConfig, told: &mut Told<'_>) {
    if let Err(error) = repository.url.parse::<store::Location>() {
        told.wrong(&["url"], error, None);
    }
    let given = [
        ("password_file", repository.password_file.is_some()),
        ("password_command", repository.password_command.is_some()),
        ("key_file", repository.key_file.is_some()),
    ];
    told.only_one(&given, "it is said more than once what opens it");
}

fn source_rules(name: &str, source: &SourceConfig, told: &mut Told<'_>) {
    let is_name = !name.is_empty() && name.len() <= NAME_LEN_MAX && name != "." && name != "..";
    if !is_name || name.contains(['/', '\0', ':']) {
        told.wrong(&[], "this cannot name a source", Some("use letters, digits, '-' and '_'"));
    }
    match source {
        SourceConfig::Postgres(postgres) => {
            postgres_rules(postgres, told);
            patroni_rules(&postgres.url, &postgres.patroni, told);
        }
        SourceConfig::PostgresPhysical(postgres) => patroni_rules(&postgres.url, &postgres.patroni, told),
        SourceConfig::Redis(redis) if redis.urls.is_empty() => {
            told.wrong(&["urls"], "urls is empty", Some("name at least one server"));
        }
        SourceConfig::Etcd(etcd) if etcd.endpoints.is_empty() => {
            told.wrong(&["endpoints"], "endpoints is empty", Some("name at least one member"));
        }
        SourceConfig::Command(command) if command.command.is_empty() => {
            told.wrong(&["command"], "command is empty", Some("name a program"));
        }
        SourceConfig::Files(files) if files.paths.is_empty() => {
            told.wrong(&["paths"], "paths is empty", Some("name at least one file or folder"));
        }
        _ => {}
    }
    if let Some(PasswordKeys { plain, file, command }) = source.password() {
        let given =
            [("password", plain.is_some()), ("password_file", file.is_some()), ("password_command", command.is_some())];
        told.only_one(&given, "more than one password is given");
    }
}

fn postgres_rules(postgres: &PostgresConfig, told: &mut Told<'_>) {
    let databases = &postgres.databases;
    let part = [("tables", &postgres.tables), ("schemas", &postgres.schemas)];
    let part = part.into_iter().find(|(_, patterns)| !patterns.is_empty());
    if let Some((key, _)) = part.filter(|_| databases.len() > 1) {
        let hint = "make one source of each database";
        told.wrong(&[key], "tables and schemas are of one database", Some(hint));
    }
    if let Some(at) = databases.iter().position(|database| database == "*").filter(|_| databases.len() > 1) {
        told.wrong(&["databases", &at.to_string()], "\"*\" stands for all databases", Some("leave the others out"));
    }
}

fn patroni_rules(url: &str, patroni: &[String], told: &mut Told<'_>) {
    for (at, endpoint) in patroni.iter().enumerate() {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let hint = Some("write the URL of its REST interface, such as \"http://10.0.0.1:8008\"");
            told.wrong(&["patroni", &at.to_string()], format_args!("\"{endpoint}\" is no URL"), hint);
        }
    }
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if !patroni.is_empty() && !host.is_empty() {
        told.wrong(&["url"], "it names a host, and patroni tells the hosts", Some("write postgres://user@/database"));
    }
}

fn copy_rules(job: &JobConfig, told: &mut Told<'_>) {
    let repositories = told.places.names("repositories");
    let own = job.repository.as_deref().or(repositories.first().copied().filter(|_| repositories.len() == 1));
    let own = own.map(str::to_owned);
    for (at, to) in job.copy_to.iter().enumerate() {
        let place = at.to_string();
        let known = told.places.names("repositories");
        if !known.contains(&to.as_str()) {
            let hint = suggestion(to, known);
            told.wrong(&["copy_to", &place], format_args!("there is no repository \"{to}\""), hint.as_deref());
        } else if own.as_deref() == Some(to) {
            told.wrong(&["copy_to", &place], format_args!("\"{to}\" is its own repository"), Some("leave it out"));
        } else if job.copy_to.iter().take(at).any(|other| other == to) {
            told.wrong(&["copy_to", &place], format_args!("repository \"{to}\" is named twice"), None);
        }
    }
}

fn job_rules(job: &JobConfig, told: &mut Told<'_>) {
    // What has mistakes of its own is there all the same.
    let (repositories, sources) = (told.places.names("repositories"), told.places.names("sources"));
    match &job.repository {
        Some(repository) if !repositories.contains(&repository.as_str()) => {
            let hint = suggestion(repository, repositories);
            told.wrong(&["repository"], format_args!("there is no repository \"{repository}\""), hint.as_deref());
        }
        None if repositories.len() != 1 => {
            let what = format!("there are {} repositories, and it names none", repositories.len());
            told.wrong(&[], what, Some("add repository = \"NAME\""));
        }
        _ => {}
    }
    copy_rules(job, told);
    if job.sources.is_empty() {
        told.wrong(&["sources"], "sources is empty", Some("name at least one source"));
    }
    for (at, source) in job.sources.iter().enumerate() {
        let place = at.to_string();
        if !sources.contains(&source.as_str()) {
            let hint = suggestion(source, sources.iter().copied());
            told.wrong(&["sources", &place], format_args!("there is no source \"{source}\""), hint.as_deref());
        }
        if job.sources.iter().take(at).any(|other| other == source) {
            told.wrong(&["sources", &place], format_args!("source \"{source}\" is named twice"), None);
        }
    }
    if let Some(schedule) = &job.schedule
        && let Err(error) = schedule.parse::<croner::Cron>()
    {
        let hint = Some("write minute, hour, day, month and weekday, such as \"0 2 * * *\"");
        told.wrong(&["schedule"], format_args!("schedule \"{schedule}\": {error}"), hint);
    }
    if job.retention.as_ref().is_some_and(|retention| retention.policy().is_empty()) {
        let hint = Some("say what to keep, such as daily = 7, or leave the table out");
        told.wrong(&["retention"], "retention names nothing to keep", hint);
    }
    if job.compression.is_some_and(|level| !(1..=19).contains(&level)) {
        told.wrong(&["compression"], "compression is from 1 to 19", None);
    }
    if job.sources_at_once == Some(0) {
        told.wrong(&["sources_at_once"], "sources_at_once must be at least 1", None);
    }
    let hooks = [("before", &job.hooks.before), ("after", &job.hooks.after), ("on_failure", &job.hooks.on_failure)];
    for (key, _) in hooks.iter().filter(|(_, hook)| hook.as_ref().is_some_and(Vec::is_empty)) {
        told.wrong(&["hooks", key], "a hook is empty", Some("name a program, or leave the key out"));
    }
}
