//! Two models over the same contexts: their rows at the same tokens.

use ndarray::{Array2, Axis};

use super::CompareOptions;
use crate::activations::{Facts, Harvest, Policy, Reason, Tally};
use crate::features::FeatureError;
use crate::hooks::HookPoint;
use crate::model::Checkpoint;

/// Both models, with the points that are taken from each.
pub struct Pairs<'a> {
    harvests: [Harvest<'a>; 2],
    medians: [Vec<f64>; 2],
    policy: Policy,
}

/// The kept tokens of a context.
#[derive(Debug, Clone)]
pub struct PairedContext {
    /// Where in the context each row is.
    pub positions: Vec<usize>,
    /// Rows of each model at each of its points, `[model][point]`, each `[kept, width]`.
    pub rows: [Vec<Array2<f32>>; 2],
    /// Why tokens were left out, on either.
    pub reasons: Vec<Reason>,
}

impl<'a> Pairs<'a> {
    /// Looks at the first contexts on both, where the policy goes by norms.
    ///
    /// # Errors
    /// Models of different tokenizers, a point that a model lacks, a policy that keeps nothing.
    pub fn new(
        models: [&'a Checkpoint; 2],
        points: [&[HookPoint]; 2],
        contexts: &[Vec<u32>],
        options: &CompareOptions,
    ) -> Result<Self, FeatureError> {
        let [a, b] = models;
        if a.fingerprint()?.tokenizer != b.fingerprint()?.tokenizer {
            let what = format!(
                "{} and {} have different tokenizers, so no token of one is a token of the other; compare checkpoints of one \
                 family",
                a.name, b.name
            );
            return Err(FeatureError::Nothing { what });
        }
        let harvests = [
            Harvest::new(&a.decoder, points[0])?,
            Harvest::new(&b.decoder, points[1])?,
        ];
        let mut medians = [Vec::new(), Vec::new()];
        if options.policy.norm.is_some() {
            let rows = contexts.to_vec();
            for (harvest, medians) in harvests.iter().zip(&mut medians) {
                let batch = options.batch.max(1);
                let (facts, _) = Facts::measure(harvest, &rows, &options.policy, batch)?;
                *medians = facts.points.iter().map(|p| p.median_norm).collect();
            }
        }
        Ok(Self {
            harvests,
            medians,
            policy: options.policy.clone(),
        })
    }

    /// The width of each model's rows, all its points together.
    pub fn widths(&self) -> [usize; 2] {
        [0, 1].map(|m| self.harvests[m].widths().iter().sum())
    }

    /// One pass of both over some contexts; `first` is the number of the first.
    ///
    /// # Errors
    /// The models; values that are not finite.
    pub fn pass(
        &self,
        contexts: &[Vec<u32>],
        first: usize,
    ) -> Result<Vec<PairedContext>, FeatureError> {
        let [a, b] = &self.harvests;
        let found = [
            a.pass(contexts, first as u64)?,
            b.pass(contexts, first as u64)?,
        ];
        let context = |i: usize| {
            let tokens = [0, 1].map(|m| &found[m][i]);
            let [a, b] = [0, 1].map(|m| {
                let norms = tokens[m].norms();
                self.policy.judge(&tokens[m].ids, &norms, &self.medians[m])
            });
            let either = |(a, b): (&Reason, &Reason)| if *a == Reason::Kept { *b } else { *a };
            let reasons: Vec<Reason> = a.iter().zip(&b).map(either).collect();
            let positions: Vec<usize> = (0..reasons.len())
                .filter(|&at| reasons[at] == Reason::Kept)
                .collect();
            let rows = [0, 1].map(|m| {
                let points = tokens[m].values.iter().zip(self.harvests[m].widths());
                let kept = |(values, width): (&Vec<f32>, &usize)| {
                    let all = Array2::from_shape_vec((reasons.len(), *width), values.clone());
                    // A harvest gives as many values as tokens times the width.
                    let all = all.unwrap_or_else(|_| Array2::zeros((reasons.len(), *width)));
                    all.select(Axis(0), &positions)
                };
                points.map(kept).collect()
            });
            PairedContext {
                positions,
                rows,
                reasons,
            }
        };
        Ok((0..contexts.len()).map(context).collect())
    }
}

impl PairedContext {
    /// Counts what was left out.
    pub fn tally(&self, tally: &mut Tally) {
        tally.count(&self.reasons);
    }
}
