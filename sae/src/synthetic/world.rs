//! What is planted: features as unit vectors, how often and how strongly they fire, and how they hang together.
//!
//! The same questions as SAELens's `synthetic` answers (features packed into fewer dimensions, Zipf firing rates, trees,
//! low-rank correlations), with two differences: a child's chance is its own rate over its parent's, so that rates are kept
//! without correction factors; and every row can be drawn by its number alone.

use ndarray::{Array1, Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Trees;
use super::random::fill_normal;
use crate::SaeError;

/// Firing rates by rank: `lowest + (highest − lowest) · (r^-e − n^-e) / (1 − n^-e)` for ranks `r` of 1 to `n`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PowerLaw {
    /// Of the first feature.
    pub highest: f64,
    /// Of the last feature.
    pub lowest: f64,
    /// Steepness; 1 is Zipf's law.
    pub exponent: f64,
}

impl Default for PowerLaw {
    fn default() -> Self {
        Self {
            highest: 0.3,
            lowest: 0.01,
            exponent: 1.0,
        }
    }
}

/// Features that tend to fire together: each has a normal number `loading · common + rest`, with `rank` common numbers a row,
/// and fires where that is above the quantile of its rate. Rates stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correlation {
    /// Common numbers.
    pub rank: usize,
    /// Share of each feature's variance that is common: 0 independent, below 1.
    pub common: f64,
}

/// What to plant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlantedSpec {
    /// Width of a row.
    pub d: usize,
    /// Features; may be more than `d`.
    pub features: usize,
    /// Everything hangs on this number.
    pub seed: u64,
    /// Sweeps that push features apart, towards the smallest `Σ cos²` there is; 0 leaves random directions.
    pub spread: usize,
    /// How often each fires.
    pub rates: PowerLaw,
    /// Mean strength of a feature when it fires, drawn once for each between these.
    pub strength: [f64; 2],
    /// Standard deviation of its strength about that; what falls to 0 or below does not fire.
    pub strength_deviation: f64,
    /// Children that fire only where their parents do.
    pub trees: Option<Trees>,
    /// Features that tend to fire together.
    pub correlation: Option<Correlation>,
    /// Standard deviation of the noise on each coordinate.
    pub noise: f64,
    /// Norm of the vector that every row carries.
    pub bias: f64,
}

impl Default for PlantedSpec {
    fn default() -> Self {
        Self {
            d: 64,
            features: 128,
            seed: 0,
            spread: 20,
            rates: PowerLaw::default(),
            strength: [1.0, 1.0],
            strength_deviation: 0.1,
            trees: None,
            correlation: None,
            noise: 0.0,
            bias: 0.0,
        }
    }
}

/// A world with known features, ready to be drawn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    pub(super) spec: PlantedSpec,
    /// `[features, d]`, unit rows.
    pub(super) directions: Array2<f32>,
    pub(super) bias: Array1<f32>,
    pub(super) rates: Vec<f64>,
    pub(super) strengths: Vec<f64>,
    pub(super) parents: Vec<Option<usize>>,
    /// Chance of each to fire, given that its parent did.
    pub(super) chances: Vec<f64>,
    /// Weights of the common numbers, `[features, rank]`; of width 0 without correlation.
    pub(super) loadings: Array2<f64>,
}

impl Planted {
    /// Plants.
    ///
    /// # Errors
    /// Numbers outside their ranges, trees that need more features than there are.
    pub fn new(spec: PlantedSpec) -> Result<Self, SaeError> {
        check(&spec)?;
        let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
        let mut directions = Array2::zeros((spec.features, spec.d));
        for mut row in directions.outer_iter_mut() {
            let mut values = vec![0.0; spec.d];
            fill_normal(&mut rng, 1.0, &mut values);
            row.assign(&Array1::from_vec(values));
        }
        to_unit(&mut directions);
        for _ in 0..spec.spread {
            push_apart(&mut directions);
        }
        let mut bias = vec![0.0; spec.d];
        fill_normal(&mut rng, 1.0, &mut bias);
        let norm = bias.iter().map(|x| x * x).sum::<f32>().sqrt();
        let bias = Array1::from_vec(bias) * (spec.bias as f32 / norm.max(f32::MIN_POSITIVE));
        let [low, high] = spec.strength;
        let draw = |_| low + (high - low) * rng.random::<f64>();
        let strengths = (0..spec.features).map(draw).collect();
        let rates = rates(spec.rates, spec.features);
        let parents = match &spec.trees {
            Some(trees) => trees.parents(spec.features),
            None => vec![None; spec.features],
        };
        // Rates fall with the number and parents come first, so the quotient is at most 1.
        let chance = |feature: usize| match parents[feature] {
            Some(parent) => rates[feature] / rates[parent],
            None => rates[feature],
        };
        Ok(Self {
            chances: (0..spec.features).map(chance).collect(),
            loadings: loadings(&spec, &mut rng),
            directions,
            bias,
            rates,
            strengths,
            parents,
            spec,
        })
    }

    /// What was asked for.
    pub fn spec(&self) -> &PlantedSpec {
        &self.spec
    }

    /// The features `[features, d]`, unit rows.
    pub fn directions(&self) -> &Array2<f32> {
        &self.directions
    }

    /// What every row carries, `[d]`.
    pub fn bias(&self) -> &Array1<f32> {
        &self.bias
    }

    /// How often each feature fires, before exclusive siblings and strengths of 0 take their share.
    pub fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// The parent of each feature.
    pub fn parents(&self) -> &[Option<usize>] {
        &self.parents
    }
}

fn check(spec: &PlantedSpec) -> Result<(), SaeError> {
    let range = |what, found: String, allowed: &str| {
        Err(SaeError::Range {
            what,
            found,
            allowed: allowed.into(),
        })
    };
    for (what, found) in [("d", spec.d), ("features", spec.features)] {
        if found == 0 || found > 1 << 24 {
            return range(what, found.to_string(), "1 to 16777216");
        }
    }
    let law = spec.rates;
    if !(law.lowest > 0.0 && law.lowest <= law.highest && law.highest < 1.0) {
        let found = format!("{} to {}", law.lowest, law.highest);
        return range("firing rates", found, "0 < lowest <= highest < 1");
    }
    if !(law.exponent > 0.0 && law.exponent.is_finite()) {
        return range("exponent", law.exponent.to_string(), "above 0");
    }
    let [low, high] = spec.strength;
    if !(low > 0.0 && low <= high && high.is_finite()) {
        return range("strength", format!("{low} to {high}"), "0 < low <= high");
    }
    for (what, found) in [
        ("strength_deviation", spec.strength_deviation),
        ("noise", spec.noise),
        ("bias", spec.bias),
    ] {
        if !(found >= 0.0 && found.is_finite()) {
            return range(what, found.to_string(), "0 or more");
        }
    }
    if let Some(trees) = &spec.trees {
        if trees.roots == 0 || trees.children == 0 {
            let found = format!("{} roots, {} children", trees.roots, trees.children);
            return range("trees", found, "1 or more of each");
        }
        let needed = trees.features();
        if needed.is_none_or(|n| n > spec.features) {
            let found = needed.map_or("too many to count".into(), |n| n.to_string());
            let allowed = format!("the {} features", spec.features);
            return range("features in trees", found, &allowed);
        }
    }
    if let Some(correlation) = &spec.correlation {
        if correlation.rank == 0 || correlation.rank > spec.features {
            let allowed = format!("1 to {}", spec.features);
            return range("rank", correlation.rank.to_string(), &allowed);
        }
        if !(0.0..1.0).contains(&correlation.common) {
            return range("common", correlation.common.to_string(), "0 to below 1");
        }
    }
    Ok(())
}

fn rates(law: PowerLaw, n: usize) -> Vec<f64> {
    let last = (n as f64).powf(-law.exponent);
    let rate = |rank: usize| {
        if n == 1 {
            return law.highest;
        }
        let share = ((rank as f64).powf(-law.exponent) - last) / (1.0 - last);
        law.lowest + (law.highest - law.lowest) * share
    };
    (1..=n).map(rate).collect()
}

/// Rows of norm `√common`, in random directions.
fn loadings(spec: &PlantedSpec, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let Some(correlation) = spec.correlation else {
        return Array2::zeros((spec.features, 0));
    };
    let mut values = vec![0.0; spec.features * correlation.rank];
    fill_normal(rng, 1.0, &mut values);
    let mut loadings = Array2::zeros((spec.features, correlation.rank));
    loadings
        .iter_mut()
        .zip(values)
        .for_each(|(l, v)| *l = f64::from(v));
    for mut row in loadings.axis_iter_mut(Axis(0)) {
        let norm = row.iter().map(|l| l * l).sum::<f64>().sqrt();
        row *= correlation.common.sqrt() / norm.max(f64::MIN_POSITIVE);
    }
    loadings
}

/// Unit rows.
fn to_unit(rows: &mut Array2<f32>) {
    for mut row in rows.outer_iter_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm.max(f32::MIN_POSITIVE);
    }
}

/// A step down the frame potential `Σ (fᵢ·fⱼ)²`, whose minimum over unit rows is a tight frame (Benedetto and Fickus 2003);
/// with no more features than dimensions, an orthonormal set.
fn push_apart(rows: &mut Array2<f32>) {
    let (n, d) = rows.dim();
    let crowd = (n as f32 / d as f32).max(1.0);
    let pull = rows.dot(&rows.t().dot(rows));
    rows.zip_mut_with(&pull, |f, p| *f = 1.5 * *f - 0.5 / crowd * p);
    to_unit(rows);
}
