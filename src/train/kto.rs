//! KTO: single answers labelled desirable or not, weighed against the divergence from the reference (`loss/kto.rs`).
//!
//! Always: the divergence is estimated on prompts with the answers of their neighbours in the pass, which are others each time.
//! The reference never changes; it runs beside the policy, or it has said everything before the first step, of the very passes
//! that the seed will draw, which is kept in the run's folder (`kept.rs`). A pass has at least two rows; a step that reaches the
//! end of the data goes on with the next time through it.

use candle_core::{DType, Tensor};
use candlescope_ops::TokenLogprobs;
use serde_json::{Map, Value, json};

use super::{
    Bench, Config, Method, RunFolder, TrainError,
    bench::value,
    data::Loaded,
    kept::{self, Key, Table},
    log::Numbers,
    loss::{Kto as Loss, KtoBatch, Metrics, Scored, rotated, sum_runs},
    method::Facts,
    reference::{Frozen, expect_equal},
    targets::Targets,
};
use crate::model::{Batch, Decoder};
use crate::text::dataset::{Labelled, Sampler};

/// The method.
pub struct Kto {
    loss: Loss,
    batch_size: usize,
    accumulation: usize,
    /// Most tokens of a prompt with another's answer, which is cut to it.
    max_length: usize,
    train: Loaded<Labelled>,
    eval: Vec<Labelled>,
    /// Where the rows begin.
    start: Sampler,
    reference: Reference,
    /// Whether the first step must find the policy there.
    begins_there: bool,
    facts: Facts,
}

/// The reference, and where its log-probabilities come from.
enum Reference {
    /// Not yet asked; whether it is to say everything at once.
    Frozen(Box<Frozen>, Key, bool),
    /// It runs beside the policy.
    Running(Box<Decoder>),
    /// It has said everything.
    Kept(Kept),
}

/// What the reference says of answers under their own prompts and under their neighbours'.
struct Kept {
    /// Of each row of training, and of evaluation.
    own: [Vec<f32>; 2],
    /// Of each row in the order in which the run draws them, and of evaluation.
    other: [Vec<f32>; 2],
}

/// Rows of a pass, for looking up what is kept of them.
struct Rows<'a> {
    /// 0 of training, 1 of evaluation.
    of: usize,
    picked: &'a [usize],
    /// Rows that the run has drawn before.
    drawn: usize,
}

/// Rows for one pass: each answer under its own prompt, and under the next one's.
struct Asked {
    batch: Batch,
    targets: Targets,
    lengths: Vec<usize>,
}

impl Asked {
    /// Log-probabilities of the answers, summed: `[rows]`.
    fn by(&self, decoder: &Decoder) -> Result<Tensor, TrainError> {
        let said = self.targets.by(decoder, &self.batch)?;
        Ok(sum_runs(&said.logps, &self.lengths)?)
    }
}

impl Kto {
    /// With its data and its reference.
    ///
    /// # Errors
    /// Evaluation data of a single row.
    pub fn new(
        config: &Config,
        loss: Loss,
        (train, eval): (Loaded<Labelled>, Option<Loaded<Labelled>>),
        (frozen, key, precomputes): (Frozen, Key, bool),
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
            start: config.data.sampler(config.seed),
            begins_there: frozen.begins_there,
            reference: Reference::Frozen(Box::new(frozen), key, precomputes),
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

    /// What the reference says of answers as asked: under their own prompts, and under their neighbours'.
    fn referred(&self, [own, other]: &[Asked; 2], rows: &Rows) -> Result<[Tensor; 2], TrainError> {
        match &self.reference {
            Reference::Running(decoder) => Ok([own.by(decoder)?, other.by(decoder)?]),
            Reference::Kept(kept) => {
                let known: Vec<f32> = rows
                    .picked
                    .iter()
                    .map(|&row| kept.own[rows.of][row])
                    .collect();
                let drawn = rows.drawn..rows.drawn + rows.picked.len();
                let device = &candle_core::Device::Cpu;
                Ok([
                    Tensor::new(known, device)?,
                    Tensor::new(&kept.other[rows.of][drawn], device)?,
                ])
            }
            Reference::Frozen(frozen, ..) => {
                let decoder = frozen.decoder()?;
                Ok([own.by(&decoder)?, other.by(&decoder)?])
            }
        }
    }

    /// The loss of rows given what the policy says of their own answers; `[own, other]` as asked.
    fn scored(
        &self,
        rows: &[&Labelled],
        [own, other]: &[Asked; 2],
        (said, policy): (&TokenLogprobs, &Decoder),
        (reference, count): (&[Tensor; 2], usize),
    ) -> Result<Scored, TrainError> {
        let labels: Vec<bool> = rows.iter().map(|row| row.label).collect();
        let batch = KtoBatch {
            policy: &sum_runs(&said.logps, &own.lengths)?,
            reference: &reference[0],
            labels: &labels,
            mismatched: &other.by(policy)?,
            mismatched_reference: &reference[1],
        };
        let mut scored = self.loss.of(&batch, count)?;
        let entropy = said.entropy.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        scored.metrics.mean("entropy", entropy);
        Ok(scored)
    }

    /// Rows of a step.
    fn window(&self) -> usize {
        self.batch_size.saturating_mul(self.accumulation)
    }

    /// Everything that the reference will be asked in a run of `steps` steps.
    fn everything(&self, decoder: &Decoder, steps: u64) -> Result<Table, TrainError> {
        let own = |items: &[Labelled]| -> Result<Vec<f32>, TrainError> {
            let mut all = Vec::with_capacity(items.len());
            for rows in items.chunks(self.batch_size) {
                let rows: Vec<&Labelled> = rows.iter().collect();
                let answers: Vec<&[u32]> =
                    rows.iter().map(|row| row.completion.as_slice()).collect();
                all.extend(self.under(&rows, &answers)?.by(decoder)?.to_vec1::<f32>()?);
            }
            Ok(all)
        };
        let other = |rows: &[&Labelled]| -> Result<Vec<f32>, TrainError> {
            Ok(self.asked(rows)?[1].by(decoder)?.to_vec1::<f32>()?)
        };
        let (mut drawn, mut evaluated) = (Vec::new(), Vec::new());
        let mut sampler = self.start.clone();
        for _ in 0..steps {
            let window = sampler.take(self.train.items.len(), self.window());
            for rows in window.chunks(self.batch_size) {
                let rows: Vec<&Labelled> = rows.iter().map(|&row| &self.train.items[row]).collect();
                drawn.extend(other(&rows)?);
            }
        }
        for rows in groups(&self.eval, self.batch_size) {
            evaluated.extend(other(&rows.iter().collect::<Vec<_>>())?);
        }
        Ok(Table::from([
            ("own".to_owned(), own(&self.train.items)?),
            ("own evaluated".to_owned(), own(&self.eval)?),
            ("other".to_owned(), drawn),
            ("other evaluated".to_owned(), evaluated),
        ]))
    }

    /// At the first step, where the policy begins as its reference.
    fn expect_at_reference(
        &self,
        step: u64,
        (said, own): (&TokenLogprobs, &Asked),
        reference: &Tensor,
    ) -> Result<(), TrainError> {
        if step > 1 || !self.begins_there {
            return Ok(());
        }
        let list = |x: &Tensor| x.detach().to_dtype(DType::F64)?.to_vec1::<f64>();
        let sums = list(&sum_runs(&said.logps, &own.lengths)?)?;
        expect_equal(step, &sums, &list(reference)?, &own.lengths)
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

    fn ready(
        &mut self,
        bench: &Bench,
        folder: &RunFolder,
    ) -> Result<Map<String, Value>, TrainError> {
        let mut fields = Map::new();
        let Reference::Frozen(frozen, key, precomputes) = &self.reference else {
            return Ok(fields);
        };
        if !precomputes {
            self.reference = Reference::Running(Box::new(frozen.decoder()?));
            return Ok(fields);
        }
        let passes = [
            self.start.seed,
            bench.total(),
            self.batch_size as u64,
            self.accumulation as u64,
        ];
        let order = if self.start.in_order {
            format!("of the files {passes:?}")
        } else {
            format!("{passes:?}")
        };
        let key = key
            .clone()
            .with("order", order)
            .with_rows("rows", &self.train.items)
            .with_rows("evaluation rows", &self.eval);
        let (mut table, source) = kept::kept_or(folder, &key, || {
            self.everything(&frozen.decoder()?, bench.total())
        })?;
        let mut of = |names: [&str; 2]| names.map(|name| table.remove(name).unwrap_or_default());
        self.reference = Reference::Kept(Kept {
            own: of(["own", "own evaluated"]),
            other: of(["other", "other evaluated"]),
        });
        fields.insert("reference_logps".into(), source.words().into());
        Ok(fields)
    }

    fn step(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        let size = self.window();
        let window = bench.sampler.take(self.train.items.len(), size);
        let step = bench.step() + 1;
        let mut drawn = size * bench.step() as usize;
        let (mut total, mut metrics) = (0.0, Metrics::new());
        for rows in window.chunks(self.batch_size) {
            let items: Vec<&Labelled> = rows.iter().map(|&row| &self.train.items[row]).collect();
            let asked = self.asked(&items)?;
            bench.draw_dropout();
            let said = asked[0].targets.by_policy(bench, &asked[0].batch)?;
            let at = Rows {
                of: 0,
                picked: rows,
                drawn,
            };
            drawn += rows.len();
            let reference = self.referred(&asked, &at)?;
            self.expect_at_reference(step, (&said, &asked[0]), &reference[0])?;
            let of = (&said, bench.policy.decoder());
            let scored = self.scored(&items, &asked, of, (&reference, window.len()))?;
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
        let mut drawn = 0;
        for rows in groups(&self.eval, self.batch_size) {
            let items: Vec<&Labelled> = rows.iter().collect();
            let asked = self.asked(&items)?;
            let said = asked[0].targets.by(decoder, &asked[0].batch)?;
            let places: Vec<usize> = (drawn..drawn + rows.len()).collect();
            let reference = self.referred(
                &asked,
                &Rows {
                    of: 1,
                    picked: &places,
                    drawn,
                },
            )?;
            drawn += rows.len();
            let of = (&said, decoder);
            let scored = self.scored(&items, &asked, of, (&reference, self.eval.len()))?;
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
