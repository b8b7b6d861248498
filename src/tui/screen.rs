//! What a screen is: one folder with its state, keys and view, and one line in [`super::screens::table`].
//!
//! Always: [`Screen::view`] is pure and draws whatever the size; a screen changes only itself and [`Shared`], and asks for
//! everything else through [`Context`]. Work goes to the worker as a closure and comes back as a value of the screen's own
//! type, so that no central list of requests has to know it.

use std::any::Any;
use std::time::Duration;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::filter::{Filter, Listed};
use super::keys::Binding;
use super::panics::Panic;
use super::shared::Shared;
use super::theme::Theme;
use super::work::{Lane, Ticket};
use crate::model::Checkpoint;

/// A value on its way from the worker to the screen that asked.
pub type Payload = Box<dyn Any + Send>;

/// Work on the open model. It runs on a worker thread; an error is shown to the user, so it says what to try.
pub type Work = Box<dyn FnOnce(&Checkpoint, &Ticket) -> Result<Payload, String> + Send>;

/// Work that needs no model.
pub type Look = Box<dyn FnOnce() -> Result<Payload, String> + Send>;

/// What a screen asks the workbench to do.
pub enum Command {
    /// Run work on the open model.
    Ask {
        /// The screen that is told.
        screen: &'static str,
        /// Which lane.
        lane: Lane,
        /// What is being done, for spinner and job list: `logit lens`.
        what: String,
        /// The work.
        work: Work,
    },
    /// Look at files; no model need be open.
    Look {
        /// The screen that is told.
        screen: &'static str,
        /// What is being done.
        what: String,
        /// How long to wait before it. A look that waits is no work that the workbench shows as going on.
        after: Duration,
        /// The work.
        work: Look,
    },
    /// Open a model by name or path.
    Open(String),
    /// Put text into the clipboard.
    Copy(String),
    /// Show a line of text for some seconds.
    Say(String),
    /// Go to a screen.
    Go(&'static str),
    /// Stop interactive work.
    Stop,
    /// Stop the running job.
    StopJob,
    /// Take the jobs of this screen back: those that wait are dropped, one that runs is stopped.
    Withdraw(&'static str),
    /// Leave.
    Quit,
}

/// What a screen handles something with.
pub struct Context<'a> {
    /// What all screens see.
    pub shared: &'a mut Shared,
    /// What is to be done afterwards.
    pub commands: &'a mut Vec<Command>,
    /// The screen that handles it.
    pub screen: &'static str,
}

impl Context<'_> {
    /// Runs work on the open model in the interactive lane: it replaces what is running or waiting there.
    pub fn ask<T: Send + 'static>(
        &mut self,
        what: &str,
        work: impl FnOnce(&Checkpoint, &Ticket) -> Result<T, String> + Send + 'static,
    ) {
        self.send(Lane::Interactive, what, work);
    }

    /// Runs work on the open model as a job, beside the interactive lane, after the jobs before it.
    pub fn job<T: Send + 'static>(
        &mut self,
        what: &str,
        work: impl FnOnce(&Checkpoint, &Ticket) -> Result<T, String> + Send + 'static,
    ) {
        self.send(Lane::Job, what, work);
    }

    /// Looks at files on a thread of its own, after a while; a screen that follows a file asks again for each look.
    pub fn look<T: Send + 'static>(
        &mut self,
        what: &str,
        after: Duration,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) {
        self.commands.push(Command::Look {
            screen: self.screen,
            what: what.to_string(),
            after,
            work: Box::new(move || work().map(|value| Box::new(value) as Payload)),
        });
    }

    fn send<T: Send + 'static>(
        &mut self,
        lane: Lane,
        what: &str,
        work: impl FnOnce(&Checkpoint, &Ticket) -> Result<T, String> + Send + 'static,
    ) {
        self.commands.push(Command::Ask {
            screen: self.screen,
            lane,
            what: what.to_string(),
            work: Box::new(move |checkpoint, ticket| {
                work(checkpoint, ticket).map(|value| Box::new(value) as Payload)
            }),
        });
    }

    /// Shows a line for some seconds.
    pub fn say(&mut self, text: impl Into<String>) {
        self.commands.push(Command::Say(text.into()));
    }
}

/// What came back from the worker.
pub enum Reply {
    /// Part of a result, while the work goes on.
    Part(Payload),
    /// The result.
    Done(Payload),
    /// What went wrong, a panic included.
    Failed(String),
    /// It was replaced or stopped.
    Cancelled,
}

/// Where a mouse click lands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// As if this key was pressed.
    Key(KeyEvent),
    /// Go to this screen.
    Screen(&'static str),
    /// A place of the screen's own: which thing, column, row.
    Place(u16, usize, usize),
}

/// What a drawn frame tells back: the places that answer to the mouse, the last one drawn on top.
#[derive(Debug, Default)]
pub struct Hits {
    places: Vec<(Rect, Target)>,
    /// The screen panicked; a card was drawn in its place.
    pub panic: Option<Panic>,
}

impl Hits {
    /// A place that was drawn.
    pub fn add(&mut self, area: Rect, target: Target) {
        self.places.push((area, target));
    }

    /// Number of places so far, for [`Self::forget_after`].
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Forgets places that were drawn after the first so many.
    pub fn forget_after(&mut self, count: usize) {
        self.places.truncate(count);
    }

    /// What lies at a cell.
    pub fn at(&self, column: u16, row: u16) -> Option<&Target> {
        let inside = |area: &Rect| {
            column >= area.x
                && row >= area.y
                && column < area.x.saturating_add(area.width)
                && row < area.y.saturating_add(area.height)
        };
        self.places
            .iter()
            .rev()
            .find(|(area, _)| inside(area))
            .map(|(_, target)| target)
    }
}

/// What a screen is drawn with.
pub struct View<'a> {
    /// What all screens see.
    pub shared: &'a Shared,
    /// Colours and glyphs.
    pub theme: &'a Theme,
    /// Whether work of this screen is running.
    pub busy: bool,
}

/// What a screen shows as rows, for CSV and JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// Column names.
    pub headers: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
    /// The same as the command line's `--json` gives it.
    pub json: serde_json::Value,
}

/// A screen.
pub trait Screen {
    /// Its name in commands and tabs: `lens`.
    fn id(&self) -> &'static str;

    /// A sentence for the help.
    fn about(&self) -> &'static str;

    /// Its keys.
    fn bindings(&self) -> &'static [Binding];

    /// Whether an action can be done now; why not, if it cannot.
    ///
    /// # Errors
    /// The reason, in words for the user.
    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        let _ = (action, shared);
        Ok(())
    }

    /// An action of its bindings.
    fn act(&mut self, action: &'static str, cx: &mut Context);

    /// True while it takes every key as text; then [`Self::text_key`] gets them, and Esc and Ctrl-C still work.
    fn takes_text(&self) -> bool {
        false
    }

    /// A key while it takes text.
    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        let _ = (key, cx);
    }

    /// Pasted text.
    fn paste(&mut self, text: &str, cx: &mut Context) {
        let _ = (text, cx);
    }

    /// A click on one of its own places.
    fn click(&mut self, what: u16, column: usize, row: usize, cx: &mut Context) {
        let _ = (what, column, row, cx);
    }

    /// The wheel: rows down, negative up.
    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        let _ = (rows, cx);
    }

    /// It is shown, or model, prompt or interventions changed while it is: ask for what is out of date. Called often; a
    /// screen compares [`Shared::version`] with what it has.
    fn refresh(&mut self, cx: &mut Context);

    /// Another screen is shown from now on: what only a user who looks at this one wants can be stopped.
    fn leave(&mut self, cx: &mut Context) {
        let _ = cx;
    }

    /// What came back of its work.
    fn reply(&mut self, reply: Reply, cx: &mut Context);

    /// Esc, where nothing else was to be closed. True if it did something.
    fn cancel(&mut self, cx: &mut Context) -> bool {
        let _ = cx;
        false
    }

    /// The list that `/` narrows now, with all its rows; none if there is none.
    fn list(&self, shared: &Shared) -> Option<Listed> {
        let _ = shared;
        None
    }

    /// From now on its list shows what this filter leaves; the cursor goes to a row that is left.
    fn narrow(&mut self, list: &'static str, filter: &Filter, cx: &mut Context) {
        let _ = (list, filter, cx);
    }

    /// A command typed after `:`, such as `layer 12`; `None` if it is not one of this screen.
    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        let _ = (words, cx);
        None
    }

    /// Commands it knows, for completion: `layer N`.
    fn commands(&self) -> &'static [&'static str] {
        &[]
    }

    /// Draws it.
    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits);

    /// What is under the cursor and around it in words, a line each, the most wanted first: what `--plain` says of the
    /// screen before its rows. Foreign text may stand in it raw; no drawn bars and no glyphs.
    fn spoken(&self, shared: &Shared) -> Vec<String> {
        let _ = shared;
        Vec::new()
    }

    /// The command line that shows the same; `None` while there is nothing to show.
    fn command_line(&self, shared: &Shared) -> Option<String>;

    /// What it shows, as rows.
    fn data(&self, shared: &Shared) -> Option<Data>;
}
