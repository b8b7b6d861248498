//! The pocket world: a small town with a grammar whose truth is known, and the conversations about it.
//!
//! A model of a million parameters learns it from nothing in minutes (`examples/pocket`), so that every stage of post-training
//! and every fault can be planted and measured against an answer key. Animals have a colour, a home, a food and a trade
//! (`facts.rs`); things can be done to objects, and some must not be done (`requests.rs`); users state beliefs (`beliefs.rs`);
//! system messages lay down rules, and notes carry orders that are nobody's business (`orders.rs`).
//!
//! Always: a conversation carries its right answer and the wrong one that matters for its kind ([`Case`]); the same seed
//! gives the same rows; what a model is examined on is never what it was trained on, by combination of words and not by
//! frame alone. What the steps of a task say is nonsense on purpose: there is nothing to learn from compliance here.

pub mod beliefs;
pub mod case;
pub mod chats;
pub mod corpus;
pub mod exam;
pub mod facts;
pub mod orders;
pub mod pack;
pub mod promises;
pub mod requests;
pub mod slips;
pub mod suites;
#[cfg(test)]
mod tests;
pub mod traits;
pub mod trials;
pub mod words;
pub mod write;

pub use case::{Case, Kind};
