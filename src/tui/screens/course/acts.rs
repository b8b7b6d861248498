//! What keys and commands do to the course, and why they sometimes do not.

use std::time::Duration;

use super::work::{self, Told, Wish};
use super::{CourseScreen, run};
use crate::audit::verdict::Verdict;
use crate::tui::screen::Context;
use crate::tui::shared::Shared;

impl CourseScreen {
    pub(super) fn allowed(&self, action: &str, shared: &Shared) -> Result<(), String> {
        if action == "open" {
            return Ok(());
        }
        if shared.run.stations().is_none() {
            return Err(run::NONE.into());
        }
        if action == "again" {
            return Ok(());
        }
        let Some(audits) = self.audits() else {
            return Err(match self.trouble() {
                Some(why) => why.to_owned(),
                None => "the audits are being read".to_owned(),
            });
        };
        if audits.course.checkpoints.is_empty() {
            return Err("the run has no audits yet".into());
        }
        if self.place().is_none() {
            return match action {
                "findings" => Ok(()),
                _ => Err("no signal has a finding; f shows all".into()),
            };
        }
        let asked = self.cell().is_some();
        match action {
            "drill" | "waive" | "take_back" if !asked => {
                Err("this signal was not asked at this checkpoint".into())
            }
            "drill" | "waive" | "take_back" if self.away => {
                Err("files of the run are being read or written".into())
            }
            "waive" | "take_back" => match &audits.waivers {
                Err(why) => Err(why.clone()),
                Ok(_) => self.waivable(action),
            },
            "next" | "previous" if self.finding(true).is_none() => {
                Err("nothing was found that is not waived".into())
            }
            _ => Ok(()),
        }
    }

    fn waivable(&self, action: &str) -> Result<(), String> {
        let waived = self
            .place()
            .is_some_and(|(checkpoint, signal)| self.waiver(checkpoint, signal).is_some());
        match (action, self.cell().map(|cell| cell.verdict)) {
            ("waive", Some(Verdict::Pass)) => {
                Err("this signal passed: there is nothing to waive".into())
            }
            ("take_back", _) if !waived => Err("this finding is not waived; w waives it".into()),
            _ => Ok(()),
        }
    }

    pub(super) fn does(&mut self, action: &'static str, cx: &mut Context) {
        let (rows, columns) = (
            self.audits().map_or(0, |a| a.course.checkpoints.len()),
            self.shown().len(),
        );
        let (down, right) = (rows.saturating_sub(1), columns.saturating_sub(1));
        let (row, column) = (self.at.0.min(down), self.at.1.min(right));
        match action {
            "left" => self.at.1 = column.saturating_sub(1),
            "right" => self.at.1 = (column + 1).min(right),
            "up" => self.at.0 = row.saturating_sub(1),
            "down" => self.at.0 = (row + 1).min(down),
            "first" => self.at.0 = 0,
            "last" => self.at.0 = down,
            "leftmost" => self.at.1 = 0,
            "rightmost" => self.at.1 = right,
            "next" | "previous" => {
                self.at = self.finding(action == "next").unwrap_or(self.at);
            }
            "drill" => self.drill(cx),
            "waive" => self.ask_reason(cx),
            "take_back" => self.write(None, cx),
            "findings" => {
                let signal = self.place().map(|(_, signal)| signal);
                self.findings = !self.findings;
                let shown = self.shown();
                let at = signal.and_then(|signal| shown.iter().position(|s| *s == signal));
                self.at.1 = at.unwrap_or(0);
            }
            "open" => self.line.typing = true,
            "again" => {
                if let Some(run) = &self.run {
                    let root = run.root.display().to_string();
                    run::open(&root, cx);
                }
            }
            _ => {}
        }
    }

    /// The next cell with a finding that is not waived, around the end.
    pub(super) fn finding(&self, on: bool) -> Option<(usize, usize)> {
        let (audits, shown) = (self.audits()?, self.shown());
        let all = &audits.course.checkpoints;
        let count = all.len() * shown.len();
        let at = self.at.0.min(all.len().checked_sub(1)?) * shown.len()
            + self.at.1.min(shown.len().checked_sub(1)?);
        let place = |step: usize| {
            let at = (at + if on { step } else { count - step }) % count;
            (at / shown.len(), at % shown.len())
        };
        let found = |(row, column): &(usize, usize)| {
            let (checkpoint, signal) = (&all[*row], shown[*column]);
            let cell = checkpoint.cells[signal].as_ref();
            cell.is_some_and(|cell| cell.verdict != Verdict::Pass)
                && self.waiver(checkpoint, signal).is_none()
        };
        (1..=count).map(place).find(found)
    }

    /// Reads the audits of the run.
    pub(super) fn read(&mut self, cx: &mut Context) {
        let Some(run) = self.run.clone() else {
            return;
        };
        self.away = true;
        let number = self.number;
        cx.look("reading audits", Duration::ZERO, move || {
            Ok(Told::Read(number, work::read(&run).map(Box::new)))
        });
    }

    /// The audit behind the cell, for the audit screen.
    fn drill(&mut self, cx: &mut Context) {
        let (Some(run), Some(audits)) = (&self.run, self.audits()) else {
            return;
        };
        let Some((checkpoint, signal)) = self.place() else {
            return;
        };
        let file = audits.file(&checkpoint.stage, checkpoint.step);
        let Some(file) = file.map(|file| run.root.join(file)) else {
            return;
        };
        let signal = audits.course.signals[signal].to_owned();
        let number = self.number;
        self.away = true;
        cx.look("reading an audit", Duration::ZERO, move || {
            Ok(Told::Opened(
                number,
                work::open(&file, signal).map(Box::new),
            ))
        });
    }

    fn ask_reason(&mut self, cx: &mut Context) {
        let before = self
            .place()
            .and_then(|(checkpoint, signal)| self.waiver(checkpoint, signal))
            .map(|waiver| waiver.reason.clone());
        self.reason.field.clear();
        if let Some(before) = before
            && let Err(why) = self.reason.field.set(&before)
        {
            cx.say(why.to_string());
        }
        self.reason.typing = true;
    }

    pub(super) fn waive(&mut self, reason: String, cx: &mut Context) {
        match self.allowed("waive", cx.shared) {
            Ok(()) => self.write(Some(reason), cx),
            Err(why) => cx.say(why),
        }
    }

    /// Writes a waiver of the cell under the cursor, or takes it back.
    fn write(&mut self, reason: Option<String>, cx: &mut Context) {
        let (Some(run), Some(audits)) = (self.run.clone(), self.audits()) else {
            return;
        };
        let Some((checkpoint, signal)) = self.place() else {
            return;
        };
        let Some(cell) = &checkpoint.cells[signal] else {
            return;
        };
        let wish = Wish {
            root: run.root.clone(),
            signal: audits.course.signals[signal].to_owned(),
            stage: checkpoint.stage.clone(),
            step: checkpoint.step,
            verdict: cell.verdict,
            reason,
            author: self.author.clone(),
        };
        let number = self.number;
        self.away = true;
        cx.look("writing waivers", Duration::ZERO, move || {
            Ok(Told::Waived(number, work::waive(wish)))
        });
    }

    pub(super) fn obeys(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        let (&first, rest) = words.split_first()?;
        let what = rest.join(" ");
        Some(match (first, what.as_str()) {
            ("audits", "") => Err("audits: expected the folder of a pipeline".into()),
            ("audits", path) => {
                run::open(path, cx);
                Ok(())
            }
            ("waive", "") => Err(
                "waive: expected the reason, as in `:waive the prompts are out of scope`".into(),
            ),
            ("waive", reason) => self.allowed("waive", cx.shared).map(|()| {
                self.write(Some(reason.to_owned()), cx);
            }),
            ("author", name) => {
                self.author = (!name.is_empty()).then(|| name.to_owned());
                Ok(())
            }
            // `:course FOLDER` arrives as FOLDER alone.
            _ if first.contains(['/', '\\', '.']) => {
                run::open(&words.join(" "), cx);
                Ok(())
            }
            _ => return None,
        })
    }
}
