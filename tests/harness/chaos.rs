//! Random changes to a folder.
//!
//! Invariant: equal dice on equal folders make equal changes.
//! Never here: what the changes mean to a backup.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dice::Dice;

/// Files grow to at most about this, in bytes.
const FILE_LEN_MAX: usize = 1 << 20;
/// Lengths at which something changes in how content is stored.
const LENGTHS: [usize; 12] = [0, 1, 17, 511, 4_096, 9_000, 65_536, 131_073, 300_000, 524_288, 524_289, 900_000];

/// Makes one change, and says which.
pub fn change_something(folder: &Path, dice: &Dice) -> String {
    let (files, folders) = listing(folder);
    let file = dice.pick(&files).cloned();
    let parent = dice.pick(&folders).cloned().unwrap_or_else(|| folder.to_owned());
    let new = parent.join(name(dice));
    match (dice.below(13), file) {
        (0..=2, _) | (_, None) => create(&new, dice),
        (3, Some(file)) => change_bytes(&file, dice, "append"),
        (4, Some(file)) => change_bytes(&file, dice, "overwrite"),
        (5, Some(file)) => change_bytes(&file, dice, "insert"),
        (6, Some(file)) => change_bytes(&file, dice, "truncate"),
        (7, Some(file)) => remove(&folders, folder, &file, dice),
        (8, Some(file)) => rename(&file, &new),
        (9, Some(file)) => chmod(&file, dice),
        (10, Some(file)) => link(&file, &new, dice),
        (11, _) => sparse(&new, dice),
        (_, Some(file)) => touch(&file, dice),
    }
}

/// Regular files, and folders with the first one, each sorted.
fn listing(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut folders, mut todo) = (Vec::new(), vec![folder.to_owned()], vec![folder.to_owned()]);
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).expect("lists") {
            let entry = entry.expect("lists");
            let kind = entry.file_type().expect("is there");
            if kind.is_dir() {
                todo.push(entry.path());
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    folders.sort();
    (files, folders)
}

fn name(dice: &Dice) -> String {
    const STEMS: [&str; 8] = ["a", "b b", "ü", "c.tmp", "-d", "e\nf", "日本", "x'\"\\"];
    format!("{}{}", dice.pick(&STEMS).expect("has some"), dice.below(40))
}

/// Random, repeating or mixed bytes.
fn content(dice: &Dice, len: usize) -> Vec<u8> {
    match dice.below(3) {
        0 => dice.bytes(len),
        1 => (0..len).map(|at| b"all work and no play makes "[at % 27]).collect(),
        _ => {
            let line = dice.bytes(97);
            (0..len).map(|at| line[(at * at / 1000) % 97]).collect()
        }
    }
}

fn shown(path: &Path) -> String {
    format!("{:?}", path.file_name().unwrap_or_default())
}

fn create(path: &Path, dice: &Dice) -> String {
    if path.symlink_metadata().is_ok() {
        return format!("found {} there already", shown(path));
    }
    match dice.below(8) {
        0 => {
            fs::create_dir(path).expect("creates");
            format!("made the folder {}", shown(path))
        }
        1 => {
            symlink(format!("../nowhere/{}", dice.below(9)), path).expect("links");
            format!("made the symbolic link {}", shown(path))
        }
        _ => {
            let len = *dice.pick(&LENGTHS).expect("has some");
            fs::write(path, content(dice, len)).expect("writes");
            format!("created {} of {len} bytes", shown(path))
        }
    }
}

fn change_bytes(path: &Path, dice: &Dice, how: &str) -> String {
    let mut bytes = fs::read(path).expect("reads");
    let at = dice.below(bytes.len() + 1);
    let len = dice.below(20_000) + 1;
    let piece = content(dice, len);
    match how {
        "append" if bytes.len() < FILE_LEN_MAX => {
            OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(&piece)).expect("appends");
        }
        "overwrite" => {
            let end = bytes.len().min(at + piece.len());
            let file = OpenOptions::new().write(true).open(path).expect("opens");
            file.write_all_at(&piece[..end - at], at as u64).expect("writes");
        }
        "insert" if bytes.len() < FILE_LEN_MAX => {
            bytes.splice(at..at, piece);
            fs::write(path, bytes).expect("writes");
        }
        _ => OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(at as u64)).expect("truncates"),
    }
    format!("{how} {} at {at}, {len} bytes", shown(path))
}

fn remove(folders: &[PathBuf], top: &Path, file: &Path, dice: &Dice) -> String {
    let folder = dice.pick(folders).filter(|folder| folder.as_path() != top && dice.once_in(4));
    match folder {
        Some(folder) => fs::remove_dir_all(folder).expect("removes"),
        None => fs::remove_file(file).expect("removes"),
    }
    format!("removed {}", shown(folder.map_or(file, PathBuf::as_path)))
}

fn rename(file: &Path, new: &Path) -> String {
    if new.is_dir() {
        return format!("left {} alone", shown(new));
    }
    fs::rename(file, new).expect("renames");
    format!("renamed {} to {}", shown(file), shown(new))
}

fn chmod(file: &Path, dice: &Dice) -> String {
    let mode = *dice.pick(&[0o600, 0o644, 0o755, 0o400, 0o4755, 0o1777]).expect("has some");
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("changes");
    format!("gave {} mode {mode:o}", shown(file))
}

fn link(file: &Path, new: &Path, dice: &Dice) -> String {
    if new.symlink_metadata().is_ok() {
        return format!("found {} there already", shown(new));
    }
    if dice.once_in(3) {
        symlink(file, new).expect("links");
    } else {
        fs::hard_link(file, new).expect("links");
    }
    format!("linked {} to {}", shown(new), shown(file))
}

/// A file with holes, sometimes at its end.
fn sparse(path: &Path, dice: &Dice) -> String {
    if path.symlink_metadata().is_ok() {
        return format!("found {} there already", shown(path));
    }
    let mut file = File::create(path).expect("creates");
    for _ in 0..=dice.below(3) {
        file.seek(SeekFrom::Current((dice.below(8) << 18) as i64)).expect("seeks");
        file.write_all(&content(dice, 4096 * (1 + dice.below(4)))).expect("writes");
    }
    let len = file.metadata().expect("is there").len() + ((dice.below(3) << 19) as u64);
    file.set_len(len).expect("grows");
    format!("created {} of {len} bytes with holes", shown(path))
}

/// Sets the modification time, also far from now.
fn touch(file: &Path, dice: &Dice) -> String {
    let secs = *dice.pick(&[0, 1, 1_000_000_000, 4_102_444_800]).expect("has some");
    let time = std::time::UNIX_EPOCH + Duration::new(secs, u32::try_from(dice.below(1_000_000_000)).expect("fits"));
    let opened = OpenOptions::new().write(true).open(file).expect("opens");
    opened.set_modified(time).expect("sets");
    format!("gave {} the time {secs}", shown(file))
}
