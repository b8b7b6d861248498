//! The workbench in plain lines, for screen readers, Braille, pipes: a command comes in, the screen comes out in words.
//!
//! Always: nothing is written but text and line ends, whatever a token holds: no escape, no cursor movement, no box, no
//! redrawing; the state, the keys and the commands are the workbench's own. A page says what is new: the lines about
//! model, prompt and interventions come again only when they changed. What a line means: `obey.rs`; pages: `page.rs`;
//! numbers and rows in words: `words.rs`.

mod obey;
mod page;
mod words;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ratatui::backend::TestBackend;

use super::app::App;
use super::filter::Filter;
use super::runtime::{Opener, Runtime, TuiError};
use super::shared::ModelState;
use super::work::Lane;

/// Longest line that is taken, bytes: a prompt may be long, a pasted book is cut.
const LONGEST: usize = 1 << 20;
/// Work that ends within this says nothing before its result.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two lines about work that goes on.
const BETWEEN: Duration = Duration::from_secs(5);
/// Exports are drawn in this size.
const PICTURE: (u16, u16) = (120, 40);

/// The dialogue.
pub struct Plain<W: Write> {
    runtime: Runtime<TestBackend>,
    out: W,
    lines: Receiver<String>,
    /// Lines that came while something was computed.
    early: VecDeque<String>,
    ended: bool,
    ascii: bool,
    /// Written before a line is read, where somebody sits there.
    prompt: bool,
    filter: Filter,
    /// The screen that was said last; the filter is of it.
    screen: &'static str,
    /// The row that `more` begins with.
    next: usize,
    /// The lines about the context as they were said last.
    said: Vec<String>,
    /// The notice that was said last.
    noticed: Option<Instant>,
    leaving: bool,
}

/// How it speaks.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// ASCII alone.
    pub ascii: bool,
    /// Somebody sits at the input: `> ` asks for a line.
    pub prompt: bool,
}

impl<W: Write> Plain<W> {
    /// Opens a model; lines are read from `input` on a thread of their own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(
        app: App,
        model: &str,
        opener: Opener,
        input: impl Read + Send + 'static,
        out: W,
        manner: Manner,
    ) -> Result<Self, TuiError> {
        let backend = TestBackend::new(PICTURE.0, PICTURE.1);
        let mut runtime = Runtime::new(app, backend, opener, Instant::now())?;
        runtime.open(model);
        let (to, lines) = channel();
        std::thread::Builder::new()
            .name("lines".into())
            .spawn(move || {
                let mut input = BufReader::new(input);
                while let Some(line) = line(&mut input) {
                    if to.send(line).is_err() {
                        break;
                    }
                }
            })
            .map_err(|error| TuiError::Terminal(error.to_string()))?;
        Ok(Self {
            runtime,
            out,
            lines,
            early: VecDeque::new(),
            ended: false,
            ascii: manner.ascii,
            prompt: manner.prompt,
            filter: Filter::default(),
            screen: "",
            next: 0,
            said: Vec::new(),
            noticed: None,
            leaving: false,
        })
    }

    /// Where exports are written.
    pub fn export_to(&mut self, folder: std::path::PathBuf) {
        self.runtime.export_to(folder);
    }

    /// Until `quit` or the end of the input; what was asked for before the input ended is still computed and said.
    ///
    /// # Errors
    /// Nobody reads what is written.
    pub fn run(&mut self) -> Result<(), TuiError> {
        self.say(
            "candlescope in plain lines: type a command and Enter; help says which, quit leaves",
        )?;
        self.settle(false)?;
        self.page()?;
        while let Some(line) = self.line()? {
            self.obey(&line)?;
            if self.leaving || self.runtime.app.quit {
                return self.say("left");
            }
        }
        let jobs = self.runtime.busy();
        self.settle(true)?;
        if jobs {
            self.page()?;
        }
        Ok(())
    }

    /// The next line of the user's; notices and ends of jobs are said while nothing is typed.
    fn line(&mut self) -> Result<Option<String>, TuiError> {
        if let Some(line) = self.early.pop_front() {
            return Ok(Some(line));
        }
        if self.prompt && !self.ended {
            let text = if self.runtime.app.takes_text() {
                "text> "
            } else {
                "> "
            };
            self.write(text)?;
        }
        while !self.ended {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
                Err(RecvTimeoutError::Timeout) => {
                    self.runtime.turn(Duration::ZERO);
                    self.notice()?;
                }
            }
        }
        Ok(None)
    }

    /// Waits for what was asked for, jobs too if `all`, and says now and then how far it is. `stop` stops it.
    fn settle(&mut self, all: bool) -> Result<(), TuiError> {
        let from = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            self.runtime.turn(Duration::from_millis(10));
            self.notice()?;
            let app = &self.runtime.app;
            let opening = matches!(app.shared.model, ModelState::Loading { .. });
            if !opening
                && !app
                    .pending
                    .iter()
                    .any(|p| all || p.lane == Lane::Interactive)
            {
                return Ok(());
            }
            while let Ok(line) = self.lines.try_recv() {
                if line.trim() == "stop" {
                    self.stop();
                } else {
                    self.early.push_back(line);
                }
            }
            if from.elapsed() >= SILENCE && told.is_none_or(|at| at.elapsed() >= BETWEEN) {
                told = Some(Instant::now());
                for line in page::work(&self.runtime.app) {
                    self.say(&line)?;
                }
            }
        }
    }

    fn stop(&mut self) {
        for lane in [Lane::Interactive, Lane::Job] {
            self.runtime.stop(lane);
        }
    }

    /// Says what the workbench would show for some seconds.
    fn notice(&mut self) -> Result<(), TuiError> {
        let notice = self.runtime.app.notice.as_ref();
        let Some((until, text)) = notice.map(|n| (n.until, n.text.clone())) else {
            return Ok(());
        };
        if self.noticed == Some(until) {
            return Ok(());
        }
        self.noticed = Some(until);
        self.say(&format!("note: {text}"))
    }

    /// One line, with nothing in it that could act on a terminal.
    fn say(&mut self, text: &str) -> Result<(), TuiError> {
        let text = words::plain(text, self.ascii);
        self.write(&format!("{text}\n"))
    }

    fn write(&mut self, text: &str) -> Result<(), TuiError> {
        let written = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
        written.map_err(|error| TuiError::Terminal(error.to_string()))
    }
}

/// A line without its end, bytes that are no UTF-8 replaced; what is over [`LONGEST`] begins the next one.
fn line(input: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    let read = input.take(LONGEST as u64).read_until(b'\n', &mut bytes);
    if read.ok()? == 0 {
        return None;
    }
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_whatever_bytes_they_hold() {
        let long = vec![b'x'; LONGEST + 3];
        let bytes = [b"a\r\n\xff\n\n".as_slice(), &long].concat();
        let mut input = bytes.as_slice();
        let lines: Vec<String> = std::iter::from_fn(|| line(&mut input)).collect();
        assert_eq!(lines[..3], ["a", "\u{fffd}", ""]);
        assert_eq!([lines[3].len(), lines[4].len()], [LONGEST, 3]);
    }
}
