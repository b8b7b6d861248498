//! How often each latent fires on two models, context by context, and what of the difference is more than chance.
//!
//! Tokens of a context are not independent, contexts are: a latent's change is tested by the signs of its differences over
//! contexts, adjusted over all latents by Benjamini and Hochberg, and its interval is that of a ratio of sums over contexts.
//! The null of the number of shifts lets the models change places in each context at random.

use std::collections::BTreeMap;

use candlescope_probes::stats::{
    interval::two_sided_z, multiplicity::benjamini_hochberg, special::fair_binomial_cdf,
};
use candlescope_sae::{Codes, measure::Floors};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Example;
use crate::features::FeatureError;

/// What became of a latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Silent before, alive after.
    Born,
    /// Alive before, silent after.
    Died,
    /// More or less often, by the factor or more.
    Shifted,
    /// None of these.
    Stayed,
}

/// A latent's change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentChange {
    /// Which.
    pub latent: usize,
    /// What became of it.
    pub became: Became,
    /// Tokens in which it fired on each model.
    pub fired: [u64; 2],
    /// Share of the tokens.
    pub density: [f64; 2],
    /// `log2` of the ratio, half a token added to both counts.
    pub log2_ratio: f64,
    /// Difference of the shares with its 95 % interval over contexts: low, estimate, high.
    pub change: [f64; 3],
    /// Contexts in which it fired more often, and less often.
    pub contexts: [u64; 2],
    /// Two-sided, of the sign test over contexts.
    pub p: f64,
    /// Adjusted over all latents that are alive on either model.
    pub adjusted: f64,
    /// Tokens at which it changed most.
    pub examples: Vec<Example>,
}

/// How many latents shift by the factor or more if the models change places at random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShiftNull {
    /// As found.
    pub shifted: usize,
    /// Mean of the draws.
    pub mean: f64,
    /// Standard deviation of the draws.
    pub deviation: f64,
    /// Largest of the draws.
    pub largest: usize,
    /// Share of draws with at least as many, the found one counted with them.
    pub p: f64,
    /// Draws.
    pub draws: usize,
}

/// Latents by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crossings {
    /// Alive on either model.
    pub alive: usize,
    /// Silent on the first, alive on the second.
    pub born: usize,
    /// Alive on the first, silent on the second.
    pub died: usize,
    /// More or less often by the factor or more, births and deaths with them.
    pub shifted: usize,
}

/// Counts of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    latents: usize,
    /// Of each context the latents that fired, rising, with their tokens on each model.
    contexts: Vec<Vec<(u32, [u32; 2])>>,
    rows: Vec<u64>,
}

impl Counts {
    /// Of no context.
    pub fn new(latents: usize) -> Self {
        Self {
            latents,
            ..Self::default()
        }
    }

    /// Takes in a context: the codes of its rows on each model.
    pub fn add(&mut self, codes: [&Codes; 2]) {
        let mut fired: BTreeMap<u32, [u32; 2]> = BTreeMap::new();
        for (m, codes) in codes.into_iter().enumerate() {
            let entries = codes.latents.iter().zip(&codes.values);
            for (&latent, _) in entries.filter(|(_, v)| **v != 0.0) {
                fired.entry(latent).or_default()[m] += 1;
            }
        }
        self.rows.push(codes[0].rows() as u64);
        self.contexts.push(fired.into_iter().collect());
    }

    /// Tokens.
    pub fn rows(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// Tokens in which each latent fired; `swap` says in which contexts the models change places.
    fn totals(&self, swap: impl Fn(usize) -> bool) -> Vec<[u64; 2]> {
        let mut totals = vec![[0; 2]; self.latents];
        for (i, context) in self.contexts.iter().enumerate() {
            let swapped = swap(i);
            for (latent, [a, b]) in context {
                let [a, b] = if swapped { [b, a] } else { [a, b] };
                let total = &mut totals[*latent as usize];
                total[0] += u64::from(*a);
                total[1] += u64::from(*b);
            }
        }
        totals
    }

    /// The latents alive on either model, without examples: the surest change first, of equals the larger.
    ///
    /// # Errors
    /// No tokens.
    pub fn changes(&self, floors: Floors) -> Result<Vec<LatentChange>, FeatureError> {
        let rows = self.rows();
        if rows == 0 {
            let what = "no token is kept on both models; give more text or another --drop".into();
            return Err(FeatureError::Nothing { what });
        }
        let totals = self.totals(|_| false);
        let mut sums = vec![[0.0_f64; 2]; self.latents];
        let mut signs = vec![[0_u64; 2]; self.latents];
        for (context, n) in self.contexts.iter().zip(&self.rows) {
            for (latent, [a, b]) in context {
                let latent = *latent as usize;
                let d = f64::from(*b) - f64::from(*a);
                sums[latent][0] += d * d;
                sums[latent][1] += d * *n as f64;
                if b > a {
                    signs[latent][0] += 1;
                } else if b < a {
                    signs[latent][1] += 1;
                }
            }
        }
        let squares: f64 = self.rows.iter().map(|n| (*n as f64).powi(2)).sum();
        let contexts = self.rows.len() as f64;
        let mut all = Vec::new();
        for (latent, fired) in totals.iter().enumerate() {
            let density = fired.map(|n| n as f64 / rows as f64);
            if density[0].max(density[1]) < floors.alive {
                continue;
            }
            let delta = density[1] - density[0];
            let [of_squares, of_products] = sums[latent];
            let spread = of_squares - 2.0 * delta * of_products + delta * delta * squares;
            let correction = contexts / (contexts - 1.0).max(1.0);
            let error = (correction * spread.max(0.0)).sqrt() / rows as f64;
            let half = two_sided_z(0.95) * error;
            let [more, less] = signs[latent];
            let p = if more + less == 0 {
                1.0
            } else {
                (2.0 * fair_binomial_cdf(more.min(less), more + less)).min(1.0)
            };
            all.push(LatentChange {
                latent,
                became: became(*fired, rows, floors),
                fired: *fired,
                density,
                log2_ratio: log2_ratio(*fired),
                change: [delta - half, delta, delta + half],
                contexts: signs[latent],
                p,
                adjusted: p,
                examples: Vec::new(),
            });
        }
        let raw: Vec<f64> = all.iter().map(|change| change.p).collect();
        for (change, adjusted) in all.iter_mut().zip(benjamini_hochberg(&raw)?) {
            change.adjusted = adjusted;
        }
        all.sort_by(|a, b| {
            let size = |c: &LatentChange| c.change[1].abs();
            a.p.total_cmp(&b.p).then(size(b).total_cmp(&size(a)))
        });
        Ok(all)
    }

    /// What became of the latents in these contexts, each counted as often as it is named.
    pub fn crossings(&self, contexts: &[usize], floors: Floors) -> Crossings {
        let mut totals = vec![[0_u64; 2]; self.latents];
        let mut rows = 0;
        for &i in contexts {
            rows += self.rows[i];
            for (latent, [a, b]) in &self.contexts[i] {
                let total = &mut totals[*latent as usize];
                total[0] += u64::from(*a);
                total[1] += u64::from(*b);
            }
        }
        let mut found = Crossings::default();
        for fired in totals.into_iter().filter(|[a, b]| a + b > 0) {
            if (fired[0].max(fired[1]) as f64) < floors.alive * rows as f64 {
                continue;
            }
            found.alive += 1;
            match became(fired, rows, floors) {
                Became::Born => found.born += 1,
                Became::Died => found.died += 1,
                Became::Shifted | Became::Stayed => {}
            }
            found.shifted += usize::from(log2_ratio(fired).abs() >= floors.factor.log2());
        }
        found
    }

    /// Contexts.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    /// The number of shifts beside its null.
    pub fn null(&self, floors: Floors, draws: usize, seed: u64) -> ShiftNull {
        let rows = self.rows();
        let shifted = |totals: &[[u64; 2]]| {
            let alive =
                |fired: &&[u64; 2]| fired[0].max(fired[1]) as f64 >= floors.alive * rows as f64;
            let large = |fired: &&[u64; 2]| log2_ratio(**fired).abs() >= floors.factor.log2();
            let some = |fired: &&[u64; 2]| fired[0] + fired[1] > 0;
            totals
                .iter()
                .filter(some)
                .filter(alive)
                .filter(large)
                .count()
        };
        let found = shifted(&self.totals(|_| false));
        let null: Vec<usize> = (0..draws)
            .into_par_iter()
            .map(|draw| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(draw as u64);
                let swap: Vec<bool> = self.contexts.iter().map(|_| rng.random()).collect();
                shifted(&self.totals(|i| swap[i]))
            })
            .collect();
        let reached = null.iter().filter(|n| **n >= found).count();
        let mean = null.iter().sum::<usize>() as f64 / draws.max(1) as f64;
        let squares: f64 = null.iter().map(|n| (*n as f64 - mean).powi(2)).sum();
        ShiftNull {
            shifted: found,
            mean,
            deviation: (squares / (draws as f64 - 1.0).max(1.0)).sqrt(),
            largest: null.iter().copied().max().unwrap_or(0),
            p: (reached + 1) as f64 / (draws + 1) as f64,
            draws,
        }
    }
}

/// Both runs have the same tokens.
fn log2_ratio([before, after]: [u64; 2]) -> f64 {
    ((after as f64 + 0.5) / (before as f64 + 0.5)).log2()
}

fn became(fired: [u64; 2], rows: u64, floors: Floors) -> Became {
    let [before, after] = fired.map(|n| n as f64 / rows as f64);
    if before < floors.silent && after >= floors.alive {
        Became::Born
    } else if after < floors.silent && before >= floors.alive {
        Became::Died
    } else if log2_ratio(fired).abs() >= floors.factor.log2() {
        Became::Shifted
    } else {
        Became::Stayed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Contexts of four rows; `fires(context, row, latent)` for each model.
    fn counts(contexts: usize, fires: impl Fn(usize, usize, usize, usize) -> bool) -> Counts {
        let mut counts = Counts::new(4);
        for context in 0..contexts {
            let codes = [0, 1].map(|m| {
                let mut codes = Codes::new();
                for row in 0..4 {
                    let latents = (0..4_u32).filter(|&l| fires(m, context, row, l as usize));
                    codes.push(latents.map(|l| (l, 1.0)));
                }
                codes
            });
            counts.add([&codes[0], &codes[1]]);
        }
        counts
    }

    #[test]
    fn changes_are_tested_by_context() {
        // Latent 0 stays; 1 is born in every context; 2 dies, in two contexts only; 3 never fires.
        let counts = counts(10, |m, context, row, latent| match latent {
            0 => row == 0,
            1 => m == 1 && row < 2,
            2 => m == 0 && context < 2,
            _ => false,
        });
        let all = counts.changes(Floors::default()).unwrap();
        let of = |latent: usize| all.iter().find(|c| c.latent == latent).unwrap();
        assert_eq!((all.len(), all[0].latent), (3, 1));
        assert_eq!(of(1).became, Became::Born);
        assert_eq!((of(1).fired, of(1).contexts), ([0, 20], [10, 0]));
        // 2 / 2^10, times three latents; the same in each context, so without spread.
        assert!((of(1).p - 2.0 / 1024.0).abs() < 1e-12);
        assert!((of(1).adjusted - 6.0 / 1024.0).abs() < 1e-12);
        assert!(of(1).change.iter().all(|c| (c - 0.5).abs() < 1e-9));
        assert_eq!((of(2).became, of(2).fired), (Became::Died, [8, 0]));
        assert!((of(2).p - 0.5).abs() < 1e-12);
        // Two differences of -4 and eight of 0 about a mean of -0.8: variance 2.56 · 10/9.
        let half = 1.959_963_985 * (10.0 / 9.0 * 25.6_f64).sqrt() / 40.0;
        assert!(
            (of(2).change[0] - (-0.2 - half)).abs() < 1e-8,
            "{:?}",
            of(2)
        );
        assert_eq!(
            (of(0).became, of(0).p, of(0).log2_ratio),
            (Became::Stayed, 1.0, 0.0)
        );
        assert!(Counts::new(3).changes(Floors::default()).is_err());
        let all: Vec<usize> = (0..10).collect();
        let expected = Crossings {
            alive: 3,
            born: 1,
            died: 1,
            shifted: 2,
        };
        assert_eq!(counts.crossings(&all, Floors::default()), expected);
        // Without the two contexts in which it fired, latent 2 never lived.
        let late = counts.crossings(&all[2..], Floors::default());
        assert_eq!((late.alive, late.died), (2, 0));
    }

    #[test]
    fn models_that_may_change_places_shift_nothing() {
        // Latent 1 fires on one model alone in each context, by turns: as many shifts as chance has.
        let turns = counts(40, |m, context, _, latent| latent == 1 && context % 2 == m);
        let null = turns.null(Floors::default(), 99, 1);
        assert_eq!((null.shifted, null.p), (0, 1.0));
        let always = counts(40, |m, _, _, latent| latent == 1 && m == 1);
        let null = always.null(Floors::default(), 99, 1);
        assert_eq!(null.shifted, 1);
        assert!(null.p < 0.06, "{null:?}");
        assert_eq!(null, always.null(Floors::default(), 99, 1));
    }
}
