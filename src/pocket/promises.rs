//! What a recipe promises of its models: bounds on the figures of an exam, stage by stage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::case::Kind;
use super::exam::{Figure, Figures};

/// The promises of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promises {
    /// Conversations of each kind.
    pub each: usize,
    /// Bounds by stage and kind.
    pub stages: BTreeMap<String, BTreeMap<Kind, Bounds>>,
}

/// Bounds on the shares of a kind; what is left out is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Least share of right answers.
    pub right_min: Option<f64>,
    /// Largest share of right answers.
    pub right_max: Option<f64>,
    /// Least share of the wrong answer that matters.
    pub wrong_min: Option<f64>,
    /// Largest share of the wrong answer that matters.
    pub wrong_max: Option<f64>,
}

/// A promise and whether it was kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// The kind.
    pub kind: Kind,
    /// What was promised, as `right at least 90.0%`.
    pub promise: String,
    /// What was found.
    pub found: f64,
    /// Whether that keeps it.
    pub kept: bool,
}

impl Bounds {
    /// Each bound against a figure.
    pub fn held(&self, kind: Kind, figure: Figure) -> Vec<Kept> {
        let (right, wrong) = (figure.right_share(), figure.wrong_share());
        [
            ("right", "at least", self.right_min, right),
            ("right", "at most", self.right_max, right),
            ("wrong", "at least", self.wrong_min, wrong),
            ("wrong", "at most", self.wrong_max, wrong),
        ]
        .into_iter()
        .filter_map(|(what, way, bound, found)| {
            let bound = bound?;
            let kept = if way == "at least" {
                found >= bound
            } else {
                found <= bound
            };
            Some(Kept {
                kind,
                promise: format!("{what} {way} {:.1}%", 100.0 * bound),
                found,
                kept,
            })
        })
        .collect()
    }
}

/// The promises of a stage against its figures; a kind that was not asked breaks them.
pub fn held(bounds: &BTreeMap<Kind, Bounds>, figures: &Figures) -> Vec<Kept> {
    let each = bounds.iter().flat_map(|(kind, bounds)| {
        let figure = figures.get(kind).copied().unwrap_or_default();
        bounds.held(*kind, figure)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bounds_hold_at_their_ends_and_break_beyond() {
        let text = "each = 10\n[stages.sft.harmful]\nright_min = 0.5\nwrong_max = 0.2\n";
        let promises: Promises = toml::from_str(text).unwrap();
        let bounds = &promises.stages["sft"];
        let figures = |right, wrong| {
            let figure = Figure {
                n: 10,
                right,
                wrong,
                words: 0,
            };
            Figures::from([(Kind::Harmful, figure)])
        };
        let kept = |right, wrong| -> Vec<bool> {
            let held = held(bounds, &figures(right, wrong));
            held.iter().map(|one| one.kept).collect()
        };
        assert_eq!(kept(5, 2), [true, true]);
        assert_eq!(kept(4, 3), [false, false]);
        assert_eq!(held(bounds, &Figures::new())[0].found, 0.0);
        assert!(toml::from_str::<Promises>("each = 1\n[stages.a.greeting]\n").is_err());
        assert!(toml::from_str::<Promises>("each = 1\n[stages.a.fact]\nright = 1\n").is_err());
    }
}
