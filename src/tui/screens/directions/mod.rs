//! Directions: what refusal may hang on, at every layer and position; how well it separates, and what it does to the model.
//!
//! State here, keys in `keys.rs`, what they do in `acts.rs`, the work in `work.rs`, what the map can show in `quantity.rs`,
//! drawing in `view.rs` and `detail.rs`, command line, files and words in `written.rs`.
//!
//! Always: nothing is read before it is asked for, since it takes a pass over some 150 prompts; a direction becomes an
//! intervention under the name `contrast:LAYER:POSITION`, by which the command line makes the same vector.

mod acts;
mod detail;
mod keys;
mod quantity;
#[cfg(test)]
mod tests;
mod view;
mod work;
mod written;

use std::collections::BTreeMap;
use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::steer::{Candidate, Source, StreamScale, Way, choose};
use crate::tui::keys::Binding;
use crate::tui::screen::{Command, Context, Data, Hits, Reply, Screen, View};
use crate::tui::screens::generate::dose::{self, Dosed};
use crate::tui::screens::pending::Pending;
use crate::tui::shared::Shared;
use quantity::Quantity;
use work::{Answer, Found, Live, LiveAsk, Place, Told, Tried};

/// The place for the mouse: a cell of the map.
const CELL: u16 = 0;

/// A job that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    /// Candidates are made.
    Find,
    /// So many are tried.
    Try(usize),
}

/// The screen.
#[derive(Default)]
pub struct DirectionsScreen {
    found: Option<Arc<Found>>,
    tried: BTreeMap<Place, Tried>,
    /// The position that is looked at, by its column; the layer is the one of all screens.
    column: usize,
    quantity: Quantity,
    /// The direction that the others are compared with, if it is not the chosen one.
    pinned: Option<Place>,
    /// Its jobs by number, and the state of prompt and interventions whose score was asked for.
    pending: Pending<(u64, Job), u64>,
    live: Option<Live>,
    /// The version that the last step of a dose made: a further one replaces it.
    stepped: Option<u64>,
    /// Tells one open model from another.
    model: usize,
}

impl DirectionsScreen {
    /// The place under the cursor.
    fn place(&self, shared: &Shared) -> Option<Place> {
        let found = self.found.as_ref()?;
        let column = self.column.min(found.wheres.len().checked_sub(1)?);
        Some((shared.layer.min(found.n_layers - 1), found.wheres[column]))
    }

    /// The candidate at a place; none where the class means are equal.
    fn candidate(&self, place: Place) -> Option<&Candidate> {
        let all = &self.found.as_ref()?.candidates;
        all.iter().find(|c| (c.layer, c.where_) == place)
    }

    fn here(&self, shared: &Shared) -> Option<&Candidate> {
        self.candidate(self.place(shared)?)
    }

    /// The place that the rule chooses among the tried ones; else none.
    fn admissible(&self) -> Option<Place> {
        let n_layers = self.found.as_ref()?.n_layers;
        let places: Vec<Place> = self.tried.keys().copied().collect();
        let cells: Vec<_> = self.tried.values().map(|t| t.cell(n_layers)).collect();
        choose(&cells, &work::policy()).map(|at| places[at])
    }

    /// The best-separating place; of equals the more reliable one.
    fn separating(&self) -> Option<Place> {
        let rank = |c: &Candidate| {
            (
                c.separation,
                c.direction.reliability.map_or(0.0, |r| r.full),
            )
        };
        let all = self.found.as_ref()?.candidates.iter();
        let best = all.reduce(|best, c| if rank(c) > rank(best) { c } else { best });
        best.map(|c| (c.layer, c.where_))
    }

    /// What all others are compared with.
    fn reference(&self) -> Option<Place> {
        let pinned = self.pinned.filter(|place| self.candidate(*place).is_some());
        pinned
            .or_else(|| self.admissible())
            .or_else(|| self.separating())
    }

    /// The chip of the direction under the cursor, the last one of several.
    fn chip(&self, shared: &Shared) -> Option<Dosed> {
        let source = source(self.place(shared)?);
        let mut chips = dose::dosed(shared);
        chips.retain(|chip| chip.steering.source == source);
        chips.pop()
    }

    /// Where the chip acts, for its scale.
    fn dosed(&self, shared: &Shared) -> Option<(Source, usize, crate::hooks::Vector)> {
        let chip = self.chip(shared)?;
        let layer = match chip.steering.way {
            Way::Add { layer } => layer,
            _ => shared.layer,
        };
        Some((chip.steering.source, layer, chip.vector))
    }

    /// The stream that a chip's dose is told against, and whether it is of another prompt or dose.
    fn scale(&self, chip: &Dosed, shared: &Shared) -> Option<(StreamScale, bool)> {
        let live = self.live.as_ref()?;
        let (source, scale) = live.scale.as_ref()?;
        (*source == chip.steering.source).then_some((*scale, live.version != shared.version()))
    }

    /// The prompt's score, old or not.
    fn score(&self, shared: &Shared) -> Option<(&Live, bool)> {
        let live = self.live.as_ref()?;
        Some((live, live.version != shared.version()))
    }

    fn forget(&mut self) {
        *self = Self {
            quantity: self.quantity,
            pending: self.pending.forgotten(),
            ..Self::default()
        };
    }

    fn ask_score(&mut self, cx: &mut Context) {
        let version = cx.shared.version();
        let known = self.live.as_ref().map(|live| live.version);
        if cx.shared.tokens.is_empty() || self.pending.settled(version, known) {
            return;
        }
        self.pending.ask(version);
        let ask = LiveAsk {
            version,
            ids: cx.shared.tokens.iter().map(|token| token.id).collect(),
            edits: cx.shared.edits(),
            dosed: self.dosed(cx.shared),
        };
        let model = self.model;
        cx.ask("refusal score", move |checkpoint, ticket| {
            let answer = work::live(checkpoint, ask);
            if ticket.cancelled() {
                return Err("stopped".into());
            }
            Ok(Told {
                model,
                job: None,
                answer,
            })
        });
    }

    fn take(&mut self, told: Told) {
        let ours = told.model == self.model;
        let job = self.pending.job.map(|(id, _)| id);
        match told.answer {
            Answer::Live(version, result) => {
                if let Some(live) = self.pending.answered(version, result, ours) {
                    self.live = Some(live);
                }
            }
            _ if !ours || told.job != job => {}
            Answer::Found(found) => {
                self.pending.job = None;
                self.tried.clear();
                self.column = self.column.min(found.wheres.len().saturating_sub(1));
                if self.found.is_none() {
                    self.column = found.wheres.len().saturating_sub(1);
                }
                self.found = Some(Arc::from(found));
            }
            Answer::Tried(tried) => {
                let place = (tried.measures.layer, tried.measures.where_);
                self.tried.insert(place, *tried);
            }
            Answer::Ended(why) => {
                self.pending.job = None;
                self.pending.failed = why;
            }
        }
    }
}

/// The name of a place's direction.
fn source((layer, place): Place) -> Source {
    Source::Contrast { layer, place }
}

impl Screen for DirectionsScreen {
    fn id(&self) -> &'static str {
        "directions"
    }

    fn about(&self) -> &'static str {
        "Directions that refusal may hang on, by layer and position: how they separate, and what they do to the model"
    }

    fn bindings(&self) -> &'static [Binding] {
        keys::KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        acts::enabled(self, action, shared)
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        acts::act(self, action, cx);
    }

    fn click(&mut self, what: u16, column: usize, row: usize, cx: &mut Context) {
        if what == CELL {
            self.column = column;
            cx.shared.layer = row.min(cx.shared.layers() - 1);
        }
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(if rows > 0 { "shallower" } else { "deeper" }, cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        let Some(facts) = cx.shared.model.facts() else {
            return;
        };
        let model = Arc::as_ptr(&facts.checkpoint) as usize;
        if model != self.model {
            if self.pending.job.is_some() {
                cx.commands.push(Command::Withdraw(cx.screen));
            }
            // Another model's directions: nothing of them can be shown, not even as old.
            self.forget();
            self.model = model;
        }
        self.ask_score(cx);
    }

    fn reply(&mut self, reply: Reply, _cx: &mut Context) {
        if let Some(told) = self.pending.reply(reply) {
            self.take(told);
        }
        self.pending.settle();
    }

    fn cancel(&mut self, cx: &mut Context) -> bool {
        self.pending.cancel("stopped; what was tried stays", cx)
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        acts::command(self, words, cx)
    }

    fn commands(&self) -> &'static [&'static str] {
        &["direction LAYER POSITION"]
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

    fn data(&self, shared: &Shared) -> Option<Data> {
        written::data(self, shared)
    }
}
