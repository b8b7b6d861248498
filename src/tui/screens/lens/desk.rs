//! For tests of screens: the toy model opened, a screen's wishes collected, and its work run here instead of on a thread.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::mpsc::channel;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::model::{Cancel, Checkpoint};
use crate::tui::app::Msg;
use crate::tui::keys::{self, Binding, GLOBAL};
use crate::tui::screen::{Command, Context, Hits, Reply, Screen, View};
use crate::tui::shared::{ModelFacts, ModelState, Prompt, Shared};
use crate::tui::theme::Theme;
use crate::tui::work::{Request, answer};

/// What the workbench keeps around a screen.
pub struct Desk {
    pub shared: Shared,
    pub commands: Vec<Command>,
}

impl Desk {
    /// Nothing is open.
    pub fn empty() -> Self {
        Self {
            shared: Shared::default(),
            commands: Vec::new(),
        }
    }

    /// The toy is open and reads this text as it is.
    pub fn reading(text: &str) -> Self {
        let checkpoint = Arc::new(Checkpoint::toy(0).unwrap());
        let mut desk = Self::empty();
        desk.shared.prompt = Prompt {
            raw: Some(text.to_owned()),
            ..Prompt::user(text)
        };
        desk.shared.set_model(ModelState::Ready(ModelFacts {
            name: "toy".into(),
            config: checkpoint.config().clone(),
            fingerprint: None,
            chat: true,
            checkpoint,
        }));
        desk
    }

    pub fn with<T>(
        &mut self,
        screen: &mut dyn Screen,
        act: impl FnOnce(&mut dyn Screen, &mut Context) -> T,
    ) -> T {
        let mut cx = Context {
            screen: screen.id(),
            shared: &mut self.shared,
            commands: &mut self.commands,
        };
        act(screen, &mut cx)
    }

    /// A key by its table, as the frame dispatches it.
    pub fn press(&mut self, screen: &mut dyn Screen, key: &str) {
        let action = keys::action(screen.bindings(), keys::parse(key).unwrap()).unwrap();
        if screen.enabled(action, &self.shared).is_ok() {
            self.with(screen, |screen, cx| screen.act(action, cx));
        }
        self.refresh(screen);
    }

    pub fn refresh(&mut self, screen: &mut dyn Screen) {
        self.with(screen, |screen, cx| screen.refresh(cx));
    }

    pub fn reply(&mut self, screen: &mut dyn Screen, reply: Reply) {
        self.with(screen, |screen, cx| screen.reply(reply, cx));
    }

    /// How much work is asked for.
    pub fn asks(&self) -> usize {
        self.commands
            .iter()
            .filter(|c| matches!(c, Command::Ask { .. }))
            .count()
    }

    /// What was said.
    pub fn said(&self) -> String {
        let said = self.commands.iter().filter_map(|command| match command {
            Command::Say(text) => Some(text.as_str()),
            _ => None,
        });
        said.collect::<Vec<_>>().join("\n")
    }

    /// Does all work that was asked for, and what follows from it.
    pub fn work(&mut self, screen: &mut dyn Screen) {
        while self.asks() > 0 {
            for command in std::mem::take(&mut self.commands) {
                let Command::Ask {
                    screen: id,
                    lane,
                    work,
                    ..
                } = command
                else {
                    continue;
                };
                let (to, from) = channel();
                let checkpoint = Arc::clone(&self.shared.model.facts().unwrap().checkpoint);
                let request = Request {
                    id: 1,
                    screen: id,
                    lane,
                    checkpoint,
                    work,
                };
                answer(request, Cancel::new(), &to);
                for msg in from.try_iter() {
                    if let Msg::Reply { reply, .. } = msg {
                        self.reply(screen, reply);
                    }
                }
            }
            self.refresh(screen);
        }
    }

    /// The screen as text, a line each.
    pub fn draw(&self, screen: &dyn Screen, width: u16, height: u16) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        let theme = Theme::dark();
        let view = View {
            shared: &self.shared,
            theme: &theme,
            busy: false,
        };
        screen.view(&view, area, &mut buffer, &mut Hits::default());
        let row = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }
}

/// Keys that the frame takes before the screen, and keys that are given twice.
pub fn clashes(table: &[Binding]) -> Vec<String> {
    let of = |table: &[Binding]| -> Vec<String> {
        table
            .iter()
            .flat_map(|b| b.keys.split(' '))
            .map(ToOwned::to_owned)
            .collect()
    };
    let mut taken = of(GLOBAL);
    taken.extend((1..=9).map(|digit| digit.to_string()));
    let mut found = Vec::new();
    for key in of(table) {
        if taken.contains(&key) || keys::parse(&key).is_err() {
            found.push(key.clone());
        }
        taken.push(key);
    }
    found
}
