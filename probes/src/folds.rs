//! Who trains and who tests: seeded stratified folds, folds that keep groups whole, and out-of-fold scores.
//! A number measured on the items it was fitted on is not a measurement; this file is how to avoid it.

use ndarray::{ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

use crate::error::{ProbeError, at_least, both_classes, finite_rows, same_length};
use crate::random::{order, stream};

/// Something that turns one activation into a score, higher for the positive class.
pub trait Score {
    /// Length of the activations it reads.
    fn width(&self) -> usize;

    /// The score of one activation `[d]`.
    fn score(&self, activation: ArrayView1<f32>) -> f64;

    /// The scores of `[n, d]`; refuses another width and non-finite values.
    fn scores(&self, x: ArrayView2<f32>) -> Result<Vec<f64>, ProbeError> {
        same_length("activation width", self.width(), x.ncols())?;
        finite_rows("activations to score", x)?;
        Ok(x.rows().into_iter().map(|row| self.score(row)).collect())
    }
}

/// A fold number in `0..k` for each item, classes spread evenly.
pub fn stratified_folds(labels: &[bool], k: usize, seed: u64) -> Result<Vec<usize>, ProbeError> {
    at_least("folds", 2, k)?;
    both_classes(labels, k)?;
    let mut folds = vec![0; labels.len()];
    let mut next = 0;
    for class in [true, false] {
        let shuffled = order(&mut stream(seed, 0), labels.len());
        for item in shuffled.into_iter().filter(|&i| labels[i] == class) {
            folds[item] = next % k;
            next += 1;
        }
    }
    Ok(folds)
}

/// A fold number for each item such that no group (topic, template, paraphrase set) is split. Groups go, largest first
/// and in seeded order among equals, to the fold with the fewest items. Refuses a fold that would miss a class.
pub fn grouped_folds(
    groups: &[usize],
    labels: &[bool],
    k: usize,
    seed: u64,
) -> Result<Vec<usize>, ProbeError> {
    same_length("group ids", labels.len(), groups.len())?;
    at_least("folds", 2, k)?;
    let mut ids = groups.to_vec();
    ids.sort_unstable();
    ids.dedup();
    at_least("groups", k, ids.len())?;
    let size = |id: usize| groups.iter().filter(|&&g| g == id).count();
    let mut queue: Vec<usize> = order(&mut stream(seed, 0), ids.len())
        .into_iter()
        .map(|i| ids[i])
        .collect();
    queue.sort_by_key(|&id| std::cmp::Reverse(size(id)));
    let mut load = vec![0; k];
    let mut folds = vec![0; labels.len()];
    for id in queue {
        let lightest = (0..k).min_by_key(|&f| load[f]).unwrap_or(0);
        load[lightest] += size(id);
        for (item, _) in groups.iter().enumerate().filter(|&(_, &g)| g == id) {
            folds[item] = lightest;
        }
    }
    for fold in 0..k {
        let kept: Vec<bool> = (0..labels.len())
            .filter(|&i| folds[i] != fold)
            .map(|i| labels[i])
            .collect();
        both_classes(&kept, 1)?;
    }
    Ok(folds)
}

/// Folds that keep groups whole and spread both classes: groups go, largest first and in seeded order among equals, to the
/// fold that has the fewest items of the class that the group has most of, then the fewest items.
///
/// # Errors
/// Fewer groups than folds, lengths that differ. Whether each fold holds both classes is for its user to check.
pub fn balanced_group_folds(
    groups: &[usize],
    labels: &[bool],
    k: usize,
    seed: u64,
) -> Result<Vec<usize>, ProbeError> {
    same_length("group ids", labels.len(), groups.len())?;
    at_least("folds", 2, k)?;
    let mut members: std::collections::BTreeMap<usize, Vec<usize>> =
        std::collections::BTreeMap::new();
    for (item, &group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(item);
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    at_least("groups", k, members.len())?;
    let mut queue = order(&mut stream(seed, 0), members.len());
    queue.sort_by_key(|&g| std::cmp::Reverse(members[g].len()));
    let mut load = vec![[0usize; 2]; k];
    let mut folds = vec![0; labels.len()];
    for group in queue.into_iter().map(|g| &members[g]) {
        let positives = group.iter().filter(|&&i| labels[i]).count();
        let class = usize::from(2 * positives > group.len());
        let fold = (0..k)
            .min_by_key(|&f| (load[f][class], load[f][0] + load[f][1]))
            .unwrap_or(0);
        for &item in group {
            load[fold][usize::from(labels[item])] += 1;
            folds[item] = fold;
        }
    }
    Ok(folds)
}

/// Scores of each item by a probe that was fitted without its fold. `fit` gets the other folds' `[n', d]` and labels.
pub fn out_of_fold<P: Score>(
    x: ArrayView2<f32>,
    labels: &[bool],
    folds: &[usize],
    fit: impl Fn(ArrayView2<f32>, &[bool]) -> Result<P, ProbeError> + Sync,
) -> Result<Vec<f64>, ProbeError> {
    same_length("labels", x.nrows(), labels.len())?;
    same_length("fold ids", x.nrows(), folds.len())?;
    let k = folds.iter().max().map_or(0, |last| last + 1);
    at_least("folds", 2, k)?;
    let parts: Vec<Result<Vec<(usize, f64)>, ProbeError>> = (0..k)
        .into_par_iter()
        .map(|fold| {
            let (test, train): (Vec<usize>, Vec<usize>) =
                (0..labels.len()).partition(|&i| folds[i] == fold);
            let kept: Vec<bool> = train.iter().map(|&i| labels[i]).collect();
            let probe = fit(x.select(Axis(0), &train).view(), &kept)?;
            let scores = probe.scores(x.select(Axis(0), &test).view())?;
            Ok(test.into_iter().zip(scores).collect())
        })
        .collect();
    let mut out = vec![0.0; labels.len()];
    for part in parts {
        for (item, score) in part? {
            out[item] = score;
        }
    }
    Ok(out)
}
