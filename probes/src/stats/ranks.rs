//! Ranks: midranks with ties, and Wilcoxon's signed-rank test built on them.
//! Midranks are also what AUROC is made of ([`crate::roc`]).

use super::paired::{NullMethod, PairedTest};
use super::special::normal_cdf;
use crate::error::{ProbeError, at_least, finite};

/// Ranks from 1, ties sharing the mean of their places. Values must not be NaN.
pub fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    // `==` and not `total_cmp` decides ties, so that 0 and −0 share a rank.
    for tie in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let first = order.partition_point(|&i| values[i] < values[tie[0]]);
        let rank = first as f64 + 0.5 * (tie.len() as f64 + 1.0);
        for &item in tie {
            ranks[item] = rank;
        }
    }
    ranks
}

/// The largest number of non-zero differences for which the null distribution is counted out.
const EXACT_UP_TO: usize = 50;

/// Wilcoxon's signed-rank test of symmetry about 0; differences of 0 are dropped (Wilcoxon 1945).
///
/// The statistic is the rank sum of the positive differences. Exact up to 50 non-zero differences, given the midranks
/// (so it stays exact with ties); above that normal with tie and continuity correction.
pub fn wilcoxon_signed_rank(differences: &[f64]) -> Result<PairedTest, ProbeError> {
    at_least("paired differences", 1, differences.len())?;
    finite("paired differences", differences)?;
    let kept: Vec<f64> = differences.iter().copied().filter(|&d| d != 0.0).collect();
    let sizes: Vec<f64> = kept.iter().map(|d| d.abs()).collect();
    let ranks = midranks(&sizes);
    let positive: f64 = ranks
        .iter()
        .zip(&kept)
        .filter(|&(_, &d)| d > 0.0)
        .map(|(r, _)| r)
        .sum();
    let exact = kept.len() <= EXACT_UP_TO;
    Ok(PairedTest {
        n: differences.len(),
        used: kept.len(),
        statistic: positive,
        p_value: if exact {
            exact_p(&ranks, positive)
        } else {
            normal_p(&ranks, positive)
        },
        method: if exact {
            NullMethod::Exact
        } else {
            NullMethod::Normal
        },
    })
}

/// Twice the smaller tail of the rank sum over all 2ⁿ signs, counted by dynamic programming over doubled ranks.
fn exact_p(ranks: &[f64], positive: f64) -> f64 {
    let doubled: Vec<usize> = ranks.iter().map(|r| (2.0 * r).round() as usize).collect();
    let total: usize = doubled.iter().sum();
    let mut share = vec![0.0; total + 1];
    share[0] = 1.0;
    for &rank in &doubled {
        for sum in (0..=total).rev() {
            let with = if sum >= rank { share[sum - rank] } else { 0.0 };
            share[sum] = 0.5 * (share[sum] + with);
        }
    }
    let place = (2.0 * positive).round() as usize;
    let lower: f64 = share[..=place].iter().sum();
    let upper: f64 = share[place..].iter().sum();
    (2.0 * lower.min(upper)).min(1.0)
}

fn normal_p(ranks: &[f64], positive: f64) -> f64 {
    let mean = 0.5 * ranks.iter().sum::<f64>();
    // Σ r²/4 over midranks equals n(n+1)(2n+1)/24 − Σ(t³−t)/48: the tie correction is built in.
    let variance = 0.25 * ranks.iter().map(|r| r * r).sum::<f64>();
    let distance = ((positive - mean).abs() - 0.5).max(0.0);
    (2.0 * normal_cdf(-distance / variance.sqrt())).min(1.0)
}
