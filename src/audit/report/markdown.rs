//! The audit as Markdown for a comment on a change: the verdict, the reasons, one row for each signal, the rest folded.
//!
//! Always: foreign text cannot become markup, a mention or a link; prompts and completions are left to the HTML report.

use std::fmt::Write;

use super::super::measure::Value;
use super::super::result::{Audit, ModelCard};
use super::super::wording;
use super::text::markdown as safe;
use super::{glyph, quiet, tally};

/// The Markdown.
pub fn render(audit: &Audit) -> String {
    let mut out = format!(
        "## {} {}: {}\n\n",
        glyph(audit.verdict),
        audit.verdict.word(),
        safe(&audit.subject.name)
    );
    let counts: Vec<_> = tally(audit)
        .iter()
        .map(|(verdict, count)| format!("{count} {}", verdict.word()))
        .collect();
    let against = audit
        .baseline
        .as_ref()
        .map_or_else(String::new, |baseline| {
            format!(" against **{}**", safe(&baseline.name))
        });
    let _ = writeln!(
        out,
        "{}{against}; policy `{}`; {} signals: {}; {}.\n",
        card(&audit.subject),
        safe(&audit.policy.name),
        audit.signals.len(),
        counts.join(", "),
        wording::duration(audit.seconds)
    );
    for reason in &audit.reasons {
        let _ = writeln!(out, "- {}", safe(reason));
    }
    for warning in &audit.warnings {
        let _ = writeln!(out, "- warning: {}", safe(warning));
    }
    let quiet = quiet(audit);
    if let Some(said) = &quiet {
        let _ = writeln!(out, "- known faults: {}", safe(said));
    }
    if !(audit.reasons.is_empty() && audit.warnings.is_empty() && quiet.is_none()) {
        out.push('\n');
    }
    signals(&mut out, audit);
    folded(&mut out, audit);
    out
}

fn signals(out: &mut String, audit: &Audit) {
    out.push_str("| verdict | # | signal | deciding quantity | value [95 % interval] | n | baseline | change |\n");
    out.push_str("|---|--:|---|---|---|--:|--:|---|\n");
    for signal in &audit.signals {
        let first = signal.headline();
        let cell = |show: fn(&Value) -> String| first.map_or_else(|| "n/a".to_owned(), show);
        let _ = writeln!(
            out,
            "| {} {} | {} | {} | {} | {} | {} | {} | {} |",
            glyph(signal.verdict),
            signal.verdict.word(),
            signal.number,
            safe(&signal.title),
            cell(|value| safe(&wording::phrase(&value.name))),
            cell(|value| safe(&wording::estimate(value))),
            cell(|value| value.n.map(|n| n.to_string()).unwrap_or_default()),
            cell(baseline),
            cell(change)
        );
    }
    out.push('\n');
}

fn baseline(value: &Value) -> String {
    value
        .baseline
        .map(|baseline| wording::number(&value.unit, baseline))
        .unwrap_or_default()
}

fn change(value: &Value) -> String {
    safe(&wording::changed(value))
}

fn folded(out: &mut String, audit: &Audit) {
    out.push_str("<details><summary>Every quantity</summary>\n\n| # | quantity | value [95 % interval] | n | null | p (Holm) | change |\n|--:|---|---|--:|---|--:|---|\n");
    for signal in &audit.signals {
        for value in &signal.values {
            let shown = value
                .why
                .as_ref()
                .map_or_else(|| wording::estimate(value), |why| format!("n/a: {why}"));
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} |",
                signal.number,
                safe(&wording::phrase(&value.name)),
                safe(&shown),
                value.n.map(|n| n.to_string()).unwrap_or_default(),
                value.null.as_ref().map_or_else(String::new, |null| {
                    safe(&format!(
                        "{} ± {} ({}, {})",
                        wording::number(&value.unit, null.mean),
                        wording::number(&value.unit, null.sd),
                        null.kind,
                        null.n
                    ))
                }),
                value
                    .test
                    .as_ref()
                    .map_or_else(String::new, |test| safe(&wording::p_value(
                        test.p_adjusted.unwrap_or(test.p)
                    ))),
                change(value)
            );
        }
    }
    out.push_str("\n</details>\n\n");
    if !audit.skipped.is_empty() {
        out.push_str("Not run: ");
        let skipped: Vec<_> = audit
            .skipped
            .iter()
            .map(|skipped| format!("{} ({})", safe(&skipped.title), safe(&skipped.why)))
            .collect();
        let _ = writeln!(out, "{}.\n", skipped.join("; "));
    }
    let _ = writeln!(
        out,
        "<sub>candlescope {}; weights {}; policy {}; seed {}; {}; {}</sub>",
        safe(&audit.tool_version),
        safe(&wording::short_hash(&audit.subject.weights_hash)),
        safe(&wording::short_hash(&audit.policy.hash)),
        audit.provenance.seed,
        safe(&audit.provenance.numerical_path),
        safe(&audit.started)
    );
}

fn card(model: &ModelCard) -> String {
    format!(
        "**{}** ({}, {} parameters, {} layers of {}, {})",
        safe(&model.name),
        safe(&model.family),
        wording::parameters(model.n_params),
        model.n_layers,
        model.d_model,
        safe(&model.dtype)
    )
}
