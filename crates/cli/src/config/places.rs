//! Where each key and value of the text stands, by its path: `jobs`, `nightly`, `sources`, `2`.
//!
//! Invariant: a path that is not in the text has the place of the longest part of it that is.
//! Never here: what is wrong there.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Places of a text, in bytes.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<Vec<String>, Range<usize>>);

impl Places {
    /// Of everything in a text.
    pub(super) fn of(table: &DeTable<'_>) -> Self {
        let mut places = Self::default();
        places.add_table(table, &[]);
        places
    }

    /// Where a path stands, or the longest part of it that is there.
    pub(super) fn place(&self, path: &[&str]) -> Option<Range<usize>> {
        let owned: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
        (1..=owned.len()).rev().find_map(|len| self.0.get(owned.get(..len)?).cloned())
    }

    /// The names of a section's tables, also of those that have mistakes.
    pub(super) fn names(&self, section: &str) -> Vec<&str> {
        let of_section = self.0.keys().filter_map(|path| match path.as_slice() {
            [first, name] if first == section => Some(name.as_str()),
            _ => None,
        });
        of_section.collect()
    }

    fn add_table(&mut self, table: &DeTable<'_>, path: &[String]) {
        for (name, value) in table {
            let path = [path, &[name.get_ref().to_string()]].concat();
            // A table is shown by its name, a value by itself.
            let place = if value.get_ref().is_table() { name.span() } else { value.span() };
            self.add(value, path, place);
        }
    }

    fn add(&mut self, value: &Spanned<DeValue<'_>>, path: Vec<String>, place: Range<usize>) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(table, &path),
            DeValue::Array(values) => {
                for (at, value) in values.iter().enumerate() {
                    self.add(value, [path.as_slice(), &[at.to_string()]].concat(), value.span());
                }
            }
            _ => {}
        }
        self.0.insert(path, place);
    }
}
