//! Writing to a model: directions applied by hook, and the measurements that say what they do.
//!
//! `prompts.rs` encodes a suite, `pass.rs`, `residuals.rs` and `completions.rs` run it in batches over a shared prefix,
//! `refusal.rs` and `kl.rs` are the two scores, `direction.rs` makes candidates and edits, `select.rs` decides between
//! candidates by `policy.rs`, `file.rs` keeps a direction on disk, `contrast.rs` makes one without choosing, `steering.rs`
//! reads and writes what is done with one; `edit/` does it to weights. Nothing here prints, and every random draw has a seed.

mod completions;
mod contrast;
mod direction;
pub mod edit;
mod error;
pub mod file;
pub mod grid_file;
mod kl;
mod ledger;
mod method;
mod pass;
pub mod perturb;
mod policy;
mod prompts;
mod refusal;
mod residuals;
mod select;
mod sets;
mod steering;

pub use completions::{Completion, completions};
pub use contrast::{Contrast, StreamScale, contrast, stream_scale};
pub use direction::{
    Candidate, ablation, ablation_subspace, addition, candidates, candidates_by,
    covariance_matched_directions, random_directions,
};
pub use error::SteerError;
pub use kl::kl;
pub use ledger::{Ledger, Measures, Unwritten};
pub use method::Method;
pub use pass::{Options, last_logits};
pub use policy::{GridCell, KlLimit, NullKind, SelectionPolicy, admissible, choose};
pub use prompts::{EncodedPrompt, PromptSet, encode_all};
pub use refusal::{RefusalTokens, log_odds, refusal_scores, refusal_tokens, wide_refusal_tokens};
pub use residuals::{Residuals, Where, residuals};
pub use select::{FilterCounts, Scored, Selection, Validation, select, select_noting};
pub use sets::{Sets, Sizes};
pub use steering::{Source, Steering, Way};
