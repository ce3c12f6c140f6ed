//! What an archive says that it holds: its own words on itself, and its table of contents.
//!
//! Never here: reading it (see `archive`), and which of it is wanted (see `choice`).

use std::collections::BTreeSet;

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// The database it was made from.
    pub database: String,
    /// The version of the server, in its own words.
    pub server_version: String,
    /// The version of `pg_dump`, in its own words.
    pub dump_version: String,
    /// How many entries there are.
    pub entry_count: u64,
    /// How many of them have data.
    pub data_count: u64,
    /// Roles that own something or are granted something.
    pub roles: BTreeSet<String>,
    /// Extensions that are created.
    pub extensions: BTreeSet<String>,
    /// The table of contents in its order, if it was asked for.
    pub items: Vec<Item>,
}

/// An entry of the table of contents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// Its number within the archive.
    pub id: i64,
    /// What it is, as `pg_restore --list` says it: `TABLE`, `TABLE DATA`, `INDEX`, …
    pub kind: String,
    /// The schema that it is in, unquoted; empty for what is in none.
    pub schema: String,
    /// Its name; for some kinds with more, such as `orders orders_pkey` of a constraint.
    pub name: String,
    /// Who owns it; empty for what nobody does.
    pub owner: String,
    /// Roles that it grants something to.
    pub grantees: Vec<String>,
    /// Whether rows or large objects come with it.
    pub has_data: bool,
    /// Items that it needs to be there before it.
    pub depends_on: Vec<i64>,
}

impl Item {
    /// `schema.name`, or the name of what is in no schema.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.schema.is_empty() { self.name.clone() } else { format!("{}.{}", self.schema, self.name) }
    }

    /// Whether it is something that one selects from.
    #[must_use]
    pub fn is_relation(&self) -> bool {
        ["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"].contains(&self.kind.as_str())
    }
}

impl Contents {
    /// The items of this kind.
    pub fn of_kind<'c>(&'c self, kind: &'c str) -> impl Iterator<Item = &'c Item> {
        self.items.iter().filter(move |item| item.kind == kind)
    }
}
