//! Some tables or schemas out of an archive, with all that belongs to them.
//!
//! ```text
//! named ──→ parts: rows, indexes, constraints, triggers, owned sequences, partitions, grants, comments   (downwards)
//!       ──→ needs: schemas, types, functions, extensions, if the target lacks them                        (upwards)
//! ```
//!
//! What ties a chosen table to one that is not chosen (a foreign key) is left out, and named.
//!
//! Invariant: what is chosen keeps the order of the archive.
//! Never here: restoring.

use std::collections::{BTreeMap, BTreeSet};

use super::{Contents, Item, Present};

/// Kinds that are nothing by themselves: they come with what they depend on.
const PARTS: [&str; 21] = [
    "ACL",
    "CHECK CONSTRAINT",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "DEFAULT ACL",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "MATERIALIZED VIEW DATA",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SECURITY LABEL",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "STATISTICS",
    "STATISTICS DATA",
    "TABLE ATTACH",
    "TABLE DATA",
    "TRIGGER",
];
/// Parts that join two things, and are left out unless both are chosen.
const TIES: [&str; 3] = ["FK CONSTRAINT", "INDEX ATTACH", "TABLE ATTACH"];
/// Kinds that are taken along if something chosen needs them.
const NEEDS: [&str; 9] =
    ["SCHEMA", "TYPE", "SHELL TYPE", "DOMAIN", "FUNCTION", "PROCEDURE", "AGGREGATE", "EXTENSION", "SEQUENCE"];
/// Kinds that own sequences, and have partitions and heirs.
const TABLES: [&str; 2] = ["TABLE", "FOREIGN TABLE"];

/// What is wanted of an archive; nothing named means all of it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Tables, views or sequences: `schema.name`, or a name that only one schema has.
    pub tables: Vec<String>,
    /// Everything in these schemas.
    pub schemas: Vec<String>,
    /// Whether what is there is dropped first, so that types and functions of these schemas come too if they are there.
    pub replaces: bool,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// Numbers of the items, in the archive's order.
    pub ids: Vec<i64>,
    /// Tables, views and sequences among them, by `schema.name`.
    pub relations: BTreeSet<String>,
    /// What was left out as it needs something that was not chosen, for messages.
    pub left_out: Vec<String>,
    /// Types and functions of a chosen schema that are there already and stay as they are, for messages.
    pub kept: Vec<String>,
}

/// Why nothing was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// Nothing has the name.
    #[error("the dump of database {database} has no {what} {name}")]
    Unknown {
        /// The dump's database.
        database: String,
        /// `table` or `schema`.
        what: &'static str,
        /// As it was asked for.
        name: String,
    },
    /// Tables of several schemas have the name.
    #[error("table {name} is in several schemas: {found}")]
    Ambiguous {
        /// As it was asked for.
        name: String,
        /// Their full names.
        found: String,
    },
}

impl Wanted {
    /// Whether everything is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.tables.is_empty() && self.schemas.is_empty()
    }

    /// Chooses out of `contents`, which have to list their items, for a target that holds `present`.
    ///
    /// # Errors
    ///
    /// [`NoChoice`] if a name fits nothing, or a table's name fits several.
    pub fn choose(&self, contents: &Contents, present: &Present) -> Result<Choice, NoChoice> {
        let named = self.named(contents)?;
        let mut chosen = named.clone();
        add_parts(contents, &mut chosen);
        add_needs(contents, present, &mut chosen);
        add_parts(contents, &mut chosen);
        let left_out = untie(contents, &mut chosen);
        let is_there = |item: &Item| NEEDS.contains(&item.kind.as_str()) && !item.is_relation() && present.has(item);
        // A schema that is there may hold more than what was dumped, and is not dropped.
        let is_replaceable = |item: &Item| named.contains(&item.id) && item.kind != "SCHEMA";
        let (mut comes, mut kept) = (Vec::new(), Vec::new());
        for item in contents.items.iter().filter(|item| chosen.contains(&item.id)) {
            match (is_there(item), is_replaceable(item)) {
                (false, _) => comes.push(item),
                (true, true) if self.replaces => comes.push(item),
                (true, true) => kept.push(format!("{} {}", item.kind.to_lowercase(), item.full_name())),
                (true, false) => {}
            }
        }
        Ok(Choice {
            ids: comes.iter().map(|item| item.id).collect(),
            relations: comes.iter().filter(|item| item.is_relation()).map(|item| item.full_name()).collect(),
            left_out,
            kept,
        })
    }

    fn named(&self, contents: &Contents) -> Result<BTreeSet<i64>, NoChoice> {
        let unknown =
            |what, name: &String| NoChoice::Unknown { database: contents.database.clone(), what, name: name.clone() };
        let mut chosen = BTreeSet::new();
        for name in &self.tables {
            let fits = |item: &&Item| item.is_relation() && (item.full_name() == *name || item.name == *name);
            let found: Vec<&Item> = contents.items.iter().filter(fits).collect();
            let exact = found.iter().find(|item| item.full_name() == *name);
            match (exact, found.as_slice()) {
                (Some(one), _) | (None, [one]) => _ = chosen.insert(one.id),
                (None, []) => return Err(unknown("table", name)),
                (None, several) => {
                    let found = several.iter().map(|item| item.full_name()).collect::<Vec<_>>().join(", ");
                    return Err(NoChoice::Ambiguous { name: name.clone(), found });
                }
            }
        }
        for name in &self.schemas {
            let is_in = |item: &&Item| item.schema == *name || (item.kind == "SCHEMA" && item.name == *name);
            let before = chosen.len();
            chosen.extend(contents.items.iter().filter(is_in).map(|item| item.id));
            if chosen.len() == before {
                return Err(unknown("schema", name));
            }
        }
        Ok(chosen)
    }
}

/// Adds what belongs to the chosen, but for what ties two things.
fn add_parts(contents: &Contents, chosen: &mut BTreeSet<i64>) {
    let tables = contents.items.iter().filter(|item| TABLES.contains(&item.kind.as_str()));
    let tables: BTreeSet<i64> = tables.map(|item| item.id).collect();
    loop {
        let before = chosen.len();
        for item in &contents.items {
            let kind = item.kind.as_str();
            // Sequences belong to their column's table; tables that depend on a table are its partitions or heirs.
            let is_of_table = kind == "SEQUENCE" || TABLES.contains(&kind);
            let is_part = PARTS.contains(&kind) && !TIES.contains(&kind);
            let belongs = |id: &i64| chosen.contains(id) && (is_part || (is_of_table && tables.contains(id)));
            if item.depends_on.iter().any(belongs) {
                chosen.insert(item.id);
            }
        }
        if chosen.len() == before {
            return;
        }
    }
}

/// Adds what ties chosen things, and takes out what ties them to others; names foreign keys that a chosen table loses.
fn untie(contents: &Contents, chosen: &mut BTreeSet<i64>) -> Vec<String> {
    let known: BTreeSet<i64> = contents.items.iter().map(|item| item.id).collect();
    let relations = contents.items.iter().filter(|item| item.is_relation() && chosen.contains(&item.id));
    let relations: Vec<String> = relations.map(|item| format!("{} ", item.full_name())).collect();
    let mut left_out = Vec::new();
    for item in contents.items.iter().filter(|item| TIES.contains(&item.kind.as_str())) {
        let name = item.full_name();
        let is_touched = item.depends_on.iter().any(|id| chosen.contains(id));
        if is_touched && item.depends_on.iter().all(|id| chosen.contains(id) || !known.contains(id)) {
            chosen.insert(item.id);
            continue;
        }
        chosen.remove(&item.id);
        if item.kind == "FK CONSTRAINT" && relations.iter().any(|table| name.starts_with(table)) {
            left_out.push(format!("foreign key {name}"));
        }
    }
    left_out
}

/// Adds what the chosen need and the target lacks, and what those need in turn.
fn add_needs(contents: &Contents, present: &Present, chosen: &mut BTreeSet<i64>) {
    let needs = contents.items.iter().filter(|item| NEEDS.contains(&item.kind.as_str()));
    let mut lacking: BTreeMap<i64, &Item> =
        needs.filter(|item| !present.has(item)).map(|item| (item.id, item)).collect();
    loop {
        let wanted: BTreeSet<i64> = contents
            .items
            .iter()
            .filter(|item| chosen.contains(&item.id))
            .flat_map(|item| item.depends_on.iter().copied())
            .collect();
        let schemas: BTreeSet<&str> =
            contents.items.iter().filter(|item| chosen.contains(&item.id)).map(|item| item.schema.as_str()).collect();
        let is_needed =
            |item: &Item| wanted.contains(&item.id) || (item.kind == "SCHEMA" && schemas.contains(item.name.as_str()));
        let found: Vec<i64> = lacking.values().filter(|item| is_needed(item)).map(|item| item.id).collect();
        if found.is_empty() {
            return;
        }
        for id in found {
            lacking.remove(&id);
            chosen.insert(id);
        }
    }
}

#[cfg(test)]
mod tests;
