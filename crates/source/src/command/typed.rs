//! Commands as people type them into a shell.
//!
//! Never here: running them.

use std::ffi::OsStr;

use super::CommandLine;

/// A word as a shell takes it: as it is, or in single quotes.
#[must_use]
pub fn shell_quoted(word: impl AsRef<OsStr>) -> String {
    let text = word.as_ref().to_string_lossy();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+,@%=:".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

impl CommandLine {
    /// The program and its arguments for a shell; without the environment, which may hold secrets.
    #[must_use]
    pub fn typed(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(shell_quoted).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_the_words_that_were_typed() {
        let command = CommandLine::new("printf", ["%s|", "plain/word=1", "two words", "it's", "", "$HOME"]);
        let ran = std::process::Command::new("sh").args(["-c", &command.typed()]).output().unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), "plain/word=1|two words|it's||$HOME|");
    }
}
