//! What keys and commands do to the time machine, and why they sometimes do not.

use std::path::Path;
use std::sync::Arc;

use super::{Along, TimeScreen, run, view};
use crate::steer::file;
use crate::tui::screen::{Command, Context};
use crate::tui::screens::lens::editor::Editor;
use crate::tui::shared::Shared;

/// Layers of a page.
const PAGE: usize = 5;

impl TimeScreen {
    pub(super) fn allowed(&self, action: &str, shared: &Shared) -> Result<(), String> {
        if matches!(action, "open" | "prompt") {
            return Ok(());
        }
        let Some(run) = shared.run.stations() else {
            return Err(run::NONE.into());
        };
        let last = run.all.len() - 1;
        match action {
            "stage_back" | "stage_on" if self.stage(shared, action == "stage_on").is_none() => {
                Err("there is no stage there".into())
            }
            "play" if self.at == last && !self.playing => {
                Err("this is the last checkpoint; g goes to the first".into())
            }
            "follow" if self.here(shared).is_none() => {
                Err("this checkpoint was not read yet".into())
            }
            "beside" if self.direction(shared).is_none() => Err(
                "there is no direction: `:along FILE` reads one, or ablate or add one in directions"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    pub(super) fn does(&mut self, action: &'static str, cx: &mut Context) {
        let last = cx.shared.run.stations().map_or(0, |run| run.all.len() - 1);
        // Who moves by hand has seen enough of the play.
        if !matches!(
            action,
            "play" | "page_down" | "page_up" | "quantity" | "quantity_back"
        ) {
            self.playing = false;
        }
        match action {
            "back" => self.at = self.at.saturating_sub(1),
            "on" => self.at = (self.at + 1).min(last),
            "first" => self.at = 0,
            "last" => self.at = last,
            "stage_back" | "stage_on" => {
                let to = self.stage(cx.shared, action == "stage_on");
                self.at = to.unwrap_or(self.at);
            }
            "play" => {
                self.playing = !self.playing;
                if self.playing {
                    self.tick(cx);
                }
            }
            "token_back" | "token_on" => self.step(action == "token_on"),
            "down" => self.picked = (self.picked + 1).min(super::held::TOP - 1),
            "up" => self.picked = self.picked.saturating_sub(1),
            "follow" => self.pick(cx),
            "quantity" => self.quantity = self.quantity.turned(1),
            "quantity_back" => self.quantity = self.quantity.turned(3),
            "beside" => self.projects = !self.projects,
            "prompt" => match Editor::of(&cx.shared.prompt) {
                Ok(editor) => self.editor = Some(editor),
                Err(why) => cx.say(why.to_string()),
            },
            "open" => self.line.typing = true,
            "open_model" => {
                if let Some(station) = self.station(cx.shared) {
                    let path = station.path.display().to_string();
                    cx.commands.push(Command::Open(path));
                }
            }
            "again" => {
                if let Some(run) = cx.shared.run.stations() {
                    let root = run.root.display().to_string();
                    run::open(&root, cx);
                }
            }
            "page_down" => {
                let layers = self
                    .here(cx.shared)
                    .map_or(0, |(seen, _)| seen.moment.layers.len());
                self.scroll = (self.scroll + PAGE).min(layers.saturating_sub(1));
            }
            "page_up" => self.scroll = self.scroll.saturating_sub(PAGE),
            _ => {}
        }
    }

    /// The nearest checkpoint of the next stage, or of the one before.
    fn stage(&self, shared: &Shared, on: bool) -> Option<usize> {
        let all = &shared.run.stations()?.all;
        let here = &self.station(shared)?.stage;
        let other = |at: &usize| all[*at].stage != *here;
        if on {
            (self.at + 1..all.len()).find(other)
        } else {
            (0..self.at.min(all.len())).rev().find(other)
        }
    }

    /// Another token of the prompt.
    fn step(&mut self, on: bool) {
        let Some(last) = self
            .words
            .as_ref()
            .and_then(|words| words.tokens.len().checked_sub(1))
        else {
            return;
        };
        let at = self.place.unwrap_or(last).min(last);
        let to = if on { at + 1 } else { at.saturating_sub(1) };
        // At the end it stays there, whatever the prompt.
        self.place = (to < last).then_some(to);
    }

    /// Follows the next token under the cursor.
    fn pick(&mut self, cx: &mut Context) {
        let top = self.here(cx.shared).and_then(|(seen, _)| {
            let last = seen.top.len().checked_sub(1)?;
            seen.top.get(self.picked.min(last)).map(|top| top.id)
        });
        self.token = top.filter(|id| self.token != Some(*id));
        let word = self.followed().map(|id| self.held.word(id).to_owned());
        let word = crate::text::visible::visible(&word.unwrap_or_default());
        cx.say(match self.token {
            Some(_) => format!("the chart follows `{word}`"),
            None => {
                format!("the chart follows the likeliest token of the latest checkpoint, `{word}`")
            }
        });
    }

    pub(super) fn clicked(&mut self, what: u16, column: usize, row: usize, shared: &Shared) {
        let last = shared.run.stations().map_or(0, |run| run.all.len() - 1);
        match what {
            view::STATION => {
                self.playing = false;
                self.at = column.min(last);
            }
            view::TOKEN => {
                let tokens = self.words.as_ref().map_or(0, |words| words.tokens.len());
                self.place = (column + 1 < tokens).then_some(column);
            }
            view::NEXT => self.picked = row.min(super::held::TOP - 1),
            _ => {}
        }
    }

    pub(super) fn obeys(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        let (&first, rest) = words.split_first()?;
        let what = rest.join(" ");
        Some(match (first, what.as_str()) {
            ("checkpoints", "") => Err("checkpoints: expected the folder of a run".into()),
            ("checkpoints", path) => {
                run::open(path, cx);
                Ok(())
            }
            ("along", "") => {
                self.along = None;
                Ok(())
            }
            ("along", spec) => self.read_direction(spec),
            ("token", "") => {
                self.token = None;
                Ok(())
            }
            ("token", text) => self.name_token(text),
            // `:time FOLDER` arrives as FOLDER alone.
            _ if first.contains(['/', '\\', '.']) => {
                run::open(&words.join(" "), cx);
                Ok(())
            }
            _ => return None,
        })
    }

    /// Reads a direction, `FILE` or `FILE:TENSOR`. It is of one checkpoint, and all are projected on it: that is the question.
    fn read_direction(&mut self, spec: &str) -> Result<(), String> {
        let (path, tensor) = file::parse(spec);
        let read = file::load(Path::new(&path), tensor).map_err(|error| error.to_string())?;
        let number = self.along.as_ref().map_or(0, |along| along.number) + 1;
        self.along = Some(Along {
            spec: spec.to_owned(),
            number,
            vector: Arc::new(read.vector),
        });
        self.projects = true;
        Ok(())
    }

    fn name_token(&mut self, text: &str) -> Result<(), String> {
        let Some(words) = &self.words else {
            return Err("token: no checkpoint was read yet".into());
        };
        let inner = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let forms = match inner {
            Some(exact) => vec![exact.to_owned()],
            None => vec![format!(" {text}"), text.to_owned()],
        };
        for form in forms {
            let ids = words.tokenizer.encode(&form, false);
            if let [id] = ids.map_err(|error| error.to_string())?[..] {
                let word = words.tokenizer.token(id);
                self.held.name(id, word);
                self.token = Some(id);
                self.quantity = super::chart::Quantity::Token;
                return Ok(());
            }
        }
        Err(format!(
            "token: `{text}` is several tokens; in quotes it is taken exactly, enter follows one of the list"
        ))
    }
}
