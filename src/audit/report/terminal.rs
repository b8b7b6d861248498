//! The audit for a terminal: the verdict and one line for each signal first, the details below.
//!
//! Always: no byte that acts on the terminal comes from foreign text, colour only on request and never alone (each verdict
//! has a word and a mark), and no line is longer than the width.

use std::fmt::Write;

use super::super::measure::Value;
use super::super::result::{Audit, ModelCard, SignalResult};
use super::super::verdict::Verdict;
use super::super::wording;
use super::text::{visible, wrapped};
use super::{glyph, plain_glyph, quiet, tally};

/// How to show it.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With ANSI colours.
    pub colour: bool,
    /// Columns.
    pub width: usize,
    /// With marks and lines outside ASCII.
    pub unicode: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            colour: false,
            width: 100,
            unicode: true,
        }
    }
}

impl Style {
    /// The narrowest terminal that tables are laid out for.
    fn columns(self) -> usize {
        self.width.clamp(60, 160)
    }

    pub(super) fn verdict(self, verdict: Verdict, width: usize) -> String {
        let mark = if self.unicode {
            glyph(verdict)
        } else {
            plain_glyph(verdict)
        };
        let code = match verdict {
            Verdict::Pass => "32",
            Verdict::Underpowered => "35",
            Verdict::Review => "33",
            Verdict::Block => "1;31",
        };
        self.paint(
            code,
            &format!("{:<width$}", format!("{mark} {}", verdict.word())),
        )
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// What is left of `text` when only ASCII may be shown.
    pub(super) fn plain(self, text: &str) -> String {
        let text = visible(text);
        if self.unicode {
            return text;
        }
        text.chars()
            .map(|c| match c {
                '±' => "+/-".to_owned(),
                c if c.is_ascii() => c.to_string(),
                _ => "?".to_owned(),
            })
            .collect()
    }

    pub(super) fn rule(self) -> String {
        self.faint(&if self.unicode { "─" } else { "-" }.repeat(self.columns()))
    }
}

/// The whole report.
pub fn render(audit: &Audit, style: &Style) -> String {
    let mut out = summary(audit, style);
    let _ = writeln!(out, "{}", style.rule());
    for signal in &audit.signals {
        details(&mut out, signal, *style);
    }
    out
}

/// One screen: the verdict, why, and one line for each signal.
pub fn summary(audit: &Audit, style: &Style) -> String {
    let mut out = String::new();
    let counts: Vec<_> = tally(audit)
        .iter()
        .map(|(verdict, count)| format!("{count} {}", verdict.word()))
        .collect();
    let name = cut(
        &style.plain(&audit.subject.name),
        style.columns() - 18,
        *style,
    );
    let _ = writeln!(
        out,
        "{}  {}",
        style.verdict(audit.verdict, 0),
        style.strong(&name)
    );
    let counts = format!(
        "{} in {}, policy {}",
        counts.join(", "),
        wording::duration(audit.seconds),
        audit.policy.name
    );
    paragraph(&mut out, "  ", &counts, *style);
    model_line(&mut out, "subject", &audit.subject, *style);
    match &audit.baseline {
        Some(baseline) => model_line(&mut out, "baseline", baseline, *style),
        None => {
            let _ = writeln!(
                out,
                "  {}",
                style.faint("baseline none: quantities that need one are left out")
            );
        }
    }
    if let Some(said) = quiet(audit) {
        paragraph(&mut out, "  known faults: ", &said, *style);
    }
    out.push('\n');
    signal_table(&mut out, audit, *style);
    for (head, lines) in [("why", &audit.reasons), ("warnings", &audit.warnings)] {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n{}", style.strong(head));
            for line in lines {
                paragraph(&mut out, "  - ", line, *style);
            }
        }
    }
    if !audit.skipped.is_empty() {
        let _ = writeln!(out, "\n{}", style.strong("not run"));
        for skipped in &audit.skipped {
            paragraph(
                &mut out,
                "  - ",
                &format!("{} {}: {}", skipped.number, skipped.title, skipped.why),
                *style,
            );
        }
    }
    out
}

fn model_line(out: &mut String, role: &str, model: &ModelCard, style: Style) {
    let text = format!(
        "{role:<8} {} ({}, {} parameters, {} layers of {}, {}, weights {})",
        model.name,
        model.family,
        wording::parameters(model.n_params),
        model.n_layers,
        model.d_model,
        model.dtype,
        wording::short_hash(&model.weights_hash)
    );
    for line in wrapped(&style.plain(&text), style.columns() - 2) {
        let _ = writeln!(out, "  {}", style.faint(&line));
    }
}

const VERDICT: usize = 14;

fn signal_table(out: &mut String, audit: &Audit, style: Style) {
    let rows: Vec<[String; 4]> = audit
        .signals
        .iter()
        .map(|signal| {
            let first = signal.headline();
            let shown = first.map_or_else(
                || "not evaluated".to_owned(),
                |value| {
                    format!(
                        "{} {}",
                        wording::phrase(&value.name),
                        wording::estimate(value)
                    )
                },
            );
            let changed = first
                .and_then(|value| {
                    value
                        .delta
                        .as_ref()
                        .map(|delta| wording::change(&value.unit, delta.value))
                })
                .unwrap_or_default();
            [
                signal.number.to_string(),
                signal.title.clone(),
                shown,
                changed,
            ]
            .map(|cell| style.plain(&cell))
        })
        .collect();
    let widest = |i: usize, head: &str| {
        rows.iter()
            .map(|row| row[i].chars().count())
            .max()
            .unwrap_or(0)
            .max(head.len())
    };
    let change_width = if audit.baseline.is_some() {
        widest(3, "change")
    } else {
        0
    };
    let room = style.columns()
        - VERDICT
        - 8
        - if change_width > 0 {
            change_width + 2
        } else {
            0
        };
    let value_width = widest(2, "deciding quantity").min(room * 2 / 3);
    let title_width = widest(1, "signal").min(room - value_width);
    let head = format!(
        "{:<VERDICT$}  {:>2}  {:<title_width$}  {:<value_width$}",
        "verdict", "#", "signal", "deciding quantity"
    );
    let head = if change_width > 0 {
        format!("{head}  change")
    } else {
        head
    };
    let _ = writeln!(out, "{}", style.faint(head.trim_end()));
    for (signal, [number, title, shown, changed]) in audit.signals.iter().zip(&rows) {
        let line = format!(
            "  {number:>2}  {:<title_width$}  {:<value_width$}  {changed}",
            cut(title, title_width, style),
            cut(shown, value_width, style)
        );
        let _ = writeln!(
            out,
            "{}{}",
            style.verdict(signal.verdict, VERDICT),
            line.trim_end()
        );
    }
}

fn details(out: &mut String, signal: &SignalResult, style: Style) {
    let meta = style.plain(&format!(
        "{}; {}",
        signal.id,
        wording::duration(signal.seconds)
    ));
    let room = style.columns().saturating_sub(20 + meta.chars().count());
    let title = cut(
        &style.plain(&format!("{} {}", signal.number, signal.title)),
        room,
        style,
    );
    let _ = writeln!(
        out,
        "\n{}  {}  {}",
        style.verdict(signal.verdict, 0),
        style.strong(&title),
        style.faint(&meta)
    );
    paragraph(out, "  ", &signal.reason, style);
    for value in &signal.values {
        let _ = writeln!(
            out,
            "    {}",
            style.strong(&style.plain(&wording::phrase(&value.name)))
        );
        paragraph(out, "      ", &describe(value), style);
    }
    for check in signal
        .checks
        .iter()
        .filter(|check| check.verdict != Verdict::Pass)
    {
        paragraph(
            out,
            "    limit: ",
            &format!(
                "{}: {} ({})",
                check.verdict.word(),
                check.limit,
                wording::phrase(&check.value)
            ),
            style,
        );
    }
    for finding in &signal.findings {
        paragraph(out, "    - ", finding, style);
    }
}

/// Everything known about a value, in one line.
pub fn describe(value: &Value) -> String {
    let mut parts = vec![wording::estimate(value)];
    if let Some(why) = &value.why {
        parts.push(why.clone());
    }
    if let Some(n) = value.n {
        parts.push(format!("n = {n}"));
    }
    if let Some(ends) = &value.interval {
        parts.push(format!("{} {:.0} %", ends.method, ends.level * 100.0));
    }
    if let Some(null) = &value.null {
        let z = value
            .value
            .and_then(|estimate| null.z(estimate))
            .map(|z| format!(", z = {z:+.1}"));
        let p = null.p.map(|p| format!(", p = {}", wording::p_value(p)));
        let (mean, sd) = (
            wording::number(&value.unit, null.mean),
            wording::number(&value.unit, null.sd),
        );
        parts.push(format!(
            "null {mean} ± {sd} ({} {}{}{})",
            null.n,
            null.kind,
            z.unwrap_or_default(),
            p.unwrap_or_default()
        ));
    }
    if let Some(baseline) = value.baseline {
        parts.push(format!(
            "baseline {}, change {}",
            wording::number(&value.unit, baseline),
            wording::changed(value)
        ));
    }
    if let Some(test) = &value.test {
        let adjusted = test
            .p_adjusted
            .map(|p| format!(", Holm {}", wording::p_value(p)));
        parts.push(format!(
            "{} p = {}{}",
            test.name,
            wording::p_value(test.p),
            adjusted.unwrap_or_default()
        ));
    }
    if let Some(mdd) = value.mdd {
        parts.push(format!(
            "detectable from {}",
            wording::change(&value.unit, mdd).trim_start_matches('+')
        ));
    }
    parts.join("; ")
}

pub(super) fn paragraph(out: &mut String, lead: &str, text: &str, style: Style) {
    let indent = lead.chars().count();
    for (i, line) in wrapped(&style.plain(text), style.columns() - indent)
        .into_iter()
        .enumerate()
    {
        let lead = if i == 0 {
            lead.to_owned()
        } else {
            " ".repeat(indent)
        };
        let _ = writeln!(out, "{}", format!("{lead}{line}").trim_end());
    }
}

pub(super) fn cut(text: &str, width: usize, style: Style) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let end = if style.unicode { '…' } else { '~' };
    text.chars()
        .take(width.saturating_sub(1))
        .chain([end])
        .collect()
}
