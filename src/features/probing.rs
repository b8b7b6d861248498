//! Sparse probing: how much one, two or five latents say about a label (Gurnee et al. 2023; SAEBench's `sparse_probing`).
//!
//! As SAEBench has it: codes are averaged over the tokens of a text, the k latents whose class means differ most are chosen
//! on training rows, a logistic probe on those alone is judged on test rows, beside the same on plain activations. Two
//! differences: the difference of means counts in units of the latent's deviation (`candlescope_probes::sparse`), and every
//! number has its interval.

use candlescope_probes::linear::{ChooseC, Kind, fit};
use candlescope_probes::roc::{Auroc, auroc};
use candlescope_probes::sparse::top_features;
use candlescope_probes::{Proportion, Score};
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{FeatureError, Splice};
use crate::activations::{Harvest, Policy, Reason};
use crate::model::Checkpoint;

/// The k of SAEBench.
pub const SPARSE_K: [usize; 3] = [1, 2, 5];
/// Inverse strength of the penalty on standardised values; scikit-learn's default, which SAEBench keeps.
const C: f64 = 1.0;
/// Of the intervals.
const LEVEL: f64 = 0.95;

/// Means over the tokens of each text: of codes `[texts, d_sae]` and of activations `[texts, d_in]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanCodes {
    /// Codes.
    pub codes: Array2<f32>,
    /// Activations.
    pub activations: Array2<f32>,
}

impl MeanCodes {
    /// Runs texts through a model, `batch` a pass. Tokens that the policy leaves out by position or id do not count; its
    /// norm is not asked, as a text has to keep its other tokens.
    ///
    /// # Errors
    /// The model, the dictionary; a text of which nothing is kept.
    pub fn of(
        checkpoint: &Checkpoint,
        splice: &Splice,
        texts: &[Vec<u32>],
        policy: &Policy,
        batch: usize,
    ) -> Result<Self, FeatureError> {
        let harvest = Harvest::new(&checkpoint.decoder, &[splice.read()])?;
        let dictionary = splice.dictionary();
        let (d_in, d_sae) = (dictionary.d_in(), dictionary.d_sae());
        let mut means = Self {
            codes: Array2::zeros((texts.len(), d_sae)),
            activations: Array2::zeros((texts.len(), d_in)),
        };
        let policy = Policy {
            norm: None,
            ..policy.clone()
        };
        let mut at = 0;
        for part in texts.chunks(batch.max(1)) {
            for tokens in harvest.pass(part, at as u64)? {
                let reasons = policy.judge(&tokens.ids, &[], &[]);
                let kept: Vec<usize> = (0..reasons.len())
                    .filter(|&i| reasons[i] == Reason::Kept)
                    .collect();
                if kept.is_empty() {
                    let what = format!(
                        "of text {at} no token is kept; give longer texts or another --drop"
                    );
                    return Err(FeatureError::Nothing { what });
                }
                let view = ArrayView2::from_shape((tokens.ids.len(), d_in), &tokens.values[0]);
                let rows = view
                    .map_err(candle_core::Error::wrap)?
                    .select(Axis(0), &kept);
                let codes = dictionary.encode(rows.view())?;
                let share = 1.0 / kept.len() as f64;
                let mut sums = vec![0.0_f64; d_sae];
                for (&latent, &value) in codes.latents.iter().zip(&codes.values) {
                    sums[latent as usize] += f64::from(value);
                }
                let out = means.codes.row_mut(at);
                out.into_iter()
                    .zip(sums)
                    .for_each(|(mean, sum)| *mean = (sum * share) as f32);
                let sums = rows.mapv(f64::from).sum_axis(Axis(0));
                let out = means.activations.row_mut(at);
                out.into_iter()
                    .zip(sums)
                    .for_each(|(mean, sum)| *mean = (sum * share) as f32);
                at += 1;
            }
        }
        Ok(means)
    }
}

/// What k values say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SparseProbe {
    /// How many.
    pub k: usize,
    /// Which, the most telling first.
    pub chosen: Vec<usize>,
    /// Share of the test rows that are told right at score 0.
    pub accuracy: Proportion,
    /// On the test rows.
    pub auroc: Auroc,
}

/// Fits on the rows `train` of `x` `[n, d]` and judges on the rows `test`, for each k.
///
/// # Errors
/// A k of 0 or beyond the width, a side with one class only.
pub fn sparse_probing(
    x: ArrayView2<f32>,
    labels: &[bool],
    [train, test]: [&[usize]; 2],
    ks: &[usize],
) -> Result<Vec<SparseProbe>, FeatureError> {
    let most = ks.iter().copied().max().unwrap_or(1);
    let of = |rows: &[usize]| -> Vec<bool> { rows.iter().map(|&i| labels[i]).collect() };
    let (seen, held_out) = (x.select(Axis(0), train), x.select(Axis(0), test));
    let (seen_labels, labels) = (of(train), of(test));
    let order = top_features(seen.view(), &seen_labels, most)?;
    let probe = |&k: &usize| {
        let chosen = order[..k].to_vec();
        let small = seen.select(Axis(1), &chosen);
        let probe = fit(
            Kind::Logistic,
            small.view(),
            &seen_labels,
            ChooseC::Fixed(C),
        )?;
        let scores = probe.scores(held_out.select(Axis(1), &chosen).view())?;
        let right = scores
            .iter()
            .zip(&labels)
            .filter(|(s, l)| (**s > 0.0) == **l)
            .count();
        Ok(SparseProbe {
            k,
            chosen,
            accuracy: Proportion::wilson(right as u64, labels.len() as u64, LEVEL)?,
            auroc: auroc(&scores, &labels, LEVEL)?,
        })
    };
    ks.iter().map(probe).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Column 3 says the label but for every tenth row, column 1 says it for those.
    #[test]
    fn one_column_says_most_and_two_say_all() {
        let n = 200;
        let labels: Vec<bool> = (0..n).map(|i| i % 2 == 0).collect();
        let x = Array2::from_shape_fn((n, 6), |(i, column)| {
            let (sign, tenth) = (if labels[i] { 1.0 } else { -1.0 }, i % 20 < 2);
            match column {
                3 if tenth => 0.0,
                3 => sign,
                1 if tenth => 3.0 * sign,
                // Noise that is the same for both classes.
                _ => ((i / 2 * 7 + column * 3) % 11) as f32 / 50.0,
            }
        });
        let (train, test): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| i % 40 < 20);
        let found = sparse_probing(x.view(), &labels, [&train, &test], &[1, 2]).unwrap();
        assert_eq!(found[0].chosen, [3]);
        assert_eq!(found[1].chosen, [3, 1]);
        assert!(found[0].accuracy.rate >= 0.9 && found[0].accuracy.rate < 1.0);
        assert_eq!(found[1].accuracy.rate, 1.0);
        assert_eq!(found[1].auroc.value, 1.0);
        assert!(sparse_probing(x.view(), &labels, [&train, &test], &[7]).is_err());
    }
}
