//! Dictionaries on models: spliced into the forward pass, judged by what the model still does, edited latent by latent.
//!
//! `file.rs` opens a dictionary and finds where it belongs, `splice.rs` puts its reconstruction in the place of the
//! activation, `latents.rs` says what is done to its codes on the way, `quality.rs` measures what is lost. The dictionaries
//! themselves are the crate `candlescope_sae`, which knows no model.

mod error;
pub mod file;
pub mod latents;
pub mod quality;
pub mod splice;

pub use error::FeatureError;
pub use file::{Opened, open};
pub use latents::{Change, LatentEdit};
pub use quality::{Evaluation, QualityOptions, Recovered, quality};
pub use splice::{Places, Splice};
