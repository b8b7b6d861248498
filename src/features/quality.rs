//! What a model still does with a dictionary in its forward pass, and how well the dictionary rebuilds activations.
//!
//! Each context runs three times: as it is, spliced, and with the point set to zero. The same tokens are replaced in both
//! edited passes, those that training sees ([`Policy`]): first tokens, special tokens and outliers of the norm stay as they
//! are. `CE recovered = (CE_ablated − CE_spliced) / (CE_ablated − CE_clean)`, `KL score = 1 − KL_spliced / KL_ablated` with
//! `KL(clean ‖ edited)`, as SAELens has them; SAELens replaces every token. Intervals are bootstrapped over contexts.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};
use candlescope_probes::{Bootstrap, BootstrapOptions, Resampling, stats::bootstrap::bootstrap};
use candlescope_sae::measure::{Density, Measure, Quality};
use ndarray::{Array2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::splice::ablation;
use super::{FeatureError, Places, Splice};
use crate::activations::{Facts, Harvest, Policy, Reason, Tally};
use crate::hooks::{HookPoint, Hooks};
use crate::model::{Batch, Checkpoint, LogitsAt, ModelError};

/// How quality is measured.
#[derive(Debug, Clone)]
pub struct QualityOptions {
    /// Which tokens stay as they are and are not measured.
    pub policy: Policy,
    /// Contexts of one pass; its logits are held three times.
    pub batch: usize,
    /// Whether the model runs on behind the point: without, only the reconstruction is measured.
    pub downstream: bool,
    /// Of the intervals.
    pub bootstrap: BootstrapOptions,
}

/// What one context says, summed over its predictions from the first replaced token on; those before cannot change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ContextSums {
    /// Predictions.
    pub tokens: u64,
    /// Cross-entropy in nats: clean, spliced, ablated.
    pub ce: [f64; 3],
    /// `KL(clean ‖ edited)` in nats: spliced, ablated.
    pub kl: [f64; 2],
}

/// What the model still does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovered {
    /// Contexts.
    pub contexts: usize,
    /// Predictions.
    pub tokens: u64,
    /// Cross-entropy in nats per token: clean.
    pub ce_clean: f64,
    /// With the dictionary.
    pub ce_spliced: f64,
    /// With zeros.
    pub ce_ablated: f64,
    /// `KL(clean ‖ spliced)` in nats per token.
    pub kl_spliced: f64,
    /// `KL(clean ‖ ablated)`.
    pub kl_ablated: f64,
    /// `(CE_ablated − CE_spliced) / (CE_ablated − CE_clean)`; `None` where zeros do no harm.
    pub ce_recovered: Option<Bootstrap>,
    /// `1 − KL_spliced / KL_ablated`; `None` where zeros change nothing.
    pub kl_score: Option<Bootstrap>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// How well activations are rebuilt.
    pub quality: Quality,
    /// What the model still does; `None` where it was not asked for.
    pub recovered: Option<Recovered>,
    /// What was left out.
    pub tally: Tally,
    /// What each latent did.
    #[serde(skip)]
    pub density: Option<Density>,
}

/// Measures a dictionary on contexts of token ids. `progress` is told of tokens that are done.
///
/// # Errors
/// Contexts of which nothing is kept or predicted, the model, [`ModelError::Cancelled`] where `progress` breaks.
pub fn quality(
    checkpoint: &Checkpoint,
    splice: &Splice,
    contexts: &[Vec<u32>],
    options: &QualityOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Evaluation, FeatureError> {
    let medians = medians(checkpoint, splice, contexts, options)?;
    let mut measure = Measure::of(splice.dictionary());
    let mut tally = Tally::default();
    let mut sums = Vec::new();
    for batch in contexts.chunks(options.batch.max(1)) {
        let run = Run::clean(checkpoint, splice, batch, options, &medians)?;
        run.tally(&mut tally);
        run.measure(splice, &mut measure)?;
        if options.downstream {
            sums.extend(run.compare(checkpoint, splice)?);
        }
        let tokens = batch.iter().map(|ids| ids.len() as u64).sum();
        if progress(tokens).is_break() {
            return Err(ModelError::Cancelled.into());
        }
    }
    if measure.density().rows() == 0 {
        let what = format!(
            "of {} contexts no token is kept; give more text or another --drop",
            contexts.len()
        );
        return Err(FeatureError::Nothing { what });
    }
    let recovered = options
        .downstream
        .then(|| recovered(&sums, &options.bootstrap));
    Ok(Evaluation {
        quality: measure.quality(),
        recovered: recovered.transpose()?,
        tally,
        density: Some(measure.density().clone()),
    })
}

/// What each context says of the model with a dictionary in it, for whoever resamples contexts; no reconstruction.
///
/// # Errors
/// As [`quality`].
pub fn by_context(
    checkpoint: &Checkpoint,
    splice: &Splice,
    contexts: &[Vec<u32>],
    options: &QualityOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Vec<ContextSums>, FeatureError> {
    let options = &QualityOptions {
        downstream: true,
        ..options.clone()
    };
    let medians = medians(checkpoint, splice, contexts, options)?;
    let mut sums = Vec::with_capacity(contexts.len());
    for batch in contexts.chunks(options.batch.max(1)) {
        let run = Run::clean(checkpoint, splice, batch, options, &medians)?;
        sums.extend(run.compare(checkpoint, splice)?);
        let tokens = batch.iter().map(|ids| ids.len() as u64).sum();
        if progress(tokens).is_break() {
            return Err(ModelError::Cancelled.into());
        }
    }
    Ok(sums)
}

/// The median norm at each point, where the policy goes by it.
fn medians(
    checkpoint: &Checkpoint,
    splice: &Splice,
    contexts: &[Vec<u32>],
    options: &QualityOptions,
) -> Result<Vec<f64>, FeatureError> {
    if options.policy.norm.is_none() {
        return Ok(Vec::new());
    }
    let harvest = Harvest::new(&checkpoint.decoder, &points(splice))?;
    let rows = contexts.to_vec();
    let (facts, _) = Facts::measure(&harvest, &rows, &options.policy, options.batch.max(1))?;
    Ok(facts.points.iter().map(|point| point.median_norm).collect())
}

fn points(splice: &Splice) -> Vec<HookPoint> {
    let mut points = vec![splice.read(), splice.write()];
    points.dedup();
    points
}

/// A batch after its clean pass.
struct Run<'a> {
    contexts: &'a [Vec<u32>],
    batch: Batch,
    logits: Option<Tensor>,
    /// Values at each point, `[point][context]`, each `[tokens, width]`.
    values: Vec<Vec<Array2<f32>>>,
    reasons: Vec<Vec<Reason>>,
}

impl<'a> Run<'a> {
    fn clean(
        checkpoint: &Checkpoint,
        splice: &Splice,
        contexts: &'a [Vec<u32>],
        options: &QualityOptions,
        medians: &[f64],
    ) -> Result<Self, FeatureError> {
        let batch = Batch::new(contexts)?;
        let points = points(splice);
        let hooks = points
            .iter()
            .fold(Hooks::new(), |hooks, at| hooks.capture(*at));
        let wanted = if options.downstream {
            LogitsAt::All
        } else {
            LogitsAt::None
        };
        let out = checkpoint.decoder.forward(&batch, &hooks, wanted)?;
        let of_point = |at: &HookPoint| {
            let tensor = out.captured.get(at).ok_or(ModelError::Empty {
                what: "the pass captured nothing at a point",
            })?;
            let rows = (0..contexts.len()).map(|row| tokens(tensor, &batch, row));
            rows.collect::<Result<Vec<_>, FeatureError>>()
        };
        let values = points.iter().map(of_point).collect::<Result<Vec<_>, _>>()?;
        let reasons = contexts.iter().enumerate().map(|(row, ids)| {
            let norms: Vec<Vec<f64>> = values.iter().map(|point| norms(&point[row])).collect();
            options.policy.judge(ids, &norms, medians)
        });
        Ok(Self {
            reasons: reasons.collect(),
            contexts,
            batch,
            logits: out.logits,
            values,
        })
    }

    fn tally(&self, tally: &mut Tally) {
        self.reasons.iter().for_each(|reasons| tally.count(reasons));
    }

    fn places(&self) -> Places {
        let kept = |reasons: &Vec<Reason>| reasons.iter().map(|r| *r == Reason::Kept).collect();
        Places::new(self.reasons.iter().map(kept).collect())
    }

    /// The kept rows of all contexts at a point.
    fn kept(&self, point: usize) -> Array2<f32> {
        let width = self.values[point].first().map_or(0, Array2::ncols);
        let mut all = Array2::zeros((0, width));
        for (rows, reasons) in self.values[point].iter().zip(&self.reasons) {
            let kept: Vec<usize> = (0..reasons.len())
                .filter(|&i| reasons[i] == Reason::Kept)
                .collect();
            // The widths are the same by construction.
            let _ = all.append(Axis(0), rows.select(Axis(0), &kept).view());
        }
        all
    }

    fn measure(&self, splice: &Splice, measure: &mut Measure) -> Result<(), FeatureError> {
        let rows = self.kept(0);
        if rows.nrows() == 0 {
            return Ok(());
        }
        let target = self.kept(self.values.len() - 1);
        measure.run(splice.dictionary(), rows.view(), target.view())?;
        Ok(())
    }

    fn compare(
        &self,
        checkpoint: &Checkpoint,
        splice: &Splice,
    ) -> Result<Vec<ContextSums>, FeatureError> {
        let places = self.places();
        let pass = |edits| -> Result<Tensor, FeatureError> {
            let hooks = Hooks::new().edits(edits);
            let out = checkpoint
                .decoder
                .forward(&self.batch, &hooks, LogitsAt::All)?;
            Ok(out.logits()?)
        };
        let spliced = pass(splice.edits_at(Places::clone(&places)))?;
        let ablated = pass(vec![ablation(splice.write(), Places::clone(&places))])?;
        let Some(clean) = &self.logits else {
            return Ok(Vec::new());
        };
        let context = |(row, ids): (usize, &Vec<u32>)| {
            let Some(first) = places[row].iter().position(|&kept| kept) else {
                return Ok(ContextSums::default());
            };
            let logits = [clean, &spliced, &ablated].map(|logits| tokens(logits, &self.batch, row));
            let [clean, spliced, ablated] = logits;
            Ok(context_sums(ids, first, [&clean?, &spliced?, &ablated?]))
        };
        self.contexts.iter().enumerate().map(context).collect()
    }
}

/// The tokens of one row of a batch, `[tokens, width]`.
fn tokens(tensor: &Tensor, batch: &Batch, row: usize) -> Result<Array2<f32>, FeatureError> {
    let pad = batch.pad()[row];
    let tokens = batch.len() - pad;
    let values = tensor
        .get(row)?
        .narrow(0, pad, tokens)?
        .to_dtype(DType::F32)?;
    let values: Vec<f32> = values.flatten_all()?.to_vec1()?;
    let width = values.len() / tokens.max(1);
    Array2::from_shape_vec((tokens, width), values)
        .map_err(|e| FeatureError::Candle(candle_core::Error::wrap(e)))
}

fn norms(rows: &Array2<f32>) -> Vec<f64> {
    let norm = |row: ndarray::ArrayView1<f32>| {
        row.iter()
            .map(|&x| f64::from(x).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    rows.outer_iter().map(norm).collect()
}

/// Sums over the predictions of a context from its token `first` on; logits `[tokens, vocab]` clean, spliced, ablated.
fn context_sums(ids: &[u32], first: usize, logits: [&Array2<f32>; 3]) -> ContextSums {
    let at = |position: usize| {
        let rows = logits.map(|l| l.row(position).to_vec());
        let totals = [0, 1, 2].map(|i| log_sum_exp(&rows[i]));
        let next = ids[position + 1] as usize;
        let ce = [0, 1, 2].map(|i| totals[i] - f64::from(rows[i][next]));
        let kl = [1, 2].map(|i| divergence([&rows[0], &rows[i]], [totals[0], totals[i]]));
        (ce, kl)
    };
    let positions: Vec<usize> = (first..ids.len().saturating_sub(1)).collect();
    let found: Vec<([f64; 3], [f64; 2])> = positions.into_par_iter().map(at).collect();
    let mut sums = ContextSums::default();
    for (ce, kl) in found {
        sums.tokens += 1;
        sums.ce.iter_mut().zip(ce).for_each(|(sum, x)| *sum += x);
        sums.kl.iter_mut().zip(kl).for_each(|(sum, x)| *sum += x);
    }
    sums
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    most + sum.ln()
}

/// `KL(p ‖ q)` of two rows of logits with their log-sums.
fn divergence([p, q]: [&[f32]; 2], [of_p, of_q]: [f64; 2]) -> f64 {
    let terms = p.iter().zip(q).filter(|(p, _)| **p > f32::NEG_INFINITY);
    let sum: f64 = terms
        .map(|(&p, &q)| {
            let p = f64::from(p) - of_p;
            p.exp() * (p - (f64::from(q) - of_q))
        })
        .sum();
    sum.max(0.0)
}

/// The scores of some contexts with their intervals.
///
/// # Errors
/// No prediction; bootstrap settings that make no sense.
pub fn recovered(
    contexts: &[ContextSums],
    options: &BootstrapOptions,
) -> Result<Recovered, FeatureError> {
    let contexts: Vec<ContextSums> = contexts.iter().copied().filter(|c| c.tokens > 0).collect();
    let all: Vec<usize> = (0..contexts.len()).collect();
    let sum = |items: &[usize], of: &dyn Fn(&ContextSums) -> f64| {
        items.iter().map(|&i| of(&contexts[i])).sum::<f64>()
    };
    let tokens: u64 = contexts.iter().map(|c| c.tokens).sum();
    if tokens == 0 {
        let what = "no context has a token after its first kept one, so nothing is predicted; give longer texts";
        return Err(FeatureError::Nothing { what: what.into() });
    }
    let mean = |of: &dyn Fn(&ContextSums) -> f64| sum(&all, of) / tokens as f64;
    let ce_recovered = |items: &[usize]| {
        let [clean, spliced, ablated] = [0, 1, 2].map(|i| sum(items, &|c| c.ce[i]));
        ratio(ablated - spliced, ablated - clean)
    };
    let kl_score = |items: &[usize]| {
        let [spliced, ablated] = [0, 1].map(|i| sum(items, &|c| c.kl[i]));
        ratio(ablated - spliced, ablated)
    };
    let interval = |statistic: &(dyn Fn(&[usize]) -> f64 + Sync)| {
        let defined = statistic(&all).is_finite();
        defined
            .then(|| bootstrap(contexts.len(), Resampling::Items, options, statistic))
            .transpose()
    };
    Ok(Recovered {
        contexts: contexts.len(),
        tokens,
        ce_clean: mean(&|c| c.ce[0]),
        ce_spliced: mean(&|c| c.ce[1]),
        ce_ablated: mean(&|c| c.ce[2]),
        kl_spliced: mean(&|c| c.kl[0]),
        kl_ablated: mean(&|c| c.kl[1]),
        ce_recovered: interval(&ce_recovered)?,
        kl_score: interval(&kl_score)?,
    })
}

/// NaN where the denominator is not above 0: the bootstrap drops and counts such draws.
fn ratio(over: f64, under: f64) -> f64 {
    if under > 0.0 { over / under } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;

    #[test]
    fn scores_by_hand() {
        let contexts = [
            ContextSums {
                tokens: 10,
                ce: [20.0, 25.0, 60.0],
                kl: [2.0, 30.0],
            },
            ContextSums {
                tokens: 30,
                ce: [60.0, 75.0, 100.0],
                kl: [8.0, 50.0],
            },
            ContextSums::default(),
        ];
        let found = recovered(&contexts, &BootstrapOptions::default()).unwrap();
        assert_eq!((found.contexts, found.tokens), (2, 40));
        assert_eq!(
            [found.ce_clean, found.ce_spliced, found.ce_ablated],
            [2.0, 2.5, 4.0]
        );
        assert_eq!([found.kl_spliced, found.kl_ablated], [0.25, 2.0]);
        // (160 - 100) / (160 - 80) and 1 - 10 / 80.
        assert_eq!(found.ce_recovered.unwrap().estimate, 0.75);
        assert_eq!(found.kl_score.unwrap().estimate, 0.875);
    }

    #[test]
    fn zeros_that_do_no_harm_give_no_score() {
        let contexts = [ContextSums {
            tokens: 1,
            ce: [2.0, 2.0, 1.0],
            kl: [0.0, 0.0],
        }; 3];
        let found = recovered(&contexts, &BootstrapOptions::default()).unwrap();
        assert_eq!((found.ce_recovered, found.kl_score), (None, None));
        assert!(recovered(&[ContextSums::default()], &BootstrapOptions::default()).is_err());
    }

    #[test]
    fn a_context_by_hand() {
        let third = array![[0.0_f32, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]];
        let sure = array![[9.0_f32, 0.0, 0.0], [0.0, 2_f32.ln(), 0.0], [0.0, 0.0, 0.0]];
        // From token 1 on there is one prediction: of token 1, by row 1.
        let sums = context_sums(&[0, 2, 1], 1, [&third, &sure, &third]);
        assert_eq!(sums.tokens, 1);
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        };
        near(sums.ce[0], 3_f64.ln());
        near(sums.ce[1], 2_f64.ln());
        // 1/3 against (1/4, 1/2, 1/4).
        near(
            sums.kl[0],
            (2.0 * (4_f64 / 3.0).ln() + (2_f64 / 3.0).ln()) / 3.0,
        );
        assert_eq!(sums.kl[1], 0.0);
    }
}
