//! What keys and commands do to the diff, and why they sometimes do not.

use std::path::PathBuf;
use std::sync::Arc;

use super::work::{self, Ask};
use super::{ANSWER, Compared, DiffScreen, Other, Pane};
use crate::tui::screen::Context;
use crate::tui::screens::lens::editor::Editor;
use crate::tui::shared::Shared;

/// Longest answer.
const LONGEST: usize = 512;

impl DiffScreen {
    pub(super) fn allowed(&self, action: &str, shared: &Shared) -> Result<(), String> {
        match action {
            "other" | "prompt" | "pane" | "pane_back" => return Ok(()),
            "station_back" | "station_on" => {
                return match shared.run.stations() {
                    Some(_) => Ok(()),
                    None => Err("no run is open; `:checkpoints FOLDER` opens one".into()),
                };
            }
            _ => {}
        }
        if shared.model.facts().is_none() {
            return Err("no model is open; `:open NAME` opens one".into());
        }
        match action {
            "swap" | "compare" | "again" if self.other == Other::None => {
                Err("there is no other model; o types one, `,` and `.` take one of a run".into())
            }
            "compare" | "again" if self.pending.job.is_some() => {
                Err("they are being compared; esc stops that".into())
            }
            "swap" | "compare" | "again" => Ok(()),
            _ if self.compared.is_none() => Err("nothing was compared yet; enter does".into()),
            "left" | "right" if self.pane != Pane::Weights => {
                Err("these keys are of the weights; tab goes there".into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn does(&mut self, action: &'static str, cx: &mut Context) {
        match action {
            "other" => self.line.typing = true,
            "station_back" | "station_on" => self.choose(action == "station_on", cx),
            "compare" => self.compare(cx),
            "again" => {
                self.forget();
                self.compare(cx);
            }
            "pane" => self.pane = self.pane.turned(1),
            "pane_back" => self.pane = self.pane.turned(3),
            "down" => self.go(|at, last| (at + 1).min(last), false),
            "up" => self.go(|at, _| at.saturating_sub(1), false),
            "left" => self.go(|at, _| at.saturating_sub(1), true),
            "right" => self.go(|at, last| (at + 1).min(last), true),
            "first" => self.go(|_, _| 0, false),
            "last" => self.go(|_, last| last, false),
            "next" | "previous" => self.seek(action == "next", cx),
            "prompt" => match Editor::of(&cx.shared.prompt) {
                Ok(editor) => self.editor = Some(editor),
                Err(why) => cx.say(why.to_string()),
            },
            "swap" => {
                self.swapped = !self.swapped;
                self.withdraw(cx);
                self.compared = None;
                self.pending = self.pending.forgotten();
                self.compare(cx);
            }
            _ => {}
        }
    }

    /// The other model by name: compared at once.
    pub(super) fn beside(&mut self, name: String, cx: &mut Context) {
        self.withdraw(cx);
        self.other = Other::Named(name);
        self.forget();
        if let Err(why) = self.allowed("compare", cx.shared) {
            return cx.say(why);
        }
        self.compare(cx);
    }

    /// A checkpoint of the run as the other model; `enter` compares, since it is only looked for.
    fn choose(&mut self, on: bool, cx: &mut Context) {
        let Some(run) = cx.shared.run.stations() else {
            return;
        };
        let last = run.all.len() - 1;
        let at = match &self.other {
            Other::Station(at, ..) if on => (at + 1).min(last),
            Other::Station(at, ..) => at.saturating_sub(1).min(last),
            // The run's last is what is open most of the time.
            _ if on => 0,
            _ => last.saturating_sub(1),
        };
        let station = &run.all[at];
        let other = Other::Station(at, station.name(), station.path.clone());
        if other == self.other {
            return cx.say("the run has no further checkpoint there");
        }
        self.other = other;
        self.withdraw(cx);
        self.forget();
    }

    /// Compares the two, as far as it is not known already.
    pub(super) fn compare(&mut self, cx: &mut Context) {
        // A command may come before the screen was ever shown.
        self.adopt(cx);
        let (Some(names), Some(facts)) = (self.names(cx.shared), cx.shared.model.facts()) else {
            return;
        };
        let stop = facts.checkpoint.stop_ids();
        let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
        let before = self.compared.take().filter(|before| before.names == names);
        let weights = before.and_then(|before| before.weights);
        let weights = weights.filter(Result::is_ok);
        let held = self.held.as_ref().filter(|(of, _)| *of == self.other);
        let held = held.map(|(_, checkpoint)| Arc::clone(checkpoint));
        let job = self.pending.begin(|job| job);
        let ask = Ask {
            model: self.model,
            job,
            other: self.other.clone(),
            held,
            swapped: self.swapped,
            weights: weights.is_none(),
            ids: ids.clone(),
            stop,
            max_new: self.answer.unwrap_or(ANSWER),
            dictionary: self.dictionary.clone(),
        };
        self.compared = Some(Compared {
            names,
            ids,
            weights,
            ..Compared::default()
        });
        let what = format!("diff with {}", self.other.name().unwrap_or_default());
        cx.job(&what, move |checkpoint, ticket| {
            Ok(work::compare(checkpoint, ticket, &ask))
        });
    }

    /// Moves the cursor of the pane that has the keys.
    fn go(&mut self, to: impl Fn(usize, usize) -> usize, across: bool) {
        let Some(compared) = &self.compared else {
            return;
        };
        let moved =
            |at: usize, count: usize| to(at.min(count.saturating_sub(1)), count.saturating_sub(1));
        match (self.pane, &compared.weights, &compared.tokens) {
            (Pane::Weights, Some(Ok(changes)), _) if across => {
                self.cell.1 = moved(self.cell.1, Self::roles(changes).len());
            }
            (Pane::Weights, Some(Ok(changes)), _) => {
                let layers = changes.iter().filter_map(|change| change.layer).max();
                let count = layers.map_or(1, |last| last + 1);
                // Later layers are drawn higher.
                let flipped = count.saturating_sub(1) - self.cell.0.min(count - 1);
                self.cell.0 = count.saturating_sub(1) - moved(flipped, count);
            }
            (Pane::Tokens, _, Some(Ok(tokens))) => self.row = moved(self.row, tokens.len()),
            _ => {}
        }
    }

    /// The next token after which the likeliest differs; the matrix that changed most.
    fn seek(&mut self, on: bool, cx: &mut Context) {
        let Some(compared) = &self.compared else {
            return;
        };
        match (self.pane, &compared.weights, &compared.tokens) {
            (Pane::Weights, Some(Ok(changes)), _) => {
                let blocks = changes.iter().filter(|change| change.layer.is_some());
                let most = blocks.max_by(|a, b| a.relative.total_cmp(&b.relative));
                let roles = Self::roles(changes);
                if let Some(most) = most
                    && let Some(column) = roles.iter().position(|role| *role == most.role)
                {
                    self.cell = (most.layer.unwrap_or(0), column);
                }
            }
            (_, _, Some(Ok(tokens))) => {
                self.pane = Pane::Tokens;
                let differs = |at: &usize| tokens[*at].top[0].id != tokens[*at].top[1].id;
                let at = self.row.min(tokens.len().saturating_sub(1));
                let found = if on {
                    (at + 1..tokens.len()).find(differs)
                } else {
                    (0..at).rev().find(differs)
                };
                match found {
                    Some(row) => self.row = row,
                    None => cx.say("no further token after which the likeliest differs"),
                }
            }
            _ => {}
        }
    }

    pub(super) fn obeys(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        let (&first, rest) = words.split_first()?;
        let what = rest.join(" ");
        Some(match (first, what.as_str()) {
            ("beside", "") => {
                Err("beside: expected a model: a name, a folder, a .gguf file".into())
            }
            ("beside", name) => {
                self.beside(name.to_owned(), cx);
                Ok(())
            }
            ("latents", path) => {
                self.dictionary = (!path.is_empty()).then(|| PathBuf::from(path));
                self.pane = Pane::Latents;
                if self.allowed("compare", cx.shared).is_ok() {
                    self.compare(cx);
                }
                Ok(())
            }
            ("answer", number) => match number.parse::<usize>() {
                Ok(count @ 1..=LONGEST) => {
                    self.answer = Some(count);
                    if self.compared.is_some() && self.allowed("compare", cx.shared).is_ok() {
                        self.compare(cx);
                    }
                    Ok(())
                }
                _ => Err(format!("answer `{number}`: expected 1 to {LONGEST} tokens")),
            },
            // `:diff MODEL` arrives as MODEL alone.
            _ if first.contains(['/', '\\', '.', ':']) => {
                self.beside(words.join(" "), cx);
                Ok(())
            }
            _ => return None,
        })
    }
}
