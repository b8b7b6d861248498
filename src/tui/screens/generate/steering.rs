//! Interventions from this screen: directions are made as jobs, chips added, doses turned.
//!
//! Always: a chip is added only when its vector is there and fits; a run of steps on a dose is one change to undo.

use super::dose::{self, Dosed};
use super::stream::EDITED;
use super::{GenerateScreen, Made, Measured, Report};
use crate::model::Checkpoint;
use crate::steer::{Options, Source, Steering, StreamScale, Way, stream_scale};
use crate::tui::screen::Context;
use crate::tui::shared::{Intervention, Shared};
use crate::tui::work::Ticket;

/// The chip that has the dose keys.
pub(super) fn chosen(screen: &GenerateScreen, shared: &Shared) -> Option<Dosed> {
    let mut chips = dose::dosed(shared);
    (!chips.is_empty()).then(|| chips.swap_remove(screen.chip.min(chips.len() - 1)))
}

/// What a vector was measured under: its source and the layer.
pub(super) fn measured(steering: &Steering) -> String {
    match &steering.way {
        Way::Ablate { .. } => format!("-{}", steering.source),
        Way::Add { layer } => format!("+{}@{layer}", steering.source),
        Way::Form { form, .. } => format!("{} {}", form.name(), steering.source),
    }
}

pub(super) fn turn(screen: &mut GenerateScreen, cx: &mut Context, steps: f64) {
    if let Some(chip) = chosen(screen, cx.shared) {
        let scale = scale(screen, &chip.steering);
        let step = dose::step(&chip, scale);
        let dose = dose::moved(chip.steering.dose, step, steps);
        set_dose(screen, cx, &chip, dose);
    }
}

pub(super) fn set_dose(screen: &mut GenerateScreen, cx: &mut Context, chip: &Dosed, dose: f64) {
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

/// Has a direction made, or takes it from before.
pub(super) fn make(screen: &mut GenerateScreen, cx: &mut Context, steering: Steering) {
    if let Some(measured) = screen.made.get(&measured(&steering)).cloned() {
        return intervene(screen, cx, Made { steering, measured });
    }
    let what = format!("direction {}", steering.source);
    screen.making = Some(what.clone());
    let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
    let layer = layer(&steering, cx.shared);
    cx.job(&what, move |checkpoint, ticket| {
        Ok(Report::Direction(direction(
            steering, layer, ids, checkpoint, ticket,
        )))
    });
}

/// Where it is measured: an ablation where it was read, or else at the layer that is looked at.
fn layer(steering: &Steering, shared: &Shared) -> usize {
    match (&steering.way, &steering.source) {
        (Way::Add { layer }, _) | (Way::Ablate { .. }, Source::Contrast { layer, .. }) => *layer,
        _ => shared.layer,
    }
}

/// What a chip's vector was measured against.
pub(super) fn scale<'a>(
    screen: &'a GenerateScreen,
    steering: &Steering,
) -> Option<&'a StreamScale> {
    screen.made.get(&measured(steering)).map(|made| &made.scale)
}

/// Whether that was the stream of another prompt than the one that is read now.
pub(super) fn stale(screen: &GenerateScreen, steering: &Steering, shared: &Shared) -> bool {
    let now = || shared.tokens.iter().map(|token| token.id);
    screen
        .made
        .get(&measured(steering))
        .is_some_and(|made| !made.ids.iter().copied().eq(now()))
}

/// Has the vectors of all chips measured against the prompt that is read now, where they are not yet.
pub(super) fn measure_again(screen: &mut GenerateScreen, cx: &mut Context) {
    for chip in dose::dosed(cx.shared) {
        let key = measured(&chip.steering);
        // A chip from another screen was not measured at all.
        let known = screen.made.get(&key).map(|made| made.scale.layer);
        let fits = known.is_some() && !stale(screen, &chip.steering, cx.shared);
        if fits || !screen.measuring.insert(key.clone()) {
            continue;
        }
        let layer = known.unwrap_or_else(|| layer(&chip.steering, cx.shared));
        let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
        let vector = chip.vector.clone();
        cx.job("dose scale", move |checkpoint, _| {
            let scale = stream_scale(&checkpoint.decoder, &ids, layer, &vector);
            let measured = scale.map(|scale| Measured { vector, scale, ids });
            Ok(Report::Scale(
                key,
                measured.map_err(|error| error.to_string()),
            ))
        });
    }
}

fn direction(
    steering: Steering,
    layer: usize,
    ids: Vec<u32>,
    checkpoint: &Checkpoint,
    ticket: &Ticket,
) -> Result<Box<Made>, String> {
    let progress = |done: usize, total: usize| {
        ticket.progress(
            done as f64 / total.max(1) as f64,
            &format!("{done} of {total} prompts"),
        );
    };
    let options = Options {
        progress: Some(&progress),
        cancel: Some(ticket.cancel().flag()),
        ..Options::default()
    };
    let made = || {
        let vector = steering.source.load(checkpoint, false, &options)?;
        let scale = stream_scale(&checkpoint.decoder, &ids, layer, &vector)?;
        // Refuses a layer that the model lacks before there is a chip.
        steering.edits(&vector, checkpoint.config())?;
        Ok((vector, scale))
    };
    let (vector, scale) = made()
        .map_err(|error: crate::steer::SteerError| format!("{}: {error}", steering.source))?;
    Ok(Box::new(Made {
        steering,
        measured: Measured { vector, scale, ids },
    }))
}

pub(super) fn intervene(screen: &mut GenerateScreen, cx: &mut Context, made: Made) {
    let Made {
        steering,
        measured: made,
    } = made;
    let config = cx.shared.model.facts().map(|facts| facts.config.clone());
    let edits = match config.map(|config| steering.edits(&made.vector, &config)) {
        Some(Ok(edits)) => edits,
        Some(Err(why)) => return cx.say(why.to_string()),
        None => return cx.say("the model was closed before the direction was made"),
    };
    screen.made.insert(measured(&steering), made);
    cx.shared.intervene(|chips| {
        chips.push(Intervention {
            label: dose::label(&steering),
            options: steering.option().into(),
            edits,
            on: true,
        });
    });
    screen.chip = dose::dosed(cx.shared).len().saturating_sub(1);
    screen.focus = EDITED;
}
