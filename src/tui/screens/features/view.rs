//! Drawing the features: the list and the chosen latent beside it, below the prompt (`map.rs`); or the page of one latent.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::bits::{Line, number};
use super::page::{self, Sheet};
use super::rows::{Row, Scope, Sort};
use super::work::Open;
use super::{FeaturesScreen, OTHER, ROW, acts, map, turn, written};
use crate::tui::cells::{self, Entry, Table};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready;
use crate::tui::theme::Theme;

pub(super) fn draw(
    screen: &FeaturesScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let Some(open) = &screen.open else {
        return cells::card(buf, area, &card(screen, view), theme);
    };
    let head = header(screen, open, view, area, buf);
    let rest = below(area, head);
    if let Some(pane) = &screen.pane {
        let name = |latent: usize| screen.label(latent).map(|(text, _)| text);
        pane.view(view, rest, buf, &name);
    } else if let Some(&latent) = screen.page.last() {
        paged(screen, latent, view, rest, buf, hits);
    } else {
        // A token has no more latents than fire on it.
        let pieces = screen.reading.iter().flat_map(|reading| &reading.pieces);
        let most = pieces.map(|piece| piece.codes.len()).max().unwrap_or(1);
        let high = match rest.height {
            0..14 => 0,
            height => (height / 3).clamp(6, 12).min(most.max(1) as u16 + 3),
        };
        let above = Rect {
            height: high,
            ..rest
        };
        map::draw(screen, view, above, buf, hits);
        let rest = below(rest, high);
        let wide = if rest.width < 70 {
            rest.width
        } else {
            (rest.width * 9 / 20).max(38)
        };
        let left = Rect {
            width: wide,
            ..rest
        };
        list(screen, view, left, buf, hits);
        let right = Rect {
            x: rest.x + wide,
            width: rest.width - wide,
            ..rest
        };
        beside(screen, view, right, buf, hits);
    }
    writing(screen, theme, area, buf);
}

fn below(area: Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    }
}

fn card(screen: &FeaturesScreen, view: &View) -> cells::Card {
    let theme = *view.theme;
    let reads = "Dictionaries read the activations of an open model.";
    if let Some(card) = unready::model(view.shared, theme, reads, "") {
        return card;
    }
    if let Some(why) = &screen.pending.failed {
        let again = "`:sae PATH` opens another";
        return unready::say(
            "No dictionary was opened",
            theme.error(),
            why.clone(),
            again,
        );
    }
    if screen.pending.job.is_some() {
        let body =
            "It is read and held against the model; records and labels beside it are read too.";
        return unready::say("Opening", theme.accent(), body.into(), "esc stops it");
    }
    cells::Card {
        title: "No dictionary is open".into(),
        style: theme.accent(),
        body: vec![
            "A sparse dictionary rewrites the activations at one point of the model as few of many latents, each of which may mean something.".into(),
            "`:sae PATH` opens one: a folder or file as candlescope, SAELens, dictionary_learning, sparsify, Gemma Scope, Llama Scope, Qwen Scope or circuit-tracer write it.".into(),
        ],
        footer: "`candlescope sae train -c FILE --out FOLDER` makes one of this model".into(),
    }
}

/// What the dictionary is, and what is wrong, if something is; gives the lines it took.
fn header(screen: &FeaturesScreen, open: &Open, view: &View, area: Rect, buf: &mut Buffer) -> u16 {
    let theme = *view.theme;
    let wanted = screen.wanted(view.shared);
    let dot = theme.pick(" · ", " - ");
    let parts = written::facts(open);
    let name = cells::cut(&cells::prose(&parts[0], theme.ascii), 24, theme.ascii);
    let x = cells::put(buf, area, 1, 0, &name, theme.title());
    let sums = screen.reading.as_ref().map_or(String::new(), |reading| {
        format!(
            "{dot}L0 {}, {} of {} unexplained",
            number(reading.l0),
            number(reading.unexplained),
            theme.pick("‖x‖²", "|x|^2")
        )
    });
    // The format gives way first where room ends, then the width that the model has anyway.
    let (format, what) = parts[1..]
        .split_last()
        .map_or(("", &[][..]), |(f, w)| (f, w));
    let short = |part: &String| match part.strip_suffix(" wide") {
        Some(widths) if area.width < 100 => widths.split(", ").next().unwrap_or_default().into(),
        _ => part.clone(),
    };
    let what: Vec<String> = what.iter().map(short).collect();
    let text = format!("{dot}{}{sums}{dot}{format}", what.join(dot));
    let room = usize::from(area.width.saturating_sub(x));
    let text = cells::fit(&cells::prose(&text, theme.ascii), room, theme.ascii);
    let style = if screen.stale(view.shared) {
        theme.stale()
    } else {
        theme.dim()
    };
    cells::put(buf, area, x, 0, text.trim_end(), style);
    let unread = screen.unread.as_ref().filter(|(of, _)| Some(*of) == wanted);
    let job = screen.pending.job.map(|(_, job)| job.words());
    let (text, style) = match (&screen.pending.failed, unread, screen.wrong.first()) {
        _ if job.is_some() => {
            let words = job.unwrap_or_default();
            (format!("{words}; esc stops that"), theme.accent())
        }
        (Some(why), ..) => (format!("{why}; esc puts this away"), theme.error()),
        (None, Some((_, why)), _) => (format!("the prompt was not read: {why}"), theme.error()),
        (None, None, Some(wrong)) => (wrong.clone(), theme.warning()),
        (None, None, None) => return 1,
    };
    let room = usize::from(area.width.saturating_sub(1));
    let text = cells::fit(&cells::prose(&text, theme.ascii), room, theme.ascii);
    cells::put(buf, area, 1, 1, &text, style);
    2
}

fn title(screen: &FeaturesScreen, view: &View, rows: &[Row]) -> String {
    let at = screen.position(view.shared);
    let piece = screen.reading.as_ref().and_then(|r| r.pieces.get(at));
    let of = match (screen.scope, piece) {
        (Scope::Token, Some(piece)) => {
            let text = cells::visible(&piece.text, view.theme.ascii);
            let out = piece.out.map_or(String::new(), |why| format!(" ({why})"));
            format!("of {}{out}", cells::cut(&text, 14, view.theme.ascii))
        }
        (Scope::Token, None) => "of the token".into(),
        (Scope::Prompt, _) => "of the prompt".into(),
        (Scope::Known, _) => "known".into(),
    };
    let n = if screen.filter.is_empty() {
        rows.len().to_string()
    } else {
        format!("{} of {}", rows.len(), screen.listed.of)
    };
    format!("{n} latents {of}, by {}", screen.sort().name())
}

fn list(screen: &FeaturesScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let theme = *view.theme;
    let all = screen.rows();
    let inner = cells::panel(buf, area, &title(screen, view, all), true, theme);
    let Some(at) = screen.row() else {
        let why = cells::prose(&acts::nothing(screen), theme.ascii);
        for (y, line) in pen::wrapped(&why, inner.width.into()).iter().enumerate() {
            cells::put(buf, inner, 0, y as u16, line, theme.dim());
        }
        return;
    };
    let room = usize::from(inner.height.saturating_sub(1));
    let from = cells::scroll(Some(at), at.saturating_sub(room / 2), room, all.len());
    let seen = &all[from..(from + room).min(all.len())];
    let turned = !screen.turned.is_empty();
    let column = match screen.sort() {
        Sort::Density => Some(Sort::Density),
        Sort::Sum => Some(Sort::Sum),
        _ => (inner.width >= 50).then_some(Sort::Sum),
    };
    let style = if screen.stale(view.shared) {
        theme.stale()
    } else {
        theme.text()
    };
    let look = Look {
        screen,
        theme,
        style,
        turned,
        column,
        bar: if inner.width < 50 { 5 } else { 10 },
    };
    let rows: Vec<Vec<Entry>> = seen.iter().map(|row| look.entries(row)).collect();
    let mut headers = vec!["latent", "here", ""];
    match column {
        Some(Sort::Density) => headers.push("density"),
        Some(_) => headers.push("sum"),
        None => {}
    }
    if turned {
        headers.push("turned");
    }
    headers.push("label");
    let drawn = cells::table(
        buf,
        inner,
        &Table {
            headers: &headers,
            rows: &rows,
            widths: &[],
            selected: Some(at - from),
            offset: 0,
            focus: true,
        },
        theme,
    );
    for (row, line) in drawn.lines() {
        hits.add(line, Target::Place(ROW, 0, seen[row].latent));
    }
}

/// How rows of the list look.
struct Look<'a> {
    screen: &'a FeaturesScreen,
    theme: Theme,
    style: Style,
    turned: bool,
    /// What is told of a latent beside its value.
    column: Option<Sort>,
    bar: usize,
}

impl Look<'_> {
    fn entries(&self, row: &Row) -> Vec<Entry> {
        let (screen, theme) = (self.screen, self.theme);
        let most = screen.reading.as_ref().map_or(0.0, |reading| reading.most);
        let value = |x: f64| if x == 0.0 { String::new() } else { number(x) };
        let mut entries = vec![
            Entry::number(row.latent.to_string(), self.style),
            Entry::number(value(row.here.into()), self.style),
            Entry::new(cells::bar(row.here, most, self.bar, theme), theme.bar()),
        ];
        let share = |share: f64| {
            if share.is_nan() {
                return String::new();
            }
            format!("{} %", number(100.0 * share))
        };
        match self.column {
            Some(Sort::Density) => entries.push(Entry::number(share(row.density), theme.dim())),
            Some(_) => entries.push(Entry::number(value(row.sum), theme.dim())),
            None => {}
        }
        if self.turned {
            let change = turn::change(screen, row.latent);
            let words = change.map_or(String::new(), turn::words);
            entries.push(Entry::new(words, theme.accent()));
        }
        let label = screen.label(row.latent);
        let own = label.as_ref().is_some_and(|(_, own)| *own);
        let style = if own { theme.accent() } else { self.style };
        let label = if self.bar < 10 {
            screen.short_label(row.latent)
        } else {
            label.map(|(label, _)| label)
        };
        entries.push(Entry::new(label.unwrap_or_default(), style));
        entries
    }
}

/// The beginning of the chosen latent's page.
fn beside(screen: &FeaturesScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let Some(latent) = screen.chosen().filter(|_| area.width > 0) else {
        return;
    };
    let theme = *view.theme;
    let title = format!("latent {latent}: enter for its page");
    let inner = cells::panel(buf, area, &title, false, theme);
    let lines = sheet(screen, view, latent, inner);
    let mut shown = lines.len().min(inner.height.into());
    // A heading at the very end would head nothing.
    let heads = |line: &Line| line.iter().all(|bit| bit.style == theme.title());
    while shown > 0 && heads(&lines[shown - 1]) {
        shown -= 1;
    }
    for (y, line) in lines[..shown].iter().enumerate() {
        put(line, inner, y as u16, buf, hits);
    }
}

fn sheet(screen: &FeaturesScreen, view: &View, latent: usize, area: Rect) -> Vec<Line> {
    page::lines(&Sheet {
        screen,
        shared: view.shared,
        latent,
        width: area.width.into(),
        theme: *view.theme,
    })
}

/// A latent's page, as far down as was scrolled.
fn paged(
    screen: &FeaturesScreen,
    latent: usize,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let inside = Rect {
        width: area.width.saturating_sub(2),
        ..area
    };
    let lines = sheet(screen, view, latent, inside);
    let title = format!("latent {latent} (esc goes back)");
    let (inner, shown, most) = pen::scrolled(
        area,
        (&title, lines.len()),
        (screen.scroll, ""),
        view.theme,
        buf,
    );
    screen.most.set(most);
    for (y, line) in lines[shown].iter().enumerate() {
        put(line, inner, y as u16, buf, hits);
    }
}

/// A line of bits; latents that it names can be clicked.
fn put(line: &Line, area: Rect, y: u16, buf: &mut Buffer, hits: &mut Hits) {
    let mut x = 0;
    for bit in line {
        let end = cells::put(buf, area, x, y, &bit.text, bit.style);
        if let Some(latent) = bit.to.filter(|_| end > x) {
            let place = Rect::new(area.x + x, area.y + y, end - x, 1);
            hits.add(place, Target::Place(OTHER, 0, latent));
        }
        x = end;
    }
}

/// The label that is being written.
fn writing(screen: &FeaturesScreen, theme: Theme, area: Rect, buf: &mut Buffer) {
    let Some((latent, field)) = &screen.writing else {
        return;
    };
    let at = cells::popup(area, 60, 3);
    let title = format!("your label of latent {latent}");
    let inner = pen::panel(at, &title, &theme, buf);
    field.draw(buf, inner, theme, true);
}
