//! What a line means: a word of the dialogue's own, a command as after `:`, keys by name, or an action by its name.
//!
//! Always: in this order, so that what works in the workbench works here; what is none of them is answered with what there
//! is. While a screen takes text (a prompt, a name) a line is that text.

use std::io::Write;

use crossterm::event::{Event, KeyEvent};

use super::Plain;
use crate::tui::app::Msg;
use crate::tui::filter::Filter;
use crate::tui::keys::{self, Binding, GLOBAL};
use crate::tui::overlay::palette;
use crate::tui::runtime::TuiError;

/// The words of the dialogue's own.
const WORDS: [(&str, &str); 13] = [
    ("help", "this list"),
    (
        "keys",
        "the keys of this screen and what each does; keys WORDS only those with these words",
    ),
    ("screens", "the screens; a name or number goes there"),
    (
        "show, or an empty line",
        "the screen again, with all that is around it",
    ),
    (
        "more",
        "the next rows of the screen; row N reads on from row N",
    ),
    (
        "/WORDS",
        "only rows with all these words; / alone shows all again",
    ),
    ("wait", "wait for everything that is being computed"),
    (
        "stop",
        "stop what is being computed, also while it is waited for",
    ),
    (
        "status",
        "model, prompt, interventions, and what is being computed",
    ),
    ("command", "the command line that shows the same"),
    ("export", "write pictures and data of this screen to files"),
    (
        "press KEYS",
        "keys by name, as in press tab K ctrl-d; without press where it is no other word",
    ),
    ("quit", "leave; so does the end of the input"),
];

/// Keys that mean nothing without a picture or a terminal.
const PICTORIAL: [&str; 9] = [
    "help", "leap", "command", "copy", "mouse", "theme", "timings", "suspend", "filter",
];

impl<W: Write> Plain<W> {
    /// Does what a line says, and says what comes of it.
    pub(super) fn obey(&mut self, line: &str) -> Result<(), TuiError> {
        if self.runtime.app.takes_text() {
            return self.text(line);
        }
        let line = line.trim();
        if let Some(words) = line.strip_prefix('/') {
            self.filter = Filter::new(words.trim());
            self.next = 0;
            return self.rows(true);
        }
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (first, rest.trim()) {
            ("", _) | ("show", "") => {
                self.said.clear();
                self.page()
            }
            ("help" | "?", "") => self.help(),
            ("keys", words) => self.keys(words),
            ("screens", "") => self.screens(),
            ("more", "") => self.rows(true),
            ("row" | "rows", number) => match number.parse::<usize>() {
                Ok(n @ 1..) => {
                    self.next = n - 1;
                    self.rows(true)
                }
                _ => self.say(&format!("row `{number}`: expected a number from 1 on")),
            },
            ("wait", "") => {
                self.settle(true)?;
                self.page()
            }
            ("stop", "") => {
                self.stop();
                self.settle(false)?;
                self.page()
            }
            ("status", "") => self.status(),
            ("command" | "y" | "copy", "") => self.twin(),
            ("quit" | "q" | "exit" | ":q", "") => {
                self.leaving = true;
                Ok(())
            }
            ("press", names) => match parsed(names) {
                Ok(list) => self.press(&list),
                Err(word) => self.say(&format!("`{word}` is no key")),
            },
            _ => self.workbench(line.trim_start_matches(':')),
        }
    }

    /// A command, keys or an action of the workbench's.
    fn workbench(&mut self, line: &str) -> Result<(), TuiError> {
        let first = line.split(' ').next().unwrap_or_default();
        let app = &self.runtime.app;
        let known = palette::known(&app.screens);
        let named = |name: &String| name.split(' ').next() == Some(first);
        if known.iter().any(named) {
            self.runtime.take(Msg::Command(line.to_owned()));
            return self.answer();
        }
        let own = app.screen().bindings();
        let means = |key: &KeyEvent| {
            let number = keys::name(*key).parse::<usize>();
            number.is_ok_and(|n| (1..=app.screens.len()).contains(&n))
                || keys::action(GLOBAL, *key).is_some()
                || keys::action(own, *key).is_some()
        };
        if let Ok(list) = parsed(line)
            && list.iter().all(means)
        {
            return self.press(&list);
        }
        let wanted = line.replace(['_', '-'], " ").to_lowercase();
        let called = |b: &&Binding| wanted == b.action.replace('_', " ") || wanted == b.short;
        let key = own
            .iter()
            .chain(GLOBAL)
            .find(called)
            .and_then(|binding| keys::parse(binding.keys.split(' ').next()?).ok());
        if let Some(key) = key {
            return self.press(&[key]);
        }
        let near = palette::nearest(first, &known);
        self.say(&format!(
            "`{line}` is no command, key or action here; {near} help and keys list what there is"
        ))
    }

    fn press(&mut self, list: &[KeyEvent]) -> Result<(), TuiError> {
        for key in list {
            self.runtime.take(Msg::Input(Event::Key(*key)));
        }
        self.answer()
    }

    /// What came of something done: what was computed, and the screen.
    fn answer(&mut self) -> Result<(), TuiError> {
        // Help and command line are for eyes; here they are words.
        self.runtime.app.overlay = crate::tui::overlay::Overlay::None;
        self.settle(false)?;
        if self.runtime.app.takes_text() {
            for line in self.runtime.app.spoken() {
                self.say(&line)?;
            }
            return self.say(
                "text is expected: what you type next replaces what is there; press KEYS presses keys, esc leaves it",
            );
        }
        self.page()
    }

    /// A line while the screen takes text.
    fn text(&mut self, line: &str) -> Result<(), TuiError> {
        if let Some(names) = line.trim().strip_prefix("press ") {
            return match parsed(names) {
                Ok(list) => self.press(&list),
                Err(word) => self.say(&format!("`{word}` is no key")),
            };
        }
        let mut list = Vec::new();
        let mut key = |name: &str| list.extend(keys::parse(name));
        if line.trim() == "esc" {
            key("esc");
            return self.press(&list);
        }
        // Whatever stands there goes, line by line from its end.
        key("ctrl-end");
        for _ in 0..=self.runtime.app.shared.prompt.text().lines().count() {
            key("ctrl-u");
            key("backspace");
        }
        for key in list {
            self.runtime.take(Msg::Input(Event::Key(key)));
        }
        self.runtime.take(Msg::Input(Event::Paste(line.to_owned())));
        self.press(&parsed("enter").unwrap_or_default())
    }

    fn help(&mut self) -> Result<(), TuiError> {
        for (word, means) in WORDS {
            self.say(&format!("{word}: {means}"))?;
        }
        let known = palette::known(&self.runtime.app.screens);
        self.say(&format!(
            "commands, what is in capitals is yours to say: {}",
            known.join("; ")
        ))?;
        self.say("an action of keys can also be typed by its name, such as deeper or next head")
    }

    /// Keys, their actions, and why one cannot be used now.
    fn keys(&mut self, words: &str) -> Result<(), TuiError> {
        let filter = Filter::new(words);
        let app = &self.runtime.app;
        let mut lines = Vec::new();
        for binding in app.screen().bindings().iter().chain(GLOBAL) {
            let line = format!(
                "{}: {}: {}",
                binding.keys.replace(' ', " or "),
                binding.action.replace('_', " "),
                binding.help
            );
            if PICTORIAL.contains(&binding.action) || !filter.matches(&line) {
                continue;
            }
            let global = GLOBAL.iter().any(|b| b.action == binding.action);
            lines.push(match app.screen().enabled(binding.action, &app.shared) {
                Err(why) if !global => format!("{line}; not now: {why}"),
                _ => line,
            });
        }
        if lines.is_empty() {
            lines.push(format!("no key with {words}"));
        }
        lines.iter().try_for_each(|line| self.say(line))
    }

    fn screens(&mut self) -> Result<(), TuiError> {
        let app = &self.runtime.app;
        let mut lines = Vec::new();
        for (i, screen) in app.screens.iter().enumerate() {
            let here = if i == app.current { ", shown now" } else { "" };
            lines.push(format!(
                "{}: {}{here}: {}",
                i + 1,
                screen.id(),
                screen.about()
            ));
        }
        lines.iter().try_for_each(|line| self.say(line))
    }

    fn status(&mut self) -> Result<(), TuiError> {
        let app = &self.runtime.app;
        let mut lines = super::page::context(app);
        let work = super::page::work(app);
        if work.is_empty() {
            lines.push("nothing is being computed".into());
        }
        lines.extend(work);
        lines.iter().try_for_each(|line| self.say(line))
    }

    fn twin(&mut self) -> Result<(), TuiError> {
        match self.runtime.app.command_line() {
            Some(line) => self.say(&line),
            None => self.say("nothing is shown yet that a command could show"),
        }
    }
}

/// Keys by name.
fn parsed(names: &str) -> Result<Vec<KeyEvent>, String> {
    names.split_whitespace().map(keys::parse).collect()
}
