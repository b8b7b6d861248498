//! How well a ranking finds rows that are known to be at fault: the area under the ROC curve, and how many of them stand among
//! the first.
//!
//! Always: a row is at fault if its field in the file has the value that was named; scores are not chosen on the marks.

use std::collections::BTreeSet;
use std::path::PathBuf;

use candlescope_probes::roc::{Auroc, auroc};
use serde::Serialize;

use super::{BisectError, Ranked};
use crate::text::dataset::table;

/// Shares of the rows that are looked at first.
const SHARES: [f64; 3] = [0.01, 0.05, 0.10];
/// Most columns named in a message.
const NAMED: usize = 20;

/// How well each score finds the marked rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guilty {
    /// The mark, as `KEY=VALUE`.
    pub mark: String,
    /// Marked rows of the window.
    pub marked: usize,
    /// Rows of the window.
    pub rows: usize,
    /// One for each score.
    pub scores: Vec<Separation>,
}

/// How well one score does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Separation {
    /// `push`, `cosine` or `projection`.
    pub score: &'static str,
    /// The area under its ROC curve.
    pub auroc: Auroc,
    /// Among the first rows.
    pub enriched: Vec<Enriched>,
    /// The ROC curve: (share of the other rows, share of the marked rows) at or above each score, from (0, 0) to (1, 1).
    pub roc: Vec<(f64, f64)>,
}

/// The marked rows among the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Enriched {
    /// The share of the rows.
    pub share: f64,
    /// Rows.
    pub rows: usize,
    /// Marked ones among them.
    pub marked: usize,
    /// Their share over their share of all rows: 1 is chance.
    pub times: f64,
}

/// The places of the rows with the mark.
pub(super) fn marks(
    files: &[PathBuf],
    mark: &(String, String),
) -> Result<BTreeSet<String>, BisectError> {
    let (key, value) = mark;
    let mut places = BTreeSet::new();
    let mut found = BTreeSet::new();
    let mut columns: BTreeSet<String> = BTreeSet::new();
    for file in files {
        for row in table::read(file)?.rows {
            if columns.len() < NAMED {
                columns.extend(row.columns().map(str::to_owned));
            }
            let Some(text) = row.text(key) else {
                continue;
            };
            if text == *value {
                places.insert(row.place.to_string());
            } else if found.len() < NAMED {
                found.insert(text);
            }
        }
    }
    if !places.is_empty() {
        return Ok(places);
    }
    let listed = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    let why = if found.is_empty() {
        format!(
            "no row of the training data has `{key}`; they have {}",
            listed(columns)
        )
    } else {
        format!(
            "no row has this value in `{key}`; there are {}",
            listed(found)
        )
    };
    Err(BisectError::Guilty {
        found: format!("{key}={value}"),
        why,
    })
}

/// How well the scores of a ranking find the marked rows.
pub(super) fn separation(rows: &[Ranked], mark: &(String, String)) -> Result<Guilty, BisectError> {
    let marked: Vec<bool> = rows.iter().map(|row| row.guilty == Some(true)).collect();
    let count = marked.iter().filter(|marked| **marked).count();
    let name = format!("{}={}", mark.0, mark.1);
    if count == 0 || count == rows.len() {
        let why = format!(
            "{count} of the {} rows of the window have it, so there is nothing to tell apart",
            rows.len()
        );
        return Err(BisectError::Guilty { found: name, why });
    }
    let mut scores = vec![
        (
            "push",
            rows.iter().map(|row| row.push).collect::<Vec<f64>>(),
        ),
        ("cosine", rows.iter().map(|row| row.cosine).collect()),
    ];
    let projections: Option<Vec<f64>> = rows.iter().map(|row| row.projection).collect();
    scores.extend(projections.map(|projections| ("projection", projections)));
    let scores = scores
        .into_iter()
        .map(|(score, values)| {
            Ok(Separation {
                score,
                auroc: auroc(&values, &marked, 0.95)?,
                enriched: SHARES.map(|share| enriched(&values, &marked, share)).into(),
                roc: roc(&values, &marked),
            })
        })
        .collect::<Result<_, BisectError>>()?;
    Ok(Guilty {
        mark: name,
        marked: count,
        rows: rows.len(),
        scores,
    })
}

/// Indices of the highest scores first.
fn ranked(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order
}

/// The marked rows among the first of them, at least one row.
fn enriched(values: &[f64], marked: &[bool], share: f64) -> Enriched {
    let rows = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
    let first = &ranked(values)[..rows];
    let found = first.iter().filter(|&&i| marked[i]).count();
    let base = marked.iter().filter(|marked| **marked).count() as f64 / marked.len() as f64;
    Enriched {
        share,
        rows,
        marked: found,
        times: found as f64 / rows as f64 / base,
    }
}

/// The curve, with one point for each distinct score.
fn roc(values: &[f64], marked: &[bool]) -> Vec<(f64, f64)> {
    let positives = marked.iter().filter(|marked| **marked).count() as f64;
    let negatives = marked.len() as f64 - positives;
    let order = ranked(values);
    let (mut hits, mut misses) = (0.0, 0.0);
    let mut points = vec![(0.0, 0.0)];
    for (at, &i) in order.iter().enumerate() {
        if marked[i] {
            hits += 1.0;
        } else {
            misses += 1.0;
        }
        let last = order
            .get(at + 1)
            .is_none_or(|&next| values[next] < values[i]);
        if last {
            points.push((misses / negatives, hits / positives));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_curve_by_hand() {
        // Scores 4 3 3 1 with marks + + - -: (0,0), (0, 1/2), (1/2, 1), (1, 1); area 7/8.
        let (values, marked) = ([4.0, 3.0, 3.0, 1.0], [true, true, false, false]);
        let points = roc(&values, &marked);
        assert_eq!(points, [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]);
        assert_eq!(auroc(&values, &marked, 0.95).unwrap().value, 0.875);
        let first = enriched(&values, &marked, 0.25);
        assert_eq!((first.rows, first.marked, first.times), (1, 1, 2.0));
    }

    proptest! {
        /// The trapezoids under the curve are DeLong's area.
        #[test]
        fn the_area_under_the_points_is_the_auroc(
            rows in proptest::collection::vec((0u8..6, any::<bool>()), 2..60),
        ) {
            let values: Vec<f64> = rows.iter().map(|(value, _)| f64::from(*value)).collect();
            let marked: Vec<bool> = rows.iter().map(|(_, marked)| *marked).collect();
            prop_assume!(marked.iter().any(|m| *m) && marked.iter().any(|m| !*m));
            let points = roc(&values, &marked);
            let area: f64 = points
                .windows(2)
                .map(|p| (p[1].0 - p[0].0) * (p[0].1 + p[1].1) / 2.0)
                .sum();
            let wanted = auroc(&values, &marked, 0.95).unwrap().value;
            prop_assert!((area - wanted).abs() < 1e-12, "{area} {wanted}");
        }
    }
}
