//! What a calibration says of one audit: whether something is wrong, by which quantities, and which fault it looks like.

use serde::{Deserialize, Serialize};

use super::features::Features;
use super::fit::Calibration;

/// Quantities that are named at most.
const NAMED: usize = 5;
/// Deviations from which on they are.
const WORTH: f64 = 3.0;

/// What is said of an audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Whether it is beyond what clean checkpoints do.
    pub alarm: bool,
    /// How far it is from clean ones.
    pub score: f64,
    /// The largest distance that passes.
    pub threshold: f64,
    /// The quantities that are furthest beyond the usual, with their deviations.
    pub because: Vec<(String, f64)>,
    /// The faults that it looks like, the likest first, with the cosine to their signatures.
    pub like: Vec<(String, f64)>,
}

impl Diagnosis {
    /// The fault that is named: the likest, where there is an alarm.
    pub fn named(&self) -> Option<&str> {
        let likest = self.like.first().filter(|_| self.alarm)?;
        Some(&likest.0)
    }
}

/// What a calibration says of these numbers.
pub fn diagnose(calibration: &Calibration, features: &Features) -> Diagnosis {
    let score = calibration.score(features);
    let mut because: Vec<(String, f64)> = calibration
        .deviations(features)
        .filter(|(_, z)| *z > WORTH)
        .map(|(name, z)| (name.to_owned(), z))
        .collect();
    because.sort_by(|a, b| b.1.total_cmp(&a.1));
    because.truncate(NAMED);
    let shape = calibration.shape(features);
    let mut like: Vec<(String, f64)> = calibration
        .signatures
        .iter()
        .map(|(fault, signature)| {
            let cosine = signature
                .iter()
                .filter_map(|(name, x)| Some(x * shape.get(name)?))
                .sum();
            (fault.clone(), cosine)
        })
        .collect();
    like.sort_by(|a, b| b.1.total_cmp(&a.1));
    Diagnosis {
        alarm: score > calibration.threshold,
        score,
        threshold: calibration.threshold,
        because,
        like,
    }
}
