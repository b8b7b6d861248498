//! Linear probes, directions, their statistics and controls.
//!
//! This crate knows no language model: activations come in as `[n, d]` arrays of f32, labels as `&[bool]`, and every
//! result says on how many items it rests and how sure it is. Seeds are explicit, and the number of threads never changes a result.

pub mod calibration;
pub mod ccs;
pub mod components;
pub mod controls;
mod descent;
pub mod design;
pub mod direction;
mod dual;
pub mod error;
mod factor;
pub mod folds;
pub mod fragility;
mod kernels;
mod lanes;
pub mod lexical;
mod linalg;
pub mod linear;
pub mod logistic;
pub mod massmean;
pub mod pooled;
mod primal;
mod random;
pub mod roc;
pub mod shared;
pub mod similarity;
pub mod softmax;
pub mod sparse;
mod standard;
pub mod stats;

pub use calibration::{Calibration, Platt};
pub use controls::{NullDistribution, Selectivity};
pub use design::Design;
pub use direction::{Direction, Reliability};
pub use error::ProbeError;
pub use folds::Score;
pub use fragility::{Fragility, FragilityOptions};
pub use lexical::{BagOfWords, LexicalMargin};
pub use linear::{Kind, LinearProbe};
pub use logistic::{LogisticOptions, LogisticProbe, Penalty};
pub use massmean::{MassMean, Whitening};
pub use pooled::PooledProbe;
pub use roc::{Auroc, auroc};
pub use shared::SharedFits;
pub use similarity::{Contrast, Similarity, similarity};
pub use stats::bootstrap::{Bootstrap, BootstrapOptions, Resampling};
pub use stats::interval::{Interval, Proportion};
