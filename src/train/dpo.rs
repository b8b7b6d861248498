//! Direct preference optimisation and its family: which losses there are is `loss/kinds.rs`.
//!
//! Always: the reference is the model that the run began with, whose log-probabilities are computed once, before the first
//! step, and kept; a resumed run computes the same ones again. At the first step policy and reference are one model.

use candle_core::{DType, Tensor};
use candlescope_ops::TokenLogprobs;

use super::{
    Bench, Config, Method, TrainError,
    bench::value,
    data::Loaded,
    log::Numbers,
    loss::{Metrics, Pairs, Preference, Scored, sum_runs},
    method::Facts,
    pairs,
    targets::Targets,
};
use crate::model::{Batch, Decoder};
use crate::text::dataset::Pair;

/// The method.
pub struct Dpo {
    loss: Preference,
    batch_size: usize,
    accumulation: usize,
    train: Loaded<Pair>,
    eval: Vec<Pair>,
    /// The reference's log-probabilities of chosen and rejected answers, where the loss has a reference.
    reference: Option<Vec<[f32; 2]>>,
    eval_reference: Option<Vec<[f32; 2]>>,
    facts: Facts,
}

impl Dpo {
    /// With its data; runs `reference` over all of it where the loss has a reference.
    ///
    /// # Errors
    /// The model's.
    pub fn new(
        config: &Config,
        loss: Preference,
        (train, eval): (Loaded<Pair>, Option<Loaded<Pair>>),
        reference: &Decoder,
    ) -> Result<Self, TrainError> {
        let eval = eval.map(|eval| eval.items).unwrap_or_default();
        let batch_size = config.optim.batch_size;
        let of = |pairs: &[Pair]| -> Result<Option<Vec<[f32; 2]>>, TrainError> {
            let needed = loss.kind().needs_reference();
            needed
                .then(|| referred(reference, pairs, batch_size))
                .transpose()
        };
        Ok(Self {
            reference: of(&train.items)?,
            eval_reference: of(&eval)?,
            facts: pairs::facts(&train, eval.len()),
            loss,
            batch_size,
            accumulation: config.optim.accumulation,
            train,
            eval,
        })
    }

    /// The loss of some pairs, given what the policy says of their answers and, for ORPO, of their prompts.
    fn scored(
        &self,
        pairs: &[&Pair],
        said: &TokenLogprobs,
        reference: Option<Vec<[f32; 2]>>,
        (count, tokens): (usize, usize),
    ) -> Result<Scored, TrainError> {
        let (n, lengths) = (pairs.len(), pairs::lengths(pairs));
        let answers: usize = lengths.iter().sum();
        let chosen: usize = lengths[..n].iter().sum();
        let sums = sum_runs(&said.logps.narrow(0, 0, answers)?, &lengths)?;
        let reference = reference
            .map(|both| {
                let of = |which: usize| {
                    Tensor::new(
                        both.iter().map(|r| r[which]).collect::<Vec<_>>(),
                        said.logps.device(),
                    )
                };
                Ok::<_, TrainError>((of(0)?, of(1)?))
            })
            .transpose()?;
        let likelihood = if self.loss.kind().needs_likelihood() {
            let prompts = said.logps.elem_count() - answers;
            let mut sum = said.logps.narrow(0, 0, chosen)?.sum_all()?;
            if prompts > 0 {
                sum = (sum + said.logps.narrow(0, answers, prompts)?.sum_all()?)?;
            }
            Some(sum)
        } else {
            None
        };
        let batch = Pairs {
            chosen: &sums.narrow(0, 0, n)?,
            rejected: &sums.narrow(0, n, n)?,
            reference: reference.as_ref().map(|(c, r)| (c, r)),
            chosen_tokens: &lengths[..n],
            rejected_tokens: &lengths[n..],
            likelihood: likelihood.as_ref().map(|sum| (sum, tokens)),
        };
        let mut scored = self.loss.of(&batch, count)?;
        let list = |t: &Tensor| t.detach().to_dtype(DType::F64)?.to_vec1::<f64>();
        let (logits, entropy) = (list(&said.mean_logit)?, list(&said.entropy)?);
        let metrics = &mut scored.metrics;
        metrics.mean("logits/chosen", logits[..chosen].iter().copied());
        metrics.mean("logits/rejected", logits[chosen..answers].iter().copied());
        metrics.mean("entropy", entropy[..answers].iter().copied());
        let hits = said.top1[..chosen]
            .iter()
            .map(|&hit| f64::from(u8::from(hit)));
        metrics.mean("mean_token_accuracy", hits);
        Ok(scored)
    }

    fn targets(&self, pairs: &[&Pair]) -> Result<(Batch, Targets), TrainError> {
        targets(pairs, self.loss.kind().needs_likelihood())
    }

    /// Tokens of the likelihood that ORPO adds.
    fn likelihood_tokens<'a>(pairs: impl Iterator<Item = &'a Pair>) -> usize {
        pairs
            .map(|pair| (pair.prompt.len() + pair.chosen.len()).saturating_sub(1))
            .sum()
    }
}

/// All answers of the batch, chosen then rejected; then the prompts of the chosen ones where they are wanted.
fn targets(pairs: &[&Pair], prompts: bool) -> Result<(Batch, Targets), TrainError> {
    let batch = pairs::batch(pairs)?;
    let mut targets = Targets::default();
    for row in 0..batch.rows() {
        let prompt = pairs[row % pairs.len()].prompt.len();
        targets.add(&batch, row, prompt.max(1)..batch.row(row).len());
    }
    if prompts {
        for (row, pair) in pairs.iter().enumerate() {
            targets.add(&batch, row, 1..pair.prompt.len());
        }
    }
    Ok((batch, targets))
}

/// Log-probabilities of both answers of each pair under a model that does not train.
fn referred(
    decoder: &Decoder,
    pairs: &[Pair],
    batch_size: usize,
) -> Result<Vec<[f32; 2]>, TrainError> {
    let mut all = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(batch_size) {
        let pairs: Vec<&Pair> = pairs.iter().collect();
        let (batch, targets) = targets(&pairs, false)?;
        let said = targets.by(decoder, &batch)?;
        let sums = sum_runs(&said.logps, &pairs::lengths(&pairs))?.to_vec1::<f32>()?;
        let (chosen, rejected) = sums.split_at(pairs.len());
        all.extend(chosen.iter().zip(rejected).map(|(c, r)| [*c, *r]));
    }
    Ok(all)
}

impl Method for Dpo {
    fn name(&self) -> &'static str {
        "dpo"
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let size = self.batch_size.saturating_mul(self.accumulation);
        let window = bench.sampler.batch(self.train.items.len(), size);
        let of_window = window.iter().map(|&row| &self.train.items[row]);
        let counts = (window.len(), Self::likelihood_tokens(of_window));
        let step = bench.step() + 1;
        let (mut total, mut metrics) = (0.0, Metrics::new());
        for rows in window.chunks(self.batch_size) {
            let pairs: Vec<&Pair> = rows.iter().map(|&row| &self.train.items[row]).collect();
            let (batch, targets) = self.targets(&pairs)?;
            bench.draw_dropout();
            let said = targets.by_policy(bench, &batch)?;
            let known = self.reference.as_ref();
            let reference = known.map(|all| rows.iter().map(|&row| all[row]).collect());
            let scored = self.scored(&pairs, &said, reference, counts)?;
            let share = value(&scored.loss)?;
            if !share.is_finite() {
                return Err(pairs::not_finite(&self.train, rows, (step, "loss", share)));
            }
            total += share;
            metrics.add(&scored.metrics);
            bench.accumulate(&scored.loss)?;
            bench.tokens += pairs
                .iter()
                .map(|pair| pairs::tokens(pair) as u64)
                .sum::<u64>();
        }
        pairs::finish(bench, &self.train, &window, (step, total), &metrics)
    }

    fn evaluate(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let decoder = bench.policy.decoder();
        let counts = (self.eval.len(), Self::likelihood_tokens(self.eval.iter()));
        let (mut total, mut metrics) = (0.0, Metrics::new());
        for (at, pairs) in self.eval.chunks(self.batch_size).enumerate() {
            let first = at * self.batch_size;
            let known = self.eval_reference.as_ref();
            let reference = known.map(|all| all[first..first + pairs.len()].to_vec());
            let pairs: Vec<&Pair> = pairs.iter().collect();
            let (batch, targets) = self.targets(&pairs)?;
            let said = targets.by(decoder, &batch)?;
            let scored = self.scored(&pairs, &said, reference, counts)?;
            total += value(&scored.loss)?;
            metrics.add(&scored.metrics);
        }
        let mut numbers = Numbers::new();
        numbers.set("loss", total);
        numbers.set_all(&metrics);
        Ok(numbers)
    }

    fn asked(&self) -> Vec<&[u32]> {
        self.eval
            .iter()
            .map(|pair| pair.prompt.as_slice())
            .collect()
    }
}
