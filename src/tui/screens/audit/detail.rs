//! A signal as lines of text: its reason, quantities, limits, findings; and its page.
//!
//! Always: every line is visible text of at most the width asked for; an audit from a file may hold anything.

use ratatui::style::Style;

use crate::audit::catalogue;
use crate::audit::measure::Value;
use crate::audit::report::terminal::describe;
use crate::audit::report::text::wrapped;
use crate::audit::result::SignalResult;
use crate::audit::{signals, wording};
use crate::tui::cells;
use crate::tui::theme::Theme;

/// A line with its style.
pub(super) type Line = (String, Style);

/// Lines of one signal at most; what is beyond was not made by an audit.
const MOST: usize = 2000;

/// Lines that wrap under each other.
pub(super) struct Lines {
    /// The lines.
    pub all: Vec<Line>,
    wide: usize,
    theme: Theme,
}

impl Lines {
    /// None yet.
    pub(super) fn new(wide: usize, theme: Theme) -> Self {
        let all = Vec::new();
        Self { all, wide, theme }
    }

    /// A paragraph behind a lead, its later lines under its first word.
    pub(super) fn add(&mut self, lead: &str, text: &str, style: Style) {
        let indent = cells::width(lead);
        let room = self.wide.saturating_sub(indent).max(8);
        for (i, line) in wrapped(&cells::prose(text, self.theme.ascii), room)
            .into_iter()
            .enumerate()
        {
            if self.all.len() >= MOST {
                return;
            }
            let lead = if i == 0 {
                lead.to_owned()
            } else {
                " ".repeat(indent)
            };
            let line = cells::fit(&format!("{lead}{line}"), self.wide, self.theme.ascii);
            self.all.push((line, style));
        }
    }

    /// A line behind a lead, cut where it is too long.
    pub(super) fn one(&mut self, lead: &str, text: &str, style: Style) {
        let text = format!("{lead}{}", cells::prose(text, self.theme.ascii));
        let line = cells::fit(&text, self.wide, self.theme.ascii);
        self.all.push((line, style));
    }

    fn blank(&mut self) {
        self.all.push((String::new(), self.theme.text()));
    }
}

/// What is known of a signal in words and numbers.
pub(super) fn quantities(signal: &SignalResult, wide: usize, theme: Theme) -> Vec<Line> {
    let mut lines = Lines::new(wide, theme);
    let (mark, word, style) = theme.verdict(signal.verdict);
    lines.add(&format!("{mark} {word}  "), &signal.reason, style);
    if let Some(why) = &signal.not_evaluated {
        lines.add("  ", &format!("not evaluated: {why}"), theme.warning());
    }
    for value in &signal.values {
        lines.blank();
        quantity(&mut lines, signal, value);
    }
    if !signal.checks.is_empty() {
        lines.blank();
        lines.add("", "limits of the policy", theme.title());
    }
    for check in &signal.checks {
        let (mark, word, style) = theme.verdict(check.verdict);
        let text = format!("{word}: {}: {}", wording::phrase(&check.value), check.limit);
        lines.add(&format!("  {mark} "), &text, style);
        lines.add("    ", &check.reason, theme.dim());
    }
    if !signal.findings.is_empty() {
        lines.blank();
        lines.add("", "findings", theme.title());
    }
    for finding in &signal.findings {
        lines.add("  - ", finding, theme.text());
    }
    lines.blank();
    let about = format!(
        "{}; {}; measured in {}",
        signal.id,
        signal.stage,
        wording::duration(signal.seconds)
    );
    lines.add("", &about, theme.dim());
    lines.all
}

fn quantity(lines: &mut Lines, signal: &SignalResult, value: &Value) {
    let theme = lines.theme;
    let known = catalogue::signal(&signal.id).and_then(|entry| entry.quantity(&value.name));
    lines.add("", &wording::phrase(&value.name), theme.title());
    if let Some(known) = known {
        lines.add("  ", known.meaning, theme.dim());
    }
    let bar = share(value, lines.wide.min(48), theme);
    lines.add("  ", &describe(value), theme.text());
    if let Some(bar) = bar {
        lines.all.push((format!("  {bar}"), theme.accent()));
    }
}

/// A quantity that lies between 0 and 1 on that line: its interval, its estimate, the baseline's.
fn share(value: &Value, wide: usize, theme: Theme) -> Option<String> {
    let unit = matches!(
        value.unit.as_str(),
        "fraction" | "auroc" | "kappa" | "cosine" | "correlation"
    );
    let estimate = value
        .value
        .filter(|at| unit && (-1e-9..=1.000001).contains(at))?;
    let room = wide.checked_sub(16).filter(|room| *room >= 10)?;
    let place = |at: f64| ((at.clamp(0.0, 1.0) * (room - 1) as f64).round() as usize).min(room - 1);
    let mut marks = vec![theme.pick("·", "."); room];
    if let Some(ends) = value.interval.as_ref().filter(|ends| ends.is_sound()) {
        marks[place(ends.low)..=place(ends.high)].fill(theme.pick("━", "="));
    }
    if let Some(baseline) = value.baseline.filter(|at| at.is_finite()) {
        marks[place(baseline)] = theme.pick("○", "o");
    }
    marks[place(estimate)] = theme.pick("●", "*");
    let legend = match value.baseline {
        Some(_) => format!("  {} baseline", theme.pick("○", "o")),
        None => String::new(),
    };
    Some(format!("0 {} 1{legend}", marks.concat()))
}

/// What a signal is and how it is computed: its page, and its quantities.
pub(super) fn page(id: &str, wide: usize, theme: Theme) -> Vec<Line> {
    let mut lines = Lines::new(wide.min(100), theme);
    let (Some(signal), Some(entry)) = (signals::by_id(id), catalogue::signal(id)) else {
        lines.add(
            "",
            &format!("this candlescope has no signal `{id}`, and no page for it"),
            theme.warning(),
        );
        return lines.all;
    };
    let needs = if entry.needs_baseline {
        ", needs a baseline"
    } else {
        ""
    };
    lines.add(
        "",
        &format!(
            "{} (signal {}, {}{needs})",
            entry.title, entry.number, entry.family
        ),
        theme.title(),
    );
    for paragraph in signal.page().trim().split("\n\n") {
        lines.blank();
        for line in paragraph.lines() {
            match line.trim().strip_prefix("- ") {
                Some(item) => lines.add("- ", item, theme.text()),
                None => lines.add("", line.trim(), theme.text()),
            }
        }
    }
    lines.blank();
    lines.add("", "quantities", theme.title());
    for quantity in entry.quantities {
        let text = format!(
            "{} ({}): {}",
            wording::phrase(quantity.name),
            quantity.unit,
            quantity.meaning
        );
        lines.add("- ", &text, theme.text());
    }
    lines.all
}
