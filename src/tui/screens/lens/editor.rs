//! The prompt editor: one turn at a time in a field of several lines, Tab to the next turn, Ctrl-N a new one, Ctrl-T the
//! system turn. The lens and the generate screen have it.
//!
//! Always: the prompt that is read changes only when the edit is taken; an empty turn that was added is dropped; a turn is
//! selected as a whole when it is come to, as an address is in a browser: a character replaces it, a move keeps it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::text::Message;
use crate::tui::field::{Field, Outcome, TooLong};
use crate::tui::shared::Prompt;

/// An edit that has not been taken yet.
#[derive(Debug, Clone)]
pub struct Editor {
    draft: Prompt,
    turn: usize,
    field: Field,
    fresh: bool,
}

/// What a key led to.
pub enum Edited {
    /// It is still open.
    Open,
    /// It was left.
    Left,
    /// Read this.
    Taken(Prompt),
    /// Said to the user; it is still open.
    Refused(String),
}

impl Editor {
    /// On the last user turn, the last turn if there is none, or the raw text.
    ///
    /// # Errors
    /// A prompt that is longer than a field takes.
    pub fn of(prompt: &Prompt) -> Result<Self, TooLong> {
        let turn = last_user(prompt);
        Self::on(prompt.clone(), turn)
    }

    /// On a new turn after the last: the user's after the assistant's, else the assistant's.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn adding(prompt: &Prompt) -> Result<Self, TooLong> {
        let mut draft = prompt.clone();
        draft.raw = None;
        let role = match draft.turns.last() {
            Some(last) if last.role == "user" => "assistant",
            _ => "user",
        };
        draft.turns.push(Message::new(role, ""));
        let turn = draft.turns.len() - 1;
        Self::on(draft, turn)
    }

    fn on(draft: Prompt, turn: usize) -> Result<Self, TooLong> {
        let mut field = Field::multi();
        let turn_text = draft.turns.get(turn).map_or("", |turn| &turn.content);
        field.set(draft.raw.as_deref().unwrap_or(turn_text))?;
        let fresh = !field.is_empty();
        Ok(Self {
            draft,
            turn,
            field,
            fresh,
        })
    }

    /// The turns, with the text of the one that is edited in the field.
    pub fn turns(&self) -> &[Message] {
        &self.draft.turns
    }

    /// Which turn is edited; `None` for raw text.
    pub fn turn(&self) -> Option<usize> {
        self.draft.raw.is_none().then_some(self.turn)
    }

    /// Whether the text is selected as a whole: what is typed or pasted now replaces it.
    pub fn fresh(&self) -> bool {
        self.fresh
    }

    /// The field.
    pub fn field(&self) -> &Field {
        &self.field
    }

    /// A key.
    pub fn key(&mut self, key: KeyEvent) -> Edited {
        if matches!(key.code, KeyCode::Tab | KeyCode::BackTab) {
            return self.other(key.code == KeyCode::BackTab);
        }
        if key.modifiers == KeyModifiers::CONTROL {
            match key.code {
                KeyCode::Char('n') => return self.next(),
                KeyCode::Char('t') => return self.system(),
                _ => {}
            }
        }
        if std::mem::take(&mut self.fresh) {
            let command = KeyModifiers::CONTROL | KeyModifiers::ALT;
            match key.code {
                KeyCode::Char(_) if !key.modifiers.intersects(command) => self.field.clear(),
                KeyCode::Backspace | KeyCode::Delete => {
                    self.field.clear();
                    return Edited::Open;
                }
                _ => {}
            }
        }
        match self.field.key(key) {
            Outcome::Submitted => Edited::Taken(self.taken()),
            Outcome::Cancelled => Edited::Left,
            Outcome::Refused(why) => Edited::Refused(why.to_string()),
            Outcome::Changed | Outcome::Moved | Outcome::Ignored => Edited::Open,
        }
    }

    /// Pasted text.
    pub fn paste(&mut self, text: &str) -> Edited {
        let mut field = self.field.clone();
        if self.fresh {
            field.clear();
        }
        match field.paste(text) {
            Outcome::Refused(why) => Edited::Refused(why.to_string()),
            _ => {
                (self.field, self.fresh) = (field, false);
                Edited::Open
            }
        }
    }

    fn other(&mut self, back: bool) -> Edited {
        let count = self.draft.turns.len();
        if self.draft.raw.is_some() || count < 2 {
            return Edited::Refused("there is one turn only; Ctrl-N adds one".into());
        }
        self.store();
        self.go((self.turn + if back { count - 1 } else { 1 }) % count)
    }

    /// A new turn after the last, in its role's turn.
    fn next(&mut self) -> Edited {
        if self.draft.raw.is_some() {
            return Edited::Refused("raw text has no turns".into());
        }
        self.store();
        let role = match self.draft.turns.last() {
            Some(last) if last.role == "user" => "assistant",
            _ => "user",
        };
        self.draft.turns.push(Message::new(role, ""));
        self.go(self.draft.turns.len() - 1)
    }

    /// The system turn, which is the first; a new one where there is none.
    fn system(&mut self) -> Edited {
        if self.draft.raw.is_some() {
            return Edited::Refused("raw text has no turns".into());
        }
        self.store();
        if self
            .draft
            .turns
            .first()
            .is_none_or(|turn| turn.role != "system")
        {
            self.draft.turns.insert(0, Message::new("system", ""));
        }
        self.go(0)
    }

    fn go(&mut self, turn: usize) -> Edited {
        self.turn = turn;
        match self.field.set(&self.draft.turns[self.turn].content) {
            Ok(()) => {
                self.fresh = !self.field.is_empty();
                Edited::Open
            }
            Err(why) => Edited::Refused(why.to_string()),
        }
    }

    fn store(&mut self) {
        let text = self.field.text().to_owned();
        match (&mut self.draft.raw, self.draft.turns.get_mut(self.turn)) {
            (Some(raw), _) => *raw = text,
            (None, Some(turn)) => turn.content = text,
            (None, None) => self.draft.turns.push(Message::user(text)),
        }
    }

    fn taken(&mut self) -> Prompt {
        self.store();
        let mut prompt = self.draft.clone();
        let empty = |turn: &Message| turn.content.is_empty();
        while prompt.turns.len() > 1 && prompt.turns.last().is_some_and(empty) {
            prompt.turns.pop();
        }
        let no_system = |turn: &Message| turn.role == "system" && turn.content.is_empty();
        if prompt.turns.len() > 1 && prompt.turns.first().is_some_and(no_system) {
            prompt.turns.remove(0);
        }
        prompt
    }
}

fn last_user(prompt: &Prompt) -> usize {
    let found = prompt.turns.iter().rposition(|turn| turn.role == "user");
    found.unwrap_or(prompt.turns.len().saturating_sub(1))
}

/// The prompt with this text in place of the raw text or the last user turn.
pub fn with_text(prompt: &Prompt, text: &str) -> Prompt {
    let mut prompt = prompt.clone();
    if let Some(raw) = &mut prompt.raw {
        text.clone_into(raw);
        return prompt;
    }
    let at = last_user(&prompt);
    match prompt.turns.get_mut(at) {
        Some(turn) if turn.role == "user" => text.clone_into(&mut turn.content),
        _ => prompt.turns.push(Message::user(text)),
    }
    prompt
}

/// The prompt read raw instead of as turns, or as turns again; the words stay.
pub fn toggled(prompt: &Prompt) -> Prompt {
    let mut other = prompt.clone();
    other.raw = None;
    if let Some(raw) = &prompt.raw {
        return with_text(&other, raw);
    }
    let at = last_user(prompt);
    other.raw = Some(
        prompt
            .turns
            .get(at)
            .map_or_else(String::new, |turn| turn.content.clone()),
    );
    other
}
