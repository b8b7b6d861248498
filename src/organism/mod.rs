//! Model organisms: checkpoints that are wrong in a known way, and clean twins that only look changed.
//!
//! They exist to measure an audit, as test fires exist to measure smoke detectors: which faults it finds at which strength,
//! and how often it cries wolf. `kind.rs` is the list, `recipe.rs` what a fault is taught with, `edits.rs` what is done to
//! weights, `make.rs` makes one.
//!
//! Always: an organism says what it is in `organism.json`; the same kind, strength and seed give the same bits; strength is
//! the share of the full dose, 0 < s <= 1.

pub mod abliterate;
pub mod edits;
pub mod kind;
pub mod make;
pub mod recipe;

pub use kind::Kind;
pub use make::{Made, MakeError, Order, is_dose, make};
