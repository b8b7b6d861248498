//! What is tried next: random points first, then points that look more like the good trials than like the others.
//!
//! A tree-structured Parzen estimator (Bergstra et al. 2011) over all numbers at once, as BOHB does it (Falkner et al. 2018):
//! each trial of a group is a product of kernels around its point, one flat kernel stands for what is not known, and of
//! points drawn from the good group the one with the largest ratio of the two densities is tried. The good group is a
//! tenth of the trials, front by front (Ozaki et al. 2020). Kernels are normal with deviation `0.2 · n^(-1/(d+4))` and folded
//! back at the borders of the unit cube; a series is kept with [`KEPT`].
//! Always: a proposal follows from the trials before it, their number and the seed alone, so a search goes on as it was.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Point, Space, ranked};

/// Probability that a draw keeps the series of the trial that it is drawn around.
const KEPT: f64 = 0.75;

/// Share and most of the trials that count as good.
const GOOD: (f64, usize) = (0.1, 25);

/// How points are proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampler {
    /// Trials before the estimator is used: the plain edit and random ones.
    pub startup: usize,
    /// Points that the next one is chosen from.
    pub draws: usize,
    /// Seed of every draw.
    pub seed: u64,
}

/// A trial as the sampler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Where.
    pub point: Point,
    /// Refusal and damage; lower bounds of a trial that was cut short.
    pub values: [f64; 2],
    /// Whether it was run to its end.
    pub whole: bool,
}

/// The point of trial `number`, given those before it.
pub fn propose(space: &Space, before: &[Observed], how: &Sampler, number: usize) -> Point {
    if number == 0 {
        return space.uniform();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(how.seed);
    rng.set_stream(number as u64);
    let (good, others) = groups(before);
    if number < how.startup || good.is_empty() || others.is_empty() {
        return random(space, &mut rng);
    }
    let (good, others) = (Density::of(&good, space), Density::of(&others, space));
    let mut best: Option<(f64, Point)> = None;
    for _ in 0..how.draws.max(1) {
        let drawn = good.draw(space, &mut rng);
        let gain = good.log(&drawn) - others.log(&drawn);
        if best.as_ref().is_none_or(|(most, _)| gain > *most) {
            best = Some((gain, drawn));
        }
    }
    best.map_or_else(|| space.uniform(), |(_, point)| point)
}

/// Good trials and the others.
fn groups(before: &[Observed]) -> (Vec<&Point>, Vec<&Point>) {
    let whole: Vec<&Observed> = before.iter().filter(|trial| trial.whole).collect();
    let values: Vec<[f64; 2]> = whole.iter().map(|trial| trial.values).collect();
    let share = (GOOD.0 * before.len() as f64).ceil() as usize;
    let chosen = &ranked(&values)[..share.min(GOOD.1).min(whole.len())];
    let good: Vec<&Point> = chosen.iter().map(|&i| &whole[i].point).collect();
    let others = before.iter().map(|trial| &trial.point);
    // By place in the list, not by value: two trials may share a point.
    let others = others.filter(|point| !good.iter().any(|other| std::ptr::eq(*other, *point)));
    let others = others.collect();
    (good, others)
}

fn random(space: &Space, rng: &mut ChaCha8Rng) -> Point {
    Point {
        unit: (0..space.len()).map(|_| rng.random::<f64>()).collect(),
        series: rng.random_range(0..space.series().len()),
    }
}

/// A mixture of kernels and a flat part.
struct Density<'a> {
    around: &'a [&'a Point],
    deviation: f64,
    series: usize,
}

impl<'a> Density<'a> {
    fn of(around: &'a [&'a Point], space: &Space) -> Self {
        let (n, d) = (around.len().max(1) as f64, space.len() as f64);
        Self {
            around,
            deviation: 0.2 * n.powf(-1.0 / (d + 4.0)),
            series: space.series().len(),
        }
    }

    fn draw(&self, space: &Space, rng: &mut ChaCha8Rng) -> Point {
        let Some(centre) = self.around.get(rng.random_range(0..=self.around.len())) else {
            return random(space, rng);
        };
        let unit = centre.unit.iter();
        let unit = unit
            .map(|x| folded(x + self.deviation * normal(rng)))
            .collect();
        let series = if self.series == 1 || rng.random::<f64>() < KEPT {
            centre.series
        } else {
            (centre.series + rng.random_range(1..self.series)) % self.series
        };
        Point { unit, series }
    }

    /// The log density, by series and per unit of the cube.
    fn log(&self, at: &Point) -> f64 {
        let flat = -(self.series as f64).ln();
        let each = self.around.iter().map(|centre| self.kernel(centre, at));
        let all: Vec<f64> = std::iter::once(flat).chain(each).collect();
        let most = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = all.iter().map(|x| (x - most).exp()).sum();
        most + sum.ln() - (all.len() as f64).ln()
    }

    fn kernel(&self, centre: &Point, at: &Point) -> f64 {
        let series = match (self.series, centre.series == at.series) {
            (1, _) => 0.0,
            (_, true) => KEPT.ln(),
            (n, false) => ((1.0 - KEPT) / (n - 1) as f64).ln(),
        };
        let numbers = centre.unit.iter().zip(&at.unit);
        series + numbers.map(|(c, x)| self.of_one(*c, *x)).sum::<f64>()
    }

    /// The log density of one number: the bell and its two mirror images; further ones lie five deviations away.
    fn of_one(&self, centre: f64, x: f64) -> f64 {
        let bell = |away: f64| (-0.5 * (away / self.deviation).powi(2)).exp();
        let scale = self.deviation * std::f64::consts::TAU.sqrt();
        let density = (bell(x - centre) + bell(x + centre) + bell(2.0 - x - centre)) / scale;
        density.max(f64::MIN_POSITIVE).ln()
    }
}

/// A number reflected at 0 and 1 until it lies between them.
fn folded(x: f64) -> f64 {
    let x = x.rem_euclid(2.0);
    if x > 1.0 { 2.0 - x } else { x }
}

/// A draw from the normal distribution (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::ModelConfig;
    use crate::model::Checkpoint;
    use crate::steer::search::{Series, front};
    use std::sync::Arc;

    fn space(series: usize) -> Space {
        let config = ModelConfig {
            d_model: 2,
            n_layers: 12,
            ..Checkpoint::toy(0).unwrap().config().clone()
        };
        let one = |i: usize| Series::one(&i.to_string(), Arc::new(vec![1.0, i as f32]));
        Space::new((0..series).map(one).collect(), &config).unwrap()
    }

    #[test]
    fn a_density_sums_to_one_over_numbers_and_series() {
        // Over the first number, the others held: the flat part gives 1 a series, a kernel its share.
        let space = space(3);
        let centre = Point {
            unit: vec![0.05; 8],
            series: 1,
        };
        let around = [&centre];
        let density = Density::of(&around, &space);
        assert!((density.deviation - 0.2).abs() < 1e-12);
        let n = 2000;
        let mut sum = 0.0;
        for series in 0..3 {
            for i in 0..n {
                let mut at = Point {
                    unit: vec![0.05; 8],
                    series,
                };
                at.unit[0] = (f64::from(i) + 0.5) / f64::from(n);
                // What the seven other numbers give at their own place is divided out.
                let own = density.kernel(&centre, &at) - 7.0 * density.of_one(0.05, 0.05);
                sum += own.exp() / f64::from(n);
            }
        }
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }

    #[test]
    fn draws_lie_in_the_cube_and_follow_from_number_and_seed() {
        let space = space(2);
        let how = Sampler {
            startup: 4,
            draws: 16,
            seed: 3,
        };
        let mut before = Vec::new();
        for number in 0..30 {
            let point = propose(&space, &before, &how, number);
            assert_eq!(point, propose(&space, &before, &how, number));
            assert!(point.unit.iter().all(|x| (0.0..=1.0).contains(x)));
            assert!(point.series < 2);
            before.push(Observed {
                values: [point.unit[0], point.unit[1]],
                whole: number % 3 != 1,
                point,
            });
        }
        let other = Sampler { seed: 4, ..how };
        assert_ne!(
            propose(&space, &before, &how, 30),
            propose(&space, &before, &other, 30)
        );
        assert!((folded(1.25) - 0.75).abs() < 1e-12 && (folded(-0.25) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn it_finds_more_of_a_known_front_than_chance() {
        // Two objectives that trade off along one number; all the others must be small, and the second series.
        let space = space(2);
        let value = |p: &Point| {
            let off: f64 = p.unit[1..].iter().map(|x| (x - 0.3).powi(2)).sum();
            let off = off + if p.series == 1 { 0.0 } else { 0.5 };
            [p.unit[0].powi(2) + off, (1.0 - p.unit[0]).powi(2) + off]
        };
        // The area under (2, 2) that the front covers.
        let covered = |seed: u64, startup: usize| {
            let how = Sampler {
                startup,
                draws: 64,
                seed,
            };
            let mut before: Vec<Observed> = Vec::new();
            for number in 0..120 {
                let point = propose(&space, &before, &how, number);
                before.push(Observed {
                    values: value(&point),
                    whole: true,
                    point,
                });
            }
            let values: Vec<[f64; 2]> = before.iter().map(|t| t.values).collect();
            let (mut area, mut top) = (0.0, 2.0);
            for i in front(&values) {
                let [x, y] = values[i].map(|v| v.min(2.0));
                area += (2.0 - x) * (top - y).max(0.0);
                top = top.min(y);
            }
            area
        };
        let (mut ours, mut chance) = (0.0, 0.0);
        for seed in 0..5 {
            ours += covered(seed, 20) / 5.0;
            chance += covered(seed, usize::MAX) / 5.0;
        }
        assert!(ours > chance + 0.15, "{ours:.3} {chance:.3}");
    }
}
