//! What the map of directions can show: each quantity with its words, its scale and its baseline.

use super::work::{Found, Tried};
use crate::steer::Candidate;
use crate::tui::theme::Scale;

/// A quantity of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Quantity {
    /// AUROC of the projection on validation prompts.
    #[default]
    Separation,
    /// Cosine of directions from halves of the prompts, stepped up to all.
    Reliability,
    /// Its length over the mean length of harmless activations.
    Length,
    /// Refusal score of harmful prompts under ablation, minus that without edits.
    Bypass,
    /// Refusal score of harmless prompts under addition, minus that without edits.
    Induce,
    /// KL of harmless prompts under ablation, nats.
    Kl,
}

impl Quantity {
    /// In the order of the key.
    pub(super) const ALL: [Self; 6] = [
        Self::Separation,
        Self::Reliability,
        Self::Length,
        Self::Bypass,
        Self::Induce,
        Self::Kl,
    ];

    /// The one so many further.
    pub(super) fn turned(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    /// Whether it takes passes of the model to know it.
    pub(super) fn tried(self) -> bool {
        matches!(self, Self::Bypass | Self::Induce | Self::Kl)
    }

    /// For a title.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Separation => "separation (AUROC)",
            Self::Reliability => "reliability",
            Self::Length => "length over harmless",
            Self::Bypass => "refusal score change, ablated",
            Self::Induce => "refusal score change, added",
            Self::Kl => "KL, ablated (nats)",
        }
    }

    /// What it is to be held against.
    pub(super) fn baseline(self, found: &Found) -> String {
        let [harmful, harmless] = found.prompts.each_ref().map(Vec::len);
        match self {
            Self::Separation => {
                let [h, n] = found.judged;
                format!("n = {h} + {n}, chance 0.5")
            }
            Self::Reliability => "split halves, 0 is noise".into(),
            Self::Length => "both means, train".into(),
            Self::Bypass => format!("n = {harmful}, from {:+.2}", found.base[0]),
            Self::Induce => format!("n = {harmless}, from {:+.2}", found.base[1]),
            Self::Kl => format!("n = {harmless}, limit 0.1"),
        }
    }

    /// Its value; NaN where it is not known.
    pub(super) fn of(self, found: &Found, candidate: &Candidate, tried: Option<&Tried>) -> f64 {
        let direction = &candidate.direction;
        let known = match self {
            Self::Separation => Some(candidate.separation),
            Self::Reliability => direction.reliability.map(|r| r.full),
            Self::Length => direction.negative_norm.map(|n| direction.norm / n),
            Self::Bypass => tried.map(|t| t.bypass.estimate - found.base[0]),
            Self::Induce => tried.map(|t| t.induce.estimate - found.base[1]),
            Self::Kl => tried.map(|t| t.kl.estimate),
        };
        known.unwrap_or(f64::NAN)
    }

    /// Colours, and the values at their ends.
    pub(super) fn scale(self, values: &[f64]) -> (Scale, f32, f32) {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let most = |least: f64| finite().map(f64::abs).fold(least, f64::max) as f32;
        match self {
            Self::Separation => (Scale::Sequential, 0.5, 1.0),
            Self::Reliability => (Scale::Sequential, 0.0, 1.0),
            Self::Length => (Scale::Sequential, 0.0, most(1e-6)),
            Self::Kl => (Scale::Sequential, 0.0, most(0.1)),
            Self::Bypass | Self::Induce => {
                let most = most(1.0);
                (Scale::Diverging, -most, most)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_turn_round_and_scales_hold_their_values() {
        assert_eq!(Quantity::Separation.turned(5), Quantity::Kl);
        assert_eq!(Quantity::Kl.turned(1), Quantity::Separation);
        let (scale, lo, hi) = Quantity::Bypass.scale(&[-3.0, f64::NAN, 2.0]);
        assert_eq!((scale, lo, hi), (Scale::Diverging, -3.0, 3.0));
        let (_, lo, hi) = Quantity::Kl.scale(&[]);
        assert_eq!((lo, hi), (0.0, 0.1));
    }
}
