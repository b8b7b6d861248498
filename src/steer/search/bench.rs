//! What an edit is measured on: prompts of one use, and what the unedited model does with them.
//!
//! Damage is read over many tokens: the unedited model's own answer to a harmless prompt is given to both, and the divergence
//! is of the distributions at each of its tokens. The first token alone hides loops and drift (heretic's issues 210 and 253).
//! Always: a prompt's number does not depend on which others are run with it, so parts of a bench add up to the whole. Of the
//! unedited model the last residuals are kept, not the logits: the unembedding is run again for each prompt, which gives the same
//! bits from `d_model` numbers a token instead of one for each token of the vocabulary.

use std::ops::Range;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{Answers, Extras, Measured, SearchError};
use crate::hooks::{HookPoint, Hooks, Point};
use crate::model::{Checkpoint, LogitsAt, generate::Prefix};
use crate::steer::pass::each_batch;
use crate::steer::{
    Completion, EncodedPrompt, Options, PromptSet, RefusalTokens, SteerError, completions, kl,
    refusal_scores,
};

/// Prompts of one use with their words.
#[derive(Debug, Clone, Copy)]
pub struct Prompts<'a> {
    /// Requests an aligned model declines.
    pub harmful: &'a [EncodedPrompt],
    /// The same as they were asked.
    pub harmful_words: &'a [String],
    /// Ordinary requests.
    pub harmless: &'a [EncodedPrompt],
    /// Safe requests that look dangerous.
    pub lookalike: &'a [EncodedPrompt],
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Tokens of the unedited answer that the divergence is read over.
    pub continuation: usize,
    /// Tokens of an answer that is judged; 0 judges none.
    pub max_new: usize,
    /// Prompts of a class that are answered.
    pub answers: usize,
}

/// What a judge says of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// It declines.
    pub refused: bool,
    /// It ends in a loop.
    pub loops: bool,
}

/// Reads an answer to a prompt: a detector of refusals and of loops.
pub type Judge<'a> = dyn Fn(Option<&str>, &Completion) -> Judged + 'a;

/// Prompts with what the unedited model does.
pub struct Bench<'a> {
    cp: &'a Checkpoint,
    tokens: &'a RefusalTokens,
    prompts: Prompts<'a>,
    sizes: Sizes,
    judge: &'a Judge<'a>,
    options: Options<'a>,
    /// Harmless prompts with the unedited answer behind them, its last token left out.
    forced: Vec<EncodedPrompt>,
    /// Tokens of each answer.
    lengths: Vec<usize>,
    /// Unedited last residuals of each answer, `[tokens, d_model]`, before the final norm.
    base: Vec<Tensor>,
    /// The unedited model.
    unedited: (Measured, Extras),
    floor: f64,
}

impl<'a> Bench<'a> {
    /// Runs the unedited model. `floor` is the refusal score at which nothing is left to remove; by default the mean of the
    /// unedited model on the harmless prompts.
    ///
    /// # Errors
    /// Fewer than 4 harmful or harmless prompts or fewer than 2 look-alikes, an answer of no token, anything a pass can fail with.
    pub fn new(
        cp: &'a Checkpoint,
        tokens: &'a RefusalTokens,
        prompts: Prompts<'a>,
        (sizes, floor): (Sizes, Option<f64>),
        judge: &'a Judge<'a>,
        options: Options<'a>,
    ) -> Result<Self, SearchError> {
        for (what, needed, found) in [
            ("harmful prompts of a search", 4, prompts.harmful.len()),
            ("harmless prompts of a search", 4, prompts.harmless.len()),
            ("look-alike prompts of a search", 2, prompts.lookalike.len()),
        ] {
            if found < needed {
                return Err(SteerError::TooFew {
                    what,
                    needed,
                    found,
                }
                .into());
            }
        }
        if sizes.continuation == 0 {
            return Err(SearchError::Setting {
                field: "tokens of the divergence",
                expected: "at least 1",
                found: "0".to_owned(),
            });
        }
        let none = Hooks::new();
        let said = completions(cp, prompts.harmless, sizes.continuation, &none, &options)?;
        let (forced, lengths) = forced(prompts.harmless, &said)?;
        let mut bench = Self {
            cp,
            tokens,
            prompts,
            sizes,
            judge,
            options,
            base: Vec::new(),
            forced,
            lengths,
            unedited: (
                Measured::default(),
                Extras {
                    lookalike: Vec::new(),
                    answers: None,
                },
            ),
            floor: 0.0,
        };
        let mut base = vec![None; bench.forced.len()];
        bench.forced_states(0..bench.forced.len(), &none, &mut |i, states| {
            // A part of a batch would keep all of it.
            base[i] = Some(states.force_contiguous()?);
            Ok(())
        })?;
        bench.base = base.into_iter().flatten().collect();
        let harmless = bench.scores(prompts.harmless, &none)?;
        let mean = harmless.iter().sum::<f64>() / harmless.len() as f64;
        bench.floor = floor.unwrap_or(mean);
        bench.unedited.0 = Measured {
            scores: bench.scores(prompts.harmful, &none)?,
            kl: vec![0.0; bench.forced.len()],
        };
        bench.unedited.1 = bench.extras(&none)?;
        Ok(bench)
    }

    /// Harmful and harmless prompts.
    pub fn counts(&self) -> [usize; 2] {
        [self.prompts.harmful.len(), self.prompts.harmless.len()]
    }

    /// The refusal score at which nothing is left to remove.
    pub fn floor(&self) -> f64 {
        self.floor
    }

    /// The unedited model.
    pub fn unedited(&self) -> (&Measured, &Extras) {
        (&self.unedited.0, &self.unedited.1)
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.cp
    }

    /// Measures on the first quarters of the harmful and of the harmless prompts, of which there are four, behind what is known.
    ///
    /// # Errors
    /// A pass's.
    pub fn measure(
        &self,
        hooks: &Hooks,
        quarters: usize,
        known: &mut Measured,
    ) -> Result<(), SearchError> {
        let upto = |n: usize| (n * quarters.min(4)).div_ceil(4);
        let [harmful, harmless] = self.counts().map(upto);
        if let Some(rest) = self.prompts.harmful.get(known.scores.len()..harmful) {
            known.scores.extend(self.scores(rest, hooks)?);
        }
        let (from, to) = (known.kl.len(), harmless);
        if from < to {
            known.kl.extend(self.divergences(from..to, hooks)?);
        }
        Ok(())
    }

    /// Everything of an edit.
    ///
    /// # Errors
    /// A pass's.
    pub fn whole(&self, hooks: &Hooks) -> Result<(Measured, Extras), SearchError> {
        let mut measured = Measured::default();
        self.measure(hooks, 4, &mut measured)?;
        Ok((measured, self.extras(hooks)?))
    }

    /// Look-alikes and answers.
    ///
    /// # Errors
    /// A pass's.
    pub fn extras(&self, hooks: &Hooks) -> Result<Extras, SearchError> {
        let lookalike = self.scores(self.prompts.lookalike, hooks)?;
        let answers = match self.sizes.max_new {
            0 => None,
            _ => Some(self.answers(hooks)?),
        };
        Ok(Extras { lookalike, answers })
    }

    fn answers(&self, hooks: &Hooks) -> Result<Answers, SearchError> {
        let first =
            |prompts: &'a [EncodedPrompt]| &prompts[..prompts.len().min(self.sizes.answers)];
        let (harmful, harmless) = (first(self.prompts.harmful), first(self.prompts.harmless));
        let said =
            |prompts| completions(self.cp, prompts, self.sizes.max_new, hooks, &self.options);
        let (to_harmful, to_harmless) = (said(harmful)?, said(harmless)?);
        let words = |i: usize| self.prompts.harmful_words.get(i).map(String::as_str);
        let refused = to_harmful.iter().enumerate();
        let refused = refused.filter(|(i, answer)| (self.judge)(words(*i), answer).refused);
        let loops = to_harmless.iter().filter(|a| (self.judge)(None, a).loops);
        Ok(Answers {
            refused: refused.count() as u64,
            harmful: harmful.len() as u64,
            loops: loops.count() as u64,
            harmless: harmless.len() as u64,
        })
    }

    fn scores(&self, prompts: &[EncodedPrompt], hooks: &Hooks) -> Result<Vec<f64>, SearchError> {
        Ok(refusal_scores(
            self.cp,
            prompts,
            hooks,
            self.tokens,
            &self.options,
        )?)
    }

    /// Mean KL a token of some of the harmless prompts.
    fn divergences(&self, of: Range<usize>, hooks: &Hooks) -> Result<Vec<f64>, SearchError> {
        let first = of.start;
        let mut found = vec![0.0; of.len()];
        let vocab = self.cp.config().vocab_size;
        self.forced_states(of, hooks, &mut |i, states| {
            let (base, edited) = (self.logits(&self.base[first + i])?, self.logits(states)?);
            let pairs = base.par_chunks(vocab).zip(edited.par_chunks(vocab));
            let each: Vec<f64> = pairs.map(|(p, q)| kl(p, q)).collect();
            found[i] = each.iter().sum::<f64>() / each.len() as f64;
            if found[i].is_finite() {
                return Ok(());
            }
            Err(SteerError::NotFinite {
                id: self.forced[first + i].id.clone(),
                what: "divergence from the unedited model",
            })
        })?;
        Ok(found)
    }

    /// Logits `[tokens · vocab]` of last residuals `[tokens, d_model]`.
    fn logits(&self, states: &Tensor) -> Result<Vec<f32>, SteerError> {
        let logits = self.cp.decoder.unembed(&states.contiguous()?)?;
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// Last residuals `[tokens, d_model]` at the tokens of each unedited answer, `visit(index within the range, residuals)`.
    fn forced_states(
        &self,
        of: Range<usize>,
        hooks: &Hooks,
        visit: &mut dyn FnMut(usize, &Tensor) -> Result<(), SteerError>,
    ) -> Result<(), SearchError> {
        let (rows, lengths) = (&self.forced[of.clone()], &self.lengths[of]);
        // A prompt's last token gives its first logits: it stays outside the prefix.
        let set = PromptSet::keeping(rows, |row| row.tail.end.saturating_sub(1));
        let model = &self.cp.decoder;
        let at = HookPoint::new(Point::ResidPost, model.config().n_layers - 1);
        let run = &mut |prefix: &Prefix, indices: &[usize], tokens: &[&[u32]]| {
            let (mut cache, batch) = prefix.split(tokens, 0)?;
            let reading = hooks.clone().capture(at);
            // A pass that fills a cache runs to its end.
            let mut out = model.forward_cached(&batch, &mut cache, &reading, LogitsAt::Last)?;
            let Some(stream) = out.captured.remove(&at) else {
                return Err(SteerError::Places {
                    what: "the last residuals",
                });
            };
            for (row, &index) in indices.iter().enumerate() {
                let length = lengths[index];
                let states = stream.get(row)?.narrow(0, batch.len() - length, length)?;
                visit(index, &states)?;
            }
            Ok(())
        };
        each_batch(model, &set, hooks, &self.options, run)?;
        Ok(())
    }
}

/// Prompts with the answers behind them but for their last token, and how long each answer is.
fn forced(
    prompts: &[EncodedPrompt],
    said: &[Completion],
) -> Result<(Vec<EncodedPrompt>, Vec<usize>), SteerError> {
    let mut rows = Vec::with_capacity(prompts.len());
    let mut lengths = Vec::with_capacity(prompts.len());
    for (prompt, answer) in prompts.iter().zip(said) {
        let Some((_, but_last)) = answer.ids.split_last() else {
            return Err(SteerError::NotFinite {
                id: prompt.id.clone(),
                what: "unedited answer, which has no token,",
            });
        };
        let mut row = prompt.clone();
        row.ids.extend(but_last);
        rows.push(row);
        lengths.push(answer.ids.len());
    }
    Ok((rows, lengths))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{CpuStorage, Storage};

    use super::*;
    use crate::steer::{encode_all, refusal_tokens};
    use crate::text::suites::{PromptRow, Suite};

    #[test]
    fn the_width_of_the_model_is_kept_for_each_token_and_gives_the_same_bits() {
        let cp = Checkpoint::toy(0).unwrap();
        let tokens = refusal_tokens(&cp).unwrap();
        let of = |suite: &str| {
            let rows = Suite::builtin(suite).unwrap().rows;
            encode_all(&cp, &rows.iter().take(5).collect::<Vec<&PromptRow>>()).unwrap()
        };
        let (harmful, harmless, lookalike) = (of("harmful"), of("harmless"), of("lookalike"));
        let prompts = Prompts {
            harmful: &harmful,
            harmful_words: &[],
            harmless: &harmless,
            lookalike: &lookalike,
        };
        let sizes = Sizes {
            continuation: 3,
            max_new: 0,
            answers: 0,
        };
        let judge = |_: Option<&str>, _: &Completion| Judged {
            refused: false,
            loops: false,
        };
        let options = Options {
            batch: 2,
            ..Options::default()
        };
        let bench = Bench::new(&cp, &tokens, prompts, (sizes, None), &judge, options).unwrap();
        assert_eq!(bench.base.len(), 5);
        for (states, length) in bench.base.iter().zip(&bench.lengths) {
            let (storage, _) = states.storage_and_layout();
            let Storage::Cpu(CpuStorage::F32(kept)) = &*storage else {
                panic!("not f32 in memory");
            };
            assert_eq!(kept.len(), length * cp.config().d_model);
        }
        let (same, _) = bench.whole(&Hooks::new()).unwrap();
        assert_eq!(same.kl, [0.0; 5]);
    }
}
