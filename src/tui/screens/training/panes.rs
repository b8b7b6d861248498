//! The parts of a run: its samples, its data, its events; its curves are `curves.rs`.
//!
//! Always: what is shown by colour is also told by a form, a bracket or a number, so that it is read without colours.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::course::Course;
use super::curve;
use super::curves::{self, Piece};
use super::metrics;
use super::samples::{self, Sample, Track};
use super::view::{ROWS, split};
use super::work::Masked;
use super::{Part, TrainingScreen};
use crate::tui::cells::{self, Entry, Table, put};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::shared::ModelState;
use crate::tui::theme::{Scale, Theme};

pub(super) fn draw(
    screen: &TrainingScreen,
    run: &Course,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    match screen.part {
        Part::Curves => curves::draw(screen, run, view, area, buf, hits),
        Part::Samples => written(screen, run, view, area, buf, hits),
        Part::Data => data(screen, run, view, area, buf, hits),
        Part::Events => events(screen, run, view, area, buf, hits),
    }
}

/// Left and right parts of an area.
pub(super) fn beside(area: Rect, left: u16) -> (Rect, Rect) {
    let left = left.min(area.width);
    let right = Rect {
        x: area.x + left,
        width: area.width - left,
        ..area
    };
    (
        Rect {
            width: left,
            ..area
        },
        right,
    )
}

/// A list in a panel, its rows answering to the mouse.
pub(super) fn list(
    screen: &TrainingScreen,
    title: &str,
    table: &Table,
    (area, theme): (Rect, Theme),
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let inner = cells::panel(buf, area, title, screen.inside, theme);
    let drawn = cells::table(buf, inner, table, theme);
    for (row, at) in drawn.lines() {
        hits.add(at, Target::Place(ROWS, 0, row));
    }
}

/// The rows above or at the left of what is selected among them.
fn above(area: Rect, rows: usize) -> (Rect, Rect) {
    split(
        area,
        (rows as u16)
            .saturating_add(3)
            .min((area.height / 3).max(4)),
    )
}

fn written(
    screen: &TrainingScreen,
    run: &Course,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let samples = screen.samples(run);
    let at = screen.row(run);
    let Some(sample) = samples.get(at) else {
        let why = if run.samples.is_empty() {
            "this run has written no samples: ppo and rloo log some of their rollouts' answers at checkpoints; sft, dpo and kto answer prompts of data.eval there, where the config has such data (output.samples)"
        } else {
            "no sample holds these words; esc shows all again"
        };
        return pen::card(area, "no samples", why, view.theme, buf);
    };
    let (top, rest) = above(area, samples.len());
    let shared = samples::shared(&samples);
    let scored = samples.iter().any(|one| one.score.is_some());
    let rows: Vec<Vec<Entry>> = samples
        .iter()
        .map(|one| {
            let prompt = one.prompt.get(shared..).unwrap_or_default();
            let mut row = vec![Entry::number(one.step.to_string(), theme.text())];
            if scored {
                let score = one.score.map_or("-".to_owned(), metrics::value);
                row.push(Entry::number(score, theme.text()));
            }
            row.extend([
                Entry::new(one.label.clone(), theme.accent()),
                Entry::new(in_a_line(prompt), theme.text()),
                Entry::new(in_a_line(&one.completion), theme.dim()),
            ]);
            row
        })
        .collect();
    let headers = ["step", "score", "of", "prompt", "completion"];
    let without = ["step", "of", "prompt", "completion"];
    // Half of what is left for the prompt: what is said to it is the news.
    let half = top.width.saturating_sub(28) / 2;
    let table = Table {
        headers: if scored { &headers } else { &without },
        rows: &rows,
        widths: if scored {
            &[5, 7, 5, half]
        } else {
            &[5, 5, half]
        },
        selected: Some(at),
        offset: 0,
        focus: screen.inside,
    };
    let title = format!("samples: {}, the latest first", samples.len());
    list(screen, &title, &table, (top, theme), buf, hits);
    let score = sample
        .score
        .map_or(String::new(), |s| format!(", score {}", metrics::value(s)));
    let title = format!("after step {}{score}{}", sample.step, ending(sample));
    let lines = sample_lines(screen, sample, rest.width.saturating_sub(2).into(), theme);
    text(screen, &title, &lines, view, rest, buf);
}

/// The beginning of a text for a row of a list.
fn in_a_line(text: &str) -> String {
    let words = text.split_whitespace().take(40);
    words.collect::<Vec<_>>().join(" ")
}

/// How long a completion is, and whether that is all.
fn ending(sample: &Sample) -> String {
    let long = match sample.length {
        Some(1) => ", 1 token".to_owned(),
        Some(n) => format!(", {n} tokens"),
        None => String::new(),
    };
    let ended = match sample.ended {
        Some(true) => ", ended by itself",
        Some(false) => ", cut at the limit",
        None => "",
    };
    long + ended
}

/// The quantity that a sample's tokens are coloured by.
fn track<'a>(screen: &TrainingScreen, sample: &'a Sample) -> Option<&'a Track> {
    let count = sample.tracks.len();
    (count > 0).then(|| &sample.tracks[screen.track % count])
}

fn sample_lines(
    screen: &TrainingScreen,
    sample: &Sample,
    wide: usize,
    theme: Theme,
) -> Vec<Vec<Piece>> {
    let mut lines = Vec::new();
    let prose = |lines: &mut Vec<Vec<Piece>>, head: &str, text: &str| {
        lines.push(vec![(head.to_owned(), theme.dim())]);
        for paragraph in text.lines() {
            for line in pen::wrapped(&cells::prose(paragraph, theme.ascii), wide) {
                lines.push(vec![(line, theme.text())]);
            }
        }
    };
    prose(&mut lines, "prompt", &sample.prompt);
    let Some(track) = track(screen, sample) else {
        prose(&mut lines, "completion", &sample.completion);
        return lines;
    };
    let finite = || track.values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = finite().fold((0f64, 0f64), |(l, h), v| (l.min(v), h.max(v)));
    let scale = if low < 0.0 {
        Scale::Diverging
    } else {
        Scale::Sequential
    };
    let paint = |value: f64| theme.heat(scale, scale.place(value as f32, low as f32, high as f32));
    let more = if sample.tracks.len() > 1 {
        " (t: others)"
    } else {
        ""
    };
    let head = format!("completion, coloured by {}{more}:", track.name);
    lines.push(vec![
        (head, theme.dim()),
        (format!(" {} ", metrics::value(low)), paint(low)),
        ("to".to_owned(), theme.dim()),
        (format!(" {} ", metrics::value(high)), paint(high)),
    ]);
    let tokens = sample.tokens.iter().zip(&track.values);
    let pieces = tokens.map(|(token, value)| (cells::visible(token, theme.ascii), paint(*value)));
    lines.extend(flowed(pieces, wide));
    let mut order: Vec<usize> = (0..track.values.len()).collect();
    order.retain(|&i| track.values[i].is_finite());
    order.sort_by(|&a, &b| track.values[b].abs().total_cmp(&track.values[a].abs()));
    let largest: Vec<String> = order
        .iter()
        .take(5)
        .map(|&i| {
            let token = cells::visible(&sample.tokens[i], theme.ascii);
            format!("{token} {} (token {i})", metrics::value(track.values[i]))
        })
        .collect();
    prose(&mut lines, "furthest from zero", &largest.join(", "));
    lines
}

/// Tokens one after the other over lines of a width.
fn flowed(pieces: impl Iterator<Item = Piece>, wide: usize) -> Vec<Vec<Piece>> {
    let mut lines: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut used = 0;
    for (text, style) in pieces {
        let width = cells::width(&text);
        if used > 0 && used + width > wide {
            lines.push(Vec::new());
            used = 0;
        }
        used += width;
        if let Some(line) = lines.last_mut() {
            line.push((text, style));
        }
    }
    lines
}

/// Lines of pieces in a panel, as far down as was scrolled.
fn text(
    screen: &TrainingScreen,
    title: &str,
    lines: &[Vec<Piece>],
    view: &View,
    area: Rect,
    buf: &mut Buffer,
) {
    let (inner, shown, most) = pen::scrolled(
        area,
        (title, lines.len()),
        (screen.scroll, " (ctrl-d: more)"),
        view.theme,
        buf,
    );
    screen.most.set(most);
    for (row, line) in lines[shown].iter().enumerate() {
        let mut at = 0;
        for (text, style) in line {
            at = put(buf, inner, at, row as u16, text, *style);
        }
    }
}

fn data(
    screen: &TrainingScreen,
    run: &Course,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let masked = match (screen.masked(run), &view.shared.model) {
        (Some(Ok(rows)), _) => rows,
        (Some(Err(why)), _) => {
            return pen::card(area, "the data cannot be shown", why, view.theme, buf);
        }
        (None, ModelState::Ready(_) | ModelState::Loading { .. }) => {
            return pen::card(area, "data", "reading the first rows", view.theme, buf);
        }
        (None, _) => {
            let why = format!(
                "the tokens of the data need the run's model for its tokenizer: O opens {}",
                run.model
            );
            return pen::card(area, "no model is open", &why, view.theme, buf);
        }
    };
    let at = screen.row(run);
    let Some(row) = masked.get(at) else {
        return pen::card(area, "data", "the file has no rows", view.theme, buf);
    };
    let (top, rest) = above(area, masked.len());
    let from = alike(masked);
    let rows = masked.iter().map(|row| masked_entry(row, from, theme));
    let rows: Vec<Vec<Entry>> = rows.collect();
    let table = Table {
        headers: &["tokens", "targets", "row", "begins"],
        rows: &rows,
        widths: &[],
        selected: Some(at),
        offset: 0,
        focus: screen.inside,
    };
    let title = format!("the first {} rows of the training data", masked.len());
    list(screen, &title, &table, (top, theme), buf, hits);
    let lines = match &row.tokens {
        Ok(tokens) => flowed(brackets(tokens, theme), rest.width.saturating_sub(2).into()),
        Err(why) => pen::wrapped(
            &cells::prose(why, theme.ascii),
            rest.width.saturating_sub(2).into(),
        )
        .into_iter()
        .map(|line| vec![(line, theme.error())])
        .collect(),
    };
    let title = format!(
        "{}: targets of the loss stand in [brackets], underlined",
        row.place
    );
    text(screen, &title, &lines, view, rest, buf);
}

/// Tokens that all rows begin with: what a chat template says before each of them. None where a row would have no other.
fn alike(rows: &[Masked]) -> usize {
    let mut rows = rows.iter().filter_map(|row| row.tokens.as_ref().ok());
    let Some(first) = rows.next() else { return 0 };
    let same = |row: &Vec<(String, bool)>| {
        let pairs = first.iter().zip(row);
        pairs.take_while(|(a, b)| a.0 == b.0).count()
    };
    let shortest = |row: &Vec<(String, bool)>| if same(row) < row.len() { same(row) } else { 0 };
    rows.map(shortest).min().unwrap_or(0)
}

/// A row of the list; its beginning is told from token `from` on.
fn masked_entry(row: &Masked, from: usize, theme: Theme) -> Vec<Entry> {
    let (tokens, targets, begins) = match &row.tokens {
        Ok(tokens) => {
            let begins: String = tokens
                .iter()
                .skip(from)
                .take(40)
                .map(|(token, _)| cells::visible(token, theme.ascii))
                .collect();
            let begins = match from {
                0 => begins,
                _ => format!("{}{begins}", theme.pick("…", "...")),
            };
            let targets = tokens.iter().filter(|(_, target)| *target).count();
            (
                tokens.len().to_string(),
                targets.to_string(),
                Entry::new(begins, theme.dim()),
            )
        }
        Err(why) => (
            "-".to_owned(),
            "-".to_owned(),
            Entry::new(why.clone(), theme.error()),
        ),
    };
    vec![
        Entry::number(tokens, theme.text()),
        Entry::number(targets, theme.text()),
        Entry::new(row.place.clone(), theme.text()),
        begins,
    ]
}

/// Tokens with a bracket where targets begin and one where they end.
fn brackets(tokens: &[(String, bool)], theme: Theme) -> impl Iterator<Item = Piece> {
    let target = theme.accent().add_modifier(Modifier::UNDERLINED);
    (0..tokens.len()).flat_map(move |i| {
        let (token, is) = &tokens[i];
        let style = if *is { target } else { theme.dim() };
        let begins = *is && (i == 0 || !tokens[i - 1].1);
        let ends = *is && tokens.get(i + 1).is_none_or(|next| !next.1);
        let text = format!(
            "{}{}{}",
            if begins { "[" } else { "" },
            cells::visible(token, theme.ascii),
            if ends { "]" } else { "" }
        );
        std::iter::once((text, style))
    })
}

fn events(
    screen: &TrainingScreen,
    run: &Course,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let events = screen.events(run);
    let Some(mark) = events.get(screen.row(run)) else {
        let why = if run.marks.is_empty() {
            "no alert, no checkpoint and no end so far"
        } else {
            "no event holds these words; esc shows all again"
        };
        return pen::card(area, "no events", why, view.theme, buf);
    };
    let (top, rest) = split(area, area.height.saturating_sub(5));
    let rows: Vec<Vec<Entry>> = events
        .iter()
        .map(|mark| {
            let (sign, word, style) =
                curve::sign(mark.kind, theme).unwrap_or(("", "", theme.text()));
            vec![
                Entry::number(mark.step.to_string(), theme.text()),
                Entry::new(format!("{sign} {word}"), style),
                Entry::new(mark.words.clone(), theme.text()),
            ]
        })
        .collect();
    let table = Table {
        headers: &["step", "what", "words"],
        rows: &rows,
        widths: &[],
        selected: Some(screen.row(run)),
        offset: 0,
        focus: screen.inside,
    };
    let title = format!(
        "events: {}, the latest first; alerts: {}",
        events.len(),
        run.alerts()
    );
    list(screen, &title, &table, (top, theme), buf, hits);
    let wide = usize::from(rest.width.saturating_sub(2));
    let lines: Vec<Vec<Piece>> = pen::wrapped(&cells::prose(&mark.words, theme.ascii), wide)
        .into_iter()
        .map(|line| vec![(line, theme.text())])
        .collect();
    text(
        screen,
        &format!("step {}", mark.step),
        &lines,
        view,
        rest,
        buf,
    );
}
