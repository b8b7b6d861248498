//! Opening a run, for every screen that looks at one: the field in which its folder is typed, the look at the folder, and what
//! stands in place of a screen while there is no run.
//!
//! Always: the folder is read away from the frame; one that is no run is refused by name, and the run that was open stays
//! forgotten, since what is shown must be of the folder that was named last.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::unready;
use crate::pipeline::stations::{Stations, stations};
use crate::tui::cells::{self, Card};
use crate::tui::field::{Field, Outcome};
use crate::tui::pen;
use crate::tui::screen::Context;
use crate::tui::shared::{RunState, Shared};
use crate::tui::theme::Theme;

/// What a look at a folder found.
pub(super) struct Looked {
    path: String,
    result: Result<Arc<Stations>, String>,
}

/// A line that is typed.
pub(super) struct Line {
    pub(super) field: Field,
    /// It takes the keys.
    pub(super) typing: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            field: Field::single(),
            typing: false,
        }
    }
}

impl Line {
    /// A key; the line once it is entered and not empty.
    pub(super) fn key(&mut self, key: KeyEvent, cx: &mut Context) -> Option<String> {
        match self.field.key(key) {
            Outcome::Submitted => {
                self.typing = false;
                let text = self.field.take();
                let text = text.trim();
                return (!text.is_empty()).then(|| text.to_owned());
            }
            Outcome::Cancelled => self.typing = false,
            Outcome::Refused(why) => cx.say(why.to_string()),
            Outcome::Changed | Outcome::Moved | Outcome::Ignored => {}
        }
        None
    }

    /// Pasted text; `key` opens the line.
    pub(super) fn paste(&mut self, text: &str, key: &str, cx: &mut Context) {
        if !self.typing {
            return cx.say(format!("{key} opens a field for text"));
        }
        if let Outcome::Refused(why) = self.field.paste(text) {
            cx.say(why.to_string());
        }
    }

    /// Esc: closes the line if it is open.
    pub(super) fn close(&mut self) -> bool {
        std::mem::take(&mut self.typing)
    }

    /// Draws it in its frame.
    pub(super) fn draw(&self, area: Rect, title: &str, theme: Theme, buf: &mut Buffer) {
        let inner = pen::panel(area, title, &theme, buf);
        self.field.draw(buf, inner, theme, true);
    }
}

/// Looks at a folder; the answer comes back to the screen that asked, as [`Looked`].
pub(super) fn open(path: &str, cx: &mut Context) {
    let path = path.trim().to_owned();
    cx.shared.run = RunState::Looking { path: path.clone() };
    cx.look("looking at a run", Duration::ZERO, move || {
        let result = stations(Path::new(&path));
        Ok(Looked {
            result: result.map(Arc::new).map_err(|error| error.to_string()),
            path,
        })
    });
}

/// Takes what a look found, unless another folder was named since.
pub(super) fn take(looked: Looked, cx: &mut Context) {
    let wanted = matches!(&cx.shared.run, RunState::Looking { path } if *path == looked.path);
    if !wanted {
        return;
    }
    cx.shared.run = match looked.result {
        Ok(stations) => {
            if !stations.rewards.is_empty() {
                let names = stations.rewards.join(", ");
                cx.say(format!("left out, since it is a reward model: {names}"));
            }
            RunState::Ready(stations)
        }
        Err(why) => RunState::Failed {
            path: looked.path,
            why,
        },
    };
}

/// A look that ended without an answer.
pub(super) fn failed(why: String, cx: &mut Context) {
    if let RunState::Looking { path } = &cx.shared.run {
        cx.shared.run = RunState::Failed {
            path: path.clone(),
            why,
        };
    }
}

/// Why a key that needs a run does nothing.
pub(super) const NONE: &str = "no run is open; o types the path of one";

/// What there is to say while no run is open: `shows` is the screen's sentence.
pub(super) fn card(shared: &Shared, theme: Theme, shows: &str, command: &str) -> Option<Card> {
    let footer = format!(
        "o types the folder of a pipeline or of a training run; `:{command} FOLDER` opens one too"
    );
    match &shared.run {
        RunState::None => Some(unready::say(
            "No run is open",
            theme.dim(),
            shows.to_owned(),
            &footer,
        )),
        RunState::Looking { path } => Some(unready::say(
            "Looking at a run",
            theme.accent(),
            path.clone(),
            "",
        )),
        RunState::Failed { why, .. } => Some(unready::say(
            "No run was opened",
            theme.error(),
            why.clone(),
            &footer,
        )),
        RunState::Ready(_) => None,
    }
}

/// The same in lines of text.
pub(super) fn spoken(shared: &Shared, command: &str) -> Option<String> {
    match &shared.run {
        RunState::None => Some(format!(
            "no run is open; {command} FOLDER opens a pipeline's folder or a training run's"
        )),
        RunState::Looking { path } => Some(format!("looking at {path}")),
        RunState::Failed { why, .. } => Some(format!("no run was opened: {why}")),
        RunState::Ready(_) => None,
    }
}

/// The folder's own name: where it lies would fill the line.
pub(super) fn name(stations: &Stations, theme: Theme) -> String {
    let root = &stations.root;
    let name = root.file_name().unwrap_or(root.as_os_str());
    cells::prose(&name.to_string_lossy(), theme.ascii)
}
