//! The audit as a section of a model card, under the headings that cards on the Hugging Face hub have.
//!
//! Always: every number stands with its n and interval, what was not evaluated stands beside what was, and foreign text
//! cannot become markup; no prompt and no completion is in it.

use std::fmt::Write;

use super::super::measure::Value;
use super::super::result::{Audit, ModelCard, SignalResult};
use super::super::wording;
use super::text::markdown as safe;

/// The bundle that a card speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleName {
    /// The last part of its path.
    pub file: String,
    /// Its id.
    pub id: String,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// The section.
pub fn render(audit: &Audit, bundle: Option<&BundleName>) -> String {
    let mut out = String::from("## Evaluation\n\n");
    let against = audit
        .baseline
        .as_ref()
        .map_or_else(String::new, |baseline| {
            format!(", beside its baseline **{}**", safe(&baseline.name))
        });
    let _ = writeln!(
        out,
        "Audited with candlescope {}{against}: **{}** under the policy {}.\n",
        safe(&audit.tool_version),
        audit.verdict.word(),
        safe(&audit.policy.name),
    );
    data(&mut out, audit);
    results(&mut out, audit);
    not_evaluated(&mut out, audit);
    limits(&mut out, audit);
    verification(&mut out, audit, bundle);
    out
}

fn data(out: &mut String, audit: &Audit) {
    out.push_str("### Testing Data, Factors & Metrics\n\n#### Testing Data\n\n");
    out.push_str("| suite | prompts used | licence | SHA-256 |\n|---|--:|---|---|\n");
    for suite in &audit.provenance.suites {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            safe(&suite.name),
            suite.n,
            safe(&suite.licence),
            safe(&suite.hash)
        );
    }
    let _ = writeln!(
        out,
        "\nPrompts that fit a direction or probe, that choose it, and that are reported on are kept apart.\n\n\
         #### Factors\n\n\
         Decoding: {}; seed {}; kernels: {}.\n\n\
         #### Metrics\n\n\
         The quantities below, each with the number of observations behind it and the interval at the level named; changes \
         against the baseline are paired prompt by prompt, and p values are Holm's within their family.\n",
        safe(&audit.provenance.decoding),
        audit.provenance.seed,
        safe(&audit.provenance.numerical_path),
    );
}

fn results(out: &mut String, audit: &Audit) {
    out.push_str("### Results\n\n");
    out.push_str(
        "| verdict | signal | quantity | value | interval | n | change against baseline |\n",
    );
    out.push_str("|---|---|---|--:|---|--:|---|\n");
    for signal in &audit.signals {
        for value in signal.values.iter().filter(|value| value.value.is_some()) {
            row(out, signal, value);
        }
    }
    let _ = writeln!(out, "\n#### Summary\n\n**{}**", audit.verdict.word());
    if audit.reasons.is_empty() {
        out.push_str("\nEvery limit of the policy holds.\n");
    } else {
        out.push('\n');
    }
    for reason in &audit.reasons {
        let _ = writeln!(out, "- {}", safe(reason));
    }
    out.push('\n');
}

fn row(out: &mut String, signal: &SignalResult, value: &Value) {
    let number = value.value.map_or_else(String::new, |x| {
        format!(
            "{}{}",
            wording::number(&value.unit, x),
            wording::unit(&value.unit)
        )
    });
    let interval = value.interval.as_ref().map_or_else(
        || "none".to_owned(),
        |interval| {
            let level = interval.level * 100.0;
            let ends = wording::interval(&value.unit, interval);
            format!("{ends} ({level:.0} %, {})", interval.method)
        },
    );
    let _ = writeln!(
        out,
        "| {} | {} | {} | {number} | {} | {} | {} |",
        signal.verdict.word(),
        safe(&signal.title),
        safe(&wording::phrase(&value.name)),
        safe(&interval),
        value.n.map_or_else(String::new, |n| n.to_string()),
        safe(&wording::changed(value))
    );
}

/// What a reader must not take for passed.
fn not_evaluated(out: &mut String, audit: &Audit) {
    out.push_str("### Not evaluated\n\n");
    let mut lines: Vec<String> = Vec::new();
    for signal in &audit.signals {
        let missing = signal.values.iter().filter(|value| value.value.is_none());
        lines.extend(
            signal
                .not_evaluated
                .as_ref()
                .map(|why| line(&signal.title, why)),
        );
        lines.extend(missing.map(|value| {
            let what = format!("{}: {}", signal.title, wording::phrase(&value.name));
            line(&what, value.why.as_deref().unwrap_or("not measured"))
        }));
    }
    lines.extend(
        audit
            .skipped
            .iter()
            .map(|skipped| line(&skipped.title, &skipped.why)),
    );
    if lines.is_empty() {
        lines.push("- None of the signals that the policy asks for.\n".to_owned());
    }
    let _ = writeln!(out, "{}", lines.concat());
}

fn line(what: &str, why: &str) -> String {
    format!("- {} ({})\n", safe(what), safe(why))
}

fn limits(out: &mut String, audit: &Audit) {
    out.push_str("### Limits\n\n");
    for text in [
        "The verdict speaks of these prompts, this decoding and this policy; other prompts, languages and attacks were not tried.",
        "Completions are labelled by text rules that read English openings. They tell refusal from none, not harm from help.",
        "UNDERPOWERED means that too little was measured to say, not that nothing was found.",
    ] {
        let _ = writeln!(out, "- {text}");
    }
    for detector in &audit.provenance.detectors {
        let share = |share: Option<f64>| {
            share.map_or_else(|| "unknown".to_owned(), |x| wording::number("fraction", x))
        };
        let _ = writeln!(
            out,
            "- Detector {}: sensitivity {}, specificity {}, on {}",
            safe(&detector.name),
            share(detector.sensitivity),
            share(detector.specificity),
            safe(&detector.measured_on)
        );
    }
    if let Some(said) = &audit.calibrated {
        let _ = writeln!(out, "- Known faults: {}", safe(&said.words()));
    }
    for warning in &audit.warnings {
        let _ = writeln!(out, "- {}", safe(warning));
    }
    out.push('\n');
}

fn verification(out: &mut String, audit: &Audit, bundle: Option<&BundleName>) {
    out.push_str("### How to check this\n\n| | SHA-256 |\n|---|---|\n");
    let mut hash = |what: &str, hash: &str| {
        let _ = writeln!(out, "| {} | {} |", safe(what), safe(hash));
    };
    let mut model = |what: &str, card: &ModelCard| {
        hash(&format!("{what}, weights"), &card.weights_hash);
        hash(&format!("{what}, tokenizer"), &card.tokenizer_hash);
        hash(
            &format!("{what}, chat template"),
            card.template_hash.as_deref().unwrap_or("none"),
        );
    };
    model("model", &audit.subject);
    if let Some(baseline) = &audit.baseline {
        model("baseline", baseline);
    }
    hash("policy", &audit.policy.hash);
    if let Some(bundle) = bundle {
        hash(&format!("{}, the file", bundle.file), &bundle.sha256);
        hash(&format!("{}, its id", bundle.file), &bundle.id);
    }
    let baseline = if audit.baseline.is_some() {
        " --baseline BASELINE"
    } else {
        ""
    };
    let command = match bundle {
        Some(bundle) => format!(
            "candlescope audit verify {} --model MODEL{baseline}",
            fenced(&bundle.file)
        ),
        None => fenced(&audit.provenance.command),
    };
    let _ = writeln!(
        out,
        "\nMade again on a CPU, every number comes out the same to the bit:\n\n```sh\n{command}\n```"
    );
}

/// Text inside a fence: one line that cannot end it.
fn fenced(text: &str) -> String {
    super::text::visible(text).replace('`', "'")
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake;
    use super::*;

    fn bundle() -> BundleName {
        BundleName {
            file: "out.tar".to_owned(),
            id: "1d".to_owned(),
            sha256: "5ha".to_owned(),
        }
    }

    #[test]
    fn every_measured_quantity_has_a_row_with_n_and_interval() {
        let audit = fake::audit();
        let card = render(&audit, Some(&bundle()));
        let measured = audit.signals.iter().flat_map(|signal| &signal.values);
        let measured = measured.filter(|value| value.value.is_some()).count();
        let table = card.split("### Results").nth(1).unwrap_or_default();
        let table = table.split("#### Summary").next().unwrap_or_default();
        let rows: Vec<_> = table
            .lines()
            .filter(|line| line.starts_with("| "))
            .collect();
        assert_eq!(rows.len(), measured + 1);
        assert!(
            table.contains("| 2.0% | \\[0.5, 7.0\\] (95 %, wilson) | 100 |"),
            "{table}"
        );
        for row in rows {
            let bars = row.replace("\\|", "").matches('|').count();
            assert_eq!(bars, 8, "{row}");
        }
    }

    #[test]
    fn what_was_not_evaluated_and_how_to_check_are_said() {
        let audit = fake::audit();
        let card = render(&audit, Some(&bundle()));
        for skipped in &audit.skipped {
            assert!(
                card.contains(&line(&skipped.title, &skipped.why)),
                "{}",
                skipped.id
            );
        }
        for signal in audit
            .signals
            .iter()
            .filter(|signal| signal.not_evaluated.is_some())
        {
            assert!(card.contains(&safe(&signal.title)), "{}", signal.id);
        }
        assert!(card.contains("candlescope audit verify out.tar --model MODEL"));
        assert!(card.contains("| out.tar, its id | 1d |"));
        let alone = render(&audit, None);
        assert!(!alone.contains("audit verify"));
    }

    #[test]
    fn nothing_foreign_acts() {
        let card = render(&fake::audit(), None);
        assert!(!card.contains("<script") && !card.contains("@all") && !card.contains('\u{1b}'));
    }
}
