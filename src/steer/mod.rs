//! Writing to a model: directions applied by hook, and the measurements that say what they do.
//!
//! `prompts.rs` encodes a suite, `sets.rs` keeps its uses apart, `pass.rs`, `residuals.rs` and `completions.rs` run it in batches
//! over a shared prefix, `refusal.rs` and `kl.rs` are the two scores.
//! `token_effects.rs` ranks tokens by what they would do to the refusal score. `method.rs` and `direction.rs` make candidates and
//! edits, `select.rs` decides between candidates by `policy.rs` and notes them in a ledger (`grid_file.rs`), `file.rs` keeps a direction
//! on disk, `contrast.rs` makes one without choosing. `steering.rs` reads and writes what is done with one: its form (`form.rs`),
//! its weight by layer (`kernel.rs`), the prompts it is for (`condition/`). `dose.rs` and `evaluate.rs` say what a dose does;
//! `edit/` does it to weights, `search/` looks for the edit that does most, `learned/` for a direction by gradient. Nothing
//! here prints, and every random draw has a seed.

mod completions;
pub mod condition;
mod content;
mod contrast;
mod direction;
mod dose;
pub mod edit;
mod error;
mod evaluate;
pub mod file;
mod form;
pub mod grid_file;
mod kernel;
mod keyed;
mod kl;
pub mod learned;
mod ledger;
mod method;
mod pass;
pub mod perturb;
mod policy;
mod prompts;
mod refusal;
mod residuals;
pub mod search;
mod select;
mod sets;
mod steering;
mod token_effects;

pub use completions::{Completion, completions};
pub use content::{content, mean_states};
pub use contrast::{Contrast, StreamScale, contrast, stream_scale};
pub use direction::{
    Candidate, ablation, ablation_subspace, addition, candidates, candidates_by,
    covariance_matched_directions, random_directions,
};
pub use dose::{Aim, Health, LARGE, RelativeDose, health, relative_doses};
pub use error::SteerError;
pub use evaluate::{Dosed, Null, Scorer, Sweep, sweep};
pub use form::{Form, Span};
pub use kernel::{Kernel, Kernels};
pub use kl::kl;
pub use ledger::{Ledger, Measures, Unwritten};
pub use method::Method;
pub use pass::{Options, Tally, last_logits};
pub use policy::{GridCell, KlLimit, NullKind, SelectionPolicy, admissible, choose};
pub use prompts::{EncodedPrompt, PromptSet, encode_all};
pub use refusal::{RefusalTokens, log_odds, refusal_scores, refusal_tokens, wide_refusal_tokens};
pub use residuals::{Residuals, Where, residuals};
pub use select::{FilterCounts, Scored, Selection, Validation, select, select_noting};
pub use sets::{Sets, Sizes};
pub use steering::{Source, Steering, Way};
pub use token_effects::{Slotted, token_effects};
