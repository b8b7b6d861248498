//! Drawing the audit: the verdict and its reasons above the table; a signal's parts; its page.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::detail::{Line, Lines};
use super::order::{self, Running, Stand};
use super::rows::{self, Filter, Row};
use super::{AuditScreen, Held, Part, Source, detail, items, plot};
use crate::audit::report::tally;
use crate::audit::result::{Audit, SignalResult};
use crate::audit::wording;
use crate::tui::cells::{self, Entry, Table, put};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::shared::ModelState;
use crate::tui::theme::Theme;

/// Clicks on a signal.
pub(super) const TABLE: u16 = 0;
/// Clicks on a prompt.
pub(super) const ITEMS: u16 = 1;
/// Clicks on the name of a part.
pub(super) const PARTS: u16 = 2;

/// From here on the limit has a column.
const WIDE: u16 = 130;

pub(super) fn draw(
    screen: &AuditScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let area = area.intersection(buf.area);
    if area.width == 0 || area.height == 0 {
        return;
    }
    let Some(held) = screen.held.get(screen.shown) else {
        return empty(screen, view, area, buf);
    };
    let below = if screen.trouble.is_some() {
        3.min(area.height)
    } else {
        0
    };
    let rest = Rect {
        height: area.height - below,
        ..area
    };
    match (screen.explaining, screen.row(), screen.part) {
        (true, Some(row), _) => {
            let title = format!("what is {}? (i or esc closes)", row.id());
            scrolled(
                screen,
                view,
                rest,
                &title,
                |wide| detail::page(row.id(), wide, *view.theme),
                buf,
            );
        }
        (false, Some(Row::Signal(signal)), Some(part)) => {
            drilled(screen, signal, part, view, rest, buf, hits);
        }
        _ => overview(screen, held, view, rest, buf, hits),
    }
    if let Some(why) = &screen.trouble {
        let at = Rect {
            y: area.y + rest.height,
            height: below,
            ..area
        };
        let inner = pen::panel(at, "failed (esc closes)", view.theme, buf);
        let text = cells::prose(why, view.theme.ascii);
        let text = cells::fit(&text, inner.width.into(), view.theme.ascii);
        pen::line(inner, 0, &text, view.theme.error(), buf);
    }
}

/// Nothing yet: what to do, what is going on, or what went wrong.
fn empty(screen: &AuditScreen, view: &View, area: Rect, buf: &mut Buffer) {
    let baseline = screen.baseline.as_ref().map_or_else(
        || "`:baseline NAME` pairs it with another checkpoint on the same prompts.".to_owned(),
        |name| format!("It is paired with {name}."),
    );
    if let Some(running) = &screen.running {
        return progress(running, view, cells::popup(area, 72, 6), buf);
    }
    let (title, body) = match (&screen.trouble, &screen.reading, &view.shared.model) {
        (Some(why), ..) => (
            "failed",
            format!("{why}. R runs an audit, `:audit FILE` opens one."),
        ),
        (None, Some(file), _) => ("reading", file.clone()),
        (None, None, ModelState::Ready(facts)) => {
            let order = screen.order(facts.name.clone(), false, view.shared);
            let other = match (order::on(view.shared).is_empty(), screen.stored) {
                (true, _) => "",
                (false, true) => " (u: under the interventions)",
                (false, false) => " (u: as it is stored)",
            };
            let text = format!(
                "R audits {}{}{other} by the default policy; that takes minutes. Q takes fewer prompts: a look, not a verdict to \
                 rely on. {baseline} `:audit FILE` opens an audit.json.",
                facts.name,
                order.subject()
            );
            ("no audit yet", text)
        }
        (None, None, ModelState::Loading { name }) => {
            ("opening", format!("{name} is being opened"))
        }
        (None, None, ModelState::Failed { name, why }) => (
            "failed",
            format!("{name}: {why}. Screen `models` opens another."),
        ),
        (None, None, ModelState::None) => ("no model", "screen `models` opens one".to_owned()),
    };
    pen::card(area, title, &body, view.theme, buf);
}

/// How far the audit is: a bar, what is measured, what has passed and what is left.
fn progress(running: &Running, view: &View, area: Rect, buf: &mut Buffer) {
    let theme = *view.theme;
    let (title, lines) = match running {
        Running::Waiting => (
            "waiting",
            vec!["the audit begins when the job before it is done; esc takes it back".to_owned()],
        ),
        Running::Withdrawn => ("taken back", vec!["the audit is not begun".to_owned()]),
        Running::Stopping => (
            "stopping",
            vec!["what was measured will be shown".to_owned()],
        ),
        Running::Working(stand) => ("auditing", standing(stand, area.width, theme)),
    };
    let inner = pen::panel(area, title, view.theme, buf);
    for (row, text) in lines.iter().enumerate() {
        let text = cells::fit(
            &cells::prose(text, theme.ascii),
            inner.width.into(),
            theme.ascii,
        );
        let style = if row == 0 {
            theme.accent()
        } else {
            theme.text()
        };
        pen::line(inner, row as u16, &text, style, buf);
    }
}

/// Whole seconds: a count that runs.
fn clock(time: std::time::Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        _ => wording::duration(time.as_secs_f64().round()),
    }
}

fn standing(stand: &Stand, wide: u16, theme: Theme) -> Vec<String> {
    let room = usize::from(wide.saturating_sub(10));
    let left = stand.left.map_or_else(
        || "what is left is not known yet".to_owned(),
        |left| format!("about {} left", clock(left)),
    );
    let stage = if stand.stage.is_empty() {
        "reading the prompts"
    } else {
        &stand.stage
    };
    vec![
        format!(
            "{} {:3.0} %",
            cells::bar(stand.share as f32, 1.0, room, theme),
            100.0 * stand.share
        ),
        stage.to_owned(),
        format!("{} so far, {left}", clock(stand.spent)),
        "esc stops it and shows what was measured; other screens can be used meanwhile".to_owned(),
    ]
}

/// Verdict, reasons, table, and the selected signal in words.
fn overview(
    screen: &AuditScreen,
    held: &Held,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let wide = usize::from(area.width);
    let audit = held.audit.as_ref();
    let room = usize::from((area.height / 4).max(2).min(area.height));
    let mut head = summary(screen, held, wide, theme, true);
    if head.len() > room {
        head = summary(screen, held, wide, theme, false);
    }
    head.truncate(room);
    for (i, (text, style)) in head.iter().enumerate() {
        pen::line(area, i as u16, text, *style, buf);
    }
    let top = head.len() as u16;
    let below = match area.height {
        0..14 => 0,
        14..30 => 4,
        _ => 5,
    };
    let at = Rect {
        y: area.y + top,
        height: area.height - top - below,
        ..area
    };
    table(screen, audit, view, at, buf, hits);
    let at = Rect {
        y: area.y + area.height - below,
        height: below,
        ..area
    };
    let inner = pen::panel(at, "why", view.theme, buf);
    let mut lines = Lines::new(inner.width.into(), theme);
    match screen.row() {
        Some(Row::Signal(signal)) => {
            lines.add("", &signal.reason, theme.verdict(signal.verdict).2);
            if let Some(check) = rows::deciding(signal) {
                let limit = format!(
                    "limit on {}: {}",
                    wording::phrase(&check.value),
                    check.limit
                );
                lines.add("", &limit, theme.text());
            }
            if let Some(value) = signal.headline().filter(|value| value.delta.is_some()) {
                lines.add(
                    "",
                    &format!("change to the baseline {}", wording::changed(value)),
                    theme.text(),
                );
            }
        }
        Some(Row::Skipped(skipped)) => {
            lines.add("", &format!("did not run: {}", skipped.why), theme.dim());
        }
        None if !screen.words.is_empty() => {
            lines.add("", "no signal holds these words", theme.dim());
        }
        None => lines.add("", "every signal passed; f shows all", theme.good()),
    }
    for (i, (text, style)) in lines.all.iter().enumerate() {
        pen::line(inner, i as u16, text, *style, buf);
    }
}

/// The verdict on the checkpoint, what it was made with, and why: in whole sentences, or a line for each.
fn summary(screen: &AuditScreen, held: &Held, wide: usize, theme: Theme, whole: bool) -> Vec<Line> {
    let audit = held.audit.as_ref();
    let mut lines = Lines::new(wide, theme);
    let (mark, word, style) = theme.verdict(audit.verdict);
    let beside = match &audit.baseline {
        Some(baseline) => format!(", baseline {}", baseline.name),
        None => ", without a baseline".to_owned(),
    };
    lines.add(
        &format!(" {mark} {word}  "),
        &format!("{}{beside}", audit.subject.name),
        style,
    );
    let counts = tally(audit)
        .into_iter()
        .map(|(verdict, count)| format!("{count} {}", verdict.word()));
    let source = match &held.source {
        Source::File(file) => format!("from {file}"),
        Source::Run { stopped: true, .. } => "stopped before its end".to_owned(),
        Source::Run { order, .. } => {
            let how = if order.quick { "quick run" } else { "run here" };
            format!("{how}{}", order.subject())
        }
    };
    let more = match screen.held.len() {
        0 | 1 => String::new(),
        count => format!("; audit {} of {count} (tab: next)", screen.shown + 1),
    };
    let running = match &screen.running {
        Some(Running::Stopping | Running::Withdrawn) => "; another is being stopped".to_owned(),
        Some(Running::Waiting) => "; another waits (esc takes it back)".to_owned(),
        Some(Running::Working(stand)) => {
            let left = stand
                .left
                .map_or_else(String::new, |left| format!(", about {} left", clock(left)));
            format!("; another runs: {:.0} %{left}", 100.0 * stand.share)
        }
        None => String::new(),
    };
    let text = format!(
        "{} in {}, policy {}; {source}{more}{running}",
        counts.collect::<Vec<_>>().join(", "),
        wording::duration(audit.seconds),
        audit.policy.name
    );
    lines.add(" ", &text, theme.dim());
    let reasons = audit.reasons.iter().map(|text| (" - ", text, theme.text()));
    let warnings = audit
        .warnings
        .iter()
        .map(|text| (" ! ", text, theme.warning()));
    for (lead, text, style) in reasons.take(16).chain(warnings.take(16)) {
        if whole {
            lines.add(lead, text, style);
        } else {
            lines.one(lead, text, style);
        }
    }
    lines.all
}

fn table(
    screen: &AuditScreen,
    audit: &Audit,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let shown = screen.of(audit);
    let title = match screen.filter {
        Filter::All => format!("{} signals", audit.signals.len()),
        Filter::NotPassed => format!(
            "{} of {} signals did not pass (f: all)",
            shown.len(),
            audit.signals.len()
        ),
    };
    let selected = screen.selected.min(shown.len().saturating_sub(1));
    let room = usize::from(area.height.saturating_sub(3));
    let title = if shown.len() > room {
        format!("{title}, row {} of {}", selected + 1, shown.len())
    } else {
        title
    };
    let inner = pen::panel(area, &title, view.theme, buf);
    let (paired, limits) = (audit.baseline.is_some(), area.width >= WIDE);
    let all: Vec<Vec<Entry>> = shown
        .iter()
        .map(|row| entry(*row, paired, limits, theme))
        .collect();
    let mut headers = vec!["verdict", "#", "signal", "deciding quantity", "n"];
    headers.extend(paired.then_some("change"));
    headers.extend(limits.then_some("limit"));
    let widths = widths(&all, &headers, inner.width);
    let drawn = cells::table(
        buf,
        inner,
        &Table {
            headers: &headers,
            rows: &all,
            widths: &widths,
            selected: Some(selected),
            offset: 0,
            focus: true,
        },
        theme,
    );
    for (row, at) in drawn.lines() {
        hits.add(at, Target::Place(TABLE, 0, row));
    }
}

/// As wide as the widest; what is too much is taken from the titles first, then from the quantities.
fn widths(rows: &[Vec<Entry>], headers: &[&str], room: u16) -> Vec<u16> {
    let widest = |i: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(i))
            .map(|entry| cells::width(&entry.text));
        cells.max().unwrap_or(0).max(headers[i].len()).min(120) as u16
    };
    let mut widths: Vec<u16> = (0..headers.len()).map(widest).collect();
    let gaps = headers.len() as u16 - 1;
    for (i, least) in [(2, 14), (3, 24), (2, 6), (3, 12)] {
        let over = (widths.iter().sum::<u16>() + gaps).saturating_sub(room);
        widths[i] = widths[i].saturating_sub(over).max(least.min(widths[i]));
    }
    widths
}

fn entry(row: Row, paired: bool, limits: bool, theme: Theme) -> Vec<Entry> {
    let mut cells = match row {
        Row::Signal(signal) => {
            let (mark, word, style) = theme.verdict(signal.verdict);
            let value = signal.headline();
            vec![
                Entry::new(format!("{mark} {word}"), style),
                Entry::number(signal.number.to_string(), theme.dim()),
                Entry::new(signal.title.clone(), theme.text()),
                Entry::new(rows::quantity(signal), theme.text()),
                Entry::number(
                    value
                        .and_then(|v| v.n)
                        .map_or("-".to_owned(), |n| n.to_string()),
                    theme.dim(),
                ),
            ]
        }
        Row::Skipped(skipped) => vec![
            Entry::new(format!("{} NOT RUN", theme.pick("·", "-")), theme.dim()),
            Entry::number(skipped.number.to_string(), theme.dim()),
            Entry::new(skipped.title.clone(), theme.dim()),
            Entry::new(skipped.why.clone(), theme.dim()),
            Entry::number("-", theme.dim()),
        ],
    };
    let signal = row.signal();
    if paired {
        cells.push(Entry::number(
            rows::change(signal.and_then(SignalResult::headline)),
            theme.text(),
        ));
    }
    if limits {
        let limit = signal
            .and_then(rows::deciding)
            .map_or_else(String::new, |check| check.limit.clone());
        cells.push(Entry::new(limit, theme.dim()));
    }
    cells
}

/// One signal: the names of its parts, and the part that is shown.
fn drilled(
    screen: &AuditScreen,
    signal: &SignalResult,
    part: Part,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let (mark, word, style) = theme.verdict(signal.verdict);
    let title = cells::prose(
        &format!(" {mark} {word}  {} {} ", signal.number, signal.title),
        theme.ascii,
    );
    put(
        buf,
        area,
        0,
        0,
        &cells::fit(&title, area.width.into(), theme.ascii),
        style,
    );
    let mut at = 1;
    for (i, one) in Part::ALL.into_iter().enumerate() {
        let count = match one {
            Part::Quantities => signal.values.len(),
            Part::Charts => signal.charts.len(),
            Part::Prompts => signal.items.len(),
        };
        let text = format!(" {} ({count}) ", one.word());
        let style = if one == part {
            theme.cursor()
        } else {
            theme.dim()
        };
        let end = put(buf, area, at, 1, &text, style);
        let place = Rect {
            x: area.x + at,
            y: area.y + 1,
            width: end - at,
            height: 1,
        };
        hits.add(place.intersection(area), Target::Place(PARTS, 0, i));
        at = end + 1;
    }
    put(buf, area, at, 1, "tab, i: explain, esc", theme.dim());
    let skipped = 2.min(area.height);
    let body = Rect {
        y: area.y + skipped,
        height: area.height - skipped,
        ..area
    };
    match part {
        Part::Quantities => scrolled(
            screen,
            view,
            body,
            "quantities",
            |wide| detail::quantities(signal, wide, theme),
            buf,
        ),
        Part::Charts => charts(screen, signal, view, body, buf),
        Part::Prompts => items::draw(screen, signal, view, body, buf, hits),
    }
}

fn charts(screen: &AuditScreen, signal: &SignalResult, view: &View, area: Rect, buf: &mut Buffer) {
    let Some(last) = signal.charts.len().checked_sub(1) else {
        return pen::card(
            area,
            "no charts",
            "this signal has numbers alone; tab shows its prompts",
            view.theme,
            buf,
        );
    };
    let at = screen.chart.min(last);
    let title = if last == 0 {
        "chart".to_owned()
    } else {
        format!("chart {} of {} (j/k: others)", at + 1, last + 1)
    };
    let inner = pen::panel(area, &title, view.theme, buf);
    plot::draw(
        &signal.charts[at],
        inner,
        screen.layer(view.shared),
        *view.theme,
        buf,
    );
}

/// Lines in a panel, as far down as was scrolled.
fn scrolled(
    screen: &AuditScreen,
    view: &View,
    area: Rect,
    title: &str,
    lines: impl FnOnce(usize) -> Vec<Line>,
    buf: &mut Buffer,
) {
    let wide = usize::from(area.width.saturating_sub(2));
    let lines = lines(wide);
    let (inner, shown, most) = pen::scrolled(
        area,
        (title, lines.len()),
        (screen.scroll, ""),
        view.theme,
        buf,
    );
    screen.most.set(most);
    for (i, (text, style)) in lines[shown].iter().enumerate() {
        pen::line(inner, i as u16, text, *style, buf);
    }
}
