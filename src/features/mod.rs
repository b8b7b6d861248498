//! Dictionaries on models: spliced into the forward pass, judged by what the model still does, edited latent by latent.
//!
//! `file.rs` opens a dictionary and finds where it belongs, `splice.rs` puts its reconstruction in the place of the
//! activation, `latents.rs` says what is done to its codes on the way, `turn.rs` does it while the model runs, `quality.rs`
//! measures what is lost; `probing.rs` what few latents say about a label, `absorption.rs` where a latent falls silent for
//! another, `dashboard/` latents as a person reads them, `labels.rs` what a person calls them, `scope/` what latents do token
//! by token while a model generates, `drift.rs` what changed between two checkpoints, `compare/` what a fine-tune changed,
//! `planted/` how well architectures find features that are known. The dictionaries themselves are the crate
//! `candlescope_sae`, which knows no model.

pub mod absorption;
pub mod compare;
pub mod dashboard;
pub mod drift;
mod error;
pub mod file;
pub mod labels;
pub mod latents;
pub mod planted;
pub mod probing;
pub mod quality;
pub mod scope;
pub mod splice;
pub mod turn;

pub use absorption::{AbsorptionOptions, LetterAbsorptions, LetterTokens, absorption};
pub use compare::{CompareOptions, Crosscoded, Frozen, compare_crosscoder, compare_frozen};
pub use drift::{LatentDrift, latent_drift};
pub use error::FeatureError;
pub use file::{Opened, open};
pub use labels::Labels;
pub use latents::{Change, LatentEdit};
pub use probing::{MeanCodes, SPARSE_K, SparseProbe, sparse_probing};
pub use quality::{Evaluation, QualityOptions, Recovered, quality};
pub use splice::{Places, Splice};
pub use turn::{Turning, turned};
