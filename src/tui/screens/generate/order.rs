//! What the screen asks the worker for, and what comes back.
//!
//! Always: every order moves the generation, so that what is still on its way for an older one is dropped; an order names
//! all that is unfinished, the shown answers and the edited side first.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::acts::clamp;
use super::run::{self, Event, Happened, Order, Store};
use super::steering::{intervene, measure_again};
use super::stream::{EDITED, PLAIN, Side, Task};
use super::{For, GenerateScreen, Report};
use crate::model::{Checkpoint, ModelError};
use crate::tui::screen::{Context, Reply};
use crate::tui::work::Ticket;

/// Changes that follow each other closer than this are one: only the last is computed.
///
/// A little longer than a held key's interval (30 a second): a single step begins at once, a held key computes where it
/// rests, and waits no longer for that than it must.
const DEBOUNCE: Duration = Duration::from_millis(40);

/// Asks for everything that is unfinished.
pub(super) fn go_on(screen: &mut GenerateScreen, cx: &mut Context) {
    let soon = screen.changed.is_some_and(|at| at.elapsed() < DEBOUNCE);
    screen.changed = Some(Instant::now());
    let prompt: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
    let tasks = tasks(screen, cx);
    screen.generation += 1;
    screen.held = false;
    screen.failed = None;
    if tasks.is_empty() || prompt.is_empty() {
        return;
    }
    let branches = [0, 1].map(|side: usize| screen.sides[side].branches.len());
    let order = Order {
        generation: screen.generation,
        prompt,
        tasks,
        sample: screen.settings.sample,
        max_new: screen.settings.max_new,
        stop: Vec::new(),
    };
    let store = Arc::clone(&screen.store);
    screen.orders += 1;
    cx.ask("generate", move |checkpoint, ticket| {
        if soon {
            run::pause(DEBOUNCE, &|| ticket.cancelled());
        }
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        store.keep(|side, branch| branch < branches[side]);
        Ok(generated(order, &mut store, checkpoint, ticket))
    });
}

fn generated(
    mut order: Order,
    store: &mut Store,
    checkpoint: &Checkpoint,
    ticket: &Ticket,
) -> Report {
    order.stop = checkpoint.stop_ids();
    let room = checkpoint
        .config()
        .max_positions()
        .saturating_sub(order.prompt.len());
    order.max_new = order.max_new.min(room);
    let words = |id: u32| checkpoint.tokenizer.token(id);
    let outcome = run::run(&order, &checkpoint.decoder, store, &words, &mut |event| {
        ticket.part(event);
    });
    Report::Over {
        generation: order.generation,
        failed: match outcome {
            Ok(()) | Err(ModelError::Cancelled) => None,
            Err(error) => Some(error.to_string()),
        },
    }
}

fn tasks(screen: &GenerateScreen, cx: &Context) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (side, answers) in screen.sides.iter().enumerate() {
        for (branch, stream) in answers.branches.iter().enumerate() {
            if stream.open() {
                let kept = stream.tokens.iter().map(|token| token.id);
                tasks.push(Task {
                    side,
                    branch,
                    edits: if side == EDITED {
                        cx.shared.edits()
                    } else {
                        Vec::new()
                    },
                    tokens: kept.chain(stream.push).collect(),
                    known: stream.tokens.len(),
                });
            }
        }
    }
    let shown = |task: &Task| screen.sides[task.side].current == task.branch;
    tasks.sort_by_key(|task| (!shown(task), task.side, task.branch));
    tasks
}

/// Model, prompt or interventions changed: begins anew what they touch.
pub(super) fn refresh(screen: &mut GenerateScreen, cx: &mut Context) {
    let version = cx.shared.version();
    if screen
        .done_for
        .as_ref()
        .is_some_and(|done| done.version == version)
    {
        return;
    }
    let model = cx
        .shared
        .model
        .facts()
        .map(|facts| Arc::downgrade(&facts.checkpoint))
        .unwrap_or_default();
    let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
    let before = screen.done_for.replace(For {
        version,
        ids: ids.clone(),
    });
    let other_model = !screen.model.ptr_eq(&model);
    let other_prompt = before.is_none_or(|before| before.ids != ids);
    if other_model {
        // A running order keeps the old store to itself.
        screen.store = Arc::default();
        screen.model = model;
        screen.made.clear();
        screen.measuring.clear();
        screen.sides = [Side::default(), Side::default()];
        screen.failed = None;
    }
    if ids.is_empty() {
        return;
    }
    if other_model || other_prompt {
        screen.sides[PLAIN].restart();
        screen.cursor = 0;
    }
    if cx.shared.edits().is_empty() {
        screen.sides[EDITED] = Side::default();
    } else {
        screen.sides[EDITED].restart();
    }
    clamp(screen);
    go_on(screen, cx);
    measure_again(screen, cx);
}

pub(super) fn reply(screen: &mut GenerateScreen, reply: Reply, cx: &mut Context) {
    match reply {
        Reply::Part(value) => {
            if let Ok(event) = value.downcast::<Event>()
                && event.generation == screen.generation
            {
                happened(screen, *event);
            }
        }
        Reply::Done(value) => match value.downcast::<Report>().map(|report| *report) {
            Ok(Report::Over { generation, failed }) => {
                screen.orders = screen.orders.saturating_sub(1);
                if generation == screen.generation {
                    // Stopped from outside, by another screen's work or Ctrl-C: space goes on.
                    screen.held = screen.unfinished();
                    screen.failed = failed;
                }
            }
            Ok(Report::Direction(made)) => {
                screen.making = None;
                match made {
                    Ok(made) => intervene(screen, cx, *made),
                    Err(why) => cx.say(why),
                }
            }
            Ok(Report::Scale(key, measured)) => {
                screen.measuring.remove(&key);
                match measured {
                    Ok(measured) => {
                        screen.made.insert(key, measured);
                        // The prompt may have changed again meanwhile.
                        measure_again(screen, cx);
                    }
                    Err(why) => cx.say(format!("the dose scale could not be measured: {why}")),
                }
            }
            Err(_) => {}
        },
        Reply::Failed(why) => {
            screen.orders = 0;
            screen.making = None;
            screen.measuring.clear();
            screen.held = true;
            screen.failed = Some(why);
        }
        Reply::Cancelled => screen.orders = screen.orders.saturating_sub(1),
    }
}

fn happened(screen: &mut GenerateScreen, event: Event) {
    let follows = screen.side() == event.side && screen.sides[event.side].current == event.branch;
    let Some(stream) = screen
        .sides
        .get_mut(event.side)
        .and_then(|side| side.branches.get_mut(event.branch))
    else {
        return;
    };
    match event.what {
        Happened::Token(index, token) => {
            if follows && screen.cursor + 1 == index {
                screen.cursor = index;
            }
            stream.put(index, token);
        }
        Happened::Ended(end) => stream.finish(end),
    }
    clamp(screen);
}
