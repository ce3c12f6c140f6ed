//! Components as a table for people: what was protected, what of it was new, and what it took.
//!
//! Never here: where the figures come from.

use pack::ComponentState;

use crate::commands::snapshot_document::component_word;
use crate::human;
use crate::table::{Align, Table};

/// One component's line.
pub(super) struct ComponentRow<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    pub(super) state: ComponentState,
    pub(super) content_len: u64,
    pub(super) new_len: u64,
    pub(super) stored_len: u64,
    pub(super) seconds: f64,
}

/// A line for each.
pub(super) fn component_table<'a>(rows: impl Iterator<Item = ComponentRow<'a>>) -> Table {
    let mut table = Table::new(&[
        ("Component", Align::Left),
        ("Kind", Align::Left),
        ("State", Align::Left),
        ("Protected", Align::Right),
        ("New", Align::Right),
        ("Stored", Align::Right),
        ("Time", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.name.to_owned(),
            row.kind.to_owned(),
            component_word(row.state).to_owned(),
            human::size(row.content_len),
            human::size(row.new_len),
            human::size(row.stored_len),
            human::duration(row.seconds),
        ]);
    }
    table
}
