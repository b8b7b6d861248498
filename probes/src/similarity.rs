//! How similar two noisy directions really are. The cosine of two estimated directions is too low, because each carries
//! noise, and too high where both were measured on the same prompts, because then the noise is shared. Both are removed here.

use ndarray::{Array1, ArrayView2};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::direction::checked_pair;
use crate::error::{ProbeError, at_least, open_unit, same_length};
use crate::random::stream;
use crate::stats::bootstrap::{BootstrapOptions, quantile};
use crate::stats::interval::Interval;

/// The activations of two classes, `[n⁺, d]` and `[n⁻, d]`, whose means span a direction.
#[derive(Debug, Clone, Copy)]
pub struct Contrast<'a> {
    /// Activations of the positive class.
    pub positive: ArrayView2<'a, f32>,
    /// Activations of the negative class.
    pub negative: ArrayView2<'a, f32>,
}

/// The similarity of the directions of two contrasts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Positive and negative items of the first contrast.
    pub n_first: (usize, usize),
    /// Positive and negative items of the second contrast.
    pub n_second: (usize, usize),
    /// Whether row i of both contrasts is the same prompt.
    pub paired: bool,
    /// Cosine of the two differences of means as they are.
    pub cosine: f64,
    /// Share of the first direction's squared length that is signal, 1 − noise/‖r‖²; estimates the same as split-half with Spearman-Brown.
    pub reliability_first: f64,
    /// The same for the second.
    pub reliability_second: f64,
    /// The cosine of the directions without noise; `None` if a reliability is not positive. May exceed 1 by sampling error.
    pub disattenuated: Option<f64>,
    /// Percentile bootstrap interval of `disattenuated`.
    pub interval: Option<Interval>,
    /// Resamples in which both reliabilities were positive; with fewer than 90 % no interval is given.
    pub defined: usize,
}

/// The textbook correction cos/√(ρ₁ρ₂) (Spearman 1904), for reliabilities that came from elsewhere; assumes independent
/// noise, so prefer [`similarity`] for two checkpoints read on the same prompts. `None` unless both ρ are positive.
pub fn disattenuate(cosine: f64, first: f64, second: f64) -> Option<f64> {
    (first > 0.0 && second > 0.0).then(|| cosine / (first * second).sqrt())
}

/// Compares the directions a = μ₁⁺ − μ₁⁻ and b = μ₂⁺ − μ₂⁻ of the same width.
///
/// ‖a‖² and a·b are unbiased by subtracting the noise of the means: tr Cov(x⁺)/n⁺ + tr Cov(x⁻)/n⁻ from ‖a‖², and, if
/// `paired`, the cross-covariance traces from a·b (the closed form of cross-validated distances, Walther et al. 2016).
/// Inside the bootstrap that noise is there twice, once from sampling and once from resampling, and is subtracted twice.
pub fn similarity(
    first: &Contrast,
    second: &Contrast,
    paired: bool,
    options: &BootstrapOptions,
) -> Result<Similarity, ProbeError> {
    checked_pair(first.positive, first.negative, 2)?;
    checked_pair(second.positive, second.negative, 2)?;
    same_length(
        "width of the second contrast",
        first.positive.ncols(),
        second.positive.ncols(),
    )?;
    open_unit("confidence level", options.level)?;
    at_least("bootstrap resamples", 100, options.resamples)?;
    if paired {
        same_length(
            "paired positive items",
            first.positive.nrows(),
            second.positive.nrows(),
        )?;
        same_length(
            "paired negative items",
            first.negative.nrows(),
            second.negative.nrows(),
        )?;
    }
    let classes = [
        Class::new(first.positive.view(), second.positive.view(), paired),
        Class::new(first.negative.view(), second.negative.view(), paired),
    ];
    let whole = Products::of(&classes, &classes.each_ref().map(Class::everything));
    let estimate = whole.noise_removed(1.0);
    let mut draws: Vec<f64> = (0..options.resamples)
        .into_par_iter()
        .filter_map(|draw| {
            let mut rng = stream(options.seed, draw);
            let counts = classes.each_ref().map(|class| class.resample(&mut rng));
            Products::of(&classes, &counts).noise_removed(2.0)
        })
        .collect();
    draws.sort_by(f64::total_cmp);
    let defined = draws.len();
    let tail = 0.5 * (1.0 - options.level);
    let enough = estimate.is_some() && defined * 10 >= options.resamples * 9;
    Ok(Similarity {
        n_first: (first.positive.nrows(), first.negative.nrows()),
        n_second: (second.positive.nrows(), second.negative.nrows()),
        paired,
        cosine: (whole.dot / (whole.first * whole.second).sqrt()).clamp(-1.0, 1.0),
        reliability_first: 1.0 - whole.noise_first / whole.first,
        reliability_second: 1.0 - whole.noise_second / whole.second,
        disattenuated: estimate,
        interval: enough.then(|| Interval {
            low: quantile(&draws, tail),
            high: quantile(&draws, 1.0 - tail),
            level: options.level,
        }),
        defined,
    })
}

/// One class in both contrasts, with the per-item products that the noise terms need.
struct Class<'a> {
    x: ArrayView2<'a, f32>,
    y: ArrayView2<'a, f32>,
    xx: Vec<f64>,
    yy: Vec<f64>,
    /// Products of paired rows; `None` if the items of the two contrasts are unrelated.
    xy: Option<Vec<f64>>,
}

/// How often each item of each contrast was drawn.
struct Counts {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl<'a> Class<'a> {
    fn new(x: ArrayView2<'a, f32>, y: ArrayView2<'a, f32>, paired: bool) -> Self {
        let dots = |a: ArrayView2<f32>, b: ArrayView2<f32>| -> Vec<f64> {
            let rows = a.outer_iter().zip(b.outer_iter());
            rows.map(|(p, q)| {
                p.iter()
                    .zip(&q)
                    .map(|(&u, &v)| f64::from(u) * f64::from(v))
                    .sum()
            })
            .collect()
        };
        Self {
            x,
            y,
            xx: dots(x, x),
            yy: dots(y, y),
            xy: paired.then(|| dots(x, y)),
        }
    }

    fn everything(&self) -> Counts {
        Counts {
            x: vec![1.0; self.xx.len()],
            y: vec![1.0; self.yy.len()],
        }
    }

    fn resample(&self, rng: &mut rand_chacha::ChaCha8Rng) -> Counts {
        let mut drawn = |n: usize| {
            let mut counts = vec![0.0; n];
            for _ in 0..n {
                counts[rng.random_range(0..n)] += 1.0;
            }
            counts
        };
        let x = drawn(self.xx.len());
        let y = if self.xy.is_some() {
            x.clone()
        } else {
            drawn(self.yy.len())
        };
        Counts { x, y }
    }
}

/// Squared lengths and the product of two directions, each with the noise inside it.
struct Products {
    first: f64,
    second: f64,
    dot: f64,
    noise_first: f64,
    noise_second: f64,
    noise_dot: f64,
}

impl Products {
    fn of(classes: &[Class; 2], counts: &[Counts; 2]) -> Self {
        let mut sides = Vec::with_capacity(2);
        let (mut noise_first, mut noise_second, mut noise_dot) = (0.0, 0.0, 0.0);
        for (class, count) in classes.iter().zip(counts) {
            let (x, y) = (mean(class.x, &count.x), mean(class.y, &count.y));
            noise_first += trace(&class.xx, &count.x, x.dot(&x));
            noise_second += trace(&class.yy, &count.y, y.dot(&y));
            if let Some(xy) = &class.xy {
                noise_dot += trace(xy, &count.x, x.dot(&y));
            }
            sides.push((x, y));
        }
        let a = &sides[0].0 - &sides[1].0;
        let b = &sides[0].1 - &sides[1].1;
        Self {
            first: a.dot(&a),
            second: b.dot(&b),
            dot: a.dot(&b),
            noise_first,
            noise_second,
            noise_dot,
        }
    }

    /// The cosine after the noise was subtracted `times` times.
    fn noise_removed(&self, times: f64) -> Option<f64> {
        let first = self.first - times * self.noise_first;
        let second = self.second - times * self.noise_second;
        (first > 0.0 && second > 0.0)
            .then(|| (self.dot - times * self.noise_dot) / (first * second).sqrt())
    }
}

fn mean(x: ArrayView2<f32>, counts: &[f64]) -> Array1<f64> {
    let mut sum = Array1::<f64>::zeros(x.ncols());
    for (row, &count) in x.outer_iter().zip(counts) {
        if count > 0.0 {
            sum.zip_mut_with(&row, |s, &v| *s += count * f64::from(v));
        }
    }
    sum / counts.len() as f64
}

/// tr Cov / n of the drawn items from their products and the product of the means, with n − 1.
fn trace(products: &[f64], counts: &[f64], of_means: f64) -> f64 {
    let n = counts.len() as f64;
    let sum: f64 = products.iter().zip(counts).map(|(p, c)| p * c).sum();
    (sum / n - of_means) / (n - 1.0)
}
