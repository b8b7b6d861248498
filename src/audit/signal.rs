//! What a signal is: an id, what it needs to know, its page, and how it measures.
//!
//! Always: a signal reads evidence and computes nothing on a model itself, so it can be tested on numbers made by hand;
//! what it cannot measure is an error with a reason, which the runner reports as not evaluated. The signals there are:
//! [`super::signals::ALL`]; the evidence: [`super::evidence`]; who runs them: [`super::runner`].

use candlescope_probes::BootstrapOptions;
use candlescope_probes::error::ProbeError;
use candlescope_probes::stats::power::Power;

use super::catalogue::{self, Quantity};
use super::evidence::dictionary::Dictionaries;
use super::evidence::{Evidence, Identity, Pair, Prompts};
use super::policy::Policy;
use super::result::SignalResult;

/// One signal of the audit.
pub trait Signal: Sync {
    /// Its id, as in [`super::catalogue`].
    fn id(&self) -> &'static str;

    /// The evidence it reads.
    fn needs(&self) -> &'static [Need];

    /// Its page for `audit explain`: what it measures, how, what to do about it.
    fn page(&self) -> &'static str;

    /// Measures. Values, findings, items and charts are filled in; the verdict is not.
    ///
    /// # Errors
    /// Evidence that is missing, or too little of it for any number.
    fn measure(&self, context: &Context) -> Result<SignalResult, SignalError>;
}

/// A part of the evidence that is gathered only when a signal asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Refusal scores and distributions at the first token of the answer.
    FirstTokens,
    /// Greedy completions with their judgements.
    Replies,
    /// Residual streams at the ends of instruction and template.
    Activations,
    /// Probes for harmfulness.
    Probes,
    /// The refusal direction.
    Direction,
    /// What adding and ablating the direction does, beside random directions.
    Interventions,
    /// What ablating the direction does to answers to harmless prompts, beside random directions.
    SideEffects,
    /// What adding the direction at several doses does.
    Doses,
    /// What the baseline's direction does to the checkpoint under audit.
    Stale,
    /// Divergence from the baseline on neutral texts.
    Texts,
    /// Differences of weights from the baseline.
    Weights,
    /// Differences of residual streams from the baseline's on neutral texts.
    Difference,
    /// The log-probabilities of both answers of preference pairs.
    Preferences,
    /// Directions of traits.
    Traits,
    /// A reward model's scores of both answers of preference pairs.
    Scores,
    /// What a reward model's scores hang on.
    RewardDirections,
    /// What a reward model makes of completions.
    Judged,
    /// Scan of the weights, repeatability.
    Integrity,
    /// A dictionary, frozen on both checkpoints.
    Dictionary,
    /// A dictionary and its refit.
    Refit,
    /// A crosscoder over both checkpoints.
    Crosscoder,
    /// What harmful prompts get under frames.
    Framed,
    /// What they get after other talk.
    Diluted,
    /// What they get in other words.
    Reworded,
    /// A scan for words on which refusal hangs.
    Triggers,
    /// The log-probabilities of the options of trials.
    Choices,
    /// Greedy replies to trials.
    Answers,
}

impl Need {
    /// Whether it asks a model what it would say; a reward model would not say anything.
    pub fn speaks(self) -> bool {
        !matches!(
            self,
            Self::Activations
                | Self::Probes
                | Self::Integrity
                | Self::Difference
                | Self::Traits
                | Self::Scores
                | Self::RewardDirections
        )
    }

    /// Whether only a reward model has it.
    pub fn scores(self) -> bool {
        matches!(self, Self::Scores | Self::RewardDirections)
    }

    /// What has to be there of a checkpoint under audit: forensics looks along the baseline's direction alone.
    pub fn of_subject(needs: &[Self]) -> Vec<Self> {
        let weights = |need: &&Self| **need == Self::Weights;
        let others = needs.iter().filter(|need| !weights(need));
        let mut all = Self::closure(others.copied());
        all.extend(needs.iter().find(weights));
        all.sort_unstable();
        all
    }

    /// What has to be there before it, itself included, in the order of gathering.
    pub fn closure(needs: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut all: Vec<Self> = needs
            .into_iter()
            .flat_map(|need| {
                let before: &[Self] = match need {
                    Self::Probes => &[Self::Activations],
                    Self::Direction => &[Self::FirstTokens, Self::Activations],
                    Self::Interventions | Self::SideEffects => {
                        &[Self::FirstTokens, Self::Activations, Self::Direction]
                    }
                    // Forensics looks along the baseline's direction; KL at the first token comes from first tokens.
                    Self::Weights => &[Self::FirstTokens, Self::Activations, Self::Direction],
                    Self::Doses | Self::Stale => &[
                        Self::FirstTokens,
                        Self::Activations,
                        Self::Direction,
                        Self::Interventions,
                    ],
                    Self::Texts => &[Self::FirstTokens],
                    Self::RewardDirections => &[Self::Activations, Self::Traits, Self::Scores],
                    Self::Judged => &[Self::Replies],
                    Self::Framed | Self::Diluted | Self::Reworded => {
                        &[Self::FirstTokens, Self::Replies]
                    }
                    Self::FirstTokens
                    | Self::Replies
                    | Self::Activations
                    | Self::Integrity
                    | Self::Dictionary
                    | Self::Refit
                    | Self::Crosscoder
                    | Self::Triggers
                    | Self::Difference
                    | Self::Preferences
                    | Self::Traits
                    | Self::Scores
                    | Self::Choices
                    | Self::Answers => &[],
                };
                before.iter().copied().chain([need])
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Why a signal does not apply to a kind of checkpoint: a reward model, or a model that answers; `None` where it does.
pub fn inapplicable(signal: &dyn Signal, scored: bool) -> Option<&'static str> {
    let needs = Need::closure(signal.needs().iter().copied());
    if scored && needs.iter().any(|need| need.speaks()) {
        Some("a reward model gives no answers")
    } else if !scored && needs.iter().any(|need| need.scores()) {
        Some("a signal of reward models, and this model answers")
    } else {
        None
    }
}

/// Why a signal could not measure.
#[derive(thiserror::Error, Debug)]
pub enum SignalError {
    /// A part of the evidence is not there.
    #[error("{what}: {why}")]
    Missing {
        /// The part.
        what: &'static str,
        /// Why it is not there.
        why: String,
    },
    /// A statistic refused its data.
    #[error(transparent)]
    Statistic(#[from] ProbeError),
    /// The signal and the catalogue disagree; a bug.
    #[error("`{id}` has no quantity `{name}` in the catalogue")]
    Catalogue {
        /// The signal.
        id: String,
        /// The quantity.
        name: String,
    },
}

/// Everything a signal may look at.
pub struct Context<'a> {
    /// The prompts, the same for both checkpoints.
    pub prompts: &'a Prompts,
    /// The checkpoint under audit.
    pub subject: &'a Evidence,
    /// The baseline, if there is one that can be paired with.
    pub baseline: Option<&'a Evidence>,
    /// What the baseline is, whether it can be paired with or not.
    pub baseline_identity: Option<&'a Identity>,
    /// What only both models together tell.
    pub pair: Option<&'a Pair>,
    /// What dictionaries tell, if any were given.
    pub dictionaries: Option<&'a Dictionaries>,
    /// Why a baseline that was given cannot be paired with.
    pub unpaired: Option<&'a str>,
    /// The policy.
    pub policy: &'a Policy,
    /// The seed of every random choice.
    pub seed: u64,
}

impl Context<'_> {
    /// The baseline, for a signal that means nothing without one.
    pub fn required_baseline(&self) -> Result<&Evidence, SignalError> {
        self.baseline.ok_or_else(|| SignalError::Missing {
            what: "baseline",
            why: self.unpaired.unwrap_or("none was given").to_owned(),
        })
    }

    /// What both models together tell.
    pub fn required_pair(&self) -> Result<&Pair, SignalError> {
        self.pair.ok_or_else(|| SignalError::Missing {
            what: "baseline",
            why: self.unpaired.unwrap_or("none was given").to_owned(),
        })
    }

    /// Bootstrap options with a stream of random numbers of their own for each `purpose`.
    pub fn bootstrap(&self, purpose: &str) -> BootstrapOptions {
        BootstrapOptions {
            resamples: self.policy.sizes.bootstrap,
            level: 0.95,
            seed: self.seed_for(purpose),
        }
    }

    /// A seed for `purpose`, so that two nulls of one audit never share their draws (FNV-1a).
    pub fn seed_for(&self, purpose: &str) -> u64 {
        purpose
            .bytes()
            .fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }

    /// Alpha and power at which detectable differences are stated.
    pub fn power(&self) -> Power {
        Power {
            alpha: self.policy.alpha,
            power: self.policy.power,
        }
    }
}

/// An empty result of the signal `id`.
pub fn blank(id: &str) -> Result<SignalResult, SignalError> {
    SignalResult::new(id).ok_or_else(|| SignalError::Catalogue {
        id: id.to_owned(),
        name: String::new(),
    })
}

/// The catalogue's entry of a quantity.
pub fn quantity(id: &str, name: &str) -> Result<&'static Quantity, SignalError> {
    catalogue::signal(id)
        .and_then(|entry| entry.quantity(name))
        .ok_or_else(|| SignalError::Catalogue {
            id: id.to_owned(),
            name: name.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forensics_need_a_direction_of_the_baseline_alone() {
        let all = Need::closure([Need::Weights, Need::Texts]);
        assert!(all.contains(&Need::Direction) && all.contains(&Need::Activations));
        let own = Need::of_subject(&[Need::Weights, Need::Texts]);
        assert_eq!(own, [Need::FirstTokens, Need::Texts, Need::Weights]);
        // Whatever else asks for a direction gets one.
        let asked = [Need::Weights, Need::Stale];
        assert_eq!(Need::of_subject(&asked), Need::closure(asked));
    }
}
