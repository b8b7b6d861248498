//! The course: the audits of a pipeline as one matrix, checkpoints down and signals across.
//!
//! State here, keys in `keys.rs`, what they do in `acts.rs`, files in `work.rs`, drawing in `view.rs`, files and words in
//! `written.rs`.
//!
//! Always: what a cell says is what its audit says; a finding that was waived is shown as waived, with the reason and what was
//! found, never as passed. What is behind a cell is the audit screen's to show. Only `w` and `W` write, into `waivers.toml`
//! beside the run.

mod acts;
mod keys;
mod view;
mod work;
mod written;

use std::sync::Arc;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::run;
use crate::audit::verdict::Verdict;
use crate::audit::waivers::Waiver;
use crate::pipeline::course::{Cell, Checkpoint};
use crate::pipeline::stations::Stations;
use crate::tui::keys::Binding;
use crate::tui::screen::{Context, Data, Hits, Reply, Screen, View};
use crate::tui::shared::{RunState, Shared};
use work::{Audits, Told};

/// The screen.
#[derive(Default)]
pub struct CourseScreen {
    line: run::Line,
    /// The reason of a waiver that is typed.
    reason: run::Line,
    audits: Option<Result<Audits, String>>,
    /// Which of the shown checkpoints, and which of the shown signals.
    at: (usize, usize),
    /// Signals alone that have a finding at any checkpoint.
    findings: bool,
    /// Who waives, where it was said.
    author: Option<String>,
    /// Files are being read or written.
    away: bool,
    /// Which reading this is: another one is dropped.
    number: u64,
    run: Option<Arc<Stations>>,
}

impl CourseScreen {
    fn audits(&self) -> Option<&Audits> {
        self.audits.as_ref()?.as_ref().ok()
    }

    /// Why the audits cannot be read.
    fn trouble(&self) -> Option<&str> {
        self.audits.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// The signals that are shown, by their place in the course.
    fn shown(&self) -> Vec<usize> {
        let Some(audits) = self.audits() else {
            return Vec::new();
        };
        let found = |signal: &usize| {
            let cells = audits.course.checkpoints.iter();
            let mut cells = cells.filter_map(|checkpoint| checkpoint.cells[*signal].as_ref());
            cells.any(|cell| cell.verdict != Verdict::Pass)
        };
        let all = 0..audits.course.signals.len();
        all.filter(|signal| !self.findings || found(signal))
            .collect()
    }

    /// The checkpoint under the cursor, and the place of the signal in the course.
    fn place(&self) -> Option<(&Checkpoint, usize)> {
        let shown = self.shown();
        let all = &self.audits()?.course.checkpoints;
        let signal = *shown.get(self.at.1.min(shown.len().checked_sub(1)?))?;
        let checkpoint = all.get(self.at.0.min(all.len().checked_sub(1)?))?;
        Some((checkpoint, signal))
    }

    /// The cell under the cursor; none where the signal was not asked.
    fn cell(&self) -> Option<&Cell> {
        let (checkpoint, signal) = self.place()?;
        checkpoint.cells[signal].as_ref()
    }

    /// The waiver of a cell.
    fn waiver(&self, checkpoint: &Checkpoint, signal: usize) -> Option<&Waiver> {
        let audits = self.audits()?;
        let found = checkpoint.cells[signal].as_ref()?.verdict;
        let at = (checkpoint.stage.as_str(), checkpoint.step);
        let waivers = audits.waivers.as_ref().ok()?;
        waivers.of(audits.course.signals[signal], at, found)
    }

    /// What is left of a checkpoint's findings, waived ones apart; and how many were waived.
    fn left(&self, checkpoint: &Checkpoint) -> (Verdict, usize) {
        let waived = |signal: usize| self.waiver(checkpoint, signal).is_some();
        let count = (0..checkpoint.cells.len()).filter(|s| waived(*s)).count();
        if count == 0 {
            return (checkpoint.verdict, 0);
        }
        let cells = checkpoint.cells.iter().enumerate();
        let left = cells.filter(|(signal, _)| !waived(*signal));
        let left = left.filter_map(|(_, cell)| Some(cell.as_ref()?.verdict));
        (left.max().unwrap_or(Verdict::Pass), count)
    }

    /// The run that is open is taken in.
    fn adopt(&mut self, shared: &Shared) {
        if matches!(shared.run, RunState::Looking { .. }) {
            return;
        }
        let now = shared.run.stations();
        let same = match (&self.run, now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if !same {
            // The same run looked at again keeps the cursor.
            let root = |run: &Arc<Stations>| run.root.clone();
            if self.run.as_ref().map(root) != now.map(root) {
                self.at = (usize::MAX, 0);
            }
            self.run = now.cloned();
            self.audits = None;
            self.number += 1;
            self.away = false;
        }
    }

    fn take(&mut self, told: Told, cx: &mut Context) {
        match told {
            Told::Read(number, result) if number == self.number => {
                self.away = false;
                self.audits = Some(result.map(|audits| *audits));
                let count = self.audits().map_or(0, |a| a.course.checkpoints.len());
                // A run is looked at from its end.
                self.at.0 = self.at.0.min(count.saturating_sub(1));
            }
            Told::Waived(number, result) if number == self.number => {
                self.away = false;
                match result {
                    Ok((waivers, said)) => {
                        if let Some(Ok(audits)) = &mut self.audits {
                            audits.waivers = Ok(waivers);
                        }
                        cx.say(said);
                    }
                    Err(why) => cx.say(why),
                }
            }
            Told::Opened(number, result) if number == self.number => {
                self.away = false;
                match result {
                    Ok(drill) => {
                        cx.shared.drill = Some(*drill);
                        cx.commands.push(crate::tui::screen::Command::Go("audit"));
                    }
                    Err(why) => cx.say(why),
                }
            }
            _ => {}
        }
    }
}

impl Screen for CourseScreen {
    fn id(&self) -> &'static str {
        "course"
    }

    fn about(&self) -> &'static str {
        "The audits of a pipeline: checkpoints down, signals across; what was found, and what was waived with which reason"
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
        self.line.typing || self.reason.typing
    }

    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        if self.reason.typing {
            if let Some(reason) = self.reason.key(key, cx) {
                self.waive(reason, cx);
            }
        } else if let Some(path) = self.line.key(key, cx) {
            run::open(&path, cx);
        }
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        if self.reason.typing {
            self.reason.paste(text, "w", cx);
        } else {
            self.line.paste(text, "o", cx);
        }
    }

    fn click(&mut self, what: u16, column: usize, row: usize, cx: &mut Context) {
        if what == view::CELL {
            if self.at == (row, column) && self.allowed("drill", cx.shared).is_ok() {
                return self.does("drill", cx);
            }
            self.at = (row, column);
        }
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(if rows > 0 { "down" } else { "up" }, cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        self.adopt(cx.shared);
        if self.run.is_some() && self.audits.is_none() && !self.away {
            self.read(cx);
        }
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        match reply {
            Reply::Done(value) | Reply::Part(value) => match value.downcast::<Told>() {
                Ok(told) => self.take(*told, cx),
                Err(value) => {
                    if let Ok(looked) = value.downcast::<run::Looked>() {
                        run::take(*looked, cx);
                    }
                }
            },
            // A look never fails by itself: this is a thread that did not start, or a defect.
            Reply::Failed(why) if self.away => {
                self.away = false;
                if self.audits.is_none() {
                    self.audits = Some(Err(why));
                } else {
                    cx.say(why);
                }
            }
            Reply::Failed(why) => run::failed(why, cx),
            Reply::Cancelled => self.away = false,
        }
    }

    fn cancel(&mut self, _cx: &mut Context) -> bool {
        self.reason.close() || self.line.close()
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        self.obeys(words, cx)
    }

    fn commands(&self) -> &'static [&'static str] {
        &["audits RUN", "waive REASON", "author NAME"]
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, shared: &Shared) -> Vec<String> {
        written::spoken(self, shared)
    }

    fn command_line(&self, _shared: &Shared) -> Option<String> {
        written::command_line(self)
    }

    fn data(&self, _shared: &Shared) -> Option<Data> {
        written::data(self)
    }
}
