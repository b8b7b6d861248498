//! The rows that were used around the break, by how much each pushes the signal towards it.
//!
//! The proxy. A signal counts answers, which no gradient goes through, so it is replaced by S, at the good checkpoint: the mean
//! over the items whose answers differ of `log p(broken answer) - log p(good answer)`; of a signal that is a score, the mean of
//! the score itself, with the sign of the break. The push of a row is `-<grad loss, grad S>` (`train::influence`), and the
//! ranking goes by the same between gradients of length 1, `cosine`: the optimiser clips gradients and rescales them, so the
//! length of a row's gradient, which grows with its length and its loss whatever it is about, is not how far it moves the
//! weights. In five small trials with planted rows the AUROC of the push was 0.65 on average (once 0.22), of the cosine 0.78.
//! Both are in the files.
//!
//! A second score needs no gradient: the mean state over the row's answer, in the middle of the blocks, along the difference of
//! the mean states of broken and good answers; of a pair, chosen minus rejected.
//!
//! Always: a row counts once, however often it was used in the window; its steps say when. TracIn follows plain gradient steps,
//! not the optimiser's: it says which rows pull in the direction of the break, not by how much each moved it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::guilty::{self, Guilty};
use super::items::{Asked, Asking, Items};
use super::replay::Replay;
use super::search::RANK;
use super::{BisectError, Halt, Note, Target};
use crate::audit::policy::Policy;
use crate::model::{Checkpoint, LoadOptions};
use crate::text::Tokenizer;
use crate::train::examples::Taught;
use crate::train::influence::{self, Said, Slope};
use crate::train::{Examples, Parts, Saved, states};

/// The longest piece of a row that is shown, in characters: rows that break a signal are likely to be what must not be spread.
const SHOWN: usize = 80;
const MARK: &str = " [truncated]";

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// `file:line`.
    pub row: String,
    /// The steps of the window in which it was used.
    pub steps: Vec<u64>,
    /// `-<grad loss, grad S>`; above 0 is towards the break.
    pub push: f64,
    /// The same between gradients of length 1, from -1 to 1, by which the rows are ranked.
    pub cosine: f64,
    /// The norm of the gradient of its loss.
    pub gradient: f64,
    /// Its loss at the good checkpoint.
    pub loss: f64,
    /// Its mean state along the difference of broken and good answers.
    pub projection: Option<f64>,
    /// The end of its prompt.
    pub prompt: String,
    /// The beginning of its answer; of a pair the chosen one.
    pub answer: String,
    /// Whether it is known to be at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guilty: Option<bool>,
}

/// All rows of a window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// First and last step.
    pub window: (u64, u64),
    /// What S is, in words.
    pub proxy: String,
    /// Items that count in it.
    pub items: usize,
    /// Items in all.
    pub of: usize,
    /// S at the good checkpoint.
    pub value: f64,
    /// The norm of its gradient there.
    pub gradient: f64,
    /// The layer at whose input states were read; none where no answer differs.
    pub layer: Option<usize>,
    /// The rows, the one that pushes most first.
    pub rows: Vec<Ranked>,
    /// How well rows that are known are found.
    pub guilty: Option<Guilty>,
}

/// What ranks rows.
pub(super) struct Rank<'a> {
    /// What broke.
    pub target: &'a Target,
    /// The policy that it was asked by.
    pub policy: &'a Policy,
    /// What opens the stage at the good checkpoint.
    pub replay: &'a Replay<'a>,
    /// The good checkpoint; the stage's beginning where there is none.
    pub from: Option<&'a Saved>,
    /// Good and broken model.
    pub ends: (&'a Path, &'a Path),
    /// First and last step.
    pub window: (u64, u64),
    /// Whether the signal's number rose.
    pub rises: bool,
    /// The mark of rows known to be at fault.
    pub guilty: Option<&'a (String, String)>,
    /// Who is told, and who may stop it.
    pub halt: Halt<'a>,
}

impl Rank<'_> {
    /// The ranking; or, in words, why there is none.
    pub fn run(&self) -> Result<Result<Ranking, String>, BisectError> {
        let open = |path: &Path| Checkpoint::open("checkpoint", path, &LoadOptions::default());
        let items = {
            let (good, broken) = (open(self.ends.0)?, open(self.ends.1)?);
            let asking = Asking {
                target: self.target,
                policy: self.policy,
                good: &good,
                broken: &broken,
                halt: self.halt,
            };
            match asking.items()? {
                Ok(items) => items,
                Err(why) => return Ok(Err(why)),
            }
        };
        let differ: Vec<&Asked> = items.asked.iter().filter(|a| a.good != a.broken).collect();
        if items.scores.is_none() && differ.is_empty() {
            let why = format!(
                "none of the {} answers that the signal counts differs between the two checkpoints",
                items.asked.len()
            );
            return Ok(Err(why));
        }
        let place = self.replay.scratch.join(RANK);
        let session = self.replay.session(&place, self.from, self.window.1)?;
        let parts = session.parts();
        let Some(examples) = parts.method.examples() else {
            let method = parts.method.name();
            let why = format!("`{method}` has no loss of one row of a file by itself");
            return Ok(Err(why));
        };
        let failed = |source| BisectError::train(&self.replay.stage.name)(source);
        let used = used(parts, examples, self.window);
        let marks = self
            .guilty
            .map(|mark| guilty::marks(&parts.config.data.train, mark))
            .transpose()?;
        let (slope, proxy) = self.slope(parts, &items, &differ).map_err(failed)?;
        let direction = direction(parts, &differ).map_err(failed)?;
        let mut rows = Vec::with_capacity(used.len());
        for (done, (&example, steps)) in used.iter().enumerate() {
            self.halt.check()?;
            self.halt.watcher.said(&Note::Ranking {
                done,
                total: used.len(),
            });
            let push = influence::push(&parts.bench, examples, example, &slope).map_err(failed)?;
            let taught = examples.taught(example);
            let along = match &direction {
                Some(direction) => Some(projected(parts, &taught, direction).map_err(failed)?),
                None => None,
            };
            let row = examples.place(example);
            let (prompt, answer) = excerpts(&parts.tokenizer, taught.first())?;
            rows.push(Ranked {
                guilty: marks.as_ref().map(|marks| marks.contains(&row)),
                row,
                steps: steps.clone(),
                push: push.raw,
                cosine: push.cosine,
                gradient: push.norm,
                loss: push.loss,
                projection: along,
                prompt,
                answer,
            });
        }
        // Of equals the one that was used first.
        rows.sort_by(|a, b| {
            let order = b.cosine.total_cmp(&a.cosine);
            order
                .then_with(|| a.steps.cmp(&b.steps))
                .then_with(|| a.row.cmp(&b.row))
        });
        let guilty = match self.guilty {
            Some(mark) => Some(guilty::separation(&rows, mark)?),
            None => None,
        };
        let of = match &items.scores {
            Some((scored, _)) => scored.len(),
            None => items.asked.len(),
        };
        Ok(Ok(Ranking {
            window: self.window,
            proxy,
            items: if items.scores.is_some() {
                of
            } else {
                differ.len()
            },
            of,
            value: slope.value,
            gradient: slope.norm,
            layer: direction.map(|direction| direction.layer),
            rows,
            guilty,
        }))
    }

    /// The proxy's slope, and what it is.
    fn slope(
        &self,
        parts: &Parts,
        items: &Items,
        differ: &[&Asked],
    ) -> Result<(Slope, String), crate::train::TrainError> {
        if let Some((scored, ids)) = &items.scores {
            let sign = if self.rises { 1.0 } else { -1.0 };
            let scored: Vec<(Vec<u32>, f64)> = scored
                .iter()
                .map(|(prompt, weight)| (prompt.clone(), sign * weight))
                .collect();
            let words = if self.rises {
                "mean refusal score, which rose"
            } else {
                "minus the mean refusal score, which fell"
            };
            let slope = influence::of_log_odds(&parts.bench, &scored, ids)?;
            return Ok((slope, words.to_owned()));
        }
        let each = 1.0 / differ.len() as f64;
        let said: Vec<Said> = differ
            .iter()
            .flat_map(|asked| {
                [(&asked.broken, each), (&asked.good, -each)].map(|(answer, weight)| Said {
                    prompt: asked.prompt.clone(),
                    answer: answer.clone(),
                    weight,
                })
            })
            .collect();
        let slope = influence::of_answers(&parts.bench, &said)?;
        let words = "mean of log p(broken answer) - log p(good answer)";
        Ok((slope, words.to_owned()))
    }
}

/// The examples of the rows that the steps of a window take, with the steps.
fn used(
    parts: &Parts,
    examples: &dyn Examples,
    (from, to): (u64, u64),
) -> BTreeMap<usize, Vec<u64>> {
    let config = &parts.config;
    let mut sampler = config.data.sampler(config.seed);
    let (rows, size) = (parts.method.facts().rows, config.rows_per_step());
    let mut used: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for step in 1..=to {
        let drawn = sampler.batch(rows, size);
        if step < from {
            continue;
        }
        for example in drawn.into_iter().flat_map(|row| examples.of_row(row)) {
            let steps = used.entry(example).or_default();
            if steps.last() != Some(&step) {
                steps.push(step);
            }
        }
    }
    used
}

/// Where broken answers lie from good ones.
struct Direction {
    layer: usize,
    unit: Vec<f64>,
}

/// The direction from good to broken answers in the middle of the blocks; none where nothing differs.
fn direction(
    parts: &Parts,
    differ: &[&Asked],
) -> Result<Option<Direction>, crate::train::TrainError> {
    let decoder = parts.bench.policy.decoder();
    let layer = states::middle(decoder);
    let said = |answer: fn(&Asked) -> &Vec<u32>| -> Vec<Taught> {
        let with = differ
            .iter()
            .filter(|a| !a.good.is_empty() && !a.broken.is_empty());
        with.map(|asked| Taught::answer(&asked.prompt, answer(asked), 1.0))
            .collect()
    };
    let broken = states::means(decoder, &said(|asked| &asked.broken), layer)?;
    let good = states::means(decoder, &said(|asked| &asked.good), layer)?;
    let mut sum = vec![0.0; decoder.config().d_model];
    for (broken, good) in broken.iter().zip(&good) {
        for (sum, (b, g)) in sum.iter_mut().zip(broken.iter().zip(good)) {
            *sum += b - g;
        }
    }
    let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    let unit = sum.iter().map(|x| x / norm).collect();
    Ok((norm > 0.0).then_some(Direction { layer, unit }))
}

fn projected(
    parts: &Parts,
    taught: &[Taught],
    direction: &Direction,
) -> Result<f64, crate::train::TrainError> {
    let decoder = parts.bench.policy.decoder();
    let means = states::means(decoder, taught, direction.layer)?;
    let each = means.iter().zip(taught);
    Ok(each
        .map(|(mean, taught)| {
            let along = mean.iter().zip(&direction.unit);
            taught.sign * along.map(|(x, u)| x * u).sum::<f64>()
        })
        .sum())
}

/// The end of the prompt and the beginning of the answer, cut short.
fn excerpts(
    tokenizer: &Tokenizer,
    taught: Option<&Taught>,
) -> Result<(String, String), BisectError> {
    let Some(taught) = taught else {
        return Ok((String::new(), String::new()));
    };
    let start = taught.answer.iter().position(|is| *is).unwrap_or(0);
    // Of several answers in one conversation all, without what is said between them.
    let tokens = taught.ids.iter().zip(&taught.answer);
    let said: Vec<u32> = tokens.filter_map(|(id, is)| is.then_some(*id)).collect();
    let prompt = tokenizer.decode(&taught.ids[..start], true)?;
    let answer = tokenizer.decode(&said, true)?;
    Ok((ending(&prompt), beginning(&answer)))
}

fn beginning(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}{MARK}", &text[..end]),
        None => text.to_owned(),
    }
}

fn ending(text: &str) -> String {
    let from = text.chars().count().saturating_sub(SHOWN);
    match text.char_indices().nth(from) {
        Some((start, _)) if from > 0 => format!("{} {}", MARK.trim(), &text[start..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_by_characters_at_the_right_end() {
        let long = "é".repeat(100);
        let kept = "é".repeat(80);
        assert_eq!(beginning(&long), format!("{kept} [truncated]"));
        assert_eq!(ending(&long), format!("[truncated] {kept}"));
        assert_eq!((beginning("a"), ending("b")), ("a".into(), "b".into()));
    }
}
