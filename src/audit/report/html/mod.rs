//! The audit as one HTML file: no script, no font, no image from elsewhere; light, dark and print.
//!
//! Always: every piece of text goes through [`escaped`]; the verdict is a word and a place, not only a colour. Here: the
//! page, its banner, cards, matrix and footer. A signal's own section: [`signal`]. Charts: [`super::draw`].

mod signal;

use std::fmt::Write;

use super::super::result::{Audit, ModelCard, Provenance};
use super::super::verdict::Verdict;
use super::super::wording;
use super::text::escaped;
use super::{Docs, draw, glyph, quiet, tally};

/// The style sheet of every page.
pub(super) const CSS: &str = include_str!("../../../../assets/report/report.css");

/// The page.
pub fn render(audit: &Audit, docs: &Docs) -> String {
    let mut out = head(&format!(
        "{} · {} · candlescope audit",
        audit.verdict.word(),
        audit.subject.name
    ));
    banner(&mut out, audit);
    out += "<main>";
    for warning in &audit.warnings {
        let _ = write!(
            out,
            "<p class=\"warn\"><strong>Warning.</strong> {}</p>",
            escaped(warning)
        );
    }
    if let Some(said) = quiet(audit) {
        let _ = write!(
            out,
            "<p class=\"soft\"><strong>Known faults.</strong> {}</p>",
            escaped(&said)
        );
    }
    out += "<div class=\"cards\">";
    card(&mut out, "Under audit", &audit.subject);
    match &audit.baseline {
        Some(baseline) => card(&mut out, "Baseline, paired on the same prompts", baseline),
        None => out += NO_BASELINE,
    }
    out += "</div>";
    matrix(&mut out, audit);
    out += KEY;
    for one in &audit.signals {
        signal::section(&mut out, one, docs.get(&one.id).map(String::as_str));
    }
    out += "</main>";
    footer(&mut out, audit);
    out + "</body></html>\n"
}

const NO_BASELINE: &str = "<div class=\"card\"><p class=\"eyebrow\">Baseline</p><h2>None</h2><p class=\"soft\">This audit is absolute: \
     signals and limits that speak about a change were left out. Give the last accepted checkpoint with <code>--baseline</code> to have \
     every change tested on the same prompts.</p></div>";

const KEY: &str = "<div class=\"key\" aria-hidden=\"true\">\
     <span><svg viewBox=\"0 0 26 14\"><line class=\"span\" x1=\"3\" y1=\"7\" x2=\"23\" y2=\"7\"/><circle class=\"estimate\" cx=\"13\" cy=\"7\" r=\"3.6\"/></svg>estimate and 95 % interval, from 0 to 1</span>\
     <span><svg viewBox=\"0 0 26 14\"><circle class=\"hollow\" cx=\"13\" cy=\"7\" r=\"4\"/></svg>baseline</span>\
     <span><svg viewBox=\"0 0 26 14\"><rect class=\"null\" x=\"4\" y=\"1\" width=\"18\" height=\"12\"/></svg>null, mean ± 2 sd</span></div>";

/// Everything up to and with the opening of the body.
pub(super) fn head(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><title>{}</title><style>{CSS}</style></head><body>",
        escaped(title)
    )
}

/// The class that gives an element the tone of a verdict.
pub(super) fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "t-pass",
        Verdict::Underpowered => "t-under",
        Verdict::Review => "t-review",
        Verdict::Block => "t-block",
    }
}

/// A verdict as a small label.
pub(super) fn chip(verdict: Verdict) -> String {
    format!(
        "<span class=\"chip {}\">{} {}</span>",
        tone(verdict),
        glyph(verdict),
        verdict.word()
    )
}

fn banner(out: &mut String, audit: &Audit) {
    let against = audit
        .baseline
        .as_ref()
        .map_or_else(String::new, |baseline| {
            format!(" against {}", escaped(&baseline.name))
        });
    let _ = write!(
        out,
        "<header class=\"top\"><div><p class=\"eyebrow\">Checkpoint audit</p><h1>{}{against}</h1>\
         <p class=\"soft\">{}, {} · policy <strong>{}</strong> · candlescope {}</p>\
         <div class=\"banner {}\"><div><div class=\"word\">{} {}</div><div class=\"tally\">",
        escaped(&audit.subject.name),
        escaped(&audit.started),
        wording::duration(audit.seconds),
        escaped(&audit.policy.name),
        escaped(&audit.tool_version),
        tone(audit.verdict),
        glyph(audit.verdict),
        audit.verdict.word()
    );
    for (verdict, count) in tally(audit) {
        let _ = write!(
            out,
            "<span class=\"chip {}\">{count} {}</span>",
            tone(verdict),
            verdict.word()
        );
    }
    out.push_str("</div></div><ul>");
    if audit.reasons.is_empty() {
        out.push_str(
            "<li>Every limit of the policy holds, and each sample was large enough to say so.</li>",
        );
    }
    let failing = |title: &str| {
        audit
            .signals
            .iter()
            .find(|signal| signal.verdict != Verdict::Pass && signal.title == title)
    };
    for reason in &audit.reasons {
        let mut parts = reason.splitn(3, ": ");
        let said = (parts.next(), parts.next(), parts.next());
        let (Some(word), Some(title), Some(rest)) = said else {
            let _ = write!(out, "<li>{}</li>", escaped(reason));
            continue;
        };
        let known = Verdict::ALL.into_iter().find(|known| known.word() == word);
        let mark = known.map_or_else(|| escaped(word), chip);
        let title = match failing(title) {
            Some(signal) => format!(
                "<a href=\"#{}\"><strong>{}</strong></a>",
                escaped(&signal.id),
                escaped(title)
            ),
            // What no signal says, as what is known of planted faults.
            None => format!("<strong>{}</strong>", escaped(title)),
        };
        let _ = write!(out, "<li>{mark} {title}: {}</li>", escaped(rest));
    }
    out.push_str("</ul></div></div></header>");
}

fn card(out: &mut String, role: &str, model: &ModelCard) {
    let _ = write!(
        out,
        "<div class=\"card\"><p class=\"eyebrow\">{role}</p><h2>{}</h2><dl>",
        escaped(&model.name)
    );
    let shape = format!("{} layers of {}", model.n_layers, model.d_model);
    let template = model
        .template_hash
        .as_deref()
        .map_or_else(|| "none".to_owned(), wording::short_hash);
    let parameters = wording::parameters(model.n_params);
    for (name, text, mono) in [
        ("File", model.path_name.clone(), true),
        ("Family", model.family.clone(), false),
        ("Shape", shape, false),
        ("Parameters", parameters, false),
        ("Computed in", model.dtype.clone(), false),
        ("Weights", wording::short_hash(&model.weights_hash), true),
        (
            "Tokenizer",
            wording::short_hash(&model.tokenizer_hash),
            true,
        ),
        ("Template", template, true),
        ("Fingerprint", wording::short_hash(&model.fingerprint), true),
    ] {
        let text = escaped(&text);
        let text = if mono {
            format!("<code>{text}</code>")
        } else {
            text
        };
        let _ = write!(out, "<dt>{name}</dt><dd>{text}</dd>");
    }
    out.push_str("</dl></div>");
}

fn matrix(out: &mut String, audit: &Audit) {
    out.push_str(
        "<h2>Signals</h2><div class=\"scroll\"><table class=\"matrix\"><thead><tr><th scope=\"col\">Verdict</th><th scope=\"col\" class=\"num\">#</th>\
         <th scope=\"col\">Signal</th><th scope=\"col\">Deciding quantity</th><th scope=\"col\" class=\"r\">Value</th><th scope=\"col\">0 to 1</th>",
    );
    if audit.baseline.is_some() {
        out.push_str("<th scope=\"col\" class=\"r\">Change</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for signal in &audit.signals {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"num\">{}</td><td><a href=\"#{}\">{}</a><span class=\"sub\">{}</span></td>",
            chip(signal.verdict),
            signal.number,
            escaped(&signal.id),
            escaped(&signal.title),
            escaped(&signal.family)
        );
        let columns = if audit.baseline.is_some() { 4 } else { 3 };
        let Some(value) = signal.headline() else {
            let _ = write!(
                out,
                "<td colspan=\"{columns}\" class=\"soft\">{}</td></tr>",
                escaped(&signal.reason)
            );
            continue;
        };
        let _ = write!(out, "<td>{}</td>", escaped(&wording::phrase(&value.name)));
        signal::estimate_cell(out, value);
        let _ = write!(out, "<td>{}</td>", draw::interval(value));
        if audit.baseline.is_some() {
            signal::change_cell(out, value);
        }
        out.push_str("</tr>");
    }
    for skipped in &audit.skipped {
        let _ = write!(
            out,
            "<tr><td><span class=\"chip t-none\">NOT RUN</span></td><td class=\"num\">{}</td><td class=\"soft\">{}</td><td class=\"soft\" colspan=\"{}\">{}</td></tr>",
            skipped.number,
            escaped(&skipped.title),
            if audit.baseline.is_some() { 4 } else { 3 },
            escaped(&skipped.why)
        );
    }
    out.push_str("</tbody></table></div>");
}

fn footer(out: &mut String, audit: &Audit) {
    let from = &audit.provenance;
    out.push_str("<footer><div><h2>Provenance</h2>");
    if !from.command.is_empty() {
        let _ = write!(
            out,
            "<h3>To make this audit again</h3><pre>{}</pre>",
            escaped(&from.command)
        );
    }
    suites(out, from);
    detectors(out, from);
    out.push_str("<h3>Computation</h3><dl>");
    for (name, text) in [
        ("Decoding", from.decoding.clone()),
        ("Seed", from.seed.to_string()),
        ("Numerical path", from.numerical_path.clone()),
        (
            "Threads",
            format!("{} (the result does not depend on it)", from.threads),
        ),
        (
            "Policy",
            format!("{} ({})", audit.policy.name, audit.policy.hash),
        ),
        ("Weights", audit.subject.weights_hash.clone()),
        ("Fingerprint", audit.subject.fingerprint.clone()),
        (
            "Made by",
            format!("candlescope {} on {}", audit.tool_version, audit.started),
        ),
        ("Record", format!("audit.json, {}", audit.schema)),
    ] {
        let _ = write!(
            out,
            "<dt>{name}</dt><dd class=\"mono\">{}</dd>",
            escaped(&text)
        );
    }
    out.push_str("</dl></div></footer>");
}

fn suites(out: &mut String, from: &Provenance) {
    if from.suites.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Prompt suites</h3><div class=\"scroll\"><table><thead><tr><th>Suite</th><th class=\"r\">Rows</th><th>Licence</th><th>Hash</th></tr></thead><tbody>",
    );
    for suite in &from.suites {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"r\">{}</td><td>{}</td><td><code>{}</code></td></tr>",
            escaped(&suite.name),
            suite.n,
            escaped(&suite.licence),
            escaped(&wording::short_hash(&suite.hash))
        );
    }
    out.push_str("</tbody></table></div>");
}

fn detectors(out: &mut String, from: &Provenance) {
    if from.detectors.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Detectors</h3><div class=\"scroll\"><table><thead><tr><th>Detector</th><th>Version</th><th class=\"r\">Sensitivity</th>\
         <th class=\"r\">Specificity</th><th>Measured on</th></tr></thead><tbody>",
    );
    let share = |share: Option<f64>| {
        share.map_or_else(
            || "n/a".to_owned(),
            |share| wording::number("fraction", share),
        )
    };
    for detector in &from.detectors {
        let _ = write!(
            out,
            "<tr><td>{}</td><td><code>{}</code></td><td class=\"r\">{}</td><td class=\"r\">{}</td><td>{}</td></tr>",
            escaped(&detector.name),
            escaped(&detector.version),
            share(detector.sensitivity),
            share(detector.specificity),
            escaped(&detector.measured_on)
        );
    }
    out.push_str("</tbody></table></div>");
}
