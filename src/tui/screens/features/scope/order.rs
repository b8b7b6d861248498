//! What the pane asks of the worker, and what it does with what comes back.

use std::sync::Arc;
use std::time::Instant;

use super::acts::hold;
use super::branch::Branch;
use super::work::{DEBOUNCE, Order, Shelf, Told, What, divergence, record};
use super::{For, LANES, ScopePane};
use crate::features::scope::{Lane, compare};
use crate::tui::screen::Context;

/// Asks for the shown run, from where it stands.
pub(super) fn go_on(pane: &mut ScopePane, cx: &mut Context) {
    let soon = pane.turned.is_some_and(|at| at.elapsed() < DEBOUNCE);
    pane.turned = Some(Instant::now());
    pane.generation += 1;
    (pane.held, pane.failed) = (false, None);
    let prompt: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
    let Some(branch) = pane.branches.get(pane.current) else {
        return;
    };
    if prompt.is_empty() || branch.trace.end.is_some() {
        return;
    }
    let scope = match pane.scope(cx.shared) {
        Ok(scope) => scope,
        Err(why) => {
            pane.failed = Some(why);
            return;
        }
    };
    let order = Order {
        generation: pane.generation,
        branch: pane.current,
        scope,
        prompt,
        sample: pane.sample,
        turns: branch.trace.turns.clone(),
        max_new: pane.max_new,
        made_on: pane.made_on.clone(),
        known: branch.len(),
        soon,
    };
    pane.orders += 1;
    let shelf = Arc::clone(&pane.shelf);
    cx.ask("oscilloscope", move |checkpoint, ticket| {
        Ok(record(&order, &shelf, checkpoint, ticket))
    });
}

/// Begins anew: one run of which nothing is known.
pub(super) fn restart(pane: &mut ScopePane, cx: &mut Context) {
    // A running order keeps the old store to itself.
    pane.shelf = Shelf::default();
    (pane.measuring, pane.measured, pane.compared) = (None, None, None);
    let old = pane.branches.drain(..).nth(pane.current);
    let prompt = cx.shared.tokens.len();
    let channels = pane.channels.iter().map(|c| c.info().clone()).collect();
    let mut first = Branch::begin(prompt, pane.sample, channels);
    if let Some(old) = old {
        first.doses = old.doses;
        first.trace.turns = old.trace.turns;
    }
    pane.branches = vec![first];
    (pane.current, pane.follows) = (0, true);
    clamp(pane);
    go_on(pane, cx);
}

/// Model, prompt or interventions changed.
pub(super) fn refresh(pane: &mut ScopePane, cx: &mut Context) {
    let version = Some(cx.shared.version());
    if pane.made_for.version == version {
        return;
    }
    let model = (cx.shared.model.facts())
        .map(|facts| Arc::downgrade(&facts.checkpoint))
        .unwrap_or_default();
    // Turns are by position, and positions were those of another text.
    pane.branches.clear();
    let other = pane.made_for.version.is_some() && !pane.made_for.model.ptr_eq(&model);
    pane.made_for = For { version, model };
    pane.cursor = 0;
    if other {
        hold(pane, cx);
        pane.failed = Some("another model was opened; open the dictionary on it again".into());
        return;
    }
    restart(pane, cx);
}

/// What came from the worker.
pub(super) fn told(pane: &mut ScopePane, told: &Told, cx: &mut Context) {
    if matches!(told.what, What::Over(_)) {
        pane.orders = pane.orders.saturating_sub(1);
    }
    if let What::Kl(branches, found) = &told.what {
        let asked = pane.measuring.take();
        match found {
            Ok(values) if told.generation == pane.generation => {
                pane.measured = Some((*branches, values.clone()));
            }
            Ok(_) => {}
            Err(why) => {
                // Shown as no number, and not asked again until the runs change.
                let tokens = asked.map_or(0, |(_, tokens)| tokens);
                pane.measured = Some((*branches, vec![f64::NAN; tokens]));
                cx.say(format!("the divergence could not be measured: {why}"));
            }
        }
        return compared(pane, cx);
    }
    if told.generation != pane.generation {
        return;
    }
    match &told.what {
        What::Steps(branch, first, steps) => {
            if let Some(branch) = pane.branches.get_mut(*branch) {
                branch.put(*first, steps.clone());
            }
            // Once: lanes that changed with every token could not be read.
            if !pane.chosen && *first == 0 {
                fill(pane, usize::MAX);
            }
            if pane.follows {
                pane.cursor = usize::MAX;
            }
        }
        What::Ended(branch, end) => {
            if let Some(branch) = pane.branches.get_mut(*branch) {
                branch.finish(*end);
            }
        }
        What::Over(failed) => {
            // Stopped from outside, by another screen's work or Ctrl-C: space goes on.
            pane.held = pane.branch().is_some_and(|b| b.trace.end.is_none());
            pane.failed.clone_from(failed);
        }
        What::Kl(..) => {}
    }
    clamp(pane);
    compared(pane, cx);
}

/// Compares anew what is compared, and asks how far the distributions are apart once nothing is running.
pub(super) fn compared(pane: &mut ScopePane, cx: &mut Context) {
    let pair = pane.branch().zip(pane.beside());
    let Some((branch, parent)) = pair else {
        pane.compared = None;
        return;
    };
    let mut found = compare(&parent.trace, &branch.trace, &pane.lanes);
    let branches = [branch.parent.unwrap_or(0), pane.current];
    if let Some((of, kl)) = &pane.measured
        && *of == branches
        && kl.len() <= found.shared
    {
        found.kl.clone_from(kl);
    }
    let want = (branches, found.shared);
    let idle = !pane.running() && pane.measuring.is_none() && pane.failed.is_none();
    if idle && found.kl.len() < found.shared {
        let traces = [parent.trace.clone(), branch.trace.clone()];
        if let Ok(scope) = pane.scope(cx.shared) {
            pane.measuring = Some(want);
            let generation = pane.generation;
            cx.job("divergence of two runs", move |checkpoint, _| {
                let traces = [&traces[0], &traces[1]];
                Ok(divergence(
                    generation,
                    branches,
                    (&scope, traces),
                    checkpoint,
                ))
            });
        }
    }
    pane.compared = Some(found);
}

/// Lanes for the strongest latents at a token, beside those of channels and of latents that are turned.
pub(super) fn fill(pane: &mut ScopePane, at: usize) {
    let Some(branch) = pane.branches.get(pane.current) else {
        return;
    };
    let Some(step) = branch
        .trace
        .steps
        .get(at.min(branch.len().saturating_sub(1)))
    else {
        return;
    };
    let most = pane.room.get().clamp(LANES, 16);
    let mut lanes = vec![Lane::Surprise];
    lanes.extend((0..branch.trace.channels.len()).map(Lane::Channel));
    let turned = branch.doses.edits();
    let asked = turned.iter().map(|edit| edit.latent);
    let asked = asked.chain(pane.opened_for.iter().copied());
    for latent in asked.chain(step.strongest(most).into_iter().map(|(latent, _)| latent)) {
        let lane = Lane::Latent(latent);
        if lanes.len() < most && !lanes.contains(&lane) {
            lanes.push(lane);
        }
    }
    let kept = pane.selected();
    pane.lanes = lanes;
    let again = pane.lanes.iter().position(|lane| Some(*lane) == kept);
    let latents = pane
        .lanes
        .iter()
        .position(|lane| matches!(lane, Lane::Latent(_)));
    pane.lane = again.or(latents).unwrap_or(0);
}

/// Keeps cursor and lane on what is there.
pub(super) fn clamp(pane: &mut ScopePane) {
    let tokens = pane.branch().map_or(0, Branch::shown);
    let newest = pane.branch().map_or(0, Branch::len).max(1) - 1;
    pane.cursor = if pane.follows {
        newest
    } else {
        pane.cursor.min(tokens.saturating_sub(1))
    };
    pane.lane = pane.lane.min(pane.lanes.len().saturating_sub(1));
}
