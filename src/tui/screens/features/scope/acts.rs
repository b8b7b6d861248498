//! What keys and commands do to the pane.
//!
//! Always: what changes tokens ends in an order (`order.rs`); what only looks elsewhere does not.

use std::path::{Path, PathBuf};

use super::dose::{Dose, Way, unit};
use super::order::{clamp, compared, fill, go_on, restart};
use super::{BRANCHES, ScopePane};
use crate::features::scope::{Channel, Lane};
use crate::hooks::{HookPoint, Point};
use crate::model::{Checkpoint, Fingerprint};
use crate::tui::screen::{Command, Context};
use crate::{probing, steer};

/// Why an action cannot be done now.
pub(super) fn enabled(pane: &ScopePane, action: &str) -> Result<(), String> {
    let steps = pane.branch().map_or(0, super::branch::Branch::len);
    match action {
        "more" | "less" | "ablate" | "reset" if pane.latent().is_none() => {
            Err("this lane is no latent; n goes to the next, f fills lanes with latents".into())
        }
        "branch" if pane.cursor >= steps => Err("nothing was computed at this token yet".into()),
        "branch" if pane.branches.len() >= BRANCHES => {
            Err(format!("{BRANCHES} branches are the most; s begins anew"))
        }
        "compare" if pane.branch().is_none_or(|b| b.parent.is_none()) => {
            Err("this run was not branched from another; b branches at the cursor".into())
        }
        "diverge" if pane.compared.as_ref().is_none_or(|c| c.diverges.is_none()) => {
            Err("no token differs; c compares a branch with the run it came from".into())
        }
        "next_branch" | "previous_branch" if pane.branches.len() < 2 => {
            Err("there is one run; b branches at the cursor".into())
        }
        _ => Ok(()),
    }
}

pub(super) fn act(pane: &mut ScopePane, action: &'static str, cx: &mut Context) {
    match action {
        "hold" if pane.running() => hold(pane, cx),
        "hold" => go_on(pane, cx),
        "left" | "right" | "far_left" | "far_right" | "first" | "last" => walk(pane, action),
        "next" => pane.lane = (pane.lane + 1) % pane.lanes.len().max(1),
        "previous" => {
            let n = pane.lanes.len().max(1);
            pane.lane = (pane.lane + n - 1) % n;
        }
        "more" => turn(pane, cx, 1),
        "less" => turn(pane, cx, -1),
        "way" => way(pane, cx),
        "ablate" => ablate(pane, cx),
        "reset" => {
            if let (Some(latent), Some(branch)) =
                (pane.latent(), pane.branches.get_mut(pane.current))
                && branch.doses.reset(latent)
            {
                turned(pane, cx);
            }
        }
        "branch" => branch(pane, cx),
        "next_branch" => other(pane, cx, 1),
        "previous_branch" => other(pane, cx, pane.branches.len().saturating_sub(1)),
        "compare" => {
            pane.comparing = !pane.comparing;
            compared(pane, cx);
        }
        "diverge" => {
            let at = pane.compared.as_ref().and_then(|found| found.diverges);
            (pane.cursor, pane.follows) = (at.unwrap_or(pane.cursor), false);
        }
        "fill" => {
            pane.chosen = true;
            fill(pane, pane.cursor);
            compared(pane, cx);
        }
        "drop" => {
            if pane.lane < pane.lanes.len() {
                pane.chosen = true;
                pane.lanes.remove(pane.lane);
            }
            clamp(pane);
            compared(pane, cx);
        }
        "seed" => {
            pane.sample.seed = pane.sample.seed.wrapping_add(1);
            restart(pane, cx);
        }
        "temperature" => {
            pane.sample.temperature = match pane.sample.temperature {
                0.0 => 0.7,
                t if t < 1.0 => 1.0,
                _ => 0.0,
            };
            restart(pane, cx);
        }
        _ => {}
    }
}

fn walk(pane: &mut ScopePane, action: &str) {
    let tokens = pane.branch().map_or(0, super::branch::Branch::shown);
    let newest = pane.branch().map_or(0, super::branch::Branch::len).max(1) - 1;
    pane.cursor = match action {
        "left" => pane.cursor.saturating_sub(1),
        "right" => pane.cursor + 1,
        "far_left" => pane.cursor.saturating_sub(10),
        "far_right" => pane.cursor + 10,
        "first" => 0,
        _ => newest,
    };
    pane.cursor = pane.cursor.min(tokens.saturating_sub(1));
    pane.follows = pane.cursor == newest && !matches!(action, "left" | "far_left");
}

/// Stops the worker; what has come stays.
pub(super) fn hold(pane: &mut ScopePane, cx: &mut Context) {
    if pane.orders > 0 {
        cx.commands.push(Command::Stop);
    }
    pane.generation += 1;
    pane.held = true;
}

pub(super) fn cancel(pane: &mut ScopePane, cx: &mut Context) -> bool {
    if pane.running() {
        hold(pane, cx);
        cx.say("stopped; space goes on, esc again closes the oscilloscope");
        return true;
    }
    pane.failed.take().is_some()
}

/// Turns the lane's latent by steps.
fn turn(pane: &mut ScopePane, cx: &mut Context, by: i32) {
    let way = pane.way;
    if let (Some(latent), Some(branch)) = (pane.latent(), pane.branches.get_mut(pane.current)) {
        let unit = unit(&branch.trace, latent);
        branch.doses.step(latent, by, way, unit);
        turned(pane, cx);
    }
}

/// The next way of turning, for the lane's latent too if it is turned.
fn way(pane: &mut ScopePane, cx: &mut Context) {
    pane.way = match pane.way {
        Way::Add => Way::Hold,
        Way::Hold => Way::Scale,
        Way::Scale => Way::Add,
    };
    let way = pane.way;
    if let (Some(latent), Some(branch)) = (pane.latent(), pane.branches.get_mut(pane.current))
        && let Some(dose) = branch.doses.of(latent)
    {
        branch.doses.set(latent, Dose { way, ..dose });
        turned(pane, cx);
    }
    cx.say(match way {
        Way::Add => "steps are added to the latent",
        Way::Hold => "the latent is held at a value",
        Way::Scale => "the latent is scaled: it stays silent where it is",
    });
}

fn ablate(pane: &mut ScopePane, cx: &mut Context) {
    if let (Some(latent), Some(branch)) = (pane.latent(), pane.branches.get_mut(pane.current)) {
        let silent = Dose {
            way: Way::Hold,
            steps: 0,
            unit: unit(&branch.trace, latent),
        };
        let is = branch.doses.of(latent);
        if is.is_some_and(|dose| dose.way == Way::Hold && dose.steps == 0) {
            branch.doses.reset(latent);
        } else {
            branch.doses.set(latent, silent);
        }
        turned(pane, cx);
    }
}

/// A dose changed: at the newest token it holds from the next one on, elsewhere a branch takes it.
fn turned(pane: &mut ScopePane, cx: &mut Context) {
    let newest = pane.cursor + 1 >= pane.branch().map_or(0, super::branch::Branch::len);
    let running = pane.running();
    let Some(branch) = pane.branches.get_mut(pane.current) else {
        return;
    };
    if newest && branch.trace.end.is_none() && branch.old.is_empty() {
        let next = branch.len();
        branch.trace.turns = branch.trace.turns.with(next, branch.doses.edits());
        if running {
            go_on(pane, cx);
        }
    } else {
        cx.say("b branches from this token with the latents so");
    }
}

/// Another run from the cursor on.
fn branch(pane: &mut ScopePane, cx: &mut Context) {
    let (parent, at) = (pane.current, pane.cursor);
    let Some(trunk) = pane.branches.get(parent) else {
        return;
    };
    let new = trunk.off(parent, at, trunk.doses.clone());
    let same = new.trace.turns == trunk.trace.turns;
    pane.branches.push(new);
    pane.current = pane.branches.len() - 1;
    pane.follows = true;
    clamp(pane);
    if same {
        cx.say("no latent is turned otherwise: this branch will be the run it came from");
    }
    go_on(pane, cx);
    compared(pane, cx);
}

fn other(pane: &mut ScopePane, cx: &mut Context, by: usize) {
    let running = pane.running();
    if running {
        hold(pane, cx);
    }
    pane.current = (pane.current + by) % pane.branches.len().max(1);
    clamp(pane);
    compared(pane, cx);
}

pub(super) fn command(
    pane: &mut ScopePane,
    words: &[&str],
    cx: &mut Context,
) -> Option<Result<(), String>> {
    let mut sample = pane.sample;
    let done = match words {
        ["latent", number] => return Some(lane(pane, number, cx)),
        ["probe", file] => return Some(channel(pane, "--probe", file, cx)),
        ["direction", file] => return Some(channel(pane, "--direction", file, cx)),
        ["max", number] => match number.parse() {
            Ok(n @ 1..=100_000) => {
                pane.max_new = n;
                for branch in &mut pane.branches {
                    branch.trace.end = None;
                }
                go_on(pane, cx);
                return Some(Ok(()));
            }
            _ => Err(format!("max `{number}`: expected 1 to 100000 tokens")),
        },
        ["temperature", t] => (t.parse().map(|t| sample.temperature = t))
            .map_err(|_| format!("temperature `{t}`: expected 0 (greedy) or a positive number")),
        ["seed", n] => (n.parse().map(|n| sample.seed = n))
            .map_err(|_| format!("seed `{n}`: expected a whole number")),
        _ => return None,
    };
    let done = done.and_then(|()| sample.check().map_err(|error| error.to_string()));
    if done.is_ok() {
        pane.sample = sample;
        restart(pane, cx);
    }
    Some(done)
}

fn lane(pane: &mut ScopePane, number: &str, cx: &mut Context) -> Result<(), String> {
    let latent: usize =
        (number.parse()).map_err(|_| format!("latent `{number}`: expected a number"))?;
    let dictionary = pane.splice.dictionary();
    if latent >= dictionary.d_sae() {
        return Err(dictionary.no_latent(latent).to_string());
    }
    pane.show(Lane::Latent(latent));
    compared(pane, cx);
    Ok(())
}

fn channel(
    pane: &mut ScopePane,
    option: &'static str,
    file: &str,
    cx: &mut Context,
) -> Result<(), String> {
    let model = cx.shared.model.facts().ok_or("no model is open")?;
    let read = pane.splice.read();
    let (new, made_on) = opened(option, file, &model.checkpoint, read)?;
    pane.channels.push(new);
    if let Err(why) = pane.scope(cx.shared) {
        pane.channels.pop();
        return Err(why);
    }
    pane.files.push((option, PathBuf::from(file)));
    pane.made_on
        .extend(made_on.map(|made_on| (file.to_owned(), made_on)));
    pane.show(Lane::Channel(pane.channels.len() - 1));
    restart(pane, cx);
    Ok(())
}

/// A probe or a direction from its file, and what it was made on; a direction is read where it was made, else where the
/// dictionary reads.
fn opened(
    option: &str,
    spec: &str,
    model: &Checkpoint,
    read: HookPoint,
) -> Result<(Channel, Option<Fingerprint>), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let (file, tensor) = steer::file::parse(spec);
    let name = file
        .file_stem()
        .map_or(spec.into(), |stem| stem.to_string_lossy());
    if option == "--probe" {
        let probe = probing::file::load(Path::new(spec)).map_err(|e| said(&e))?;
        let point = probe.about.place.point;
        point.check(model.config()).map_err(|e| said(&e))?;
        return Ok((Channel::probe(&name, &probe), Some(probe.about.fingerprint)));
    }
    let direction = steer::file::load(&file, tensor).map_err(|e| said(&e))?;
    let own = direction
        .layer
        .map(|layer| HookPoint::new(Point::ResidPre, layer));
    let channel = Channel::direction(&name, own.unwrap_or(read), &direction.vector);
    Ok((channel.map_err(|e| said(&e))?, direction.fingerprint))
}
