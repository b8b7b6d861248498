//! Is it only the words? A bag-of-words logistic baseline, the margin of a probe over it, and the length baseline.
//! Works on any ordered token: ids, or lower-cased words from [`words`].

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::error::{ProbeError, at_least, same_length};
use crate::folds::Score;
use crate::logistic::{LogisticOptions, LogisticProbe};
use crate::roc::{Auroc, AurocDifference, auroc, delong_paired};

/// The lower-cased words of a text: runs of letters, digits and apostrophes.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// A logistic probe on which tokens of the training vocabulary a document holds.
#[derive(Debug, Clone, PartialEq)]
pub struct BagOfWords<T> {
    vocabulary: BTreeMap<T, usize>,
    probe: LogisticProbe,
}

impl<T: Ord + Clone> BagOfWords<T> {
    /// Fits on documents `[n]` and labels `[n]`. Features are 0 or 1, not standardised: a word seen once would otherwise
    /// outweigh one seen often. The vocabulary is that of these documents, so give it the training documents only.
    pub fn fit(
        documents: &[Vec<T>],
        labels: &[bool],
        options: &LogisticOptions,
    ) -> Result<Self, ProbeError> {
        same_length("labels", documents.len(), labels.len())?;
        let distinct: BTreeSet<&T> = documents.iter().flatten().collect();
        at_least("distinct tokens", 1, distinct.len())?;
        let vocabulary: BTreeMap<T, usize> = distinct.into_iter().cloned().zip(0..).collect();
        let options = LogisticOptions {
            standardise: false,
            ..options.clone()
        };
        let probe = LogisticProbe::fit(presence(&vocabulary, documents).view(), labels, &options)?;
        Ok(Self { vocabulary, probe })
    }

    /// Number of distinct tokens it knows.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// Logits of the documents, `[n]`. Unknown tokens are ignored.
    pub fn scores(&self, documents: &[Vec<T>]) -> Result<Vec<f64>, ProbeError> {
        self.probe
            .scores(presence(&self.vocabulary, documents).view())
    }

    /// The `count` tokens that speak most for the positive class, with their weights, strongest first.
    pub fn strongest(&self, count: usize) -> Vec<(T, f64)> {
        let mut weighted: Vec<(T, f64)> = self
            .vocabulary
            .iter()
            .map(|(token, &column)| (token.clone(), self.probe.weights[column]))
            .collect();
        weighted.sort_by(|a, b| b.1.total_cmp(&a.1));
        weighted.truncate(count);
        weighted
    }
}

fn presence<T: Ord>(vocabulary: &BTreeMap<T, usize>, documents: &[Vec<T>]) -> Array2<f32> {
    let mut x = Array2::zeros((documents.len(), vocabulary.len()));
    for (row, document) in documents.iter().enumerate() {
        for column in document.iter().filter_map(|token| vocabulary.get(token)) {
            x[[row, *column]] = 1.0;
        }
    }
    x
}

/// Out-of-fold bag-of-words logits, `[n]`, to set beside the out-of-fold scores of a probe on the same `folds`.
pub fn bag_of_words_out_of_fold<T: Ord + Clone>(
    documents: &[Vec<T>],
    labels: &[bool],
    folds: &[usize],
    options: &LogisticOptions,
) -> Result<Vec<f64>, ProbeError> {
    same_length("labels", documents.len(), labels.len())?;
    same_length("fold ids", documents.len(), folds.len())?;
    let k = folds.iter().max().map_or(0, |last| last + 1);
    at_least("folds", 2, k)?;
    let mut out = vec![0.0; labels.len()];
    for fold in 0..k {
        let (test, train): (Vec<usize>, Vec<usize>) =
            (0..labels.len()).partition(|&i| folds[i] == fold);
        let of = |items: &[usize]| {
            items
                .iter()
                .map(|&i| documents[i].clone())
                .collect::<Vec<_>>()
        };
        let kept: Vec<bool> = train.iter().map(|&i| labels[i]).collect();
        let bag = BagOfWords::fit(&of(&train), &kept, options)?;
        for (item, score) in test.iter().zip(bag.scores(&of(&test))?) {
            out[*item] = score;
        }
    }
    Ok(out)
}

/// How much better a probe ranks than a bag of words does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LexicalMargin {
    /// Number of items.
    pub n: usize,
    /// The probe's AUROC.
    pub probe: Auroc,
    /// The bag of words' AUROC.
    pub bag_of_words: Auroc,
    /// AUROC of the probe minus that of the bag of words, by paired DeLong.
    pub margin: AurocDifference,
}

/// Compares held-out scores `[n]` of a probe with held-out scores of a bag of words on the same items.
pub fn lexical_margin(
    probe_scores: &[f64],
    bag_scores: &[f64],
    labels: &[bool],
    level: f64,
) -> Result<LexicalMargin, ProbeError> {
    Ok(LexicalMargin {
        n: labels.len(),
        probe: auroc(probe_scores, labels, level)?,
        bag_of_words: auroc(bag_scores, labels, level)?,
        margin: delong_paired(bag_scores, probe_scores, labels, level)?,
    })
}

/// How well mere length tells the classes apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LengthBaseline {
    /// Number of items.
    pub n: usize,
    /// AUROC of length as a score; far from 0.5 on either side is a confound.
    pub auroc: Auroc,
    /// max(A, 1 − A): what a classifier that may choose the sign gets.
    pub best: f64,
}

/// The length baseline from token counts `[n]`.
pub fn length_baseline(
    lengths: &[usize],
    labels: &[bool],
    level: f64,
) -> Result<LengthBaseline, ProbeError> {
    let scores: Vec<f64> = lengths.iter().map(|&l| l as f64).collect();
    let auroc = auroc(&scores, labels, level)?;
    Ok(LengthBaseline {
        n: labels.len(),
        auroc,
        best: auroc.value.max(1.0 - auroc.value),
    })
}
