//! The time machine: one prompt through the checkpoints of a run, one after the other.
//!
//! State here, keys in `keys.rs`, what they do in `acts.rs`, what is read of a checkpoint in `work.rs`, what is kept of it in
//! `held.rs`, the chart over the checkpoints in `chart.rs`, drawing in `view.rs`, files and words in `written.rs`.
//!
//! Always: every checkpoint reads the same token ids, encoded once by the words of the run's last checkpoint; one checkpoint is
//! open at a time, and what is kept of it are numbers; what is shown of a prompt, place or direction of before is dim. No model
//! need be open. Nothing is read while another screen is shown.

mod acts;
mod chart;
mod held;
mod keys;
mod view;
mod work;
mod written;

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::lens::editor::{Edited, Editor};
use super::run;
use crate::model::Cancel;
use crate::pipeline::stations::{Station, Stations};
use crate::tui::keys::Binding;
use crate::tui::screen::{Context, Data, Hits, Reply, Screen, View};
use crate::tui::shared::{RunState, Shared};
use chart::Quantity;
use held::{Held, Seen, Wish};
use work::{Ask, Told, Words};

/// Checkpoints on either side that are read ahead.
const AHEAD: usize = 2;
/// Between two steps of a play.
const BEAT: Duration = Duration::from_millis(450);

/// The beat of a play; another one that began since makes it void.
struct Beat(u64);

/// A direction from a file.
#[derive(Debug, Clone)]
struct Along {
    spec: String,
    number: u64,
    vector: Arc<Vec<f32>>,
}

/// A checkpoint that is being read.
struct Away {
    cancel: Cancel,
    station: usize,
    wish: Wish,
}

/// The screen.
#[derive(Default)]
pub struct TimeScreen {
    line: run::Line,
    editor: Option<Editor>,
    /// The checkpoint that is looked at.
    at: usize,
    /// The token of the prompt that is looked at; none for the last.
    place: Option<usize>,
    words: Option<Arc<Words>>,
    held: Held,
    quantity: Quantity,
    /// The token whose probability is followed; none for the likeliest of the last that was read.
    token: Option<u32>,
    /// The row of the next tokens that has the cursor.
    picked: usize,
    /// Layers that are scrolled past.
    scroll: usize,
    /// Layers show their part along the direction, not the refusal score.
    projects: bool,
    along: Option<Along>,
    away: Option<Away>,
    playing: bool,
    beats: u64,
    /// Tells runs apart, and a look again from the one before.
    runs: u64,
    run: Option<Arc<Stations>>,
}

impl TimeScreen {
    /// The checkpoint that is looked at.
    fn station<'a>(&self, shared: &'a Shared) -> Option<&'a Station> {
        let all = &shared.run.stations()?.all;
        all.get(self.at.min(all.len().checked_sub(1)?))
    }

    /// What is read of each checkpoint now.
    fn wish(&self, shared: &Shared) -> Wish {
        Wish {
            run: self.runs,
            prompt: shared.prompt.clone(),
            place: self.place,
            along: self.direction(shared).map(|along| along.number),
        }
    }

    /// What the stream is projected on: a file, else the first direction among the interventions.
    fn direction(&self, shared: &Shared) -> Option<Along> {
        if let Some(along) = &self.along {
            return Some(along.clone());
        }
        let (chip, vector) = super::lens::reading::directed(shared)?;
        Some(Along {
            spec: chip.label.clone(),
            // Another set of interventions is another direction.
            number: (1 << 32) + shared.version(),
            vector,
        })
    }

    /// What was read of the checkpoint that is looked at, and whether it is of before.
    fn here(&self, shared: &Shared) -> Option<(&Seen, bool)> {
        let seen = self.held.at(self.at)?.as_ref().ok()?;
        Some((seen, seen.wish != self.wish(shared)))
    }

    /// Why the checkpoint that is looked at could not be read.
    fn trouble(&self) -> Option<&str> {
        let result = self.held.at(self.at)?;
        result.as_ref().err().map(|(_, why)| why.as_str())
    }

    /// The token that is followed.
    fn followed(&self) -> Option<u32> {
        self.token.or_else(|| self.held.likeliest())
    }

    /// Another run, or the same looked at again: nothing of before can be shown.
    fn forget(&mut self) {
        self.runs += 1;
        self.held = Held::default();
        self.words = None;
        self.playing = false;
        self.stop();
    }

    /// What is being read is not wanted any more.
    fn stop(&mut self) {
        if let Some(away) = &self.away {
            away.cancel.request();
        }
    }

    /// The run that is open is taken in; its last checkpoint is looked at first.
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
        if same {
            return;
        }
        // The same run looked at again keeps its place.
        let root = |run: &Arc<Stations>| run.root.clone();
        let last = now.map_or(0, |run| run.all.len() - 1);
        if self.run.as_ref().map(root) == now.map(root) {
            self.at = self.at.min(last);
        } else {
            self.at = last;
            (self.place, self.token) = (None, None);
            (self.picked, self.scroll) = (0, 0);
        }
        self.run = now.cloned();
        self.forget();
    }

    /// The checkpoint that is wanted next: the one looked at, the first (all are held against it), then its neighbours.
    fn next(&self, wish: &Wish, count: usize) -> Option<usize> {
        let ahead = (1..=AHEAD).flat_map(|by| {
            let on = (self.at + by < count).then_some(self.at + by);
            [on, self.at.checked_sub(by)]
        });
        let wanted = [Some(self.at), Some(0)].into_iter().chain(ahead).flatten();
        let mut open = wanted.filter(|at| !self.held.knows(*at, wish));
        open.next()
    }

    /// Reads the checkpoint that is wanted next, if nothing is being read.
    fn follow(&mut self, cx: &mut Context) {
        let Some(run) = cx.shared.run.stations().cloned() else {
            return;
        };
        let wish = self.wish(cx.shared);
        if let Some(away) = &self.away {
            // It is of before, or far from what is looked at now.
            let near = away.station == 0 || away.station.abs_diff(self.at) <= AHEAD;
            if away.wish != wish || !near {
                away.cancel.request();
            }
            return;
        }
        let Some(station) = self.next(&wish, run.all.len()) else {
            return;
        };
        let cancel = Cancel::new();
        self.away = Some(Away {
            cancel: cancel.clone(),
            station,
            wish: wish.clone(),
        });
        let ask = Ask {
            station,
            direction: self.direction(cx.shared).map(|along| along.vector),
            words: self.words.clone().filter(|words| words.are_of(&wish)),
            wish,
            run,
        };
        let what = format!("reading {}", ask.run.all[station].name());
        cx.look(&what, Duration::ZERO, move || {
            Ok(cancel.watch(|| work::read(ask)))
        });
    }

    fn take(&mut self, told: Told, shared: &Shared) {
        let Some(away) = self.away.take() else {
            return;
        };
        let stopped = away.cancel.requested();
        if told.wish.run != self.runs {
            return;
        }
        if let Some(words) = told.words {
            self.words = Some(words);
        }
        match told.result {
            // What was stopped on its way is no failure.
            Err(_) if stopped => {}
            result => self.held.keep(told.station, told.wish, result, self.at),
        }
        let wish = self.wish(shared);
        self.held.weigh(&wish);
    }

    /// One beat of a play: on to the next checkpoint once this one was read.
    fn beat(&mut self, cx: &mut Context) {
        let Some(run) = cx.shared.run.stations() else {
            self.playing = false;
            return;
        };
        let last = run.all.len() - 1;
        if self.held.knows(self.at, &self.wish(cx.shared)) {
            self.at = (self.at + 1).min(last);
        }
        if self.at == last {
            self.playing = false;
            return;
        }
        self.tick(cx);
    }

    fn tick(&mut self, cx: &mut Context) {
        self.beats += 1;
        let number = self.beats;
        cx.look("playing", BEAT, move || Ok(Beat(number)));
    }
}

impl Screen for TimeScreen {
    fn id(&self) -> &'static str {
        "time"
    }

    fn about(&self) -> &'static str {
        "One prompt through all checkpoints of a run: what each says next, layer by layer, and how that moved"
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
        self.line.typing || self.editor.is_some()
    }

    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        if let Some(editor) = &mut self.editor {
            match editor.key(key) {
                Edited::Open => {}
                Edited::Left => self.editor = None,
                Edited::Refused(why) => cx.say(why),
                Edited::Taken(prompt) => {
                    self.editor = None;
                    self.place = None;
                    cx.shared.set_prompt(prompt);
                }
            }
        } else if let Some(path) = self.line.key(key, cx) {
            run::open(&path, cx);
        }
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        match &mut self.editor {
            Some(editor) => {
                if let Edited::Refused(why) = editor.paste(text) {
                    cx.say(why);
                }
            }
            None => self.line.paste(text, "o", cx),
        }
    }

    fn click(&mut self, what: u16, column: usize, row: usize, cx: &mut Context) {
        self.clicked(what, column, row, cx.shared);
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(if rows > 0 { "page_down" } else { "page_up" }, cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        self.adopt(cx.shared);
        self.follow(cx);
    }

    fn leave(&mut self, _cx: &mut Context) {
        self.playing = false;
        self.stop();
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        match reply {
            Reply::Done(value) | Reply::Part(value) => match value.downcast::<Told>() {
                Ok(told) => self.take(*told, cx.shared),
                Err(value) => match value.downcast::<Beat>() {
                    Ok(beat) if self.playing && beat.0 == self.beats => self.beat(cx),
                    Ok(_) => {}
                    Err(value) => {
                        if let Ok(looked) = value.downcast::<run::Looked>() {
                            run::take(*looked, cx);
                        }
                    }
                },
            },
            // A look never fails by itself: this is a thread that did not start, or a defect.
            Reply::Failed(why) => {
                self.playing = false;
                match self.away.take() {
                    Some(away) => {
                        self.held.keep(away.station, away.wish, Err(why), self.at);
                    }
                    None => run::failed(why, cx),
                }
            }
            Reply::Cancelled => self.away = None,
        }
    }

    fn cancel(&mut self, _cx: &mut Context) -> bool {
        if self.editor.take().is_some() || self.line.close() {
            return true;
        }
        std::mem::take(&mut self.playing)
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        self.obeys(words, cx)
    }

    fn commands(&self) -> &'static [&'static str] {
        &["checkpoints RUN", "along FILE", "token TEXT"]
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
