//! KTO: single answers labelled desirable or not, weighed against the divergence from the reference (`loss/kto.rs`).
//!
//! Always: the reference is the model that the run began with, and runs beside the policy, since the divergence is estimated
//! on prompts with the answers of their neighbours in the pass, which are others each time. A pass has at least two rows; a
//! step that reaches the end of the data goes on with the next time through it.

use candle_core::{DType, Tensor};
use candlescope_ops::TokenLogprobs;
use serde_json::json;

use super::{
    Bench, Config, Method, TrainError,
    bench::value,
    data::Loaded,
    log::Numbers,
    loss::{Kto as Loss, KtoBatch, Metrics, Scored, rotated, sum_runs},
    method::Facts,
    targets::Targets,
};
use crate::model::{Batch, Decoder};
use crate::text::dataset::Labelled;

/// The method.
pub struct Kto {
    loss: Loss,
    batch_size: usize,
    accumulation: usize,
    /// Most tokens of a prompt with another's answer, which is cut to it.
    max_length: usize,
    train: Loaded<Labelled>,
    eval: Vec<Labelled>,
    reference: Decoder,
    facts: Facts,
}

/// Rows for one pass: each answer under its own prompt, and under the next one's.
struct Asked {
    batch: Batch,
    targets: Targets,
    lengths: Vec<usize>,
}

impl Kto {
    /// With its data and the model that the run begins with.
    ///
    /// # Errors
    /// Evaluation data of a single row.
    pub fn new(
        config: &Config,
        loss: Loss,
        (train, eval): (Loaded<Labelled>, Option<Loaded<Labelled>>),
        reference: &Decoder,
    ) -> Result<Self, TrainError> {
        let eval = eval.map(|eval| eval.items).unwrap_or_default();
        if train.items.len() < 2 || eval.len() == 1 {
            return Err(TrainError::Empty {
                what: "kto's data".into(),
                found: "a single row".into(),
                hint: "the divergence is estimated with another row's answer; give two or more"
                    .into(),
            });
        }
        Ok(Self {
            facts: facts(&train, eval.len()),
            loss,
            batch_size: config.optim.batch_size,
            accumulation: config.optim.accumulation,
            max_length: config.data.max_length,
            train,
            eval,
            reference: reference.clone(),
        })
    }

    fn asked(&self, rows: &[&Labelled]) -> Result<[Asked; 2], TrainError> {
        let own: Vec<&[u32]> = rows.iter().map(|row| row.completion.as_slice()).collect();
        let others = rotated(&own)?;
        Ok([self.under(rows, &own)?, self.under(rows, &others)?])
    }

    fn under(&self, rows: &[&Labelled], answers: &[&[u32]]) -> Result<Asked, TrainError> {
        let joined = rows.iter().zip(answers).map(|(row, answer)| {
            let room = self.max_length.saturating_sub(row.prompt.len()).max(1);
            [&row.prompt, &answer[..answer.len().min(room)]].concat()
        });
        let ids: Vec<Vec<u32>> = joined.collect();
        let batch = Batch::new(&ids)?;
        let (mut targets, mut lengths) = (Targets::default(), Vec::new());
        for (at, (row, ids)) in rows.iter().zip(&ids).enumerate() {
            let start = row.prompt.len().max(1);
            targets.add(&batch, at, start..ids.len());
            lengths.push(ids.len() - start);
        }
        Ok(Asked {
            batch,
            targets,
            lengths,
        })
    }

    /// The loss of rows given what the policy says of their own answers; `[own, other]` as asked.
    fn scored(
        &self,
        rows: &[&Labelled],
        [own, other]: &[Asked; 2],
        (said, policy): (&TokenLogprobs, &Decoder),
        count: usize,
    ) -> Result<Scored, TrainError> {
        let by = |decoder: &Decoder, asked: &Asked| -> Result<Tensor, TrainError> {
            let said = asked.targets.by(decoder, &asked.batch)?;
            Ok(sum_runs(&said.logps, &asked.lengths)?)
        };
        let labels: Vec<bool> = rows.iter().map(|row| row.label).collect();
        let batch = KtoBatch {
            policy: &sum_runs(&said.logps, &own.lengths)?,
            reference: &by(&self.reference, own)?,
            labels: &labels,
            mismatched: &by(policy, other)?,
            mismatched_reference: &by(&self.reference, other)?,
        };
        let mut scored = self.loss.of(&batch, count)?;
        let entropy = said.entropy.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        scored.metrics.mean("entropy", entropy);
        Ok(scored)
    }

    fn not_finite(
        &self,
        rows: &[usize],
        (step, what, value): (u64, &'static str, f64),
    ) -> TrainError {
        let names: Vec<String> = rows.iter().map(|&row| self.train.name(row)).collect();
        let each = rows.iter().zip(&names);
        let batch: Vec<_> = each
            .map(|(&row, name)| json!({"row": name, "labelled": self.train.items[row]}))
            .collect();
        TrainError::NotFinite {
            step,
            what,
            value,
            batch: json!({"step": step, "what": what, "value": value.to_string(), "batch": batch}),
            rows: names,
        }
    }
}

fn facts(train: &Loaded<Labelled>, eval: usize) -> Facts {
    let mut facts = train.facts();
    let tokens = |row: &Labelled| row.prompt.len() + row.completion.len();
    facts.tokens = train.items.iter().map(tokens).sum();
    facts.supervised = train.items.iter().map(|row| row.completion.len()).sum();
    facts.longest = train.items.iter().map(tokens).max().unwrap_or(0);
    facts.end_trained =
        train.share(|row, stop| row.completion.last().is_some_and(|id| stop.contains(id)));
    facts.eval_rows = eval;
    facts
}

/// Groups of `size` rows; a single one left over joins the group before it.
fn groups(rows: &[Labelled], size: usize) -> Vec<&[Labelled]> {
    let mut groups = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let take = if rest.len() == size + 1 {
            size + 1
        } else {
            size.min(rest.len())
        };
        let (group, more) = rest.split_at(take);
        groups.push(group);
        rest = more;
    }
    groups
}

impl Method for Kto {
    fn name(&self) -> &'static str {
        "kto"
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let size = self.batch_size.saturating_mul(self.accumulation);
        let window = bench.sampler.take(self.train.items.len(), size);
        let step = bench.step() + 1;
        let (mut total, mut metrics) = (0.0, Metrics::new());
        for rows in window.chunks(self.batch_size) {
            let items: Vec<&Labelled> = rows.iter().map(|&row| &self.train.items[row]).collect();
            let asked = self.asked(&items)?;
            bench.draw_dropout();
            let said = asked[0].targets.by_policy(bench, &asked[0].batch)?;
            let of = (&said, bench.policy.decoder());
            let scored = self.scored(&items, &asked, of, window.len())?;
            let share = value(&scored.loss)?;
            if !share.is_finite() {
                return Err(self.not_finite(rows, (step, "loss", share)));
            }
            total += share;
            metrics.add(&scored.metrics);
            bench.accumulate(&scored.loss)?;
            let tokens = items
                .iter()
                .map(|row| row.prompt.len() + row.completion.len());
            bench.tokens += tokens.sum::<usize>() as u64;
        }
        let applied = match bench.apply() {
            Err(TrainError::NotFinite { what, value, .. }) => {
                return Err(self.not_finite(&window, (step, what, value)));
            }
            applied => applied?,
        };
        let mut numbers = Numbers::new();
        numbers.set("loss", total);
        numbers.set("grad_norm", applied.grad_norm);
        numbers.set_all(&metrics);
        Ok(with_margins(numbers))
    }

    fn evaluate(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let decoder = bench.policy.decoder();
        let (mut total, mut metrics) = (0.0, Metrics::new());
        for rows in groups(&self.eval, self.batch_size) {
            let items: Vec<&Labelled> = rows.iter().collect();
            let asked = self.asked(&items)?;
            let said = asked[0].targets.by(decoder, &asked[0].batch)?;
            let scored = self.scored(&items, &asked, (&said, decoder), self.eval.len())?;
            total += value(&scored.loss)?;
            metrics.add(&scored.metrics);
        }
        let mut numbers = Numbers::new();
        numbers.set("loss", total);
        numbers.set_all(&metrics);
        Ok(with_margins(numbers))
    }

    fn asked(&self) -> Vec<&[u32]> {
        self.eval.iter().map(|row| row.prompt.as_slice()).collect()
    }
}

/// The margin between the means, where a step has answers of both labels.
fn with_margins(mut numbers: Numbers) -> Numbers {
    let (chosen, rejected) = (
        numbers.get("rewards/chosen"),
        numbers.get("rewards/rejected"),
    );
    if let (Some(chosen), Some(rejected)) = (chosen, rejected) {
        numbers.set("rewards/margins", chosen - rejected);
    }
    numbers
}
