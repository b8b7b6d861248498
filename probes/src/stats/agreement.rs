//! Do raters or detectors agree? Cohen's kappa for two raters who judged everything; for detectors that may answer
//! "unknown", raw agreement with its own denominators and Krippendorff's alpha. What their errors do to a rate is in [`super::prevalence`].

use serde::{Deserialize, Serialize};

use super::interval::{Interval, Proportion, two_sided_z};
use crate::error::{ProbeError, at_least, open_unit, same_length};

/// Cohen's kappa with its parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Kappa {
    /// Items judged by both.
    pub n: usize,
    /// Share of items on which the two agree.
    pub observed: f64,
    /// Agreement expected from the two raters' marginals.
    pub expected: f64,
    /// (observed − expected)/(1 − expected); `None` if both always gave one and the same answer.
    pub kappa: Option<f64>,
    /// Large-sample interval (Fleiss, Cohen and Everitt 1969), cut at 1.
    pub interval: Option<Interval>,
}

/// Cohen's kappa (1960) of two raters; categories are any numbers.
pub fn cohen_kappa(first: &[usize], second: &[usize], level: f64) -> Result<Kappa, ProbeError> {
    same_length("second rater", first.len(), second.len())?;
    at_least("rated items", 1, first.len())?;
    open_unit("confidence level", level)?;
    let mut categories: Vec<usize> = first.iter().chain(second).copied().collect();
    categories.sort_unstable();
    categories.dedup();
    let k = categories.len();
    let n = first.len() as f64;
    let place = |c: &usize| categories.partition_point(|x| x < c);
    let mut cells = vec![vec![0.0; k]; k];
    for (a, b) in first.iter().zip(second) {
        cells[place(a)][place(b)] += 1.0 / n;
    }
    let rows: Vec<f64> = cells.iter().map(|row| row.iter().sum()).collect();
    let columns: Vec<f64> = (0..k)
        .map(|j| cells.iter().map(|row| row[j]).sum())
        .collect();
    let observed: f64 = (0..k).map(|i| cells[i][i]).sum();
    let expected: f64 = rows.iter().zip(&columns).map(|(r, c)| r * c).sum();
    // One shared answer throughout: expected agreement is 1 up to rounding, kappa is 0/0.
    let kappa = (k > 1).then(|| (observed - expected) / (1.0 - expected));
    let interval = kappa.map(|kappa| {
        let mut spread = 0.0;
        for i in 0..k {
            for j in 0..k {
                let weight = if i == j {
                    (1.0 - (rows[i] + columns[i]) * (1.0 - kappa)).powi(2)
                } else {
                    (1.0 - kappa).powi(2) * (columns[i] + rows[j]).powi(2)
                };
                spread += cells[i][j] * weight;
            }
        }
        let variance =
            (spread - (kappa - expected * (1.0 - kappa)).powi(2)) / (n * (1.0 - expected).powi(2));
        let reach = two_sided_z(level) * variance.max(0.0).sqrt();
        Interval {
            low: kappa - reach,
            high: (kappa + reach).min(1.0),
            level,
        }
    });
    Ok(Kappa {
        n: first.len(),
        observed,
        expected,
        kappa,
        interval,
    })
}

/// How far several detectors with unknown votes agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorAgreement {
    /// Items.
    pub n: usize,
    /// Detectors.
    pub detectors: usize,
    /// Items with at least two known votes; the denominator of what follows.
    pub comparable: usize,
    /// Unknown votes of each detector.
    pub unknown: Vec<usize>,
    /// Mean over comparable items of the share of agreeing pairs of known votes (Fleiss's P̄); `None` without such items.
    pub raw: Option<f64>,
    /// Comparable items on which all known votes agree.
    pub unanimous: Option<Proportion>,
    /// Krippendorff's nominal alpha; `None` if every known vote is the same.
    pub alpha: Option<f64>,
}

/// Agreement of detectors: `votes[detector][item]`, `None` for unknown. Unknown is never counted as a vote for either side.
pub fn detector_agreement(
    votes: &[Vec<Option<bool>>],
    level: f64,
) -> Result<DetectorAgreement, ProbeError> {
    at_least("detectors", 2, votes.len())?;
    let n = votes[0].len();
    at_least("items", 1, n)?;
    for row in votes {
        same_length("votes of a detector", n, row.len())?;
    }
    let tallies: Vec<(f64, f64)> = (0..n)
        .map(|item| {
            let count = |side| votes.iter().filter(|row| row[item] == Some(side)).count() as f64;
            (count(true), count(false))
        })
        .filter(|(yes, no)| yes + no >= 2.0)
        .collect();
    let comparable = tallies.len();
    let agreeing: f64 = tallies
        .iter()
        .map(|(yes, no)| (yes * (yes - 1.0) + no * (no - 1.0)) / ((yes + no) * (yes + no - 1.0)))
        .sum();
    let unanimous = tallies
        .iter()
        .filter(|(yes, no)| *yes == 0.0 || *no == 0.0)
        .count();
    Ok(DetectorAgreement {
        n,
        detectors: votes.len(),
        comparable,
        unknown: votes
            .iter()
            .map(|row| row.iter().filter(|v| v.is_none()).count())
            .collect(),
        raw: (comparable > 0).then(|| agreeing / comparable as f64),
        unanimous: match comparable {
            0 => None,
            _ => Some(Proportion::wilson(
                unanimous as u64,
                comparable as u64,
                level,
            )?),
        },
        alpha: krippendorff(&tallies),
    })
}

/// 1 − D_o/D_e for two categories: D_o from pairs within items, D_e from pairs over all votes (Krippendorff 2004, 11.3).
fn krippendorff(tallies: &[(f64, f64)]) -> Option<f64> {
    let yes: f64 = tallies.iter().map(|t| t.0).sum();
    let no: f64 = tallies.iter().map(|t| t.1).sum();
    if yes == 0.0 || no == 0.0 {
        return None;
    }
    let within: f64 = tallies.iter().map(|(y, n)| y * n / (y + n - 1.0)).sum();
    Some(1.0 - within * (yes + no - 1.0) / (yes * no))
}
