//! The verdict: from values and limits to PASS, REVIEW, BLOCK or UNDERPOWERED.
//!
//! Always: what was not measured never passes, and neither does what was measured on too little to say; every verdict
//! carries the sentence that explains it. One limit at a time: [`check`]. What limits mean: `assets/policy/default.toml`.
//!
//! A signal's verdict is the worst of its limits'; an audit's the worst of its signals', where BLOCK is worse than REVIEW,
//! REVIEW than UNDERPOWERED, UNDERPOWERED than PASS: what is known to be wrong outweighs what is not known.

mod check;

use candlescope_probes::stats::multiplicity::holm;
use serde::{Deserialize, Serialize};

use super::calibrate::shipped;
use super::catalogue::{self, Artefact};
use super::measure::Value;
use super::policy::{Policy, Severity, SignalPolicy};
use super::result::{Audit, Check, SignalResult, Skipped, limited};
use super::signal::inapplicable;
use super::signals;
use super::wording;

/// How a limit, a signal or a whole audit came out. The order is that of how much it matters: of several verdicts
/// the greatest is the verdict on all.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Every limit holds, and the sample was large enough to say so.
    Pass,
    /// Could not be decided: not measured, or measured on too little.
    Underpowered,
    /// A person should look before release.
    Review,
    /// Must not be released.
    Block,
}

impl Verdict {
    /// Every verdict, worst first.
    pub const ALL: [Self; 4] = [Self::Block, Self::Review, Self::Underpowered, Self::Pass];

    /// The word shown everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Underpowered => "UNDERPOWERED",
            Self::Review => "REVIEW",
            Self::Block => "BLOCK",
        }
    }

    /// The exit code of a run that ended with it: 0 for PASS, else 1, muted by `exit_zero`.
    pub fn exit_code(self, exit_zero: bool) -> u8 {
        u8::from(self != Self::Pass && !exit_zero)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// Judges `audit` by `policy`: fills in the adjusted p values, each signal's checks, verdict and reason, the skipped
/// signals, the policy's name and hash, and the verdict on the whole. Judging twice gives the same.
pub fn evaluate(audit: &mut Audit, policy: &Policy) {
    audit.policy = policy.id.clone();
    account_for_absent_signals(audit, policy);
    audit.signals.sort_by_key(|signal| signal.number);
    adjust_p_values(audit, policy);
    let judged: Vec<_> = audit
        .signals
        .iter()
        .map(|signal| judge(audit, signal, policy))
        .collect();
    audit.reasons = Vec::new();
    audit.verdict = Verdict::Pass;
    for (signal, (checks, verdict, reason)) in audit.signals.iter_mut().zip(judged) {
        if verdict != Verdict::Pass {
            audit
                .reasons
                .push(format!("{}: {}: {reason}", verdict.word(), signal.title));
        }
        audit.verdict = audit.verdict.max(verdict);
        (signal.checks, signal.verdict, signal.reason) = (checks, verdict, reason);
    }
    calibrated(audit, policy);
    audit.reasons.sort_by_key(|reason| {
        Verdict::ALL
            .iter()
            .position(|verdict| reason.starts_with(verdict.word()))
    });
    if !audit
        .signals
        .iter()
        .any(|signal| policy.enabled(&signal.id).is_some())
    {
        audit.verdict = Verdict::Underpowered;
        audit
            .reasons
            .push("UNDERPOWERED: no signal was evaluated".to_owned());
    }
}

/// An alarm of the calibration that speaks of this audit asks for a person, whatever the limits say: limits look at one
/// quantity at a time, it looks at all.
fn calibrated(audit: &mut Audit, policy: &Policy) {
    let own = policy.calibration.as_deref();
    audit.calibrated = shipped::say(audit, own);
    if let Some(silent) = own.and_then(|own| shipped::silent(audit, own))
        && !audit.warnings.contains(&silent)
    {
        audit.warnings.push(silent);
    }
    if let Some(said) = audit
        .calibrated
        .as_ref()
        .filter(|said| said.diagnosis.alarm)
    {
        audit
            .reasons
            .push(format!("REVIEW: Known faults: {}", said.words()));
        audit.verdict = audit.verdict.max(Verdict::Review);
    }
}

/// A signal that the policy asks for is skipped only for want of a baseline or of a file, or where it does not apply to the kind of model; otherwise its absence is itself a result.
fn account_for_absent_signals(audit: &mut Audit, policy: &Policy) {
    for entry in catalogue::SIGNALS {
        if audit.signal(entry.id).is_some() {
            audit.skipped.retain(|skipped| skipped.id != entry.id);
            continue;
        }
        let lacking = |a: &&Artefact| !audit.provenance.has(**a);
        let lacked = entry.artefacts.iter().find(lacking);
        let kind =
            signals::by_id(entry.id).and_then(|signal| inapplicable(signal, audit.subject.scored));
        let excused = match (policy.enabled(entry.id), lacked) {
            (None, _) => Some("not enabled in the policy".to_owned()),
            (Some(_), _) if kind.is_some() => kind.map(str::to_owned),
            (Some(_), Some(lacked)) => Some(format!(
                "no {} was given; try {} PATH",
                lacked.words(),
                lacked.option()
            )),
            (Some(_), None)
                if entry.needs_baseline && audit.baseline.is_none() && !policy.require_baseline =>
            {
                Some("needs a baseline, and none was given".to_owned())
            }
            (Some(_), None) => None,
        };
        let known = audit
            .skipped
            .iter()
            .position(|skipped| skipped.id == entry.id);
        if let Some(why) = excused {
            if known.is_none() {
                let (id, title) = (entry.id.to_owned(), entry.title.to_owned());
                audit.skipped.push(Skipped {
                    id,
                    number: entry.number,
                    title,
                    why,
                });
            }
        } else if let Some(mut absent) = SignalResult::new(entry.id) {
            let why = known.map(|at| audit.skipped.remove(at).why);
            let fallback = if entry.needs_baseline && audit.baseline.is_none() {
                "the policy requires a baseline, and none was given"
            } else {
                "it did not run"
            };
            absent.not_evaluated = Some(why.unwrap_or_else(|| fallback.to_owned()));
            audit.signals.push(absent);
        }
    }
    audit.skipped.sort_by_key(|skipped| skipped.number);
}

/// Holm's correction over all tests of a family. Tests of signals that the policy does not enable do not count.
fn adjust_p_values(audit: &mut Audit, policy: &Policy) {
    for signal in &mut audit.signals {
        if let Some(family) = policy.family(&signal.id) {
            family.clone_into(&mut signal.family);
        }
    }
    let mut families: Vec<String> = audit
        .signals
        .iter()
        .map(|signal| signal.family.clone())
        .collect();
    families.sort();
    families.dedup();
    for family in families {
        let mut tests: Vec<_> = audit
            .signals
            .iter_mut()
            .filter(|signal| signal.family == family && policy.enabled(&signal.id).is_some())
            .flat_map(|signal| &mut signal.values)
            .filter_map(|value| value.test.as_mut())
            .filter(|test| (0.0..=1.0).contains(&test.p))
            .collect();
        let p: Vec<f64> = tests.iter().map(|test| test.p).collect();
        // Without an adjusted p value a limit that asks for one cannot block, it sends to review.
        for (test, adjusted) in tests.iter_mut().zip(holm(&p).unwrap_or_default()) {
            test.p_adjusted = Some(adjusted);
        }
    }
}

fn judge(audit: &Audit, signal: &SignalResult, policy: &Policy) -> (Vec<Check>, Verdict, String) {
    let Some(rules) = policy.enabled(&signal.id) else {
        return (
            Vec::new(),
            Verdict::Pass,
            "shown only: the policy does not enable it".to_owned(),
        );
    };
    if let Some(why) = &signal.not_evaluated {
        return (
            Vec::new(),
            Verdict::Underpowered,
            format!("not evaluated: {why}"),
        );
    }
    if signal.values.iter().all(|value| value.value.is_none()) {
        let why = signal
            .values
            .iter()
            .find_map(|value| value.why.as_deref())
            .unwrap_or("it reported no value");
        return (
            Vec::new(),
            Verdict::Underpowered,
            format!("not evaluated: {why}"),
        );
    }
    let checks: Vec<Check> = rules
        .limits
        .iter()
        .flat_map(|(name, limits)| limits.iter().map(move |limit| (name, limit)))
        .filter_map(|(name, limit)| check::check(audit, signal, name, limit, policy))
        .collect();
    let (verdict, reason) = conclude(signal, rules, &checks);
    (checks, verdict, reason)
}

fn conclude(signal: &SignalResult, rules: &SignalPolicy, checks: &[Check]) -> (Verdict, String) {
    let worst = checks
        .iter()
        .map(|check| check.verdict)
        .max()
        .unwrap_or(Verdict::Pass);
    let said: Vec<_> = checks
        .iter()
        .filter(|check| check.verdict == worst)
        .map(|check| check.reason.as_str())
        .collect();
    match worst {
        Verdict::Pass if checks.is_empty() => (
            Verdict::Pass,
            format!("no limit applies: {}", headline(&signal.values, checks)),
        ),
        Verdict::Pass => {
            let limits = match checks.len() {
                1 => "its limit holds".to_owned(),
                n => format!("its {n} limits hold"),
            };
            (
                Verdict::Pass,
                format!("{limits}: {}", headline(&signal.values, checks)),
            )
        }
        // Not measured is not a pass even for information; a limit broken there is.
        Verdict::Review | Verdict::Block | Verdict::Underpowered
            if rules.severity == Severity::Info =>
        {
            (
                Verdict::Pass,
                format!("for information: {}", said.join("; ")),
            )
        }
        worst => (
            worst.min(rules.severity.verdict().max(Verdict::Underpowered)),
            said.join("; "),
        ),
    }
}

/// The first measured value that a limit is on, else the first, in words.
fn headline(values: &[Value], checks: &[Check]) -> String {
    limited(values, checks)
        .or_else(|| values.iter().find(|value| value.value.is_some()))
        .map_or_else(
            || "nothing was measured".to_owned(),
            |value| {
                format!(
                    "{} {}",
                    wording::phrase(&value.name),
                    wording::estimate(value)
                )
            },
        )
}

#[cfg(test)]
mod tests;
