//! The diff's panes of words: two answers with the token where they part, and the latents that only one of them has.
//!
//! Always: the fork is marked with more than a colour, and its probabilities are said.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::view::{absent, waiting};
use super::{Compared, DiffScreen};
use crate::compare::{Fork, Latent};
use crate::tui::cells::{self, put};
use crate::tui::pen;
use crate::tui::theme::Theme;

pub(super) fn answers(
    screen: &DiffScreen,
    compared: &Compared,
    focus: bool,
    theme: Theme,
    area: Rect,
    buf: &mut Buffer,
) {
    let inner = cells::panel(buf, area, "greedy answers", focus, theme);
    let Some(Ok(parting)) = &compared.parting else {
        return absent(
            compared.parting.as_ref(),
            waiting(screen),
            theme,
            inner,
            buf,
        );
    };
    let mut row = 0;
    for line in pen::wrapped(&forked(compared, parting.fork.as_ref()), inner.width.into()) {
        pen::line(
            inner,
            row,
            &cells::prose(&line, theme.ascii),
            theme.text(),
            buf,
        );
        row += 1;
    }
    let left = inner.height.saturating_sub(row);
    // The second has what the first does not need.
    let each = left / 2;
    for (i, ids) in parting.answers.iter().enumerate() {
        let at = Rect {
            y: inner.y + row,
            height: if i == 0 {
                each
            } else {
                inner.height.saturating_sub(row)
            },
            ..inner
        };
        let name = ["first", "second"][i];
        let x = put(buf, at, 0, 0, &format!("{name}: "), theme.accent());
        let fork = parting.fork.as_ref().map(|fork| fork.at);
        let style = |k: usize| match fork {
            Some(fork) if k == fork => theme.cursor(),
            Some(fork) if k > fork => theme.text(),
            _ => theme.dim(),
        };
        let pieces = ids.iter().enumerate();
        let pieces = pieces.map(|(k, id)| (piece(compared, *id, fork == Some(k), theme), style(k)));
        let used = flow(pieces, x, at, buf);
        row += if i == 0 {
            used.max(1).min(each.max(1))
        } else {
            used
        };
    }
}

/// A token as running text; at the fork in brackets, so that it is seen without colours.
fn piece(compared: &Compared, id: u32, fork: bool, theme: Theme) -> String {
    let word = compared.word(id);
    if fork {
        let word = cells::visible(word, theme.ascii);
        return format!("[{word}]");
    }
    cells::prose(word, theme.ascii)
}

/// Writes pieces one after the other over the lines of an area; gives the lines that were used.
fn flow(
    pieces: impl Iterator<Item = (String, Style)>,
    from: u16,
    area: Rect,
    buf: &mut Buffer,
) -> u16 {
    let (mut x, mut y) = (from, 0);
    for (text, style) in pieces {
        let wide = cells::width(&text) as u16;
        if x > 0 && x.saturating_add(wide) > area.width {
            (x, y) = (0, y + 1);
        }
        if y >= area.height {
            break;
        }
        x = put(buf, area, x, y, &text, style);
    }
    y + 1
}

/// Where they part, in a sentence.
pub(super) fn forked(compared: &Compared, fork: Option<&Fork>) -> String {
    let Some(fork) = fork else {
        return "Both answer with the same tokens.".to_owned();
    };
    let word = |id: u32| crate::text::visible::token_label(compared.word(id));
    let [[aa, ab], [ba, bb]] = fork.probabilities;
    format!(
        "They part at token {}: the first says {} with {aa:.3} (the second {ba:.3}), the second says {} with {bb:.3} (the first \
         {ab:.3}).",
        fork.at + 1,
        word(fork.ids[0]),
        word(fork.ids[1])
    )
}

pub(super) fn latents(
    screen: &DiffScreen,
    compared: &Compared,
    focus: bool,
    theme: Theme,
    area: Rect,
    buf: &mut Buffer,
) {
    let inner = cells::panel(buf, area, "latents on this prompt", focus, theme);
    let Some(Ok(found)) = &compared.latents else {
        let why = match &screen.dictionary {
            Some(_) => waiting(screen),
            None => {
                "No dictionary is at hand: `:latents PATH` reads one of either checkpoint (`candlescope sae train` makes one)."
            }
        };
        return absent(compared.latents.as_ref(), why, theme, inner, buf);
    };
    let foreign = if found.foreign {
        "; made on neither of the two, so its latents may mean little"
    } else {
        ""
    };
    let crossed = &found.crossed;
    let head = format!(
        "{}: {} fire in both, {} gained, {} lost{foreign}",
        found.of,
        crossed.both,
        crossed.gained.len(),
        crossed.lost.len()
    );
    let mut row = 0;
    for line in pen::wrapped(&cells::prose(&head, theme.ascii), inner.width.into()) {
        pen::line(inner, row, &line, theme.text(), buf);
        row += 1;
    }
    let half = inner.width / 2;
    for (i, (name, list)) in [("gained", &crossed.gained), ("lost", &crossed.lost)]
        .into_iter()
        .enumerate()
    {
        let at = Rect {
            x: inner.x + half * i as u16,
            y: inner.y + row.min(inner.height),
            width: half,
            height: inner.height.saturating_sub(row),
        };
        put(buf, at, 0, 0, name, theme.title());
        for (k, latent) in list
            .iter()
            .enumerate()
            .take(at.height.saturating_sub(1).into())
        {
            let line = cells::fit(
                &fired(compared, latent, theme.ascii),
                half.saturating_sub(1).into(),
                theme.ascii,
            );
            put(buf, at, 0, k as u16 + 1, &line, theme.text());
        }
    }
}

/// A latent with its value and the token it fires on.
pub(super) fn fired(compared: &Compared, latent: &Latent, ascii: bool) -> String {
    let id = compared.ids.get(latent.position).copied();
    let word = id.map_or("", |id| compared.word(id));
    format!(
        "{} {:.2} on {}",
        latent.latent,
        latent.value,
        cells::visible(word, ascii)
    )
}
