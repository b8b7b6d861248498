//! Rotary position embeddings: inverse frequencies of every scaling that is served.
//!
//! Formulae follow transformers `modeling_rope_utils.py`. There the frequencies are f32 numbers, which the f32 path keeps
//! (at position 8,000 an ulp of a frequency is half a milliradian); the f64 path is exact throughout.

use serde::Serialize;

/// How frequencies are stretched beyond the trained context.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Positions divided by `factor` (Chen et al. 2023).
    Linear {
        /// Stretch.
        factor: f64,
    },
    /// NTK-aware base that grows with the sequence once it is longer than `original`.
    Dynamic {
        /// Stretch.
        factor: f64,
        /// Context the model was trained with.
        original: usize,
    },
    /// YaRN (Peng et al. 2023): per-frequency blend of interpolation and extrapolation.
    Yarn {
        /// Stretch.
        factor: f64,
        /// Context the model was trained with.
        original: usize,
        /// Rotations above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which a frequency is interpolated.
        beta_slow: f64,
        /// Factor on cos and sin.
        attention_factor: f64,
        /// Round the blend's borders to whole channels.
        truncate: bool,
    },
    /// Llama 3.1's piecewise scheme.
    Llama3 {
        /// Stretch.
        factor: f64,
        /// Context the model was trained with.
        original: usize,
        /// Wavelengths longer than `original / low` are divided by `factor`.
        low_freq_factor: f64,
        /// Wavelengths shorter than `original / high` are kept.
        high_freq_factor: f64,
    },
    /// LongRoPE (Phi-3 128k): one divisor a frequency, two sets, chosen by the sequence's length.
    LongRope {
        /// Divisors up to `original` positions.
        short: Vec<f64>,
        /// Divisors beyond.
        long: Vec<f64>,
        /// Context the model was trained with.
        original: usize,
        /// Factor on cos and sin.
        attention_factor: f64,
    },
    /// A divisor for each frequency, as llama.cpp stores Llama 3.1's scheme.
    Divisors(Vec<f64>),
}

/// A rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rope {
    /// Denominator of the progression's exponent. The first `2 * ceil(dim / 2)` channels are rotated, as transformers
    /// does for the odd widths that GPT-NeoX's fraction can give.
    pub dim: usize,
    /// Base of the geometric progression.
    pub theta: f64,
    /// Scaling beyond the trained context.
    pub scaling: RopeScaling,
}

impl Rope {
    /// Unscaled.
    pub fn plain(dim: usize, theta: f64) -> Self {
        Self {
            dim,
            theta,
            scaling: RopeScaling::None,
        }
    }

    /// True when the frequencies depend on the length of the sequence.
    pub fn by_length(&self) -> bool {
        matches!(
            self.scaling,
            RopeScaling::Dynamic { .. } | RopeScaling::LongRope { .. }
        )
    }

    /// Inverse frequencies `[ceil(dim/2)]` and the factor on cos and sin, for a pass whose largest position is
    /// `seq_len - 1`. With `single` the unscaled frequencies are f32 numbers, as transformers computes them.
    pub fn frequencies(&self, seq_len: usize, single: bool) -> (Vec<f64>, f64) {
        let base = self.base_frequencies(self.theta, single);
        match &self.scaling {
            RopeScaling::None => (base, 1.0),
            RopeScaling::Linear { factor } => (base.iter().map(|f| f / factor).collect(), 1.0),
            RopeScaling::Dynamic { factor, original } => {
                let (len, orig, dim) = (
                    seq_len.max(*original) as f64,
                    *original as f64,
                    self.dim as f64,
                );
                let grow = (factor * len / orig - (factor - 1.0)).powf(dim / (dim - 2.0));
                (self.base_frequencies(self.theta * grow, single), 1.0)
            }
            RopeScaling::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => {
                let ramp = self.yarn_ramp(*original, *beta_fast, *beta_slow, *truncate);
                let blended = base
                    .iter()
                    .zip(ramp)
                    .map(|(f, keep)| (f / factor) * (1.0 - keep) + f * keep)
                    .collect();
                (blended, *attention_factor)
            }
            RopeScaling::Llama3 {
                factor,
                original,
                low_freq_factor: low,
                high_freq_factor: high,
            } => {
                let orig = *original as f64;
                let scale = |f: &f64| {
                    let wavelength = 2.0 * std::f64::consts::PI / f;
                    if wavelength > orig / low {
                        f / factor
                    } else if wavelength < orig / high {
                        *f
                    } else {
                        let smooth = (orig / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                (base.iter().map(scale).collect(), 1.0)
            }
            RopeScaling::LongRope {
                short,
                long,
                original,
                attention_factor,
            } => {
                let divisors = if seq_len > *original { long } else { short };
                (divide(&base, divisors), *attention_factor)
            }
            RopeScaling::Divisors(divisors) => (divide(&base, divisors), 1.0),
        }
    }

    fn base_frequencies(&self, theta: f64, single: bool) -> Vec<f64> {
        let frequency = |i: usize| {
            if single {
                f64::from(1.0 / (theta as f32).powf((2 * i) as f32 / self.dim as f32))
            } else {
                1.0 / theta.powf((2 * i) as f64 / self.dim as f64)
            }
        };
        (0..self.dim.div_ceil(2)).map(frequency).collect()
    }

    /// 1 where a frequency is extrapolated (kept), 0 where it is interpolated.
    fn yarn_ramp(&self, original: usize, fast: f64, slow: f64, truncate: bool) -> Vec<f64> {
        let dim = self.dim as f64;
        let border = |rotations: f64| {
            dim * (original as f64 / (rotations * 2.0 * std::f64::consts::PI)).ln()
                / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (border(fast), border(slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        low = low.max(0.0);
        high = high.min(dim - 1.0);
        if low == high {
            high += 0.001;
        }
        (0..self.dim.div_ceil(2))
            .map(|i| 1.0 - ((i as f64 - low) / (high - low)).clamp(0.0, 1.0))
            .collect()
    }
}

fn divide(frequencies: &[f64], divisors: &[f64]) -> Vec<f64> {
    frequencies
        .iter()
        .zip(divisors)
        .map(|(f, d)| f / d)
        .collect()
}

/// YaRN's default factor on cos and sin (transformers `get_mscale`).
pub(super) fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * mscale * factor.ln() + 1.0
    }
}

/// LongRoPE's factor on cos and sin where the config names none (Ding et al. 2024, as in Phi-3).
pub(super) fn longrope_magnitude(factor: f64, original: usize) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        (1.0 + factor.ln() / (original as f64).ln()).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_short_wavelengths_and_divides_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            original: 32,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
        };
        let rope = Rope {
            dim: 12,
            theta: 500_000.0,
            scaling,
        };
        let (plain, _) = Rope::plain(12, 500_000.0).frequencies(1, true);
        let (scaled, factor) = rope.frequencies(1, true);
        assert_eq!(factor, 1.0);
        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[5], plain[5] / 8.0);
    }

    #[test]
    fn dynamic_equals_plain_up_to_the_trained_context_and_slows_down_beyond() {
        let scaling = RopeScaling::Dynamic {
            factor: 2.0,
            original: 16,
        };
        let rope = Rope {
            dim: 8,
            theta: 10_000.0,
            scaling,
        };
        let plain = Rope::plain(8, 10_000.0).frequencies(1, true).0;
        assert_eq!(rope.frequencies(16, true).0, plain);
        let longer = rope.frequencies(32, true).0;
        assert!(longer[3] < plain[3] && longer[0] == plain[0]);
    }

    #[test]
    fn yarn_lies_between_interpolation_and_extrapolation() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            original: 64,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: yarn_mscale(4.0, 1.0),
            truncate: true,
        };
        let rope = Rope {
            dim: 16,
            theta: 10_000.0,
            scaling,
        };
        let (plain, _) = Rope::plain(16, 10_000.0).frequencies(1, true);
        let (scaled, factor) = rope.frequencies(1, true);
        assert!(
            (factor - 1.138_629_436_111_989).abs() < 1e-12,
            "0.1 ln 4 + 1"
        );
        for (s, p) in scaled.iter().zip(&plain) {
            assert!(*s <= *p && *s >= p / 4.0);
        }
    }
}
