//! Probes: how well a linear probe tells harmful from harmless prompts at every layer and point, and what it has to beat.
//!
//! State here, keys in `keys.rs`, what they do in `acts.rs`, the work in `work.rs`, drawing in `view.rs` (the map),
//! `panes.rs` (examples, transfer) and `detail.rs`, command line, files and words in `written.rs`.
//!
//! Always: nothing is fitted before it is asked for; every number is of test prompts, which neither fitted nor chose.

mod acts;
mod detail;
mod keys;
mod panes;
#[cfg(test)]
mod tests;
mod view;
mod work;
mod written;

use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::hooks::HookPoint;
use crate::tui::filter::{Filter, Listed};
use crate::tui::keys::Binding;
use crate::tui::screen::{Command, Context, Data, Hits, Reply, Screen, View};
use crate::tui::screens::pending::Pending;
use crate::tui::shared::Shared;
use work::{Answer, Cell, Row, Strip, Swept, Told};

/// Places for the mouse.
const CELL: u16 = 0;
const EXAMPLE: u16 = 1;
const TOKEN: u16 = 2;
const CARRIED: u16 = 3;

/// What the map shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Quantity {
    /// AUROC on test rows.
    #[default]
    Test,
    /// The same of probes fitted on shuffled labels.
    Shuffled,
    /// AUROC on control tasks.
    Control,
    /// AUROC minus that of control tasks.
    Selectivity,
}

impl Quantity {
    const ALL: [Self; 4] = [Self::Test, Self::Shuffled, Self::Control, Self::Selectivity];

    fn turned(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Test => "test AUROC",
            Self::Shuffled => "AUROC, shuffled labels",
            Self::Control => "AUROC, control tasks",
            Self::Selectivity => "selectivity",
        }
    }

    /// NaN where it is not known.
    fn of(self, cell: &Cell) -> f64 {
        let known = match self {
            Self::Test => Some(cell.test.value),
            Self::Shuffled => cell.shuffled.map(|(mean, _)| mean),
            Self::Control => cell.control,
            Self::Selectivity => cell.selectivity,
        };
        known.unwrap_or(f64::NAN)
    }
}

/// The screen.
#[derive(Default)]
pub struct ProbesScreen {
    swept: Option<Arc<Swept>>,
    /// The point that is looked at, by its column; the layer is the one of all screens.
    column: usize,
    quantity: Quantity,
    /// Whether every layer's probe on every other layer stands in place of the examples.
    carried: bool,
    /// The example with the cursor, by its place in the list.
    example: usize,
    /// Lowest scores first.
    upwards: bool,
    /// Its jobs by number, and the state and point whose scores were asked for.
    pending: Pending<u64, (u64, HookPoint)>,
    strip: Option<Strip>,
    filter: Filter,
    /// Tells one open model from another.
    model: usize,
}

impl ProbesScreen {
    fn layer(&self, shared: &Shared) -> usize {
        let last = self.swept.as_ref().map_or(1, |s| s.n_layers.max(1)) - 1;
        shared.layer.min(last)
    }

    fn column(&self) -> usize {
        let n = self.swept.as_ref().map_or(1, |s| s.points.len().max(1));
        self.column.min(n - 1)
    }

    /// The cell under the cursor.
    fn here(&self, shared: &Shared) -> Option<&Cell> {
        let swept = self.swept.as_ref()?;
        swept.cell(self.layer(shared), self.column())
    }

    /// Test rows by score, those that the filter leaves.
    fn examples(&self, shared: &Shared) -> Vec<(f64, &Row)> {
        let (Some(swept), Some(cell)) = (&self.swept, self.here(shared)) else {
            return Vec::new();
        };
        let mut all: Vec<(f64, &Row)> = cell.scores.iter().copied().zip(&swept.rows).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        if self.upwards {
            all.reverse();
        }
        if self.filter.is_empty() {
            return all;
        }
        let left = self.filter.left(all.iter().map(|e| text(*e)));
        left.into_iter().map(|at| all[at]).collect()
    }

    /// The state whose token scores are wanted.
    fn wanted(&self, shared: &Shared) -> Option<(u64, HookPoint)> {
        Some((shared.version(), self.here(shared)?.point))
    }

    fn ask_strip(&mut self, cx: &mut Context) {
        let Some(wanted) = self.wanted(cx.shared) else {
            return;
        };
        let known = self.strip.as_ref().map(|s| (s.version, s.point));
        let Some(probe) = self.here(cx.shared).map(|cell| cell.probe.clone()) else {
            return;
        };
        if cx.shared.tokens.is_empty() || self.pending.settled(wanted, known) {
            return;
        }
        self.pending.ask(wanted);
        let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
        let (model, edits) = (self.model, cx.shared.edits());
        cx.ask("probe of the prompt", move |checkpoint, ticket| {
            let answer = work::strip(checkpoint, wanted, &ids, edits, &probe);
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
        match told.answer {
            Answer::Strip(of, result) => {
                if let Some(strip) = self.pending.answered(of, result, ours) {
                    self.strip = Some(strip);
                }
            }
            _ if !ours || told.job != self.pending.job => {}
            Answer::Swept(swept) => {
                self.pending.job = None;
                if self.swept.is_none() {
                    self.column = swept.points.len().saturating_sub(1);
                }
                (self.strip, self.pending.unanswered) = (None, None);
                self.swept = Some(Arc::from(swept));
            }
            Answer::Ended(why) => (self.pending.job, self.pending.failed) = (None, why),
        }
    }
}

/// Whether the probe puts a row on the wrong side of its boundary, score 0.
fn wrong(score: f64, row: &Row) -> bool {
    (score > 0.0) != row.positive
}

/// An example as `/` searches it.
fn text((score, row): (f64, &Row)) -> String {
    let side = if wrong(score, row) { " wrong" } else { "" };
    format!("{score:+.2} {}{side} {}", row.id, row.text)
}

impl Screen for ProbesScreen {
    fn id(&self) -> &'static str {
        "probes"
    }

    fn about(&self) -> &'static str {
        "Linear probes by layer and point: how well they tell harmful from harmless prompts, and what they have to beat"
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
        let last = cx.shared.layers() - 1;
        match what {
            CELL => {
                self.column = column;
                cx.shared.layer = row.min(last);
            }
            EXAMPLE => self.example = row,
            TOKEN => cx.shared.position = column.min(cx.shared.tokens.len().saturating_sub(1)),
            CARRIED => cx.shared.layer = row.min(last),
            _ => {}
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
            // Another model's probes: nothing of them can be shown, not even as old.
            *self = Self {
                quantity: self.quantity,
                carried: self.carried,
                pending: self.pending.forgotten(),
                model,
                ..Self::default()
            };
        }
        self.ask_strip(cx);
    }

    fn reply(&mut self, reply: Reply, _cx: &mut Context) {
        if let Some(told) = self.pending.reply(reply) {
            self.take(told);
        }
        self.pending.settle();
    }

    fn cancel(&mut self, cx: &mut Context) -> bool {
        self.pending.cancel("stopped; r begins anew", cx)
    }

    fn list(&self, shared: &Shared) -> Option<Listed> {
        let (swept, cell) = (self.swept.as_ref()?, self.here(shared)?);
        let all = cell.scores.iter().copied().zip(&swept.rows);
        Some(Listed {
            name: "examples",
            rows: all.map(text).collect(),
        })
    }

    fn narrow(&mut self, _list: &'static str, filter: &Filter, cx: &mut Context) {
        self.filter = filter.clone();
        let n = self.examples(cx.shared).len();
        self.example = self.example.min(n.saturating_sub(1));
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
