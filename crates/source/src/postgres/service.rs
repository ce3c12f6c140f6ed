//! The service file `pg_service.conf`: settings of a server under one name.
//!
//! ```text
//! [name]
//! host=db.example
//! # a comment
//! sslmode=verify-full
//! ```
//!
//! Never here: which file it is, and LDAP.

use std::fs;
use std::path::Path;

use super::failure::unfit;
use crate::SourceError;

/// The settings of the service `name` in the file `path`, in order.
///
/// # Errors
///
/// [`SourceError::Unreadable`] if the file cannot be read, [`SourceError::Server`] if it has no such service.
pub fn read(path: &Path, name: &str) -> Result<Vec<(String, String)>, SourceError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?;
    settings(&text, name).ok_or_else(|| unfit(&format!("{} has no service {name:?}", path.display())))
}

/// The settings of the service `name` in order, or `None` if the text has no such service.
#[must_use]
pub fn settings(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| section(line) != Some(name));
    lines.next()?;
    let own = lines.take_while(|line| section(line).is_none()).filter(|line| !line.starts_with('#'));
    let pairs = own.filter_map(|line| line.split_once('='));
    Some(pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
}

fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_own_settings_only() {
        let text = "[a]\nhost = one\n# user=no\nuser=me\n\n[b]\nhost=two\n";
        let pairs = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(settings(text, "a"), pairs(&[("host", "one"), ("user", "me")]));
        assert_eq!(settings(text, "b"), pairs(&[("host", "two")]));
        assert_eq!(settings(text, "c"), None);

        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        assert_eq!(read(file.path(), "b").unwrap().len(), 1);
        assert!(read(file.path(), "c").unwrap_err().to_string().contains("no service \"c\""));
    }
}
