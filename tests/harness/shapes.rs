//! What docs/JSON.md says of each document, read from that page itself.
//!
//! ```text
//! docs/JSON.md ─► ```text blocks ─► Shapes { name → Shape } ─► fault(name, document)
//! ```
//!
//! Invariant: a field that the page does not name is a fault, and so is one that it names and that is missing.
//! Never here: running commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::{Map, Value};

const PAGE: &str = include_str!("../../docs/JSON.md");
/// The heading that shapes of commands follow.
const COMMANDS: &str = "\n## Commands\n";

/// All shapes of the page, by name.
#[derive(Debug)]
pub struct Shapes {
    all: BTreeMap<String, Shape>,
    /// Those below the heading of commands.
    commands: Vec<String>,
}

#[derive(Debug)]
enum Shape {
    Any,
    Null,
    Bool,
    Text,
    Hex,
    Time,
    Count,
    Number,
    Word(String),
    List(Box<Shape>),
    Map(Box<Shape>),
    Named(String),
    Either(Vec<Shape>),
    Object { fields: Vec<Field>, spreads: Vec<Spread> },
}

#[derive(Debug)]
struct Field {
    name: String,
    is_optional: bool,
    shape: Shape,
}

/// Fields of another shape: all of them, or if it is optional none.
#[derive(Debug)]
struct Spread {
    name: String,
    is_optional: bool,
}

impl Shapes {
    /// Those of the page.
    ///
    /// # Panics
    ///
    /// If the page cannot be read as its own notation, or a name on it is defined nowhere or twice.
    #[must_use]
    pub fn documented() -> &'static Self {
        static SHAPES: OnceLock<Shapes> = OnceLock::new();
        SHAPES.get_or_init(|| Self::read(PAGE))
    }

    fn read(page: &str) -> Self {
        let (_, commands) = page.split_once(COMMANDS).unwrap_or_default();
        let commands = definitions(commands).into_iter().map(|(name, _)| name).collect();
        let mut all = BTreeMap::new();
        for (name, text) in definitions(page) {
            let mut words = Words::of(&text);
            let shape = words.shape();
            assert!(words.next().is_none(), "more follows the shape of {name}");
            assert!(all.insert(name.clone(), shape).is_none(), "{name} is defined twice");
        }
        let shapes = Self { all, commands };
        shapes.all.values().for_each(|shape| shapes.follow(shape));
        shapes
    }

    /// Fails if it names what is not there.
    fn follow(&self, shape: &Shape) {
        match shape {
            Shape::Named(name) => assert!(self.all.contains_key(name), "no shape is called {name}"),
            Shape::List(inner) | Shape::Map(inner) => self.follow(inner),
            Shape::Either(shapes) => shapes.iter().for_each(|shape| self.follow(shape)),
            Shape::Object { fields, spreads } => {
                fields.iter().for_each(|field| self.follow(&field.shape));
                spreads.iter().for_each(|spread| assert!(!self.fields(&spread.name).is_empty(), "{spread:?}"));
            }
            _ => {}
        }
    }

    /// The commands that the page has shapes of.
    #[must_use]
    pub fn commands(&self) -> &[String] {
        &self.commands
    }

    /// What is wrong with a document of this name, if anything is.
    #[must_use]
    pub fn fault(&self, name: &str, document: &Value) -> Option<String> {
        let shape = self.all.get(name).unwrap_or_else(|| panic!("docs/JSON.md has no shape called {name}"));
        self.compare(shape, document, name).err()
    }

    fn compare(&self, shape: &Shape, value: &Value, at: &str) -> Result<(), String> {
        let text = value.as_str();
        let is_so = match shape {
            Shape::Any => true,
            Shape::Null => value.is_null(),
            Shape::Bool => value.is_boolean(),
            Shape::Text => value.is_string(),
            Shape::Hex => text.is_some_and(is_hex),
            Shape::Time => text.is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
            Shape::Count => value.is_u64(),
            Shape::Number => value.is_number(),
            Shape::Word(word) => text == Some(word),
            Shape::Named(name) => return self.compare(self.all.get(name).expect("it was followed"), value, at),
            Shape::Either(shapes) => return self.compare_any(shapes, value, at),
            Shape::List(inner) => match value.as_array() {
                Some(items) => {
                    let mut items = items.iter().enumerate();
                    return items.try_for_each(|(n, item)| self.compare(inner, item, &format!("{at}[{n}]")));
                }
                None => false,
            },
            Shape::Map(inner) => match value.as_object() {
                Some(map) => {
                    return map.iter().try_for_each(|(name, item)| self.compare(inner, item, &format!("{at}.{name}")));
                }
                None => false,
            },
            Shape::Object { fields, spreads } => match value.as_object() {
                Some(map) => return self.compare_fields(fields, spreads, map, at),
                None => false,
            },
        };
        if is_so { Ok(()) } else { Err(format!("{at} is {value}, not {shape:?}")) }
    }

    fn compare_any(&self, shapes: &[Shape], value: &Value, at: &str) -> Result<(), String> {
        let faults: Vec<String> = shapes.iter().filter_map(|shape| self.compare(shape, value, at).err()).collect();
        if faults.len() < shapes.len() { Ok(()) } else { Err(faults.join("; or ")) }
    }

    fn compare_fields(
        &self,
        fields: &[Field],
        spreads: &[Spread],
        map: &Map<String, Value>,
        at: &str,
    ) -> Result<(), String> {
        let mut wanted: Vec<&Field> = fields.iter().collect();
        for spread in spreads {
            let more = self.fields(&spread.name);
            if !spread.is_optional || more.iter().any(|field| map.contains_key(&field.name)) {
                wanted.extend(more);
            }
        }
        for field in &wanted {
            match map.get(&field.name) {
                Some(value) => self.compare(&field.shape, value, &format!("{at}.{}", field.name))?,
                None if field.is_optional => {}
                None => return Err(format!("{at} has no {}", field.name)),
            }
        }
        let known: BTreeSet<&str> = wanted.iter().map(|field| field.name.as_str()).collect();
        match map.keys().find(|name| !known.contains(name.as_str())) {
            Some(name) => Err(format!("{at} has {name}, which docs/JSON.md does not name")),
            None => Ok(()),
        }
    }

    fn fields(&self, name: &str) -> &[Field] {
        match self.all.get(name) {
            Some(Shape::Object { fields, .. }) => fields,
            other => panic!("{name} is no object whose fields could be taken: {other:?}"),
        }
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Names and what follows their colons, without comments.
fn definitions(page: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let blocks = page.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    for line in blocks.flat_map(str::lines) {
        let line = line.split('#').next().unwrap_or_default();
        match line.split_once(':') {
            Some((name, rest)) if line.starts_with(|first: char| first.is_ascii_lowercase()) => {
                found.push((name.to_owned(), rest.to_owned()));
            }
            _ => {
                let (_, text) = found.last_mut().unwrap_or_else(|| panic!("{line:?} belongs to no shape"));
                text.push('\n');
                text.push_str(line);
            }
        }
    }
    found
}

/// What a definition consists of: names, words in quotes, and marks.
struct Words(std::iter::Peekable<std::vec::IntoIter<String>>);

impl Words {
    fn of(text: &str) -> Self {
        let mut words = Vec::new();
        let mut letters = text.chars().peekable();
        let is_name = |letter: &char| letter.is_ascii_alphanumeric() || "_-".contains(*letter);
        while let Some(letter) = letters.next() {
            let mut word = String::from(letter);
            match letter {
                '"' => word.extend(letters.by_ref().take_while(|letter| *letter != '"')),
                '.' => word.extend(std::iter::from_fn(|| letters.next_if_eq(&'.'))),
                _ if is_name(&letter) => word.extend(std::iter::from_fn(|| letters.next_if(is_name))),
                _ if letter.is_whitespace() || letter == ',' => continue,
                _ => {}
            }
            words.push(word);
        }
        Self(words.into_iter().peekable())
    }

    fn next(&mut self) -> Option<String> {
        self.0.next()
    }

    fn takes(&mut self, mark: &str) -> bool {
        self.0.next_if(|word| word == mark).is_some()
    }

    fn expect(&mut self, mark: &str) {
        let found = self.next();
        assert_eq!(found.as_deref(), Some(mark), "not the expected mark");
    }

    fn shape(&mut self) -> Shape {
        let mut shapes = vec![self.one()];
        while self.takes("|") {
            shapes.push(self.one());
        }
        if shapes.len() == 1 { shapes.remove(0) } else { Shape::Either(shapes) }
    }

    fn one(&mut self) -> Shape {
        let word = self.next().expect("a shape is not finished");
        match word.as_str() {
            "any" => Shape::Any,
            "null" => Shape::Null,
            "bool" => Shape::Bool,
            "text" => Shape::Text,
            "hex" => Shape::Hex,
            "time" => Shape::Time,
            "count" => Shape::Count,
            "number" => Shape::Number,
            "[" => {
                let inner = self.shape();
                self.expect("]");
                Shape::List(Box::new(inner))
            }
            "{" if self.takes("*") => {
                self.expect(":");
                let inner = self.shape();
                self.expect("}");
                Shape::Map(Box::new(inner))
            }
            "{" => self.object(),
            quoted if quoted.starts_with('"') => Shape::Word(quoted.trim_start_matches('"').to_owned()),
            name => Shape::Named(name.to_owned()),
        }
    }

    fn object(&mut self) -> Shape {
        let (mut fields, mut spreads) = (Vec::new(), Vec::new());
        while !self.takes("}") {
            let is_spread = self.takes("...");
            let name = self.next().expect("an object is not finished");
            let is_optional = self.takes("?");
            if is_spread {
                spreads.push(Spread { name, is_optional });
            } else {
                self.expect(":");
                fields.push(Field { name, is_optional, shape: self.shape() });
            }
        }
        Shape::Object { fields, spreads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_all_fields_that_are_named_and_no_others() {
        let shapes = Shapes::read(
            "```text\nmore: { c: hex, d: time }\nkind: \"x\" | \"y\"\none two: {\n    a: count     # said of it\n    \
             b?: [kind | null]\n    ...more?\n    m: { *: number }\n}\n```\n",
        );
        let fault = |document: &str| shapes.fault("one two", &serde_json::from_str(document).expect("JSON"));
        for fine in [
            r#"{"a": 1, "m": {}}"#,
            r#"{"a": 0, "b": ["x", null], "c": "0f", "d": "2026-11-19T10:00:00Z", "m": {"any": 0.5}}"#,
        ] {
            assert_eq!(fault(fine), None, "{fine}");
        }
        for (wrong, why) in [
            (r#"{"m": {}}"#, "has no a"),
            (r#"{"a": -1, "m": {}}"#, "one two.a is -1"),
            (r#"{"a": 1, "m": {"n": "1"}}"#, "one two.m.n is"),
            (r#"{"a": 1, "m": {}, "e": 1}"#, "has e, which"),
            (r#"{"a": 1, "m": {}, "b": ["z"]}"#, "one two.b[0] is"),
            (r#"{"a": 1, "m": {}, "c": "0f"}"#, "has no d"),
            (r#"{"a": 1, "m": {}, "c": "0F", "d": "2026-11-19T10:00:00Z"}"#, "one two.c is"),
            (r#"{"a": 1, "m": {}, "c": "0f", "d": "yesterday"}"#, "one two.d is"),
            ("[]", "one two is []"),
        ] {
            let found = fault(wrong).unwrap_or_default();
            assert!(found.contains(why), "{wrong}: {found}");
        }
    }
}
