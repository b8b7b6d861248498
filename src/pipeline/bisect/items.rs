//! What a signal asks, and what the good and the broken checkpoint answer: the items from which its proxy is made.
//!
//! Always: prompts and trials are those of the audit; answers are greedy and as long as the audit's. Signals that read weights
//! or activations have no items, and no ranking.

use super::{BisectError, Halt, Target};
use crate::audit::evidence::Prompts;
use crate::audit::evidence::choices::log_probs;
use crate::audit::policy::Policy;
use crate::audit::questions;
use crate::audit::runner;
use crate::audit::signal::Need;
use crate::audit::signals;
use crate::hooks::Hooks;
use crate::model::Checkpoint;
use crate::steer::{self, EncodedPrompt, Options};
use crate::text::suites::PromptRow;
use crate::text::trials::{Protocol, Trial};

/// Prompts answered in one batch.
const BATCH: usize = 50;

/// A prompt with the answers of both checkpoints, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The prompt or trial.
    pub id: String,
    /// Its tokens.
    pub prompt: Vec<u32>,
    /// The good checkpoint's answer.
    pub good: Vec<u32>,
    /// The broken one's.
    pub broken: Vec<u32>,
}

/// What a signal looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Looks {
    /// The score at the first token: what harmful prompts count, what harmless ones count.
    Scores(f64, f64),
    /// Answers to harmful, harmless and look-alike prompts.
    Replies([bool; 3]),
    /// The options of trials.
    Choices(Protocol),
    /// Answers to trials.
    Answers(Protocol),
}

/// Items of a signal.
#[derive(Debug, Clone, Default)]
pub(super) struct Items {
    /// Prompts with both answers.
    pub asked: Vec<Asked>,
    /// Of a signal that is a score: each prompt with what it counts, and the tokens that the score is of.
    pub scores: Option<(Vec<(Vec<u32>, f64)>, Vec<u32>)>,
}

/// What the signal looks at, or why it has no items.
fn looks(target: &Target) -> Result<Looks, String> {
    let quantity = target.quantity.unwrap_or_default();
    let harmless = quantity.starts_with("harmless");
    let id = target.signal.id;
    let needs = signals::by_id(id).map_or(&[] as &[Need], |signal| signal.needs());
    Ok(match id {
        "refusal_score" if harmless => Looks::Scores(0.0, 1.0),
        "refusal_score" if quantity == "score_gap" || quantity == "score_auroc" => {
            Looks::Scores(1.0, -1.0)
        }
        "refusal_score" => Looks::Scores(1.0, 0.0),
        "refusal_rate" => Looks::Replies([!harmless, harmless, false]),
        "over_refusal" => Looks::Replies([false, false, true]),
        "system_obedience" => Looks::Answers(Protocol::System),
        "injection" => Looks::Answers(Protocol::Document),
        "refusal_consistency" => Looks::Answers(Protocol::Paraphrase),
        "sycophancy" => Looks::Choices(Protocol::Sycophancy),
        "knowledge" | "calibration" => Looks::Choices(Protocol::Knowledge),
        "hint_faithfulness" => Looks::Choices(Protocol::Hint),
        _ if needs.contains(&Need::Replies) => Looks::Replies([true; 3]),
        _ => {
            return Err(format!(
                "`{id}` is not about answers or scores to single prompts, so there is no proxy of it to push"
            ));
        }
    })
}

/// Makes the items of a signal from a good and a broken checkpoint.
pub(super) struct Asking<'a> {
    /// What broke.
    pub target: &'a Target,
    /// The audit's policy.
    pub policy: &'a Policy,
    /// The good checkpoint.
    pub good: &'a Checkpoint,
    /// The broken one.
    pub broken: &'a Checkpoint,
    /// Who may stop it.
    pub halt: Halt<'a>,
}

impl Asking<'_> {
    /// The items; or, in words, why there are none.
    pub fn items(&self) -> Result<Result<Items, String>, BisectError> {
        let looks = match looks(self.target) {
            Ok(looks) => looks,
            Err(why) => return Ok(Err(why)),
        };
        let failed = |source| BisectError::Audit {
            checkpoint: self.good.name.clone(),
            source,
        };
        let suites = runner::suites_for(self.good).map_err(failed)?;
        let trials = runner::trials_for(self.good).map_err(failed)?;
        let asked = questions::asked((&suites, &trials), self.policy, self.policy.seed);
        let (prompts, _) = asked.map_err(failed)?;
        let items = match looks {
            Looks::Scores(harmful, harmless) => self.scores(&prompts, [harmful, harmless])?,
            Looks::Replies(classes) => {
                let rows = [
                    &prompts.harmful.test,
                    &prompts.harmless.test,
                    &prompts.lookalike,
                ];
                let picked = rows.into_iter().zip(classes).filter(|(_, of)| *of);
                let rows: Vec<&PromptRow> = picked.flat_map(|(rows, _)| rows).collect();
                Items {
                    asked: self.replies(&self.encoded(&rows)?)?,
                    scores: None,
                }
            }
            Looks::Choices(protocol) => Items {
                asked: self.choices(&of(&prompts.trials, protocol))?,
                scores: None,
            },
            Looks::Answers(protocol) => Items {
                asked: self.answers(&of(&prompts.trials, protocol))?,
                scores: None,
            },
        };
        Ok(Ok(items))
    }

    fn encoded(&self, rows: &[&PromptRow]) -> Result<Vec<EncodedPrompt>, BisectError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(steer::encode_all(self.good, rows)?)
    }

    /// Prompts with their weights, as means over each class; the answers are for the states.
    fn scores(&self, prompts: &Prompts, weights: [f64; 2]) -> Result<Items, BisectError> {
        let tokens = steer::refusal_tokens(self.good)?;
        let mut scored = Vec::new();
        let mut all = Vec::new();
        for (rows, weight) in [&prompts.harmful.test, &prompts.harmless.test]
            .into_iter()
            .zip(weights)
        {
            if weight == 0.0 {
                continue;
            }
            let encoded = self.encoded(&rows.iter().collect::<Vec<_>>())?;
            let each = weight / encoded.len().max(1) as f64;
            scored.extend(encoded.iter().map(|prompt| (prompt.ids.clone(), each)));
            all.extend(encoded);
        }
        Ok(Items {
            asked: self.replies(&all)?,
            scores: Some((scored, tokens.ids)),
        })
    }

    /// Greedy answers of both checkpoints.
    fn replies(&self, prompts: &[EncodedPrompt]) -> Result<Vec<Asked>, BisectError> {
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let options = Options {
            batch: BATCH,
            progress: None,
            cancel: Some(self.halt.stop),
        };
        let say = |cp: &Checkpoint| {
            let most = self.policy.sizes.max_new_tokens;
            steer::completions(cp, prompts, most, &Hooks::new(), &options)
        };
        let (good, broken) = (say(self.good)?, say(self.broken)?);
        let both = prompts.iter().zip(good.into_iter().zip(broken));
        let asked = both.map(|(prompt, (good, broken))| Asked {
            id: prompt.id.clone(),
            prompt: prompt.ids.clone(),
            good: good.ids,
            broken: broken.ids,
        });
        Ok(asked.collect())
    }

    /// Greedy answers to trials that ask for one.
    fn answers(&self, trials: &[&Trial]) -> Result<Vec<Asked>, BisectError> {
        let replied = trials.iter().filter(|trial| trial.ask.reply());
        let prompts = replied
            .map(|trial| {
                let cp = self.good;
                let ids = trial.prompt_ids(&cp.tokenizer, cp.template.as_ref())?;
                Ok(EncodedPrompt::whole(&trial.id, ids))
            })
            .collect::<Result<Vec<_>, BisectError>>()?;
        self.replies(&prompts)
    }

    /// The options that each checkpoint decides for.
    fn choices(&self, trials: &[&Trial]) -> Result<Vec<Asked>, BisectError> {
        let mut asked = Vec::new();
        for trial in trials.iter().filter(|trial| trial.ask.choice()) {
            self.halt.check()?;
            let cp = self.good;
            let encoded = trial.encode(&cp.tokenizer, cp.template.as_ref())?;
            let decided = |cp: &Checkpoint| -> Result<usize, BisectError> {
                let sums = log_probs(&cp.decoder, &encoded)?;
                let ranked = sums.iter().enumerate();
                let best = ranked.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
                Ok(best.map_or(0, |(at, _)| at))
            };
            let (good, broken) = (decided(self.good)?, decided(self.broken)?);
            asked.push(Asked {
                id: trial.id.clone(),
                prompt: encoded.prompt.clone(),
                good: encoded.options[good].clone(),
                broken: encoded.options[broken].clone(),
            });
        }
        Ok(asked)
    }
}

fn of(trials: &[Trial], protocol: Protocol) -> Vec<&Trial> {
    let of_it = trials.iter().filter(|trial| trial.protocol == protocol);
    of_it.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_signal_looks_at_what_its_quantity_counts() {
        let of = |text: &str| looks(&Target::parse(text).unwrap());
        assert_eq!(of("refusal_score"), Ok(Looks::Scores(1.0, 0.0)));
        assert_eq!(
            of("refusal_score.harmless_score"),
            Ok(Looks::Scores(0.0, 1.0))
        );
        assert_eq!(of("refusal_score.score_gap"), Ok(Looks::Scores(1.0, -1.0)));
        assert_eq!(
            of("refusal_rate.harmless_refusal"),
            Ok(Looks::Replies([false, true, false]))
        );
        assert_eq!(of("coherence"), Ok(Looks::Replies([true; 3])));
        assert_eq!(of("sycophancy"), Ok(Looks::Choices(Protocol::Sycophancy)));
        assert!(of("weight_forensics").unwrap_err().contains("no proxy"));
    }
}
