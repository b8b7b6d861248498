//! Signal 7.
#![doc = include_str!("pages/direction_norm.md")]

use std::ops::Range;

use ndarray::{Array1, ArrayView2};

use super::estimate;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::{AtSite, need};
use crate::audit::measure::{Interval, Value};
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How long the refusal direction is beside the activations.
pub struct DirectionNorm;

const ID: &str = "direction_norm";

impl Signal for DirectionNorm {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Direction]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/direction_norm.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = need(&cx.subject.direction, "refusal direction")?;
        let own = Share::of(here.at(here.site)?);
        let mut result = blank(ID)?;
        let mut share = own.value(
            quantity(ID, "norm_share")?.measured(own.all()),
            cx,
            "norm_share",
        )?;
        let mut bars = vec![bar("this checkpoint", &share)];
        if let Some(base) = cx.baseline.and_then(|base| base.direction.as_ref().ok()) {
            // Both are read where the baseline's direction lies: a ratio of norms from two layers says nothing.
            let now = Share::of(here.at(base.site)?);
            let before = Share::of(base.at(base.site)?);
            let ratio = ratio(&now, &before, cx)?;
            if here.site == base.site {
                let interval = if now == before {
                    Some(Interval::new(0.0, 0.0, "identical"))
                } else {
                    None
                };
                share = share.with_baseline(before.all(), interval);
            }
            let base_value = before.value(
                quantity(ID, "norm_share")?.measured(before.all()),
                cx,
                "norm_share",
            )?;
            bars.push(bar("baseline", &base_value));
            result.findings.push(format!(
                "The ratio compares both checkpoints at the baseline's place, {}.",
                base.site
            ));
            result.values = vec![share, ratio];
        } else {
            result.values = vec![share];
        }
        result.findings.push(format!(
            "Direction of {}. Its length is taken from test prompts, without noise; the vector fitted on training prompts has length {:.3}, noise included.",
            here.site, here.direction.norm
        ));
        result.charts = vec![Chart::new(
            "Norm of the direction",
            "Its length as a share of the mean length of the activations at its place.",
            "checkpoint",
            "norm share",
            Plot::Bars { bars },
        )];
        Ok(result)
    }
}

fn bar(label: &str, value: &Value) -> Bar {
    Bar {
        label: label.to_owned(),
        value: value.value.unwrap_or(f64::NAN),
        interval: value.interval.as_ref().map(|ends| (ends.low, ends.high)),
    }
}

/// What the norm share is computed from: inner products of the activations, and their norms.
#[derive(PartialEq)]
struct Share {
    /// Inner products of all prompts, harmful first, `[n, n]` row by row.
    gram: Vec<f64>,
    norms: Vec<f64>,
    positive: usize,
}

impl Share {
    fn of(read: &AtSite) -> Self {
        let rows: Vec<Array1<f64>> = wide(read.harmful.view())
            .chain(wide(read.harmless.view()))
            .collect();
        let n = rows.len();
        let mut gram = vec![0.0; n * n];
        for i in 0..n {
            for j in i..n {
                let product = rows[i].dot(&rows[j]);
                gram[i * n + j] = product;
                gram[j * n + i] = product;
            }
        }
        Self {
            norms: (0..n).map(|i| gram[i * n + i].sqrt()).collect(),
            gram,
            positive: read.harmful.nrows(),
        }
    }

    fn n(&self) -> usize {
        self.norms.len()
    }

    fn all(&self) -> f64 {
        self.share(&(0..self.n()).collect::<Vec<_>>())
    }

    /// √(‖μ⁺ − μ⁻‖² without noise) over the mean norm of the drawn.
    ///
    /// The squared length of a difference of means is too large by tr Σ⁺/n⁺ + tr Σ⁻/n⁻, and that of a resampled one by as much
    /// again, so that its bootstrap lies beside its estimate. All of it comes from products of an activation with itself.
    /// Without them, mean x⁺ᵢ·x⁺ⱼ + mean x⁻ᵢ·x⁻ⱼ − 2 mean x⁺ᵢ·x⁻ⱼ over pairs of different prompts is unbiased for
    /// ‖μ⁺ − μ⁻‖² (the U-statistic of Chen and Qin 2010, Annals of Statistics 38:808, eq. 2.1; in the words of Walther et
    /// al. 2016 the cross-validated distance). Two copies of one prompt in a resample are no pair either: then a drawn pair is
    /// any two prompts with equal chance, and the resamples have the estimate as their mean. Under 0 the length is 0; NaN
    /// with fewer than two prompts of a class.
    fn share(&self, items: &[usize]) -> f64 {
        let (n, split) = (self.n(), self.positive);
        let mut counts = vec![0.0; n];
        for &i in items {
            counts[i] += 1.0;
        }
        // Sums over pairs within the harmful and the harmless, and across; and how many pairs those are.
        let (mut sums, mut pairs) = ([0.0; 2], [0.0; 2]);
        let (mut across, mut total) = (0.0, [0.0; 2]);
        for (i, &count) in counts.iter().enumerate().filter(|(_, c)| **c > 0.0) {
            let row = &self.gram[i * n..(i + 1) * n];
            let with = |range: Range<usize>| -> f64 {
                let drawn = &counts[range.clone()];
                row[range].iter().zip(drawn).map(|(g, c)| g * c).sum()
            };
            let class = usize::from(i >= split);
            let (own, other) = match class {
                0 => (with(0..split), with(split..n)),
                _ => (with(split..n), 0.0),
            };
            sums[class] += count * (own - count * row[i]);
            across += count * other;
            total[class] += count;
            pairs[class] -= count * count;
        }
        for class in 0..2 {
            pairs[class] += total[class] * total[class];
        }
        let squared =
            sums[0] / pairs[0] + sums[1] / pairs[1] - 2.0 * across / (total[0] * total[1]);
        let length = if squared < 0.0 { 0.0 } else { squared.sqrt() };
        let norms: f64 = items.iter().map(|&i| self.norms[i]).sum::<f64>() / items.len() as f64;
        length / norms
    }

    fn value(&self, value: Value, cx: &Context, purpose: &str) -> Result<Value, SignalError> {
        estimate::bootstrapped(value, self.n(), cx, purpose, |items| self.share(items))
    }
}

fn wide(x: ArrayView2<'_, f32>) -> impl Iterator<Item = Array1<f64>> + '_ {
    (0..x.nrows()).map(move |i| x.row(i).mapv(f64::from))
}

fn ratio(now: &Share, before: &Share, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "norm_ratio")?;
    let n = now.n();
    if n != before.n() {
        return Ok(wanted.missing("the checkpoints were read on different prompts"));
    }
    if now == before {
        let same = wanted.measured(1.0).with_n(n as u64);
        return Ok(same.with_interval(1.0, 1.0, "identical"));
    }
    let length = before.all();
    if length == 0.0 {
        return Ok(wanted.missing("the baseline's direction is no longer than noise makes it"));
    }
    let value = wanted.measured(now.all() / length);
    estimate::bootstrapped(value, n, cx, "norm_ratio", |items| {
        now.share(items) / before.share(items)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candlescope_probes::stats::bootstrap::bootstrap;
    use candlescope_probes::{Bootstrap, BootstrapOptions, Resampling};
    use ndarray::{Array2, array};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::audit::evidence::Site;

    fn read(harmful: Array2<f32>, harmless: Array2<f32>) -> AtSite {
        let site = Site {
            layer: 0,
            from_end: Some(1),
        };
        AtSite {
            site,
            harmful,
            harmless,
        }
    }

    #[test]
    fn the_share_by_hand() {
        // Means (3, 4) and (0, 0) apart by 5; norms 5, 5, 1, 1: mean 3. The harmless have variance 2, so their mean has 1.
        let share = Share::of(&read(
            array![[3.0, 4.0], [3.0, 4.0]],
            array![[1.0, 0.0], [-1.0, 0.0]],
        ));
        assert!((share.all() - 24f64.sqrt() / 3.0).abs() < 1e-12);
        // Drawn twice, a prompt is no pair with itself: the harmless have none left, and the length is not defined.
        assert!(share.share(&[0, 1, 2, 2]).is_nan());
        // Harmful pairs give 25, the harmless one -1; the means (3, 4) and (1/3, 0) give 1, twice: 25 - 1 - 2.
        assert!((share.share(&[0, 1, 1, 2, 2, 3]) - 22f64.sqrt() / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_difference_within_the_noise_has_no_length() {
        let x = array![[1.0, 0.0], [-1.0, 0.0]];
        assert_eq!(Share::of(&read(x.clone(), x)).all(), 0.0);
    }

    /// Of each class 32 prompts: normal, 64 wide, variance 1, around means 2 apart and 20 from 0.
    fn sample(seed: u64) -> Share {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = || {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
        };
        let mut class = |apart: f64| {
            Array2::from_shape_fn((32, 64), |(_, j)| {
                let mean = [20.0, apart].get(j).copied().unwrap_or(0.0);
                (normal() + mean) as f32
            })
        };
        Share::of(&read(class(2.0), class(0.0)))
    }

    /// The mean norm of such activations: √(20² + 63 + 1) and √(20² + 2² + 63 + 1), but for terms under 0.01.
    const NORM: f64 = 21.586;

    /// The norm of the difference of means as it is, over the same mean norm: what this signal is not.
    fn with_noise(share: &Share, items: &[usize]) -> f64 {
        let n = share.n();
        let drawn = items.iter().filter(|&&i| i < share.positive).count();
        let mut weights = vec![0.0; n];
        for &i in items {
            weights[i] += if i < share.positive {
                1.0 / drawn as f64
            } else {
                -1.0 / (items.len() - drawn) as f64
            };
        }
        let squared: f64 = (0..n * n)
            .map(|at| share.gram[at] * weights[at / n] * weights[at % n])
            .sum();
        let norms: f64 = items.iter().map(|&i| share.norms[i]).sum();
        squared.sqrt() / (norms / items.len() as f64)
    }

    #[test]
    fn the_known_length_is_met_on_average_and_noise_left_in_is_not() {
        let truth = (2.0 / NORM).powi(2);
        let samples: Vec<Share> = (0..300).map(sample).collect();
        let everything: Vec<usize> = (0..64).collect();
        let mean_square = |of: &dyn Fn(&Share) -> f64| {
            samples.iter().map(|s| of(s).powi(2)).sum::<f64>() / samples.len() as f64
        };
        let corrected = mean_square(&Share::all);
        let plain = mean_square(&|s| with_noise(s, &everything));
        // Noise adds 64/32 + 64/32 = 4 to a squared length of 4; the standard error of the mean is about 2 %.
        assert!(
            (corrected / truth - 1.0).abs() < 0.06,
            "{}",
            corrected / truth
        );
        assert!((plain / truth - 2.0).abs() < 0.06, "{}", plain / truth);
    }

    #[test]
    fn the_interval_belongs_to_the_estimate_and_covers_the_truth() {
        let truth = 2.0 / NORM;
        let (mut own, mut covered, mut beside) = (0, 0, 0);
        let repeats = 40;
        for seed in 0..repeats {
            let sample = sample(1000 + seed);
            let options = BootstrapOptions {
                resamples: 200,
                level: 0.95,
                seed,
            };
            let of = |statistic: &(dyn Fn(&[usize]) -> f64 + Sync)| {
                bootstrap(64, Resampling::Items, &options, statistic).unwrap()
            };
            let holds = |found: &Bootstrap, x: f64| {
                let ends = found.interval.unwrap();
                ends.low <= x && x <= ends.high
            };
            let found = of(&|items| sample.share(items));
            own += u64::from(holds(&found, found.estimate));
            covered += u64::from(holds(&found, truth));
            let plain = of(&|items| with_noise(&sample, items));
            beside += u64::from(!holds(&plain, plain.estimate));
        }
        assert_eq!(own, repeats);
        assert!(covered >= 34, "{covered} of {repeats}");
        assert!(beside > repeats / 2, "{beside} of {repeats}");
    }
}
