//! The architectures of the contest, each by one number: how many latents are to fire, or what firing costs.

use serde::{Deserialize, Serialize};

use crate::train::{Architecture, Levels, Sparsity, TopKOptions, Warmup};

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// ReLU with an L1 penalty.
    Relu,
    /// The k largest of a row.
    #[serde(rename = "topk")]
    TopK,
    /// The k largest of a row on average.
    #[serde(rename = "batch-topk")]
    BatchTopK,
    /// BatchTopK at a quarter, a half and the whole of the width.
    Matryoshka,
    /// Learned thresholds with an L0 penalty.
    #[serde(rename = "jumprelu")]
    JumpRelu,
    /// A gate and a magnitude, with an L1 penalty on the gate.
    Gated,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::Relu,
        Self::TopK,
        Self::BatchTopK,
        Self::Matryoshka,
        Self::JumpRelu,
        Self::Gated,
    ];

    /// The name in tables: that of its [`Architecture`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::TopK => "topk",
            Self::BatchTopK => "batch-topk",
            Self::Matryoshka => "matryoshka",
            Self::JumpRelu => "jumprelu",
            Self::Gated => "gated",
        }
    }

    /// Whether a penalty makes it sparse; otherwise it is told how many latents fire.
    pub fn penalised(self) -> bool {
        matches!(self, Self::Relu | Self::JumpRelu | Self::Gated)
    }

    /// Its recipe: `k` latents, or `coefficient` where a penalty decides; SAELens's defaults otherwise. The penalty rises over
    /// `warmup` steps.
    pub fn architecture(
        self,
        k: usize,
        coefficient: f64,
        d_sae: usize,
        warmup: u64,
    ) -> Architecture {
        let (options, warmup) = (TopKOptions::default(), Warmup(warmup));
        let threshold_rate = 0.01;
        match self {
            Self::Relu => Architecture::Relu {
                l1: coefficient,
                warmup,
                by_norm: true,
            },
            Self::TopK => Architecture::TopK { k, options },
            Self::BatchTopK => Architecture::BatchTopK {
                k: k as f64,
                options,
                threshold_rate,
            },
            Self::Matryoshka => Architecture::Matryoshka {
                k: k as f64,
                levels: Levels {
                    widths: Self::levels(d_sae),
                    own_aux: false,
                },
                options,
                threshold_rate,
            },
            Self::JumpRelu => Architecture::JumpRelu {
                threshold: 0.01,
                bandwidth: 0.05,
                l0: coefficient,
                warmup,
                sparsity: Sparsity::Step,
                pre_act: 0.0,
                to_input: false,
            },
            Self::Gated => Architecture::Gated {
                l1: coefficient,
                warmup,
                frozen_decoder: true,
            },
        }
    }

    /// Matryoshka's widths: a quarter, a half, all.
    pub fn levels(d_sae: usize) -> Vec<usize> {
        let mut widths = vec![d_sae / 4, d_sae / 2, d_sae];
        widths.retain(|width| *width > 0);
        widths.dedup();
        widths
    }
}
