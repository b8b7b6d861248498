//! The result of an audit: one object from which every report, the exit code and every comparison are made.
//!
//! Always: it holds data only (no model, no terminal, no path of the machine it was made on), it survives a round
//! trip through JSON, and harmful text in it is cut short. Filled by the runner, judged by [`super::verdict`],
//! shown by [`super::report`]. Its numbers: [`super::measure`]; its charts: [`super::charts`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::calibrate::shipped::Calibrated;
use super::catalogue::Artefact;
use super::charts::Chart;
use super::measure::{Value, null};
use super::verdict::Verdict;

/// The version of the layout below; a reader refuses another.
pub const SCHEMA: &str = "candlescope.audit/1";

/// The longest piece of a completion to a harmful prompt that an item may carry, in characters.
pub const HARMFUL_EXCERPT: usize = 80;

/// The longest piece of any other text that an item may carry, in characters.
pub const EXCERPT: usize = 400;

/// One audit of one checkpoint.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Audit {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The version of candlescope that made it.
    pub tool_version: String,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    #[serde(deserialize_with = "null::real")]
    pub seconds: f64,
    /// The checkpoint under audit.
    pub subject: ModelCard,
    /// The checkpoint it was paired with, if any.
    pub baseline: Option<ModelCard>,
    /// What it was computed from and how.
    pub provenance: Provenance,
    /// The policy that judged it.
    pub policy: PolicyId,
    /// One entry for each signal that ran or failed, in the order of their numbers.
    pub signals: Vec<SignalResult>,
    /// Signals that were not asked for, or cannot apply, and why.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    /// The verdict on the checkpoint; [`Verdict::Underpowered`] until [`super::verdict::evaluate`] has run.
    pub verdict: Verdict,
    /// Why: one plain sentence for each signal that is not PASS.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// What the reader should know though no limit depends on it.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the calibration that speaks of such audits says of this one; filled in with the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<Calibrated>,
}

/// The policy that judged an audit.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct PolicyId {
    /// Its `name` key.
    pub name: String,
    /// SHA-256 of its text, in hex.
    pub hash: String,
}

/// A checkpoint, named without the machine it lay on.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct ModelCard {
    /// What the user called it.
    pub name: String,
    /// The last part of its path.
    pub path_name: String,
    /// Family of the decoder, such as `llama`.
    pub family: String,
    /// Number of blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of parameters, tied ones counted once.
    pub n_params: u64,
    /// The type it was computed in, and the stored type where they differ.
    pub dtype: String,
    /// SHA-256 over the tensors, in hex.
    pub weights_hash: String,
    /// SHA-256 of the tokenizer's canonical form.
    pub tokenizer_hash: String,
    /// SHA-256 of the chat template; `None` for a model without one.
    pub template_hash: Option<String>,
    /// The forward fingerprint: what computes the same has the same one.
    pub fingerprint: String,
    /// Whether it is a reward model, which scores answers and gives none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub scored: bool,
}

// serde gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

/// What an audit was computed from, so that it can be computed again.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct Provenance {
    /// The prompt suites.
    pub suites: Vec<SuiteUsed>,
    /// The seed from which every random choice derives.
    pub seed: u64,
    /// Decoding in words, such as `greedy, at most 64 new tokens`.
    pub decoding: String,
    /// Threads used; the bits do not depend on them.
    pub threads: usize,
    /// Which kernels ran, such as `f32 avx512`.
    pub numerical_path: String,
    /// The detectors that labelled completions, with how well each is known to agree with people.
    pub detectors: Vec<Detector>,
    /// The command that makes this audit again.
    pub command: String,
    /// The dictionaries that the checkpoints were read through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dictionaries: Vec<DictionaryUsed>,
    /// Other files that were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputUsed>,
}

impl Provenance {
    /// Whether this was given.
    pub fn has(&self, artefact: Artefact) -> bool {
        let dictionary = |used: &DictionaryUsed| used.artefact == artefact;
        let input = |used: &InputUsed| used.artefact == artefact;
        self.dictionaries.iter().any(dictionary) || self.inputs.iter().any(input)
    }
}

/// A file that was given, as it was used.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct InputUsed {
    /// What for.
    pub artefact: Artefact,
    /// The last part of its path.
    pub name: String,
    /// SHA-256 of its content, in hex.
    pub hash: String,
    /// Rows used, for a file of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<usize>,
}

/// A dictionary as it was used.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DictionaryUsed {
    /// What for.
    pub artefact: Artefact,
    /// The last part of its path.
    pub name: String,
    /// The hook points it reads.
    pub reads: Vec<String>,
    /// Latents.
    pub d_sae: usize,
    /// SHA-256 of encoder and decoder as f32, in hex.
    pub hash: String,
}

/// A prompt suite as it was used.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SuiteUsed {
    /// Its name.
    pub name: String,
    /// SHA-256 of its rows.
    pub hash: String,
    /// Its licence, or licences.
    pub licence: String,
    /// Rows used.
    pub n: usize,
}

/// The passport of a detector: what it is and how far it can be trusted.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Detector {
    /// Its name.
    pub name: String,
    /// Version or hash of its rules or weights.
    pub version: String,
    /// Share of true cases it finds, against people.
    pub sensitivity: Option<f64>,
    /// Share of false cases it leaves alone, against people.
    pub specificity: Option<f64>,
    /// On what that was measured, with n.
    pub measured_on: String,
}

/// A signal that did not run, and why that is all right.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: u32,
    /// Its title.
    pub title: String,
    /// Why: `no baseline was given`, `disabled by the policy`.
    pub why: String,
}

/// What one signal found.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SignalResult {
    /// Stable id, such as `refusal_score`; see [`super::catalogue`].
    pub id: String,
    /// Its number in the table of signals, from 1.
    pub number: u32,
    /// Title for people.
    pub title: String,
    /// The stage of training it speaks about.
    pub stage: String,
    /// The family within which its tests share one error rate.
    pub family: String,
    /// Why it could not be evaluated at all; such a signal never passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_evaluated: Option<String>,
    /// Its quantities.
    pub values: Vec<Value>,
    /// Each limit of the policy and how it came out; filled in by [`super::verdict::evaluate`].
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Its verdict; [`Verdict::Underpowered`] until judged.
    pub verdict: Verdict,
    /// The reason in one plain sentence; filled in with the verdict.
    pub reason: String,
    /// What else a person should know, one sentence each.
    #[serde(default)]
    pub findings: Vec<String>,
    /// Evidence, prompt by prompt.
    #[serde(default)]
    pub items: Vec<Item>,
    /// Charts.
    #[serde(default)]
    pub charts: Vec<Chart>,
    /// How long it took.
    #[serde(deserialize_with = "null::real")]
    pub seconds: f64,
}

/// How one limit of the policy came out.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Check {
    /// The value it limits.
    pub value: String,
    /// The limit as a phrase, such as `lower bound at least 50.0%, else BLOCK`.
    pub limit: String,
    /// How it came out.
    pub verdict: Verdict,
    /// In one sentence.
    pub reason: String,
}

/// One prompt's evidence.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct Item {
    /// The id of the prompt in its suite.
    pub id: String,
    /// The beginning of the prompt.
    pub prompt_excerpt: String,
    /// The label the consensus gave, such as `refused`, `complied`, `unknown`.
    pub label: String,
    /// Numbers, such as `refusal_score`.
    #[serde(default, deserialize_with = "null::map")]
    pub numbers: BTreeMap<String, f64>,
    /// What each detector said.
    #[serde(default)]
    pub votes: BTreeMap<String, String>,
    /// The beginning of the completion, cut by [`excerpt`] or [`harmful_excerpt`].
    #[serde(default)]
    pub completion_excerpt: String,
    /// Remarks, such as `detectors disagree`, `looped`.
    #[serde(default)]
    pub flags: Vec<String>,
}

impl SignalResult {
    /// An empty result with the catalogue's words for `id`; `None` for an id that is not in it.
    pub fn new(id: &str) -> Option<Self> {
        let entry = super::catalogue::signal(id)?;
        Some(Self {
            number: entry.number,
            title: entry.title.to_owned(),
            stage: entry.stage.to_owned(),
            family: entry.family.to_owned(),
            ..Self::unknown(id)
        })
    }

    /// An empty result for an id that the catalogue does not have.
    pub fn unknown(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            number: 0,
            title: id.to_owned(),
            stage: String::new(),
            family: String::new(),
            not_evaluated: None,
            values: Vec::new(),
            checks: Vec::new(),
            verdict: Verdict::Underpowered,
            reason: String::new(),
            findings: Vec::new(),
            items: Vec::new(),
            charts: Vec::new(),
            seconds: 0.0,
        }
    }

    /// The quantity to show when there is room for one: that which decided the verdict, else the first that a limit is on.
    pub fn headline(&self) -> Option<&Value> {
        let decided = self
            .checks
            .iter()
            .rev()
            .max_by_key(|check| check.verdict)
            .filter(|check| check.verdict != Verdict::Pass);
        decided
            .and_then(|check| self.value(&check.value))
            .or_else(|| limited(&self.values, &self.checks))
            .or_else(|| self.values.first())
    }

    /// The quantity with this name.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.name == name)
    }
}

impl Audit {
    /// The result of the signal with this id.
    pub fn signal(&self, id: &str) -> Option<&SignalResult> {
        self.signals.iter().find(|signal| signal.id == id)
    }
}

/// The first measured quantity that a limit is on.
pub fn limited<'a>(values: &'a [Value], checks: &[Check]) -> Option<&'a Value> {
    let mut measured = values.iter().filter(|value| value.value.is_some());
    measured.find(|value| checks.iter().any(|check| check.value == value.name))
}

/// The beginning of `text`, at most [`EXCERPT`] characters.
pub fn excerpt(text: &str) -> String {
    cut(text, EXCERPT, " […]")
}

/// The beginning of a completion to a harmful prompt: enough to see whether it refuses, too little to be of use.
pub fn harmful_excerpt(text: &str) -> String {
    cut(text, HARMFUL_EXCERPT, " [truncated: harmful prompt]")
}

fn cut(text: &str, most: usize, mark: &str) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}{mark}", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmful_text_is_cut_by_characters_not_bytes() {
        let text = "é".repeat(100);
        assert_eq!(
            harmful_excerpt(&text),
            format!("{} [truncated: harmful prompt]", "é".repeat(80))
        );
        assert_eq!(
            harmful_excerpt("I cannot help with that."),
            "I cannot help with that."
        );
    }
}
