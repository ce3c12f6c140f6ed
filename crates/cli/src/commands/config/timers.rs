//! `config timers`: what starts jobs on their schedules, for systemd and for cron.
//!
//! Invariant: nothing is written but standard output, and nothing is started.
//! Never here: what a schedule means (see `config::on_calendar`).

use std::path::Path;

use clap::Args;
use serde::Serialize;

use crate::config::on_calendar;
use crate::context::Context;
use crate::error::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  backstay config timers
  backstay config timers nightly
  backstay config timers --json | jq -r '.[].cron'";

/// Print systemd timers and lines for cron which run jobs on their schedules
///
/// Each unit is printed behind the name of its file; put them there, then run: systemctl daemon-reload, and systemctl
/// enable --now with the timer's name. A run that was missed while the machine was off is caught up by systemd, and not
/// by cron.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TimersArgs {
    /// The jobs, as the configuration names them; all that have a schedule, if none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Document {
    job: String,
    schedule: String,
    service_name: String,
    service: String,
    timer_name: String,
    timer: String,
    cron: String,
}

/// Prints them.
pub(super) fn run(args: &TimersArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let found = ctx.config()?.ok_or(CommandError::ConfigMissing)?;
    let jobs = &found.config.jobs;
    let known = || jobs.keys().cloned().collect::<Vec<_>>().join(", ");
    if let Some(name) = args.jobs.iter().find(|name| !jobs.contains_key(*name)) {
        return Err(CommandError::JobUnknown { name: name.clone(), known: known() });
    }
    let program = std::env::current_exe().map_err(|source| CommandError::CurrentDirectory { source })?;
    let config = found.path.canonicalize();
    let config = config.map_err(|source| CommandError::ConfigFile { path: found.path.clone(), source })?;
    let mut documents = Vec::new();
    for (name, job) in jobs.iter().filter(|(name, _)| args.jobs.is_empty() || args.jobs.contains(name)) {
        let wrong = |why: &str| CommandError::SourceSetting { what: format!("job {name}"), why: why.to_owned() };
        match &job.schedule {
            Some(schedule) => {
                let calendar = on_calendar(schedule).filter(|_| !name.contains(char::is_control));
                let calendar = calendar.ok_or_else(|| wrong("has a schedule that systemd and cron cannot say"))?;
                documents.push(document(name, schedule, &calendar, &program, &config));
            }
            None if args.jobs.is_empty() => {}
            None => return Err(wrong("has no schedule")),
        }
    }
    if documents.is_empty() {
        return Err(CommandError::SourceSetting { what: "the configuration".into(), why: "has no schedule".into() });
    }
    if ctx.ui.is_json {
        ctx.ui.json(&documents)?;
        return Ok(Outcome::Done);
    }
    for document in &documents {
        for (name, text) in [(&document.service_name, &document.service), (&document.timer_name, &document.timer)] {
            ctx.ui.line(format_args!("# /etc/systemd/system/{name}\n{text}"))?;
        }
        ctx.ui.line(format_args!("# or in a crontab:\n# {}\n", document.cron))?;
    }
    Ok(Outcome::Done)
}

fn document(job: &str, schedule: &str, calendar: &[String], program: &Path, config: &Path) -> Document {
    let (program, config) = (program.display().to_string(), config.display().to_string());
    let words = [program.as_str(), "run", "--config", config.as_str(), "--", job];
    let start = words.map(for_systemd).join(" ");
    let unit = format!("backstay-{}", unit_name(job));
    let service = format!(
        "[Unit]\nDescription=backstay: job {}\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nType=oneshot\nExecStart={start}\n",
        job.replace('%', "%%")
    );
    let lines: String = calendar.iter().map(|line| format!("OnCalendar={line}\n")).collect();
    let timer = format!(
        "[Unit]\nDescription=backstay: schedule of job {}\n\n[Timer]\n{lines}Persistent=true\n\n\
         [Install]\nWantedBy=timers.target\n",
        job.replace('%', "%%")
    );
    Document {
        job: job.to_owned(),
        schedule: schedule.to_owned(),
        service_name: format!("{unit}.service"),
        service,
        timer_name: format!("{unit}.timer"),
        timer,
        cron: format!("{} {}", schedule.trim(), words.map(for_cron).join(" ")),
    }
}

fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|char| char.is_ascii_alphanumeric() || "/._-:@+=".contains(char))
}

/// A word of a command line in a unit.
fn for_systemd(word: &str) -> String {
    if is_plain(word) {
        return word.to_owned();
    }
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{word}\"")
}

/// A word of a command line in a crontab, where a percent sign ends a line.
fn for_cron(word: &str) -> String {
    if is_plain(word) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''").replace('%', "\\%"))
}

/// A job's name within that of a unit, as systemd-escape writes it.
fn unit_name(job: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    job.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_reach_systemd_and_cron_as_they_are() {
        let calendar = ["*-*-* 02:00:00".to_owned()];
        let plain =
            document("nightly", "0 2 * * *", &calendar, Path::new("/usr/bin/backstay"), Path::new("/etc/b.toml"));
        assert!(plain.service.contains("ExecStart=/usr/bin/backstay run --config /etc/b.toml -- nightly\n"));
        assert!(plain.timer.contains("\nOnCalendar=*-*-* 02:00:00\nPersistent=true\n"), "{}", plain.timer);
        assert_eq!(plain.cron, "0 2 * * * /usr/bin/backstay run --config /etc/b.toml -- nightly");
        let odd = document("a b%'$\"", "@daily", &calendar, Path::new("/b"), Path::new("/c"));
        assert_eq!(odd.timer_name, "backstay-a\\x20b\\x25\\x27\\x24\\x22.timer");
        assert!(odd.service.contains("-- \"a b%%'$$\\\"\"\n"), "{}", odd.service);
        assert!(odd.cron.ends_with(r#"-- 'a b\%'\''$"'"#), "{}", odd.cron);
    }
}
