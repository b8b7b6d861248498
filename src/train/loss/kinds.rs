//! The direct preference losses by name, which options each reads, and their defaults.
//!
//! Always: an option that a loss does not read is refused, with what it is for.

use serde::{Deserialize, Serialize};

use super::{LossError, error::within};

/// Which loss. `lp` are summed log-probabilities of a completion, `n` its tokens with its end; `Δ` is the log-ratio to the
/// reference of the chosen completion less that of the rejected one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `-log σ(βΔ)` (DPO, Rafailov et al. 2023); with label smoothing `ε` cDPO, `-(1-ε) log σ(βΔ) - ε log σ(-βΔ)` (Mitchell
    /// 2023).
    #[default]
    Sigmoid,
    /// DPO on log-ratios per token: `Δ` of `lp / n`.
    SigmoidNorm,
    /// `[-(1-ε) log σ(βΔ) + ε log σ(-βΔ)] / (1-2ε)` (Chowdhury et al. 2024): unbiased under a known share of wrong labels.
    Robust,
    /// `max(0, 1 - βΔ)` (RSO, Liu et al. 2023).
    Hinge,
    /// `(Δ - 1/(2β))²` with `Δ` of `lp / n`, as TRL and HALOs have it.
    IpoMean,
    /// `(Δ - 1/(2β))²` with `Δ` of `lp` (IPO, Azar et al. 2023), as OpenRLHF has it.
    IpoSum,
    /// Reverse KL to the smoothed label (EXO, Ji et al. 2024, equation 16).
    ExoPair,
    /// `-log σ(r_c) - ½ log σ(-r_c) - ½ log σ(-r_r)` with `r = β (lp - ref)` (NCA, Chen et al. 2024).
    NcaPair,
    /// `-log σ(r_c) - log σ(-r_r)` with `r = β (lp - ref)` (BCO without its shift, Jung et al. 2024, as TRL has it since 1.0).
    BcoPair,
    /// `-log σ(βΔ)` with `Δ` the policy's log-ratios of chosen to rejected, sorted over the pass, less the reference's, sorted too
    /// (AOT, Melnyk et al. 2024): distributions are compared, not pairs, so the pass is part of the loss. Smoothed as cDPO.
    Aot,
    /// The same of chosen log-ratios to the reference, sorted, less the rejected ones', sorted.
    AotUnpaired,
    /// `1 - σ(r_c) + σ(r_r)` (APO-zero, D'Oosterlinck et al. 2024).
    ApoZero,
    /// `σ(r_c) + 1 - σ(r_c - r_r)` (APO-down).
    ApoDown,
    /// `(a_c - 1/(2β))² + (a_r + 1/(2β))²` with `a = lp - ref` (SPPO, Wu et al. 2024).
    SppoHard,
    /// Log-ratio-modulated mixture of a logistic and an exponential loss (DiscoPOP, Lu et al. 2024).
    Discopop,
    /// `max(0, δ - lp_c + lp_r) - λ lp_c`, without a reference (SLiC-HF, Zhao et al. 2023).
    SlicHf,
    /// Likelihood of prompt and chosen completion, and `-β log σ` of the log-odds ratio, without a reference (ORPO, Hong et al.
    /// 2024).
    Orpo,
    /// `-log σ(β (lp_c/n_c - lp_r/n_r) - γ)`, without a reference (SimPO, Meng et al. 2024).
    Simpo,
}

impl Kind {
    /// The name in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::SigmoidNorm => "sigmoid_norm",
            Self::Robust => "robust",
            Self::Hinge => "hinge",
            Self::IpoMean => "ipo_mean",
            Self::IpoSum => "ipo_sum",
            Self::ExoPair => "exo_pair",
            Self::NcaPair => "nca_pair",
            Self::BcoPair => "bco_pair",
            Self::Aot => "aot",
            Self::AotUnpaired => "aot_unpaired",
            Self::ApoZero => "apo_zero",
            Self::ApoDown => "apo_down",
            Self::SppoHard => "sppo_hard",
            Self::Discopop => "discopop",
            Self::SlicHf => "slic_hf",
            Self::Orpo => "orpo",
            Self::Simpo => "simpo",
        }
    }

    /// Whether log-probabilities of a reference are needed; a loss without refuses them.
    pub fn needs_reference(self) -> bool {
        !matches!(self, Self::SlicHf | Self::Orpo | Self::Simpo)
    }

    /// Whether the likelihood of prompt and chosen completion is needed.
    pub fn needs_likelihood(self) -> bool {
        self == Self::Orpo
    }
}

/// Options as a config gives them; those left out take the loss's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `β`: 0.1, for SimPO 2, for `sigmoid_norm` 5 (open-instruct). All but `slic_hf` read it.
    pub beta: Option<f64>,
    /// `ε`: 0; for `exo_pair` 0.001, for `robust` 0.1. Read by `sigmoid`, `sigmoid_norm`, `robust`, `exo_pair`, `simpo`,
    /// `aot`, `aot_unpaired`.
    pub label_smoothing: Option<f64>,
    /// `γ`: 1. Read by `simpo`.
    pub gamma: Option<f64>,
    /// `δ`: 1. Read by `slic_hf`.
    pub delta: Option<f64>,
    /// `λ`: 0.1. Read by `slic_hf`.
    pub lambda: Option<f64>,
    /// `τ`: 0.05. Read by `discopop`.
    pub tau: Option<f64>,
}

/// Options with defaults in place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Resolved {
    pub beta: f64,
    pub epsilon: f64,
    pub gamma: f64,
    pub delta: f64,
    pub lambda: f64,
    pub tau: f64,
}

impl Options {
    pub(super) fn resolve(&self, kind: Kind) -> Result<Resolved, LossError> {
        self.refuse_unread(kind)?;
        let beta = match kind {
            Kind::Simpo => 2.0,
            Kind::SigmoidNorm => 5.0,
            _ => 0.1,
        };
        let epsilon = match kind {
            Kind::ExoPair => 1e-3,
            Kind::Robust => 0.1,
            _ => 0.0,
        };
        let resolved = Resolved {
            beta: self.beta.unwrap_or(beta),
            epsilon: self.label_smoothing.unwrap_or(epsilon),
            gamma: self.gamma.unwrap_or(1.0),
            delta: self.delta.unwrap_or(1.0),
            lambda: self.lambda.unwrap_or(0.1),
            tau: self.tau.unwrap_or(0.05),
        };
        resolved.check(kind)?;
        Ok(resolved)
    }

    fn refuse_unread(&self, kind: Kind) -> Result<(), LossError> {
        use Kind::{
            Aot, AotUnpaired, Discopop, ExoPair, Robust, Sigmoid, SigmoidNorm, Simpo, SlicHf,
        };
        let smoothed = [
            Sigmoid,
            SigmoidNorm,
            Robust,
            ExoPair,
            Simpo,
            Aot,
            AotUnpaired,
        ];
        let smoothed = smoothed.contains(&kind);
        let table = [
            (
                "beta",
                self.beta,
                kind != SlicHf,
                "slic_hf has delta and lambda",
            ),
            (
                "label_smoothing",
                self.label_smoothing,
                smoothed,
                "it is read by sigmoid, sigmoid_norm, robust, exo_pair, simpo, aot and aot_unpaired",
            ),
            ("gamma", self.gamma, kind == Simpo, "it is read by simpo"),
            ("delta", self.delta, kind == SlicHf, "it is read by slic_hf"),
            (
                "lambda",
                self.lambda,
                kind == SlicHf,
                "it is read by slic_hf",
            ),
            ("tau", self.tau, kind == Discopop, "it is read by discopop"),
        ];
        for (option, value, read, why) in table {
            if value.is_some() && !read {
                return Err(LossError::Ignored {
                    loss: kind.name(),
                    option,
                    why,
                });
            }
        }
        Ok(())
    }
}

impl Resolved {
    fn check(&self, kind: Kind) -> Result<(), LossError> {
        let name = kind.name();
        let positive = |x: f64| x > 0.0 && x.is_finite();
        within(positive(self.beta), name, "beta", "above 0", self.beta)?;
        let epsilon = self.epsilon;
        // EXO takes the logarithm of ε.
        let least = kind != Kind::ExoPair || epsilon > 0.0;
        let ok = least && (0.0..0.5).contains(&epsilon);
        let range = "0 to below 0.5, for exo_pair above 0";
        within(ok, name, "label_smoothing", range, epsilon)?;
        within(
            self.gamma.is_finite(),
            name,
            "gamma",
            "a number",
            self.gamma,
        )?;
        within(positive(self.delta), name, "delta", "above 0", self.delta)?;
        let lambda = self.lambda;
        within(
            lambda >= 0.0 && lambda.is_finite(),
            name,
            "lambda",
            "0 or more",
            lambda,
        )?;
        within(positive(self.tau), name, "tau", "above 0", self.tau)
    }
}
