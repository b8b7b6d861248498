//! Drawing the training screen: the runs, how the selected one stands, and its parts. The parts themselves are `panes.rs`.
//!
//! Always: draws at any size; foreign words go through the cells alone.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::course::{Course, State};
use super::{Part, TrainingScreen, metrics, panes};
use crate::audit::wording;
use crate::tui::cells::{self, Card, Entry, Table, put};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::shared::quoted;
use crate::tui::theme::Theme;

/// Places of the mouse: the runs.
pub(super) const RUNS: u16 = 0;
/// The names of the parts.
pub(super) const PARTS: u16 = 1;
/// Rows of the part's list.
pub(super) const ROWS: u16 = 2;
/// Columns of the chart.
pub(super) const CHART: u16 = 3;

/// From here on a row of a run has more columns.
const WIDE: u16 = 100;

pub(super) fn draw(
    screen: &TrainingScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let area = area.intersection(buf.area);
    if area.is_empty() {
        return;
    }
    let below = 3 * u16::from(screen.typing || screen.trouble.is_some());
    let (area, line) = split(area, area.height.saturating_sub(below));
    if screen.typing {
        let title = "path of a run, or of a folder with runs (enter opens, esc closes)";
        let inner = pen::panel(line, title, view.theme, buf);
        screen.field.draw(buf, inner, *view.theme, true);
    } else if let Some(why) = &screen.trouble {
        let inner = pen::panel(line, "failed (esc closes, r looks again)", view.theme, buf);
        let text = cells::prose(why, view.theme.ascii);
        pen::line(inner, 0, &text, view.theme.error(), buf);
    }
    if screen.runs.is_empty() {
        return nothing(screen, view, area, buf);
    }
    let shown = screen.shown().len() as u16;
    let (list, rest) = split(area, (shown.max(1) + 3).min((area.height / 4).max(5)));
    runs(screen, view, list, buf, hits);
    let Some(run) = screen.run() else {
        let why = "no run holds these words; esc shows all again";
        return pen::card(rest, "no runs", why, view.theme, buf);
    };
    let rest = standing(run, rest, *view.theme, buf);
    let rest = parts(screen, run, rest, *view.theme, buf, hits);
    panes::draw(screen, run, view, rest, buf, hits);
}

/// The first so many rows of an area, and the others.
pub(super) fn split(area: Rect, rows: u16) -> (Rect, Rect) {
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

/// The folder's own name: where it lies would fill the line.
fn folder(screen: &TrainingScreen) -> String {
    let name = screen.root.file_name();
    let name = name.unwrap_or(screen.root.as_os_str());
    name.to_string_lossy().into_owned()
}

fn nothing(screen: &TrainingScreen, view: &View, area: Rect, buf: &mut Buffer) {
    let folder = folder(screen);
    let card = if screen.looked.is_none() {
        Card {
            title: format!("looking for runs in {folder}"),
            style: view.theme.accent(),
            ..Card::default()
        }
    } else {
        Card {
            title: format!("no training runs in {folder}"),
            style: view.theme.title(),
            body: vec![
                "Start one in a shell, in this folder; it is shown here while it goes on:".into(),
                "candlescope train sft -c run.toml --out runs/first".into(),
                "`candlescope train --help` shows the methods and what run.toml holds.".into(),
            ],
            footer: "r looks again; o or :run PATH opens a run or a folder of runs elsewhere"
                .into(),
        }
    };
    cells::card(buf, area, &card, *view.theme);
}

/// How a state looks.
fn look(state: State, theme: Theme) -> (&'static str, Style) {
    match state {
        State::Running => (theme.pick("●", "*"), theme.accent()),
        State::Fresh => (theme.pick("◌", "o"), theme.accent()),
        State::Finished => (theme.pick("✔", "+"), theme.good()),
        State::Interrupted => (theme.pick("‖", "="), theme.warning()),
        State::Failed => (theme.pick("✖", "x"), theme.error()),
        State::Killed => (theme.pick("✖", "x"), theme.warning()),
        State::Unreadable => ("?", theme.error()),
    }
}

/// A duration in few columns: `1h02`, `3m07`, `8s`.
fn clock(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}", whole / 60, whole % 60),
        _ => format!("{}h{:02}", whole / 3600, whole % 3600 / 60),
    }
}

fn runs(screen: &TrainingScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let theme = *view.theme;
    let shown = screen.shown();
    let left_out = match screen.left_out {
        0 => String::new(),
        more => format!(", {more} more not shown"),
    };
    let many = screen.runs.len();
    let title = format!("runs in {}: {many}{left_out}", folder(screen));
    let inner = cells::panel(buf, area, &title, !screen.inside, theme);
    let wide = area.width >= WIDE;
    let compared = screen.compared.as_ref();
    let entries: Vec<Vec<Entry>> = shown
        .iter()
        .map(|run| entry(run, compared == Some(&run.path), wide, theme))
        .collect();
    let name = entries
        .iter()
        .map(|row| cells::width(&row[0].text))
        .max()
        .unwrap_or(0);
    let name = name.clamp(8, if wide { 36 } else { 18 }) as u16;
    let headers: &[&str] = if wide {
        &[
            "run", "state", "method", "step", "took", "left", "last", "alerts", "model",
        ]
    } else {
        &[
            "run", "state", "method", "step", "left", "last", "alerts", "model",
        ]
    };
    let table = Table {
        headers,
        rows: &entries,
        widths: &[name],
        selected: Some(screen.at()),
        offset: 0,
        focus: !screen.inside,
    };
    let drawn = cells::table(buf, inner, &table, theme);
    for (row, at) in drawn.lines() {
        hits.add(at, Target::Place(RUNS, 0, row));
    }
}

fn entry(run: &Course, compared: bool, wide: bool, theme: Theme) -> Vec<Entry> {
    let state = run.state();
    let (mark, style) = look(state, theme);
    let kept = if compared {
        theme.pick(" ┄", " .")
    } else {
        ""
    };
    let left = match run.left().filter(|_| state.goes_on()) {
        Some(left) => clock(left),
        None => "-".to_owned(),
    };
    let first = metrics::names(run).first().copied();
    let last = first.and_then(|name| Some((name, run.series.get(name)?.last?.1)));
    let last = last.map_or("-".to_owned(), |(name, value)| {
        let word = name.rsplit('/').next().unwrap_or(name);
        format!("{} {word}", metrics::value(value))
    });
    let alerts = run.alerts();
    let mut cells = vec![
        Entry::new(format!("{}{kept}", run.name()), theme.text()),
        Entry::new(format!("{mark} {}", state.word()), style),
        Entry::new(run.method.clone(), theme.text()),
        Entry::number(format!("{}/{}", run.step, run.steps), theme.text()),
    ];
    if wide {
        cells.push(Entry::number(clock(run.took()), theme.dim()));
    }
    cells.extend([
        Entry::number(left, theme.text()),
        Entry::number(last, theme.text()),
        match alerts {
            0 => Entry::number("-", theme.dim()),
            count => Entry::number(format!("! {count}"), theme.error()),
        },
        Entry::new(run.model.clone(), theme.dim()),
    ]);
    cells
}

/// How the run stands, in a line or two; gives what is left of the area.
fn standing(run: &Course, area: Rect, theme: Theme, buf: &mut Buffer) -> Rect {
    let (text, style) = match run.state() {
        State::Failed | State::Unreadable => (words(run), theme.error()),
        State::Killed | State::Interrupted => (words(run), theme.warning()),
        _ => (words(run), theme.dim()),
    };
    let text = cells::prose(&text, theme.ascii);
    let lines = pen::wrapped(&text, area.width.saturating_sub(2).into());
    let most = usize::from((area.height / 5).clamp(1, 3));
    let count = lines.len().min(most);
    for (i, line) in lines.iter().take(count).enumerate() {
        let cut = i + 1 == count && lines.len() > count;
        let line = if cut {
            let room = usize::from(area.width.saturating_sub(4));
            let line = cells::cut(line, room, theme.ascii);
            format!("{line} {}", theme.pick("…", "~"))
        } else {
            line.clone()
        };
        put(buf, area, 1, i as u16, &line, style);
    }
    split(area, count as u16).1
}

/// A path as it is, or its end where it would fill the line.
fn short(path: &str) -> String {
    if cells::width(path) <= 40 {
        return path.to_owned();
    }
    let mut ends = path.rmatch_indices('/').map(|(at, _)| at);
    let from = ends.by_ref().take(2).last().unwrap_or(0);
    format!("...{}", &path[from..])
}

/// How the run stands, and what to try.
pub(super) fn words(run: &Course) -> String {
    let path = short(&quoted(&run.path.to_string_lossy()));
    let resume = format!(
        "`candlescope train {} --resume --out {path}` goes on with it",
        run.method
    );
    let message = run.ended.as_ref().and_then(|(_, message)| message.clone());
    let mut parts = vec![match run.state() {
        State::Running => match run.left() {
            Some(_) if run.step >= run.steps => {
                "its steps are done; it evaluates or writes the last checkpoint".to_owned()
            }
            Some(left) => {
                let speed = run.speed();
                let speed = speed.map_or(String::new(), |speed| format!(", {speed:.0} tokens/s"));
                format!("about {} left{speed}", wording::duration(left))
            }
            None => "running; the time left is known after two steps".to_owned(),
        },
        State::Fresh => {
            "written to within the last minute by no process of this machine: it may run on another, or was just killed"
                .to_owned()
        }
        State::Finished => format!("finished in {}", wording::duration(run.took())),
        State::Interrupted => format!("stopped by its user; {resume}"),
        State::Failed => format!(
            "failed: {}; after what it says is mended, {resume}",
            message.unwrap_or_else(|| "its log does not say why".into())
        ),
        State::Killed => format!("its process ended without a word; {resume}"),
        State::Unreadable => run.trouble.clone().unwrap_or_default(),
    }];
    let here = env!("CARGO_PKG_VERSION");
    if !run.version.is_empty() && run.version != here {
        parts.push(format!(
            "written by candlescope {}, this is {here}",
            run.version
        ));
    }
    match run.foreign {
        0 => {}
        1 => parts.push("1 line of its log is no row and was passed over".to_owned()),
        n => parts.push(format!(
            "{n} lines of its log are no rows and were passed over"
        )),
    }
    if run.torn && !run.state().goes_on() {
        parts.push("the last line of its log is torn".to_owned());
    }
    parts.join("; ")
}

/// The names of the parts; gives what is left of the area.
fn parts(
    screen: &TrainingScreen,
    run: &Course,
    area: Rect,
    theme: Theme,
    buf: &mut Buffer,
    hits: &mut Hits,
) -> Rect {
    let mut at = 0;
    for (i, part) in Part::ALL.into_iter().enumerate() {
        let count = match part {
            Part::Samples => format!(" ({})", run.samples.len()),
            Part::Events => format!(" ({})", run.marks.len()),
            Part::Curves | Part::Data => String::new(),
        };
        let text = format!(" {}{count} ", part.word());
        let style = if part == screen.part {
            theme.cursor()
        } else {
            theme.dim()
        };
        let end = put(buf, area, at, 0, &text, style);
        let place = Rect {
            x: area.x + at,
            width: end - at,
            height: 1,
            ..area
        };
        hits.add(place.intersection(area), Target::Place(PARTS, 0, i));
        at = end + 1;
    }
    put(buf, area, at, 0, "v: next part", theme.dim());
    split(area, 1).1
}
