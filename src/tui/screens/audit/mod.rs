//! Audit: the signals of a checkpoint with their verdicts, and what stands behind each number.
//!
//! Always: what is shown is an audit as the library made it or as a file holds it; nothing is judged again here. State and
//! keys in this file, what they do in `acts.rs`; rows in `rows.rs`, a signal's text in `detail.rs`, its charts in `plot.rs`,
//! `curves.rs` and `tracks.rs`, its prompts in `items.rs`, what an audit is run with in `order.rs`, the worker's part in
//! `work.rs`, drawing in `view.rs`.

mod acts;
mod curves;
mod detail;
mod items;
mod narrow;
mod order;
mod plot;
mod rows;
mod spoken;
mod tracks;
mod view;
mod work;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::audit::result::{Audit, SignalResult};
use crate::tui::filter::{Filter as Words, Listed};
use crate::tui::keys::{Binding, bind};
use crate::tui::screen::{Command, Context, Data, Hits, Reply, Screen, View};
use crate::tui::shared::{Drill, Shared, quoted};
use order::{Order, Running, Stand};
use rows::{Filter, Row};
use work::Answer;

const KEYS: &[Binding] = &[
    bind(
        "j down",
        "down",
        "down",
        "Further down: the next signal, chart or prompt",
    ),
    bind("k up", "up", "up", "Further up: the one before"),
    bind("g home", "first", "", "The first"),
    bind("G end", "last", "", "The last"),
    bind("ctrl-d pagedown", "page_down", "", "Ten further down"),
    bind("ctrl-u pageup", "page_up", "", "Ten further up"),
    bind(
        "enter",
        "drill",
        "behind it",
        "What is behind this number: quantities, charts, prompts",
    ),
    bind(
        "tab",
        "next_part",
        "part",
        "Quantities, charts, prompts; in the table the next audit that is kept",
    ),
    bind("backtab", "previous_part", "", "The same backwards"),
    bind(
        "i",
        "explain",
        "explain",
        "What this signal is and how it is computed; again to close",
    ),
    bind(
        "f",
        "filter",
        "filter",
        "All signals, or those that did not pass; of prompts, those with one label",
    ),
    bind(
        "l right",
        "deeper",
        "",
        "In charts by layer: one layer deeper",
    ),
    bind(
        "h left",
        "shallower",
        "",
        "In charts by layer: one layer back",
    ),
    bind(
        "n",
        "next_finding",
        "",
        "The next signal that did not pass, in the part that is shown",
    ),
    bind("N", "previous_finding", "", "The one before"),
    bind(
        "u",
        "under",
        "",
        "Whether the next audit is run under the interventions of the header, or of the checkpoint as it is stored",
    ),
    bind(
        "R",
        "run",
        "run",
        "Audit the open model by the default policy, as a job; takes minutes",
    ),
    bind(
        "Q",
        "quick",
        "quick run",
        "The same with fewer prompts and draws: a look, not a verdict to rely on",
    ),
];

/// Audits that are kept beside the one shown.
const KEPT: usize = 8;
/// Rows that a page is.
const PAGE: usize = 10;

/// Where an audit came from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File(String),
    Run { order: Order, stopped: bool },
}

/// An audit that is kept.
struct Held {
    audit: Arc<Audit>,
    source: Source,
}

/// Which part of a signal is shown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    #[default]
    Quantities,
    Charts,
    Prompts,
}

impl Part {
    const ALL: [Self; 3] = [Self::Quantities, Self::Charts, Self::Prompts];

    fn word(self) -> &'static str {
        match self {
            Self::Quantities => "quantities",
            Self::Charts => "charts and layers",
            Self::Prompts => "prompts",
        }
    }
}

/// The screen.
#[derive(Default)]
pub struct AuditScreen {
    held: Vec<Held>,
    shown: usize,
    filter: Filter,
    selected: usize,
    /// The part of the selected signal that is shown; none for the table.
    part: Option<Part>,
    explaining: bool,
    chart: usize,
    item: usize,
    /// Prompts with this label alone.
    label: Option<String>,
    /// Signals with these words alone.
    words: Words,
    /// Prompts with these words alone.
    prompt_words: Words,
    scroll: usize,
    /// How far the last frame could scroll: the layout is known to the drawing alone.
    most: Cell<usize>,
    baseline: Option<String>,
    /// The next audit leaves the interventions out.
    stored: bool,
    /// The layer looked at in charts, where the record has other layers than the open model.
    layer: Option<usize>,
    running: Option<Running>,
    reading: Option<String>,
    trouble: Option<String>,
}

impl AuditScreen {
    fn audit(&self) -> Option<&Audit> {
        self.held.get(self.shown).map(|held| held.audit.as_ref())
    }

    fn rows(&self) -> Vec<Row<'_>> {
        self.audit().map_or_else(Vec::new, |audit| self.of(audit))
    }

    fn row(&self) -> Option<Row<'_>> {
        let rows = self.rows();
        rows.get(self.selected.min(rows.len().checked_sub(1)?))
            .copied()
    }

    fn signal(&self) -> Option<&SignalResult> {
        self.row().and_then(Row::signal)
    }

    fn keep(&mut self, audit: Arc<Audit>, source: Source) {
        if self.held.len() == KEPT {
            self.held.remove(0);
        }
        self.held.push(Held { audit, source });
        self.show(self.held.len() - 1);
    }

    fn show(&mut self, index: usize) {
        self.shown = index;
        self.selected = self.worst();
        self.part = None;
        self.explaining = false;
        self.trouble = None;
        self.layer = None;
        self.enter();
    }

    /// The first row that the verdict on the whole comes from.
    fn worst(&self) -> usize {
        let Some(audit) = self.audit() else { return 0 };
        let decides = |row: &Row| row.signal().is_some_and(|s| s.verdict == audit.verdict);
        self.rows().iter().position(decides).unwrap_or(0)
    }

    /// Shows an audit at one of its signals, as another screen asks; one that is kept already is not kept twice.
    fn drill(&mut self, drill: Drill) {
        let same = |held: &Held| matches!(&held.source, Source::File(file) if *file == drill.file);
        match self.held.iter().position(same) {
            Some(at) => {
                self.held[at].audit = drill.audit;
                self.show(at);
            }
            None => self.keep(drill.audit, Source::File(drill.file)),
        }
        (self.filter, self.words) = (Filter::All, Words::default());
        let at = self.rows().iter().position(|row| row.id() == drill.signal);
        self.selected = at.unwrap_or(self.selected);
        if self.signal().is_some() {
            self.part = Some(Part::Quantities);
        }
    }

    /// From the top of whatever is shown now.
    fn enter(&mut self) {
        self.chart = 0;
        self.item = 0;
        self.label = None;
        self.scroll = 0;
    }
}

impl Screen for AuditScreen {
    fn id(&self) -> &'static str {
        "audit"
    }

    fn about(&self) -> &'static str {
        "Measure the open checkpoint, judge it by a policy, and see what stands behind each number"
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        let none = "there is no audit yet; R runs one, `:audit FILE` opens one";
        match action {
            "run" | "quick" => self.may_run(shared),
            "under" if order::on(shared).is_empty() => {
                Err("no intervention is on: audits are of the checkpoint as it is stored; `a` in generate adds one".into())
            }
            "under" => Ok(()),
            _ if self.audit().is_none() => Err(none.into()),
            "drill" => match self.row() {
                Some(Row::Signal(_)) => Ok(()),
                Some(Row::Skipped(skipped)) => Err(format!("it did not run: {}", skipped.why)),
                None => Err("no signal is shown; f shows all".into()),
            },
            "explain" if self.row().is_none() => Err("no signal is shown; f shows all".into()),
            "deeper" | "shallower" if self.part != Some(Part::Charts) => {
                Err("layers are in a signal's charts: enter, then tab".into())
            }
            "deeper" | "shallower" if self.chart().and_then(plot::layers).is_none() => {
                Err("this chart is not by layer; j goes to the next".into())
            }
            "next_finding" | "previous_finding" if self.finding(true).is_none() => {
                Err("every signal passed".into())
            }
            "next_part" | "previous_part" if self.part.is_none() && self.held.len() < 2 => {
                Err("no other audit is kept; enter shows what is behind a signal".into())
            }
            _ => Ok(()),
        }
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        match action {
            "down" => self.go(|at, _| at + 1),
            "up" => self.go(|at, _| at.saturating_sub(1)),
            "first" => self.go(|_, _| 0),
            "last" => self.go(|_, last| last),
            "page_down" => self.go(|at, _| at + PAGE),
            "page_up" => self.go(|at, _| at.saturating_sub(PAGE)),
            "drill" => {
                self.explaining = false;
                match self.part {
                    None => {
                        self.part = Some(Part::Quantities);
                        self.enter();
                    }
                    Some(_) => self.turn(true),
                }
            }
            "next_part" => self.turn(true),
            "previous_part" => self.turn(false),
            "explain" => {
                self.explaining = !self.explaining;
                self.scroll = 0;
            }
            "filter" => self.filter(),
            "deeper" => self.step_layer(true, cx.shared),
            "shallower" => self.step_layer(false, cx.shared),
            "next_finding" | "previous_finding" => {
                self.selected = self
                    .finding(action == "next_finding")
                    .unwrap_or(self.selected);
                self.enter();
            }
            "under" => {
                self.stored = !self.stored;
                let order = self.order(String::new(), false, cx.shared);
                cx.say(format!(
                    "the next audit is of the checkpoint{}",
                    order.subject()
                ));
            }
            "run" => self.run(false, cx),
            "quick" => self.run(true, cx),
            _ => {}
        }
    }

    fn click(&mut self, what: u16, _column: usize, row: usize, cx: &mut Context) {
        match what {
            view::TABLE if self.selected == row && self.enabled("drill", cx.shared).is_ok() => {
                self.act("drill", cx);
            }
            view::TABLE => self.selected = row,
            view::ITEMS => self.item = row,
            view::PARTS => {
                self.part = Part::ALL.get(row).copied();
                self.explaining = false;
                self.enter();
            }
            _ => {}
        }
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(if rows > 0 { "down" } else { "up" }, cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        if let Some(drill) = cx.shared.drill.take() {
            self.drill(drill);
        }
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        match reply {
            Reply::Part(value) => {
                if let Ok(stand) = value.downcast::<Stand>()
                    && self.running != Some(Running::Stopping)
                {
                    self.running = Some(Running::Working(*stand));
                }
            }
            Reply::Done(value) => {
                if let Ok(answer) = value.downcast::<Answer>() {
                    self.take(*answer, cx);
                }
            }
            Reply::Failed(why) => {
                // Only a panic comes this way; a file is read in an instant, an audit takes minutes.
                if self.reading.take().is_none() {
                    self.running = None;
                }
                self.trouble = Some(why);
            }
            Reply::Cancelled if self.running == Some(Running::Withdrawn) => self.running = None,
            Reply::Cancelled => {
                if let Some(file) = self.reading.take() {
                    cx.say(format!(
                        "reading {file} was replaced by other work; try again"
                    ));
                }
            }
        }
    }

    fn list(&self, _shared: &Shared) -> Option<Listed> {
        self.listed()
    }

    fn narrow(&mut self, list: &'static str, filter: &Words, _cx: &mut Context) {
        self.take_words(list, filter);
    }

    fn cancel(&mut self, cx: &mut Context) -> bool {
        if self.explaining {
            self.explaining = false;
            self.scroll = 0;
        } else if self.part.is_some() {
            self.part = None;
        } else if self.trouble.is_some() {
            self.trouble = None;
        } else {
            let (say, then) = match self.running {
                Some(Running::Working(_)) => (
                    "stopping the audit; what was measured will be shown",
                    Running::Stopping,
                ),
                Some(Running::Waiting) => ("the audit was not begun", Running::Withdrawn),
                Some(Running::Stopping | Running::Withdrawn) => {
                    cx.say("the audit is being stopped");
                    return true;
                }
                None => return false,
            };
            cx.say(say);
            cx.commands.push(Command::Withdraw(cx.screen));
            self.running = Some(then);
        }
        true
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        let (&first, rest) = words.split_first()?;
        let what = rest.join(" ");
        Some(match (first, what.is_empty()) {
            ("baseline", true) => {
                let was = self.baseline.take();
                cx.say(was.map_or(
                    "no baseline is set; `:baseline NAME` sets one".to_owned(),
                    |name| format!("audits run without a baseline again; it was {name}"),
                ));
                Ok(())
            }
            ("baseline", false) => {
                cx.say(format!("the next audit is paired with {what}"));
                self.baseline = Some(what);
                Ok(())
            }
            ("save", true) => Err("save: expected a folder, as in `:save out`".into()),
            ("save", false) => self.save(PathBuf::from(what), cx),
            ("read", false) => self.read(what, cx),
            ("read", true) => Err("read: expected an audit.json".into()),
            // `:audit FILE` arrives as FILE alone.
            _ if first.contains(['.', '/', '\\']) => self.read(words.join(" "), cx),
            _ => return None,
        })
    }

    fn commands(&self) -> &'static [&'static str] {
        &["audit FILE", "read FILE", "baseline NAME", "save DIR"]
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, _shared: &Shared) -> Vec<String> {
        spoken::lines(self)
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        if let Some(row) = self.row().filter(|_| self.explaining) {
            return Some(format!("candlescope audit explain {}", quoted(row.id())));
        }
        match self.held.get(self.shown).map(|held| &held.source) {
            Some(Source::File(file)) => Some(format!("candlescope audit show {}", quoted(file))),
            Some(Source::Run { order, .. }) => Some(order.command()),
            None => {
                let model = shared.model.facts()?.name.clone();
                Some(self.order(model, false, shared).command())
            }
        }
    }

    fn data(&self, _shared: &Shared) -> Option<Data> {
        self.audit().map(|audit| rows::data(audit, self.rows()))
    }
}

#[cfg(test)]
mod tests;
