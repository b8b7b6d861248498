//! The list beside the map: the next tokens of the cursor's cell, and what else is known of it.
//!
//! Always: what is said here belongs to the cell under the cursor, and says so in its title; the unedited model's numbers
//! stand beside the edited ones where they are compared.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::reading::{Column, Place};
use super::{LISTED, LensScreen, Pane};
use crate::lens::Ranked;
use crate::tui::cells;
use crate::tui::screen::{Hits, Target, View};

/// Columns of the percentage.
const PERCENT: usize = 6;
/// Columns of a token, and where the list is narrow.
const WORD: [usize; 2] = [13, 10];
/// Columns of a fact's name.
const NAME: usize = 10;

/// A line about the cell: pieces with their styles.
type Line = Vec<(String, Style)>;

pub(super) fn draw(
    screen: &LensScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let (shared, theme) = (view.shared, *view.theme);
    let (row, at) = (screen.row(shared), shared.position);
    let layer = match row {
        0 => "embedding".to_owned(),
        row => format!("L{}", row - 1),
    };
    let after = shared.tokens.get(at).map_or(String::new(), |token| {
        cells::visible(&token.text, theme.ascii)
    });
    let title = format!("{layer}: next after {after}");
    let inner = cells::panel(buf, area, &title, screen.pane == Pane::List, theme);
    let Some((column, place)) = screen
        .held
        .columns
        .get(&at)
        .and_then(|column| Some((column, column.places.get(row)?)))
    else {
        cells::put(buf, inner, 0, 0, "being computed", theme.dim());
        return;
    };
    let old = !column.wish.serves(&screen.wish(shared)) || screen.held.tokens != shared.tokens;
    let facts = Facts {
        screen,
        view,
        column,
        place,
        base: column.base.as_ref().and_then(|base| base.get(row)),
        row,
    }
    .lines(usize::from(inner.width));
    let below = (facts.len() as u16).min(inner.height.saturating_sub(3));
    let list = Rect {
        height: inner.height - below,
        ..inner
    };
    let style = if old { theme.stale() } else { theme.text() };
    listed(screen, view, &place.cell.top, list, style, buf, hits);
    for (i, pieces) in facts.iter().enumerate().take(below.into()) {
        let mut x = 0;
        for (text, own) in pieces {
            let room = usize::from(inner.width.saturating_sub(x));
            let text = cells::cut(text, room, theme.ascii);
            let style = if old { style } else { *own };
            x = cells::put(buf, inner, x, list.height + i as u16, &text, style);
        }
    }
}

/// The likeliest tokens, a line each; those for which there is no line are reached with the cursor.
fn listed(
    screen: &LensScreen,
    view: &View,
    top: &[Ranked],
    area: Rect,
    style: Style,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let (shared, theme) = (view.shared, *view.theme);
    let most = top.first().map_or(1.0, |top| top.probability) as f32;
    let high = usize::from(area.height);
    let wide = WORD[usize::from(area.width < 30)];
    let left = screen.left(shared);
    let at = left.partition_point(|i| *i < screen.picked);
    let from = at.saturating_sub(high.saturating_sub(1));
    if left.is_empty() {
        let none = "no listed token holds these words";
        cells::put(buf, area, 0, 0, none, theme.dim());
    }
    let listed = left.iter().filter_map(|i| Some((*i, top.get(*i)?)));
    for (y, (i, top)) in listed.skip(from).take(high).enumerate() {
        let word = cells::visible(screen.held.word(top.id), theme.ascii);
        let word = cells::fit(&word, wide, theme.ascii);
        let mark = if screen.target == Some(top.id) {
            theme.pick("▸", ">")
        } else {
            " "
        };
        let share = format!("{:>w$.1}%", top.probability * 100.0, w = PERCENT - 1);
        let room = usize::from(area.width).saturating_sub(wide + PERCENT + 3);
        let bar = cells::bar(
            top.probability as f32,
            most.max(f32::MIN_POSITIVE),
            room,
            theme,
        );
        let here = screen.pane == Pane::List && i == screen.picked;
        let y = y as u16;
        let style = if here { theme.cursor() } else { style };
        let text = format!("{mark}{word} {share}");
        let text = cells::cut(&text, area.width.into(), theme.ascii);
        let x = cells::put(buf, area, 0, y, &text, style);
        cells::put(buf, area, x + 1, y, &bar, theme.bar());
        let line = Rect {
            y: area.y + y,
            height: 1,
            ..area
        };
        hits.add(line, Target::Place(LISTED, 0, i));
    }
}

/// What is known of the cell.
struct Facts<'a> {
    screen: &'a LensScreen,
    view: &'a View<'a>,
    column: &'a Column,
    place: &'a Place,
    base: Option<&'a Place>,
    row: usize,
}

impl Facts<'_> {
    /// A line each, the answer first.
    fn lines(&self, wide: usize) -> Vec<Line> {
        let (theme, cell) = (*self.view.theme, &self.place.cell);
        let vocab = self.view.shared.model.facts();
        let vocab = vocab.map_or(0, |facts| facts.config.vocab_size);
        let name = |name: &str| (format!(" {name:<NAME$}"), theme.dim());
        let fact = |label: &str, value: String, base: Option<String>| -> Line {
            let was = base.map_or(String::new(), |base| format!(", was {base}"));
            vec![name(label), (value + &was, theme.text())]
        };
        // Of how many is left out first, where there is no room or another number stands beside it.
        let whole = |text: String, least: usize| match self.base {
            None if wide >= least => text,
            _ => String::new(),
        };
        let target = cells::visible(self.screen.held.word(self.column.target), theme.ascii);
        let role = match self.screen.target {
            None => " next, underlined",
            Some(_) => " followed, underlined",
        };
        let under = Modifier::BOLD | Modifier::UNDERLINED;
        let mut lines = vec![
            Vec::new(),
            vec![
                (target, theme.text().add_modifier(under)),
                (role.to_owned(), theme.dim()),
            ],
            vec![(format!(" {}", settled(self.column)), theme.accent())],
            fact(
                "rank",
                format!("{}{}", cell.target_rank, whole(format!(" of {vocab}"), 0)),
                self.base.map(|b| b.cell.target_rank.to_string()),
            ),
            fact("p", probability(self.place), self.base.map(probability)),
            self.course(wide),
            fact(
                "entropy",
                format!(
                    "{:.2}{}{}",
                    cell.entropy,
                    whole(format!(" of {:.2}", (vocab.max(1) as f64).ln()), 30),
                    if self.base.is_some() { "" } else { " nats" }
                ),
                self.base.map(|b| {
                    let unit = if wide < 30 { "" } else { " nats" };
                    format!("{:.2}{unit}", b.cell.entropy)
                }),
            ),
            vec![
                (" KL(final||here) ".to_owned(), theme.dim()),
                (format!("{:.2} nats", cell.kl), theme.text()),
                (
                    self.base
                        .filter(|_| wide >= 34)
                        .map_or(String::new(), |b| format!(", was {:.2}", b.cell.kl)),
                    theme.text(),
                ),
            ],
            fact(
                "norm",
                format!("{:.1}", cell.norm),
                self.base.map(|b| format!("{:.1}", b.cell.norm)),
            ),
        ];
        if let Some(along) = self.place.along {
            let base = self.base.and_then(|b| b.along);
            let probe = self.screen.sources.is_probe(self.column.wish.along);
            lines.push(fact(
                if probe { "probe" } else { "projected" },
                format!("{along:+.2}"),
                base.map(|b| format!("{b:+.2}")),
            ));
        }
        if self.base.is_some() {
            lines.push(vec![(" was: unedited".to_owned(), theme.dim())]);
        } else if self.row + 1 == self.column.places.len() {
            lines.push(vec![(" last layer: the output".to_owned(), theme.dim())]);
        }
        lines
    }

    /// The target's probability by layer, the cursor's layer in the text's colour.
    fn course(&self, wide: usize) -> Line {
        let theme = *self.view.theme;
        let course: Vec<f32> = (self.column.places.iter())
            .map(|place| place.cell.target_log_prob.exp() as f32)
            .collect();
        let room = wide.saturating_sub(NAME + 1).min(course.len());
        if room == 0 {
            return Vec::new();
        }
        let marks = cells::sparkline(&course, room, theme);
        let here = self.row * room / course.len();
        let part = |range: std::ops::Range<usize>| -> String {
            marks.chars().skip(range.start).take(range.len()).collect()
        };
        vec![
            (format!(" {:<NAME$}", "by layer"), theme.dim()),
            (part(0..here), theme.bar()),
            (part(here..here + 1), theme.title()),
            (part(here + 1..room), theme.bar()),
        ]
    }
}

/// The target's probability, with as many digits as say something.
fn probability(place: &Place) -> String {
    match place.cell.target_log_prob.exp() {
        small if small < 1e-4 => format!("{small:.0e}"),
        share => format!("{:.2}%", share * 100.0),
    }
}

/// From which layer on the target is the likeliest token.
pub(super) fn settled(column: &Column) -> String {
    match column.settles() {
        None => "not the likeliest at the end".to_owned(),
        Some(0) => "likeliest from the start on".to_owned(),
        Some(row) => format!("likeliest from L{} on", row - 1),
    }
}
