//! A run as its log tells it: curves, marks, samples, and how it stands.
//!
//! Always: rows of steps that a resumed run did again are dropped, as `train::log::standing` does; memory is bounded, whatever
//! the log holds: a long curve keeps every second, fourth, ... point. Names of metrics and their order are `metrics.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use super::samples::Sample;
use super::work::Seen;
use crate::train::log::{Kind, Row};

/// Points of one curve.
const MOST_POINTS: usize = 8192;
/// Metrics of one run.
const MOST_METRICS: usize = 256;
/// Samples of one run; the latest are kept.
const MOST_SAMPLES: usize = 1000;
/// Alerts, checkpoints and resumptions of one run; the latest are kept.
const MOST_MARKS: usize = 4096;
/// Steps that the pace is measured over.
const PACE: usize = 20;
/// A log without an end that was written to within these seconds may be another machine's run.
const FRESH: f64 = 60.0;

/// A metric over the steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Series {
    /// Step and value, by step.
    pub points: Vec<(u64, f64)>,
    /// The newest, which thinning never drops.
    pub last: Option<(u64, f64)>,
    stride: usize,
    skipped: usize,
}

impl Series {
    fn add(&mut self, step: u64, value: f64) {
        self.last = Some((step, value));
        if self.skipped > 0 {
            self.skipped -= 1;
            return;
        }
        self.points.push((step, value));
        if self.points.len() >= MOST_POINTS {
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride = 2 * self.stride.max(1);
        }
        self.skipped = self.stride.saturating_sub(1);
    }

    fn cut(&mut self, step: u64) {
        self.points.retain(|point| point.0 <= step);
        self.skipped = 0;
        self.last = self.points.last().copied();
    }

    /// The value at the last point at or before a step.
    pub(super) fn at(&self, step: u64) -> Option<(u64, f64)> {
        if let Some(last) = self.last.filter(|last| last.0 <= step) {
            return Some(last);
        }
        let after = self.points.partition_point(|point| point.0 <= step);
        self.points.get(after.checked_sub(1)?).copied()
    }

    /// Every point, the newest too.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, f64)> {
        let kept = self.points.last().map(|point| point.0);
        let newest = self.last.filter(|last| Some(last.0) != kept);
        self.points.iter().copied().chain(newest)
    }
}

/// What happened at a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    /// The step.
    pub step: u64,
    /// Alert, checkpoint, resumption or end.
    pub kind: Kind,
    /// What it was.
    pub words: String,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A process of this machine trains in it.
    Running,
    /// Written to a moment ago, by no process of this machine.
    Fresh,
    /// All steps are done.
    Finished,
    /// Stopped by the user.
    Interrupted,
    /// Stopped by an error.
    Failed,
    /// Its process ended without a word.
    Killed,
    /// Its log cannot be read.
    Unreadable,
}

impl State {
    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Fresh => "written now",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether its log may grow.
    pub(super) fn goes_on(self) -> bool {
        matches!(self, Self::Running | Self::Fresh)
    }
}

/// A run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Course {
    /// Its folder.
    pub path: PathBuf,
    /// `sft`, ...
    pub method: String,
    /// What the user called the model.
    pub model: String,
    /// The program that wrote the log, in its last sitting.
    pub version: String,
    /// The last step in the log.
    pub step: u64,
    /// Steps planned.
    pub steps: u64,
    /// Metrics by name.
    pub series: BTreeMap<String, Series>,
    /// What happened, in the order of the log.
    pub marks: Vec<Mark>,
    /// Texts of the model's.
    pub samples: VecDeque<Sample>,
    /// Seconds since 1970 of the first and the last row.
    pub span: Option<(f64, f64)>,
    /// The reason it ended with, and the message.
    pub ended: Option<(String, Option<String>)>,
    /// Lines that are no rows.
    pub foreign: usize,
    /// The last line is not whole.
    pub torn: bool,
    /// Why it cannot be read.
    pub trouble: Option<String>,
    busy: bool,
    fresh: bool,
    pace: VecDeque<(u64, f64)>,
}

impl Course {
    /// Of a folder of which nothing is known yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    /// Takes what a look found.
    pub(super) fn take(&mut self, seen: Seen, now: f64) {
        if seen.anew {
            *self = Self::new(std::mem::take(&mut self.path));
        }
        for row in seen.rows {
            self.add(row);
        }
        (self.busy, self.foreign, self.torn) = (seen.busy, seen.foreign, seen.torn);
        self.trouble = seen.trouble;
        let age = self.span.map(|(_, last)| now - last);
        self.fresh = age.is_some_and(|age| age.abs() < FRESH);
    }

    /// The folder's own name.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name();
        let name = name.unwrap_or_else(|| self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// How it stands.
    pub(super) fn state(&self) -> State {
        match self.ended.as_ref().map(|(reason, _)| reason.as_str()) {
            _ if self.trouble.is_some() => State::Unreadable,
            _ if self.busy => State::Running,
            Some("finished") => State::Finished,
            Some("interrupted") => State::Interrupted,
            Some(_) => State::Failed,
            None if self.fresh => State::Fresh,
            None => State::Killed,
        }
    }

    /// Seconds that it took so far.
    pub(super) fn took(&self) -> f64 {
        self.span
            .map_or(0.0, |(first, last)| (last - first).max(0.0))
    }

    /// Seconds that are left at the pace of the last steps.
    pub(super) fn left(&self) -> Option<f64> {
        let (from, to) = (self.pace.front()?, self.pace.back()?);
        let steps = to.0.checked_sub(from.0).filter(|steps| *steps > 0)?;
        let left = self.steps.checked_sub(to.0)?;
        let each = (to.1 - from.1) / steps as f64;
        (each.is_finite() && each >= 0.0).then_some(each * left as f64)
    }

    /// Tokens a second over the same steps, evaluations and checkpoints included.
    pub(super) fn speed(&self) -> Option<f64> {
        let (from, to) = (self.pace.front()?, self.pace.back()?);
        let tokens = self.series.get("num_tokens")?;
        let each = |at: u64| tokens.at(at).filter(|(step, _)| *step == at);
        let seen = each(to.0)?.1 - each(from.0)?.1;
        let speed = seen / (to.1 - from.1);
        (speed.is_finite() && speed > 0.0).then_some(speed)
    }

    /// How many alerts there were.
    pub(super) fn alerts(&self) -> usize {
        self.marks.iter().filter(|m| m.kind == Kind::Alert).count()
    }

    fn add(&mut self, row: Row) {
        let first = self.span.map_or(row.wall, |(first, _)| first);
        self.span = Some((first, row.wall));
        if row.kind != Kind::Stopped {
            self.ended = None;
        }
        let text = |name: &str| row.text(name).unwrap_or_default().to_owned();
        match row.kind {
            Kind::Started => self.described(&row),
            Kind::Resumed => {
                self.described(&row);
                self.forget_after(row.step);
                let words = format!("went on from step {}", row.step);
                self.mark(&row, words);
            }
            Kind::Step | Kind::Eval => self.numbers(&row),
            Kind::Alert => {
                let (name, message) = (text("alert"), text("message"));
                let parts = [name, message].into_iter().filter(|part| !part.is_empty());
                self.mark(&row, parts.collect::<Vec<_>>().join(": "));
            }
            Kind::Checkpoint => self.mark(&row, text("path")),
            Kind::Sample => {
                if self.samples.len() >= MOST_SAMPLES {
                    self.samples.pop_front();
                }
                self.samples.push_back(Sample::of(&row));
            }
            Kind::Stopped => {
                let message = row.text("message").map(str::to_owned);
                let words = message
                    .iter()
                    .fold(text("reason"), |all, m| format!("{all}: {m}"));
                self.mark(&row, words);
                self.ended = Some((text("reason"), message));
            }
        }
    }

    fn described(&mut self, row: &Row) {
        let text = |name: &str| row.text(name).unwrap_or_default().to_owned();
        (self.method, self.model, self.version) = (text("method"), text("model"), text("version"));
        let steps = row.number("steps").filter(|steps| steps.is_finite());
        self.steps = steps.map_or(0, |steps| steps.max(0.0) as u64);
    }

    fn numbers(&mut self, row: &Row) {
        if row.kind == Kind::Step {
            self.step = row.step;
            self.pace.push_back((row.step, row.wall));
            if self.pace.len() > PACE {
                self.pace.pop_front();
            }
        }
        for (name, value) in row.numbers() {
            if let Some(series) = self.series.get_mut(name) {
                series.add(row.step, value);
            } else if self.series.len() < MOST_METRICS {
                let series = self.series.entry(name.to_owned()).or_default();
                series.add(row.step, value);
            }
        }
    }

    fn mark(&mut self, row: &Row, words: String) {
        if self.marks.len() >= MOST_MARKS {
            self.marks.drain(..MOST_MARKS / 2);
        }
        self.marks.push(Mark {
            step: row.step,
            kind: row.kind,
            words,
        });
    }

    /// What came after this step was done again.
    fn forget_after(&mut self, step: u64) {
        self.step = self.step.min(step);
        self.marks.retain(|mark| mark.step <= step);
        self.samples.retain(|sample| sample.step <= step);
        for series in self.series.values_mut() {
            series.cut(step);
        }
        self.series.retain(|_, series| series.last.is_some());
        self.pace.clear();
    }
}

/// The runs that go on first, then the one that began last.
pub(super) fn in_order(a: &Course, b: &Course) -> std::cmp::Ordering {
    let begun = |run: &Course| run.span.map_or(f64::NEG_INFINITY, |(first, _)| first);
    let waits = |run: &Course| !run.state().goes_on();
    (waits(a).cmp(&waits(b)))
        .then(begun(b).total_cmp(&begun(a)))
        .then(a.path.cmp(&b.path))
}
