//! Supervised fine-tuning: the negative log-likelihood of the answers, or DFT (arXiv:2508.05629).
//!
//! Always: the loss of a step is the sum over the targets of all its passes divided by their number, however they are spread
//! over passes; prompts and padding are no targets; a packed row's documents do not see each other.

use candle_core::Tensor;
use candlescope_ops::TokenLogprobs;
use serde_json::json;

use super::{
    Bench, Method, TrainError,
    bench::value,
    config::Config,
    data::Loaded,
    examples::{Examples, Taught},
    log::Numbers,
    loss::{Metrics, Scored, Sft as SftLoss, sft_loss},
    method::Facts,
    targets::Targets,
};
use crate::model::Batch;
use crate::text::dataset::{Example, Packed, pack};

/// The method.
pub struct Sft {
    loss: SftLoss,
    batch_size: usize,
    accumulation: usize,
    train: Loaded<Example>,
    /// What the sampler draws from: the examples, packed or one by one.
    rows: Vec<Packed>,
    packing: bool,
    eval: Vec<Packed>,
    facts: Facts,
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
            packing,
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
            // The first token of a document is no target, so that none is predicted from another document.
            let wanted = row.supervised.iter().enumerate();
            targets.add(
                &batch,
                at,
                wanted.filter_map(|(i, target)| target.then_some(i)),
            );
        }
        Ok((batch, targets))
    }

    /// The loss of one pass as a share of a step of `count` targets.
    fn scored(&self, said: &TokenLogprobs, count: usize) -> Result<Scored, TrainError> {
        let (logps, entropy) = (&said.logps, &said.entropy);
        Ok(sft_loss(self.loss, logps, entropy, &said.top1, count)?)
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

impl Method for Sft {
    fn name(&self) -> &'static str {
        "sft"
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let size = self.batch_size.saturating_mul(self.accumulation);
        let window = bench.sampler.batch(self.rows.len(), size);
        let count: usize = window.iter().map(|&i| self.rows[i].targets()).sum();
        let step = bench.step() + 1;
        let (mut total, mut metrics) = (0.0, Metrics::new());
        for rows in window.chunks(self.batch_size) {
            let packed: Vec<&Packed> = rows.iter().map(|&i| &self.rows[i]).collect();
            let (batch, targets) = Self::batch(&packed)?;
            bench.draw_dropout();
            let said = targets.by_policy(bench, &batch)?;
            let scored = self.scored(&said, count)?;
            let share = value(&scored.loss)?;
            if !share.is_finite() {
                return Err(self.not_finite(step, "loss", share, rows));
            }
            total += share;
            metrics.add(&scored.metrics);
            bench.accumulate(&scored.loss)?;
            bench.tokens += packed.iter().map(|row| row.ids.len() as u64).sum::<u64>();
        }
        let applied = match bench.apply() {
            Err(TrainError::NotFinite { what, value, .. }) => {
                return Err(self.not_finite(step, what, value, &window));
            }
            applied => applied?,
        };
        let mut numbers = Numbers::new();
        numbers.set("loss", total);
        numbers.set("grad_norm", applied.grad_norm);
        numbers.set_all(&metrics);
        Ok(numbers)
    }

    fn evaluate(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let decoder = bench.policy.decoder();
        let count: usize = self.eval.iter().map(Packed::targets).sum();
        let (mut total, mut metrics) = (0.0, Metrics::new());
        for rows in self.eval.chunks(self.batch_size) {
            let (batch, targets) = Self::batch(&rows.iter().collect::<Vec<_>>())?;
            let scored = self.scored(&targets.by(decoder, &batch)?, count)?;
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
        let prompt = |row: &'_ Packed| row.supervised.iter().position(|target| *target);
        let rows = self.eval.iter();
        rows.map(|row| &row.ids[..prompt(row).unwrap_or(0)])
            .collect()
    }
}

impl Examples for Sft {
    fn of_row(&self, row: usize) -> Vec<usize> {
        let Some(packed) = self.rows.get(row) else {
            return Vec::new();
        };
        if !self.packing {
            return vec![row];
        }
        let documents = packed.documents().map(|range| &packed.ids[range]);
        let named = documents.filter_map(|ids| {
            let mut items = self.train.items.iter();
            items.position(|example| example.ids == ids)
        });
        named.collect()
    }

    fn place(&self, example: usize) -> String {
        self.train.name(example)
    }

    fn loss(&self, bench: &Bench, example: usize) -> Result<Tensor, TrainError> {
        let row = Packed::single(self.train.items[example].clone());
        let (batch, targets) = Self::batch(&[&row])?;
        let said = targets.by_policy(bench, &batch)?;
        // The loss divides by the targets of the step, whatever step that is.
        let count = said.logps.elem_count();
        Ok((self.scored(&said, count)?.loss * count as f64)?)
    }

    fn taught(&self, example: usize) -> Vec<Taught> {
        let Example { ids, supervised } = &self.train.items[example];
        vec![Taught {
            ids: ids.clone(),
            answer: supervised.clone(),
            sign: 1.0,
        }]
    }
}
