//! Losses against numbers of independent implementations, and what must hold of them without any.
//!
//! `tests/fixtures/losses` has the numbers and the torch programs that made them; `fixture.rs` is their model.
#![allow(clippy::unwrap_used, missing_docs)]

mod direct;
mod fixture;
mod ppo;
mod properties;
