//! Commands as an append-only file has them, followed while they pass by.
//!
//! ```text
//! *3\r\n $3\r\nSET\r\n $3\r\nkey\r\n $5\r\nvalue\r\n       MULTI … EXEC are one       #TS:1700000000\r\n says when
//! ```
//!
//! Invariant: nothing is held but a line's beginning, however long values are.
//! Never here: what commands mean, but for the two that make many of them one.

/// The longest line that says a number or a time, in bytes.
const LINE_LEN_MAX: usize = 1024;

/// The commands of a file passing by.
#[derive(Debug, Default)]
pub(super) struct Commands {
    step: Step,
    line: Vec<u8>,
    /// Strings of the command that are still to come.
    left: u64,
    /// The first string of the command, as far as it tells MULTI and EXEC from others.
    word: Vec<u8>,
    is_first: bool,
    in_transaction: bool,
    len: u64,
    whole_len: u64,
    count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Step {
    #[default]
    Start,
    Note,
    Count,
    Len,
    /// Bytes of a string that are still to come, and the two that end it.
    Text(u64),
}

/// What passes by is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoCommand;

impl Commands {
    /// Bytes from the beginning up to the end of the last whole command.
    pub(super) fn whole_len(&self) -> u64 {
        self.whole_len
    }

    /// Whole commands so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The next bytes.
    pub(super) fn push(&mut self, mut data: &[u8]) -> Result<(), NoCommand> {
        while !data.is_empty() {
            let taken = match self.step {
                Step::Start => self.start(data)?,
                Step::Text(left) => self.text(data, left)?,
                Step::Note | Step::Count | Step::Len => self.line(data)?,
            };
            data = data.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn start(&mut self, data: &[u8]) -> Result<usize, NoCommand> {
        self.step = match data.first() {
            Some(b'*') => Step::Count,
            Some(b'#') => Step::Note,
            _ => return Err(NoCommand),
        };
        self.len += 1;
        Ok(1)
    }

    fn text(&mut self, data: &[u8], left: u64) -> Result<usize, NoCommand> {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let piece = data.get(..taken).unwrap_or_default();
        if self.is_first {
            let room = "MULTI\r\n".len() + 1 - self.word.len();
            self.word.extend_from_slice(piece.get(..room.min(taken)).unwrap_or_default());
        }
        // The last two bytes end it.
        let before_end = left.saturating_sub(2);
        let ending = piece.get(usize::try_from(before_end).unwrap_or(usize::MAX).min(taken)..).unwrap_or_default();
        let expected = if left >= 2 { &b"\r\n"[..] } else { b"\n" };
        if !expected.starts_with(ending) {
            return Err(NoCommand);
        }
        self.len += taken as u64;
        self.step = Step::Text(left - taken as u64);
        if left == taken as u64 {
            self.is_first = false;
            self.left -= 1;
            self.step = Step::Len;
            if self.left == 0 {
                self.end();
            }
        }
        Ok(taken)
    }

    fn line(&mut self, data: &[u8]) -> Result<usize, NoCommand> {
        let end = data.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(data.len(), |end| end + 1);
        self.line.extend_from_slice(data.get(..taken).unwrap_or_default());
        self.len += taken as u64;
        if self.line.len() > LINE_LEN_MAX {
            return Err(NoCommand);
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r\n").ok_or(NoCommand)?;
            self.on_line(line)?;
        }
        Ok(taken)
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), NoCommand> {
        let number = |digits: &[u8]| {
            let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            text.and_then(|text| text.parse::<u32>().ok()).map(u64::from).ok_or(NoCommand)
        };
        match self.step {
            Step::Count => {
                self.left = number(line)?;
                self.is_first = true;
                self.word.clear();
                self.step = Step::Len;
                if self.left == 0 { Err(NoCommand) } else { Ok(()) }
            }
            Step::Len => {
                let len = number(line.strip_prefix(b"$").ok_or(NoCommand)?)?;
                self.step = Step::Text(len + 2);
                Ok(())
            }
            _ => {
                self.step = Step::Start;
                if !self.in_transaction {
                    self.whole_len = self.len;
                }
                Ok(())
            }
        }
    }

    fn end(&mut self) {
        let word = self.word.to_ascii_uppercase();
        match &word[..] {
            b"MULTI\r\n" => self.in_transaction = true,
            b"EXEC\r\n" => self.in_transaction = false,
            _ => {}
        }
        self.count += 1;
        self.step = Step::Start;
        if !self.in_transaction {
            self.whole_len = self.len;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(words: &[&str]) -> String {
        let strings: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{strings}", words.len())
    }

    fn whole_len(text: &[u8], step: usize) -> Result<u64, NoCommand> {
        let mut commands = Commands::default();
        text.chunks(step).try_for_each(|piece| commands.push(piece))?;
        Ok(commands.whole_len())
    }

    #[test]
    fn what_is_whole_ends_with_a_command_or_a_whole_transaction() {
        let set = command(&["SET", "key", "va\r\nlue"]);
        let noted = format!("#TS:1700000000\r\n{set}");
        let transaction = [command(&["multi"]), set.clone(), command(&["EXEC"])].concat();
        let text = [set.clone(), noted.clone(), transaction.clone(), command(&["DEL", ""])].concat();
        let note_len = "#TS:1700000000\r\n".len();
        let starts = [
            0,
            set.len(),
            set.len() + note_len,
            set.len() + noted.len(),
            set.len() + noted.len() + transaction.len(),
            text.len(),
        ];
        for len in 0..=text.len() {
            let expected = starts.iter().rev().find(|start| **start <= len).copied().unwrap_or_default();
            for step in [1, 7, 1000] {
                assert_eq!(whole_len(&text.as_bytes()[..len], step), Ok(expected as u64), "{len} in steps of {step}");
            }
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let zeros = "*1\r\n$3\r\nSET\0\0";
        for text in
            ["SET a b\r\n", "*x\r\n", "*0\r\n", "*1\r\n3\r\n", "*1\n", "*1\r\n$-1\r\n", "*1\r\n$1\r\nabc", zeros]
        {
            assert_eq!(whole_len(text.as_bytes(), 3), Err(NoCommand), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in "[*$#0-9\r\nA-C]{0,60}", step in 1_usize..9) {
            let _ = whole_len(bytes.as_bytes(), step);
        }
    }
}
