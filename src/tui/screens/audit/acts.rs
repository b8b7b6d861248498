//! What keys and replies do to the screen: audits run, read and written; the cursor, the parts and the layers.
//!
//! Always: an audit that is shown is never changed; what takes long goes to the worker (`work.rs`).

use std::path::PathBuf;
use std::sync::Arc;

use super::order::{self, Order, Running};
use super::rows::Filter;
use super::work::{self, Answer};
use super::{AuditScreen, Part, Source, items, plot};
use crate::audit::verdict::Verdict;
use crate::tui::screen::Context;
use crate::tui::shared::{ModelState, Shared};

impl AuditScreen {
    pub(super) fn run(&mut self, quick: bool, cx: &mut Context) {
        let Some(facts) = cx.shared.model.facts() else {
            return;
        };
        let order = self.order(facts.name.clone(), quick, cx.shared);
        let edits = if order.under.is_empty() {
            Vec::new()
        } else {
            cx.shared.edits()
        };
        self.running = Some(Running::Waiting);
        self.trouble = None;
        cx.say(format!("audit of {}{}", order.model, order.subject()));
        let what = format!("audit of {}", order.model);
        cx.job(&what, move |checkpoint, ticket| {
            Ok(work::run(checkpoint, ticket, order, edits))
        });
    }

    /// What the next audit is run with.
    pub(super) fn order(&self, model: String, quick: bool, shared: &Shared) -> Order {
        let chips = if self.stored {
            Vec::new()
        } else {
            order::on(shared)
        };
        Order {
            model,
            baseline: self.baseline.clone(),
            quick,
            under: chips.iter().map(|chip| chip.label.clone()).collect(),
            options: chips.iter().flat_map(|chip| chip.options.clone()).collect(),
        }
    }

    /// Whether an audit can begin.
    pub(super) fn may_run(&self, shared: &Shared) -> Result<(), String> {
        match (&shared.model, &self.running) {
            (_, Some(Running::Stopping | Running::Withdrawn)) => {
                Err("the audit is being stopped".into())
            }
            (_, Some(_)) => Err("an audit is running; esc in the table stops it".into()),
            (ModelState::Ready(_), None) => match order::of_this_prompt(shared) {
                Some(chip) if !self.stored => Err(format!(
                    "{} names positions of this prompt, and an audit has others; D or X takes it off, u audits without",
                    chip.label
                )),
                _ => Ok(()),
            },
            (ModelState::Loading { name }, None) => Err(format!("{name} is being opened")),
            _ => Err("no model is open; `:open NAME` opens one".into()),
        }
    }

    /// The chart that is shown.
    pub(super) fn chart(&self) -> Option<&crate::audit::charts::Chart> {
        let charts = &self.signal()?.charts;
        charts.get(self.chart.min(charts.len().checked_sub(1)?))
    }

    /// The layer looked at, of as many as the shown chart has.
    pub(super) fn layer(&self, shared: &Shared) -> usize {
        let layer = self.layer.unwrap_or(shared.layer);
        let count = self.chart().and_then(plot::layers);
        count.map_or(layer, |count| layer.min(count.saturating_sub(1)))
    }

    /// Another layer of the chart; of all screens, where the record is of a model as deep as the open one.
    pub(super) fn step_layer(&mut self, deeper: bool, shared: &mut Shared) {
        let Some(count) = self.chart().and_then(plot::layers) else {
            return;
        };
        let at = self.layer(shared);
        let to = if deeper {
            (at + 1).min(count.saturating_sub(1))
        } else {
            at.saturating_sub(1)
        };
        let same = shared.model.facts().is_some() && shared.layers() == count;
        self.layer = (!same).then_some(to);
        if same {
            shared.layer = to;
        }
    }

    /// The next signal that did not pass, around the end.
    pub(super) fn finding(&self, forward: bool) -> Option<usize> {
        let rows = self.rows();
        let count = rows.len();
        let at = self.selected.min(count.checked_sub(1)?);
        let steps = 1..=count;
        let place = |step: usize| (at + if forward { step } else { count - step }) % count;
        let found = |&i: &usize| {
            let signal = rows[i].signal();
            signal.is_some_and(|signal| signal.verdict != Verdict::Pass)
        };
        steps.map(place).find(found)
    }

    pub(super) fn read(&mut self, file: String, cx: &mut Context) -> Result<(), String> {
        if cx.shared.model.facts().is_none() {
            return Err(format!(
                "{} is not open yet; then try again",
                cx.shared.model.name()
            ));
        }
        self.reading = Some(file.clone());
        self.trouble = None;
        cx.ask(&format!("reading {file}"), move |_, _| {
            Ok(work::read(&file))
        });
        Ok(())
    }

    pub(super) fn save(&mut self, dir: PathBuf, cx: &mut Context) -> Result<(), String> {
        let held = self
            .held
            .get(self.shown)
            .ok_or("there is no audit to write yet; R runs one")?;
        let audit = Arc::clone(&held.audit);
        cx.ask(
            &format!("writing reports to {}", dir.display()),
            move |_, _| Ok(work::save(&dir, &audit)),
        );
        Ok(())
    }

    pub(super) fn take(&mut self, answer: Answer, cx: &mut Context) {
        match answer {
            Answer::Read { file, result } => {
                self.reading = None;
                match result {
                    Ok(audit) => self.keep(audit, Source::File(file)),
                    Err(why) => self.trouble = Some(why),
                }
            }
            Answer::Ran { order, result } => {
                self.running = None;
                match result {
                    Ok((audit, stopped)) => {
                        let word = audit.verdict.word();
                        let how = if stopped {
                            "stopped; what was measured is shown"
                        } else {
                            "finished"
                        };
                        cx.say(format!("audit of {} {how}: {word}", order.model));
                        self.keep(audit, Source::Run { order, stopped });
                    }
                    Err(why) => self.trouble = Some(format!("audit of {}: {why}", order.model)),
                }
            }
            Answer::Saved(Ok(files)) => {
                let names = files.iter().map(|file| file.display().to_string());
                cx.say(format!("written: {}", names.collect::<Vec<_>>().join(", ")));
            }
            Answer::Saved(Err(why)) => self.trouble = Some(why),
        }
    }

    /// Moves whatever the keys move now.
    pub(super) fn go(&mut self, to: impl Fn(usize, usize) -> usize) {
        let last = |count: usize| count.saturating_sub(1);
        let moved = |at: usize, count: usize| to(at.min(last(count)), last(count)).min(last(count));
        let signal = self.signal();
        if self.explaining || self.part == Some(Part::Quantities) {
            self.scroll = moved(self.scroll, self.most.get() + 1);
        } else if self.part == Some(Part::Charts) {
            self.chart = moved(self.chart, signal.map_or(0, |signal| signal.charts.len()));
        } else if self.part == Some(Part::Prompts) {
            let count = signal.map_or(0, |signal| self.prompts(signal).len());
            self.item = moved(self.item, count);
        } else {
            self.selected = moved(self.selected, self.rows().len());
        }
    }

    /// The next part of a signal, or the next audit that is kept.
    pub(super) fn turn(&mut self, forward: bool) {
        let next = |at: usize, count: usize| {
            if forward {
                (at + 1) % count
            } else {
                (at + count - 1) % count
            }
        };
        match self.part {
            Some(part) => {
                let at = Part::ALL.iter().position(|p| *p == part).unwrap_or(0);
                self.part = Some(Part::ALL[next(at, Part::ALL.len())]);
                self.explaining = false;
                self.enter();
            }
            None if self.held.is_empty() => {}
            None => self.show(next(self.shown, self.held.len())),
        }
    }

    pub(super) fn filter(&mut self) {
        if self.part == Some(Part::Prompts) {
            let labels = self.signal().map_or_else(Vec::new, items::labels);
            let at = self
                .label
                .as_ref()
                .and_then(|label| labels.iter().position(|l| l == label));
            self.label = labels.get(at.map_or(0, |at| at + 1)).cloned();
            self.item = 0;
            return;
        }
        let id = self.row().map(|row| row.id().to_owned());
        self.filter = match self.filter {
            Filter::All => Filter::NotPassed,
            Filter::NotPassed => Filter::All,
        };
        // The same signal stays under the cursor where it is still shown.
        let at = self
            .rows()
            .iter()
            .position(|row| Some(row.id()) == id.as_deref());
        self.selected = at.unwrap_or(0);
    }
}
