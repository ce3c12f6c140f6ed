//! From text to the model: table by table, so that a mistake in one does not hide those in the others.
//!
//! ```text
//! text ─► tables with places ─► variables filled in ─► [repositories.x] [sources.x] [jobs.x], each read for itself
//!                                                       └ wrong: note it, take the key out, read again
//! ```
//!
//! Invariant: each table is read at most [`MISTAKES_MAX`] times.
//! Never here: what the tables mean together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use super::mistakes::Mistakes;
use super::model::{Config, KINDS, SourceConfig};
use super::places::Places;
use super::spelling::suggestion;
use super::variables::{Unfilled, fill};

/// Mistakes told of one table.
const MISTAKES_MAX: usize = 32;
const SECTIONS: [&str; 3] = ["repositories", "sources", "jobs"];

type Table<'t> = Spanned<DeTable<'t>>;

/// Reads the text, and where everything in it stands; none if there was no sense in it at all.
pub(super) fn read(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    mistakes: &mut Mistakes,
) -> Option<(Config, Places)> {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in &errors {
            mistakes.add(error.span(), error.message(), None);
        }
        return None;
    }
    for (_, value) in table.get_mut().iter_mut() {
        fill_in(value, variable, mistakes);
    }
    let places = Places::of(table.get_ref());
    let mut config = Config::default();
    for (name, value) in table.into_inner() {
        let place = name.span();
        match name.get_ref().as_ref() {
            "repositories" => config.repositories = each(value, "repository", mistakes, typed),
            "sources" => config.sources = each(value, "source", mistakes, source),
            "jobs" => config.jobs = each(value, "job", mistakes, typed),
            other => mistakes.add(Some(place), format!("unknown table \"{other}\""), suggestion(other, SECTIONS)),
        }
    }
    Some((config, places))
}

/// Fills variables into every string below `value`.
fn fill_in(value: &mut Spanned<DeValue<'_>>, variable: &dyn Fn(&str) -> Option<String>, mistakes: &mut Mistakes) {
    let place = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains('$') => match fill(text, variable) {
            Ok(filled) => *text = Cow::Owned(filled),
            Err(Unfilled::Unset(name)) => mistakes.add(
                Some(place),
                format!("the environment variable {name} is not set"),
                Some(format!("set it, or write ${{{name}:-default}}")),
            ),
            Err(Unfilled::Malformed) => {
                let hint = Some("write ${NAME}, and $$ for a dollar sign".to_owned());
                mistakes.add(Some(place), "\"${\" without a name and \"}\"", hint);
            }
        },
        DeValue::Array(values) => values.iter_mut().for_each(|value| fill_in(value, variable, mistakes)),
        DeValue::Table(table) => table.iter_mut().for_each(|(_, value)| fill_in(value, variable, mistakes)),
        _ => {}
    }
}

/// The named tables of a section.
fn each<T>(
    section: Spanned<DeValue<'_>>,
    noun: &str,
    mistakes: &mut Mistakes,
    read: impl Fn(Table<'_>, &str, &mut Mistakes) -> Option<T>,
) -> BTreeMap<String, T> {
    let place = section.span();
    let DeValue::Table(tables) = section.into_inner() else {
        mistakes.add(Some(place), format!("a {noun} is a table with a name"), None);
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (name, value) in tables {
        let what = format!("{noun} \"{}\"", name.get_ref());
        let place = value.span();
        match value.into_inner() {
            DeValue::Table(table) => {
                if let Some(one) = read(Spanned::new(name.span(), table), &what, mistakes) {
                    found.insert(name.into_inner().into_owned(), one);
                }
            }
            _ => mistakes.add(Some(place), format!("{what} must be a table"), None),
        }
    }
    found
}

/// A source: its kind says which keys it has.
fn source(mut table: Table<'_>, what: &str, mistakes: &mut Mistakes) -> Option<SourceConfig> {
    let whole = table.span();
    let Some(kind) = table.get_mut().remove("kind") else {
        let hint = Some(format!("write one of {}", KINDS.join(", ")));
        mistakes.add(Some(whole), format!("{what} does not say its kind"), hint);
        return None;
    };
    let place = kind.span();
    let kind = kind.get_ref().as_str().unwrap_or_default().to_owned();
    match kind.as_str() {
        "postgres" => typed(table, what, mistakes).map(SourceConfig::Postgres),
        "postgres-physical" => typed(table, what, mistakes).map(SourceConfig::PostgresPhysical),
        "redis" => typed(table, what, mistakes).map(SourceConfig::Redis),
        "etcd" => typed(table, what, mistakes).map(SourceConfig::Etcd),
        "redis-aof" => typed(table, what, mistakes).map(SourceConfig::RedisAof),
        "sqlite" => typed(table, what, mistakes).map(SourceConfig::Sqlite),
        "kubernetes" => typed(table, what, mistakes).map(SourceConfig::Kubernetes),
        "command" => typed(table, what, mistakes).map(SourceConfig::Command),
        "files" => typed(table, what, mistakes).map(SourceConfig::Files),
        other => {
            mistakes.add(Some(place), format!("{what}: unknown kind \"{other}\""), suggestion(other, KINDS));
            None
        }
    }
}

/// Reads a table as `T`; notes every mistake, and gives nothing if there was one.
fn typed<T: DeserializeOwned>(mut table: Table<'_>, what: &str, mistakes: &mut Mistakes) -> Option<T> {
    let mut is_right = true;
    for _ in 0..MISTAKES_MAX {
        let value = Spanned::new(table.span(), DeValue::Table(table.get_ref().clone()));
        let error = match T::deserialize(ValueDeserializer::from(value)) {
            Ok(read) => return is_right.then_some(read),
            Err(error) => error,
        };
        let place = error.span().filter(|place| !place.is_empty());
        let is_missing = error.message().starts_with("missing field");
        if is_right || !is_missing {
            note(&error, place.clone().unwrap_or_else(|| table.span()), what, mistakes);
        }
        is_right = false;
        if !place.is_some_and(|place| remove(table.get_mut(), &place)) {
            break;
        }
    }
    None
}

fn note(error: &Error, place: Range<usize>, what: &str, mistakes: &mut Mistakes) {
    let message = error.message();
    let mut words = message.split('`').skip(1).step_by(2);
    match words.next() {
        Some(word) if message.starts_with("unknown field") => {
            mistakes.add(Some(place), format!("{what}: unknown key \"{word}\""), suggestion(word, words));
        }
        Some(word) if message.starts_with("unknown variant") => {
            mistakes.add(Some(place), format!("{what}: unknown word \"{word}\""), suggestion(word, words));
        }
        Some(word) if message.starts_with("missing field") => {
            mistakes.add(Some(place), format!("{what}: the key \"{word}\" is missing"), None);
        }
        _ => mistakes.add(Some(place), format!("{what}: {message}"), None),
    }
}

/// Takes out the innermost key at `place`; false if there is none.
fn remove(table: &mut DeTable<'_>, place: &Range<usize>) -> bool {
    let holds = |outer: &Range<usize>| outer.start <= place.start && place.end <= outer.end;
    let found = table.iter().find(|(key, value)| holds(&key.span()) || holds(&value.span()));
    let Some(key) = found.map(|(key, _)| key.get_ref().clone()) else { return false };
    if let Some(DeValue::Table(inner)) = table.get_mut(key.as_ref()).map(Spanned::get_mut)
        && remove(inner, place)
    {
        return true;
    }
    table.remove(key.as_ref()).is_some()
}
