//! One signal asked of one checkpoint, as the pipeline's audit asked it.
//!
//! Always: suites, trials, pairs, sizes, seed and baseline are those of the stored audit, so that the same weights give the same
//! number; signals that stand in a condition of one of its limits are measured as well, and judged by nothing. Holm's
//! correction is over the tests that were made, which are fewer here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{BisectError, Halt, Rule, Seen, Target};
use crate::audit::inputs::Inputs;
use crate::audit::policy::{Policy, Severity, SignalPolicy};
use crate::audit::runner::{self, Kept};
use crate::model::{Checkpoint, LoadOptions};
use crate::pipeline::observe::Stop;
use crate::pipeline::reading::{Looked, Reading};

/// The policy with this signal alone; of one signal a calibration says nothing.
pub(super) fn narrowed(policy: &Policy, id: &str) -> Policy {
    let mut signals = BTreeMap::new();
    if let Some(own) = policy.signals.get(id) {
        let limits = own.limits.values().flatten();
        for condition in limits.flat_map(|limit| &limit.when) {
            let unjudged = SignalPolicy {
                enabled: true,
                severity: Severity::Info,
                limits: BTreeMap::new(),
            };
            signals.insert(condition.signal.clone(), unjudged);
        }
        signals.insert(id.to_owned(), own.clone());
    }
    Policy {
        signals,
        calibration: None,
        ..policy.clone()
    }
}

/// Who asks.
pub(super) struct Question<'a> {
    /// What.
    pub target: &'a Target,
    /// What counts as broken.
    pub rule: Rule,
    /// The policy, narrowed.
    pub policy: Policy,
    /// What each checkpoint is paired with.
    pub baseline: Option<Checkpoint>,
    /// What the pipeline's audits were given beside their prompts.
    pub inputs: Inputs,
    /// What the pipeline's audits read checkpoints through.
    pub reading: Option<Reading>,
    /// Where dictionaries are trained on for a while.
    pub refits: PathBuf,
    /// What is known of the baseline after the first audit.
    pub kept: Kept,
    /// Who is told, and who may stop it.
    pub halt: Halt<'a>,
}

impl Question<'_> {
    /// Asks a checkpoint.
    pub fn ask(&self, (stage, step): (&str, u64), path: &Path) -> Result<Seen, BisectError> {
        let name = format!("{stage} step {step}");
        let failed = |source| BisectError::Audit {
            checkpoint: name.clone(),
            source,
        };
        let subject = Checkpoint::open(&name, path, &LoadOptions::default())?;
        let suites = runner::suites_for(&subject).map_err(failed)?;
        let trials = runner::trials_for(&subject).map_err(failed)?;
        let looked = Looked {
            models: (&subject, self.baseline.as_ref()),
            refit: Some(self.refits.join(format!("step-{step}"))),
            control: Some(self.refits.join("baseline")),
            stop: self.halt.stop,
            progress: self.halt.watcher.training(),
        };
        let given = match &self.reading {
            Some(reading) => reading.given(&self.policy, &looked),
            None => Ok(None),
        };
        let given = given.map_err(|stop| match stop {
            Stop::Failed(error) => error.into(),
            Stop::Halted(_) | Stop::Interrupted => self.halt.interrupted(),
        })?;
        let outcome = runner::run(
            &subject,
            self.baseline.as_ref(),
            &self.policy,
            &runner::Options {
                suites: &suites,
                trials: &trials,
                seed: None,
                refusal_phrases: &[],
                command: "candlescope audit bisect",
                dictionaries: given.as_deref(),
                inputs: Some(&self.inputs),
                progress: self.halt.watcher.auditing(),
                cancel: self.halt.stop,
                kept: Some(&self.kept),
            },
        );
        let outcome = outcome.map_err(failed)?;
        if outcome.interrupted {
            return Err(self.halt.interrupted());
        }
        let audit = outcome.audit;
        let Some(signal) = audit.signal(self.target.signal.id) else {
            // The policy enables it, and what it needs was there when the pipeline asked.
            return Err(BisectError::NeverMeasured {
                stage: stage.to_owned(),
                signal: self.target.signal.id.to_owned(),
                known: "nothing".to_owned(),
            });
        };
        let of = (
            audit.subject.weights_hash.as_str(),
            audit.policy.hash.as_str(),
        );
        let about = (self.target, self.rule);
        Ok(Seen::of((stage, step), about, signal, of))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_limit_hangs_on_is_asked_too() {
        let text = "extends = 'default'\nname = 'x'\n[signals.refusal_rate.limits.harmful_refusal]\nmin = 0.5\n\
            [signals.refusal_rate.limits.harmful_refusal.when]\n'coherence.loop_rate' = { max = 0.1 }\n";
        let parsed = Policy::parse(text, "x");
        let policy = parsed.unwrap();
        let narrow = narrowed(&policy, "refusal_rate");
        let ids: Vec<&str> = narrow.signals.keys().map(String::as_str).collect();
        assert_eq!(ids, ["coherence", "refusal_rate"]);
        assert!(narrow.signals["coherence"].limits.is_empty());
        assert_eq!(
            narrow.signals["refusal_rate"],
            policy.signals["refusal_rate"]
        );
        assert_eq!((narrow.sizes, narrow.seed), (policy.sizes, policy.seed));
    }
}
