//! Drawing the features: the prompt with the strongest latents of each token, the list, the chosen latent beside it; or the
//! page of one latent.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::bits::{Line, number};
use super::page::{self, Sheet};
use super::rows::{Row, Scope, Sort};
use super::work::{Open, Reading};
use super::{CELL, FeaturesScreen, OTHER, ROW, Shows, acts, turn, written};
use crate::tui::cells::{self, Entry, HeatMap, Table};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready;
use crate::tui::theme::{Scale, Theme};

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
    if let Some(&latent) = screen.page.last() {
        paged(screen, latent, view, rest, buf, hits);
    } else {
        let high = match rest.height {
            0..14 => 0,
            height => (height / 3).clamp(6, 12),
        };
        let above = Rect {
            height: high,
            ..rest
        };
        prompt(screen, view, above, buf, hits);
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
        return unready::say("No dictionary was opened", theme.error(), why.clone(), again);
    }
    if screen.pending.job.is_some() {
        let body = "It is read and held against the model; records and labels beside it are read too.";
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
fn header(
    screen: &FeaturesScreen,
    open: &Open,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
) -> u16 {
    let theme = *view.theme;
    let wanted = screen.wanted(view.shared);
    let parts = written::facts(open);
    let name = cells::cut(&cells::prose(&parts[0], theme.ascii), 24, theme.ascii);
    let x = cells::put(buf, area, 1, 0, &name, theme.title());
    let sums = screen.reading.as_ref().map_or(String::new(), |reading| {
        format!(
            "L0 {}, unexplained {}",
            number(reading.l0),
            number(reading.unexplained)
        )
    });
    let dot = theme.pick(" · ", " - ");
    let text = format!("{dot}{}{dot}{sums}", parts[1..].join(dot));
    let room = usize::from(area.width.saturating_sub(x));
    let text = cells::fit(&cells::prose(&text, theme.ascii), room, theme.ascii);
    let style = if screen.stale(view.shared) {
        theme.stale()
    } else {
        theme.dim()
    };
    cells::put(buf, area, x, 0, &text, style);
    let unread = screen.unread.as_ref().filter(|(of, _)| Some(*of) == wanted);
    let job = "another dictionary is being opened; esc stops that".to_owned();
    let (text, style) = match (&screen.pending.failed, unread, screen.wrong.first()) {
        _ if screen.pending.job.is_some() => (job, theme.accent()),
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

/// The strongest latents of each token, the strongest on top.
fn prompt(screen: &FeaturesScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let (theme, shared) = (*view.theme, view.shared);
    if area.height < 3 {
        return;
    }
    let title = "the prompt: the strongest latents of each token";
    let inner = cells::panel(buf, area, title, false, theme);
    let Some(reading) = &screen.reading else {
        let text = match (shared.tokens.is_empty(), &shared.prompt_error) {
            (_, Some(why)) => format!("it cannot be read: {why}"),
            (true, None) => "it is empty; p in the lens writes one".into(),
            (false, None) if screen.unread.is_some() => "it was not read".into(),
            (false, None) => "it is being read".into(),
        };
        let text = cells::cut(&cells::prose(&text, theme.ascii), inner.width.into(), theme.ascii);
        cells::put(buf, inner, 0, 0, &text, theme.dim());
        return;
    };
    let ranks = usize::from(inner.height.saturating_sub(1));
    let chosen = screen.chosen(shared);
    let at = screen.position(shared);
    // The map's lowest row is its first.
    let code = |row: usize, column: usize| {
        let piece = &reading.pieces[column];
        let code = piece.codes.get(ranks.wrapping_sub(1 + row)).copied();
        code.filter(|_| piece.out.is_none())
    };
    let value = |row: usize, column: usize| code(row, column).map_or(f32::NAN, |c| c.1);
    let text = |row: usize, column: usize| cell(screen, reading, code(row, column), (row, ranks, column));
    let marked = |row: usize, column: usize| {
        let latent = code(row, column).map(|c| c.0);
        latent.is_some() && latent == chosen
    };
    let columns: Vec<String> = (reading.pieces.iter())
        .map(|piece| cells::visible(&piece.text, theme.ascii))
        .collect();
    let rows: Vec<String> = (1..=ranks).rev().map(|rank| rank.to_string()).collect();
    let rank = reading.pieces.get(at).and_then(|piece| {
        let mut codes = piece.codes.iter().take(ranks);
        codes.position(|(latent, _)| Some(*latent) == chosen)
    });
    let wide = match screen.shows {
        Shows::Values => 7,
        Shows::Labels if area.width < 100 => 10,
        Shows::Labels => 14,
    };
    // The latent may be none of these; its column is marked all the same.
    let row = rank.map_or(usize::MAX, |rank| ranks - 1 - rank);
    let shown = usize::from(inner.width.saturating_sub(3) / wide).max(1);
    let drawn = cells::heat_map(
        buf,
        inner,
        &HeatMap {
            columns: &columns,
            rows: &rows,
            value: &value,
            text: Some(&text),
            marked: Some(&marked),
            digits: false,
            scale: Scale::Sequential,
            lo: 0.0,
            hi: reading.most,
            cursor: Some((row, at)),
            offset: (0, at.saturating_sub(shown / 2)),
            cell_width: wide,
            stale: screen.stale(shared),
        },
        theme,
    );
    for row in drawn.rows.clone() {
        for column in drawn.columns.clone() {
            if let Some(place) = drawn.cell(row, column) {
                hits.add(place, Target::Place(CELL, column, ranks - 1 - row));
            }
        }
    }
    cells::legend(buf, area, Scale::Sequential, ("0", &number(reading.most.into())), theme);
    let place = format!("token {at} of 0 to {}", reading.pieces.len().saturating_sub(1));
    cells::note(buf, area, &place, theme);
}

/// What a cell of the prompt says.
fn cell(
    screen: &FeaturesScreen,
    reading: &Reading,
    code: Option<(usize, f32)>,
    (row, ranks, column): (usize, usize, usize),
) -> String {
    match (code, reading.pieces[column].out, screen.shows) {
        (None, Some(why), _) if row + 1 == ranks => format!("({why})"),
        (None, ..) => String::new(),
        (Some((_, value)), _, Shows::Values) => number(value.into()),
        (Some((latent, _)), _, Shows::Labels) => {
            let label = screen.label(latent).map_or(String::new(), |(label, _)| label);
            format!("{latent} {label}")
        }
    }
}

fn title(screen: &FeaturesScreen, view: &View, rows: &[Row]) -> String {
    let at = screen.position(view.shared);
    let piece = screen.reading.as_ref().and_then(|r| r.pieces.get(at));
    let of = match (screen.scope, piece) {
        (Scope::Token, Some(piece)) => {
            let text = cells::visible(&piece.text, view.theme.ascii);
            let out = piece.out.map_or(String::new(), |why| format!(", {why}: not trained on"));
            format!("of {}{out}", cells::cut(&text, 12, view.theme.ascii))
        }
        (Scope::Token, None) => "of the token".into(),
        (Scope::Prompt, _) => "of the prompt".into(),
        (Scope::Known, _) => "known".into(),
    };
    let n = if screen.filter.is_empty() {
        rows.len().to_string()
    } else {
        format!("{} of {}", rows.len(), screen.all(view.shared).len())
    };
    format!("{n} latents {of}, by {}", screen.sort().name())
}

fn list(screen: &FeaturesScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let theme = *view.theme;
    let all = screen.rows(view.shared);
    let inner = cells::panel(buf, area, &title(screen, view, &all), true, theme);
    let Some(at) = screen.row(&all) else {
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
    let sums = inner.width >= 50 || screen.sort() == Sort::Sum;
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
        sums,
        bar: if inner.width < 50 { 5 } else { 10 },
    };
    let rows: Vec<Vec<Entry>> = seen.iter().map(|row| look.entries(row)).collect();
    let mut headers = vec!["latent", "here", ""];
    if sums {
        headers.push("sum");
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
    sums: bool,
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
        if self.sums {
            entries.push(Entry::number(value(row.sum), theme.dim()));
        }
        if self.turned {
            let change = turn::change(screen, row.latent);
            let words = change.map_or(String::new(), turn::words);
            entries.push(Entry::new(words, theme.accent()));
        }
        let label = screen.label(row.latent);
        let own = label.as_ref().is_some_and(|(_, own)| *own);
        let style = if own { theme.accent() } else { self.style };
        let label = label.map_or(String::new(), |(label, _)| label);
        entries.push(Entry::new(label, style));
        entries
    }
}

/// The beginning of the chosen latent's page.
fn beside(screen: &FeaturesScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let Some(latent) = screen.chosen(view.shared).filter(|_| area.width > 0) else {
        return;
    };
    let theme = *view.theme;
    let title = format!("latent {latent}: enter for its page");
    let inner = cells::panel(buf, area, &title, false, theme);
    let lines = sheet(screen, view, latent, inner);
    // A heading at the very end would head nothing.
    let shown = lines.iter().take(inner.height.into());
    for (y, line) in shown.enumerate() {
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
