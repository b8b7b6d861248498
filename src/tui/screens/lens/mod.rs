//! Lens: what the model would say next if it stopped at a layer, for every layer and token; and the prompt's editor.
//!
//! State and keys here. `reading.rs` is the work and what is kept of it, `modes.rs` the values and their scales, `along.rs`
//! what the stream is projected on, `editor.rs` the prompt, `written.rs` and `twin.rs` the command line and the files; `view.rs` draws, with `detail.rs` for the list at the right.
//!
//! Always: what is drawn belongs to the tokens above it; what an intervention has made old is drawn as old until the new
//! values are there; only positions near the cursor are computed, those at the cursor first.

mod along;
#[cfg(test)]
pub(super) mod desk;
mod detail;
pub(super) mod editor;
mod keys;
mod modes;
mod prompt;
pub(super) mod reading;
mod spoken;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_along;
pub(super) mod twin;
mod view;
mod written;

use std::sync::Arc;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::cells;
use crate::tui::filter::{Filter, Listed, step};
use crate::tui::keys::Binding;
use crate::tui::screen::{Context, Data, Hits, Reply, Screen, View};
use crate::tui::shared::Shared;
use along::Sources;
use editor::{Edited, Editor};
use keys::KEYS;
use modes::{Ends, Mode};
use reading::{Ask, Held, Reading, Wish, read, window};

/// Places for the mouse.
const CELL: u16 = 0;
const LISTED: u16 = 1;
const TOKEN: u16 = 2;

/// As near to the cursor nothing may be missing; the window is asked for as a whole then.
const NEAR: usize = 16;

/// Where the keys go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pane {
    #[default]
    Map,
    List,
}

/// The newest request.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    wish: Wish,
    positions: Vec<usize>,
}

/// The screen.
#[derive(Default)]
pub struct LensScreen {
    held: Held,
    /// Tells one open model from another.
    model: usize,
    asked: Option<Asked>,
    /// Requests that have not ended; all but the newest are on their way out.
    open: usize,
    /// What the user stopped.
    stopped: Option<Wish>,
    failed: Option<(Wish, String)>,
    mode: Mode,
    sources: Sources,
    ends: Ends,
    digits: bool,
    compare: bool,
    target: Option<u32>,
    pane: Pane,
    /// To go to where the answer appears when it is there.
    seeking: bool,
    /// Which token of the list.
    picked: usize,
    /// The cursor is on the embedding, below the first layer.
    embedding: bool,
    /// What the keys add to the width of a cell.
    wider: i16,
    editor: Option<Editor>,
    filter: Filter,
}

impl LensScreen {
    /// What is to be shown now.
    fn wish(&self, shared: &Shared) -> Wish {
        Wish {
            version: shared.version(),
            target: self.target,
            along: self.sources.of(self.mode, shared).map(|(number, _)| number),
            compare: self.compares(shared),
        }
    }

    /// Whether what is shown at the cursor is of the text and the wish of now.
    fn fresh(&self, shared: &Shared) -> bool {
        let column = self.held.columns.get(&shared.position);
        self.held.tokens == shared.tokens
            && column.is_some_and(|column| column.wish.serves(&self.wish(shared)))
    }

    /// Whether the difference is shown: asked for, and there is one to make.
    fn compares(&self, shared: &Shared) -> bool {
        self.compare
            && shared
                .interventions
                .iter()
                .any(|chip| chip.on && !chip.edits.is_empty())
    }

    /// The cursor's row of the map: the embedding is 0, layer L is L + 1.
    fn row(&self, shared: &Shared) -> usize {
        if self.embedding { 0 } else { shared.layer + 1 }
    }

    fn set_row(&mut self, row: usize, cx: &mut Context) {
        self.embedding = row == 0;
        cx.shared.layer = row.saturating_sub(1).min(cx.shared.layers() - 1);
    }

    /// The tokens listed for the cursor's cell.
    fn listed(&self, shared: &Shared) -> usize {
        let place = self.held.place(self.row(shared), shared.position);
        place.map_or(0, |place| place.cell.top.len())
    }

    /// They as text, as they are drawn.
    fn texts(&self, shared: &Shared) -> Vec<String> {
        let place = self.held.place(self.row(shared), shared.position);
        let top = place.into_iter().flat_map(|place| &place.cell.top);
        top.map(|top| cells::visible(self.held.word(top.id), false))
            .collect()
    }

    /// Those of them that the filter leaves, by number.
    fn left(&self, shared: &Shared) -> Vec<usize> {
        if self.filter.is_empty() {
            return (0..self.listed(shared)).collect();
        }
        self.filter.left(self.texts(shared))
    }

    fn vertical(&mut self, rows: isize, cx: &mut Context) {
        if self.pane == Pane::List {
            self.picked = step(&self.left(cx.shared), self.picked, -rows);
        } else {
            let row = self.row(cx.shared).saturating_add_signed(rows);
            self.set_row(row, cx);
            self.pick_first(cx.shared);
        }
    }

    fn horizontal(&mut self, to: usize, cx: &mut Context) {
        cx.shared.position = to.min(cx.shared.tokens.len().saturating_sub(1));
        self.pick_first(cx.shared);
    }

    /// The likeliest of the tokens that are left.
    fn pick_first(&mut self, shared: &Shared) {
        self.picked = self.left(shared).first().copied().unwrap_or(0);
    }

    fn take_target(&mut self, cx: &mut Context) {
        if !self.left(cx.shared).contains(&self.picked) {
            return cx.say("no listed token holds the filter\'s words");
        }
        let place = self.held.place(self.row(cx.shared), cx.shared.position);
        let Some(top) = place.and_then(|place| place.cell.top.get(self.picked)) else {
            return;
        };
        self.target = if self.target == Some(top.id) {
            None
        } else {
            Some(top.id)
        };
        match self.target {
            Some(id) => cx.say(format!(
                "following {}",
                cells::visible(self.held.word(id), false)
            )),
            None => cx.say("following the model's own next token"),
        }
    }

    /// Goes to where the answer comes from: the layer from which on the target is the likeliest token.
    fn appears(&mut self, cx: &mut Context) {
        self.seeking = !self.fresh(cx.shared);
        let column = self.held.columns.get(&cx.shared.position);
        let Some(column) = column.filter(|_| !self.seeking) else {
            cx.say("goes to where the answer appears as soon as it has been computed");
            return;
        };
        let word = cells::visible(self.held.word(column.target), false);
        let name = |row: usize| match row {
            0 => "the embedding".to_owned(),
            row => format!("layer {}", row - 1),
        };
        let (row, text) = match column.settles() {
            Some(row) => (
                row,
                format!("{word} is the likeliest token from {} on", name(row)),
            ),
            None => {
                let (row, rank) = column.nearest();
                let text = format!(
                    "{word} is not the likeliest at the end; its best is rank {rank} at {}",
                    name(row)
                );
                (row, text)
            }
        };
        cx.say(text);
        self.set_row(row, cx);
        self.picked = 0;
    }

    fn edited(&mut self, outcome: Edited, cx: &mut Context) {
        match outcome {
            Edited::Open => {}
            Edited::Refused(why) => cx.say(why),
            Edited::Left => self.editor = None,
            Edited::Taken(prompt) => {
                self.editor = None;
                cx.shared.set_prompt(prompt);
            }
        }
    }

    fn open_editor(&mut self, adding: bool, cx: &mut Context) {
        let prompt = &cx.shared.prompt;
        match if adding {
            Editor::adding(prompt)
        } else {
            Editor::of(prompt)
        } {
            Ok(editor) => self.editor = Some(editor),
            Err(why) => cx.say(why.to_string()),
        }
    }

    /// Lets what failed or was stopped be asked for again; where neither is the case, everything.
    fn again(&mut self) {
        let (failed, stopped) = (self.failed.take(), self.stopped.take());
        if failed.is_none() && stopped.is_none() {
            self.held.columns.clear();
        }
    }

    /// Whether a model is open; nothing of another one is kept.
    fn adopt(&mut self, shared: &Shared) -> bool {
        let Some(facts) = shared.model.facts() else {
            return false;
        };
        let model = Arc::as_ptr(&facts.checkpoint) as usize;
        if model != self.model {
            // Another model's words and layers: nothing of it can be shown, not even as old.
            self.held = Held::default();
            self.sources = Sources::default();
            (self.model, self.target, self.failed) = (model, None, None);
        }
        true
    }

    /// Asks for what is missing around the cursor.
    fn ask(&mut self, wish: Wish, positions: Vec<usize>, cx: &mut Context) {
        self.stopped = None;
        self.failed = None;
        let along = self.sources.of(self.mode, cx.shared);
        let ask = Ask {
            model: self.model,
            wish: wish.clone(),
            tokens: cx.shared.tokens.clone(),
            positions: positions.clone(),
            edits: cx.shared.edits(),
            along: along.map(|(_, along)| along),
        };
        self.asked = Some(Asked { wish, positions });
        self.open += 1;
        cx.ask("logit lens", move |checkpoint, ticket| {
            read(checkpoint, ticket, &ask)
        });
    }
}

impl Screen for LensScreen {
    fn id(&self) -> &'static str {
        "lens"
    }

    fn about(&self) -> &'static str {
        "What the model would say next if it stopped at each layer, token by token"
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        let Some(facts) = shared.model.facts() else {
            return match action {
                "edit" => Ok(()),
                _ => Err("no model is open; `:open NAME` opens one".into()),
            };
        };
        match action {
            "compare" if shared.edits().is_empty() => Err(
                "there is nothing to compare: no intervention is on; knock a head out in attention (x), or ablate in generate"
                    .into(),
            ),
            "raw" if facts.checkpoint.template.is_none() => {
                Err("this model has no chat template: it reads the text as it is".into())
            }
            "add_turn" if facts.checkpoint.template.is_none() => {
                Err("this model has no chat template, so there are no turns".into())
            }
            "drop_turn" if shared.prompt.raw.is_some() || shared.prompt.turns.len() < 2 => {
                Err("there is no turn to remove".into())
            }
            "appears" if shared.tokens.is_empty() => Err("there is no text".into()),
            "target" if self.listed(shared) == 0 => Err("nothing has been computed here yet".into()),
            "clear_target" if self.target.is_none() => Err("no token is followed".into()),
            _ => Ok(()),
        }
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        let position = cx.shared.position;
        match action {
            "left" => self.horizontal(position.saturating_sub(1), cx),
            "right" => self.horizontal(position + 1, cx),
            "first_token" => self.horizontal(0, cx),
            "last_token" => self.horizontal(usize::MAX, cx),
            "up" => self.vertical(1, cx),
            "down" => self.vertical(-1, cx),
            "deeper" => self.vertical(8, cx),
            "shallower" => self.vertical(-8, cx),
            "first_layer" => self.set_row(1, cx),
            "last_layer" => self.set_row(usize::MAX, cx),
            "mode" => {
                let mut skipped = Vec::new();
                self.mode = self.mode.next();
                while let Some(why) = self.sources.lacks(self.mode, cx.shared) {
                    skipped.push(why);
                    self.mode = self.mode.next();
                }
                if !skipped.is_empty() {
                    cx.say(skipped.join("; "));
                }
            }
            "scale" => {
                self.ends = self.ends.next();
                cx.say(format!("colours: {}", self.ends.name()));
            }
            "digits" => self.digits = !self.digits,
            "compare" => self.compare = !self.compare,
            "target" => self.take_target(cx),
            "clear_target" => self.target = None,
            "pane" => {
                self.pane = if self.pane == Pane::Map {
                    Pane::List
                } else {
                    Pane::Map
                };
            }
            "edit" => self.open_editor(false, cx),
            "add_turn" => self.open_editor(true, cx),
            "drop_turn" => {
                let mut prompt = cx.shared.prompt.clone();
                prompt.turns.pop();
                cx.shared.set_prompt(prompt);
            }
            "raw" => {
                let prompt = editor::toggled(&cx.shared.prompt);
                cx.shared.set_prompt(prompt);
            }
            "wider" => self.wider = (self.wider + 2).min(22),
            "narrower" => self.wider = (self.wider - 2).max(-22),
            "appears" => self.appears(cx),
            "attention" => cx
                .commands
                .push(crate::tui::screen::Command::Go("attention")),
            "again" => self.again(),
            _ => {}
        }
    }

    fn takes_text(&self) -> bool {
        self.editor.is_some()
    }

    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        if let Some(editor) = &mut self.editor {
            let outcome = editor.key(key);
            self.edited(outcome, cx);
        }
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        if self.editor.is_none() {
            self.open_editor(false, cx);
        }
        if let Some(editor) = &mut self.editor {
            let outcome = editor.paste(text);
            self.edited(outcome, cx);
        }
    }

    fn click(&mut self, what: u16, column: usize, row: usize, cx: &mut Context) {
        match what {
            CELL => {
                self.pane = Pane::Map;
                self.horizontal(column, cx);
                self.set_row(row, cx);
            }
            TOKEN => self.horizontal(column, cx),
            LISTED if self.pane == Pane::List && self.picked == row => self.take_target(cx),
            LISTED => {
                self.pane = Pane::List;
                self.picked = row;
            }
            _ => {}
        }
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.vertical(-(rows as isize), cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        if !self.adopt(cx.shared) {
            return;
        }
        let (len, cursor) = (cx.shared.tokens.len(), cx.shared.position);
        let wish = self.wish(cx.shared);
        // What failed is no longer wanted: what is there is shown again.
        self.failed.take_if(|(failed, _)| *failed != wish);
        if len == 0 || self.failed.is_some() || self.stopped.as_ref() == Some(&wish) {
            return;
        }
        let nothing = Held::default();
        let held = if self.held.tokens == cx.shared.tokens {
            &self.held
        } else {
            &nothing
        };
        let near = cursor.saturating_sub(NEAR)..(cursor + NEAR + 1).min(len);
        let wanted = held.missing(&wish, near, cursor);
        let under_way = |asked: &Asked| {
            asked.wish.serves(&wish) && wanted.iter().all(|at| asked.positions.contains(at))
        };
        if wanted.is_empty() || self.asked.as_ref().is_some_and(under_way) {
            return;
        }
        let positions = held.missing(&wish, window(len, cursor), cursor);
        self.ask(wish, positions, cx);
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        let (ended, value, why) = match reply {
            Reply::Part(value) => (false, Some(value), None),
            Reply::Done(value) => (true, Some(value), None),
            Reply::Failed(why) => (true, None, Some(why)),
            Reply::Cancelled => (true, None, None),
        };
        let reading = value.and_then(|value| value.downcast::<Reading>().ok());
        if let Some(reading) = reading.filter(|reading| reading.model == self.model) {
            self.held.take(*reading);
            if self.seeking && self.fresh(cx.shared) {
                self.appears(cx);
            }
        }
        if ended {
            self.open = self.open.saturating_sub(1);
        }
        // What ends before the newest request is of one that it replaced.
        if ended && self.open == 0 {
            let asked = self.asked.take();
            self.failed = asked.zip(why).map(|(asked, why)| (asked.wish, why));
            self.seeking = false;
        }
    }

    fn cancel(&mut self, _cx: &mut Context) -> bool {
        if self.editor.take().is_some() {
            return true;
        }
        if self.pane == Pane::List {
            self.pane = Pane::Map;
            return true;
        }
        if let Some(asked) = &self.asked {
            // The frame stops the work; it is not to be asked for again at once.
            self.stopped = Some(asked.wish.clone());
        }
        false
    }

    fn list(&self, shared: &Shared) -> Option<Listed> {
        (self.listed(shared) > 0).then(|| Listed {
            name: "next tokens",
            rows: self.texts(shared),
        })
    }

    fn narrow(&mut self, _list: &'static str, filter: &Filter, cx: &mut Context) {
        self.filter = filter.clone();
        self.picked = step(&self.left(cx.shared), self.picked, 0);
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        let (first, rest) = words.split_first()?;
        let text = rest.join(" ");
        Some(match (*first, rest) {
            ("prompt", [_, ..]) => {
                let prompt = editor::with_text(&cx.shared.prompt, &text);
                cx.shared.set_prompt(prompt);
                Ok(())
            }
            ("prompt", []) => {
                self.open_editor(false, cx);
                Ok(())
            }
            ("target", []) => {
                self.target = None;
                Ok(())
            }
            ("target", _) => match cx.shared.model.facts() {
                None => Err("no model is open".into()),
                Some(facts) => twin::target(&facts.checkpoint, &text).map(|id| {
                    self.held
                        .words
                        .insert(id, facts.checkpoint.tokenizer.token(id));
                    self.target = Some(id);
                }),
            },
            ("mode", [name]) => Mode::named(name).and_then(|mode| {
                if let Some(why) = self.sources.lacks(mode, cx.shared) {
                    return Err(why.to_owned());
                }
                self.mode = mode;
                Ok(())
            }),
            ("mode", _) => {
                let names = Mode::ALL.map(Mode::name).join(", ");
                Err(format!("mode NAME: {names}"))
            }
            ("project", _) => self.project(Mode::Projection, &text, cx),
            ("probe", _) => self.project(Mode::Probe, &text, cx),
            _ => return None,
        })
    }

    fn commands(&self) -> &'static [&'static str] {
        &[
            "prompt TEXT",
            "target TEXT",
            "mode prob",
            "mode entropy",
            "mode kl",
            "mode rank",
            "mode norm",
            "mode projection",
            "mode probe",
            "project FILE",
            "probe FILE",
        ]
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, shared: &Shared) -> Vec<String> {
        spoken::lines(self, shared)
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        written::command_line(self, shared)
    }

    fn data(&self, shared: &Shared) -> Option<Data> {
        written::data(self, shared)
    }
}
