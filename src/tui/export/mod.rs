//! What a screen is written to: pictures and pages of its cells, tables of its data, the clipboard.
//!
//! Always: a file stands alone (no font, script or style from elsewhere), is well-formed whatever the cells hold, and the
//! same buffer gives the same bytes. Cells to runs: `runs`. Shapes of block and line characters: `svg`.

mod copy;
mod csv;
mod files;
mod html;
mod runs;
mod svg;

pub use copy::{Around, COPY_LIMIT, TooMuch, osc52, wrapped};
pub use csv::csv;
pub use files::write;
pub use html::html;
pub use runs::text;
pub use svg::svg;

#[cfg(test)]
mod tests;
