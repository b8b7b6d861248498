//! Drawing: what is asked, the dose, the two answers, the token under the cursor; on top what is being picked.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::flow::flow;
use super::stream::{EDITED, End, PLAIN, Side, Stream, Token};
use super::{GenerateScreen, dose, popups, steering};
use crate::tui::cells;
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::shared::ModelState;
use crate::tui::theme::{Scale, Theme, Tier};

/// Columns from which two answers stand beside each other.
const WIDE: u16 = 60;
/// Lines of the token strip with its frame.
const STRIP: u16 = 4;
/// Nats from which a token is coloured, and at which the colour is full.
const SURPRISE: (f32, f32) = (1.0, 6.0);

pub(super) fn draw(
    screen: &GenerateScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let area = area.intersection(buf.area);
    if screen.sides.iter().all(|side| side.branches.is_empty()) {
        let (title, body) = empty(screen, view);
        pen::card(area, title, &body, view.theme, buf);
    } else {
        body(screen, view, area, buf, hits);
    }
    popups::draw(screen, view, area, buf);
}

fn empty(screen: &GenerateScreen, view: &View) -> (&'static str, String) {
    match (
        &view.shared.model,
        &view.shared.prompt_error,
        &screen.failed,
    ) {
        (ModelState::Loading { name }, ..) => ("opening", format!("{name} is being opened")),
        (ModelState::Failed { name, why }, ..) => ("failed", format!("{name}: {why}")),
        (ModelState::None, ..) => (
            "no model",
            "`:open NAME` opens one; screen `models` lists them".into(),
        ),
        (_, Some(why), _) => ("this prompt cannot be read", why.clone()),
        (_, None, Some(why)) => ("failed", format!("{why}. space tries again")),
        _ => (
            "nothing to answer",
            "the prompt is empty; p writes one".into(),
        ),
    }
}

fn body(screen: &GenerateScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let ascii = view.theme.ascii;
    let mut put = |row: u16, text: &str, style: Style| {
        let text = cells::fit(&cells::prose(text, ascii), area.width.into(), ascii);
        pen::line(area, row, &text, style, buf);
    };
    put(0, &asked(view), view.theme.text());
    let (text, style) = status(screen, view);
    put(1, &format!(" {text}"), style);
    let mut top = 2;
    if let Some(chip) = steering::chosen(screen, view.shared) {
        let scale = steering::scale(screen, &chip.steering);
        let stale = steering::stale(screen, &chip.steering, view.shared);
        let said = dose::explained(&chip, scale, stale);
        let style = if stale {
            view.theme.stale()
        } else {
            view.theme.dim()
        };
        // On a second line what does not fit, where there are lines to spare.
        let lines = pen::wrapped(&said, usize::from(area.width.saturating_sub(8)));
        let most = if area.height >= 18 { 2 } else { 1 };
        for (i, line) in lines.iter().take(most).enumerate() {
            put(3 + i as u16, &format!("        {line}"), style);
        }
        top = 3 + lines.len().min(most) as u16;
        slider(
            &chip,
            scale,
            view,
            Rect {
                y: area.y + 2,
                height: area.height.saturating_sub(2).min(1),
                ..area
            },
            buf,
        );
    }
    let strip = if area.height > top + STRIP + 5 {
        STRIP
    } else {
        0
    };
    let middle = Rect {
        y: area.y + top.min(area.height),
        height: area.height.saturating_sub(top + strip),
        ..area
    };
    if screen.sides[EDITED].branches.is_empty() {
        answer(
            screen,
            PLAIN,
            "answer, no intervention",
            view,
            middle,
            buf,
            hits,
        );
    } else {
        let (left, right) = halves(middle);
        answer(screen, EDITED, "edited", view, left, buf, hits);
        answer(screen, PLAIN, "unedited", view, right, buf, hits);
    }
    if strip > 0 {
        let at = Rect {
            y: middle.y + middle.height,
            height: strip,
            ..area
        };
        token(screen, view, at, buf);
    }
}

/// Beside each other where there is room, else one above the other.
fn halves(area: Rect) -> (Rect, Rect) {
    if area.width >= WIDE {
        let left = area.width / 2;
        return (
            Rect {
                width: left,
                ..area
            },
            Rect {
                x: area.x + left,
                width: area.width - left,
                ..area
            },
        );
    }
    let upper = area.height / 2;
    (
        Rect {
            height: upper,
            ..area
        },
        Rect {
            y: area.y + upper,
            height: area.height - upper,
            ..area
        },
    )
}

/// The prompt's last turn, and what stands before it.
fn asked(view: &View) -> String {
    let prompt = &view.shared.prompt;
    let turns = &prompt.turns;
    let before = match (&prompt.raw, turns.as_slice()) {
        (Some(_), _) => " (raw)".to_owned(),
        (None, [first, _]) if first.role == "system" => {
            format!(
                " (system: {})",
                cells::fit(&first.content, 24, view.theme.ascii).trim_end()
            )
        }
        (None, [_, _, ..]) => format!(" (turn {} of {0})", turns.len()),
        _ => String::new(),
    };
    format!(" prompt{before}  {}", prompt.text())
}

fn status(screen: &GenerateScreen, view: &View) -> (String, Style) {
    if let Some(why) = &screen.failed {
        return (
            format!("failed: {why}; space tries again"),
            view.theme.error(),
        );
    }
    let sample = screen.settings.sample;
    let drawing = if sample.temperature == 0.0 {
        "greedy".to_string()
    } else {
        let top_p = sample
            .top_p
            .map_or_else(String::new, |p| format!(", top-p {p}"));
        format!(
            "temperature {}{top_p}, seed {}",
            sample.temperature, sample.seed
        )
    };
    let state = if screen.running() {
        "generating"
    } else if screen.unfinished() {
        "held; space goes on"
    } else {
        "complete"
    };
    let apart = match screen.divergence() {
        Some(at) => format!(" · first divergence at token {at}"),
        None if screen.sides[EDITED].branches.is_empty() => String::new(),
        None => " · no divergence so far".into(),
    };
    let making = screen
        .making
        .as_ref()
        .map_or_else(String::new, |what| format!(" · making {what}"));
    let text = format!(
        "{drawing} · at most {} tokens · {state}{apart}{making}",
        screen.settings.max_new
    );
    (text, view.theme.dim())
}

fn slider(
    chip: &dose::Dosed,
    scale: Option<&crate::steer::StreamScale>,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
) {
    let ascii = view.theme.ascii;
    let name = cells::fit(
        &cells::prose(&format!(" {}", dose::label(&chip.steering)), ascii),
        28.min(area.width.into()),
        ascii,
    );
    let style = if chip.on {
        view.theme.chip_on()
    } else {
        view.theme.chip_off()
    };
    pen::line(area, 0, &name, style, buf);
    let used = 29.min(area.width);
    let (lo, hi) = dose::ends(chip, dose::step(chip, scale));
    let track = Rect {
        x: area.x + used,
        width: (area.width - used).min(48),
        ..area
    };
    cells::slider(
        buf,
        track,
        chip.steering.dose as f32,
        lo as f32,
        hi as f32,
        chip.on,
        *view.theme,
    );
}

/// One answer in a frame.
fn answer(
    screen: &GenerateScreen,
    side: usize,
    name: &str,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let answers = &screen.sides[side];
    let Some(stream) = answers.shown() else {
        return;
    };
    let focus = screen.side() == side;
    let marker = if focus {
        view.theme.pick("▸ ", "> ")
    } else {
        ""
    };
    let inner = pen::panel(
        area,
        &format!("{marker}{}", title(name, answers, stream)),
        view.theme,
        buf,
    );
    screen.wide.set(inner.width);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let tokens: Vec<&Token> = stream.all().collect();
    let apart = screen.divergence();
    let mark = apart.map(|at| (at, view.theme.pick("≠", "!")));
    let lines = flow(
        tokens.iter().map(|token| token.text.as_str()),
        width,
        view.theme.ascii,
        mark,
    );
    let of_cursor =
        |line: &Vec<super::flow::Piece>| line.iter().any(|piece| piece.token == screen.cursor);
    let cursor = lines.iter().position(of_cursor).unwrap_or(lines.len() - 1);
    let first = cells::scroll(Some(cursor), lines.len(), height, lines.len());
    for (row, line) in lines.iter().skip(first).take(height).enumerate() {
        for piece in line {
            let here = piece.token == screen.cursor;
            let style = match piece.token {
                i if i >= stream.tokens.len() => view.theme.stale(),
                _ if here && focus => view.theme.cursor(),
                i if apart == Some(i) => view.theme.warning().add_modifier(Modifier::BOLD),
                _ if here => view.theme.selected(),
                i => surprise(*view.theme, tokens[i]),
            };
            let at = Rect {
                x: inner.x + piece.x as u16,
                y: inner.y + row as u16,
                width: cells::width(&piece.text) as u16,
                height: 1,
            };
            pen::line(at.intersection(inner), 0, &piece.text, style, buf);
            hits.add(
                at.intersection(inner),
                Target::Place(side as u16, piece.token, 0),
            );
        }
    }
}

fn title(name: &str, side: &Side, stream: &Stream) -> String {
    let branch = match side.branches.len() {
        0 | 1 => String::new(),
        n => format!(", branch {} of {n}", side.current + 1),
    };
    let n = stream.tokens.len();
    let surprise = if n == 0 {
        String::new()
    } else {
        let mean = stream
            .tokens
            .iter()
            .map(|token| -token.log_prob)
            .sum::<f32>()
            / n as f32;
        format!(", mean {mean:.2}")
    };
    let end = match stream.end {
        Some(End::Stop) => ", ended",
        Some(End::Length) => ", limit",
        None => "",
    };
    format!("{name}{branch}: {n} tokens{end}{surprise}")
}

/// How a token looks by how unlikely it was.
fn surprise(theme: Theme, token: &Token) -> Style {
    let nats = -token.log_prob;
    let forced = if token.forced {
        Modifier::UNDERLINED
    } else {
        Modifier::empty()
    };
    let style = if nats < SURPRISE.0 {
        theme.text()
    } else if theme.tier == Tier::NoColour {
        Style::new().add_modifier(if nats >= 3.0 {
            Modifier::BOLD
        } else {
            Modifier::ITALIC
        })
    } else {
        theme.heat(Scale::Sequential, (nats / SURPRISE.1).min(1.0))
    };
    style.add_modifier(forced)
}

/// The token under the cursor and what else might have come.
fn token(screen: &GenerateScreen, view: &View, area: Rect, buf: &mut Buffer) {
    let ascii = view.theme.ascii;
    let inner = pen::panel(
        area,
        "token · colour and mean: −log p in nats, of the model, before temperature and top-p",
        view.theme,
        buf,
    );
    let Some(token) = screen.token() else {
        let text = if screen.running() {
            "the first token is being computed"
        } else {
            "no token here"
        };
        return pen::line(
            inner,
            0,
            &cells::fit(text, inner.width.into(), ascii),
            view.theme.dim(),
            buf,
        );
    };
    let percent = |log_prob: f32| 100.0 * f64::from(log_prob).exp();
    let by = if token.forced { ", chosen by you" } else { "" };
    let first = format!(
        "token {} {} id {}: p {:.1} %, −log p {:.2} nats{by}; b takes another",
        screen.cursor,
        cells::visible(&token.text, ascii),
        token.id,
        percent(token.log_prob),
        -token.log_prob,
    );
    let bar = |p: f64| cells::bar(p as f32, 100.0, 6, *view.theme);
    let second: Vec<String> = token
        .top
        .iter()
        .map(|other| {
            let p = percent(other.log_prob);
            format!("{} {p:.1} % {}", cells::visible(&other.text, ascii), bar(p))
        })
        .collect();
    pen::line(
        inner,
        0,
        &cells::fit(&first, inner.width.into(), ascii),
        view.theme.text(),
        buf,
    );
    pen::line(
        inner,
        1,
        &cells::fit(&second.join("  "), inner.width.into(), ascii),
        view.theme.text(),
        buf,
    );
}

#[cfg(test)]
mod tests {
    use super::super::stream::tests::token;
    use super::*;

    #[test]
    fn the_more_surprising_stands_out_more_from_the_page() {
        for (theme, page) in [(Theme::dark(), 0), (Theme::light(), 255)] {
            let apart = |log_prob: f32| {
                let token = Token {
                    log_prob,
                    ..token(1, "x")
                };
                match surprise(theme, &token).bg {
                    Some(ratatui::style::Color::Rgb(r, g, b)) => {
                        (i32::from(r) + i32::from(g) + i32::from(b) - 3 * page).abs()
                    }
                    _ => 0,
                }
            };
            assert_eq!(apart(-0.2), 0, "what was likely is plain text");
            assert!(apart(-1.5) < apart(-3.0) && apart(-3.0) < apart(-6.0));
        }
    }
}
