//! What clean checkpoints do, and what each fault looks like.
//!
//! Always: a quantity is counted in deviations: of the clean checkpoints among themselves, and of the audit's own sampling, where
//! n clean ones that all show the same bound it to the error of n such samples and no closer.
//! What is worse than usual by more than a deviation counts by its logarithm, and an audit's distance is the length of the
//! vector of these: one quantity that has no spread among a few clean ones, and so is any number of deviations away as soon as
//! it moves, does not outweigh a fault that moves many. The limit on the distance is conformal (Vovk et al. 2005): the largest
//! that a clean checkpoint showed when the others were the measure, so that among n clean ones a new clean one exceeds it with
//! probability 1/(n + 1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::features::{Feature, Features};
use super::report::Measured;
use super::{Basis, CalibrateError, Record};

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
    /// The bank, in words.
    pub bank: String,
    /// What the audits have in common.
    pub basis: Basis,
    /// How often it was right on the half that it was not fitted on.
    pub measured: Option<Measured>,
    /// Clean checkpoints that were the measure.
    pub clean: usize,
    /// The largest distance that still passes.
    pub threshold: f64,
    /// The same by each signal alone.
    pub alone: BTreeMap<String, f64>,
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
    /// How many deviations worse than usual a number is, where this many clean checkpoints are what is usual.
    pub fn deviations(self, feature: Feature, clean: usize) -> f64 {
        let least = feature.error.unwrap_or(0.0) / (clean as f64).sqrt();
        let z = (feature.value - self.centre) / self.scale.max(least);
        if self.two_sided { z.abs() } else { z }
    }
}

/// Fits on the half of the bank that is for it.
///
/// # Errors
/// Too few clean checkpoints, no faulty one, nothing that was measured on all.
pub fn fit(records: &[Record], bank: &str, basis: Basis) -> Result<Calibration, CalibrateError> {
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
    let (threshold, alone) = limits(&clean);
    let mut calibration = Calibration {
        schema: SCHEMA.to_owned(),
        bank: bank.to_owned(),
        basis,
        measured: None,
        clean: clean.len(),
        threshold,
        alone,
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

/// The largest distance of a clean checkpoint from the others, over all signals and by each alone.
fn limits(clean: &[&Features]) -> (f64, BTreeMap<String, f64>) {
    let (mut threshold, mut alone) = (0.0_f64, BTreeMap::new());
    for (left_out, features) in clean.iter().enumerate() {
        let others = clean.iter().enumerate().filter(|(i, _)| *i != left_out);
        let others: Vec<&Features> = others.map(|(_, features)| *features).collect();
        let quantities = usual(&others);
        let beyond = || deviations(&quantities, features, others.len());
        threshold = threshold.max(distance(beyond()));
        for (signal, far) in by_signal(beyond()) {
            let most = alone.entry(signal.to_owned()).or_insert(0.0_f64);
            *most = most.max(far);
        }
    }
    (threshold, alone)
}

/// What so many deviations count: nothing within one, then by their logarithm.
fn weight(deviations: f64) -> f64 {
    (deviations - 1.0).max(0.0).ln_1p()
}

/// The length of the vector of what is worse than usual.
fn distance<'a>(deviations: impl Iterator<Item = (&'a str, f64)>) -> f64 {
    deviations
        .map(|(_, z)| weight(z).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// The same by each signal.
fn by_signal<'a>(deviations: impl Iterator<Item = (&'a str, f64)>) -> BTreeMap<&'a str, f64> {
    let mut squares: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, z) in deviations {
        let signal = name.split('.').next().unwrap_or(name);
        *squares.entry(signal).or_default() += weight(z).powi(2);
    }
    for square in squares.values_mut() {
        *square = square.sqrt();
    }
    squares
}

fn deviations<'a>(
    quantities: &'a BTreeMap<String, Usual>,
    features: &'a Features,
    clean: usize,
) -> impl Iterator<Item = (&'a str, f64)> {
    quantities.iter().filter_map(move |(name, usual)| {
        let feature = features.get(name)?;
        Some((name.as_str(), usual.deviations(*feature, clean)))
    })
}

impl Calibration {
    /// What is wrong with one that was read from a file.
    ///
    /// # Errors
    /// Another layout, or numbers that measure nothing.
    pub fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("a calibration of the layout `{}`", self.schema));
        }
        let measures = |usual: &Usual| usual.centre.is_finite() && usual.scale > 0.0;
        if let Some((name, usual)) = self.quantities.iter().find(|(_, usual)| !measures(usual)) {
            let Usual { centre, scale, .. } = usual;
            return Err(format!("`{name}` around {centre} by deviations of {scale}"));
        }
        if self.threshold.is_nan() || self.threshold < 0.0 {
            return Err(format!("a limit of {}", self.threshold));
        }
        Ok(())
    }

    /// How many deviations worse than usual each quantity is.
    pub fn deviations<'a>(
        &'a self,
        features: &'a Features,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        deviations(&self.quantities, features, self.clean)
    }

    /// How far an audit is from clean ones.
    pub fn score(&self, features: &Features) -> f64 {
        distance(self.deviations(features))
    }

    /// The same by each signal alone.
    pub fn by_signal<'a>(&'a self, features: &'a Features) -> BTreeMap<&'a str, f64> {
        by_signal(self.deviations(features))
    }

    /// What an audit looks like: a direction over the quantities, what is better than usual too.
    pub fn shape(&self, features: &Features) -> BTreeMap<String, f64> {
        let mut shape: BTreeMap<String, f64> = self
            .deviations(features)
            .map(|(name, z)| (name.to_owned(), z.signum() * weight(z.abs())))
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
