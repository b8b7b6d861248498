//! The last steps of a run, where the reconstruction goes on through the model: besides the squared error, what the model
//! says differently pulls at the dictionary, as `KL(clean ‖ spliced)` in nats a token (Karvonen 2025, arXiv 2503.17272).
//!
//! Always: the tokens that training leaves out stay as they are in the spliced pass; contexts of a step follow from its
//! number, so a run that was killed goes on with the same. They come from behind what the first buffer of rows holds, so that the
//! rows held out stay unseen until the texts are read through once.

use std::cell::Cell;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candlescope_ops as ops;
use candlescope_sae::train::{StepReport, Through, Trainer};
use ndarray::Array2;

use super::config::{EndToEnd, OneDictionary};
use crate::activations::{
    Contexts, Cursor, Facts, Harvest, PackedContexts, Policy, Reason, StoreError,
};
use crate::hooks::{Edit, EditOp, HookPoint, Hooks};
use crate::model::{Batch, Decoder, LogitsAt};
use crate::train::TrainError;

/// Texts and model of the last steps.
pub(super) struct Behind<'a> {
    pub model: &'a Decoder,
    pub contexts: &'a PackedContexts<'a>,
    pub policy: Policy,
    pub facts: Facts,
    pub plan: EndToEnd,
    /// Tokens of a context.
    pub length: usize,
    /// Contexts that are left to the rows held out.
    pub skip: u64,
    /// Contexts of one pass.
    pub pass: usize,
    /// Where the contexts of the step of that number begin, behind the last step's.
    pub next: Cell<Option<(u64, Cursor)>>,
}

/// A step's rows at one point.
struct Seen {
    ids: Vec<Vec<u32>>,
    /// All values of each context, `[token, width]` one after the other.
    values: Vec<Vec<f32>>,
    /// Which tokens are replaced.
    kept: Vec<Vec<bool>>,
}

/// Refuses dictionaries that do not write where they read.
pub(super) fn check(
    name: &str,
    one: &OneDictionary,
    points: &[Vec<HookPoint>; 2],
) -> Result<(), TrainError> {
    let [reads, writes] = points;
    if reads.len() == 1 && writes.is_empty() && !one.skip {
        return Ok(());
    }
    let field = format!("dictionary.{name}");
    let expected = "a dictionary that reads and writes one point, as [end_to_end] puts what it rebuilds in its place";
    let found = format!("{} points read, {} written", reads.len(), writes.len());
    Err(TrainError::config(field, expected, found))
}

impl Behind<'_> {
    /// Contexts of a step.
    fn each(&self) -> u64 {
        self.plan.batch.div_ceil(self.length).max(1) as u64
    }

    /// Those of step `number` of these, from 0; texts that are read through begin anew.
    fn of_step(&self, number: u64) -> Result<Vec<Vec<u32>>, TrainError> {
        let (mut before, mut from) = match self.next.take() {
            Some((next, cursor)) if next == number => (0, cursor),
            _ => (self.skip + number * self.each(), Cursor::default()),
        };
        let mut out = Vec::new();
        loop {
            let begun = from == Cursor::default();
            let mut whole = 0;
            for context in self.contexts.contexts(from)? {
                let (ids, behind) = context?;
                if ids.len() < self.length {
                    continue;
                }
                whole += 1;
                if before > 0 {
                    before -= 1;
                    continue;
                }
                out.push(ids);
                if out.len() as u64 == self.each() {
                    self.next.set(Some((number + 1, behind)));
                    return Ok(out);
                }
            }
            if begun && whole == 0 {
                let tokens = self.length;
                return Err(TrainError::Empty {
                    what: "texts of [end_to_end]".into(),
                    found: "no whole context".into(),
                    hint: format!("give more text, or contexts of fewer than {tokens} tokens"),
                });
            }
            if begun {
                before %= whole;
            }
            from = Cursor::default();
        }
    }

    /// One step of a dictionary at `at`; `left` is the share of these steps still to do, this one included. With its KL in
    /// nats a token.
    ///
    /// # Errors
    /// The model's, the trainer's; texts without a whole context.
    pub fn step(
        &self,
        trainer: &mut Trainer,
        at: HookPoint,
        number: u64,
        left: f64,
    ) -> Result<(StepReport, f64), TrainError> {
        let seen = self.seen(at, self.of_step(number)?)?;
        let rows = seen.rows();
        if rows.nrows() == 0 {
            let tokens = seen.kept.iter().map(Vec::len).sum::<usize>() as u64;
            let what = format!("the contexts of step {number} of [end_to_end]");
            let left_out = tokens;
            return Err(StoreError::NothingKept {
                what,
                tokens,
                left_out,
            }
            .into());
        }
        let rebuilt = trainer.rebuilt(rows.view())?;
        let (kl, gradient) = self.gradient(at, &seen, &rebuilt)?;
        let through = Through {
            loss: kl,
            gradient: &gradient,
            weight: self.plan.weight,
        };
        let lr = self.plan.lr * left;
        let report = trainer.step_through(rows.view(), None, Some(through), Some(lr))?;
        Ok((report, kl))
    }

    fn seen(&self, at: HookPoint, ids: Vec<Vec<u32>>) -> Result<Seen, TrainError> {
        let harvest = Harvest::new(self.model, &[at])?;
        let medians = self.facts.medians(&[at]).unwrap_or_default();
        let (mut values, mut kept) = (Vec::new(), Vec::new());
        for part in ids.chunks(self.pass) {
            for mut tokens in harvest.pass(part, values.len() as u64)? {
                let reasons = self.policy.judge(&tokens.ids, &tokens.norms(), &medians);
                kept.push(reasons.iter().map(|r| *r == Reason::Kept).collect());
                values.push(tokens.values.remove(0));
            }
        }
        Ok(Seen { ids, values, kept })
    }

    /// `KL(clean ‖ spliced)` in nats, averaged over all tokens, and its gradient at the rebuilt rows.
    fn gradient(
        &self,
        at: HookPoint,
        seen: &Seen,
        rebuilt: &Array2<f32>,
    ) -> Result<(f64, Vec<f32>), TrainError> {
        let width = rebuilt.ncols();
        let tokens = (seen.ids.len() * self.length) as f64;
        let (mut kl, mut gradient) = (0.0, Vec::with_capacity(rebuilt.len()));
        let mut next = 0;
        for (part, ids) in seen.ids.chunks(self.pass).enumerate() {
            let first = part * self.pass;
            let mut values = seen.values[first..first + ids.len()].concat();
            let kept = seen.kept[first..first + ids.len()].concat();
            for (row, kept) in values.chunks_exact_mut(width).zip(&kept) {
                if *kept {
                    row.copy_from_slice(rebuilt.row(next).as_slice().unwrap_or_default());
                    next += 1;
                }
            }
            let spliced = Tensor::from_vec(values, (ids.len(), self.length, width), &Device::Cpu)?;
            let spliced = Var::from_tensor(&spliced.to_dtype(self.model.compute_dtype())?)?;
            let batch = Batch::new(ids)?;
            let clean = self.model.forward(&batch, &Hooks::new(), LogitsAt::All)?;
            let clean = ops::log_softmax_last_dim(&clean.logits()?)?;
            let hooks = Hooks::new().edit(in_place(at, spliced.as_tensor()));
            let there = self.model.forward(&batch, &hooks, LogitsAt::All)?;
            let there = ops::log_softmax_last_dim(&there.logits()?)?;
            let apart = (clean.exp()? * (clean - there)?)?.sum_all()?;
            let loss = (apart / tokens)?;
            kl += loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            let grads = ops::backward(&loss)?;
            let Some(found) = grads.get(spliced.as_tensor()) else {
                // Nothing behind the point reads it.
                gradient.resize(next * width, 0.0);
                continue;
            };
            let found: Vec<f32> = found.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            let rows = found.chunks_exact(width).zip(&kept);
            gradient.extend(rows.filter(|(_, kept)| **kept).flat_map(|(row, _)| row));
        }
        Ok((kl, gradient))
    }
}

impl Seen {
    /// The rows that are replaced, `[n, width]`.
    fn rows(&self) -> Array2<f32> {
        let width = self
            .values
            .first()
            .map_or(0, |values| values.len() / self.ids[0].len());
        let mut all = Vec::new();
        for (values, kept) in self.values.iter().zip(&self.kept) {
            let rows = values.chunks_exact(width.max(1)).zip(kept);
            all.extend(rows.filter(|(_, kept)| **kept).flat_map(|(row, _)| row));
        }
        let n = all.len() / width.max(1);
        let rows = Array2::from_shape_vec((n, width), all);
        rows.unwrap_or_else(|_| Array2::zeros((0, width)))
    }
}

/// The whole activation replaced.
fn in_place(at: HookPoint, whole: &Tensor) -> Edit {
    let whole = whole.clone();
    let name = "reconstruction in training".into();
    let function = Arc::new(move |x: &Tensor, _: &_| whole.reshape(x.dims())?.to_dtype(x.dtype()));
    Edit::new(at, EditOp::Closure { name, function })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candlescope_sae::train::{Balanced, Weight};

    use super::*;
    use crate::activations::{Packing, Source, TextOptions, TextRows};
    use crate::hooks::Point;
    use crate::model::Checkpoint;

    const LENGTH: usize = 12;

    /// What `check` is given: the texts of 20 contexts on the toy.
    fn with(check: impl FnOnce(Behind)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("texts.txt");
        let words: Vec<String> = (0..100).map(|i| format!("word{} ", i * 7 % 31)).collect();
        std::fs::write(&file, words.concat()).unwrap();
        let toy = Checkpoint::toy(0).unwrap();
        let options = TextOptions {
            chat: None,
            max_len: None,
            truncate: false,
            limit: None,
            now: jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0),
        };
        let texts = TextRows::new(&toy, Source::Documents(file), options).unwrap();
        let packing = Packing::new(LENGTH, None, &toy.tokenizer).unwrap();
        let contexts = PackedContexts::new(texts, packing).unwrap();
        let policy = Policy::parse("first", &toy.tokenizer).unwrap();
        let at = HookPoint::new(Point::ResidPost, 1);
        let harvest = Harvest::new(&toy.decoder, &[at]).unwrap();
        let (facts, _) = Facts::measure(&harvest, &contexts, &policy, 2).unwrap();
        check(Behind {
            model: &toy.decoder,
            contexts: &contexts,
            policy,
            facts,
            plan: EndToEnd {
                tokens: 100,
                batch: 3 * LENGTH,
                lr: 1e-3,
                weight: Weight::Named(Balanced::Balanced),
            },
            length: LENGTH,
            skip: 2,
            pass: 2,
            next: Cell::new(None),
        });
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_kl_and_nothing_replaced_is_no_kl() {
        with(|behind| {
            let at = HookPoint::new(Point::ResidPost, 1);
            let seen = behind.seen(at, behind.of_step(0).unwrap()).unwrap();
            let rows = seen.rows();
            // All but the first token of each.
            assert_eq!(rows.nrows(), 3 * (LENGTH - 1));
            let (kl, gradient) = behind.gradient(at, &seen, &rows).unwrap();
            assert!(kl.abs() < 1e-6 && gradient.len() == rows.len());
            let off = Array2::from_shape_fn(rows.dim(), |(i, j)| {
                rows[[i, j]] + 0.3 * (((i * 31 + j * 17) % 13) as f32 / 6.0 - 1.0)
            });
            let (kl, gradient) = behind.gradient(at, &seen, &off).unwrap();
            assert!(kl > 1e-3);
            let width = rows.ncols();
            for (row, column) in [(0, 3), (12, 0), (32, 5)] {
                let nudged = |by: f32| {
                    let mut other = off.clone();
                    other[[row, column]] += by;
                    behind.gradient(at, &seen, &other).unwrap().0
                };
                let slope = (nudged(2e-2) - nudged(-2e-2)) / 4e-2;
                let found = f64::from(gradient[row * width + column]);
                let near = (slope - found).abs() <= 0.03 * found.abs() + 2e-6;
                assert!(near && found != 0.0, "{row} {column}: {slope} {found}");
            }
        });
    }

    #[test]
    fn contexts_of_a_step_follow_from_its_number_and_begin_anew_at_the_end() {
        with(|behind| {
            let one_by_one: Vec<_> = (0..30).map(|i| behind.of_step(i).unwrap()).collect();
            for (number, expected) in (0..).zip(&one_by_one) {
                behind.next.set(None);
                assert_eq!(&behind.of_step(number).unwrap(), expected);
            }
            let all = behind.contexts.contexts(Cursor::default()).unwrap();
            let all = all.map(|context| context.unwrap().0);
            let all: Vec<Vec<u32>> = all.filter(|ids| ids.len() == LENGTH).collect();
            let flat: Vec<&Vec<u32>> = one_by_one.iter().flatten().collect();
            assert_eq!(flat[0], &all[2]);
            assert!(flat.len() > all.len());
            let wrapped = |i: usize| flat[i] == &all[(i + 2) % all.len()];
            assert!((0..flat.len()).all(wrapped));
        });
    }
}
