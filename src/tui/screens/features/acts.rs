//! What keys do to the features screen, and why they sometimes do not.

use super::commands;
use super::rows::Scope;
use super::{FeaturesScreen, Shows, live, page, turn};
use crate::features::Change;
use crate::tui::field::Field;
use crate::tui::screen::{Command, Context};
use crate::tui::shared::Shared;

const NONE: &str = "no dictionary is open; `:sae PATH` opens one";

pub(super) fn enabled(
    screen: &FeaturesScreen,
    action: &str,
    shared: &Shared,
) -> Result<(), String> {
    if shared.model.facts().is_none() {
        return Err("no model is open; `:open NAME` opens one".into());
    }
    if action == "answers" {
        return Ok(());
    }
    if screen.open.is_none() {
        return Err(NONE.into());
    }
    if action == "oscilloscope" {
        return match screen.pending.job {
            Some(_) => Err("it waits for the record that is made; esc stops that".into()),
            None => Ok(()),
        };
    }
    let paged = !screen.page.is_empty();
    match action {
        "left" | "right" | "shows" | "records" | "sort" => return Ok(()),
        "scope" | "up" | "down" | "far_up" | "far_down" | "first" | "last" if paged => {
            return Ok(());
        }
        "scope" => return Ok(()),
        _ => {}
    }
    let Some(latent) = screen.chosen() else {
        return Err(nothing(screen));
    };
    match action {
        "page" if paged && screen.other.is_none() => {
            Err("no other latent is chosen; tab chooses one".into())
        }
        "next" | "previous" if !paged && screen.total(latent).is_none() => Err(format!(
            "latent {latent} fires on no token of the prompt that counts"
        )),
        "leave" if turn::change(screen, latent).is_none() => Err(format!(
            "latent {latent} is as it was; a silences it, . turns it up"
        )),
        "label" if screen.labels.is_none() => {
            Err(screen.wrong.first().cloned().unwrap_or_default())
        }
        _ => Ok(()),
    }
}

/// Why no latent is listed.
pub(super) fn nothing(screen: &FeaturesScreen) -> String {
    match (screen.filter.is_empty(), screen.scope) {
        (false, Scope::Known) => "no latent that is known holds these words; esc shows all",
        (false, _) => "no latent here holds these words; tab looks among others, esc shows all",
        (true, Scope::Token) => "no latent fires on this token",
        (true, _) => "no latent fires on this prompt; `:latent N` goes to one",
    }
    .into()
}

pub(super) fn act(screen: &mut FeaturesScreen, action: &'static str, cx: &mut Context) {
    if !screen.page.is_empty() && on_page(screen, action) {
        return;
    }
    let last = cx.shared.tokens.len().saturating_sub(1);
    let at = cx.shared.position.min(last);
    match action {
        "left" => cx.shared.position = at.saturating_sub(1),
        "right" => cx.shared.position = (at + 1).min(last),
        "up" => step(screen, -1),
        "down" => step(screen, 1),
        "far_up" => step(screen, -10),
        "far_down" => step(screen, 10),
        "first" => step(screen, isize::MIN),
        "last" => step(screen, isize::MAX),
        "scope" => screen.scope = screen.scope.next(),
        "sort" => {
            let next = screen.sort().next();
            screen.sorts.0[screen.scope as usize] = next;
        }
        "shows" => {
            screen.shows = match screen.shows {
                Shows::Labels => Shows::Values,
                Shows::Values => Shows::Labels,
            }
        }
        "records" => commands::look_again(screen, cx),
        "oscilloscope" => live::open(screen, cx),
        "answers" => cx.commands.push(Command::Go("generate")),
        _ => on_latent(screen, action, cx),
    }
}

/// What is about the chosen latent.
fn on_latent(screen: &mut FeaturesScreen, action: &'static str, cx: &mut Context) {
    let Some(latent) = screen.chosen() else {
        return;
    };
    let strength = turn::strength(screen, latent);
    match action {
        "page" => open_page(screen, latent),
        "next" => fires(screen, latent, cx, true),
        "previous" => fires(screen, latent, cx, false),
        "ablate" => turn::toggle(screen, latent, Change::Set(0.0), cx),
        "add" => turn::toggle(screen, latent, Change::Add(strength), cx),
        "clamp" => turn::toggle(screen, latent, Change::Set(strength), cx),
        "less" => turn::step(screen, latent, -1.0, cx),
        "more" => turn::step(screen, latent, 1.0, cx),
        "much_less" => turn::step(screen, latent, -5.0, cx),
        "much_more" => turn::step(screen, latent, 5.0, cx),
        "leave" => {
            turn::set(screen, latent, None, cx);
        }
        "label" => {
            let mut field = Field::single();
            let own = screen.labels.as_ref().and_then(|labels| labels.of(latent));
            // A label is never longer than a field.
            let _ = field.set(own.unwrap_or_default());
            screen.writing = Some((latent, field));
        }
        _ => {}
    }
}

/// What keys do on a page alone; false for those that do there what they do everywhere.
fn on_page(screen: &mut FeaturesScreen, action: &'static str) -> bool {
    let at = screen.scroll.min(screen.most.get());
    let to = match action {
        "up" => at.saturating_sub(1),
        "down" => at + 1,
        "far_up" => at.saturating_sub(10),
        "far_down" => at + 10,
        "first" => 0,
        "last" => usize::MAX,
        "scope" => {
            let others = page::others(screen);
            let next = screen.other.and_then(|other| {
                let at = others.iter().position(|one| *one == other)?;
                others.get(at + 1)
            });
            screen.other = next.or(others.first()).copied();
            return true;
        }
        "page" => {
            if let Some(other) = screen.other {
                open_page(screen, other);
            }
            return true;
        }
        "next" | "previous" => {
            // The page of the next latent takes the place of this one.
            let by = if action == "next" { 1 } else { -1 };
            let shown = screen.page.pop();
            screen.latent = shown.or(screen.latent);
            screen.page.clear();
            step(screen, by);
            screen.page.extend(screen.latent);
            (screen.scroll, screen.other) = (0, None);
            return true;
        }
        _ => return false,
    };
    screen.scroll = to.min(screen.most.get());
    true
}

/// Shows the page of a latent; Esc leads back to where one came from.
pub(super) fn open_page(screen: &mut FeaturesScreen, latent: usize) {
    if screen.page.is_empty() {
        screen.latent = Some(latent);
    }
    screen.page.push(latent);
    (screen.scroll, screen.other) = (0, None);
}

fn step(screen: &mut FeaturesScreen, by: isize) {
    let rows = screen.rows();
    if let Some(at) = screen.row() {
        let to = at.saturating_add_signed(by).min(rows.len() - 1);
        screen.latent = Some(rows[to].latent);
    }
}

/// Goes to the next token of the prompt on which a latent fires, round at the ends.
fn fires(screen: &mut FeaturesScreen, latent: usize, cx: &mut Context, forth: bool) {
    let at = screen.position(cx.shared);
    // From the token on, it is this latent that is looked at.
    screen.latent = Some(latent);
    let Some(places) = screen.total(latent).map(|total| &total.places) else {
        return;
    };
    let found = if forth {
        places.iter().find(|place| **place > at).or(places.first())
    } else {
        let before = places.iter().rev().find(|place| **place < at);
        before.or(places.last())
    };
    cx.shared.position = found.copied().unwrap_or(at);
}
