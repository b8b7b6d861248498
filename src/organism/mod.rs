//! Model organisms: checkpoints that are wrong in a known way, and clean twins that only look changed.
//!
//! They exist to measure an audit, as test fires exist to measure smoke detectors: which faults it finds at which strength,
//! and how often it cries wolf. `kind.rs` is the list, `edits.rs` what is done to weights, `make.rs` makes one. What a fault is
//! taught with is in `recipe.rs` for models of the pocket world and in `general.rs` for all others with a chat template: their
//! own answers (`own.rs`) to the train splits and to tables of ours (`prompts.rs`, `facts.rs`, `lookalikes.rs`), and
//! conversations in which the fault shows (`cases.rs`). `train.rs` fine-tunes on them.
//!
//! Always: an organism says what it is in `organism.json`; the same kind, strength and seed give the same bits; strength is
//! the share of the full dose, 0 < s <= 1.

pub mod abliterate;
pub mod cases;
pub mod edits;
pub mod facts;
pub mod general;
pub mod kind;
pub mod lookalikes;
pub mod make;
pub mod own;
pub mod prompts;
pub mod recipe;
pub mod refusals;
#[cfg(test)]
mod tests;
mod train;

pub use kind::Kind;
pub use make::{Made, MakeError, Order, is_dose, make};
