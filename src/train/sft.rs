//! Supervised fine-tuning: the negative log-likelihood of the answers, or DFT (arXiv:2508.05629).
//!
//! Always: the loss of a step is the sum over the targets of all its passes divided by their number, however they are spread
//! over passes; prompts and padding are no targets; a packed row's documents do not see each other.

use candle_core::{DType, Tensor};
use candlescope_ops::{self as ops, HeadOptions};
use serde_json::{Value, json};

use super::{
    Bench, Method, TrainError,
    config::{Config, SftLoss},
    data::Loaded,
    log::Metrics,
    method::Facts,
};
use crate::model::{Batch, Decoder};
use crate::text::dataset::{Example, Packed, pack};

/// The method.
pub struct Sft {
    loss: SftLoss,
    batch_size: usize,
    accumulation: usize,
    train: Loaded<Example>,
    /// What the sampler draws from: the examples, packed or one by one.
    rows: Vec<Packed>,
    eval: Vec<Packed>,
    facts: Facts,
}

/// Sums over targets.
#[derive(Default)]
struct Sums {
    targets: usize,
    loss: f64,
    entropy: f64,
    correct: usize,
}

impl Sft {
    /// With its data.
    ///
    /// # Errors
    /// Rows that cannot be packed.
    pub fn new(
        config: &Config,
        (loss, packing): (SftLoss, bool),
        train: Loaded<Example>,
        eval: Option<Loaded<Example>>,
    ) -> Result<Self, TrainError> {
        let single = |examples: &[Example]| examples.iter().cloned().map(Packed::single).collect();
        let rows: Vec<Packed> = if packing {
            pack(&train.items, config.data.max_length)?
        } else {
            single(&train.items)
        };
        let eval: Vec<Packed> = eval.map(|eval| single(&eval.items)).unwrap_or_default();
        let mut facts = train.facts();
        facts.rows = rows.len();
        facts.longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        facts.tokens = train.items.iter().map(|e| e.ids.len()).sum();
        facts.supervised = train.items.iter().map(Example::targets).sum();
        facts.end_trained = train.share(|e, stop| {
            let pairs = e.ids.iter().zip(&e.supervised);
            pairs.rev().any(|(id, target)| *target && stop.contains(id))
        });
        facts.eval_rows = eval.len();
        Ok(Self {
            loss,
            batch_size: config.optim.batch_size,
            accumulation: config.optim.accumulation,
            train,
            rows,
            eval,
            facts,
        })
    }

    /// These rows for one pass, and the places of their targets.
    fn batch(rows: &[&Packed]) -> Result<(Batch, Targets), TrainError> {
        let batch = if rows.iter().all(|row| row.starts.len() == 1) {
            Batch::new(&rows.iter().map(|row| &row.ids).collect::<Vec<_>>())?
        } else {
            let each = rows.iter().map(|row| (&row.ids, row.starts.clone()));
            Batch::packed(&each.collect::<Vec<_>>())?
        };
        let mut targets = Targets::default();
        for (at, row) in rows.iter().enumerate() {
            let first = at * batch.len() + batch.pad()[at];
            for (i, _) in row.supervised.iter().enumerate().filter(|(_, target)| **target) {
                // The state before a token predicts it; the first of a document is no target.
                targets.places.push((first + i - 1) as u32);
                targets.ids.push(row.ids[i]);
            }
        }
        Ok((batch, targets))
    }

    /// The loss of one pass as a share of a step of `count` targets, and its sums.
    fn pass(
        &self,
        hidden: &Tensor,
        head: &Tensor,
        targets: &Targets,
        (count, decoder): (usize, &Decoder),
    ) -> Result<(Tensor, Sums), TrainError> {
        let width = hidden.dim(2)?;
        let index = Tensor::new(targets.places.as_slice(), hidden.device())?;
        let states = hidden.reshape(((), width))?.index_select(&index, 0)?;
        let options = HeadOptions {
            softcap: decoder.config().final_softcap,
            ..HeadOptions::default()
        };
        let scored = ops::token_logprobs(&states, head, &targets.ids, options)?;
        let logps = &scored.logps;
        let each = match self.loss {
            SftLoss::Nll => logps.neg()?,
            SftLoss::Dft => (logps.detach().exp()? * logps.neg()?)?,
        };
        let loss = (each.sum_all()? / count as f64)?;
        let total = |t: &Tensor| -> Result<f64, TrainError> {
            Ok(t.detach().to_dtype(DType::F64)?.sum_all()?.to_scalar()?)
        };
        let sums = Sums {
            targets: targets.ids.len(),
            loss: total(&each)?,
            entropy: total(&scored.entropy)?,
            correct: scored.top1.iter().filter(|hit| **hit).count(),
        };
        Ok((loss, sums))
    }

    fn not_finite(&self, step: u64, what: &'static str, value: f64, rows: &[usize]) -> TrainError {
        let mut names = Vec::new();
        let mut batch = Vec::new();
        for &row in rows {
            let packed = &self.rows[row];
            for range in packed.documents() {
                let ids = &packed.ids[range.clone()];
                let name = self.train.place(|example| example.ids == ids);
                batch.push(json!({
                    "row": name, "ids": ids, "supervised": &packed.supervised[range],
                }));
                names.push(name);
            }
        }
        TrainError::NotFinite {
            step,
            what,
            value,
            rows: names,
            batch: json!({"step": step, "what": what, "value": value.to_string(), "batch": batch}),
        }
    }
}

/// Where targets are predicted, and what they are.
#[derive(Default)]
struct Targets {
    /// Slot of the flattened batch.
    places: Vec<u32>,
    ids: Vec<u32>,
}

impl Sums {
    fn add(&mut self, more: &Self) {
        self.targets += more.targets;
        self.loss += more.loss;
        self.entropy += more.entropy;
        self.correct += more.correct;
    }

    fn metrics(&self) -> Metrics {
        let count = self.targets.max(1) as f64;
        let mut metrics = Metrics::new();
        metrics.set("loss", self.loss / count);
        metrics.set("entropy", self.entropy / count);
        metrics.set("mean_token_accuracy", self.correct as f64 / count);
        metrics
    }
}

impl Method for Sft {
    fn name(&self) -> &'static str {
        "sft"
    }

    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn step(&mut self, bench: &mut Bench) -> Result<Metrics, TrainError> {
        let size = self.batch_size.saturating_mul(self.accumulation);
        let window = bench.sampler.batch(self.rows.len(), size);
        let count: usize = window.iter().map(|&i| self.rows[i].targets()).sum();
        let step = bench.step() + 1;
        let mut sums = Sums::default();
        for rows in window.chunks(self.batch_size) {
            let packed: Vec<&Packed> = rows.iter().map(|&i| &self.rows[i]).collect();
            let (batch, targets) = Self::batch(&packed)?;
            let policy = &bench.policy;
            let hidden = policy.hidden(&batch)?;
            let (loss, more) =
                self.pass(&hidden, policy.head(), &targets, (count, policy.decoder()))?;
            if !more.loss.is_finite() {
                return Err(self.not_finite(step, "loss", more.loss, rows));
            }
            sums.add(&more);
            bench.accumulate(&loss)?;
            bench.tokens += packed.iter().map(|row| row.ids.len() as u64).sum::<u64>();
        }
        let applied = match bench.apply() {
            Err(TrainError::NotFinite { what, value, .. }) => {
                return Err(self.not_finite(step, what, value, &window));
            }
            applied => applied?,
        };
        let mut metrics = sums.metrics();
        metrics.set("grad_norm", applied.grad_norm);
        Ok(metrics)
    }

    fn evaluate(&mut self, bench: &mut Bench) -> Result<Metrics, TrainError> {
        let decoder = bench.policy.decoder();
        let mut sums = Sums::default();
        for rows in self.eval.chunks(self.batch_size) {
            let (batch, targets) = Self::batch(&rows.iter().collect::<Vec<_>>())?;
            let hidden = decoder.hidden(&batch)?;
            let head = &decoder.weights().head;
            let (_, more) = self.pass(&hidden, head, &targets, (1, decoder))?;
            sums.add(&more);
        }
        Ok(sums.metrics())
    }

    fn state(&self) -> Value {
        Value::Null
    }
}
