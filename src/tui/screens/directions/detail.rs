//! What is known of the direction under the cursor, its dose, and the prompt's refusal score: the lower pane.

use candlescope_probes::Bootstrap;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::work::{Found, Tried, short};
use super::{DirectionsScreen, Job, Place};
use crate::steer::{Candidate, Way};
use crate::tui::cells;
use crate::tui::pen;
use crate::tui::screen::View;
use crate::tui::screens::generate::dose;
use crate::tui::shared::Shared;
use crate::tui::theme::Theme;

/// A line: its name, its words, how they look.
type Fact = (&'static str, String, Style);

/// Columns of a fact's name.
const NAME: usize = 12;

/// Lines of the pane for a screen of so many.
pub(super) fn height(screen: u16) -> u16 {
    match screen {
        0..12 => screen / 2,
        12..30 => 10,
        _ => 13,
    }
}

pub(super) fn draw(
    screen: &DirectionsScreen,
    found: &Found,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
) {
    let theme = *view.theme;
    let Some(place) = screen.place(view.shared) else {
        return;
    };
    let inner = cells::panel(buf, area, &title(found, place, theme), false, theme);
    let mut y = slider(screen, view, inner, buf);
    let room = usize::from(inner.width).saturating_sub(NAME).max(8);
    for (name, text, style) in facts(screen, found, place, view) {
        let text = cells::prose(&text, theme.ascii);
        for (i, line) in pen::wrapped(&text, room).iter().enumerate() {
            if y >= inner.height {
                return;
            }
            let name = if i == 0 { name } else { "" };
            let x = cells::put(buf, inner, 0, y, &format!("{name:<NAME$}"), theme.dim());
            cells::put(buf, inner, x, y, line, style);
            y += 1;
        }
    }
}

/// The dose of the direction's chip, if it has one; gives the lines it took.
fn slider(screen: &DirectionsScreen, view: &View, area: Rect, buf: &mut Buffer) -> u16 {
    let theme = *view.theme;
    let Some(chip) = screen.chip(view.shared) else {
        return 0;
    };
    let scale = screen.scale(&chip, view.shared);
    let of = scale.as_ref().map(|(scale, _)| scale);
    let (lo, hi) = dose::ends(&chip, dose::step(&chip, of));
    let used = (NAME as u16).min(area.width);
    let track = Rect {
        x: area.x + used,
        width: (area.width - used).min(50),
        height: area.height.min(1),
        ..area
    };
    let name = match chip.steering.way {
        Way::Add { .. } => "dose, added",
        _ => "dose, taken",
    };
    cells::put(buf, area, 0, 0, name, theme.dim());
    let dose = chip.steering.dose as f32;
    cells::slider(buf, track, dose, lo as f32, hi as f32, chip.on, theme);
    if scale.is_none() {
        return 1;
    }
    let old = scale.is_some_and(|(_, old)| old);
    let text = cells::prose(&dose::explained(&chip, of, false), theme.ascii);
    let room = usize::from(area.width - used);
    let text = cells::fit(&text, room, theme.ascii);
    let style = if old { theme.stale() } else { theme.text() };
    cells::put(buf, area, used, 1, &text, style);
    2
}

fn title(found: &Found, (layer, place): Place, theme: Theme) -> String {
    let token = found
        .wheres
        .iter()
        .position(|w| *w == place)
        .and_then(|at| found.tokens.get(at))
        .filter(|token| !token.is_empty())
        .map_or(String::new(), |token| {
            format!(" {}", cells::visible(token, theme.ascii))
        });
    format!("before layer {layer}, position {}{token}", short(place))
}

fn facts(screen: &DirectionsScreen, found: &Found, place: Place, view: &View) -> Vec<Fact> {
    let theme = *view.theme;
    let mut facts = vec![score(screen, view.shared, theme)];
    if let Some(why) = &screen.pending.failed {
        let text = format!("{why}; enter or t tries again, esc puts this away");
        facts.push(("failed", text, theme.error()));
    }
    match screen.candidate(place) {
        Some(candidate) => {
            let style = match screen.pending.job {
                Some((_, Job::Find)) => theme.stale(),
                _ => theme.text(),
            };
            let effect = trial(screen, found, candidate, theme);
            let made = made(found, candidate).map(|(name, text)| (name, text, style));
            // What was measured comes first: where there are few lines the rest is known.
            if effect.len() > 1 {
                facts.extend(effect.into_iter().chain(made));
            } else {
                facts.extend(made.into_iter().chain(effect));
            }
        }
        None => {
            let same = "harmful and harmless prompts have the same mean here, as at tokens that all share before any block";
            facts.push(("direction", same.into(), theme.dim()));
        }
    }
    facts
}

/// How likely the answer to the prompt opens as refusals do.
fn score(screen: &DirectionsScreen, shared: &Shared, theme: Theme) -> Fact {
    let name = "this prompt";
    if shared.tokens.is_empty() {
        let why = shared.prompt_error.clone();
        let text = why.unwrap_or_else(|| "is empty; p in the lens writes one".into());
        return (name, text, theme.dim());
    }
    if let Some((version, why)) = &screen.pending.unanswered
        && *version == shared.version()
    {
        return (name, format!("has no refusal score: {why}"), theme.error());
    }
    let Some((live, old)) = screen.score(shared) else {
        let text = "refusal score is being computed".to_owned();
        return (name, text, theme.accent());
    };
    let words = match live.edited {
        Some(edited) => format!(
            "refusal score {:+.2} unedited, {edited:+.2} edited ({:+.2})",
            live.plain,
            edited - live.plain
        ),
        None => format!("refusal score {:+.2}, no intervention on", live.plain),
    };
    let opens = match &screen.found {
        Some(found) => format!(
            "; log odds that it opens with {}",
            found.refusal.words.join(", ")
        ),
        None => String::new(),
    };
    let style = if old { theme.stale() } else { theme.accent() };
    (name, format!("{words}{opens}"), style)
}

/// What it is made of and how it separates.
pub(super) fn made(found: &Found, candidate: &Candidate) -> [(&'static str, String); 2] {
    let direction = &candidate.direction;
    let [harmful, harmless] = found.judged;
    let reliability = direction.reliability.map_or(String::new(), |r| {
        format!(
            ", reliability {:.2} ({} split halves, to all prompts)",
            r.full, r.splits
        )
    });
    let separates = format!(
        "AUROC {:.3} on {harmful} + {harmless} other prompts (chance 0.5){reliability}",
        candidate.separation
    );
    let over = direction.negative_norm.map_or(String::new(), |norm| {
        format!(
            ", {:.3} of the harmless mean's {norm:.2}",
            direction.norm / norm
        )
    });
    let length = format!(
        "{:.3}{over}; means of {} harmful and {} harmless prompts",
        direction.norm, direction.n_pos, direction.n_neg
    );
    [("separates", separates), ("length", length)]
}

/// An estimate with its interval.
pub(super) fn estimate(of: &Bootstrap) -> String {
    match of.interval {
        Some(i) => format!("{:+.2} [{:+.2}, {:+.2}]", of.estimate, i.low, i.high),
        None => format!("{:+.2}", of.estimate),
    }
}

/// What trying it gave.
pub(super) fn tried_words(found: &Found, tried: &Tried) -> [(&'static str, String); 3] {
    let [harmful, harmless] = found.base;
    let kl = &tried.kl;
    let kl_words = kl
        .interval
        .map_or(String::new(), |i| format!(" [{:.3}, {:.3}]", i.low, i.high));
    [
        (
            "ablated",
            format!(
                "refusal score of {} harmful prompts {} (unedited {harmful:+.2}); KL of {} harmless ones {:.3} nats{kl_words}",
                tried.bypass.n,
                estimate(&tried.bypass),
                kl.n,
                kl.estimate
            ),
        ),
        (
            "added",
            format!(
                "refusal score of {} harmless prompts {} (unedited {harmless:+.2})",
                tried.induce.n,
                estimate(&tried.induce)
            ),
        ),
        (
            "admissible",
            match &tried.admissible {
                Ok(()) => "yes, by Arditi's rule: KL at most 0.1, refusal induced, in the first 80 % of the layers".into(),
                Err(why) => format!("no: {why}"),
            },
        ),
    ]
}

fn trial(
    screen: &DirectionsScreen,
    found: &Found,
    candidate: &Candidate,
    theme: Theme,
) -> Vec<Fact> {
    if let Some(tried) = screen.tried.get(&(candidate.layer, candidate.where_)) {
        let style = |name: &str| match (&tried.admissible, name) {
            (Ok(()), "admissible") => theme.good(),
            (Err(_), "admissible") => theme.warning(),
            _ => theme.text(),
        };
        let words = tried_words(found, tried);
        return words
            .into_iter()
            .map(|(name, text)| (name, text, style(name)))
            .collect();
    }
    let [harmful, harmless] = found.prompts.each_ref().map(Vec::len);
    let text = match screen.pending.job {
        Some((_, Job::Try(_))) => "not tried yet; trying goes on".to_owned(),
        _ => format!(
            "not tried yet; enter tries it on {harmful} harmful and {harmless} harmless prompts, t tries all"
        ),
    };
    vec![("effect", text, theme.dim())]
}
