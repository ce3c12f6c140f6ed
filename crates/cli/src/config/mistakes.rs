//! What is wrong with a configuration: where, what, and what was probably meant.
//!
//! Invariant: mistakes are told in the order of the file, each once.
//! Never here: finding them.

use std::fmt;
use std::ops::Range;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mistake {
    /// From 1; 0 where the whole file is meant.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) what: String,
    /// What to write instead.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(out, "line {}, column {}: ", self.line, self.column)?;
        }
        write!(out, "{}", self.what)?;
        match &self.hint {
            Some(hint) => write!(out, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// All mistakes of one text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mistakes {
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    text: String,
    found: Vec<Mistake>,
}

impl Mistakes {
    /// None yet, of this text.
    pub(crate) fn of(text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { lines, text: text.to_owned(), found: Vec::new() }
    }

    /// Adds one at a place of the text.
    pub(crate) fn add(&mut self, place: Option<Range<usize>>, what: impl Into<String>, hint: Option<String>) {
        let (line, column) = place.map_or((0, 0), |place| self.position(place.start));
        let mistake = Mistake { line, column, what: what.into(), hint };
        if !self.found.contains(&mistake) {
            self.found.push(mistake);
        }
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of the file.
    pub(crate) fn sorted(&self) -> Vec<Mistake> {
        let mut sorted = self.found.clone();
        sorted.sort();
        sorted
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.sorted().iter().enumerate() {
            write!(out, "{}  {mistake}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
