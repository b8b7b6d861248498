//! What keys, commands and replies do to the screen, and what it asks the worker for.
//!
//! Always: every change that makes other tokens moves the generation, so that what is still on its way is dropped; an
//! order names all that is unfinished, the shown answers and the edited side first.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent};

use super::dose::{self, Dosed};
use super::picker::{Picked, Picker};
use super::run::{self, Event, Happened, Order, Store};
use super::stream::{EDITED, PLAIN, Stream, Task};
use super::{For, GenerateScreen, Made, Mode, Report};
use crate::model::{Checkpoint, ModelError};
use crate::steer::{Options, Source, Steering, Way, stream_scale};
use crate::tui::field::{Field, Outcome};
use crate::tui::screen::{Command, Context, Reply, Screen};
use crate::tui::shared::{Intervention, Prompt};
use crate::tui::work::Ticket;

/// Changes that follow each other closer than this are one: only the last is computed.
const DEBOUNCE: Duration = Duration::from_millis(100);

pub(super) fn act(screen: &mut GenerateScreen, action: &'static str, cx: &mut Context) {
    let last = screen
        .shown()
        .map_or(0, |stream| stream.tokens.len().saturating_sub(1));
    match action {
        "hold" if screen.running() => hold(screen, cx),
        "hold" => go_on(screen, cx),
        "prompt" => {
            let mut field = Field::multi();
            match field.set(cx.shared.prompt.text()) {
                Ok(()) => screen.mode = Mode::Prompt(field),
                Err(why) => cx.say(why.to_string()),
            }
        }
        "pick" => screen.mode = Mode::Pick(Picker::new(cx.shared.layer, cx.shared.layers())),
        "less" => turn(screen, cx, -1.0),
        "more" => turn(screen, cx, 1.0),
        "much_less" => turn(screen, cx, -5.0),
        "much_more" => turn(screen, cx, 5.0),
        "zero" => {
            if let Some(chip) = chosen(screen, cx) {
                let dose = if chip.steering.dose == 0.0 { 1.0 } else { 0.0 };
                set_dose(screen, cx, &chip, dose);
            }
        }
        "chip" => {
            let n = dose::dosed(cx.shared).len().max(1);
            screen.chip = (screen.chip.min(n - 1) + 1) % n;
        }
        "left" => screen.cursor = screen.cursor.min(last + 1).saturating_sub(1),
        "right" => screen.cursor = (screen.cursor + 1).min(last),
        "first" => screen.cursor = 0,
        "last" => screen.cursor = last,
        "diverge" => screen.cursor = screen.divergence().unwrap_or(screen.cursor),
        "side" => screen.focus = EDITED + PLAIN - screen.focus,
        "rewind" => rewind(screen, cx),
        "branch" => screen.mode = Mode::Branch(0),
        "next_branch" => screen.sides[screen.side()].turn(true),
        "previous_branch" => screen.sides[screen.side()].turn(false),
        "seed" => {
            screen.settings.sample.seed = screen.settings.sample.seed.wrapping_add(1);
            redraw(screen, cx);
        }
        "temperature" => {
            let sample = &mut screen.settings.sample;
            sample.temperature = match sample.temperature {
                0.0 => 0.7,
                t if t < 1.0 => 1.0,
                _ => 0.0,
            };
            if sample.temperature == 0.0 {
                // Greedy decoding would ignore it.
                sample.top_p = None;
            }
            redraw(screen, cx);
        }
        _ => {}
    }
}

/// Stops the worker; what has come stays.
fn hold(screen: &mut GenerateScreen, cx: &mut Context) {
    if screen.orders > 0 {
        cx.commands.push(Command::Stop);
    }
    screen.generation += 1;
    screen.held = true;
}

fn rewind(screen: &mut GenerateScreen, cx: &mut Context) {
    hold(screen, cx);
    let (side, at) = (screen.side(), screen.cursor);
    if let Some(stream) = screen.sides[side].shown_mut() {
        stream.rewind(at);
    }
    screen.cursor = at.saturating_sub(1);
    cx.say("held before this token; space goes on, t and `:temperature` change the drawing from here on");
}

/// Takes the `choice`-th of the other tokens at the cursor.
fn branch(screen: &mut GenerateScreen, cx: &mut Context, choice: usize) {
    let (side, at) = (screen.side(), screen.cursor);
    let Some(other) = others(screen).get(choice).map(|other| other.0) else {
        return;
    };
    let answers = &mut screen.sides[side];
    let Some(trunk) = answers.shown() else { return };
    let new = Stream {
        tokens: trunk.tokens[..at].to_vec(),
        push: Some(other),
        ..Stream::default()
    };
    answers.branches.push(new);
    answers.current = answers.branches.len() - 1;
    go_on(screen, cx);
}

/// The other tokens at the cursor: id, text, log-probability.
pub(super) fn others(screen: &GenerateScreen) -> Vec<(u32, String, f32)> {
    let Some(token) = screen.token() else {
        return Vec::new();
    };
    let other = token.top.iter().filter(|other| other.id != token.id);
    other
        .map(|other| (other.id, other.text.clone(), other.log_prob))
        .collect()
}

/// Other draws: answers begin anew, but for those that were rewound and not gone on with.
fn redraw(screen: &mut GenerateScreen, cx: &mut Context) {
    for side in &mut screen.sides {
        if side.shown().is_some_and(|stream| !stream.rewound) {
            side.restart();
        }
    }
    clamp(screen);
    go_on(screen, cx);
}

fn clamp(screen: &mut GenerateScreen) {
    let tokens = screen
        .shown()
        .map_or(0, |stream| stream.tokens.len().max(stream.old.len()));
    screen.cursor = screen.cursor.min(tokens.saturating_sub(1));
}

/// Asks for everything that is unfinished.
fn go_on(screen: &mut GenerateScreen, cx: &mut Context) {
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
        ticket.part(event)
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
        screen.sides = Default::default();
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
        screen.sides[EDITED] = Default::default();
    } else {
        screen.sides[EDITED].restart();
    }
    clamp(screen);
    go_on(screen, cx);
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
            Err(_) => {}
        },
        Reply::Failed(why) => {
            screen.orders = 0;
            screen.making = None;
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

pub(super) fn cancel(screen: &mut GenerateScreen, cx: &mut Context) -> bool {
    let back = match &mut screen.mode {
        Mode::Pick(picker) => picker.back(),
        Mode::Keys | Mode::Prompt(_) | Mode::Branch(_) => false,
    };
    if back {
        return true;
    }
    if screen.takes_text() {
        screen.mode = Mode::Keys;
        return true;
    }
    if screen.running() {
        hold(screen, cx);
        cx.say("stopped; space goes on");
        return true;
    }
    screen.failed.take().is_some()
}

pub(super) fn text_key(screen: &mut GenerateScreen, key: KeyEvent, cx: &mut Context) {
    match &mut screen.mode {
        Mode::Keys => {}
        Mode::Prompt(field) => match field.key(key) {
            Outcome::Submitted => {
                let prompt = written(&cx.shared.prompt, field.text());
                screen.mode = Mode::Keys;
                cx.shared.set_prompt(prompt);
            }
            Outcome::Refused(why) => cx.say(why.to_string()),
            _ => {}
        },
        Mode::Pick(picker) => {
            if let Picked::Chosen(steering) = picker.key(key) {
                screen.mode = Mode::Keys;
                make(screen, cx, steering);
            }
        }
        Mode::Branch(selected) => {
            let at = *selected;
            let n = others(screen).len().max(1);
            match key.code {
                KeyCode::Char('j') | KeyCode::Down => screen.mode = Mode::Branch((at + 1) % n),
                KeyCode::Char('k') | KeyCode::Up => screen.mode = Mode::Branch((at + n - 1) % n),
                KeyCode::Enter => {
                    screen.mode = Mode::Keys;
                    branch(screen, cx, at);
                }
                KeyCode::Char(digit @ '1'..='5') => {
                    screen.mode = Mode::Keys;
                    branch(screen, cx, digit as usize - '1' as usize);
                }
                _ => {}
            }
        }
    }
}

/// The prompt with another last turn, or other raw text.
fn written(before: &Prompt, text: &str) -> Prompt {
    let mut prompt = before.clone();
    match (&mut prompt.raw, prompt.turns.last_mut()) {
        (Some(raw), _) => text.clone_into(raw),
        (None, Some(turn)) => text.clone_into(&mut turn.content),
        (None, None) => prompt = Prompt::user(text),
    }
    prompt
}

/// The chip that has the dose keys.
pub(super) fn chosen(screen: &GenerateScreen, cx: &Context) -> Option<Dosed> {
    let mut chips = dose::dosed(cx.shared);
    (!chips.is_empty()).then(|| chips.swap_remove(screen.chip.min(chips.len() - 1)))
}

/// What a vector was measured under: its source and the layer.
pub(super) fn measured(steering: &Steering) -> String {
    match &steering.way {
        Way::Ablate { .. } => format!("-{}", steering.source),
        Way::Add { layer } => format!("+{}@{layer}", steering.source),
    }
}

fn turn(screen: &mut GenerateScreen, cx: &mut Context, steps: f64) {
    if let Some(chip) = chosen(screen, cx) {
        let scale = screen
            .made
            .get(&measured(&chip.steering))
            .map(|made| &made.1);
        let step = dose::step(&chip, scale);
        let dose = dose::moved(chip.steering.dose, step, steps);
        set_dose(screen, cx, &chip, dose);
    }
}

fn set_dose(screen: &mut GenerateScreen, cx: &mut Context, chip: &Dosed, dose: f64) {
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
fn make(screen: &mut GenerateScreen, cx: &mut Context, steering: Steering) {
    if let Some((vector, scale)) = screen.made.get(&measured(&steering)).cloned() {
        return intervene(
            screen,
            cx,
            Made {
                steering,
                vector,
                scale,
            },
        );
    }
    let what = format!("direction {}", steering.source);
    screen.making = Some(what.clone());
    let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
    // An ablation is measured where it was read, or else at the layer that is looked at.
    let layer = match (&steering.way, &steering.source) {
        (Way::Add { layer }, _) | (Way::Ablate { .. }, Source::Contrast { layer }) => *layer,
        _ => cx.shared.layer,
    };
    cx.job(&what, move |checkpoint, ticket| {
        Ok(Report::Direction(direction(
            steering, layer, &ids, checkpoint, ticket,
        )))
    });
}

fn direction(
    steering: Steering,
    layer: usize,
    ids: &[u32],
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
        let scale = stream_scale(&checkpoint.decoder, ids, layer, &vector)?;
        // Refuses a layer that the model lacks before there is a chip.
        steering.edits(&vector, checkpoint.config())?;
        Ok((vector, scale))
    };
    let (vector, scale) = made()
        .map_err(|error: crate::steer::SteerError| format!("{}: {error}", steering.source))?;
    Ok(Box::new(Made {
        steering,
        vector,
        scale,
    }))
}

fn intervene(screen: &mut GenerateScreen, cx: &mut Context, made: Made) {
    let Made {
        steering,
        vector,
        scale,
    } = made;
    let config = cx.shared.model.facts().map(|facts| facts.config.clone());
    let edits = match config.map(|config| steering.edits(&vector, &config)) {
        Some(Ok(edits)) => edits,
        Some(Err(why)) => return cx.say(why.to_string()),
        None => return cx.say("the model was closed before the direction was made"),
    };
    screen.made.insert(measured(&steering), (vector, scale));
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

pub(super) fn click(
    screen: &mut GenerateScreen,
    what: u16,
    column: usize,
    _row: usize,
    _cx: &mut Context,
) {
    let side = usize::from(what);
    if side < screen.sides.len() {
        screen.focus = side;
        screen.cursor = column;
        clamp(screen);
    }
}

pub(super) fn command(
    screen: &mut GenerateScreen,
    words: &[&str],
    cx: &mut Context,
) -> Option<Result<(), String>> {
    let mut new = screen.settings;
    let read =
        |what: &str, expected: &str, found: &str| format!("{what} `{found}`: expected {expected}");
    let changed = match words {
        ["temperature", x] => match x.parse() {
            Ok(t) => {
                new.sample.temperature = t;
                // Greedy decoding would ignore it.
                new.sample.top_p = new.sample.top_p.filter(|_| t > 0.0);
                Ok(())
            }
            Err(_) => Err(read("temperature", "0 (greedy) or a positive number", x)),
        },
        ["top-p", x] => match x.parse() {
            Ok(1.0) => {
                new.sample.top_p = None;
                Ok(())
            }
            Ok(p) => {
                new.sample.top_p = Some(p);
                Ok(())
            }
            Err(_) => Err(read("top-p", "above 0, at most 1", x)),
        },
        ["seed", x] => x
            .parse()
            .map(|seed| new.sample.seed = seed)
            .map_err(|_| read("seed", "a whole number", x)),
        ["max", x] => match x.parse() {
            Ok(n @ 1..=100_000) => {
                new.max_new = n;
                Ok(())
            }
            _ => Err(read("max", "1 to 100000 tokens", x)),
        },
        _ => return None,
    };
    let checked = changed.and_then(|()| new.sample.check().map_err(|error| error.to_string()));
    if checked.is_ok() {
        apply(screen, cx, new);
    }
    Some(checked)
}

fn apply(screen: &mut GenerateScreen, cx: &mut Context, new: super::Settings) {
    let longer = new.max_new != screen.settings.max_new;
    let other_draws = new.sample != screen.settings.sample;
    screen.settings = new;
    if other_draws {
        return redraw(screen, cx);
    }
    if longer {
        let all = screen.sides.iter_mut().flat_map(|side| &mut side.branches);
        for stream in all.filter(|stream| stream.end == Some(super::stream::End::Length)) {
            stream.tokens.truncate(new.max_new);
            stream.end = None;
        }
        clamp(screen);
        go_on(screen, cx);
    }
}
