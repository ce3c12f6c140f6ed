//! What must hold between tables, and of values beyond their types.
//!
//! Invariant: a mistake is told at the value that is wrong, as far as the text shows where that is.
//! Never here: whether a server answers.

use std::ops::Range;

use super::mistakes::Mistakes;
use super::model::{CommandConfig, Config, JobConfig, PostgresConfig, RepositoryConfig, SourceConfig};
use super::spelling::suggestion;

/// The longest name of a source, in bytes: it is a file name in snapshots.
const NAME_LEN_MAX: usize = 128;

/// Adds what is wrong.
pub(super) fn check(config: &Config, text: &str, mistakes: &mut Mistakes) {
    let place = |name: &str| place_of(text, name);
    for (name, repository) in &config.repositories {
        repository_rules(name, repository, place(&format!("repositories.{name}")), mistakes);
    }
    for (name, source) in &config.sources {
        source_rules(name, source, place(&format!("sources.{name}")), mistakes);
    }
    for (name, job) in &config.jobs {
        job_rules(name, job, config, place(&format!("jobs.{name}")), mistakes);
    }
}

/// Where a table's header stands.
fn place_of(text: &str, name: &str) -> Option<Range<usize>> {
    let header = format!("[{name}]");
    let at = text.find(&header)?;
    Some(at..at + header.len())
}

fn repository_rules(name: &str, repository: &RepositoryConfig, place: Option<Range<usize>>, mistakes: &mut Mistakes) {
    if let Err(error) = repository.url.parse::<store::Location>() {
        mistakes.add(place.clone(), format!("repository \"{name}\": {error}"), None);
    }
    let given =
        [repository.password_file.is_some(), repository.password_command.is_some(), repository.key_file.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        let what = format!("repository \"{name}\" says more than once what opens it");
        mistakes.add(place, what, Some("keep one of password_file, password_command, key_file".to_owned()));
    }
}

fn source_rules(name: &str, source: &SourceConfig, place: Option<Range<usize>>, mistakes: &mut Mistakes) {
    let is_name = !name.is_empty() && name.len() <= NAME_LEN_MAX && name != "." && name != "..";
    if !is_name || name.contains(['/', '\0', ':']) {
        let hint = Some("use letters, digits, '-' and '_'".to_owned());
        mistakes.add(place.clone(), format!("\"{name}\" cannot name a source"), hint);
    }
    let mut wrong = |what: &str, hint: Option<&str>| {
        mistakes.add(place.clone(), format!("source \"{name}\": {what}"), hint.map(str::to_owned));
    };
    match source {
        SourceConfig::Postgres(postgres) => postgres_rules(postgres, &mut wrong),
        SourceConfig::Redis(redis) if redis.urls.is_empty() => wrong("urls is empty", Some("name at least one server")),
        SourceConfig::Etcd(etcd) if etcd.endpoints.is_empty() => {
            wrong("endpoints is empty", Some("name at least one member"));
        }
        SourceConfig::Command(CommandConfig { command, .. }) if command.is_empty() => {
            wrong("command is empty", Some("name a program"));
        }
        SourceConfig::Files(files) if files.paths.is_empty() => {
            wrong("paths is empty", Some("name at least one file or folder"));
        }
        _ => {}
    }
    if secrets_of(source) > 1 {
        wrong("more than one password is given", Some("keep one of password, password_file, password_command"));
    }
}

fn postgres_rules(postgres: &PostgresConfig, wrong: &mut dyn FnMut(&str, Option<&str>)) {
    let is_partial = !(postgres.tables.is_empty() && postgres.schemas.is_empty());
    if is_partial && postgres.databases.len() > 1 {
        wrong("tables and schemas are of one database", Some("make one source of each database"));
    }
    if postgres.databases.len() > 1 && postgres.databases.iter().any(|database| database == "*") {
        wrong("\"*\" stands for all databases", Some("leave the others out"));
    }
}

fn secrets_of(source: &SourceConfig) -> usize {
    let count = |one: bool, two: bool, three: bool| [one, two, three].iter().filter(|given| **given).count();
    match source {
        SourceConfig::Postgres(s) => {
            count(s.password.is_some(), s.password_file.is_some(), s.password_command.is_some())
        }
        SourceConfig::PostgresPhysical(s) => {
            count(s.password.is_some(), s.password_file.is_some(), s.password_command.is_some())
        }
        SourceConfig::Redis(s) => count(s.password.is_some(), s.password_file.is_some(), s.password_command.is_some()),
        SourceConfig::Etcd(s) => count(s.password.is_some(), s.password_file.is_some(), s.password_command.is_some()),
        _ => 0,
    }
}

fn job_rules(name: &str, job: &JobConfig, config: &Config, place: Option<Range<usize>>, mistakes: &mut Mistakes) {
    let mut wrong = |what: String, hint: Option<String>| {
        mistakes.add(place.clone(), format!("job \"{name}\": {what}"), hint);
    };
    let repositories = config.repositories.keys().map(String::as_str);
    match &job.repository {
        Some(repository) if !config.repositories.contains_key(repository) => {
            wrong(format!("there is no repository \"{repository}\""), suggestion(repository, repositories));
        }
        None if config.repositories.len() != 1 => {
            let hint = Some("add repository = \"NAME\"".to_owned());
            wrong(format!("there are {} repositories, and it names none", config.repositories.len()), hint);
        }
        _ => {}
    }
    if job.sources.is_empty() {
        wrong("sources is empty".to_owned(), Some("name at least one source".to_owned()));
    }
    for (at, source) in job.sources.iter().enumerate() {
        if !config.sources.contains_key(source) {
            let known = config.sources.keys().map(String::as_str);
            wrong(format!("there is no source \"{source}\""), suggestion(source, known));
        }
        if job.sources.iter().take(at).any(|other| other == source) {
            wrong(format!("source \"{source}\" is named twice"), None);
        }
    }
    if let Some(schedule) = &job.schedule
        && let Err(error) = schedule.parse::<croner::Cron>()
    {
        let hint = Some("write minute, hour, day, month and weekday, such as \"0 2 * * *\"".to_owned());
        wrong(format!("schedule \"{schedule}\": {error}"), hint);
    }
    if job.retention.as_ref().is_some_and(|retention| retention.policy().is_empty()) {
        let hint = Some("say what to keep, such as daily = 7, or leave the table out".to_owned());
        wrong("retention keeps nothing that it names".to_owned(), hint);
    }
    if job.compression.is_some_and(|level| !(1..=19).contains(&level)) {
        wrong("compression is from 1 to 19".to_owned(), None);
    }
    if job.sources_at_once == Some(0) {
        wrong("sources_at_once must be at least 1".to_owned(), None);
    }
    let hooks = [&job.hooks.before, &job.hooks.after, &job.hooks.on_failure];
    if hooks.into_iter().flatten().any(Vec::is_empty) {
        wrong("a hook is empty".to_owned(), Some("name a program, or leave the key out".to_owned()));
    }
}
