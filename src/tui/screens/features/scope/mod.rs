//! The oscilloscope: latents, probes and directions as lanes over the tokens, while the model generates.
//!
//! State here, keys in `keys.rs` and `acts.rs`, how far latents are turned in `dose.rs`, runs in `branch.rs`, the worker's side
//! in `work.rs`, what is asked of it in `order.rs`, drawing in `view.rs`, `rows.rs` and `lanes.rs`, words and files in
//! `written.rs`.
//!
//! Always: no key waits for the model; every order moves the generation, so that what is on its way for an older one is
//! dropped; a run stays what its turns say, wherever it was stopped.

mod acts;
mod branch;
mod dose;
mod keys;
mod lanes;
mod order;
mod rows;
#[cfg(test)]
mod tests;
mod view;
mod work;
mod written;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Instant;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::features::Splice;
use crate::features::scope::{Channel, Comparison, Lane, Scope};
use crate::model::sample::SampleOptions;
use crate::model::{Checkpoint, Fingerprint};
use crate::tui::keys as key_names;
use crate::tui::screen::{Context, Data, Reply, View};
use crate::tui::shared::Shared;

use branch::Branch;
use dose::Way;
use work::{Shelf, Told};

pub use keys::KEYS;

/// What a latent is called, where it has a name.
pub type Labels<'a> = &'a dyn Fn(usize) -> Option<String>;

/// Most branches, the first run included.
const BRANCHES: usize = 9;
/// Lanes that `f` fills at least.
const LANES: usize = 6;

/// What runs are made for.
#[derive(Debug, Clone, Default)]
struct For {
    version: Option<u64>,
    model: Weak<Checkpoint>,
}

/// The pane.
pub struct ScopePane {
    splice: Splice,
    channels: Vec<Channel>,
    /// Their files, for the command line.
    files: Vec<(&'static str, PathBuf)>,
    /// What they were made on, where they say so; the worker compares it.
    made_on: Vec<(String, Fingerprint)>,
    sample: SampleOptions,
    max_new: usize,
    branches: Vec<Branch>,
    current: usize,
    lanes: Vec<Lane>,
    /// Latents that it was opened for.
    opened_for: Vec<usize>,
    /// Lanes were chosen by the user; until then they follow the prompt.
    chosen: bool,
    lane: usize,
    cursor: usize,
    /// The cursor stays on the newest token.
    follows: bool,
    way: Way,
    comparing: bool,
    compared: Option<Comparison>,
    /// Branches and shared tokens whose divergence is being measured.
    measuring: Option<([usize; 2], usize)>,
    /// What was measured.
    measured: Option<([usize; 2], Vec<f64>)>,
    held: bool,
    failed: Option<String>,
    generation: u64,
    /// Orders that have not ended.
    orders: usize,
    /// When a latent was last turned.
    turned: Option<Instant>,
    made_for: For,
    shelf: Shelf,
    /// Rows that the lanes had when they were last drawn.
    room: Cell<usize>,
}

impl ScopePane {
    /// A pane for a dictionary in its place; these latents have lanes, whatever is strongest beside them.
    pub fn new(splice: Splice, latents: &[usize]) -> Self {
        let known = |latent: &&usize| **latent < splice.dictionary().d_sae();
        let opened_for: Vec<usize> = latents.iter().filter(known).copied().collect();
        let lanes: Vec<Lane> = opened_for.iter().map(|&l| Lane::Latent(l)).collect();
        Self {
            channels: Vec::new(),
            files: Vec::new(),
            made_on: Vec::new(),
            sample: SampleOptions::default(),
            max_new: 128,
            branches: Vec::new(),
            current: 0,
            chosen: false,
            lanes,
            opened_for,
            lane: 0,
            cursor: 0,
            follows: true,
            way: Way::default(),
            comparing: false,
            compared: None,
            measuring: None,
            measured: None,
            held: false,
            failed: None,
            generation: 0,
            orders: 0,
            turned: None,
            made_for: For::default(),
            shelf: Shelf::default(),
            room: Cell::new(LANES),
            splice,
        }
    }

    /// The dictionary in its place.
    pub fn splice(&self) -> &Splice {
        &self.splice
    }

    /// Whether something is generated.
    pub fn running(&self) -> bool {
        self.orders > 0 && !self.held
    }

    /// Gives latents lanes, the last one chosen.
    pub fn watch(&mut self, latents: &[usize]) {
        for &latent in latents {
            if latent < self.splice.dictionary().d_sae() {
                self.show(Lane::Latent(latent));
            }
        }
    }

    /// A key of [`KEYS`], or Esc. False if it means nothing here: Esc with nothing to stop closes the pane.
    pub fn key(&mut self, key: KeyEvent, cx: &mut Context) -> bool {
        if key_names::name(key) == "esc" {
            return self.cancel(cx);
        }
        match key_names::action(KEYS, key) {
            Some(action) => {
                match self.enabled(action) {
                    Ok(()) => self.act(action, cx),
                    Err(why) => cx.say(why),
                }
                true
            }
            None => false,
        }
    }

    /// An action of [`KEYS`].
    pub fn act(&mut self, action: &'static str, cx: &mut Context) {
        acts::act(self, action, cx);
    }

    /// Why an action cannot be done now.
    ///
    /// # Errors
    /// The reason, in words for the user.
    pub fn enabled(&self, action: &str) -> Result<(), String> {
        acts::enabled(self, action)
    }

    /// Esc: stops what is generated; false if nothing was.
    pub fn cancel(&mut self, cx: &mut Context) -> bool {
        acts::cancel(self, cx)
    }

    /// A command typed after `:`; `None` if it is not one of this pane.
    pub fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        acts::command(self, words, cx)
    }

    /// Commands it knows, for completion.
    pub const COMMANDS: &[&'static str] = &[
        "latent N",
        "probe FILE",
        "direction FILE",
        "max N",
        "temperature T",
        "seed N",
    ];

    /// It is shown, or model, prompt or interventions changed: begins anew if that touches it.
    pub fn refresh(&mut self, cx: &mut Context) {
        order::refresh(self, cx);
    }

    /// The pane is closed: stops what is generated.
    pub fn close(&mut self, cx: &mut Context) {
        acts::hold(self, cx);
    }

    /// What came back of the screen's work. True if it was this pane's.
    pub fn told(&mut self, reply: &Reply, cx: &mut Context) -> bool {
        match reply {
            Reply::Part(value) | Reply::Done(value) => match value.downcast_ref::<Told>() {
                Some(told) => {
                    order::told(self, told, cx);
                    true
                }
                None => false,
            },
            Reply::Failed(_) | Reply::Cancelled if self.orders == 0 => {
                // The divergence was taken back; it is asked for with the next change.
                self.measuring.take().is_some()
            }
            Reply::Failed(why) => {
                (self.orders, self.measuring) = (0, None);
                self.held = true;
                self.failed = Some(why.clone());
                true
            }
            Reply::Cancelled => {
                self.orders -= 1;
                true
            }
        }
    }

    /// Draws it.
    pub fn view(&self, view: &View, area: Rect, buf: &mut Buffer, labels: Labels) {
        view::draw(self, view, area, buf, labels);
    }

    /// What is under the cursor in words, a line each.
    pub fn spoken(&self, labels: Labels) -> Vec<String> {
        written::spoken(self, labels)
    }

    /// The command line that shows the same.
    pub fn command_line(&self, shared: &Shared) -> Option<String> {
        written::command_line(self, shared)
    }

    /// A row for each token, and the record as the command line's `--json` gives it.
    pub fn written(&self, shared: &Shared) -> Option<Data> {
        written::data(self, shared)
    }

    fn branch(&self) -> Option<&Branch> {
        self.branches.get(self.current)
    }

    /// The run that the shown one was branched from, while they are compared.
    fn beside(&self) -> Option<&Branch> {
        let parent = self.branch()?.parent.filter(|_| self.comparing)?;
        self.branches.get(parent)
    }

    fn selected(&self) -> Option<Lane> {
        self.lanes.get(self.lane).copied()
    }

    /// The latent of the chosen lane.
    fn latent(&self) -> Option<usize> {
        match self.selected()? {
            Lane::Latent(latent) => Some(latent),
            _ => None,
        }
    }

    /// Chooses a lane, adding it if it is not there.
    fn show(&mut self, lane: Lane) {
        self.chosen = true;
        let at = self.lanes.iter().position(|other| *other == lane);
        self.lane = at.unwrap_or_else(|| {
            self.lanes.push(lane);
            self.lanes.len() - 1
        });
    }

    /// What the splice and its channels look at, for these edits of all screens.
    fn scope(&self, shared: &Shared) -> Result<Scope, String> {
        let facts = shared.model.facts().ok_or("no model is open")?;
        let (splice, channels) = (self.splice.clone(), self.channels.clone());
        let scope = Scope::new(&facts.config, splice, channels, shared.edits());
        scope.map_err(|error| error.to_string())
    }
}
