//! What keys do to the probes screen, and why they sometimes do not.

use super::work::{self, Told};
use super::{ProbesScreen, wrong};
use crate::tui::screen::{Command, Context};
use crate::tui::shared::Shared;

pub(super) fn enabled(screen: &ProbesScreen, action: &str, shared: &Shared) -> Result<(), String> {
    if shared.model.facts().is_none() {
        return Err("no model is open; `:open NAME` opens one".into());
    }
    match action {
        "sweep" if screen.pending.job.is_some() => {
            return Err("probes are being fitted; esc stops that".into());
        }
        "sweep" | "lens" | "deeper" | "shallower" | "first" | "last" | "quantity"
        | "quantity_back" | "pane" => return Ok(()),
        _ if screen.swept.is_none() => {
            return Err("no probe was fitted yet; r fits them".into());
        }
        "left" | "right" | "chosen" => return Ok(()),
        _ => {}
    }
    if screen.carried {
        return Err("every layer on every other is shown; tab shows the examples".into());
    }
    let all = screen.examples(shared);
    match action {
        _ if all.is_empty() => Err("no example holds these words; esc shows all again".into()),
        "wrong" if !all.iter().any(|(score, row)| wrong(*score, row)) => {
            Err("every example that is shown is on the right side of this probe".into())
        }
        _ => Ok(()),
    }
}

pub(super) fn act(screen: &mut ProbesScreen, action: &'static str, cx: &mut Context) {
    let (layer, last) = (cx.shared.layer, cx.shared.layers() - 1);
    let columns = screen.swept.as_ref().map_or(1, |s| s.points.len().max(1));
    let column = screen.column();
    match action {
        "sweep" => sweep(screen, cx),
        "left" => screen.column = column.saturating_sub(1),
        "right" => screen.column = (column + 1).min(columns - 1),
        "deeper" => cx.shared.layer = (layer + 1).min(last),
        "shallower" => cx.shared.layer = layer.saturating_sub(1),
        "first" => cx.shared.layer = 0,
        "last" => cx.shared.layer = last,
        "quantity" => screen.quantity = screen.quantity.turned(1),
        "quantity_back" => screen.quantity = screen.quantity.turned(3),
        "pane" => screen.carried = !screen.carried,
        "next" => step(screen, cx, 1),
        "previous" => step(screen, cx, -1),
        "wrong" => next_wrong(screen, cx),
        "turn" => (screen.upwards, screen.example) = (!screen.upwards, 0),
        "chosen" => chosen(screen, cx),
        "lens" => cx.commands.push(Command::Go("lens")),
        _ => {}
    }
}

fn step(screen: &mut ProbesScreen, cx: &mut Context, by: isize) {
    let last = screen.examples(cx.shared).len().saturating_sub(1);
    screen.example = screen.example.min(last).saturating_add_signed(by).min(last);
}

fn next_wrong(screen: &mut ProbesScreen, cx: &mut Context) {
    let all = screen.examples(cx.shared);
    let from = screen.example.min(all.len().saturating_sub(1));
    let order = (from + 1..all.len()).chain(0..=from);
    let found = order.into_iter().find(|&at| wrong(all[at].0, all[at].1));
    screen.example = found.unwrap_or(from);
}

fn chosen(screen: &mut ProbesScreen, cx: &mut Context) {
    let Some(swept) = screen.swept.clone() else {
        return;
    };
    let Some(cell) = swept.cells.get(swept.chosen) else {
        return;
    };
    let column = swept.points.iter().position(|p| *p == cell.point.point);
    screen.column = column.unwrap_or(screen.column);
    cx.shared.layer = cell.point.layer.min(cx.shared.layers() - 1);
    cx.say(format!(
        "{}: the best on {} validation prompts, AUROC {:.3}",
        cell.point, swept.n[1], cell.validation
    ));
}

fn sweep(screen: &mut ProbesScreen, cx: &mut Context) {
    let (model, job) = (screen.model, screen.pending.begin(|number| number));
    cx.job("probes", move |checkpoint, ticket| {
        Ok(Told {
            model,
            job: Some(job),
            answer: work::run(checkpoint, ticket),
        })
    });
}
