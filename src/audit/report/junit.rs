//! The audit as JUnit XML: one test case for each signal, for the CI systems that show such files.
//!
//! Always: well-formed XML 1.0 whatever the texts hold; every verdict but PASS is a failure whose type is the verdict's
//! word, and skipped signals are skipped test cases.

use std::fmt::Write;

use super::super::result::Audit;
use super::super::verdict::Verdict;
use super::super::wording;
use super::text::escaped;

/// The XML.
pub fn render(audit: &Audit) -> String {
    let failures = audit
        .signals
        .iter()
        .filter(|signal| signal.verdict != Verdict::Pass)
        .count();
    let (tests, skipped) = (
        audit.signals.len() + audit.skipped.len(),
        audit.skipped.len(),
    );
    let suite = escaped(&format!("candlescope audit {}", audit.subject.name));
    let counts = format!(
        "tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{}\"",
        seconds(audit.seconds)
    );
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"candlescope\" {counts}>");
    let _ = writeln!(
        out,
        "  <testsuite name=\"{suite}\" {counts} timestamp=\"{}\">",
        escaped(&audit.started)
    );
    out += "    <properties>\n";
    for (name, value) in [
        ("verdict", audit.verdict.word()),
        ("policy", &audit.policy.name),
        ("policy_hash", &audit.policy.hash),
        ("weights_hash", &audit.subject.weights_hash),
        ("fingerprint", &audit.subject.fingerprint),
    ] {
        let _ = writeln!(
            out,
            "      <property name=\"{name}\" value=\"{}\"/>",
            escaped(value)
        );
    }
    out += "    </properties>\n";
    for signal in &audit.signals {
        let _ = write!(
            out,
            "    <testcase classname=\"candlescope.audit.{}\" name=\"{}\" time=\"{}\">",
            escaped(&signal.id),
            escaped(&signal.title),
            seconds(signal.seconds)
        );
        if signal.verdict != Verdict::Pass {
            let (word, reason) = (signal.verdict.word(), escaped(&signal.reason));
            let _ = write!(
                out,
                "\n      <failure type=\"{word}\" message=\"{reason}\">{}</failure>",
                details(signal)
            );
        }
        let values: Vec<_> = signal
            .values
            .iter()
            .map(|value| format!("{}: {}", value.name, wording::estimate(value)))
            .map(|line| escaped(&line))
            .collect();
        let _ = writeln!(
            out,
            "\n      <system-out>{}</system-out>\n    </testcase>",
            values.join("\n")
        );
    }
    for skipped in &audit.skipped {
        let (id, title, why) = (
            escaped(&skipped.id),
            escaped(&skipped.title),
            escaped(&skipped.why),
        );
        let _ = writeln!(
            out,
            "    <testcase classname=\"candlescope.audit.{id}\" name=\"{title}\" time=\"0.000\"><skipped message=\"{why}\"/></testcase>"
        );
    }
    out + "  </testsuite>\n</testsuites>\n"
}

fn details(signal: &super::super::result::SignalResult) -> String {
    let lines: Vec<_> = signal
        .checks
        .iter()
        .filter(|check| check.verdict != Verdict::Pass)
        .map(|check| {
            escaped(&format!(
                "{} ({}): {}",
                check.verdict.word(),
                check.limit,
                check.reason
            ))
        })
        .collect();
    lines.join("\n")
}

fn seconds(seconds: f64) -> String {
    if seconds.is_finite() {
        format!("{seconds:.3}")
    } else {
        "0.000".to_owned()
    }
}
