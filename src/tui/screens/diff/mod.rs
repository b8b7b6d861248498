//! Two checkpoints side by side: their weights, what they say after each token of the prompt, where their answers part, which
//! latents only one of them has.
//!
//! State here, keys in `keys.rs`, what they do in `acts.rs`, the work in `work.rs`, drawing in `view.rs` and `texts.rs`, files
//! and words in `written.rs`.
//!
//! Always: both read the tokens of the open model's prompt; changes are from the first to the second, and which is which is
//! said wherever they are shown. Interventions are left out: checkpoints are compared as they are stored. The other model is
//! let go with the screen.

mod acts;
mod keys;
mod texts;
mod view;
mod work;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::lens::editor::{Edited, Editor};
use super::pending::Pending;
use super::run;
use crate::compare::{Parting, TokenChange, WeightChange};
use crate::model::Checkpoint;
use crate::pipeline::stations::Station;
use crate::tui::keys::Binding;
use crate::tui::screen::{Command, Context, Data, Hits, Reply, Screen, View};
use crate::tui::shared::Shared;
use work::{Answer, Found, Told};

/// Tokens of an answer, unless told otherwise.
const ANSWER: usize = 48;

/// The model that the open one is beside.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Other {
    /// None yet.
    #[default]
    None,
    /// By name or path.
    Named(String),
    /// A checkpoint of the run that is open: its place, what it is called, its path.
    Station(usize, String, PathBuf),
}

impl Other {
    /// What it is called; none where there is none.
    fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Named(name) | Self::Station(_, name, _) => Some(name),
        }
    }

    /// What opens it.
    fn spec(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Named(name) => Some(name.clone()),
            Self::Station(_, _, path) => Some(path.display().to_string()),
        }
    }
}

/// Which pane has the keys.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Pane {
    #[default]
    Weights,
    Tokens,
    Answers,
    Latents,
}

impl Pane {
    const ALL: [Self; 4] = [Self::Weights, Self::Tokens, Self::Answers, Self::Latents];

    fn word(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Tokens => "tokens",
            Self::Answers => "answers",
            Self::Latents => "latents",
        }
    }

    fn turned(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// Part of a comparison: not done yet, done, or why not.
type Part<T> = Option<Result<T, String>>;

/// What was compared.
#[derive(Default)]
struct Compared {
    /// Of these two, the first and the second.
    names: [String; 2],
    /// On these tokens.
    ids: Vec<u32>,
    weights: Part<Vec<WeightChange>>,
    tokens: Part<Vec<TokenChange>>,
    parting: Part<Parting>,
    latents: Part<Found>,
    /// Texts of tokens.
    words: BTreeMap<u32, String>,
}

impl Compared {
    fn word(&self, id: u32) -> &str {
        self.words.get(&id).map_or("", String::as_str)
    }
}

/// The screen.
#[derive(Default)]
pub struct DiffScreen {
    line: run::Line,
    editor: Option<Editor>,
    other: Other,
    /// The open model is the first of the two.
    swapped: bool,
    dictionary: Option<PathBuf>,
    /// Tokens of an answer; none for [`ANSWER`].
    answer: Option<usize>,
    pane: Pane,
    /// Layer and column of the weights.
    cell: (usize, usize),
    /// The token's row.
    row: usize,
    /// The other model, while the screen is shown.
    held: Option<(Other, Arc<Checkpoint>)>,
    compared: Option<Compared>,
    pending: Pending<u64, u64>,
    /// Tells one open model from another.
    model: usize,
}

impl DiffScreen {
    /// Names of the first and the second.
    fn names(&self, shared: &Shared) -> Option<[String; 2]> {
        let open = &shared.model.facts()?.name;
        // A checkpoint of the run is known by its step, not by where it lies.
        let mut stations = shared.run.stations().into_iter().flat_map(|run| &run.all);
        let station = stations.find(|station| station.path == Path::new(open));
        let open = station.map_or_else(|| open.clone(), Station::name);
        let other = self.other.name()?.to_owned();
        Some(if self.swapped {
            [open, other]
        } else {
            [other, open]
        })
    }

    /// The roles of the blocks' weights, in the order of the first block that has them.
    fn roles(changes: &[WeightChange]) -> Vec<&str> {
        let mut roles: Vec<&str> = Vec::new();
        for change in changes.iter().filter(|change| change.layer.is_some()) {
            if !roles.contains(&change.role.as_str()) {
                roles.push(&change.role);
            }
        }
        roles
    }

    fn forget(&mut self) {
        self.compared = None;
        self.held = None;
        self.pending = self.pending.forgotten();
    }

    /// The open model is taken in: what was compared with another one is nothing to it.
    fn adopt(&mut self, cx: &mut Context) {
        let Some(facts) = cx.shared.model.facts() else {
            return;
        };
        let model = Arc::as_ptr(&facts.checkpoint) as usize;
        if model != self.model {
            self.withdraw(cx);
            self.forget();
            self.model = model;
        }
    }

    /// Stops what is being compared.
    fn withdraw(&mut self, cx: &mut Context) {
        if self.pending.job.is_some() {
            self.pending.withdrawn = true;
            cx.commands.push(Command::Withdraw(cx.screen));
        }
    }

    fn take(&mut self, told: Told, cx: &mut Context) {
        let ours = told.model == self.model && Some(told.job) == self.pending.job;
        if !ours {
            return;
        }
        match told.answer {
            Answer::Ended(why) => {
                self.pending.job = None;
                self.pending.failed = why;
                return;
            }
            // Only while it is looked at: it is as large as the open one.
            Answer::Beside(other, checkpoint) => {
                self.held = Some((other, checkpoint));
                return;
            }
            _ => {}
        }
        let Some(compared) = &mut self.compared else {
            return;
        };
        match told.answer {
            Answer::Weights(result) => compared.weights = Some(result),
            Answer::Tokens(result) => compared.tokens = Some(result),
            Answer::Parting(result) => {
                compared.parting = Some(result);
                if let Some(Ok(Parting { fork: None, .. })) = &compared.parting {
                    cx.say("both answer with the same tokens");
                }
            }
            Answer::Latents(result) => compared.latents = Some(result),
            Answer::Words(words) => compared.words.extend(words),
            Answer::Ended(_) | Answer::Beside(..) => {}
        }
    }
}

impl Screen for DiffScreen {
    fn id(&self) -> &'static str {
        "diff"
    }

    fn about(&self) -> &'static str {
        "Two checkpoints side by side: weights, next tokens, where their answers part, latents gained and lost"
    }

    fn bindings(&self) -> &'static [Binding] {
        keys::KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        self.allowed(action, shared)
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        self.does(action, cx);
    }

    fn takes_text(&self) -> bool {
        self.line.typing || self.editor.is_some()
    }

    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        if let Some(editor) = &mut self.editor {
            match editor.key(key) {
                Edited::Open => {}
                Edited::Left => self.editor = None,
                Edited::Refused(why) => cx.say(why),
                Edited::Taken(prompt) => {
                    self.editor = None;
                    cx.shared.set_prompt(prompt);
                }
            }
        } else if let Some(name) = self.line.key(key, cx) {
            self.beside(name, cx);
        }
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        match &mut self.editor {
            Some(editor) => {
                if let Edited::Refused(why) = editor.paste(text) {
                    cx.say(why);
                }
            }
            None => self.line.paste(text, "o", cx),
        }
    }

    fn click(&mut self, what: u16, column: usize, row: usize, _cx: &mut Context) {
        match what {
            view::CELL => (self.pane, self.cell) = (Pane::Weights, (row, column)),
            view::TOKEN => (self.pane, self.row) = (Pane::Tokens, row),
            view::PANE => self.pane = Pane::ALL[row.min(Pane::ALL.len() - 1)],
            _ => {}
        }
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(if rows > 0 { "down" } else { "up" }, cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        self.adopt(cx);
        if cx.shared.model.facts().is_none() {
            return;
        }
        // What was compared is of another prompt now.
        let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
        let old = self
            .compared
            .as_ref()
            .is_some_and(|compared| compared.ids != ids);
        if old && self.pending.job.is_none() && self.pending.failed.is_none() {
            self.compare(cx);
        }
    }

    fn leave(&mut self, cx: &mut Context) {
        self.withdraw(cx);
        self.held = None;
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        let reply = match reply {
            Reply::Done(value) | Reply::Part(value) => match value.downcast::<run::Looked>() {
                Ok(looked) => return run::take(*looked, cx),
                Err(value) => Reply::Done(value),
            },
            other => other,
        };
        if let Some(told) = self.pending.reply(reply) {
            self.take(told, cx);
        }
        self.pending.settle();
    }

    fn cancel(&mut self, cx: &mut Context) -> bool {
        if self.editor.take().is_some() || self.line.close() {
            return true;
        }
        self.pending.cancel("stopped; what was compared stays", cx)
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        self.obeys(words, cx)
    }

    fn commands(&self) -> &'static [&'static str] {
        &["beside MODEL", "latents PATH", "answer N"]
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, shared: &Shared) -> Vec<String> {
        written::spoken(self, shared)
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        written::command_line(self, shared)
    }

    fn data(&self, _shared: &Shared) -> Option<Data> {
        written::data(self)
    }
}
