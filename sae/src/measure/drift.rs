//! What a frozen dictionary's latents do elsewhere: on another checkpoint, or on other text. Which were born, which died,
//! which fire more or less often.
//!
//! Counts and rates only: whether a change is more than chance is asked above, where the tests are. Rows of one text are
//! not independent, so a test on these counts alone says too much.

use serde::{Deserialize, Serialize};

use super::Density;
use crate::SaeError;
use crate::dictionary::shape;

/// Between which densities a latent counts as silent and as alive; two floors, so that noise at one is no crossing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floors {
    /// Below this it is silent.
    pub silent: f64,
    /// From this on it is alive.
    pub alive: f64,
    /// A change of the density by this factor, either way, is a shift.
    pub factor: f64,
}

impl Default for Floors {
    fn default() -> Self {
        Self {
            silent: 1e-6,
            alive: 1e-5,
            factor: 2.0,
        }
    }
}

/// A latent that was born or died.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crossing {
    /// Which.
    pub latent: usize,
    /// Its density before.
    pub before: f64,
    /// Its density after.
    pub after: f64,
}

/// How a latent's density moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Which.
    pub latent: usize,
    /// Rows in which it fired, before and after.
    pub fired: [u64; 2],
    /// `log2(after / before)`, half a row added to both counts so that a count of 0 has one.
    pub log2_ratio: f64,
}

/// What changed between two runs of one dictionary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Rows before and after.
    pub rows: [u64; 2],
    /// Latents alive in either run.
    pub alive: usize,
    /// Silent before, alive after; the densest first.
    pub births: Vec<Crossing>,
    /// Alive before, silent after; the densest first.
    pub deaths: Vec<Crossing>,
    /// Of the latents alive in either run, how many changed by the factor or more.
    pub shifted: usize,
    /// Every latent that is alive in either run, the largest change first.
    pub shifts: Vec<Shift>,
    /// Mean over all latents of the Jensen-Shannon divergence, in bits, between firing and silence before and after.
    pub divergence: f64,
    /// What counted as silent, alive and shifted.
    pub floors: Floors,
}

impl Drift {
    /// Compares two runs.
    ///
    /// # Errors
    /// Another number of latents, no rows in one of them.
    pub fn between(before: &Density, after: &Density, floors: Floors) -> Result<Self, SaeError> {
        shape(
            "densities to compare",
            &[before.latents()],
            &[after.latents()],
        )?;
        if before.rows() == 0 || after.rows() == 0 {
            return Err(SaeError::Range {
                what: "rows of a run to compare",
                found: "0".into(),
                allowed: "1 or more".into(),
            });
        }
        let mut drift = Self {
            rows: [before.rows(), after.rows()],
            alive: 0,
            births: Vec::new(),
            deaths: Vec::new(),
            shifted: 0,
            shifts: Vec::new(),
            divergence: 0.0,
            floors,
        };
        for latent in 0..before.latents() {
            let (old, new) = (before.of(latent), after.of(latent));
            drift.divergence += jensen_shannon(old, new) / before.latents() as f64;
            let crossing = Crossing {
                latent,
                before: old,
                after: new,
            };
            if old < floors.silent && new >= floors.alive {
                drift.births.push(crossing);
            } else if new < floors.silent && old >= floors.alive {
                drift.deaths.push(crossing);
            }
            if old.max(new) >= floors.alive {
                let fired = [before.fired()[latent], after.fired()[latent]];
                drift.shifts.push(Shift {
                    latent,
                    fired,
                    log2_ratio: log2_ratio(fired, drift.rows),
                });
            }
        }
        let by_density = |list: &mut Vec<Crossing>| {
            list.sort_by(|a, b| b.before.max(b.after).total_cmp(&a.before.max(a.after)));
        };
        by_density(&mut drift.births);
        by_density(&mut drift.deaths);
        let size = |shift: &Shift| shift.log2_ratio.abs();
        drift.shifts.sort_by(|a, b| size(b).total_cmp(&size(a)));
        drift.alive = drift.shifts.len();
        let large = drift
            .shifts
            .iter()
            .filter(|s| size(s) >= floors.factor.log2());
        drift.shifted = large.count();
        Ok(drift)
    }
}

fn log2_ratio(fired: [u64; 2], rows: [u64; 2]) -> f64 {
    let rate = |run: usize| (fired[run] as f64 + 0.5) / (rows[run] as f64 + 1.0);
    (rate(1) / rate(0)).log2()
}

/// Between two coins, in bits: from 0 to 1.
fn jensen_shannon(p: f64, q: f64) -> f64 {
    let entropy = |p: f64| -> f64 {
        let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
        term(p) + term(1.0 - p)
    };
    (entropy(f64::midpoint(p, q)) - f64::midpoint(entropy(p), entropy(q))).max(0.0)
}
