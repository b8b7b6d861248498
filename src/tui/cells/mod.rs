//! Cells: hostile text made visible and fitted, and widgets as plain functions that draw into a buffer.
//!
//! Always: every function draws only where its area and the buffer overlap, whatever their sizes, and returns what a
//! click may hit; no raw foreign text reaches a cell, since `put` makes visible what is not. Text: `text`; one line of
//! numbers: `marks`; value grids: `heat_map`; rows: `table`; frames, cards and chips: `frame`; a dose: `slider`.

mod frame;
mod heat_map;
mod marks;
mod put;
mod slider;
mod table;
mod text;

pub use frame::{Card, card, chip, panel, popup};
pub use heat_map::{HeatHits, HeatMap, heat_map, legend, note};
pub use marks::{bar, sparkline};
pub use put::{put, put_spans};
pub use slider::{SliderHits, slider};
pub use table::{Entry, RowHits, Table, list, scroll, table};
pub use text::{cut, cut_front, fit, prose, visible, visible_bytes, width};

#[cfg(test)]
mod tests;
