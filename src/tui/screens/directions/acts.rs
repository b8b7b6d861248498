//! What keys and commands do to the directions screen, and why they sometimes do not.
//!
//! Always: a run of steps on one chip is one change to undo; a key that needs a direction says where there is none.

use super::work::{self, Place, Told, short};
use super::{DirectionsScreen, Job, source};
use crate::steer::{Candidate, Steering, Way};
use crate::tui::screen::{Command, Context};
use crate::tui::screens::generate::dose::{self, Dosed};
use crate::tui::shared::{Intervention, Shared};

const UNREAD: &str = "nothing was read yet; r makes the directions";

pub(super) fn enabled(
    screen: &DirectionsScreen,
    action: &str,
    shared: &Shared,
) -> Result<(), String> {
    if shared.model.facts().is_none() {
        return Err("no model is open; `:open NAME` opens one".into());
    }
    match action {
        "read" | "try" | "try_all" if screen.pending.job.is_some() => {
            return Err("directions are being worked on; esc stops that".into());
        }
        "generate" | "read" | "deeper" | "shallower" | "first" | "last" | "quantity"
        | "quantity_back" => return Ok(()),
        _ if screen.found.is_none() => return Err(UNREAD.into()),
        "left" | "right" | "chosen" => return Ok(()),
        _ => {}
    }
    if action == "try_all" {
        return if waiting(screen).is_empty() {
            Err("all were tried; r begins anew".into())
        } else {
            Ok(())
        };
    }
    if screen.here(shared).is_none() {
        return Err(
            "harmful and harmless prompts have the same mean here: there is no direction".into(),
        );
    }
    match action {
        "less" | "more" | "much_less" | "much_more" | "zero" if screen.chip(shared).is_none() => {
            Err("this direction is no intervention; a ablates it, A adds it".into())
        }
        _ => Ok(()),
    }
}

/// Candidates that were not tried yet, the best separating first.
fn waiting(screen: &DirectionsScreen) -> Vec<Candidate> {
    let Some(found) = &screen.found else {
        return Vec::new();
    };
    let all = found.candidates.iter();
    let untried = all.filter(|c| !screen.tried.contains_key(&(c.layer, c.where_)));
    let mut waiting: Vec<Candidate> = untried.cloned().collect();
    waiting.sort_by(|a, b| b.separation.total_cmp(&a.separation));
    waiting
}

pub(super) fn act(screen: &mut DirectionsScreen, action: &'static str, cx: &mut Context) {
    let (layer, last) = (cx.shared.layer, cx.shared.layers() - 1);
    let columns = screen.found.as_ref().map_or(1, |f| f.wheres.len().max(1));
    match action {
        "read" => read(screen, cx),
        "left" => screen.column = screen.column.min(columns - 1).saturating_sub(1),
        "right" => screen.column = (screen.column + 1).min(columns - 1),
        "deeper" => cx.shared.layer = (layer + 1).min(last),
        "shallower" => cx.shared.layer = layer.saturating_sub(1),
        "first" => cx.shared.layer = 0,
        "last" => cx.shared.layer = last,
        "try" => {
            let here: Vec<Candidate> = screen.here(cx.shared).cloned().into_iter().collect();
            try_these(screen, here, cx);
        }
        "try_all" => try_these(screen, waiting(screen), cx),
        "quantity" => screen.quantity = screen.quantity.turned(1),
        "quantity_back" => screen.quantity = screen.quantity.turned(5),
        "ablate" => toggle(screen, cx, Way::Ablate { layers: "*".into() }),
        "add" => toggle(screen, cx, Way::Add { layer }),
        "less" => turn(screen, cx, -1.0),
        "more" => turn(screen, cx, 1.0),
        "much_less" => turn(screen, cx, -5.0),
        "much_more" => turn(screen, cx, 5.0),
        "zero" => {
            if let Some(chip) = screen.chip(cx.shared) {
                let dose = if chip.steering.dose == 0.0 { 1.0 } else { 0.0 };
                set_dose(screen, cx, &chip, dose);
            }
        }
        "generate" => cx.commands.push(Command::Go("generate")),
        "pin" => {
            let here = screen.place(cx.shared);
            screen.pinned = if screen.pinned == here { None } else { here };
        }
        "chosen" => choose(screen, cx),
        _ => {}
    }
}

fn choose(screen: &mut DirectionsScreen, cx: &mut Context) {
    let chosen = screen.admissible();
    let Some(place) = chosen.or_else(|| screen.separating()) else {
        return cx.say("no place has a direction");
    };
    go(screen, place, cx.shared);
    let why = match (chosen, screen.tried.len()) {
        (Some(_), n) => {
            format!("chosen among {n} tried: the lowest refusal score of those that may be")
        }
        (None, 0) => "separates best; which of them refusal hangs on, t finds out".to_owned(),
        (None, n) => format!("separates best; none of the {n} tried may be chosen"),
    };
    cx.say(format!(
        "layer {}, position {}: {why}",
        place.0,
        short(place.1)
    ));
}

fn go(screen: &mut DirectionsScreen, place: Place, shared: &mut Shared) {
    let column = (screen.found.as_ref()).and_then(|f| f.wheres.iter().position(|w| *w == place.1));
    screen.column = column.unwrap_or(screen.column);
    shared.layer = place.0.min(shared.layers() - 1);
}

fn read(screen: &mut DirectionsScreen, cx: &mut Context) {
    let (model, job) = (
        screen.model,
        screen.pending.begin(|number| (number, Job::Find)),
    );
    cx.job("directions", move |checkpoint, ticket| {
        Ok(Told {
            model,
            job: Some(job),
            answer: work::find(checkpoint, ticket),
        })
    });
}

fn try_these(screen: &mut DirectionsScreen, which: Vec<Candidate>, cx: &mut Context) {
    let Some(found) = screen.found.clone() else {
        return;
    };
    if !screen.quantity.tried() {
        // The map shows what is being measured.
        screen.quantity = super::Quantity::Bypass;
    }
    let (model, job) = (
        screen.model,
        screen
            .pending
            .begin(|number| (number, Job::Try(which.len()))),
    );
    cx.job("trying directions", move |checkpoint, ticket| {
        Ok(Told {
            model,
            job: Some(job),
            answer: work::try_all(checkpoint, ticket, (model, job), &found, &which),
        })
    });
}

/// Adds the chip of the direction under the cursor, or takes it away.
fn toggle(screen: &mut DirectionsScreen, cx: &mut Context, way: Way) {
    let (Some(place), Some(candidate)) = (screen.place(cx.shared), screen.here(cx.shared)) else {
        return;
    };
    let steering = Steering {
        source: source(place),
        way,
        dose: 1.0,
    };
    let same = |chip: &Dosed| {
        (&chip.steering.source, &chip.steering.way) == (&steering.source, &steering.way)
    };
    if let Some(chip) = dose::dosed(cx.shared).into_iter().find(same) {
        cx.shared.intervene(|chips| {
            chips.remove(chip.index);
        });
        return;
    }
    let Some(config) = cx.shared.model.facts().map(|facts| facts.config.clone()) else {
        return;
    };
    let edits = match steering.edits(&candidate.scaled(), &config) {
        Ok(edits) => edits,
        Err(why) => return cx.say(why.to_string()),
    };
    cx.shared.intervene(|chips| {
        chips.push(Intervention {
            label: dose::label(&steering),
            options: steering.option().into(),
            edits,
            on: true,
        });
    });
    cx.say("`,` and `.` turn its dose; o shows the answers with it and without");
}

fn turn(screen: &mut DirectionsScreen, cx: &mut Context, steps: f64) {
    if let Some(chip) = screen.chip(cx.shared) {
        let scale = screen.scale(&chip, cx.shared).map(|(scale, _)| scale);
        let step = dose::step(&chip, scale.as_ref());
        let dose = dose::moved(chip.steering.dose, step, steps);
        set_dose(screen, cx, &chip, dose);
    }
}

fn set_dose(screen: &mut DirectionsScreen, cx: &mut Context, chip: &Dosed, dose: f64) {
    if screen.stepped == Some(cx.shared.version()) {
        cx.shared.undo();
    }
    cx.shared.intervene(|chips| {
        if let Some(at) = chips.get_mut(chip.index) {
            *at = dose::with_dose(at, &chip.steering, dose);
        }
    });
    screen.stepped = Some(cx.shared.version());
}

pub(super) fn command(
    screen: &mut DirectionsScreen,
    words: &[&str],
    cx: &mut Context,
) -> Option<Result<(), String>> {
    let ["direction", layer, position] = words else {
        return None;
    };
    let Some(found) = screen.found.clone() else {
        return Some(Err(UNREAD.into()));
    };
    let wanted = found.wheres.iter().find(|w| short(**w) == *position);
    let layer = layer.parse().ok().filter(|&l: &usize| l < found.n_layers);
    Some(match (layer, wanted) {
        (Some(layer), Some(place)) => {
            go(screen, (layer, *place), cx.shared);
            Ok(())
        }
        _ => {
            let all: Vec<String> = found.wheres.iter().map(|w| short(*w)).collect();
            let last = found.n_layers - 1;
            Err(format!(
                "direction: expected a layer up to {last} and one of {}",
                all.join(", ")
            ))
        }
    })
}

impl Job {
    /// What it does.
    pub(super) fn words(self) -> String {
        match self {
            Self::Find => "reading the stream of harmful and harmless prompts".to_owned(),
            Self::Try(1) => "trying one direction".to_owned(),
            Self::Try(n) => format!("trying {n} directions"),
        }
    }
}
