//! A reward model from pairs of answers: the Bradley-Terry loss on a score head at each answer's last token.
//!
//! A run that has held-out pairs ends with a report on them: `report.rs`.
//!
//! Always: scores are read at the last token of prompt and answer, found by length; the same pair scores the same whatever
//! stands beside it.

use candle_core::Tensor;

use super::{
    Bench, Config, Method, Report, TrainError,
    bench::value,
    data::Loaded,
    log::Numbers,
    loss::{Metrics, RewardLoss, Scored, calibration::PairScore, interval::Resampling},
    method::Facts,
    pairs, report,
};
use crate::model::score::scores;
use crate::text::dataset::Pair;

/// The method.
pub struct Reward {
    loss: RewardLoss,
    batch_size: usize,
    accumulation: usize,
    train: Loaded<Pair>,
    eval: Vec<Pair>,
    /// The held-out pairs as they were scored at the last evaluation, and its step.
    scored: Option<(u64, Vec<PairScore>)>,
    files: Vec<String>,
    seed: u64,
    facts: Facts,
}

impl Reward {
    /// With its data.
    pub fn new(
        config: &Config,
        loss: RewardLoss,
        (train, eval): (Loaded<Pair>, Option<Loaded<Pair>>),
    ) -> Self {
        let eval = eval.map(|eval| eval.items).unwrap_or_default();
        Self {
            facts: pairs::facts(&train, eval.len()),
            loss,
            scored: None,
            files: config
                .data
                .eval
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
            seed: config.seed,
            batch_size: config.optim.batch_size,
            accumulation: config.optim.accumulation,
            train,
            eval,
        }
    }

    /// Loss, metrics and scores of the held-out pairs.
    fn held_out(&self, bench: &Bench) -> Result<(f64, Metrics, Vec<PairScore>), TrainError> {
        let model = bench.policy.score_model()?;
        let (mut total, mut metrics) = (0.0, Metrics::new());
        let mut all = Vec::with_capacity(self.eval.len());
        for pairs in self.eval.chunks(self.batch_size) {
            let pairs: Vec<&Pair> = pairs.iter().collect();
            let scores = model.scores(&pairs::batch(&pairs)?)?;
            let scored = self.loss_of(&pairs, &scores, self.eval.len())?;
            total += value(&scored.loss)?;
            metrics.add(&scored.metrics);
            all.extend(report::scored(&pairs, &scores)?);
        }
        Ok((total, metrics, all))
    }

    /// The loss of pairs with scores `[2 * pairs]`, chosen then rejected. A pair without a margin has one of 0.
    fn loss_of(
        &self,
        pairs: &[&Pair],
        scores: &Tensor,
        count: usize,
    ) -> Result<Scored, TrainError> {
        let n = pairs.len();
        let margins: Vec<f32> = pairs.iter().map(|p| p.margin.unwrap_or(0.0)).collect();
        let margins = pairs
            .iter()
            .any(|pair| pair.margin.is_some())
            .then(|| Tensor::new(margins, scores.device())?.to_dtype(scores.dtype()))
            .transpose()?;
        let (chosen, rejected) = (scores.narrow(0, 0, n)?, scores.narrow(0, n, n)?);
        Ok(self.loss.of(&chosen, &rejected, margins.as_ref(), count)?)
    }
}

impl Method for Reward {
    fn name(&self) -> &'static str {
        "rm"
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let size = self.batch_size.saturating_mul(self.accumulation);
        let window = bench.sampler.batch(self.train.items.len(), size);
        let step = bench.step() + 1;
        let (mut total, mut metrics) = (0.0, Metrics::new());
        for rows in window.chunks(self.batch_size) {
            let pairs: Vec<&Pair> = rows.iter().map(|&row| &self.train.items[row]).collect();
            let batch = pairs::batch(&pairs)?;
            bench.draw_dropout();
            let policy = &bench.policy;
            let scores = scores(&policy.hidden(&batch)?, policy.score_head()?)?;
            let scored = self.loss_of(&pairs, &scores, window.len())?;
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
        let (loss, metrics, scores) = self.held_out(bench)?;
        self.scored = Some((bench.step(), scores));
        let mut numbers = Numbers::new();
        numbers.set("loss", loss);
        numbers.set_all(&metrics);
        Ok(numbers)
    }

    fn report(&mut self, bench: &Bench) -> Result<Option<Report>, TrainError> {
        if self.eval.is_empty() {
            return Ok(None);
        }
        let step = bench.step();
        let scores = match self.scored.take() {
            Some((at, scores)) if at == step => scores,
            _ => self.held_out(bench)?.2,
        };
        let draws = Resampling {
            seed: self.seed,
            ..Resampling::default()
        };
        let model = (format!("step {step}"), scores);
        let report = Report::of(self.files.clone(), vec![model], report::LAMBDA, &draws)?;
        Ok(Some(report))
    }
}
