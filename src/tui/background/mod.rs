//! The terminal's own background, asked of the terminal itself; what comes of the answer late, or in pieces.
//!
//! The question is OSC 11, and after it DA1 as a fence: every terminal answers DA1, so one that knows no OSC 11 costs a
//! round trip, not the whole patience. Always: at most [`PATIENCE`] is waited; what is no answer is a key and is kept;
//! what of the answer comes later is taken out of the keys by the [`Sieve`]. Source: xterm, "ctlseqs", OSC 10-19 and DA.

use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

use super::theme::Background;

/// Longest wait before the first frame.
pub const PATIENCE: Duration = Duration::from_millis(50);
/// So long after the question a late answer is looked for among the keys.
const LATE: Duration = Duration::from_secs(5);
/// What is asked.
pub const QUESTION: &str = "\u{1b}]11;?\u{1b}\\\u{1b}[c";
/// Longest answer that is one, bytes.
const LONGEST: usize = 64;

/// Whether a terminal with these variables is to be asked: not where the question would be printed or swallowed, nor
/// where the user has said what the background is.
pub fn worth_asking(env: &dyn Fn(&str) -> Option<String>) -> bool {
    let get = |name: &str| env(name).unwrap_or_default();
    let (term, tmux) = (get("TERM"), !get("TMUX").is_empty());
    let silent = ["", "dumb", "linux", "emacs", "unknown"].contains(&term.as_str())
        || ["vt", "cons", "eterm", "sun"]
            .iter()
            .any(|old| term.starts_with(old));
    // GNU screen prints what it does not know; tmux answers, also under screen's name.
    let screen = !tmux && (!get("STY").is_empty() || term.starts_with("screen"));
    let told = !get("CANDLESCOPE_THEME").is_empty() || !get("INSIDE_EMACS").is_empty();
    !silent && !screen && !told
}

/// The background that an answer says: `11;rgb:RRRR/GGGG/BBBB`, one to four digits a colour, or `rgba:` with one more.
fn parse(answer: &str) -> Option<Background> {
    let colours = answer.strip_prefix("11;")?;
    let parts = colours
        .strip_prefix("rgb:")
        .or_else(|| colours.strip_prefix("rgba:"))?;
    let part = |text: &str| -> Option<f64> {
        let digits = (1..=4).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit());
        let value = u32::from_str_radix(text, 16).ok().filter(|_| digits)?;
        Some(f64::from(value) / f64::from((1u32 << (4 * text.len())) - 1))
    };
    let parts: Option<Vec<f64>> = parts.split('/').map(part).collect();
    let parts = parts.filter(|parts| (3..=4).contains(&parts.len()))?;
    // Luma of Rec. 709 on the values as they are: near enough to tell paper from ink.
    let luma = 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    Some(if luma > 0.5 {
        Background::Light
    } else {
        Background::Dark
    })
}

/// Where in an answer the bytes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// After an escape.
    Escape,
    /// In an OSC, and whether an escape was its last byte.
    Osc { escape: bool },
    /// In a CSI.
    Csi,
}

/// The bytes that come after the question, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answers {
    inside: Inside,
    /// What stands in the sequence so far, at most [`LONGEST`] of it.
    held: Vec<u8>,
    /// The background, once it was said.
    pub background: Option<Background>,
    /// The fence has come: there is no more.
    pub fenced: bool,
    typed: Vec<u8>,
}

impl Answers {
    /// Takes what was read, in whatever pieces.
    pub fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        match (self.inside, byte) {
            (Inside::Nothing, 0x1b) => self.inside = Inside::Escape,
            (Inside::Nothing, byte) if self.typed.len() < 4096 => self.typed.push(byte),
            (Inside::Nothing, _) => {}
            (Inside::Escape, b']') => self.begin(Inside::Osc { escape: false }),
            (Inside::Escape, b'[') => self.begin(Inside::Csi),
            (Inside::Escape, 0x1b) => {}
            // Alt and a key, which the first moment has no use for.
            (Inside::Escape, _) => self.inside = Inside::Nothing,
            (Inside::Osc { .. }, 0x07) | (Inside::Osc { escape: true }, b'\\') => {
                let said = std::str::from_utf8(&self.held).ok().and_then(parse);
                self.background = said.or(self.background);
                self.inside = Inside::Nothing;
            }
            (Inside::Osc { escape: true }, b']') => self.begin(Inside::Osc { escape: false }),
            (Inside::Osc { escape: true }, b'[') => self.begin(Inside::Csi),
            (Inside::Osc { .. }, 0x1b) => self.inside = Inside::Osc { escape: true },
            (Inside::Osc { .. }, byte) => {
                self.inside = Inside::Osc { escape: false };
                self.hold(byte);
            }
            (Inside::Csi, 0x40..=0x7e) => {
                self.fenced |= byte == b'c' && self.held.first() == Some(&b'?');
                self.inside = Inside::Nothing;
            }
            (Inside::Csi, 0x1b) => self.inside = Inside::Escape,
            (Inside::Csi, byte) => self.hold(byte),
        }
    }

    fn begin(&mut self, inside: Inside) {
        self.inside = inside;
        self.held.clear();
    }

    fn hold(&mut self, byte: u8) {
        // Longer than an answer: swallowed to its end, and never one.
        if self.held.len() <= LONGEST {
            self.held.push(byte);
        }
    }

    /// What was typed meanwhile.
    pub fn keys(&self) -> Vec<KeyEvent> {
        let text = String::from_utf8_lossy(&self.typed);
        let key = |c: char| match c {
            '\r' | '\n' => KeyCode::Enter.into(),
            '\t' => KeyCode::Tab.into(),
            '\u{7f}' => KeyCode::Backspace.into(),
            '\u{1}'..='\u{1a}' => {
                let letter = char::from(c as u8 - 1 + b'a');
                KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL)
            }
            c => KeyCode::Char(c).into(),
        };
        let typed = text.chars().filter(|c| !('\u{80}'..'\u{a0}').contains(c));
        typed.filter(|c| *c != '\0').map(key).collect()
    }
}

/// Listens until the fence, or until patience ends; `read` waits at most so long and gives nothing at the end.
pub fn listen(mut read: impl FnMut(Duration) -> Option<Vec<u8>>, patience: Duration) -> Answers {
    let from = Instant::now();
    let mut answers = Answers::default();
    while !answers.fenced {
        let left = patience.saturating_sub(from.elapsed());
        match read(left) {
            Some(bytes) if !left.is_zero() => answers.take(&bytes),
            _ => break,
        }
    }
    answers
}

/// Asks the terminal that standard input and output are; raw mode is on.
#[cfg(unix)]
pub fn ask() -> Answers {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::io::Write;
    use std::os::fd::AsFd;
    let mut out = std::io::stdout();
    if out
        .write_all(QUESTION.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        return Answers::default();
    }
    let input = std::io::stdin();
    let read = |left: Duration| {
        let mut fds = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
        let left = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(left.min(PATIENCE).subsec_nanos()),
        };
        let ready = poll(&mut fds, Some(&left))
            .ok()
            .filter(|ready| *ready > 0)?;
        let mut bytes = vec![0; 256 * ready];
        let n = rustix::io::read(input.as_fd(), &mut bytes).ok()?;
        bytes.truncate(n);
        // Nothing to read from something that is ready: it is closed.
        (n > 0).then_some(bytes)
    };
    listen(read, PATIENCE)
}

/// Nobody to ask.
#[cfg(not(unix))]
pub fn ask() -> Answers {
    Answers::default()
}

/// Takes an answer that comes late, or its second half, out of the keys.
#[derive(Debug)]
pub struct Sieve {
    inside: Inside,
    /// The answer so far.
    text: String,
    /// The keys that it was, should it be none.
    events: Vec<Event>,
    until: Instant,
}

/// What of the events are keys, and what was answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sifted {
    /// To be handled.
    pub events: Vec<Event>,
    /// The background.
    pub background: Option<Background>,
}

impl Sieve {
    /// Goes on where the listening ended.
    pub fn after(answers: &Answers) -> Self {
        let late = if answers.fenced { Duration::ZERO } else { LATE };
        Self {
            inside: answers.inside,
            text: String::from_utf8_lossy(&answers.held).into_owned(),
            events: Vec::new(),
            until: Instant::now() + late,
        }
    }

    /// Lets an event through, or keeps it.
    pub fn sift(&mut self, event: Event) -> Sifted {
        if self.inside == Inside::Nothing && Instant::now() > self.until {
            return through(vec![event]);
        }
        let Event::Key(key) = &event else {
            return through(vec![event]);
        };
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match (self.inside, key.code) {
            (Inside::Nothing, KeyCode::Char(']')) if alt => {
                self.inside = Inside::Osc { escape: false };
                self.text.clear();
                self.events = vec![event];
                Sifted::default()
            }
            (Inside::Nothing, _) => through(vec![event]),
            (Inside::Escape, KeyCode::Char(']')) => self.go_on(Inside::Osc { escape: false }),
            (Inside::Escape, KeyCode::Char('[')) => self.go_on(Inside::Csi),
            (Inside::Osc { .. }, KeyCode::Char('g')) if control => self.end(),
            (Inside::Osc { escape }, KeyCode::Char('\\')) if alt || escape => self.end(),
            (Inside::Osc { .. }, KeyCode::Esc) => self.go_on(Inside::Osc { escape: true }),
            (Inside::Osc { escape: false }, KeyCode::Char(c)) if self.fits(c) => {
                self.text.push(c);
                self.events.push(event);
                Sifted::default()
            }
            (Inside::Csi, KeyCode::Char('c')) => self.go_on(Inside::Nothing),
            (Inside::Csi, KeyCode::Char(c)) if c.is_ascii_digit() || "?;".contains(c) => {
                Sifted::default()
            }
            // No answer: they were keys.
            _ => {
                self.inside = Inside::Nothing;
                let mut events = std::mem::take(&mut self.events);
                events.push(event);
                through(events)
            }
        }
    }

    fn go_on(&mut self, inside: Inside) -> Sifted {
        self.inside = inside;
        Sifted::default()
    }

    fn end(&mut self) -> Sifted {
        self.inside = Inside::Nothing;
        self.events.clear();
        Sifted {
            events: Vec::new(),
            background: parse(&std::mem::take(&mut self.text)),
        }
    }

    /// Whether the answer may go on so.
    fn fits(&self, c: char) -> bool {
        let at = self.text.len();
        let begins = "11;rgb".chars().nth(at);
        at < LONGEST
            && begins.map_or(c.is_ascii_hexdigit() || ":/a".contains(c), |wanted| {
                wanted == c
            })
    }
}

fn through(events: Vec<Event>) -> Sifted {
    Sifted {
        events,
        background: None,
    }
}

#[cfg(test)]
mod tests;
