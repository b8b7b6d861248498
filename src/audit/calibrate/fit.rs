//! What clean checkpoints do, and what each fault looks like.
//!
//! Always: a quantity is counted in deviations: of the clean checkpoints among themselves, and of the audit's own sampling.
//! The limit on the largest of them is conformal (Vovk et al. 2005): the largest that a clean checkpoint showed when the
//! others were the measure, so that among n clean ones a new clean one exceeds it with probability 1/(n + 1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::features::{Feature, Features};
use super::{CalibrateError, Record};

/// The layout of a calibration's file.
pub const SCHEMA: &str = "candlescope.calibration/1";
/// Clean checkpoints without which nothing is fitted.
const CLEAN: usize = 5;
/// Changes below this many units are rounding, whatever the deviations are.
const FLOOR: f64 = 1e-3;

/// What was fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What the audits were made with.
    pub policy: String,
    /// Hash of the baseline's weights.
    pub baseline: String,
    /// Clean checkpoints that were the measure.
    pub clean: usize,
    /// The largest count of deviations that still passes.
    pub threshold: f64,
    /// What clean checkpoints do, by quantity.
    pub quantities: BTreeMap<String, Usual>,
    /// What each fault looks like: a direction over the quantities.
    pub signatures: BTreeMap<String, BTreeMap<String, f64>>,
}

/// What clean checkpoints do with a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usual {
    /// Their mean, more being worse.
    pub centre: f64,
    /// One deviation: of checkpoints and of sampling together.
    pub scale: f64,
    /// Whether less is unusual, too.
    pub two_sided: bool,
}

impl Usual {
    /// How many deviations worse than usual a number is.
    pub fn deviations(self, feature: Feature) -> f64 {
        let z = (feature.value - self.centre) / self.scale;
        if self.two_sided { z.abs() } else { z }
    }
}

/// Fits on the half of the bank that is for it.
///
/// # Errors
/// Too few clean checkpoints, no faulty one, nothing that was measured on all.
pub fn fit(
    records: &[Record],
    policy: &str,
    baseline: &str,
) -> Result<Calibration, CalibrateError> {
    let half: Vec<&Record> = records.iter().filter(|record| record.fits).collect();
    let clean: Vec<&Features> = half
        .iter()
        .filter(|record| record.fault.is_none())
        .map(|record| &record.features)
        .collect();
    if clean.len() < CLEAN {
        return Err(CalibrateError::Clean {
            found: clean.len(),
            needed: CLEAN,
        });
    }
    if half.iter().all(|record| record.fault.is_none()) {
        return Err(CalibrateError::Faults);
    }
    let quantities = usual(&clean);
    if quantities.is_empty() {
        return Err(CalibrateError::Features);
    }
    let threshold = (0..clean.len())
        .map(|left_out| {
            let others: Vec<&Features> = clean
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != left_out)
                .map(|(_, features)| *features)
                .collect();
            largest(&usual(&others), clean[left_out])
        })
        .fold(0.0, f64::max);
    let mut calibration = Calibration {
        schema: SCHEMA.to_owned(),
        policy: policy.to_owned(),
        baseline: baseline.to_owned(),
        clean: clean.len(),
        threshold,
        quantities,
        signatures: BTreeMap::new(),
    };
    calibration.signatures = signatures(&calibration, &half);
    Ok(calibration)
}

/// What these clean checkpoints do with every quantity that all of them have.
fn usual(clean: &[&Features]) -> BTreeMap<String, Usual> {
    let Some(first) = clean.first() else {
        return BTreeMap::new();
    };
    let n = clean.len() as f64;
    let mut all = BTreeMap::new();
    for (name, feature) in *first {
        let there: Vec<&Feature> = clean.iter().filter_map(|one| one.get(name)).collect();
        if there.len() < clean.len() {
            continue;
        }
        let centre = there.iter().map(|f| f.value).sum::<f64>() / n;
        let spread = there
            .iter()
            .map(|f| (f.value - centre).powi(2))
            .sum::<f64>()
            / (n - 1.0);
        let sampling = there
            .iter()
            .map(|f| f.error.unwrap_or(0.0).powi(2))
            .sum::<f64>()
            / n;
        // A new checkpoint also differs from the mean of n.
        let variance = (spread + sampling) * (1.0 + 1.0 / n);
        all.insert(
            name.clone(),
            Usual {
                centre,
                scale: variance.sqrt().max(FLOOR),
                two_sided: feature.two_sided,
            },
        );
    }
    all
}

/// The largest count of deviations.
fn largest(quantities: &BTreeMap<String, Usual>, features: &Features) -> f64 {
    deviations(quantities, features).fold(0.0, |most, (_, z)| most.max(z))
}

fn deviations<'a>(
    quantities: &'a BTreeMap<String, Usual>,
    features: &'a Features,
) -> impl Iterator<Item = (&'a str, f64)> {
    quantities.iter().filter_map(|(name, usual)| {
        let feature = features.get(name)?;
        Some((name.as_str(), usual.deviations(*feature)))
    })
}

impl Calibration {
    /// How many deviations worse than usual each quantity is.
    pub fn deviations<'a>(
        &'a self,
        features: &'a Features,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        deviations(&self.quantities, features)
    }

    /// The largest of them.
    pub fn score(&self, features: &Features) -> f64 {
        largest(&self.quantities, features)
    }

    /// What an audit looks like: a direction over the quantities. Deviations count by their logarithm, so that one that is
    /// beyond all bounds does not hide the others; what is within a deviation of the usual says nothing.
    pub fn shape(&self, features: &Features) -> BTreeMap<String, f64> {
        let mut shape: BTreeMap<String, f64> = self
            .deviations(features)
            .map(|(name, z)| {
                let beyond = (z.abs() - 1.0).max(0.0);
                (name.to_owned(), z.signum() * beyond.ln_1p())
            })
            .filter(|(_, x)| *x != 0.0)
            .collect();
        let norm = shape.values().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 0.0 {
            for x in shape.values_mut() {
                *x /= norm;
            }
        }
        shape
    }
}

/// The mean shape of each fault, over those of its checkpoints that show anything.
fn signatures(
    calibration: &Calibration,
    half: &[&Record],
) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut sums: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for record in half {
        let Some(fault) = &record.fault else {
            continue;
        };
        if calibration.score(&record.features) <= calibration.threshold {
            continue;
        }
        let sum = sums.entry(fault.clone()).or_default();
        for (name, x) in calibration.shape(&record.features) {
            *sum.entry(name).or_default() += x;
        }
    }
    for signature in sums.values_mut() {
        let norm = signature.values().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 0.0 {
            for x in signature.values_mut() {
                *x /= norm;
            }
        }
    }
    sums
}
