//! Features: what a sparse dictionary sees in the prompt, latent by latent; what each latent fires on; latents turned.
//!
//! State here, the list in `rows.rs`, keys in `keys.rs`, what they do in `acts.rs`, commands in `commands.rs`, turning in
//! `turn.rs`, the oscilloscope in `live.rs` and `scope/`, the work in `work.rs`, records in `records.rs` and `texts.rs`; drawing in
//! `view.rs` (the list), `map.rs` (the prompt), `page.rs` (a latent in lines) and `bits.rs` (what lines are made of); command
//! line, files and words in `written.rs`.
//!
//! Always: what is turned is an intervention of all screens, and [`FeaturesScreen::turned`] is read off it, so that undo and
//! the chips' own keys hold here too; a latent stays chosen by its number, whatever happens to the list.

mod acts;
mod bits;
mod commands;
mod keys;
mod live;
mod map;
mod page;
#[cfg(test)]
mod planted;
mod records;
mod rows;
pub mod scope;
#[cfg(test)]
mod tests;
mod texts;
mod turn;
mod view;
mod work;
mod written;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::features::dashboard::Trait;
use crate::features::{Labels, LatentEdit};
use crate::tui::field::{Field, Outcome};
use crate::tui::filter::{Filter, Listed};
use crate::tui::keys::Binding;
use crate::tui::screen::{Command, Context, Data, Hits, Reply, Screen, View};
use crate::tui::screens::pending::Pending;
use crate::tui::shared::Shared;
use records::Records;
use rows::{List, Scope, Sorts};
use scope::ScopePane;
use work::{Answer, Beside, Effects, Open, Reading, Told};

/// Places for the mouse: a cell of the prompt, a row of the list, a latent that a page names.
const CELL: u16 = 0;
const ROW: u16 = 1;
const OTHER: u16 = 2;

/// Latents whose weights are kept looked at.
const REMEMBERED: usize = 512;

/// What is asked of the worker whenever it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// The prompt of this version through the dictionary of this number.
    Prompt(u64, u64),
    /// The weights of a latent of the dictionary of this number.
    Latent(u64, usize),
}

/// A job that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    /// A dictionary is opened.
    Open,
    /// Latents are followed over a text.
    Read,
}

/// What the cells of the prompt say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Shows {
    /// Number and label.
    #[default]
    Labels,
    /// The value.
    Values,
}

/// The screen.
#[derive(Default)]
pub struct FeaturesScreen {
    /// The dictionary, with the model's points; the pane beside takes it from here.
    open: Option<Arc<Open>>,
    /// What is done to its latents, by the chip that is on.
    turned: Vec<LatentEdit>,
    records: Records,
    labels: Option<Labels>,
    /// What beside the dictionary could not be read.
    wrong: Vec<String>,
    reading: Option<Reading>,
    /// Why the prompt of a version could not be read.
    unread: Option<((u64, u64), String)>,
    effects: BTreeMap<usize, Result<Effects, String>>,
    /// Its jobs by number, and what it waits for.
    pending: Pending<(u64, Job), Question>,
    scope: Scope,
    /// One for each scope.
    sorts: Sorts,
    shows: Shows,
    filter: Filter,
    listed: List,
    /// Moves when what is known of latents changes.
    changes: u64,
    /// The chosen latent.
    latent: Option<usize>,
    /// The latent whose page is shown, and those from which one came to it.
    page: Vec<usize>,
    scroll: usize,
    /// How far the page could be scrolled when it was last drawn.
    most: Cell<usize>,
    /// The other latent that the page's keys have chosen.
    other: Option<usize>,
    /// A label that is being written, and of which latent.
    writing: Option<(usize, Field)>,
    /// How strongly latents fired before they were turned.
    strengths: BTreeMap<usize, f32>,
    /// The version that the last step of a turn made: a further one replaces it.
    stepped: Option<u64>,
    /// Tells one open model from another.
    model: usize,
    /// Latents while the model generates.
    pane: Option<ScopePane>,
    /// It is to be opened once nothing is waited for.
    opening: bool,
}

impl FeaturesScreen {
    /// The latent that keys are about: that of the page, else the one under the cursor.
    fn chosen(&self) -> Option<usize> {
        let page = self.page.last().copied();
        page.or_else(|| self.rows().get(self.row()?).map(|row| row.latent))
    }

    /// The token under the cursor.
    fn position(&self, shared: &Shared) -> usize {
        let n = self.reading.as_ref().map_or(0, |r| r.pieces.len());
        shared.position.min(n.saturating_sub(1))
    }

    /// What the prompt's reading has to be of.
    fn wanted(&self, shared: &Shared) -> Option<(u64, u64)> {
        Some((shared.version(), self.open.as_ref()?.number))
    }

    /// Whether what is shown of the prompt is of before a change.
    fn stale(&self, shared: &Shared) -> bool {
        self.reading.as_ref().map(|r| r.of) != self.wanted(shared)
    }

    /// A latent's label, and whether it is the user's own.
    fn label(&self, latent: usize) -> Option<(String, bool)> {
        let own = self.labels.as_ref().and_then(|labels| labels.of(latent));
        if let Some(own) = own {
            return Some((own.to_owned(), true));
        }
        let label = self.records.of(latent)?.latent.label.as_ref()?;
        Some((label.words(), false))
    }

    /// A latent's label for a few columns: of a token statistic its value alone.
    fn short_label(&self, latent: usize) -> Option<String> {
        let own = self.labels.as_ref().and_then(|labels| labels.of(latent));
        if let Some(own) = own {
            return Some(own.to_owned());
        }
        let label = self.records.of(latent)?.latent.label.as_ref()?;
        Some(match label.by {
            Trait::Ending => format!("-{}", label.value),
            Trait::Previous | Trait::Position => label.words(),
            Trait::Token | Trait::Form | Trait::Kind => label.value.clone(),
        })
    }

    /// What is to be asked now, the prompt first.
    fn question(&self, shared: &Shared) -> Option<Question> {
        let wanted = self.wanted(shared)?;
        let refused = self.unread.as_ref().map(|(of, _)| *of);
        if !shared.tokens.is_empty() && self.stale(shared) && refused != Some(wanted) {
            return Some(Question::Prompt(wanted.0, wanted.1));
        }
        let latent = self.chosen()?;
        let known = self.effects.contains_key(&latent);
        (!known).then_some(Question::Latent(wanted.1, latent))
    }

    fn ask(&mut self, cx: &mut Context) {
        let (Some(open), Some(question)) = (self.open.clone(), self.question(cx.shared)) else {
            return;
        };
        if self.pending.settled(question, None) {
            return;
        }
        self.pending.ask(question);
        let model = self.model;
        let told = move |answer| Told {
            model,
            job: None,
            answer,
        };
        match question {
            Question::Prompt(version, number) => {
                let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
                let edits = cx.shared.edits();
                cx.ask("latents of the prompt", move |checkpoint, ticket| {
                    let of = (version, number);
                    let answer = work::reading(checkpoint, of, &open.splice, &ids, edits);
                    if ticket.cancelled() {
                        return Err("stopped".into());
                    }
                    Ok(told(answer))
                });
            }
            Question::Latent(number, latent) => {
                cx.ask("weights of a latent", move |checkpoint, _| {
                    Ok(told(work::effects(
                        checkpoint,
                        number,
                        &open.splice,
                        latent,
                    )))
                });
            }
        }
    }

    fn take(&mut self, told: Told, cx: &mut Context) {
        self.changes += 1;
        let ours = told.model == self.model;
        let here = |number: u64| ours && self.open.as_ref().is_some_and(|o| o.number == number);
        match told.answer {
            Answer::Reading(of, result) => {
                let (ours, question) = (here(of.1), Question::Prompt(of.0, of.1));
                match self.pending.answered(question, Ok(result), ours) {
                    Some(Ok(reading)) => self.reading = Some(reading),
                    Some(Err(why)) => self.unread = Some((of, why)),
                    None => {}
                }
            }
            Answer::Effects(of, result) => {
                let (ours, question) = (here(of.0), Question::Latent(of.0, of.1));
                if let Some(result) = self.pending.answered(question, Ok(result), ours) {
                    if self.effects.len() >= REMEMBERED {
                        self.effects.clear();
                    }
                    self.effects.insert(of.1, result);
                }
            }
            Answer::Labels(number, result) if here(number) => match result {
                Ok(labels) => self.labels = Some(labels),
                Err(why) => cx.say(why),
            },
            Answer::Records(number, result) if here(number) => {
                if told.job == self.pending.job {
                    self.pending.job = None;
                }
                match result {
                    Ok((records, n)) => {
                        self.records = records;
                        cx.say(format!("there are records of {n} latents"));
                    }
                    Err(why) if told.job.is_some() => self.pending.failed = Some(why),
                    Err(why) => cx.say(why),
                }
            }
            Answer::Beside(number, beside) if here(number) => {
                self.lay(*beside);
                cx.say(self.beside());
            }
            Answer::Opened(opened) if ours && told.job == self.pending.job => {
                let (open, beside) = *opened;
                live::close(self, cx);
                self.adopt(open, beside);
                cx.say(self.beside());
            }
            Answer::Ended(why) if ours && told.job == self.pending.job => {
                (self.pending.job, self.pending.failed) = (None, why);
            }
            _ => {}
        }
    }

    /// Another dictionary: nothing of the one before is kept but how it was looked at.
    fn adopt(&mut self, open: Open, beside: Beside) {
        *self = Self {
            open: Some(Arc::new(open)),
            scope: self.scope,
            sorts: self.sorts,
            shows: self.shows,
            filter: std::mem::take(&mut self.filter),
            pending: self.pending.forgotten(),
            changes: self.changes,
            model: self.model,
            ..Self::default()
        };
        self.lay(beside);
    }

    fn lay(&mut self, beside: Beside) {
        self.records = beside.records;
        self.labels = beside.labels;
        self.wrong = beside.wrong;
    }

    /// How many labels are the user's own.
    fn own(&self) -> usize {
        self.labels.as_ref().map_or(0, Labels::count)
    }

    /// What was found beside the dictionary, in words.
    fn beside(&self) -> String {
        if let Some(wrong) = self.wrong.first() {
            return wrong.clone();
        }
        match (self.records.count(), self.own()) {
            (0, 0) => "no records beside it; enter on a latent says how to make them".into(),
            (records, labels) => {
                format!("beside it: records of {records} latents, {labels} labels of yours")
            }
        }
    }

    /// Writes a label of the user's own, away from the thread that draws.
    fn write_label(&mut self, latent: usize, text: &str, cx: &mut Context) {
        let (Some(open), Some(labels)) = (&self.open, self.labels.clone()) else {
            return cx.say(self.wrong.first().cloned().unwrap_or_default());
        };
        let (model, number, text) = (self.model, open.number, text.to_owned());
        cx.look("label of a latent", std::time::Duration::ZERO, move || {
            let labels = labels.with(latent, &text).map_err(|e| e.to_string());
            Ok(Told {
                model,
                job: None,
                answer: Answer::Labels(number, labels),
            })
        });
    }
}

impl Screen for FeaturesScreen {
    fn id(&self) -> &'static str {
        "features"
    }

    fn about(&self) -> &'static str {
        "Latents of a sparse dictionary: what fires on the prompt, what each latent is, and what the model says with it turned"
    }

    fn bindings(&self) -> &'static [Binding] {
        match &self.pane {
            Some(_) => scope::KEYS,
            None => keys::KEYS,
        }
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        match &self.pane {
            Some(pane) => pane.enabled(action),
            None => acts::enabled(self, action, shared),
        }
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        match &mut self.pane {
            Some(pane) => pane.act(action, cx),
            None => acts::act(self, action, cx),
        }
    }

    fn takes_text(&self) -> bool {
        self.writing.is_some()
    }

    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        let Some((latent, field)) = &mut self.writing else {
            return;
        };
        match field.key(key) {
            Outcome::Submitted => {
                let (latent, text) = (*latent, field.text().to_owned());
                self.writing = None;
                self.write_label(latent, &text, cx);
            }
            Outcome::Cancelled => self.writing = None,
            Outcome::Refused(why) => cx.say(why.to_string()),
            _ => {}
        }
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        if let Some((_, field)) = &mut self.writing
            && let Outcome::Refused(why) = field.paste(text)
        {
            cx.say(why.to_string());
        }
    }

    fn click(&mut self, what: u16, column: usize, row: usize, cx: &mut Context) {
        match what {
            _ if self.pane.is_some() => {}
            CELL => {
                let last = cx.shared.tokens.len().saturating_sub(1);
                cx.shared.position = column.min(last);
                let piece = self.reading.as_ref().and_then(|r| r.pieces.get(column));
                if let Some((latent, _)) = piece.and_then(|piece| piece.codes.get(row)) {
                    self.latent = Some(*latent);
                }
            }
            // A second click goes in, as enter does.
            ROW if self.latent == Some(row) => acts::open_page(self, row),
            ROW => self.latent = Some(row),
            OTHER => acts::open_page(self, row),
            _ => {}
        }
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        let names = match &self.pane {
            Some(_) => ["next", "previous"],
            None => ["down", "up"],
        };
        self.act(names[usize::from(rows <= 0)], cx);
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
            live::close(self, cx);
            // Another model's latents: nothing of them can be shown, not even as old.
            *self = Self {
                scope: self.scope,
                sorts: self.sorts,
                shows: self.shows,
                pending: self.pending.forgotten(),
                changes: self.changes + 1,
                model,
                ..Self::default()
            };
        }
        let turned = turn::applied(self, cx.shared);
        if turned != self.turned {
            self.turned = turned;
            self.changes += 1;
        }
        self.relist(cx.shared);
        live::begin(self, cx);
        match &mut self.pane {
            Some(pane) => pane.refresh(cx),
            None if self.opening => {}
            None => self.ask(cx),
        }
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        if let Some(pane) = &mut self.pane
            && pane.told(&reply, cx)
        {
            return;
        }
        if let Some(told) = self.pending.reply(reply) {
            self.take(told, cx);
        }
        self.pending.settle();
    }

    fn cancel(&mut self, cx: &mut Context) -> bool {
        if self.writing.take().is_some() || live::cancel(self, cx) {
            return true;
        }
        if self.page.pop().is_some() {
            (self.scroll, self.other) = (0, None);
            return true;
        }
        self.pending.cancel("stopped; everything is as it was", cx)
    }

    fn list(&self, shared: &Shared) -> Option<Listed> {
        self.open.as_ref()?;
        if !self.page.is_empty() || self.pane.is_some() {
            return None;
        }
        let all = self.all(shared);
        Some(Listed {
            name: "latents",
            rows: all.iter().map(|row| self.text(row.latent)).collect(),
        })
    }

    fn narrow(&mut self, _list: &'static str, filter: &Filter, cx: &mut Context) {
        self.filter = filter.clone();
        self.relist(cx.shared);
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        let ours = self.pane.as_mut().and_then(|pane| pane.command(words, cx));
        ours.or_else(|| commands::command(self, words, cx))
    }

    fn commands(&self) -> &'static [&'static str] {
        match &self.pane {
            Some(_) => ScopePane::COMMANDS,
            None => commands::COMMANDS,
        }
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, shared: &Shared) -> Vec<String> {
        live::spoken(self).unwrap_or_else(|| written::spoken(self, shared))
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        match &self.pane {
            Some(pane) => pane.command_line(shared),
            None => written::command_line(self, shared),
        }
    }

    fn data(&self, shared: &Shared) -> Option<Data> {
        match &self.pane {
            Some(pane) => pane.written(shared),
            None => written::data(self, shared),
        }
    }
}
