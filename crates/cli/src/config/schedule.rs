//! A job's schedule as systemd writes it.
//!
//! ```text
//! 0 2 * * 1-5     →  Mon,Tue,Wed,Thu,Fri *-*-* 02:00:00
//! 30 4 1 * sun    →  *-*-1 04:30:00 and Sun *-*-* 04:30:00: of two days, cron takes either
//! ```
//!
//! Invariant: what cannot be said exactly is not said.
//! Never here: clocks.

use std::collections::BTreeSet;

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// The lines `OnCalendar=` of a schedule of five fields, or of one such as `@daily`; `None` if it says more than that.
pub(crate) fn on_calendar(schedule: &str) -> Option<Vec<String>> {
    let schedule = match schedule.trim().to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *".to_owned(),
        "@monthly" => "0 0 1 * *".to_owned(),
        "@weekly" => "0 0 * * 0".to_owned(),
        "@daily" | "@midnight" => "0 0 * * *".to_owned(),
        "@hourly" => "0 * * * *".to_owned(),
        other => other.to_owned(),
    };
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let &[minute, hour, day, month, weekday] = fields.as_slice() else { return None };
    let time = format!("{}:{}:00", list(hour, 0..=23, &[], 2)?, list(minute, 0..=59, &[], 2)?);
    let (days, month) = (list(day, 1..=31, &[], 1)?, list(month, 1..=12, &MONTHS, 1)?);
    let weekdays = weekdays(weekday)?;
    let line = |weekdays: &str, days: &str| {
        let weekdays = if weekdays.is_empty() { String::new() } else { format!("{weekdays} ") };
        format!("{weekdays}*-{month}-{days} {time}")
    };
    let is_either = !day.starts_with('*') && !weekday.starts_with('*');
    Some(if is_either { vec![line("", &days), line(&weekdays, "*")] } else { vec![line(&weekdays, &days)] })
}

fn list(field: &str, range: std::ops::RangeInclusive<u8>, names: &[&str], width: usize) -> Option<String> {
    let found = values(field, range.clone(), names)?;
    if found.len() == range.len() {
        return Some("*".to_owned());
    }
    let numbers: Vec<String> = found.iter().map(|number| format!("{number:0width$}")).collect();
    Some(numbers.join(","))
}

/// Names of days; empty for all of them.
fn weekdays(field: &str) -> Option<String> {
    let lower = DAYS.map(str::to_ascii_lowercase);
    let names: Vec<&str> = lower.iter().map(String::as_str).collect();
    let found: BTreeSet<u8> = values(field, 0..=7, &names)?.into_iter().map(|day| day % 7).collect();
    if found.len() == DAYS.len() {
        return Some(String::new());
    }
    let found: Vec<&str> = found.iter().filter_map(|&day| DAYS.get(usize::from(day)).copied()).collect();
    Some(found.join(","))
}

/// `*`, `a`, `a-b`, each with `/step`, and lists of them.
fn values(field: &str, range: std::ops::RangeInclusive<u8>, names: &[&str]) -> Option<BTreeSet<u8>> {
    let value = |text: &str| {
        let named = names.iter().position(|name| *name == text).and_then(|at| u8::try_from(at).ok());
        let named = named.map(|at| at + range.start());
        named.or_else(|| text.parse().ok()).filter(|value| range.contains(value))
    };
    let mut found = BTreeSet::new();
    for item in field.split(',') {
        let (span, step) = item.split_once('/').map_or((item, None), |(span, step)| (span, Some(step)));
        let (first, last) = match (span, span.split_once('-'), step) {
            ("*", _, _) => (*range.start(), *range.end()),
            (_, Some((first, last)), _) => (value(first)?, value(last)?),
            (_, None, Some(_)) => (value(span)?, *range.end()),
            (_, None, None) => (value(span)?, value(span)?),
        };
        let step = step.map_or(Some(1), |step| step.parse::<usize>().ok().filter(|step| *step > 0))?;
        if first > last {
            return None;
        }
        found.extend((first..=last).step_by(step));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_said_as_systemd_says_them() {
        for (schedule, expected) in [
            ("0 2 * * *", &["*-*-* 02:00:00"][..]),
            ("@daily", &["*-*-* 00:00:00"]),
            ("@weekly", &["Sun *-*-* 00:00:00"]),
            ("@hourly", &["*-*-* *:00:00"]),
            ("*/15 8-18/5 * * *", &["*-*-* 08,13,18:00,15,30,45:00"]),
            ("30 4 * jan,7 mon-wed", &["Mon,Tue,Wed *-1,7-* 04:30:00"]),
            ("0 0 * * 5-7", &["Sun,Fri,Sat *-*-* 00:00:00"]),
            ("30 4 1,15 * 0", &["*-*-1,15 04:30:00", "Sun *-*-* 04:30:00"]),
            ("5 1 */10 * SUN", &["Sun *-*-1,11,21,31 01:05:00"]),
        ] {
            assert_eq!(
                on_calendar(schedule).as_deref(),
                Some(&expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]),
                "{schedule}"
            );
        }
    }

    #[test]
    fn what_only_some_programs_understand_is_not_said() {
        for schedule in
            ["0 2 L * *", "0 2 * * 5#2", "0 0 2 * * *", "60 * * * *", "5-1 * * * *", "*/0 * * * *", "@reboot", ""]
        {
            assert_eq!(on_calendar(schedule), None, "{schedule}");
        }
    }
}
