//! Direct preference optimisation and its family: which losses there are is `loss/kinds.rs`.
//!
//! Always: the reference never changes. Its log-probabilities are computed once, before the first step, and kept in the run's
//! folder (`kept.rs`), or batch by batch beside the policy's; where it is the model that the policy begins as, the first step
//! checks that they agree.

use candle_core::{DType, Tensor};
use candlescope_ops::TokenLogprobs;

use serde_json::{Map, Value};

use super::{
    Bench, Config, Method, RunFolder, TrainError,
    bench::value,
    config,
    data::Loaded,
    examples::{Examples, Taught},
    kept::{self, Key, Table},
    log::Numbers,
    loss::{Metrics, Pairs, Preference, Scored, sum_runs},
    method::Facts,
    pairs,
    reference::{Frozen, expect_equal},
    targets::Targets,
};
use crate::model::{Batch, Decoder};
use crate::text::dataset::Pair;

/// The method.
pub struct Dpo {
    loss: Preference,
    tail: Tail,
    batch_size: usize,
    accumulation: usize,
    train: Loaded<Pair>,
    eval: Vec<Pair>,
    /// Where the loss has one.
    reference: Option<Compared>,
    facts: Facts,
}

/// What the tokens of an answer count beyond the length of the pair's shorter one (LD-DPO, arXiv:2409.06411).
#[derive(Debug, Clone, Copy)]
struct Tail(Option<f64>);

impl Tail {
    /// Log-probabilities of answers `[tokens]`, the chosen ones first, summed over each: `[2 * pairs]`.
    fn sums(self, logps: &Tensor, pairs: &[&Pair]) -> Result<Tensor, TrainError> {
        let lengths = pairs::lengths(pairs);
        let Some(alpha) = self.0 else {
            return Ok(sum_runs(logps, &lengths)?);
        };
        let shared = pairs
            .iter()
            .map(|pair| pair.chosen.len().min(pair.rejected.len()));
        let both = shared.clone().chain(shared).zip(&lengths);
        let counts: Vec<f64> = both
            .flat_map(|(shared, &n)| (0..n).map(move |at| if at < shared { 1.0 } else { alpha }))
            .collect();
        let counts = Tensor::new(counts, logps.device())?.to_dtype(logps.dtype())?;
        Ok(sum_runs(&(logps * counts)?, &lengths)?)
    }
}

/// A reference and what it says.
struct Compared {
    /// Whether the first step must find the policy there.
    begins_there: bool,
    /// The model, until its numbers are kept.
    model: Model,
    /// Log-probabilities of chosen and rejected answers of all rows: of training, and of evaluation.
    kept: Option<[Vec<[f32; 2]>; 2]>,
    precomputes: bool,
}

/// A reference that is or is not in memory.
enum Model {
    /// With what its numbers depend on.
    Frozen(Box<(Frozen, Key)>),
    /// It runs beside the policy.
    Running(Box<Decoder>),
    /// It has said everything.
    Freed,
}

impl Dpo {
    /// With its data, and the reference where the loss has one.
    pub fn new(
        config: &Config,
        (loss, options): (Preference, &config::Dpo),
        (train, eval): (Loaded<Pair>, Option<Loaded<Pair>>),
        reference: Option<(Frozen, Key)>,
    ) -> Self {
        let eval = eval.map(|eval| eval.items).unwrap_or_default();
        let reference = reference.map(|(frozen, key)| Compared {
            begins_there: frozen.begins_there,
            model: Model::Frozen(Box::new((frozen, key))),
            kept: None,
            precomputes: options.precompute_reference.unwrap_or(true),
        });
        Self {
            reference,
            facts: pairs::facts(&train, eval.len()),
            loss,
            tail: Tail(options.ld_alpha),
            batch_size: config.optim.batch_size,
            accumulation: config.optim.accumulation,
            train,
            eval,
        }
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
        let sums = self.tail.sums(&said.logps.narrow(0, 0, answers)?, pairs)?;
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

    /// What the reference says of these rows of training (0) or evaluation (1).
    fn referred(
        &self,
        (of, rows): (usize, &[usize]),
        pairs: &[&Pair],
    ) -> Result<Option<Vec<[f32; 2]>>, TrainError> {
        let Some(compared) = &self.reference else {
            return Ok(None);
        };
        if let Some(kept) = &compared.kept {
            return Ok(Some(rows.iter().map(|&row| kept[of][row]).collect()));
        }
        match &compared.model {
            Model::Running(decoder) => referred(decoder, pairs, self.tail).map(Some),
            Model::Frozen(..) | Model::Freed => Ok(None),
        }
    }

    /// At the first step, where the policy begins as its reference.
    fn expect_at_reference(
        &self,
        step: u64,
        (said, pairs): (&TokenLogprobs, &[&Pair]),
        reference: Option<&Vec<[f32; 2]>>,
    ) -> Result<(), TrainError> {
        let begins_there = self.reference.as_ref().is_some_and(|r| r.begins_there);
        let Some(reference) = reference.filter(|_| begins_there && step == 1) else {
            return Ok(());
        };
        let lengths = pairs::lengths(pairs);
        let answers = said.logps.narrow(0, 0, lengths.iter().sum())?.detach();
        let sums = self
            .tail
            .sums(&answers, pairs)?
            .to_dtype(DType::F64)?
            .to_vec1::<f64>()?;
        let of = |which: usize| reference.iter().map(move |both| f64::from(both[which]));
        let reference: Vec<f64> = of(0).chain(of(1)).collect();
        expect_equal(step, &sums, &reference, &lengths)
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
fn referred(decoder: &Decoder, pairs: &[&Pair], tail: Tail) -> Result<Vec<[f32; 2]>, TrainError> {
    let (batch, targets) = targets(pairs, false)?;
    let said = targets.by(decoder, &batch)?;
    let sums = tail.sums(&said.logps, pairs)?.to_vec1::<f32>()?;
    let (chosen, rejected) = sums.split_at(pairs.len());
    Ok(chosen.iter().zip(rejected).map(|(c, r)| [*c, *r]).collect())
}

/// [`referred`] of all pairs, the chosen ones' numbers first.
fn all_referred(
    decoder: &Decoder,
    pairs: &[Pair],
    (batch_size, tail): (usize, Tail),
) -> Result<Vec<f32>, TrainError> {
    let (mut chosen, mut rejected) = (Vec::new(), Vec::new());
    for pairs in pairs.chunks(batch_size) {
        for [c, r] in referred(decoder, &pairs.iter().collect::<Vec<_>>(), tail)? {
            chosen.push(c);
            rejected.push(r);
        }
    }
    chosen.extend(rejected);
    Ok(chosen)
}

/// Kept numbers, `chosen` then `rejected`, as pairs.
fn paired(table: &Table, name: &str) -> Vec<[f32; 2]> {
    let numbers = table.get(name).map(Vec::as_slice).unwrap_or_default();
    let (chosen, rejected) = numbers.split_at(numbers.len() / 2);
    chosen.iter().zip(rejected).map(|(c, r)| [*c, *r]).collect()
}

impl Method for Dpo {
    fn name(&self) -> &'static str {
        "dpo"
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn ready(
        &mut self,
        _bench: &Bench,
        folder: &RunFolder,
    ) -> Result<Map<String, Value>, TrainError> {
        let mut fields = Map::new();
        let Some(compared) = &mut self.reference else {
            return Ok(fields);
        };
        let Model::Frozen(frozen) = &compared.model else {
            return Ok(fields);
        };
        let (frozen, key) = &**frozen;
        if !compared.precomputes {
            compared.model = Model::Running(Box::new(frozen.decoder()?));
            return Ok(fields);
        }
        let key = key
            .clone()
            .with("ld_alpha", self.tail.0.unwrap_or(1.0))
            .with_rows("rows", &self.train.items)
            .with_rows("evaluation rows", &self.eval);
        let (table, source) = kept::kept_or(folder, &key, || {
            let decoder = frozen.decoder()?;
            let all = |pairs: &[Pair]| all_referred(&decoder, pairs, (self.batch_size, self.tail));
            Ok(Table::from([
                ("train".to_owned(), all(&self.train.items)?),
                ("eval".to_owned(), all(&self.eval)?),
            ]))
        })?;
        compared.kept = Some(["train", "eval"].map(|name| paired(&table, name)));
        compared.model = Model::Freed;
        fields.insert("reference_logps".into(), source.words().into());
        Ok(fields)
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
            let reference = self.referred((0, rows), &pairs)?;
            self.expect_at_reference(step, (&said, &pairs), reference.as_ref())?;
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
            let rows: Vec<usize> = (first..first + pairs.len()).collect();
            let pairs: Vec<&Pair> = pairs.iter().collect();
            let reference = self.referred((1, &rows), &pairs)?;
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

    fn examples(&self) -> Option<&dyn Examples> {
        Some(self)
    }

    fn asked(&self) -> Vec<&[u32]> {
        self.eval
            .iter()
            .map(|pair| pair.prompt.as_slice())
            .collect()
    }
}

impl Examples for Dpo {
    fn of_row(&self, row: usize) -> Vec<usize> {
        vec![row]
    }

    fn place(&self, example: usize) -> String {
        self.train.name(example)
    }

    fn loss(&self, bench: &Bench, example: usize) -> Result<Tensor, TrainError> {
        let pairs = [&self.train.items[example]];
        let (batch, targets) = self.targets(&pairs)?;
        let said = targets.by_policy(bench, &batch)?;
        let reference = self.referred((0, &[example]), &pairs)?;
        let counts = (1, Self::likelihood_tokens(pairs.into_iter()));
        Ok(self.scored(&pairs, &said, reference, counts)?.loss)
    }

    fn taught(&self, example: usize) -> Vec<Taught> {
        let Pair {
            prompt,
            chosen,
            rejected,
            ..
        } = &self.train.items[example];
        let answers = [(chosen, 1.0), (rejected, -1.0)];
        let taught = answers.map(|(answer, sign)| Taught::answer(prompt, answer, sign));
        taught.into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;

    #[test]
    fn tokens_beyond_the_shorter_answer_count_alpha() {
        let pair = |chosen: usize, rejected: usize| Pair {
            prompt: vec![1],
            chosen: vec![2; chosen],
            rejected: vec![3; rejected],
            margin: None,
        };
        let pairs = [pair(3, 1), pair(1, 2)];
        let pairs: Vec<&Pair> = pairs.iter().collect();
        // Chosen: 3 tokens, 1 token; rejected: 1 token, 2 tokens.
        let logps = [1.0f64, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
        let logps = Tensor::new(&logps, &Device::Cpu).unwrap();
        let sums = |tail| {
            Tail(tail)
                .sums(&logps, &pairs)
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()
        };
        assert_eq!(sums(Some(0.5)), [1.0 + 3.0, 8.0, 16.0, 32.0 + 32.0]);
        assert_eq!(sums(Some(0.0)), [1.0, 8.0, 16.0, 32.0]);
        assert_eq!(sums(Some(1.0)), sums(None));
    }
}
