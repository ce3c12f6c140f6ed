//! Passwords of servers: from the configuration, a file, or a command.
//!
//! Never here: passwords of repositories (see `credential`).

use source::Secret;

use crate::config::PasswordKeys;
use crate::credential;
use crate::error::CommandError;

/// The one that is given; none if none is.
pub(super) async fn read(keys: PasswordKeys<'_>) -> Result<Option<Secret>, CommandError> {
    let PasswordKeys { plain, file, command } = keys;
    if let Some(plain) = plain {
        return Ok(Some(Secret::new(plain.0.clone())));
    }
    let bytes = match (file, command) {
        (Some(file), _) => credential::password_of_file(file.clone()).await?,
        (None, Some(command)) => credential::password_of_command(command.as_ref()).await?,
        (None, None) => return Ok(None),
    };
    let not_text = || CommandError::SourceSetting { what: "a password".into(), why: "is not UTF-8".into() };
    let text = std::str::from_utf8(&bytes).map_err(|_| not_text())?;
    Ok(Some(Secret::new(text.to_owned())))
}
