//! The report: every number with the definition it was computed by.

use serde::{Deserialize, Serialize};

use super::{Histogram, Shares};

/// One quantity by the three definitions of unexplained variance in circulation, which are not interchangeable. `x` is what
/// should have come out, `x̂` what did; `None` where the rows do not differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByDefinition {
    /// `Σ|x − x̂|² / Σ|x − mean|²` over all rows at once: SAELens from version 6 on. The one to quote.
    pub pooled: Option<f64>,
    /// Mean over batches of `Σ var(x − x̂) / Σ var(x)`, sums over columns: dictionary_learning. Forgives a constant offset.
    pub batch_variance: Option<f64>,
    /// Mean over batches of `Σ|x − x̂|² / Σ|x − mean of the batch|²`: sparsify.
    pub batch_mean: Option<f64>,
}

impl ByDefinition {
    /// One minus each: explained from unexplained variance.
    pub fn complement(&self) -> Self {
        let from_one = |v: Option<f64>| v.map(|v| 1.0 - v);
        Self {
            pooled: from_one(self.pooled),
            batch_variance: from_one(self.batch_variance),
            batch_mean: from_one(self.batch_mean),
        }
    }
}

/// How good a dictionary was on some rows. What those rows cannot say is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Rows.
    pub rows: u64,
    /// Batches; two of the definitions are means over them.
    pub batches: u64,
    /// Latents that are not 0, mean over rows.
    pub l0: Option<f64>,
    /// Its standard deviation over rows.
    pub l0_deviation: Option<f64>,
    /// `Σ |code|`, mean over rows.
    pub l1: Option<f64>,
    /// Fraction of variance unexplained.
    pub fvu: ByDefinition,
    /// One minus that.
    pub explained_variance: ByDefinition,
    /// `|x − x̂|²` summed over columns, mean over rows.
    pub mse: Option<f64>,
    /// `|x̂| / |x|`, mean over rows that are not 0.
    pub l2_ratio: Option<f64>,
    /// Cosine of `x` and `x̂`, mean over rows that are not 0.
    pub cosine: Option<f64>,
    /// `E|x̂|² / E[x·x̂]`: below 1 the dictionary shrinks (Rajamanoharan et al. 2024, arXiv 2404.16014, eq. 10). Over all rows
    /// at once, where SAELens takes the mean of the batches' ratios.
    pub relative_bias: Option<f64>,
    /// `|mean| / |std|` of the rows.
    pub severity: Option<f64>,
    /// Dead, rare and dense latents.
    pub latents: Shares,
    /// `log10(density + 1e-10)` over latents.
    pub densities: Histogram,
}
