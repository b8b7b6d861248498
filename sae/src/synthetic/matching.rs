//! One latent for each feature: the pairing of the largest sum of cosines, or a greedy one where that would take too long.

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// How features and latents were paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// The best of all pairings (Kuhn 1955, by shortest augmenting paths).
    Hungarian,
    /// The best pair first, then the best of the rest.
    Greedy,
}

/// A feature with its latent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matched {
    /// Row of the cosines.
    pub feature: usize,
    /// Column.
    pub latent: usize,
    /// Their cosine.
    pub cosine: f32,
}

/// Steps beyond which [`pairs`] goes greedily: some seconds of one thread.
const STEPS: usize = 3_000_000_000;

/// Pairs rows and columns of `[features, latents]`, each at most once, as many as the shorter side has; by rising feature.
pub(super) fn pairs(cosines: ArrayView2<f32>) -> (Matching, Vec<Matched>) {
    let (n, m) = cosines.dim();
    let steps = n.min(m).saturating_mul(n).saturating_mul(m);
    let (how, found) = if steps > STEPS {
        (Matching::Greedy, greedy(cosines))
    } else if n <= m {
        (Matching::Hungarian, assign(cosines))
    } else {
        let turned = assign(cosines.t()).into_iter().map(|(l, f)| (f, l));
        (Matching::Hungarian, turned.collect())
    };
    let mut matched: Vec<Matched> = found
        .into_iter()
        .map(|(feature, latent)| Matched {
            feature,
            latent,
            cosine: cosines[(feature, latent)],
        })
        .collect();
    matched.sort_by_key(|pair| pair.feature);
    (how, matched)
}

pub(super) fn greedy(cosines: ArrayView2<f32>) -> Vec<(usize, usize)> {
    let (n, m) = cosines.dim();
    let mut free: Array2<f32> = cosines.to_owned();
    let best_of = |row: usize, free: &Array2<f32>| {
        let values = free.row(row).to_vec();
        let best = |a: &usize, b: &usize| values[*a].total_cmp(&values[*b]).then(b.cmp(a));
        let column = (0..m).max_by(best).unwrap_or(0);
        (column, values[column])
    };
    let mut best: Vec<(usize, f32)> = (0..n).map(|row| best_of(row, &free)).collect();
    let mut open: Vec<bool> = vec![true; n];
    let mut found = Vec::with_capacity(n.min(m));
    while found.len() < n.min(m) {
        let rows = (0..n).filter(|&row| open[row]);
        let by = |a: &usize, b: &usize| best[*a].1.total_cmp(&best[*b].1).then(b.cmp(a));
        let Some(row) = rows.max_by(by) else { break };
        let (column, _) = best[row];
        found.push((row, column));
        open[row] = false;
        free.column_mut(column).fill(f32::NEG_INFINITY);
        for other in (0..n).filter(|&other| open[other]) {
            if best[other].0 == column {
                best[other] = best_of(other, &free);
            }
        }
    }
    found
}

/// The pairing of the largest sum, for no more rows than columns. Potentials keep reduced costs at 0 or above; each row is
/// let in by the cheapest path of swaps (Jonker and Volgenant 1987, without their initialisation).
fn assign(gain: ArrayView2<f32>) -> Vec<(usize, usize)> {
    let (n, m) = gain.dim();
    // Column m stands for the row that is being let in.
    let mut row_potential = vec![0.0_f64; n];
    let mut column_potential = vec![0.0_f64; m + 1];
    let mut owner: Vec<Option<usize>> = vec![None; m + 1];
    for new in 0..n {
        owner[m] = Some(new);
        let mut distance = vec![f64::INFINITY; m];
        let mut from = vec![m; m];
        let mut settled = vec![false; m + 1];
        let mut at = m;
        while let Some(row) = owner[at] {
            settled[at] = true;
            let (mut nearest, mut next) = (f64::INFINITY, m);
            for column in (0..m).filter(|&column| !settled[column]) {
                let cost = -f64::from(gain[(row, column)]);
                let reduced = cost - row_potential[row] - column_potential[column];
                if reduced < distance[column] {
                    distance[column] = reduced;
                    from[column] = at;
                }
                if distance[column] < nearest {
                    (nearest, next) = (distance[column], column);
                }
            }
            for column in 0..=m {
                if !settled[column] {
                    if column < m {
                        distance[column] -= nearest;
                    }
                } else if let Some(row) = owner[column] {
                    row_potential[row] += nearest;
                    column_potential[column] -= nearest;
                }
            }
            at = next;
        }
        while at != m {
            owner[at] = owner[from[at]];
            at = from[at];
        }
    }
    let owned = owner[..m].iter().enumerate();
    owned
        .filter_map(|(column, row)| row.map(|row| (row, column)))
        .collect()
}
