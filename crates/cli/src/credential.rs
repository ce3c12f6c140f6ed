//! Where the password or key file comes from.
//!
//! ```text
//! options     --password-file  --password-command  --key-file          one of them
//! otherwise   what the configuration says of a repository that -r or a job chose by its name there
//! otherwise   the environment variables of these names, or BACKSTAY_PASSWORD    one of them
//! otherwise   what the configuration says of the repository
//! otherwise   the terminal
//! ```
//!
//! Invariant: a secret is never an argument, and lies in memory that is wiped.
//! Invariant: a file of secrets that its group or others may read is refused.
//! Never here: what the credential opens.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use engine::Credential;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use crate::error::{CommandError, KEY_FILE_LEN_MIN};
use crate::terminal;

/// The longest password, in bytes.
const PASSWORD_LEN_MAX: u64 = 64 << 10;
/// The longest key file, in bytes.
const KEY_FILE_LEN_MAX: u64 = 1 << 20;

/// One way to come by a credential.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    PasswordFile(PathBuf),
    PasswordCommand(OsString),
    KeyFile(PathBuf),
    Password(Zeroizing<Vec<u8>>),
}

/// What was given, and under which name.
pub(crate) type Given = (String, Origin);

/// What options or variables gave, in place of one another.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) password_command: Option<OsString>,
    pub(crate) key_file: Option<PathBuf>,
}

impl Choice {
    /// The one that is given, if any, by options whose names begin with `prefix`.
    pub(crate) fn one(&self, prefix: &str) -> Result<Option<Given>, CommandError> {
        let given = [
            self.password_file.clone().map(|path| ("password-file", Origin::PasswordFile(path))),
            self.password_command.clone().map(|command| ("password-command", Origin::PasswordCommand(command))),
            self.key_file.clone().map(|path| ("key-file", Origin::KeyFile(path))),
        ];
        only(given.into_iter().flatten().map(|(name, origin)| (format!("{prefix}{name}"), origin)))
    }
}

/// The one that the environment gives, if any, by variables whose names begin with `prefix`. `variable` looks one up.
pub(crate) fn from_variables(
    prefix: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Given>, CommandError> {
    let given = |name: &'static str, origin: fn(OsString) -> Origin| {
        let name = format!("{prefix}{name}");
        let value = variable(&name).filter(|value| !value.is_empty())?;
        Some((name, origin(value)))
    };
    let known = [
        given("PASSWORD_FILE", |value| Origin::PasswordFile(value.into())),
        given("PASSWORD_COMMAND", Origin::PasswordCommand),
        given("KEY_FILE", |value| Origin::KeyFile(value.into())),
        given("PASSWORD", |value| Origin::Password(Zeroizing::new(value.into_vec()))),
    ];
    only(known.into_iter().flatten())
}

fn only(mut given: impl Iterator<Item = Given>) -> Result<Option<Given>, CommandError> {
    match (given.next(), given.next()) {
        (Some((one, _)), Some((other, _))) => Err(CommandError::CredentialTwice { one, other }),
        (first, _) => Ok(first),
    }
}

/// Reads the credential.
pub(crate) async fn read((name, origin): Given) -> Result<Credential, CommandError> {
    let password = match origin {
        Origin::KeyFile(path) => return key_file(path).await,
        Origin::PasswordFile(path) => {
            let password = first_line(secret_file("password file", path.clone(), PASSWORD_LEN_MAX).await?);
            return of_password(password, &format!("{name}, {},", path.display()));
        }
        Origin::PasswordCommand(command) => output_of(&command).await?,
        Origin::Password(password) => return of_password(password, &name),
    };
    of_password(first_line(password), &name)
}

/// A password out of a file, for a server.
pub(crate) async fn password_of_file(path: PathBuf) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    Ok(first_line(secret_file("password file", path, PASSWORD_LEN_MAX).await?))
}

/// A password out of what a shell command prints, for a server.
pub(crate) async fn password_of_command(command: &OsStr) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    Ok(first_line(output_of(command).await?))
}

async fn key_file(path: PathBuf) -> Result<Credential, CommandError> {
    let content = secret_file("key file", path.clone(), KEY_FILE_LEN_MAX).await?;
    if content.len() < KEY_FILE_LEN_MIN {
        return Err(CommandError::KeyFileShort { path, len: content.len() });
    }
    Ok(Credential::KeyFile(content))
}

/// Asks for a password, and a second time where `prompts` has two.
pub(crate) async fn ask(prompts: &[&'static str]) -> Result<Credential, CommandError> {
    if !terminal::is_there() {
        return Err(CommandError::CredentialMissing);
    }
    let mut first = None;
    for prompt in prompts {
        let typed = terminal::ask(prompt).await.map_err(|source| CommandError::Terminal { source })?;
        if *first.get_or_insert_with(|| typed.clone()) != typed {
            return Err(CommandError::PasswordsDiffer);
        }
    }
    of_password(first.unwrap_or_default(), "the terminal")
}

fn of_password(password: Zeroizing<Vec<u8>>, origin: &str) -> Result<Credential, CommandError> {
    if password.is_empty() {
        return Err(CommandError::PasswordEmpty { origin: origin.to_owned() });
    }
    Ok(Credential::Password(password))
}

/// Without the line's end, which editors and `echo` add.
fn first_line(mut password: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    password
}

/// Reads a file of secrets; off the runtime, as it may be a pipe.
async fn secret_file(what: &'static str, path: PathBuf, len_max: u64) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let read = source::blocking::run(move || {
        let failed = |source| CommandError::CredentialFile { what, path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        refuse_exposed(what, &path, &file.metadata().map_err(failed)?)?;
        // Room for all of it, so that growing leaves no copy behind.
        let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(len_max).unwrap_or(0) + 1));
        file.take(len_max + 1).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > len_max {
            return Err(CommandError::CredentialLen { what, path: path.clone(), len_max });
        }
        Ok(content)
    });
    read.await.map_err(source::SourceError::from)?
}

fn refuse_exposed(what: &'static str, path: &Path, metadata: &std::fs::Metadata) -> Result<(), CommandError> {
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(CommandError::CredentialExposed { what, path: path.to_owned(), mode });
    }
    Ok(())
}

/// What a shell command prints. It may ask on the terminal itself.
async fn output_of(command: &OsStr) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let failed = |error: std::io::Error| CommandError::PasswordCommand { end: format!("failed: {error}") };
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = shell.spawn().map_err(failed)?;
    let mut output = Zeroizing::new(Vec::with_capacity(usize::try_from(PASSWORD_LEN_MAX).unwrap_or(0) + 1));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(PASSWORD_LEN_MAX).read_to_end(&mut output).await.map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() { Ok(output) } else { Err(CommandError::PasswordCommand { end: ended(status) }) }
}

fn ended(status: ExitStatus) -> String {
    status.code().map_or_else(|| format!("was killed ({status})"), |code| format!("exited with {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[test]
    fn only_one_line_end_is_taken_off() {
        assert_eq!(*first_line(password("a\r\n")), b"a");
        assert_eq!(*first_line(password("a \n\n")), b"a \n");
        assert_eq!(*first_line(password("a\r")), b"a\r");
    }

    #[test]
    fn two_variables_contradict_each_other_and_an_empty_one_is_unset() {
        let variable = |set: &'static [&'static str]| {
            move |name: &str| {
                let value = if name == "BACKSTAY_KEY_FILE" { "" } else { "x" };
                set.contains(&name).then(|| OsString::from(value))
            }
        };
        let one = from_variables("BACKSTAY_", variable(&["BACKSTAY_PASSWORD", "BACKSTAY_KEY_FILE"]));
        assert!(matches!(one, Ok(Some((name, Origin::Password(_)))) if name == "BACKSTAY_PASSWORD"));
        let two = from_variables("BACKSTAY_", variable(&["BACKSTAY_PASSWORD", "BACKSTAY_PASSWORD_FILE"]));
        assert!(matches!(two, Err(CommandError::CredentialTwice { .. })));
    }

    #[test]
    fn options_are_named_as_they_were_typed() {
        let choice = Choice { key_file: Some("k".into()), password_file: Some("p".into()), ..Choice::default() };
        let error = choice.one("--new-").expect_err("two");
        assert_eq!(error.to_string(), "--new-password-file and --new-key-file are both given; one must say it all");
    }

    #[tokio::test]
    async fn password_command_gives_its_output_unless_it_fails() {
        let given = |command: &str| ("--password-command".to_owned(), Origin::PasswordCommand(command.into()));
        let read_back = read(given("echo secret")).await.expect("a password");
        assert!(matches!(read_back, Credential::Password(password) if *password == b"secret"));
        let failed = read(given("echo secret; exit 3")).await.expect_err("a failure");
        assert_eq!(failed.to_string(), "the password command exited with 3");
        assert!(matches!(read(given("true")).await, Err(CommandError::PasswordEmpty { .. })));
    }
}
