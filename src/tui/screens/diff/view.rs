//! Drawing the diff: which two, the weights as a map, the tokens as a list; the texts are `texts.rs`.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Compared, DiffScreen, Other, Pane, texts};
use crate::compare::WeightChange;
use crate::tui::cells::{self, Card, Entry, HeatMap, Table, put};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready;
use crate::tui::shared::RunState;
use crate::tui::theme::{Scale, Theme};

/// Places of the mouse: matrices.
pub(super) const CELL: u16 = 0;
/// Tokens of the prompt.
pub(super) const TOKEN: u16 = 1;
/// Panes.
pub(super) const PANE: u16 = 2;

/// From here on all panes are shown.
const WIDE: (u16, u16) = (100, 24);

pub(super) fn draw(
    screen: &DiffScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let area = area.intersection(buf.area);
    let typing = screen.line.typing || screen.editor.is_some();
    let below = if typing { 3.min(area.height) } else { 0 };
    let (area, line) = split(area, area.height - below);
    if screen.line.typing {
        let title = "the other model: a name, a folder, a .gguf file (enter compares, esc closes)";
        screen.line.draw(line, title, theme, buf);
    } else if let Some(editor) = &screen.editor {
        let title = "prompt of both (enter reads it, esc closes)";
        let inner = pen::panel(line, title, view.theme, buf);
        editor.field().draw(buf, inner, theme, true);
    }
    let Some(compared) = &screen.compared else {
        return cells::card(buf, area, &card(screen, view), theme);
    };
    let (head, rest) = split(area, 1);
    header(screen, compared, view, head, buf);
    if rest.width < WIDE.0 || rest.height < WIDE.1 {
        let (names, rest) = split(rest, 1);
        panes(screen, theme, names, buf, hits);
        return pane(screen, compared, screen.pane, view, rest, buf, hits);
    }
    let wide = rest.width * 11 / 20;
    let left = Rect {
        width: wide,
        ..rest
    };
    let right = Rect {
        x: rest.x + wide,
        width: rest.width - wide,
        ..rest
    };
    let (weights, latents) = split(left, rest.height * 2 / 3);
    let (tokens, answers) = split(right, rest.height / 2);
    let all = [weights, tokens, answers, latents];
    for (i, (one, at)) in Pane::ALL.into_iter().zip(all).enumerate() {
        hits.add(at, Target::Place(PANE, 0, i));
        pane(screen, compared, one, view, at, buf, hits);
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

fn card(screen: &DiffScreen, view: &View) -> Card {
    let theme = *view.theme;
    let reads =
        "The open model is compared with another one: weights, next tokens, answers, latents.";
    if let Some(card) = unready::model(view.shared, theme, reads, "") {
        return card;
    }
    if let Some(why) = &screen.pending.failed {
        let next = "o types another model, r tries again";
        return unready::say("Nothing was compared", theme.error(), why.clone(), next);
    }
    let run = match &view.shared.run {
        RunState::Ready(_) => "`,` and `.` take a checkpoint of the run that is open",
        _ => "`:checkpoints FOLDER` opens a run, whose checkpoints `,` and `.` take",
    };
    let (title, body) = match screen.names(view.shared) {
        Some([first, second]) => (
            "Two checkpoints",
            format!("From {first} to {second}: enter compares them, s swaps them."),
        ),
        None => (
            "No other model yet",
            "The open model beside another one of its family: what moved in the weights, after which tokens they say something \
             else, where their answers part."
                .to_owned(),
        ),
    };
    Card {
        title: title.into(),
        style: theme.accent(),
        body: vec![cells::prose(&body, theme.ascii)],
        footer: format!("o types the other model; {run}"),
    }
}

/// Which two, and what is going on.
fn header(screen: &DiffScreen, compared: &Compared, view: &View, area: Rect, buf: &mut Buffer) {
    let theme = *view.theme;
    let [first, second] = compared.names.each_ref().map(|name| {
        let name = cells::prose(name, theme.ascii);
        cells::cut_front(&name, usize::from(area.width / 4).max(8), theme.ascii)
    });
    let mut x = put(buf, area, 1, 0, "from ", theme.dim());
    x = put(buf, area, x, 0, &first, theme.title());
    x = put(buf, area, x, 0, " to ", theme.dim());
    x = put(buf, area, x, 0, &second, theme.title());
    let edited = view.shared.interventions.iter().any(|chip| chip.on);
    let said = match (&screen.pending.job, &screen.pending.failed) {
        (Some(_), _) => ", being compared (esc stops it)".to_owned(),
        (None, Some(why)) => format!(", failed: {why}"),
        (None, None) if matches!(screen.other, Other::None) => String::new(),
        (None, None) if edited => ", as they are stored: interventions are left out".to_owned(),
        (None, None) => String::new(),
    };
    let style = if screen.pending.failed.is_some() {
        theme.error()
    } else {
        theme.dim()
    };
    let room = usize::from(area.width.saturating_sub(x));
    let said = cells::cut(&cells::prose(&said, theme.ascii), room, theme.ascii);
    put(buf, area, x, 0, &said, style);
}

/// The names of the panes, where one is shown at a time.
fn panes(screen: &DiffScreen, theme: Theme, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let mut x = 0;
    for (i, one) in Pane::ALL.into_iter().enumerate() {
        let style = if one == screen.pane {
            theme.cursor()
        } else {
            theme.dim()
        };
        let end = put(buf, area, x, 0, &format!(" {} ", one.word()), style);
        let place = Rect::new(area.x + x, area.y, end - x, 1);
        hits.add(place.intersection(area), Target::Place(PANE, 0, i));
        x = end + 1;
    }
    put(buf, area, x, 0, "tab: next pane", theme.dim());
}

fn pane(
    screen: &DiffScreen,
    compared: &Compared,
    which: Pane,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let focus = screen.pane == which;
    match which {
        Pane::Weights => weights(screen, compared, focus, theme, area, buf, hits),
        Pane::Tokens => tokens(screen, compared, focus, theme, area, buf, hits),
        Pane::Answers => texts::answers(screen, compared, focus, theme, area, buf),
        Pane::Latents => texts::latents(screen, compared, focus, theme, area, buf),
    }
}

/// What stands in a pane whose part is not done.
pub(super) fn waiting(screen: &DiffScreen) -> &'static str {
    match screen.pending.job {
        Some(_) => "being compared",
        None => "not compared: it was stopped; enter goes on",
    }
}

/// A pane whose part is not there: why.
pub(super) fn absent<T>(
    part: Option<&Result<T, String>>,
    waiting: &str,
    theme: Theme,
    area: Rect,
    buf: &mut Buffer,
) {
    let (text, style) = match part {
        Some(Err(why)) => (why.as_str(), theme.error()),
        _ => (waiting, theme.dim()),
    };
    let text = cells::prose(text, theme.ascii);
    for (row, line) in pen::wrapped(&text, area.width.into()).iter().enumerate() {
        pen::line(area, row as u16, line, style, buf);
    }
}

/// A role in few characters; the line below the map has its whole name.
fn heading(role: &str) -> String {
    match role {
        "attn_norm" => "norm".to_owned(),
        "mlp_norm" => "norm2".to_owned(),
        "attn_post_norm" => "post".to_owned(),
        "mlp_post_norm" => "post2".to_owned(),
        _ => match role.split_once('_') {
            Some((of, rest)) => format!("{of}.{}", rest.chars().next().unwrap_or_default()),
            None => role.to_owned(),
        },
    }
}

/// Nats to three decimals, or what is less in powers of ten: a change that is there is not shown as none.
fn nats(kl: f64) -> String {
    if kl > 0.0 && kl < 5e-4 {
        format!("{kl:.0e}")
    } else {
        format!("{kl:.3}")
    }
}

/// A relative change in five characters.
pub(super) fn short(relative: f64) -> String {
    if relative == 0.0 {
        "0".to_owned()
    } else if relative.is_infinite() {
        "new".to_owned()
    } else if relative < 1e-3 {
        format!("{relative:.0e}")
    } else if relative < 1.0 {
        format!("{relative:.3}").trim_start_matches('0').to_owned()
    } else {
        format!("{relative:.2}")
    }
}

fn weights(
    screen: &DiffScreen,
    compared: &Compared,
    focus: bool,
    theme: Theme,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let title = "weights: length of the change, as share of the first";
    let inner = cells::panel(buf, area, title, focus, theme);
    let Some(Ok(changes)) = &compared.weights else {
        return absent(
            compared.weights.as_ref(),
            waiting(screen),
            theme,
            inner,
            buf,
        );
    };
    let roles = DiffScreen::roles(changes);
    let last = changes.iter().filter_map(|change| change.layer).max();
    let count = last.map_or(0, |last| last + 1);
    let find = |layer: usize, column: usize| -> Option<&WeightChange> {
        let role = roles.get(column)?;
        let mut all = changes.iter();
        all.find(|change| change.layer == Some(layer) && change.role == *role)
    };
    let most = changes.iter().map(|change| change.relative);
    let most = most.filter(|r| r.is_finite()).fold(0.0, f64::max);
    let value = |layer: usize, column: usize| -> f32 {
        find(layer, column).map_or(f32::NAN, |change| change.relative.min(most) as f32)
    };
    let text = |layer: usize, column: usize| -> String {
        find(layer, column).map_or_else(String::new, |change| short(change.relative))
    };
    let columns: Vec<String> = roles.iter().map(|role| heading(role)).collect();
    let rows: Vec<String> = (0..count).map(|layer| format!("L{layer}")).collect();
    let cursor = (
        screen.cell.0.min(count.saturating_sub(1)),
        screen.cell.1.min(roles.len().saturating_sub(1)),
    );
    let (map, foot) = split(inner, inner.height.saturating_sub(2));
    let wide = (inner.width.saturating_sub(5) / roles.len().max(1) as u16).clamp(6, 10);
    let high = usize::from(map.height.saturating_sub(1));
    let drawn = cells::heat_map(
        buf,
        map,
        &HeatMap {
            columns: &columns,
            rows: &rows,
            value: &value,
            text: Some(&text),
            marked: None,
            digits: true,
            scale: Scale::Sequential,
            lo: 0.0,
            hi: if most > 0.0 { most as f32 } else { 1.0 },
            cursor: Some(cursor),
            offset: (cursor.0.saturating_sub(high / 2), 0),
            cell_width: wide,
            stale: false,
        },
        theme,
    );
    for row in drawn.rows.clone() {
        for column in drawn.columns.clone() {
            if let Some(place) = drawn.cell(row, column) {
                hits.add(place, Target::Place(CELL, column, row));
            }
        }
    }
    let here = find(cursor.0, cursor.1).map_or_else(String::new, |change| {
        format!("{}: {}", change.name(), told(change))
    });
    let room = usize::from(foot.width);
    put(
        buf,
        foot,
        0,
        0,
        &cells::cut(&here, room, theme.ascii),
        theme.text(),
    );
    let outer: Vec<String> = changes
        .iter()
        .filter(|change| change.layer.is_none())
        .map(|change| format!("{} {}", change.role, short(change.relative)))
        .collect();
    put(
        buf,
        foot,
        0,
        1,
        &cells::cut(&outer.join("  "), room, theme.ascii),
        theme.dim(),
    );
}

/// A change in words.
pub(super) fn told(change: &WeightChange) -> String {
    if change.relative == 0.0 {
        format!("{} numbers, none of them changed", change.size)
    } else if change.relative.is_infinite() {
        format!("{} numbers, all zero in the first", change.size)
    } else {
        format!(
            "{} numbers moved by {:.3e} of their length",
            change.size, change.relative
        )
    }
}

fn tokens(
    screen: &DiffScreen,
    compared: &Compared,
    focus: bool,
    theme: Theme,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let mean = match &compared.tokens {
        Some(Ok(tokens)) if !tokens.is_empty() => {
            let sum: f64 = tokens.iter().map(|token| token.kl).sum();
            format!(", mean {} nats", nats(sum / tokens.len() as f64))
        }
        _ => String::new(),
    };
    let title = format!("KL after each token, first to second{mean}");
    let inner = cells::panel(buf, area, &title, focus, theme);
    let Some(Ok(tokens)) = &compared.tokens else {
        return absent(compared.tokens.as_ref(), waiting(screen), theme, inner, buf);
    };
    let most = tokens
        .iter()
        .map(|token| token.kl)
        .filter(|kl| kl.is_finite());
    let most = most.fold(0.0, f64::max);
    let bars = usize::from(inner.width.saturating_sub(51)).min(14);
    let rows: Vec<Vec<Entry>> = tokens
        .iter()
        .map(|token| {
            let [a, b] = token.top;
            let differs = a.id != b.id;
            let says = |id: u32, p: f64| {
                let word = cells::visible(compared.word(id), theme.ascii);
                let word = cells::fit(&word, 8, theme.ascii);
                format!("{word} {p:.2}")
            };
            let style = if differs {
                theme.warning()
            } else {
                theme.text()
            };
            let mark = if differs { theme.pick("≠", "#") } else { " " };
            vec![
                Entry::new(
                    cells::visible(compared.word(token.id), theme.ascii),
                    theme.text(),
                ),
                Entry::number(nats(token.kl), theme.text()),
                Entry::new(
                    cells::bar(token.kl as f32, most as f32, bars, theme),
                    theme.bar(),
                ),
                Entry::new(says(a.id, a.probability), style),
                Entry::new(format!("{mark} {}", says(b.id, b.probability)), style),
            ]
        })
        .collect();
    let drawn = cells::table(
        buf,
        inner,
        &Table {
            headers: &["token", "KL", "", "first says", "  second says"],
            rows: &rows,
            widths: &[10, 7, bars as u16, 13],
            selected: rows.len().checked_sub(1).map(|last| screen.row.min(last)),
            offset: 0,
            focus,
        },
        theme,
    );
    for (row, at) in drawn.lines() {
        hits.add(at, Target::Place(TOKEN, 0, row));
    }
}
