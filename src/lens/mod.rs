//! Reading a model: the logit lens, the stream's length and projections, attention, what each component gives to a logit,
//! what a cut changes.
//!
//! `logit.rs` and `stream.rs` read residual streams, `attention.rs` patterns and `heads.rs` what kind of head they make,
//! `attribution.rs` logits, `knockout.rs` effects. `select.rs` says which layers and positions, `table.rs` and `grid.rs` draw
//! for a terminal, `json.rs` writes the machine-readable form of the lens. Results hold token ids and plain numbers, no
//! tensors; words come in at the edge.

pub mod attention;
pub mod attribution;
mod error;
pub mod grid;
pub mod heads;
pub mod json;
pub mod knockout;
pub mod logit;
pub mod select;
pub mod stream;
pub mod table;
#[cfg(test)]
mod tests;

pub use attention::{Attention, attention};
pub use attribution::{Attribution, Component, Contribution, attribute};
pub use error::LensError;
pub use heads::{HeadKind, HeadScores, HeadSummary, head_kinds, probe_heads, repeated_tokens};
pub use knockout::{Change, Cut, Effect, knockout_effect};
pub use logit::{Cell, LensOptions, LensRow, LogitLens, Ranked, logit_lens};
pub use select::{Positions, parse_layers};
pub use stream::{Projections, StreamLens, StreamOptions, stream_lens};
