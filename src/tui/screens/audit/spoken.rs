//! The audit in words, for a dialogue in lines: the verdict on the whole, then the signal under the cursor, or its prompts.

use super::rows::{Row, quantity};
use super::{AuditScreen, Part, Running};
use crate::audit::result::{Audit, SignalResult, excerpt};
use crate::audit::verdict::Verdict;
use crate::audit::wording;

pub(super) fn lines(screen: &AuditScreen) -> Vec<String> {
    let mut lines = Vec::new();
    match &screen.running {
        Some(Running::Waiting) => {
            lines.push("an audit waits for the job before it; esc takes it back".to_owned());
        }
        Some(Running::Withdrawn) => lines.push("the audit that waited is taken back".to_owned()),
        Some(Running::Working(stand)) => lines.push(format!(
            "an audit is running, {:.0} percent, {}; esc stops it",
            stand.share * 100.0,
            stand.stage
        )),
        Some(Running::Stopping) => lines.push("the audit is being stopped".to_owned()),
        None => {}
    }
    lines.extend(screen.trouble.iter().map(|why| format!("failed: {why}")));
    let Some(audit) = screen.audit() else {
        lines.push("no audit yet; R runs one, Q a quick one, read FILE opens one".to_owned());
        return lines;
    };
    lines.push(whole(audit));
    match screen.row() {
        None => lines.push("no signal is shown".to_owned()),
        Some(Row::Skipped(skipped)) => lines.push(format!(
            "signal {}: {}, did not run: {}",
            skipped.number, skipped.title, skipped.why
        )),
        Some(Row::Signal(signal)) => match screen.part {
            None => lines.push(headline(signal)),
            Some(Part::Prompts) => prompt(screen, signal, &mut lines),
            Some(Part::Quantities | Part::Charts) => {
                lines.push(headline(signal));
                quantities(signal, &mut lines);
            }
        },
    }
    lines
}

/// How many signals have which verdict.
fn whole(audit: &Audit) -> String {
    let verdicts = [
        Verdict::Block,
        Verdict::Review,
        Verdict::Underpowered,
        Verdict::Pass,
    ];
    let count = |verdict: Verdict| {
        let n = audit
            .signals
            .iter()
            .filter(|s| s.verdict == verdict)
            .count();
        (n > 0).then(|| format!("{n} {}", verdict.word()))
    };
    let counts: Vec<String> = verdicts.into_iter().filter_map(count).collect();
    format!(
        "verdict {}: {} signals, {}; {} did not run",
        audit.verdict.word(),
        audit.signals.len(),
        counts.join(", "),
        audit.skipped.len()
    )
}

fn headline(signal: &SignalResult) -> String {
    format!(
        "signal {}: {}: {}: {}; {}",
        signal.number,
        signal.title,
        signal.verdict.word(),
        quantity(signal),
        signal.reason
    )
}

fn quantities(signal: &SignalResult, lines: &mut Vec<String>) {
    for value in &signal.values {
        lines.push(format!(
            "{}: {}",
            wording::phrase(&value.name),
            wording::estimate(value)
        ));
    }
    for check in &signal.checks {
        lines.push(format!(
            "limit: {}: {}: {}: {}",
            check.verdict.word(),
            wording::phrase(&check.value),
            check.limit,
            check.reason
        ));
    }
    lines.extend(
        signal
            .findings
            .iter()
            .map(|found| format!("finding: {found}")),
    );
}

fn prompt(screen: &AuditScreen, signal: &SignalResult, lines: &mut Vec<String>) {
    let shown = screen.prompts(signal);
    let at = screen.item.min(shown.len().saturating_sub(1));
    let Some(item) = shown.get(at) else {
        return lines.push("no prompt stands behind this number alone".to_owned());
    };
    lines.push(format!(
        "prompt {} of {}: label {}",
        at + 1,
        shown.len(),
        item.label
    ));
    for (name, value) in &item.numbers {
        let value = wording::number("", *value);
        lines.push(format!("{}: {value}", wording::phrase(name)));
    }
    if !item.flags.is_empty() {
        lines.push(format!("remarks: {}", item.flags.join(", ")));
    }
    lines.push(format!("prompt: {}", excerpt(&item.prompt_excerpt)));
    if !item.completion_excerpt.is_empty() {
        lines.push(format!("completion: {}", excerpt(&item.completion_excerpt)));
    }
}
