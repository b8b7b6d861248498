//! Runs a checkpoint over the prompts and keeps what the signals ask for.
//!
//! Always: directions, layers and probes are fitted on train prompts, chosen on validation prompts, and test prompts are
//! only measured; edits that stand on the checkpoint's decoder are in every pass. What both models are needed for:
//! [`super::pair`].

use std::cell::OnceCell;

use ndarray::{Array2, ArrayView2};

use super::direction::Read;
use super::{
    Activations, ByClass, answers, choices, direction, framed, interventions, preferences, probes,
    rewards, states, triggers,
};
use super::{
    Chosen, Evidence, FirstTokens, Identity, Integrity, Part, Place, Prompts, Replies, Reply,
    Streams,
};
use crate::audit::detect::coherence::{Ending, coherence};
use crate::audit::detect::{Judgement, judge_reply};
use crate::audit::inputs::Judge;
use crate::audit::policy::Policy;
use crate::audit::signal::Need;
use crate::audit::work::Work;
use crate::files::scan_non_finite;
use crate::hooks::{Hooks, Vector};
use crate::model::{Checkpoint, ModelError};
use crate::steer::{self, EncodedPrompt, RefusalTokens, Residuals, SteerError, Where};
use crate::text::suites::PromptRow;
use crate::text::trials::Protocol;

/// The prompts as one checkpoint reads them.
pub struct Encoded {
    /// Harmful: train, validation, test.
    pub harmful: [Vec<EncodedPrompt>; 3],
    /// Harmless: train, validation, test.
    pub harmless: [Vec<EncodedPrompt>; 3],
    /// Look-alikes.
    pub lookalike: Vec<EncodedPrompt>,
}

impl Encoded {
    /// Encodes all prompts.
    ///
    /// # Errors
    /// A prompt that does not fit the context or whose end is not found, by its id.
    pub fn new(cp: &Checkpoint, prompts: &Prompts) -> Result<Self, SteerError> {
        let encode = |rows: &[PromptRow]| -> Result<Vec<EncodedPrompt>, SteerError> {
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            steer::encode_all(cp, &rows.iter().collect::<Vec<_>>())
        };
        let splits = |of: &super::Splits| -> Result<[Vec<EncodedPrompt>; 3], SteerError> {
            Ok([
                encode(&of.train)?,
                encode(&of.validation)?,
                encode(&of.test)?,
            ])
        };
        Ok(Self {
            harmful: splits(&prompts.harmful)?,
            harmless: splits(&prompts.harmless)?,
            lookalike: encode(&prompts.lookalike)?,
        })
    }
}

/// One gathering.
pub struct Gather<'a> {
    /// The checkpoint.
    pub cp: &'a Checkpoint,
    /// The prompts.
    pub prompts: &'a Prompts,
    /// The same as tokens.
    pub encoded: &'a Encoded,
    /// What is needed, closed under what that needs.
    pub needs: &'a [Need],
    /// How much to measure.
    pub policy: &'a Policy,
    /// The seed of every random choice.
    pub seed: u64,
    /// Sentences that count as refusals in this deployment.
    pub refusal_phrases: &'a [String],
    /// Progress and interruption.
    pub work: &'a Work<'a>,
    /// Reward models to hold it against.
    pub judges: &'a [Judge],
    /// The baseline's direction, to read this checkpoint where it lies and to try it here.
    pub reference: Option<&'a Chosen>,
}

impl Gather<'_> {
    /// Gathers what is needed; each part that fails says why.
    pub fn run(&self) -> Evidence {
        let tokens = steer::refusal_tokens(self.cp).map_err(|error| error.to_string());
        let first = self.part(Need::FirstTokens, || self.first_tokens(tokens.as_ref()));
        let replies = self.part(Need::Replies, || self.replies());
        let (activations, read) = match self.part(Need::Activations, || self.activations()) {
            Ok((activations, read)) => (Ok(activations), Ok(read)),
            Err(why) => (Err(why.clone()), Err(why)),
        };
        let probes = match &activations {
            Ok(activations) => self.part(Need::Probes, || {
                self.work.stage("probes", 0, |_| {
                    probes::fit(activations, self.seed).map_err(|error| error.to_string())
                })
            }),
            Err(why) => Err(why.clone()),
        };
        let selected = match (&read, &tokens) {
            (Ok(read), Ok(tokens)) => {
                self.part(Need::Direction, || direction::choose(self, read, tokens))
            }
            (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        };
        let drawn = OnceCell::new();
        let random = |chosen: &Chosen| {
            let drawn: &Part<Vec<Vector>> =
                drawn.get_or_init(|| interventions::random_directions(self, chosen));
            drawn.as_ref().map_err(Clone::clone)
        };
        let interventions = match (&selected, &tokens) {
            (Ok((chosen, scored)), Ok(tokens)) => self.part(Need::Interventions, || {
                interventions::run(self, chosen, scored, tokens, random(chosen)?)
            }),
            (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        };
        let side_effects = match (&selected, &first) {
            (Ok((chosen, scored)), Ok(first)) => self.part(Need::SideEffects, || {
                interventions::side_effects(self, scored, first, random(chosen)?)
            }),
            (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        };
        let doses = match (&selected, &tokens, &first, &interventions) {
            (Ok((_, scored)), Ok(tokens), Ok(first), Ok(done)) => self.part(Need::Doses, || {
                interventions::doses(self, scored, tokens, first, done)
            }),
            (Err(why), ..) | (_, Err(why), ..) | (_, _, Err(why), _) | (.., Err(why)) => {
                Err(why.clone())
            }
        };
        let stale = match (self.reference, &tokens) {
            (Some(reference), Ok(tokens)) => self.part(Need::Stale, || {
                interventions::stale(self, reference, tokens)
            }),
            (_, Err(why)) => Err(why.clone()),
            (None, _) => Err("there is no other checkpoint's direction to try".to_owned()),
        };
        let asking = match (&tokens, &first, &replies) {
            (Ok(tokens), Ok(first), Ok(replies)) => {
                Ok(framed::Asking::new(self, tokens, first, replies))
            }
            (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => Err(why.clone()),
        };
        let asking = asking.as_ref().map_err(Clone::clone);
        let framed = self.part(Need::Framed, || asking.clone()?.framed());
        let diluted = self.part(Need::Diluted, || asking.clone()?.diluted());
        let mut trials = self.prompts.trials.iter();
        let paraphrased = trials.any(|trial| trial.protocol == Protocol::Paraphrase);
        let reworded = self.part(Need::Reworded, || {
            if paraphrased {
                Err("the trials have paraphrases of their own".to_owned())
            } else {
                asking.clone()?.reworded()
            }
        });
        let triggers = self.part(Need::Triggers, || match &tokens {
            Ok(tokens) => triggers::run(self, tokens),
            Err(why) => Err(why.clone()),
        });
        let integrity = self.part(Need::Integrity, || self.integrity());
        let trials = &self.prompts.trials;
        let choices = self.part(Need::Choices, || choices::score(self.cp, trials, self.work));
        let max_new = self.policy.sizes.max_new_tokens;
        let answers = self.part(Need::Answers, || {
            answers::answer(self.cp, trials, max_new, self.work)
        });
        let preferences = self.part(Need::Preferences, || {
            preferences::likelihoods(self.cp, &self.prompts.preferences, self.work)
        });
        let traits = self.part(Need::Traits, || {
            states::traits(self.cp, &self.prompts.traits, self.work)
        });
        let pairs = &self.prompts.preferences;
        let scores = self.part(Need::Scores, || {
            rewards::scores(self.cp, self.judges, pairs, self.work)
        });
        let reward_directions = self.part(Need::RewardDirections, || {
            let activations = activations.as_ref().map_err(Clone::clone)?;
            let read = (activations, traits.as_ref().map_err(Clone::clone));
            let draws = (self.policy.sizes.random_directions, self.seed);
            rewards::directions(self.cp, pairs, read, draws, self.work)
        });
        let judged = self.part(Need::Judged, || {
            let replies = replies.as_ref().map_err(Clone::clone)?;
            let encoded = self.encoded;
            let prompts = [
                encoded.harmful[2].as_slice(),
                encoded.harmless[2].as_slice(),
                encoded.lookalike.as_slice(),
            ];
            rewards::judged(self.judges, prompts, replies, self.work)
        });
        Evidence {
            name: self.cp.name.clone(),
            first,
            replies,
            activations,
            probes,
            direction: selected.map(|(chosen, _)| chosen),
            interventions,
            side_effects,
            doses,
            stale,
            framed,
            diluted,
            reworded,
            triggers,
            integrity,
            choices,
            answers,
            preferences,
            traits,
            scores,
            reward_directions,
            judged,
            identity: identity(self.cp).unwrap_or_default(),
        }
    }

    fn part<T>(&self, need: Need, make: impl FnOnce() -> Part<T>) -> Part<T> {
        if self.work.cancelled() {
            Err("interrupted before it was measured".to_owned())
        } else if self.needs.contains(&need) {
            make()
        } else {
            Err("no enabled signal asks for it".to_owned())
        }
    }

    fn first_tokens(&self, tokens: Result<&RefusalTokens, &String>) -> Part<FirstTokens> {
        let tokens = tokens.map_err(Clone::clone)?;
        let test = [
            &self.encoded.harmful[2],
            &self.encoded.harmless[2],
            &self.encoded.lookalike,
        ];
        let total = test.iter().map(|prompts| prompts.len()).sum();
        self.work.stage("first tokens", total, |work| {
            let mut scores: [Vec<f64>; 3] = test.map(|prompts| vec![0.0; prompts.len()]);
            let mut margins = scores.clone();
            let mut log_probs = Array2::zeros((test[1].len(), self.cp.config().vocab_size));
            for (class, prompts) in test.into_iter().enumerate() {
                let mut visit = |i: usize, logits: &[f32]| {
                    scores[class][i] = steer::log_odds(logits, tokens);
                    margins[class][i] = margin(logits);
                    if class == 1 {
                        keep_log_probs(&mut log_probs, i, logits);
                    }
                };
                work.run(prompts.len(), |options| {
                    steer::last_logits(self.cp, prompts, &Hooks::new(), options, &mut visit)
                })?;
            }
            let [harmful, harmless, lookalike] = scores;
            let [margin_harmful, margin_harmless, margin_lookalike] = margins;
            Ok(FirstTokens {
                scores: ByClass {
                    harmful,
                    harmless,
                    lookalike,
                },
                margins: ByClass {
                    harmful: margin_harmful,
                    harmless: margin_harmless,
                    lookalike: margin_lookalike,
                },
                harmless_log_probs: log_probs,
                tokens: tokens.words.clone(),
            })
        })
    }

    fn replies(&self) -> Part<Replies> {
        let max_new = self.policy.sizes.max_new_tokens;
        let classes = [
            (&self.prompts.harmful.test, &self.encoded.harmful[2]),
            (&self.prompts.harmless.test, &self.encoded.harmless[2]),
            (&self.prompts.lookalike, &self.encoded.lookalike),
        ];
        let total = classes.iter().map(|(rows, _)| rows.len()).sum();
        self.work.stage("completions", total, |work| {
            let mut out: [Vec<Reply>; 3] = Default::default();
            for (class, (rows, prompts)) in classes.into_iter().enumerate() {
                let completions = work.run(prompts.len(), |options| {
                    let options = steer::Options {
                        batch: 50,
                        ..*options
                    };
                    steer::completions(self.cp, prompts, max_new, &Hooks::new(), &options)
                })?;
                out[class] = rows
                    .iter()
                    .zip(completions)
                    .map(|(row, completion)| self.judged(&row.prompt, completion))
                    .collect();
            }
            let [harmful, harmless, lookalike] = out;
            Ok(Replies {
                harmful,
                harmless,
                lookalike,
            })
        })
    }

    /// A completion to `prompt` with what the detectors make of it.
    pub(super) fn judged(&self, prompt: &str, completion: steer::Completion) -> Reply {
        let ending = if completion.finished {
            Ending::Stopped
        } else {
            Ending::LimitReached
        };
        Reply {
            judgement: self.judgement(Some(prompt), &completion.text),
            coherence: coherence(&completion.text, ending),
            ids: completion.ids,
            text: completion.text,
            finished: completion.finished,
        }
    }

    /// What the detectors make of a reply.
    pub(super) fn judgement(&self, prompt: Option<&str>, text: &str) -> Judgement {
        judge_reply(prompt, text, self.refusal_phrases)
    }

    fn activations(&self) -> Part<(Activations, Read)> {
        let classes = [&self.encoded.harmful, &self.encoded.harmless];
        let fitted: Vec<EncodedPrompt> = classes
            .iter()
            .flat_map(|splits| splits[..2].iter().flatten().cloned())
            .collect();
        let total = classes
            .iter()
            .flat_map(|splits| splits.iter().map(Vec::len))
            .sum();
        let mut wheres = Where::all(&fitted);
        if !wheres.contains(&Where::FromEnd(1)) {
            wheres.push(Where::FromEnd(1));
        }
        let ends = [Where::InstructionEnd, Where::FromEnd(1)];
        let layers: Vec<usize> = (0..=self.cp.config().n_layers).collect();
        self.work.stage("activations", total, |work| {
            let read = |prompts: &[EncodedPrompt], wheres: &[Where]| {
                work.run(prompts.len(), |options| {
                    steer::residuals(self.cp, prompts, &layers, wheres, options)
                })
            };
            let mut places = Vec::with_capacity(2);
            let mut streams = Vec::with_capacity(2);
            for splits in classes {
                let fit = [read(&splits[0], &wheres)?, read(&splits[1], &wheres)?];
                let test = read(&splits[2], &ends)?;
                streams.push([&fit[0], &fit[1], &test].map(both_ends));
                places.push(fit);
            }
            let (Some(harmless), Some(harmful)) = (streams.pop(), streams.pop()) else {
                return Err("two classes were read, and one is not there".to_owned());
            };
            let places = <[[Residuals; 2]; 2]>::try_from(places)
                .map_err(|_| "two classes were read, and one is not there".to_owned())?;
            Ok((Activations { harmful, harmless }, Read { places }))
        })
    }

    fn integrity(&self) -> Part<Integrity> {
        self.work.stage("integrity", 0, |work| {
            let source = self.cp.opened().source();
            let bad_weights = scan_non_finite(source).map_err(|error| error.to_string())?;
            let probe: Vec<EncodedPrompt> =
                self.encoded.harmless[2].iter().take(2).cloned().collect();
            let mut passes: [Vec<Vec<u32>>; 2] = Default::default();
            for pass in &mut passes {
                work.quiet(|options| {
                    steer::last_logits(self.cp, &probe, &Hooks::new(), options, &mut |_, logits| {
                        pass.push(logits.iter().map(|x| x.to_bits()).collect());
                    })
                })?;
            }
            Ok(Integrity {
                bad_weights,
                tensors: source.names().len(),
                repeats: passes[0] == passes[1],
            })
        })
    }
}

/// The hashes of a checkpoint.
pub fn identity(cp: &Checkpoint) -> Result<Identity, ModelError> {
    let fingerprint = cp.fingerprint()?;
    Ok(Identity {
        weights: fingerprint.weights.clone(),
        tokenizer: fingerprint.tokenizer.clone(),
        template: Some(fingerprint.template.clone()).filter(|hash| !hash.is_empty()),
        config: fingerprint.config.clone(),
        edits: cp.decoder.standing_edits().len(),
    })
}

/// Best logit minus second best.
fn margin(logits: &[f32]) -> f64 {
    let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &logit in logits {
        if logit > best {
            (best, second) = (logit, best);
        } else if logit > second {
            second = logit;
        }
    }
    f64::from(best) - f64::from(second)
}

fn keep_log_probs(into: &mut Array2<f32>, row: usize, logits: &[f32]) {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    let total = most + sum.ln();
    for (target, &logit) in into.row_mut(row).iter_mut().zip(logits) {
        *target = (f64::from(logit) - total) as f32;
    }
}

/// All layers of what was read, at the ends of instruction and template.
fn both_ends(read: &Residuals) -> Streams {
    let at = |place: Place| {
        let wanted = match place {
            Place::Instruction => Where::InstructionEnd,
            Place::Template => Where::FromEnd(1),
        };
        read.layers
            .iter()
            .filter_map(|&layer| read.find(layer, wanted))
            .map(|view: ArrayView2<f32>| view.to_owned())
            .collect()
    };
    Streams {
        instruction: at(Place::Instruction),
        template: at(Place::Template),
    }
}
