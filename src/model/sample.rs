//! Choosing the next token: greedy, temperature, top-k, top-p, all from a seed.
//!
//! candle-transformers' `LogitsProcessor` draws. Each row of a batch has a generator of its own, so a row's text does not
//! depend on which other rows it is batched with.

use candle_core::{DType, Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use serde::{Deserialize, Serialize};

use super::ModelError;

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleOptions {
    /// 0 is greedy.
    pub temperature: f64,
    /// Draw from the `k` most likely only.
    pub top_k: Option<usize>,
    /// Draw from the smallest set whose probability reaches `p` only.
    pub top_p: Option<f64>,
    /// Seed of the first row; row `i` uses `seed + i`.
    pub seed: u64,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            seed: 0,
        }
    }
}

impl SampleOptions {
    /// Refuses settings out of range, and settings that greedy decoding would ignore.
    pub fn check(&self) -> Result<(), ModelError> {
        let refuse = |option, expected, found: String| {
            Err(ModelError::Sampling {
                option,
                expected,
                found,
            })
        };
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return refuse(
                "temperature",
                "0 (greedy) or a positive number",
                self.temperature.to_string(),
            );
        }
        if self.top_k == Some(0) {
            return refuse("top-k", "at least 1", "0".into());
        }
        if let Some(p) = self.top_p
            && !(p > 0.0 && p <= 1.0)
        {
            return refuse("top-p", "above 0, at most 1", p.to_string());
        }
        if self.temperature == 0.0 && (self.top_k.is_some() || self.top_p.is_some()) {
            return refuse(
                "temperature",
                "a positive number when top-k or top-p is given",
                "0 (greedy)".into(),
            );
        }
        Ok(())
    }

    fn sampling(&self) -> Sampling {
        let temperature = self.temperature;
        match (self.top_k, self.top_p) {
            _ if temperature == 0.0 => Sampling::ArgMax,
            (None, None) => Sampling::All { temperature },
            (Some(k), None) => Sampling::TopK { k, temperature },
            (None, Some(p)) => Sampling::TopP { p, temperature },
            (Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
        }
    }
}

/// One generator a row.
pub struct Sampler {
    rows: Vec<LogitsProcessor>,
}

impl Sampler {
    /// For `rows` rows.
    pub fn new(options: &SampleOptions, rows: usize) -> Result<Self, ModelError> {
        options.check()?;
        let row = |i: usize| {
            LogitsProcessor::from_sampling(options.seed.wrapping_add(i as u64), options.sampling())
        };
        Ok(Self {
            rows: (0..rows).map(row).collect(),
        })
    }

    /// The next token of a row from its logits `[vocab]`.
    ///
    /// # Errors
    /// A logit that is NaN: choosing a token from such logits would hide that the model is broken.
    pub fn next(&mut self, row: usize, logits: &Tensor) -> Result<u32, ModelError> {
        let values: Vec<f32> = logits.to_dtype(DType::F32)?.to_vec1()?;
        let count = values.iter().filter(|x| x.is_nan()).count();
        if count > 0 {
            return Err(ModelError::NotANumber {
                what: "logits",
                count,
            });
        }
        Ok(self.rows[row].sample(logits)?)
    }

    /// Passes over one draw of a row: the draw after it is what it would have been.
    ///
    /// # Errors
    /// Never, for logits that are finite; candle's word for it.
    pub(super) fn skip(&mut self, row: usize) -> Result<(), ModelError> {
        // A draw takes one number from the generator however many tokens it chooses between.
        let flat = Tensor::zeros(2, DType::F32, &Device::Cpu)?;
        self.rows[row].sample(&flat)?;
        Ok(())
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sampler({} rows)", self.rows.len())
    }
}
