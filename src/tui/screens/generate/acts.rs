//! What keys, clicks and commands do to the screen.
//!
//! Always: what makes other tokens ends in an order (`order.rs`); what only looks elsewhere does not.

use crossterm::event::{KeyCode, KeyEvent};

use super::flow::flow;
use super::order::go_on;
use super::picker::{Picked, Picker};
use super::steering::{chosen, make, set_dose, turn};
use super::stream::{EDITED, End, PLAIN, Stream};
use super::{GenerateScreen, Mode, Settings, dose};
use crate::tui::screen::{Command, Context, Screen};
use crate::tui::screens::lens::editor::{Edited, Editor};

pub(super) fn act(screen: &mut GenerateScreen, action: &'static str, cx: &mut Context) {
    let last = screen
        .shown()
        .map_or(0, |stream| stream.tokens.len().saturating_sub(1));
    match action {
        "hold" if screen.running() => hold(screen, cx),
        "hold" => go_on(screen, cx),
        "prompt" => match Editor::of(&cx.shared.prompt) {
            Ok(editor) => screen.mode = Mode::Prompt(Box::new(editor)),
            Err(why) => cx.say(why.to_string()),
        },
        "pick" => {
            screen.mode = Mode::Pick(Picker::new(
                Picker::usual(cx.shared.layer, cx.shared.layers()),
                cx.shared.layers(),
            ));
        }
        "less" => turn(screen, cx, -1.0),
        "more" => turn(screen, cx, 1.0),
        "much_less" => turn(screen, cx, -5.0),
        "much_more" => turn(screen, cx, 5.0),
        "zero" => {
            if let Some(chip) = chosen(screen, cx.shared) {
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
        "line_down" => screen.cursor = line(screen, 1).min(last),
        "line_up" => screen.cursor = line(screen, -1).min(last),
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

pub(super) fn clamp(screen: &mut GenerateScreen) {
    let tokens = screen
        .shown()
        .map_or(0, |stream| stream.tokens.len().max(stream.old.len()));
    screen.cursor = screen.cursor.min(tokens.saturating_sub(1));
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
        Mode::Prompt(editor) => match editor.key(key) {
            Edited::Taken(prompt) => {
                screen.mode = Mode::Keys;
                cx.shared.set_prompt(prompt);
            }
            Edited::Refused(why) => cx.say(why),
            Edited::Left => screen.mode = Mode::Keys,
            Edited::Open => {}
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

/// The token on the line below the cursor's, or above, nearest to its column.
fn line(screen: &GenerateScreen, down: isize) -> usize {
    let at = screen.cursor;
    let Some(stream) = screen.shown() else {
        return at;
    };
    let texts = stream.all().map(|token| token.text.as_str());
    let lines = flow(texts, screen.wide.get().into(), false, None);
    let place = lines.iter().enumerate().find_map(|(row, line)| {
        let piece = line.iter().find(|piece| piece.token == at)?;
        Some((row, piece.x))
    });
    let Some((row, x)) = place else {
        return at;
    };
    // A line without a piece is what follows a line feed at the end.
    let next = row
        .checked_add_signed(down)
        .and_then(|row| lines.get(row))
        .and_then(|line| line.iter().min_by_key(|piece| piece.x.abs_diff(x)));
    next.map_or(at, |piece| piece.token)
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

fn apply(screen: &mut GenerateScreen, cx: &mut Context, new: Settings) {
    let longer = new.max_new != screen.settings.max_new;
    let other_draws = new.sample != screen.settings.sample;
    screen.settings = new;
    if other_draws {
        return redraw(screen, cx);
    }
    if longer {
        let all = screen.sides.iter_mut().flat_map(|side| &mut side.branches);
        for stream in all.filter(|stream| stream.end == Some(End::Length)) {
            stream.tokens.truncate(new.max_new);
            stream.end = None;
        }
        clamp(screen);
        go_on(screen, cx);
    }
}
