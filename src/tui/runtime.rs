//! The loop: input and replies in, frames and effects out; and the terminal, which is given back whatever happens.
//!
//! Always: a frame is drawn when something changed, at once after a key, else at most thirty times a second; keys go before
//! replies, so that a stream of tokens cannot starve them; the terminal is restored on every way out, a panic included.

use std::cell::Cell;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event};
use crossterm::{Command as _, execute, queue, terminal};
use ratatui::Terminal;
use ratatui::backend::{Backend, CrosstermBackend};

use super::app::{App, Effect, Msg, Timings};
use super::background::{self, Answers, Sieve, Sifted};
use super::export::{self, Around};
use super::frame;
use super::panics::{self, caught};
use super::screen::{Command, Look, Reply, Work};
use super::shared::ModelFacts;
use super::work::{Lane, Pending, Worker};
use crate::model::Checkpoint;

/// Opens a model by name: the caller knows caches and hubs, the workbench does not.
pub type Opener = Arc<dyn Fn(&str) -> Result<Checkpoint, String> + Send + Sync>;

/// Between two frames that no key asked for.
const FRAME: Duration = Duration::from_millis(33);
/// Between two turns of the spinner.
const TICK: Duration = Duration::from_millis(120);
/// Replies taken before the next frame.
const BATCH: usize = 256;

/// What went wrong with the terminal itself.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// There is no terminal.
    #[error(
        "the workbench needs a terminal; commands such as `candlescope lens` work without one, `--script` draws without one"
    )]
    NoTerminal,
    /// It failed.
    #[error("the terminal: {0}")]
    Terminal(String),
    /// A script line that cannot be done.
    #[error("{0}")]
    Script(String),
}

/// The workbench with its threads.
pub struct Runtime<B: Backend> {
    /// State.
    pub app: App,
    /// Where frames go.
    pub terminal: Terminal<B>,
    worker: Worker,
    opener: Opener,
    to: Sender<Msg>,
    from: Receiver<Msg>,
    started: Instant,
    drawn: Option<Instant>,
    /// When the key that the next frame answers came.
    key_at: Option<Instant>,
    opening: usize,
    exports: PathBuf,
    ticked: Instant,
    /// Whether there is a terminal that escapes may be written to.
    attached: bool,
    /// What is between it and us.
    around: Around,
}

impl<B: Backend> Runtime<B>
where
    B::Error: std::fmt::Display,
{
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread, or the backend no size.
    pub fn new(app: App, backend: B, opener: Opener, started: Instant) -> Result<Self, TuiError> {
        let (to, from) = channel();
        let failed = |error: &dyn std::fmt::Display| TuiError::Terminal(error.to_string());
        Ok(Self {
            app,
            terminal: Terminal::new(backend).map_err(|e| failed(&e))?,
            worker: Worker::start(to.clone()).map_err(|e| failed(&e))?,
            opener,
            to,
            from,
            started,
            drawn: None,
            key_at: None,
            opening: 0,
            exports: PathBuf::from("."),
            ticked: started,
            attached: false,
            around: Around::Nothing,
        })
    }

    /// Where exports are written; the current folder by default.
    pub fn export_to(&mut self, folder: PathBuf) {
        self.exports = folder;
    }

    /// For the thread that reads input.
    pub fn sender(&self) -> Sender<Msg> {
        self.to.clone()
    }

    /// Asks for a model.
    pub fn open(&mut self, name: &str) {
        self.app.generation += 1;
        self.app
            .shared
            .set_model(super::shared::ModelState::Loading {
                name: name.to_string(),
            });
        self.perform(Effect::Do(Command::Open(name.to_string())));
    }

    /// Whether anything is being computed or opened.
    pub fn busy(&self) -> bool {
        self.opening > 0 || !self.app.pending.is_empty()
    }

    /// Waits for something to happen, at most so long, and takes it all.
    pub fn turn(&mut self, wait: Duration) {
        let mut inputs = Vec::new();
        let mut others = Vec::new();
        let mut put = |msg: Msg| match msg {
            Msg::Input(_) => inputs.push(msg),
            _ => others.push(msg),
        };
        match self.from.recv_timeout(wait) {
            Ok(msg) => put(msg),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        for msg in self.from.try_iter().take(BATCH) {
            put(msg);
        }
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            others.push(Msg::Tick);
        }
        for msg in inputs.into_iter().chain(others) {
            self.take(msg);
        }
    }

    /// One message.
    pub fn take(&mut self, msg: Msg) {
        if matches!(msg, Msg::Input(Event::Key(_))) {
            self.key_at.get_or_insert_with(Instant::now);
        }
        if matches!(msg, Msg::Opened { .. }) {
            self.opening -= 1;
        }
        for effect in self.app.update(msg) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Do(Command::Ask {
                screen,
                lane,
                what,
                work,
            }) => {
                self.post(screen, lane, &what, work);
            }
            Effect::Do(Command::Look {
                screen,
                what,
                after,
                work,
            }) => self.look(screen, what, after, work),
            Effect::Do(Command::Open(name)) => self.start_opening(name),
            Effect::Do(Command::Copy(text)) => match export::osc52(&text) {
                Ok(escape) => self.escape(&export::wrapped(&escape, self.around)),
                Err(why) => self.app.say(why.to_string()),
            },
            Effect::Do(Command::Stop) => self.worker.stop(Lane::Interactive),
            Effect::Do(Command::StopJob) => self.worker.stop(Lane::Job),
            Effect::Do(Command::Withdraw(screen)) => self.worker.withdraw(screen),
            Effect::Do(_) => {}
            Effect::Export => self.export(),
            Effect::Abandon(id) => self.worker.abandon(id),
            Effect::Mouse(ours) => {
                let mut escape = String::new();
                // Writing to a String cannot fail.
                let _ = if ours {
                    event::EnableMouseCapture.write_ansi(&mut escape)
                } else {
                    event::DisableMouseCapture.write_ansi(&mut escape)
                };
                self.escape(&escape);
            }
            Effect::Suspend => self.suspend(),
        }
    }

    /// Sends work to the open model on behalf of a screen; without a model user and screen are told that it was not done.
    pub fn post(&mut self, screen: &'static str, lane: Lane, what: &str, work: Work) {
        let Some(facts) = self.app.shared.model.facts() else {
            let why = format!("not done: {what}: no model is open; `:open NAME` opens one");
            self.app.say(why.clone());
            // To itself: the screen answers when this message is over. It cannot fail, the receiver is ours.
            let _ = self.to.send(Msg::Reply {
                id: 0,
                screen,
                lane,
                reply: Reply::Failed(why),
            });
            return;
        };
        let checkpoint = Arc::clone(&facts.checkpoint);
        let id = self.worker.post(screen, lane, checkpoint, work);
        self.app.pending.push(Pending {
            id,
            screen,
            lane,
            what: what.to_string(),
            since: Instant::now(),
            share: None,
            note: String::new(),
            abandoned: false,
        });
    }

    /// Runs work that needs no model on a thread of its own, which ends with it; the reply wakes the loop.
    fn look(&mut self, screen: &'static str, what: String, after: Duration, work: Look) {
        let (id, lane) = (self.worker.number(), Lane::Interactive);
        let to = self.to.clone();
        let look = move || {
            std::thread::sleep(after);
            let reply = match caught(work) {
                Ok(Ok(value)) => Reply::Done(value),
                Ok(Err(why)) => Reply::Failed(why),
                Err(panic) => Reply::Failed(format!("this is a defect of candlescope: {panic}")),
            };
            // Nobody listens any more when the workbench is closing.
            let _ = to.send(Msg::Reply {
                id,
                screen,
                lane,
                reply,
            });
        };
        let thread = std::thread::Builder::new().name("looking".into());
        if thread.spawn(look).is_err() {
            let why = "the system gives no thread to look at files on".to_owned();
            let _ = self.to.send(Msg::Reply {
                id,
                screen,
                lane,
                reply: Reply::Failed(why),
            });
        }
        if after.is_zero() {
            self.app.pending.push(Pending {
                id,
                screen,
                lane,
                what,
                since: Instant::now(),
                share: None,
                note: String::new(),
                abandoned: false,
            });
        }
    }

    /// Asks what runs in a lane to stop.
    pub fn stop(&self, lane: Lane) {
        self.worker.stop(lane);
    }

    fn start_opening(&mut self, name: String) {
        let (opener, to, generation) = (
            Arc::clone(&self.opener),
            self.to.clone(),
            self.app.generation,
        );
        self.opening += 1;
        let work = move || {
            let result = match caught(|| opener(&name)) {
                Ok(Ok(checkpoint)) => Ok(ModelFacts {
                    name: checkpoint.name.clone(),
                    config: checkpoint.config().clone(),
                    fingerprint: None,
                    chat: checkpoint.template.is_some(),
                    checkpoint: Arc::new(checkpoint),
                }),
                Ok(Err(why)) => Err(why),
                Err(panic) => Err(format!(
                    "opening it is a defect of candlescope: {panic}; the log says more"
                )),
            };
            let _ = to.send(Msg::Opened {
                generation,
                name,
                result: Box::new(result),
            });
        };
        if std::thread::Builder::new()
            .name("opening".into())
            .spawn(work)
            .is_err()
        {
            self.opening -= 1;
            self.app
                .say("the system gives no thread to open a model on");
        }
    }

    /// Draws if something changed and a frame is due. True if it drew.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self) -> Result<bool, TuiError> {
        let due = self.key_at.is_some() || self.drawn.is_none_or(|at| at.elapsed() >= FRAME);
        if !self.app.dirty || !due {
            return Ok(false);
        }
        let before = Instant::now();
        let mut hits = None;
        let app = &self.app;
        self.terminal
            .draw(|f| hits = Some(frame::draw(app, f.area(), f.buffer_mut())))
            .map_err(|error| TuiError::Terminal(error.to_string()))?;
        let now = Instant::now();
        if let Some(hits) = hits {
            for effect in self.app.set_hits(hits) {
                self.perform(effect);
            }
        }
        let timings = &mut self.app.timings;
        Timings::push(&mut timings.draw, now - before);
        if let Some(at) = self.key_at.take() {
            Timings::push(&mut timings.key_to_frame, now - at);
        }
        timings.first_frame.get_or_insert(now - self.started);
        timings.frames += 1;
        self.app.dirty = false;
        self.drawn = Some(now);
        Ok(true)
    }

    /// How long the loop may sleep.
    fn patience(&self) -> Duration {
        if self.app.dirty {
            self.drawn
                .map_or(Duration::ZERO, |at| FRAME.saturating_sub(at.elapsed()))
        } else if self.busy() || self.app.notice.is_some() {
            TICK
        } else {
            // Nothing moves by itself.
            Duration::from_secs(60)
        }
    }

    /// Until it is over.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn run(&mut self) -> Result<(), TuiError> {
        while !self.app.quit {
            self.draw()?;
            self.turn(self.patience());
        }
        Ok(())
    }

    fn export(&mut self) {
        let area = self.terminal.current_buffer_mut().area;
        let mut buffer = ratatui::buffer::Buffer::empty(area);
        frame::draw(&self.app, area, &mut buffer);
        let data = self.app.data();
        let name = format!("candlescope-{}", self.app.screen().id());
        match export::write(&self.exports, &name, &buffer, self.app.theme, data.as_ref()) {
            Ok(files) => {
                let endings = files.iter().filter_map(|file| file.rsplit_once('.'));
                let endings: Vec<&str> = endings.map(|(_, ending)| ending).collect();
                let folder = std::path::absolute(&self.exports);
                let folder = folder.unwrap_or_else(|_| self.exports.clone());
                self.app.say(format!(
                    "written: {}.{{{}}}",
                    folder.join(name).display(),
                    endings.join(",")
                ));
            }
            Err(why) => self.app.say(why),
        }
    }

    /// Tells the terminal something beside the frame. One that does not listen is missed by nobody: the keys do all that
    /// the mouse does, and an export all that the clipboard does.
    fn escape(&self, text: &str) {
        if self.attached {
            let mut out = std::io::stdout();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    fn suspend(&mut self) {
        #[cfg(unix)]
        if self.attached {
            Guard::restore();
            // SAFETY: stops this process as the shell's own key would.
            let stopped = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::TSTP,
            );
            Guard::enter(self.app.mouse);
            if stopped.is_err() {
                self.app.say("the system refuses to suspend");
            }
            self.app.dirty = true;
            let _ = self.terminal.clear();
        }
    }
}

static ENTERED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The thread that owns the terminal.
    static UI: Cell<bool> = const { Cell::new(false) };
}

/// What a panic that nobody catches calls first. True if it may be printed: the terminal is the shell's again, since the
/// thread that owned it is ending, or it was never ours. On any other thread the frames go on, and print over it.
pub(super) fn given_back() -> bool {
    if UI.get() {
        Guard::restore();
    }
    !ENTERED.load(Ordering::SeqCst)
}

/// The terminal while it is ours. Dropping it gives it back.
struct Guard;

impl Guard {
    fn enter(mouse: bool) -> Self {
        let mut out = std::io::stdout();
        ENTERED.store(true, Ordering::SeqCst);
        // What a terminal does not know it ignores; what fails here fails again, and is reported, at the first frame.
        let _ = terminal::enable_raw_mode();
        let _ = execute!(
            out,
            terminal::EnterAlternateScreen,
            event::EnableBracketedPaste,
            crossterm::cursor::Hide
        );
        if mouse {
            let _ = execute!(out, event::EnableMouseCapture);
        }
        Self
    }

    /// Gives it back; doing so twice does nothing.
    fn restore() {
        if ENTERED.swap(false, Ordering::SeqCst) {
            let mut out = std::io::stdout();
            let _ = queue!(
                out,
                event::DisableMouseCapture,
                event::DisableBracketedPaste,
                crossterm::style::ResetColor,
                terminal::LeaveAlternateScreen,
                crossterm::cursor::Show
            );
            let _ = out.flush();
            let _ = terminal::disable_raw_mode();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        Self::restore();
    }
}

/// Runs the workbench in this terminal; `ask`s it for its background, which the theme then follows.
///
/// # Errors
/// No terminal, or one that fails.
pub fn in_terminal(
    app: App,
    model: &str,
    opener: Opener,
    started: Instant,
    ask: bool,
) -> Result<(), TuiError> {
    use std::io::IsTerminal;
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(TuiError::NoTerminal);
    }
    UI.set(true);
    panics::watch();
    let guard = Guard::enter(app.mouse);
    let answers = if ask {
        background::ask()
    } else {
        Answers::default()
    };
    let mut sieve = ask.then(|| Sieve::after(&answers));
    let backend = CrosstermBackend::new(std::io::stdout());
    let mut runtime = Runtime::new(app, backend, opener, started)?;
    runtime.attached = true;
    runtime.around = Around::detect(&|name| std::env::var(name).ok());
    runtime.app.follows = ask;
    if let Some(background) = answers.background {
        runtime.app.update(Msg::Background(background));
    }
    let to = runtime.sender();
    std::thread::Builder::new()
        .name("input".into())
        .spawn(move || {
            for key in answers.keys() {
                let _ = to.send(Msg::Input(Event::Key(key)));
            }
            while let Ok(event) = event::read() {
                let sifted = match &mut sieve {
                    Some(sieve) => sieve.sift(event),
                    None => Sifted {
                        events: vec![event],
                        background: None,
                    },
                };
                let mut all = sifted.events.into_iter().map(Msg::Input);
                let mut all = all.by_ref().chain(sifted.background.map(Msg::Background));
                if all.any(|msg| to.send(msg).is_err()) {
                    break;
                }
            }
        })
        .map_err(|error| TuiError::Terminal(error.to_string()))?;
    runtime.draw()?;
    runtime.open(model);
    let ended = runtime.run();
    drop(guard);
    ended
}

/// Resident memory of this process, MiB, where the system says it.
pub fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
