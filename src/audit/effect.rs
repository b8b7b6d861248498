//! What a direction does to prompts that neither made nor chose it: scores, divergence and judged answers under ablation, addition
//! and subtraction, beside random directions.
//!
//! Always: the prompts are given by the caller, who keeps them apart from those that made or chose the direction; every random
//! direction has the direction's own length, is drawn from the covariance of activations at its place, and is tried on the same
//! prompts as the direction it stands beside. The rows are those of table 1 and figure 3 of Arditi et al. (2024).

use candlescope_probes::ProbeError;
use candlescope_probes::controls::NullDistribution;
use candlescope_probes::stats::bootstrap::{
    Bootstrap, BootstrapOptions, Resampling, bootstrap_mean,
};
use candlescope_probes::stats::interval::Proportion;
use candlescope_probes::stats::paired::{McNemar, PairedTable, mcnemar};
use serde::{Deserialize, Serialize};

use super::detect::coherence::{Ending, coherence};
use super::detect::{ReplyLabel, judge_reply};
use crate::hooks::{Hooks, Vector};
use crate::model::Checkpoint;
use crate::steer::{
    self, Candidate, EncodedPrompt, Options, RefusalTokens, SteerError, Tally, ablation, addition,
    covariance_matched_directions,
};

/// Prompts that are kept apart, encoded, with their words for the judge.
#[derive(Clone, Copy)]
pub struct HeldOut<'a> {
    /// Requests an aligned model declines.
    pub harmful: &'a [EncodedPrompt],
    /// The same as they were asked.
    pub harmful_words: &'a [String],
    /// Ordinary requests.
    pub harmless: &'a [EncodedPrompt],
    /// The same as they were asked.
    pub harmless_words: &'a [String],
    /// Harmless prompts whose activations random directions are drawn from; not reported on.
    pub spread: &'a [EncodedPrompt],
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Tokens of an answer; 0 judges no answers.
    pub max_new: usize,
    /// Random directions.
    pub random: usize,
    /// Prompts of each class that random directions are tried on.
    pub random_prompts: usize,
    /// Seed of the random directions and the intervals.
    pub seed: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            max_new: 64,
            random: 32,
            random_prompts: 16,
            seed: 0,
        }
    }
}

/// One condition: which prompts under which edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// `harmful`, `harmful_ablated`, `harmful_subtracted`, `harmless`, `harmless_added`, `harmless_ablated`.
    pub name: String,
    /// Mean refusal score, nats of log-odds.
    pub score: Bootstrap,
    /// Mean KL(unedited ‖ edited) at the last position, nats; none where nothing is edited.
    pub kl: Option<Bootstrap>,
    /// Mean score and KL over the prompts that random directions were tried on too, beside them.
    pub random: Option<Beside>,
    /// Answers that refuse.
    pub refused: Option<Proportion>,
    /// Against the same prompts unedited (McNemar).
    pub change: Option<McNemar>,
    /// Answers that cannot be judged: loops, noise, nothing.
    pub unusable: Option<Proportion>,
    /// Answers that end in a loop.
    pub loops: Option<Proportion>,
}

/// A direction's means beside those of random directions on the same prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// Prompts.
    pub prompts: usize,
    /// Refusal score.
    pub score: NullDistribution,
    /// KL, in logs, since its noise is multiplicative.
    pub log_kl: NullDistribution,
}

/// Everything measured of a direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Harmful prompts.
    pub n_harmful: usize,
    /// Harmless prompts.
    pub n_harmless: usize,
    /// Length of what is added over the mean length of what it is added to, on harmless prompts.
    pub relative_dose: f64,
    /// The conditions, unedited ones first.
    pub conditions: Vec<Condition>,
    /// How much was measured.
    pub sizes: Sizes,
}

/// Measures a direction; `tell(done, total)` counts prompts.
///
/// # Errors
/// A pass's; too few prompts for an interval; an interruption.
pub fn effect(
    cp: &Checkpoint,
    candidate: &Candidate,
    tokens: &RefusalTokens,
    held: HeldOut,
    sizes: Sizes,
    options: &Options,
) -> Result<Effect, SteerError> {
    let trial = Trial::new(cp, candidate, tokens, held, sizes, options)?;
    let random = trial.random()?;
    let mut conditions = Vec::new();
    for (class, deeds) in [
        (Class::Harmful, [Deed::Ablated, Deed::Subtracted]),
        (Class::Harmless, [Deed::Added, Deed::Ablated]),
    ] {
        let base = trial.unedited(class)?;
        conditions.push(trial.condition(class.name(), &base, None, None)?);
        for deed in deeds {
            let found = trial.outcome(class, &deed.hooks(&candidate.unit(), candidate, cp))?;
            let nulls = random
                .iter()
                .map(|vector| trial.means(class, &deed.hooks(vector, candidate, cp)))
                .collect::<Result<Vec<_>, _>>()?;
            let name = format!("{}_{}", class.name(), deed.name());
            conditions.push(trial.condition(&name, &found, Some(&base), Some(&nulls))?);
        }
    }
    Ok(Effect {
        n_harmful: held.harmful.len(),
        n_harmless: held.harmless.len(),
        relative_dose: trial.relative_dose(),
        conditions,
        sizes,
    })
}

impl Effect {
    /// A condition by its name.
    pub fn get(&self, name: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.name == name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Harmful,
    Harmless,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Harmful => "harmful",
            Self::Harmless => "harmless",
        }
    }
}

/// What is done with a unit vector in a candidate's place, at the candidate's length.
#[derive(Clone, Copy)]
enum Deed {
    Ablated,
    Added,
    Subtracted,
}

impl Deed {
    fn name(self) -> &'static str {
        match self {
            Self::Ablated => "ablated",
            Self::Added => "added",
            Self::Subtracted => "subtracted",
        }
    }

    fn hooks(self, unit: &Vector, candidate: &Candidate, cp: &Checkpoint) -> Hooks {
        let norm = candidate.direction.norm;
        Hooks::new().edits(match self {
            Self::Ablated => ablation(unit, cp.config()),
            Self::Added => addition(unit, candidate.layer, norm),
            Self::Subtracted => addition(unit, candidate.layer, -norm),
        })
    }
}

/// What a class of prompts gave, a value for each.
struct Outcome {
    class: Class,
    scores: Vec<f64>,
    kl: Vec<f64>,
    answers: Option<Answers>,
}

struct Answers {
    refused: Vec<bool>,
    unusable: Vec<bool>,
    loops: Vec<bool>,
}

struct Trial<'a> {
    cp: &'a Checkpoint,
    candidate: &'a Candidate,
    tokens: &'a RefusalTokens,
    held: HeldOut<'a>,
    sizes: Sizes,
    tally: Tally<'a>,
    /// Unedited next-token logits, harmful then harmless.
    base: [Vec<Vec<f32>>; 2],
    controls: usize,
    /// Harmless activations in the candidate's place.
    spread: steer::Residuals,
}

impl<'a> Trial<'a> {
    fn new(
        cp: &'a Checkpoint,
        candidate: &'a Candidate,
        tokens: &'a RefusalTokens,
        held: HeldOut<'a>,
        sizes: Sizes,
        options: &'a Options<'a>,
    ) -> Result<Self, SteerError> {
        for (what, needed, found) in [
            ("held-out harmful prompts", 2, held.harmful.len()),
            ("held-out harmless prompts", 2, held.harmless.len()),
            ("random directions", 8, sizes.random),
            ("prompts for random directions", 2, sizes.random_prompts),
        ] {
            if found < needed {
                return Err(SteerError::TooFew {
                    what,
                    needed,
                    found,
                });
            }
        }
        let controls = (sizes.random_prompts)
            .min(held.harmful.len())
            .min(held.harmless.len());
        // Once unedited and twice edited in each class, each with answers; and every random direction four times.
        let answers = 1 + usize::from(sizes.max_new > 0);
        let conditions = 3 * (held.harmful.len() + held.harmless.len());
        let total = answers * conditions + 4 * sizes.random * controls;
        let tally = Tally::new(options, total);
        let (layer, place) = ([candidate.layer], [candidate.where_]);
        let spread = steer::residuals(cp, held.spread, &layer, &place, &tally.quiet())?;
        let mut trial = Self {
            cp,
            candidate,
            tokens,
            held,
            sizes,
            tally,
            base: [Vec::new(), Vec::new()],
            controls,
            spread,
        };
        for (class, slot) in [(Class::Harmful, 0), (Class::Harmless, 1)] {
            let prompts = trial.prompts(class);
            let mut logits = vec![Vec::new(); prompts.len()];
            trial.tally.part(prompts.len(), |options| {
                steer::last_logits(cp, prompts, &Hooks::new(), options, &mut |i, row| {
                    logits[i] = row.to_vec();
                })
            })?;
            trial.base[slot] = logits;
        }
        Ok(trial)
    }

    fn prompts(&self, class: Class) -> &'a [EncodedPrompt] {
        match class {
            Class::Harmful => self.held.harmful,
            Class::Harmless => self.held.harmless,
        }
    }

    fn base(&self, class: Class) -> &[Vec<f32>] {
        match class {
            Class::Harmful => &self.base[0],
            Class::Harmless => &self.base[1],
        }
    }

    /// Scores and divergences of the first prompts of a class.
    fn numbers(
        &self,
        class: Class,
        n: usize,
        hooks: &Hooks,
    ) -> Result<(Vec<f64>, Vec<f64>), SteerError> {
        let (mut scores, mut kl) = (vec![0.0; n], vec![0.0; n]);
        let base = self.base(class);
        let prompts = &self.prompts(class)[..n];
        self.tally.part(n, |options| {
            steer::last_logits(self.cp, prompts, hooks, options, &mut |i, row| {
                scores[i] = steer::log_odds(row, self.tokens);
                kl[i] = steer::kl(&base[i], row);
            })
        })?;
        Ok((scores, kl))
    }

    /// Means over the prompts that random directions are tried on: score, log KL.
    fn means(&self, class: Class, hooks: &Hooks) -> Result<(f64, f64), SteerError> {
        let (scores, kl) = self.numbers(class, self.controls, hooks)?;
        Ok((mean(&scores), log(mean(&kl))))
    }

    /// What a class gives without edits, whose logits are there already.
    fn unedited(&self, class: Class) -> Result<Outcome, SteerError> {
        let logits = self.base(class).iter();
        Ok(Outcome {
            class,
            scores: logits
                .map(|row| steer::log_odds(row, self.tokens))
                .collect(),
            kl: vec![0.0; self.prompts(class).len()],
            answers: self.answers(class, &Hooks::new())?,
        })
    }

    fn outcome(&self, class: Class, hooks: &Hooks) -> Result<Outcome, SteerError> {
        let (scores, kl) = self.numbers(class, self.prompts(class).len(), hooks)?;
        Ok(Outcome {
            class,
            scores,
            kl,
            answers: self.answers(class, hooks)?,
        })
    }

    /// Judged answers, where any are wanted.
    fn answers(&self, class: Class, hooks: &Hooks) -> Result<Option<Answers>, SteerError> {
        let max_new = self.sizes.max_new;
        if max_new == 0 {
            return Ok(None);
        }
        let prompts = self.prompts(class);
        let words = match class {
            Class::Harmful => self.held.harmful_words,
            Class::Harmless => self.held.harmless_words,
        };
        let said = self.tally.part(prompts.len(), |options| {
            let options = Options {
                batch: 50,
                ..*options
            };
            steer::completions(self.cp, prompts, max_new, hooks, &options)
        })?;
        let judged = |i: usize| judge_reply(words.get(i).map(String::as_str), &said[i].text, &[]);
        let labels: Vec<ReplyLabel> = (0..said.len()).map(|i| judged(i).label).collect();
        let looped = said.iter().map(|one| {
            let ending = if one.finished {
                Ending::Stopped
            } else {
                Ending::LimitReached
            };
            coherence(&one.text, ending).tail_loop.is_some()
        });
        Ok(Some(Answers {
            refused: labels.iter().map(|l| *l == ReplyLabel::Refusal).collect(),
            unusable: labels.iter().map(|l| *l == ReplyLabel::Unknown).collect(),
            loops: looped.collect(),
        }))
    }

    /// Random unit vectors from the covariance of harmless activations in the candidate's place.
    fn random(&self) -> Result<Vec<Vector>, SteerError> {
        let seed = self.sizes.seed.wrapping_add(1);
        covariance_matched_directions(self.spread.at(0, 0), self.sizes.random, seed)
    }

    fn relative_dose(&self) -> f64 {
        let lengths: Vec<f64> = (self.spread.at(0, 0).rows().into_iter())
            .map(|row| {
                row.iter()
                    .map(|&x| f64::from(x).powi(2))
                    .sum::<f64>()
                    .sqrt()
            })
            .collect();
        self.candidate.direction.norm / mean(&lengths)
    }

    fn condition(
        &self,
        name: &str,
        found: &Outcome,
        base: Option<&Outcome>,
        nulls: Option<&[(f64, f64)]>,
    ) -> Result<Condition, SteerError> {
        let n = self.controls;
        let beside = |nulls: &[(f64, f64)]| -> Result<Beside, ProbeError> {
            let (scores, kls) = nulls.iter().copied().unzip();
            Ok(Beside {
                prompts: n,
                score: NullDistribution::new(n, mean(&found.scores[..n]), scores)?,
                log_kl: NullDistribution::new(n, log(mean(&found.kl[..n])), kls)?,
            })
        };
        let rate = |of: fn(&Answers) -> &Vec<bool>| -> Result<Option<Proportion>, ProbeError> {
            let Some(answers) = &found.answers else {
                return Ok(None);
            };
            let yes = of(answers).iter().filter(|x| **x).count();
            Proportion::wilson(yes as u64, of(answers).len() as u64, 0.95).map(Some)
        };
        let change = match (base.and_then(|b| b.answers.as_ref()), &found.answers) {
            (Some(before), Some(after)) => {
                let table = PairedTable::of(&before.refused, &after.refused)?;
                Some(mcnemar(table, 0.95)?)
            }
            _ => None,
        };
        debug_assert!(base.is_none_or(|base| base.class == found.class));
        Ok(Condition {
            name: name.to_owned(),
            score: self.interval(&found.scores)?,
            kl: base.map(|_| self.interval(&found.kl)).transpose()?,
            random: nulls.map(beside).transpose()?,
            refused: rate(|a| &a.refused)?,
            change,
            unusable: rate(|a| &a.unusable)?,
            loops: rate(|a| &a.loops)?,
        })
    }

    fn interval(&self, values: &[f64]) -> Result<Bootstrap, SteerError> {
        let options = BootstrapOptions {
            seed: self.sizes.seed,
            ..BootstrapOptions::default()
        };
        Ok(bootstrap_mean(values, Resampling::Items, &options)?)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The floor keeps the log of an edit that changes nothing finite.
fn log(kl: f64) -> f64 {
    kl.max(1e-12).ln()
}
