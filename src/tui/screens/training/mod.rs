//! Training: runs as their event logs tell them, while they go on and afterwards, here or copied from another machine.
//!
//! Always: nothing but files of run folders is read, and nothing is written; a log that may grow is looked at twice a second
//! while the screen is shown, any other one only when a key is pressed a while after the last look. State here, what keys do
//! in `acts.rs`, which keys in `keys.rs`, a run in `course.rs`, files in `work.rs`, drawing in
//! `view.rs`, `panes.rs` and `curves.rs`.

mod acts;
mod course;
mod curve;
mod curves;
mod keys;
mod metrics;
mod panes;
mod samples;
mod spoken;
mod view;
mod work;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, Instant};

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::model::Checkpoint;
use crate::tui::field::{Field, Outcome};
use crate::tui::filter::{Filter, Listed};
use crate::tui::keys::Binding;
use crate::tui::screen::{Context, Data, Hits, Reply, Screen, View};
use crate::tui::shared::Shared;
use course::{Course, Mark};
use keys::KEYS;
use samples::Sample;
use work::{Looked, Masked, Reader};

/// Where `candlescope runs list` looks.
const DEFAULT: &str = "runs";
/// Between two looks at a log that grows.
const PAUSE: Duration = Duration::from_millis(500);
/// A key after this looks again at what does not grow.
const OLD: Duration = Duration::from_secs(3);

/// What is shown of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Part {
    /// Metrics over the steps.
    #[default]
    Curves,
    /// What the model wrote.
    Samples,
    /// Rows of its data with the targets of the loss.
    Data,
    /// Alerts, checkpoints, resumptions, end.
    Events,
}

impl Part {
    const ALL: [Self; 4] = [Self::Curves, Self::Samples, Self::Data, Self::Events];

    fn word(self) -> &'static str {
        match self {
            Self::Curves => "curves",
            Self::Samples => "samples",
            Self::Data => "data",
            Self::Events => "events",
        }
    }
}

/// The rows of data of one run.
#[derive(Default)]
enum Masks {
    #[default]
    None,
    Asked(PathBuf),
    Done {
        run: PathBuf,
        model: Weak<Checkpoint>,
        result: Result<Vec<Masked>, String>,
    },
}

/// What comes back.
enum Answer {
    Looked(u64, Looked),
    Masks(PathBuf, Weak<Checkpoint>, Result<Vec<Masked>, String>),
}

/// The screen.
pub struct TrainingScreen {
    root: PathBuf,
    runs: Vec<Course>,
    reader: Option<Reader>,
    /// A look is on its way.
    away: bool,
    /// Which folder the looks are of: an answer about another one is dropped.
    generation: u64,
    /// The last answer; none before the first.
    looked: Option<Instant>,
    /// Look at once.
    due: bool,
    trouble: Option<String>,
    left_out: usize,
    selected: Option<PathBuf>,
    compared: Option<PathBuf>,
    /// The metric that is shown where a run has it.
    metric: Option<String>,
    /// The step under the cursor; none follows the newest.
    cursor: Option<u64>,
    /// The axis of values.
    logarithmic: bool,
    /// The part has the keys, not the list of runs.
    inside: bool,
    part: Part,
    /// Rows of samples, data, events.
    rows: [usize; 3],
    track: usize,
    masks: Masks,
    filters: [Filter; 4],
    field: Field,
    typing: bool,
    scroll: usize,
    /// How far the last frame could scroll: the layout is known to the drawing alone.
    most: Cell<usize>,
}

impl Default for TrainingScreen {
    fn default() -> Self {
        Self {
            root: PathBuf::from(DEFAULT),
            runs: Vec::new(),
            reader: None,
            away: false,
            generation: 0,
            looked: None,
            due: true,
            trouble: None,
            left_out: 0,
            selected: None,
            compared: None,
            metric: None,
            cursor: None,
            logarithmic: false,
            inside: false,
            part: Part::Curves,
            rows: [0; 3],
            track: 0,
            masks: Masks::None,
            filters: std::array::from_fn(|_| Filter::default()),
            field: Field::single(),
            typing: false,
            scroll: 0,
            most: Cell::new(0),
        }
    }
}

/// Lists that `/` narrows, in the order of their filters.
const LISTS: [&str; 4] = ["runs", "metrics", "samples", "events"];

impl TrainingScreen {
    /// The runs that the filter leaves.
    fn shown(&self) -> Vec<&Course> {
        let runs = self.runs.iter();
        runs.filter(|run| self.filters[0].matches(&said(run)))
            .collect()
    }

    /// The run under the cursor, by its place among those that are shown.
    fn at(&self) -> usize {
        let place = |path| self.shown().iter().position(|run| &run.path == path);
        self.selected.as_ref().and_then(place).unwrap_or(0)
    }

    fn run(&self) -> Option<&Course> {
        self.shown().get(self.at()).copied()
    }

    /// The run that others are compared with, where it is another one than the selected.
    fn other(&self) -> Option<&Course> {
        let path = self.compared.as_ref()?;
        let other = self.runs.iter().find(|run| &run.path == path)?;
        (self.run().map(|run| &run.path) != Some(path)).then_some(other)
    }

    /// The metrics of the run that the filter leaves.
    fn names<'a>(&self, run: &'a Course) -> Vec<&'a str> {
        let mut names = metrics::names(run);
        names.retain(|name| self.filters[1].matches(name));
        names
    }

    /// The metric that is shown of a run.
    fn name<'a>(&self, run: &'a Course) -> Option<&'a str> {
        let names = self.names(run);
        let wanted = self.metric.as_deref();
        let found = names.iter().find(|name| Some(**name) == wanted);
        found.or(names.first()).copied()
    }

    fn samples<'a>(&'a self, run: &'a Course) -> Vec<&'a Sample> {
        let all = run.samples.iter().rev();
        all.filter(|sample| self.filters[2].matches(&sample.text()))
            .collect()
    }

    /// What happened, the latest first.
    fn events<'a>(&'a self, run: &'a Course) -> Vec<&'a Mark> {
        let all = run.marks.iter().rev();
        all.filter(|mark| self.filters[3].matches(&event(mark)))
            .collect()
    }

    fn masked(&self, run: &Course) -> Option<&Result<Vec<Masked>, String>> {
        match &self.masks {
            Masks::Done {
                run: of, result, ..
            } if *of == run.path => Some(result),
            _ => None,
        }
    }

    /// How many rows the part's list has.
    fn count(&self, run: &Course) -> usize {
        match self.part {
            Part::Curves => self.names(run).len(),
            Part::Samples => self.samples(run).len(),
            Part::Data => self
                .masked(run)
                .and_then(|m| m.as_ref().ok())
                .map_or(0, Vec::len),
            Part::Events => self.events(run).len(),
        }
    }

    /// The selected row of the part's list.
    fn row(&self, run: &Course) -> usize {
        let at = match self.part {
            Part::Curves => {
                let name = self.name(run);
                let mut names = self.names(run).into_iter();
                names.position(|one| Some(one) == name).unwrap_or(0)
            }
            Part::Samples => self.rows[0],
            Part::Data => self.rows[1],
            Part::Events => self.rows[2],
        };
        at.min(self.count(run).saturating_sub(1))
    }

    /// Other runs from now on.
    fn open(&mut self, root: &Path) {
        let root = root.to_path_buf();
        *self = Self {
            generation: self.generation + 1,
            field: std::mem::take(&mut self.field),
            compared: self.compared.take(),
            metric: self.metric.take(),
            part: self.part,
            root,
            ..Self::default()
        };
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Looked(generation, looked) if generation == self.generation => {
                self.looked(looked);
            }
            Answer::Looked(..) => {}
            Answer::Masks(run, model, result) => {
                self.masks = Masks::Done { run, model, result };
            }
        }
    }

    fn looked(&mut self, looked: Looked) {
        self.away = false;
        self.due = looked.behind;
        self.looked = Some(Instant::now());
        self.reader = Some(looked.reader);
        self.left_out = looked.left_out;
        self.trouble = looked.trouble;
        let mut before = std::mem::take(&mut self.runs);
        for seen in looked.seen {
            let known = before.iter().position(|run| run.path == seen.path);
            let mut run = known.map_or_else(
                || Course::new(seen.path.clone()),
                |at| before.swap_remove(at),
            );
            run.take(seen, looked.now);
            self.runs.push(run);
        }
        self.runs.sort_by(course::in_order);
        // From now on it stays, whatever comes before it.
        self.selected = self.run().map(|run| run.path.clone());
    }

    /// Asks for the next look, if it is time for one.
    fn follow(&mut self, cx: &mut Context) {
        let grows = self.runs.iter().any(|run| run.state().goes_on());
        let old = self.looked.is_some_and(|at| at.elapsed() > OLD);
        let after = match (self.due, grows, old) {
            _ if self.away => return,
            (true, ..) => Duration::ZERO,
            (_, true, _) => PAUSE,
            // Not shown as work: nobody asked for it.
            (_, _, true) => Duration::from_millis(1),
            _ => return,
        };
        self.away = true;
        let reader = self
            .reader
            .take()
            .unwrap_or_else(|| Reader::new(&self.root));
        let generation = self.generation;
        cx.look("looking at runs", after, move || {
            Ok(Answer::Looked(generation, reader.look()))
        });
    }

    /// Asks for the rows of the run's data, if they are wanted and not there.
    fn ask_masks(&mut self, cx: &mut Context) {
        let (Some(run), Part::Data) = (self.run(), self.part) else {
            return;
        };
        let Some(facts) = cx.shared.model.facts() else {
            return;
        };
        let model = std::sync::Arc::downgrade(&facts.checkpoint);
        let there = match &self.masks {
            Masks::None => false,
            Masks::Asked(of) => *of == run.path,
            Masks::Done {
                run: of,
                model: with,
                ..
            } => *of == run.path && Weak::ptr_eq(&model, with),
        };
        if there {
            return;
        }
        let (path, method) = (run.path.clone(), run.method.clone());
        self.masks = Masks::Asked(path.clone());
        cx.ask("reading the run's data", move |checkpoint, _| {
            let result = work::masks(checkpoint, &path, &method);
            Ok(Answer::Masks(path, model, result))
        });
    }
}

/// What `/` searches of a run.
fn said(run: &Course) -> String {
    format!(
        "{} {} {} {}",
        run.name(),
        run.state().word(),
        run.method,
        run.model
    )
}

/// What `/` searches of an event.
fn event(mark: &Mark) -> String {
    format!("{} {} {}", mark.step, mark.kind.name(), mark.words)
}

impl Screen for TrainingScreen {
    fn id(&self) -> &'static str {
        "training"
    }

    fn about(&self) -> &'static str {
        "Training runs from their logs: curves, samples, targets of the data, alerts; live, finished, compared"
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        self.allowed(action, shared)
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        self.does(action, cx);
    }

    fn takes_text(&self) -> bool {
        self.typing
    }

    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        match self.field.key(key) {
            Outcome::Submitted => {
                self.typing = false;
                let path = self.field.take();
                if !path.trim().is_empty() {
                    self.open(Path::new(path.trim()));
                }
            }
            Outcome::Cancelled => self.typing = false,
            Outcome::Refused(why) => cx.say(why.to_string()),
            Outcome::Changed | Outcome::Moved | Outcome::Ignored => {}
        }
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        if !self.typing {
            return cx.say("o opens a field for a path");
        }
        if let Outcome::Refused(why) = self.field.paste(text) {
            cx.say(why.to_string());
        }
    }

    fn click(&mut self, what: u16, column: usize, row: usize, _cx: &mut Context) {
        self.clicked(what, column, row);
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(if rows > 0 { "down" } else { "up" }, cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        self.follow(cx);
        self.ask_masks(cx);
    }

    fn reply(&mut self, reply: Reply, _cx: &mut Context) {
        match reply {
            Reply::Done(value) => {
                if let Ok(answer) = value.downcast::<Answer>() {
                    self.take(*answer);
                }
            }
            // A look itself never fails, what it finds may: this is a thread that did not start, or a defect.
            Reply::Failed(why) => match (&self.masks, self.away) {
                (Masks::Asked(_), _) => self.masks = Masks::None,
                (_, true) => {
                    self.open(&self.root.clone());
                    self.due = false;
                    self.looked = Some(Instant::now());
                    self.trouble = Some(why);
                }
                (_, false) => self.trouble = Some(why),
            },
            Reply::Cancelled => {
                if matches!(self.masks, Masks::Asked(_)) {
                    self.masks = Masks::None;
                }
            }
            Reply::Part(_) => {}
        }
    }

    fn list(&self, _shared: &Shared) -> Option<Listed> {
        let rows = |rows: Vec<String>, at: usize| Listed {
            name: LISTS[at],
            rows,
        };
        let run = self.run().filter(|_| self.inside);
        Some(match (run, self.part) {
            (Some(run), Part::Curves) => {
                let names = metrics::names(run).into_iter();
                rows(names.map(ToOwned::to_owned).collect(), 1)
            }
            (Some(run), Part::Samples) => {
                rows(run.samples.iter().rev().map(Sample::text).collect(), 2)
            }
            (Some(run), Part::Events) => rows(run.marks.iter().rev().map(event).collect(), 3),
            (Some(_), Part::Data) => return None,
            (None, _) => rows(self.runs.iter().map(said).collect(), 0),
        })
    }

    fn narrow(&mut self, list: &'static str, filter: &Filter, _cx: &mut Context) {
        if let Some(at) = LISTS.iter().position(|name| *name == list) {
            self.filters[at] = filter.clone();
            if at == 0 {
                self.selected = self.run().map(|run| run.path.clone());
            }
        }
    }

    fn cancel(&mut self, _cx: &mut Context) -> bool {
        if self.typing {
            self.typing = false;
        } else if self.inside && self.trouble.is_none() && self.cursor.is_none() {
            self.inside = false;
        } else {
            return self.trouble.take().is_some() || self.cursor.take().is_some();
        }
        true
    }

    fn command(&mut self, words: &[&str], _cx: &mut Context) -> Option<Result<(), String>> {
        let (&first, rest) = words.split_first()?;
        let what = rest.join(" ");
        Some(match (first, what.as_str()) {
            ("run", "") => Err("run: expected a path, as in `:run runs/first`".into()),
            ("run", path) => {
                self.open(Path::new(path));
                Ok(())
            }
            ("metric", name) => self.choose(name),
            _ => return None,
        })
    }

    fn commands(&self) -> &'static [&'static str] {
        &["run PATH", "metric NAME"]
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, shared: &Shared) -> Vec<String> {
        spoken::lines(self, shared)
    }

    fn command_line(&self, _shared: &Shared) -> Option<String> {
        Some(spoken::command(self))
    }

    fn data(&self, _shared: &Shared) -> Option<Data> {
        Some(spoken::data(self))
    }
}

#[cfg(test)]
mod tests;
