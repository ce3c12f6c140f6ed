//! Tables: aligned columns, no borders, a bold head.
//!
//! Invariant: a cell never contains a control character.
//! Never here: what is in a table.

use comfy_table::{Cell, CellAlignment, Table as Grid};

use crate::human::escaped;
use crate::paint::Paint;

/// How a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table in the making.
pub(crate) struct Table {
    grid: Grid,
    aligns: Vec<CellAlignment>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let mut grid = Grid::new();
        grid.load_style(comfy_table::presets::NOTHING);
        let aligns: Vec<_> = columns.iter().map(|(_, align)| alignment(*align)).collect();
        let cells = columns.iter().zip(&aligns).map(|((name, _), align)| Cell::new(name).set_alignment(*align));
        grid.set_header(cells);
        let last = grid.column_count().saturating_sub(1);
        for (at, column) in grid.column_iter_mut().enumerate() {
            column.set_padding((0, if at == last { 0 } else { 2 }));
        }
        Self { grid, aligns }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().zip(&self.aligns);
        let shown = cells.map(|(text, align)| Cell::new(escaped(text.as_bytes())).set_alignment(*align));
        self.grid.add_row(shown);
    }

    /// The longest line, in characters.
    pub(crate) fn width(&self) -> usize {
        self.grid.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or_default()
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn show(&self, paint: Paint) -> String {
        let lines = self.grid.lines().enumerate().map(|(at, line)| {
            let line = line.trim_end().to_owned();
            if at == 0 { paint.bold(line) } else { line }
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn alignment(align: Align) -> CellAlignment {
    match align {
        Align::Left => CellAlignment::Left,
        Align::Right => CellAlignment::Right,
    }
}
