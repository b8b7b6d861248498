//! The prompts behind a number: a list, and all that is known of the one under the cursor.
//!
//! Always: texts are cut as the reports cut them, again for a file that did not; only the rows that are seen are made.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::detail::Lines;
use super::{AuditScreen, view};
use crate::audit::result::{Item, SignalResult, excerpt};
use crate::audit::wording;
use crate::tui::cells::{self, Entry, Table};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::theme::Theme;

/// The prompts that a label leaves.
pub(super) fn shown<'a>(
    signal: &'a SignalResult,
    label: Option<&'a str>,
) -> impl Iterator<Item = &'a Item> {
    signal
        .items
        .iter()
        .filter(move |item| label.is_none_or(|label| item.label == label))
}

/// What `/` searches of a prompt.
pub(super) fn text(item: &Item) -> String {
    format!(
        "{} {} {} {} {}",
        item.id,
        item.label,
        item.flags.join(" "),
        excerpt(&item.prompt_excerpt),
        excerpt(&item.completion_excerpt)
    )
}

/// The labels there are, in order.
pub(super) fn labels(signal: &SignalResult) -> Vec<String> {
    let mut labels: Vec<String> = signal.items.iter().map(|item| item.label.clone()).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

/// The list above, the prompt under the cursor below.
pub(super) fn draw(
    screen: &AuditScreen,
    signal: &SignalResult,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let items = screen.prompts(signal);
    if items.is_empty() && !signal.items.is_empty() {
        let why = "no prompt holds these words; esc shows all again";
        return pen::card(area, "no prompts", why, view.theme, buf);
    }
    if items.is_empty() {
        let why = "no prompt stands behind this number alone: it is computed from weights, directions or whole sets of prompts";
        return pen::card(area, "no prompts", why, view.theme, buf);
    }
    let theme = *view.theme;
    let below = (area.height * 3 / 5).clamp(4.min(area.height), 16);
    let list = Rect {
        height: area.height - below,
        ..area
    };
    let only = screen.label.as_ref().map_or(String::new(), |label| {
        format!(" labelled {label} (f: others)")
    });
    let title = cells::prose(&format!("{} prompts{only}", items.len()), theme.ascii);
    let inner = pen::panel(list, &title, view.theme, buf);
    let room = usize::from(inner.height).saturating_sub(1);
    let selected = screen.item.min(items.len() - 1);
    let from = cells::scroll(
        Some(selected),
        selected.saturating_sub(room / 2),
        room,
        items.len(),
    );
    let seen = &items[from..(from + room).min(items.len())];
    let rows: Vec<Vec<Entry>> = seen.iter().map(|item| entry(item, theme)).collect();
    let measured = items[selected].numbers.keys().next();
    let measured = measured.map_or_else(String::new, |name| wording::phrase(name));
    let table = Table {
        headers: &["label", &measured, "remarks", "prompt"],
        rows: &rows,
        widths: &[],
        selected: Some(selected - from),
        offset: 0,
        focus: true,
    };
    let drawn = cells::table(buf, inner, &table, theme);
    for (row, at) in drawn.lines() {
        hits.add(at, Target::Place(view::ITEMS, 0, from + row));
    }
    let rest = Rect {
        y: list.y + list.height,
        height: below,
        ..area
    };
    let title = cells::prose(&items[selected].id, theme.ascii);
    let inner = pen::panel(rest, &title, view.theme, buf);
    for (i, (text, style)) in whole(items[selected], inner.width.into(), theme)
        .iter()
        .enumerate()
    {
        pen::line(inner, i as u16, text, *style, buf);
    }
}

fn numbers(item: &Item) -> String {
    let number = |(name, value): (&String, &f64)| {
        format!("{} {}", wording::phrase(name), wording::number("", *value))
    };
    item.numbers
        .iter()
        .take(8)
        .map(number)
        .collect::<Vec<_>>()
        .join(", ")
}

fn entry(item: &Item, theme: Theme) -> Vec<Entry> {
    let first = item.numbers.iter().next();
    let number = first.map_or_else(String::new, |(_, value)| wording::number("", *value));
    vec![
        Entry::new(item.label.clone(), theme.accent()),
        Entry::number(number, theme.text()),
        Entry::new(item.flags.join(", "), theme.warning()),
        Entry::new(excerpt(&item.prompt_excerpt), theme.text()),
    ]
}

/// All that is known of a prompt; the texts last, since they are cut where there is no room.
fn whole(item: &Item, wide: usize, theme: Theme) -> Vec<(String, ratatui::style::Style)> {
    let mut lines = Lines::new(wide, theme);
    let votes: Vec<String> = item
        .votes
        .iter()
        .map(|(name, vote)| format!("{name}: {vote}"))
        .collect();
    let label = if votes.is_empty() {
        item.label.clone()
    } else {
        format!("{} ({})", item.label, votes.join(", "))
    };
    lines.add("label       ", &label, theme.accent());
    if !item.numbers.is_empty() {
        lines.add("numbers     ", &numbers(item), theme.text());
    }
    if !item.flags.is_empty() {
        lines.add("remarks     ", &item.flags.join(", "), theme.warning());
    }
    lines.add("prompt      ", &excerpt(&item.prompt_excerpt), theme.text());
    if !item.completion_excerpt.is_empty() {
        lines.add(
            "completion  ",
            &excerpt(&item.completion_excerpt),
            theme.dim(),
        );
    }
    lines.all
}
