//! Comparisons as the numbers of a release gate: signals 18 to 21 and 23 of the audit's table, as far as a dictionary gives
//! them. Signal 22, how decoder rows turned in a refit, is [`candlescope_sae::diff::stage_wise`].
//!
//! Numbers only: limits are a policy's, and none is calibrated yet.

use candlescope_probes::stats::{
    bootstrap::bootstrap, multiplicity::benjamini_hochberg, special::fair_binomial_cdf,
};
use candlescope_probes::{Bootstrap, BootstrapOptions, Resampling};
use serde::{Deserialize, Serialize};

use super::{Crosscoded, Frozen, LatentChange, ShiftNull, counts::Became, frozen::LEVEL};
use crate::features::{FeatureError, quality::ContextSums};

/// Signals 18, 20 and 21: a frozen dictionary's fit and latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftSignals {
    /// 18: FVU on the second model over FVU on the first.
    pub fvu_ratio: Option<Bootstrap>,
    /// 20: births and deaths over the latents that are alive on either.
    pub crossings: f64,
    /// 20: the share of which the rates differ by the conditional Poisson test, adjusted over all latents that are alive, at
    /// 0.01. It takes tokens for independent, so it finds too many.
    pub crossings_tested: f64,
    /// 21: latents that fire at least twice or half as often, beside their null.
    pub shifts: ShiftNull,
    /// 21: the share of the latents whose change is significant over contexts.
    pub changed: f64,
}

/// The drift of a frozen dictionary as signals.
///
/// # Errors
/// None but of the statistics.
pub fn drift_signals(found: &Frozen) -> Result<DriftSignals, FeatureError> {
    let share = |n: usize| n as f64 / found.alive.max(1) as f64;
    Ok(DriftSignals {
        fvu_ratio: found.fvu_ratio.clone(),
        crossings: share(found.births + found.deaths),
        crossings_tested: share(crossings_tested(&found.latents)?),
        shifts: found.shifts.clone(),
        changed: share(found.significant),
    })
}

/// Births and deaths whose rates differ by the conditional Poisson test, adjusted over these latents, at [`LEVEL`].
///
/// # Errors
/// None but of the statistics.
pub fn crossings_tested(latents: &[LatentChange]) -> Result<usize, FeatureError> {
    let poisson = |latent: &LatentChange| {
        // Given their sum, two counts of equal exposure are a fair split.
        let [a, b] = latent.fired;
        (2.0 * fair_binomial_cdf(a.min(b), a + b)).min(1.0)
    };
    let raw: Vec<f64> = latents.iter().map(poisson).collect();
    let adjusted = benjamini_hochberg(&raw)?;
    let crossed = |became: Became| matches!(became, Became::Born | Became::Died);
    let pairs = latents.iter().zip(&adjusted);
    Ok(pairs
        .filter(|(l, p)| crossed(l.became) && **p <= LEVEL)
        .count())
}

/// Signal 19: CE recovered on the second model minus that on the first, on the same contexts, which are resampled together.
/// None where zeros do no harm on one of them.
///
/// # Errors
/// Other numbers of contexts, none.
pub fn ce_recovered_change(
    before: &[ContextSums],
    after: &[ContextSums],
    options: &BootstrapOptions,
) -> Result<Option<Bootstrap>, FeatureError> {
    if before.len() != after.len() || before.is_empty() {
        let what = format!(
            "CE recovered is compared on the same contexts; there are {} and {}",
            before.len(),
            after.len()
        );
        return Err(FeatureError::Nothing { what });
    }
    let score = |sums: &[ContextSums], items: &[usize]| {
        let [clean, spliced, ablated] =
            [0, 1, 2].map(|at| items.iter().map(|&i| sums[i].ce[at]).sum::<f64>());
        if ablated > clean {
            (ablated - spliced) / (ablated - clean)
        } else {
            f64::NAN
        }
    };
    let change = |items: &[usize]| score(after, items) - score(before, items);
    let all: Vec<usize> = (0..before.len()).collect();
    let defined = change(&all).is_finite();
    Ok(defined
        .then(|| bootstrap(all.len(), Resampling::Items, options, change))
        .transpose()?)
}

/// Signal 23: of the latents of a crosscoder that fired, the share that only the second model has and latent scaling finds new.
pub fn new_share(found: &Crosscoded) -> f64 {
    let fired = found.latents.iter().filter(|l| l.scaled.fired > 0).count();
    found.new_in_second[1] as f64 / fired.max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_change_of_ce_recovered_by_hand() {
        let context = |spliced: f64| ContextSums {
            tokens: 4,
            ce: [8.0, spliced, 18.0],
            kl: [0.0, 0.0],
        };
        let before = [context(9.0), context(10.0), context(9.5)];
        let after = [context(11.0), context(12.0), context(11.5)];
        let found = ce_recovered_change(&before, &after, &BootstrapOptions::default());
        // 0.85 became 0.65, in every context alike.
        assert!((found.unwrap().unwrap().estimate + 0.2).abs() < 1e-12);
        let harmless = [context(9.0); 3].map(|mut c| {
            c.ce[2] = 8.0;
            c
        });
        let options = BootstrapOptions::default();
        assert_eq!(
            ce_recovered_change(&before, &harmless, &options).unwrap(),
            None
        );
        assert!(ce_recovered_change(&before, &after[..2], &options).is_err());
    }
}
