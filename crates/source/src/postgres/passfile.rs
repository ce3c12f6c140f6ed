//! The password file `.pgpass`: which password goes to which server.
//!
//! ```text
//! host:port:database:user:password     # `*` fits anything, `\:` and `\\` stand for themselves
//! ```
//!
//! Invariant: the first line that fits wins; passwords are wiped when they are dropped, and `Debug` shows none.
//! Never here: whose file it is.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::{Zeroize as _, Zeroizing};

use super::address::Host;
use super::failure::unfit;
use crate::SourceError;

/// The lines of a password file.
#[derive(Clone, Default)]
pub struct Passfile(Vec<Line>);

#[derive(Clone)]
struct Line {
    /// Host, port, database and user; `None` fits anything.
    wanted: [Option<String>; 4],
    password: Zeroizing<String>,
}

impl Passfile {
    /// Reads a file; one that is not there has no lines.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] if others than its owner may read it, as libpq has it; [`SourceError::Unreadable`] if we
    /// may not.
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file.map_err(unreadable)?,
        };
        if file.metadata().map_err(unreadable)?.mode() & 0o077 != 0 {
            return Err(unfit(&format!("password file {} may be read by others than its owner", path.display())));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(unreadable)?;
        Ok(Self::parse(&text))
    }

    /// Reads the text of a file. Lines that are not of the format are left out of account, as libpq does.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(Line::parse).collect())
    }

    /// The password for `user` at `host`. Physical replication's `database` is called `replication`.
    #[must_use]
    pub fn password(&self, host: &Host, database: &str, user: &str) -> Option<Zeroizing<String>> {
        let (names, port) = match host {
            Host::Tcp { name, port } => (vec![name.clone()], port),
            Host::Unix { folder, port } => (vec![folder.display().to_string(), "localhost".to_owned()], port),
        };
        let port = port.to_string();
        let fits = |line: &&Line| names.iter().any(|name| line.fits([name, &port, database, user]));
        self.0.iter().find(fits).map(|line| line.password.clone())
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = fields(line);
        let password = Zeroizing::new(fields.pop()?);
        let is_whole = fields.len() == 4;
        let mut fields = fields.into_iter().map(|field| (field != "*").then_some(field));
        let wanted = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
        is_whole.then_some(Self { wanted, password })
    }

    fn fits(&self, found: [&str; 4]) -> bool {
        self.wanted.iter().zip(found).all(|(wanted, found)| wanted.as_ref().is_none_or(|wanted| wanted == found))
    }
}

/// The fields between colons that are not escaped; at most five, of which the last has all that is left.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::with_capacity(line.len())];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            ':' if fields.len() < 5 => {
                fields.push(String::with_capacity(line.len()));
                continue;
            }
            '\\' => letters.next().unwrap_or('\\'),
            _ => letter,
        };
        if let Some(field) = fields.last_mut() {
            field.push(letter);
        }
    }
    if fields.len() < 5 {
        fields.iter_mut().for_each(|field| field.zeroize());
    }
    fields
}

impl fmt::Debug for Passfile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Passfile({} lines)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# old:1:a:b:wrong\nnonsense\ndb:5432:replication:rep:pa\\:ss\\\\word\n\
        localhost:*:*:me:local\n/run/x:7:*:me:socket\n*:*:*:me:any:thing\n";

    fn found(host: &str, port: u16, database: &str, user: &str) -> Option<String> {
        let password = Passfile::parse(TEXT).password(&Host::new(host, port), database, user);
        password.map(|password| password.to_string())
    }

    #[test]
    fn the_first_line_that_fits_wins() {
        assert_eq!(found("db", 5432, "replication", "rep").as_deref(), Some("pa:ss\\word"));
        assert_eq!(found("db", 5433, "replication", "rep"), None);
        assert_eq!(found("db", 5432, "shop", "rep"), None);
        assert_eq!(found("db", 1, "x", "me").as_deref(), Some("any:thing"));
        assert_eq!(found("/var/run", 1, "x", "me").as_deref(), Some("local"));
        assert_eq!(found("old", 1, "a", "b"), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_and_one_that_is_not_there_is_empty() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        assert!(Passfile::read(&path).unwrap().0.is_empty());
        std::fs::write(&path, TEXT).unwrap();
        for (mode, is_read) in [(0o644, false), (0o640, false), (0o600, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Passfile::read(&path).is_ok_and(|file| file.0.len() == 4), is_read, "{mode:o}");
        }
    }

    #[test]
    fn debug_never_shows_a_password() {
        assert_eq!(format!("{:?}", Passfile::parse(TEXT)), "Passfile(4 lines)");
    }
}
