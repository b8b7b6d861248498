//! The workbench without a terminal: keys from a file, frames into files. Tests, documentation and pictures use it.
//!
//! A script is lines: keys separated by spaces (`tab`, `K`, `ctrl-d`), `type TEXT`, `wait` until nothing is computed (which
//! also happens before every frame that is dumped), `sleep MS`, `dump FILE`, `# comment`.

use std::path::Path;
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::app::{App, Msg};
use super::runtime::{Opener, Runtime, TuiError};
use super::{export, frame, keys};

/// Longest wait for work.
const PATIENCE: Duration = Duration::from_secs(600);

/// `WIDTHxHEIGHT`.
///
/// # Errors
/// Anything else, or a side over 1000.
pub fn size(text: &str) -> Result<(u16, u16), String> {
    let sides = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match sides {
        Some((w, h)) if w <= 1000 && h <= 1000 => Ok((w, h)),
        _ => Err(format!(
            "size `{text}`: expected WIDTHxHEIGHT up to 1000x1000, such as 120x40"
        )),
    }
}

/// A workbench that is driven by lines.
pub struct Stage {
    /// The workbench.
    pub runtime: Runtime<TestBackend>,
    size: (u16, u16),
}

impl Stage {
    /// Opens a model on a screen of this size.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(app: App, model: &str, opener: Opener, size: (u16, u16)) -> Result<Self, TuiError> {
        let backend = TestBackend::new(size.0, size.1);
        let mut runtime = Runtime::new(app, backend, opener, Instant::now())?;
        runtime.open(model);
        Ok(Self { runtime, size })
    }

    /// Until nothing is computed.
    ///
    /// # Errors
    /// It takes longer than ten minutes.
    pub fn wait(&mut self) -> Result<(), TuiError> {
        let from = Instant::now();
        while self.runtime.busy() {
            if from.elapsed() > PATIENCE {
                return Err(TuiError::Script(
                    "wait: still busy after ten minutes".into(),
                ));
            }
            self.runtime.turn(Duration::from_millis(5));
            self.runtime.draw()?;
        }
        Ok(())
    }

    /// Presses a key.
    pub fn key(&mut self, key: KeyEvent) {
        self.runtime.take(Msg::Input(Event::Key(key)));
    }

    /// One line of a script.
    ///
    /// # Errors
    /// A line that is none.
    pub fn line(&mut self, line: &str, out: &Path) -> Result<(), TuiError> {
        let line = line.trim();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "" | "#" => {}
            "wait" => self.wait()?,
            "type" => {
                for c in rest.chars() {
                    self.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE));
                }
            }
            "sleep" => {
                let ms: u64 = rest.parse().map_err(|_| {
                    TuiError::Script(format!("sleep `{rest}`: expected milliseconds"))
                })?;
                let until = Instant::now() + Duration::from_millis(ms.min(60_000));
                while Instant::now() < until {
                    self.runtime.turn(Duration::from_millis(5));
                }
            }
            "dump" => {
                self.wait()?;
                self.dump(&out.join(rest))?;
            }
            _ => {
                for word in line.split_whitespace() {
                    let key = keys::parse(word)
                        .map_err(|word| TuiError::Script(format!("`{word}` is no key")))?;
                    self.key(key);
                    self.runtime.turn(Duration::ZERO);
                }
            }
        }
        Ok(())
    }

    /// The frame as it is now.
    pub fn frame(&self) -> Buffer {
        let area = Rect::new(0, 0, self.size.0, self.size.1);
        let mut buffer = Buffer::empty(area);
        frame::draw(&self.runtime.app, area, &mut buffer);
        buffer
    }

    /// Writes the frame: as SVG, HTML or text by the file's ending.
    ///
    /// # Errors
    /// The file cannot be written, or has another ending.
    pub fn dump(&self, file: &Path) -> Result<(), TuiError> {
        let (buffer, theme) = (self.frame(), self.runtime.app.theme);
        let text = match file.extension().and_then(|e| e.to_str()) {
            Some("svg") => export::svg(&buffer, theme),
            Some("html") => export::html(&buffer, "candlescope", theme),
            Some("txt") => export::text(&buffer),
            _ => {
                let why = format!("{}: a dump ends in .svg, .html or .txt", file.display());
                return Err(TuiError::Script(why));
            }
        };
        std::fs::write(file, text)
            .map_err(|error| TuiError::Script(format!("{}: {error}", file.display())))
    }
}
