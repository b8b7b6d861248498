//! Runs an audit: prompts, evidence, signals, verdict.
//!
//! Always: what is computed is computed once and shared; a signal that fails or was interrupted is in the result as not
//! evaluated, with its reason; the same checkpoint, policy and seed give the same result but for times. The parts:
//! [`super::questions`] (what is asked), [`super::evidence`] (what is known), [`super::signals`] (what is made of it), [`super::verdict`] (what follows).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::about::{card, detectors, warnings};
use super::bundle::raw::Raw;
use super::catalogue::{self, Artefact};
use super::cost::planned;
use super::evidence::both::Both;
use super::evidence::dictionary::{Given, Readers};
use super::evidence::gather::{Encoded, Gather, identity};
use super::evidence::{Chosen, Evidence};
use super::inputs::{Inputs, Judge};
use super::policy::Policy;
use super::questions::asked;
pub use super::questions::{builtin_suites, builtin_trials, suites_for, trials_for};
use super::result::{Audit, InputUsed, PolicyId, Provenance, SCHEMA, SignalResult, SuiteUsed};
use super::signal::{Context, Need, Signal, inapplicable};
use super::signals;
use super::traits::{Trait, TraitPairs, traits_for};
use super::verdict::{Verdict, evaluate};
use super::work::{Progress, StageTime, Work};
use crate::model::{Checkpoint, ModelError};
use crate::steer::SteerError;
use crate::text::dataset::DataError;
use crate::text::suites::{Suite, SuiteError};
use crate::text::trials::{TrialError, Trials};

/// Why an audit could not start.
#[derive(thiserror::Error, Debug)]
pub enum RunError {
    /// A suite cannot be read.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// A set of trials cannot be read.
    #[error(transparent)]
    Trials(#[from] TrialError),
    /// The suites have no prompts of a kind that every audit needs.
    #[error(
        "the suites have no {label} {split} prompts; an audit needs at least {needed} (give a suite with such rows, or raise the sizes)"
    )]
    Empty {
        /// The label.
        label: &'static str,
        /// The split.
        split: &'static str,
        /// The least number.
        needed: usize,
    },
    /// A prompt cannot be given to a checkpoint.
    #[error("{checkpoint}: {source}")]
    Prompt {
        /// The checkpoint's name.
        checkpoint: String,
        /// What is wrong with the prompt.
        source: SteerError,
    },
    /// The preference pairs cannot be given to a checkpoint.
    #[error("{checkpoint}: {source}")]
    Pairs {
        /// The checkpoint's name.
        checkpoint: String,
        /// What is wrong with a pair, or with all.
        source: DataError,
    },
    /// A reward model with other words.
    #[error(
        "{reward}: expected the tokenizer of {checkpoint}, {expected}, found {found}; a reward model must read the tokens that the checkpoint writes"
    )]
    Words {
        /// The reward model.
        reward: String,
        /// The checkpoint under audit.
        checkpoint: String,
        /// Hash of its tokenizer.
        expected: String,
        /// Hash of the reward model's.
        found: String,
    },
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What an audit is run with, beside checkpoint and policy.
pub struct Options<'a> {
    /// The prompts; see [`builtin_suites`].
    pub suites: &'a [Suite],
    /// The trials; see [`builtin_trials`].
    pub trials: &'a [Trials],
    /// The seed; the policy's by default.
    pub seed: Option<u64>,
    /// Sentences that count as refusals in this deployment.
    pub refusal_phrases: &'a [String],
    /// The command that makes this audit again, without paths of this machine.
    pub command: &'a str,
    /// The dictionaries to read the checkpoints through.
    pub dictionaries: Option<&'a Given>,
    /// What else is given.
    pub inputs: Option<&'a Inputs>,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
    /// Set to true to stop; what is measured by then is reported.
    pub cancel: &'a AtomicBool,
    /// Where what is known of the baseline stays between audits of several checkpoints.
    pub kept: Option<&'a Kept>,
}

/// What is known of a baseline, for the next audit that asks it the same.
#[derive(Default)]
pub struct Kept(RefCell<Option<(String, Rc<Evidence>)>>);

impl Kept {
    fn get(&self, key: &str) -> Option<Rc<Evidence>> {
        let kept = self.0.borrow();
        let (known, evidence) = kept.as_ref()?;
        (known == key).then(|| Rc::clone(evidence))
    }

    fn put(&self, key: String, evidence: &Rc<Evidence>) {
        *self.0.borrow_mut() = Some((key, Rc::clone(evidence)));
    }
}

/// An audit with what it cost.
pub struct Outcome {
    /// The audit, judged.
    pub audit: Audit,
    /// The time of each stage.
    pub stages: Vec<StageTime>,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// The subject's refusal direction, if one was found.
    pub direction: Option<Chosen>,
    /// The numbers behind it, for a bundle.
    pub raw: Raw,
}

/// Audits `subject`, paired with `baseline` on the same prompts. Edits that stand on a checkpoint's decoder
/// ([`crate::model::Decoder::set_standing_edits`]) are part of it.
///
/// # Errors
/// Prompts that are missing or do not fit, weights that cannot be read. A signal that fails is no error: it is not evaluated.
pub fn run(
    subject: &Checkpoint,
    baseline: Option<&Checkpoint>,
    policy: &Policy,
    options: &Options,
) -> Result<Outcome, RunError> {
    let (clock, started) = (Instant::now(), jiff::Timestamp::now());
    let seed = options.seed.unwrap_or(policy.seed);
    let (mut prompts, used) = asked((options.suites, options.trials), policy, seed)?;
    let mut unusable = 0;
    if let Some(pairs) = options.inputs.and_then(|inputs| inputs.pairs.as_ref()) {
        let encoded = pairs.encode(subject, policy.sizes.pairs, seed);
        (prompts.preferences, unusable) = encoded.map_err(|source| RunError::Pairs {
            checkpoint: subject.name.clone(),
            source,
        })?;
    }
    let inputs = options.inputs.map(|inputs| inputs.used(&prompts));
    let inputs = inputs.unwrap_or_default();
    let judges = options.inputs.map_or(&[][..], |inputs| &inputs.judges);
    same_words(subject, judges)?;
    let wanted = enabled(policy, (subject, baseline.is_some()), options);
    let read: Vec<Need> = (wanted.iter())
        .flat_map(|signal| signal.needs().iter().copied())
        .collect();
    let needs = Need::closure(read.iter().copied());
    let own = Need::of_subject(&read);
    if needs.contains(&Need::Traits) {
        prompts.traits = traits(subject, options)?;
    }
    let encode = |cp: &Checkpoint| {
        Encoded::new(cp, &prompts).map_err(|source| RunError::Prompt {
            checkpoint: cp.name.clone(),
            source,
        })
    };
    let encoded = encode(subject)?;
    let mismatch = baseline
        .map(|baseline| unpaired(subject, baseline))
        .transpose()?
        .flatten();
    let pairable = baseline.filter(|_| mismatch.is_none());
    let kept = match pairable.zip(options.kept) {
        Some((baseline, kept)) => {
            let asked = (&needs[..], options.refusal_phrases, &inputs[..]);
            Some((kept, decisive(baseline, policy, seed, &used, asked)?))
        }
        None => None,
    };
    let known = kept.as_ref().and_then(|(kept, key)| kept.get(key));
    let theirs = match (&known, pairable) {
        (None, Some(_)) => planned(&prompts, policy, &needs),
        _ => 0.0,
    };
    let work = Work::new(
        options.progress,
        options.cancel,
        planned(&prompts, policy, &own) + theirs,
    );
    let gather = |cp: &Checkpoint, encoded: &Encoded, needs: &[Need], reference| {
        work.on(&cp.name);
        Gather {
            cp,
            prompts: &prompts,
            encoded,
            needs,
            policy,
            seed,
            refusal_phrases: options.refusal_phrases,
            work: &work,
            judges,
            reference,
        }
        .run()
    };
    let before = match (pairable, known) {
        (_, Some(evidence)) => Some(evidence),
        (Some(baseline), None) => {
            let evidence = Rc::new(gather(baseline, &encode(baseline)?, &needs, None));
            // What an interruption left out would be missing ever after.
            if let (Some((kept, key)), false) = (kept, work.cancelled()) {
                kept.put(key, &evidence);
            }
            Some(evidence)
        }
        (None, None) => None,
    };
    let reference = before
        .as_ref()
        .and_then(|before| before.direction.as_ref().ok());
    let now = gather(subject, &encoded, &own, reference);
    let both = baseline.map(|baseline| Both {
        subject,
        baseline,
        before: before.as_deref(),
    });
    let draws = (policy.sizes.random_directions, seed);
    let pair = both.map(|both| both.compare(&prompts, &needs, mismatch.as_deref(), draws, &work));
    let dictionaries = options.dictionaries.map(|given| {
        Readers {
            subject,
            baseline: match (pairable, &mismatch) {
                (Some(baseline), _) => Ok(baseline),
                (None, Some(why)) => Err(why.clone()),
                (None, None) => Err("there is no baseline".to_owned()),
            },
            neutral: &prompts.neutral,
            needs: &needs,
            seed,
            work: &work,
        }
        .read(given)
    });
    let baseline_identity = baseline.map(identity).transpose()?;
    let cx = Context {
        prompts: &prompts,
        subject: &now,
        baseline: before.as_deref(),
        baseline_identity: baseline_identity.as_ref(),
        pair: pair.as_ref(),
        dictionaries: dictionaries.as_ref(),
        unpaired: mismatch.as_deref(),
        policy,
        seed,
    };
    let signals: Vec<SignalResult> = wanted.iter().map(|signal| measured(*signal, &cx)).collect();
    let mut audit = Audit {
        schema: SCHEMA.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.to_string(),
        seconds: clock.elapsed().as_secs_f64(),
        subject: card(subject, &now.identity),
        baseline: baseline
            .zip(baseline_identity.as_ref())
            .map(|(cp, identity)| card(cp, identity)),
        provenance: Provenance {
            suites: used,
            seed,
            decoding: format!("greedy, at most {} new tokens", policy.sizes.max_new_tokens),
            threads: rayon::current_num_threads(),
            numerical_path: subject.numerical_path(),
            detectors: detectors(),
            command: options.command.to_owned(),
            dictionaries: options.dictionaries.map(Given::used).unwrap_or_default(),
            inputs,
        },
        policy: PolicyId::default(),
        signals,
        skipped: Vec::new(),
        verdict: Verdict::Underpowered,
        reasons: Vec::new(),
        warnings: warnings(subject, baseline, mismatch.as_deref(), &work),
        calibrated: None,
    };
    if unusable > 0 {
        audit.warnings.push(format!(
            "{unusable} preference pairs are left out: too long for the context, or the same answer twice."
        ));
    }
    evaluate(&mut audit, policy);
    audit.seconds = clock.elapsed().as_secs_f64();
    Ok(Outcome {
        audit,
        stages: work.stages(),
        interrupted: work.cancelled(),
        raw: Raw::new(&prompts, &now, before.as_deref(), pair.as_ref()),
        direction: now.direction.ok(),
    })
}

/// Everything that decides what is known of a baseline.
fn decisive(
    baseline: &Checkpoint,
    policy: &Policy,
    seed: u64,
    used: &[SuiteUsed],
    (needs, phrases, inputs): (&[Need], &[String], &[InputUsed]),
) -> Result<String, ModelError> {
    let hashes: Vec<&str> = used.iter().map(|suite| suite.hash.as_str()).collect();
    let sizes = &policy.sizes;
    let weights = identity(baseline)?;
    Ok(format!(
        "{weights:?} {sizes:?} {seed} {hashes:?} {needs:?} {phrases:?} {inputs:?}"
    ))
}

/// Refuses reward models that read other tokens than the checkpoint writes.
fn same_words(subject: &Checkpoint, judges: &[Judge]) -> Result<(), RunError> {
    let words = subject.tokenizer.hash();
    match judges.iter().find(|judge| judge.tokenizer != words) {
        None => Ok(()),
        Some(judge) => Err(RunError::Words {
            reward: judge.name.clone(),
            checkpoint: subject.name.clone(),
            expected: words,
            found: judge.tokenizer.clone(),
        }),
    }
}

/// The traits in the checkpoint's words.
fn traits(cp: &Checkpoint, options: &Options) -> Result<Vec<TraitPairs>, RunError> {
    let failed = |source| RunError::Pairs {
        checkpoint: cp.name.clone(),
        source,
    };
    let encode = |all: &[Trait]| all.iter().map(|one| one.encode(cp)).collect();
    match options.inputs.and_then(|inputs| inputs.traits.as_ref()) {
        Some(own) => encode(own),
        None => traits_for(cp).and_then(|all| encode(&all)),
    }
    .map_err(failed)
}

/// Whether a policy asks anything that applies to a reward model, or to a model that answers.
pub fn applies(policy: &Policy, scored: bool) -> bool {
    let all = signals::ALL.iter();
    all.filter(|signal| policy.enabled(signal.id()).is_some())
        .any(|signal| inapplicable(*signal, scored).is_none())
}

/// The signals that the policy enables and that can apply.
fn enabled(
    policy: &Policy,
    (subject, has_baseline): (&Checkpoint, bool),
    options: &Options,
) -> Vec<&'static dyn Signal> {
    let there = |artefact: &Artefact| {
        let dictionary = |given: &Given| given.of(*artefact).is_some();
        options.dictionaries.is_some_and(dictionary)
            || options.inputs.is_some_and(|inputs| inputs.has(*artefact))
    };
    signals::ALL
        .iter()
        .copied()
        .filter(|signal| policy.enabled(signal.id()).is_some())
        .filter(|signal| inapplicable(*signal, subject.is_scored()).is_none())
        .filter(|signal| has_baseline || !needs_baseline(signal.id()))
        .filter(|signal| {
            catalogue::signal(signal.id()).is_none_or(|e| e.artefacts.iter().all(there))
        })
        .collect()
}

fn needs_baseline(id: &str) -> bool {
    catalogue::signal(id).is_some_and(|entry| entry.needs_baseline)
}

fn measured(signal: &dyn Signal, cx: &Context) -> SignalResult {
    let clock = Instant::now();
    let mut result = match signal.measure(cx) {
        Ok(result) => result,
        Err(error) => not_evaluated(signal.id(), error.to_string()),
    };
    result.seconds = clock.elapsed().as_secs_f64();
    result
}

fn not_evaluated(id: &str, why: String) -> SignalResult {
    let mut result = SignalResult::new(id).unwrap_or_else(|| SignalResult::unknown(id));
    result.not_evaluated = Some(why);
    result
}

/// Why two checkpoints cannot be paired on the same tokens; `None` when they can.
fn unpaired(subject: &Checkpoint, baseline: &Checkpoint) -> Result<Option<String>, ModelError> {
    let (here, before) = (identity(subject)?, identity(baseline)?);
    Ok(if baseline.is_scored() && !subject.is_scored() {
        Some("it is a reward model, which gives no answers to compare with".to_owned())
    } else if here.tokenizer != before.tokenizer {
        Some("the tokenizers differ, so prompts are not the same tokens".to_owned())
    } else if here.template != before.template {
        Some("the chat templates differ, so prompts are not the same tokens".to_owned())
    } else if subject.config().d_model != baseline.config().d_model
        || subject.config().n_layers != baseline.config().n_layers
        || subject.config().vocab_size != baseline.config().vocab_size
    {
        Some("the architectures differ, so activations cannot be paired".to_owned())
    } else {
        None
    })
}
