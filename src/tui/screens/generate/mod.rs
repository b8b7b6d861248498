//! Generate: an answer as it comes, with the interventions and without, side by side; held, rewound, branched, dosed.
//!
//! State and keys here; `stream.rs` is what is shown, `acts.rs` what keys do, `order.rs` what is asked of the
//! worker and comes back, `run.rs` the worker's side, `steering.rs`, `picker.rs` and `dose.rs` interventions and their
//! slider, `flow.rs`, `view.rs` and `popups.rs` the drawing.
//!
//! Always: the edited answer is computed first; the unedited one once for a prompt and a drawing, however the dose moves.

mod acts;
pub(in crate::tui::screens) mod dose;
pub(in crate::tui::screens) mod flow;
mod order;
mod picker;
mod popups;
pub(in crate::tui::screens) mod run;
mod spoken;
mod steering;
mod stream;
#[cfg(test)]
mod tests;
mod view;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::hooks::Vector;
use crate::model::Checkpoint;
use crate::model::sample::SampleOptions;
use crate::steer::{Steering, StreamScale};
use crate::tui::keys::{Binding, bind};
use crate::tui::screen::{Context, Data, Hits, Reply, Screen, View};
use crate::tui::screens::lens::editor::{Edited, Editor};
use crate::tui::screens::lens::twin;
use crate::tui::shared::{Shared, quoted};
use picker::Picker;
use run::Store;
use stream::{EDITED, PLAIN, Side};

const KEYS: &[Binding] = &[
    bind(
        "space",
        "hold",
        "hold/go on",
        "Hold the generation, or go on",
    ),
    bind(
        "p",
        "prompt",
        "prompt",
        "Write the prompt, turn by turn: Tab the next, Ctrl-N a new one, Ctrl-T the system's; Enter takes it",
    ),
    bind(
        "a",
        "pick",
        "intervene",
        "Add an intervention: ablate or add a direction",
    ),
    bind(
        ",",
        "less",
        "less",
        "Less of the chosen intervention, by a step",
    ),
    bind(
        ".",
        "more",
        "more",
        "More of the chosen intervention, by a step",
    ),
    bind("<", "much_less", "", "Less by five steps"),
    bind(">", "much_more", "", "More by five steps"),
    bind(
        "0",
        "zero",
        "",
        "Dose 0, as if it was not there; again for dose 1",
    ),
    bind("c", "chip", "", "The next intervention gets the dose keys"),
    bind("h left", "left", "token", "The token before"),
    bind("l right", "right", "", "The next token"),
    bind("j down", "line_down", "", "The line below"),
    bind("k up", "line_up", "", "The line above"),
    bind("g home", "first", "", "The first token"),
    bind("G end", "last", "", "The last token, and follow new ones"),
    bind(
        "d",
        "diverge",
        "",
        "The first token where the two answers differ",
    ),
    bind(
        "tab",
        "side",
        "side",
        "The other answer: edited or unedited",
    ),
    bind(
        "r",
        "rewind",
        "rewind",
        "Go back to before this token, and hold",
    ),
    bind(
        "b",
        "branch",
        "branch",
        "Take another token here and go on from it; the answer so far stays",
    ),
    bind("n", "next_branch", "", "The next branch"),
    bind("N", "previous_branch", "", "The branch before"),
    bind("S", "seed", "seed", "Draw again with the next seed"),
    bind(
        "t",
        "temperature",
        "",
        "Greedy, temperature 0.7, temperature 1.0",
    ),
];

/// How answers are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How tokens are drawn.
    pub sample: SampleOptions,
    /// Most tokens of an answer.
    pub max_new: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sample: SampleOptions::default(),
            max_new: 128,
        }
    }
}

/// What takes the keys.
#[derive(Debug, Clone, Default)]
enum Mode {
    /// The table of keys.
    #[default]
    Keys,
    /// The prompt is written.
    Prompt(Box<Editor>),
    /// An intervention is picked.
    Pick(Picker),
    /// Another token is picked at the cursor; which one is selected.
    Branch(usize),
}

/// What was generated for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct For {
    version: u64,
    ids: Vec<u32>,
}

/// What the worker answers with, whatever happened.
enum Report {
    /// The order is done, or was stopped.
    Over {
        generation: u64,
        failed: Option<String>,
    },
    /// A direction, or why there is none.
    Direction(Result<Box<Made>, String>),
    /// A vector that is kept, measured against the stream of another prompt.
    Scale(String, Result<Measured, String>),
}

/// A direction that was made, and what for.
struct Made {
    steering: Steering,
    measured: Measured,
}

/// A vector with the stream it is added to or taken out of.
#[derive(Debug, Clone)]
struct Measured {
    vector: Vector,
    scale: StreamScale,
    /// The prompt whose stream it is.
    ids: Vec<u32>,
}

/// The screen.
#[derive(Default)]
pub struct GenerateScreen {
    sides: [Side; 2],
    /// The side with the cursor.
    focus: usize,
    /// The token with the cursor.
    cursor: usize,
    /// Columns of an answer in the last frame: where its lines break is known to the drawing alone.
    wide: Cell<u16>,
    settings: Settings,
    mode: Mode,
    /// Which of the interventions that can be dosed has the dose keys.
    chip: usize,
    /// Vectors that were made for this model, by their source and layer.
    made: BTreeMap<String, Measured>,
    /// What is being measured against the prompt of now.
    measuring: BTreeSet<String>,
    /// Version after the last step of a dose: the next step belongs to the same change.
    stepped: Option<u64>,
    done_for: Option<For>,
    model: Weak<Checkpoint>,
    store: Arc<Mutex<Store>>,
    /// Moves with every order; what comes of older ones is dropped.
    generation: u64,
    /// Orders without an end yet.
    orders: usize,
    /// When the last change was, for the debounce.
    changed: Option<Instant>,
    /// The user holds it.
    held: bool,
    /// A direction is being made.
    making: Option<String>,
    failed: Option<String>,
}

impl GenerateScreen {
    /// The side that is looked at: the unedited one where there is no other.
    fn side(&self) -> usize {
        if self.sides[EDITED].branches.is_empty() {
            PLAIN
        } else {
            self.focus
        }
    }

    /// The answer with the cursor.
    fn shown(&self) -> Option<&stream::Stream> {
        self.sides[self.side()].shown()
    }

    /// The token with the cursor.
    fn token(&self) -> Option<&stream::Token> {
        self.shown()?.tokens.get(self.cursor)
    }

    fn running(&self) -> bool {
        self.orders > 0 && !self.held
    }

    /// Whether an answer is to go on.
    fn unfinished(&self) -> bool {
        let all = self.sides.iter().flat_map(|side| &side.branches);
        all.into_iter().any(stream::Stream::open)
    }

    /// Where the two shown answers part.
    fn divergence(&self) -> Option<usize> {
        let [edited, plain] = &self.sides;
        stream::divergence(edited.shown()?, plain.shown()?)
    }
}

impl Screen for GenerateScreen {
    fn id(&self) -> &'static str {
        "generate"
    }

    fn about(&self) -> &'static str {
        "Answers as they come, with the interventions and without; hold, rewind, branch, and turn the dose"
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        let no = |why: &str| Err(why.to_string());
        let tokens = self.shown().map_or(0, |stream| stream.tokens.len());
        match action {
            "prompt" => Ok(()),
            _ if shared.tokens.is_empty() => match (&shared.prompt_error, shared.model.facts()) {
                (Some(why), _) => Err(why.clone()),
                (None, Some(_)) => no("the prompt is empty; p writes one"),
                (None, None) => no("no model is open; `:open NAME` opens one"),
            },
            "pick" if self.making.is_some() => {
                no("a direction is being made; wait for it, or stop it with Ctrl-C")
            }
            "less" | "more" | "much_less" | "much_more" | "zero" | "chip"
                if dose::dosed(shared).is_empty() =>
            {
                no("no intervention with a dose; a adds one")
            }
            "hold" if !self.running() && !self.unfinished() => no(
                "the answers are complete; S draws others, `:max N` makes them longer, r goes back to the cursor",
            ),
            "side" if self.sides[EDITED].branches.is_empty() => {
                no("there is one answer only; a adds an intervention to compare with")
            }
            "diverge" if self.divergence().is_none() => no("the two answers do not differ so far"),
            "left" | "right" | "line_up" | "line_down" | "first" | "last" | "rewind" | "branch"
                if tokens == 0 =>
            {
                no("no token has come yet")
            }
            "branch" if self.token().is_none() => no("the cursor is on no token; h goes back"),
            "branch" if self.sides[self.side()].branches.len() >= stream::BRANCHES => {
                no("nine branches are the most; a change of seed or dose begins anew")
            }
            "next_branch" | "previous_branch" if self.sides[self.side()].branches.len() < 2 => {
                no("there is one branch only; b makes another at the cursor")
            }
            "seed" if self.settings.sample.temperature == 0.0 => {
                no("greedy decoding draws nothing; t chooses a temperature")
            }
            _ => Ok(()),
        }
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        acts::act(self, action, cx);
    }

    fn takes_text(&self) -> bool {
        !matches!(self.mode, Mode::Keys)
    }

    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        acts::text_key(self, key, cx);
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        match &mut self.mode {
            Mode::Prompt(editor) => {
                if let Edited::Refused(why) = editor.paste(text) {
                    cx.say(why);
                }
            }
            Mode::Pick(picker) => picker.paste(text),
            Mode::Keys | Mode::Branch(_) => cx.say("p writes the prompt; paste there"),
        }
    }

    fn click(&mut self, what: u16, column: usize, row: usize, cx: &mut Context) {
        acts::click(self, what, column, row, cx);
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        if self.enabled("left", cx.shared).is_ok() {
            acts::act(self, if rows > 0 { "right" } else { "left" }, cx);
        }
    }

    fn refresh(&mut self, cx: &mut Context) {
        order::refresh(self, cx);
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        order::reply(self, reply, cx);
    }

    fn cancel(&mut self, cx: &mut Context) -> bool {
        acts::cancel(self, cx)
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        acts::command(self, words, cx)
    }

    fn commands(&self) -> &'static [&'static str] {
        &["temperature X", "top-p X", "max N", "seed N"]
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, _shared: &Shared) -> Vec<String> {
        spoken::lines(self)
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        let facts = shared.model.facts()?;
        Some(line(&self.settings, &facts.name, shared))
    }

    fn data(&self, _shared: &Shared) -> Option<Data> {
        data(self)
    }
}

/// The command that generates the same: the first branch of each side.
fn line(settings: &Settings, model: &str, shared: &Shared) -> String {
    let sample = settings.sample;
    let (prompt, note) = prompt(shared);
    let mut line = format!("candlescope run {} {prompt}", quoted(model));
    line += &format!(" --max-new {}", settings.max_new);
    if sample.temperature > 0.0 {
        line += &format!(" --temperature {}", sample.temperature);
        if let Some(p) = sample.top_p {
            line += &format!(" --top-p {p}");
        }
        line += &format!(" --seed {}", sample.seed);
    }
    let options = shared.options();
    line += &options;
    if !options.is_empty() {
        line += " --compare";
    }
    line + note
}

/// The prompt as `run` takes it, several turns that it has no options for as the text they are rendered to; and a comment
/// for the line's end where no text gives the same tokens.
fn prompt(shared: &Shared) -> (String, &'static str) {
    let turns = &shared.prompt.turns;
    match turns.as_slice() {
        [system, user] if system.role == "system" && user.role == "user" => (
            format!(
                "{} --system {}",
                quoted(&user.content),
                quoted(&system.content)
            ),
            "",
        ),
        [_, _, ..] if shared.prompt.raw.is_none() => {
            let facts = shared.model.facts();
            match facts.and_then(|facts| twin::rendered(&facts.checkpoint, turns, shared)) {
                Some(text) => (format!("--raw {}", quoted(&text)), ""),
                None => (shared.prompt_argument(), " # of several turns, the last"),
            }
        }
        _ => (shared.prompt_argument(), ""),
    }
}

fn data(screen: &GenerateScreen) -> Option<Data> {
    let mut rows = Vec::new();
    let mut json = Vec::new();
    for (name, side) in ["edited", "unedited"].iter().zip(&screen.sides) {
        for (branch, stream) in side.branches.iter().enumerate() {
            for (index, token) in stream.tokens.iter().enumerate() {
                rows.push(vec![
                    (*name).to_string(),
                    branch.to_string(),
                    index.to_string(),
                    token.id.to_string(),
                    token.text.clone(),
                    token.log_prob.to_string(),
                    token.forced.to_string(),
                ]);
                let top: Vec<_> = token.top.iter().map(|t| serde_json::json!({"id": t.id, "token": t.text, "log_prob": t.log_prob})).collect();
                json.push(serde_json::json!({
                    "side": name, "branch": branch, "index": index, "id": token.id, "token": token.text,
                    "log_prob": token.log_prob, "forced": token.forced, "top": top,
                }));
            }
        }
    }
    let headers = [
        "side", "branch", "index", "id", "token", "log_prob", "forced",
    ];
    (!rows.is_empty()).then(|| Data {
        headers: headers.map(String::from).into(),
        rows,
        json: serde_json::json!({
            "schema": "candlescope.generate/1",
            "sample": screen.settings.sample,
            "max_new": screen.settings.max_new,
            "first_divergence": screen.divergence(),
            "tokens": json,
        }),
    })
}
