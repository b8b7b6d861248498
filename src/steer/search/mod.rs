//! Looking for the weight edit that takes most of a behaviour out at the least damage: a direction and a kernel of amounts over
//! the layers, apart for attention and MLP.
//!
//! This measures robustness: how much refusal the best edit of this kind removes, and what that costs. Always: a trial's edit is
//! a [`WeightEdit`](super::edit::WeightEdit) applied by hook, so the one that is found is the one that a bake writes; every
//! trial is on disk before the next begins; test prompts are read only when the search is over.
//! `space.rs` says what can be tried (`candidates.rs` reads directions for it), `sampler.rs` what is tried next, `bench.rs` measures, `trial.rs` holds what was measured,
//! `pareto.rs` orders it, `run.rs` is the loop with its pruning, `journal.rs` the file, `best.rs` what is handed to a bake.

mod bench;
mod best;
mod candidates;
mod error;
mod journal;
mod pareto;
mod run;
mod sampler;
mod space;
mod trial;

pub use bench::{Bench, Judge, Judged, Prompts, Sizes};
pub use best::{AmountsFile, NoneFound, choose};
pub use error::SearchError;
pub use journal::{Journal, NAME};
pub use pareto::{dominates, front, ranked};
pub use run::{Settings, best_of, search, tested};
pub use sampler::{Observed, Sampler, propose};
pub use space::{Plan, Point, Series, Space};
pub use trial::{Answers, Extras, Measured, Trial};
