//! Reading a model: the logit lens.
//!
//! `logit.rs` computes, `select.rs` says which layers and positions, `table.rs` draws for a terminal, `json.rs` writes the
//! machine-readable form. Results hold token ids and numbers; words come in at the edge.

mod error;
pub mod json;
pub mod logit;
pub mod select;
pub mod table;
#[cfg(test)]
mod tests;

pub use error::LensError;
pub use logit::{Cell, LensOptions, LensRow, LogitLens, Ranked, logit_lens};
pub use select::{Positions, parse_layers};
