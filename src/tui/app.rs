//! State and update: every input and every reply goes through [`App::update`], and what is to be done comes out as values.
//!
//! Always: no terminal and no thread here, so that tests drive it without either; the order is input first, then replies.
//! Drawing is in `frame.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
};

use super::broken::Broken;
use super::filter::Filter;
use super::keys::{self, GLOBAL};
use super::overlay::{
    Overlay,
    leap::{self, Leap},
    palette::Palette,
};
use super::screen::{Command, Context, Hits, Reply, Screen, Target};
use super::screens;
use super::shared::{ModelFacts, ModelState, Shared};
use super::theme::{Background, Theme};
use super::work::{Lane, Pending};

/// Everything that happens.
pub enum Msg {
    /// From the terminal.
    Input(Event),
    /// From the worker.
    Reply {
        /// The request.
        id: u64,
        /// The screen that asked.
        screen: &'static str,
        /// Its lane.
        lane: Lane,
        /// What came.
        reply: Reply,
    },
    /// How far a request is.
    Progress {
        /// The request.
        id: u64,
        /// 0 to 1.
        share: f64,
        /// What is being done.
        note: String,
    },
    /// A model was opened, or not.
    Opened {
        /// Which opening this is; an older one than the last asked for is dropped.
        generation: u64,
        /// What it was called.
        name: String,
        /// The model, or why not.
        result: Box<Result<ModelFacts, String>>,
    },
    /// A line as after `:`.
    Command(String),
    /// The terminal has said what its background is.
    Background(Background),
    /// Time passes: spinner, notices.
    Tick,
}

/// What the loop does for the app.
pub enum Effect {
    /// A screen's wish.
    Do(Command),
    /// Write the exports of the current frame.
    Export,
    /// End a request whose screen is no more.
    Abandon(u64),
    /// Take the mouse, or give it back.
    Mouse(bool),
    /// Suspend to the shell.
    Suspend,
}

/// A line that is shown for some seconds.
pub struct Notice {
    /// The line.
    pub text: String,
    /// Until when.
    pub until: Instant,
}

/// Measured while it runs, for F12.
#[derive(Debug, Default)]
pub struct Timings {
    /// From a key to the frame that shows it, the last 512.
    pub key_to_frame: VecDeque<Duration>,
    /// Drawing alone, the last 512.
    pub draw: VecDeque<Duration>,
    /// From start to the first frame.
    pub first_frame: Option<Duration>,
    /// Frames drawn.
    pub frames: u64,
}

impl Timings {
    /// Keeps the newest.
    pub fn push(list: &mut VecDeque<Duration>, value: Duration) {
        if list.len() == 512 {
            list.pop_front();
        }
        list.push_back(value);
    }

    /// A quantile of a list, milliseconds.
    pub fn quantile(list: &VecDeque<Duration>, q: f64) -> Option<f64> {
        let mut sorted: Vec<f64> = list.iter().map(|d| d.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        Some(sorted[((last as f64) * q).round() as usize])
    }
}

/// The workbench.
pub struct App {
    /// What all screens see.
    pub shared: Shared,
    /// All screens.
    pub screens: Vec<Box<dyn Screen>>,
    /// The one that is shown.
    pub current: usize,
    /// What lies on top.
    pub overlay: Overlay,
    /// Colours and glyphs.
    pub theme: Theme,
    /// Work that is waiting or running.
    pub pending: Vec<Pending>,
    /// Lines for the user.
    pub notice: Option<Notice>,
    /// What was measured.
    pub timings: Timings,
    /// Whether F12 is shown.
    pub show_timings: bool,
    /// Whether the mouse is ours.
    pub mouse: bool,
    /// Turns the spinner.
    pub tick: usize,
    /// Whether something changed since the last frame.
    pub dirty: bool,
    /// Nobody chose a theme, so it follows what the terminal says of its background.
    pub follows: bool,
    /// Set when it is over.
    pub quit: bool,
    /// The newest opening of a model.
    pub generation: u64,
    /// Makes all screens anew; one is taken out of it where one has panicked.
    pub(super) table: fn() -> Vec<Box<dyn Screen>>,
    /// By screen and list.
    pub(super) filters: BTreeMap<(&'static str, &'static str), Filter>,
    /// The filter is being written.
    pub(super) filtering: bool,
    /// Screens that panicked, by number, until the user has seen it.
    pub(super) broken: BTreeMap<usize, Broken>,
    /// The screen whose code runs now.
    pub(super) acting: usize,
    pub(super) effects: Vec<Effect>,
    hits: Hits,
    asked_to_quit: bool,
}

impl App {
    /// All screens, the first shown.
    pub fn new(theme: Theme) -> Self {
        Self::with_screens(theme, screens::table)
    }

    /// The screens of a table, the first shown.
    pub fn with_screens(theme: Theme, table: fn() -> Vec<Box<dyn Screen>>) -> Self {
        Self {
            shared: Shared::default(),
            screens: table(),
            current: 0,
            overlay: Overlay::None,
            theme,
            pending: Vec::new(),
            notice: None,
            timings: Timings::default(),
            show_timings: false,
            mouse: true,
            tick: 0,
            dirty: true,
            follows: false,
            quit: false,
            generation: 0,
            table,
            filters: BTreeMap::new(),
            filtering: false,
            broken: BTreeMap::new(),
            acting: 0,
            effects: Vec::new(),
            hits: Hits::default(),
            asked_to_quit: false,
        }
    }

    /// The screen that is shown.
    pub fn screen(&self) -> &dyn Screen {
        self.screens[self.current].as_ref()
    }

    /// Takes what happened; gives what is to be done.
    pub fn update(&mut self, msg: Msg) -> Vec<Effect> {
        self.dirty |= !matches!(msg, Msg::Tick);
        let doing = match msg {
            Msg::Input(_) => "answering a key",
            Msg::Command(_) => "obeying a command",
            Msg::Reply { .. } => "taking a result",
            _ => "taking a message",
        };
        self.guarded(doing, |app| app.message(msg));
        self.guarded("asking for what is out of date", Self::refresh);
        std::mem::take(&mut self.effects)
    }

    fn message(&mut self, msg: Msg) {
        match msg {
            Msg::Input(event) => self.input(event),
            Msg::Reply {
                id, screen, reply, ..
            } => self.reply(id, screen, reply),
            Msg::Progress { id, share, note } => {
                if let Some(pending) = self.pending.iter_mut().find(|p| p.id == id) {
                    pending.share = Some(share);
                    pending.note = note;
                }
            }
            Msg::Opened {
                generation,
                name,
                result,
            } => {
                if generation == self.generation {
                    self.opened(name, *result);
                }
            }
            Msg::Command(line) => self.command(&line),
            Msg::Background(background) if self.follows => self.theme.background = background,
            Msg::Background(_) => {}
            Msg::Tick => self.passed(),
        }
    }

    fn passed(&mut self) {
        self.tick += 1;
        if !self.pending.is_empty() || matches!(self.shared.model, ModelState::Loading { .. }) {
            self.dirty = true;
        }
        if self
            .notice
            .as_ref()
            .is_some_and(|n| n.until <= Instant::now())
        {
            self.notice = None;
            self.dirty = true;
        }
    }

    fn opened(&mut self, name: String, result: Result<ModelFacts, String>) {
        let state = match result {
            Ok(facts) => ModelState::Ready(facts),
            Err(why) => ModelState::Failed { name, why },
        };
        self.shared.set_model(state);
    }

    fn reply(&mut self, id: u64, screen: &'static str, reply: Reply) {
        let abandoned = self.pending.iter().any(|p| p.id == id && p.abandoned);
        if !matches!(reply, Reply::Part(_)) {
            self.pending.retain(|p| p.id != id);
        }
        if abandoned {
            return;
        }
        if let Some(index) = self.screens.iter().position(|s| s.id() == screen) {
            self.with(index, |screen, cx| screen.reply(reply, cx));
        }
    }

    fn input(&mut self, event: Event) {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key),
            Event::Paste(text) => {
                if let Overlay::Palette(palette) = &mut self.overlay {
                    palette.paste(&text);
                } else if self.filtering {
                    let before = self.narrowed().map_or_else(String::new, |n| n.text);
                    self.set_filter(&(before + text.lines().next().unwrap_or_default()));
                } else {
                    self.with_current(|screen, cx| screen.paste(&text, cx));
                }
            }
            Event::Mouse(mouse) => {
                let down = matches!(mouse.kind, MouseEventKind::Down(MouseButton::Left));
                match mouse.kind {
                    MouseEventKind::ScrollDown => {
                        self.with_current(|screen, cx| screen.scroll(1, cx));
                    }
                    MouseEventKind::ScrollUp => {
                        self.with_current(|screen, cx| screen.scroll(-1, cx));
                    }
                    _ if down => match self.hits.at(mouse.column, mouse.row).cloned() {
                        Some(Target::Key(key)) => self.key(key),
                        Some(Target::Screen(id)) => self.go(id),
                        Some(Target::Place(what, column, row)) => {
                            self.with_current(|screen, cx| screen.click(what, column, row, cx));
                        }
                        None => {}
                    },
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn key(&mut self, key: KeyEvent) {
        let control_c = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
        if control_c {
            return self.interrupt();
        }
        let asked = std::mem::take(&mut self.asked_to_quit);
        // Who presses on has read it, and needs the footer's keys again.
        self.notice = None;
        match &mut self.overlay {
            Overlay::None => {}
            Overlay::Help(help) => {
                if help.key(key) {
                    self.overlay = Overlay::None;
                }
                return;
            }
            Overlay::Palette(palette) => {
                match palette.key(key, &self.screens) {
                    super::overlay::palette::Outcome::Open => {}
                    super::overlay::palette::Outcome::Closed => self.overlay = Overlay::None,
                    super::overlay::palette::Outcome::Run(line) => {
                        self.overlay = Overlay::None;
                        self.command(&line);
                    }
                }
                return;
            }
            Overlay::Leap(leap) => {
                let outcome = leap.key(key);
                self.overlay = Overlay::None;
                if let leap::Outcome::Go(id) = outcome {
                    self.go(id);
                }
                return;
            }
        }
        if self.filtering && self.filter_key(key) {
            return;
        }
        if self.takes_text() {
            if key.code == KeyCode::Esc {
                self.with_current(|screen, cx| {
                    screen.cancel(cx);
                });
            } else {
                self.with_current(|screen, cx| screen.text_key(key, cx));
            }
            return;
        }
        if let KeyCode::Char(digit @ '1'..='9') = key.code
            && key.modifiers.is_empty()
        {
            let index = digit as usize - '1' as usize;
            if let Some(screen) = self.screens.get(index) {
                let id = screen.id();
                self.go(id);
            }
            return;
        }
        if let Some(action) = keys::action(GLOBAL, key) {
            self.global(action, asked);
        } else if self.broken().is_some() {
            self.say("this screen panicked; esc shows it again");
        } else if let Some(action) = keys::action(self.screen().bindings(), key) {
            match self.screen().enabled(action, &self.shared) {
                Ok(()) => self.with_current(|screen, cx| screen.act(action, cx)),
                Err(why) => self.say(why),
            }
        } else {
            let name = keys::name(key);
            if !name.is_empty() {
                self.say(format!("{name} does nothing here; ? shows the keys"));
            }
        }
    }

    /// Ctrl-C: what runs is stopped first, a second one leaves.
    fn interrupt(&mut self) {
        if self.pending.is_empty() || self.asked_to_quit {
            self.quit = true;
            return;
        }
        self.asked_to_quit = true;
        self.effects.push(Effect::Do(Command::Stop));
        self.effects.push(Effect::Do(Command::StopJob));
        self.say("stopping what runs; Ctrl-C again leaves");
    }

    fn global(&mut self, action: &'static str, asked: bool) {
        match action {
            "help" => self.overlay = Overlay::help(self.screen()),
            "leap" => self.overlay = Overlay::Leap(Leap::new(&self.screens)),
            "filter" => self.open_filter(),
            "command" => self.overlay = Overlay::Palette(Palette::new(&self.screens)),
            "quit" => {
                if self.pending.iter().any(|p| p.lane == Lane::Job) && !asked {
                    self.asked_to_quit = true;
                    self.say("a job is running; q again leaves and stops it");
                } else {
                    self.quit = true;
                }
            }
            "next_screen" => self.show((self.current + 1) % self.screens.len()),
            "previous_screen" => {
                self.show((self.current + self.screens.len() - 1) % self.screens.len());
            }
            "copy" => match self.screen().command_line(&self.shared) {
                Some(line) => {
                    self.say(format!("copied: {line}"));
                    self.effects.push(Effect::Do(Command::Copy(line)));
                }
                None => self.say("nothing is shown yet that a command could show"),
            },
            "export" => self.effects.push(Effect::Export),
            "undo" if !self.shared.undo() => {
                self.say("no change of the interventions to take back");
            }
            "redo" if !self.shared.redo() => self.say("nothing was taken back"),
            "toggle_all" => self.toggle_all(),
            "drop_last" => {
                if self.shared.interventions.is_empty() {
                    self.say("there is no intervention");
                } else {
                    self.shared.intervene(|chips| {
                        chips.pop();
                    });
                }
            }
            "mouse" => {
                self.mouse = !self.mouse;
                self.effects.push(Effect::Mouse(self.mouse));
                self.say(if self.mouse {
                    "the mouse is ours; Shift-drag selects text in most terminals"
                } else {
                    "the mouse is the terminal's; m takes it back"
                });
            }
            "theme" => {
                self.theme = self.theme.next();
                self.follows = false;
                self.say(format!("theme: {}", self.theme.name()));
            }
            "cancel" => self.cancel(),
            "timings" => self.show_timings = !self.show_timings,
            "suspend" => self.effects.push(Effect::Suspend),
            _ => {}
        }
    }

    fn toggle_all(&mut self) {
        if self.shared.interventions.is_empty() {
            return self.say("there is no intervention");
        }
        let any = self.shared.interventions.iter().any(|chip| chip.on);
        self.shared.intervene(|chips| {
            for chip in chips {
                chip.on = !any;
            }
        });
    }

    fn cancel(&mut self) {
        if self.broken.remove(&self.current).is_some() {
            return;
        }
        if self.clear_filter() {
            return;
        }
        let mut done = false;
        self.with_current(|screen, cx| done = screen.cancel(cx));
        if !done && self.pending.iter().any(|p| p.lane == Lane::Interactive) {
            self.effects.push(Effect::Do(Command::Stop));
        }
    }

    /// Shows a line for some seconds.
    pub fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice {
            text: text.into(),
            until: Instant::now() + Duration::from_secs(5),
        });
        self.dirty = true;
    }

    /// Shows a screen by name.
    pub fn go(&mut self, id: &str) {
        if let Some(index) = self.screens.iter().position(|s| s.id() == id) {
            self.show(index);
        }
    }

    pub(super) fn show(&mut self, index: usize) {
        self.filtering = false;
        if index != self.current {
            self.with_current(|screen, cx| screen.leave(cx));
        }
        self.current = index;
        self.dirty = true;
    }

    /// Lets the screen that is shown ask for what is out of date.
    fn refresh(&mut self) {
        self.with_current(|screen, cx| screen.refresh(cx));
    }

    pub(super) fn with_current(&mut self, change: impl FnOnce(&mut dyn Screen, &mut Context)) {
        if self.broken().is_none() {
            self.with(self.current, change);
        }
    }

    fn with(&mut self, index: usize, change: impl FnOnce(&mut dyn Screen, &mut Context)) {
        let mut commands = Vec::new();
        let before = std::mem::replace(&mut self.acting, index);
        let screen = self.screens[index].as_mut();
        let mut cx = Context {
            screen: screen.id(),
            shared: &mut self.shared,
            commands: &mut commands,
        };
        change(screen, &mut cx);
        self.acting = before;
        for command in commands {
            self.wish(command);
        }
    }

    pub(super) fn wish(&mut self, command: Command) {
        match command {
            Command::Say(text) => self.say(text),
            Command::Go(id) => self.go(id),
            Command::Quit => self.quit = true,
            Command::Open(name) => {
                self.generation += 1;
                self.shared
                    .set_model(ModelState::Loading { name: name.clone() });
                self.effects.push(Effect::Do(Command::Open(name)));
            }
            other => self.effects.push(Effect::Do(other)),
        }
    }

    /// The frame that was drawn last: its places, and whether the screen panicked; gives what is to be done.
    pub fn set_hits(&mut self, mut hits: Hits) -> Vec<Effect> {
        if let Some(panic) = hits.panic.take() {
            self.reset(self.current, "drawing", panic);
        }
        self.hits = hits;
        std::mem::take(&mut self.effects)
    }
}
