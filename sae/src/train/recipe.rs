//! What is trained, and how. Defaults are SAELens 6's where it has one, and said to be ours where not.

use serde::{Deserialize, Serialize};

use super::schedule::{Schedule, Warmup};
use crate::SaeError;

/// Widths of what is read and written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Width of a row that is read.
    pub d_in: usize,
    /// Widths of the points that are written, side by side; one but for a crosscoder. A latent's decoder norm is the sum of
    /// its norms at these points (Lindsey et al. 2024, Crosscoders).
    pub blocks: Vec<usize>,
    /// What is written is not what is read: a transcoder.
    pub transcoder: bool,
    /// A linear way around the latents (a skip transcoder's, arXiv 2501.18823).
    pub skip: bool,
}

impl Shape {
    /// An autoencoder of one point.
    pub fn autoencoder(d: usize) -> Self {
        Self {
            d_in: d,
            blocks: vec![d],
            transcoder: false,
            skip: false,
        }
    }

    /// Width of a row that is written.
    pub fn d_out(&self) -> usize {
        self.blocks.iter().sum()
    }
}

/// A recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Latents.
    pub d_sae: usize,
    /// Which latents fire, and what else is in the loss.
    pub architecture: Architecture,
    /// The peak of the learning rate.
    #[serde(default = "Recipe::default_lr")]
    pub lr: f64,
    /// Adam's betas.
    #[serde(default = "Recipe::default_betas")]
    pub betas: [f64; 2],
    /// Adam's epsilon.
    #[serde(default = "Recipe::default_eps")]
    pub eps: f64,
    /// The largest norm of all gradients as one vector; none for no limit.
    #[serde(default = "Recipe::default_clip")]
    pub clip: Option<f64>,
    /// The learning rate over time.
    #[serde(default)]
    pub schedule: Schedule,
    /// How long decoder rows are.
    #[serde(default)]
    pub decoder_norm: DecoderNorm,
    /// Length of decoder rows at the start; encoder rows are their copies, but for transcoders.
    #[serde(default = "Recipe::default_init_norm")]
    pub init_norm: f64,
    /// Where `b_dec` starts.
    #[serde(default)]
    pub b_dec: Bias,
    /// Whether `b_dec` is taken off what is read; never for a transcoder.
    #[serde(default = "yes")]
    pub centred: bool,
    /// When a latent counts as dead.
    #[serde(default)]
    pub dead: Dead,
    /// Seed of the initial weights.
    #[serde(default)]
    pub seed: u64,
}

/// Decoder rows while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderNorm {
    /// As training makes them; selection and penalties count a latent in units of its decoder norm.
    #[default]
    Free,
    /// Of length 1: what of the gradient lies along a row is taken out, and rows are rescaled after each step
    /// (dictionary_learning).
    Unit,
}

/// Where the decoder's bias starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// At 0 (SAELens 6).
    Zero,
    /// At the mean of the first batch: ours, as a mean far from 0 is what kills latents at the start (arXiv 2605.31518).
    #[default]
    Mean,
    /// At the geometric median of the first batch (dictionary_learning).
    GeometricMedian,
}

/// Dead latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dead {
    /// Rows without firing after which a latent is dead; 0 for a share of the run, which its planner knows, and never where
    /// there is none.
    pub after: u64,
    /// Every so many rows, dead latents start anew from rows that are badly reconstructed (Bricken et al. 2023); 0 never.
    pub resample_every: u64,
}

/// Which latents fire, and the losses that go with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Architecture {
    /// ReLU with an L1 penalty on codes.
    Relu {
        /// The coefficient.
        l1: f64,
        /// Its warm-up.
        #[serde(default)]
        warmup: Warmup,
        /// Codes count in units of their decoder norm (Conerly et al. 2024), not as they are.
        #[serde(default = "yes")]
        by_norm: bool,
    },
    /// The `k` largest of a row (arXiv 2406.04093).
    TopK {
        /// Latents of a row.
        k: usize,
        /// How they are chosen, and what revives dead ones.
        #[serde(flatten)]
        options: TopKOptions,
    },
    /// The `k · rows` largest of a batch (arXiv 2412.06410).
    BatchTopK {
        /// Latents of a row on average.
        k: f64,
        /// How they are chosen, and what revives dead ones.
        #[serde(flatten)]
        options: TopKOptions,
        /// Weight of a batch in the moving average of the least code that was kept: the threshold of inference.
        #[serde(default = "Architecture::default_rate")]
        threshold_rate: f64,
    },
    /// BatchTopK whose first latents must reconstruct alone (Bussmann et al. 2025, arXiv 2503.17547).
    Matryoshka {
        /// Latents of a row on average.
        k: f64,
        /// Widths of the nested dictionaries.
        levels: Levels,
        /// How they are chosen, and what revives dead ones.
        #[serde(flatten)]
        options: TopKOptions,
        /// As for [`Self::BatchTopK`].
        #[serde(default = "Architecture::default_rate")]
        threshold_rate: f64,
    },
    /// Thresholds that are learned (arXiv 2407.14435).
    JumpRelu {
        /// Where thresholds start.
        #[serde(default = "Architecture::default_threshold")]
        threshold: f64,
        /// Width of the window in which a threshold feels its gradient.
        #[serde(default = "Architecture::default_bandwidth")]
        bandwidth: f64,
        /// The coefficient of the sparsity loss.
        l0: f64,
        /// Its warm-up.
        #[serde(default)]
        warmup: Warmup,
        /// The sparsity loss.
        #[serde(default)]
        sparsity: Sparsity,
        /// Coefficient of the loss that pulls dead latents towards their thresholds (Conerly et al. 2025); 0 for none.
        #[serde(default)]
        pre_act: f64,
        /// Whether the encoder feels the thresholds' estimator too (Anthropic), or thresholds alone (DeepMind).
        #[serde(default)]
        to_input: bool,
    },
    /// A gate that says which, and a magnitude that says how much (arXiv 2404.16014).
    Gated {
        /// The coefficient of the penalty on gates.
        l1: f64,
        /// Its warm-up.
        #[serde(default)]
        warmup: Warmup,
        /// Gates do not move the decoder (the paper), or do (SAELens).
        #[serde(default = "yes")]
        frozen_decoder: bool,
    },
}

/// What the architectures with a fixed number of latents share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopKOptions {
    /// Coefficient of AuxK: dead latents reconstruct what the others left over.
    #[serde(default = "one")]
    pub aux: f64,
    /// Latents are compared in units of their decoder norm.
    #[serde(default = "yes")]
    pub by_norm: bool,
    /// `k` falls linearly to its value over so many steps, from `anneal_from`.
    #[serde(default)]
    pub anneal_steps: u64,
    /// Where it falls from, in latents of a row; 0 for ten times `k`.
    #[serde(default)]
    pub anneal_from: f64,
}

impl Default for TopKOptions {
    fn default() -> Self {
        Self {
            aux: 1.0,
            by_norm: true,
            anneal_steps: 0,
            anneal_from: 0.0,
        }
    }
}

impl TopKOptions {
    /// `k` at a step, at most `d_sae`.
    pub(super) fn k_at(&self, k: f64, step: u64, d_sae: usize) -> f64 {
        let most = d_sae as f64;
        if step >= self.anneal_steps {
            return k.min(most);
        }
        let from = if self.anneal_from > 0.0 {
            self.anneal_from
        } else {
            10.0 * k
        };
        let done = step as f64 / self.anneal_steps as f64;
        (from + (k - from) * done).min(most)
    }
}

/// Nested widths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// Rising, all below or equal to `d_sae`; that one is added if it is missing.
    pub widths: Vec<usize>,
    /// Dead latents reconstruct what their own level left over, not what all left over.
    #[serde(default)]
    pub own_aux: bool,
}

/// How JumpReLU is made sparse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Sparsity {
    /// The number of latents that fire.
    #[default]
    Step,
    /// `2/t · (L0 - t)²` around a target (Gemma Scope 2).
    Target(f64),
    /// `Σ tanh(c · a · |W_dec|)` (Anthropic).
    Tanh(f64),
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl Architecture {
    fn default_rate() -> f64 {
        0.01
    }

    fn default_threshold() -> f64 {
        0.01
    }

    fn default_bandwidth() -> f64 {
        0.05
    }

    /// The name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Relu { .. } => "relu",
            Self::TopK { .. } => "topk",
            Self::BatchTopK { .. } => "batch-topk",
            Self::Matryoshka { .. } => "matryoshka",
            Self::JumpRelu { .. } => "jumprelu",
            Self::Gated { .. } => "gated",
        }
    }
}

impl Recipe {
    fn default_lr() -> f64 {
        3e-4
    }

    fn default_betas() -> [f64; 2] {
        [0.9, 0.999]
    }

    fn default_eps() -> f64 {
        1e-8
    }

    // A norm of some hundreds is what a summed squared error has; a limit that seldom binds would only hide it.
    #[allow(clippy::unnecessary_wraps)] // a default of serde
    fn default_clip() -> Option<f64> {
        Some(1.0)
    }

    fn default_init_norm() -> f64 {
        0.1
    }

    /// A recipe with every default.
    pub fn new(d_sae: usize, architecture: Architecture) -> Self {
        Self {
            d_sae,
            architecture,
            lr: Self::default_lr(),
            betas: Self::default_betas(),
            eps: Self::default_eps(),
            clip: Self::default_clip(),
            schedule: Schedule::default(),
            decoder_norm: DecoderNorm::default(),
            init_norm: Self::default_init_norm(),
            b_dec: Bias::default(),
            centred: true,
            dead: Dead::default(),
            seed: 0,
        }
    }

    /// Refuses what cannot be trained.
    ///
    /// # Errors
    /// A width of zero, a `k` beyond the width, levels that do not rise, a number outside its range, by name.
    pub fn check(&self, shape: &Shape) -> Result<(), SaeError> {
        let range = |what, found: String, allowed: &str| {
            Err(SaeError::Range {
                what,
                found,
                allowed: allowed.into(),
            })
        };
        for (what, width) in [
            ("d_sae", self.d_sae),
            ("d_in", shape.d_in),
            ("d_out", shape.d_out()),
        ] {
            if width == 0 {
                return range(what, "0".into(), "1 or more");
            }
        }
        let positive = |what, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                range(what, value.to_string(), "numbers above 0")
            }
        };
        let at_least_zero = |what, value: f64| {
            if value.is_finite() && value >= 0.0 {
                Ok(())
            } else {
                range(what, value.to_string(), "0 or more")
            }
        };
        positive("lr", self.lr)?;
        positive("init_norm", self.init_norm)?;
        positive("eps", self.eps)?;
        if let Some(clip) = self.clip {
            positive("clip", clip)?;
        }
        for beta in self.betas {
            if !(0.0..1.0).contains(&beta) {
                return range("betas", beta.to_string(), "0 to below 1");
            }
        }
        let k = |k: f64| {
            if k.is_finite() && k > 0.0 && k <= self.d_sae as f64 {
                Ok(())
            } else {
                range("k", k.to_string(), "above 0, at most d_sae")
            }
        };
        match &self.architecture {
            Architecture::Relu { l1, .. } | Architecture::Gated { l1, .. } => {
                at_least_zero("l1", *l1)
            }
            Architecture::TopK { k: at, options } => {
                k(*at as f64)?;
                at_least_zero("aux", options.aux)
            }
            Architecture::BatchTopK { k: at, options, .. } => {
                k(*at)?;
                at_least_zero("aux", options.aux)
            }
            Architecture::Matryoshka {
                k: at,
                options,
                levels,
                ..
            } => {
                k(*at)?;
                at_least_zero("aux", options.aux)?;
                let rising = levels.widths.is_sorted_by(|a, b| a < b);
                let inside = levels.widths.iter().all(|w| (1..=self.d_sae).contains(w));
                if rising && inside {
                    return Ok(());
                }
                range(
                    "levels",
                    format!("{:?}", levels.widths),
                    "rising widths from 1 to d_sae",
                )
            }
            Architecture::JumpRelu {
                threshold,
                bandwidth,
                l0,
                sparsity,
                pre_act,
                ..
            } => {
                at_least_zero("threshold", *threshold)?;
                positive("bandwidth", *bandwidth)?;
                at_least_zero("l0", *l0)?;
                at_least_zero("pre_act", *pre_act)?;
                match sparsity {
                    Sparsity::Step => Ok(()),
                    Sparsity::Target(target) => k(*target),
                    Sparsity::Tanh(scale) => positive("tanh", *scale),
                }
            }
        }
    }
}
