//! A page: where one is, what changed around it, what the screen says, and the first of its rows.

use std::io::Write;
use std::time::Instant;

use super::{Plain, words};
use crate::tui::app::App;
use crate::tui::filter::Filter;
use crate::tui::runtime::TuiError;
use crate::tui::screen::Data;
use crate::tui::shared::ModelState;
use crate::tui::work::Lane;

/// What chips say with a glyph.
const GLYPHS: [(&str, &str); 4] = [
    ("⊘", "cut"),
    ("⊖", "ablate"),
    ("⊕", "add"),
    ("⊙", "latents"),
];

/// Rows of a page.
const ROWS: usize = 20;

impl<W: Write> Plain<W> {
    /// Says the screen: its name, what is new around it, its own lines, and rows where they are few or asked for.
    pub(super) fn page(&mut self) -> Result<(), TuiError> {
        let app = &mut self.runtime.app;
        let screen = app.screen().id();
        if std::mem::replace(&mut self.screen, screen) != screen {
            self.filter = Filter::default();
        }
        let context = context(app);
        let spoken = app.spoken();
        let broken = app.broken().map(super::super::broken::Broken::lines);
        let work = work(app);
        self.say(&format!("screen {screen}"))?;
        let before = std::mem::replace(&mut self.said, context.clone());
        for line in context.iter().filter(|line| !before.contains(line)) {
            self.say(line)?;
        }
        for line in broken.iter().flatten().chain(&spoken).chain(&work) {
            self.say(line)?;
        }
        if broken.is_some() {
            return self.say("esc shows the screen again");
        }
        self.next = 0;
        self.rows(spoken.is_empty())
    }

    /// The next rows; without `insist` many rows are only counted.
    pub(super) fn rows(&mut self, insist: bool) -> Result<(), TuiError> {
        let Some(data) = self.runtime.app.data() else {
            return self.say("no rows yet");
        };
        let left = self.left(&data);
        let (all, some) = (data.rows.len(), left.len());
        let narrowed = if self.filter.is_empty() {
            String::new()
        } else {
            format!(", filter {}", self.filter.text())
        };
        if all == 0 {
            return self.say("no rows");
        }
        if some > ROWS && self.next == 0 && self.filter.is_empty() && !insist {
            return self.say(&format!("{all} rows; more reads them, /WORDS narrows them"));
        }
        let from = self.next.min(some);
        let to = (from + ROWS).min(some);
        let count = if self.filter.is_empty() {
            format!("{all} rows")
        } else {
            format!("{some} of {all} rows{narrowed}")
        };
        self.say(&if from < to {
            format!("rows {} to {to}, of {count}", from + 1)
        } else if some == 0 {
            format!("{count}; / alone shows all again")
        } else {
            format!("no more rows, of {count}")
        })?;
        for (i, row) in left[from..to].iter().enumerate() {
            let text = words::row(&data.headers, &data.rows[*row]);
            self.say(&format!("{}. {text}", from + i + 1))?;
        }
        self.next = to;
        if to < some {
            self.say("more reads on")?;
        }
        Ok(())
    }

    /// The rows that the filter leaves.
    fn left(&self, data: &Data) -> Vec<usize> {
        // What is heard is what is searched.
        let rows = data.rows.iter().map(|row| words::row(&data.headers, row));
        self.filter.left(rows)
    }
}

/// What is around a screen, in an order that does not change.
pub(super) fn context(app: &App) -> Vec<String> {
    let shared = &app.shared;
    let mut lines = vec![match &shared.model {
        ModelState::None => "no model is open; open NAME opens one".to_owned(),
        ModelState::Loading { name } => format!("model {name} is being opened"),
        ModelState::Failed { name, why } => {
            format!("model {name} could not be opened: {why}")
        }
        ModelState::Ready(facts) => format!(
            "model {}: {} layers, {} heads, width {}",
            facts.name, facts.config.n_layers, facts.config.n_heads, facts.config.d_model
        ),
    }];
    if shared.model.facts().is_some() {
        let text = words::quoted(shared.prompt.text());
        lines.push(match &shared.prompt_error {
            Some(why) => format!("prompt {text} cannot be read: {why}"),
            None => format!("prompt {text}: {} tokens", shared.tokens.len()),
        });
    }
    if shared.interventions.is_empty() {
        lines.push("no interventions".to_owned());
    }
    for (i, chip) in shared.interventions.iter().enumerate() {
        let on = if chip.on { "on" } else { "off" };
        let mut label = chip.label.clone();
        for (glyph, word) in GLYPHS {
            label = label.replace(glyph, word);
        }
        lines.push(format!("intervention {}: {label}, {on}", i + 1));
    }
    lines
}

/// What is being computed, a line each.
pub(super) fn work(app: &App) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    if let ModelState::Loading { name } = &app.shared.model {
        lines.push(format!("working: opening {name}"));
    }
    for pending in &app.pending {
        let spent = Instant::now().duration_since(pending.since).as_secs_f64();
        let how = match pending.share.filter(|share| *share > 0.02) {
            Some(share) if pending.lane == Lane::Job => format!(
                ", {:.0} percent, {:.0} seconds left",
                share * 100.0,
                spent * (1.0 - share) / share
            ),
            Some(share) => format!(", {:.0} percent", share * 100.0),
            None => format!(", {spent:.0} seconds so far"),
        };
        let note = if pending.note.is_empty() {
            &pending.what
        } else {
            &pending.note
        };
        lines.push(format!("working: {note}{how}; stop stops it"));
    }
    lines
}
