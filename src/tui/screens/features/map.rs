//! The prompt: a column for each token with its strongest latents, the strongest on top.
//!
//! Always: a token that training leaves out says why in the place of its latents; the chosen latent is marked wherever it
//! fires.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::bits::number;
use super::work::Reading;
use super::{CELL, FeaturesScreen, Shows};
use crate::tui::cells::{self, HeatMap};
use crate::tui::screen::{Hits, Target, View};
use crate::tui::theme::Scale;

pub(super) fn draw(
    screen: &FeaturesScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    if area.height < 3 {
        return;
    }
    let theme = *view.theme;
    let title = "the prompt: the strongest latents of each token";
    let inner = cells::panel(buf, area, title, false, theme);
    let Some(reading) = &screen.reading else {
        let text = cells::prose(&waiting(screen, view), theme.ascii);
        let text = cells::cut(&text, inner.width.into(), theme.ascii);
        cells::put(buf, inner, 0, 0, &text, theme.dim());
        return;
    };
    let ranks = usize::from(inner.height.saturating_sub(1));
    let map = Map {
        screen,
        reading,
        ranks,
        chosen: screen.chosen(),
    };
    map.draw(view, inner, buf, hits);
    let most = number(reading.most.into());
    cells::legend(buf, area, Scale::Sequential, ("0", &most), theme);
    let last = reading.pieces.len().saturating_sub(1);
    let place = format!("token {} of 0 to {last}", screen.position(view.shared));
    cells::note(buf, area, &place, theme);
}

/// Why there is nothing of the prompt.
fn waiting(screen: &FeaturesScreen, view: &View) -> String {
    let shared = view.shared;
    match (shared.tokens.is_empty(), &shared.prompt_error) {
        (_, Some(why)) => format!("it cannot be read: {why}"),
        (true, None) => "it is empty; p in the lens writes one".into(),
        (false, None) if screen.unread.is_some() => "it was not read".into(),
        (false, None) => "it is being read".into(),
    }
}

struct Map<'a> {
    screen: &'a FeaturesScreen,
    reading: &'a Reading,
    /// Rows.
    ranks: usize,
    chosen: Option<usize>,
}

impl Map<'_> {
    fn draw(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        let (theme, ranks) = (*view.theme, self.ranks);
        let at = self.screen.position(view.shared);
        let columns: Vec<String> = (self.reading.pieces.iter())
            .map(|piece| cells::visible(&piece.text, theme.ascii))
            .collect();
        let rows: Vec<String> = (1..=ranks).rev().map(|rank| rank.to_string()).collect();
        let rank = self.reading.pieces.get(at).and_then(|piece| {
            let mut codes = piece.codes.iter().take(ranks);
            codes.position(|(latent, _)| Some(*latent) == self.chosen)
        });
        // The latent may be none of these; its token is marked all the same.
        let row = rank.map_or(usize::MAX, |rank| ranks - 1 - rank);
        let wide = self.wide(view, area);
        let shown = usize::from(area.width.saturating_sub(3) / wide).max(1);
        let drawn = cells::heat_map(
            buf,
            area,
            &HeatMap {
                columns: &columns,
                rows: &rows,
                value: &|row, column| self.code(row, column).map_or(f32::NAN, |code| code.1),
                text: Some(&|row, column| self.text(row, column)),
                marked: Some(&|row, column| {
                    let latent = self.code(row, column).map(|code| code.0);
                    latent.is_some() && latent == self.chosen
                }),
                digits: false,
                scale: Scale::Sequential,
                lo: 0.0,
                hi: self.reading.most,
                cursor: Some((row, at)),
                offset: (0, at.saturating_sub(shown / 2)),
                cell_width: wide,
                stale: self.screen.stale(view.shared),
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
    }

    /// Columns of the terminal for each token.
    fn wide(&self, view: &View, area: Rect) -> u16 {
        let screen = self.screen;
        let named = screen.records.count() + screen.own() > 0;
        match screen.shows {
            Shows::Values => 8,
            // Numbers alone; without colours a shade stands before them.
            Shows::Labels if !named => 8 + 2 * u16::from(view.theme.ascii),
            Shows::Labels if area.width < 98 => 10,
            Shows::Labels => 14,
        }
    }

    /// The latent of a cell with its value; the map's lowest row is its first.
    fn code(&self, row: usize, column: usize) -> Option<(usize, f32)> {
        let piece = &self.reading.pieces[column];
        let rank = self.ranks.checked_sub(1 + row)?;
        let code = piece.codes.get(rank).copied();
        code.filter(|_| piece.out.is_none())
    }

    fn text(&self, row: usize, column: usize) -> String {
        let out = self.reading.pieces[column].out;
        match (self.code(row, column), out, self.screen.shows) {
            (None, Some(why), _) if row + 1 == self.ranks => why.to_owned(),
            (None, ..) => String::new(),
            (Some((_, value)), _, Shows::Values) => number(value.into()),
            (Some((latent, _)), _, Shows::Labels) => {
                let label = self.screen.short_label(latent);
                format!("{latent} {}", label.unwrap_or_default())
            }
        }
    }
}
