//! A screen whose code panicked: it is made anew, a card stands in its place until Esc, everything else goes on.
//!
//! Always: what the screen had asked for is stopped, and what still comes of it is dropped, since the new one did not ask;
//! model, prompt and interventions are plain data that are whole after any assignment, so they stay as they are.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::app::{App, Effect};
use super::cells::{self, Card};
use super::log;
use super::overlay::Overlay;
use super::panics::{Panic, caught};
use super::screen::Data;
use super::theme::Theme;

/// What is kept of it.
#[derive(Debug, Clone)]
pub struct Broken {
    /// The screen's name.
    pub screen: &'static str,
    /// What it was doing: `drawing`.
    pub doing: &'static str,
    /// The panic.
    pub panic: Panic,
}

impl Broken {
    /// What there is to say, a paragraph each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("While {}: {}", self.doing, self.panic),
            format!(
                "This is a defect of candlescope. The state of `{}` was reset; model, prompt, interventions and the \
                 other screens are as they were and go on.",
                self.screen
            ),
        ];
        if let Some(file) = log::file() {
            lines.push(format!(
                "The log says how it came there: {}",
                file.display()
            ));
        }
        lines
    }

    /// Draws it in place of the screen.
    pub(super) fn card(&self, theme: Theme, area: Rect, buf: &mut Buffer) {
        let card = Card {
            title: format!("`{}` panicked", self.screen),
            style: theme.error(),
            body: self.lines(),
            footer: "esc shows the screen again; 1-9 and ' go to another".into(),
        };
        cells::card(buf, area, &card, theme);
    }
}

impl App {
    /// What broke the screen that is shown, until Esc.
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.get(&self.current)
    }

    /// What the screen that is shown gives as rows.
    pub fn data(&mut self) -> Option<Data> {
        self.guarded("giving its data", |app| app.screen().data(&app.shared))
            .flatten()
    }

    /// The command line that shows the same as the screen.
    pub fn command_line(&mut self) -> Option<String> {
        self.guarded("giving its command line", |app| {
            app.screen().command_line(&app.shared)
        })
        .flatten()
    }

    /// What the screen says of itself in words; nothing while it is broken.
    pub fn spoken(&mut self) -> Vec<String> {
        if self.broken().is_some() {
            return Vec::new();
        }
        let said = self.guarded("saying what it shows", |app| {
            app.screen().spoken(&app.shared)
        });
        said.unwrap_or_default()
    }

    /// Whether the next keys are text.
    pub fn takes_text(&self) -> bool {
        self.broken().is_none() && self.screen().takes_text()
    }

    /// Lets code of a screen run: a panic in it costs that screen its state and nothing else.
    pub(super) fn guarded<T>(
        &mut self,
        doing: &'static str,
        run: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        self.acting = self.current;
        match caught(|| run(self)) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.reset(self.acting, doing, panic);
                None
            }
        }
    }

    /// Makes a screen anew after a panic.
    pub(super) fn reset(&mut self, index: usize, doing: &'static str, panic: Panic) {
        let table = self.table;
        if let Ok(mut all) = caught(table)
            && index < all.len()
        {
            let old = std::mem::replace(&mut self.screens[index], all.swap_remove(index));
            // What it holds may be in a state that cannot even be dropped.
            let _ = caught(|| drop(old));
        }
        let screen = self.screens[index].id();
        for pending in self.pending.iter_mut().filter(|p| p.screen == screen) {
            pending.abandoned = true;
            self.effects.push(Effect::Abandon(pending.id));
        }
        self.filters.retain(|(of, _), _| *of != screen);
        self.filtering = false;
        self.overlay = Overlay::None;
        self.broken.insert(
            index,
            Broken {
                screen,
                doing,
                panic,
            },
        );
        self.dirty = true;
    }
}
