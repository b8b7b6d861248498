//! Signal 9.
#![doc = include_str!("pages/carrier_layer.md")]

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::estimate;
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::evidence::{Candidate, Chosen, need};
use crate::audit::measure::Interval;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// The layer whose direction carries refusal, and whether it moved.
pub struct CarrierLayer;

const ID: &str = "carrier_layer";

impl Signal for CarrierLayer {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Direction]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/carrier_layer.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = Carrier::of(need(&cx.subject.direction, "refusal direction")?);
        let base = cx.baseline.and_then(|base| base.direction.as_ref().ok());
        let base = base.map(Carrier::of);
        let mut result = blank(ID)?;
        result.charts = vec![chart(&here, base.as_ref())];
        result.findings = vec![here.finding("this checkpoint")];
        result
            .findings
            .extend(base.as_ref().map(|base| base.finding("the baseline")));
        let (depth, support) = (
            quantity(ID, "carrier_depth")?,
            quantity(ID, "carrier_support")?,
        );
        let draws = draws(here.prompts(), cx);
        let Some((layer, depths)) = here.resampled(&draws) else {
            let why = "no candidate is admissible on this checkpoint: no layer carries refusal";
            result.values = vec![depth.missing(why), support.missing(why)];
            return Ok(result);
        };
        let n = here.prompts() as u64;
        let (low, high) = percentiles(&depths);
        let mut value = (depth.measured(here.depth(layer)).with_n(n)).with_interval(
            low,
            high,
            "percentile bootstrap",
        );
        match base.as_ref().map(|base| (base, base.resampled(&draws))) {
            Some((base, Some((before, theirs)))) => {
                let changes: Vec<f64> = depths.iter().zip(&theirs).map(|(a, b)| a - b).collect();
                let (low, high) = percentiles(&changes);
                let ends = Interval::new(low, high, "percentile bootstrap");
                value = value.with_baseline(base.depth(before), Some(ends));
            }
            Some((_, None)) => result.findings.push(
                "The baseline has no admissible candidate, so there is no layer to have moved from.".to_owned(),
            ),
            None => {}
        }
        let same = depths.iter().filter(|d| **d == here.depth(layer)).count();
        let share = same as f64 / depths.len() as f64;
        result.values = vec![value, support.measured(share).with_n(n)];
        Ok(result)
    }
}

/// The candidates that were tried, by layer.
struct Carrier<'a> {
    candidates: Vec<&'a Candidate>,
    n_layers: usize,
}

impl<'a> Carrier<'a> {
    fn of(chosen: &'a Chosen) -> Self {
        Self {
            candidates: chosen.candidates.iter().collect(),
            n_layers: chosen.n_layers,
        }
    }

    /// Prompts behind each bypass.
    fn prompts(&self) -> usize {
        self.candidates.first().map_or(0, |one| one.bypassed.len())
    }

    fn depth(&self, layer: usize) -> f64 {
        layer as f64 / self.n_layers.max(1) as f64
    }

    /// The layer with the lowest mean bypass score over these prompts among admissible candidates; of equals the first.
    fn layer(&self, items: &[usize]) -> Option<usize> {
        let mean = |one: &Candidate| {
            items.iter().map(|&i| one.bypassed[i]).sum::<f64>() / items.len() as f64
        };
        (self.candidates.iter().filter(|one| one.admissible))
            .map(|one| (mean(one), one.site.layer))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, layer)| layer)
    }

    /// The layer over all prompts, and the depth of that over each draw.
    fn resampled(&self, draws: &[Vec<usize>]) -> Option<(usize, Vec<f64>)> {
        let all: Vec<usize> = (0..self.prompts()).collect();
        let layer = self.layer(&all).filter(|_| !all.is_empty())?;
        let depths = draws.iter().filter_map(|items| self.layer(items));
        Some((layer, depths.map(|layer| self.depth(layer)).collect()))
    }

    fn finding(&self, name: &str) -> String {
        let mut layers: Vec<usize> = self.candidates.iter().map(|one| one.site.layer).collect();
        layers.sort_unstable();
        let admissible = self.candidates.iter().filter(|one| one.admissible).count();
        format!(
            "On {name}, {admissible} of {} candidates tried (layers {layers:?} of {}) are admissible.",
            self.candidates.len(),
            self.n_layers
        )
    }
}

/// Resamples of the prompts, the same for both checkpoints. A layer is no mean: the ends are plain percentiles, since the
/// corrections of BCa are not defined for a statistic that jumps.
fn draws(n: usize, cx: &Context) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(cx.seed_for("carrier layer"));
    (0..cx.policy.sizes.bootstrap)
        .map(|_| (0..n).map(|_| rng.random_range(0..n)).collect())
        .collect()
}

/// 2.5 % and 97.5 % of the draws, each the nearest draw outwards.
fn percentiles(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - estimate::LEVEL) * sorted.len().saturating_sub(1) as f64;
    let (first, last) = (tail.floor() as usize, sorted.len().saturating_sub(1));
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    (at(first), at(last.saturating_sub(first)))
}

fn chart(here: &Carrier, base: Option<&Carrier>) -> Chart {
    let series = |name: &str, carrier: &Carrier| {
        let mut points: Vec<(f64, f64)> = (carrier.candidates.iter())
            .map(|one| (one.site.layer as f64, one.bypass))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: name.to_owned(),
            points,
            band: Vec::new(),
        }
    };
    let mut all = vec![series("this checkpoint", here)];
    all.extend(base.map(|base| series("baseline", base)));
    Chart::new(
        "Refusal left after ablation, by layer",
        "Refusal score of harmful validation prompts with each layer's direction ablated; the lowest admissible one carries refusal.",
        "layer",
        "refusal score, nats",
        Plot::Line { series: all },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::evidence::Site;

    fn candidate(layer: usize, admissible: bool, bypassed: &[f64]) -> Candidate {
        Candidate {
            site: Site {
                layer,
                from_end: Some(1),
            },
            bypass: estimate::average(bypassed),
            induce: 0.0,
            kl: 0.0,
            admissible,
            bypassed: bypassed.to_vec(),
        }
    }

    #[test]
    fn the_layer_is_that_of_the_lowest_admissible_mean() {
        let all = [
            candidate(2, true, &[-1.0, -1.0, -4.0]),
            candidate(5, true, &[-2.0, -2.0, -1.0]),
            candidate(7, false, &[-9.0, -9.0, -9.0]),
        ];
        let carrier = Carrier {
            candidates: all.iter().collect(),
            n_layers: 10,
        };
        // Means −2 and −5/3; without the third prompt −1 and −2.
        assert_eq!(carrier.layer(&[0, 1, 2]), Some(2));
        assert_eq!(carrier.layer(&[0, 1]), Some(5));
        let (layer, depths) = carrier
            .resampled(&[vec![0, 0, 1], vec![2, 2, 2]])
            .unwrap_or_default();
        assert_eq!((layer, depths), (2, vec![0.5, 0.2]));
        let none = Carrier {
            candidates: vec![&all[2]],
            n_layers: 10,
        };
        assert_eq!(none.resampled(&[vec![0]]), None);
    }

    #[test]
    fn percentiles_by_hand() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentiles(&values), (2.0, 98.0));
        assert_eq!(percentiles(&[0.3; 40]), (0.3, 0.3));
    }
}
