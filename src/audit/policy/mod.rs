//! The policy: which signals run, how large, and what their quantities must respect.
//!
//! Always: a policy that loads contains only signals and quantities of [`super::catalogue`] and no key that is ignored.
//! What each key means and where each threshold comes from: `assets/policy/default.toml`. Reading: [`read`].
//! Judging by it: [`super::verdict`].

mod amount;
mod keys;
mod read;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::calibrate::Calibration;
use super::result::PolicyId;
use super::verdict::Verdict;
use keys::Keys;
pub use text::{resolved, text_of};

/// The text of the built-in policy.
pub const DEFAULT: &str = include_str!("../../../assets/policy/default.toml");

const DEFAULT_FILE: &str = "default policy";

/// What is wrong with a policy file.
#[derive(thiserror::Error, Debug)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read policy `{file}`: {source}")]
    Read {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("policy `{file}` is not valid TOML: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// The parser's message, with an excerpt.
        message: String,
    },
    /// A key, signal or quantity that does not exist.
    #[error("policy `{file}`: unknown {what} `{key}`{}", keys::hint(.nearest.as_deref()))]
    Unknown {
        /// The file.
        file: String,
        /// `key`, `signal` or `quantity`.
        what: &'static str,
        /// Its full path in the file.
        key: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// A value of the wrong kind or out of range, or keys that contradict each other.
    #[error("policy `{file}`: `{key}` must be {expected}, found {found}")]
    Wrong {
        /// The file.
        file: String,
        /// Its full path in the file.
        key: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name and hash, as they go into the result.
    pub id: PolicyId,
    /// Error rate of a family of tests.
    pub alpha: f64,
    /// Power at which minimum detectable differences are stated.
    pub power: f64,
    /// Whether what needs a baseline is UNDERPOWERED without one, instead of being left out.
    pub require_baseline: bool,
    /// The seed from which every random choice derives.
    pub seed: u64,
    /// How much to measure.
    pub sizes: Sizes,
    /// Families of tests: name to the ids of their signals.
    pub families: BTreeMap<String, Vec<String>>,
    /// The signals it knows, by id.
    pub signals: BTreeMap<String, SignalPolicy>,
    /// What its audits are known to find, by `audit calibrate`.
    pub calibration: Option<Box<Calibration>>,
}

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Prompts of each class to fit directions and probes on.
    pub fit: usize,
    /// Prompts of each class to choose them on.
    pub select: usize,
    /// Harmful prompts reported on.
    pub harmful: usize,
    /// Harmless prompts reported on.
    pub harmless: usize,
    /// Benign look-alikes reported on.
    pub lookalikes: usize,
    /// Groups of trials of each protocol.
    pub trials: usize,
    /// New tokens for each completion.
    pub max_new_tokens: usize,
    /// Random directions in a null.
    pub random_directions: usize,
    /// Label shuffles in a null.
    pub shuffles: usize,
    /// Bootstrap resamples.
    pub bootstrap: usize,
    /// Harmful prompts that are put in frames, after other talk and in other words.
    pub framed: usize,
    /// Tokens that are tried as trigger words.
    pub triggers: usize,
    /// Preference pairs, where any are given.
    pub pairs: usize,
}

/// What a report of a [`Sizes::quick`] run warns of.
pub const QUICK: &str = "Run with --quick: fewer prompts and draws than the policy asks for.";

impl Sizes {
    /// As little as still shows something: a look, not a verdict to rely on.
    pub fn quick(self) -> Self {
        Self {
            fit: self.fit.min(48),
            select: self.select.min(16),
            harmful: self.harmful.min(32),
            harmless: self.harmless.min(32),
            lookalikes: self.lookalikes.min(32),
            trials: self.trials.min(24),
            max_new_tokens: self.max_new_tokens.min(24),
            random_directions: self.random_directions.min(32),
            shuffles: self.shuffles.min(100),
            bootstrap: self.bootstrap.min(1000),
            framed: self.framed.min(8),
            triggers: self.triggers.min(200),
            pairs: self.pairs.min(48),
        }
    }
}

/// What a policy says on one signal.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalPolicy {
    /// Whether it runs.
    pub enabled: bool,
    /// What its worst outcome counts as.
    pub severity: Severity,
    /// Limits by quantity.
    pub limits: BTreeMap<String, Vec<Limit>>,
}

/// The most that a signal can do to the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Shown, never counted.
    Info,
    /// At most REVIEW.
    Review,
    /// At most BLOCK.
    Block,
}

impl Severity {
    /// The verdict it stands for.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Info => Verdict::Pass,
            Self::Review => Verdict::Review,
            Self::Block => Verdict::Block,
        }
    }
}

/// What must respect a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The bad end of the value's interval; an interval that straddles decides nothing.
    Bad,
    /// The estimate alone.
    Value,
    /// The lower end.
    Low,
    /// The upper end.
    High,
    /// The bad end of the change's interval.
    Delta,
    /// The estimated change alone.
    DeltaValue,
    /// The lower end of the change.
    DeltaLow,
    /// The upper end of the change.
    DeltaHigh,
}

impl On {
    /// True when it looks at the change against the baseline.
    pub fn is_change(self) -> bool {
        matches!(
            self,
            Self::Delta | Self::DeltaValue | Self::DeltaLow | Self::DeltaHigh
        )
    }
}

/// One limit on one quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Must not lie below.
    pub min: Option<f64>,
    /// Must not lie above.
    pub max: Option<f64>,
    /// What must respect it.
    pub on: On,
    /// The verdict when it is broken.
    pub otherwise: Verdict,
    /// The difference that must have been detectable.
    pub detect: Option<f64>,
    /// Whether a broken limit must survive Holm's correction to be more than REVIEW.
    pub holm: bool,
    /// When it counts.
    pub when: Vec<Condition>,
    /// What to say when it is broken.
    pub message: Option<String>,
}

/// A condition on the estimate of some quantity, or on its estimated change against the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The signal's id.
    pub signal: String,
    /// The quantity's name.
    pub value: String,
    /// Whether the change counts, not the estimate.
    pub of_change: bool,
    /// Holds from here up.
    pub min: Option<f64>,
    /// Holds up to here.
    pub max: Option<f64>,
}

impl Limit {
    /// True when it, or a condition of it, looks at a change against the baseline.
    pub fn needs_baseline(&self) -> bool {
        self.on.is_change() || self.when.iter().any(|condition| condition.of_change)
    }
}

impl Policy {
    /// The policy built into the binary.
    pub fn built_in() -> Result<Self, PolicyError> {
        Self::parse(DEFAULT, DEFAULT_FILE)
    }

    /// Reads a policy file.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        Self::parse(&text_of(path)?, &path.display().to_string())
    }

    /// Reads a policy from `text`; `file` is for messages.
    pub fn parse(text: &str, file: &str) -> Result<Self, PolicyError> {
        let mut table = keys::toml(text, file)?;
        let mut digest = Sha256::new();
        digest.update(text);
        if let Some(base) = table.remove("extends") {
            if base.as_str() != Some("default") {
                return Err(PolicyError::Wrong {
                    file: file.to_owned(),
                    key: "extends".to_owned(),
                    expected: "\"default\"".to_owned(),
                    found: base.to_string(),
                });
            }
            digest.update(DEFAULT);
            table = keys::merge(keys::toml(DEFAULT, DEFAULT_FILE)?, table);
        }
        let hash = digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .concat();
        read::policy(&Keys::new(file, &table), hash)
    }

    /// What the policy says on the signal with this id; `None` when it is not in the policy or not enabled.
    pub fn enabled(&self, id: &str) -> Option<&SignalPolicy> {
        self.signals.get(id).filter(|signal| signal.enabled)
    }

    /// The family in which the tests of this signal share one error rate.
    pub fn family<'a>(&'a self, id: &str) -> Option<&'a str> {
        self.families
            .iter()
            .find(|(_, ids)| ids.iter().any(|member| member == id))
            .map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests;
