//! What is known of the probe under the cursor, the example that is looked at, and the prompt's score token by token.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::work::{CONTROLS, Cell, SHUFFLES, Swept};
use super::{ProbesScreen, TOKEN, wrong};
use crate::tui::cells::{self, HeatMap};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::theme::Scale;

/// Columns of a fact's name.
const NAME: usize = 12;

/// Lines of the pane for a screen of so many.
pub(super) fn height(screen: u16) -> u16 {
    match screen {
        0..12 => screen / 2,
        12..30 => 9,
        _ => 12,
    }
}

pub(super) fn draw(
    screen: &ProbesScreen,
    swept: &Swept,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let Some(cell) = screen.here(view.shared) else {
        return;
    };
    let title = format!("{}: {} or not", cell.point, swept.positive);
    let inner = cells::panel(buf, area, &title, false, theme);
    let above = strip(screen, view, inner, buf, hits);
    let words = "token by token; fitted at last tokens, elsewhere it was not judged";
    cells::note(buf, area, words, theme);
    let room = usize::from(inner.width).saturating_sub(NAME).max(8);
    let mut y = above;
    for (name, text, style) in facts(screen, swept, cell, view) {
        let text = cells::prose(&text, theme.ascii);
        for (i, line) in pen::wrapped(&text, room).iter().enumerate() {
            if y >= inner.height {
                return;
            }
            let name = if i == 0 { name } else { "" };
            let x = cells::put(buf, inner, 0, y, &format!("{name:<NAME$}"), theme.dim());
            cells::put(buf, inner, x, y, line, style);
            y += 1;
        }
    }
}

/// The numbers of a probe in words.
pub(super) fn numbers(swept: &Swept, cell: &Cell) -> [(&'static str, String); 2] {
    let i = cell.test.interval;
    let test = format!(
        "AUROC {:.3} [{:.3}, {:.3}] on {} test prompts (validation {:.3}); {:.0} % right at score 0, both classes alike",
        cell.test.value,
        i.low,
        i.high,
        cell.test.n,
        cell.validation,
        100.0 * cell.balanced
    );
    let shuffled = cell.shuffled.map_or(String::new(), |(mean, sd)| {
        format!("; shuffled labels {mean:.3}, sd {sd:.3} of {SHUFFLES}")
    });
    let control = match (cell.control, cell.selectivity) {
        (Some(control), Some(selectivity)) => {
            format!("; control tasks {control:.3} of {CONTROLS}, selectivity {selectivity:+.3}")
        }
        _ => format!("; control tasks {}", swept.types),
    };
    let beats = format!("bag of words {:.3}{shuffled}{control}", swept.words);
    [("probe", test), ("beside", beats)]
}

fn facts(
    screen: &ProbesScreen,
    swept: &Swept,
    cell: &Cell,
    view: &View,
) -> Vec<(&'static str, String, Style)> {
    let theme = *view.theme;
    let style = if screen.pending.job.is_some() {
        theme.stale()
    } else {
        theme.text()
    };
    let mut facts = Vec::new();
    if let Some(why) = &screen.pending.failed {
        let text = format!("{why}; r tries again, esc puts this away");
        facts.push(("failed", text, theme.error()));
    }
    facts.extend(numbers(swept, cell).map(|(name, text)| (name, text, style)));
    let all = screen.examples(view.shared);
    if let (false, Some((score, row))) = (
        screen.carried,
        all.get(screen.example.min(all.len().saturating_sub(1))),
    ) {
        let side = if wrong(*score, row) { ", wrong" } else { "" };
        let text = format!("{score:+.2}{side}: {} ({})", row.text, row.id);
        facts.push(("example", text, theme.dim()));
    }
    facts
}

/// The prompt's scores, a cell for each token; gives the lines it took.
fn strip(screen: &ProbesScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) -> u16 {
    let theme = *view.theme;
    let shared = view.shared;
    let wanted = screen.wanted(shared);
    let say = |text: &str, style: Style, buf: &mut Buffer| {
        let x = cells::put(
            buf,
            area,
            0,
            0,
            &format!("{:<NAME$}", "this prompt"),
            theme.dim(),
        );
        let room = usize::from(area.width).saturating_sub(NAME);
        let text = cells::fit(&cells::prose(text, theme.ascii), room, theme.ascii);
        cells::put(buf, area, x, 0, &text, style);
        1
    };
    if shared.tokens.is_empty() {
        return say("is empty; p in the lens writes one", theme.dim(), buf);
    }
    if let Some((of, why)) = &screen.pending.unanswered
        && Some(*of) == wanted
    {
        return say(&format!("has no score: {why}"), theme.error(), buf);
    }
    let Some(strip) = &screen.strip else {
        return say("is being scored", theme.accent(), buf);
    };
    let old = Some((strip.version, strip.point)) != wanted;
    let label = |token: &String| cells::visible(token, theme.ascii);
    let columns: Vec<String> = strip.tokens.iter().map(label).collect();
    // Colours are those of the test prompts' scores: other tokens than the last may lie far beyond.
    let known = screen
        .here(shared)
        .map_or(&[][..], |cell| cell.scores.as_slice());
    let most = known.iter().fold(1e-6f64, |most, s| most.max(s.abs())) as f32;
    let at = shared.position.min(columns.len().saturating_sub(1));
    let rows = [if old { "before" } else { "this prompt" }.to_owned()];
    let lines = Rect {
        height: area.height.min(2),
        ..area
    };
    let drawn = cells::heat_map(
        buf,
        lines,
        &HeatMap {
            columns: &columns,
            rows: &rows,
            value: &|_, column| strip.scores.get(column).map_or(f32::NAN, |s| *s as f32),
            text: None,
            marked: None,
            digits: true,
            scale: Scale::Diverging,
            lo: -most,
            hi: most,
            cursor: Some((0, at)),
            offset: (0, at.saturating_sub(usize::from(area.width) / 14)),
            cell_width: 7,
            stale: old,
        },
        theme,
    );
    for column in drawn.columns.clone() {
        if let Some(place) = drawn.cell(0, column) {
            hits.add(place, Target::Place(TOKEN, column, 0));
        }
    }
    lines.height
}
