//! Whether a frozen dictionary's latents fire otherwise on another checkpoint: the counts of
//! [`candlescope_sae::measure::Drift`] with tests over all latents at once.
//!
//! The test is that of two proportions, adjusted by Benjamini and Hochberg. It takes tokens for independent, which those of
//! a context are not: it says which latents to look at first, and too often that there is something.

use candlescope_probes::stats::{multiplicity::benjamini_hochberg, special::normal_cdf};
use candlescope_sae::measure::{Density, Drift, Floors, Shift};
use serde::{Deserialize, Serialize};

use super::FeatureError;

/// Drift, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentDrift {
    /// Births, deaths, shifts.
    #[serde(flatten)]
    pub drift: Drift,
    /// Adjusted p-value of each of its shifts, in their order.
    pub adjusted: Vec<f64>,
    /// Shifts by the factor or more whose adjusted p-value is at most `level`.
    pub significant: usize,
    /// The level.
    pub level: f64,
}

/// Compares what latents did in two runs over equally chosen rows.
///
/// # Errors
/// Another number of latents, no rows.
pub fn latent_drift(
    before: &Density,
    after: &Density,
    floors: Floors,
    level: f64,
) -> Result<LatentDrift, FeatureError> {
    let drift = Drift::between(before, after, floors)?;
    let raw: Vec<f64> = drift
        .shifts
        .iter()
        .map(|s| p_value(s, drift.rows))
        .collect();
    let adjusted = benjamini_hochberg(&raw)?;
    let large = |shift: &Shift| shift.log2_ratio.abs() >= floors.factor.log2();
    let pairs = drift.shifts.iter().zip(&adjusted);
    let significant = pairs.filter(|(s, p)| large(s) && **p <= level).count();
    Ok(LatentDrift {
        drift,
        adjusted,
        significant,
        level,
    })
}

/// Two-sided, of two proportions with their pooled variance.
fn p_value(shift: &Shift, rows: [u64; 2]) -> f64 {
    let [a, b] = [0, 1].map(|run| shift.fired[run] as f64 / rows[run] as f64);
    let pooled = (shift.fired[0] + shift.fired[1]) as f64 / (rows[0] + rows[1]) as f64;
    let variance = pooled * (1.0 - pooled) * (1.0 / rows[0] as f64 + 1.0 / rows[1] as f64);
    if variance <= 0.0 {
        return 1.0;
    }
    (2.0 * normal_cdf(-(a - b).abs() / variance.sqrt())).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candlescope_sae::Codes;

    fn run(fired: [u64; 3]) -> Density {
        let mut density = Density::new(3);
        let mut codes = Codes::new();
        for row in 0..1000 {
            let firing = (0..3_u32).filter(|&l| row < fired[l as usize]);
            codes.push(firing.map(|l| (l, 1.0)));
        }
        density.add(&codes).unwrap();
        density
    }

    #[test]
    fn a_large_change_is_told_from_noise() {
        // By Python's math.erfc: 100 and 220 of 1000 give z = -7.3193, p = 2.4936e-13; 10 and 11 p = 0.82636; 2 and 9 0.0343.
        let found = latent_drift(
            &run([100, 10, 2]),
            &run([220, 11, 9]),
            Floors::default(),
            0.01,
        )
        .unwrap();
        let of = |latent: usize| {
            let at = found
                .drift
                .shifts
                .iter()
                .position(|s| s.latent == latent)
                .unwrap();
            found.adjusted[at]
        };
        assert!(
            (of(0) / (3.0 * 2.4936e-13) - 1.0).abs() < 1e-4,
            "{:e}",
            of(0)
        );
        assert!((of(1) - 0.82636).abs() < 1e-5, "{}", of(1));
        // Latent 2 more than doubles, on 2 and 9 rows: not beyond doubt at 1 %.
        assert_eq!((found.drift.shifted, found.significant), (2, 1));
    }
}
