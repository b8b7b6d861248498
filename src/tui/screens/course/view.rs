//! Drawing the course: the matrix, and the cell under the cursor in words below it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::CourseScreen;
use super::work::Audits;
use crate::audit::catalogue;
use crate::audit::measure::Value;
use crate::audit::waivers::Waiver;
use crate::audit::wording;
use crate::pipeline::course::{Cell, Checkpoint};
use crate::tui::cells::{self, Card, put};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::{run, unready};
use crate::tui::theme::Theme;

/// Places of the mouse: cells.
pub(super) const CELL: u16 = 0;

/// Columns of a cell.
const WIDE: u16 = 3;
/// Columns of a checkpoint's name and its verdict.
const HEAD: u16 = 24;

pub(super) fn draw(
    screen: &CourseScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let area = area.intersection(buf.area);
    let typing = screen.line.typing || screen.reason.typing;
    let below = if typing { 3.min(area.height) } else { 0 };
    let (area, line) = split(area, area.height - below);
    if screen.reason.typing {
        let title = "why may this pass? (enter writes it into waivers.toml, esc closes)";
        screen.reason.draw(line, title, theme, buf);
    } else if screen.line.typing {
        let title = "folder of a pipeline (enter opens, esc closes)";
        screen.line.draw(line, title, theme, buf);
    }
    let shows = "The course shows the audits of a pipeline: what each checkpoint was found to do, signal by signal.";
    if let Some(card) = run::card(view.shared, theme, shows, "audits") {
        return cells::card(buf, area, &card, theme);
    }
    let Some(audits) = screen.audits() else {
        return cells::card(buf, area, &waiting(screen, theme), theme);
    };
    if audits.course.checkpoints.is_empty() {
        let card = unready::say(
            "No audits yet",
            theme.dim(),
            "`[audit]` in the plan says what is asked of each checkpoint.".to_owned(),
            "r looks again; o opens another run",
        );
        return cells::card(buf, area, &card, theme);
    }
    let words = cell_words(screen, theme);
    let below = (area.height * 2 / 5).clamp(4.min(area.height), 11);
    let (above, foot) = split(area, area.height - below);
    matrix(screen, audits, view, above, buf, hits);
    let inner = cells::panel(buf, foot, &words.title, false, theme);
    let mut row = 0;
    for (text, style) in words.lines {
        for line in pen::wrapped(&cells::prose(&text, theme.ascii), inner.width.into()) {
            pen::line(inner, row, &line, style, buf);
            row += 1;
        }
    }
}

/// The first so many rows, and the others.
fn split(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    let below = Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    };
    (
        Rect {
            height: rows,
            ..area
        },
        below,
    )
}

fn waiting(screen: &CourseScreen, theme: Theme) -> Card {
    match screen.trouble() {
        Some(why) => unready::say(
            "The audits cannot be read",
            theme.error(),
            why.to_owned(),
            "r reads again; o opens another run",
        ),
        None => unready::say("Reading the audits", theme.accent(), String::new(), ""),
    }
}

fn matrix(
    screen: &CourseScreen,
    audits: &Audits,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let (course, shown) = (&audits.course, screen.shown());
    let name = screen
        .run
        .as_ref()
        .map_or_else(String::new, |r| run::name(r, theme));
    let some = if screen.findings {
        " with findings (f: all)"
    } else {
        ""
    };
    let title = format!(
        "{name}: {} audits, {} signals{some}",
        course.checkpoints.len(),
        shown.len()
    );
    let inner = cells::panel(buf, area, &title, true, theme);
    let (rows, columns) = (course.checkpoints.len(), shown.len());
    let at = (
        screen.at.0.min(rows - 1),
        screen.at.1.min(columns.saturating_sub(1)),
    );
    let head = HEAD.min(inner.width / 2);
    let room = usize::from((inner.width - head) / WIDE);
    let high = usize::from(inner.height.saturating_sub(1));
    let left = cells::scroll(Some(at.1), at.1.saturating_sub(room / 2), room, columns);
    let top = cells::scroll(Some(at.0), at.0.saturating_sub(high / 2), high, rows);
    put(buf, inner, 0, 0, "checkpoint", theme.title());
    let numbers = shown.iter().enumerate().skip(left).take(room);
    for (column, signal) in numbers.clone() {
        let number = catalogue::signal(course.signals[*signal]).map_or(0, |entry| entry.number);
        let x = head + (column - left) as u16 * WIDE;
        let style = if column == at.1 {
            theme.accent()
        } else {
            theme.dim()
        };
        put(buf, inner, x, 0, &format!("{number:>2}"), style);
    }
    let checkpoints = course.checkpoints.iter().enumerate().skip(top).take(high);
    for (row, checkpoint) in checkpoints {
        let y = (row - top) as u16 + 1;
        let style = if row == at.0 {
            theme.accent()
        } else {
            theme.text()
        };
        let label = cells::prose(
            &format!("{} {}", checkpoint.stage, checkpoint.step),
            theme.ascii,
        );
        let label = cells::fit(&label, usize::from(head.saturating_sub(10)), theme.ascii);
        let x = put(buf, inner, 0, y, &label, style);
        let (verdict, waived) = screen.left(checkpoint);
        let (mark, word, style) = theme.verdict(verdict);
        let word = cells::cut(&word.to_lowercase(), 6, theme.ascii);
        let star = if waived > 0 {
            theme.pick("◇", "w")
        } else {
            ""
        };
        put(buf, inner, x, y, &format!(" {mark}{star} {word}"), style);
        for (column, signal) in numbers.clone() {
            let (text, style) = glyph(checkpoint, *signal, screen, theme);
            let x = head + (column - left) as u16 * WIDE;
            let here = (row, column) == at;
            let (text, style) = if here {
                // Told without colours too.
                (format!("[{text}]"), theme.cursor())
            } else {
                (format!(" {text} "), style)
            };
            put(buf, inner, x, y, &text, style);
            let place = Rect::new(inner.x + x, inner.y + y, WIDE, 1);
            hits.add(place.intersection(inner), Target::Place(CELL, column, row));
        }
    }
    if columns == 0 {
        put(
            buf,
            inner,
            head,
            0,
            "every signal passed; f shows all",
            theme.good(),
        );
    }
}

/// A cell's mark.
fn glyph(
    checkpoint: &Checkpoint,
    signal: usize,
    screen: &CourseScreen,
    theme: Theme,
) -> (&'static str, Style) {
    match &checkpoint.cells[signal] {
        None => (theme.pick("·", "."), theme.dim()),
        Some(_) if screen.waiver(checkpoint, signal).is_some() => {
            (theme.pick("◇", "w"), theme.dim())
        }
        Some(cell) => {
            let (mark, _, style) = theme.verdict(cell.verdict);
            (mark, style)
        }
    }
}

/// The cell under the cursor in words.
pub(super) struct Words {
    pub title: String,
    pub lines: Vec<(String, Style)>,
}

pub(super) fn cell_words(screen: &CourseScreen, theme: Theme) -> Words {
    let nothing = Words {
        title: String::new(),
        lines: Vec::new(),
    };
    let (Some(audits), Some((checkpoint, signal))) = (screen.audits(), screen.place()) else {
        return nothing;
    };
    let id = audits.course.signals[signal];
    let entry = catalogue::signal(id);
    let title = entry.map_or_else(|| id.to_owned(), |e| format!("{} {}", e.number, e.title));
    let title = format!("{} step {}: {title}", checkpoint.stage, checkpoint.step);
    let mut lines = Vec::new();
    match &checkpoint.cells[signal] {
        None => lines.push(("not asked at this checkpoint".to_owned(), theme.dim())),
        Some(cell) => {
            let waiver = screen.waiver(checkpoint, signal);
            lines.extend(said(cell, waiver, theme));
        }
    }
    let along = along(audits, checkpoint, signal);
    if !along.is_empty() {
        lines.push((format!("over the checkpoints: {along}"), theme.dim()));
    }
    if let Err(why) = &audits.waivers {
        lines.push((format!("no waiver is applied: {why}"), theme.error()));
    }
    Words {
        title: cells::prose(&title, theme.ascii),
        lines,
    }
}

fn said(cell: &Cell, waiver: Option<&Waiver>, theme: Theme) -> Vec<(String, Style)> {
    let (mark, word, style) = theme.verdict(cell.verdict);
    let value = cell.value.as_ref().map_or_else(
        || "no quantity".to_owned(),
        |value| {
            format!(
                "{} {}",
                wording::phrase(&value.name),
                wording::estimate(value)
            )
        },
    );
    let mut lines = vec![(format!("{mark} {word}  {value}"), style)];
    if let Some(waiver) = waiver {
        let who = waiver
            .author
            .as_ref()
            .map_or(String::new(), |name| format!(" by {name}"));
        lines.push((
            format!("waived{who} on {}: {}", waiver.date, waiver.reason),
            theme.accent(),
        ));
    }
    if !cell.reason.is_empty() {
        lines.push((cell.reason.clone(), theme.text()));
    }
    lines
}

/// The quantity that decided here, at each checkpoint.
fn along(audits: &Audits, here: &Checkpoint, signal: usize) -> String {
    let own = here.cells[signal].as_ref();
    let Some(Value { name, .. }) = own.and_then(|cell| cell.value.as_ref()) else {
        return String::new();
    };
    let one = |at: &Checkpoint| {
        let values = &at.cells[signal].as_ref()?.values;
        let value = values.iter().find(|value| value.name == *name)?;
        Some(wording::number(&value.unit, value.value?))
    };
    let all = audits.course.checkpoints.iter();
    let all: Vec<String> = all
        .map(|at| one(at).unwrap_or_else(|| "-".to_owned()))
        .collect();
    format!("{} {}", wording::phrase(name), all.join("  "))
}
