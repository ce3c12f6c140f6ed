//! Numbers, times and modes as people read them.
//!
//! Invariant: what came out of a repository reaches a terminal escaped, so a hostile name cannot steer it.
//! Never here: writing to a terminal.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pack::manifest::EntryKind;
pub(crate) use source::entry::escaped;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// This host's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `0 B`, `512 B`, `3.1 MiB`.
pub(crate) fn size(len: u64) -> String {
    let mut value = len as f64 / 1024.0;
    let mut units = UNITS.iter().peekable();
    while let Some(unit) = units.next() {
        // 1023.95 would be shown as 1024.0.
        if value < 1023.95 || units.peek().is_none() {
            return if len < 1024 { format!("{len} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{len} B")
}

/// `60,127`.
pub(crate) fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}

/// `1 entry`, `60,127 entries`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// What a backup says of chunks that were lost and are there again; nothing if there are none.
pub(crate) fn healed(number: u64) -> Option<String> {
    let chunks = counted(number, "chunk that was lost", "chunks that were lost");
    (number > 0).then(|| format!("stored again: {chunks}"))
}

/// `0.04 s`, `4.2 s`, `3 min 05 s`, `2 h 04 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0 => format!("{seconds:.2} s"),
        1..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// `30 days`, `12 hours`: the largest unit of which it is a whole number.
pub(crate) fn age(len: std::time::Duration) -> String {
    let seconds = len.as_secs();
    let units = [(86_400, "day", "days"), (3600, "hour", "hours"), (60, "minute", "minutes")];
    let fits = units.into_iter().find(|(unit, ..)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (unit, one, many) = fits.unwrap_or((1, "second", "seconds"));
    counted(seconds / unit, one, many)
}

/// Nanoseconds since 1970 as the local date and time, to the second.
pub(crate) fn local_time(at: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Nanoseconds since 1970 by RFC 3339, in UTC.
pub(crate) fn rfc3339(at: i64) -> String {
    Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default().to_string()
}

/// The first eight digits of an id: enough to tell snapshots apart at sight, and to name them.
pub(crate) fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(8).collect()
}

/// `drwxr-xr-x`.
pub(crate) fn mode(kind: &EntryKind, mode: u32) -> String {
    let bit = |mask: u32, letter: char| if mode & mask == 0 { '-' } else { letter };
    let run = |mask: u32, special: u32, both: char, alone: char| match (mode & mask != 0, mode & special != 0) {
        (true, true) => both,
        (false, true) => alone,
        (true, false) => 'x',
        (false, false) => '-',
    };
    let shown = [
        kind_letter(kind),
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        run(0o100, 0o4000, 's', 'S'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        run(0o010, 0o2000, 's', 'S'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        run(0o001, 0o1000, 't', 'T'),
    ];
    shown.iter().collect()
}

fn kind_letter(kind: &EntryKind) -> char {
    match kind {
        EntryKind::File { .. } => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        EntryKind::CharDevice { .. } => 'c',
        EntryKind::BlockDevice { .. } => 'b',
    }
}

/// The kind as a word of the JSON output.
pub(crate) fn kind_word(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice { .. } => "char_device",
        EntryKind::BlockDevice { .. } => "block_device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_change_unit_before_they_would_round_to_1024() {
        let shown = [0, 1023, 1024, 1_048_524, 1_048_525, 2_254_857_830, u64::MAX].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1023.9 KiB", "1.0 MiB", "2.1 GiB", "16.0 EiB"]);
    }

    #[test]
    fn ages_are_told_in_the_largest_unit_that_fits() {
        let shown = [2_592_000, 86_400, 129_600, 5400, 61, 0].map(|secs| age(std::time::Duration::from_secs(secs)));
        assert_eq!(shown, ["30 days", "1 day", "36 hours", "90 minutes", "61 seconds", "0 seconds"]);
    }

    #[test]
    fn counts_have_separators_and_the_right_noun() {
        assert_eq!(counted(60_127, "entry", "entries"), "60,127 entries");
        assert_eq!(counted(1, "entry", "entries"), "1 entry");
    }

    #[test]
    fn durations_have_at_most_two_units() {
        let shown = [0.041, 4.24, 59.4, 185.2, 7_440.0].map(duration);
        assert_eq!(shown, ["0.04 s", "4.2 s", "59.4 s", "3 min 05 s", "2 h 04 min"]);
    }

    #[test]
    fn modes_show_special_bits_in_place_of_x() {
        assert_eq!(mode(&EntryKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(&EntryKind::File { len: 0 }, 0o4755), "-rwsr-xr-x");
        assert_eq!(mode(&EntryKind::File { len: 0 }, 0o2644), "-rw-r-Sr--");
    }
}
