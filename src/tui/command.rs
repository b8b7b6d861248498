//! A line after `:`, in the order: a screen, what the workbench knows, what the screen that is shown knows.

use super::app::App;
use super::overlay::{Overlay, palette};
use super::screen::{Command, Screen};
use super::theme::Theme;

impl App {
    /// A line typed after `:`.
    pub(super) fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((&first, rest)) = words.split_first() else {
            return;
        };
        if let Some(index) = self.screens.iter().position(|s| s.id() == first) {
            self.show(index);
            if rest.is_empty() {
                return;
            }
        }
        match (first, rest) {
            ("quit" | "q", []) => self.quit = true,
            ("help", []) => self.overlay = Overlay::help(self.screen()),
            ("open", [_, ..]) => {
                let name = rest.join(" ");
                self.wish(Command::Open(name));
            }
            ("theme", [name]) => match Theme::named(name) {
                Some(theme) => {
                    self.theme = theme;
                    self.follows = false;
                }
                None => self.say(format!(
                    "no theme `{name}`; there are {}",
                    Theme::names().join(", ")
                )),
            },
            ("layer", [number]) => match number.parse::<usize>() {
                Ok(layer) if layer < self.shared.layers() => self.shared.layer = layer,
                _ => self.say(format!(
                    "layer `{number}`: expected 0 to {}",
                    self.shared.layers() - 1
                )),
            },
            _ if self.broken().is_some() => self.say("this screen panicked; esc shows it again"),
            _ => {
                // A command of another screen goes there: the list offers those of all.
                let has = |screen: &dyn Screen| {
                    let mut names = screen.commands().iter().filter_map(|c| c.split(' ').next());
                    names.any(|name| name == first)
                };
                if !has(self.screen())
                    && let Some(index) = self.screens.iter().position(|s| has(s.as_ref()))
                {
                    self.show(index);
                }
                let mut answer = None;
                let rest_of_screen: &[&str] = if self.screen().id() == first {
                    rest
                } else {
                    &words
                };
                self.with_current(|screen, cx| answer = screen.command(rest_of_screen, cx));
                match answer {
                    Some(Ok(())) => {}
                    Some(Err(why)) => self.say(why),
                    None => {
                        let known = palette::known(&self.screens);
                        let near = palette::nearest(first, &known);
                        self.say(format!("no command `{first}`; {near}"));
                    }
                }
            }
        }
    }
}
