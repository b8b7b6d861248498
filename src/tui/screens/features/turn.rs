//! Latents turned: one chip for each dictionary, whose option is [`Turning`] as the command line takes it.
//!
//! Always: label, option and edits of the chip say the same; a latent has one edit at most; a run of steps is one change to
//! undo.

use super::FeaturesScreen;
use crate::features::{Change, LatentEdit, Turning, turned};
use crate::tui::screen::Context;
use crate::tui::screens::generate::dose;
use crate::tui::shared::{Intervention, Shared};

/// The option of the command line.
pub(super) const OPTION: &str = "--latents";

/// The chip of the open dictionary: its place, its edits, and whether it is on.
pub(super) fn chip(screen: &FeaturesScreen, shared: &Shared) -> Option<(usize, Turning, bool)> {
    let open = screen.open.as_ref()?;
    let ours = open.ask.path.display().to_string();
    let mut chips = shared.interventions.iter().enumerate();
    chips.find_map(|(index, chip)| {
        let [option, text] = chip.options.as_slice() else {
            return None;
        };
        let turning: Turning = (option == OPTION).then(|| text.parse().ok())??;
        (turning.dictionary == ours).then_some((index, turning, chip.on))
    })
}

/// The edits that are applied now.
pub(super) fn applied(screen: &FeaturesScreen, shared: &Shared) -> Vec<LatentEdit> {
    let chip = chip(screen, shared).filter(|(.., on)| *on);
    chip.map_or_else(Vec::new, |(_, turning, _)| turning.edits)
}

/// What is done to a latent, if anything.
pub(super) fn change(screen: &FeaturesScreen, latent: usize) -> Option<Change> {
    let mut edits = screen.turned.iter();
    edits
        .find(|edit| edit.latent == latent)
        .map(|edit| edit.change)
}

/// A latent's change in words.
pub(super) fn words(change: Change) -> String {
    match change {
        Change::Set(0.0) => "silenced".to_owned(),
        Change::Set(to) => format!("held at {to}"),
        Change::Scale(factor) => format!("times {factor}"),
        Change::Add(amount) => format!("{amount:+}"),
        Change::Clamp(low, high) => format!("held between {low} and {high}"),
    }
}

/// About how strongly a latent fires when it does: the largest value of its record, else of the prompt, else of any latent
/// of the prompt; above 0. For a latent that is turned, as it was before.
pub(super) fn strength(screen: &FeaturesScreen, latent: usize) -> f32 {
    if let Some(before) = screen.strengths.get(&latent) {
        return *before;
    }
    let record = screen.records.of(latent).map(|known| known.latent.max);
    let here = screen.total(latent).map(|total| total.max);
    let any = screen.reading.as_ref().map(|reading| reading.most);
    let known = [record, here, any].into_iter().flatten();
    let mut known = known.filter(|value| value.is_finite() && *value > 0.0);
    round(known.next().unwrap_or(1.0))
}

/// To two digits, so that it reads well in the chip and on the command line.
fn round(value: f32) -> f32 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

/// Does this to a latent, or takes it away where it is done already.
pub(super) fn toggle(screen: &mut FeaturesScreen, latent: usize, to: Change, cx: &mut Context) {
    let before = change(screen, latent);
    let same = before.is_some_and(|before| {
        let kind = |change: Change| match change {
            Change::Set(0.0) => 0,
            Change::Set(_) => 1,
            Change::Scale(_) => 2,
            Change::Add(_) => 3,
            Change::Clamp(..) => 4,
        };
        kind(before) == kind(to)
    });
    let to = (!same).then_some(to);
    if set(screen, latent, to, cx) && to.is_some() {
        cx.say("`,` and `.` turn it; o shows the answers with it and without");
    }
}

/// Some steps up or down from what is done to it now; from nothing an amount is added.
pub(super) fn step(screen: &mut FeaturesScreen, latent: usize, steps: f64, cx: &mut Context) {
    let step = dose::round(f64::from(strength(screen, latent)) / 10.0);
    let moved = |x: f32| dose::moved(f64::from(x), step, steps) as f32;
    let to = match change(screen, latent).unwrap_or(Change::Add(0.0)) {
        Change::Set(to) => Change::Set(moved(to)),
        Change::Scale(factor) => Change::Scale(dose::moved(f64::from(factor), 0.1, steps) as f32),
        Change::Add(amount) => Change::Add(moved(amount)),
        Change::Clamp(low, high) => Change::Clamp(low, moved(high).max(low)),
    };
    // What adds nothing is nothing.
    let to = (to != Change::Add(0.0)).then_some(to);
    if screen.stepped == Some(cx.shared.version()) {
        cx.shared.undo();
    }
    if set(screen, latent, to, cx) {
        screen.stepped = Some(cx.shared.version());
    }
}

/// Puts the change of a latent into the chip, which comes and goes with its first and last; false if it cannot be made.
pub(super) fn set(
    screen: &mut FeaturesScreen,
    latent: usize,
    to: Option<Change>,
    cx: &mut Context,
) -> bool {
    let Some(open) = screen.open.clone() else {
        return false;
    };
    let strength = strength(screen, latent);
    screen.strengths.entry(latent).or_insert(strength);
    let before = chip(screen, cx.shared);
    let mut edits = (before.as_ref()).map_or_else(Vec::new, |(_, t, _)| t.edits.clone());
    match (edits.iter_mut().find(|edit| edit.latent == latent), to) {
        (Some(edit), Some(change)) => edit.change = change,
        (None, Some(change)) => edits.push(LatentEdit { latent, change }),
        (Some(_), None) => edits.retain(|edit| edit.latent != latent),
        (None, None) if before.is_none() => return true,
        (None, None) => {}
    }
    let made = match turned(&open.splice, &edits) {
        Ok(made) => made,
        Err(why) => {
            cx.say(why.to_string());
            return false;
        }
    };
    let turning = Turning {
        dictionary: open.ask.path.display().to_string(),
        edits,
    };
    let chip = Intervention {
        label: label(&turning),
        options: vec![OPTION.to_owned(), turning.to_string()],
        edits: made,
        on: true,
    };
    cx.shared
        .intervene(|chips| match (before, turning.edits.is_empty()) {
            (Some((at, ..)), true) => {
                chips.remove(at);
            }
            (Some((at, ..)), false) => chips[at] = chip,
            (None, true) => {}
            (None, false) => chips.push(chip),
        });
    screen.turned = applied(screen, cx.shared);
    true
}

/// The chip's words: `⊙ 4211+12, 77=0`.
fn label(turning: &Turning) -> String {
    let edits: Vec<String> = turning.edits.iter().map(ToString::to_string).collect();
    format!("⊙ {}", edits.join(", "))
}
